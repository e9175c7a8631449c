//! Edge: what an agent is told whose gate stands in front of a whole environment, and what it says
//! of that.
//!
//! The coordinator derives the routes from what it knows of the hosts, and tells them whole. They
//! are no goal of anybody: a coordinator that has just begun knows little, and says so.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::{AgentName, ApplicationName, HoldLimits, HoldState, Service, Term};

/// The label that makes an agent an edge; its value names the environment.
pub const EDGE_LABEL: &str = "edge";

/// How many applications an edge serves at most: as many as a gate has services.
pub const EDGE_ROUTES_MAX: usize = 256;

/// How many hosts a route of an edge names at most: as many as a gate's service has upstreams.
/// Of more those stay that are known to serve.
pub const EDGE_HOSTS_MAX: usize = 512;

/// How many hosts all routes of one edge name together at most. A host takes about a hundred bytes,
/// and a message may have four MiB. Routes that do not fit are left out from the end.
pub const EDGE_HOSTS_TOTAL_MAX: usize = 16_384;

/// All of what is new, in permille: hosts share by the sum of their weights.
pub const EDGE_WEIGHT_WHOLE: u16 = 1000;

/// Which routes are newer than which. A term has one process of the coordinator, which counts.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
pub struct EdgeRevision {
    pub term: Term,
    pub number: u64,
}

/// All routes of one edge.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct EdgeRoutes {
    pub revision: EdgeRevision,
    /// By application, each once.
    pub routes: Vec<EdgeRoute>,
}

/// One application's way through an edge.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct EdgeRoute {
    pub application: ApplicationName,
    /// The port and the protocol of the edge are those of the hosts.
    pub service: Service,
    /// Each once.
    pub hosts: Vec<EdgeHost>,
    /// Only where the hosts are divided into groups, of which one is led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutover: Option<EdgeCutover>,
}

/// How far an edge is in going over from one group of hosts to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct EdgeCutover {
    /// How often another group was led to, with the one that the weights speak of. An edge says it
    /// again, so that its word is of these weights and of none from before.
    pub switches: u64,
    /// None: what is new goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<EdgeHold>,
}

/// That an edge holds what is new, as a host's gate does at a cutover.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct EdgeHold {
    /// Another hold has another number. One that has ended by itself is not begun again.
    pub number: u64,
    /// Whether it lasts until other routes come. Only a hold of this number that is still in force
    /// is armed; without one, what is new goes on.
    pub is_armed: bool,
    pub limits: HoldLimits,
}

/// A host behind an edge.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct EdgeHost {
    pub agent: AgentName,
    /// None: nothing is known of it, and it stays as the edge has it.
    pub lead: Option<EdgeLead>,
}

/// How much an edge gives to a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct EdgeLead {
    /// Where its gate listens.
    pub address: SocketAddr,
    /// Its share of what is new. With 0 what it has is to end, within the service's limits.
    pub weight: u16,
    /// Whether it is known at this moment to serve, or not to. Otherwise a second try of a request
    /// goes to the others first.
    pub is_certain: bool,
}

/// What an edge says of its routes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EdgeReport {
    /// The newest routes that it accepted.
    pub revision: EdgeRevision,
    /// Whether its gate has said that it follows them.
    pub is_followed: bool,
    /// What of it is not served, and why; empty if all is well.
    pub trouble: String,
    pub hosts: Vec<EdgeHostReport>,
    /// Of those applications that it serves whose hosts are in groups, each once.
    pub cutovers: Vec<EdgeCutoverReport>,
}

/// What an edge says of going over from one group of hosts to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EdgeCutoverReport {
    pub application: ApplicationName,
    /// As it was told in the routes that it speaks of.
    pub switches: u64,
    /// The number of the hold that it was told, and whether that was to be armed.
    pub hold: Option<(u64, bool)>,
    /// What its gate has said of holding, for the very hold that it was told.
    pub state: HoldState,
}

/// One host behind an edge, and what the edge's gate counted of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EdgeHostReport {
    pub application: ApplicationName,
    pub host: AgentName,
    pub weight: u16,
    pub is_certain: bool,
    pub counts: EdgeCounts,
}

/// What a gate counted of one host since its process began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EdgeCounts {
    pub requests: u64,
    pub in_flight: u64,
    pub long_lived: u64,
    pub answered_5xx: u64,
    pub connect_errors: u64,
    pub resets: u64,
    /// Requests that went on elsewhere.
    pub retries: u64,
}

impl EdgeRoutes {
    /// Returns what is to be held, or to stay held, by application.
    pub fn holds(&self) -> impl Iterator<Item = (ApplicationName, EdgeHold)> {
        self.routes.iter().filter_map(|route| {
            let hold = route.cutover.and_then(|cutover| cutover.hold)?;
            Some((route.application.clone(), hold))
        })
    }

    /// Returns these routes with every host of which nothing is known as `held` has it. One that
    /// `held` has not either is left out. Where another group of hosts is led to than `held` says,
    /// they are those of that group, which got nothing before and is to get all of what is new.
    pub fn resolved(self, held: Option<&Self>) -> Self {
        let route_of = |application: &ApplicationName| {
            let mut routes = held.into_iter().flat_map(|held| &held.routes);
            routes.find(|route| route.application == *application)
        };
        let of = |application: &ApplicationName, agent: &AgentName| {
            let host = route_of(application)?.hosts.iter().find(|host| host.agent == *agent)?;
            host.lead.map(|lead| EdgeLead { is_certain: false, ..lead })
        };
        let switches = |cutover: Option<EdgeCutover>| cutover.map(|cutover| cutover.switches);
        let routes = self.routes.into_iter().map(|route| {
            let EdgeRoute { application, service, hosts, cutover } = route;
            // Two that are said to be at one address are one: what is known of it now counts.
            let known = hosts.iter().filter_map(|host| host.lead).map(|lead| lead.address);
            let mut addresses: BTreeSet<SocketAddr> = known.collect();
            let before = route_of(&application).and_then(|route| switches(route.cutover));
            let is_switched = before.is_some_and(|before| switches(cutover) != Some(before));
            let hosts = hosts
                .into_iter()
                .filter_map(|EdgeHost { agent, lead }| {
                    let held = || {
                        let lead = of(&application, &agent)?;
                        let weight = if is_switched { EDGE_WEIGHT_WHOLE } else { lead.weight };
                        Some(EdgeLead { weight, ..lead })
                    };
                    let lead = lead.or_else(|| held().filter(|it| addresses.insert(it.address)))?;
                    Some(EdgeHost { agent, lead: Some(lead) })
                })
                .collect();
            EdgeRoute { application, service, hosts, cutover }
        });
        Self { revision: self.revision, routes: routes.collect() }
    }
}

impl EdgeReport {
    /// Returns what an edge says whose gate follows `routes`, and for which what it is to hold stands
    /// as `held`.
    pub fn following(routes: &EdgeRoutes, held: HoldState) -> Self {
        let cutovers = routes.routes.iter().filter_map(|route| {
            let EdgeCutover { switches, hold } = route.cutover?;
            Some(EdgeCutoverReport {
                application: route.application.clone(),
                switches,
                hold: hold.map(|hold| (hold.number, hold.is_armed)),
                state: if hold.is_some() { held } else { HoldState::Open },
            })
        });
        Self {
            revision: routes.revision,
            is_followed: true,
            cutovers: cutovers.collect(),
            ..Self::default()
        }
    }
}

impl EdgeLead {
    /// Returns whether a connection to it can be made at all.
    pub fn is_reachable(&self) -> bool {
        is_an_end(self.address.ip()) && self.address.port() != 0
    }
}

/// Returns whether `address` is one that a connection can be made to.
pub const fn is_an_end(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Protocol, Swap};

    fn route(application: &str, hosts: Vec<EdgeHost>) -> EdgeRoute {
        let service = Service {
            port: 8080,
            protocol: Protocol::Http,
            swap: Swap::Beside,
            drain: std::time::Duration::from_secs(1),
            drain_long_lived: std::time::Duration::from_secs(1),
            keep_warm: std::time::Duration::ZERO,
            tls: None,
            sticky: None,
            proxy_protocol: false,
            trusted_peers: Vec::new(),
            limits: Limits::default(),
        };
        EdgeRoute { application: application.parse().unwrap(), service, hosts, cutover: None }
    }

    fn host(name: &str, lead: Option<(u16, bool)>) -> EdgeHost {
        host_at(name, name.as_bytes()[0], lead)
    }

    fn host_at(name: &str, number: u8, lead: Option<(u16, bool)>) -> EdgeHost {
        let lead = lead.map(|(weight, is_certain)| EdgeLead {
            address: format!("10.0.0.{number}:8080").parse().unwrap(),
            weight,
            is_certain,
        });
        EdgeHost { agent: name.parse().unwrap(), lead }
    }

    #[test]
    fn a_host_of_which_nothing_is_known_stays_as_it_is_and_is_in_doubt() {
        let held = EdgeRoutes {
            revision: EdgeRevision { term: Term(1), number: 9 },
            routes: vec![route(
                "web",
                vec![host("a", Some((1000, true))), host("b", Some((0, true)))],
            )],
        };
        let unknown = vec![host("a", None), host("b", None), host("c", None)];
        let told = EdgeRoutes {
            revision: EdgeRevision { term: Term(2), number: 1 },
            routes: vec![route("web", unknown.clone()), route("api", unknown)],
        };

        let resolved = told.resolved(Some(&held));

        let kept = vec![host("a", Some((1000, false))), host("b", Some((0, false)))];
        assert_eq!(resolved.routes, [route("web", kept), route("api", vec![])]);
        assert!(resolved.revision > held.revision);
    }

    #[test]
    fn one_that_was_rebuilt_under_another_name_is_not_led_to_twice() {
        let held = EdgeRoutes {
            revision: EdgeRevision { term: Term(1), number: 9 },
            routes: vec![route("web", vec![host_at("a", 1, Some((1000, true)))])],
        };
        let hosts = vec![host("a", None), host_at("b", 1, Some((1000, true)))];
        let told = EdgeRoutes {
            revision: EdgeRevision { term: Term(2), number: 1 },
            routes: vec![route("web", hosts)],
        };

        let resolved = told.resolved(Some(&held));

        assert_eq!(resolved.routes[0].hosts, [host_at("b", 1, Some((1000, true)))]);
    }
}
