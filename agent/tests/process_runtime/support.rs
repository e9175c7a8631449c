//! A place for one instance: a data directory, a release, a runtime, and the end of it all.

#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "part of a test, which clippy sees only inside of test functions"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cutover_agent::process::{
    Adopted, Ended, ExitCause, LogSpec, ProcessRuntime, StartSpec, Started, StopOutcome, StopSpec,
    stat::{all_processes, read_stat},
    sweep::kill_by_token,
};
use cutover_common::{ApplicationName, InstanceEvidence, InstanceId, Slot, StopSignal};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

/// Longer than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(20);

const SHIM: &str = env!("CARGO_BIN_EXE_cutover-agent");

pub struct Place {
    root: PathBuf,
    /// Removed at the end, unless somebody else's.
    own: Option<TempDir>,
    pub runtime: ProcessRuntime,
    pub application: ApplicationName,
    pub instance: InstanceId,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut place = Self::at(dir.path().to_owned(), InstanceId(Uuid::new_v4()));
        fs::create_dir(place.release_dir()).unwrap();
        place.own = Some(dir);
        place
    }

    pub fn at(root: PathBuf, instance: InstanceId) -> Self {
        let runtime = ProcessRuntime::new(root.join("data"), SHIM.into()).unwrap();
        Self { root, own: None, runtime, application: "web".parse().unwrap(), instance }
    }

    /// Another agent with the same data, as after a crash or an upgrade.
    pub fn with_another_agent(mut self) -> Self {
        self.runtime = ProcessRuntime::new(self.root.join("data"), SHIM.into()).unwrap();
        self
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn release_dir(&self) -> PathBuf {
        self.root.join("release")
    }

    pub fn instance_dir(&self) -> PathBuf {
        self.root.join("data/instances/web").join(self.instance.0.to_string())
    }

    pub fn log_path(&self) -> PathBuf {
        self.runtime.log_path(&self.application, Slot::Blue)
    }

    pub fn write_program(&self, name: &str, text: &str) {
        let path = self.release_dir().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn sh(&self, script: &str) -> StartSpec {
        StartSpec {
            application: self.application.clone(),
            instance: self.instance,
            release_dir: self.release_dir(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: [].into(),
            secrets: [].into(),
            log: LogSpec::at(self.log_path()),
        }
    }

    /// Writes the spec as an agent that is killed before it starts the shim.
    pub fn write_spec(&self, script: &str) {
        let spec = json!({
            "instance": self.instance,
            "command": ["sh", "-c", script],
            "env": { "CUTOVER_INSTANCE": self.instance, "PATH": "/usr/bin:/bin" },
            "directory": self.release_dir(),
            "log": LogSpec::at(self.log_path()),
        });
        fs::create_dir_all(self.instance_dir()).unwrap();
        fs::write(self.instance_dir().join("spec.json"), spec.to_string()).unwrap();
    }

    pub fn spawn_shim(&self) -> Child {
        Command::new(SHIM)
            .arg("shim")
            .arg("--dir")
            .arg(self.instance_dir())
            .env_clear()
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Starts an instance that must be seen running.
    pub async fn start(&self, spec: StartSpec) -> InstanceEvidence {
        match self.start_any(spec).await {
            Started::Running(evidence) => {
                assert_eq!(evidence.instance, self.instance);
                evidence
            }
            Started::Ended(record) => panic!("it ended: {}; log: {}", record.cause, self.log()),
        }
    }

    /// Starts an instance that may end at once.
    pub async fn start_any(&self, spec: StartSpec) -> Started {
        self.runtime.start(spec).await.unwrap()
    }

    pub async fn adopt(&self) -> Adopted {
        self.runtime.adopt(&self.application, self.instance).await.unwrap()
    }

    pub async fn wait(&self) -> Ended {
        let waited = self.runtime.wait(&self.application, self.instance);
        tokio::time::timeout(LONG, waited).await.expect("the instance did not end").unwrap()
    }

    pub async fn stop(&self, spec: StopSpec) -> StopOutcome {
        self.runtime.stop(&self.application, self.instance, spec).await.unwrap()
    }

    /// Does not adopt before there is something: that would take the spec away from a late shim.
    pub async fn until_running(&self) -> InstanceEvidence {
        until("the application to be on record", || self.record("state.json").is_some()).await;
        match self.adopt().await {
            Adopted::Running(evidence) => evidence,
            other @ (Adopted::Exited(_) | Adopted::Never | Adopted::Gone) => {
                panic!("not running: {other:?}")
            }
        }
    }

    pub async fn until_logged(&self, text: &str) {
        until(&format!("{text:?} in the log"), || {
            self.log_if_any().is_some_and(|log| log.contains(text))
        })
        .await;
    }

    pub fn log(&self) -> String {
        self.log_if_any().unwrap_or_default()
    }

    pub fn log_if_any(&self) -> Option<String> {
        fs::read(self.log_path()).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The log's whole lines that are numbers.
    pub fn logged_pids(&self) -> Vec<u32> {
        let log = self.log();
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        whole.lines().filter_map(|line| line.parse().ok()).collect()
    }

    pub fn record(&self, file: &str) -> Option<Value> {
        let bytes = fs::read(self.instance_dir().join(file)).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    pub fn edit(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let mut record = self.record(file).unwrap();
        change(&mut record);
        fs::write(self.instance_dir().join(file), record.to_string()).unwrap();
    }

    pub fn shim_pid(&self) -> u32 {
        u32::try_from(self.record("shim.json").unwrap()["pid"].as_u64().unwrap()).unwrap()
    }

    pub fn signal(&self, pid: u32, signal: &str) {
        let kill = Command::new("/bin/kill").args([format!("-{signal}"), pid.to_string()]).status();
        assert!(kill.unwrap().success(), "kill -{signal} {pid}");
    }

    /// The running processes whose environment names this instance in `variable`.
    pub fn processes_with(&self, variable: &str) -> Vec<u32> {
        let token = format!("{variable}={}", self.instance.0);
        let carries = |pid: u32| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| environ.split(|b| *b == 0).any(|e| e == token.as_bytes()))
        };
        let running = all_processes().unwrap().into_iter().filter(|stat| !stat.is_ended());
        running.map(|stat| stat.pid).filter(|pid| carries(*pid)).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // For tests that fail in the middle. The shim ends with its application.
        for name in ["CUTOVER_INSTANCE", "CUTOVER_HOOK", "CUTOVER_PROBE"] {
            kill_by_token(name, &self.instance.0.to_string(), LONG).ok();
        }
    }
}

pub fn stop_within(grace: Duration) -> StopSpec {
    StopSpec { signal: StopSignal::Term, grace }
}

pub fn is_running(pid: u32) -> bool {
    read_stat(pid).unwrap().is_some_and(|stat| !stat.is_ended())
}

pub async fn runs_no_more(pid: u32) {
    until(&format!("process {pid} to end"), || !is_running(pid)).await;
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

pub fn cause(ended: &Ended) -> &ExitCause {
    match ended {
        Ended::Exited(record) => &record.cause,
        Ended::Gone | Ended::Never => panic!("no exit record: {ended:?}"),
    }
}
