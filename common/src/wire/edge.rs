//! Routes of an edge, and what it says of them <-> pb.

use cutover_proto::v1 as pb;

use super::{InvalidRelease, REPEATED_MAX, cut};
use crate::{
    EdgeCounts, EdgeHost, EdgeHostReport, EdgeLead, EdgeReport, EdgeRevision, EdgeRoute,
    EdgeRoutes, Term,
    edge::{EDGE_HOSTS_MAX, EDGE_HOSTS_TOTAL_MAX, EDGE_ROUTES_MAX, EDGE_WEIGHT_WHOLE},
    name::InvalidName,
};

/// Why a message is no [`EdgeRoutes`] or [`EdgeReport`]. Names the field, as the sender would.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidEdge {
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    #[error("field `{field}` is no name")]
    Name { field: &'static str, source: InvalidName },
    #[error("field `service` is invalid")]
    Service(#[source] InvalidRelease),
    #[error("field `address` is no address that can be connected to")]
    Address,
    #[error("field `weight` is more than {EDGE_WEIGHT_WHOLE}")]
    Weight,
    #[error("field `{field}` has more than {most} entries")]
    TooMany { field: &'static str, most: usize },
    #[error("field `{0}` names one twice")]
    Twice(&'static str),
}

fn bounded(field: &'static str, count: usize, most: usize) -> Result<(), InvalidEdge> {
    if count > most { Err(InvalidEdge::TooMany { field, most }) } else { Ok(()) }
}

fn name<T>(field: &'static str, text: String) -> Result<T, InvalidEdge>
where
    T: std::str::FromStr<Err = InvalidName>,
{
    text.parse().map_err(|source| InvalidEdge::Name { field, source })
}

fn each_once<K: Ord>(
    field: &'static str,
    keys: impl Iterator<Item = K>,
) -> Result<(), InvalidEdge> {
    let mut seen = std::collections::BTreeSet::new();
    let mut keys = keys;
    if keys.all(|key| seen.insert(key)) { Ok(()) } else { Err(InvalidEdge::Twice(field)) }
}

impl From<EdgeRevision> for pb::EdgeRevision {
    fn from(revision: EdgeRevision) -> Self {
        let EdgeRevision { term, number } = revision;
        Self { term: term.0, number }
    }
}

impl From<pb::EdgeRevision> for EdgeRevision {
    fn from(message: pb::EdgeRevision) -> Self {
        let pb::EdgeRevision { term, number } = message;
        Self { term: Term(term), number }
    }
}

impl TryFrom<pb::EdgeRoutes> for EdgeRoutes {
    type Error = InvalidEdge;

    fn try_from(message: pb::EdgeRoutes) -> Result<Self, InvalidEdge> {
        let pb::EdgeRoutes { revision, routes } = message;
        bounded("routes", routes.len(), EDGE_ROUTES_MAX)?;
        let total = routes.iter().map(|route| route.hosts.len()).sum();
        bounded("routes.hosts", total, EDGE_HOSTS_TOTAL_MAX)?;
        let routes: Vec<EdgeRoute> =
            routes.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        each_once("routes.application", routes.iter().map(|route| &route.application))?;
        let revision = revision.ok_or(InvalidEdge::Missing("revision"))?.into();
        Ok(Self { revision, routes })
    }
}

impl From<EdgeRoutes> for pb::EdgeRoutes {
    fn from(routes: EdgeRoutes) -> Self {
        let EdgeRoutes { revision, routes } = routes;
        Self {
            revision: Some(revision.into()),
            routes: routes.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::EdgeRoute> for EdgeRoute {
    type Error = InvalidEdge;

    fn try_from(message: pb::EdgeRoute) -> Result<Self, InvalidEdge> {
        let pb::EdgeRoute { application, service, hosts } = message;
        bounded("routes.hosts", hosts.len(), EDGE_HOSTS_MAX)?;
        let hosts: Vec<EdgeHost> =
            hosts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        each_once("hosts.agent", hosts.iter().map(|host| &host.agent))?;
        let addresses = hosts.iter().filter_map(|host| host.lead.map(|lead| lead.address));
        each_once("hosts.address", addresses)?;
        let service = service.ok_or(InvalidEdge::Missing("service"))?;
        Ok(Self {
            application: name("application", application)?,
            service: service.try_into().map_err(InvalidEdge::Service)?,
            hosts,
        })
    }
}

impl From<EdgeRoute> for pb::EdgeRoute {
    fn from(route: EdgeRoute) -> Self {
        let EdgeRoute { application, service, hosts } = route;
        Self {
            application: application.into(),
            service: Some(service.into()),
            hosts: hosts.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::EdgeHost> for EdgeHost {
    type Error = InvalidEdge;

    fn try_from(message: pb::EdgeHost) -> Result<Self, InvalidEdge> {
        let pb::EdgeHost { agent, lead } = message;
        Ok(Self { agent: name("agent", agent)?, lead: lead.map(TryInto::try_into).transpose()? })
    }
}

impl From<EdgeHost> for pb::EdgeHost {
    fn from(host: EdgeHost) -> Self {
        let EdgeHost { agent, lead } = host;
        Self { agent: agent.into(), lead: lead.map(Into::into) }
    }
}

impl TryFrom<pb::EdgeLead> for EdgeLead {
    type Error = InvalidEdge;

    fn try_from(message: pb::EdgeLead) -> Result<Self, InvalidEdge> {
        let pb::EdgeLead { address, weight, is_certain } = message;
        let lead = Self {
            address: address.parse().map_err(|_| InvalidEdge::Address)?,
            weight: weight_in(weight)?,
            is_certain,
        };
        if lead.is_reachable() { Ok(lead) } else { Err(InvalidEdge::Address) }
    }
}

impl From<EdgeLead> for pb::EdgeLead {
    fn from(lead: EdgeLead) -> Self {
        let EdgeLead { address, weight, is_certain } = lead;
        Self { address: address.to_string(), weight: weight.into(), is_certain }
    }
}

fn weight_in(weight: u32) -> Result<u16, InvalidEdge> {
    let weight = u16::try_from(weight).map_err(|_| InvalidEdge::Weight)?;
    if weight > EDGE_WEIGHT_WHOLE { Err(InvalidEdge::Weight) } else { Ok(weight) }
}

impl TryFrom<pb::EdgeReport> for EdgeReport {
    type Error = InvalidEdge;

    fn try_from(message: pb::EdgeReport) -> Result<Self, InvalidEdge> {
        let pb::EdgeReport { revision, is_followed, trouble, hosts } = message;
        bounded("edge.hosts", hosts.len(), REPEATED_MAX)?;
        Ok(Self {
            revision: revision.ok_or(InvalidEdge::Missing("edge.revision"))?.into(),
            is_followed,
            trouble: cut(&trouble),
            hosts: hosts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<EdgeReport> for pb::EdgeReport {
    fn from(report: EdgeReport) -> Self {
        let EdgeReport { revision, is_followed, trouble, hosts } = report;
        Self {
            revision: Some(revision.into()),
            is_followed,
            trouble: cut(&trouble),
            // It is for people, and who has more hosts than that looks at the gate's metrics.
            hosts: hosts.into_iter().take(REPEATED_MAX).map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::EdgeHostReport> for EdgeHostReport {
    type Error = InvalidEdge;

    fn try_from(message: pb::EdgeHostReport) -> Result<Self, InvalidEdge> {
        let pb::EdgeHostReport {
            application,
            host,
            weight,
            is_certain,
            requests,
            in_flight,
            long_lived,
            answered_5xx,
            connect_errors,
            resets,
            retries,
        } = message;
        Ok(Self {
            application: name("edge.application", application)?,
            host: name("edge.host", host)?,
            weight: weight_in(weight)?,
            is_certain,
            counts: EdgeCounts {
                requests,
                in_flight,
                long_lived,
                answered_5xx,
                connect_errors,
                resets,
                retries,
            },
        })
    }
}

impl From<EdgeHostReport> for pb::EdgeHostReport {
    fn from(report: EdgeHostReport) -> Self {
        let EdgeHostReport { application, host, weight, is_certain, counts } = report;
        let EdgeCounts {
            requests,
            in_flight,
            long_lived,
            answered_5xx,
            connect_errors,
            resets,
            retries,
        } = counts;
        Self {
            application: application.into(),
            host: host.into(),
            weight: weight.into(),
            is_certain,
            requests,
            in_flight,
            long_lived,
            answered_5xx,
            connect_errors,
            resets,
            retries,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Limits, Protocol, Service, Swap};

    fn message() -> pb::EdgeRoutes {
        let lead = |last: u8| pb::EdgeLead {
            address: format!("10.0.0.{last}:8080"),
            weight: 1000,
            is_certain: true,
        };
        let host = |number: u8, lead| pb::EdgeHost { agent: format!("web-{number}"), lead };
        let service = Service {
            port: 8080,
            protocol: Protocol::Tcp,
            swap: Swap::Beside,
            drain: Duration::from_millis(1),
            drain_long_lived: Duration::from_millis(2),
            keep_warm: Duration::from_millis(3),
            tls: None,
            sticky: None,
            proxy_protocol: false,
            trusted_peers: Vec::new(),
            limits: Limits::default(),
        };
        pb::EdgeRoutes {
            revision: Some(pb::EdgeRevision { term: 3, number: 4 }),
            routes: vec![pb::EdgeRoute {
                application: "web".to_owned(),
                service: Some(service.into()),
                hosts: vec![host(1, Some(lead(1))), host(2, Some(lead(2))), host(3, None)],
            }],
        }
    }

    #[test]
    fn routes_survive_the_way() {
        let there = EdgeRoutes::try_from(message()).unwrap();

        assert_eq!(pb::EdgeRoutes::from(there), message());
    }

    #[test]
    fn what_no_coordinator_sends_is_refused() {
        type Change = fn(&mut pb::EdgeRoutes);
        let changes: [(Change, &str); 7] = [
            (|it| it.revision = None, "`revision` is missing"),
            (|it| it.routes.push(it.routes[0].clone()), "names one twice"),
            (|it| it.routes[0].hosts[1].agent = "web-1".to_owned(), "names one twice"),
            (|it| it.routes[0].hosts[1].lead = it.routes[0].hosts[0].lead.clone(), "one twice"),
            (|it| it.routes[0].hosts[0].lead.as_mut().unwrap().weight = 1001, "`weight`"),
            (
                |it| it.routes[0].hosts[0].lead.as_mut().unwrap().address = "0.0.0.0:1".into(),
                "connected",
            ),
            (|it| it.routes[0].hosts = vec![it.routes[0].hosts[2].clone(); 513], "more than 512"),
        ];
        for (change, expected) in changes {
            let mut message = message();
            change(&mut message);
            let said = EdgeRoutes::try_from(message).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }
}
