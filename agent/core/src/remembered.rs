//! What the agent remembers across restarts. Only `apply` changes it.

use std::sync::Arc;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use cutover_common::{
    Allow, ApplicationName, Assignment, EdgeRoutes, Fence, Generation, HoldLimits, HookKind,
    InstanceEvidence, InstanceId, OnceReport, OnceStand, Permille, Release, Service, Sha256, Slot,
    SlotGoal, Slots, Term, Timestamp, Version,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::traffic::can_stand_beside;

/// Of how many releases the run of a `once` hook is remembered: the permit of an older one has been
/// overtaken by as many deploys.
const ONCE_RUNS_MAX: usize = 16;

/// How many releases of an application stay on disk without being in use (design §5).
pub const RECENT_MAX: usize = 5;

/// All that is remembered.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct Remembered {
    pub binding: Option<Binding>,
    /// The highest term that two coordinator processes claimed.
    pub split: Option<Term>,
    pub applications: BTreeMap<ApplicationName, Application>,
    /// Where the gate leads to in front of other hosts. None: it was never told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeRoutes>,
    /// The numbers of the holds of the edge that last until other routes come.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub edge_armed: BTreeMap<ApplicationName, u64>,
}

/// The coordinator process that this agent obeys.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Binding {
    pub incarnation: Uuid,
    pub term: Term,
    pub boot_nonce: Uuid,
}

/// One application on this host.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Application {
    /// The goal. Its fence is the highest that was accepted.
    pub assignment: Assignment,
    pub slots: Slots<SlotState>,
    /// Contents that were prepared or ran here, the last one at the end.
    pub recent: VecDeque<Sha256>,
    /// Contents on disk whose install hook has passed.
    #[serde(default)]
    pub installed: BTreeSet<Sha256>,
    #[serde(default)]
    pub traffic: TrafficState,
    /// How long nobody was served when it was last replaced in place without a gate.
    #[serde(default)]
    pub outage: Option<Duration>,
    /// The latest run of each release's `once` hook here, the last one at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub once: Vec<OnceRun>,
}

/// A run of a hook that this host was told to run for all. It is remembered beyond the slot that it
/// was run for: whoever told the host asks how it ended, however late.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct OnceRun {
    pub id: Uuid,
    pub release: Sha256,
    pub permit: Generation,
    /// None: it may be running.
    pub end: Option<HookEnd>,
}

/// Where the gate was told to send what is new.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct TrafficState {
    /// None: nowhere on this host.
    pub to: Option<Slot>,
    /// None: it never went anywhere.
    pub since: Option<Timestamp>,
    /// What goes to the other slot all the same.
    #[serde(default, skip_serializing_if = "Aside::is_nothing")]
    pub aside: Aside,
    #[serde(default, skip_serializing_if = "Hold::is_none")]
    pub hold: Hold,
}

/// What of the new goes to the other slot than the one that is led to. It was settled when this
/// began, and no other instance took its place since.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct Aside {
    pub share: Permille,
    /// How clients reach it on purpose.
    pub allow: Option<Allow>,
}

impl Aside {
    pub const NOTHING: Self = Self { share: Permille::NONE, allow: None };

    pub fn is_nothing(&self) -> bool {
        *self == Self::NOTHING
    }
}

/// Whether the gate is to hold what is new.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub enum Hold {
    #[default]
    None,
    /// Begun for the goal of this generation: until it is armed, another goal wants it otherwise,
    /// its time is over, or this process ends.
    Begun { generation: Generation, limits: HoldLimits },
    /// Until another goal wants it otherwise.
    Armed { generation: Generation, limits: HoldLimits },
    /// It ended by itself, and is not begun again for the goal of this generation.
    Over { generation: Generation },
}

impl Hold {
    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Returns what may be held, while anything is.
    pub const fn limits(&self) -> Option<HoldLimits> {
        match self {
            Self::Begun { limits, .. } | Self::Armed { limits, .. } => Some(*limits),
            Self::None | Self::Over { .. } => None,
        }
    }

    /// Returns what is left of it when it is ended for another goal.
    pub(crate) const fn ended(self) -> Self {
        match self {
            Self::None | Self::Begun { .. } | Self::Armed { .. } => Self::None,
            Self::Over { .. } => self,
        }
    }
}

impl TrafficState {
    /// Notes that the instance in `slot` has ended, or is to: another one in its place has to settle before
    /// it gets the share that is not for the slot that is led to.
    pub(crate) fn leave_aside(&mut self, slot: Slot) {
        if self.to == Some(slot.other()) {
            self.aside = Aside::NOTHING;
        }
    }

    /// Returns whether `slot` gets what is new, or some of it. What is held is for the slot that is
    /// led to.
    pub fn leads_to(&self, slot: Slot) -> bool {
        let has_aside = !self.aside.is_nothing() && self.hold.limits().is_none();
        self.to == Some(slot) || (self.to == Some(slot.other()) && has_aside)
    }
}

/// What is in a slot. Both may be there, and differ: the next release is prepared while an
/// instance of the last one runs.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct SlotState {
    /// On disk and verified.
    pub prepared: Option<Arc<Release>>,
    pub instance: Option<Instance>,
    /// The hooks that were begun to bring a release into service here, in order.
    #[serde(default)]
    pub hooks: Vec<HookRun>,
}

/// One run of a hook that brings a release into service.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct HookRun {
    pub id: Uuid,
    pub kind: HookKind,
    pub release: Sha256,
    /// With which config. None: begun by an older agent, which did not tell configs apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Of the goal that it ran for: what failed is tried again for a later one.
    pub generation: Generation,
    /// None: it may be running; after a crash of the agent nobody knows, and it is not run again
    /// (E3).
    pub end: Option<HookEnd>,
}

/// How a hook ended.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum HookEnd {
    Passed,
    /// The text is for people.
    Failed {
        detail: String,
    },
    /// The agent ended it, or was gone while it ran.
    Interrupted,
}

/// The process or processes of one release in one slot.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Instance {
    pub id: InstanceId,
    pub release: Arc<Release>,
    pub life: Life,
    /// Where it was told to listen. None: it stands behind no gate.
    #[serde(default)]
    pub port: Option<u16>,
    /// How many instances of this release ran in this slot before this one.
    pub restarts: u32,
}

/// Where an instance stands.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Life {
    /// It is being started, or was when the agent died.
    Starting,
    Running {
        evidence: InstanceEvidence,
    },
    /// It is being stopped for good.
    Stopping {
        hook: HookProgress,
    },
    /// No process of it is left, and its `after_stop` hook is run.
    Stopped {
        hook: HookProgress,
        /// What became of its `before_stop` hook; empty if all was well.
        warning: String,
    },
    /// There is no process; another instance is to take its place.
    Ended {
        ending: Ending,
        detail: String,
    },
}

/// How an instance ended that nobody stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Ending {
    NotStarted,
    Exited,
}

/// What became of a hook around a stop.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum HookProgress {
    /// It may be running; after a crash of the agent nobody knows, and it is not run again (E3).
    Begun,
    /// It ended, or there is none. The warning is empty if all was well.
    Over { warning: String },
}

impl Application {
    /// Makes the application of its first assignment.
    pub(crate) fn new(assignment: Assignment) -> Self {
        Self {
            assignment,
            slots: Slots::default(),
            recent: VecDeque::new(),
            installed: BTreeSet::new(),
            traffic: TrafficState::default(),
            outage: None,
            once: Vec::new(),
        }
    }

    /// Returns the highest fence that was accepted.
    pub const fn fence(&self) -> Fence {
        self.assignment.fence
    }

    /// Returns what is wanted of `slot`.
    pub const fn goal(&self, slot: Slot) -> &SlotGoal {
        self.assignment.slots.of(slot)
    }

    /// Returns the release that should get what is new, and its slot: the one that a route leads to,
    /// or the only one that should run.
    pub(crate) fn wanted(&self) -> Option<(Slot, &Arc<Release>)> {
        let to = self.assignment.route.as_ref().map(|route| route.to);
        let slots = Slot::ALL.into_iter().filter(|slot| to.is_none_or(|to| to == *slot));
        let mut running = slots.filter_map(|slot| match self.goal(slot) {
            SlotGoal::Running(release) => Some((slot, release)),
            SlotGoal::Absent | SlotGoal::Prepared(_) => None,
        });
        running.next()
    }

    /// Returns the service that the gate serves: the wanted one, once no instance is in its way;
    /// until the last instance is gone there is one, as what it still has is to end.
    pub fn service(&self) -> Option<&Service> {
        let wanted = self.wanted().map(|(_, release)| release);
        let instances = || self.slots.iter().filter_map(|(_, state)| state.instance.as_ref());
        let in_the_way = instances().find(|instance| {
            instance.release.service.is_some()
                && wanted.is_none_or(|release| {
                    instance.release != *release && !can_stand_beside(release, instance)
                })
        });
        let served = in_the_way.map(|instance| &instance.release).or(wanted);
        served.and_then(|release| release.service.as_ref())
    }

    /// Returns the ports that its instances were given.
    pub(crate) fn instance_ports(&self) -> impl Iterator<Item = u16> {
        self.slots.iter().filter_map(|(_, state)| state.instance.as_ref()?.port)
    }

    /// Notes that the `once` hook of `run` was begun.
    pub(crate) fn begin_once(&mut self, run: OnceRun) {
        self.once.retain(|known| known.release != run.release);
        self.once.push(run);
        if self.once.len() > ONCE_RUNS_MAX
            && let Some(oldest) = self.once.iter().position(|run| run.end.is_some())
        {
            self.once.remove(oldest);
        }
    }

    /// Returns what is said of the `once` hooks that were run here, of the releases in the goal.
    pub(crate) fn once_reports(&self) -> Vec<OnceReport> {
        let is_meant = |release: Sha256| {
            let goals = Slot::ALL.into_iter().filter_map(|slot| self.goal(slot).release());
            goals.into_iter().any(|goal| goal.digest == release)
        };
        let told = |run: &OnceRun| OnceReport {
            release: run.release,
            permit: run.permit,
            stand: match &run.end {
                None => OnceStand::Running,
                Some(HookEnd::Passed) => OnceStand::Passed,
                Some(HookEnd::Failed { .. }) => OnceStand::Failed,
                Some(HookEnd::Interrupted) => OnceStand::Interrupted,
            },
        };
        // What runs for all is told of as long as it runs: nobody else is to begin meanwhile.
        let is_told = |run: &&OnceRun| run.end.is_none() || is_meant(run.release);
        self.once.iter().filter(is_told).map(told).collect()
    }

    /// Returns the slot that holds this instance.
    pub fn slot_of(&self, id: InstanceId) -> Option<Slot> {
        Slot::ALL.into_iter().find(|slot| {
            self.slots.of(*slot).instance.as_ref().is_some_and(|instance| instance.id == id)
        })
    }

    /// Forgets that hooks have installed what may be removed from disk.
    pub(crate) fn forget_installed(&mut self) {
        if !self.installed.is_empty() {
            let kept: BTreeSet<Sha256> = self.retained().collect();
            self.installed.retain(|content| kept.contains(content));
        }
    }

    /// Notes that this content was of use.
    pub(crate) fn touch(&mut self, content: Sha256) {
        self.recent.retain(|recent| *recent != content);
        self.recent.push_back(content);
        while self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
    }

    /// Returns the contents that must stay on disk (E7): wanted, prepared, in use, or here
    /// lately while the application is still wanted at all.
    pub fn retained(&self) -> impl Iterator<Item = Sha256> {
        let is_wanted = Slot::ALL.into_iter().any(|slot| self.goal(slot).release().is_some());
        let recent = self.recent.iter().copied().filter(move |_| is_wanted);
        self.named().map(|release| release.digest).chain(recent)
    }

    /// Returns the releases that are wanted, prepared or in use.
    pub fn named(&self) -> impl Iterator<Item = &Arc<Release>> {
        let goals = Slot::ALL.into_iter().filter_map(|slot| self.goal(slot).release());
        let held = Slot::ALL.into_iter().flat_map(|slot| {
            let state = self.slots.of(slot);
            let running = state.instance.as_ref().map(|instance| &instance.release);
            state.prepared.as_ref().into_iter().chain(running)
        });
        goals.chain(held)
    }
}

impl SlotState {
    /// Returns the run of this hook that counts for `release`.
    pub(crate) fn hook_run(&self, release: &Release, kind: HookKind) -> Option<&HookRun> {
        self.hooks.iter().find(|run| run.kind == kind && run.is_for(release))
    }

    /// Forgets the runs for an instance of `release` that is gone for good.
    pub(crate) fn forget_hooks_of(&mut self, release: &Release) {
        self.hooks.retain(|run| {
            run.end.is_none() || !run.is_for(release) || run.kind == HookKind::Install
        });
    }

    /// Forgets the runs of releases that are in this slot no more.
    pub(crate) fn forget_hooks(&mut self) {
        let prepared = self.prepared.as_deref();
        let runs = self.instance.as_ref().map(|instance| &*instance.release);
        self.hooks.retain(|run| {
            let is_of = |release: Option<&Release>| release.is_some_and(|it| run.is_for(it));
            let is_waited_for = match run.kind {
                HookKind::Install | HookKind::BeforeStart => is_of(prepared),
                HookKind::AfterStart
                | HookKind::Smoke
                | HookKind::BeforeStop
                | HookKind::AfterStop => false,
            };
            run.end.is_none() || is_waited_for || is_of(runs)
        });
    }

    /// Returns the run that may be going on.
    pub(crate) fn open_hook(&self) -> Option<&HookRun> {
        self.hooks.iter().find(|run| run.end.is_none())
    }
}

impl HookRun {
    /// Returns whether how it ended counts for `release`. What is installed is installed for each
    /// config of a content; all other hooks may do something else with another one.
    pub(crate) fn is_for(&self, release: &Release) -> bool {
        let has_its_config =
            self.version.as_ref().is_none_or(|version| *version == release.name.version);
        self.release == release.digest && (self.kind == HookKind::Install || has_its_config)
    }
}

impl Instance {
    /// Returns how far the hook is when a stop begins.
    pub(crate) fn hook_at_stop(&self) -> HookProgress {
        match (self.release.hook(HookKind::BeforeStop), &self.life) {
            (Some(_), Life::Running { .. }) => HookProgress::Begun,
            (
                _,
                Life::Starting
                | Life::Running { .. }
                | Life::Stopping { .. }
                | Life::Stopped { .. }
                | Life::Ended { .. },
            ) => HookProgress::Over { warning: String::new() },
        }
    }
}
