//! Event <-> bytes, with a version in front, and how bytes are divided among appends.

use crate::{coordinator::Step, event::Event};

/// The version of the stored form. A later one is refused, so that an older coordinator never
/// half believes a newer log.
const VERSION: u8 = 1;

/// What each event of an append costs beyond its own bytes: its length as a `u32`.
const EVENT_OVERHEAD_BYTES: usize = 4;

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

/// What `events` cost of one append, in bytes.
pub fn batch_bytes(events: &[Vec<u8>]) -> usize {
    events.iter().fold(0, |sum: usize, event| {
        sum.saturating_add(event.len()).saturating_add(EVENT_OVERHEAD_BYTES)
    })
}

/// Divides the events of `steps`, as bytes, into what one append takes each: up to `bytes_max` by
/// [`batch_bytes`]. A step stays whole where it fits: after a crash between two appends the log
/// then ends as if the later inputs never came. An event that is too large has an append of its
/// own, which the store refuses.
pub fn appends(steps: &[Step], bytes_max: usize) -> Vec<Vec<Vec<u8>>> {
    let mut appends = Vec::new();
    let mut append = Vec::new();
    let mut size_bytes = 0;
    for step in steps {
        let events: Vec<Vec<u8>> = step.events.iter().map(encode).collect();
        if size_bytes + batch_bytes(&events) > bytes_max {
            appends.push(std::mem::take(&mut append));
            size_bytes = 0;
        }
        for event in events {
            let event_bytes = batch_bytes(std::slice::from_ref(&event));
            if size_bytes + event_bytes > bytes_max {
                appends.push(std::mem::take(&mut append));
                size_bytes = 0;
            }
            size_bytes += event_bytes;
            append.push(event);
        }
    }
    appends.push(append);
    appends.retain(|append| !append.is_empty());
    appends
}

#[cfg(test)]
mod tests {
    use cutover_common::{Term, Timestamp};
    use uuid::Uuid;

    use super::*;
    use crate::event::EventKind;

    /// What the log begins with, in events of one size.
    fn started() -> Event {
        Event {
            at: Timestamp::from_unix_ms(5),
            kind: EventKind::Started { term: Term(3), boot_nonce: Uuid::from_u128(7) },
        }
    }

    fn step(events: usize) -> Step {
        Step { events: vec![started(); events], ..Step::default() }
    }

    #[test]
    fn an_event_survives_and_a_newer_or_broken_one_is_refused() {
        let event = started();
        let bytes = encode(&event);
        let mut newer = bytes.clone();
        newer[0] = VERSION + 1;

        assert_eq!(decode(&bytes).unwrap(), event);
        assert!(matches!(decode(&newer), Err(DecodeEvent::Newer { .. })));
        assert!(matches!(decode(&bytes[..bytes.len() - 1]), Err(DecodeEvent::Malformed(_))));
        assert!(matches!(decode(&[]), Err(DecodeEvent::Empty)));
    }

    #[test]
    fn the_first_byte_is_the_version_and_the_rest_is_json() {
        assert_eq!(
            encode(&started()),
            b"\x01{\"at\":5,\"kind\":{\"Started\":{\"term\":3,\
              \"boot_nonce\":\"00000000-0000-0000-0000-000000000007\"}}}"
        );
    }

    /// Returns how many events each append has, where one takes three of them and a little.
    fn sizes(steps: &[Step]) -> Vec<usize> {
        let bytes_max = batch_bytes(&[encode(&started())]) * 3 + 1;
        let appends = appends(steps, bytes_max);
        for append in &appends {
            assert!(batch_bytes(append) <= bytes_max);
            append.iter().for_each(|event| assert_eq!(decode(event).unwrap(), started()));
        }
        appends.iter().map(Vec::len).collect()
    }

    #[test]
    fn a_step_that_fits_is_never_divided() {
        assert_eq!(sizes(&[step(2), step(2), step(1), step(0)]), [2, 3]);
    }

    #[test]
    fn a_step_that_is_too_much_for_one_append_fills_several() {
        assert_eq!(sizes(&[step(1), step(7), step(2)]), [1, 3, 3, 3]);
    }

    #[test]
    fn nothing_is_appended_where_nothing_happened() {
        assert!(appends(&[step(0), step(0)], 1).is_empty());
    }

    #[test]
    fn an_event_that_is_too_large_keeps_no_other_from_its_place() {
        let appends = appends(&[step(2)], 1);

        assert_eq!(appends.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    }
}
