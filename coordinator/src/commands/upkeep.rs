//! `backup`, `restore`, `check`: the event store without a running coordinator.

use std::{fs, io, path::Path};

use cutover_common::Term;
use cutover_coordinator_core::{Event, EventKind, codec};
use cutover_runtime::{clock::wall, dice};

use super::{Failure, say};
use crate::{
    args::{Backup, Check, Restore},
    replay::replay,
    store::{self, EventStore, SledStore},
};

/// How far a restored store's terms are moved on: above any that an agent can have seen since
/// the backup, at one a restart (F7).
const TERM_JUMP: u64 = 1_000_000;

/// Writes all events to one file.
///
/// # Errors
///
/// When the store is in use or damaged, or the file cannot be written.
pub fn backup(args: &Backup) -> Result<(), Failure> {
    let store = SledStore::open(&args.data.data.join("store")).map_err(|e| Failure::of(&e))?;
    let summary = store::export(&store, &args.to).map_err(|error| Failure::of(&error))?;
    say(&format!(
        "Wrote {} events ({} bytes) of incarnation {} to {}.",
        summary.events,
        summary.file_bytes,
        summary.incarnation,
        args.to.display()
    ));
    say("The fleet's keys and the releases are not in it: back up `identity`, `artifacts` and \
         `coordinator.json`, too.");
    Ok(())
}

/// Makes a new store from a backup.
///
/// # Errors
///
/// When the backup is no good or there is a store already; nothing is changed then.
pub fn restore(args: &Restore) -> Result<(), Failure> {
    let dir = args.data.data.join("store");
    // Aside until it is whole, with the event that jumps the term: one that runs without it would
    // take up where the backup ended.
    let aside = args.data.data.join(format!(".store.restoring-{}", dice::uuid()));
    let target = if dir.exists() { &dir } else { &aside };
    let restored = store::restore(&args.from, target).map_err(|error| Failure::of(&error))?;
    let mut store = SledStore::open(target).map_err(|error| Failure::of(&error))?;
    let core = replay(&store).map_err(|error| Failure::of(&error))?;
    let term = Term(core.term().0.saturating_add(TERM_JUMP));
    let event = Event { at: core.last_event().max(wall()), kind: EventKind::Restored { term } };
    let last = store.last();
    store.append(last, &[codec::encode(&event)]).map_err(|error| Failure::of(&error))?;
    store.settle().map_err(|error| Failure::of(&error))?;
    drop(store);
    put_in_place(target, &dir).map_err(|error| Failure::of(&error))?;
    say(&format!(
        "Restored {} events as incarnation {}; the next term is {}.",
        restored.backup.events,
        restored.incarnation,
        term.0 + 1
    ));
    say("Agents keep what they run. Where one knows of a later goal than this store, nothing is \
         sent to it until you deploy to it: see `cutover status`.");
    Ok(())
}

/// Renames a store to where it is looked for, durably.
fn put_in_place(store: &Path, dir: &Path) -> io::Result<()> {
    if store != dir {
        fs::rename(store, dir)?;
    }
    match dir.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads everything and says whether it is sound.
///
/// # Errors
///
/// When it is not, saying where.
pub fn check(args: &Check) -> Result<(), Failure> {
    let dir = args.data.data.join("store");
    let report = store::check(&dir).map_err(|error| Failure::of(&error))?;
    let store = SledStore::open(&dir).map_err(|error| Failure::of(&error))?;
    let core = replay(&store).map_err(|error| Failure::of(&error))?;
    say(&format!(
        "The store is whole: incarnation {}, {} events ({} bytes, {} on disk), head {}.",
        report.incarnation, report.events, report.event_bytes, report.disk_bytes, report.head
    ));
    say(&format!(
        "All events were read: term {}, {} agents, {} releases, {} rollouts not over.",
        core.term().0,
        core.agents().count(),
        core.releases(None).count(),
        core.active().count()
    ));
    Ok(())
}
