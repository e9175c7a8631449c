//! Event <-> bytes, with a version in front.

use cutover_coordinator_core::Event;

/// The version of the stored form. A later one is refused, so that an older coordinator never
/// half believes a newer log.
const VERSION: u8 = 1;

/// Why stored bytes are no event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeEvent {
    #[error("the event is empty")]
    Empty,
    #[error(
        "the event is of version {found}, and this coordinator reads up to {VERSION}; install the newer one again"
    )]
    Newer { found: u8 },
    #[error("the event cannot be read")]
    Malformed(#[source] serde_json::Error),
}

/// Turns an event into bytes.
pub fn encode(event: &Event) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, event)
        .expect("an event has string keys only, and memory takes every write");
    bytes
}

/// Turns bytes into an event.
///
/// # Errors
///
/// Refuses a newer version and anything that is no event: stop, rather than guess.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeEvent> {
    match bytes.split_first() {
        None => Err(DecodeEvent::Empty),
        Some((&VERSION, json)) => serde_json::from_slice(json).map_err(DecodeEvent::Malformed),
        Some((&found, _)) => Err(DecodeEvent::Newer { found }),
    }
}

#[cfg(test)]
mod tests {
    use cutover_common::{Term, Timestamp};
    use cutover_coordinator_core::EventKind;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_event_survives_and_a_newer_or_broken_one_is_refused() {
        let event = Event {
            at: Timestamp::from_unix_ms(5),
            kind: EventKind::Started { term: Term(3), boot_nonce: Uuid::from_u128(7) },
        };
        let bytes = encode(&event);
        let mut newer = bytes.clone();
        newer[0] = VERSION + 1;

        assert_eq!(decode(&bytes).unwrap(), event);
        assert!(matches!(decode(&newer), Err(DecodeEvent::Newer { .. })));
        assert!(matches!(decode(&bytes[..bytes.len() - 1]), Err(DecodeEvent::Malformed(_))));
        assert!(matches!(decode(&[]), Err(DecodeEvent::Empty)));
    }

    #[test]
    fn the_plan_of_the_largest_rollout_fits_into_one_event() {
        use cutover_coordinator_core::{
            ROLLOUT_HOSTS_MAX,
            rollout::{Plan, PlanStep, Wave},
        };
        let hold = PlanStep::Hold(std::time::Duration::new(123_456, 999_000_000));
        let wave = Wave {
            agents: vec!["a".repeat(63).parse().unwrap()],
            steps: vec![PlanStep::Prepare, PlanStep::Start, hold],
        };
        let plan = Plan { waves: vec![wave; ROLLOUT_HOSTS_MAX] };

        let size_bytes = serde_json::to_vec(&plan).unwrap().len();

        // The rest of the event is names, ids and settings.
        let rest = 16 * 1024;
        assert!(size_bytes + rest < crate::store::EVENT_BYTES_MAX, "{size_bytes} bytes");
    }
}
