//! The standard rollout: what the simulator's speed is told in.

use crate::{
    dice::Dice,
    script::{
        Answers, Application, Behaviour, Call, CheckBehaviours, Disks, Entry, Gated, Mode, Network,
        Probe, Release, Script, Settings, What,
    },
};

/// How many hosts it has.
const HOSTS: u16 = 20;

/// When its faults are over: the rollout is in its middle by then.
const HEALS_MS: u64 = 40_000;

/// How its application stands behind the gates.
const GATE: Gated =
    Gated { in_place: false, requests_ms: 1_000, drain_ms: 30_000, keep_warm_ms: 0 };

/// How it is looked at.
const PROBE: Probe =
    Probe { every_ms: 2_000, timeout_ms: 1_000, passes: 2, failures: 3, start_within_ms: 10_000 };

/// Draws a whole rollout from one release to the next on twenty hosts, in batches of a quarter,
/// with some faults on the way.
pub fn standard(seed: u64) -> Script {
    let mut dice = Dice::new(seed, "standard");
    let release = |version: &str| Release {
        version: version.to_owned(),
        archive_bytes: 1_000_000,
        is_damaged: false,
        behaviour: Behaviour::WELL,
        checks: CheckBehaviours::default(),
        answers: Answers::GOOD,
        exceptions: Vec::new(),
    };
    let deploy = |at_ms: u64, release: u16, strategy: &str| Entry {
        at_ms,
        what: What::Call(Call::Deploy {
            application: 0,
            release,
            options: vec![
                ("strategy".to_owned(), strategy.to_owned()),
                ("healthy_for".to_owned(), "3s".to_owned()),
                ("healthy_within".to_owned(), "40s".to_owned()),
                ("progress_within".to_owned(), "90s".to_owned()),
                ("max_unreachable".to_owned(), "1".to_owned()),
            ],
        }),
    };
    let mut entries = vec![deploy(2_000, 0, "all_at_once"), deploy(12_000, 1, "rolling")];
    let few = super::faults::Menu::few();
    let application = Application {
        name: "app-0".to_owned(),
        hosts: (0..HOSTS).collect(),
        probe: Some(PROBE),
        has_stop_hook: true,
        hooks: Vec::new(),
        once: false,
        stop_within_ms: 5_000,
        gate: Some(GATE),
        checks: None,
        requests_per_s: None,
        releases: vec![release("1.0"), release("2.0")],
    };
    entries.extend(few.schedule(&mut dice, HOSTS, std::slice::from_ref(&application), HEALS_MS));
    entries.sort_by_key(|entry| entry.at_ms);
    let mut script = Script {
        seed,
        mode: Mode::Liveness { heals_ms: HEALS_MS, broken: Vec::new() },
        ends_ms: 0,
        hosts: HOSTS,
        network: Network {
            delay_min_us: 50,
            delay_max_us: 2_000,
            loss_permille: 10,
            keepalive: true,
            bytes_per_ms: 100_000,
            ..Network::default()
        },
        disks: Disks {
            sync_min_us: 50,
            sync_max_us: 5_000,
            journal_bytes_max: 64_000,
            append_bytes_max: 1_048_576,
        },
        settings: Settings::default(),
        applications: vec![application],
        entries,
    };
    script.ends_ms = HEALS_MS + crate::oracle::bound_ms(&script);
    script
}
