//! One place where requests go: its connections, what is under way there, what was counted.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::client::conn::http1::SendRequest;
use tokio::{sync::watch, task::AbortHandle};

use super::count::Counters;
use crate::{
    certificate::why_refused,
    http::Upload,
    program::{Drain, Service, Upstream, UpstreamKind, UpstreamName},
};

/// How many connections to one place wait for their next request, on each shard. What is beyond
/// is closed: an instance's file descriptors are its own.
const IDLE_MAX: usize = 256;

/// How long a connection waits for its next request at most. One that has waited for longer is closed
/// when the next is taken or kept.
///
/// An instance closes one that waited for too long, and what is sent into it at that very moment is
/// lost; whatever may not be done twice then fails. The shortest patience of well-known servers is 2 s
/// (gunicorn's `keepalive`).
const IDLE_WITHIN: Duration = Duration::from_secs(1);

/// One place, the same as long as its name, its address and how it is spoken to are.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: UpstreamName,
    pub(crate) address: SocketAddr,
    pub(crate) kind: UpstreamKind,
    pub(crate) manner: Manner,
    pub(crate) counters: Counters,
    requests: AtomicU64,
    long_lived: AtomicU64,
    /// Idle connections, by shard, the one used last at the end.
    idle: Box<[Mutex<Vec<Idle>>]>,
    /// No connection is kept for a next request.
    drains: AtomicBool,
    /// Until when others are asked first, in milliseconds since this process began to count. Zero:
    /// it was reached whenever it was tried.
    rests_until_ms: AtomicU64,
    open: Mutex<Open>,
    deadlines: Mutex<Vec<AbortHandle>>,
    /// Why nothing can be passed on to it, although it was reached; empty if nothing is known to be.
    trouble: Mutex<String>,
}

/// What a connection to a place begins with, before anything of a client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Manner {
    /// A PROXY protocol header.
    pub(crate) writes_header: bool,
    /// A TLS handshake.
    pub(crate) is_encrypted: bool,
}

impl Manner {
    /// Returns how a gate that serves `service` speaks to places of this kind.
    pub(crate) const fn of(service: &Service, kind: UpstreamKind) -> Self {
        match kind {
            // Another host's gate serves the same, and expects what clients begin with here.
            UpstreamKind::Gate => Self {
                writes_header: service.accepts_proxy_protocol,
                is_encrypted: service.tls.is_some(),
            },
            // Behind an edge the service is what the edge says of it.
            UpstreamKind::Slot | UpstreamKind::Host => {
                Self { writes_header: false, is_encrypted: false }
            }
        }
    }
}

/// How long a host that was not reached is left to its fellows: as long as trying it may take by
/// default, so that at most half of the time somebody waits for it.
const REST: Duration = Duration::from_secs(5);

/// Returns the milliseconds since this was first asked for, and one.
fn clock_ms() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let passed = BEGAN.get_or_init(Instant::now).elapsed().as_millis();
    u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(1)
}

/// A connection to a place.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) sender: SendRequest<Upload>,
    pub(crate) known: Arc<Known>,
}

/// A connection that waits for its next request.
#[derive(Debug)]
struct Idle {
    link: Link,
    since: Instant,
}

/// Every task that carries bytes to this place.
#[derive(Debug, Default)]
struct Open {
    last: u64,
    tasks: BTreeMap<u64, (End, Span)>,
    /// What is past its limit: what comes to be of it ends at once.
    overdue: Vec<Span>,
}

/// How a task is ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It is cut.
    Abort(AbortHandle),
    /// It is told to, and ends in its own way.
    Tell(watch::Sender<bool>),
}

impl End {
    fn now(&self) {
        match self {
            Self::Abort(task) => task.abort(),
            Self::Tell(task) => drop(task.send_replace(true)),
        }
    }
}

/// How long something lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Span {
    /// A request and its answer.
    Request,
    /// A WebSocket or another upgrade, a stream of events, plain TCP.
    LongLived,
}

/// Something under way at a place. It counts until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay {
    place: Arc<Place>,
    span: Span,
}

/// A task that is known to its place until it ends.
#[derive(Debug)]
pub(crate) struct Known {
    place: Arc<Place>,
    number: u64,
}

impl Place {
    pub(crate) fn new(upstream: &Upstream, manner: Manner, shards: usize) -> Self {
        Self {
            name: upstream.name.clone(),
            address: upstream.address,
            kind: upstream.kind,
            manner,
            counters: Counters::default(),
            requests: AtomicU64::new(0),
            long_lived: AtomicU64::new(0),
            idle: (0..shards).map(|_| Mutex::default()).collect(),
            drains: AtomicBool::new(false),
            rests_until_ms: AtomicU64::new(0),
            open: Mutex::default(),
            deadlines: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    /// Notes that its certificate is one that is trusted.
    pub(crate) fn was_accepted(&self) {
        lock(&self.trouble).clear();
    }

    /// Notes that no handshake with it came about.
    pub(crate) fn was_refused(&self, failure: &io::Error) {
        let Some(why) = why_refused(self.address, failure) else { return };
        let mut known = lock(&self.trouble);
        // Once for each reason, and not with each request.
        if *known != why {
            tracing::warn!(upstream = %self.name, "{why}");
            *known = why;
        }
    }

    /// Returns why nothing can be passed on to it; empty if nothing is known to be wrong.
    pub(crate) fn trouble(&self) -> String {
        lock(&self.trouble).clone()
    }

    /// Notes that it was not reached: others are asked first for a while.
    pub(crate) fn rest(&self) {
        let rest = u64::try_from(REST.as_millis()).unwrap_or(u64::MAX);
        self.rests_until_ms.store(clock_ms().saturating_add(rest), Ordering::Relaxed);
    }

    /// Returns whether others are asked first.
    pub(crate) fn rests(&self) -> bool {
        let until = self.rests_until_ms.load(Ordering::Relaxed);
        until != 0 && clock_ms() < until
    }

    /// Counts something that goes there.
    pub(crate) fn begin(self: &Arc<Self>, span: Span) -> UnderWay {
        self.under_way(span).fetch_add(1, Ordering::SeqCst);
        UnderWay { place: Arc::clone(self), span }
    }

    /// Returns how many requests and how many long-lived connections are under way.
    pub(crate) fn load(&self) -> (u64, u64) {
        (self.requests.load(Ordering::SeqCst), self.long_lived.load(Ordering::SeqCst))
    }

    const fn under_way(&self, span: Span) -> &AtomicU64 {
        match span {
            Span::Request => &self.requests,
            Span::LongLived => &self.long_lived,
        }
    }

    /// Takes a connection that waits for its next request, the one used last. It has not waited for
    /// long.
    pub(crate) fn take_idle(&self, shard: usize) -> Option<Link> {
        self.take_idle_at(shard, Instant::now())
    }

    fn take_idle_at(&self, shard: usize, now: Instant) -> Option<Link> {
        let mut idle = lock(self.idle.get(shard)?);
        while let Some(Idle { link, since }) = idle.pop() {
            if now.saturating_duration_since(since) >= IDLE_WITHIN {
                // The others have waited for longer.
                idle.clear();
                return None;
            }
            if !link.sender.is_closed() {
                return Some(link);
            }
        }
        None
    }

    /// Keeps a connection for a next request.
    pub(crate) fn keep_idle(&self, shard: usize, link: Link) {
        self.keep_idle_at(shard, link, Instant::now());
    }

    fn keep_idle_at(&self, shard: usize, link: Link, now: Instant) {
        if link.sender.is_closed() {
            return;
        }
        let Some(idle) = self.idle.get(shard) else { return };
        let mut idle = lock(idle);
        // While one above them is busy, those beneath are never taken.
        let is_old = |it: &Idle| now.saturating_duration_since(it.since) >= IDLE_WITHIN;
        let old = idle.partition_point(is_old);
        idle.drain(..old);
        // Looked at last: whoever begins to drain clears the list after it has said so.
        if idle.len() < IDLE_MAX && !self.drains.load(Ordering::SeqCst) {
            idle.push(Idle { link, since: now });
        }
    }

    /// Notes a task that carries bytes there, to be ended with the drain's limit of its `span`.
    pub(crate) fn note(self: &Arc<Self>, task: End, span: Span) -> Arc<Known> {
        let mut open = lock(&self.open);
        open.last += 1;
        let number = open.last;
        if open.overdue.contains(&span) {
            task.now();
        }
        open.tasks.insert(number, (task, span));
        Arc::new(Known { place: Arc::clone(self), number })
    }

    /// Begins to drain, unless it does: nothing is kept for a next request, and what is under way
    /// ends at the limits.
    pub(crate) fn drain(self: &Arc<Self>, drain: Drain) {
        if self.drains.swap(true, Ordering::SeqCst) {
            return;
        }
        for idle in &self.idle {
            lock(idle).clear();
        }
        let limits = [(Span::Request, drain.requests_ms), (Span::LongLived, drain.long_lived_ms)];
        let deadlines = limits.map(|(span, after)| {
            let place = Arc::clone(self);
            let after = Duration::from_millis(after.into());
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                let open = lock(&place.open);
                // It may have been revived at this very moment.
                if place.drains.load(Ordering::SeqCst) {
                    place.cut_of(open, span);
                }
            })
            .abort_handle()
        });
        lock(&self.deadlines).extend(deadlines);
    }

    /// Gets new requests again.
    pub(crate) fn revive(&self) {
        if self.drains.swap(false, Ordering::SeqCst) {
            for deadline in lock(&self.deadlines).drain(..) {
                deadline.abort();
            }
            lock(&self.open).overdue.clear();
        }
    }

    /// Ends what is under way of this `span`, and what comes to be of it from now on.
    pub(super) fn cut(&self, span: Span) {
        self.cut_of(lock(&self.open), span);
    }

    fn cut_of(&self, mut open: MutexGuard<'_, Open>, span: Span) {
        if !open.overdue.contains(&span) {
            open.overdue.push(span);
        }
        let overdue: Vec<_> = open.tasks.values().filter(|(_, of)| *of == span).collect();
        if !overdue.is_empty() {
            tracing::warn!(
                upstream = %self.name, connections = overdue.len(), ?span,
                "ending what is left at the drain's limit"
            );
        }
        for (task, _) in overdue {
            task.now();
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.place.under_way(self.span).fetch_sub(1, Ordering::SeqCst);
    }
}

impl UnderWay {
    pub(crate) const fn place(&self) -> &Arc<Place> {
        &self.place
    }

    pub(crate) const fn span(&self) -> Span {
        self.span
    }

    /// What was begun as a request turns out to last.
    pub(crate) fn lasts(&mut self) {
        if self.span == Span::Request {
            // Added before it is taken away: a place is never empty in between.
            self.place.long_lived.fetch_add(1, Ordering::SeqCst);
            self.place.requests.fetch_sub(1, Ordering::SeqCst);
            self.span = Span::LongLived;
        }
    }
}

impl Known {
    /// What was begun as a request turns out to last.
    pub(crate) fn lasts(&self) {
        let mut open = lock(&self.place.open);
        let Open { tasks, overdue, .. } = &mut *open;
        if let Some((task, span)) = tasks.get_mut(&self.number) {
            *span = Span::LongLived;
            if overdue.contains(span) {
                task.now();
            }
        }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        lock(&self.place.open).tasks.remove(&self.number);
    }
}

/// Nothing here panics while it holds a lock, and what is inside is right at any moment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use serde_json::json;
    use tokio::io::duplex;

    use super::*;

    /// Returns a connection whose other end stays open.
    async fn link(place: &Arc<Place>) -> Link {
        let (ours, theirs) = duplex(64);
        let (sender, connection) = http1::handshake(TokioIo::new(ours)).await.unwrap();
        let task = tokio::spawn(async move {
            drop(connection.await);
            drop(theirs);
        });
        Link { sender, known: place.note(End::Abort(task.abort_handle()), Span::Request) }
    }

    fn place() -> Arc<Place> {
        let upstream = json!({
            "name": "blue", "address": "127.0.0.1:1", "weight": 1_000, "is_healthy": true,
        });
        Arc::new(Place::new(&serde_json::from_value(upstream).unwrap(), Manner::default(), 1))
    }

    #[tokio::test]
    async fn a_connection_that_waited_for_long_is_not_used_again() {
        let (place, now) = (place(), Instant::now());
        for _ in 0..3 {
            place.keep_idle_at(0, link(&place).await, now);
        }

        let link = place.take_idle_at(0, now).expect("it waits for nothing yet");
        place.keep_idle_at(0, link, now);

        assert!(place.take_idle_at(0, now + IDLE_WITHIN).is_none(), "all waited for too long");
        assert!(place.take_idle_at(0, now).is_none(), "and none is kept");
        assert_eq!(lock(&place.open).tasks.len(), 0, "nor open");
    }

    #[tokio::test]
    async fn those_beneath_a_busy_connection_do_not_stay_open() {
        let (place, now) = (place(), Instant::now());
        for _ in 0..3 {
            place.keep_idle_at(0, link(&place).await, now);
        }

        let busy = place.take_idle_at(0, now).expect("it waits for nothing yet");
        place.keep_idle_at(0, busy, now + IDLE_WITHIN);

        assert_eq!(lock(&place.open).tasks.len(), 1);
        assert!(place.take_idle_at(0, now + IDLE_WITHIN).is_some(), "the busy one is there");
    }
}
