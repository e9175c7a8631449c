//! How fast a fleet changes: a rollout and an Ansible play that do the same, in turn.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Result, ensure};

use super::{
    ansible::{self, Ansible},
    figures::{Samples, Section},
    proc,
};
use crate::live::{Cluster, Sample, run};

/// How large the application is, as it is unpacked. Most of it cannot be compressed.
const APPLICATION_BYTES: usize = 1024 * 1024;

/// The port of the applications that Cutover starts.
pub(super) const PORT: u16 = 8080;

/// How the hosts are taken, for both sides: a name, what `cutover` is told, what Ansible is told.
const WAYS: [(&str, &[&str], &str); 2] = [
    ("all at once", &["--strategy", "all_at_once"], "100%"),
    ("in 5 batches", &["--strategy", "rolling", "--batch", "20%"], "20%"),
];

/// What one side took.
#[derive(Default)]
pub(super) struct Side {
    pub(super) seconds: Samples,
    pub(super) cpu: Samples,
}

/// Both sides, one way.
#[derive(Default)]
struct Compared {
    cutover: Side,
    push: Samples,
    ansible: Side,
    /// What the fleet used while Ansible played.
    fleet: Samples,
}

/// A fleet and as many hosts of Ansible's.
pub(super) struct Bench<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) ansible: Option<Ansible>,
    releases: usize,
}

/// One version, as either side takes it.
pub(super) struct Release {
    pub(super) version: String,
    pub(super) dir: PathBuf,
    pub(super) archive: PathBuf,
}

/// Deploys to `cluster` and to as many hosts of Ansible's, `pairs` times each way.
pub(super) fn measure(
    cluster: &Cluster,
    pairs: usize,
    progress: &mut impl FnMut(&str),
) -> Result<Section> {
    let agents = cluster.agents().len();
    let mut section = Section::new(format!(
        "2. From deploy to all healthy: {agents} hosts on this machine, an application of 1 MiB"
    ));
    let mut bench = Bench::of(cluster)?;
    let first = bench.release()?;
    if let Some(ansible) = &bench.ansible {
        ansible.warm_up(&first.archive, &first.version)?;
    }
    bench.name_the_peer(&mut section)?;
    for (name, flags, batch) in WAYS {
        let mut compared = Compared::default();
        for pair in 1..=pairs {
            progress(&format!("deploys {name}, pair {pair} of {pairs}"));
            bench.pair(flags, batch, &mut compared)?;
        }
        compared.tell(name, bench.ansible.is_some(), &mut section);
    }
    section.note("healthy_for 0s, one passing probe, probes every 100 ms; Ansible: mkdir, copy, unarchive, symlink, stop and start, uri until the new version answers");
    section.note("a pair's ratio is of wall times; each release is a new one to both sides; after each run every host is asked and serves it");
    Ok(section)
}

impl<'a> Bench<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Result<Self> {
        let addresses: Vec<IpAddr> = cluster.agents().iter().map(|agent| agent.address).collect();
        let ansible = Ansible::find()
            .map(|program| Ansible::new(program, cluster.folder().join("ansible"), &addresses))
            .transpose()?;
        Ok(Self { cluster, ansible, releases: 0 })
    }

    /// Notes who the peer is, or that there is none.
    pub(super) fn name_the_peer(&self, section: &mut Section) -> Result<()> {
        section.note(match &self.ansible {
            Some(ansible) => {
                format!("{} over local connections, 20 forks, pipelining", ansible.version()?)
            }
            None => "SKIPPED: no Ansible in target/bench-venv (tests/setup.sh bench makes it)"
                .to_owned(),
        });
        Ok(())
    }

    fn pair(&mut self, flags: &[&str], batch: &str, compared: &mut Compared) -> Result<()> {
        let release = self.release()?;
        let cpu = proc::descendants_cpu_seconds()?;
        let begun = Instant::now();
        self.cluster.push(&release.dir, &release.version);
        compared.push.push(begun.elapsed().as_secs_f64());
        self.deploy(&release.version, flags);
        compared.cutover.seconds.push(begun.elapsed().as_secs_f64());
        compared.cutover.cpu.push(proc::descendants_cpu_seconds()? - cpu);
        self.all_serve(PORT, &release.version)?;

        let Some(ansible) = &self.ansible else { return Ok(()) };
        let (all, cpu) = (proc::descendants_cpu_seconds()?, proc::waited_cpu_seconds()?);
        let begun = Instant::now();
        ansible.play(&release.archive, &release.version, batch)?;
        compared.ansible.seconds.push(begun.elapsed().as_secs_f64());
        // Ansible waits for all that it starts, but for the servers.
        let used = proc::waited_cpu_seconds()? - cpu;
        compared.ansible.cpu.push(used);
        compared.fleet.push(proc::descendants_cpu_seconds()? - all - used);
        self.all_serve(ansible::PORT, &release.version)
    }

    pub(super) fn deploy(&self, version: &str, flags: &[&str]) {
        let release = format!("web@{version}");
        let mut args = vec!["deploy", &release, "--to", "test", "--healthy-for", "0s"];
        args.extend(["--healthy-within", "30s", "--progress-within", "60s"]);
        args.extend(flags);
        self.cluster.cutover(&args).done();
    }

    /// Demands that every host serves `version`.
    pub(super) fn all_serve(&self, port: u16, version: &str) -> Result<()> {
        for index in 0..self.cluster.agents().len() {
            let answer = self.cluster.get(index, port, "/").unwrap_or_default();
            let serves = answer.contains(&format!("web {version} "));
            ensure!(serves, "host {index} port {port} does not serve {version}: {answer:?}");
        }
        Ok(())
    }

    /// Makes a release that neither side has seen.
    pub(super) fn release(&mut self) -> Result<Release> {
        self.releases += 1;
        let version = format!("{}.0.0", self.releases);
        let program = &self.cluster.programs().sample;
        let program_bytes = usize::try_from(fs::metadata(program)?.len())?;
        let ballast = APPLICATION_BYTES.saturating_sub(program_bytes);
        let sample = Sample { toml: "passes = 1\n", ballast, ..Sample::good(&version) };
        let dir = sample.write(self.cluster.folder(), program);
        make_unique(&dir.join("ballast"), self.releases)?;
        let archive = self.cluster.folder().join(format!("{version}.tar.gz"));
        run(Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&dir).arg(".")).done();
        Ok(Release { version, dir, archive })
    }
}

/// Changes bytes all over the file, so that no release is like another.
fn make_unique(path: &Path, number: usize) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let number = number.to_le_bytes();
    for chunk in bytes.chunks_mut(64) {
        for (byte, other) in chunk.iter_mut().zip(number) {
            *byte ^= other;
        }
    }
    Ok(fs::write(path, bytes)?)
}

impl Compared {
    fn tell(&self, name: &str, has_peer: bool, section: &mut Section) {
        let Self { cutover, push, ansible, fleet } = self;
        let of = |samples: &Samples| samples.range();
        let remark = format!("{}; of it the push {:.3}", of(&cutover.seconds), push.median());
        section.figure(
            format!("Cutover, {name}, push and deploy"),
            cutover.seconds.median(),
            "s",
            remark,
        );
        if has_peer {
            let remark = of(&ansible.seconds);
            section.figure(format!("Ansible, {name}"), ansible.seconds.median(), "s", remark);
            let ratios = cutover.seconds.multiples_in(&ansible.seconds);
            let remark = format!("{}; median of {} pairs", of(&ratios), ratios.len());
            section.figure("  Ansible / Cutover", ratios.median(), "x", remark);
        }
        let remark = format!("{}; all processes", of(&cutover.cpu));
        section.figure(format!("Cutover, {name}, cpu"), cutover.cpu.median(), "cpu s", remark);
        if has_peer {
            let remark =
                format!("{}; and the idle fleet {:.2} meanwhile", of(&ansible.cpu), fleet.median());
            section.figure(format!("Ansible, {name}, cpu"), ansible.cpu.median(), "cpu s", remark);
            let ratios = cutover.cpu.multiples_in(&ansible.cpu);
            section.figure("  Ansible / Cutover", ratios.median(), "x", of(&ratios));
        }
    }
}
