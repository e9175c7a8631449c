//! Whether an agent's clock is close enough to ours for certificates to work.

use std::time::Duration;

use cutover_common::Timestamp;
use cutover_runtime::tls::{ca::BACKDATED_BY, utc};

/// An agent's clock differs too much from the coordinator's (`CLOCK_SKEW`).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "CLOCK_SKEW: the agent's clock says {} and the coordinator's {}, {} s apart; certificates \
     allow {} s; set the wrong one, for example with NTP, and join again with the same token",
    utc(*agent), utc(*coordinator), apart(*agent, *coordinator).as_secs(), BACKDATED_BY.as_secs()
)]
pub struct ClockSkew {
    agent: Timestamp,
    coordinator: Timestamp,
}

/// Compares the time that an agent stated when it asked to join with the coordinator's.
///
/// To be asked before the token is used up. Answered as `FAILED_PRECONDITION` with the error's
/// text.
///
/// # Errors
///
/// If they are further apart than certificates are backdated.
pub fn judge(agent: Timestamp, coordinator: Timestamp) -> Result<(), ClockSkew> {
    if apart(agent, coordinator) > BACKDATED_BY {
        return Err(ClockSkew { agent, coordinator });
    }
    Ok(())
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_minutes_either_way_are_fine_and_more_are_not() {
        let now = Timestamp::from_unix_ms(1_795_000_000_000);
        let (limit, more) = (BACKDATED_BY, BACKDATED_BY + Duration::from_millis(1));

        assert!(judge(now, now).is_ok());
        assert!(judge(now + limit, now).is_ok() && judge(now, now + limit).is_ok());
        assert!(judge(now + more, now).is_err() && judge(now, now + more).is_err());
    }

    #[test]
    fn the_text_names_both_times() {
        let now = Timestamp::from_unix_ms(1_795_000_000_000);

        let text = judge(Timestamp::default(), now).unwrap_err().to_string();

        assert!(text.contains("1970-01-01T00:00:00Z"), "{text}");
        assert!(text.contains("2026-11-18T"), "{text}");
    }
}
