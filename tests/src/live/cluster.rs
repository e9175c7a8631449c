//! Cluster: a coordinator and agents, and what an operator types at them.

mod looks;

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use cutover_runtime::descendants;
use serde_json::Value;
use tempfile::TempDir;

pub use self::looks::{HeldSlot, Instance};
use super::{
    Programs,
    daemon::Daemon,
    links::{Link, Links},
    netns::Switch,
    prometheus::Prometheus,
    ran::{Ran, run},
    wait_for,
};

/// How long daemons may take to come up: a loaded machine's first start, or an agent that dials again
/// as seldom as it does at all, which is every 30 s.
const UP_WITHIN: Duration = Duration::from_secs(120);

/// A fleet.
#[derive(Debug)]
pub struct Cluster {
    // First, so that it is dropped last: fields drop in order, and `Drop` below runs before.
    folder: TempDir,
    programs: Programs,
    coordinator: Daemon,
    agents: Vec<AgentHandle>,
    operators: String,
    links: Links,
    /// The metrics server that the coordinator knows as `main`, if it was told of one.
    prometheus: Option<Prometheus>,
}

/// One agent of it.
#[derive(Debug)]
pub struct AgentHandle {
    pub name: String,
    pub address: IpAddr,
    pub data: PathBuf,
    daemon: Daemon,
    link: Link,
}

/// One of a fleet's daemons.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which {
    Coordinator,
    /// The agent of this index.
    Agent(usize),
}

impl Cluster {
    /// Brings up a coordinator and `agents` agents, all labelled `env=test`, and the environment
    /// `test` that selects them.
    ///
    /// # Panics
    ///
    /// When anything of it does not come up.
    pub fn start(agents: u8) -> Self {
        Self::start_coordinator().with_agents(agents)
    }

    /// Does the same with a wire between each agent and the coordinator, which can be cut.
    ///
    /// # Panics
    ///
    /// When anything of it does not come up.
    pub fn start_with_wires(agents: u8) -> Self {
        Self::start_linked_by(Links::Wires).with_agents(agents)
    }

    /// Does the same with each agent on a host of its own, in a network namespace, whose cable can be
    /// pulled. The coordinator and this thread are where the cables end, and what this thread starts
    /// from now on.
    ///
    /// # Panics
    ///
    /// When anything of it does not come up; see [`can_make_namespaces`](super::can_make_namespaces).
    pub fn start_with_cables(agents: u8) -> Self {
        let switch = Switch::new();
        switch.enter();
        Self::start_linked_by(Links::Cables(switch)).with_agents(agents)
    }

    fn with_agents(mut self, agents: u8) -> Self {
        self.cutover(&["env", "create", "test", "--select", "env=test"]).done();
        for number in 1..=agents {
            self.add_agent(number);
        }
        self.wait_until_live(usize::from(agents));
        self
    }

    /// Brings up a coordinator and nothing else.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn start_coordinator() -> Self {
        Self::start_linked_by(Links::Loopback)
    }

    fn start_linked_by(links: Links) -> Self {
        descendants::adopt_orphans().expect("the kernel lets us reap orphans");
        let programs = Programs::find();
        let folder = tempfile::Builder::new().prefix("cutover-live-").tempdir();
        let folder = folder.expect("the disk takes a folder");
        let data = folder.path().join("coordinator");
        // It comes back to the ports that it had, and at an address that all tests share another
        // program may have taken them meanwhile.
        let name = links.address(1).to_string();
        let any_port = format!("{name}:0");
        let init = run(Command::new(&programs.coordinator)
            .args(["init", "--name", &name, "--listen-agents", &any_port])
            .args(["--listen-operators", &any_port, "--listen-web", &any_port])
            .arg("--data")
            .arg(&data));
        let said = init.done();
        let word_after = |flag: &str| {
            let mut words = said.split_whitespace().skip_while(|word| *word != flag);
            words.nth(1).unwrap_or_else(|| panic!("init says {flag}: {said}")).to_owned()
        };
        let (token, ca_hash) = (word_after("--token"), word_after("--ca-hash"));
        let data_text = data.display().to_string();
        let log = folder.path().join("coordinator.log");
        let args = ["run", "--data", &data_text];
        let coordinator = Daemon::new(&programs.coordinator, &args, log);
        let mut cluster = Self {
            folder,
            programs,
            coordinator,
            agents: Vec::new(),
            operators: String::new(),
            links,
            prometheus: None,
        };
        cluster.start_the_coordinator();
        let url = format!("https://{}", cluster.operators);
        let mut login = cluster.command(&["login", &url, "--ca-hash", &ca_hash]);
        run(login.env("CUTOVER_TOKEN", token)).done();
        // Fixed from here on: agents dial the address that they joined.
        cluster.fix_ports();
        cluster
    }

    /// Returns the folder that is removed with the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the programs under test.
    pub const fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Returns the agents.
    pub fn agents(&self) -> &[AgentHandle] {
        &self.agents
    }

    /// Returns the coordinator's data directory.
    pub fn coordinator_data(&self) -> PathBuf {
        self.folder.path().join("coordinator")
    }

    /// Returns the coordinator's pid.
    pub fn coordinator_pid(&self) -> Option<u32> {
        self.coordinator.pid()
    }

    /// Starts the coordinator, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn start_the_coordinator(&mut self) {
        let path = self.coordinator_data().join("listening.json");
        drop(fs::remove_file(&path));
        self.coordinator.start();
        let coordinator = &mut self.coordinator;
        self.operators = wait_for("the coordinator to listen", UP_WITHIN, || {
            if let Some(status) = coordinator.ended() {
                panic!("the coordinator ended ({status}): {}", coordinator.log_tail());
            }
            let json: Value = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            json.get("operators")?.as_str().map(ToOwned::to_owned)
        });
    }

    /// Makes the ports that the system chose those of every later start.
    fn fix_ports(&mut self) {
        let data = self.coordinator_data();
        let listening = self.listening();
        let data_text = data.display().to_string();
        let of = |key: &str| listening[key].as_str().expect("an address").to_owned();
        let (agents, operators, web) = (of("agents"), of("operators"), of("web"));
        let args = [
            "run",
            "--data",
            &data_text,
            "--listen-agents",
            &agents,
            "--listen-operators",
            &operators,
            "--listen-web",
            &web,
        ];
        let log = self.folder.path().join("coordinator.log");
        let fixed = Daemon::new(&self.programs.coordinator, &args, log);
        let mut first = std::mem::replace(&mut self.coordinator, fixed);
        first.stop();
        self.start_the_coordinator();
    }

    /// Starts a Prometheus server that asks the coordinator for its metrics, and starts the coordinator
    /// anew with that server as its source of metrics `main`.
    ///
    /// # Panics
    ///
    /// When something of it does not come up.
    pub fn start_prometheus(&mut self) {
        let address = SocketAddr::new(self.links.address(9), 9090);
        let listening = self.listening();
        let web = listening["web"].as_str().expect("an address");
        let mut prometheus = Prometheus::new(self.folder.path(), address, web);
        prometheus.start();
        self.stop_the_coordinator();
        self.coordinator.add_args(&["--metrics", &format!("main={}", prometheus.url())]);
        self.prometheus = Some(prometheus);
        self.start_the_coordinator();
        self.wait_until_live(self.agents.len());
    }

    /// Ends the Prometheus server.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn stop_prometheus(&mut self) {
        self.prometheus.as_mut().expect("it was started").stop();
    }

    /// Starts it again.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn start_prometheus_again(&mut self) {
        self.prometheus.as_mut().expect("it was started").start();
    }

    /// Returns where the coordinator listens.
    ///
    /// # Panics
    ///
    /// When it has not said so.
    pub fn listening(&self) -> Value {
        let path = self.coordinator_data().join("listening.json");
        let json = fs::read(path).expect("the coordinator says where it listens");
        serde_json::from_slice(&json).expect("it is json")
    }

    /// Kills the coordinator with SIGKILL.
    pub fn kill_the_coordinator(&mut self) {
        self.coordinator.kill_9();
    }

    /// Stops the coordinator as a service manager does.
    ///
    /// # Panics
    ///
    /// When it ends badly.
    pub fn stop_the_coordinator(&mut self) {
        let status = self.coordinator.stop();
        assert!(status.success(), "{status}: {}", self.coordinator.log_tail());
    }

    /// Returns the end of the coordinator's log.
    pub fn coordinator_log(&self) -> String {
        self.coordinator.log_tail()
    }

    /// Lets a new agent join, and starts it.
    ///
    /// # Panics
    ///
    /// When it cannot join.
    pub fn add_agent(&mut self, number: u8) {
        self.join_agent(number, &format!("web-{number}"), "env=test");
    }

    /// Lets an agent join that stands in front of the environment `test`, and starts it.
    ///
    /// # Panics
    ///
    /// When it cannot join.
    pub fn add_edge(&mut self, number: u8) {
        self.join_agent(number, &format!("edge-{number}"), "edge=test");
    }

    fn join_agent(&mut self, number: u8, name: &str, label: &str) {
        let token =
            self.json(&["agents", "token", "--name", name, "--label", label, "--output", "json"]);
        let of = |key: &str| token[key].as_str().expect("a text").to_owned();
        let data = self.folder.path().join(name);
        let join_url = of("join_url");
        let place = join_url.strip_prefix("https://").expect("agents join over TLS");
        let coordinator = place.parse().expect("a cluster's coordinator is at an address");
        let (address, link) =
            (self.links.address(10 + number), self.links.link(10 + number, coordinator));
        let url = format!("https://{}", link.leads_to(coordinator));
        let mut join = Command::new(&self.programs.agent);
        join.args(["join", &url, "--token", &of("token")])
            .args(["--ca-hash", &of("ca_hash"), "--name", name, "--data"])
            .arg(&data);
        link.on_the_host(|| run(&mut join)).done();
        let (data_text, address_text) = (data.display().to_string(), address.to_string());
        let args = ["run", "--data", &data_text, "--address", &address_text];
        let log = self.folder.path().join(format!("{name}.log"));
        let daemon = Daemon::new(&self.programs.agent, &args, log);
        self.agents.push(AgentHandle { name: name.to_owned(), address, data, daemon, link });
        self.start_agent(self.agents.len() - 1);
    }

    /// Cuts the wire of agent `index`, or pulls its cable. It then neither hears nor is heard, and goes
    /// on.
    ///
    /// # Panics
    ///
    /// When the cluster was started without.
    pub fn cut_wire(&self, index: usize) {
        self.agents[index].link.cut();
    }

    /// Mends the wire of agent `index`, or plugs its cable in.
    ///
    /// # Panics
    ///
    /// When the cluster was started without.
    pub fn mend_wire(&self, index: usize) {
        self.agents[index].link.mend();
    }

    /// Does `work` on the host of agent `index`. What it starts, threads too, stays there, and reaches
    /// that host when nobody else does.
    pub fn on_the_host<T: Send>(&self, index: usize, work: impl FnOnce() -> T + Send) -> T {
        self.agents[index].link.on_the_host(work)
    }

    /// Starts agent `index` again, as after an upgrade: from a new copy of its program at another
    /// path, with a gate's beside it.
    ///
    /// # Panics
    ///
    /// When the disk does not take the programs.
    pub fn start_another_agent_program(&mut self, index: usize) {
        let dir = tempfile::Builder::new().prefix("upgrade-").tempdir_in(self.folder.path());
        // Removed with the folder that it is in.
        let dir = dir.expect("the disk takes a folder").keep();
        for name in ["cutover-agent", "cutover-gate"] {
            let program = self.programs.agent.with_file_name(name);
            fs::copy(program, dir.join(name)).expect("the disk takes a program");
        }
        self.agents[index].daemon.replace_program(&dir.join("cutover-agent"));
        self.start_agent(index);
    }

    /// Kills agent `index` with SIGKILL. Its instances go on.
    pub fn kill_agent(&mut self, index: usize) {
        self.agents[index].daemon.kill_9();
    }

    /// Starts agent `index` again.
    pub fn start_agent(&mut self, index: usize) {
        let AgentHandle { daemon, link, .. } = &mut self.agents[index];
        link.on_the_host(|| daemon.start());
    }

    /// Stops agent `index` as a service manager does.
    ///
    /// # Panics
    ///
    /// When it ends badly.
    pub fn stop_agent(&mut self, index: usize) {
        let status = self.agents[index].daemon.stop();
        assert!(status.success(), "{status}: {}", self.agents[index].daemon.log_tail());
    }

    /// Returns the end of agent `index`'s log.
    pub fn agent_log(&self, index: usize) -> String {
        self.agents[index].daemon.log_tail()
    }

    /// Returns agent `index`'s pid.
    pub fn agent_pid(&self, index: usize) -> Option<u32> {
        self.agents[index].daemon.pid()
    }

    /// Waits until so many agents are live.
    ///
    /// # Panics
    ///
    /// When they do not come.
    pub fn wait_until_live(&self, count: usize) {
        wait_for(&format!("{count} live agents"), UP_WITHIN, || {
            let list = self.cutover(&["agents", "list", "--output", "json"]);
            let list: Value = serde_json::from_str(&list.stdout).ok()?;
            let live = list.as_array()?.iter().filter(|agent| agent["presence"] == "live").count();
            (live == count).then_some(())
        });
    }

    /// Returns a daemon, to do to it what has no name here.
    pub(crate) fn daemon(&mut self, which: Which) -> &mut Daemon {
        match which {
            Which::Coordinator => &mut self.coordinator,
            Which::Agent(index) => &mut self.agents[index].daemon,
        }
    }

    /// Runs `cutover` with `args`.
    pub fn cutover(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args))
    }

    /// Makes the command `cutover` with `args`, logged in.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.cutover);
        command
            .args(args)
            .env("CUTOVER_CONFIG", self.folder.path().join("login.json"))
            .env("NO_COLOR", "1");
        command
    }

    /// Runs `cutover` with `args` and reads what it printed.
    ///
    /// # Panics
    ///
    /// When it fails or prints no JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let said = self.cutover(args).done();
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{args:?}: {error}: {said}"))
    }

    /// Pushes the release in `dir`.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub fn push(&self, dir: &Path, version: &str) {
        let dir = dir.display().to_string();
        self.cutover(&["release", "push", &dir, "--version", version]).done();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tell("coordinator", &self.coordinator.log_tail());
            for agent in &self.agents {
                tell(&agent.name, &agent.daemon.log_tail());
                print_instance_logs(agent);
            }
        }
        let left = descendants::end_all();
        assert!(left == 0 || std::thread::panicking(), "{left} processes could not be ended");
    }
}

/// Says what a program logged, under the name of the log.
fn tell(name: &str, log: &str) {
    // Nobody is left to tell it to when stderr is gone.
    drop(writeln!(std::io::stderr(), "--- {name}\n{log}"));
}

fn print_instance_logs(agent: &AgentHandle) {
    let below = |path: &Path| {
        fs::read_dir(path).into_iter().flatten().flatten().map(|it| it.path()).collect::<Vec<_>>()
    };
    for log in below(&agent.data.join("logs")).iter().flat_map(|application| below(application)) {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let tail = text.len().saturating_sub(2_000);
        tell(&log.display().to_string(), text.get(tail..).unwrap_or_default());
    }
}
