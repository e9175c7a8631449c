//! One deployment after another on one fleet, with a kill in the middle of each.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;
use uuid::Uuid;

use super::{
    answers::{Asker, Stretch},
    promises::{self, Broken, Promise, Verdict},
    tracer::{self, Call, Trace, Tracer},
};
use crate::live::{Cluster, Ran, Sample, Which, run, wait_for};

/// One host after the other, so that a kill can fall between two hosts as well.
const AGENTS: u8 = 2;

const PORT: u16 = 8080;

/// How long a deployment may take with two kills in it: a new start, a redial after some seconds,
/// and the health of two hosts. A quiet machine needs a tenth.
const ENDS_WITHIN: &str = "60s";

/// How long the operator's commands may take after that: they go on trying for some seconds.
const SAID_WITHIN: Duration = Duration::from_secs(120);

/// How long after its end every host may take to be back: a redial after some seconds.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

/// How often that is looked at.
const OFTEN: Duration = Duration::from_millis(20);

/// How often it is looked at while the coordinator's calls are counted: each look is some calls.
const SELDOM: Duration = Duration::from_secs(1);

/// What `cutover` ends with when the coordinator is not there (docs/cli.md): the same command may be
/// typed again.
const NOT_REACHABLE: i32 = 4;

/// What it ends with when the coordinator refuses; nothing was begun then.
const REFUSED: i32 = 3;

/// How long ago the rollouts may be that are looked for: all of a fleet's life here.
const HISTORY_MAX: &str = "500";

/// What a daemon does while it is killed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Window {
    /// It takes part in a deployment.
    Deployment,
    /// It starts, having been killed after this many calls of a deployment.
    Restart { killed_after: usize },
}

/// Where a daemon is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Point {
    pub daemon: Which,
    pub window: Window,
    /// How many calls of the window are done.
    pub after: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.daemon {
            Which::Coordinator => f.write_str("the coordinator")?,
            Which::Agent(index) => write!(f, "agent {index}")?,
        }
        match self.window {
            Window::Deployment if self.after == usize::MAX => f.write_str(" is left alone"),
            Window::Deployment => write!(f, " after call {} of a deployment", self.after),
            Window::Restart { killed_after } => {
                write!(
                    f,
                    " after call {killed_after}, and {} of the start that followed",
                    self.after
                )
            }
        }
    }
}

/// What became of one deployment.
#[derive(Debug)]
pub struct Outcome {
    pub point: Point,
    /// The call after which the daemon was killed, as strace wrote it. None: it made fewer.
    pub killed_after: Option<String>,
    /// The kind of that call.
    pub kind: Option<String>,
    /// How many calls other threads had finished before the kill took effect.
    pub late: usize,
    /// The kinds of the calls that were seen in the window, in their order.
    pub calls: Vec<String>,
    pub took: Duration,
    /// The longest that a host's application answered nobody.
    pub gap: Duration,
    pub broken: Vec<Broken>,
    /// What was logged and called last; empty if nothing is broken.
    pub story: String,
}

/// A fleet on which one release follows another.
#[derive(Debug)]
pub(super) struct Fleet {
    cluster: Cluster,
    version: u32,
    /// The rollouts that the coordinator said it began, oldest first.
    acknowledged: Vec<String>,
    shape: BTreeMap<String, usize>,
}

/// What the operator typed, and got.
#[derive(Debug)]
struct Said {
    push: Ran,
    deploy: Ran,
}

impl Fleet {
    /// Brings up a fleet that has seen two deployments, so that each later one finds what each finds.
    pub(super) fn start() -> Self {
        let cluster = Cluster::start(AGENTS);
        let mut fleet =
            Self { cluster, version: 0, acknowledged: Vec::new(), shape: BTreeMap::new() };
        for _ in 0..2 {
            let (push, deploy, _) = fleet.next_release();
            let said = type_in(push, deploy);
            said.push.done();
            let rollout: Value = serde_json::from_str(&said.deploy.done()).expect("it is json");
            fleet.acknowledged.push(text_of(&rollout, "id"));
        }
        // What is tidied up after a rollout's end is gone when two looks see the same, and no instance
        // is being stopped: on a slow machine that takes longer than from look to look.
        let mut last = BTreeMap::new();
        fleet.shape = wait_for("the fleet to be quiet", Duration::from_secs(20), || {
            thread::sleep(Duration::from_millis(200));
            let before = std::mem::replace(&mut last, promises::shape(&fleet.cluster));
            let is_stopping = before.keys().any(|path| path.ends_with("/stop.json"));
            (before == last && !is_stopping).then_some(before)
        });
        fleet
    }

    pub(super) fn deployments(&self) -> usize {
        self.acknowledged.len()
    }

    /// Returns the calls of a daemon from its start until the fleet is whole again.
    pub(super) fn calls_of_start(&mut self, daemon: Which) -> Vec<String> {
        self.cluster.daemon(daemon).kill_9();
        let tracer = self.start_traced(daemon, usize::MAX);
        assert!(self.becomes_healthy(SELDOM), "{}", self.cluster.coordinator_log());
        self.cluster.daemon(daemon).kill_9();
        let calls = kinds_of(&tracer.end().calls);
        self.cluster.daemon(daemon).start();
        assert!(self.becomes_healthy(OFTEN), "{}", self.cluster.coordinator_log());
        calls
    }

    /// Deploys the next release, with a kill at `point`, and checks the promises.
    pub(super) fn deploy(&mut self, point: Point) -> Outcome {
        let begun = Instant::now();
        let old = self.version.to_string();
        let (push, deploy, repeat) = self.next_release();
        let (first, second) = match point.window {
            Window::Deployment => (point.after, None),
            Window::Restart { killed_after } => (killed_after, Some(point.after)),
        };
        let mut verdict = Verdict::default();
        let tracer = self.attach(point.daemon, first);
        let askers: Vec<Asker> = self.addresses().into_iter().map(Asker::start).collect();
        let operator = thread::spawn(move || type_in(push, deploy));
        let trace = self.live_through(point.daemon, tracer, second, &operator, &mut verdict);
        let said = operator.join().expect("the operator does not panic");
        let is_whole = self.becomes_healthy(OFTEN);
        verdict.demand(Promise::A6Ends, is_whole, || "not all hosts became healthy".to_owned());
        let answers: Vec<Vec<Stretch>> = askers.into_iter().map(Asker::end).collect();

        self.check_record(&mut verdict, &said, repeat);
        self.check_hosts(&mut verdict, &answers, &old);
        let story = if verdict.0.is_empty() { String::new() } else { self.story(&said, &trace) };
        let after = trace.killed_after.unwrap_or_default();
        let last: Option<&Call> = after.checked_sub(1).and_then(|index| trace.calls.get(index));
        Outcome {
            point,
            killed_after: last.map(|call| call.text.clone()),
            kind: last.map(|call| call.kind.clone()),
            late: if last.is_some() { trace.calls.len() - after } else { 0 },
            calls: kinds_of(&trace.calls),
            took: begun.elapsed(),
            gap: promises::longest_gap(&answers),
            broken: verdict.0,
            story,
        }
    }

    /// Starts a daemon again each time it ends, until the operator has an answer. Returns what was
    /// seen up to its last kill: the first tracer's, or that of its start, to be ended after `second` calls.
    fn live_through(
        &mut self,
        daemon: Which,
        first: Tracer,
        mut second: Option<usize>,
        operator: &JoinHandle<Said>,
        verdict: &mut Verdict,
    ) -> Trace {
        let mut tracer = Some(first);
        let mut trace = Trace::default();
        let deadline = Instant::now() + SAID_WITHIN;
        loop {
            let is_over = operator.is_finished() || Instant::now() > deadline;
            if is_over {
                // The operator was faster than the first kill: there is no start to be killed in.
                second = None;
                // It lives still, or was killed a moment ago.
                if let Some(tracer) = tracer.take() {
                    trace = self.let_go(daemon, tracer);
                }
            }
            if let Some(status) = self.cluster.daemon(daemon).ended() {
                self.cluster.daemon(daemon).bury();
                let was_killed = status.to_string().contains("SIGKILL");
                verdict.demand(Promise::A6Ends, was_killed, || {
                    format!("a daemon ended by itself: {status}")
                });
                if let Some(tracer) = tracer.take() {
                    trace = tracer.end();
                }
                match second.take() {
                    Some(after) => tracer = Some(self.start_traced(daemon, after)),
                    None => self.cluster.daemon(daemon).start(),
                }
            }
            if is_over && tracer.is_none() {
                return trace;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends a daemon's tracing without its death, where that can be.
    fn let_go(&mut self, daemon: Which, tracer: Tracer) -> Trace {
        if !tracer.can_detach() && self.cluster.daemon(daemon).ended().is_none() {
            self.cluster.daemon(daemon).kill_9();
            let trace = tracer.end();
            self.cluster.daemon(daemon).start();
            return trace;
        }
        let trace = tracer.end();
        if trace.killed_after.is_some() {
            // At this very moment, perhaps: who looks next must see that it is to be started again.
            wait_for("a daemon that was killed to end", SAID_WITHIN, || {
                self.cluster.daemon(daemon).ended()
            });
        }
        trace
    }

    /// Waits until every host is connected and its application healthy: the floor of the next rollout.
    /// Returns whether that was in time.
    fn becomes_healthy(&self, look_every: Duration) -> bool {
        let deadline = Instant::now() + HEALTHY_WITHIN;
        loop {
            let status = self.cluster.cutover(&["status", "web", "--output", "json"]);
            let status: Value = serde_json::from_str(&status.stdout).unwrap_or_default();
            if status[0]["healthy"] == u64::from(AGENTS) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(look_every);
        }
    }

    fn attach(&mut self, daemon: Which, after: usize) -> Tracer {
        let pid = self.cluster.daemon(daemon).pid().expect("it runs");
        Tracer::attach(pid, after)
    }

    fn start_traced(&mut self, daemon: Which, after: usize) -> Tracer {
        let daemon = self.cluster.daemon(daemon);
        let stdout = daemon.start_under(&tracer::command_line());
        Tracer::follow(stdout, daemon.pid().expect("it was just started"), after)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.cluster.agents().iter().map(|agent| SocketAddr::new(agent.address, PORT)).collect()
    }

    /// Writes the next release; returns the commands that push it, deploy it and deploy it again.
    fn next_release(&mut self) -> (Command, Command, Command) {
        self.version += 1;
        let version = self.version.to_string();
        let cluster = &self.cluster;
        let dir = Sample::good(&version).write(cluster.folder(), &cluster.programs().sample);
        let push = ["release", "push", &dir.display().to_string(), "--version", &version]
            .map(ToOwned::to_owned);
        let (release, request) = (format!("web@{version}"), Uuid::new_v4().to_string());
        let deploy = ["deploy", &release, "--to", "test", "--batch", "1", "--request-id", &request]
            .into_iter()
            .chain(["--soak", "0s", "--bake", "0s", "--healthy-for", "200ms"])
            .chain(["--healthy-within", "20s", "--output", "json"]);
        let deploy: Vec<String> = deploy.map(ToOwned::to_owned).collect();
        let command = |args: &[String], more: &[&str]| {
            let args: Vec<&str> =
                args.iter().map(String::as_str).chain(more.iter().copied()).collect();
            cluster.command(&args)
        };
        let watched = command(&deploy, &["--timeout", ENDS_WITHIN]);
        (command(&push, &[]), watched, command(&deploy, &["--no-watch"]))
    }

    /// F1, D1, A6: what the operator was told is what there is.
    fn check_record(&mut self, verdict: &mut Verdict, said: &Said, mut repeat: Command) {
        let Said { push, deploy } = said;
        verdict.demand(Promise::A6Ends, push.status == 0, || format!("push: {push:?}"));
        verdict.demand(Promise::A6Ends, deploy.status == 0, || format!("deploy: {deploy:?}"));
        let rollout: Value = serde_json::from_str(&deploy.stdout).unwrap_or_default();
        let id = text_of(&rollout, "id");
        let repeated = run(&mut repeat);
        let again: Value = serde_json::from_str(&repeated.stdout).unwrap_or_default();
        let is_same = text_of(&again, "rollout") == id && again["repeated_request"] == true;
        verdict.demand(Promise::F1OneRollout, is_same, || {
            format!("the same request again, after rollout {id:?}: {repeated:?}")
        });
        self.acknowledged.push(id);

        let list =
            self.cluster.json(&["history", "web", "--limit", HISTORY_MAX, "--output", "json"]);
        let list = list.as_array().cloned().unwrap_or_default();
        let present: Vec<String> = list.iter().rev().map(|it| text_of(it, "id")).collect();
        verdict.demand(Promise::D1Acknowledged, present == self.acknowledged, || {
            format!("acknowledged: {:?}, present: {present:?}", self.acknowledged)
        });
        let versions: Vec<String> = list.iter().rev().map(|it| text_of(it, "to_version")).collect();
        let expected: Vec<String> = (1..=self.version).map(|it| it.to_string()).collect();
        verdict.demand(Promise::D1Acknowledged, versions == expected, || {
            format!("rollouts of {versions:?}")
        });
        let is_ended = list.iter().all(|it| it["state"] == "succeeded");
        verdict.demand(Promise::A6Ends, is_ended, || "a rollout did not succeed".to_owned());
    }

    /// E1, E2, A1, A2, A8, A9: the hosts are as after a deployment that nobody killed.
    fn check_hosts(&self, verdict: &mut Verdict, answers: &[Vec<Stretch>], old: &str) {
        let new = self.version.to_string();
        let pushed: PathBuf = self.cluster.folder().join("releases");
        promises::answered(verdict, answers, old, &new);
        for agent in self.cluster.agents() {
            promises::started_once(verdict, agent, &new);
            promises::releases_are_whole(verdict, agent, &pushed);
        }
        promises::processes(verdict, &self.cluster);
        promises::files(verdict, &self.cluster, &self.shape);
    }

    fn story(&self, said: &Said, trace: &Trace) -> String {
        let from = trace.calls.len().saturating_sub(30);
        let calls: Vec<&str> = trace.calls[from..].iter().map(|call| call.text.as_str()).collect();
        let agents = (0..self.cluster.agents().len()).map(|index| self.cluster.agent_log(index));
        format!(
            "--- last calls\n{}\n--- operator\n{}{}\n--- why\n{}\n--- coordinator\n{}\n--- agents\n{}",
            calls.join("\n"),
            said.push.stderr,
            said.deploy.stderr,
            self.cluster.cutover(&["why", "web"]).stdout,
            self.cluster.coordinator_log(),
            agents.collect::<Vec<_>>().join("\n---\n")
        )
    }
}

/// Types the commands one after the other, as an operator or a pipeline does.
fn type_in(mut push: Command, mut deploy: Command) -> Said {
    let push = until_reached(&mut push);
    Said { push, deploy: until_reached(&mut deploy) }
}

/// Types the same again for as long as nobody was reached (promises F1, D1), or a coordinator that
/// just started has not heard of every host yet and takes on nothing until it has (A1).
fn until_reached(command: &mut Command) -> Ran {
    let deadline = Instant::now() + HEALTHY_WITHIN;
    loop {
        let ran = run(command);
        let is_early = ran.status == REFUSED && ran.stderr.contains("taking one more out would");
        let is_answered = ran.status != NOT_REACHABLE && !is_early;
        if is_answered || Instant::now() > deadline {
            return ran;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn kinds_of(calls: &[Call]) -> Vec<String> {
    calls.iter().map(|call| call.kind.clone()).collect()
}

fn text_of(json: &Value, key: &str) -> String {
    json[key].as_str().unwrap_or_default().to_owned()
}
