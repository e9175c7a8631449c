//! How fast a fleet is taken from one version to the next a few hosts at a time, and back: a
//! rollout and a rollback, and Ansible plays that do the same, in turn.

use std::time::Instant;

use anyhow::Result;

use super::{
    ansible,
    deploys::{Bench, PORT, Release, Side},
    figures::Section,
    proc,
};
use crate::live::Cluster;

/// How many hosts are taken at a time, for both sides.
const BATCH: &str = "20%";

/// One way of both sides.
#[derive(Default)]
struct Compared {
    cutover: Side,
    ansible: Side,
}

/// Takes `cluster` and as many hosts of Ansible's from one version to another and back, `pairs`
/// times.
///
/// # Errors
///
/// When a side does not bring every host to the version that it is measured at.
pub(super) fn measure(
    cluster: &Cluster,
    pairs: usize,
    progress: &mut impl FnMut(&str),
) -> Result<Section> {
    let mut section = Section::new(format!(
        "12. A rolling rollout and a rollback: {} hosts on this machine, {BATCH} at a time",
        cluster.agents().len()
    ));
    let mut bench = Bench::of(cluster)?;
    bench.name_the_peer(&mut section)?;
    let old = bench.release()?;
    cluster.push(&old.dir, &old.version);
    bench.deploy(&old.version, &["--strategy", "all_at_once"]);
    if let Some(ansible) = &bench.ansible {
        ansible.play(&old.archive, &old.version, "100%")?;
        ansible.play_back(&old.version, "100%")?;
    }
    let (mut there, mut back) = (Compared::default(), Compared::default());
    for pair in 1..=pairs {
        progress(&format!("rolling rollouts and rollbacks, pair {pair} of {pairs}"));
        let new = bench.release()?;
        roll(&bench, &old, &new, &mut there.cutover, &mut back.cutover)?;
        play(&bench, &old, &new, &mut there.ansible, &mut back.ansible)?;
    }
    there.tell("rollout", bench.ansible.is_some(), &mut section);
    back.tell("rollback", bench.ansible.is_some(), &mut section);
    section.note("a rollout brings a version that neither side has seen; a rollback goes to one that is on every host's disk");
    section.note("Cutover: healthy_for 0s, one passing probe, probes every 100 ms, the old instance serves meanwhile; Ansible: stop, symlink, start, uri until the version answers, and before a rollout mkdir, copy, unarchive");
    Ok(section)
}

/// Measures `what`, whose cpu seconds `used` counts.
fn timed(
    side: &mut Side,
    used: fn() -> Result<f64>,
    what: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (before, begun) = (used()?, Instant::now());
    what()?;
    side.seconds.push(begun.elapsed().as_secs_f64());
    side.cpu.push(used()? - before);
    Ok(())
}

fn roll(
    bench: &Bench<'_>,
    old: &Release,
    new: &Release,
    there: &mut Side,
    back: &mut Side,
) -> Result<()> {
    let (cluster, used) = (bench.cluster, proc::descendants_cpu_seconds);
    timed(there, used, || {
        cluster.push(&new.dir, &new.version);
        bench.deploy(&new.version, &["--strategy", "rolling", "--batch", BATCH]);
        Ok(())
    })?;
    bench.all_serve(PORT, &new.version)?;
    timed(back, used, || {
        cluster.cutover(&["rollback", "web"]).done();
        cluster.cutover(&["watch", "web"]).done();
        Ok(())
    })?;
    bench.all_serve(PORT, &old.version)
}

fn play(
    bench: &Bench<'_>,
    old: &Release,
    new: &Release,
    there: &mut Side,
    back: &mut Side,
) -> Result<()> {
    let Some(ansible) = &bench.ansible else { return Ok(()) };
    // Ansible waits for all that it starts, but for the servers. The idle fleet is not counted.
    let used = proc::waited_cpu_seconds;
    timed(there, used, || ansible.play(&new.archive, &new.version, BATCH))?;
    bench.all_serve(ansible::PORT, &new.version)?;
    timed(back, used, || ansible.play_back(&old.version, BATCH))?;
    bench.all_serve(ansible::PORT, &old.version)
}

impl Compared {
    fn tell(&self, name: &str, has_peer: bool, section: &mut Section) {
        let Self { cutover, ansible } = self;
        for (unit, cutover, ansible) in
            [("s", &cutover.seconds, &ansible.seconds), ("cpu s", &cutover.cpu, &ansible.cpu)]
        {
            section.figure(format!("Cutover, {name}"), cutover.median(), unit, cutover.range());
            if has_peer {
                section.figure(format!("Ansible, {name}"), ansible.median(), unit, ansible.range());
                let ratios = cutover.multiples_in(ansible);
                let remark = format!("{}; median of {} pairs", ratios.range(), ratios.len());
                section.figure("  Ansible / Cutover", ratios.median(), "x", remark);
            }
        }
    }
}
