//! Streams of HTTP/2: each ends when its client takes nothing of its answer.
//!
//! Nobody asks the body of an answer for more before its client has taken what there is, so that the
//! body cannot notice this itself, and not even that its instance is gone.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::rt::Executor;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::body::Answer;
use crate::{
    live::{End, Place, Span},
    websocket::told,
};

tokio::task_local! {
    /// The answer on the stream that runs.
    static ANSWER: Taking;
}

/// How an answer is taken.
#[derive(Debug, Default)]
struct Taking {
    /// There is something for its client.
    is_up_to_client: Cell<bool>,
    /// How often its body was asked for more.
    asked: Cell<u64>,
    /// The instance that gives it.
    place: RefCell<Option<(Arc<Place>, Span)>>,
}

/// Notes that there is an answer.
pub(super) fn has_begun(answer: &Answer) {
    // One of HTTP/1.1 has no stream of its own.
    let _noted = ANSWER.try_with(|taking| {
        taking.is_up_to_client.set(true);
        if let Answer::Passed(download) = answer {
            let under_way = &download.under_way;
            taking.place.replace(Some((Arc::clone(under_way.place()), under_way.span())));
        }
    });
}

/// Notes that the body was asked for more, and whether it had it.
pub(super) fn was_asked(had_more: bool) {
    let _noted = ANSWER.try_with(|taking| {
        taking.is_up_to_client.set(had_more);
        taking.asked.set(taking.asked.get().wrapping_add(1));
    });
}

fn is_up_to_client() -> bool {
    ANSWER.with(|taking| taking.is_up_to_client.get())
}

fn asked() -> u64 {
    ANSWER.with(|taking| taking.asked.get())
}

/// Runs streams whose clients may take nothing for as long as this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    pub(super) stall: Duration,
}

impl<S> Executor<S> for Streams
where
    S: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: S) {
        tokio::spawn(ANSWER.scope(Taking::default(), run(stream, self.stall)));
    }
}

async fn run(stream: impl Future<Output = ()>, stall: Duration) {
    let mut stream = pin!(stream);
    let is_over = poll_fn(|context| match stream.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending if is_up_to_client() => Poll::Ready(false),
        Poll::Pending => Poll::Pending,
    });
    if !is_over.await {
        // Boxed, as most answers are taken at once.
        Box::pin(run_watched(stream, stall)).await;
    }
}

/// Runs a stream whose client was waited for until it ends, or until it is ended: with its place, or
/// when it takes too long.
async fn run_watched(mut stream: Pin<&mut impl Future<Output = ()>>, stall: Duration) {
    let (tell, mut ends) = watch::channel(false);
    let place = ANSWER.with(|taking| taking.place.take());
    let _known = place.map(|(place, span)| place.note(End::Tell(tell), span));
    let mut timer = pin!(sleep(stall));
    loop {
        let before = asked();
        let is_over = poll_fn(|context| match stream.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if asked() != before => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        });
        tokio::select! {
            biased;
            is_over = is_over => if is_over { return },
            () = timer.as_mut(), if is_up_to_client() => return,
            () = told(&mut ends) => return,
        }
        timer.as_mut().reset(Instant::now() + stall);
    }
}
