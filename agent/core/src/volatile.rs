//! What the agent knows only while it runs: retries, probes, what is in flight, what it reported.

use std::collections::BTreeMap;

use cutover_common::{Fence, Report, Slot, Slots, Timestamp, planted};

use crate::{
    Instance,
    prepare::{Preparation, PreparedAs},
    probe::Watch,
    slots::{HookWork, Work},
    supervise::Crashes,
};

/// The volatile side of one application.
#[derive(Debug, Default)]
pub(crate) struct Volatile {
    pub(crate) preparations: BTreeMap<PreparedAs, Preparation>,
    pub(crate) slots: Slots<LiveSlot>,
    /// What the coordinator of this session was told last.
    pub(crate) reported: Option<Report>,
    /// Since when nobody is served here, as an instance without a gate is being replaced.
    pub(crate) out_since: Option<Timestamp>,
    /// When a hold that is not armed is over. None: no hold was begun by this process.
    pub(crate) hold_until: Option<Timestamp>,
    /// The assignment of this session that was refused last, if none was accepted since.
    pub(crate) refused: Option<Fence>,
}

impl Volatile {
    /// Returns whether the gate may lead to the live instance in `slot`.
    pub(crate) fn serves_well(&self, slot: Slot) -> bool {
        let live = self.slots.of(slot);
        match live.watch.as_ref().and_then(Watch::passes) {
            Some(passes) => passes,
            None => live.is_presumed_well,
        }
    }
}

/// The volatile side of one slot.
#[derive(Debug, Default)]
pub(crate) struct LiveSlot {
    pub(crate) in_flight: Option<Work>,
    /// The hook that was asked for and is to bring a release into service.
    pub(crate) hook: Option<HookWork>,
    /// Set while an instance is known to be alive and is not being stopped.
    pub(crate) watch: Option<Watch>,
    /// It was running when the agent began, and has not been heard of since: what the gate led to
    /// is led to until a probe says otherwise, as an agent's restart is no reason to stop it.
    pub(crate) is_presumed_well: bool,
    pub(crate) crashes: Crashes,
    /// Since when instances of the wanted release are tried without one becoming settled.
    pub(crate) trying_since: Option<Timestamp>,
    pub(crate) stop_retry: Option<StopRetry>,
    /// Why what is in flight does not end, while it is tried on and on; empty if all is well.
    pub(crate) trouble: String,
    /// What is worth saying of the instance that was stopped last; empty if all was well.
    pub(crate) note: String,
}

impl LiveSlot {
    /// Begins to watch an instance that is alive.
    pub(crate) fn begin_watch(&mut self, instance: &Instance, now: Timestamp) {
        let probe = instance.release.probe.as_ref();
        let begun = Watch::begin(instance.id, probe, now);
        self.watch = Some(planted!(HealthInherited: self.watch.take().unwrap_or(begun); begun));
    }

    /// Notes that what was asked for the instance has ended.
    pub(crate) fn work_ended(&mut self) {
        self.in_flight = None;
        self.trouble.clear();
    }

    /// Notes why what is in flight does not end. Returns whether that is another reason.
    pub(crate) fn note_trouble(&mut self, detail: String) -> bool {
        std::mem::replace(&mut self.trouble, detail) != self.trouble
    }

    /// Forgets what was known of the instance that is gone for good.
    pub(crate) fn clear(&mut self) {
        let (note, hook) = (std::mem::take(&mut self.note), self.hook);
        *self = Self { note, hook, ..Self::default() };
    }
}

/// A stop whose outcome is not known, and which is asked for again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct StopRetry {
    pub(crate) failures: u32,
    pub(crate) at: Timestamp,
    pub(crate) detail: String,
}
