//! A fleet that runs a version behind its gates, to put another one beside it.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Cluster, Failure, Ran, Sample, Served, ask_aside, wait_for};

/// How long each step of a rollout may take, on a machine that is busy.
const STEP_WITHIN: Duration = Duration::from_secs(60);

/// How many are asked for to see a share.
const REQUESTS: usize = 1_000;

/// By how much the share of one core's requests may differ from the weight: the gate takes the
/// points of a sequence that no stretch of so many leaves by more (`point_of_turn` in the gate).
const PER_CORE: usize = 4;

/// Short waits, so that tests are; what they mean is the same.
const QUICK: [&str; 6] =
    ["--healthy-for", "300ms", "--healthy-within", "60s", "--progress-within", "2m"];

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

impl Fleet {
    /// The port of the application on each host.
    pub const PORT: u16 = 8080;

    /// Brings up `hosts` hosts that run version 1; version 2 is pushed.
    ///
    /// # Panics
    ///
    /// When something of it does not come up.
    pub fn start(hosts: u8) -> Self {
        Self::of(Cluster::start(hosts))
    }

    /// Does the same with a wire between each agent and the coordinator, which can be cut.
    ///
    /// # Panics
    ///
    /// When something of it does not come up.
    pub fn start_with_wires(hosts: u8) -> Self {
        Self::of(Cluster::start_with_wires(hosts))
    }

    fn of(cluster: Cluster) -> Self {
        let log = cluster.folder().join("requests");
        fs::create_dir(&log).expect("the disk takes a folder");
        let let_go = cluster.folder().join("let-go");
        let moods = cluster.folder().join("moods");
        fs::create_dir(&moods).expect("the disk takes a folder");
        let fleet = Self { cluster, log, let_go, moods };
        for version in ["1", "2"] {
            fleet.push(Sample::good(version));
        }
        fleet.deploy("1", &["--strategy", "all_at_once"]).done();
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
        // How long it may be sick at first is for the test to say, and how long later is short.
        let good = Sample::good(version);
        self.push(Sample { args: &args, start_within: "60s", failures: 10, ..good });
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
        let mut args = vec!["--strategy", "blue_green", "--no-watch"];
        args.extend(more);
        self.deploy(version, &args).done();
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
        wait_for(&format!("cutover why to say {words:?}"), STEP_WITHIN, || {
            let why = self.cluster.cutover(&["why", "web"]);
            why.stdout.contains(words).then_some(())
        });
    }

    /// Waits until the rollout is over, and demands that it ended as `state`.
    ///
    /// # Panics
    ///
    /// When it did not.
    pub fn until_over_as(&self, state: &str) {
        let watched = self.cluster.cutover(&["watch", "web", "--timeout", "2m"]);
        let history = self.cluster.json(&["history", "web", "--output", "json"]);
        let why = || self.cluster.cutover(&["why", "web"]).stdout;
        assert_eq!(history[0]["state"], state, "{}{}", why(), watched.stderr);
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

    /// Returns how often instances of `version` were started on all hosts.
    pub fn starts_everywhere(&self, version: &str) -> usize {
        (0..self.cluster.agents().len()).map(|index| self.starts(index, version).len()).sum()
    }

    /// Begins a request at host `index` that is under way until [`Self::let_go`], and returns when
    /// an instance has it.
    ///
    /// # Panics
    ///
    /// When none gets it.
    pub fn hold_a_request(&self, index: usize) -> JoinHandle<Result<String, Failure>> {
        let held = ask_aside(self.cluster.hosts(Self::PORT)[index], "POST /held");
        wait_for("an instance to hold a request", STEP_WITHIN, || {
            self.cluster.instance_logs(index).contains("holds a request").then_some(())
        });
        held
    }

    /// Lets the requests go on that are held.
    ///
    /// # Panics
    ///
    /// When the disk does not take a file.
    pub fn let_go(&self) {
        fs::write(&self.let_go, "").expect("the disk takes a file");
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
