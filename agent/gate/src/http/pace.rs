//! How long a client of HTTP/1.1 makes the gate wait: between its requests, and within a head.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::strict::Strict;
use crate::program::Limits;

/// What no head may contain, and the end of one.
const REFUSED: &[u8] = b"\0\r\n\r\n";

/// How many requests of one connection have begun, and how many are over.
#[derive(Debug)]
pub(super) struct Pace {
    begun: AtomicU64,
    over: AtomicU64,
    connected: Instant,
    /// When the last one was over, in microseconds since.
    over_at_us: AtomicU64,
    /// It speaks something else from here on.
    is_upgraded: AtomicBool,
}

/// A request that is not over. It counts until it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Pace>);

impl Pace {
    pub(super) fn new() -> Self {
        let [begun, over, over_at_us] = Default::default();
        let is_upgraded = AtomicBool::new(false);
        Self { begun, over, connected: Instant::now(), over_at_us, is_upgraded }
    }

    fn over_at(&self) -> Instant {
        self.connected + Duration::from_micros(self.over_at_us.load(Ordering::SeqCst))
    }

    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(self))
    }

    /// What comes from here on is no HTTP.
    pub(super) fn is_upgraded(&self) {
        self.is_upgraded.store(true, Ordering::SeqCst);
    }

    /// Returns a number that changes whenever a request begins or is over.
    pub(super) fn turn(&self) -> u64 {
        self.begun.load(Ordering::SeqCst) + self.over.load(Ordering::SeqCst)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.begun.load(Ordering::SeqCst) != self.over.load(Ordering::SeqCst)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let after = self.0.connected.elapsed();
        let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.0.over_at_us.store(after, Ordering::SeqCst);
        self.0.over.fetch_add(1, Ordering::SeqCst);
    }
}

/// What the gate waits for while no request is under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wait {
    /// The first byte of a request.
    Request,
    /// The rest of its head.
    Head,
}

/// A connection that ends when its client makes the gate wait for too long.
#[derive(Debug)]
pub(super) struct Paced<S> {
    inner: S,
    strict: Strict,
    pace: Arc<Pace>,
    turn: u64,
    wait: Wait,
    since: Instant,
    idle: Duration,
    head: Duration,
    /// Set to no later than what is waited for, and only then set anew.
    timer: Option<Pin<Box<Sleep>>>,
    stall: Duration,
    /// Runs while the client takes nothing of what there is for it.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    /// Some of the first head has come already.
    pub(super) fn new(inner: S, pace: Arc<Pace>, limits: &Limits) -> Self {
        let of = |ms: u32| Duration::from_millis(ms.into());
        let head_max = usize::try_from(limits.head_bytes_max).unwrap_or(usize::MAX);
        Self {
            inner,
            strict: Strict::new(head_max),
            turn: pace.turn(),
            pace,
            wait: Wait::Head,
            since: Instant::now(),
            idle: of(limits.idle_ms),
            head: of(limits.head_ms),
            timer: None,
            stall: of(limits.stall_ms),
            stuck: None,
        }
    }

    /// Notices that a request began or ended since.
    fn look(&mut self) {
        let turn = self.pace.turn();
        if self.turn != turn {
            self.turn = turn;
            self.wait = Wait::Request;
            self.since = self.pace.over_at();
        }
    }

    /// Judges what came, before anybody acts on it.
    fn heard(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        if self.pace.is_upgraded.load(Ordering::SeqCst) {
            return Ok(());
        }
        let is_busy = self.pace.is_busy();
        if !is_busy {
            self.look();
            self.strict.was_answered();
            if self.wait == Wait::Request {
                self.wait = Wait::Head;
                self.since = Instant::now();
            }
        }
        let Err(dubious) = self.strict.look(&buffer.filled()[before..]) else { return Ok(()) };
        tracing::debug!(%dubious, "a client is refused");
        if is_busy {
            return Err(io::Error::new(io::ErrorKind::InvalidData, dubious));
        }
        // Nothing of it goes on: the parser sees the end of a head that it answers 400.
        buffer.set_filled(before);
        if buffer.remaining() < REFUSED.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, dubious));
        }
        buffer.put_slice(REFUSED);
        Ok(())
    }

    /// Returns what became of writing, and ends a connection whose client takes nothing.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let stall = self.stall;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        stuck.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Nothing came. Returns what is to be read instead when that lasts for too long.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.look();
            let is_busy = self.pace.is_busy();
            // Nobody asks again when a request is over: the timer runs all the while.
            let limit = match self.wait {
                _ if is_busy => Instant::now() + self.idle,
                Wait::Request => self.since + self.idle,
                Wait::Head => self.since + self.head,
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(limit)));
            if timer.deadline() > limit {
                timer.as_mut().reset(limit);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if is_busy || timer.deadline() < limit {
                // It was set for an earlier wait.
                timer.as_mut().reset(limit);
                continue;
            }
            return Poll::Ready(match self.wait {
                // As if the client had closed it.
                Wait::Request => Ok(()),
                Wait::Head => Err(io::ErrorKind::TimedOut.into()),
            });
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(context, buffer);
        if read.is_pending() {
            return this.wait(context);
        }
        if buffer.filled().len() > before {
            return Poll::Ready(this.heard(buffer, before));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.written(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(context);
        this.written(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}
