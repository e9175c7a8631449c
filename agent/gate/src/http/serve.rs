//! One client's connection: HTTP/1.1 or HTTP/2, as the client chooses.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, header::CONNECTION};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    body::{Answer, BrokenBody},
    head::Client,
    pace::{Busy, Pace, Paced},
    pass::pass,
    rest::Rest,
    streams::{self, Streams},
};
use crate::{
    certificate::Certificate,
    closing::{self, Closing},
    live::{Connected, Live},
    program::Limits,
    proxied,
    shard::Shard,
};

/// How many requests one HTTP/2 client has under way at once: what common servers allow.
const STREAMS_MAX: u32 = 128;

/// How much of one answer waits in memory for an HTTP/2 client that has room for more.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How much of one request's body an HTTP/2 client sends before it is taken: one that waits leaves
/// room to others of its connection.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;

/// The same of all its requests together.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What a connection of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client's connection, as its requests see it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) shard: Arc<Shard>,
    pub(super) live: Arc<Live>,
    pub(super) client: Client,
    pub(super) pace: Arc<Pace>,
    /// Its next answer is its last. Only for HTTP/1.1, which has no other way to say so.
    is_last: AtomicBool,
    _connected: Connected,
}

/// Serves a connection until its end, or until it is let go of.
pub(crate) async fn serve(
    shard: Arc<Shard>,
    live: Arc<Live>,
    mut stream: TcpStream,
    peer: SocketAddr,
    closing: watch::Receiver<Closing>,
) {
    let Some(connected) = live.connect() else {
        tracing::warn!(%peer, "a client is sent away: as many are connected as may be");
        return;
    };
    let address = match proxied::client_of(&live, &mut stream, peer).await {
        Ok((address, _)) => address,
        Err(error) => {
            tracing::warn!(%peer, error = &error as &dyn std::error::Error, "a client is sent away");
            return;
        }
    };
    let is_trusted = live.routing().service.trusts(address.ip());
    let certificate = live.certificate();
    let connection = Arc::new(Connection {
        client: Client::new(address, is_trusted, certificate.is_some()),
        shard,
        live,
        pace: Arc::new(Pace::new()),
        is_last: AtomicBool::new(false),
        _connected: connected,
    });
    let ended = match certificate {
        None => converse(&connection, stream, closing).await,
        // Boxed, so that those in the clear do not take its room.
        Some(certificate) => {
            Box::pin(converse_encrypted(&connection, &certificate, stream, closing)).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error, "a client's connection broke");
    }
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn converse_encrypted(
    connection: &Arc<Connection>,
    certificate: &Certificate,
    stream: TcpStream,
    closing: watch::Receiver<Closing>,
) -> Result<(), Broken> {
    let within = Duration::from_millis(connection.live.limits().head_ms.into());
    let stream = certificate.shake_hands(stream, within).await?;
    converse(connection, stream, closing).await
}

async fn converse<S>(
    connection: &Arc<Connection>,
    mut stream: S,
    mut closing: watch::Receiver<Closing>,
) -> Result<(), Broken>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = connection.live.limits();
    let (first, is_http2) = tokio::select! {
        first = first_bytes(&mut stream, &limits) => first?,
        // Whoever has said nothing loses nothing.
        () = closes_now(closing.clone()) => return Ok(()),
    };
    if first.is_empty() {
        return Ok(());
    }
    let stream = Rest { first, inner: stream };
    if is_http2 {
        return Box::pin(http2(connection, stream, &limits, closing)).await;
    }
    let stream = Paced::new(stream, Arc::clone(&connection.pace), &limits);
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_buf_size(usize::try_from(limits.head_bytes_max).unwrap_or(usize::MAX));
    // Boxed for each request, so that a connection that is idle has no room for one.
    let service = service_fn(|request| Box::pin(answer(Arc::clone(connection), request)));
    let served = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(served);
    let mut now = Closing::No;
    loop {
        tokio::select! {
            ended = served.as_mut() => return Ok(ended?),
            next = closing::after(now, &mut closing), if now != Closing::Now => now = next,
        }
        match now {
            Closing::No => {}
            Closing::AtNextChance => connection.is_last.store(true, Ordering::SeqCst),
            Closing::Now => served.as_mut().graceful_shutdown(),
        }
    }
}

async fn closes_now(mut closing: watch::Receiver<Closing>) {
    let mut now = Closing::No;
    while now != Closing::Now {
        now = closing::after(now, &mut closing).await;
    }
}

/// Returns the first bytes of a connection, and whether it is one of HTTP/2. None: it has ended, or
/// nothing came for as long as a connection may be idle.
async fn first_bytes(
    stream: &mut (impl AsyncRead + Unpin),
    limits: &Limits,
) -> io::Result<(Bytes, bool)> {
    let mut first = BytesMut::with_capacity(PREFACE.len());
    let idle = Duration::from_millis(limits.idle_ms.into());
    let Ok(read) = timeout(idle, stream.read_buf(&mut first)).await else {
        return Ok((Bytes::new(), false));
    };
    read?;
    let until = Instant::now() + Duration::from_millis(limits.head_ms.into());
    loop {
        if first.len() >= PREFACE.len() || !PREFACE.starts_with(&first) || first.is_empty() {
            let is_http2 = first.starts_with(PREFACE);
            return Ok((first.freeze(), is_http2));
        }
        if timeout_at(until, stream.read_buf(&mut first)).await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn http2<S>(
    connection: &Arc<Connection>,
    stream: S,
    limits: &Limits,
    mut closing: watch::Receiver<Closing>,
) -> Result<(), Broken>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let idle = Duration::from_millis(limits.idle_ms.into());
    let head = Duration::from_millis(limits.head_ms.into());
    let stall = Duration::from_millis(limits.stall_ms.into());
    let mut builder = http2::Builder::new(Streams { stall });
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(limits.head_bytes_max)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        // A peer that is gone without a word is noticed.
        .keep_alive_interval(idle)
        .keep_alive_timeout(head);
    let service = service_fn(|request| answer(Arc::clone(connection), request));
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let pace = &connection.pace;
    let (mut turn, mut idle_until) = (pace.turn(), Instant::now() + idle);
    loop {
        let closed = closing::after(Closing::No, &mut closing);
        tokio::select! {
            ended = served.as_mut() => return Ok(ended?),
            _ = closed => break,
            () = sleep_until(idle_until) => {
                if !pace.is_busy() && std::mem::replace(&mut turn, pace.turn()) == pace.turn() {
                    break;
                }
                idle_until = Instant::now() + idle;
            }
        }
    }
    // Its client is told which requests are still answered, and sends the others elsewhere.
    served.as_mut().graceful_shutdown();
    loop {
        let was_busy = pace.is_busy();
        tokio::select! {
            ended = served.as_mut() => return Ok(ended?),
            // One that does not end although nothing is under way does not listen.
            () = tokio::time::sleep(head) => if !was_busy && !pace.is_busy() { return Ok(()) },
        }
    }
}

async fn answer(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Held>, Infallible> {
    let busy = connection.pace.begin();
    let is_http2 = request.version() == http::Version::HTTP_2;
    let mut response = pass(&connection, request).await;
    let is_last = !is_http2 && connection.is_last.load(Ordering::SeqCst);
    if is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|answer| {
        streams::has_begun(&answer);
        Held { answer, _busy: busy }
    }))
}

/// An answer that keeps its connection busy until it is over.
struct Held {
    answer: Answer,
    _busy: Busy,
}

impl Body for Held {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        let frame = Pin::new(&mut self.answer).poll_frame(context);
        streams::was_asked(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}
