//! What lasts, across deploys to a host: its agent is killed and upgraded and its gate is upgraded
//! in the middle of them, in turn.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, kill_process};
use tokio::runtime::Runtime;

use super::{
    lasting::{DRAIN, Lasting},
    load::LETTERS,
};
use crate::{
    bench::figures::{Report, Section},
    live::{Cluster, HeldSlot, release_dir, wait_for},
};

/// The port of the application.
const PORT: u16 = 8080;

/// How long a moment of a deploy may be away.
const SOON: Duration = Duration::from_secs(60);

/// What is done to a host while the old version drains.
const ADVERSITIES: [Adversity; 3] =
    [Adversity::AgentKilled, Adversity::AgentUpgraded, Adversity::GateUpgraded];

#[derive(Clone, Copy, Debug)]
enum Adversity {
    AgentKilled,
    AgentUpgraded,
    GateUpgraded,
}

/// Measures it.
pub(super) fn measure(deploys: usize, runtime: &Runtime, report: &mut Report) -> Result<()> {
    let mut cluster = Cluster::start(1);
    for letter in LETTERS {
        let dir = release(&cluster, letter)?;
        cluster.push(&dir, &version(letter));
    }
    deploy_first(&cluster, LETTERS[0]);
    let address = SocketAddr::new(cluster.agents()[0].address, PORT);
    let lasting = {
        let _runtime = runtime.enter();
        Lasting::start(address)
    };
    let mut done = [0; ADVERSITIES.len()];
    for number in 0..deploys {
        runtime.block_on(lasting.load.goes_on(500))?;
        let (old, new) = (number % 2, 1 - number % 2);
        lasting.swap_begins(old);
        let release = format!("web@{}", version(LETTERS[new]));
        let args = ["deploy", &release, "--to", "test", "--no-watch", "--healthy-for", "300ms"];
        cluster.cutover(&args).done();
        // The WebSockets keep the old version for as long as its limit.
        wait_for("the traffic to have moved while the old version drains", SOON, || {
            let leads = |slot: &HeldSlot| slot.has_traffic && slot.version == version(LETTERS[new]);
            let runs = |slot: &HeldSlot| slot.phase == "running";
            let slots = cluster.slots(0);
            (slots.iter().any(leads) && slots.len() == 2 && slots.iter().all(runs)).then_some(())
        });
        lasting.swap_is_done();
        let which = number % ADVERSITIES.len();
        ADVERSITIES[which].strike(&mut cluster)?;
        done[which] += 1;
        cluster.cutover(&["watch", "web"]).done();
        wait_for("the old version and the old gate to be gone", SOON, || {
            let is_old =
                |slot: &HeldSlot| slot.version == version(LETTERS[old]) && slot.phase == "running";
            let is_alone = !cluster.slots(0).iter().any(is_old);
            (is_alone && cluster.gates(0).len() == 1).then_some(())
        });
    }
    let [killed, upgraded, gates] = done;
    let section = Section::new(format!(
        "8. What lasts, across {deploys} deploys to a host: while the old version drains, its agent \
         is killed ({killed} times) or upgraded ({upgraded}) or its gate upgraded ({gates})"
    ));
    runtime.block_on(lasting.end(section, report))
}

impl Adversity {
    fn strike(self, cluster: &mut Cluster) -> Result<()> {
        match self {
            Self::AgentKilled => {
                cluster.kill_agent(0);
                cluster.start_agent(0);
            }
            Self::AgentUpgraded => {
                cluster.stop_agent(0);
                cluster.start_another_agent_program(0);
            }
            Self::GateUpgraded => {
                let gates = cluster.gates(0);
                let [gate] = gates[..] else { bail!("one gate, not {gates:?}") };
                kill_process(gate, Signal::HUP).context("a gate takes a signal")?;
            }
        }
        Ok(())
    }
}

fn version(letter: u8) -> String {
    char::from(letter).to_string()
}

fn deploy_first(cluster: &Cluster, letter: u8) {
    let release = format!("web@{}", version(letter));
    cluster.cutover(&["deploy", &release, "--to", "test", "--healthy-for", "300ms"]).done();
}

/// Writes a release of the instance that all parts here measure with.
fn release(cluster: &Cluster, letter: u8) -> Result<PathBuf> {
    let version = version(letter);
    let [requests, long_lived] = DRAIN;
    let manifest = format!(
        r#"[application]
name = "web"

[run]
command = ["./server", "instance", "$ADDRESS:$PORT", "{version}"]

[service]
port = {PORT}
drain = "{requests}ms"
drain_long_lived = "{long_lived}ms"

[health]
http = "/healthz"
every = "100ms"
timeout = "100ms"
failures = 50
"#
    );
    let dir = release_dir(cluster.folder(), &version, &[("cutover.toml", &manifest)]);
    fs::copy(std::env::current_exe()?, dir.join("server"))?;
    Ok(dir)
}
