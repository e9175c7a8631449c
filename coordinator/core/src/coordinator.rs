//! Coordinator: composes the parts. One owner, one input at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cutover_common::{
    AgentName, ApplicationName, EnvironmentName, Fence, FreezeWindow, Generation, Labels, Release,
    ReleaseRef, SecretId, Slots, SourceName, Term, Timestamp, Version, planted,
    wire::{FarewellReason, Hello},
};
use uuid::Uuid;

use crate::{
    action::{Action, EndReason},
    checking::Checkings,
    config::{Configs, Sealed},
    edge::Edges,
    enrolment::Enrolments,
    event::{Change, Event, EventKind},
    fleet::{Fleet, Goal, GoalSlot, Goals, Wanted},
    input::{Input, SessionId},
    judging::Judges,
    once::{OnceGoal, Onces},
    operate::converge::{Arrival, Converging, arrival, is_an_end},
    queue::Queue,
    rollout::{
        Rollout, State, Waiting,
        decide::{Decision, NewGoals, Scene, decide, lost_goals, next_overdue},
    },
};

/// What follows from one input.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// To be made durable before any of the actions is begun.
    pub events: Vec<Event>,
    pub actions: Vec<Action>,
}

/// A named set of agents.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Environment {
    pub select: Labels,
    /// What runs here by the last rollout that succeeded.
    pub stable: BTreeMap<ApplicationName, Version>,
    /// The hosts that a rollout of it has come to, since then: they are as it left them, also where
    /// it failed. None: what the fleet runs may be later (F7), so that nobody is brought anything
    /// before the next rollout has succeeded.
    pub(crate) settled: BTreeMap<ApplicationName, BTreeSet<AgentName>>,
    /// Which group of its hosts edges lead to, of applications whose hosts are in groups.
    pub(crate) led: BTreeMap<ApplicationName, Led>,
    pub(crate) freezes: Vec<Freeze>,
    pub(crate) configs: Configs,
}

/// Which group of hosts edges lead to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Led {
    /// The key of the label whose value says in which group a host is.
    pub label: String,
    /// None: none yet.
    pub group: Option<String>,
    /// How often another group was led to.
    pub switches: u64,
    /// How often edges were told to hold.
    pub holds: u64,
}

impl Led {
    /// Returns whether edges lead to a host with these labels.
    pub(crate) fn includes(&self, labels: &Labels) -> bool {
        self.group.is_some() && labels.get(&self.label) == self.group.as_ref()
    }
}

/// That nothing new is deployed to an environment for a while.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Freeze {
    pub window: FreezeWindow,
    pub by: String,
    pub reason: String,
}

/// Releases by their names.
pub type Releases = BTreeMap<ReleaseRef, StoredRelease>;

/// A release with where it came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredRelease {
    pub release: Arc<Release>,
    /// The text of its `cutover.toml`.
    pub manifest: Arc<str>,
    pub pushed: Timestamp,
    pub by: String,
}

/// The coordinator's memory and its decisions.
#[derive(Clone, Debug, Default)]
pub struct Coordinator {
    // Remembered: what `apply` makes of the log.
    pub(crate) term: Term,
    pub(crate) enrolments: Enrolments,
    pub(crate) environments: BTreeMap<EnvironmentName, Environment>,
    pub(crate) releases: Releases,
    pub(crate) goals: Goals,
    pub(crate) rollouts: BTreeMap<Uuid, Rollout>,
    /// From where numbers of configs go on, where the store was ever restored.
    pub(crate) configs_from: u32,
    /// How many rollouts ever began, or were queued.
    pub(crate) begun: u64,
    pub(crate) requests: BTreeMap<Uuid, Uuid>,
    pub(crate) onces: Onces,
    pub(crate) queue: Queue,
    pub(crate) last_event: Timestamp,
    // Known at this moment only.
    pub(crate) boot_nonce: Uuid,
    pub(crate) fleet: Fleet,
    pub(crate) waiting: BTreeMap<Uuid, Waiting>,
    pub(crate) edges: Edges,
    pub(crate) judges: Judges,
    pub(crate) checks: Checkings,
    /// The metrics servers that may be asked.
    pub(crate) sources: BTreeSet<SourceName>,
    pub(crate) converging: Converging,
    /// When time alone is a reason to decide, as of the last decision.
    pub(crate) rests_until: Option<Timestamp>,
}

impl Coordinator {
    /// Returns the moment of the last event. A clock must not begin before it.
    pub const fn last_event(&self) -> Timestamp {
        self.last_event
    }

    /// Returns the term that this process began, or the last one in the log.
    pub const fn term(&self) -> Term {
        self.term
    }

    /// Returns what is known of the fleet.
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Returns what each agent should run.
    pub const fn goals(&self) -> &Goals {
        &self.goals
    }

    /// Returns operators, tokens and enrolled agents.
    pub const fn enrolments(&self) -> &Enrolments {
        &self.enrolments
    }

    /// Returns how the once hooks of releases stand.
    pub const fn onces(&self) -> &Onces {
        &self.onces
    }

    /// Returns the release of this name.
    pub fn release(&self, name: &ReleaseRef) -> Option<&StoredRelease> {
        self.releases.get(name)
    }

    /// Returns the sealed value of a secret that a release names.
    pub fn sealed(&self, secret: SecretId) -> Option<&Sealed> {
        self.environments.values().find_map(|it| it.configs.sealed(secret))
    }

    /// Returns the sealed values of all secrets that are not lost: what this coordinator's key must
    /// open.
    pub fn all_sealed(&self) -> impl Iterator<Item = (SecretId, &Sealed)> {
        self.environments.values().flat_map(|it| it.configs.all_sealed())
    }

    /// Returns when it wants an [`Input::Tick`] if nothing happens before.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let deadlines = self.waiting.values().filter_map(Waiting::deadline);
        deadlines
            .chain(self.fleet.next_silence())
            .chain(self.converging.looks_again)
            .chain(self.queue_looks_again())
            .chain(self.checks.next_wake(self.active()))
            .chain(
                self.active()
                    .filter_map(|rollout| next_overdue(rollout, &self.fleet, self.last_looked())),
            )
            .min()
    }

    pub(crate) const fn last_looked(&self) -> Timestamp {
        self.fleet.last_looked()
    }

    /// Returns the rollouts that are not over.
    pub fn active(&self) -> impl Iterator<Item = &Rollout> {
        self.rollouts.values().filter(|rollout| !rollout.is_over())
    }

    /// Returns whether every beat may decide something, by how busy its host is.
    fn watches_load(&self) -> bool {
        self.active().any(|rollout| rollout.spec.max_load.is_some())
    }

    /// Takes one input, and says what follows.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Step {
        let mut step = Step::default();
        self.fleet.look(now);
        let mut is_moot = false;
        let is_time = self.converging.looks_again.is_some_and(|at| now >= at);
        let comes = if is_time { Arrival::Anybody } else { arrival(&input) };
        match input {
            Input::Started { boot_nonce } => self.begin(now, boot_nonce, &mut step),
            Input::Tick => self.end_silent(now, &mut step),
            Input::Asked { reply, by, request } => {
                self.asked(now, reply, &by, request, &mut step);
            }
            Input::SessionOpened { session, agent, enrolment, hello } => {
                self.session_opened(now, session, &agent, enrolment, hello, &mut step);
            }
            Input::SessionClosed { session } => {
                self.fleet.close(session, now);
                step.actions.push(Action::Changed);
            }
            Input::Beat { session, heartbeat } => {
                if let Some(seen) = self.fleet.hear(session, now) {
                    let nonce = heartbeat.nonce;
                    is_moot = !seen.beat(heartbeat, now) && !self.watches_load();
                    let agent = self.fleet.agent(session).cloned();
                    let compared = agent.as_ref().map(|agent| self.compared_on(agent));
                    let compared = compared.unwrap_or_default();
                    step.actions.push(Action::Echo { session, nonce, compared });
                    step.actions.push(Action::Changed);
                    self.show_again(session, now, &mut step);
                    if let Some(agent) = agent {
                        is_moot &= !self.show_judges(&agent, now);
                        is_moot &= !self.note_checks(&agent, now);
                    }
                    is_moot &= !self.is_edge_behind(session, now);
                }
            }
            Input::SourcesNamed { sources } => self.sources = sources,
            Input::Queried { query, found } => {
                self.queried(query, found);
                step.actions.push(Action::Changed);
            }
            Input::Reported { session, report } => {
                if let Some(seen) = self.fleet.hear(session, now) {
                    seen.report(report);
                    step.actions.push(Action::Changed);
                }
            }
        }
        // Most inputs are beats that say what was said before.
        if !is_moot || self.rests_until.is_some_and(|until| now >= until) {
            self.advance(now, &mut step);
            while self.begin_queued(now, &mut step) {
                self.advance(now, &mut step);
            }
            let comes = if step.events.iter().any(is_an_end) { Arrival::Anybody } else { comes };
            if self.converge(now, &comes, &mut step) {
                self.advance(now, &mut step);
            }
            if self.ask_checks(now, &mut step) {
                self.advance(now, &mut step);
            }
            self.tell_edges(now, &mut step);
            self.rests_until = self.next_wake();
        }
        step
    }

    /// Records an event: into the step, and into memory.
    pub(crate) fn record(&mut self, now: Timestamp, step: &mut Step, kind: EventKind) {
        let event = Event { at: now, kind };
        if let Err(error) = self.apply(&event) {
            // A decision that does not fit its own state is a bug of ours: acting on it could
            // take a fleet down, so nothing may leave this process.
            panic!("broken invariant: {error}");
        }
        step.events.push(event);
    }

    fn begin(&mut self, now: Timestamp, boot_nonce: Uuid, step: &mut Step) {
        let term = Term(self.term.0.saturating_add(1));
        self.boot_nonce = boot_nonce;
        self.fleet.begin(now);
        self.edges = Edges::default();
        self.judges = Judges::default();
        self.checks = Checkings::default();
        self.converging = Converging::default();
        self.record(now, step, EventKind::Started { term, boot_nonce });
        // One that is held sets them when it is retried: a person looks first.
        let goes_on = |rollout: &&Rollout| !matches!(rollout.state, State::Held { .. });
        let lost: Vec<(Uuid, NewGoals)> = self
            .active()
            .filter(goes_on)
            .map(|rollout| (rollout.id, self.lost_goals(rollout).collect()))
            .collect();
        for (rollout, goals) in lost {
            self.set_goals(now, step, rollout, goals);
        }
        step.actions.push(self.valid_enrolments());
        step.actions.push(Action::Changed);
    }

    /// Returns the goals that a crash has cost `rollout`, of those hosts that it may command.
    pub(crate) fn lost_goals(
        &self,
        rollout: &Rollout,
    ) -> impl Iterator<Item = (AgentName, Wanted)> {
        let application = rollout.application.clone();
        lost_goals(rollout, &self.goals).into_iter().filter(move |(agent, _)| {
            self.enrolments.agents.contains_key(agent) && !self.is_ahead(agent, &application)
        })
    }

    pub(crate) fn valid_enrolments(&self) -> Action {
        let agents = self.enrolments.agents.iter();
        Action::Enrolments(
            agents.map(|(name, enrolled)| (name.clone(), enrolled.enrolment)).collect(),
        )
    }

    fn end_silent(&mut self, now: Timestamp, step: &mut Step) {
        for session in self.fleet.silent(now) {
            self.fleet.close(session, now);
            step.actions.push(Action::EndSession {
                session,
                reason: EndReason {
                    reason: FarewellReason::BadMessage,
                    text: "nothing was heard of this session for too long".to_owned(),
                },
            });
            step.actions.push(Action::Changed);
        }
    }

    fn session_opened(
        &mut self,
        now: Timestamp,
        session: SessionId,
        agent: &AgentName,
        enrolment: Uuid,
        hello: Hello,
        step: &mut Step,
    ) {
        let refuse = |reason, text: String| Action::EndSession {
            session,
            reason: EndReason { reason, text },
        };
        let enrolled = self.enrolments.agents.get(agent);
        let is_foreign = enrolled.is_none_or(|enrolled| enrolled.enrolment != enrolment);
        if planted!(RemovedAgentAdmitted: false; is_foreign) {
            let text = format!("agent {agent} was removed; join again with a new token");
            step.actions.push(refuse(FarewellReason::Removed, text));
            return;
        }
        self.end_silent(now, step);
        if planted!(CloneTakesSession: false; self.fleet.session(agent).is_some()) {
            // The older is alive: it was heard within the limit. A clone must not take its
            // place silently (promises.md §3 row 92).
            let text = format!("agent {agent} has a session that is alive; is it started twice?");
            step.actions.push(refuse(FarewellReason::AlreadyConnected, text));
            return;
        }
        self.fleet.open(session, agent, hello, now);
        let (term, boot_nonce) = (self.term, self.boot_nonce);
        step.actions.push(Action::Welcome { session, term, boot_nonce });
        let applications: Vec<ApplicationName> =
            self.goals.of_agent(agent).map(|(application, _)| application.clone()).collect();
        for application in applications {
            self.show(agent, &application, now, step);
        }
        step.actions.push(Action::Changed);
    }

    /// Sends again what an agent's beats do not show to have reached it: a goal that was lost or
    /// held up must not cost the host its time (design §3).
    fn show_again(&mut self, session: SessionId, now: Timestamp, step: &mut Step) {
        let Some(agent) = self.fleet.agent(session) else { return };
        let Some(seen) = self.fleet.seen(agent) else { return };
        let is_behind = |(application, goal): &(&ApplicationName, &Goal)| {
            let fence = Fence { term: self.term, generation: goal.generation };
            seen.is_behind(application, fence, now)
        };
        let behind: Vec<ApplicationName> = self
            .goals
            .of_agent(agent)
            .filter(is_behind)
            .map(|(application, _)| application.clone())
            .collect();
        if behind.is_empty() {
            return;
        }
        let agent = agent.clone();
        for application in behind {
            self.show(&agent, &application, now, step);
        }
    }

    /// Returns whether `agent` holds a goal that this coordinator knows nothing of.
    pub fn is_ahead(&self, agent: &AgentName, application: &ApplicationName) -> bool {
        self.scene(self.last_looked(), &[]).is_ahead(agent, application)
    }

    /// Sets the goals that a decision of `rollout` asks for.
    pub(crate) fn set_goals(
        &mut self,
        now: Timestamp,
        step: &mut Step,
        rollout: Uuid,
        goals: NewGoals,
    ) {
        let Some((application, timers)) = self
            .rollouts
            .get(&rollout)
            .map(|rollout| (rollout.application.clone(), rollout.spec.timers()))
        else {
            return;
        };
        for (agent, Wanted { slots, route }) in goals {
            // An agent says at once what it holds, and of what it does not name it holds nothing.
            let held = self.fleet.seen(&agent).map(|seen| {
                seen.held.get(&application).map_or(Generation(0), |held| held.generation)
            });
            // Above whatever the agent holds: after a restore ours may be behind (F7).
            let generation = self
                .goals
                .last_generation(&agent, &application)
                .max(held.unwrap_or_default())
                .next();
            let once = self.once_goals(rollout, &agent, &slots, generation);
            let application = application.clone();
            self.record(
                now,
                step,
                EventKind::GoalSet {
                    agent: agent.clone(),
                    application: application.clone(),
                    generation,
                    slots,
                    route,
                    timers,
                    rollout,
                    held,
                    once,
                },
            );
            self.show(&agent, &application, now, step);
        }
    }

    /// Returns what `agent` has to do with once hooks that have not passed, when a rollout makes these
    /// its slots.
    fn once_goals(
        &self,
        rollout: Uuid,
        agent: &AgentName,
        slots: &Slots<GoalSlot>,
        generation: Generation,
    ) -> Vec<OnceGoal> {
        let Some(rollout) = self.rollouts.get(&rollout) else { return Vec::new() };
        let has_once = |version: &&Version| {
            let release = self.held(&rollout.application, version);
            release.is_some_and(|release| release.once_hook().is_some())
        };
        let runs = slots.iter().filter_map(|(_, slot)| match slot {
            GoalSlot::Running(version) => Some(version),
            GoalSlot::Absent | GoalSlot::Prepared(_) => None,
        });
        let part = |version: &Version| {
            if *version == rollout.to {
                self.onces.part_of(rollout, agent, generation)
            } else {
                self.onces.part_of_other(rollout, version)
            }
        };
        runs.filter(has_once)
            .filter_map(|version| Some(OnceGoal { version: version.clone(), part: part(version)? }))
            .collect()
    }

    /// Takes every rollout as far as it goes.
    fn advance(&mut self, now: Timestamp, step: &mut Step) {
        let active: Vec<Uuid> = self.active().map(|rollout| rollout.id).collect();
        self.waiting.retain(|id, _| active.contains(id));
        self.dismiss_judges();
        for id in active {
            while let Some((change, goals)) = self.decide_one(now, id) {
                self.note_given_up(now, id, &change);
                self.record(now, step, EventKind::Rollout { id, change, call: None });
                self.set_goals(now, step, id, goals);
                step.actions.push(Action::Changed);
            }
        }
    }

    fn decide_one(&mut self, now: Timestamp, id: Uuid) -> Option<(Change, NewGoals)> {
        let rollout = self.rollouts.get(&id)?;
        let members = self.led_to(&rollout.environment, &rollout.application);
        let decision = decide(rollout, self.scene(now, &members));
        match decision {
            Decision::Record { change, goals } => {
                crate::invariants::assert_change(self, rollout, &change, &members);
                Some((change, goals))
            }
            Decision::Wait(waiting) => {
                self.waiting.insert(id, waiting);
                None
            }
        }
    }

    pub(crate) const fn scene<'a>(&'a self, now: Timestamp, members: &'a [AgentName]) -> Scene<'a> {
        Scene {
            fleet: &self.fleet,
            goals: &self.goals,
            enrolments: &self.enrolments,
            judges: &self.judges,
            checks: &self.checks,
            releases: &self.releases,
            environments: &self.environments,
            edges: &self.edges,
            onces: &self.onces,
            term: self.term,
            members,
            now,
        }
    }

    /// Returns the agents of an environment, by name.
    pub fn members(&self, environment: &EnvironmentName) -> Vec<AgentName> {
        self.environments.get(environment).map_or_else(Vec::new, |environment| {
            self.enrolments.selected(&environment.select).cloned().collect()
        })
    }

    /// Returns the agents of an environment whose hosts clients of an application are led to: all,
    /// unless they are in groups. Of a group that nobody is in none would be left.
    pub(crate) fn led_to(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
    ) -> Vec<AgentName> {
        let members = self.members(environment);
        let led = self.environments.get(environment).and_then(|it| it.led.get(application));
        let Some(led) = led else { return members };
        let is_led = |agent: &&AgentName| {
            self.enrolments.agents.get(*agent).is_some_and(|it| led.includes(&it.labels))
        };
        let led: Vec<AgentName> = members.iter().filter(is_led).cloned().collect();
        if led.is_empty() { members } else { led }
    }
}
