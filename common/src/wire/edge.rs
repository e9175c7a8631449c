//! Routes of an edge, and what it says of them <-> pb.

use cutover_proto::v1 as pb;

use super::{InvalidRelease, InvalidRouteMessage, REPEATED_MAX, cut};
use crate::{
    EdgeCounts, EdgeCutover, EdgeCutoverReport, EdgeHold, EdgeHost, EdgeHostReport, EdgeLead,
    EdgeReport, EdgeRevision, EdgeRoute, EdgeRoutes, Term,
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
    #[error("field `hold.number` is 0")]
    NoNumber,
    #[error("field `hold.limits` is invalid")]
    Limits(#[source] InvalidRouteMessage),
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
        let pb::EdgeRoute { application, service, hosts, cutover } = message;
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
            cutover: cutover.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<EdgeRoute> for pb::EdgeRoute {
    fn from(route: EdgeRoute) -> Self {
        let EdgeRoute { application, service, hosts, cutover } = route;
        Self {
            application: application.into(),
            service: Some(service.into()),
            hosts: hosts.into_iter().map(Into::into).collect(),
            cutover: cutover.map(Into::into),
        }
    }
}

impl TryFrom<pb::EdgeCutover> for EdgeCutover {
    type Error = InvalidEdge;

    fn try_from(message: pb::EdgeCutover) -> Result<Self, InvalidEdge> {
        let pb::EdgeCutover { switches, hold } = message;
        Ok(Self { switches, hold: hold.map(TryInto::try_into).transpose()? })
    }
}

impl From<EdgeCutover> for pb::EdgeCutover {
    fn from(cutover: EdgeCutover) -> Self {
        let EdgeCutover { switches, hold } = cutover;
        Self { switches, hold: hold.map(Into::into) }
    }
}

impl TryFrom<pb::EdgeHold> for EdgeHold {
    type Error = InvalidEdge;

    fn try_from(message: pb::EdgeHold) -> Result<Self, InvalidEdge> {
        let pb::EdgeHold { number, is_armed, limits } = message;
        if number == 0 {
            return Err(InvalidEdge::NoNumber);
        }
        let limits = limits.ok_or(InvalidEdge::Missing("hold.limits"))?;
        Ok(Self { number, is_armed, limits: limits.try_into().map_err(InvalidEdge::Limits)? })
    }
}

impl From<EdgeHold> for pb::EdgeHold {
    fn from(hold: EdgeHold) -> Self {
        let EdgeHold { number, is_armed, limits } = hold;
        Self { number, is_armed, limits: Some(limits.into()) }
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
        let pb::EdgeReport { revision, is_followed, trouble, hosts, cutovers } = message;
        bounded("edge.hosts", hosts.len(), REPEATED_MAX)?;
        bounded("edge.cutovers", cutovers.len(), EDGE_ROUTES_MAX)?;
        let cutovers: Vec<EdgeCutoverReport> =
            cutovers.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        each_once("edge.cutovers", cutovers.iter().map(|cutover| &cutover.application))?;
        Ok(Self {
            revision: revision.ok_or(InvalidEdge::Missing("edge.revision"))?.into(),
            is_followed,
            trouble: cut(&trouble),
            hosts: hosts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            cutovers,
        })
    }
}

impl From<EdgeReport> for pb::EdgeReport {
    fn from(report: EdgeReport) -> Self {
        let EdgeReport { revision, is_followed, trouble, hosts, cutovers } = report;
        Self {
            revision: Some(revision.into()),
            is_followed,
            trouble: cut(&trouble),
            // It is for people, and who has more hosts than that looks at the gate's metrics.
            hosts: hosts.into_iter().take(REPEATED_MAX).map(Into::into).collect(),
            cutovers: cutovers.into_iter().take(EDGE_ROUTES_MAX).map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::EdgeCutoverReport> for EdgeCutoverReport {
    type Error = InvalidEdge;

    fn try_from(message: pb::EdgeCutoverReport) -> Result<Self, InvalidEdge> {
        let state = message.state().into();
        let pb::EdgeCutoverReport { application, switches, hold, is_armed, state: _ } = message;
        Ok(Self {
            application: name("edge.cutovers.application", application)?,
            switches,
            hold: (hold > 0).then_some((hold, is_armed)),
            state,
        })
    }
}

impl From<EdgeCutoverReport> for pb::EdgeCutoverReport {
    fn from(report: EdgeCutoverReport) -> Self {
        let EdgeCutoverReport { application, switches, hold, state } = report;
        let (hold, is_armed) = hold.unwrap_or_default();
        let state = pb::report::Hold::from(state).into();
        Self { application: application.into(), switches, hold, is_armed, state }
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
                cutover: Some(pb::EdgeCutover {
                    switches: 5,
                    hold: Some(pb::EdgeHold {
                        number: 6,
                        is_armed: true,
                        limits: Some(pb::HoldLimits { within_ms: 10, requests: 7, bytes: 8 }),
                    }),
                }),
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
        fn hold(it: &mut pb::EdgeRoutes) -> &mut pb::EdgeHold {
            it.routes[0].cutover.as_mut().unwrap().hold.as_mut().unwrap()
        }
        let changes: [(Change, &str); 10] = [
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
            (|it| hold(it).number = 0, "`hold.number` is 0"),
            (|it| hold(it).limits = None, "`hold.limits` is missing"),
            (|it| hold(it).limits.as_mut().unwrap().within_ms = 0, "`hold.limits` is invalid"),
        ];
        for (change, expected) in changes {
            let mut message = message();
            change(&mut message);
            let said = EdgeRoutes::try_from(message).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }
}
