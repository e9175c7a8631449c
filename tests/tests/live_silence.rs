//! Agents that fall silent, and agents that are there twice.

use std::{fs, process::Command, time::Duration};

use cutover_tests::live::{Cluster, Sample, run, wait_for};
use rustix::process::{Pid, Signal, kill_process};

const PORT: u16 = 8080;

fn presence(cluster: &Cluster) -> String {
    let list = cluster.json(&["agents", "list", "--output", "json"]);
    list[0]["presence"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_frozen_agent_is_lost_within_15_s_which_is_no_reason_to_touch_its_host() {
    let mut cluster = Cluster::start(1);
    let sample = Sample::good("1");
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    cluster.push(&dir, "1");
    cluster.cutover(&["deploy", "web@1", "--to", "test", "--healthy-for", "100ms"]).done();
    let before = cluster.instances(PORT);

    // Its kernel still acknowledges everything: only a peer that asks notices.
    let pid = Pid::from_raw(i32::try_from(cluster.agent_pid(0).unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    // 15 s is the promise; the rest is for a machine that is busy with other tests.
    wait_for("the frozen agent to be lost", Duration::from_secs(20), || {
        (presence(&cluster) == "lost").then_some(())
    });
    assert_eq!(cluster.instances(PORT), before);
    kill_process(pid, Signal::CONT).unwrap();
    cluster.wait_until_live(1);
    assert_eq!(cluster.instances(PORT), before);
    cluster.stop_agent(0);
    assert_eq!(cluster.instances(PORT), before, "an agent that ends leaves its instances alone");
}

#[test]
fn a_frozen_coordinator_is_given_up_within_15_s_and_its_agents_keep_everything_running() {
    let cluster = Cluster::start(1);
    let sample = Sample::good("1");
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    cluster.push(&dir, "1");
    cluster.cutover(&["deploy", "web@1", "--to", "test", "--healthy-for", "100ms"]).done();
    let before = cluster.instances(PORT);
    let data = cluster.agents()[0].data.clone();
    let is_connected = || {
        let mut command = Command::new(&cluster.programs().agent);
        let status = run(command.args(["status", "--data"]).arg(&data)).done();
        assert!(status.contains("connected"), "{status}");
        !status.contains("NOT connected")
    };
    assert!(is_connected());

    let pid = cluster.coordinator_pid().unwrap();
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    wait_for("the agent to give the session up", Duration::from_secs(20), || {
        (!is_connected()).then_some(())
    });
    assert_eq!(cluster.instances(PORT), before);
    kill_process(pid, Signal::CONT).unwrap();
    cluster.wait_until_live(1);
    assert_eq!(cluster.instances(PORT), before);
}

#[test]
fn a_second_agent_on_one_folder_and_a_copied_identity_are_both_refused() {
    let cluster = Cluster::start(1);
    let data = &cluster.agents()[0].data;
    let agent = |data: &std::path::Path| {
        let mut command = Command::new(&cluster.programs().agent);
        command.args(["run", "--address", "127.0.0.1", "--data"]).arg(data);
        command
    };
    let second = run(&mut agent(data));
    assert_ne!(second.status, 0);
    assert!(second.stderr.contains("another"), "{}", second.stderr);

    let copy = cluster.folder().join("copy");
    run(Command::new("cp").arg("-a").arg(data).arg(&copy)).done();
    let log = cluster.folder().join("copy.log");
    let mut copied = agent(&copy);
    copied.stderr(fs::File::create(&log).unwrap()).stdout(std::process::Stdio::null());
    let mut copied = copied.spawn().unwrap();
    wait_for("the copy to be refused", Duration::from_secs(20), || {
        fs::read_to_string(&log).unwrap().contains("started twice").then_some(())
    });
    copied.kill().unwrap();
    copied.wait().unwrap();
    assert_eq!(presence(&cluster), "live", "the first goes on");
}
