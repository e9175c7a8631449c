//! What every journal promises, run against each of them.

use cutover_agent_core::Event;
use cutover_common::Term;

use super::{DiskJournal, Journal, MemoryJournal, RealDisk, commit};

pub(super) fn event(term: u64) -> Event {
    Event::SplitBrainSeen { term: Term(term) }
}

fn appends_are_kept_in_order(journal: &mut dyn Journal) {
    journal.append(&[event(1), event(2)]).unwrap();
    journal.append(&[event(3)]).unwrap();
}

#[test]
fn what_was_appended_is_read_again_in_order() {
    let expected = [event(1), event(2), event(3)];

    let mut memory = MemoryJournal::default();
    appends_are_kept_in_order(&mut memory);
    assert_eq!(memory.events(), expected);

    let dir = tempfile::tempdir().unwrap();
    let (mut file, found) = DiskJournal::open(RealDisk::new(dir.path())).unwrap();
    assert!(found.is_empty());
    appends_are_kept_in_order(&mut file);
    assert_eq!(DiskJournal::peek(&mut RealDisk::new(dir.path())).unwrap(), expected);
    drop(file);
    assert_eq!(DiskJournal::open(RealDisk::new(dir.path())).unwrap().1, expected);
}

fn is_replaced_and_goes_on(journal: &mut dyn Journal) {
    journal.append(&[event(1), event(2)]).unwrap();
    journal.replace(&[event(9)]).unwrap();
    journal.append(&[event(10)]).unwrap();
}

#[test]
fn a_summary_takes_the_place_of_everything_before_it() {
    let mut memory = MemoryJournal::default();
    is_replaced_and_goes_on(&mut memory);
    assert_eq!(memory.events(), [event(9), event(10)]);

    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = DiskJournal::open(RealDisk::new(dir.path())).unwrap();
    is_replaced_and_goes_on(&mut file);
    assert_eq!(DiskJournal::open(RealDisk::new(dir.path())).unwrap().1, [event(9), event(10)]);
}

#[test]
fn a_journal_that_grew_long_asks_for_a_summary_and_then_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = DiskJournal::open(RealDisk::new(dir.path())).unwrap();
    let many: Vec<Event> = (0..50_000).map(event).collect();
    for journal in [&mut file as &mut dyn Journal, &mut MemoryJournal::default()] {
        assert!(!journal.is_long());
        journal.append(&many).unwrap();
        assert!(journal.is_long());
        journal.replace(&[event(1)]).unwrap();
        assert!(!journal.is_long());
    }
}

#[test]
fn no_action_is_released_when_its_event_is_not_on_disk() {
    let released = commit(&mut MemoryJournal::broken(), &[event(1)], vec!["act"]);
    assert!(released.is_err());

    let released = commit(&mut MemoryJournal::broken(), &[], vec!["act"]).unwrap();
    assert_eq!(released.into_actions(), ["act"]);
}
