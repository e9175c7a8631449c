//! The state of a rollout: what is true in it, and what may follow what.

use std::collections::BTreeMap;

use cutover_common::{
    AgentName, Allow, ApplicationName, EnvironmentName, Permille, RouteMode, Slot, Timestamp,
    Version, manifest::CutoverMode, planted,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Plan, PlanStep, Spec, Strategy,
    spec::{Groups, WORD_WITHIN},
    story,
};
use crate::{
    event::{Change, RolloutStarted},
    fleet::Wanted,
    input::Deed,
};

/// How many lines of history a rollout keeps in memory: a flapping host must not grow it for
/// ever. The log has them all.
const HISTORY_MAX: usize = 2_000;

/// How many operators' calls a rollout knows again: a call is made again within minutes.
const CALLS_MAX: usize = 64;

/// One rollout.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rollout {
    pub id: Uuid,
    /// Counts up over all rollouts: those of one batch begin at one moment, and still in an order.
    pub number: u64,
    /// The number under which it was asked for: another one if it had to wait.
    pub asked: u64,
    pub request_id: Uuid,
    pub application: ApplicationName,
    pub environment: EnvironmentName,
    pub from: Option<Version>,
    pub to: Version,
    pub spec: Spec,
    pub plan: Plan,
    pub by: String,
    pub started: Timestamp,
    pub state: State,
    pub hosts: BTreeMap<AgentName, Host>,
    pub history: Vec<(Timestamp, String)>,
    /// The newest calls of operators that changed it.
    pub calls: Vec<(Uuid, Deed)>,
    /// When something last went forward; the standstill clock runs from here.
    pub progressed: Timestamp,
    /// The step, of a wave, that a person has promoted.
    pub promoted: Option<(usize, usize)>,
    /// Whether a person has promoted it in full: nothing is watched or asked for any more but
    /// health.
    pub is_promoted_in_full: bool,
    /// How often what is watched began anew: a process began, or a person sent hosts again.
    pub begun_anew: u32,
    /// Whether it brings hosts that missed it to what the environment runs already. A person's
    /// rollout takes its place.
    pub converges: bool,
    /// The cutover of all gates, while one is under way.
    pub cutover: Option<Cutover>,
    /// Whether edges lead to the group that has the new release. None: they were not told to yet.
    pub leads: Option<bool>,
}

/// How far the cutover of all gates is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cutover {
    pub phase: CutoverPhase,
    /// Since when gates hold, armed or not, or since when they go on again.
    pub since: Timestamp,
    /// Counts up from 1.
    pub attempt: u32,
}

/// A phase of a strict cutover.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum CutoverPhase {
    /// Every gate holds what is new, and what is under way ends. Gates that hear nothing go back to
    /// the old release by themselves.
    Hold,
    /// Every gate holds until it is told, whatever happens: the switch can be decided.
    Arm,
    /// Clients get the old release again, and it is tried once more, or a person decides.
    Release,
}

/// One host of a rollout.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    pub wave: usize,
    pub state: HostState,
    /// What was to run here when the rollout began.
    pub before: Option<Version>,
    /// In which slot that was.
    pub slot: Option<Slot>,
    /// How often it was told to switch since it last ran what it ran before.
    pub tries: u32,
    /// Since when it is watched as an updated one.
    pub watched: Option<Timestamp>,
    /// Whether the new release was told to run beside what serves.
    pub is_staged: bool,
    /// How much of the traffic it gets there, and got before that was changed last.
    pub share: Permille,
    pub share_before: Permille,
}

impl Host {
    const fn new(wave: usize) -> Self {
        Self {
            wave,
            state: HostState::Pending,
            before: None,
            slot: None,
            tries: 0,
            watched: None,
            is_staged: false,
            share: Permille::NONE,
            share_before: Permille::NONE,
        }
    }

    /// Returns the share of the traffic that it gets when it is called back: what it was told last
    /// beside what serves, or what it got before if that is what it is called back from.
    pub(crate) fn share_if_called_back(&self) -> Permille {
        if self.state == HostState::Staged { self.share_before } else { self.share }
    }

    /// Returns whether the host may run something else than before the rollout.
    pub const fn is_touched(&self) -> bool {
        self.tries > 0
    }
}

/// Where a host stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostState {
    /// Not told anything but to prepare.
    Pending,
    /// Was told to start the new release beside what serves.
    Staging { since: Timestamp },
    /// The new release runs beside what serves, in settled health.
    Staged,
    /// Was told to switch. Holds a disruption token.
    Updating { since: Timestamp },
    /// Runs the new release; was in settled health.
    Updated,
    /// The new release does not work here. `touched`: it was told to switch.
    Failed { why: String, touched: bool },
    /// Left out, as nothing is known of it. `touched`: it was told to switch.
    Unreachable { why: String, touched: bool },
    /// Was told to go back. Holds a disruption token.
    Reverting { since: Timestamp },
    /// Runs what it ran before.
    Reverted,
    /// Could not be brought back.
    Stuck { why: String },
    /// Taken out of the rollout: not told, judged or awaited, forward or back. Holds no token, and
    /// counts by what is known of it (A1). `touched`: it was told to switch.
    Excluded { cause: Exclusion, touched: bool },
}

impl HostState {
    /// Returns whether the host was not there for a rollout that is over, and did not fail in it.
    pub fn has_missed_it(&self) -> bool {
        match self {
            Self::Unreachable { .. } => planted!(LostForGood: false; true),
            Self::Excluded { cause, .. } => {
                let comes_later =
                    matches!(cause, Exclusion::Drained { .. } | Exclusion::Skipped { .. });
                planted!(ExcludedConverges: true; comes_later)
            }
            Self::Pending
            | Self::Staging { .. }
            | Self::Staged
            | Self::Updating { .. }
            | Self::Updated
            | Self::Failed { .. }
            | Self::Reverting { .. }
            | Self::Reverted
            | Self::Stuck { .. } => false,
        }
    }

    /// Returns whether the host can be left out: it is in, or is out only for a while and is to be out
    /// for good.
    pub(crate) const fn can_be_left_out(&self, is_for_good: bool) -> bool {
        match self {
            Self::Excluded { cause: Exclusion::Operator { .. }, .. } => false,
            Self::Excluded {
                cause: Exclusion::Drained { .. } | Exclusion::Skipped { .. }, ..
            } => is_for_good,
            Self::Pending
            | Self::Staging { .. }
            | Self::Staged
            | Self::Updating { .. }
            | Self::Updated
            | Self::Failed { .. }
            | Self::Unreachable { .. }
            | Self::Reverting { .. }
            | Self::Reverted
            | Self::Stuck { .. } => true,
        }
    }

    /// Returns whether the host counts as being disrupted by us (A1).
    pub const fn holds_token(&self) -> bool {
        matches!(self, Self::Updating { .. } | Self::Reverting { .. })
    }
}

/// Where a rollout stands. Each state holds just the facts that are true in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// A step of a wave is under way.
    Advancing {
        wave: usize,
        step: usize,
        since: Timestamp,
    },
    /// Every wave is done; all are watched.
    Baking {
        since: Timestamp,
    },
    /// Touched hosts go back, wave by wave.
    RollingBack {
        cause: Cause,
        waves: Vec<Vec<AgentName>>,
        wave: usize,
        since: Timestamp,
    },
    /// An operator stopped it for a while.
    Paused {
        was: Box<State>,
        by: String,
        reason: String,
        since: Timestamp,
    },
    /// It stopped itself and needs a person.
    Held {
        was: Box<State>,
        why: String,
        since: Timestamp,
    },
    Ended {
        outcome: Outcome,
        why: String,
        at: Timestamp,
    },
}

/// Why a rollout goes back.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Cause {
    /// More hosts failed than the budget bears.
    Failed {
        agent: AgentName,
        why: String,
        failed: u32,
        max_failed: u32,
    },
    Operator {
        by: String,
        reason: String,
    },
    /// The judge found the new release worse than the old one.
    Judged {
        why: String,
    },
}

/// Why a rollout keeps its hands off a host.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Exclusion {
    Operator {
        by: String,
        reason: String,
    },
    /// The host was taken out for maintenance.
    Drained {
        by: String,
        reason: String,
    },
    /// An operator leaves it as it is until the rollout has succeeded.
    Skipped {
        by: String,
        reason: String,
    },
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Outcome {
    Succeeded,
    RolledBack,
    /// Stopped, by an operator or as nothing came of it; hosts stay as they are.
    Aborted,
    /// Stopped where it was asked to: the new release runs beside what serves, without traffic.
    Staged,
}

/// Which way a rollout is going.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    Forward,
    Back,
}

/// A change that does not fit the state. On replay it means a damaged or foreign log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("rollout {id}: {change} cannot follow {state}")]
pub struct IllegalChange {
    pub(super) id: Uuid,
    pub(super) change: String,
    pub(super) state: String,
}

impl Rollout {
    /// Makes the rollout that `started` describes, the `number`th of all.
    pub fn new(started: RolloutStarted, at: Timestamp, number: u64) -> Self {
        let RolloutStarted {
            id,
            request_id,
            application,
            environment,
            from,
            to,
            spec,
            plan,
            by,
            converges,
            despite_freeze,
        } = started;
        let hosts = plan
            .waves
            .iter()
            .enumerate()
            .flat_map(|(wave, planned)| {
                let host = Host::new(wave);
                planned.agents.iter().map(move |agent| (agent.clone(), host.clone()))
            })
            .collect();
        let mut rollout = Self {
            id,
            number,
            asked: number,
            request_id,
            application,
            environment,
            from,
            to,
            spec,
            plan,
            by,
            started: at,
            state: State::Advancing { wave: 0, step: 0, since: at },
            hosts,
            history: Vec::new(),
            calls: Vec::new(),
            progressed: at,
            promoted: None,
            is_promoted_in_full: false,
            begun_anew: 0,
            cutover: None,
            leads: None,
            converges,
        };
        rollout.history.push((at, story::begun(&rollout, &despite_freeze)));
        rollout
    }

    /// Returns whether it is over. What is over does not change (E5).
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    /// Returns the step that is under way, if one is.
    pub fn step(&self) -> Option<(usize, PlanStep)> {
        match &self.state {
            State::Advancing { wave, step, .. } => {
                self.plan.waves.get(*wave)?.steps.get(*step).map(|step_now| (*wave, *step_now))
            }
            State::Baking { .. }
            | State::RollingBack { .. }
            | State::Paused { .. }
            | State::Held { .. }
            | State::Ended { .. } => None,
        }
    }

    /// Returns which way it goes, looking through pauses and holds.
    pub const fn direction(&self) -> Direction {
        let mut state = &self.state;
        loop {
            match state {
                State::Paused { was, .. } | State::Held { was, .. } => state = was,
                State::RollingBack { .. } => return Direction::Back,
                State::Advancing { .. } | State::Baking { .. } | State::Ended { .. } => {
                    return Direction::Forward;
                }
            }
        }
    }

    /// Returns what `agent` goes back to: what ran in the environment, else what ran on the host.
    /// None is nothing.
    pub fn back_to(&self, agent: &AgentName) -> Option<&Version> {
        let before = || self.hosts.get(agent)?.before.as_ref();
        // What ran in the environment runs in the other group.
        let from = self.from.as_ref().filter(|_| self.groups().is_none());
        from.or_else(before)
    }

    /// Returns the groups of hosts that edges go over from one to the other of.
    pub fn groups(&self) -> Option<&Groups> {
        self.spec.groups()
    }

    /// Returns whether going back is something else than going on.
    pub fn has_way_back(&self) -> bool {
        self.groups().is_some() || self.from.as_ref() != Some(&self.to)
    }

    /// Returns whether no request may get the old release after one got the new one.
    pub(crate) fn cuts_over_strictly(&self) -> bool {
        self.spec.blue_green.as_ref().is_some_and(|how| how.cutover == CutoverMode::Strict)
    }

    /// Returns when a standstill becomes a hold. Never before a host that was told to switch has
    /// had the time that it may take.
    pub(crate) fn standstill(&self) -> Timestamp {
        self.progressed + self.spec.progress_within.max(self.spec.patience() + WORD_WITHIN)
    }

    /// Notes the first goals of the rollout, which leave what runs as it is.
    pub(crate) fn note_goal(&mut self, agent: &AgentName, wanted: &Wanted) {
        if let Some(host) = self.hosts.get_mut(agent)
            && host.tries == 0
        {
            let leads = wanted.leads();
            host.before = leads.map(|(_, version)| version.clone());
            host.slot = leads.map(|(slot, _)| slot);
        }
    }

    /// Returns what `wanted` of `agent` becomes when it is told to switch.
    pub(crate) fn forward(&self, agent: &AgentName, wanted: &Wanted) -> Wanted {
        match self.hosts.get(agent).and_then(|host| host.slot) {
            // The same release takes the other place, as another one does.
            Some(slot) if self.spec.strategy == Strategy::Restart => {
                wanted.running_in(slot.other(), &self.to)
            }
            // The old one stays warm.
            Some(_) if self.spec.strategy == Strategy::BlueGreen && self.groups().is_none() => {
                self.cut_over(wanted)
            }
            Some(_) | None => wanted.running(&self.to),
        }
    }

    /// Returns `wanted` with the new release for clients and the old one beside it.
    fn cut_over(&self, wanted: &Wanted) -> Wanted {
        let staged = wanted.staged(&self.to, Permille::NONE, None);
        if staged.beside().is_some_and(|(_, version)| *version == self.to) {
            return staged.flipped();
        }
        // It was done already, or nothing ran.
        if wanted.beside().is_some() { wanted.in_mode(RouteMode::Open) } else { staged }
    }

    /// Returns what `wanted` of `agent` becomes when the new release is to run beside what serves.
    pub(crate) fn stage(&self, agent: &AgentName, wanted: &Wanted) -> Wanted {
        let share = self.hosts.get(agent).map_or(Permille::NONE, |host| host.share);
        let mode = match self.cutover.map(|cutover| cutover.phase) {
            Some(CutoverPhase::Hold) => RouteMode::Hold(self.spec.hold_limits()),
            Some(CutoverPhase::Arm) => RouteMode::Armed(self.spec.hold_limits()),
            Some(CutoverPhase::Release) | None => RouteMode::Open,
        };
        // One that was told to switch and is tried again keeps its clients where they are.
        let was_switched = self.hosts.get(agent).is_some_and(|host| host.tries > 1);
        let held = if was_switched { wanted.clone() } else { self.beside_before(agent, wanted) };
        held.staged(&self.to, share, self.allow()).in_mode(mode)
    }

    /// Returns `wanted` of `agent` with clients led to what they got before, also where it was told
    /// to switch and is called back.
    fn beside_before(&self, agent: &AgentName, wanted: &Wanted) -> Wanted {
        let before = self.hosts.get(agent).and_then(|host| host.before.as_ref());
        match before.filter(|before| **before != self.to) {
            Some(before) if wanted.leads().map(|(_, version)| version) != Some(before) => {
                wanted.running(before)
            }
            Some(_) | None => wanted.clone(),
        }
    }

    /// Returns by what clients reach the new release on purpose.
    pub(crate) fn allow(&self) -> Option<&Allow> {
        self.spec.canary.as_ref().and_then(|canary| canary.allow.as_ref())
    }

    /// Returns whether gates may be holding requests.
    pub(crate) fn is_holding(&self) -> bool {
        self.cutover.is_some_and(|cutover| cutover.phase != CutoverPhase::Release)
    }

    /// Returns what `wanted` of `agent` becomes when it is told to go back.
    pub(crate) fn back(&self, agent: &AgentName, wanted: &Wanted) -> Wanted {
        match self.back_to(agent) {
            Some(from) => self.to_before(agent, wanted, from),
            None => wanted.without(&self.to),
        }
    }

    /// Returns what `wanted` of `agent` becomes when it is called back before it has begun.
    pub(crate) fn stay(&self, agent: &AgentName, wanted: &Wanted) -> Wanted {
        match self.hosts.get(agent).and_then(|host| host.before.as_ref()) {
            Some(_) if self.is_staged(agent) => {
                let share =
                    self.hosts.get(agent).map_or(Permille::NONE, Host::share_if_called_back);
                self.beside_before(agent, wanted).staged(&self.to, share, self.allow())
            }
            Some(before) => self.to_before(agent, wanted, before),
            None => wanted.without(&self.to).prepared(&self.to),
        }
    }

    fn is_staged(&self, agent: &AgentName) -> bool {
        self.hosts.get(agent).is_some_and(|host| host.is_staged)
    }

    fn to_before(&self, agent: &AgentName, wanted: &Wanted, version: &Version) -> Wanted {
        match self.hosts.get(agent).and_then(|host| host.slot) {
            Some(slot) if self.spec.strategy == Strategy::Restart => {
                wanted.running_in(slot, version)
            }
            Some(_) | None => wanted.running(version),
        }
    }

    /// Returns the hosts in a state that `wanted` says yes to.
    pub fn hosts_where(&self, wanted: impl Fn(&Host) -> bool) -> Vec<AgentName> {
        self.hosts.iter().filter(|(_, host)| wanted(host)).map(|(agent, _)| agent.clone()).collect()
    }

    /// Applies a change. The only writer of a rollout's state, live and on replay.
    ///
    /// # Errors
    ///
    /// Refuses what does not fit, so that a corrupt log stops us instead of being half believed.
    pub fn apply(&mut self, change: &Change, at: Timestamp) -> Result<(), IllegalChange> {
        let told = story::of(self, change);
        self.transition(change, at)?;
        if self.history.len() < HISTORY_MAX {
            self.history.push((at, told));
        }
        Ok(())
    }

    /// Notes what an operator's call did.
    pub(crate) fn note_call(&mut self, call: Uuid, deed: Deed) {
        if self.calls.len() >= CALLS_MAX {
            self.calls.remove(0);
        }
        self.calls.push((call, deed));
    }

    /// A new process has begun: what was being watched is watched from the start again, and no
    /// deadline is shorter for our absence (A4, promises.md §3 row 25). Hosts have their whole time
    /// from when they connect again.
    pub fn restart_clocks(&mut self, at: Timestamp) {
        if self.is_over() {
            return;
        }
        self.begun_anew = self.begun_anew.saturating_add(1);
        self.progressed = at;
        planted!(SoakShortened: (); self.watch_anew(at));
        let mut state = &mut self.state;
        loop {
            match state {
                State::Paused { was, .. } | State::Held { was, .. } => state = was,
                State::Advancing { since, .. }
                | State::Baking { since }
                | State::RollingBack { since, .. } => {
                    planted!(SoakShortened: (); *since = at);
                    break;
                }
                State::Ended { .. } => break,
            }
        }
    }

    /// Whatever is watched is watched from now on.
    pub(super) fn watch_anew(&mut self, at: Timestamp) {
        for host in self.hosts.values_mut() {
            if host.state == HostState::Updated {
                host.watched = Some(at);
            }
        }
    }

    /// Returns whether a person has said that this step of a wave is done.
    pub fn is_promoted(&self, wave: usize, step: usize) -> bool {
        self.is_promoted_in_full || self.promoted == Some((wave, step))
    }

    /// Returns whether a person has promoted the step of `wave` that is under way.
    pub(crate) fn is_step_promoted(&self, wave: usize) -> bool {
        matches!(self.state, State::Advancing { step, .. } if self.is_promoted(wave, step))
    }

    /// The store was made from a backup: what the fleet runs may be later than what it tells, so
    /// nothing goes on before a person has looked (F7).
    pub(crate) fn hold_after_restore(&mut self, at: Timestamp) {
        let was = match &self.state {
            State::Advancing { .. } | State::Baking { .. } | State::RollingBack { .. } => {
                Box::new(self.state.clone())
            }
            State::Paused { was, .. } => was.clone(),
            State::Held { .. } => return,
            State::Ended { .. } => planted!(EndedReopened: Box::new(self.state.clone()); return),
        };
        let why = "this coordinator was restored from a backup, which may be older than what the \
                   hosts run"
            .to_owned();
        if self.converges {
            // Nobody asked for it, and nobody is asked because of it.
            self.history.push((at, format!("aborted: {why}")));
            self.state = State::Ended { outcome: Outcome::Aborted, why, at };
            return;
        }
        self.history.push((at, format!("held: {why}")));
        self.state = State::Held { was, why, since: at };
    }
}
