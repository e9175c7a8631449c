//! Config and secrets with the real programs: a change comes with a rollout, goes back with a
//! rollback, and no secret is anywhere but where it is needed.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use cutover_tests::live::{Cluster, Sample, run, wait_for};
use rustix::process::{Pid, Signal, kill_process};

const PORT: u16 = 8080;

/// What nothing but the application and its host's file may ever hold.
const SECRET: &str = "hunter2-but-longer";
const NEXT_SECRET: &str = "correct-horse-battery";

fn deploy(cluster: &Cluster, release: &str) {
    let quick = ["--healthy-for", "300ms", "--healthy-within", "20s", "--progress-within", "60s"];
    let args = [&["deploy", release, "--to", "test", "--batch", "1"][..], &quick[..]].concat();
    cluster.cutover(&args).done();
}

/// Returns the value of a variable in the environment of the instance that runs on `index`.
fn has(cluster: &Cluster, index: usize, variable: &str) -> Option<String> {
    let pid = cluster.instances(PORT)[index].as_ref()?.pid;
    let environ = fs::read(format!("/proc/{pid}/environ")).expect("it runs");
    let environ = String::from_utf8(environ).expect("it is text");
    let prefix = format!("{variable}=");
    environ.split('\0').find_map(|it| it.strip_prefix(&prefix)).map(str::to_owned)
}

/// Sets a secret as people do: on stdin.
fn set_secret(cluster: &Cluster, value: &str) {
    let args = ["env", "secret", "test", "DB_PASSWORD", "--app", "web"];
    let mut asked = cluster.command(&args).stdin(Stdio::piped()).spawn().expect("cutover starts");
    let mut stdin = asked.stdin.take().expect("it has a stdin");
    writeln!(stdin, "{value}").expect("it reads what it is told");
    drop(stdin);
    assert!(asked.wait().expect("it ends").success());
}

/// Returns the files below `dir` that hold `text`.
fn holding(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let kind = entry.file_type().expect("it has a kind");
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_file() {
                // What is gone since it was listed holds nothing.
                let bytes = fs::read(&path).unwrap_or_default();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    found
}

#[test]
fn a_changed_config_is_a_rollout_and_comes_back_with_a_rollback() {
    let mut cluster = Cluster::start(2);
    let hooks = "[hooks]\nbefore_start = { command = [\"./hooks/migrate\"] }\n";
    let sample = Sample { toml: hooks, ..Sample::good("1.0.0") };
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    fs::create_dir_all(dir.join("hooks")).unwrap();
    let migrate = "#!/bin/sh\ntest -n \"$DB_PASSWORD\" && echo migrating at level $LEVEL\n";
    fs::write(dir.join("hooks/migrate"), migrate).unwrap();
    fs::set_permissions(dir.join("hooks/migrate"), fs::Permissions::from_mode(0o755)).unwrap();
    cluster.push(&dir, "1.0.0");
    cluster.cutover(&["env", "set", "test", "LEVEL=one"]).done();
    set_secret(&cluster, SECRET);
    deploy(&cluster, "web@1.0.0");
    let first = |cluster: &Cluster| {
        (has(cluster, 0, "LEVEL").as_deref() == Some("one")
            && has(cluster, 0, "DB_PASSWORD").as_deref() == Some(SECRET))
        .then_some(())
    };
    assert!(first(&cluster).is_some());
    let said = cluster.cutover(&["logs", "web", "--agent", "web-1", "--hook", "before_start"]);
    assert_eq!(said.done(), "migrating at level one\n");

    // The same release with another config is something to deploy; the hosts serve on meanwhile.
    cluster.cutover(&["env", "set", "test", "LEVEL=two"]).done();
    set_secret(&cluster, NEXT_SECRET);
    let plan = cluster.cutover(&["deploy", "web@1.0.0", "--to", "test", "--plan"]).done();
    assert!(plan.contains("1.0.0~test.4"), "{plan}");
    deploy(&cluster, "web@1.0.0");
    assert_eq!(has(&cluster, 1, "LEVEL").as_deref(), Some("two"));
    assert_eq!(has(&cluster, 1, "DB_PASSWORD").as_deref(), Some(NEXT_SECRET));
    cluster.cutover(&["deploy", "web@1.0.0", "--to", "test"]).failed_with(3);

    cluster.cutover(&["rollback", "web"]).done();
    cluster.cutover(&["watch", "web"]).done();
    assert!(first(&cluster).is_some(), "{:?}", has(&cluster, 0, "LEVEL"));

    // An agent alone, on a host that has just begun: what runs is started with its secret again.
    let before = cluster.instances(PORT)[0].as_ref().unwrap().pid;
    cluster.kill_the_coordinator();
    cluster.kill_agent(0);
    let pid = Pid::from_raw(i32::try_from(before).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    cluster.start_agent(0);
    // Until then the gate answers for it.
    wait_for("the instance to be started again", Duration::from_secs(120), || first(&cluster));
    cluster.start_the_coordinator();
    cluster.wait_until_live(2);
    assert!(first(&cluster).is_some());

    let shown = cluster.cutover(&["env", "show", "test"]).done();
    assert!(shown.contains("(secret)") && shown.contains("two"), "{shown}");
    for secret in [SECRET, NEXT_SECRET] {
        let held = holding(cluster.folder(), secret);
        assert!(held.iter().all(|path| path.contains("/secrets/")), "{held:?}");
        assert!(held.len() <= 2, "one for each host at the most: {held:?}");
    }
    assert_eq!(holding(cluster.folder(), SECRET).len(), 2);
}

#[test]
fn a_host_that_cannot_keep_a_secret_stays_connected_serves_on_and_says_why() {
    let cluster = Cluster::start(1);
    let dir = Sample::good("1.0.0").write(cluster.folder(), &cluster.programs().sample);
    cluster.push(&dir, "1.0.0");
    deploy(&cluster, "web@1.0.0");
    let pid = |cluster: &Cluster| cluster.instances(PORT)[0].as_ref().map(|it| it.pid);
    let before = pid(&cluster);
    // As a full disk does, it lets nothing be written where secrets are kept.
    let taken = cluster.agents()[0].data.join("secrets");
    fs::write(&taken, "no folder").unwrap();
    set_secret(&cluster, SECRET);

    let quick = ["--healthy-for", "300ms", "--healthy-within", "20s", "--progress-within", "60s"];
    let args = [&["deploy", "web@1.0.0", "--to", "test"][..], &quick[..]].concat();
    cluster.cutover(&args).failed_with(1);

    let why = cluster.cutover(&["why", "web"]).done();
    assert!(why.contains("the value of the secret DB_PASSWORD could not be kept"), "{why}");
    assert!(!cluster.agent_log(0).contains("dialing again"), "{}", cluster.agent_log(0));
    assert_eq!(pid(&cluster), before, "what runs is not disturbed");
    fs::remove_file(&taken).unwrap();
    let is_kept = || fs::read_dir(&taken).ok()?.next().map(drop);
    wait_for("the agent to try again by itself", Duration::from_secs(120), is_kept);
    deploy(&cluster, "web@1.0.0");
    assert_eq!(has(&cluster, 0, "DB_PASSWORD").as_deref(), Some(SECRET));
}

#[test]
fn a_coordinator_without_the_key_of_its_secrets_does_not_start_until_they_are_given_up() {
    let mut cluster = Cluster::start(1);
    let dir = Sample::good("1.0.0").write(cluster.folder(), &cluster.programs().sample);
    cluster.push(&dir, "1.0.0");
    set_secret(&cluster, SECRET);
    deploy(&cluster, "web@1.0.0");
    cluster.stop_the_coordinator();
    let data = cluster.coordinator_data();
    fs::remove_file(data.join("identity/secrets-key.hex")).unwrap();
    let coordinator = |verb: &str| {
        let program = &cluster.programs().coordinator;
        run(Command::new(program).arg(verb).arg("--data").arg(&data))
    };

    let refused = coordinator("run").failed_with(1);
    assert!(refused.contains("SECRETS_KEY") && refused.contains("forget-secrets"), "{refused}");
    let forgot = coordinator("forget-secrets").done();
    assert!(forgot.contains("cutover env secret test DB_PASSWORD --app web"), "{forgot}");
    cluster.start_the_coordinator();
    cluster.wait_until_live(1);
    cluster.cutover(&["env", "set", "test", "LEVEL=two"]).done();
    let refused = cluster.cutover(&["deploy", "web@1.0.0", "--to", "test"]).failed_with(3);
    assert!(refused.contains("the value of the secret DB_PASSWORD"), "{refused}");
    set_secret(&cluster, NEXT_SECRET);
    deploy(&cluster, "web@1.0.0");
    assert_eq!(has(&cluster, 0, "DB_PASSWORD").as_deref(), Some(NEXT_SECRET));
}
