//! Gauges and counters, each named once. Made anew at each scrape from what the core knows, so
//! that none can drift from it.

use std::sync::{Arc, OnceLock, atomic::AtomicU64};

use cutover_coordinator_core::{Coordinator, fleet::Presence, rollout::State};
use prometheus_client::{
    encoding::text::encode,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{listen, store::Sequence};

/// Where counts outside the core come from; set as the listeners open.
#[derive(Debug, Default)]
pub struct Counts {
    pub agents: OnceLock<Arc<listen::Counts>>,
    pub operators: OnceLock<Arc<listen::Counts>>,
}

type Labelled = Family<Vec<(&'static str, &'static str)>, Gauge>;

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn gauge_u64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Renders everything in the OpenMetrics text format.
pub fn render(core: &Coordinator, last: Sequence, counts: &Counts) -> String {
    let mut registry = Registry::with_prefix("cutover_coordinator");

    let agents = Labelled::default();
    for presence in ["live", "lost"] {
        agents.get_or_create(&vec![("presence", presence)]).set(0);
    }
    for (name, _) in core.agents() {
        let presence = match core.fleet().presence(name) {
            Presence::Live => "live",
            Presence::Lost { .. } => "lost",
        };
        agents.get_or_create(&vec![("presence", presence)]).inc();
    }
    registry.register("agents", "Enrolled agents, by presence", agents);

    let rollouts = Labelled::default();
    for state in ["queued", "advancing", "baking", "rolling_back", "paused", "held"] {
        rollouts.get_or_create(&vec![("state", state)]).set(0);
    }
    for rollout in core.active() {
        let state = match rollout.state {
            State::Advancing { .. } => "advancing",
            State::Baking { .. } => "baking",
            State::RollingBack { .. } => "rolling_back",
            State::Paused { .. } => "paused",
            State::Held { .. } => "held",
            State::Ended { .. } => continue,
        };
        rollouts.get_or_create(&vec![("state", state)]).inc();
    }
    let queued = gauge(core.queue().waiting().count());
    rollouts.get_or_create(&vec![("state", "queued")]).set(queued);
    registry.register("rollouts", "Rollouts that are not over, by state", rollouts);

    let numbers: [(&str, &str, i64); 4] = [
        ("term", "The term of this process", gauge_u64(core.term().0)),
        ("log_events", "Events in the log", gauge_u64(last.0)),
        ("releases", "Releases", gauge(core.releases(None).count())),
        ("environments", "Environments", gauge(core.environments().count())),
    ];
    for (name, help, value) in numbers {
        let number: Gauge<i64, std::sync::atomic::AtomicI64> = Gauge::default();
        number.set(value);
        registry.register(name, help, number);
    }
    register_connections(&mut registry, counts);

    let mut text = String::new();
    // Writing into memory fails only when a metric's own encoder does, which is a bug of ours
    // that an empty page shows.
    if encode(&mut text, &registry).is_err() {
        text.clear();
    }
    text
}

fn register_connections(registry: &mut Registry, counts: &Counts) {
    let connections = Family::<Vec<(&'static str, &'static str)>, Gauge<u64, AtomicU64>>::default();
    for (port, counts) in [("agents", &counts.agents), ("operators", &counts.operators)] {
        let Some(counts) = counts.get() else { continue };
        for (outcome, count) in [("accepted", counts.accepted()), ("refused", counts.refused())] {
            connections.get_or_create(&vec![("port", port), ("outcome", outcome)]).set(count);
        }
    }
    let help = "Connections since the start, by port and by what became of them";
    registry.register("connections", help, connections);
}
