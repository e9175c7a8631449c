//! Run: the world of one simulation, from one moment at which something happens to the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cutover_common::{
    AgentName, EdgeReport, EdgeRoutes, Fence, HoldState, ReleaseRef, Report, SlotCounts, Slots,
    Timestamp, Version, duration_text, protocol::HEARTBEAT_EVERY,
};
use uuid::Uuid;

use super::{
    Ending, Lowest, Simulated, SimulatedHost, Simulation, StoryLine, host::Host, story::Story,
};
use crate::{
    Action, Answer, Coordinator, Event, EventKind, Input, Refusal, Request, SessionId, Step, Verb,
    input::ReplyId,
    judging::is_judged,
    rollout::{HostState, Outcome, PlanStep, Rollout, State, Waiting, story::names},
};

/// The rollout that is simulated. Ids of real ones are drawn, and never this.
const ROLLOUT: Uuid = Uuid::from_u128(1);

/// How long a rollout is followed: longer than any that somebody waits for.
const LASTS_MAX: Duration = Duration::from_secs(400 * 24 * 3_600);

/// How often hosts are looked at, all in all. The largest rollout that there can be, 5,000 hosts one
/// by one, needs some 200 million, and may go back; what needs more goes round in circles.
const LOOKS_MAX: u64 = 500_000_000;

/// How many hosts that run the old release the judge is shown. It judges by requests, of which
/// there are none, so that more of them tell it nothing.
const CONTROLS_MAX: usize = 20;

/// The world.
struct World {
    core: Coordinator,
    members: Vec<AgentName>,
    hosts: BTreeMap<AgentName, Host>,
    agents: BTreeMap<SessionId, AgentName>,
    /// Whose turn it is when.
    due: BTreeSet<(Timestamp, AgentName)>,
    /// What edges were told, and have not said yet that they follow.
    routed: Vec<(SessionId, EdgeRoutes)>,
    /// The groups of hosts that are yet to be lost.
    losses: Vec<BTreeSet<AgentName>>,
    version: Version,
    by: String,
    promotes: bool,
    began: Timestamp,
    now: Timestamp,
    /// When the judge was last shown what hosts tell.
    judged: Timestamp,
    looks: u64,
    lowest: Lowest,
    story: Story,
}

impl Simulation {
    /// Runs it to its end, for as long as `is_wanted` says so.
    ///
    /// # Errors
    ///
    /// Refuses what a deploy refuses, such as one with which nothing is to be done.
    pub fn run(self, mut is_wanted: impl FnMut() -> bool) -> Result<Simulated, Refusal> {
        let starts_in = self.asked.starts_in;
        let mut world = World::new(&self);
        let order = self.asked.order;
        world.ask(Request::Deploy { request_id: ROLLOUT, rollout: ROLLOUT, order })?;
        world.note_lowest();
        let ending = loop {
            if let Some(ending) = world.ending() {
                break ending;
            }
            if world.looks > LOOKS_MAX || !is_wanted() || !world.pass_on() {
                break Ending::Unfinished;
            }
        };
        world.finish();
        Ok(world.told(ending, starts_in))
    }
}

impl World {
    fn new(simulation: &Simulation) -> Self {
        let Simulation { core, members, asked, faults, by, now } = simulation.clone();
        let version = asked.order.version;
        let mut world = Self {
            hosts: BTreeMap::new(),
            agents: BTreeMap::new(),
            due: BTreeSet::new(),
            routed: Vec::new(),
            losses: faults.lose,
            version: version.clone(),
            by,
            promotes: asked.promotes,
            began: now,
            now,
            judged: now,
            looks: 0,
            lowest: Lowest { healthy: u32::MAX, after: Duration::ZERO },
            story: Story::default(),
            core,
            members,
        };
        let application = asked.order.application;
        for agent in &world.members {
            let Some(session) = world.core.fleet.session(agent) else { continue };
            let release = |version: &Version| {
                let (application, version) = (application.clone(), version.clone());
                let stored = world.core.release(&ReleaseRef { application, version })?;
                Some(stored.release.clone())
            };
            let said = world.core.fleet.fresh_report(agent, &application).cloned();
            let said = said.unwrap_or_else(|| Report {
                application: application.clone(),
                fence: Fence::default(),
                slots: Slots::default(),
                refused: None,
                outage: None,
                hold: HoldState::Open,
                once: Vec::new(),
            });
            let broken = faults.fail.contains(agent).then(|| version.clone());
            let host = Host::new(session, said, broken, asked.starts_in, release, now);
            world.agents.insert(session, agent.clone());
            world.hosts.insert(agent.clone(), host);
        }
        for host in world.hosts.values() {
            world.core.fleet.hear(host.session, world.began + LASTS_MAX);
        }
        world
    }

    fn rollout(&self) -> Option<&Rollout> {
        self.core.rollout(ROLLOUT)
    }

    /// Returns how it ends, if nothing more happens without a person.
    fn ending(&mut self) -> Option<Ending> {
        let rollout = self.rollout()?;
        match &rollout.state {
            State::Ended { outcome: Outcome::Succeeded, .. } => Some(Ending::Succeeded),
            State::Ended { outcome: Outcome::Staged, .. } => Some(Ending::Staged),
            State::Ended { outcome: Outcome::RolledBack, .. } => Some(Ending::RolledBack),
            State::Ended { outcome: Outcome::Aborted, .. } => Some(Ending::Aborted),
            State::Held { .. } => Some(Ending::Held),
            State::Paused { .. } => Some(Ending::Waits),
            State::Advancing { .. } | State::Baking { .. } | State::RollingBack { .. } => {
                let waits = self.waits_for_a_word();
                if waits && self.promotes {
                    self.promote();
                    return None;
                }
                let is_asked = matches!(self.waiting(), Some(Waiting::ForPromotion { .. }));
                (waits && is_asked).then_some(Ending::Waits)
            }
        }
    }

    fn waiting(&self) -> Option<&Waiting> {
        self.core.waiting.get(&ROLLOUT)
    }

    /// Returns whether a person could let it go on.
    fn waits_for_a_word(&self) -> bool {
        let Some(rollout) = self.rollout() else { return false };
        let is_unsure = || match (&rollout.state, rollout.step()) {
            // The time of the comparison is over, and there was no verdict.
            (State::Advancing { since, .. }, Some((_, PlanStep::Judge(lasts)))) => {
                self.now >= *since + lasts
            }
            (_, _) => false,
        };
        match self.waiting() {
            Some(Waiting::ForPromotion { .. }) => true,
            Some(Waiting::ForVerdict { .. }) => is_unsure(),
            Some(
                Waiting::ForPrepared { .. }
                | Waiting::ForHealth { .. }
                | Waiting::ForFloor { .. }
                | Waiting::ForContact { .. }
                | Waiting::ForOnce { .. }
                | Waiting::ForShift { .. }
                | Waiting::ForEdges { .. }
                | Waiting::ForCutover { .. }
                | Waiting::ForSoak { .. }
                | Waiting::ForBake { .. }
                | Waiting::ForReverted { .. }
                | Waiting::ForOperator
                | Waiting::Over,
            )
            | None => false,
        }
    }

    fn promote(&mut self) {
        let request = Request::Control {
            rollout: ROLLOUT.to_string(),
            verb: Verb::Promote { full: false },
            reason: String::new(),
            new_rollout: Uuid::from_u128(u128::from(self.looks) + 2),
            if_busy: crate::IfBusy::Refuse,
        };
        // What cannot be promoted at this moment is waited for as before.
        drop(self.ask(request));
    }

    fn ask(&mut self, request: Request) -> Result<Answer, Refusal> {
        let reply = ReplyId(0);
        let answers = self.handle(Input::Asked { reply, by: self.by.clone(), request });
        answers.unwrap_or(Ok(Answer::Done))
    }

    /// Goes to the next moment at which something happens. Returns whether there is one.
    fn pass_on(&mut self) -> bool {
        if let Some((session, routes)) = self.routed.pop() {
            self.follow(session, &routes);
            return true;
        }
        let is_judged = self.rollout().is_some_and(is_judged);
        let beat = is_judged.then(|| self.judged + HEARTBEAT_EVERY);
        let first = self.due.first().map(|(at, _)| *at);
        let Some(next) = [first, self.core.next_wake(), beat].into_iter().flatten().min() else {
            return false;
        };
        self.now = self.now.max(next);
        if self.now >= self.began + LASTS_MAX {
            return false;
        }
        if beat.is_some_and(|beat| beat <= self.now) {
            self.show_judge();
        }
        let reports = self.act();
        self.hear(reports);
        self.note_lowest();
        true
    }

    /// Lets every host do what is due.
    fn act(&mut self) -> Vec<(SessionId, Report)> {
        let mut reports = Vec::new();
        while let Some((at, agent)) = self.due.pop_first() {
            if at > self.now {
                self.due.insert((at, agent));
                break;
            }
            let Some(host) = self.hosts.get_mut(&agent) else { continue };
            if let Some(report) = host.act(self.now) {
                reports.push((host.session, report));
            }
            if let Some(next) = host.next(self.now) {
                self.due.insert((next, agent));
            }
        }
        reports
    }

    /// Lets the core hear what was said at one moment, and decide once: it looks at what is, so
    /// that nothing else comes of it than of deciding after each word.
    fn hear(&mut self, mut reports: Vec<(SessionId, Report)>) {
        let last = reports.pop();
        let end = self.began + LASTS_MAX;
        for (session, report) in reports {
            if let Some(seen) = self.core.fleet.hear(session, end) {
                seen.report(report);
            }
        }
        match last {
            Some((session, report)) => {
                drop(self.handle(Input::Reported { session, report }));
                // A host that is there beats on, which says nothing that is not known.
                if self.agents.contains_key(&session) {
                    self.core.fleet.hear(session, end);
                }
            }
            None => drop(self.handle(Input::Tick)),
        }
    }

    /// Shows the judge what beats would tell of the canary and of some hosts beside it: instances
    /// that live, and gates that count nothing.
    fn show_judge(&mut self) {
        self.judged = self.now;
        let Some(rollout) = self.rollout() else { return };
        let is_canary = |agent: &&AgentName| {
            rollout.hosts.get(*agent).is_some_and(|host| {
                host.wave == 0 && matches!(host.state, HostState::Staged | HostState::Updated)
            })
        };
        let (canaries, others): (Vec<&AgentName>, Vec<&AgentName>) =
            self.hosts.keys().partition(is_canary);
        let controls = others.into_iter().take(CONTROLS_MAX);
        let shown: Vec<AgentName> = canaries.into_iter().chain(controls).cloned().collect();
        let end = self.began + LASTS_MAX;
        for agent in shown {
            let Some(host) = self.hosts.get(&agent) else { continue };
            // Gates count from the start of an instance on.
            let counted = host.counts();
            if let Some(seen) = self.core.fleet.hear(host.session, end) {
                for counts in counted {
                    let is_same = |it: &SlotCounts| {
                        it.slot == counts.slot && it.application == counts.application
                    };
                    if !seen.counts.iter().any(is_same) {
                        seen.counts.push(counts);
                    }
                }
            }
            self.core.show_judges(&agent, self.now);
        }
    }

    /// Gives the core one input, and does what it asks for. Returns its answer, if it gave one.
    fn handle(&mut self, input: Input) -> Option<Result<Answer, Refusal>> {
        let Step { events, actions } = self.core.handle(self.now, input);
        let decisions = u64::try_from(events.len()).unwrap_or(u64::MAX).saturating_add(1);
        let hosts = u64::try_from(self.members.len()).unwrap_or(u64::MAX);
        self.looks = self.looks.saturating_add(decisions.saturating_mul(hosts));
        self.tell(&events);
        let mut given = None;
        for action in actions {
            match action {
                Action::Answer { answer, .. } => given = Some(answer),
                Action::Assign { session, assignment } => {
                    let Some(agent) = self.agents.get(&session).cloned() else { continue };
                    let starts = self
                        .hosts
                        .get(&agent)
                        .is_some_and(|host| host.would_start(&assignment, &self.version));
                    if starts {
                        self.lose_with(&agent);
                    }
                    if let Some(host) = self.hosts.get_mut(&agent) {
                        host.told(*assignment);
                        self.due.insert((self.now, agent));
                    }
                }
                Action::EndSession { session, .. } => {
                    if let Some(agent) = self.agents.remove(&session) {
                        self.hosts.remove(&agent);
                    }
                }
                // The newest is what it follows.
                Action::RouteEdge { session, routes } => {
                    self.routed.retain(|(told, _)| *told != session);
                    self.routed.push((session, *routes));
                }
                Action::Welcome { .. }
                | Action::Echo { .. }
                | Action::Query { .. }
                | Action::SignCertificate { .. }
                | Action::Enrolments(_)
                | Action::Changed => {}
            }
        }
        given
    }

    /// Lets an edge say that it follows `routes`: nothing is under way behind it.
    fn follow(&mut self, session: SessionId, routes: &EdgeRoutes) {
        let report = EdgeReport::following(routes, HoldState::Drained);
        if let Some(seen) = self.core.fleet.hear(session, self.began + LASTS_MAX) {
            seen.edge = Some(report);
        }
        drop(self.handle(Input::Tick));
    }

    /// Cuts off `agent` and those that are lost with it. The core notices by their silence.
    fn lose_with(&mut self, agent: &AgentName) {
        let (lost, losses) = std::mem::take(&mut self.losses)
            .into_iter()
            .partition::<Vec<_>, _>(|group| group.contains(agent));
        self.losses = losses;
        let mut cut = Vec::new();
        for agent in lost.into_iter().flatten() {
            if let Some(host) = self.hosts.remove(&agent) {
                self.agents.remove(&host.session);
                self.core.fleet.hear(host.session, self.now);
                cut.push(agent);
            }
        }
        if !cut.is_empty() {
            self.story.note(self.now, format!("lost, as assumed: {}", names(&cut)));
        }
    }

    /// Notes what the rollout tells of `events`.
    fn tell(&mut self, events: &[Event]) {
        // Its own memory of it is bounded, and would lack the end.
        let Some(rollout) = self.core.rollouts.get_mut(&ROLLOUT) else { return };
        let mut told = std::mem::take(&mut rollout.history).into_iter();
        for event in events {
            // Of each of these it has told one line.
            if let EventKind::RolloutStarted(started) = &event.kind
                && started.id == ROLLOUT
                && let Some((at, text)) = told.next()
            {
                self.story.note(at, text);
            }
            if let EventKind::Rollout { id: ROLLOUT, change, .. } = &event.kind
                && let Some((at, text)) = told.next()
            {
                self.story.note_change(at, rollout, change, text);
            }
        }
    }

    /// Lets hosts do what they were told last, and nothing is decided any more.
    fn finish(&mut self) {
        for (session, report) in self.act() {
            if let Some(seen) = self.core.fleet.hear(session, self.now) {
                seen.report(report);
            }
        }
    }

    fn note_lowest(&mut self) {
        let Some(rollout) = self.rollout() else { return };
        let led = self.core.led_to(&rollout.environment, &rollout.application);
        let healthy = self.core.healthy_of(&led, &rollout.application);
        if healthy < self.lowest.healthy {
            self.lowest = Lowest { healthy, after: self.now.since(self.began) };
        }
    }

    fn told(self, ending: Ending, starts_in: Duration) -> Simulated {
        let Self { core, hosts, now, began, lowest, story, .. } = self;
        let rollout = core.rollout(ROLLOUT).expect("a deploy that is not refused has begun it");
        let view = core.view(rollout, now);
        let ends = view.hosts.into_iter().map(|host| SimulatedHost {
            agent: host.agent.clone(),
            batch: host.wave + 1,
            state: host.state,
            detail: host.detail,
            // What one said before it was lost is not known to be so.
            runs: hosts.get(host.agent).and_then(|pretended| pretended.serves().or(host.running)),
        });
        let why = match ending {
            Ending::Unfinished => {
                format!("{} It was not followed any further.", view.why)
            }
            Ending::Succeeded
            | Ending::Staged
            | Ending::RolledBack
            | Ending::Aborted
            | Ending::Held
            | Ending::Waits => view.why,
        };
        Simulated {
            from: rollout.from.clone(),
            to: rollout.to.clone(),
            strategy: rollout.spec.strategy.to_string(),
            batches: rollout.plan.waves.len(),
            ending,
            why,
            lasts: now.since(began),
            story: story
                .lines(rollout)
                .map(|(at, text)| StoryLine { after: at.since(began), text })
                .collect(),
            members: u32::try_from(core.led_to(&rollout.environment, &rollout.application).len())
                .unwrap_or(u32::MAX),
            lowest,
            hosts: ends.collect(),
            assumed: assumed(starts_in),
        }
    }
}

/// Says what no setting says.
fn assumed(starts_in: Duration) -> String {
    format!(
        "times follow from settings, and none was measured; an instance passes its first probe {} \
         after its start; fetching, hooks and what is under way at an instance that stops take no \
         time; there are no requests",
        duration_text::print(starts_in)
    )
}
