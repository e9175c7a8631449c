//! The core's words for the gate's program and state, in the gate's own.

use std::{net::IpAddr, time::Duration};

use cutover_agent_core::{
    GateAllow, GateEdge, GateProgram, GateService, GateState, GateTrouble, GateUpstream,
};
use cutover_common::{
    AgentName, ApplicationName, EdgeHostReport, EdgeLead, EdgeReport, HoldLimits, Permille,
    Protocol, Service, Slot, SlotCounts, Sticky, TlsFiles,
};
use cutover_gate::{
    Counts, State, UpstreamState,
    program::{self, Drain, Flow, Program, Route, Upstream, UpstreamKind, UpstreamName},
};

use crate::host::reached_at;

/// How the names of hosts behind an edge begin: no slot has such a name.
const HOST: &str = "host-";

/// What each peer gets: they share evenly.
const WHOLE: u16 = Permille::ALL.get();

/// Returns the program that the gate is told, on a host whose services listen on `address`.
pub(super) fn program(revision: u64, wanted: &GateProgram, address: IpAddr) -> Program {
    let services = wanted.services.iter().map(|(name, it)| service(name, it, address));
    let edges = wanted.edges.iter().map(|(name, it)| edge(name, it, address));
    Program { revision, services: services.chain(edges).collect() }
}

fn service(name: &ApplicationName, wanted: &GateService, address: IpAddr) -> program::Service {
    let GateService { service, upstreams, to: _, allow, hold, peers } = wanted;
    let drain = drain_of(service);
    let upstreams = upstreams.iter().filter_map(|(slot, upstream)| {
        let GateUpstream { port, weight, is_healthy, drains } = (*upstream)?;
        Some(Upstream {
            name: slot_name(slot),
            address: (reached_at(address), port).into(),
            kind: UpstreamKind::Slot,
            weight,
            is_healthy,
            is_in_doubt: false,
            drain: drains.then_some(drain),
        })
    });
    let peers = peers.iter().enumerate().map(|(number, peer)| Upstream {
        name: format!("peer-{number}").parse().expect("a peer's number makes a name"),
        address: (*peer, service.port).into(),
        kind: UpstreamKind::Gate,
        weight: WHOLE,
        // Who is gone is not reached, and another one is asked.
        is_healthy: true,
        is_in_doubt: false,
        drain: None,
    });
    let upstreams: Vec<Upstream> = upstreams.chain(peers).collect();
    let flow = flow(*hold);
    let allow = allow
        .clone()
        .map(|GateAllow { slot, by }| program::Allow { by, upstream: slot_name(slot) });
    let mut served = served(name, service, address, upstreams);
    (served.route.flow, served.route.allow) = (flow, allow);
    served
}

fn flow(hold: Option<HoldLimits>) -> Flow {
    hold.map_or(Flow::Open, |HoldLimits { within, requests, bytes }| Flow::Hold {
        for_ms: millis(within),
        requests_max: requests,
        bytes_max: bytes,
    })
}

fn slot_name(slot: Slot) -> UpstreamName {
    slot.to_string().parse().expect("blue and green are names")
}

/// Returns what the gate does in front of other hosts.
fn edge(name: &ApplicationName, wanted: &GateEdge, address: IpAddr) -> program::Service {
    let GateEdge { service, hosts, hold } = wanted;
    let drain = drain_of(service);
    let upstreams = hosts.iter().filter_map(|host| {
        let EdgeLead { address, weight, is_certain } = host.lead?;
        Some(Upstream {
            name: host_name(&host.agent),
            address,
            kind: UpstreamKind::Host,
            // With no weight the gate can say that nothing is under way there, nor can come.
            weight: if hold.is_some() { 0 } else { weight },
            // Who is gone is not reached, and another one is asked.
            is_healthy: true,
            is_in_doubt: !is_certain,
            drain: (weight == 0).then_some(drain),
        })
    });
    let mut served = served(name, service, address, upstreams.collect());
    served.route.flow = flow(*hold);
    served
}

/// Returns what a host is called among an edge's upstreams.
fn host_name(agent: &AgentName) -> UpstreamName {
    format!("{HOST}{agent}").parse().expect("an agent's name makes a name")
}

fn drain_of(service: &Service) -> Drain {
    Drain { requests_ms: millis(service.drain), long_lived_ms: millis(service.drain_long_lived) }
}

fn served(
    name: &ApplicationName,
    service: &Service,
    address: IpAddr,
    upstreams: Vec<Upstream>,
) -> program::Service {
    let Service {
        port,
        protocol,
        swap: _,
        drain: _,
        drain_long_lived: _,
        keep_warm: _,
        tls,
        sticky,
        proxy_protocol,
        trusted_peers,
        limits,
    } = service;
    let sticky = sticky.clone().map(|sticky| match sticky {
        Sticky::Cookie(name) => program::Sticky::Cookie { name },
        Sticky::Header(name) => program::Sticky::Header { name },
    });
    program::Service {
        application: name.clone(),
        listen: (address, *port).into(),
        protocol: match protocol {
            Protocol::Http => program::Protocol::Http,
            Protocol::Tcp => program::Protocol::Tcp,
        },
        tls: tls.as_ref().map(|TlsFiles { certificate, key }| program::TlsFiles {
            certificate: certificate.into(),
            key: key.into(),
        }),
        accepts_proxy_protocol: *proxy_protocol,
        trusted_peers: trusted_peers.clone(),
        limits: limits.clone().into(),
        route: Route { flow: Flow::Open, upstreams, sticky, allow: None },
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Returns what the gate said of the slots and the services.
pub(super) fn state(said: &State) -> GateState {
    let busy = said.services.iter().flat_map(|service| {
        let is_busy = service.upstreams.iter().filter(|upstream| !upstream.is_empty);
        is_busy
            .filter_map(|upstream| Some((service.application.clone(), slot_named(&upstream.name)?)))
    });
    let troubled = said.services.iter().filter(|it| !(it.is_served && it.trouble.is_empty()));
    let troubles = troubled.map(|service| {
        let (is_served, detail) = (service.is_served, service.trouble.clone());
        (service.application.clone(), GateTrouble { is_served, detail })
    });
    let is_host = |upstream: &UpstreamState| upstream.name.as_str().starts_with(HOST);
    let leads_on = said.services.iter().filter(|service| {
        service.upstreams.iter().any(|upstream| is_host(upstream) && !upstream.is_empty)
    });
    let busy_edges = leads_on.map(|service| service.application.clone());
    let (busy, busy_edges, troubles) = (busy.collect(), busy_edges.collect(), troubles.collect());
    GateState { gate: said.gate, revision: said.revision, busy, busy_edges, troubles }
}

/// Returns what was counted of each slot, for the heartbeat.
pub fn counts(said: &Option<State>) -> Vec<SlotCounts> {
    let services = said.iter().flat_map(|state| {
        state.services.iter().flat_map(move |service| {
            service.upstreams.iter().map(move |upstream| (state, &service.application, upstream))
        })
    });
    services
        .filter_map(|(state, application, upstream)| {
            let Counts {
                requests,
                statuses,
                connect_errors,
                resets,
                retries,
                bytes_in,
                bytes_out,
                latency,
                // The buckets tell what is asked here.
                latency_us_sum: _,
            } = upstream.counts.clone();
            Some(SlotCounts {
                application: application.clone(),
                slot: slot_named(&upstream.name)?,
                gate: state.gate.to_string(),
                requests_in_flight: upstream.requests_in_flight,
                long_lived: upstream.long_lived,
                requests,
                statuses,
                connect_errors,
                resets,
                retries,
                bytes_in,
                bytes_out,
                latency,
            })
        })
        .collect()
}

fn slot_named(name: &UpstreamName) -> Option<Slot> {
    Slot::ALL.into_iter().find(|slot| name.as_str() == slot.to_string())
}

/// Fills in what was counted of the hosts behind an edge.
pub fn count_hosts(said: &Option<State>, report: &mut EdgeReport) {
    let services = || said.iter().flat_map(|state| &state.services);
    for EdgeHostReport { application, host, counts, .. } in &mut report.hosts {
        let name = host_name(host);
        let service = services().find(|service| service.application == *application);
        let upstreams = service.into_iter().flat_map(|service| &service.upstreams);
        // One that was left and came back stands there twice while something is under way.
        for upstream in upstreams.filter(|upstream| upstream.name == name) {
            counts.requests += upstream.counts.requests;
            counts.in_flight += upstream.requests_in_flight;
            counts.long_lived += upstream.long_lived;
            counts.answered_5xx += upstream.counts.statuses[4];
            counts.connect_errors += upstream.counts.connect_errors;
            counts.resets += upstream.counts.resets;
            counts.retries += upstream.counts.retries;
        }
    }
}

/// Returns whether what is new is held for any service.
pub(super) fn holds(program: &Program) -> bool {
    program.services.iter().any(|service| service.route.flow != Flow::Open)
}

/// Returns whether something is under way at a slot that gets nothing new.
pub(super) fn is_leaving(program: &GateProgram, state: &GateState) -> bool {
    let holds =
        |name: &ApplicationName| program.edges.get(name).is_some_and(|edge| edge.hold.is_some());
    state.busy_edges.iter().any(holds)
        || state.busy.iter().any(|(name, slot)| {
            !program.services.get(name).is_some_and(|service| service.gives_to(*slot))
        })
}

#[cfg(test)]
mod tests {
    use cutover_common::{Allow, AllowCookie, AllowHeader, Limits, Slots, Swap};

    use super::*;

    fn service() -> Service {
        Service {
            port: 8443,
            protocol: Protocol::Http,
            swap: Swap::Beside,
            drain: Duration::from_secs(30),
            drain_long_lived: Duration::from_secs(600),
            keep_warm: Duration::ZERO,
            tls: Some(TlsFiles { certificate: "/c.pem".to_owned(), key: "/k.pem".to_owned() }),
            sticky: Some(Sticky::Cookie("route".to_owned())),
            proxy_protocol: true,
            trusted_peers: vec!["10.0.0.1".parse().unwrap()],
            limits: Limits { connections: 7, body_bytes: Some(1 << 20), ..Limits::default() },
        }
    }

    fn translated(service: Service) -> program::Service {
        let upstreams = Slots::default();
        let (to, allow, hold, peers) = (None, None, None, Vec::new());
        let wanted = GateService { service, upstreams, to, allow, hold, peers };
        let services = [("web".parse().unwrap(), wanted)].into();
        let program = GateProgram { services, ..GateProgram::default() };
        let mut told = super::program(1, &program, [127, 0, 0, 1].into());
        told.check().unwrap();
        told.services.remove(0)
    }

    #[test]
    fn what_clients_meet_reaches_the_gate() {
        let told = translated(service());

        let files = told.tls.unwrap();
        assert_eq!((files.certificate, files.key), ("/c.pem".into(), "/k.pem".into()));
        assert_eq!(told.route.sticky, Some(program::Sticky::Cookie { name: "route".to_owned() }));
        assert!(told.accepts_proxy_protocol && told.trusted_peers.len() == 1);
        assert_eq!((told.limits.connections_max, told.limits.body_bytes_max), (7, Some(1 << 20)));
    }

    #[test]
    fn shares_headers_and_holds_reach_the_gate_which_takes_them_at_the_ends_of_their_ranges() {
        let upstream =
            |port, weight| Some(GateUpstream { port, weight, is_healthy: true, drains: false });
        let upstreams = Slots { blue: upstream(20_001, 900), green: upstream(20_002, 100) };
        let longest = "x".repeat(128);
        let header = AllowHeader::new("X-Canary", &longest).unwrap();
        let by = Allow::Either(header, AllowCookie::new("canary", &longest).unwrap());
        let allow = Some(GateAllow { slot: Slot::Green, by: by.clone() });
        let plain = Service { tls: None, sticky: None, ..service() };
        for (within, requests, bytes) in [
            (HoldLimits::WITHIN.start(), HoldLimits::REQUESTS.start(), HoldLimits::BYTES.start()),
            (HoldLimits::WITHIN.end(), HoldLimits::REQUESTS.end(), HoldLimits::BYTES.end()),
        ] {
            let (within, requests, bytes) = (*within, *requests, *bytes);
            let (service, allow) = (plain.clone(), allow.clone());
            let (to, hold) = (Some(Slot::Blue), Some(HoldLimits { within, requests, bytes }));
            let wanted = GateService { service, upstreams, to, allow, hold, peers: Vec::new() };
            let program = GateProgram {
                services: [("web".parse().unwrap(), wanted)].into(),
                ..GateProgram::default()
            };

            let mut told = super::program(1, &program, [127, 0, 0, 1].into());

            told.check().unwrap();
            assert!(holds(&told));
            let route = told.services.remove(0).route;
            let for_ms = u32::try_from(within.as_millis()).unwrap();
            let flow = Flow::Hold { for_ms, requests_max: requests, bytes_max: bytes };
            assert_eq!(route.flow, flow);
            let weights: Vec<u16> =
                route.upstreams.iter().map(|upstream| upstream.weight).collect();
            assert_eq!(weights, [900, 100]);
            let told = route.allow.unwrap();
            assert_eq!((told.upstream.as_str(), Some(told.by)), ("green", Some(by.clone())));
        }
    }

    #[test]
    fn the_gate_takes_every_limit_that_a_release_may_have() {
        let (times, heads) = (Limits::WITHIN, Limits::HEAD_BYTES);
        let (bodies, clients) = (Limits::BODY_BYTES, Limits::CONNECTIONS);
        for (within, head_bytes, body_bytes, connections) in [
            (times.start(), heads.start(), bodies.start(), clients.start()),
            (times.end(), heads.end(), bodies.end(), clients.end()),
        ] {
            let limits = Limits {
                head_bytes: *head_bytes,
                body_bytes: Some(*body_bytes),
                head_within: *within,
                stall_within: *within,
                idle_within: *within,
                answer_within: *within,
                connections: *connections,
            };
            translated(Service { limits, ..service() });
        }
    }
}
