//! The pretended agents of a story: each holds what it was sent, and says what it is told to say.

use std::time::Duration;

use cutover_common::{
    AgentName, Assignment, CheckReport, EdgeReport, EdgeRoutes, Fence, Health, HoldState, HostLoad,
    InstanceEvidence, InstanceId, InstanceVitals, Inventory, Labels, Latencies, LatencyBucket,
    OnceDuty, OncePart, OnceReport, OnceStand, Permille, Phase, Release, Report, RouteMode, Slot,
    SlotCounts, SlotGoal, SlotReport, Slots, Traffic,
    protocol::PROTOCOL,
    wire::{Heartbeat, Hello},
};
use uuid::Uuid;

use super::{PROD, Story, WEB, hash, labels, name};
use crate::{Action, Input, Request, SessionId};

/// One pretended agent.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) enrolment: Uuid,
    pub(crate) session: Option<SessionId>,
    /// The newest goal that reached it.
    pub(crate) assigned: Option<Assignment>,
    /// What it last said, and says again with each heartbeat.
    pub(crate) said: Option<Report>,
    /// The fence that it has accepted.
    pub(crate) held: Fence,
    /// How busy its host is, in thousandths.
    pub(crate) busy: u32,
    /// What its gate has counted.
    pub(crate) counts: Vec<SlotCounts>,
    /// What it has measured.
    pub(crate) vitals: Vec<InstanceVitals>,
    /// How the checks stand that it runs.
    pub(crate) checks: Vec<CheckReport>,
    /// The newest routes of an edge that reached it.
    pub(crate) routes: Option<EdgeRoutes>,
    /// What it says of its edge.
    pub(crate) edge: Option<EdgeReport>,
}

impl Story {
    /// Lets an agent join, labelled for production.
    pub(crate) fn join(&mut self, agent: &str) {
        let labels = labels(&[("env", PROD)]);
        self.join_with(agent, labels);
    }

    pub(crate) fn join_with(&mut self, agent: &str, labels: Labels) {
        let drawn = self.draw();
        let token_hash = hash(&drawn.to_string());
        let expires = self.now + crate::enrolment::JOIN_TOKEN_TTL;
        let token = Request::CreateJoinToken { token_hash, name: None, labels, expires };
        self.ask(token).unwrap();
        let enrolment = self.draw();
        let join = Request::Join {
            token_hash,
            name: name(agent),
            labels: Labels::new(),
            enrolment,
            key_hash: hash(agent),
        };
        self.ask(join).unwrap();
        let fresh = Agent {
            enrolment,
            session: None,
            assigned: None,
            said: None,
            held: Fence::default(),
            busy: 0,
            counts: Vec::new(),
            vitals: Vec::new(),
            checks: Vec::new(),
            routes: None,
            edge: None,
        };
        self.agents.insert(name(agent), fresh);
    }

    /// Opens a session for `agent`; it says hello, and nothing more.
    pub(crate) fn hello(&mut self, agent: &str) -> SessionId {
        let session = SessionId(u64::from(self.draw().as_fields().0));
        let known = &self.agents[&name(agent)];
        let held = if known.held == Fence::default() {
            Vec::new()
        } else {
            vec![(WEB.parse().unwrap(), known.held)]
        };
        let input = Input::SessionOpened {
            session,
            agent: name(agent),
            enrolment: known.enrolment,
            hello: Hello {
                protocol: PROTOCOL,
                agent_version: "0.1.0".to_owned(),
                inventory: Inventory { address: address(agent), ..Inventory::default() },
                held,
                boot_id: "boot".to_owned(),
            },
        };
        // Known before, so that what is sent in answer arrives.
        let before = self.agents.get_mut(&name(agent)).unwrap().session.replace(session);
        self.handle(input);
        let is_refused = self.actions.iter().any(
            |action| matches!(action, Action::EndSession { session: it, .. } if *it == session),
        );
        if is_refused {
            self.agents.get_mut(&name(agent)).unwrap().session = before;
        }
        session
    }

    /// Opens a session for `agent`, which says at once how it is.
    pub(crate) fn connect(&mut self, agent: &str) {
        self.hello(agent);
        self.beat(agent);
    }

    pub(crate) fn connect_all(&mut self) {
        for agent in self.names() {
            if self.agents[&agent].session.is_none() {
                self.connect(agent.as_str());
            }
        }
    }

    /// Cuts `agent` off, and the coordinator notices at once.
    pub(crate) fn lose(&mut self, agent: &str) {
        let session = self.agents.get_mut(&name(agent)).unwrap().session.take();
        if let Some(session) = session {
            self.handle(Input::SessionClosed { session });
        }
    }

    /// Sends the heartbeat of `agent`, which repeats what it last said.
    pub(crate) fn beat(&mut self, agent: &str) {
        let known = &self.agents[&name(agent)];
        let Some(session) = known.session else { return };
        let reports = known.said.clone().into_iter().collect();
        let load = HostLoad { cpu_permille: known.busy, ..HostLoad::default() };
        let (counts, vitals) = (known.counts.clone(), known.vitals.clone());
        let (checks, edge) = (known.checks.clone(), known.edge.clone());
        let nonce = self.draw();
        let heartbeat = Heartbeat { nonce, load, counts, vitals, reports, edge, checks };
        self.handle(Input::Beat { session, heartbeat });
    }

    /// Lets `agent` say how long nobody was served when it was last replaced.
    pub(crate) fn say_outage(&mut self, agent: &str, lasted: Duration) {
        let known = self.agents.get_mut(&name(agent)).unwrap();
        if let Some(said) = &mut known.said {
            said.outage = Some(lasted);
        }
        self.beat(agent);
    }

    /// Lets the gate of `agent` count so many more requests at `slot`, of which so many failed.
    pub(crate) fn count(&mut self, agent: &str, slot: Slot, requests: u64, errors: u64) {
        let counts = self.counts_of(agent, slot);
        counts.requests += requests;
        counts.statuses[1] += requests - errors;
        counts.statuses[4] += errors;
        counts.latency.add(LatencyBucket::of_us(3_000), requests);
    }

    /// Lets the gate of `agent` count so many more good answers of `slot` that took about so long,
    /// a sixth more or less.
    pub(crate) fn answer(&mut self, agent: &str, slot: Slot, answers: u64, millis: u64) {
        let counts = self.counts_of(agent, slot);
        counts.requests += answers;
        counts.statuses[1] += answers;
        for percent in [85, 95, 105, 115] {
            counts.latency.add(LatencyBucket::of_us(millis * 10 * percent), answers / 4);
        }
    }

    fn counts_of(&mut self, agent: &str, slot: Slot) -> &mut SlotCounts {
        let counts = &mut self.agents.get_mut(&name(agent)).unwrap().counts;
        if !counts.iter().any(|counts| counts.slot == slot) {
            counts.push(no_counts(slot));
        }
        counts.iter_mut().find(|counts| counts.slot == slot).unwrap()
    }

    /// Lets the instance in `slot` of `agent` need so much memory, and say error in so many more
    /// lines.
    pub(crate) fn measure(&mut self, agent: &str, slot: Slot, mib: u64, error_lines: u64) {
        let known = self.agents.get_mut(&name(agent)).unwrap();
        let told = known.said.as_ref().expect("it has reported").slots.of(slot).clone();
        let instance = told.instance.expect("an instance runs in the slot").instance;
        let vitals = &mut known.vitals;
        let before = vitals.iter().find(|it| it.slot == slot && it.instance == instance);
        let known = before.and_then(|it| it.error_lines).unwrap_or_default();
        vitals.retain(|it| it.slot != slot);
        vitals.push(InstanceVitals {
            application: WEB.parse().unwrap(),
            slot,
            instance,
            memory_bytes: Some(mib << 20),
            error_lines: Some(known + error_lines),
        });
    }

    pub(crate) fn agent(&mut self, agent: &str) -> &mut Agent {
        self.agents.get_mut(&name(agent)).unwrap()
    }

    /// Makes the host of `agent` busy, in thousandths of its cpus, and lets it say so.
    pub(crate) fn busy(&mut self, agent: &str, permille: u32) {
        self.agents.get_mut(&name(agent)).unwrap().busy = permille;
        self.beat(agent);
    }

    pub(crate) fn beat_all(&mut self) {
        for agent in self.names() {
            self.beat(agent.as_str());
        }
    }

    pub(crate) fn names(&self) -> Vec<AgentName> {
        self.agents.keys().cloned().collect()
    }

    /// Lets `agent` do the whole of what it was told, in settled health, and say so.
    pub(crate) fn obey(&mut self, agent: &str) {
        if let Some(report) = self.compliance(agent) {
            self.say(agent, report);
        }
        if let Some(routes) = self.agents[&name(agent)].routes.clone() {
            self.say_of_edge(agent, &routes, HoldState::Drained);
        }
    }

    /// Lets `agent` say that its edge follows `routes`, and how what it is to hold stands.
    pub(crate) fn say_of_edge(&mut self, agent: &str, routes: &EdgeRoutes, held: HoldState) {
        self.agent(agent).edge = Some(EdgeReport::following(routes, held));
        self.beat(agent);
    }

    pub(crate) fn obey_all(&mut self) {
        for agent in self.names() {
            self.obey(agent.as_str());
        }
    }

    /// Lets `agent` say, of its newest goal, that the slot of `version` is so and the other as it
    /// should be.
    pub(crate) fn report(&mut self, agent: &str, version: &str, phase: Phase, health: Health) {
        let report = self.slot_as(agent, version, |slot| {
            slot.phase = phase;
            slot.health = health;
        });
        self.say(agent, report);
    }

    /// Lets the release on `agent` fail its probes.
    pub(crate) fn fail(&mut self, agent: &str, version: &str) {
        let report = self.slot_as(agent, version, |slot| {
            slot.phase = Phase::Running;
            slot.health = Health::Failing;
            slot.restarts = 2;
            "exited with 1".clone_into(&mut slot.detail);
        });
        self.say(agent, report);
    }

    /// Returns what `agent` would say of its newest goal if it obeyed, changed by `change`.
    pub(crate) fn slot_as(
        &self,
        agent: &str,
        version: &str,
        change: impl FnOnce(&mut SlotReport),
    ) -> Report {
        let mut report = self.compliance(agent).expect("the agent has a goal");
        let wanted: cutover_common::Version = version.parse().unwrap();
        let slot = Slot::ALL
            .into_iter()
            .find(|slot| report.slots.of(*slot).release.as_ref().is_some_and(|it| it.0 == wanted))
            .expect("the goal names the version");
        change(report.slots.of_mut(slot));
        report
    }

    /// Sends `report`, which is also what its heartbeats repeat.
    pub(crate) fn say(&mut self, agent: &str, report: Report) {
        let known = self.agents.get_mut(&name(agent)).unwrap();
        known.held = Fence {
            term: known.held.term.max(report.fence.term),
            generation: known.held.generation.max(report.fence.generation),
        };
        known.said = Some(report.clone());
        if let Some(session) = known.session {
            self.handle(Input::Reported { session, report });
        }
    }

    /// Returns the version that the goal which reached `agent` wants to run.
    pub(crate) fn told(&self, agent: &str) -> Option<String> {
        let assigned = self.agents[&name(agent)].assigned.as_ref()?;
        assigned.slots.iter().find_map(|(_, slot)| match slot {
            SlotGoal::Running(release) => Some(release.name.version.to_string()),
            SlotGoal::Absent | SlotGoal::Prepared(_) => None,
        })
    }

    pub(crate) fn compliance(&self, agent: &str) -> Option<Report> {
        let assigned = self.agents[&name(agent)].assigned.as_ref()?;
        let content = |release: &Release| Some((release.name.version.clone(), release.digest));
        let awaits = |release: &Release| {
            let part = OnceDuty::part_in(&assigned.once, release.digest);
            part == Some(OncePart::Awaited)
        };
        let slots = assigned.slots.map(|_, goal| match goal {
            SlotGoal::Absent => SlotReport::default(),
            SlotGoal::Prepared(release) => SlotReport {
                phase: Phase::Prepared,
                release: content(release),
                ..SlotReport::default()
            },
            SlotGoal::Running(release) if awaits(release) => SlotReport {
                phase: Phase::Waiting,
                release: content(release),
                ..SlotReport::default()
            },
            SlotGoal::Running(release) => SlotReport {
                phase: Phase::Running,
                release: content(release),
                health: Health::Settled,
                instance: Some(evidence()),
                ..SlotReport::default()
            },
        });
        let is_gated = |goal: &SlotGoal| goal.release().is_some_and(|it| it.service.is_some());
        let leads = match &assigned.route {
            Some(route) => Some(route.to),
            None => assigned.slots.iter().find(|(_, goal)| goal.wants_instance()).map(|it| it.0),
        };
        let share = assigned.route.as_ref().map_or(Permille::NONE, |route| route.share);
        let slots = Slots {
            blue: with_traffic(slots.blue, Slot::Blue, leads, share),
            green: with_traffic(slots.green, Slot::Green, leads, share),
        };
        let slots = if assigned.slots.iter().any(|(_, goal)| is_gated(goal)) {
            slots
        } else {
            slots.map(|_, slot| SlotReport { traffic: Traffic::Ungated, ..slot.clone() })
        };
        let hold = match assigned.route.as_ref().map(|route| route.mode) {
            Some(RouteMode::Hold(_) | RouteMode::Armed(_)) => HoldState::Drained,
            Some(RouteMode::Open) | None => HoldState::Open,
        };
        let (application, fence) = (assigned.application.clone(), assigned.fence);
        let once = assigned.once.iter().filter_map(|duty| match duty.part {
            OncePart::Awaited => None,
            OncePart::Run { permit } => {
                Some(OnceReport { release: duty.release, permit, stand: OnceStand::Passed })
            }
        });
        // What it told before of releases that its goal names it tells again.
        let is_named = |told: &&OnceReport| {
            let mut releases = assigned.slots.iter().filter_map(|(_, goal)| goal.release());
            releases.any(|release| release.digest == told.release)
                && assigned
                    .once
                    .iter()
                    .all(|duty| duty.release != told.release || duty.part == OncePart::Awaited)
        };
        let said = self.agents[&name(agent)].said.iter().flat_map(|said| &said.once);
        let once = once.chain(said.filter(is_named).cloned()).collect();
        Some(Report { application, fence, slots, refused: None, outage: None, hold, once })
    }

    /// Brings what was sent to the agent that it was sent to.
    pub(super) fn deliver(&mut self, action: &Action) {
        match action {
            Action::Assign { session, assignment } => {
                // One that was cut off and not missed yet does not hear it.
                let known = self.agents.values_mut().find(|it| it.session == Some(*session));
                if let Some(known) = known {
                    known.assigned = Some((**assignment).clone());
                }
            }
            Action::EndSession { session, .. } => {
                for known in self.agents.values_mut() {
                    if known.session == Some(*session) {
                        known.session = None;
                    }
                }
            }
            Action::Query { query, .. } => self.queries.push(*query),
            Action::RouteEdge { session, routes } => {
                let known = self.agents.values_mut().find(|it| it.session == Some(*session));
                if let Some(known) = known {
                    known.routes = Some((**routes).clone());
                }
            }
            Action::Answer { .. }
            | Action::Welcome { .. }
            | Action::Echo { .. }
            | Action::SignCertificate { .. }
            | Action::Enrolments(_)
            | Action::Changed => {}
        }
    }
}

fn evidence() -> InstanceEvidence {
    InstanceEvidence {
        instance: InstanceId(Uuid::from_u128(1)),
        boot_id: "boot".to_owned(),
        pid: 1,
        start_ticks: 1,
    }
}

fn no_counts(slot: Slot) -> SlotCounts {
    SlotCounts {
        application: WEB.parse().unwrap(),
        slot,
        gate: "gate".to_owned(),
        requests_in_flight: 0,
        long_lived: 0,
        requests: 0,
        statuses: [0; 5],
        connect_errors: 0,
        resets: 0,
        retries: 0,
        bytes_in: 0,
        bytes_out: 0,
        latency: Latencies::default(),
    }
}

/// Returns what a gate would say of a slot.
fn with_traffic(slot: SlotReport, place: Slot, leads: Option<Slot>, share: Permille) -> SlotReport {
    let gets_some = leads == Some(place) || share > Permille::NONE;
    let traffic = if gets_some { Traffic::Here } else { Traffic::Away };
    let traffic = if slot.phase == Phase::Running { traffic } else { Traffic::Away };
    SlotReport { traffic, ..slot }
}

/// Returns where an agent's gate is reached: web-3 at 10.0.0.3.
fn address(agent: &str) -> String {
    let number = agent.rsplit('-').next().unwrap_or_default();
    format!("10.0.0.{number}")
}
