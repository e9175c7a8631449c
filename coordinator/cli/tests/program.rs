//! The program as a script sees it: exit codes and streams, without a coordinator.

#![expect(clippy::unwrap_used, reason = "a test whose world cannot be set up must fail")]

use std::{
    fs::{self, Permissions},
    io::Read as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A home of its own, and nothing of the caller's environment.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
        command.args(line).env_clear().env("HOME", self.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, line: &[&str]) -> Ran {
        Ran::from(self.command(line).output().unwrap())
    }

    fn log_in(&self, url: &str) -> PathBuf {
        let folder = self.path().join(".config/cutover");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("login.json");
        let hash = "0".repeat(64);
        let text =
            format!(r#"{{"coordinator":"{url}","ca_hash":"sha256:{hash}","token":"t0p-secret"}}"#);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        file
    }
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A port that nobody listens on: it was free a moment ago.
fn silent_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("https://{}", listener.local_addr().unwrap())
}

#[test]
fn what_asks_nobody_works_without_a_login() {
    let home = Home::new();

    let version = home.run(&["version", "--output", "json"]);
    assert_eq!((version.code, version.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&version.stdout).unwrap()["version"],
        env!("CARGO_PKG_VERSION")
    );
    for shell in ["bash", "zsh", "fish"] {
        let completions = home.run(&["completions", shell]);
        assert_eq!(completions.code, Some(0));
        assert!(completions.stdout.contains("rollback"), "{shell}");
    }
}

#[test]
fn who_is_not_logged_in_is_told_how() {
    let home = Home::new();

    let ran = home.run(&["status"]);

    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(lines[0].starts_with("error: you are not logged in"), "{ran:?}");
    assert!(lines[1].starts_with("hint: cutover login https://"), "{ran:?}");
}

#[test]
fn wrong_use_is_2_and_prints_nothing_on_stdout() {
    let home = Home::new();
    for line in [&["deply"][..], &["deploy", "web"], &["why", "@/etc/passwd"], &[]] {
        let ran = home.run(line);

        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{line:?}: {ran:?}");
        assert!(!ran.stderr.contains("root:"), "{ran:?}");
    }
}

#[test]
fn a_coordinator_that_is_not_there_is_4() {
    let home = Home::new();
    home.log_in(&silent_url());
    for line in [
        &["status"][..],
        &["agents", "list", "--output", "json"],
        &["deploy", "web@1", "--to", "production"],
        &["watch", "web"],
    ] {
        let ran = home.run(line);

        assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""), "{line:?}: {ran:?}");
        assert!(ran.stderr.starts_with("error: the coordinator at 127.0.0.1:"), "{ran:?}");
        assert!(!ran.stderr.contains("t0p-secret") && !ran.stderr.contains('\u{1b}'), "{ran:?}");
    }
}

#[test]
fn a_login_that_others_can_read_is_refused_with_3() {
    let home = Home::new();
    let file = home.log_in(&silent_url());
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();

    let ran = home.run(&["status"]);

    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("hint: chmod 600"), "{ran:?}");
}

#[test]
fn all_mistakes_of_a_manifest_come_before_anything_is_asked_for() {
    let home = Home::new();
    let folder = home.path().join("app");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("cutover.toml"), "[application]\nnme = \"web\"\n[runn]\n").unwrap();

    let ran = home.run(&["release", "push", folder.to_str().unwrap(), "--version", "1"]);

    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    assert!(ran.stderr.contains("nme") && ran.stderr.contains("runn"), "{ran:?}");
    assert!(!ran.stderr.contains("logged in"), "{ran:?}");
}

#[test]
fn the_config_option_takes_the_place_of_the_default_file() {
    let home = Home::new();
    let elsewhere = home.path().join("elsewhere.json");

    let by_flag = home.run(&["status", "--config", elsewhere.to_str().unwrap()]);
    let by_environment =
        Ran::from(home.command(&["status"]).env("CUTOVER_CONFIG", &elsewhere).output().unwrap());

    for ran in [by_flag, by_environment] {
        assert!(ran.stderr.contains("elsewhere.json"), "{ran:?}");
    }
}

#[test]
fn a_result_that_cannot_be_written_is_no_success_and_a_closed_pipe_is_no_failure() {
    let home = Home::new();

    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = home.command(&["completions", "bash"]).stdout(full).output().unwrap().status;
    assert_eq!(status.code(), Some(3));

    let mut child = home.command(&["completions", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = child.stdout.take().unwrap();
    reader.read_exact(&mut [0; 1]).unwrap();
    drop(reader);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
