//! Hooks and logs with the real programs: a migration that fails, a smoke test that fails, and what
//! an operator then reads.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
};

use cutover_tests::live::{Cluster, Sample, release_dir};

const PORT: u16 = 8080;

/// Pushes a release whose manifest has `toml` at its end and which brings `scripts`.
fn push(cluster: &Cluster, version: &str, toml: &str, scripts: &[(&str, &str)]) {
    let sample = Sample { toml, ..Sample::good(version) };
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    fs::create_dir_all(dir.join("hooks")).expect("the disk takes a folder");
    for (name, text) in scripts {
        let path = dir.join("hooks").join(name);
        fs::write(&path, text).expect("the disk takes a script");
        make_executable(&path);
    }
    cluster.push(&dir, version);
}

fn make_executable(path: &Path) {
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, mode).expect("the disk takes a mode");
}

fn deploy(release: &str) -> Vec<&str> {
    let quick = ["--healthy-for", "300ms", "--healthy-within", "5s", "--progress-within", "60s"];
    [&["deploy", release, "--to", "test", "--batch", "1"][..], &quick[..]].concat()
}

fn serves(cluster: &Cluster, index: usize, version: &str) -> bool {
    let answer = cluster.get(index, PORT, "/").unwrap_or_default();
    answer.contains(&format!("web {version} "))
}

#[test]
fn what_hooks_say_is_read_from_where_it_was_said_and_a_failing_one_stops_the_rollout() {
    let cluster = Cluster::start(2);
    // Asks the instance that gets no traffic yet, as a smoke test does.
    let smoke =
        "#!/bin/sh\necho smoking at $PREVIEW_PORT\nexec curl -fsS http://$ADDRESS:$PREVIEW_PORT/\n";
    let hooks = "[hooks]\nsmoke = { command = [\"./hooks/smoke\"] }\n";
    push(&cluster, "1.0.0", hooks, &[("smoke", smoke)]);
    cluster.cutover(&deploy("web@1.0.0")).done();
    let said = cluster.cutover(&["logs", "web", "--agent", "web-1", "--hook", "smoke"]).done();
    assert!(said.contains("smoking at ") && said.contains("web 1.0.0 "), "{said}");

    let migrate = "#!/bin/sh\necho the schema is older than 7\nexit 3\n";
    let hooks = "[hooks]\nbefore_start = { command = [\"./hooks/migrate\"] }\n";
    push(&cluster, "2.0.0", hooks, &[("migrate", migrate)]);
    cluster.cutover(&deploy("web@2.0.0")).failed_with(1);

    let why = cluster.cutover(&["why", "web"]).done();
    assert!(why.contains("the schema is older than 7"), "{why}");
    let next = "cutover logs web --agent web-1 --hook before_start";
    assert!(why.contains(next), "{why}");
    let said = cluster.cutover(&next.split(' ').skip(1).collect::<Vec<_>>()).done();
    assert_eq!(said, "the schema is older than 7\n");
    assert!((0..2).all(|index| serves(&cluster, index, "1.0.0")), "nothing was disturbed");
}

#[test]
fn a_smoke_test_that_fails_keeps_traffic_away_and_the_host_goes_back() {
    let cluster = Cluster::start(2);
    push(&cluster, "1.0.0", "", &[]);
    cluster.cutover(&deploy("web@1.0.0")).done();
    let hooks = "[hooks]\nsmoke = { command = [\"./hooks/smoke\"] }\n";
    push(
        &cluster,
        "2.0.0",
        hooks,
        &[("smoke", "#!/bin/sh\necho checkout is broken >&2\nexit 1\n")],
    );

    cluster.cutover(&deploy("web@2.0.0")).failed_with(1);

    assert!((0..2).all(|index| serves(&cluster, index, "1.0.0")));
    let why = cluster.cutover(&["why", "web"]).done();
    assert!(why.contains("checkout is broken"), "{why}");
}

#[test]
fn logs_of_all_hosts_are_read_and_followed_and_a_host_that_is_gone_is_named() {
    let mut cluster = Cluster::start(2);
    let manifest = "[application]\nname = \"web\"\n[run]\ncommand = [\"./run\", \"$AGENT\"]\n";
    let script = "#!/bin/sh\necho one\necho up on $1\nexec sleep 1000\n";
    let files = [("cutover.toml", manifest), ("run", script)];
    let dir = release_dir(cluster.folder(), "1.0.0", &files);
    make_executable(&dir.join("run"));
    cluster.push(&dir, "1.0.0");
    cluster.cutover(&deploy("web@1.0.0")).done();

    let all = cluster.cutover(&["logs", "web"]).done();
    let mut all: Vec<&str> = all.lines().collect();
    all.sort_unstable();
    assert_eq!(
        all,
        [
            "web-1 blue | one",
            "web-1 blue | up on web-1",
            "web-2 blue | one",
            "web-2 blue | up on web-2",
        ]
    );
    let lines = cluster.cutover(&["logs", "web", "--lines", "1", "--output", "json"]).done();
    assert_eq!(lines.lines().count(), 2, "{lines}");

    let mut following = cluster
        .command(&["logs", "web", "--agent", "web-1", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = BufReader::new(following.stdout.take().unwrap()).lines();
    assert_eq!(shown.next().unwrap().unwrap(), "one");
    // Written while somebody reads.
    let log = cluster.agents()[0].data.join("logs/web/blue.log");
    writeln!(fs::File::options().append(true).open(log).unwrap(), "said later\u{1b}[31m").unwrap();
    let later = shown.map(Result::unwrap).find(|line| line.contains("said later")).unwrap();
    assert_eq!(later, "said later\\u{1b}[31m", "nothing in it moves a terminal");
    following.kill().unwrap();
    following.wait().unwrap();

    cluster.kill_agent(1);
    let ran = cluster.cutover(&["logs", "web", "--agent", "web-2"]);
    let told = ran.failed_with(3);
    assert!(told.contains("web-2"), "{told}");
    cluster.cutover(&["logs", "wob"]).failed_with(2);
    cluster.cutover(&["logs", "web", "--agent", "web-9"]).failed_with(2);
}
