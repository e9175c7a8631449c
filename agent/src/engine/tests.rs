//! The loop's promise: what is on disk comes before what is done.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cutover_agent_core::{Event, Retained, SessionId, Welcome};
use cutover_common::Term;
use cutover_runtime::{clock::SystemClock, dice::KernelDice};
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::journal::MemoryJournal;

const LONG: Duration = Duration::from_secs(20);

/// Writes into one trace what is stored and what is performed.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct TracedJournal(Trace, MemoryJournal);

impl Journal for TracedJournal {
    fn append(&mut self, events: &[Event]) -> Result<(), WriteJournal> {
        self.1.append(events)?;
        self.0.add(format!("stored {}", events.len()));
        Ok(())
    }

    fn is_long(&self) -> bool {
        self.1.is_long()
    }

    fn replace(&mut self, events: &[Event]) -> Result<(), WriteJournal> {
        self.1.replace(events)
    }
}

struct TracedPerformer(Trace, mpsc::UnboundedSender<Action>);

impl Perform for TracedPerformer {
    fn perform(&mut self, action: Action) {
        let text = format!("{action:?}");
        let name = text.split([' ', '(']).next().unwrap_or_default();
        self.0.add(format!("performed {name}"));
        self.1.send(action).ok();
    }
}

struct Running {
    trace: Trace,
    inbox: mpsc::Sender<Input>,
    performed: mpsc::UnboundedReceiver<Action>,
    shutdown: Shutdown,
    ended: tokio::task::JoinHandle<Result<(), WriteJournal>>,
}

fn run(journal: MemoryJournal) -> Running {
    let trace = Trace::default();
    let (inbox, received) = mpsc::channel(8);
    let journal = Box::new(TracedJournal(trace.clone(), journal));
    let clock = SystemClock::start(cutover_common::Timestamp::default());
    let name = "web-1".parse().unwrap();
    let engine =
        Engine::new(name, Agent::default(), journal, clock, Arc::new(KernelDice), received);
    let (sender, performed) = mpsc::unbounded_channel();
    let shutdown = Shutdown::new();
    let performer = TracedPerformer(trace.clone(), sender);
    let ended = tokio::spawn(engine.run(performer, shutdown.clone()));
    Running { trace, inbox, performed, shutdown, ended }
}

async fn join(running: &Running) {
    let session = SessionId(1);
    running.inbox.send(Input::SessionOpened { session }).await.unwrap();
    let (incarnation, boot_nonce) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let welcome = Welcome { incarnation, term: Term(1), boot_nonce };
    running.inbox.send(Input::Welcomed { session, welcome }).await.unwrap();
}

async fn next(running: &mut Running) -> Action {
    let next = timeout(LONG, running.performed.recv()).await;
    next.expect("an action is performed").expect("the engine runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_led_to_an_action_is_stored_before_it_is_performed() {
    let mut running = run(MemoryJournal::default());
    assert_eq!(next(&mut running).await, Action::Retain(Retained::default()));
    join(&running).await;
    while !matches!(next(&mut running).await, Action::SendHeartbeat { .. }) {}

    let lines = running.trace.lines();
    let position = |line: &str| lines.iter().position(|other| other == line);
    assert!(position("stored 1") < position("performed SendHeartbeat"), "{lines:?}");

    running.shutdown.request();
    timeout(LONG, running.ended).await.expect("the engine ends").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_broken_disk_the_loop_ends_and_nothing_is_performed() {
    let mut running = run(MemoryJournal::broken());
    next(&mut running).await;
    join(&running).await;

    let ended = timeout(LONG, running.ended).await.expect("the engine ends").unwrap();
    assert!(matches!(ended, Err(WriteJournal::Poisoned)));
    let lines = running.trace.lines();
    assert!(!lines.contains(&"performed SendHeartbeat".to_owned()), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_core_is_woken_when_it_wants_to_be() {
    let mut running = run(MemoryJournal::default());
    join(&running).await;
    let mut beats = 0;
    while beats < 2 {
        // The second beat comes from no input but the tick.
        beats += u32::from(matches!(next(&mut running).await, Action::SendHeartbeat { .. }));
    }
}
