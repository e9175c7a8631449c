//! Edge: what this host's gate does in front of other hosts, as the coordinator tells it.
//!
//! The routes are remembered: an edge without a coordinator, or after a restart, goes on with those
//! that it accepted last. Accepting others can take traffic away, so that it needs a fresh lease.

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{
    ApplicationName, EdgeCounts, EdgeHostReport, EdgeReport, EdgeRevision, EdgeRoute, EdgeRoutes,
    Protocol, Service, edge::EDGE_ROUTES_MAX, planted,
};

use crate::{Agent, Application, Event, gate::GateService, lease::Permission, turn::Turn};

/// What is known of an edge's routes besides those that are followed.
#[derive(Debug, Default)]
pub(crate) struct EdgeLink {
    /// The newest that were told in this session, until there is a lease.
    offered: Option<Box<EdgeRoutes>>,
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
        self.record(turn, Event::EdgeRouted(routes));
    }

    /// Returns what the gate does in front of other hosts, beside `services`, and what is left out
    /// of that: an application of this host keeps its port.
    pub(crate) fn edges(
        &self,
        services: &BTreeMap<ApplicationName, GateService>,
    ) -> (BTreeMap<ApplicationName, EdgeRoute>, Vec<String>) {
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
            let EdgeRoute { application, service, hosts } = route;
            let is_too_many = services.len() + edges.len() >= EDGE_ROUTES_MAX;
            if is_too_many {
                left_out.push(format!("{application}: a gate serves {EDGE_ROUTES_MAX} at most"));
            } else if services.contains_key(application) {
                left_out.push(format!("{application} runs on this host, which serves its own"));
            } else if taken.insert(service.port) {
                let (service, hosts) = (at_an_edge(service), hosts.clone());
                let route = EdgeRoute { application: application.clone(), service, hosts };
                edges.insert(application.clone(), route);
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
        let hosts = edges.values().flat_map(|route| {
            route.hosts.iter().filter_map(|host| {
                let lead = host.lead?;
                Some(EdgeHostReport {
                    application: route.application.clone(),
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
        })
    }
}
