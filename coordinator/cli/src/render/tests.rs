//! Samples of everything that is shown; the tests are in the files beside.

mod lists;
mod live;
mod machines;
mod rollouts;
mod simulations;

use cutover_common::Timestamp;
use insta::assert_snapshot;

use super::{
    fleet,
    json::json,
    plan,
    progress::*,
    release, rollout, simulated,
    status::{self, Hosts},
    *,
};
use crate::view::*;

/// 2026-11-23T19:00:00Z.
const START: u64 = 1_795_460_400_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_ms(START + seconds * 1000)
}

fn wave(agents: &[&str], worst_healthy: u32) -> PlannedWave {
    PlannedWave {
        agents: agents.iter().map(|agent| Text::from(*agent)).collect(),
        steps: ["prepare", "cutover", "soak 10s"].map(Text::from).into(),
        worst_healthy,
    }
}

fn sample_plan() -> Plan {
    let setting = |name: &str, value: &str, source: &str| Setting {
        name: name.into(),
        value: value.into(),
        source: source.into(),
    };
    Plan {
        strategy: "rolling".into(),
        from_version: Some("1.3.0".into()),
        to_version: "1.4.0".into(),
        hosts: 4,
        min_healthy: 2,
        worst_healthy: 2,
        waves: vec![wave(&["web-1"], 3), wave(&["web-2", "web-3"], 2)],
        settings: vec![
            setting("batch", "1,2", "flag"),
            setting("min_healthy", "50%", "cutover.toml"),
            setting("healthy_for", "10s", "default"),
        ],
        up_to_date: vec!["web-4".into()],
        drained: Vec::new(),
        replacement: "first".into(),
        outage_ms: None,
        not_passed_on: None,
        once: None,
    }
}

fn host(agent: &str, wave: u32, state: &str, detail: &str) -> RolloutHost {
    RolloutHost {
        agent: agent.into(),
        wave,
        state: state.into(),
        detail: Text::from(detail).or_none(),
        running_version: Some("1.3.0".into()),
    }
}

fn sample_rollout() -> Rollout {
    Rollout {
        id: "0193ab12-3456-7abc-8def-0123456789ab".into(),
        application: "web".into(),
        environment: "production".into(),
        from_version: Some("1.3.0".into()),
        to_version: "1.4.0".into(),
        strategy: "rolling".into(),
        state: RolloutState::Advancing,
        ended: false,
        why: "1 of 3 hosts run 1.4.0. Waiting for web-2 to be healthy (web-2: GET /healthz \
              answered 503); it holds in 42s."
            .into(),
        next: vec![
            "cutover watch 0193ab12-3456-7abc-8def-0123456789ab".into(),
            "cutover rollback 0193ab12-3456-7abc-8def-0123456789ab".into(),
        ],
        wave: 2,
        waves: 3,
        hosts: vec![
            host("web-1", 1, "updated", ""),
            host("web-2", 2, "updating", "GET /healthz answered 503"),
            host("web-3", 3, "pending", ""),
        ],
        history: vec![HistoryEntry { unix_ms: START, text: "started by anna".into() }],
        started_unix_ms: START,
        ended_unix_ms: None,
        started_by: "anna".into(),
        waits_for: None,
        ahead: 0,
    }
}

/// One that waits for its turn.
fn queued() -> Rollout {
    Rollout {
        id: "0193ab13-0000-7abc-8def-0123456789ab".into(),
        state: RolloutState::Queued,
        from_version: None,
        to_version: "1.5.0".into(),
        strategy: "".into(),
        why:
            "Waiting for rollout 0193ab12-3456-7abc-8def-0123456789ab to 1.4.0 to end (advancing), \
              for 2m by now. Then it is planned on the fleet of that moment, and begins."
                .into(),
        next: vec!["cutover abort 0193ab13-0000-7abc-8def-0123456789ab".into()],
        wave: 0,
        waves: 0,
        hosts: Vec::new(),
        history: Vec::new(),
        waits_for: Some("0193ab12-3456-7abc-8def-0123456789ab".into()),
        ..sample_rollout()
    }
}

fn ended(state: RolloutState, why: &str) -> Rollout {
    Rollout {
        state,
        ended: true,
        why: why.into(),
        next: vec!["cutover retry 0193ab12-3456-7abc-8def-0123456789ab".into()],
        ended_unix_ms: Some(START + 95_000),
        ..sample_rollout()
    }
}

fn sample_agent() -> Agent {
    Agent {
        name: "web-1".into(),
        presence: "live".into(),
        labels: [("tier".into(), "web".into()), ("zone".into(), "a".into())].into(),
        address: Some("10.0.0.11".into()),
        version: Some("0.1.0".into()),
        last_heard_unix_ms: Some(START),
        joined_unix_ms: Some(START - 86_400_000),
        host: Some(Host {
            hostname: "web-1.example.com".into(),
            os: "Debian GNU/Linux 13".into(),
            kernel: "6.12.0".into(),
            arch: "x86_64".into(),
            cpus: 4,
            memory_bytes: 8 << 30,
            disk_bytes: 100 << 30,
            runtime: "process".into(),
        }),
        load: Some(Load {
            cpu_permille: 125,
            memory_used_bytes: 3 << 29,
            memory_total_bytes: 8 << 30,
            disk_used_bytes: 20 << 30,
            disk_total_bytes: 100 << 30,
            load1_milli: 500,
        }),
        applications: vec![AgentApplication {
            application: "web".into(),
            slots: vec![AgentSlot {
                slot: "blue",
                version: Some("1.3.0".into()),
                phase: "running",
                health: "healthy",
                traffic: Some("here"),
                restarts: 1,
                detail: Some("GET /healthz answered 200".into()),
            }],
        }],
        traffic: vec![SlotTraffic {
            application: "web".into(),
            slot: "blue".into(),
            requests: 12_345,
            requests_in_flight: 2,
            long_lived: 1,
            answered_5xx: 4,
            connect_errors: 0,
            resets: 0,
            retries: 0,
            bytes_in: 1_000,
            bytes_out: 0,
            p50_us: Some(1024),
            p99_us: None,
        }],
        drain: None,
        edge: None,
    }
}

fn drained_agent() -> Agent {
    Agent {
        name: "web-2".into(),
        drain: Some(Drain {
            by: "anna".into(),
            reason: Some("a new disk".into()),
            since_unix_ms: Some(START),
        }),
        ..sample_agent()
    }
}

fn lost_agent() -> Agent {
    Agent {
        name: "database-1".into(),
        presence: "lost".into(),
        labels: BTreeMap::new(),
        address: None,
        version: None,
        last_heard_unix_ms: None,
        host: None,
        load: None,
        applications: Vec::new(),
        traffic: Vec::new(),
        ..sample_agent()
    }
}

fn sample_status() -> ApplicationStatus {
    let host = |agent: &str, presence: &str, health: &str, detail: &str| HostStatus {
        agent: agent.into(),
        presence: presence.into(),
        version: Some("1.3.0".into()),
        phase: Some("running".into()),
        health: Some(health.into()),
        detail: Text::from(detail).or_none(),
        restarts: 0,
        stands_by: false,
    };
    ApplicationStatus {
        application: "web".into(),
        environment: "production".into(),
        stable_version: Some("1.3.0".into()),
        hosts: 3,
        healthy: 1,
        host_states: vec![
            host("web-1", "live", "healthy", ""),
            host("web-2", "live", "failing", "GET /healthz answered 503"),
            host("web-3", "lost", "healthy", ""),
        ],
        rollout: Some("0193ab12-3456-7abc-8def-0123456789ab".into()),
        rollout_state: Some(RolloutState::RollingBack),
        rollout_why: Some("Going back because web-2 failed.".into()),
        queue: vec![QueuedRollout {
            rollout: "0193ab13-0000-7abc-8def-0123456789ab".into(),
            to_version: "1.5.0".into(),
            queued_by: "anna".into(),
            queued_unix_ms: START,
        }],
        group: None,
    }
}
