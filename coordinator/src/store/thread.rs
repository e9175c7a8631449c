//! The one thread that owns the event store, and the handle through which async code appends.
//!
//! It takes all appends that are waiting, gives them to the store as one, and answers each: one sync for
//! all (group commit). Only this thread appends, so callers need not know where the log ends.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::sleep,
};
use uuid::Uuid;

use super::{
    AppendError, BATCH_BYTES_MAX, EventStore, Events, Sequence, batch_bytes,
    event_store::refuse_too_large,
};

/// How many calls may wait. Each is a task that waits for its answer; the bytes are bounded below.
const WAITING_MAX: usize = 4096;

/// How many bytes of events may wait, over all calls: some of the largest batches.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long nothing is appended before the store is settled.
///
/// Settling under load would cost a second sync for each commit. A second of quiet is longer than
/// the pauses between the commits of a running rollout, and shorter than an operator's between two.
const QUIET_BEFORE_SETTLING: Duration = Duration::from_secs(1);

/// The thread. Dropping it lets the thread end by itself when the last [`StoreHandle`] is gone.
#[derive(Debug)]
pub struct StoreThread {
    stop: oneshot::Sender<()>,
    closed: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

/// Appends to the store of a [`StoreThread`], from any task.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    calls: mpsc::Sender<Call>,
    /// Counts bytes that wait.
    room: Arc<Semaphore>,
    state: watch::Receiver<State>,
    incarnation: Uuid,
}

/// Where events have been put: from `first` to `last`, both included.
///
/// For a call without events `last` is the log's, and `first` the place behind it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Appended {
    pub first: Sequence,
    pub last: Sequence,
}

#[derive(Debug)]
struct State {
    last: Sequence,
    failure: Option<AppendError>,
}

enum Call {
    Append(Append),
    Read { after: Sequence, reply: oneshot::Sender<(Sequence, Events)> },
}

struct Append {
    events: Vec<Vec<u8>>,
    reply: oneshot::Sender<Result<Appended, AppendError>>,
    _room: tokio::sync::OwnedSemaphorePermit,
}

impl StoreThread {
    /// Starts the thread of `store`.
    ///
    /// # Errors
    ///
    /// When the system gives no thread, or none of what its runtime needs.
    pub fn start(store: Box<dyn EventStore>) -> io::Result<(Self, StoreHandle)> {
        let (stop, stopping) = oneshot::channel();
        let (closing, closed) = oneshot::channel();
        let (handle, serving) = serve(store, stopping);
        // A runtime of its own, only to wait for a call or the time; the store blocks it as it likes.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            runtime.block_on(serving);
            let _nobody_waits = closing.send(());
        })?;
        Ok((Self { stop, closed, thread }, handle))
    }

    /// Takes no more calls, answers those that wait, and returns when the store is settled and closed.
    pub async fn stop(self) {
        let Self { stop, closed, thread } = self;
        // Both fail only when the thread has ended, which is what is wanted.
        let _has_ended = stop.send(());
        drop(closed.await);
        drop(thread.join());
    }
}

/// Owns `store` for as long as the returned future is polled, until `stop` or the last handle's
/// end. [`StoreThread`] polls it on a thread of its own, as a store blocks; a simulation, whose
/// store is memory, beside everything else.
pub fn serve(
    store: Box<dyn EventStore>,
    stop: oneshot::Receiver<()>,
) -> (StoreHandle, impl Future<Output = ()> + Send) {
    let (calls, inbox) = mpsc::channel(WAITING_MAX);
    let (publish, state) = watch::channel(State { last: store.last(), failure: None });
    let room = Arc::new(Semaphore::new(WAITING_BYTES_MAX));
    let handle = StoreHandle { calls, room, state, incarnation: store.incarnation() };
    let owner = Owner { store, publish, held_over: None };
    (handle, owner.run(inbox, stop))
}

impl StoreHandle {
    /// The incarnation of the store.
    pub fn incarnation(&self) -> Uuid {
        self.incarnation
    }

    /// The place of the newest event that is on the disk.
    pub fn last(&self) -> Sequence {
        self.state.borrow().last
    }

    /// Appends all of `events` or none, together with those of other callers.
    ///
    /// When this returns they are on stable storage. If the caller stops waiting they may be appended all
    /// the same.
    ///
    /// # Errors
    ///
    /// As [`EventStore::append`], and [`AppendError::Closed`] when the thread has ended.
    pub async fn append(&self, events: Vec<Vec<u8>>) -> Result<Appended, AppendError> {
        refuse_too_large(&events)?;
        let bytes = u32::try_from(batch_bytes(&events)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        let room = room.map_err(|_closed| AppendError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let call = Call::Append(Append { events, reply, _room: room });
        self.calls.send(call).await.map_err(|_closed| AppendError::Closed)?;
        answer.await.map_err(|_dropped| AppendError::Closed)?
    }

    /// The events behind `after`, and the place up to which they go.
    ///
    /// Reading them blocks: do it on a thread for that. Appends go on beside it.
    ///
    /// # Errors
    ///
    /// [`AppendError::Closed`] when the thread has ended.
    pub async fn read_after(&self, after: Sequence) -> Result<(Sequence, Events), AppendError> {
        let (reply, answer) = oneshot::channel();
        let call = Call::Read { after, reply };
        self.calls.send(call).await.map_err(|_closed| AppendError::Closed)?;
        answer.await.map_err(|_dropped| AppendError::Closed)
    }

    /// Why nothing can be appended any more, if so.
    pub fn failure(&self) -> Option<AppendError> {
        match &self.state.borrow().failure {
            Some(failure) => Some(failure.clone()),
            None if self.calls.is_closed() => Some(AppendError::Closed),
            None => None,
        }
    }

    /// Waits until nothing can be appended any more, and returns why.
    pub async fn failed(&self) -> AppendError {
        let mut state = self.state.clone();
        match state.wait_for(|state| state.failure.is_some()).await {
            Ok(state) => state.failure.clone().unwrap_or(AppendError::Closed),
            Err(_ended) => AppendError::Closed,
        }
    }
}

/// What the thread has.
struct Owner {
    store: Box<dyn EventStore>,
    publish: watch::Sender<State>,
    /// An append that did not fit into the group before it.
    held_over: Option<Append>,
}

impl Owner {
    async fn run(mut self, mut inbox: mpsc::Receiver<Call>, mut stop: oneshot::Receiver<()>) {
        let (mut is_stopping, mut is_settled) = (false, true);
        loop {
            if let Some(append) = self.held_over.take() {
                self.commit(append, &mut inbox);
                is_settled = false;
                continue;
            }
            tokio::select! {
                biased;
                // Also when the `StoreThread` was dropped: then only the last handle's end counts.
                stopped = &mut stop, if !is_stopping => {
                    is_stopping = true;
                    if stopped.is_ok() {
                        inbox.close();
                    }
                }
                call = inbox.recv() => match call {
                    Some(Call::Append(append)) => {
                        self.commit(append, &mut inbox);
                        is_settled = false;
                    }
                    Some(Call::Read { after, reply }) => self.read(after, reply),
                    None => break,
                },
                () = sleep(QUIET_BEFORE_SETTLING), if !is_settled => {
                    is_settled = true;
                    let settled = self.store.settle();
                    self.publish(settled.err());
                }
            }
        }
    }

    /// Commits `first` with all that wait and fit.
    fn commit(&mut self, first: Append, inbox: &mut mpsc::Receiver<Call>) {
        let mut bytes = batch_bytes(&first.events);
        let mut group = vec![first];
        while let Ok(call) = inbox.try_recv() {
            match call {
                Call::Read { after, reply } => self.read(after, reply),
                Call::Append(append) => {
                    bytes += batch_bytes(&append.events);
                    if bytes > BATCH_BYTES_MAX {
                        self.held_over = Some(append);
                        break;
                    }
                    group.push(append);
                }
            }
        }
        let mut counts = Vec::with_capacity(group.len());
        let mut events = Vec::new();
        for append in &mut group {
            counts.push(append.events.len());
            events.append(&mut append.events);
        }
        let before = self.store.last();
        let outcome = self.store.append(before, &events);
        self.publish(outcome.as_ref().err().cloned());
        let mut end = before;
        for (append, count) in group.into_iter().zip(counts) {
            let first = end.next();
            end = end.plus(count);
            let answer = outcome.clone().map(|_| Appended { first, last: end });
            // Nobody waits if the caller has gone.
            drop(append.reply.send(answer));
        }
    }

    fn read(&self, after: Sequence, reply: oneshot::Sender<(Sequence, Events)>) {
        // Nobody waits if the caller has gone.
        drop(reply.send((self.store.last(), self.store.read_after(after))));
    }

    fn publish(&self, failure: Option<AppendError>) {
        self.publish.send_modify(|state| {
            state.last = self.store.last();
            if state.failure.is_none() {
                state.failure = failure.filter(AppendError::is_fatal);
            }
        });
    }
}

#[cfg(test)]
mod tests;
