//! The benchmarks: what an agent costs, how fast a fleet changes, how fast the coordinator decides
//! and stores, each beside a peer or a floor that is measured in the same run.
//!
//! What each figure means is in docs/benchmarks.md.

mod ansible;
mod deploys;
mod disk;
mod etcd;
mod figures;
mod footprint;
mod latency;
mod machine;
mod proc;
mod session;
mod store;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Runtime};

pub use figures::Report;

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
}

impl Sizes {
    /// Reads them from the environment: `BENCH_IDLE_SECS`, `BENCH_AGENTS`, `BENCH_PAIRS`,
    /// `BENCH_SUBMITS`, `BENCH_SLICE_SECS`.
    ///
    /// # Errors
    ///
    /// When one is no number.
    pub fn from_environment() -> Result<Self> {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name} must be a whole number")),
            Err(_) => Ok(default),
        };
        let agents = number("BENCH_AGENTS", 20)?;
        Ok(Self {
            idle: Duration::from_secs(number("BENCH_IDLE_SECS", 60)?),
            agents: u8::try_from(agents)
                .ok()
                .filter(|agents| (1..=100).contains(agents))
                .context("BENCH_AGENTS must be 1 to 100")?,
            pairs: usize::try_from(number("BENCH_PAIRS", 3)?)?.max(1),
            submits: usize::try_from(number("BENCH_SUBMITS", 300)?)?.max(1),
            slice: Duration::from_secs(number("BENCH_SLICE_SECS", 2)?.max(1)),
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
}

impl Part {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 3] = [Self::Fleet, Self::Latency, Self::Store];

    /// Returns the word by which it is chosen.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Latency => "latency",
            Self::Store => "store",
        }
    }
}

/// Runs `parts`, and calls `progress` with a line before each step.
///
/// # Errors
///
/// When a side does not do what it is measured at, or a step takes too long.
pub fn run(sizes: &Sizes, parts: &[Part], mut progress: impl FnMut(&str)) -> Result<Report> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut report = Report::new(machine::describe()?);
    let begun = (Instant::now(), machine::Busy::read()?);
    for part in Part::ALL.into_iter().filter(|part| parts.contains(part)) {
        match part {
            Part::Fleet => fleet(sizes, &mut report, &mut progress)?,
            Part::Latency => latencies(sizes, &runtime, &mut report, &mut progress)?,
            Part::Store => {
                progress("the event store, beside etcd");
                report.add(store::measure(sizes, &runtime)?);
            }
        }
    }
    report.close(begun.0.elapsed(), machine::load()?, begun.1.foreign_since()?);
    Ok(report)
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
