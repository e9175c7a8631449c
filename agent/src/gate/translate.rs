//! The core's words for the gate's program and state, in the gate's own.

use std::{net::IpAddr, time::Duration};

use cutover_agent_core::{GateProgram, GateService, GateState, GateTrouble, GateUpstream};
use cutover_common::{ApplicationName, Protocol, Slot, SlotCounts};
use cutover_gate::{
    Counts, State,
    program::{self, Drain, Flow, Limits, Program, Route, Upstream, UpstreamKind, UpstreamName},
};

use crate::host::reached_at;

/// All of it: there are no weights between two slots yet.
const WHOLE: u16 = 1000;

/// Returns the program that the gate is told, on a host whose services listen on `address`.
pub(super) fn program(revision: u64, wanted: &GateProgram, address: IpAddr) -> Program {
    let services = wanted.services.iter().map(|(name, it)| service(name, it, address));
    Program { revision, services: services.collect() }
}

fn service(name: &ApplicationName, wanted: &GateService, address: IpAddr) -> program::Service {
    let GateService { service, upstreams, peers } = wanted;
    let drain = Drain {
        requests_ms: millis(service.drain),
        long_lived_ms: millis(service.drain_long_lived),
    };
    let upstreams = upstreams.iter().filter_map(|(slot, upstream)| {
        let GateUpstream { port, gets_new, is_healthy, drains } = (*upstream)?;
        Some(Upstream {
            name: slot.to_string().parse().expect("blue and green are names"),
            address: (reached_at(address), port).into(),
            kind: UpstreamKind::Slot,
            weight: if gets_new { WHOLE } else { 0 },
            is_healthy,
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
        drain: None,
    });
    program::Service {
        application: name.clone(),
        listen: (address, service.port).into(),
        protocol: match service.protocol {
            Protocol::Http => program::Protocol::Http,
            Protocol::Tcp => program::Protocol::Tcp,
        },
        tls: None,
        accepts_proxy_protocol: false,
        trusted_peers: Vec::new(),
        limits: Limits::default(),
        route: Route {
            flow: Flow::Open,
            upstreams: upstreams.chain(peers).collect(),
            sticky: None,
            allow: None,
        },
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
    let (busy, troubles) = (busy.collect(), troubles.collect());
    GateState { gate: said.gate, revision: said.revision, busy, troubles }
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

/// Returns whether something is under way at a slot that gets nothing new.
pub(super) fn is_leaving(program: &GateProgram, state: &GateState) -> bool {
    state.busy.iter().any(|(name, slot)| {
        let service = program.services.get(name);
        let upstream = service.and_then(|service| *service.upstreams.of(*slot));
        !upstream.is_some_and(|upstream| upstream.gets_new)
    })
}
