//! How soon a rollout goes back when a host turns bad that it has updated: from the moment at which
//! the instance's health endpoint says so to the event in the coordinator's log.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use cutover_common::protocol::HEARTBEAT_EVERY;

use super::figures::{Report, Samples, Section, ms};
use crate::live::{Fleet, Sample};

/// How many hosts there are; one is updated, and watched.
const HOSTS: u8 = 3;

/// How many probes in a row must fail, and how often there is one (`health.every` of all samples).
const FAILURES: u8 = 3;
const EVERY: Duration = Duration::from_millis(100);

/// Lets an updated host turn bad, `rounds` times.
///
/// # Errors
///
/// When the rollout does not go back for that host.
pub(super) fn measure(
    rounds: usize,
    report: &mut Report,
    progress: &mut impl FnMut(&str),
) -> Result<()> {
    progress(&format!("an updated host turns bad, {rounds} times"));
    let fleet = Fleet::start(HOSTS);
    let well = fleet.cluster.folder().join("well");
    let args = ["--healthy-when", &well.display().to_string()];
    fleet.push(Sample { args: &args, failures: FAILURES, ..Sample::good("2-moody") });
    let (mut all, mut own) = (Samples::default(), Samples::default());
    // Those that fail before the last one cannot be saved: the settings ask for them.
    let settled = EVERY * u32::from(FAILURES - 1);
    for _ in 0..rounds {
        fs::write(&well, "").context("the disk takes a file")?;
        fleet.deploy("2-moody", &["--batch", "1", "--soak", "1h", "--no-watch"]).done();
        fleet.until_why_says("Watching the batch");
        let bad = SystemTime::now().duration_since(UNIX_EPOCH).context("it is after 1970")?;
        fs::remove_file(&well).context("the instance was well")?;
        fleet.until_over_as("rolled_back");
        let events = fleet.events();
        let back = events.iter().find(|it| it.text.starts_with("going back on 1 hosts: web-1"));
        let back = back.with_context(|| format!("it did not go back for web-1: {events:?}"))?;
        let took = back.at.checked_sub(bad).context("it went back before the host was bad")?;
        all.push(ms(took));
        // A probe that comes late is no reason for the next one to be: they may be closer together.
        own.push(ms(took.saturating_sub(settled)));
    }
    tell(&all, &own, report);
    Ok(())
}

fn tell(all: &Samples, own: &Samples, report: &mut Report) {
    let mut section = Section::new(format!(
        "13. An updated host turns bad: {FAILURES} probes, one each {} ms, one heartbeat each {} s",
        EVERY.as_millis(),
        HEARTBEAT_EVERY.as_secs()
    ));
    for (permille, of) in [(500, "p50"), (1_000, "max")] {
        let remark = format!("of {}", all.len());
        section.figure(format!("bad to the way back, {of}"), all.at(permille), "ms", remark);
        let remark = format!("a heartbeat is {:.0} ms", ms(HEARTBEAT_EVERY));
        let figure = format!("  without the probes that must fail first, {of}");
        section.figure(figure, own.at(permille), "ms", remark);
    }
    section.note("what is left has in it the wait for the first probe, which is up to one interval, that probe and the last one, the agent's journal, the report, and the coordinator's log");
    report.add(section);
}
