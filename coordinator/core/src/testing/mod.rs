//! A story: a coordinator, a fleet of pretended agents and a clock that is moved by hand. Every
//! input of every story is also checked against what must always hold (see [`check`]).

mod agents;
mod check;
mod properties;
mod script;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cutover_common::{
    AgentName, Config, Generation, Hook, HookKind, Labels, Limits, Protocol, Release, ReleaseRef,
    RunSpec, Service, Sha256, StopSignal, Swap, Timestamp, Version,
};
use uuid::Uuid;

pub(crate) use self::agents::Agent;
use self::check::Watch;
use crate::{
    Action, Answer, Coordinator, DeployOrder, Event, Input, Refusal, Request, Verb,
    input::{LeaveOut, QueryId, ReplyId},
    rollout::{HostState, Options, Rollout, State, Waiting},
};

/// The application of all stories.
pub(crate) const WEB: &str = "web";
/// The environment of all stories, with all agents in it.
pub(crate) const PROD: &str = "prod";
/// Where the clock begins, in ms since 1970.
const BEGINNING: u64 = 1_000_000;

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

pub(crate) fn version(text: &str) -> Version {
    text.parse().unwrap()
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn hash(text: &str) -> Sha256 {
    Sha256::of(text.as_bytes())
}

/// Makes the release of this version; `content` is what tells it from another of that version.
pub(crate) fn release(of: &str, content: &str) -> Release {
    Release {
        name: ReleaseRef { application: WEB.parse().unwrap(), version: version(of) },
        digest: hash(content),
        size_bytes: 10,
        archive_digest: hash(&format!("archive of {content}")),
        archive_size_bytes: 5,
        run: RunSpec {
            command: vec!["./server".to_owned()],
            env: BTreeMap::new(),
            stop_signal: StopSignal::Term,
            stop_within: seconds(10),
            shared: Vec::new(),
        },
        probe: None,
        hooks: Vec::new(),
        checks: Vec::new(),
        service: None,
        config: Config::default(),
    }
}

/// Makes a release of which a host holds one instance at a time, behind its gate.
pub(crate) fn in_place(of: &str) -> Release {
    let mut release = release(of, of);
    release.service = Some(Service {
        port: 8080,
        protocol: Protocol::Http,
        swap: Swap::InPlace,
        drain: seconds(30),
        drain_long_lived: seconds(600),
        keep_warm: seconds(0),
        tls: None,
        sticky: None,
        proxy_protocol: false,
        trusted_peers: Vec::new(),
        limits: Limits::default(),
    });
    release
}

/// Makes a release of which a host can hold two instances, behind its gate.
pub(crate) fn gated(of: &str) -> Release {
    let mut release = in_place(of);
    if let Some(service) = &mut release.service {
        service.swap = Swap::Beside;
    }
    release
}

/// Makes `release` one whose `before_start` hook is run by one host for all.
pub(crate) fn migrated(mut release: Release) -> Release {
    release.hooks.push(Hook {
        kind: HookKind::BeforeStart,
        command: vec!["./migrate".to_owned()],
        within: seconds(60),
        once: true,
    });
    release
}

/// Makes options of pairs such as `("batch", "1")`.
pub(crate) fn options(pairs: &[(&str, &str)]) -> Options {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), *value)).collect()
}

/// One run of events against one coordinator.
#[derive(Clone)]
pub(crate) struct Story {
    pub(crate) core: Coordinator,
    pub(crate) now: Timestamp,
    pub(crate) agents: BTreeMap<AgentName, Agent>,
    /// What the newest input asked of the world.
    pub(crate) actions: Vec<Action>,
    /// Everything that was remembered.
    pub(crate) log: Vec<Event>,
    /// The questions to metrics servers that nobody has answered.
    pub(crate) queries: Vec<QueryId>,
    /// The newest rollout that was started.
    pub(crate) rollout: Option<Uuid>,
    watch: Watch,
    drawn: u128,
}

impl Story {
    /// Begins with `count` agents, web-1 and so on, that run nothing and are connected, and the
    /// releases 1.0, 2.0 and 3.0.
    pub(crate) fn fleet(count: usize) -> Self {
        let mut story = Self::empty();
        for number in 1..=count {
            story.join(&format!("web-{number}"));
        }
        let select = labels(&[("env", PROD)]);
        story.ask(Request::CreateEnvironment { name: PROD.parse().unwrap(), select }).unwrap();
        for of in ["1.0", "2.0", "3.0"] {
            story.push(release(of, of));
        }
        story.connect_all();
        story
    }

    /// Begins with `count` agents that run 1.0 in health.
    pub(crate) fn running(count: usize) -> Self {
        let mut story = Self::fleet(count);
        story.deploy("1.0", &[("strategy", "all_at_once")]);
        story.settle();
        assert_eq!(story.state_word(), "succeeded", "{}", story.why());
        story
    }

    /// Begins with a coordinator that knows nothing.
    pub(crate) fn empty() -> Self {
        let mut story = Self {
            core: Coordinator::default(),
            now: Timestamp::from_unix_ms(BEGINNING),
            agents: BTreeMap::new(),
            actions: Vec::new(),
            log: Vec::new(),
            queries: Vec::new(),
            rollout: None,
            watch: Watch::default(),
            drawn: 0,
        };
        story.start();
        story
    }

    /// Begins with what `log` tells, and the agents of `story` as they are, not connected.
    pub(crate) fn from_log(story: &Self, log: Vec<Event>) -> Self {
        let mut core = Coordinator::default();
        let mut again = Self {
            watch: Watch::default(),
            rollout: None,
            actions: Vec::new(),
            log: Vec::new(),
            ..story.clone()
        };
        for event in &log {
            core.apply(event).unwrap();
            again.watch.note(event);
        }
        (again.core, again.log) = (core, log);
        again.restart();
        again
    }

    fn start(&mut self) {
        let boot_nonce = self.draw();
        self.handle(Input::Started { boot_nonce });
    }

    /// Draws an id that no other is like.
    pub(crate) fn draw(&mut self) -> Uuid {
        self.drawn += 1;
        Uuid::from_u128(self.drawn << 96 | self.drawn)
    }

    /// Gives the core one input, and checks what must hold after any.
    pub(crate) fn handle(&mut self, input: Input) {
        let is_tick = matches!(input, Input::Tick);
        let step = self.core.handle(self.now, input);
        self.watch.check(&self.core, self.now, &step);
        if is_tick {
            let wake = self.core.next_wake();
            assert!(wake.is_none_or(|wake| wake > self.now), "busy: {wake:?} at {:?}", self.now);
        }
        self.log.extend(step.events);
        for action in &step.actions {
            self.deliver(action);
        }
        self.actions = step.actions;
    }

    /// Asks for something, and returns the answer.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Answer, Refusal> {
        let events = self.log.len();
        self.handle(Input::Asked { reply: ReplyId(7), by: "ann".to_owned(), request });
        let answer = self
            .actions
            .iter()
            .find_map(|action| {
                if let Action::Answer { reply: ReplyId(7), answer } = action {
                    return Some(answer.clone());
                }
                matches!(action, Action::SignCertificate { reply: ReplyId(7), .. })
                    .then_some(Ok(Answer::Done))
            })
            .expect("every question is answered at once");
        if let Err(refusal) = &answer {
            assert_eq!(self.log.len(), events, "refused, and changed something: {refusal:?}");
        }
        answer
    }

    /// Registers a release.
    pub(crate) fn push(&mut self, release: Release) {
        let request =
            Request::RegisterRelease { release: Arc::new(release), manifest: String::new() };
        self.ask(request).unwrap();
    }

    /// Starts a deploy to all of production that must be accepted.
    pub(crate) fn deploy(&mut self, to: &str, settings: &[(&str, &str)]) -> Uuid {
        self.try_deploy(to, settings).unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    pub(crate) fn try_deploy(
        &mut self,
        to: &str,
        settings: &[(&str, &str)],
    ) -> Result<Uuid, Refusal> {
        let (request_id, rollout) = (self.draw(), self.draw());
        let order = order(to, settings);
        let answer = self.ask(Request::Deploy { request_id, rollout, order })?;
        assert_eq!(answer, Answer::RolloutStarted { rollout, repeated: false });
        self.rollout = Some(rollout);
        Ok(rollout)
    }

    /// Says what variables of production are. Returns the number of that config.
    pub(crate) fn configure(&mut self, variables: &[(&str, &str)]) -> Option<u32> {
        let plain = |value: &str| crate::Setting::Plain(value.to_owned());
        let order = crate::ConfigOrder {
            environment: PROD.parse().unwrap(),
            application: None,
            set: variables
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), plain(value)))
                .collect(),
            unset: std::collections::BTreeSet::new(),
        };
        let answer = self.ask(Request::ConfigureEnvironment(order)).unwrap();
        let Answer::Configured { number, .. } = answer else { panic!("{answer:?}") };
        number
    }

    /// Does something to the newest rollout.
    pub(crate) fn control(&mut self, verb: Verb) -> Result<String, Refusal> {
        let rollout = self.rollout.unwrap().to_string();
        let new_rollout = self.draw();
        let reason = String::new();
        let answer = self.ask(Request::Control {
            rollout,
            verb,
            reason,
            new_rollout,
            if_busy: crate::IfBusy::Refuse,
        })?;
        let Answer::Controlled { rollout, text } = answer else { panic!("{answer:?}") };
        self.rollout = Some(rollout);
        Ok(text)
    }

    /// Takes hosts out of the newest rollout for good.
    pub(crate) fn exclude(&mut self, agents: &[&str]) -> Result<String, Refusal> {
        let call = self.draw();
        let rollout = self.rollout.unwrap().to_string();
        self.leave_out(LeaveOut::Exclude, &rollout, agents, call)
    }

    /// Takes hosts out of the newest rollout until it has succeeded.
    pub(crate) fn skip(&mut self, agents: &[&str]) -> Result<String, Refusal> {
        let call = self.draw();
        let rollout = self.rollout.unwrap().to_string();
        self.leave_out(LeaveOut::Skip, &rollout, agents, call)
    }

    /// Takes hosts out of a rollout by a call of this id.
    pub(crate) fn leave_out(
        &mut self,
        how: LeaveOut,
        rollout: &str,
        agents: &[&str],
        call: Uuid,
    ) -> Result<String, Refusal> {
        let agents = agents.iter().map(|agent| name(agent)).collect();
        let (rollout, reason) = (rollout.to_owned(), "a bad disk".to_owned());
        let answer = self.ask(Request::Exclude { rollout, agents, how, reason, call })?;
        let Answer::Controlled { text, .. } = answer else { panic!("{answer:?}") };
        Ok(text)
    }

    /// Takes the host of `agent` out for maintenance.
    pub(crate) fn drain(&mut self, agent: &str) -> Result<Answer, Refusal> {
        let reason = "a new disk".to_owned();
        self.ask(Request::DrainAgent { agent: name(agent), reason, is_forced: false })
    }

    /// Takes it out also below the floor of what runs there.
    pub(crate) fn force_drain(&mut self, agent: &str) {
        let reason = "smoke".to_owned();
        self.ask(Request::DrainAgent { agent: name(agent), reason, is_forced: true }).unwrap();
    }

    /// Lets the host of `agent` take part again.
    pub(crate) fn undrain(&mut self, agent: &str) -> Result<Answer, Refusal> {
        let reason = String::new();
        self.ask(Request::UndrainAgent { agent: name(agent), reason })
    }

    /// Moves the clock; agents that are connected send their heartbeats meanwhile.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            let beat = self.now + seconds(5);
            self.sleep_until(beat.min(end));
            self.beat_all();
        }
    }

    /// Moves the clock, and nobody says anything.
    pub(crate) fn pass_in_silence(&mut self, duration: Duration) {
        self.sleep_until(self.now + duration);
    }

    /// Moves the clock, waking the core when it wants to be.
    fn sleep_until(&mut self, end: Timestamp) {
        while let Some(wake) = self.core.next_wake().filter(|wake| *wake < end) {
            self.now = self.now.max(wake);
            self.handle(Input::Tick);
        }
        self.now = end;
        self.handle(Input::Tick);
    }

    /// Kills the coordinator and starts another on its log. Agents are not connected then.
    pub(crate) fn restart(&mut self) {
        let mut again = Coordinator::default();
        for event in &self.log {
            again.apply(event).unwrap();
        }
        check::assert_remembers_the_same(&again, &self.core);
        self.core = again;
        for agent in self.agents.values_mut() {
            agent.session = None;
        }
        self.start();
    }

    /// Lets everybody who is connected do what they were told, at once and in health, until
    /// nothing more follows from it.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1_000 {
            let events = self.log.len();
            self.obey_all();
            if self.log.len() == events {
                return;
            }
        }
        panic!("does not settle: {}", self.why());
    }

    /// From here on, tells of the rollout that began last, whoever asked for it. Returns it.
    pub(crate) fn follow(&mut self) -> &Rollout {
        let newest = self.core.rollouts.values().max_by_key(|rollout| rollout.number);
        self.rollout = newest.map(|rollout| rollout.id);
        self.newest()
    }

    /// Returns the rollout that somebody asked for last.
    pub(crate) fn newest(&self) -> &Rollout {
        self.core.rollout(self.rollout.unwrap()).unwrap()
    }

    pub(crate) fn state(&self) -> &State {
        &self.newest().state
    }

    /// Returns the peers that `agent` would be told of with its goal.
    pub(crate) fn peers_of(&self, agent: &str) -> Vec<String> {
        let (agent, application) = (agent.parse().unwrap(), WEB.parse().unwrap());
        let goal = self.core.goals().of(&agent, &application).unwrap();
        let told = self.core.assignment(&agent, &application, goal).unwrap();
        told.peers.iter().map(ToString::to_string).collect()
    }

    /// Returns the state as a word.
    pub(crate) fn state_word(&self) -> &'static str {
        self.core.view(self.newest(), self.now).state
    }

    pub(crate) fn why(&self) -> String {
        self.core.why(self.newest(), self.now)
    }

    pub(crate) fn waiting(&self) -> Option<&Waiting> {
        self.core.waiting.get(&self.rollout?)
    }

    pub(crate) fn host(&self, agent: &str) -> &HostState {
        &self.newest().hosts[&name(agent)].state
    }

    /// Returns the hosts in this state, such as "updating", separated by spaces.
    pub(crate) fn hosts(&self, state: &str) -> String {
        let view = self.core.view(self.newest(), self.now);
        let hosts = view.hosts.iter().filter(|host| {
            host.state == state
                || state == "pending" && matches!(host.state, "preparing" | "prepared")
        });
        hosts.map(|host| host.agent.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Returns the generation of the goal of `agent`.
    pub(crate) fn generation(&self, agent: &str) -> Generation {
        let goal = self.core.goals.of(&name(agent), &WEB.parse().unwrap());
        goal.map_or(Generation(0), |goal| goal.generation)
    }
}

/// Makes a deploy to all of production.
pub(crate) fn order(to: &str, settings: &[(&str, &str)]) -> DeployOrder {
    DeployOrder {
        application: WEB.parse().unwrap(),
        version: version(to),
        environment: PROD.parse().unwrap(),
        with: crate::input::WithConfig::Newest,
        options: options(settings),
        if_busy: crate::input::IfBusy::Refuse,
        despite_freeze: String::new(),
    }
}
