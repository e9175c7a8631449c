//! What people see: facts put into sentences. Looks, and changes nothing.

mod part;
mod queue;
mod why;

pub use self::{part::Part, queue::QueuedView};

use cutover_common::{
    AgentName, ApplicationName, EnvironmentName, Health, Labels, Phase, ReleaseRef, Timestamp,
    Version,
};
use uuid::Uuid;

use crate::{
    config::Configs,
    coordinator::{Coordinator, Freeze, Led, StoredRelease},
    enrolment::Enrolled,
    fleet::Presence,
    operate::Found,
    rollout::{Direction, Host, HostState, Outcome, PlanStep, Rollout, State, story},
};

/// A rollout as it is shown.
#[derive(Clone, Debug)]
pub struct RolloutView<'a> {
    pub rollout: &'a Rollout,
    pub state: &'static str,
    /// Two sentences at the most.
    pub why: String,
    /// Commands to type.
    pub next: Vec<String>,
    /// The wave that is under way, counted from 1; 0 when none is.
    pub wave: usize,
    pub ended: Option<Timestamp>,
    pub hosts: Vec<HostView<'a>>,
}

/// A host of a rollout as it is shown.
#[derive(Clone, Debug)]
pub struct HostView<'a> {
    pub agent: &'a AgentName,
    pub wave: usize,
    pub state: &'static str,
    pub detail: String,
    pub running: Option<Version>,
}

/// An application in an environment as it is shown.
#[derive(Clone, Debug)]
pub struct StatusView<'a> {
    pub application: &'a ApplicationName,
    pub environment: &'a EnvironmentName,
    pub stable: Option<&'a Version>,
    /// Where edges lead to one group of the hosts.
    pub led: Option<&'a Led>,
    pub hosts: Vec<HostStatus>,
    pub rollout: Option<RolloutView<'a>>,
    /// Those that come after it, in their order.
    pub queue: Vec<QueuedView<'a>>,
}

/// One host of it.
#[derive(Clone, Debug)]
pub struct HostStatus {
    pub agent: AgentName,
    pub presence: &'static str,
    pub version: Option<Version>,
    pub phase: &'static str,
    pub health: &'static str,
    pub detail: String,
    pub restarts: u32,
    pub is_healthy: bool,
    /// Whether it is in the group that edges do not lead to.
    pub stands_by: bool,
}

impl Coordinator {
    /// Returns `rollout` as it is shown at `now`.
    pub fn view<'a>(&'a self, rollout: &'a Rollout, now: Timestamp) -> RolloutView<'a> {
        let (state, ended) = match &rollout.state {
            State::Advancing { .. } => ("advancing", None),
            State::Baking { .. } => ("baking", None),
            State::RollingBack { .. } => ("rolling_back", None),
            State::Paused { .. } => ("paused", None),
            State::Held { .. } => ("held", None),
            State::Ended { outcome: Outcome::Succeeded, at, .. } => ("succeeded", Some(*at)),
            State::Ended { outcome: Outcome::RolledBack, at, .. } => ("rolled_back", Some(*at)),
            State::Ended { outcome: Outcome::Aborted, at, .. } => ("aborted", Some(*at)),
            State::Ended { outcome: Outcome::Staged, at, .. } => ("staged", Some(*at)),
        };
        let wave = rollout.step().map_or(0, |(wave, _)| wave + 1);
        RolloutView {
            rollout,
            state,
            why: self.why(rollout, now),
            next: next_commands(rollout),
            wave,
            ended,
            hosts: self.host_views(rollout),
        }
    }

    fn host_views<'a>(&'a self, rollout: &'a Rollout) -> Vec<HostView<'a>> {
        rollout
            .hosts
            .iter()
            .map(|(agent, host)| {
                let (state, detail) = self.host_state(rollout, agent, &host.state);
                let running = self.running(agent, &rollout.application).map(|(version, _)| version);
                HostView { agent, wave: host.wave, state, detail, running }
            })
            .collect()
    }

    fn host_state(
        &self,
        rollout: &Rollout,
        agent: &AgentName,
        state: &HostState,
    ) -> (&'static str, String) {
        let detail_of = |version: Option<&Version>| {
            version
                .and_then(|version| self.fleet.slot_of(agent, &rollout.application, version))
                .map_or_else(String::new, |slot| slot.detail.clone())
        };
        match state {
            HostState::Pending => {
                let slot = self.fleet.slot_of(agent, &rollout.application, &rollout.to);
                match slot.map(|slot| slot.phase) {
                    Some(Phase::Preparing) => ("preparing", detail_of(Some(&rollout.to))),
                    Some(Phase::Prepared) => ("prepared", String::new()),
                    Some(
                        Phase::Empty
                        | Phase::Waiting
                        | Phase::Starting
                        | Phase::Running
                        | Phase::Stopping
                        | Phase::Failed,
                    )
                    | None => ("pending", detail_of(Some(&rollout.to))),
                }
            }
            HostState::Staging { .. } => ("staging", detail_of(Some(&rollout.to))),
            HostState::Staged => ("staged", detail_of(Some(&rollout.to))),
            HostState::Updating { .. } => ("updating", detail_of(Some(&rollout.to))),
            HostState::Updated => ("updated", detail_of(Some(&rollout.to))),
            HostState::Failed { why, .. } => ("failed", why.clone()),
            HostState::Unreachable { why, .. } => ("unreachable", why.clone()),
            HostState::Reverting { .. } => ("reverting", detail_of(rollout.from.as_ref())),
            HostState::Reverted => ("reverted", detail_of(rollout.from.as_ref())),
            HostState::Stuck { why } => ("stuck", why.clone()),
            HostState::Excluded { cause, .. } => ("excluded", story::exclusion(cause)),
        }
    }

    /// Returns what runs on `agent`, as it last said.
    fn running(
        &self,
        agent: &AgentName,
        application: &ApplicationName,
    ) -> Option<(Version, &cutover_common::SlotReport)> {
        let report = self.fleet.seen(agent)?.reports.get(application)?;
        report.slots.iter().find_map(|(_, slot)| {
            let (version, _) = slot.release.as_ref()?;
            matches!(slot.phase, Phase::Starting | Phase::Running | Phase::Stopping)
                .then(|| (version.clone(), slot))
        })
    }

    /// Returns every application in every environment, or those of one application.
    pub fn status(&self, only: Option<&ApplicationName>, now: Timestamp) -> Vec<StatusView<'_>> {
        let mut rows = Vec::new();
        for (environment, known) in &self.environments {
            let newest = |application: &ApplicationName| {
                self.rollouts
                    .values()
                    .filter(|rollout| {
                        rollout.environment == *environment && rollout.application == *application
                    })
                    .max_by_key(|rollout| rollout.number)
            };
            let mut applications: Vec<&ApplicationName> = self
                .rollouts
                .values()
                .filter(|rollout| rollout.environment == *environment)
                .map(|rollout| &rollout.application)
                .chain(known.stable.keys())
                .chain(self.queue.waiting_in(environment))
                .filter(|application| only.is_none_or(|only| only == *application))
                .collect();
            applications.sort();
            applications.dedup();
            for application in applications {
                let members = self.members(environment);
                let led = self.led_to(environment, application);
                rows.push(StatusView {
                    application,
                    environment,
                    stable: known.stable.get(application),
                    led: known.led.get(application),
                    hosts: members
                        .iter()
                        .map(|agent| HostStatus {
                            stands_by: !led.contains(agent),
                            ..self.host_status(agent, environment, application)
                        })
                        .collect(),
                    rollout: newest(application)
                        .filter(|rollout| !rollout.is_over())
                        .map(|rollout| self.view(rollout, now)),
                    queue: self
                        .queue
                        .waiting_for(application, environment)
                        .map(|queued| self.view_queued(queued, now))
                        .collect(),
                });
            }
        }
        rows
    }

    fn host_status(
        &self,
        agent: &AgentName,
        environment: &EnvironmentName,
        application: &ApplicationName,
    ) -> HostStatus {
        let presence = presence_word(self.fleet.seen(agent).map(|seen| seen.presence));
        let running = self.running(agent, application);
        let mut status = HostStatus {
            agent: agent.clone(),
            presence,
            version: None,
            phase: "nothing",
            health: "unknown",
            detail: String::new(),
            restarts: 0,
            is_healthy: self.fleet.is_healthy(agent, application),
            stands_by: false,
        };
        if let Some((version, slot)) = running {
            status.version = Some(version);
            status.phase = phase_word(slot.phase);
            // What an agent said before it was lost is shown, but is no health.
            let is_fresh = self.fleet.fresh_report(agent, application).is_some();
            status.health = if is_fresh { health_word(slot.health) } else { status.health };
            status.detail.clone_from(&slot.detail);
            status.restarts = slot.restarts;
        }
        if let Some(why) = self.is_refused(agent, environment, application) {
            status.detail = format!("does not get what {environment} runs: {why}");
        }
        if self.is_ahead(agent, application) {
            status.detail =
                "follows a goal that this coordinator has not set; deploy anew to take it over"
                    .to_owned();
        }
        status
    }

    /// Returns the rollouts, newest first, with those that are queued and those that never began.
    pub fn history(
        &self,
        application: Option<&str>,
        environment: Option<&str>,
        limit: usize,
    ) -> Vec<Found<'_>> {
        let begun = self.rollouts.values().map(Found::Rollout);
        let mut rollouts: Vec<Found<'_>> = begun
            .chain(self.queue.all().map(Found::Queued))
            .filter(|found| application.is_none_or(|it| found.application().as_str() == it))
            .filter(|found| environment.is_none_or(|it| found.environment().as_str() == it))
            .collect();
        rollouts.sort_by_key(|found| std::cmp::Reverse(found.number()));
        rollouts.truncate(limit);
        rollouts
    }

    /// Returns the enrolled agents.
    pub fn agents(&self) -> impl Iterator<Item = (&AgentName, &Enrolled)> {
        self.enrolments.agents.iter()
    }

    /// Returns the environments with their labels and stable releases.
    pub fn environments(
        &self,
    ) -> impl Iterator<
        Item = (&EnvironmentName, &Labels, impl Iterator<Item = (&ApplicationName, &Version)>),
    > {
        self.environments.iter().map(|(name, it)| (name, &it.select, it.stable.iter()))
    }

    /// Returns the config of an environment.
    pub fn configs(&self, environment: &EnvironmentName) -> Option<&Configs> {
        self.environments.get(environment).map(|it| &it.configs)
    }

    /// Returns the freezes of an environment, those that are over or to come included.
    pub fn freezes(&self, environment: &EnvironmentName) -> &[Freeze] {
        self.environments.get(environment).map_or(&[][..], |it| &it.freezes)
    }

    /// Returns the releases, of one application or of all.
    pub fn releases<'a>(
        &'a self,
        only: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a ReleaseRef, &'a StoredRelease)> {
        // What was pushed: with the config of an environment it is no other release to who lists them.
        self.releases
            .iter()
            .filter(|(name, _)| name.version.config().is_none())
            .filter(move |(name, _)| only.is_none_or(|only| name.application.as_str() == only))
    }

    /// Returns whether `agent` is enrolled, and by this very enrolment.
    pub fn is_enrolled(&self, agent: &AgentName, enrolment: Uuid) -> bool {
        self.enrolments.agents.get(agent).is_some_and(|enrolled| enrolled.enrolment == enrolment)
    }

    /// Returns whether `agent` may fetch the archive of this release: only what its goals name
    /// (S2).
    pub fn may_fetch(&self, agent: &AgentName, name: &ReleaseRef) -> bool {
        self.goals.of(agent, &name.application).is_some_and(|goal| {
            goal.wanted.slots.iter().any(|(_, slot)| slot.version() == Some(&name.version))
        })
    }

    /// Returns whether `other` remembers the same: what a replay of the log must come to. What is
    /// known at this moment only is not compared.
    pub fn remembers_the_same_as(&self, other: &Self) -> bool {
        self.term == other.term
            && self.enrolments == other.enrolments
            && self.environments == other.environments
            && self.releases == other.releases
            && self.goals == other.goals
            && self.rollouts == other.rollouts
            && self.requests == other.requests
            && self.onces == other.onces
            && self.queue == other.queue
            && self.configs_from == other.configs_from
            && self.last_event == other.last_event
    }

    /// Returns the rollout with this id.
    pub fn rollout(&self, id: Uuid) -> Option<&Rollout> {
        self.rollouts.get(&id)
    }
}

/// Returns the word for an agent's presence.
pub const fn presence_word(presence: Option<Presence>) -> &'static str {
    match presence {
        None => "never_seen",
        Some(Presence::Live) => "live",
        Some(Presence::Lost { .. }) => "lost",
    }
}

/// Returns the word for a slot's phase.
pub const fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Empty => "empty",
        Phase::Preparing => "preparing",
        Phase::Prepared => "prepared",
        Phase::Waiting => "waiting",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Stopping => "stopping",
        Phase::Failed => "failed",
    }
}

/// Returns the word for a slot's health.
pub const fn health_word(health: Health) -> &'static str {
    match health {
        Health::Unknown => "unknown",
        Health::Passing => "passing",
        Health::Settled => "healthy",
        Health::Failing => "failing",
    }
}

fn next_commands(rollout: &Rollout) -> Vec<String> {
    let has_way_back = rollout.has_way_back();
    let was_told = rollout.hosts.values().any(Host::is_touched);
    let verbs: &[&str] = match (&rollout.state, rollout.direction()) {
        (State::Advancing { .. }, _) if matches!(rollout.step(), Some((_, PlanStep::Approve))) => {
            if has_way_back {
                &["promote", "rollback", "abort"]
            } else {
                &["promote", "abort"]
            }
        }
        (State::Advancing { .. } | State::Baking { .. }, _) if has_way_back => {
            &["watch", "pause", "rollback"]
        }
        (State::Advancing { .. } | State::Baking { .. } | State::RollingBack { .. }, _) => {
            &["watch", "pause"]
        }
        (State::Paused { .. }, Direction::Forward) if has_way_back => {
            &["resume", "rollback", "abort"]
        }
        (State::Paused { .. }, _) => &["resume", "abort"],
        (State::Held { .. }, Direction::Forward) if has_way_back => &["retry", "rollback", "abort"],
        (State::Held { .. }, _) => &["retry", "abort"],
        // What comes by itself comes again by itself.
        (State::Ended { .. }, _) if rollout.converges => &[],
        (State::Ended { outcome, .. }, _) => {
            let can_return = rollout.from.is_some() && has_way_back && was_told;
            match (outcome, can_return) {
                (Outcome::Succeeded, true) => &["rollback"],
                (Outcome::Succeeded, false) | (Outcome::Staged, _) => &[],
                (Outcome::Aborted, true) => &["retry", "rollback"],
                (Outcome::Aborted, false) | (Outcome::RolledBack, _) => &["retry"],
            }
        }
    };
    verbs.iter().map(|verb| format!("cutover {verb} {}", rollout.id)).collect()
}

#[cfg(test)]
mod tests;
