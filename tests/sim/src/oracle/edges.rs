//! G3: an edge gives nothing new to a host of which the coordinator knows that it does not serve,
//! lost contact takes no traffic away, and an edge goes on with what it accepted last.
//!
//! The books say what each coordinator's process has heard and what each edge has accepted. What
//! the cores hold is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use cutover_agent_core::{Action as AgentAction, Event as AgentEvent, GateProgram};
use cutover_common::{
    AgentName, ApplicationName, EdgeHost, EdgeRevision, EdgeRoute, EdgeRoutes, Health, Phase,
    Report, Service, SlotReport, Traffic,
};
use cutover_coordinator_core::{
    Action as SiteAction, Event as SiteEvent, EventKind, Input as SiteInput, SessionId, codec,
    event::Change,
};
use uuid::Uuid;

use super::{Seen, Violation};
use crate::{
    script::{Call, Entry, Fault, Script, What},
    world::World,
};

/// How many sites a run has at the most: a coordinator and its clone.
const SITES: usize = 2;

/// See above.
#[derive(Debug, Default)]
pub(super) struct EdgeOracle {
    /// Without an edge there is nothing to see.
    has_edges: bool,
    sites: [SiteBook; SITES],
    hosts: Vec<HostBook>,
}

/// What one process of a coordinator has heard and said.
#[derive(Debug, Default)]
struct SiteBook {
    sessions: BTreeMap<SessionId, AgentName>,
    /// By the newest session of each agent.
    said: BTreeMap<AgentName, Said>,
    drained: BTreeSet<AgentName>,
    /// The rollouts between two groups of hosts.
    grouped: BTreeSet<Uuid>,
    /// What it told each edge last.
    told: BTreeMap<AgentName, EdgeRoutes>,
}

#[derive(Debug, Default)]
struct Said {
    session: Option<SessionId>,
    reports: BTreeMap<ApplicationName, Report>,
    /// Whether it has told its whole state in this session.
    is_whole: bool,
    /// The applications that served when anything was known of them last.
    served: BTreeSet<ApplicationName>,
}

/// What one edge has accepted.
#[derive(Debug, Default)]
struct HostBook {
    stored: Option<EdgeRoutes>,
    decided: Option<EdgeRoutes>,
    /// A changed bit may have made it forget.
    is_flipped: bool,
}

/// What a report says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    Serves,
    ServesNot,
    Nothing,
}

fn word(report: &Report) -> Word {
    let slots = || report.slots.iter().map(|(_, slot)| slot);
    let serves = |slot: &SlotReport| {
        let passes = matches!(slot.health, Health::Passing | Health::Settled);
        slot.phase == Phase::Running && passes && slot.traffic != Traffic::Away
    };
    let may_serve =
        |slot: &SlotReport| slot.phase == Phase::Running && slot.health != Health::Failing;
    if slots().any(serves) {
        Word::Serves
    } else if slots().any(may_serve) {
        Word::Nothing
    } else {
        Word::ServesNot
    }
}

impl EdgeOracle {
    pub(super) fn new(script: &Script) -> Self {
        let hosts = (0..script.hosts).map(|_| HostBook::default()).collect();
        let is_edge = |entry: &Entry| matches!(entry.what, What::Call(Call::Edge { .. }));
        let has_edges = script.entries.iter().any(is_edge);
        Self { has_edges, sites: Default::default(), hosts }
    }

    pub(super) fn see(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), Violation> {
        match *seen {
            _ if !self.has_edges => {}
            Seen::SiteStarted { number } => {
                self.sites[usize::from(number)] = SiteBook::started(world, number);
            }
            Seen::SiteTakes { number, input } => self.sites[usize::from(number)].takes(input),
            Seen::SiteStepped { number, step, .. } => {
                let book = &mut self.sites[usize::from(number)];
                step.events.iter().for_each(|event| book.take(event));
                for action in &step.actions {
                    // One that was silent for too long is taken for gone, which is not hidden.
                    if let SiteAction::EndSession { session, .. } = action {
                        book.sessions.remove(session);
                    }
                    if let SiteAction::RouteEdge { session, routes } = action {
                        book.routes(*session, routes)?;
                    }
                }
            }
            Seen::AgentStarted { number } => {
                let book = &mut self.hosts[usize::from(number)];
                let Some(agent) = &world.host(number).agent else { return Ok(()) };
                return book.started(number, agent.core.remembered().edge.as_ref());
            }
            Seen::AgentStepped { number, step } => {
                let book = &mut self.hosts[usize::from(number)];
                for event in &step.events {
                    if let AgentEvent::EdgeRouted(routes) = event {
                        book.accepts(number, routes)?;
                    }
                }
                for action in &step.actions {
                    if let AgentAction::TellGate { program, .. } = action {
                        book.tells(number, program)?;
                    }
                }
            }
            Seen::AgentStored { number } => {
                let book = &mut self.hosts[usize::from(number)];
                book.stored.clone_from(&book.decided);
            }
            Seen::Fault { fault: Fault::FlipBit { host, .. } } => {
                self.hosts[usize::from(*host)].is_flipped = true;
            }
            _ => {}
        }
        Ok(())
    }
}

impl SiteBook {
    fn started(world: &World, number: u16) -> Self {
        let mut book = Self::default();
        for record in &world.site(number).store.records {
            if let Ok(event) = codec::decode(record) {
                book.take(&event);
            }
        }
        book
    }

    fn take(&mut self, event: &SiteEvent) {
        match &event.kind {
            EventKind::AgentDrained { agent, .. } => {
                self.drained.insert(agent.clone());
            }
            EventKind::AgentUndrained { agent, .. } => {
                self.drained.remove(agent);
            }
            EventKind::AgentRemoved { agent, .. } | EventKind::AgentJoined { agent, .. } => {
                self.drained.remove(agent);
                self.said.remove(agent);
                self.leaves(agent);
            }
            EventKind::AgentLabelled { agent, .. } => {
                self.leaves(agent);
                if !self.grouped.is_empty() {
                    self.leads_elsewhere();
                }
            }
            EventKind::RolloutStarted(started) if started.spec.groups().is_some() => {
                self.grouped.insert(started.id);
                self.leads_elsewhere();
            }
            EventKind::Rollout {
                id,
                change: Change::GroupSwitched { .. } | Change::Ended { .. },
                ..
            } if self.grouped.contains(id) => self.leads_elsewhere(),
            _ => {}
        }
    }

    /// It may not be among those behind an edge any more, or be another's edge.
    fn leaves(&mut self, agent: &AgentName) {
        self.told.remove(agent);
        for routes in self.told.values_mut().flat_map(|told| &mut told.routes) {
            routes.hosts.retain(|host| host.agent != *agent);
        }
    }

    /// Others may be led to than were, whoever serves.
    fn leads_elsewhere(&mut self) {
        self.told.values_mut().for_each(|told| told.routes.clear());
    }

    fn takes(&mut self, input: &SiteInput) {
        match input {
            SiteInput::SessionOpened { session, agent, .. } => {
                self.sessions.insert(*session, agent.clone());
            }
            SiteInput::SessionClosed { session } => {
                self.sessions.remove(session);
            }
            SiteInput::Beat { session, heartbeat } => {
                let Some(said) = self.said_in(*session) else { return };
                said.is_whole = true;
                said.reports.clear();
                heartbeat.reports.iter().for_each(|report| said.takes(report));
            }
            SiteInput::Reported { session, report } => {
                let Some(said) = self.said_in(*session) else { return };
                said.takes(report);
            }
            SiteInput::Started { .. }
            | SiteInput::SourcesNamed { .. }
            | SiteInput::Queried { .. }
            | SiteInput::Tick
            | SiteInput::Asked { .. } => {}
        }
    }

    fn said_in(&mut self, session: SessionId) -> Option<&mut Said> {
        let agent = self.sessions.get(&session)?;
        let said = self.said.entry(agent.clone()).or_default();
        if said.session != Some(session) {
            let served = std::mem::take(&mut said.served);
            *said = Said { session: Some(session), served, ..Said::default() };
        }
        Some(said)
    }

    /// Returns what is known of a host at this moment.
    fn known(&self, agent: &AgentName, application: &ApplicationName) -> Word {
        let Some(said) = self.said.get(agent) else { return Word::Nothing };
        let is_here = said.session.is_some_and(|session| self.sessions.contains_key(&session));
        match said.reports.get(application) {
            Some(report) if is_here => word(report),
            None if is_here && said.is_whole => Word::ServesNot,
            Some(_) | None => Word::Nothing,
        }
    }

    /// Judges what leaves for an edge.
    fn routes(&mut self, session: SessionId, routes: &EdgeRoutes) -> Result<(), Violation> {
        let Some(edge) = self.sessions.get(&session).cloned() else { return Ok(()) };
        for route in &routes.routes {
            for host in &route.hosts {
                self.may_get(&edge, route, host)?;
            }
        }
        let before = self.told.get(&edge).map(|told| told.routes.as_slice()).unwrap_or_default();
        for route in before {
            for host in route.hosts.iter().filter(|host| weight(host) > Some(0)) {
                self.still_gets(&edge, route, host, routes)?;
            }
        }
        self.told.insert(edge, routes.clone());
        Ok(())
    }

    fn may_get(
        &self,
        edge: &AgentName,
        route: &EdgeRoute,
        host: &EdgeHost,
    ) -> Result<(), Violation> {
        if weight(host) == Some(0) {
            return Ok(());
        }
        let (agent, application) = (&host.agent, &route.application);
        let why = if self.drained.contains(agent) {
            "is drained"
        } else if self.known(agent, application) == Word::ServesNot {
            "says that it does not serve"
        } else {
            return Ok(());
        };
        let what =
            format!("{edge} is to give what is new of {application} to {agent}, which {why}");
        Err(Violation::new("G3", what))
    }

    /// What got something goes on getting it until it is known not to serve.
    fn still_gets(
        &self,
        edge: &AgentName,
        route: &EdgeRoute,
        host: &EdgeHost,
        now: &EdgeRoutes,
    ) -> Result<(), Violation> {
        let (agent, application) = (&host.agent, &route.application);
        let has_served = self.said.get(agent).is_some_and(|said| said.served.contains(application));
        let is_out = self.drained.contains(agent)
            || self.known(agent, application) == Word::ServesNot
            // It said that it does not serve, in between.
            || (host.lead.is_some() && !has_served);
        let of_application = |route: &&EdgeRoute| route.application == *application;
        let route = now.routes.iter().find(of_application);
        let now = route.and_then(|route| route.hosts.iter().find(|host| host.agent == *agent));
        let gets = now.is_some_and(|host| weight(host) != Some(0));
        if is_out || gets {
            return Ok(());
        }
        let what = format!(
            "{edge} is to give nothing new of {application} to {agent} any more, which serves as \
             far as is known"
        );
        Err(Violation::new("G3", what))
    }
}

impl Said {
    fn takes(&mut self, report: &Report) {
        match word(report) {
            Word::Serves => drop(self.served.insert(report.application.clone())),
            Word::ServesNot => drop(self.served.remove(&report.application)),
            Word::Nothing => {}
        }
        self.reports.insert(report.application.clone(), report.clone());
    }
}

fn weight(host: &EdgeHost) -> Option<u16> {
    host.lead.map(|lead| lead.weight)
}

impl HostBook {
    fn started(&mut self, number: u16, held: Option<&EdgeRoutes>) -> Result<(), Violation> {
        let revision = |routes: Option<&EdgeRoutes>| routes.map(|routes| routes.revision);
        if !self.is_flipped && revision(held) < revision(self.stored.as_ref()) {
            let what = format!("host-{number} has forgotten the routes that it had accepted");
            return Err(Violation::new("G3", what));
        }
        (self.stored, self.decided) = (held.cloned(), held.cloned());
        Ok(())
    }

    fn accepts(&mut self, number: u16, routes: &EdgeRoutes) -> Result<(), Violation> {
        let held = self.decided.as_ref().map_or(EdgeRevision::default(), |held| held.revision);
        let EdgeRevision { term, number: offered } = routes.revision;
        if routes.revision <= held {
            let what = format!(
                "host-{number} follows routes {}/{offered} after {}/{}",
                term.0, held.term.0, held.number
            );
            return Err(Violation::new("G3", what));
        }
        self.decided = Some(routes.clone());
        Ok(())
    }

    /// What the gate is told is what was accepted, with a coordinator or without one.
    fn tells(&self, number: u16, program: &GateProgram) -> Result<(), Violation> {
        let mut ports: BTreeSet<u16> =
            program.services.values().map(|service| service.service.port).collect();
        let accepted = self.decided.iter().flat_map(|routes| &routes.routes);
        let expected: BTreeMap<&ApplicationName, (&Service, &[EdgeHost])> = accepted
            .filter(|route| !program.services.contains_key(&route.application))
            .filter(|route| ports.insert(route.service.port))
            .map(|route| (&route.application, (&route.service, route.hosts.as_slice())))
            .collect();
        let told = program.edges.iter();
        let told = told.map(|(name, edge)| (name, (&edge.service, edge.hosts.as_slice())));
        if told.eq(expected) {
            return Ok(());
        }
        let what = format!("the gate of host-{number} is not told what was accepted as an edge");
        Err(Violation::new("G3", what))
    }
}
