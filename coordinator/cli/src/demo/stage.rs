//! The stage: a folder, a coordinator and agents, raised for the demo and removed after it.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cutover_runtime::descendants;

use super::application;
use crate::{
    failure::{Failure, Kind},
    render::console::Console,
};

/// How long the programs may take to come up: a loaded machine's first start, not a wait.
const UP_WITHIN: Duration = Duration::from_secs(20);

/// Between two looks at something that is to come up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long daemons may take to end when asked, before they are ended.
const DOWN_WITHIN: Duration = Duration::from_secs(5);

/// Everything that the demo has made.
pub(super) struct Stage {
    console: Console,
    folder: PathBuf,
    programs: Programs,
    agents: u8,
    port: u16,
    daemons: Vec<Child>,
}

/// The programs, found beside this one.
struct Programs {
    cutover: PathBuf,
    coordinator: PathBuf,
    agent: PathBuf,
    sample: PathBuf,
}

impl Programs {
    fn find() -> Result<Self, Failure> {
        let own = std::env::current_exe().map_err(|error| {
            Failure::refused(format!("this program cannot find itself: {error}"))
        })?;
        let beside = |name: &str| {
            let path = own.with_file_name(name);
            if path.is_file() {
                return Ok(path);
            }
            Err(Failure::refused(format!("the demo needs {name} beside {}", own.display()))
                .with_hint("build all programs: make demo"))
        };
        Ok(Self {
            coordinator: beside("cutover-coordinator")?,
            agent: beside("cutover-agent")?,
            sample: beside("cutover-sample")?,
            cutover: own,
        })
    }
}

fn failed(what: &str) -> impl Fn(io::Error) -> Failure + use<'_> {
    move |error| Failure::refused(format!("{what}: {error}"))
}

impl Stage {
    /// Finds the programs and makes the folder. Starts nothing.
    pub(super) fn set(console: Console, agents: u8) -> Result<Self, Failure> {
        let programs = Programs::find()?;
        descendants::adopt_orphans().map_err(failed("could not prepare to clean up"))?;
        let name = format!("cutover-demo-{}", uuid::Uuid::new_v4().simple());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).map_err(failed("could not make a folder"))?;
        let port = free_port(agents)?;
        Ok(Self { console, folder, programs, agents, port, daemons: Vec::new() })
    }

    /// Returns where each host's application is reached.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        hosts(self.agents).map(|host| SocketAddr::new(host, self.port)).collect()
    }

    pub(super) fn headline(&self, text: &str) {
        self.console.progress(&format!("\n{text}"));
    }

    /// Brings up the coordinator and its agents.
    pub(super) async fn raise(&mut self) -> Result<(), Failure> {
        let folder = self.folder.display();
        self.console.progress(&format!(
            "A coordinator and {} agents on this machine, in {folder}, with real TLS.",
            self.agents
        ));
        let operators = self.raise_coordinator().await?;
        self.login(&operators)?;
        self.cutover(&["env", "create", "demo", "--select", "demo=yes"]).await?;
        for number in 1..=self.agents {
            self.raise_agent(number)?;
        }
        self.wait_for_agents().await?;
        self.cutover(&["agents", "list"]).await.map(drop)
    }

    async fn raise_coordinator(&mut self) -> Result<Operators, Failure> {
        let data = self.path("coordinator");
        let mut init = Command::new(&self.programs.coordinator);
        init.args(["init", "--listen-agents", "127.0.0.1:0", "--listen-operators", "127.0.0.1:0"])
            .args(["--listen-web", "127.0.0.1:0", "--name", "127.0.0.1", "--data"])
            .arg(&data);
        let said = output(&mut init, "cutover-coordinator init")?;
        let words: Vec<&str> = said.split_whitespace().collect();
        let after = |flag: &str| {
            let place = words.iter().position(|word| *word == flag)?;
            words.get(place + 1).map(|word| (*word).to_owned())
        };
        let missing =
            || Failure::new(Kind::OurBug, "cutover-coordinator init printed no login command");
        let token = after("--token").ok_or_else(missing)?;
        let ca_hash = after("--ca-hash").ok_or_else(missing)?;

        let mut run = Command::new(&self.programs.coordinator);
        run.args(["run", "--data"]).arg(&data);
        self.start(run, "coordinator")?;
        let url = self.listening(&data.join("listening.json")).await?;
        Ok(Operators { url, token, ca_hash })
    }

    /// Waits until the coordinator has written where it listens.
    async fn listening(&mut self, path: &Path) -> Result<String, Failure> {
        let deadline = Instant::now() + UP_WITHIN;
        loop {
            if let Ok(json) = fs::read(path)
                && let Ok(found) = serde_json::from_slice::<serde_json::Value>(&json)
                && let Some(operators) = found.get("operators").and_then(|it| it.as_str())
            {
                return Ok(format!("https://{operators}"));
            }
            self.still_waiting(deadline, "the coordinator")?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Says if what is waited for cannot come any more.
    fn still_waiting(&mut self, deadline: Instant, what: &str) -> Result<(), Failure> {
        let ended = self.daemons.iter_mut().any(|it| !matches!(it.try_wait(), Ok(None)));
        if !ended && Instant::now() < deadline {
            return Ok(());
        }
        let how = if ended { "ended at once" } else { "did not come up in time" };
        Err(Failure::refused(format!("{what} {how}\n{}", self.last_log_lines())))
    }

    fn login(&self, operators: &Operators) -> Result<(), Failure> {
        let mut login = self.command(&["login", &operators.url, "--ca-hash", &operators.ca_hash]);
        login.env("CUTOVER_TOKEN", &operators.token);
        output(&mut login, "cutover login").map(drop)
    }

    fn raise_agent(&mut self, number: u8) -> Result<(), Failure> {
        let name = format!("web-{number}");
        let mut token = self.command(&["agents", "token", "--name", &name, "--label", "demo=yes"]);
        token.args(["--output", "json"]);
        let said = output(&mut token, "cutover agents token")?;
        let said: serde_json::Value = serde_json::from_str(&said).map_err(|error| {
            Failure::new(Kind::OurBug, format!("`agents token` printed no json: {error}"))
        })?;
        let field = |key: &str| said.get(key).and_then(|it| it.as_str()).unwrap_or_default();

        let data = self.path(&name);
        let mut join = Command::new(&self.programs.agent);
        join.args(["join", field("join_url"), "--ca-hash", field("ca_hash")])
            .args(["--name", &name, "--data"])
            .arg(&data)
            .env("CUTOVER_JOIN_TOKEN", field("token"));
        output(&mut join, "cutover-agent join")?;
        let mut run = Command::new(&self.programs.agent);
        run.args(["run", "--address", &host(number).to_string(), "--data"]).arg(&data);
        self.start(run, &name)
    }

    async fn wait_for_agents(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + UP_WITHIN;
        loop {
            let mut list = self.command(&["agents", "list", "--output", "json"]);
            let said = output(&mut list, "cutover agents list")?;
            let live = said.matches("\"presence\": \"live\"").count()
                + said.matches("\"presence\":\"live\"").count();
            if live == usize::from(self.agents) {
                return Ok(());
            }
            self.still_waiting(deadline, "an agent")?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Pushes a release of the demo's application.
    pub(super) fn push(&self, version: &str, kind: application::Kind) -> Result<(), Failure> {
        let dir = self.path(&format!("web-{version}"));
        application::write(&dir, &self.programs.sample, version, kind, self.port)
            .map_err(failed("could not write the sample application"))?;
        let dir = dir.display().to_string();
        self.show(&["release", "push", &dir, "--version", version]);
        let mut push = self.command(&["release", "push", &dir, "--version", version]);
        let said = output(&mut push, "cutover release push")?;
        self.console.result(&said)
    }

    /// Runs a command of the operator, shows it with what it prints, and returns that.
    #[expect(clippy::unused_async, reason = "keeps the acts of the demo alike")]
    pub(super) async fn cutover(&self, args: &[&str]) -> Result<String, Failure> {
        self.show(args);
        let said = output(&mut self.command(args), &format!("cutover {}", args.join(" ")))?;
        self.console.result(&said)?;
        Ok(said)
    }

    /// Runs a command of the operator on our own terminal, and returns its exit status.
    pub(super) async fn cutover_status(&self, args: &[&str]) -> Result<i32, Failure> {
        self.show(args);
        let mut command = tokio::process::Command::from(self.command(args));
        command.kill_on_drop(true);
        let status = command.status().await.map_err(failed("could not run cutover"))?;
        Ok(status.code().unwrap_or(-1))
    }

    pub(super) fn tell_how_to_go_on(&self) {
        self.console.progress(&format!(
            "\nThe fleet stays up. Look at it from another terminal:\n  export CUTOVER_CONFIG={}\n  \
             cutover status\nCtrl-C here ends and removes everything.",
            self.login_file().display()
        ));
    }

    /// Ends every process of the demo and removes its folder.
    pub(super) async fn clear(mut self) -> Result<(), Failure> {
        for daemon in &self.daemons {
            if let Ok(pid) = i32::try_from(daemon.id())
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                // One that has ended is a zombie until it is waited for below, so the pid is ours.
                let _ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        let deadline = Instant::now() + DOWN_WITHIN;
        for daemon in &mut self.daemons {
            while matches!(daemon.try_wait(), Ok(None)) && Instant::now() < deadline {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        let left = tokio::task::spawn_blocking(descendants::end_all).await.unwrap_or(usize::MAX);
        fs::remove_dir_all(&self.folder).map_err(failed("could not remove the demo's folder"))?;
        if left > 0 {
            return Err(Failure::new(
                Kind::OurBug,
                format!("{left} processes of the demo could not be ended"),
            ));
        }
        Ok(())
    }

    fn show(&self, args: &[&str]) {
        let shown = args.join(" ").replace(&format!("{}/", self.folder.display()), "");
        self.console.progress(&format!("$ cutover {shown}"));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn login_file(&self) -> PathBuf {
        self.path("login.json")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.cutover);
        command.args(args).env("CUTOVER_CONFIG", self.login_file());
        command
    }

    fn start(&mut self, mut command: Command, name: &str) -> Result<(), Failure> {
        use std::os::unix::process::CommandExt as _;
        let log = fs::File::create(self.path(&format!("{name}.log")))
            .map_err(failed("could not make a log file"))?;
        // A group of its own: Ctrl-C is for us, and we end the daemons.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(failed("could not start a program"))?;
        self.daemons.push(child);
        Ok(())
    }

    /// Returns the last lines of each daemon's log, for an error's reader.
    fn last_log_lines(&self) -> String {
        let logs = fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        let mut text = String::new();
        for entry in logs.filter(|it| it.path().extension().is_some_and(|kind| kind == "log")) {
            let mut said = String::new();
            if fs::File::open(entry.path()).and_then(|mut it| it.read_to_string(&mut said)).is_ok()
                && let Some(line) = said.lines().last()
            {
                text.push_str(&format!("{}: {line}\n", entry.file_name().display()));
            }
        }
        text
    }
}

impl Drop for Stage {
    /// The last resort: a demo that fails half-way leaves nothing either.
    fn drop(&mut self) {
        if self.folder.exists() {
            descendants::end_all();
            if let Err(error) = fs::remove_dir_all(&self.folder) {
                drop(writeln!(io::stderr(), "could not remove {}: {error}", self.folder.display()));
            }
        }
    }
}

/// Where the coordinator is reached, and as whom.
struct Operators {
    url: String,
    token: String,
    ca_hash: String,
}

fn host(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10_u8.saturating_add(number)))
}

fn hosts(agents: u8) -> impl Iterator<Item = IpAddr> {
    (1..=agents).map(host)
}

/// Finds a port that is free on every host's address.
fn free_port(agents: u8) -> Result<u16, Failure> {
    let usual = [8080_u16, 8081, 8082];
    let given = (0..20).filter_map(|_| {
        TcpListener::bind((host(1), 0)).and_then(|it| it.local_addr()).ok().map(|it| it.port())
    });
    usual
        .into_iter()
        .chain(given)
        .find(|port| hosts(agents).all(|host| TcpListener::bind((host, *port)).is_ok()))
        .ok_or_else(|| Failure::refused("no port is free on 127.0.0.11 and the following"))
}

/// Runs a command to its end and returns what it printed.
fn output(command: &mut Command, name: &str) -> Result<String, Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::refused(format!("could not run {name}: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::refused(format!("{name} failed: {}", said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
