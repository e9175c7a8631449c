//! Agents and gates that are killed or replaced in the middle of a swap, while both versions run:
//! no client notices, and the swap goes on where it was.
//!
//! The middle is not met by luck. The new version becomes healthy when the test says so, and a
//! request that the old one has is answered when the test says so: until then neither can go on.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use cutover_tests::live::{Clients, Cluster, HeldSlot, Sample, ask_aside, wait_for};
use rustix::process::{Signal, kill_process};

const PORT: u16 = 8080;

/// Half of the clients wait for the second: at any moment something is under way.
const PAGES: [&str; 2] = ["GET /", "POST /slow?ms=200"];

/// How long a moment of a swap may be away, on a machine that is busy.
const SOON: Duration = Duration::from_secs(60);

/// A moment of a swap at which both versions run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Moment {
    /// The old version has the traffic; the new one is not healthy yet.
    Before,
    /// The new version has the traffic; the old one has a request still.
    After,
}

impl Moment {
    /// Waits for this moment of a swap to `new`.
    fn wait(self, cluster: &Cluster, new: &str) {
        wait_for(&format!("the moment {self:?} the traffic moves"), SOON, || {
            let slots = cluster.slots(0);
            let runs = slots.len() == 2 && slots.iter().all(|slot| slot.phase == "running");
            let leads_to_new = |slot: &HeldSlot| slot.version == new && slot.has_traffic;
            let is_after = slots.iter().any(leads_to_new);
            (runs && is_after == (self == Self::After)).then_some(())
        });
    }
}

/// A file for which a version waits until it is healthy, or answers what it holds.
fn file(cluster: &Cluster, what: &str, version: &str) -> PathBuf {
    cluster.folder().join(format!("{what}-{version}"))
}

fn let_go(cluster: &Cluster, what: &str, version: &str) {
    fs::write(file(cluster, what, version), "").expect("the disk takes a file");
}

fn host_on_the_first() -> Cluster {
    let cluster = Cluster::start(1);
    for version in ["1", "2"] {
        let [healthy, held] = ["healthy", "held"].map(|what| file(&cluster, what, version));
        let [healthy, held] =
            [&healthy, &held].map(|file| file.to_str().expect("our paths are text"));
        let sample = Sample {
            args: &["--healthy-when", healthy, "--held-until", held],
            // Neither is to end before the test lets it.
            start_within: "10m",
            service: "drain = \"10m\"",
            ..Sample::good(version)
        };
        let dir = sample.write(cluster.folder(), &cluster.programs().sample);
        cluster.push(&dir, version);
    }
    let_go(&cluster, "healthy", "1");
    deploy(&cluster, "1");
    cluster.cutover(&["watch", "web"]).done();
    cluster
}

fn deploy(cluster: &Cluster, version: &str) {
    let release = format!("web@{version}");
    let args = ["deploy", &release, "--to", "test", "--no-watch", "--healthy-for", "300ms"];
    cluster.cutover(&[&args[..], &["--healthy-within", "5m"]].concat()).done();
}

/// Swaps forth and back, and does `what` in the middle: before the traffic moves on the way forth,
/// after it on the way back.
fn in_the_middle_of_swaps(mut what: impl FnMut(&mut Cluster, &Clients)) {
    let mut cluster = host_on_the_first();
    let address = SocketAddr::new(cluster.agents()[0].address, PORT);
    let clients = Clients::ask(&cluster, PORT, &PAGES);
    for (old, new, moment) in [("1", "2", Moment::Before), ("2", "1", Moment::After)] {
        let held = ask_aside(address, "POST /held");
        wait_for("the old version to hold a request", SOON, || {
            let logs = cluster.instance_logs(0);
            let holds = |line: &str| {
                line.starts_with(&format!("web {old} ")) && line.ends_with("holds a request")
            };
            logs.lines().any(holds).then_some(())
        });
        deploy(&cluster, new);
        moment.wait(&cluster, new);
        what(&mut cluster, &clients);

        let_go(&cluster, "healthy", new);
        cluster.cutover(&["watch", "web", "--timeout", "120s"]).done();
        Moment::After.wait(&cluster, new);
        let_go(&cluster, "held", old);
        let answer = held.join().expect("no panic").expect("what was held is answered");
        assert!(answer.starts_with(&format!("web {old} ")), "{answer}");
        wait_for("the old version and the old gate to be gone", SOON, || {
            let runs = |slot: &HeldSlot| slot.version == old && slot.phase == "running";
            let is_alone = !cluster.slots(0).iter().any(runs);
            (is_alone && cluster.gates(0).len() == 1).then_some(())
        });
        clients.heard().all_is_well().moved(old, new);
    }
}

#[test]
fn an_agent_that_is_killed_in_the_middle_of_a_swap_takes_nothing_from_its_clients() {
    in_the_middle_of_swaps(|cluster, clients| {
        cluster.kill_agent(0);
        clients.ask_on();
        cluster.start_agent(0);
    });
}

#[test]
fn an_agent_that_is_upgraded_in_the_middle_of_a_swap_takes_nothing_from_its_clients() {
    in_the_middle_of_swaps(|cluster, clients| {
        cluster.stop_agent(0);
        clients.ask_on();
        cluster.start_another_agent_program(0);
    });
}

#[test]
fn a_gate_that_is_upgraded_in_the_middle_of_a_swap_takes_nothing_from_its_clients() {
    in_the_middle_of_swaps(|cluster, clients| {
        let [old] = cluster.gates(0)[..] else { panic!("one gate: {:?}", cluster.gates(0)) };
        kill_process(old, Signal::HUP).unwrap();
        // The old process keeps what is held, and so is there.
        wait_for("another gate to have taken over", SOON, || {
            (cluster.gate_status(0)["leaving"] == 1).then_some(())
        });
        // Whoever was connected to the old one is connected to the new one after this.
        clients.ask_on();
        assert_eq!(cluster.gates(0).len(), 2);
    });
}
