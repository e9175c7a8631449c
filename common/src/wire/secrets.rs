//! Secrets <-> pb.

use cutover_proto::v1 as pb;
use uuid::Uuid;

use super::{TooMany, bounded};
use crate::{SecretId, SecretValue, config::InvalidSecret};

/// The values of secrets that the assignment after them names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Secrets(pub Vec<(SecretId, SecretValue)>);

/// Why a message is no [`Secrets`]. Says nothing of a value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSecrets {
    #[error("field `secrets.id` is no uuid")]
    Id,
    #[error("field `secrets.value` is invalid")]
    Value(#[from] InvalidSecret),
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

impl TryFrom<pb::Secrets> for Secrets {
    type Error = InvalidSecrets;

    fn try_from(message: pb::Secrets) -> Result<Self, InvalidSecrets> {
        let pb::Secrets { secrets } = message;
        bounded("secrets", secrets.len())?;
        let secret = |pb::Secret { id, value }| {
            let id = Uuid::try_parse(&id).map_err(|_| InvalidSecrets::Id)?;
            Ok((SecretId(id), SecretValue::new(value)?))
        };
        Ok(Self(secrets.into_iter().map(secret).collect::<Result<_, InvalidSecrets>>()?))
    }
}

impl From<Secrets> for pb::Secrets {
    fn from(Secrets(secrets): Secrets) -> Self {
        let secret = |(id, value): (SecretId, SecretValue)| pb::Secret {
            id: id.0.to_string(),
            value: value.reveal().to_vec(),
        };
        Self { secrets: secrets.into_iter().map(secret).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_survive_the_wire_and_nothing_prints_them() {
        let value = SecretValue::new(b"hunter2".to_vec()).unwrap();
        let sent = Secrets(vec![(SecretId(Uuid::from_u128(7)), value)]);

        let message = pb::Secrets::from(sent.clone());
        assert!(!format!("{message:?} {sent:?}").contains("hunter2"));
        assert_eq!(Secrets::try_from(message), Ok(sent));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let of = |id: &str, value: &[u8]| {
            let secret = pb::Secret { id: id.to_owned(), value: value.to_vec() };
            Secrets::try_from(pb::Secrets { secrets: vec![secret] })
        };
        assert_eq!(of("../x", b"a"), Err(InvalidSecrets::Id));
        let id = Uuid::nil().to_string();
        assert_eq!(of(&id, b""), Err(InvalidSecrets::Value(InvalidSecret::Empty)));
        let many = pb::Secrets { secrets: vec![pb::Secret::default(); 1_001] };
        assert!(matches!(Secrets::try_from(many), Err(InvalidSecrets::TooMany(_))));
    }
}
