//! What is known of each agent at this moment. In memory only: heartbeats never touch the disk,
//! and after a restart nothing is known until agents speak (no data is not health).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cutover_common::{
    AgentName, ApplicationName, CheckReport, EdgeReport, Fence, HostLoad, InstanceVitals,
    Inventory, Report, Slot, SlotCounts, SlotReport, Timestamp, Version, planted,
    protocol::{HEARTBEAT_EVERY, REDIAL_WITHIN, SILENCE_MAX},
    wire::{Heartbeat, Hello, REPEATED_MAX},
};

use crate::{edge::Standing, input::SessionId};

/// How long an agent must be lost before a rollout counts it as unreachable.
///
/// Twice the silence that makes it lost: one for a half-open connection to be noticed, one for
/// the agent to dial again.
const UNREACHABLE_AFTER: Duration = SILENCE_MAX;

/// The same for one that this process has never heard: after a long outage of the coordinator its
/// agents are still waiting to dial again when it is back.
const UNHEARD_AFTER: Duration = REDIAL_WITHIN.saturating_add(UNREACHABLE_AFTER);

/// How often a goal is sent that an agent does not follow: two beats bear the way there, its flush
/// and the way back.
pub(crate) const SHOWN_EVERY: Duration = HEARTBEAT_EVERY.saturating_mul(2);

/// Whether an agent is there. Lost is "unknown": never a reason to act on the host (A7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    Live,
    Lost { since: Timestamp },
}

/// What an agent said.
#[derive(Clone, Debug)]
pub struct Seen {
    pub presence: Presence,
    pub session: Option<SessionId>,
    /// When its newest session began.
    pub connected: Timestamp,
    pub last_heard: Option<Timestamp>,
    pub agent_version: String,
    pub inventory: Option<Inventory>,
    pub load: HostLoad,
    /// What its gate counted.
    pub counts: Vec<SlotCounts>,
    /// What it measured of the instances that run.
    pub vitals: Vec<InstanceVitals>,
    /// What it told of the checks that it runs for canaries.
    pub checks: Vec<CheckReport>,
    /// Requests of each application in a thousand seconds, from its last two beats.
    rates: BTreeMap<ApplicationName, u64>,
    /// When it beat last.
    beaten: Option<Timestamp>,
    pub reports: BTreeMap<ApplicationName, Report>,
    /// The highest fence that the agent holds, as it said itself.
    pub held: BTreeMap<ApplicationName, Fence>,
    /// What it says of the routes of its edge.
    pub edge: Option<EdgeReport>,
    /// Whether each application was known to serve when anything was known of it last.
    pub(crate) served: BTreeMap<ApplicationName, bool>,
    /// When each goal was last sent in this session.
    shown: BTreeMap<ApplicationName, Timestamp>,
    /// Whether it has told its whole state in this session.
    has_beaten: bool,
    /// The applications that it has spoken of in this session.
    spoken: BTreeSet<ApplicationName>,
}

impl Seen {
    /// Takes an agent's sign of life. It tells the whole state, so that a lost report is
    /// repaired. Returns whether it says anything that was not known.
    pub(crate) fn beat(&mut self, heartbeat: Heartbeat, now: Timestamp) -> bool {
        self.load = heartbeat.load;
        self.vitals = heartbeat.vitals;
        self.checks = heartbeat.checks;
        let before = std::mem::replace(&mut self.counts, heartbeat.counts);
        if let Some(beaten) = self.beaten.replace(now) {
            self.rates = rates(&before, &self.counts, now.since(beaten));
        }
        let edge = std::mem::replace(&mut self.edge, heartbeat.edge);
        let has_edge_news = self.edge.is_some() != edge.is_some()
            || edge.zip(self.edge.as_ref()).is_some_and(|(before, now)| {
                // What was counted decides nothing.
                (before.is_followed, before.revision, &before.cutovers)
                    != (now.is_followed, now.revision, &now.cutovers)
            });
        let is_first = !std::mem::replace(&mut self.has_beaten, true);
        let known = std::mem::take(&mut self.reports);
        for report in heartbeat.reports {
            self.report(report);
        }
        is_first || self.reports != known || has_edge_news
    }

    /// Returns whether it has told how busy it is.
    pub(crate) const fn has_told_load(&self) -> bool {
        self.has_beaten
    }

    /// Returns what was measured of the instance that is in a slot by its report.
    pub(crate) fn vitals_of(
        &self,
        application: &ApplicationName,
        slot: Slot,
    ) -> Option<&InstanceVitals> {
        let told = self.reports.get(application)?.slots.of(slot);
        let instance = told.instance.as_ref()?.instance;
        self.vitals.iter().find(|vitals| {
            vitals.instance == instance && vitals.slot == slot && vitals.application == *application
        })
    }

    /// Returns its part of an application's requests, to be compared with other hosts': by time,
    /// or where none end, as with long connections, by what is under way.
    pub(crate) fn requests_of(&self, application: &ApplicationName) -> u64 {
        let rate = self.rates.get(application).copied().unwrap_or_default();
        if rate > 0 {
            return rate;
        }
        let counts = self.counts.iter().filter(|counts| counts.application == *application);
        counts.map(|counts| counts.requests_in_flight + counts.long_lived).sum()
    }

    /// Takes an agent's report of one application.
    ///
    /// Of more applications than a whole state can name none is remembered: who speaks of them
    /// is no agent of ours, and must not fill the memory (A9, T3.1).
    pub(crate) fn report(&mut self, report: Report) {
        if self.held.len() >= REPEATED_MAX && !self.held.contains_key(&report.application) {
            return;
        }
        let held = self.held.entry(report.application.clone()).or_default();
        *held = Fence {
            term: held.term.max(report.fence.term),
            generation: held.generation.max(report.fence.generation),
        };
        self.spoken.insert(report.application.clone());
        match Standing::of(&report) {
            Standing::Serves => drop(self.served.insert(report.application.clone(), true)),
            Standing::Out => {
                if let Some(served) = self.served.get_mut(&report.application) {
                    *served = false;
                }
            }
            Standing::Unclear => {}
        }
        self.reports.insert(report.application.clone(), report);
    }

    /// Returns what it has said of `application`, and of its host.
    fn part(&self, application: &ApplicationName) -> Self {
        let is_meant = |name: &ApplicationName| name == application;
        let mut part =
            Self { counts: Vec::new(), vitals: Vec::new(), checks: Vec::new(), ..self.clone() };
        part.counts.extend(self.counts.iter().filter(|it| is_meant(&it.application)).cloned());
        part.vitals.extend(self.vitals.iter().filter(|it| is_meant(&it.application)).cloned());
        part.reports.retain(|name, _| is_meant(name));
        part.held.retain(|name, _| is_meant(name));
        part
    }

    /// Returns whether the agent has not said that it holds this goal, or a later one, in this
    /// term, although it was sent to it long enough ago.
    pub(crate) fn is_behind(
        &self,
        application: &ApplicationName,
        fence: Fence,
        now: Timestamp,
    ) -> bool {
        let held = self.held.get(application).copied().unwrap_or_default();
        (held.generation < fence.generation || held.term < fence.term)
            && self.shown.get(application).is_some_and(|at| now.since(*at) >= SHOWN_EVERY)
    }

    fn has_spoken_of(&self, application: &ApplicationName) -> bool {
        self.has_beaten || self.spoken.contains(application)
    }
}

/// Returns the requests of each application in a thousand seconds, as counted `between` two moments.
fn rates(
    before: &[SlotCounts],
    counts: &[SlotCounts],
    between: Duration,
) -> BTreeMap<ApplicationName, u64> {
    let Ok(between_ms) = u64::try_from(between.as_millis()) else { return BTreeMap::new() };
    let mut requests: BTreeMap<ApplicationName, u64> = BTreeMap::new();
    for slot in counts {
        let is_same = |other: &&SlotCounts| {
            other.application == slot.application
                && other.slot == slot.slot
                && other.gate == slot.gate
        };
        // Another gate process has counted from zero.
        let counted = before.iter().find(is_same).map_or(0, |slot| slot.requests);
        *requests.entry(slot.application.clone()).or_default() +=
            slot.requests.saturating_sub(counted);
    }
    let rate = |requests: u64| requests.saturating_mul(1_000_000).checked_div(between_ms);
    requests
        .into_iter()
        .filter_map(|(application, requests)| Some((application, rate(requests)?)))
        .collect()
}

/// What is known of an application on an agent at this moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fresh<'a> {
    /// The agent is not there, or has not spoken of it since it came.
    Unknown,
    /// The agent has told its whole state, and the application is not in it.
    Nothing,
    Report(&'a Report),
}

/// All agents.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    seen: BTreeMap<AgentName, Seen>,
    sessions: BTreeMap<SessionId, AgentName>,
    /// Since when an agent that has not spoken counts as lost: the start of the process.
    started: Timestamp,
    /// The moment of the last input.
    looked: Timestamp,
}

impl Fleet {
    /// Begins with nobody heard yet.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        *self = Self { started: now, looked: now, ..Self::default() };
    }

    pub(crate) fn look(&mut self, now: Timestamp) {
        self.looked = self.looked.max(now);
    }

    pub(crate) const fn last_looked(&self) -> Timestamp {
        self.looked
    }

    /// Returns what is known of these agents and of `application`, and of nothing else.
    pub(crate) fn part(&self, agents: &[AgentName], application: &ApplicationName) -> Self {
        let seen: BTreeMap<AgentName, Seen> = agents
            .iter()
            .filter_map(|agent| Some((agent.clone(), self.seen.get(agent)?.part(application))))
            .collect();
        let session = |(agent, seen): (&AgentName, &Seen)| Some((seen.session?, agent.clone()));
        let sessions = seen.iter().filter_map(session).collect();
        Self { seen, sessions, started: self.started, looked: self.looked }
    }

    /// Returns what is known of `agent`.
    pub fn seen(&self, agent: &AgentName) -> Option<&Seen> {
        self.seen.get(agent)
    }

    /// Returns whether `agent` is there.
    pub fn presence(&self, agent: &AgentName) -> Presence {
        self.seen.get(agent).map_or(Presence::Lost { since: self.started }, |seen| seen.presence)
    }

    /// Returns since when `agent` counts as unreachable, if it does at `now`.
    pub fn unreachable_since(&self, agent: &AgentName, now: Timestamp) -> Option<Timestamp> {
        match self.presence(agent) {
            Presence::Lost { since } if now >= self.unreachable_from(agent)? => Some(since),
            Presence::Live | Presence::Lost { .. } => None,
        }
    }

    /// Returns from when on `agent` counts as unreachable if it is not heard before; none for one
    /// that is there.
    pub(crate) fn unreachable_from(&self, agent: &AgentName) -> Option<Timestamp> {
        let Presence::Lost { since } = self.presence(agent) else { return None };
        let after = if self.seen.contains_key(agent) { UNREACHABLE_AFTER } else { UNHEARD_AFTER };
        Some(since + after)
    }

    /// Returns the session of `agent`.
    pub fn session(&self, agent: &AgentName) -> Option<SessionId> {
        self.seen.get(agent)?.session
    }

    /// Returns the agents that have said what they hold as an edge.
    pub(crate) fn edges(&self) -> impl Iterator<Item = &AgentName> {
        self.seen.iter().filter(|(_, seen)| seen.edge.is_some()).map(|(agent, _)| agent)
    }

    /// Returns the agent of `session`.
    pub fn agent(&self, session: SessionId) -> Option<&AgentName> {
        self.sessions.get(&session)
    }

    /// Returns what is freshly known of `application` on `agent`: nothing, or what the agent said
    /// in this session. What a lost agent said is no evidence, nor is anything that was said
    /// before it was lost.
    pub fn fresh(&self, agent: &AgentName, application: &ApplicationName) -> Fresh<'_> {
        let Some(seen) = self.seen.get(agent) else { return Fresh::Unknown };
        let is_here = planted!(LostAgentsCountAsHealthy: true; seen.presence == Presence::Live);
        if !is_here || !seen.has_spoken_of(application) {
            return Fresh::Unknown;
        }
        seen.reports.get(application).map_or(Fresh::Nothing, Fresh::Report)
    }

    /// Returns what `agent` says of its edge in this session, if it has said anything.
    pub(crate) fn fresh_edge(&self, agent: &AgentName) -> Option<&EdgeReport> {
        let seen = self.seen.get(agent)?;
        let is_here = seen.presence == Presence::Live && seen.has_beaten;
        seen.edge.as_ref().filter(|_| is_here)
    }

    /// Returns the fresh report of `application` on `agent`, if there is one.
    pub fn fresh_report(
        &self,
        agent: &AgentName,
        application: &ApplicationName,
    ) -> Option<&Report> {
        match self.fresh(agent, application) {
            Fresh::Report(report) => Some(report),
            Fresh::Unknown | Fresh::Nothing => None,
        }
    }

    /// Returns the slot of `agent` that holds `version`, as freshly reported.
    pub fn slot_of(
        &self,
        agent: &AgentName,
        application: &ApplicationName,
        version: &Version,
    ) -> Option<&SlotReport> {
        self.fresh_report(agent, application)?
            .slots
            .iter()
            .map(|(_, slot)| slot)
            .filter(|slot| slot.release.as_ref().is_some_and(|(held, _)| held == version))
            // Of two that hold it, as after a restart, the one that lives.
            .max_by_key(|slot| slot.instance.is_some())
    }

    /// Returns whether some release of `application` is freshly known to serve well on `agent`.
    pub fn is_healthy(&self, agent: &AgentName, application: &ApplicationName) -> bool {
        self.fresh_report(agent, application)
            .is_some_and(|report| report.slots.iter().any(|(_, slot)| slot.serves()))
    }

    /// Returns when the next agent falls silent, if nothing is heard.
    pub(crate) fn next_silence(&self) -> Option<Timestamp> {
        self.seen
            .values()
            .filter_map(|seen| match seen.presence {
                Presence::Live => seen.last_heard.map(|heard| heard + SILENCE_MAX),
                Presence::Lost { .. } => None,
            })
            .min()
    }

    /// Returns the sessions that have been silent for too long.
    pub(crate) fn silent(&self, now: Timestamp) -> Vec<SessionId> {
        self.seen
            .values()
            .filter(|seen| seen.last_heard.is_some_and(|heard| now.since(heard) >= SILENCE_MAX))
            .filter_map(|seen| seen.session)
            .collect()
    }

    pub(crate) fn open(
        &mut self,
        session: SessionId,
        agent: &AgentName,
        hello: Hello,
        now: Timestamp,
    ) {
        self.sessions.insert(session, agent.clone());
        let (reports, served) =
            self.seen.remove(agent).map(|seen| (seen.reports, seen.served)).unwrap_or_default();
        let seen = Seen {
            presence: Presence::Live,
            session: Some(session),
            connected: now,
            last_heard: Some(now),
            agent_version: hello.agent_version,
            inventory: Some(hello.inventory),
            load: HostLoad::default(),
            counts: Vec::new(),
            vitals: Vec::new(),
            checks: Vec::new(),
            rates: BTreeMap::new(),
            beaten: None,
            // What was said in an earlier session is shown, and is no evidence.
            reports: reports
                .into_iter()
                .map(|(application, report)| {
                    let kept = planted!(EarlierSessionCounts: report; forget_health(report));
                    (application, kept)
                })
                .collect(),
            held: hello.held.into_iter().collect(),
            edge: None,
            served,
            shown: BTreeMap::new(),
            has_beaten: planted!(EarlierSessionCounts: true; false),
            spoken: BTreeSet::new(),
        };
        self.seen.insert(agent.clone(), seen);
    }

    pub(crate) fn note_shown(
        &mut self,
        agent: &AgentName,
        application: &ApplicationName,
        now: Timestamp,
    ) {
        if let Some(seen) = self.seen.get_mut(agent) {
            seen.shown.insert(application.clone(), now);
        }
    }

    pub(crate) fn close(&mut self, session: SessionId, now: Timestamp) {
        let Some(agent) = self.sessions.remove(&session) else { return };
        if let Some(seen) = self.seen.get_mut(&agent)
            && seen.session == Some(session)
        {
            seen.session = None;
            seen.presence = Presence::Lost { since: now };
        }
    }

    pub(crate) fn forget(&mut self, agent: &AgentName) {
        if let Some(session) = self.seen.remove(agent).and_then(|seen| seen.session) {
            self.sessions.remove(&session);
        }
    }

    pub(crate) fn hear(&mut self, session: SessionId, now: Timestamp) -> Option<&mut Seen> {
        let seen = self.seen.get_mut(self.sessions.get(&session)?)?;
        seen.last_heard = Some(now);
        Some(seen)
    }
}

fn forget_health(mut report: Report) -> Report {
    // Its goals are sent anew, and refused anew.
    report.refused = None;
    report.hold = cutover_common::HoldState::Open;
    for slot in Slot::ALL {
        report.slots.of_mut(slot).health = cutover_common::Health::Unknown;
    }
    report
}
