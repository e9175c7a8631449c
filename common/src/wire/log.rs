//! What somebody wants to read of what is kept on a host <-> pb.

use cutover_proto::v1 as pb;
use uuid::Uuid;

use super::{
    cut,
    release::{hook_kind, hook_kind_out},
};
use crate::{ApplicationName, HookKind, Slot, name::InvalidName};

/// What is wanted of a host's logs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogQuery {
    pub application: ApplicationName,
    /// None: the one that was written last.
    pub slot: Option<Slot>,
    /// None: what the instances say.
    pub hook: Option<HookKind>,
    /// How many of the last lines to begin with. None: all that is kept.
    pub lines: Option<u32>,
    /// Whether to go on with what is written later.
    pub follow: bool,
}

/// Some bytes of a log, or why there are none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogPiece {
    /// Whose it is. None: there is none.
    pub slot: Option<Slot>,
    pub data: Vec<u8>,
    /// Empty if all is well.
    pub trouble: String,
}

impl LogPiece {
    /// Takes a message apart. What is no slot is none.
    pub fn from_message(message: pb::LogPiece) -> Self {
        let pb::LogPiece { id: _, slot, data, trouble } = message;
        Self { slot: Slot::from_name(&slot), data, trouble: cut(&trouble) }
    }
}

/// Why a message is no [`LogQuery`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidLogQuery {
    #[error("field `id` is no id")]
    Id,
    #[error("field `application` is invalid")]
    Application(#[source] InvalidName),
    #[error("field `slot` is neither blue nor green")]
    Slot,
}

impl LogQuery {
    /// Makes the query of a message's fields.
    ///
    /// # Errors
    ///
    /// Names the field that is wrong.
    pub fn parse(
        application: &str,
        slot: &str,
        hook: pb::HookKind,
        lines: u32,
        follow: bool,
    ) -> Result<Self, InvalidLogQuery> {
        let slot = match slot {
            "" => None,
            name => Some(Slot::from_name(name).ok_or(InvalidLogQuery::Slot)?),
        };
        Ok(Self {
            application: application.parse().map_err(InvalidLogQuery::Application)?,
            slot,
            hook: hook_kind(hook),
            lines: (lines > 0).then_some(lines),
            follow,
        })
    }

    /// Returns the message that asks an agent.
    pub fn into_wanted(self, id: Uuid) -> pb::LogWanted {
        let Self { application, slot, hook, lines, follow } = self;
        pb::LogWanted {
            id: id.to_string(),
            application: application.into(),
            slot: slot.map(|slot| slot.to_string()).unwrap_or_default(),
            hook: hook_kind_out(hook).into(),
            lines: lines.unwrap_or_default(),
            follow,
        }
    }

    /// Takes the message that asks an agent, with the name of the reading.
    ///
    /// # Errors
    ///
    /// Names the field that is wrong.
    pub fn from_wanted(message: pb::LogWanted) -> Result<(Uuid, Self), InvalidLogQuery> {
        let kind = message.hook();
        let pb::LogWanted { id, application, slot, hook: _, lines, follow } = message;
        let id = Uuid::try_parse(&id).map_err(|_| InvalidLogQuery::Id)?;
        Ok((id, Self::parse(&application, &slot, kind, lines, follow)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_arrives_and_nothing_that_could_be_a_path() {
        let id = Uuid::from_u128(7);
        for (slot, hook, lines) in
            [(None, None, None), (Some(Slot::Green), Some(HookKind::Smoke), Some(9))]
        {
            let application = "web".parse().unwrap();
            let query = LogQuery { application, slot, hook, lines, follow: true };
            let message = query.clone().into_wanted(id);
            assert_eq!(LogQuery::from_wanted(message), Ok((id, query)));
        }
        for (application, slot) in [("../etc", ""), ("web", "../blue"), ("", "blue")] {
            let kind = pb::HookKind::Unspecified;
            assert!(LogQuery::parse(application, slot, kind, 0, false).is_err());
        }
    }
}
