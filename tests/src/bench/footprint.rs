//! What a fleet costs while nothing happens: memory and cpu of agents, shims and the coordinator.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result};

use super::{figures::Samples, figures::Section, proc};
use crate::live::{Cluster, Sample, wait_for};

/// After the deploy, so that what it left to do is not counted as idle: two heartbeats.
const SETTLE: Duration = Duration::from_secs(10);

/// How long each agent may take to have its shim.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// Deploys one application to every agent of `cluster`, and leaves the fleet alone for `idle`.
pub(super) fn measure(cluster: &Cluster, idle: Duration) -> Result<Section> {
    let agents = cluster.agents().len();
    deploy(cluster)?;
    let shims = wait_for("a shim for each agent", UP_WITHIN, || {
        proc::descendants_called_with("shim").ok().filter(|found| found.len() == agents)
    });
    let coordinator = cluster.coordinator_pid().context("the coordinator runs")?;
    let pids: Vec<u32> = (0..agents)
        .map(|index| cluster.agent_pid(index))
        .collect::<Option<_>>()
        .context("they run")?;
    thread::sleep(SETTLE);

    let cpu = |pids: &[u32]| -> Result<f64> {
        pids.iter().map(|pid| proc::cpu_seconds(*pid)).sum::<Result<f64>>()
    };
    let before = (cpu(&pids)?, cpu(&[coordinator])?, cpu(&shims)?);
    thread::sleep(idle);
    let percent =
        |used: f64, processes: usize| used / idle.as_secs_f64() / processes as f64 * 100.0;
    let of_agent = percent(cpu(&pids)? - before.0, agents);
    let of_coordinator = percent(cpu(&[coordinator])? - before.1, 1);
    let of_shim = percent(cpu(&shims)? - before.2, agents);

    let mut section = Section::new(format!(
        "1. Footprint: {agents} agents with one application each, left alone for {} s",
        idle.as_secs()
    ));
    let (all, anonymous) = resident(&pids)?;
    let remark = |samples: &Samples| format!("{} over {} agents", samples.range(), samples.len());
    section.figure(
        "agent, resident memory",
        all.median(),
        "MiB",
        format!("{}; aim < 20", remark(&all)),
    );
    section.figure("  of it anonymous", anonymous.median(), "MiB", remark(&anonymous));
    section.figure("agent, cpu of one core", of_agent, "%", "mean of all agents; aim < 0.1");
    let (all, anonymous) = resident(&shims)?;
    section.figure("shim, resident memory", all.median(), "MiB", remark(&all));
    section.figure("  of it anonymous", anonymous.median(), "MiB", remark(&anonymous));
    section.figure("shim, cpu of one core", of_shim, "%", "mean");
    let (all, anonymous) = resident(&[coordinator])?;
    section.figure("coordinator, resident memory", all.median(), "MiB", "");
    section.figure("  of it anonymous", anonymous.median(), "MiB", "");
    section.figure("coordinator, cpu of one core", of_coordinator, "%", "");
    section.note(
        "each agent asks its application /healthz every 2 s (the default) and beats every 5 s",
    );
    Ok(section)
}

fn resident(pids: &[u32]) -> Result<(Samples, Samples)> {
    let found = pids.iter().map(|pid| proc::resident(*pid)).collect::<Result<Vec<_>>>()?;
    let all = found.iter().map(|resident| resident.all).collect();
    Ok((all, found.iter().map(|resident| resident.anonymous).collect()))
}

fn deploy(cluster: &Cluster) -> Result<()> {
    let sample = Sample::good("idle");
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    // The harness asks ten times a second, for quick tests; what is measured is the default.
    let manifest = dir.join("cutover.toml");
    let text = fs::read_to_string(&manifest)?.replace("every = \"100ms\"\n", "");
    fs::write(&manifest, text.replace("timeout = \"100ms\"\n", ""))?;
    cluster.push(&dir, sample.version);
    let args = ["deploy", "web@idle", "--to", "test", "--strategy", "all_at_once"];
    let quick = ["--healthy-for", "1s", "--healthy-within", "30s", "--progress-within", "60s"];
    cluster.cutover(&[&args[..], &quick].concat()).done();
    Ok(())
}
