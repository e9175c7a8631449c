//! House: a running engine with a store in memory, for tests of what speaks to it.

use std::{path::Path, sync::Arc};

use arc_swap::ArcSwap;
use cutover_common::Timestamp;
use cutover_coordinator_core::Coordinator;
use cutover_runtime::{
    clock::{Clock, SystemClock, wall},
    tls::Enrolments,
};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Engine, EngineHandle};
use crate::{
    identity::Identity,
    ledger::Ledger,
    listen::LiveConnections,
    outlets::Outlets,
    store::{MemoryStore, StoreThread},
};

/// Ends with its runtime.
pub(crate) struct House {
    pub(crate) engine: EngineHandle,
    data: TempDir,
    _store: StoreThread,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::at(wall())
    }

    /// One whose log ends at `last_event`.
    pub(crate) fn at(last_event: Timestamp) -> Self {
        let data = tempfile::tempdir().unwrap();
        let incarnation = Uuid::from_u128(7);
        let identity = Arc::new(Identity::init(data.path(), &[], incarnation, wall()).unwrap());
        let (thread, store) = StoreThread::start(Box::new(MemoryStore::new(incarnation))).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start(last_event));
        let (engine, handle) =
            Engine::new(Coordinator::default(), Ledger::new(store), clock, |changed| {
                Outlets::new(
                    identity,
                    incarnation,
                    Arc::new(Enrolments::default()),
                    LiveConnections::default(),
                    Arc::new(ArcSwap::default()),
                    changed,
                )
            });
        tokio::spawn(engine.run());
        Self { engine: handle, data, _store: thread }
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }
}
