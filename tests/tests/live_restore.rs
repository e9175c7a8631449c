//! A coordinator that comes back from an old backup must not take the fleet back with it (F7).

use std::{fs, process::Command, time::Duration};

use cutover_tests::live::{Cluster, Sample, run, wait_for};

const PORT: u16 = 8080;

fn serves(cluster: &Cluster, version: &str) -> bool {
    (0..2).all(|index| {
        let answer = cluster.get(index, PORT, "/").unwrap_or_default();
        answer.contains(&format!("web {version} "))
    })
}

#[test]
fn a_restored_coordinator_sends_nothing_to_agents_that_are_ahead_until_somebody_deploys() {
    let mut cluster = Cluster::start(2);
    for version in ["1", "2"] {
        let sample = Sample::good(version);
        let dir = sample.write(cluster.folder(), &cluster.programs().sample);
        cluster.push(&dir, version);
    }
    let deploy = |cluster: &Cluster, release: &str| {
        let args = ["deploy", release, "--to", "test", "--batch", "1", "--healthy-for", "100ms"];
        cluster.cutover(&args).done()
    };
    let data = cluster.coordinator_data();
    let program = cluster.programs().coordinator.clone();
    let coordinator =
        |args: &[&str]| run(Command::new(&program).args(args).arg("--data").arg(&data)).done();
    deploy(&cluster, "web@1");
    cluster.stop_the_coordinator();
    let backup = cluster.folder().join("backup").display().to_string();
    coordinator(&["backup", "--to", &backup]);
    cluster.start_the_coordinator();
    cluster.wait_until_live(2);
    deploy(&cluster, "web@2");
    let before = cluster.instances(PORT);

    cluster.stop_the_coordinator();
    fs::rename(data.join("store"), cluster.folder().join("store.lost")).unwrap();
    coordinator(&["restore", "--from", &backup]);
    cluster.start_the_coordinator();
    cluster.wait_until_live(2);
    wait_for("the status to say that agents are ahead", Duration::from_secs(30), || {
        let status = cluster.cutover(&["status", "web"]).stdout;
        (status.matches("has not set").count() == 2).then_some(())
    });
    assert!(serves(&cluster, "2"));
    assert_eq!(cluster.instances(PORT), before, "nothing was sent");

    deploy(&cluster, "web@1");
    assert!(serves(&cluster, "1"));
}
