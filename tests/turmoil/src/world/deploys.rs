//! What operators do in a world.

use std::sync::Arc;

use std::{
    collections::BTreeMap,
    sync::{PoisonError, mpsc::TryRecvError},
    time::Duration,
};

use cutover_common::{
    Config, DeploySetting, Hook, HookKind, Labels, ProbePort, ProbeSpec, ProbeTarget, Release,
    ReleaseRef, RunSpec, Sha256, StopSignal, Version,
};
use cutover_coordinator_core::{
    Answer, DeployOrder, IfBusy, Refusal, Request, Verb, WithConfig, rollout::Options,
};
use cutover_runtime::dice::Dice as _;
use uuid::Uuid;

use super::{BEGIN_WITHIN, SECOND, World};
use crate::coordinator::Order;

impl World {
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
            let release = Arc::new(release(number));
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
        let options: Options = [
            (DeploySetting::Strategy, "all_at_once"),
            (DeploySetting::HealthyFor, "2s"),
            (DeploySetting::Soak, "1s"),
            (DeploySetting::Bake, "1s"),
        ]
        .into_iter()
        .collect();
        let order = DeployOrder {
            application: "web".parse().expect("a name"),
            version: version(number),
            environment: "prod".parse().expect("a name"),
            with: WithConfig::Newest,
            options,
            if_busy: IfBusy::Refuse,
            despite_freeze: String::new(),
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
            let (reason, if_busy) = ("the links are mended".to_owned(), IfBusy::Refuse);
            let retry = Request::Control { rollout, verb, reason, new_rollout, if_busy };
            self.ask(retry).expect("a retry");
            let is_going = |world: &Self| world.rollout() != "held";
            self.until(2 * SECOND, "the retry shows", is_going);
        }
    }

    /// Returns how the newest rollout stands, as a word.
    pub fn rollout(&self) -> &'static str {
        self.coordinator().rollout.map_or("none", |(word, _)| word)
    }

    /// Returns the newest rollout's id.
    pub fn rollout_id(&self) -> Option<Uuid> {
        *self.rollout.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a version.
///
/// # Panics
///
/// If it is none.
fn version(text: &str) -> Version {
    text.parse().expect("a test names a version")
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
            shared: Vec::new(),
        },
        probe: Some(ProbeSpec {
            target: ProbeTarget::Tcp { port: ProbePort::Fixed(80) },
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
            once: false,
        }],
        checks: Vec::new(),
        service: None,
        config: Config::default(),
    }
}
