//! Bodies on their way, in both directions: counted, bounded, and cut when nobody moves.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::live::{Link, Place, Span, UnderWay};

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenBody {
    #[error("the connection broke")]
    Connection(#[source] hyper::Error),
    #[error("nothing came for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("it is longer than the {0} bytes that are allowed")]
    TooLong(u64),
}

/// The body of a request, on its way to an instance.
#[derive(Debug)]
pub(crate) struct Upload {
    incoming: Option<Incoming>,
    left: Option<u64>,
    most: u64,
    stall: Stall,
    place: Arc<Place>,
    progress: Arc<Progress>,
}

/// How far a body is.
#[derive(Debug)]
pub(crate) struct Progress {
    created: Instant,
    has_begun: AtomicBool,
    is_over: AtomicBool,
    is_too_long: AtomicBool,
    /// Its client is waited for, whose own limit this has.
    is_up_to_client: AtomicBool,
    /// When the instance took something of it last, in microseconds since.
    taken_at_us: AtomicU64,
}

impl Progress {
    fn new(is_over: bool) -> Self {
        Self {
            created: Instant::now(),
            has_begun: AtomicBool::new(false),
            is_over: AtomicBool::new(is_over),
            is_too_long: AtomicBool::new(false),
            is_up_to_client: AtomicBool::new(false),
            taken_at_us: AtomicU64::new(0),
        }
    }

    fn was_taken(&self) {
        let after = u64::try_from(self.created.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.taken_at_us.store(after, Ordering::Release);
    }

    /// Returns since when the instance is waited for.
    pub(crate) fn instance_s_since(&self) -> Instant {
        if self.is_up_to_client.load(Ordering::Acquire) {
            return Instant::now();
        }
        self.created + Duration::from_micros(self.taken_at_us.load(Ordering::Acquire))
    }

    /// Returns whether nothing of the body was taken from the client.
    pub(crate) fn is_untouched(&self) -> bool {
        !self.has_begun.load(Ordering::Acquire)
    }

    /// Returns whether more came than is allowed.
    pub(crate) fn is_too_long(&self) -> bool {
        self.is_too_long.load(Ordering::Acquire)
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

impl Upload {
    pub(crate) fn new(
        incoming: Option<Incoming>,
        most: Option<u64>,
        stall: Duration,
        place: Arc<Place>,
    ) -> Self {
        let incoming = incoming.filter(|body| !body.is_end_stream());
        let progress = Progress::new(incoming.is_none());
        Self {
            incoming,
            left: most,
            most: most.unwrap_or(u64::MAX),
            stall: Stall::new(stall),
            place,
            progress: Arc::new(progress),
        }
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Returns the same body for another place. Only for one that was not begun.
    pub(crate) fn sent_to(mut self, place: Arc<Place>) -> Self {
        self.place = place;
        self
    }

    fn over(&self) {
        self.progress.is_over.store(true, Ordering::Release);
    }
}

impl Drop for Upload {
    /// Nothing more of it is waited for.
    fn drop(&mut self) {
        self.progress.is_up_to_client.store(false, Ordering::Release);
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        this.progress.has_begun.store(true, Ordering::Release);
        let frame =
            this.stall.poll(context, |context| Pin::new(&mut *incoming).poll_frame(context));
        this.progress.is_up_to_client.store(frame.is_pending(), Ordering::Release);
        let frame = ready!(frame).map_err(BrokenBody::Stalled);
        this.progress.was_taken();
        let frame = match frame {
            Ok(frame) => frame,
            Err(stalled) => return Poll::Ready(Some(Err(stalled))),
        };
        match frame {
            None => {
                this.over();
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(BrokenBody::Connection(error)))),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                if let Some(left) = &mut this.left {
                    let Some(rest) = left.checked_sub(length as u64) else {
                        this.progress.is_too_long.store(true, Ordering::Release);
                        return Poll::Ready(Some(Err(BrokenBody::TooLong(this.most))));
                    };
                    *left = rest;
                }
                this.place.counters.sent(length);
                if incoming.is_end_stream() {
                    this.progress.is_over.store(true, Ordering::Release);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The gate's own words.
    Own(Full<Bytes>),
    /// What an instance says.
    Passed(Box<Download>),
}

/// The body of an instance's answer, on its way to a client.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) incoming: Incoming,
    pub(crate) stall: Stall,
    pub(crate) shard: usize,
    /// Its place can cut it for as long as this is here. Kept for a next request when this one is
    /// over.
    pub(crate) link: Option<Link>,
    pub(crate) upload: Arc<Progress>,
    pub(crate) under_way: UnderWay,
    pub(crate) is_over: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        match self.get_mut() {
            Self::Own(text) => Pin::new(text)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Self::Passed(download) => download.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text) => text.is_end_stream(),
            Self::Passed(download) => download.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(text) => text.size_hint(),
            Self::Passed(download) => download.incoming.size_hint(),
        }
    }
}

impl Download {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        let incoming = &mut self.incoming;
        let frame =
            ready!(self.stall.poll(context, |context| Pin::new(incoming).poll_frame(context)));
        let counters = &self.under_way.place().counters;
        Poll::Ready(match frame {
            Ok(Some(Ok(frame))) => {
                counters.received(frame.data_ref().map_or(0, Bytes::len));
                Some(Ok(frame))
            }
            Ok(None) => {
                self.is_over = true;
                None
            }
            Ok(Some(Err(error))) => {
                counters.was_reset();
                Some(Err(BrokenBody::Connection(error)))
            }
            Err(stalled) => Some(Err(BrokenBody::Stalled(stalled))),
        })
    }
}

impl Drop for Download {
    /// A connection serves again only when nothing of this request is left on it.
    fn drop(&mut self) {
        let is_over = self.is_over || self.incoming.is_end_stream();
        if let Some(link) = self.link.take()
            && is_over
            && self.under_way.span() == Span::Request
            && self.upload.is_over()
        {
            self.under_way.place().keep_idle(self.shard, link);
        }
    }
}

/// How long nothing may happen.
#[derive(Debug)]
pub(crate) struct Stall {
    /// None: for ever.
    limit: Option<Duration>,
    /// Only made when something is waited for: most bodies are there at once.
    timer: Option<Pin<Box<Sleep>>>,
    is_running: bool,
}

impl Stall {
    pub(crate) const fn new(limit: Duration) -> Self {
        Self { limit: Some(limit), timer: None, is_running: false }
    }

    /// For what may be silent, as a stream of events.
    pub(crate) const fn never() -> Self {
        Self { limit: None, timer: None, is_running: false }
    }

    /// Returns what `inner` does, or for how long it did nothing.
    fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        inner: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Duration>> {
        if let Poll::Ready(value) = inner(context) {
            self.is_running = false;
            return Poll::Ready(Ok(value));
        }
        let Some(limit) = self.limit else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !std::mem::replace(&mut self.is_running, true) {
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(context).map(|()| Err(limit))
    }
}
