//! The coordinator: its real engine, listener and services, on a simulated host.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use cutover_coordinator::{
    artifacts::ArchiveStore,
    engine::{Engine, EngineHandle},
    grpc::{agent::Link, enrollment::Enrolling},
    identity::Identity,
    ledger::Ledger,
    listen::{Admission, Listener, LiveConnections, bounded_server},
    logs::LogDesk,
    outlets::Outlets,
    replay::replay,
    store::{AppendError, EventStore, Events, MemoryStore, Sequence, serve},
};
use cutover_coordinator_core::{Answer, Refusal, Request};
use cutover_runtime::{
    shutdown::Shutdown,
    tls::{Enrolments, accept::AgentsPortConfig, server},
};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use uuid::Uuid;

use crate::{
    clock::{HostClock, elapsed},
    fleet::{Seen, rollout_of, sessions_of},
    network::Port,
    trace::Trace,
};

/// The agents' port, as in the packages.
pub(crate) const PORT: u16 = 7440;

/// How long nothing is looked at, at the longest.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What an operator asks for, and where the answer goes.
pub(crate) struct Order {
    pub(crate) request: Request,
    pub(crate) answer: std::sync::mpsc::Sender<Result<Answer, Refusal>>,
}

/// What outlives a coordinator's process, and what it needs to run.
#[derive(Clone)]
pub(crate) struct CoordinatorHost {
    pub(crate) identity: Arc<Identity>,
    pub(crate) incarnation: Uuid,
    pub(crate) store: SharedStore,
    pub(crate) archives: Arc<ArchiveStore>,
    pub(crate) clock: HostClock,
    pub(crate) orders: Arc<AsyncMutex<mpsc::UnboundedReceiver<Order>>>,
    pub(crate) rollout: Arc<Mutex<Option<Uuid>>>,
    pub(crate) trace: Trace,
    pub(crate) seen: Seen,
}

/// A store in memory that outlives the process.
#[derive(Clone, Debug)]
pub(crate) struct SharedStore(Arc<Mutex<MemoryStore>>);

impl SharedStore {
    pub(crate) fn new(incarnation: Uuid) -> Self {
        Self(Arc::new(Mutex::new(MemoryStore::new(incarnation))))
    }

    fn with<T>(&self, work: impl FnOnce(&mut MemoryStore) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl EventStore for SharedStore {
    fn incarnation(&self) -> Uuid {
        self.with(|store| store.incarnation())
    }

    fn last(&self) -> Sequence {
        self.with(|store| store.last())
    }

    fn append(
        &mut self,
        expected_last: Sequence,
        events: &[Vec<u8>],
    ) -> Result<Sequence, AppendError> {
        self.with(|store| store.append(expected_last, events))
    }

    fn read_after(&self, after: Sequence) -> Events {
        self.with(|store| store.read_after(after))
    }

    fn settle(&mut self) -> Result<(), AppendError> {
        self.with(MemoryStore::settle)
    }
}

/// Runs the coordinator's process until the host crashes.
pub(crate) async fn run(host: CoordinatorHost) -> turmoil::Result {
    let core = replay(&host.store)?;
    let (_stop, stopping) = oneshot::channel();
    let (store, serving) = serve(Box::new(host.store.clone()), stopping);
    let enrolments = Arc::new(Enrolments::default());
    let live = LiveConnections::default();
    let (engine, handle) = Engine::new(core, Ledger::new(store), Arc::new(host.clock.clone()), {
        let (identity, enrolments) = (host.identity.clone(), enrolments.clone());
        let (live, operators) = (live.clone(), Arc::new(ArcSwap::from_pointee(BTreeMap::new())));
        let incarnation = host.incarnation;
        move |changed| Outlets::new(identity, incarnation, enrolments, live, operators, changed)
    });
    // On one task, so that whatever fails here fails the simulation.
    tokio::select! {
        biased;
        ended = engine.run() => ended?,
        () = serving => {}
        ended = serve_agents(&host, handle.clone(), enrolments, live.clone()) => ended?,
        ended = obey(&host, handle.clone()) => ended?,
        ended = watch(&host, handle, live) => ended?,
    }
    Err("the coordinator ended by itself".into())
}

async fn serve_agents(
    host: &CoordinatorHost,
    engine: EngineHandle,
    enrolments: Arc<Enrolments>,
    live: LiveConnections,
) -> turmoil::Result {
    let config = AgentsPortConfig {
        join: server::join_config(host.identity.server.clone())?,
        agents: server::agent_listener_config(
            host.identity.ca.certificate(),
            host.identity.server.clone(),
            enrolments.clone(),
        )?,
    };
    // As the daemon does: the loop says who is enrolled before the first connection.
    engine.look(|_, _| ()).await?;
    let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT);
    let listener = Listener::new(Port::open(PORT).await?, addr);
    let admission = Admission { enrolments, live };
    let connections = listener.serve_agents(config, admission, &Shutdown::new());
    let enrolling = Enrolling { engine: engine.clone(), identity: host.identity.clone() };
    let logs = LogDesk::default();
    let link = Link { engine, archives: host.archives.clone(), logs };
    let joins = bounded_server()
        .add_service(enrolling.into_server())
        .serve_with_incoming_shutdown(connections.joins, std::future::pending());
    let agents = bounded_server()
        .add_service(link.into_server())
        .serve_with_incoming_shutdown(connections.agents, std::future::pending());
    tokio::try_join!(joins, agents)?;
    Ok(())
}

/// Does what operators ask for.
async fn obey(host: &CoordinatorHost, engine: EngineHandle) -> turmoil::Result {
    let mut orders = host.orders.lock().await;
    while let Some(Order { request, answer }) = orders.recv().await {
        if let Request::Deploy { rollout, .. } = &request {
            let mut newest = host.rollout.lock().unwrap_or_else(PoisonError::into_inner);
            *newest = Some(*rollout);
        }
        let answered = engine.ask("ann", request).await?;
        // Nobody waits any more.
        drop(answer.send(answered));
    }
    Ok(())
}

/// Publishes what the core knows, whenever it may have changed, and checks its promises.
async fn watch(
    host: &CoordinatorHost,
    engine: EngineHandle,
    live: LiveConnections,
) -> turmoil::Result {
    let mut changes = engine.changes();
    let mut highest = 0;
    let mut known = BTreeMap::new();
    let mut starts_noted = false;
    loop {
        let rollout = *host.rollout.lock().unwrap_or_else(PoisonError::into_inner);
        let (term, sessions, rollout, returned) = engine
            .look(move |core, _| {
                let sessions = sessions_of(core, &mut highest);
                let rollout = rollout.and_then(|id| rollout_of(core, id));
                (core.term().0, sessions, rollout, highest)
            })
            .await?;
        highest = returned;
        note(host, &known, &sessions);
        known.clone_from(&sessions);
        host.seen.change_coordinator(|seen| {
            if !starts_noted {
                assert!(term > seen.term, "term {term} follows term {}", seen.term);
                seen.starts += 1;
                host.trace.add(elapsed(), "coordinator", format!("begins term {term}"));
            }
            if rollout != seen.rollout {
                host.trace.add(elapsed(), "coordinator", format!("rollout: {rollout:?}"));
            }
            (seen.term, seen.sessions, seen.rollout) = (term, sessions, rollout);
            seen.connections = live.count();
        });
        starts_noted = true;
        // Nothing is lost if the wait ends early or late: everything is looked at anew.
        drop(tokio::time::timeout(LOOK_EVERY, changes.changed()).await);
    }
}

fn note(host: &CoordinatorHost, known: &BTreeMap<String, u64>, sessions: &BTreeMap<String, u64>) {
    for (agent, session) in known {
        if sessions.get(agent) != Some(session) {
            host.trace.add(elapsed(), "coordinator", format!("lost {agent}"));
        }
    }
    for (agent, session) in sessions {
        if known.get(agent) != Some(session) {
            host.trace.add(elapsed(), "coordinator", format!("has {agent}"));
        }
    }
}
