//! One agent: its real engine and session, on a simulated machine.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cutover_agent::{
    engine::Engine,
    join::{AgentIdentity, JoinRequest, join_over},
    journal::{Journal, WriteJournal},
    process::LogFiles,
    secrets::Secrets,
    session::{self, Outlet, SessionSettings, renew_in_time},
};
use cutover_agent_core::{Agent, Event, Input, invariants};
use cutover_common::{AgentName, Labels, Sha256};
use cutover_runtime::shutdown::Shutdown;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::{
    clock::{HostClock, elapsed},
    fleet::Seen,
    luck::SeededDice,
    machine::{Machine, Performer},
    network::HostNetwork,
    trace::Trace,
};

/// As many as the daemon's own inbox takes.
const INBOX_MAX: usize = 1024;

/// How long until a join that failed is tried again, as a script would.
const JOIN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What outlives an agent's process, and what it needs to run.
#[derive(Clone)]
pub(crate) struct AgentHost {
    pub(crate) name: AgentName,
    pub(crate) data: PathBuf,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) ca_hash: Sha256,
    pub(crate) network: HostNetwork,
    pub(crate) dice: Arc<SeededDice>,
    pub(crate) clock: HostClock,
    pub(crate) machine: Machine,
    pub(crate) journal: SharedJournal,
    pub(crate) prepares_in: Range<Duration>,
    pub(crate) trace: Trace,
    pub(crate) seen: Seen,
}

/// A journal that outlives the process. Checks what is appended.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedJournal(Arc<Mutex<Vec<Event>>>);

impl SharedJournal {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks what a crash at this moment would leave.
    fn check(&self) {
        let replayed = Agent::replay(&self.events()).expect("what was appended can be replayed");
        assert_eq!(invariants::broken(replayed.remembered()), None);
    }
}

impl Journal for SharedJournal {
    fn append(&mut self, events: &[Event]) -> Result<(), WriteJournal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(events);
        self.check();
        Ok(())
    }

    fn is_long(&self) -> bool {
        false
    }

    fn replace(&mut self, events: &[Event]) -> Result<(), WriteJournal> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = events.to_vec();
        Ok(())
    }
}

/// Runs the agent's process until the host crashes.
pub(crate) async fn run(host: AgentHost) -> turmoil::Result {
    let identity = Arc::new(join_if_needed(&host).await);
    let events = host.journal.events();
    let agent = Agent::replay(&events)?;
    host.trace.add(elapsed(), host.name.as_str(), "begins");
    let (inbox, received) = mpsc::channel(INBOX_MAX);
    let (channels, channel) = watch::channel(None);
    let outlet = Outlet::default();
    let performer = Performer {
        name: host.name.to_string(),
        machine: host.machine.clone(),
        outlet: outlet.clone(),
        inbox: inbox.clone(),
        dice: host.dice.clone(),
        clock: host.clock.clone(),
        trace: host.trace.clone(),
        seen: host.seen.clone(),
        prepares_in: host.prepares_in.clone(),
    };
    let journal = Box::new(host.journal.clone());
    let dice = host.dice.clone();
    let engine =
        Engine::new(host.name.clone(), agent, journal, host.clock.clone(), dice.clone(), received);
    let snapshots = engine.snapshots();
    let (tap, tapped) = mpsc::channel(1);
    let settings = SessionSettings {
        identity: identity.clone(),
        network: host.network.clone(),
        dice,
        // Nobody reads logs here.
        logs: LogFiles::in_data(Path::new("/nonexistent")),
        // Nobody sets any.
        secrets: Secrets::in_data(Path::new("/nonexistent")),
    };
    tokio::spawn(session::keep(settings, outlet, tap, channels));
    tokio::spawn(renew_in_time(identity, channel));
    // On one task, so that whatever fails here fails the simulation.
    let joined = watch_joined(&host, snapshots);
    tokio::select! {
        biased;
        ended = engine.run(performer, Shutdown::new()) => ended?,
        () = forward(&host, tapped, inbox) => {}
        () = joined => {}
    }
    Err("the agent ended by itself".into())
}

/// Joins with the token, again and again until it works.
async fn join_if_needed(host: &AgentHost) -> AgentIdentity {
    loop {
        if let Ok(identity) = AgentIdentity::load(&host.data) {
            return identity;
        }
        let request = JoinRequest {
            url: host.url.clone(),
            token: host.token.clone(),
            ca_hash: host.ca_hash,
            data_dir: host.data.clone(),
            name: host.name.clone(),
            labels: Labels::new(),
            address: None,
        };
        match join_over(host.network.clone(), request).await {
            Ok(()) => host.trace.add(elapsed(), host.name.as_str(), "has joined"),
            Err(error) => {
                let error = cutover_common::ErrorChain(&error).to_string();
                host.trace.add(elapsed(), host.name.as_str(), format!("could not join: {error}"));
                sleep(JOIN_AGAIN_AFTER).await;
            }
        }
    }
}

/// Hands the session's inputs on to the engine, and notes them.
async fn forward(host: &AgentHost, mut tapped: mpsc::Receiver<Input>, inbox: mpsc::Sender<Input>) {
    while let Some(input) = tapped.recv().await {
        note(host, &input);
        if inbox.send(input).await.is_err() {
            return;
        }
    }
}

fn note(host: &AgentHost, input: &Input) {
    let name = host.name.as_str();
    let note = |what: String| host.trace.add(elapsed(), name, what);
    match input {
        Input::SessionOpened { session } => note(format!("opened session {}", session.0)),
        Input::SessionEnded { session } => note(format!("ended session {}", session.0)),
        Input::Welcomed { welcome, .. } => {
            let term = welcome.term.0;
            note(format!("was welcomed in term {term}"));
            host.seen.change_agent(name, |agent| {
                assert!(term >= agent.term, "welcomed in term {term} after {}", agent.term);
                agent.term = term;
            });
        }
        Input::Echoed { nonce, .. } => {
            note("heard an echo".to_owned());
            let permitted_at = host.machine.echoed(*nonce);
            let permitted_at = permitted_at.map(|at| host.clock.since_start(at));
            host.seen.change_agent(name, |agent| agent.permitted_at = permitted_at);
        }
        Input::Assigned { assignment, .. } => note(format!("got assignment {}", assignment.fence)),
        Input::EdgeRouted { routes, .. } => {
            note(format!("got routes {}", routes.revision.number));
        }
        Input::Tick
        | Input::PrepareEnded { .. }
        | Input::Started { .. }
        | Input::StartFailed { .. }
        | Input::Adopted { .. }
        | Input::Exited { .. }
        | Input::HookEnded { .. }
        | Input::Stopped { .. }
        | Input::StopFailed { .. }
        | Input::Probed { .. }
        | Input::Checked { .. }
        | Input::GateAnswered { .. }
        | Input::GateSaid { .. }
        | Input::GateLost { .. } => {}
    }
}

async fn watch_joined(
    host: &AgentHost,
    mut snapshots: watch::Receiver<cutover_agent::status::Snapshot>,
) {
    let mut was_joined = false;
    host.seen.change_agent(host.name.as_str(), |agent| agent.is_joined = false);
    loop {
        let is_joined = snapshots.borrow_and_update().is_joined;
        if is_joined != was_joined {
            was_joined = is_joined;
            host.seen.change_agent(host.name.as_str(), |agent| agent.is_joined = is_joined);
            let what = if is_joined { "is connected" } else { "is away" };
            host.trace.add(elapsed(), host.name.as_str(), what);
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}
