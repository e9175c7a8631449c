//! A thousand swaps of two instances behind one gate, under load; then what takes long across
//! swaps; then the controls, which must fail.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::runtime::Runtime;

use super::{
    controls,
    gate::{Gate, Way},
    histogram::Histogram,
    host,
    instance::Instance,
    lasting,
    load::{Clients, LETTERS, Load, Seen},
    own_address,
};
use crate::bench::figures::{Report, Samples, Section, ms};

/// The names of the slots, in the order of [`LETTERS`].
pub(super) const SLOTS: [&str; 2] = ["blue", "green"];

/// How often the instance that has become empty is stopped, and started again.
const RESTART_EVERY: usize = 10;

/// How often traffic stands half and half for a moment, as with a canary.
const HALF_EVERY: usize = 8;

/// How often the gate itself is replaced, in the middle of the load.
const UPGRADES: usize = 3;

/// The parts that swaps and calm alternate in.
const ROUNDS: usize = 10;

/// Of a drain, in milliseconds: requests, and what lasts.
const DRAIN: [u32; 2] = [30_000, 30_000];

/// How long a process that was taken over from may take to end, with clients that ask all the time.
const END_WITHIN: Duration = Duration::from_secs(30);

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Amount {
    pub(in crate::bench) swaps: usize,
    pub(in crate::bench) requests: u64,
    /// Swaps while WebSockets and long transfers are under way.
    pub(in crate::bench) lasting: usize,
}

/// Two instances behind one gate.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) gate: Gate,
    pub(super) instances: [Instance; 2],
    pub(super) active: usize,
    drain: [u32; 2],
}

impl Stage {
    pub(super) async fn set(drain: [u32; 2]) -> Result<Self> {
        let instances = [
            Instance::start(own_address()?, LETTERS[0]).await?,
            Instance::start(own_address()?, LETTERS[1]).await?,
        ];
        let mut stage = Self { gate: Gate::start().await?, instances, active: 0, drain };
        let ways = stage.ways([1_000, 0], None);
        stage.gate.follow(&ways).await?;
        super::listens("the gate", stage.gate.listen).await?;
        Ok(stage)
    }

    /// Both instances with these weights; that at `drains` drains.
    fn ways(&self, weights: [u16; 2], drains: Option<usize>) -> [Way<'static>; 2] {
        [0, 1].map(|at| {
            let drain = (drains == Some(at)).then_some(self.drain);
            (SLOTS[at], self.instances[at].address, weights[at], drain)
        })
    }

    /// Stands half and half.
    pub(super) async fn halve(&mut self) -> Result<()> {
        let ways = self.ways([500, 500], None);
        self.gate.follow(&ways).await
    }

    /// Moves everything new to the other instance, while the one before drains.
    pub(super) async fn switch(&mut self) -> Result<()> {
        let old = self.active;
        self.active = 1 - old;
        let weights = if old == 0 { [0, 1_000] } else { [1_000, 0] };
        let ways = self.ways(weights, Some(old));
        self.gate.follow(&ways).await
    }

    /// Waits until the one that is not active has nothing and can get nothing.
    pub(super) async fn old_is_empty(&mut self) -> Result<()> {
        self.gate.is_empty(SLOTS[1 - self.active]).await
    }

    /// Stops the one that is not active, and starts it again.
    pub(super) async fn restart_old(&mut self) -> Result<()> {
        self.instances[1 - self.active].restart().await
    }
}

/// How long parts of a swap took, in milliseconds.
#[derive(Debug, Default)]
struct Taken {
    command: Samples,
    until_empty: Samples,
}

/// Measures all three, and fails when a request did, or when no control does.
pub(in crate::bench) fn measure(
    amount: Amount,
    runtime: &Runtime,
    report: &mut Report,
    progress: &mut impl FnMut(&str),
) -> Result<()> {
    let Amount { swaps, requests, lasting } = amount;
    progress(&format!("{swaps} swaps behind the gate, within {requests} requests"));
    runtime.block_on(many(swaps, requests, report))?;
    progress(&format!("{lasting} swaps with WebSockets and transfers under way"));
    runtime.block_on(lasting::measure(lasting, report))?;
    progress(&format!("{lasting} deploys to a host whose agent is killed and upgraded"));
    host::measure(lasting, runtime, report)?;
    runtime.block_on(controls::measure(report, progress))
}

async fn many(swaps: usize, requests: u64, report: &mut Report) -> Result<()> {
    let mut stage = Stage::set(DRAIN).await?;
    // Calm at even blocks, swaps at odd ones.
    let load = Load::start(stage.gate.listen, Clients::MANY, 2 * ROUNDS + 1, true);
    let mut taken = Taken::default();
    let (begun, mut done) = (Instant::now(), 0);
    // A quarter of the requests without swaps.
    let calm = requests / 4 / (ROUNDS as u64 + 1);
    let between = (requests - requests / 4) / swaps as u64;
    load.goes_on(calm).await?;
    for round in 0..ROUNDS {
        load.seen.begin_block(2 * round + 1);
        while done < swaps * (round + 1) / ROUNDS {
            done += 1;
            swap(&mut stage, &load, done, &mut taken).await?;
            if (1..=UPGRADES).any(|nth| done == swaps * nth / (UPGRADES + 1)) {
                stage.gate.upgrade().await?;
            }
            load.goes_on(between).await?;
        }
        load.seen.begin_block(2 * round + 2);
        load.goes_on(calm).await?;
    }
    let (ended, took) = (load.seen.answered(), begun.elapsed());
    let is_alone = stage.gate.is_alone(END_WITHIN).await?;
    let seen = load.end().await;

    let mut section = Section::new(format!(
        "6. Swaps: {swaps} behind one gate, with {UPGRADES} upgrades of the gate, under load"
    ));
    tell(&mut section, &seen, &taken);
    section.figure(
        "requests per second",
        ended as f64 / took.as_secs_f64(),
        "per s",
        format!("{:?}; client, gate and instances share the cores", Clients::MANY),
    );
    section.note(format!(
        "the instance that was left was stopped and started at every {RESTART_EVERY}th swap; \
         every {HALF_EVERY}th stood half and half first"
    ));
    note(&mut section);
    report.add(section);
    ensure!(is_alone, "a gate that was taken over from did not end within {END_WITHIN:?}");
    judge(&seen)
}

async fn swap(stage: &mut Stage, load: &Load, number: usize, taken: &mut Taken) -> Result<()> {
    load.seen.swap_begins();
    if number.is_multiple_of(HALF_EVERY) {
        stage.halve().await?;
    }
    let begun = Instant::now();
    stage.switch().await?;
    taken.command.push(ms(begun.elapsed()));
    load.seen.swap_is_done();
    stage.old_is_empty().await?;
    taken.until_empty.push(ms(begun.elapsed()));
    if number.is_multiple_of(RESTART_EVERY) {
        stage.restart_old().await?;
    }
    Ok(())
}

fn tell(section: &mut Section, seen: &Seen, taken: &Taken) {
    section.figure("requests answered", seen.answered() as f64, "", "");
    section.figure("requests failed", seen.failed() as f64, "", "must be 0");
    let (calm, swapping) = (Histogram::new(), Histogram::new());
    for block in 0..=2 * ROUNDS {
        let into = if block % 2 == 0 { &calm } else { &swapping };
        into.merge(seen.block(block));
    }
    for (name, permyriad) in [("p50", 5_000), ("p99", 9_900), ("p99.9", 9_990)] {
        // Against the calm before it and after it, so that a change of foreign load cancels out.
        let ratios: Samples = (0..ROUNDS)
            .map(|round| {
                let at = |block: usize| seen.block(block).at(permyriad);
                at(2 * round + 1) * 2.0 / (at(2 * round) + at(2 * round + 2))
            })
            .collect();
        section.figure(
            format!("latency {name}, swaps"),
            swapping.at(permyriad),
            "ms",
            format!(
                "{:.2} without: {:.2} added; {:.2}x, median of {ROUNDS} rounds ({})",
                calm.at(permyriad),
                swapping.at(permyriad) - calm.at(permyriad),
                ratios.median(),
                ratios.range(),
            ),
        );
    }
    section.figure(
        "latency p99, requests across a cut",
        seen.across.at(9_900),
        "ms",
        format!("{} requests were under way while a route changed", seen.across.count()),
    );
    section.figure(
        "program to its acknowledgement, p50",
        taken.command.median(),
        "ms",
        format!("p99 {:.2}; routed and on disk", taken.command.at(990)),
    );
    section.figure(
        "program to empty, p50",
        taken.until_empty.median(),
        "ms",
        format!("p99 {:.2}", taken.until_empty.at(990)),
    );
}

/// Fails when a request did. What the first ones were is said.
pub(super) fn judge(seen: &Seen) -> Result<()> {
    let remembered = seen.remembered().join("\n  ");
    ensure!(
        seen.failed() == 0,
        "{} of {} requests failed ({}):\n  {remembered}",
        seen.failed(),
        seen.answered() + seen.failed(),
        seen.why()
    );
    Ok(())
}

/// Says what a failed request is.
pub(super) fn note(section: &mut Section) {
    section.note(
        "a request fails by a refusal, a reset, an EOF, a time-out of 10 s, another status than 200, \
         a short body, or an answer of the instance that was left before it was sent",
    );
}
