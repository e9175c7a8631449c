//! The benchmarks: what an agent costs, how fast a fleet changes, how fast the coordinator decides
//! and stores, what a swap does to clients, what the gate costs: each beside a peer or a floor that
//! is measured in the same run; and what a strict cutover makes clients wait for.
//!
//! What each figure means is in docs/benchmarks.md.

mod ansible;
mod cutover;
mod deploys;
mod disk;
mod etcd;
mod figures;
mod footprint;
mod latency;
mod machine;
mod proc;
mod reaction;
mod rolling;
mod session;
mod store;
mod traffic;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Runtime};

pub use figures::Report;
pub use traffic::instance;

use crate::live::Cluster;

/// How much of everything is measured. The defaults are those of `make bench`.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// How long the fleet is left alone.
    pub idle: Duration,
    /// How many agents the fleet has.
    pub agents: u8,
    /// How many times each side of a comparison runs.
    pub pairs: usize,
    /// How many deploys are submitted for the latencies.
    pub submits: usize,
    /// How long each side of the stores' comparison runs at a time.
    pub slice: Duration,
    /// How many swaps there are under load.
    pub swaps: usize,
    /// Within how many requests.
    pub swap_requests: u64,
    /// How many swaps there are while WebSockets and long transfers are under way.
    pub lasting_swaps: usize,
    /// How many rounds the gate and its peers take turns for.
    pub rounds: usize,
    /// How many idle connections they hold.
    pub connections: usize,
    /// How many times each fleet is cut over and rolled back.
    pub cutovers: usize,
    /// How many times a host turns bad.
    pub reactions: usize,
}

impl Sizes {
    /// Reads them from the environment: `BENCH_IDLE_SECS`, `BENCH_AGENTS`, `BENCH_PAIRS`,
    /// `BENCH_SUBMITS`, `BENCH_SLICE_SECS`, `BENCH_SWAPS`, `BENCH_SWAP_REQUESTS`,
    /// `BENCH_LASTING_SWAPS`, `BENCH_ROUNDS`, `BENCH_CONNECTIONS`, `BENCH_CUTOVERS`, `BENCH_REACTIONS`.
    /// What is not there is as for `make bench`, or less if this `is_quick`, for trying.
    ///
    /// # Errors
    ///
    /// When one is no number.
    pub fn from_environment(is_quick: bool) -> Result<Self> {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name} must be a whole number")),
            Err(_) => Ok(default),
        };
        let or_quick = |name: &str, default: u64, quick: u64| {
            number(name, if is_quick { quick } else { default })
        };
        let count = |number: u64| usize::try_from(number).map(|number| number.max(1));
        let agents = or_quick("BENCH_AGENTS", 20, 5)?;
        Ok(Self {
            idle: Duration::from_secs(or_quick("BENCH_IDLE_SECS", 60, 5)?),
            agents: u8::try_from(agents)
                .ok()
                .filter(|agents| (1..=100).contains(agents))
                .context("BENCH_AGENTS must be 1 to 100")?,
            pairs: count(or_quick("BENCH_PAIRS", 3, 1)?)?,
            submits: count(or_quick("BENCH_SUBMITS", 300, 30)?)?,
            slice: Duration::from_secs(number("BENCH_SLICE_SECS", 2)?.max(1)),
            // Ten rounds, and an upgrade of the gate in each quarter.
            swaps: count(or_quick("BENCH_SWAPS", 1_000, 40)?)?.max(10),
            swap_requests: or_quick("BENCH_SWAP_REQUESTS", 3_000_000, 60_000)?,
            lasting_swaps: count(or_quick("BENCH_LASTING_SWAPS", 12, 3)?)?,
            rounds: count(or_quick("BENCH_ROUNDS", 7, 2)?)?,
            connections: count(or_quick("BENCH_CONNECTIONS", 10_000, 1_000)?)?,
            cutovers: count(or_quick("BENCH_CUTOVERS", 5, 1)?)?,
            reactions: count(or_quick("BENCH_REACTIONS", 30, 2)?)?,
        })
    }
}

/// One part of the benchmarks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// A fleet: what it costs, and how fast it changes, beside Ansible.
    Fleet,
    /// The coordinator's latencies.
    Latency,
    /// The event store, beside etcd.
    Store,
    /// Swaps under load, and the controls that fail.
    Swaps,
    /// The gate, beside nginx and HAProxy.
    Gate,
    /// Strict cutovers and rollbacks of fleets.
    Cutover,
    /// Rolling rollouts and rollbacks of a fleet, beside Ansible.
    Rolling,
    /// How soon a rollout goes back for a host that turns bad.
    Reaction,
}

impl Part {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 8] = [
        Self::Fleet,
        Self::Latency,
        Self::Store,
        Self::Swaps,
        Self::Gate,
        Self::Cutover,
        Self::Rolling,
        Self::Reaction,
    ];

    /// Returns the word by which it is chosen.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Latency => "latency",
            Self::Store => "store",
            Self::Swaps => "swaps",
            Self::Gate => "gate",
            Self::Cutover => "cutover",
            Self::Rolling => "rolling",
            Self::Reaction => "reaction",
        }
    }
}

/// Runs `parts`, and calls `progress` with a line before each step. Beside what was measured,
/// returns why it was not all: when a side does not do what it is measured at, or a step takes too
/// long.
///
/// # Errors
///
/// When nothing can be measured here.
pub fn run(
    sizes: &Sizes,
    parts: &[Part],
    mut progress: impl FnMut(&str),
) -> Result<(Report, Result<()>)> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut report = Report::new(machine::describe()?);
    let begun = (Instant::now(), machine::Busy::read()?);
    let mut parts = Part::ALL.into_iter().filter(|part| parts.contains(part));
    let done =
        parts.try_for_each(|part| measure(part, sizes, &runtime, &mut report, &mut progress));
    report.close(begun.0.elapsed(), machine::load()?, begun.1.foreign_since()?);
    Ok((report, done))
}

fn measure(
    part: Part,
    sizes: &Sizes,
    runtime: &Runtime,
    report: &mut Report,
    progress: &mut impl FnMut(&str),
) -> Result<()> {
    match part {
        Part::Fleet => fleet(sizes, report, progress)?,
        Part::Latency => latencies(sizes, runtime, report, progress)?,
        Part::Store => {
            progress("the event store, beside etcd");
            report.add(store::measure(sizes, runtime)?);
        }
        Part::Swaps => {
            let amount = traffic::swaps::Amount {
                swaps: sizes.swaps,
                requests: sizes.swap_requests,
                lasting: sizes.lasting_swaps,
            };
            traffic::swaps::measure(amount, runtime, report, progress)?;
        }
        Part::Gate => traffic::versus::measure(sizes, runtime, report, progress)?,
        Part::Cutover => cutover::measure(sizes.cutovers, report, progress)?,
        Part::Rolling => {
            progress(&format!("a fleet of {} agents comes up", sizes.agents));
            let cluster = Cluster::start(sizes.agents);
            report.add(rolling::measure(&cluster, sizes.pairs, progress)?);
        }
        Part::Reaction => reaction::measure(sizes.reactions, report, progress)?,
    }
    Ok(())
}

fn fleet(sizes: &Sizes, report: &mut Report, progress: &mut impl FnMut(&str)) -> Result<()> {
    progress(&format!("a fleet of {} agents comes up", sizes.agents));
    let cluster = Cluster::start(sizes.agents);
    progress(&format!("the fleet is left alone for {:?}", sizes.idle));
    report.add(footprint::measure(&cluster, sizes.idle)?);
    report.add(deploys::measure(&cluster, sizes.pairs, progress)?);
    Ok(())
}

fn latencies(
    sizes: &Sizes,
    runtime: &Runtime,
    report: &mut Report,
    progress: &mut impl FnMut(&str),
) -> Result<()> {
    progress(&format!("{} deploys are submitted", sizes.submits));
    let cluster = Cluster::start_coordinator();
    report.add(latency::measure(&cluster, sizes.submits, runtime)?);
    Ok(())
}
