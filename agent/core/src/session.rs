//! Sessions: which coordinator process may be obeyed (promise F3).

use cutover_common::{Term, planted};

use crate::{Binding, SessionId, Welcome, lease::Lease};

/// Why a session is ended. The texts begin with the reason that logs are searched for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SessionRefusal {
    #[error("STALE_TERM: the coordinator is at term {}, and this agent obeyed term {}", offered.0, held.0)]
    StaleTerm { held: Term, offered: Term },
    #[error(
        "SPLIT_BRAIN: two coordinator processes claim term {}; nothing is stopped for either. \
         End the one that was cloned or restored and restart the other, which takes a higher term",
        term.0
    )]
    SplitBrain { term: Term },
    #[error(
        "OTHER_INCARNATION: the coordinator has another store, and its term {} is not above {}",
        offered.0, held.0
    )]
    OtherIncarnation { held: Term, offered: Term },
    #[error("OUT_OF_ORDER: the coordinator sent a second welcome")]
    SecondWelcome,
}

/// What becomes of a welcome.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Judgement {
    /// It comes from the process that is obeyed already.
    Known,
    /// It comes from a later one, which is to be obeyed from here on.
    Bind(Binding),
    Refuse(SessionRefusal),
}

/// Judges a welcome against the coordinator that was obeyed last.
pub fn judge(held: Option<&Binding>, welcome: &Welcome) -> Judgement {
    let Welcome { incarnation, term, boot_nonce } = *welcome;
    let offered = Binding { incarnation, term, boot_nonce };
    let Some(held) = held else { return Judgement::Bind(offered) };
    if planted!(LowerTermAccepted: offered.term != held.term; offered.term > held.term) {
        return Judgement::Bind(offered);
    }
    if offered.term < held.term {
        let refusal = SessionRefusal::StaleTerm { held: held.term, offered: offered.term };
        return Judgement::Refuse(refusal);
    }
    if offered.incarnation != held.incarnation {
        let refusal = SessionRefusal::OtherIncarnation { held: held.term, offered: offered.term };
        return Judgement::Refuse(refusal);
    }
    if planted!(BootNonceIgnored: false; offered.boot_nonce != held.boot_nonce) {
        return Judgement::Refuse(SessionRefusal::SplitBrain { term: held.term });
    }
    Judgement::Known
}

/// The connection, as far as the core cares.
#[derive(Debug, Default)]
pub(crate) enum Session {
    #[default]
    Away,
    /// Open; the coordinator has not said who it is.
    Opened { session: SessionId },
    /// Open, and obeyed.
    Joined { session: SessionId, lease: Lease },
}

impl Session {
    /// Returns the session that messages go to.
    pub(crate) const fn joined(&self) -> Option<SessionId> {
        match self {
            Self::Joined { session, .. } => Some(*session),
            Self::Away | Self::Opened { .. } => None,
        }
    }

    /// Returns whether `session` is the one that is open.
    pub(crate) fn is(&self, session: SessionId) -> bool {
        match self {
            Self::Joined { session: open, .. } | Self::Opened { session: open } => *open == session,
            Self::Away => false,
        }
    }
}
