//! Group commit, and what callers see when the store fails.

use std::sync::{
    atomic::{AtomicU32, Ordering},
    mpsc as blocking,
};

use tokio::time::timeout;

use super::*;
use crate::store::{EVENT_BYTES_MAX, MemoryStore};

/// How long a test waits for what must come. Far longer than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A memory store that tells of each append and waits for leave to do it.
struct Gated {
    inner: MemoryStore,
    began: blocking::Sender<usize>,
    leave: blocking::Receiver<Result<(), AppendError>>,
    settled: Arc<AtomicU32>,
}

impl EventStore for Gated {
    fn incarnation(&self) -> Uuid {
        self.inner.incarnation()
    }

    fn last(&self) -> Sequence {
        self.inner.last()
    }

    fn append(&mut self, last: Sequence, events: &[Vec<u8>]) -> Result<Sequence, AppendError> {
        if self.began.send(events.len()).is_err() {
            return Err(failure());
        }
        self.leave.recv_timeout(PATIENCE).unwrap_or_else(|_test_is_over| Err(failure()))?;
        self.inner.append(last, events)
    }

    fn read_after(&self, after: Sequence) -> Events {
        self.inner.read_after(after)
    }

    fn settle(&mut self) -> Result<(), AppendError> {
        self.settled.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct Story {
    thread: StoreThread,
    handle: StoreHandle,
    began: blocking::Receiver<usize>,
    leave: blocking::Sender<Result<(), AppendError>>,
    settled: Arc<AtomicU32>,
}

impl Story {
    fn begin() -> Self {
        let (begin, began) = blocking::channel();
        let (leave, left) = blocking::channel();
        let settled = Arc::new(AtomicU32::new(0));
        let store = Gated {
            inner: MemoryStore::new(Uuid::from_u128(7)),
            began: begin,
            leave: left,
            settled: Arc::clone(&settled),
        };
        let (thread, handle) = StoreThread::start(Box::new(store)).expect("started");
        Self { thread, handle, began, leave, settled }
    }

    fn append(
        &self,
        count: usize,
        bytes: usize,
    ) -> tokio::task::JoinHandle<Result<Appended, AppendError>> {
        let handle = self.handle.clone();
        tokio::spawn(async move { handle.append(vec![vec![0; bytes]; count]).await })
    }

    /// Waits until the store was asked to append, and returns how many events.
    fn began(&self) -> usize {
        self.began.recv_timeout(PATIENCE).expect("the store is asked to append")
    }

    fn give(&self, leave: Result<(), AppendError>) {
        self.leave.send(leave).expect("the store waits");
    }

    /// Waits until `count` calls are in the queue.
    async fn queued(&self, count: usize) {
        until("the calls are in the queue", || {
            self.handle.calls.max_capacity() - self.handle.calls.capacity() == count
        })
        .await;
    }
}

/// Waits for a level, with a deadline.
async fn until(what: &str, mut is_reached: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !is_reached() {
        assert!(std::time::Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

fn failure() -> AppendError {
    AppendError::Poisoned { cause: Arc::new(io::Error::other("broken disk")) }
}

async fn answer<T>(call: tokio::task::JoinHandle<T>) -> T {
    timeout(PATIENCE, call).await.expect("an answer in time").expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_wait_share_one_append_and_each_learns_its_own_places() {
    let story = Story::begin();
    let first = story.append(1, 10);
    assert_eq!(story.began(), 1);
    let waiting: Vec<_> = (0..64).map(|_| story.append(2, 10)).collect();
    story.queued(64).await;
    assert_eq!(story.handle.last(), Sequence(0));

    story.give(Ok(()));
    assert_eq!(
        answer(first).await.expect("appended"),
        Appended { first: Sequence(1), last: Sequence(1) }
    );
    assert_eq!(story.began(), 128);
    story.give(Ok(()));
    let mut places = Vec::new();
    for call in waiting {
        let Appended { first, last } = answer(call).await.expect("appended");
        assert_eq!(last, first.next());
        places.extend([first.0, last.0]);
    }
    places.sort_unstable();
    assert!(places.into_iter().eq(2..130));
    assert_eq!(story.handle.last(), Sequence(129));
    story.thread.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_into_one_append_goes_into_the_following() {
    let story = Story::begin();
    let first = story.append(1, 10);
    assert_eq!(story.began(), 1);
    let waiting: Vec<_> = (0..5).map(|_| story.append(1, BATCH_BYTES_MAX / 2 - 100)).collect();
    story.queued(5).await;

    story.give(Ok(()));
    for expected in [2, 2, 1] {
        assert_eq!(story.began(), expected);
        story.give(Ok(()));
    }
    for call in waiting.into_iter().chain([first]) {
        answer(call).await.expect("appended");
    }
    assert_eq!(story.handle.last(), Sequence(6));
    story.thread.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_write_everybody_is_told_and_the_handle_is_dead() {
    let story = Story::begin();
    let failed = tokio::spawn({
        let handle = story.handle.clone();
        async move { handle.failed().await }
    });
    let first = story.append(1, 10);
    assert_eq!(story.began(), 1);
    let waiting: Vec<_> = (0..8).map(|_| story.append(1, 10)).collect();
    story.queued(8).await;
    assert!(story.handle.failure().is_none());

    story.give(Err(failure()));
    assert!(matches!(answer(first).await, Err(AppendError::Poisoned { .. })));
    assert!(matches!(answer(failed).await, AppendError::Poisoned { .. }));
    assert!(matches!(story.handle.failure(), Some(AppendError::Poisoned { .. })));
    assert_eq!(story.began(), 8);
    story.give(Err(failure()));
    for call in waiting {
        assert!(matches!(answer(call).await, Err(AppendError::Poisoned { .. })));
    }
    assert_eq!(story.handle.last(), Sequence::ZERO);
    story.thread.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_the_thread_lives_on() {
    let story = Story::begin();
    let refused = story.append(1, 10);
    assert_eq!(story.began(), 1);
    story.give(Err(AppendError::Full { available_bytes: 1, needed_bytes: 2 }));

    let refused = answer(refused).await.expect_err("refused");
    assert!(refused.is_disk_full() && !refused.is_fatal());
    assert!(story.handle.failure().is_none());
    let accepted = story.append(1, 10);
    assert_eq!(story.began(), 1);
    story.give(Ok(()));
    answer(accepted).await.expect("appended");
    story.thread.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_too_large_fails_alone() {
    let story = Story::begin();
    let first = story.append(1, 10);
    assert_eq!(story.began(), 1);

    let refused = answer(story.append(1, EVENT_BYTES_MAX + 1)).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    story.give(Ok(()));
    answer(first).await.expect("appended");
    story.thread.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_answers_those_that_wait_and_refuses_those_that_come_later() {
    let story = Story::begin();
    let first = story.append(1, 10);
    assert_eq!(story.began(), 1);
    let waiting: Vec<_> = (0..3).map(|_| story.append(1, 10)).collect();
    story.queued(3).await;
    let stopped = tokio::spawn(story.thread.stop());
    story.leave.send(Ok(())).expect("the store waits");
    story.leave.send(Ok(())).expect("the store waits");

    answer(first).await.expect("appended");
    for call in waiting {
        answer(call).await.expect("appended");
    }
    answer(stopped).await;
    assert!(matches!(story.handle.append(vec![vec![1]]).await, Err(AppendError::Closed)));
    assert!(matches!(story.handle.failure(), Some(AppendError::Closed)));
    assert!(matches!(timeout(PATIENCE, story.handle.failed()).await, Ok(AppendError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_thread_ends_with_the_last_handle() {
    let Story { thread, handle, .. } = Story::begin();
    let StoreThread { closed, .. } = thread;

    drop(handle);
    timeout(PATIENCE, closed).await.expect("in time").expect("the thread has ended in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_store_is_settled_once() {
    let story = Story::begin();
    let first = story.append(1, 10);
    assert_eq!(story.began(), 1);
    assert_eq!(story.settled.load(Ordering::SeqCst), 0);
    story.give(Ok(()));
    answer(first).await.expect("appended");

    until("the store is settled", || story.settled.load(Ordering::SeqCst) > 0).await;
    // Two calls that the thread answers: it has gone through its loop since.
    for _ in 0..2 {
        drop(story.handle.read_after(Sequence::ZERO).await.expect("read"));
    }
    assert_eq!(story.settled.load(Ordering::SeqCst), 1);
    story.thread.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_can_be_read_through_the_handle() {
    let (thread, handle) =
        StoreThread::start(Box::new(MemoryStore::new(Uuid::from_u128(7)))).expect("started");
    handle.append(vec![b"a".to_vec(), b"b".to_vec()]).await.expect("appended");

    let (last, events) = handle.read_after(Sequence(1)).await.expect("read");
    let events: Vec<_> = events.map(|event| event.expect("readable")).collect();
    assert_eq!((last, events), (Sequence(2), vec![(Sequence(2), b"b".to_vec())]));
    assert_eq!(handle.incarnation(), Uuid::from_u128(7));
    thread.stop().await;
}
