//! A fleet that runs a version behind its gates, to put another one beside it.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Clients, Cluster, Failure, PAGES, Ran, Sample, Served, ask_aside, wait_for};

/// How long each step of a rollout may take, on a machine that is busy.
const STEP_WITHIN: Duration = Duration::from_secs(120);

/// How version 1 comes to hosts that have nothing.
const EVERYWHERE: [&str; 2] = ["--strategy", "all_at_once"];

/// How many are asked for to see a share.
const REQUESTS: usize = 1_000;

/// By how much the share of one core's requests may differ from the weight: the gate takes the
/// points of a sequence that no stretch of so many leaves by more (`point_of_turn` in the gate).
const PER_CORE: usize = 4;

/// A short wait, so that tests are, and limits that no host misses because the machine is busy, nor
/// because a test does much while it is sick.
const QUICK: [&str; 6] =
    ["--healthy-for", "300ms", "--healthy-within", "3m", "--progress-within", "3m"];

/// A cluster whose hosts run version 1 of the sample application. Its instances write down what
/// they serve.
#[derive(Debug)]
pub struct Fleet {
    pub cluster: Cluster,
    log: PathBuf,
    let_go: PathBuf,
    /// Has a file for each host on which moody instances are healthy.
    moods: PathBuf,
}

/// Something that happened in a rollout, as its history tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// When, by the clock of the machine.
    pub at: Duration,
    pub text: String,
}

/// A request that an instance has until it is let go.
#[derive(Debug)]
#[must_use]
pub struct HeldRequest(JoinHandle<Result<String, Failure>>);

impl Fleet {
    /// The port of the application on each host.
    pub const PORT: u16 = 8080;

    /// How long a gate may hold at a cutover. All that a test does while gates hold has to fit into
    /// this: a few seconds, and more on a machine that is busy. A host that falls silent meanwhile
    /// is lost after 10 to 15 s.
    pub const HOLD: Duration = Duration::from_secs(30);

    /// Brings up `hosts` hosts that run version 1; version 2 is pushed.
    ///
    /// # Panics
    ///
    /// When something of it does not come up.
    pub fn start(hosts: u8) -> Self {
        Self::of(Cluster::start(hosts), &EVERYWHERE)
    }

    /// Brings up two hosts in each of two groups, by the label `group`, and two edges, `edge-8` and
    /// `edge-9`. The edges lead to version 1 in the first group; version 2 is pushed.
    ///
    /// # Panics
    ///
    /// When something of it does not come up.
    pub fn in_groups() -> Self {
        let mut cluster = Cluster::start(4);
        for (host, group) in ["blue", "blue", "green", "green"].iter().enumerate() {
            let name = cluster.agents()[host].name.clone();
            cluster.cutover(&["agents", "label", &name, &format!("group={group}")]).done();
        }
        for edge in [8, 9] {
            cluster.add_edge(edge);
        }
        cluster.wait_until_live(6);
        Self::of(cluster, &["--strategy", "blue_green", "--groups", "group", "--keep", "0s"])
    }

    /// Returns where the edges of [`Self::in_groups`] are asked.
    pub fn edges(&self) -> Vec<SocketAddr> {
        let edges = self.cluster.agents().iter().filter(|it| it.name.starts_with("edge-"));
        edges.map(|edge| SocketAddr::new(edge.address, Self::PORT)).collect()
    }

    /// Does the same with a wire between each agent and the coordinator, which can be cut.
    ///
    /// # Panics
    ///
    /// When something of it does not come up.
    pub fn start_with_wires(hosts: u8) -> Self {
        Self::of(Cluster::start_with_wires(hosts), &EVERYWHERE)
    }

    /// Does the same with each host in a network namespace, whose cable can be pulled; see
    /// [`Cluster::start_with_cables`].
    ///
    /// # Panics
    ///
    /// When something of it does not come up.
    pub fn start_with_cables(hosts: u8) -> Self {
        Self::of(Cluster::start_with_cables(hosts), &EVERYWHERE)
    }

    fn of(cluster: Cluster, first: &[&str]) -> Self {
        let log = cluster.folder().join("requests");
        fs::create_dir(&log).expect("the disk takes a folder");
        let let_go = cluster.folder().join("let-go");
        let moods = cluster.folder().join("moods");
        fs::create_dir(&moods).expect("the disk takes a folder");
        let fleet = Self { cluster, log, let_go, moods };
        for version in ["1", "2"] {
            fleet.push(Sample::good(version));
        }
        fleet.deploy("1", first).done();
        fleet
    }

    /// Pushes a release whose instances write down what they serve.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub fn push(&self, sample: Sample<'_>) {
        let log = self.log.join("$AGENT-$INSTANCE").display().to_string();
        let let_go = self.let_go.display().to_string();
        let mut args = vec!["--request-log", &log, "--held-until", &let_go];
        args.extend(sample.args);
        let sample = Sample { args: &args, ..sample };
        let dir = sample.write(self.cluster.folder(), &self.cluster.programs().sample);
        self.cluster.push(&dir, sample.version);
    }

    /// Pushes a release whose instances are healthy on a host from [`Self::make_healthy`] until
    /// [`Self::make_sick`].
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub fn push_moody(&self, version: &str) {
        let mood = self.moods.join("$AGENT").display().to_string();
        let args = ["--healthy-when", &mood];
        // How long it may be sick at first is for the test to say.
        self.push(Sample { args: &args, start_within: "3m", ..Sample::good(version) });
    }

    /// Makes moody instances on host `index` healthy.
    ///
    /// # Panics
    ///
    /// When the disk does not take a file.
    pub fn make_healthy(&self, index: usize) {
        fs::write(self.mood_of(index), "").expect("the disk takes a file");
    }

    /// Makes moody instances on host `index` fail their probes.
    ///
    /// # Panics
    ///
    /// When they were not healthy.
    pub fn make_sick(&self, index: usize) {
        fs::remove_file(self.mood_of(index)).expect("they were healthy");
    }

    fn mood_of(&self, index: usize) -> PathBuf {
        self.moods.join(&self.cluster.agents()[index].name)
    }

    /// Deploys `version`, with `more` arguments.
    pub fn deploy(&self, version: &str, more: &[&str]) -> Ran {
        let release = format!("web@{version}");
        let mut args = vec!["deploy", &release, "--to", "test"];
        args.extend(QUICK);
        args.extend(more);
        self.cluster.cutover(&args)
    }

    /// Deploys `version` by blue/green, with `more` arguments, and does not wait for the end.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub fn begin_blue_green(&self, version: &str, more: &[&str]) {
        self.begin_holding_for(Self::HOLD, version, more);
    }

    fn begin_holding_for(&self, hold: Duration, version: &str, more: &[&str]) {
        let hold = format!("{}s", hold.as_secs());
        let mut args = vec!["--strategy", "blue_green", "--hold", &hold, "--no-watch"];
        args.extend(more);
        self.deploy(version, &args).done();
    }

    /// Begins to ask all hosts.
    ///
    /// # Panics
    ///
    /// When nobody answers.
    pub fn ask(&self) -> Clients {
        Clients::ask(&self.cluster, Self::PORT, &PAGES)
    }

    /// Begins to ask host `index` from that host itself, also when nobody else reaches it.
    ///
    /// # Panics
    ///
    /// When nobody answers.
    pub fn ask_on_the_host(&self, index: usize) -> Clients {
        let host = self.cluster.hosts(Self::PORT)[index];
        self.cluster.on_the_host(index, || Clients::ask_at(&[host], &PAGES))
    }

    /// Does `verb` to the rollout.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub fn tell(&self, verb: &str) {
        self.cluster.cutover(&[verb, "web"]).done();
    }

    /// Waits until `cutover why` says `words`.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn until_why_says(&self, words: &str) {
        self.until_why_says_one_of(&[words]);
    }

    fn until_why_says_one_of(&self, words: &[&str]) {
        wait_for(&format!("cutover why to say one of {words:?}"), STEP_WITHIN, || {
            let why = self.cluster.cutover(&["why", "web"]).stdout;
            words.iter().any(|it| why.contains(it)).then_some(())
        });
    }

    /// Returns what has happened in the rollout so far, in its order.
    ///
    /// # Panics
    ///
    /// When it cannot be asked.
    pub fn events(&self) -> Vec<Told> {
        let rollout = self.cluster.json(&["why", "web", "--output", "json"]);
        let history = rollout["history"].as_array().expect("a rollout has a history");
        let told = history.iter().map(|it| Told {
            at: Duration::from_millis(it["unix_ms"].as_u64().expect("an event has a time")),
            text: it["text"].as_str().expect("an event is told").to_owned(),
        });
        told.collect()
    }

    /// Waits until the rollout is over, and demands that it ended as `state`.
    ///
    /// # Panics
    ///
    /// When it did not.
    pub fn until_over_as(&self, state: &str) {
        let (found, why) = self.until_over();
        assert_eq!(found, state, "{why}");
    }

    /// Waits until nothing goes on without a person. Returns the rollout's state, and why.
    fn until_over(&self) -> (String, String) {
        let watched = self.cluster.cutover(&["watch", "web", "--timeout", "4m"]);
        let history = self.cluster.json(&["history", "web", "--output", "json"]);
        let state = history[0]["state"].as_str().unwrap_or_default().to_owned();
        (state, self.cluster.cutover(&["why", "web"]).stdout + &watched.stderr)
    }

    /// Waits until host `index` alone is not back: it is waited for, or was for as long as a rollback
    /// waits for a host that is out of reach, which is half a minute, and a person is to be asked.
    ///
    /// # Panics
    ///
    /// When it does not come to this.
    pub fn until_all_are_back_but(&self, index: usize) {
        let name = &self.cluster.agents()[index].name;
        let waits = format!("for {name} to be as before");
        let waited = format!("{name} (not connected) did not come back");
        self.until_why_says_one_of(&[&waits, &waited]);
    }

    /// Waits until all hosts are there and are as before the rollout. Where one of them was out of
    /// reach for longer than a rollback waits, this is the person who is asked.
    ///
    /// # Panics
    ///
    /// When they are not.
    pub fn until_rolled_back(&self) {
        self.cluster.wait_until_live(self.cluster.agents().len());
        if self.until_over().0 == "held" {
            self.tell("retry");
        }
        self.until_over_as("rolled_back");
    }

    /// Waits until the clients of all hosts were led from `old` to `new`, and demands that it was
    /// done strictly, and that each host has started each of them once.
    ///
    /// # Panics
    ///
    /// When it is not so.
    pub fn until_cut_over_strictly(&self, old: &str, new: &str) {
        self.until_why_says("Watching the batch");
        let served = self.served();
        assert!(served.strictly(old, new).is_ok(), "{:?}", served.strictly(old, new));
        let once = vec![1; self.cluster.agents().len()];
        assert_eq!((self.starts_by_host(old), self.starts_by_host(new)), (once.clone(), once));
    }

    /// Returns what all instances wrote down so far.
    ///
    /// # Panics
    ///
    /// When a log cannot be read.
    pub fn served(&self) -> Served {
        Served::read(&self.log)
    }

    /// Waits until `version` has begun to serve clients somewhere.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn until_it_serves(&self, version: &str) {
        wait_for(&format!("{version} to serve a client"), STEP_WITHIN, || {
            (self.served().count(version) > 0).then_some(())
        });
    }

    /// Demands that `version` gets `percent` of what clients of host `index` ask for. Nobody else may
    /// ask meanwhile: the gate counts them too.
    ///
    /// # Panics
    ///
    /// When it gets more or less, or a request fails.
    pub fn assert_share(&self, index: usize, version: &str, percent: usize) {
        let host = self.cluster.hosts(Self::PORT)[index];
        let is_of = |_: &usize| {
            let page = Cluster::get_from(host, "/").expect("every request is answered");
            assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
            page.contains(&format!("web {version} "))
        };
        let got = (0..REQUESTS).filter(is_of).count();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (wanted, off) = (REQUESTS * percent / 100, PER_CORE * cores);
        assert!(got.abs_diff(wanted) <= off, "{got} of {REQUESTS}, and not {wanted} within {off}");
    }

    /// Waits until no instance of `version` is left on any host.
    ///
    /// # Panics
    ///
    /// When one does not end.
    pub fn until_it_is_gone(&self, version: &str) {
        let answers = |index| {
            let place = self.starts(index, version).last().copied();
            place.is_some_and(|place| Cluster::get_from(place, "/").is_some())
        };
        wait_for(&format!("the instances of {version} to end"), STEP_WITHIN, || {
            (!(0..self.cluster.agents().len()).any(answers)).then_some(())
        });
    }

    /// Returns where the instances of `version` on host `index` listen, in the order of their
    /// starts: one for each start.
    ///
    /// # Panics
    ///
    /// When one has written nonsense.
    pub fn starts(&self, index: usize, version: &str) -> Vec<SocketAddr> {
        let logs = self.cluster.instance_logs(index);
        let lines = logs.lines().filter(|line| line.starts_with(&format!("web {version} pid ")));
        let places = lines.filter_map(|line| line.split_once(" listens on "));
        places.map(|(_, place)| place.parse().expect("an instance says where it listens")).collect()
    }

    /// Returns how often instances of `version` were started on each host.
    pub fn starts_by_host(&self, version: &str) -> Vec<usize> {
        let hosts = 0..self.cluster.agents().len();
        hosts.map(|index| self.starts(index, version).len()).collect()
    }

    /// Returns how often instances of `version` were started on all hosts.
    pub fn starts_everywhere(&self, version: &str) -> usize {
        self.starts_by_host(version).into_iter().sum()
    }

    /// Begins a strict cutover from version 1 to version 2, and returns when all hosts hold what is
    /// new, for `hold` at most. The first has something under way, until [`Self::let_go`]: so long
    /// none is armed.
    ///
    /// # Panics
    ///
    /// When it does not come to this.
    pub fn hold_all(&self, hold: Duration) -> HeldRequest {
        let held = ask_aside(self.cluster.hosts(Self::PORT)[0], "POST /held");
        self.until_a_request_is_held();
        self.begin_holding_for(hold, "2", &["--keep", "1h"]);
        self.until_why_says("nothing is under way at web-1, or");
        HeldRequest(held)
    }

    /// Waits until an instance has a `POST /held` under way.
    ///
    /// # Panics
    ///
    /// When none gets one.
    pub fn until_a_request_is_held(&self) {
        let holds = |index| self.cluster.instance_logs(index).contains("holds a request");
        wait_for("an instance to hold a request", STEP_WITHIN, || {
            (0..self.cluster.agents().len()).any(holds).then_some(())
        });
    }

    /// Lets all requests go on that are held.
    ///
    /// # Panics
    ///
    /// When the disk does not take a file.
    pub fn let_all_go(&self) {
        fs::write(&self.let_go, "").expect("the disk takes a file");
    }

    /// Lets the request go on that is held, and demands that version 1 answers it.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn let_go(&self, held: HeldRequest) {
        self.let_all_go();
        let page = held.0.join().expect("a client tells what it heard").expect("it was answered");
        assert!(page.contains("web 1 "), "{page}");
    }

    /// Demands that the client of the request that is held lost its connection, and lets it go on.
    ///
    /// # Panics
    ///
    /// When it was answered.
    pub fn lost(&self, held: HeldRequest) {
        let heard = held.0.join().expect("a client tells what it heard");
        assert!(heard.is_err(), "{heard:?}");
        self.let_all_go();
    }

    /// Cuts host `index` off: its agent hears and says nothing, and its gate goes on.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn cut_off(&self, index: usize) {
        self.signal(index, Signal::STOP);
    }

    /// Lets the agent of host `index` go on.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn reconnect(&self, index: usize) {
        self.signal(index, Signal::CONT);
    }

    fn signal(&self, index: usize, signal: Signal) {
        let pid = self.cluster.agent_pid(index).and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw).expect("the agent runs");
        kill_process(pid, signal).expect("our own child takes a signal");
    }
}
