//! Edge: what the agents are told whose gates stand in front of an environment.
//!
//! Derived anew from what is known, and told whole whenever it is another thing than was told. It
//! is in no log: a process that has just begun knows little of the hosts, and says of each of them
//! that nothing is known, so that an edge goes on as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use cutover_common::{
    AgentName, ApplicationName, EdgeCutover, EdgeHold, EdgeHost, EdgeLead, EdgeRevision, EdgeRoute,
    EdgeRoutes, EnvironmentName, Health, Phase, Protocol, ReleaseRef, Report, Service, SlotReport,
    Timestamp, Version,
    edge::{
        EDGE_HOSTS_MAX, EDGE_HOSTS_TOTAL_MAX, EDGE_LABEL, EDGE_ROUTES_MAX, EDGE_WEIGHT_WHOLE,
        is_an_end,
    },
    planted,
};

use crate::{
    Coordinator, Step,
    action::Action,
    coordinator::Led,
    fleet::{Fresh, Goal, SHOWN_EVERY},
    input::SessionId,
    rollout::{CutoverPhase, State},
};

/// What was told to every edge, by this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edges {
    /// How often anything was told.
    number: u64,
    told: BTreeMap<AgentName, Told>,
}

impl Edges {
    /// Returns the revision of the routes that `agent` was told last.
    pub(crate) fn told(&self, agent: &AgentName) -> Option<EdgeRevision> {
        self.told.get(agent).map(|told| told.routes.revision)
    }
}

#[derive(Clone, Debug)]
struct Told {
    routes: EdgeRoutes,
    session: SessionId,
    at: Timestamp,
}

/// What is known of one application on one host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    Serves,
    /// It is not known at this moment. It is what it was, if it was known since this process began.
    Unclear,
    /// It is known not to serve.
    Out,
}

impl Standing {
    /// Returns what `report` says.
    pub(crate) fn of(report: &Report) -> Self {
        let slots = || report.slots.iter().map(|(_, slot)| slot);
        // An agent that has just begun has asked no probe, and the gate has told it nothing.
        let is_unclear =
            |slot: &SlotReport| slot.phase == Phase::Running && slot.health != Health::Failing;
        if slots().any(SlotReport::serves) {
            Self::Serves
        } else if slots().any(is_unclear) {
            Self::Unclear
        } else {
            Self::Out
        }
    }
}

impl Coordinator {
    /// Tells every edge what it has not been told.
    pub(crate) fn tell_edges(&mut self, now: Timestamp, step: &mut Step) {
        for agent in self.edges() {
            let Some(session) = self.fleet.session(&agent) else { continue };
            let environment = self.edge_of(&agent).and_then(|label| label.parse().ok());
            let routes = match environment {
                Some(environment) if self.is_known(&environment, now) => {
                    self.edge_routes(&environment, &agent)
                }
                // This store is older than the fleet, and may know too little (F7).
                Some(_) => continue,
                None => Vec::new(),
            };
            self.tell_edge(&agent, session, routes, now, step);
        }
    }

    /// Returns the revision of the routes that `agent` was told last as an edge.
    pub fn edge_told(&self, agent: &AgentName) -> Option<EdgeRevision> {
        self.edges.told(agent)
    }

    /// Returns those that are an edge, or may have routes from when they were.
    fn edges(&self) -> BTreeSet<AgentName> {
        let agents = self.enrolments.agents.iter();
        let are = agents.filter(|(_, enrolled)| enrolled.labels.contains_key(EDGE_LABEL));
        let were = self.fleet.edges().chain(self.edges.told.keys());
        are.map(|(agent, _)| agent).chain(were).cloned().collect()
    }

    /// Returns the agents that are an edge of `environment`.
    pub(crate) fn edges_of(&self, environment: &EnvironmentName) -> Vec<AgentName> {
        self.enrolments.edges_of(environment).cloned().collect()
    }

    /// Returns what the label of an edge says, if `agent` is one.
    fn edge_of(&self, agent: &AgentName) -> Option<&str> {
        self.enrolments.agents.get(agent)?.labels.get(EDGE_LABEL).map(String::as_str)
    }

    /// Returns whether the edge of `session` has not said that it holds what it was told, although
    /// that was long enough ago.
    pub(crate) fn is_edge_behind(&self, session: SessionId, now: Timestamp) -> bool {
        let Some(agent) = self.fleet.agent(session) else { return false };
        match self.edges.told.get(agent) {
            Some(told) => self.is_late(agent, told, now),
            // It was not known yet what to tell it.
            None => self.edge_of(agent).is_some(),
        }
    }

    fn is_late(&self, agent: &AgentName, told: &Told, now: Timestamp) -> bool {
        let held = self.fleet.seen(agent).and_then(|seen| seen.edge.as_ref());
        now.since(told.at) >= SHOWN_EVERY
            && held.is_none_or(|held| held.revision < told.routes.revision)
    }

    fn tell_edge(
        &mut self,
        agent: &AgentName,
        session: SessionId,
        routes: Vec<EdgeRoute>,
        now: Timestamp,
        step: &mut Step,
    ) {
        let revision = match self.edges.told.get(agent) {
            Some(told) if told.routes.routes == routes => {
                let is_heard = told.session == session && !self.is_late(agent, told, now);
                if planted!(EdgeToldOnce: true; is_heard) {
                    return;
                }
                told.routes.revision
            }
            Some(_) | None => {
                self.edges.number += 1;
                EdgeRevision { term: self.term, number: self.edges.number }
            }
        };
        let routes = EdgeRoutes { revision, routes };
        let told = Told { routes: routes.clone(), session, at: now };
        self.edges.told.insert(agent.clone(), told);
        step.actions.push(Action::RouteEdge { session, routes: Box::new(routes) });
    }

    /// Returns whether this store knows what runs in `environment`, as far as can be told: after a
    /// restore a host may hold goals that are not in it, and an application that an edge was told
    /// of would be taken from it.
    fn is_known(&self, environment: &EnvironmentName, now: Timestamp) -> bool {
        let members = self.members(environment);
        members.iter().all(|member| match self.fleet.seen(member) {
            Some(seen) => !seen.held.keys().any(|application| self.is_ahead(member, application)),
            None => {
                !self.goals.was_restored() || self.fleet.unreachable_since(member, now).is_some()
            }
        })
    }

    /// Returns the routes of the edge `edge` of `environment`.
    fn edge_routes(&self, environment: &EnvironmentName, edge: &AgentName) -> Vec<EdgeRoute> {
        let members = self.members(environment);
        let applications: BTreeSet<&ApplicationName> = members
            .iter()
            .flat_map(|member| self.goals.of_agent(member).map(|(application, _)| application))
            .collect();
        let mut total = 0;
        applications
            .into_iter()
            .filter_map(|application| {
                let cutover = self.edge_cutover(environment, application);
                let led = self.edge_group(environment, application);
                let is_led = |agent: &AgentName| led.as_ref().is_none_or(|led| led.contains(agent));
                let route = self.edge_route(application, &members, edge, &is_led)?;
                Some(EdgeRoute { cutover, ..route })
            })
            .take_while(|route| {
                total += route.hosts.len();
                total <= EDGE_HOSTS_TOTAL_MAX
            })
            .take(EDGE_ROUTES_MAX)
            .collect()
    }

    fn edge_route(
        &self,
        application: &ApplicationName,
        members: &[AgentName],
        edge: &AgentName,
        is_led: &dyn Fn(&AgentName) -> bool,
    ) -> Option<EdgeRoute> {
        let mut found: Vec<(EdgeHost, Service, Standing)> = members
            .iter()
            .filter(|member| *member != edge)
            .filter_map(|member| {
                let goal = self.goals.of(member, application)?;
                let service = self.service_of(member, application, goal)?;
                let (host, standing) = self.edge_host(member, application, goal, &service)?;
                Some((host, service, standing))
            })
            .collect();
        // Those that clients are to get say how they are spoken to.
        let led = || found.iter().filter(|(host, _, _)| is_led(&host.agent));
        let services =
            |(_, service, standing): &(EdgeHost, Service, Standing)| (service.clone(), *standing);
        let service =
            most_common(led().map(services)).or_else(|| most_common(found.iter().map(services)))?;
        found.retain(|(_, its, _)| spoken(its) == spoken(&service));
        let (mut hosts, aside): (Vec<EdgeHost>, Vec<EdgeHost>) =
            found.into_iter().map(|(host, _, _)| host).partition(|host| is_led(&host.agent));
        self.lead_somewhere(application, &mut hosts);
        hosts.extend(aside.into_iter().filter_map(led_past));
        hosts.sort_by(|one, other| one.agent.cmp(&other.agent));
        let mut addresses = BTreeSet::new();
        // Two hosts that say the same address are one as far as connections go.
        hosts.retain(|host| host.lead.is_none_or(|lead| addresses.insert(lead.address)));
        if hosts.len() > EDGE_HOSTS_MAX {
            let rank = |host: &EdgeHost| match host.lead {
                Some(EdgeLead { weight: 0, .. }) => 3,
                Some(EdgeLead { is_certain: true, .. }) => 0,
                Some(EdgeLead { is_certain: false, .. }) => 1,
                None => 2,
            };
            hosts.sort_by_key(rank);
            hosts.truncate(EDGE_HOSTS_MAX);
            hosts.sort_by(|one, other| one.agent.cmp(&other.agent));
        }
        Some(EdgeRoute { application: application.clone(), service, hosts, cutover: None })
    }

    fn led(&self, environment: &EnvironmentName, application: &ApplicationName) -> Option<&Led> {
        self.environments.get(environment)?.led.get(application)
    }

    /// Returns the hosts in the group that edges lead to. None: there are no groups.
    fn edge_group(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
    ) -> Option<BTreeSet<AgentName>> {
        let led = self.led(environment, application)?;
        if planted!(EdgeLeadsToBoth: true; false) {
            return None;
        }
        let hosts = self.led_to(environment, application).into_iter();
        Some(hosts.filter(|_| led.group.is_some()).collect())
    }

    /// Returns how far edges are in going over to another group of hosts. None: there are no groups.
    fn edge_cutover(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
    ) -> Option<EdgeCutover> {
        let led = self.led(environment, application)?;
        let mut holding = self.active().filter(|rollout| {
            rollout.application == *application
                && rollout.environment == *environment
                && rollout.groups().is_some()
                && matches!(rollout.state, State::Advancing { .. })
        });
        let hold = holding.find_map(|rollout| {
            let is_armed = match rollout.cutover?.phase {
                CutoverPhase::Hold => false,
                CutoverPhase::Arm => true,
                CutoverPhase::Release => return None,
            };
            let limits = rollout.spec.hold_limits();
            Some(EdgeHold { number: led.holds, is_armed, limits })
        });
        Some(EdgeCutover { switches: led.switches, hold })
    }

    /// Returns what an edge is told of one host, if it is told anything.
    fn edge_host(
        &self,
        agent: &AgentName,
        application: &ApplicationName,
        goal: &Goal,
        service: &Service,
    ) -> Option<(EdgeHost, Standing)> {
        let host = |lead| EdgeHost { agent: agent.clone(), lead };
        let served = self.fleet.seen(agent).and_then(|seen| seen.served.get(application)).copied();
        let standing = match self.fleet.fresh(agent, application) {
            Fresh::Report(report) => {
                planted!(EdgeIgnoresHealth: Standing::Serves; Standing::of(report))
            }
            Fresh::Nothing => Standing::Out,
            Fresh::Unknown => planted!(EdgeDropsLostHosts: Standing::Out; Standing::Unclear),
        };
        let lead = |weight, is_certain| {
            let ip = self.address(agent)?;
            let address = SocketAddr::from((ip, service.port));
            Some(EdgeLead { address, weight, is_certain })
        };
        let is_drained =
            planted!(EdgeLeadsToDrained: false; self.enrolments.drain(agent).is_some());
        let told = match (standing, served) {
            (Standing::Serves, _) if !is_drained => lead(EDGE_WEIGHT_WHOLE, true),
            // Lost contact is unknown: never a reason to take traffic from what served.
            (Standing::Unclear, Some(true)) if !is_drained => lead(EDGE_WEIGHT_WHOLE, false),
            (Standing::Unclear, Some(false)) => lead(0, false),
            (Standing::Unclear, None) if !is_drained => {
                // This process has not heard how it is.
                return goal.running().is_some().then(|| (host(None), standing));
            }
            // It never got anything by what is known.
            (Standing::Out | Standing::Unclear, None) => return None,
            (Standing::Serves | Standing::Unclear | Standing::Out, _) => lead(0, true),
        };
        // One that listens on every address has not said where it is reached.
        told.map(|lead| (host(Some(lead)), standing))
    }

    /// Where nobody is known to serve or did so last, those get what is new of which nothing is
    /// known: they may have recovered unseen, and nothing could be worse than nobody.
    fn lead_somewhere(&self, application: &ApplicationName, hosts: &mut [EdgeHost]) {
        let is_led_to = |host: &EdgeHost| host.lead.is_none_or(|lead| lead.weight > 0);
        if hosts.iter().any(is_led_to) {
            return;
        }
        for EdgeHost { agent, lead } in hosts {
            let is_unknown = self.fleet.fresh(agent, application) == Fresh::Unknown;
            if let Some(lead) = lead
                && is_unknown
                && self.enrolments.drain(agent).is_none()
            {
                lead.weight = EDGE_WEIGHT_WHOLE;
            }
        }
    }

    /// Returns the service by which `agent` is reached: of what serves there or ran there last, or
    /// else of what should run.
    pub(crate) fn service_of(
        &self,
        agent: &AgentName,
        application: &ApplicationName,
        goal: &Goal,
    ) -> Option<Service> {
        let report = self.fleet.seen(agent).and_then(|seen| seen.reports.get(application));
        let held = |is_it: fn(&SlotReport) -> bool| -> Option<&Version> {
            let mut slots = report?.slots.iter().map(|(_, slot)| slot);
            slots.find(|slot| is_it(slot))?.release.as_ref().map(|(version, _)| version)
        };
        let version = held(SlotReport::serves)
            .or_else(|| held(|slot| matches!(slot.phase, Phase::Running | Phase::Stopping)))
            .or_else(|| goal.running())?;
        let name = ReleaseRef { application: application.clone(), version: version.clone() };
        self.releases.get(&name)?.release.service.clone()
    }

    /// Returns where the gate of `agent` is reached, as it said itself.
    pub(crate) fn address(&self, agent: &AgentName) -> Option<IpAddr> {
        let seen = self.fleet.seen(agent)?;
        let address: IpAddr = seen.inventory.as_ref()?.address.parse().ok()?;
        is_an_end(address).then_some(address)
    }
}

/// Returns what an edge is told of a host in the group that it does not lead to, if that can be
/// reached: whoever was not heard yet is not to be gone on with either.
fn led_past(host: EdgeHost) -> Option<EdgeHost> {
    let lead = host.lead?;
    Some(EdgeHost { lead: Some(EdgeLead { weight: 0, is_certain: true, ..lead }), ..host })
}

/// Returns what a connection to `service` begins with: no client begins in two ways.
const fn spoken(service: &Service) -> (Protocol, bool, bool) {
    (service.protocol, service.tls.is_some(), service.proxy_protocol)
}

/// Returns the service that most hosts have which serve, or else most of all.
fn most_common(services: impl Iterator<Item = (Service, Standing)>) -> Option<Service> {
    let mut counts: Vec<(Service, (usize, usize))> = Vec::new();
    for (service, standing) in services {
        let serves = usize::from(standing == Standing::Serves);
        match counts.iter_mut().find(|(known, _)| *known == service) {
            Some((_, (serving, all))) => (*serving, *all) = (*serving + serves, *all + 1),
            None => counts.push((service, (serves, 1))),
        }
    }
    // Of as many the first, by the names of the hosts.
    let mut best = None;
    for (service, count) in counts {
        if best.as_ref().is_none_or(|(_, most)| count > *most) {
            best = Some((service, count));
        }
    }
    best.map(|(service, _)| service)
}

#[cfg(test)]
mod tests;
