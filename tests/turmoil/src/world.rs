//! A world: one coordinator, some agents, the links between them, and what breaks.

use std::{
    collections::BTreeMap,
    io::Write as _,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::TryRecvError,
    },
    time::Duration,
};

use cutover_common::{
    Hook, HookKind, Labels, ProbeSpec, ProbeTarget, Release, ReleaseRef, RunSpec, Sha256,
    StopSignal, Version,
};
use cutover_coordinator::{
    artifacts::ArchiveStore,
    identity::{
        Identity,
        token::{NewToken, TokenKind},
    },
};
use cutover_coordinator_core::{
    Answer, DeployOrder, Refusal, Request, Verb, enrolment::JOIN_TOKEN_TTL, rollout::Options,
};
use cutover_runtime::{clock::wall, dice::Dice as _, tls::client};
use tempfile::TempDir;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use turmoil::Sim;
use uuid::Uuid;

use crate::{
    agent::{self, AgentHost, SharedJournal},
    clock::HostClock,
    coordinator::{self, CoordinatorHost, Order, PORT, SharedStore},
    fleet::{AgentSeen, CoordinatorSeen, Seen},
    luck::SeededDice,
    machine::{Machine, clock_start},
    network::HostNetwork,
    trace::Trace,
};

/// The coordinator's host.
pub const COORDINATOR: &str = "coordinator";

/// How many segments may wait at a port and in a connection: more than any scenario sends at once.
const QUEUED_MAX: usize = 4096;

/// How long the beginning of a world may take, in virtual time.
const BEGIN_WITHIN: Duration = Duration::from_secs(60);

/// How many lines of the trace a failure shows.
const SHOWN_MAX: usize = 60;

const SECOND: Duration = Duration::from_secs(1);

/// How a world is.
#[derive(Clone, Debug)]
pub struct WorldSettings {
    pub seed: u64,
    pub agents: usize,
    /// The steps of time in which messages move.
    pub tick: Duration,
    /// How long a message takes one way.
    pub latency: Range<Duration>,
    /// How long an agent takes to bring a release to its disk.
    pub prepares_in: Range<Duration>,
}

impl WorldSettings {
    /// A calm world.
    pub const fn new(seed: u64, agents: usize) -> Self {
        Self {
            seed,
            agents,
            tick: Duration::from_millis(10),
            latency: Duration::from_millis(1)..Duration::from_millis(40),
            prepares_in: Duration::from_millis(100)..Duration::from_secs(3),
        }
    }

    /// The same with longer steps: for what takes long or has many hosts, as each step costs
    /// each host some 20 us.
    pub const fn in_steps(self, tick: Duration) -> Self {
        Self { tick, ..self }
    }
}

/// What is cut between an agent and the coordinator. Nobody is told: no FIN, no RST.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// What the agent sends is lost.
    Up,
    /// What the coordinator sends is lost.
    Down,
    /// Everything is lost.
    Both,
    /// Everything is kept back and arrives when the link is mended: a network that was away for a
    /// while, as TCP repeats what it sent, or a peer whose process was frozen.
    Held,
}

/// One simulation.
pub struct World {
    sim: Sim<'static>,
    seed: u64,
    latency: Range<Duration>,
    dice: SeededDice,
    trace: Trace,
    seen: Seen,
    orders: mpsc::UnboundedSender<Order>,
    clock: HostClock,
    rollout: Arc<Mutex<Option<Uuid>>>,
    cuts: BTreeMap<String, Arc<AtomicBool>>,
    journals: BTreeMap<String, SharedJournal>,
    data: TempDir,
}

/// Runs `scenario` with some seeds, or with the one of `CUTOVER_SEED`.
pub fn each_seed(count: u64, mut scenario: impl FnMut(u64)) {
    let given = std::env::var("CUTOVER_SEED").ok().and_then(|text| text.parse().ok());
    match given {
        Some(seed) => scenario(seed),
        None => (1..=count).for_each(scenario),
    }
}

/// Returns the name of an agent, counted from 1.
pub fn agent_name(number: usize) -> String {
    format!("web-{number}")
}

/// Returns a version.
///
/// # Panics
///
/// If it is none.
pub fn version(text: &str) -> Version {
    text.parse().expect("a test names a version")
}

impl World {
    /// Makes a world in which every agent has joined and is connected.
    ///
    /// # Panics
    ///
    /// If that does not come about.
    pub fn new(settings: &WorldSettings) -> Self {
        let WorldSettings { seed, agents, tick, latency, prepares_in } = settings.clone();
        let mut builder = turmoil::Builder::new();
        let sim = builder
            .rng_seed(seed)
            .tick_duration(tick)
            .min_message_latency(latency.start)
            .max_message_latency(latency.end)
            .tcp_capacity(QUEUED_MAX)
            .build();
        let dice = SeededDice::new(seed, 0);
        let data = tempfile::tempdir().expect("a temporary folder can be made");
        let (orders, received) = mpsc::unbounded_channel();
        let (trace, seen) = (Trace::default(), Seen::default());
        let rollout = Arc::new(Mutex::new(None));
        let clock = HostClock { start: clock_start(&dice) };
        let incarnation = dice.uuid();
        let host = CoordinatorHost {
            identity: Arc::new(identity(&data, incarnation)),
            incarnation,
            store: SharedStore::new(incarnation),
            archives: Arc::new(archives(&data)),
            clock,
            orders: Arc::new(AsyncMutex::new(received)),
            rollout: rollout.clone(),
            trace: trace.clone(),
            seen: seen.clone(),
        };
        let ca_hash = client::ca_hash_of(host.identity.ca.pem()).expect("an authority has a hash");
        let mut world = Self {
            sim,
            seed,
            latency,
            dice,
            trace,
            seen,
            orders,
            clock,
            rollout,
            cuts: BTreeMap::new(),
            journals: BTreeMap::new(),
            data,
        };
        world.sim.host(COORDINATOR, move || coordinator::run(host.clone()));
        world
            .until(BEGIN_WITHIN, "the coordinator begins", |world| world.coordinator().starts == 1);
        for number in 1..=agents {
            world.add_agent(number, ca_hash, &prepares_in);
        }
        world.until(BEGIN_WITHIN, "every agent is connected", Self::is_whole);
        world
    }

    fn add_agent(&mut self, number: usize, ca_hash: Sha256, prepares_in: &Range<Duration>) {
        let name = agent_name(number);
        let token = NewToken::new(TokenKind::Join);
        let expires = self.clock.start + self.sim.elapsed() + JOIN_TOKEN_TTL;
        let labels = Labels::from([("env".to_owned(), "prod".to_owned())]);
        let agent = name.parse().expect("a test names agents well");
        self.ask(Request::CreateJoinToken {
            token_hash: token.hash(),
            name: Some(agent),
            labels,
            expires,
        })
        .expect("tokens can be made");
        let is_cut = Arc::new(AtomicBool::new(false));
        let dice = Arc::new(SeededDice::new(self.seed, number as u64));
        let journal = SharedJournal::default();
        let network =
            HostNetwork { host: name.clone(), trace: self.trace.clone(), is_cut: is_cut.clone() };
        let host = AgentHost {
            name: name.parse().expect("a test names agents well"),
            data: self.data.path().join(&name),
            url: format!("https://{COORDINATOR}:{PORT}"),
            token: token.reveal().to_owned(),
            ca_hash,
            network,
            clock: HostClock { start: clock_start(&dice) },
            dice,
            machine: Machine::default(),
            journal: journal.clone(),
            prepares_in: prepares_in.clone(),
            trace: self.trace.clone(),
            seen: self.seen.clone(),
        };
        self.cuts.insert(name.clone(), is_cut);
        self.journals.insert(name.clone(), journal);
        self.sim.host(name, move || agent::run(host.clone()));
    }

    /// Returns the virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Returns what happened so far.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Draws a time of `range` that depends on the seed alone.
    pub fn draw(&self, range: Range<Duration>) -> Duration {
        self.dice.between(range)
    }

    /// Draws a number below `end`.
    pub fn draw_below(&self, end: u64) -> u64 {
        self.dice.next() % end
    }

    /// Draws one of the agents.
    pub fn draw_agent(&self) -> String {
        let number = self.draw_below(self.cuts.len() as u64);
        let mut names = self.cuts.keys();
        names.nth(usize::try_from(number).unwrap_or(0)).cloned().unwrap_or_default()
    }

    /// Returns the coordinator as it knows the fleet.
    pub fn coordinator(&self) -> CoordinatorSeen {
        self.seen.coordinator()
    }

    /// Returns an agent as it knows itself.
    pub fn agent(&self, name: &str) -> AgentSeen {
        self.seen.agent(name)
    }

    /// Returns whether both sides say that every agent is connected.
    pub fn is_whole(&self) -> bool {
        let sessions = self.coordinator().sessions;
        self.cuts.keys().all(|name| sessions.contains_key(name) && self.agent(name).is_joined)
    }

    /// Tells whoever reads the test's output what came of this seed.
    pub fn tell(&self, text: &str) {
        // Only for people.
        drop(writeln!(std::io::stdout(), "seed {}: {text}", self.seed));
    }

    /// Lets one tick pass.
    ///
    /// # Panics
    ///
    /// If a promise is broken, or a program ends by itself.
    pub fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            panic!("after {:?}: {error}", self.elapsed());
        }
    }

    /// Lets time pass.
    ///
    /// # Panics
    ///
    /// As [`step`](Self::step).
    pub fn run(&mut self, time: Duration) {
        let until = self.elapsed() + time;
        while self.elapsed() < until {
            self.step();
        }
    }

    /// Lets time pass until something is so; returns how long it took.
    ///
    /// # Panics
    ///
    /// If it takes longer than `within`, or as [`step`](Self::step).
    pub fn until(&mut self, within: Duration, what: &str, is: impl Fn(&Self) -> bool) -> Duration {
        let begun = self.elapsed();
        while !is(self) {
            let took = self.elapsed() - begun;
            assert!(took <= within, "not within {within:?}: {what}");
            self.step();
        }
        self.elapsed() - begun
    }

    /// Asks the coordinator for something, as an operator does.
    ///
    /// # Errors
    ///
    /// If the coordinator refuses.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub fn ask(&mut self, request: Request) -> Result<Answer, Refusal> {
        let (answer, answered) = std::sync::mpsc::channel();
        assert!(self.orders.send(Order { request, answer }).is_ok(), "somebody takes orders");
        let until = self.elapsed() + BEGIN_WITHIN;
        loop {
            match answered.try_recv() {
                Ok(answer) => return answer,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => panic!("the coordinator ended meanwhile"),
            }
            assert!(self.elapsed() < until, "the coordinator does not answer");
            self.step();
        }
    }

    /// Registers releases 1 and 2, deploys 1, and waits until it runs everywhere.
    ///
    /// # Panics
    ///
    /// If that does not come about.
    pub fn with_release_running(&mut self) {
        let select = Labels::from([("env".to_owned(), "prod".to_owned())]);
        let name = "prod".parse().expect("a name");
        self.ask(Request::CreateEnvironment { name, select }).expect("a new environment");
        for number in ["1", "2"] {
            let release = Box::new(release(number));
            let manifest = String::new();
            self.ask(Request::RegisterRelease { release, manifest }).expect("a new release");
        }
        self.deploy("1");
        self.until(120 * SECOND, "release 1 runs", |world| world.rollout() == "succeeded");
    }

    /// Deploys a release everywhere at once.
    ///
    /// # Panics
    ///
    /// If the coordinator refuses.
    pub fn deploy(&mut self, number: &str) {
        let options = Options {
            strategy: "all_at_once".to_owned(),
            healthy_for: "2s".to_owned(),
            bake: "1s".to_owned(),
            soak: "1s".to_owned(),
            ..Options::default()
        };
        let order = DeployOrder {
            application: "web".parse().expect("a name"),
            version: version(number),
            environment: "prod".parse().expect("a name"),
            options,
        };
        let (request_id, rollout) = (self.dice.uuid(), self.dice.uuid());
        self.ask(Request::Deploy { request_id, rollout, order }).expect("the deploy is taken");
    }

    /// Waits until the newest rollout has brought its release everywhere; retries it, as an
    /// operator does, whenever it holds.
    ///
    /// # Panics
    ///
    /// If it takes longer, or ends otherwise.
    pub fn finish_rollout(&mut self, within: Duration) {
        let until = self.elapsed() + within;
        loop {
            let left = until.saturating_sub(self.elapsed());
            let is_settled = |world: &Self| matches!(world.rollout(), "succeeded" | "held");
            self.until(left, "the rollout succeeds or holds", is_settled);
            if self.rollout() == "succeeded" {
                return;
            }
            let rollout = self.rollout_id().map(|id| id.to_string()).unwrap_or_default();
            let (verb, new_rollout) = (Verb::Retry, self.dice.uuid());
            let reason = "the links are mended".to_owned();
            self.ask(Request::Control { rollout, verb, reason, new_rollout }).expect("a retry");
            let is_going = |world: &Self| world.rollout() != "held";
            self.until(2 * SECOND, "the retry shows", is_going);
        }
    }

    /// Returns whether a session of `agent` ended since `since`.
    pub fn has_ended_a_session(&self, agent: &str, since: Duration) -> bool {
        !self.trace.moments(agent, "ended session", since).is_empty()
    }

    /// Returns how often an agent did what begins with `what`, an effect on its machine.
    pub fn effects(&self, agent: &str, what: &str) -> usize {
        self.agent(agent).effects.iter().filter(|effect| effect.starts_with(what)).count()
    }

    /// Returns how the newest rollout stands, as a word.
    pub fn rollout(&self) -> &'static str {
        self.coordinator().rollout.map_or("none", |(word, _)| word)
    }

    /// Cuts an agent off.
    pub fn cut(&mut self, agent: &str, cut: Cut) {
        self.note(format!("cut {agent}: {cut:?}"));
        let swallows = matches!(cut, Cut::Up | Cut::Both);
        self.cuts[agent].store(swallows, Ordering::Relaxed);
        match cut {
            Cut::Up => self.sim.partition_oneway(agent, COORDINATOR),
            Cut::Down => self.sim.partition_oneway(COORDINATOR, agent),
            Cut::Both => self.sim.partition(agent, COORDINATOR),
            Cut::Held => self.sim.hold(agent, COORDINATOR),
        }
    }

    /// Mends an agent's link. What was held arrives.
    pub fn mend(&mut self, agent: &str) {
        self.note(format!("mended {agent}"));
        self.cuts[agent].store(false, Ordering::Relaxed);
        self.sim.release(agent, COORDINATOR);
    }

    /// Loses single messages of all links: TCP as turmoil has it does not repeat them, so that
    /// the connection stands still from then on. `rate` is a share of 1.
    pub fn lose(&mut self, rate: f64) {
        self.sim.set_fail_rate(rate);
    }

    /// Ends the coordinator's process without a word of it.
    pub fn crash_coordinator(&mut self) {
        self.note("crash of the coordinator".to_owned());
        let agents: Vec<String> = self.cuts.keys().cloned().collect();
        self.crash(COORDINATOR, &agents);
        self.seen.change_coordinator(|seen| seen.sessions.clear());
    }

    /// Starts the coordinator's process again.
    pub fn start_coordinator(&mut self) {
        self.sim.bounce(COORDINATOR);
    }

    /// Ends an agent's process, and starts it again. Its application goes on.
    pub fn restart_agent(&mut self, agent: &str) {
        self.note(format!("crash of {agent}"));
        self.crash(agent, &[agent.to_owned()]);
        self.seen.change_agent(agent, |agent| agent.is_joined = false);
        self.sim.bounce(agent);
    }

    /// Ends a process. tokio ends its tasks in an order that depends on how many tasks there ever
    /// were, so the FINs leave in any order: all take the same time, or no story would be the same
    /// twice.
    fn crash(&mut self, host: &str, links: &[String]) {
        for agent in links {
            self.sim.set_link_latency(agent.as_str(), COORDINATOR, self.latency.start);
        }
        self.sim.crash(host);
        for agent in links {
            self.sim.set_link_max_message_latency(agent.as_str(), COORDINATOR, self.latency.end);
        }
    }

    /// Returns when `agent` dialed since `since`.
    pub fn dials(&self, agent: &str, since: Duration) -> Vec<Duration> {
        self.trace.moments(agent, "dials", since)
    }

    /// Returns how many events an agent has stored.
    pub fn stored(&self, agent: &str) -> usize {
        self.journals[agent].events().len()
    }

    /// Returns the newest rollout's id.
    pub fn rollout_id(&self) -> Option<Uuid> {
        *self.rollout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: String) {
        self.trace.add(self.elapsed(), "world", what);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let tail = self.trace.tail(SHOWN_MAX);
            let text =
                format!("{tail}seed {}: CUTOVER_SEED={} runs it alone\n", self.seed, self.seed);
            // Only for people: the test fails anyway.
            drop(std::io::stderr().write_all(text.as_bytes()));
        }
    }
}

fn identity(data: &TempDir, incarnation: Uuid) -> Identity {
    let names = [COORDINATOR.to_owned()];
    Identity::init(data.path(), &names, incarnation, wall()).expect("an identity can be made")
}

/// Nothing is fetched here, but the service wants a store.
fn archives(data: &TempDir) -> ArchiveStore {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let folder = data.path().join("archives");
    runtime.block_on(ArchiveStore::in_folder(&folder)).expect("a folder for archives")
}

/// A release with a hook and a probe.
fn release(number: &str) -> Release {
    Release {
        name: ReleaseRef { application: "web".parse().expect("a name"), version: version(number) },
        digest: Sha256::of(number.as_bytes()),
        size_bytes: 10,
        archive_digest: Sha256::of(format!("archive of {number}").as_bytes()),
        archive_size_bytes: 5,
        run: RunSpec {
            command: vec!["./server".to_owned()],
            env: BTreeMap::new(),
            stop_signal: StopSignal::Term,
            stop_within: 10 * SECOND,
        },
        probe: Some(ProbeSpec {
            target: ProbeTarget::Tcp { port: 80 },
            every: 2 * SECOND,
            timeout: SECOND,
            passes: 1,
            failures: 3,
            start_within: 30 * SECOND,
        }),
        hooks: vec![Hook {
            kind: HookKind::BeforeStop,
            command: vec!["./drain".to_owned()],
            within: 10 * SECOND,
        }],
        service_port: None,
    }
}
