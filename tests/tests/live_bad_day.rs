//! Full disks, taken ports, damaged stores: a clear error, and nothing is lost.

use std::{fs, process::Command};

use cutover_tests::live::{Cluster, Ran, Sample, run};

const PORT: u16 = 8080;

fn run_coordinator(cluster: &Cluster, more: &[&str]) -> Ran {
    run(Command::new(&cluster.programs().coordinator)
        .args(["run", "--data"])
        .arg(cluster.coordinator_data())
        .args(more))
}

#[test]
fn a_second_coordinator_on_one_store_and_a_taken_port_are_told_apart() {
    let mut cluster = Cluster::start_coordinator();
    let second = run_coordinator(&cluster, &["--listen-agents", "127.0.0.1:0"]);
    assert_ne!(second.status, 0);
    let pid = cluster.coordinator_pid().unwrap().to_string();
    assert!(second.stderr.contains("locked") && second.stderr.contains(&pid), "{}", second.stderr);

    let taken = cluster.listening()["agents"].as_str().unwrap().to_owned();
    cluster.stop_the_coordinator();
    let holder = std::net::TcpListener::bind(&taken).unwrap();
    let refused = run_coordinator(&cluster, &["--listen-agents", &taken]);
    assert_eq!(refused.status, 2);
    assert!(
        refused.stderr.contains(&taken) && refused.stderr.contains("another program"),
        "{}",
        refused.stderr
    );
    drop(holder);
}

#[test]
fn a_damaged_store_is_refused_and_a_backup_brings_it_back() {
    let mut cluster = Cluster::start_coordinator();
    cluster.cutover(&["env", "create", "prod", "--select", "env=prod"]).done();
    cluster.stop_the_coordinator();
    let data = cluster.coordinator_data();
    let backup = cluster.folder().join("backup");
    let coordinator = |args: &[&str]| {
        let mut command = Command::new(&cluster.programs().coordinator);
        run(command.args(args).arg("--data").arg(&data))
    };
    let file = backup.display().to_string();
    coordinator(&["backup", "--to", &file]).done();
    coordinator(&["check"]).done();

    let log = fs::read_dir(data.join("store/sled")).unwrap().flatten().map(|it| it.path());
    let log = log.filter(|path| path.ends_with("db")).last().unwrap();
    let whole = fs::read(&log).unwrap();
    let place = whole
        .windows(8)
        .position(|it| it == b"env=prod" || it == b"\"prod\"}}")
        .or_else(|| whole.windows(4).position(|it| it == b"prod"));
    let mut damaged = whole;
    damaged[place.expect("the environment is in the log")] ^= 0x20;
    fs::write(&log, &damaged).unwrap();
    let refused = coordinator(&["run"]);
    assert_ne!(refused.status, 0);
    assert!(refused.stderr.contains("restore"), "{}", refused.stderr);
    // Nothing is mended behind one's back: it is refused for as long as it is there.
    assert_ne!(coordinator(&["run"]).status, 0);
    assert_ne!(coordinator(&["check"]).status, 0);
    assert!(fs::metadata(&log).unwrap().len() >= u64::try_from(damaged.len()).unwrap());

    fs::rename(data.join("store"), cluster.folder().join("store.damaged")).unwrap();
    coordinator(&["restore", "--from", &file]).done();
    let checked = coordinator(&["check"]).done();
    assert!(checked.contains("term 1000"), "{checked}");

    cluster.start_the_coordinator();
    let list = cluster.cutover(&["env", "list"]).done();
    assert!(list.contains("prod"), "{list}");
}

#[test]
fn a_release_with_an_escaping_link_or_ten_mistakes_is_refused_before_it_is_sent() {
    let cluster = Cluster::start_coordinator();
    let dir = Sample::good("1").write(cluster.folder(), &cluster.programs().sample);
    std::os::unix::fs::symlink("/etc/shadow", dir.join("link")).unwrap();
    let path = dir.display().to_string();
    let refused = cluster.cutover(&["release", "push", &path, "--version", "1"]).failed_with(2);
    assert!(refused.contains("link"), "{refused}");

    fs::remove_file(dir.join("link")).unwrap();
    let mistakes = r#"
[aplication]
name = "Web"
[run]
command = "./server"
stop_signal = "TREM"
stop_within = 30
env = { LD_PRELOAD = "x" }
[service]
port = 99999
protocol = "htpt"
[health]
http = "healthz"
every = "0s"
passes = 0
[[deploy]]
environment = "prod"
batch = "101%"
"#;
    fs::write(dir.join("cutover.toml"), mistakes).unwrap();
    let refused = cluster.cutover(&["release", "push", &path, "--version", "1"]).failed_with(2);
    for said in [
        "aplication",
        "command",
        "TREM",
        "stop_within",
        "LD_PRELOAD",
        "99999",
        "htpt",
        "healthz",
        "every",
        "passes",
        "101%",
    ] {
        assert!(refused.contains(said), "{said} is missing: {refused}");
    }
    assert!(cluster.cutover(&["release", "list"]).done().contains("no releases"));
}

#[test]
fn a_full_disk_while_fetching_fails_the_rollout_and_the_old_version_keeps_running() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a small disk can be mounted by root only");
        return;
    }
    let mut cluster = Cluster::start(0);
    let data = cluster.folder().join("web-1");
    fs::create_dir(&data).unwrap();
    let mounted = run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=48m,mode=0700", "tmpfs"])
        .arg(&data));
    if mounted.status != 0 {
        println!("skipped: no disk can be mounted here: {}", mounted.stderr);
        return;
    }
    let _unmount = Unmount(data);
    cluster.add_agent(1);
    cluster.wait_until_live(1);
    for (version, ballast) in [("1", 0), ("2", 60_000_000)] {
        let sample = Sample { ballast, ..Sample::good(version) };
        let dir = sample.write(cluster.folder(), &cluster.programs().sample);
        cluster.push(&dir, version);
    }
    let quick = ["--healthy-for", "300ms", "--healthy-within", "5s", "--progress-within", "30s"];
    let deploy = |release| {
        let mut args = vec!["deploy", release, "--to", "test"];
        args.extend(quick);
        cluster.cutover(&args)
    };
    deploy("web@1").done();
    let before = cluster.instances(PORT);
    deploy("web@2").failed_with(1);
    let why = cluster.cutover(&["why", "web"]).done();
    assert!(why.contains("DISK_FULL") && why.contains("keeps running"), "{why}");
    assert_eq!(cluster.instances(PORT), before);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        // Lazily: the agent that writes there is ended by the cluster, which is dropped after us.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}
