//! What a strict cutover makes clients wait for, by the number of gates, and how fast a fleet is
//! back on the old version.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};

use super::figures::{Report, Samples, Section, ms};
use crate::live::{Answer, Clients, Fleet, Heard, Served};

/// One of the clients waits for the last: something is under way at any moment.
const PAGES: [&str; 4] = ["GET /", "GET /", "GET /", "GET /slow?ms=20"];

/// How many gates are led over together, and what a round of it is called.
const FLEETS: [(u8, &str); 3] = [(1, "1 gate"), (5, "5 gates"), (20, "20 gates")];

/// Measures cutovers and rollbacks of each fleet, `rounds` times.
///
/// # Errors
///
/// When a cutover is none: a request failed, or the old version served one after the new one had.
pub(super) fn measure(
    rounds: usize,
    report: &mut Report,
    progress: &mut impl FnMut(&str),
) -> Result<()> {
    let mut section = Section::new("Strict cutovers");
    for (hosts, name) in FLEETS {
        progress(&format!("{rounds} cutovers and rollbacks of {name}"));
        let fleet = Fleet::start(hosts);
        let mut measured = Measured::default();
        for _ in 0..rounds {
            measured.round(&fleet)?;
        }
        measured.tell(name, &mut section);
    }
    section.note("clients ask each gate on 2 kept and 2 new connections, without a pause");
    report.add(section);
    Ok(())
}

#[derive(Debug, Default)]
struct Measured {
    calm: Samples,
    held: Samples,
    /// From the last answer of the old version anywhere to the first request of the new one.
    gaps: Samples,
    back: Samples,
    requests: usize,
}

impl Measured {
    fn round(&mut self, fleet: &Fleet) -> Result<()> {
        let begun = Served::now();
        let clients = Clients::press(&fleet.cluster, Fleet::PORT, &PAGES);
        let calm = clients.heard();
        fleet.begin_blue_green("2", &["--keep", "1h"]);
        fleet.until_why_says("Watching the batch");
        let heard = clients.heard();
        self.calm.extend(&calm.answers.iter().map(waited).collect());
        self.held.extend(&held(&heard));
        let gap = fleet.served().since(begun).strictly("1", "2");
        self.gaps.push(ms(gap.map_err(|overlap| anyhow!("not strict: {overlap:?}"))?));

        let told = Instant::now();
        fleet.tell("rollback");
        fleet.until_over_as("rolled_back");
        let back = clients.heard();
        self.back.push(ms(last_to_lead_back(&back).duration_since(told)));
        for heard in [&calm, &heard, &back] {
            let failed = heard.failures.first();
            ensure!(failed.is_none(), "a request failed: {failed:?}");
            self.requests += heard.answers.len();
        }
        Ok(())
    }

    fn tell(&self, name: &str, section: &mut Section) {
        let (calm, held) = (&self.calm, &self.held);
        for (permille, of) in [(500, "p50"), (990, "p99"), (1_000, "max")] {
            let figure = format!("{name}: in flight during a cutover, {of}");
            let remark = format!("calm {:.2} ms", calm.at(permille));
            section.figure(figure, held.at(permille), "ms", remark);
        }
        let gap = format!("{name}: neither version has a request");
        section.figure(gap, self.gaps.median(), "ms", self.gaps.range());
        let back = format!("{name}: `cutover rollback` to the last gate back");
        section.figure(back, self.back.median(), "ms", self.back.range());
        let (held, rounds) = (held.len(), self.gaps.len());
        section.note(format!(
            "{name}: no request of {} failed; {held} were in flight during {rounds} cutovers",
            self.requests
        ));
    }
}

fn waited(answer: &Answer) -> f64 {
    ms(answer.ended - answer.begun)
}

/// Returns how long those requests took that a cutover made wait: answered by the new version, and
/// begun before it had answered anybody at that gate.
fn held(heard: &Heard) -> Samples {
    let mut first: BTreeMap<SocketAddr, Instant> = BTreeMap::new();
    let new = || heard.answers.iter().filter(|it| it.version == "2");
    for answer in new() {
        let ended = first.entry(answer.host).or_insert(answer.ended);
        *ended = answer.ended.min(*ended);
    }
    new().filter(|it| it.begun < first[&it.host]).map(waited).collect()
}

/// Returns when each gate had been seen to lead to the old version again.
fn last_to_lead_back(heard: &Heard) -> Instant {
    let mut first: BTreeMap<SocketAddr, Instant> = BTreeMap::new();
    for answer in heard.answers.iter().filter(|it| it.version == "1") {
        let ended = first.entry(answer.host).or_insert(answer.ended);
        *ended = answer.ended.min(*ended);
    }
    first.into_values().max().unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600))
}
