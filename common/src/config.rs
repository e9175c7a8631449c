//! Config: what an environment adds to a release. A release with another config is another
//! release, so that both come with one rollout and go back with another.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

/// The longest name of an environment variable, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// The longest value, in bytes. Linux itself refuses one of 128 KiB (`MAX_ARG_STRLEN`).
pub const VALUE_BYTES_MAX: usize = 32 * 1024;

/// Variables that decide what other programs a program runs, and prefixes of such: a release must
/// not take over its runtime that way (promises.md §4 row 23).
const RESERVED: [&str; 5] = ["PATH", "BASH_ENV", "ENV", "IFS", "SHELLOPTS"];
const RESERVED_PREFIXES: [&str; 2] = ["LD_", "CUTOVER_"];

/// Where an instance listens: its agent's to say.
const OF_THE_AGENT: [&str; 2] = ["ADDRESS", "PORT"];

/// Names an environment variable that a release may set.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "String")]
pub struct VariableName(Arc<str>);

/// Why a text names no variable that can be set.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidVariableName {
    #[error(
        "{0:?} is no name of an environment variable: it must be 1 to {NAME_BYTES_MAX} letters, \
         digits and underscores, and not begin with a digit"
    )]
    NoName(String),
    #[error("{0} must not be set by a release")]
    Reserved(String),
}

/// How much of a refused text an error repeats, in characters.
const ECHO_MAX: usize = 80;

impl VariableName {
    /// Returns the checked text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether an instance is told it by its agent, so that no environment can set it.
    pub fn is_of_the_agent(&self) -> bool {
        OF_THE_AGENT.contains(&self.as_str())
    }
}

impl FromStr for VariableName {
    type Err = InvalidVariableName;

    fn from_str(text: &str) -> Result<Self, InvalidVariableName> {
        let begins_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let goes_on_well = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !begins_well || !goes_on_well || text.len() > NAME_BYTES_MAX {
            return Err(InvalidVariableName::NoName(text.chars().take(ECHO_MAX).collect()));
        }
        let is_reserved = RESERVED.contains(&text)
            || RESERVED_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        if is_reserved {
            return Err(InvalidVariableName::Reserved(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for VariableName {
    type Error = InvalidVariableName;

    fn try_from(text: String) -> Result<Self, InvalidVariableName> {
        text.parse()
    }
}

impl From<VariableName> for String {
    fn from(name: VariableName) -> Self {
        name.as_str().to_owned()
    }
}

impl Serialize for VariableName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Names one value that a secret once was given. Another value is another id.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
pub struct SecretId(pub Uuid);

/// What an environment adds to a release: variables of its instances and hooks. What a release
/// says itself of one gives way.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct Config {
    /// Values are taken as they are: no `$` is filled in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<VariableName, String>,
    /// Their values are kept apart, and are in no goal, journal or log.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<VariableName, SecretId>,
}

impl Config {
    /// Returns whether it adds nothing.
    pub fn is_empty(&self) -> bool {
        self.env.is_empty() && self.secrets.is_empty()
    }
}

/// The value of a secret. Has no printable form.
#[derive(Clone, Eq, PartialEq)]
pub struct SecretValue(Vec<u8>);

/// Why bytes are no value of a secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSecret {
    #[error("the value is empty")]
    Empty,
    #[error("the value has more than {VALUE_BYTES_MAX} bytes, which no variable should hold")]
    TooLong,
    #[error("the value has a NUL byte, which no variable can hold; encode it, as base64 does")]
    Nul,
}

impl SecretValue {
    /// Takes the value of a secret.
    ///
    /// # Errors
    ///
    /// If no environment variable can hold it.
    pub fn new(bytes: Vec<u8>) -> Result<Self, InvalidSecret> {
        match bytes.len() {
            0 => Err(InvalidSecret::Empty),
            1..=VALUE_BYTES_MAX if bytes.contains(&0) => Err(InvalidSecret::Nul),
            1..=VALUE_BYTES_MAX => Ok(Self(bytes)),
            _ => Err(InvalidSecret::TooLong),
        }
    }

    /// Returns the value itself, for whoever needs it to do its work.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_plain_name_that_changes_no_other_program() {
        for good in ["A", "_a", "DB_URL", "a1", &"A".repeat(NAME_BYTES_MAX)] {
            assert!(good.parse::<VariableName>().is_ok(), "{good}");
        }
        for bad in ["", "1A", "A-B", "A=B", "Ä", "A\n", &"A".repeat(NAME_BYTES_MAX + 1)] {
            let error = bad.parse::<VariableName>().unwrap_err();
            assert!(matches!(error, InvalidVariableName::NoName(_)), "{bad:?}");
        }
        for reserved in ["PATH", "LD_PRELOAD", "CUTOVER_X", "IFS"] {
            let error = reserved.parse::<VariableName>().unwrap_err();
            assert_eq!(error, InvalidVariableName::Reserved(reserved.to_owned()));
        }
        assert!("PORT".parse::<VariableName>().unwrap().is_of_the_agent());
    }

    #[test]
    fn a_secret_fits_into_a_variable_and_is_never_printed() {
        let secret = SecretValue::new(b"hunter2\n\xff".to_vec()).unwrap();

        assert_eq!(secret.reveal(), b"hunter2\n\xff");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(SecretValue::new(Vec::new()), Err(InvalidSecret::Empty));
        assert_eq!(SecretValue::new(b"a\0b".to_vec()), Err(InvalidSecret::Nul));
        let longest = vec![b'x'; VALUE_BYTES_MAX];
        assert!(SecretValue::new(longest.clone()).is_ok());
        let longer = [longest, vec![b'x']].concat();
        assert_eq!(SecretValue::new(longer), Err(InvalidSecret::TooLong));
    }
}
