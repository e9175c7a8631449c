//! Edge: what this host's gate does in front of other hosts, as the coordinator tells it.
//!
//! The routes are remembered: an edge without a coordinator, or after a restart, goes on with those
//! that it accepted last. Accepting others can take traffic away, so that it needs a fresh lease.

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{
    ApplicationName, EdgeCounts, EdgeCutoverReport, EdgeHold, EdgeHostReport, EdgeReport,
    EdgeRevision, EdgeRoute, EdgeRoutes, HoldLimits, HoldState, Protocol, Service, Timestamp,
    edge::EDGE_ROUTES_MAX, planted,
};

use crate::{
    Agent, Application, Event,
    gate::{GateEdge, GateService},
    lease::Permission,
    turn::Turn,
};

/// What is known of an edge's routes besides those that are followed.
#[derive(Debug, Default)]
pub(crate) struct EdgeLink {
    /// The newest that were told in this session, until there is a lease.
    offered: Option<Box<EdgeRoutes>>,
    /// What was begun to be held by this process. What is armed is remembered besides.
    held: BTreeMap<ApplicationName, Held>,
    /// What was said of cutovers last in this session.
    said: Option<(EdgeRevision, bool, Vec<EdgeCutoverReport>)>,
}

/// What is held at an edge until it is armed, or let go.
#[derive(Clone, Copy, Debug)]
struct Held {
    number: u64,
    /// When it is over, if it is not armed before.
    until: Timestamp,
}

/// Returns how an edge serves `service`. What begins with a TLS handshake or a PROXY header is for
/// a host's gate to read: an edge that has neither the certificate nor the client's trust passes
/// on each connection as it comes.
fn at_an_edge(service: &Service) -> Service {
    let mut service = service.clone();
    if service.tls.take().is_some() | std::mem::take(&mut service.proxy_protocol) {
        service.protocol = Protocol::Tcp;
        service.sticky = None;
    }
    service
}

impl EdgeLink {
    /// A session begins: the coordinator says anew what there is.
    pub(crate) fn forget(&mut self) {
        self.offered = None;
        self.said = None;
    }
}

impl Agent {
    /// Takes routes that the coordinator told. Older ones than are known are late.
    pub(crate) fn edge_routed(&mut self, routes: Box<EdgeRoutes>) {
        let is_of_session =
            self.remembered.binding.is_some_and(|bound| bound.term == routes.revision.term);
        let offered = self.edge.offered.as_ref().map(|offered| offered.revision);
        let newest = offered.max(Some(self.edge_revision()));
        let is_newer = planted!(OlderEdgeRoutesAccepted: true; newest < Some(routes.revision));
        if is_of_session && is_newer {
            self.edge.offered = Some(routes);
        }
    }

    fn edge_revision(&self) -> EdgeRevision {
        self.remembered.edge.as_ref().map(|held| held.revision).unwrap_or_default()
    }

    /// Follows the routes that were told, as soon as that is permitted.
    pub(crate) fn follow_edge(&mut self, turn: &mut Turn) {
        let is_permitted = self.permission() == Permission::Fresh;
        if !planted!(EdgeRoutedWithoutLease: true; is_permitted) {
            return;
        }
        let Some(offered) = self.edge.offered.take() else { return };
        let routes = Box::new(offered.resolved(self.remembered.edge.as_ref()));
        let holds: Vec<(ApplicationName, EdgeHold)> = routes.holds().collect();
        self.record(turn, Event::EdgeRouted(routes));
        self.edge.held.retain(|name, _| holds.iter().any(|(held, _)| held == name));
        for (application, hold) in holds {
            self.hold_at_edge(turn, application, hold);
        }
    }

    /// Begins to hold what is new of an application, or makes what is held last.
    fn hold_at_edge(&mut self, turn: &mut Turn, application: ApplicationName, hold: EdgeHold) {
        let EdgeHold { number, is_armed, limits } = hold;
        let is_same = |held: &Held| held.number == number;
        if is_armed {
            let is_in_force = self.edge.held.get(&application).is_some_and(|held| {
                is_same(held) && planted!(EdgeArmedUnheld: true; turn.now < held.until)
            });
            if is_in_force && self.remembered.edge_armed.get(&application) != Some(&number) {
                self.record(turn, Event::EdgeArmed { application, number });
            }
        } else if !self.edge.held.get(&application).is_some_and(is_same) {
            let until = turn.now + limits.lasts();
            self.edge.held.insert(application, Held { number, until });
        }
    }

    /// Returns what the gate may hold of what is new, as an edge; none if all goes on.
    fn edge_hold(&self, application: &ApplicationName, hold: EdgeHold) -> Option<HoldLimits> {
        let EdgeHold { number, is_armed, limits } = hold;
        let is_in_force = if is_armed {
            self.remembered.edge_armed.get(application) == Some(&number)
        } else {
            let held = self.edge.held.get(application);
            held.is_some_and(|held| held.number == number && self.now < held.until)
        };
        is_in_force.then_some(limits)
    }

    /// Returns when a hold of the edge ends by itself, if none is armed before.
    pub(crate) fn edge_wakes(&self) -> impl Iterator<Item = Timestamp> {
        self.edge.held.values().map(|held| held.until).filter(|until| *until > self.now)
    }

    /// Returns what the gate does in front of other hosts, beside `services`, and what is left out
    /// of that: an application of this host keeps its port.
    pub(crate) fn edges(
        &self,
        services: &BTreeMap<ApplicationName, GateService>,
    ) -> (BTreeMap<ApplicationName, GateEdge>, Vec<String>) {
        let applications = self.remembered.applications.values();
        let instances = applications.flat_map(Application::instance_ports);
        let services_ports = services.values().map(|it| it.service.port);
        let mut taken: BTreeSet<u16> = services_ports.chain(instances).collect();
        let (mut edges, mut left_out) = (BTreeMap::new(), Vec::new());
        let held = planted!(
            EdgeNeedsCoordinator: self.remembered.edge.iter().filter(|_| self.is_joined()).last();
            self.remembered.edge.as_ref()
        );
        for route in held.into_iter().flat_map(|edge| &edge.routes) {
            let EdgeRoute { application, service, hosts, cutover } = route;
            let is_too_many = services.len() + edges.len() >= EDGE_ROUTES_MAX;
            if is_too_many {
                left_out.push(format!("{application}: a gate serves {EDGE_ROUTES_MAX} at most"));
            } else if services.contains_key(application) {
                left_out.push(format!("{application} runs on this host, which serves its own"));
            } else if taken.insert(service.port) {
                let hold = cutover.and_then(|cutover| cutover.hold);
                let hold = hold.and_then(|hold| self.edge_hold(application, hold));
                let (service, hosts) = (at_an_edge(service), hosts.clone());
                edges.insert(application.clone(), GateEdge { service, hosts, hold });
            } else {
                let port = service.port;
                left_out.push(format!("{application}: port {port} is another application's here"));
            }
        }
        (edges, left_out)
    }

    /// Returns what there is to say of the edge. None: this was never one.
    pub(crate) fn edge_report(&self) -> Option<EdgeReport> {
        let held = self.remembered.edge.as_ref()?;
        let (edges, mut trouble) = self.edges(&self.gate_services());
        let of_gate = |name: &ApplicationName| {
            self.gate.trouble_of(name).map(|trouble| format!("{name}: {}", trouble.detail))
        };
        trouble.extend(edges.keys().filter_map(of_gate));
        let gate = self.gate.link_trouble();
        if !gate.is_empty() {
            trouble.push(gate.to_owned());
        }
        let hosts = edges.iter().flat_map(|(application, edge)| {
            edge.hosts.iter().filter_map(|host| {
                let lead = host.lead?;
                Some(EdgeHostReport {
                    application: application.clone(),
                    host: host.agent.clone(),
                    weight: lead.weight,
                    is_certain: lead.is_certain,
                    counts: EdgeCounts::default(),
                })
            })
        });
        Some(EdgeReport {
            revision: held.revision,
            is_followed: self.gate.follows_edges(&edges),
            trouble: trouble.join("; "),
            hosts: hosts.collect(),
            cutovers: self.edge_cutovers(held, &edges),
        })
    }

    /// Returns what is to be said of applications whose hosts are in groups.
    fn edge_cutovers(
        &self,
        held: &EdgeRoutes,
        edges: &BTreeMap<ApplicationName, GateEdge>,
    ) -> Vec<EdgeCutoverReport> {
        let routes = held.routes.iter().filter(|route| edges.contains_key(&route.application));
        routes
            .filter_map(|route| {
                let application = route.application.clone();
                let cutover = route.cutover?;
                let hold = cutover.hold.map(|hold| (hold.number, hold.is_armed));
                let is_meant =
                    cutover.hold.is_some_and(|hold| self.edge_hold(&application, hold).is_some());
                let state =
                    if is_meant { self.gate.edge_state(&application) } else { HoldState::Open };
                Some(EdgeCutoverReport { application, switches: cutover.switches, hold, state })
            })
            .collect()
    }

    /// Returns whether what is to be said of cutovers at the edge is another thing than was said in
    /// this session: it does not wait for the next heartbeat.
    pub(crate) fn has_edge_news(&mut self) -> bool {
        let said = self.edge_word();
        let is_news = said.is_some() && said != self.edge.said;
        self.edge.said = said;
        is_news
    }

    /// Returns what somebody may be waiting for: nobody does where hosts are in no groups.
    fn edge_word(&self) -> Option<(EdgeRevision, bool, Vec<EdgeCutoverReport>)> {
        let held = self.remembered.edge.as_ref()?;
        if held.routes.iter().all(|route| route.cutover.is_none()) {
            return None;
        }
        let (edges, _) = self.edges(&self.gate_services());
        let is_followed = self.gate.follows_edges(&edges);
        Some((held.revision, is_followed, self.edge_cutovers(held, &edges)))
    }
}
