//! A migration that one host runs for all, with the real programs: it runs once, and where the agent is
//! killed in the middle of it a person decides.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use cutover_tests::live::{Cluster, Sample, wait_for};

const PORT: u16 = 8080;

/// How long something may take on a machine that is busy.
const SOON: Duration = Duration::from_secs(60);

/// Pushes a release whose migration notes that it ran, and ends as soon as `may_end` is there.
fn push(cluster: &Cluster, version: &str) {
    let script = format!(
        "#!/bin/sh\necho \"$VERSION on $AGENT\" >> {}\nuntil [ -e {} ]; do sleep 0.05; done\n",
        ran(cluster).display(),
        may_end(cluster, version).display(),
    );
    let toml = "[hooks]\nbefore_start = { command = [\"./hooks/migrate\"], within = \"5m\", once = true }\n";
    let sample = Sample { toml, ..Sample::good(version) };
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    fs::create_dir_all(dir.join("hooks")).expect("the disk takes a folder");
    let path = dir.join("hooks/migrate");
    fs::write(&path, script).expect("the disk takes a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the disk takes a mode");
    cluster.push(&dir, version);
}

/// What migrations note, outside of all releases.
fn ran(cluster: &Cluster) -> PathBuf {
    cluster.folder().join("ran")
}

fn may_end(cluster: &Cluster, version: &str) -> PathBuf {
    cluster.folder().join(format!("may-end-{version}"))
}

fn noted(cluster: &Cluster) -> Vec<String> {
    let text = fs::read_to_string(ran(cluster)).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

fn deploy<'a>(release: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let quick = ["--healthy-for", "300ms", "--healthy-within", "20s", "--progress-within", "10m"];
    let all = ["--strategy", "all_at_once", "--min-healthy", "0"];
    [&["deploy", release, "--to", "test"][..], &all, &quick, more].concat()
}

fn serving(cluster: &Cluster, version: &str) -> usize {
    let answers = |index: &usize| {
        let answer = cluster.get(*index, PORT, "/").unwrap_or_default();
        answer.contains(&format!("web {version} "))
    };
    (0..3).filter(answers).count()
}

fn until_why_says(cluster: &Cluster, words: &str) {
    let why = || cluster.cutover(&["why", "web"]).done();
    wait_for(&format!("why to say {words:?}"), SOON, || why().contains(words).then_some(()));
}

#[test]
fn a_migration_runs_on_one_host_and_one_that_was_interrupted_waits_for_a_person() {
    let mut cluster = Cluster::start(3);
    for version in ["1.0.0", "2.0.0"] {
        push(&cluster, version);
    }
    let plan = cluster.cutover(&deploy("web@1.0.0", &["--plan"])).done();
    assert!(plan.contains("its once hook is run on web-1"), "{plan}");
    cluster.cutover(&deploy("web@1.0.0", &["--no-watch"])).done();
    until_why_says(&cluster, "the once hook of 1.0.0 to pass on web-1");
    assert_eq!(serving(&cluster, "1.0.0"), 0, "nobody begins before it has passed");
    fs::write(may_end(&cluster, "1.0.0"), "").expect("the disk takes a file");
    wait_for("all hosts to serve", SOON, || (serving(&cluster, "1.0.0") == 3).then_some(()));
    until_why_says(&cluster, "Succeeded");
    assert_eq!(noted(&cluster), ["1.0.0 on web-1"]);

    cluster.cutover(&deploy("web@2.0.0", &["--no-watch"])).done();
    wait_for("the migration to run", SOON, || (noted(&cluster).len() == 2).then_some(()));
    let host = noted(&cluster)[1].clone();
    let index: usize = host.trim_start_matches("2.0.0 on web-").parse().expect("a number");
    cluster.kill_agent(index - 1);
    cluster.start_agent(index - 1);
    until_why_says(&cluster, "was interrupted");
    let why = cluster.cutover(&["why", "web"]).done();
    assert!(why.contains("Held for a person") && why.contains("cutover retry"), "{why}");
    assert_eq!(noted(&cluster).len(), 2, "it is not run again by itself");
    assert_eq!(serving(&cluster, "1.0.0"), 3, "nothing was disturbed");

    fs::write(may_end(&cluster, "2.0.0"), "").expect("the disk takes a file");
    cluster.cutover(&["retry", "web"]).done();
    wait_for("all hosts to serve 2.0.0", SOON, || (serving(&cluster, "2.0.0") == 3).then_some(()));
    assert_eq!(noted(&cluster).len(), 3, "{:?}", noted(&cluster));

    // Neither the way back nor the next deploy of the same release runs one again.
    until_why_says(&cluster, "Succeeded");
    cluster.cutover(&deploy("web@1.0.0", &[])).done();
    cluster.cutover(&deploy("web@2.0.0", &[])).done();
    assert_eq!(noted(&cluster).len(), 3, "{:?}", noted(&cluster));
}
