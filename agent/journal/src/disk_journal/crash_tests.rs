//! Every call of the disk fails or is interrupted once, then the power is cut.

use cutover_agent_core::Event;

use super::DiskJournal;
use crate::{
    Disk, Journal as _, OpenJournal, RealDisk, WriteJournal,
    contract::event,
    fake::{Cut, FakeDisk, Fault},
};

const FAULTS: [Fault; 3] = [Fault::Before, Fault::Halfway, Fault::After];
const CUTS: [Cut; 4] = [Cut::Nothing, Cut::Content, Cut::Names, Cut::Everything];

/// More calls than the story or an opening makes.
const CALLS_MAX: usize = 100;

/// What is in the journal, as the agent knows it.
#[derive(Clone, Debug, Default)]
struct Known {
    /// What was stored, and could have been acted on.
    stored: Vec<Event>,
    /// What was about to be stored in its place.
    attempted: Vec<Event>,
}

impl Known {
    fn allows(&self, found: &[Event]) -> bool {
        [&self.stored, &self.attempted].iter().any(|events| events.as_slice() == found)
    }
}

/// Opens, appends and replaces until something fails.
fn live(disk: &mut FakeDisk, known: &mut Known) -> Result<(), Box<dyn std::error::Error>> {
    let (mut journal, found) = DiskJournal::open(disk)?;
    assert_eq!(found, known.stored);
    for number in 1..8 {
        if number % 3 == 0 {
            known.attempted = vec![event(number * 100)];
            journal.replace(&known.attempted)?;
        } else {
            known.attempted.push(event(number));
            journal.append(&[event(number)])?;
        }
        known.stored.clone_from(&known.attempted);
    }
    Ok(())
}

fn open(disk: &mut FakeDisk) -> Result<Vec<Event>, OpenJournal> {
    DiskJournal::open(disk).map(|(_, found)| found)
}

/// Returns what one life leaves whose call number `call` fails; None: it has fewer calls.
fn after_life(call: usize, fault: Fault) -> Option<(FakeDisk, Known)> {
    let (mut disk, mut known) = (FakeDisk::default(), Known::default());
    disk.fail_at(call, fault);
    let lived = live(&mut disk, &mut known);
    let has_failed = disk.mend();
    assert_eq!(lived.is_err(), has_failed);
    has_failed.then_some((disk, known))
}

#[test]
fn what_was_stored_outlives_any_failed_call_and_a_power_cut() {
    let mut lives = 0;
    for fault in FAULTS {
        for (disk, known) in (0..CALLS_MAX).map_while(|call| after_life(call, fault)) {
            lives += 1;
            for cut in CUTS {
                let mut disk = disk.clone();
                disk.cut_power(cut);
                let found = open(&mut disk).unwrap();
                assert!(known.allows(&found), "{fault:?}, {cut:?}: {found:?} of {known:?}");
            }
        }
    }
    assert!(lives > 50, "{lives}");
}

#[test]
fn what_a_restart_found_and_may_have_acted_on_outlives_a_power_cut() {
    for fault in FAULTS {
        for (disk, known) in (0..CALLS_MAX).map_while(|call| after_life(call, fault)) {
            for cut in CUTS {
                let mut disk = disk.clone();
                let found = open(&mut disk).unwrap();
                assert!(known.allows(&found), "{fault:?}: {found:?} of {known:?}");
                disk.cut_power(cut);
                assert_eq!(open(&mut disk).unwrap(), found, "{fault:?}, {cut:?}");
            }
        }
    }
}

#[test]
fn a_restart_that_fails_too_loses_nothing() {
    for fault in FAULTS {
        for (disk, known) in (0..CALLS_MAX).map_while(|call| after_life(call, fault)) {
            for (second, cut) in FAULTS.into_iter().flat_map(|fault| CUTS.map(|cut| (fault, cut))) {
                for call in 0..CALLS_MAX {
                    let mut disk = disk.clone();
                    disk.fail_at(call, second);
                    let opened = open(&mut disk);
                    if !disk.mend() {
                        break;
                    }
                    assert!(matches!(opened, Err(OpenJournal::Io { .. })), "{opened:?}");
                    disk.cut_power(cut);
                    let found = open(&mut disk).unwrap();
                    assert!(known.allows(&found), "{fault:?}, {second:?}, {cut:?}: {found:?}");
                }
            }
        }
    }
}

#[test]
fn after_a_failed_call_the_disk_is_left_alone() {
    let mut journal = DiskJournal::open(FakeDisk::default()).unwrap().0;
    journal.disk_mut().fail_at(1, Fault::Before);
    let error = journal.append(&[event(1)]).unwrap_err();
    assert!(error.to_string().starts_with("could not sync agent.journal"), "{error}");
    assert!(journal.disk_mut().mend());

    journal.disk_mut().fail_at(0, Fault::Before);
    assert!(matches!(journal.append(&[event(2)]), Err(WriteJournal::Poisoned)));
    assert!(matches!(journal.replace(&[event(2)]), Err(WriteJournal::Poisoned)));

    let is_touched = journal.disk_mut().mend();
    assert!(!is_touched);
}

/// Does everything that a disk can, and returns what can be read then.
fn exercised(mut disk: impl Disk) -> Vec<Option<Vec<u8>>> {
    let names = ["journal", "beside", "none"];
    let mut read = Vec::new();
    let mut look = |disk: &mut dyn Disk| {
        read.extend(names.map(|name| disk.read(name).unwrap()));
    };
    look(&mut disk);
    disk.append("journal", b"").unwrap();
    disk.sync_directory().unwrap();
    look(&mut disk);
    disk.append("journal", b"0123456789").unwrap();
    disk.sync("journal").unwrap();
    disk.overwrite("journal", 2, b"ab").unwrap();
    disk.set_length("journal", 5).unwrap();
    disk.sync("journal").unwrap();
    disk.append("journal", b"end").unwrap();
    look(&mut disk);
    disk.write_new("beside", b"long before").unwrap();
    disk.write_new("beside", b"new").unwrap();
    disk.append("journal", b", and more").unwrap();
    disk.sync("beside").unwrap();
    look(&mut disk);
    disk.rename("beside", "journal").unwrap();
    disk.append("journal", b" journal").unwrap();
    look(&mut disk);
    for missing in [
        disk.overwrite("none", 0, b"x"),
        disk.set_length("none", 0),
        disk.sync("none"),
        disk.rename("none", "journal"),
    ] {
        assert_eq!(missing.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }
    look(&mut disk);
    read
}

#[test]
fn the_disk_of_these_tests_does_what_the_real_one_does() {
    let dir = tempfile::tempdir().unwrap();

    let read = exercised(RealDisk::new(dir.path()));

    assert_eq!(read, exercised(FakeDisk::default()));
    assert_eq!(read[6].as_deref(), Some(&b"01ab4end"[..]));
    assert_eq!(read.last().unwrap(), &None);
}

#[test]
fn only_its_owner_reads_a_file() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let mut disk = RealDisk::new(dir.path());
    disk.append("appended", b"x").unwrap();
    disk.write_new("written", b"x").unwrap();

    for name in ["appended", "written"] {
        let mode = std::fs::metadata(disk.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
