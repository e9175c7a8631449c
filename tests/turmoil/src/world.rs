//! A world: one coordinator, some agents, the links between them, and what breaks.

mod deploys;
mod faults;

use std::{
    collections::BTreeMap,
    io::Write as _,
    ops::Range,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use cutover_common::{Labels, Sha256};
use cutover_coordinator::{
    artifacts::ArchiveStore,
    identity::{
        Identity,
        token::{NewToken, TokenKind},
    },
};
use cutover_coordinator_core::{Request, enrolment::JOIN_TOKEN_TTL};
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

pub use self::faults::Cut;

/// The coordinator's host.
const COORDINATOR: &str = "coordinator";

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
    clocks: BTreeMap<String, HostClock>,
    data: TempDir,
}

/// Runs `scenario` with the seeds 1 to `count`, with as many as `CUTOVER_SEEDS` says, or with the
/// one of `CUTOVER_SEED`.
pub fn each_seed(count: u64, mut scenario: impl FnMut(u64)) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("CUTOVER_SEED") {
        Some(seed) => scenario(seed),
        None => (1..=number("CUTOVER_SEEDS").unwrap_or(count)).for_each(scenario),
    }
}

/// Returns the name of an agent, counted from 1.
pub fn agent_name(number: usize) -> String {
    format!("web-{number}")
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
        let clock = HostClock::new(clock_start(&dice));
        let incarnation = dice.uuid();
        let host = CoordinatorHost {
            identity: Arc::new(identity(&data, incarnation)),
            incarnation,
            store: SharedStore::new(incarnation),
            archives: Arc::new(archives(&data)),
            clock: clock.clone(),
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
            clocks: BTreeMap::new(),
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
        let expires = self.clock.at(self.sim.elapsed()) + JOIN_TOKEN_TTL;
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
        let clock = HostClock::new(clock_start(&dice));
        self.clocks.insert(name.clone(), clock.clone());
        let network =
            HostNetwork { host: name.clone(), trace: self.trace.clone(), is_cut: is_cut.clone() };
        let host = AgentHost {
            name: name.parse().expect("a test names agents well"),
            data: self.data.path().join(&name),
            url: format!("https://{COORDINATOR}:{PORT}"),
            token: token.reveal().to_owned(),
            ca_hash,
            network,
            clock,
            machine: Machine::default(),
            dice,
            journal: SharedJournal::default(),
            prepares_in: prepares_in.clone(),
            trace: self.trace.clone(),
            seen: self.seen.clone(),
        };
        self.cuts.insert(name.clone(), is_cut);
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

    /// Returns whether a session of `agent` ended since `since`.
    pub fn has_ended_a_session(&self, agent: &str, since: Duration) -> bool {
        !self.trace.moments(agent, "ended session", since).is_empty()
    }

    /// Returns how often an agent did what begins with `what`, an effect on its machine.
    pub fn effects(&self, agent: &str, what: &str) -> usize {
        self.agent(agent).effects.iter().filter(|effect| effect.starts_with(what)).count()
    }

    /// Returns when `agent` dialed since `since`.
    pub fn dials(&self, agent: &str, since: Duration) -> Vec<Duration> {
        self.trace.moments(agent, "dials", since)
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
