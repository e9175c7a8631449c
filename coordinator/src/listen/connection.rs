//! One accepted connection: what tonic reads and writes, and what a call can know about its peer.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use cutover_runtime::tls::{
    PeerIdentity,
    accept::{HANDSHAKE_MAX, ServerStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::live::Registration;

/// How long a peer may take from the end of its handshake to the end of HTTP/2's preface. hyper
/// waits for that without a limit and pings nobody before, so that a peer that vanished there, or
/// says nothing, would keep its place for ever. As long as a handshake, as it is the last of it.
const PREFACE_WITHIN: Duration = HANDSHAKE_MAX;

/// The length of a client's preface (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

/// Who is at the other end. A call finds it in its extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    pub addr: SocketAddr,
    /// The verified certificate's identity; none on connections that show no certificate.
    pub identity: Option<PeerIdentity>,
    /// Ends the connection, with every call on it. Also set when the connection has ended.
    pub kill: CancellationToken,
}

/// What a connection holds as long as it lives.
pub(super) enum Held {
    Agent { _registration: Registration, _place: OwnedSemaphorePermit },
    Anonymous { _place: OwnedSemaphorePermit },
}

/// The rest of a preface that has not arrived.
struct Preface {
    left: usize,
    too_late: Pin<Box<Sleep>>,
}

/// A connection that ends when its kill switch is thrown, or its peer does not begin to speak.
pub struct Connection<S = TcpStream> {
    io: ServerStream<S>,
    peer: Peer,
    dead: Pin<Box<WaitForCancellationFutureOwned>>,
    preface: Option<Preface>,
    _held: Held,
}

impl<S> Connection<S> {
    pub(super) fn new(io: ServerStream<S>, peer: Peer, held: Held) -> Self {
        let dead = Box::pin(peer.kill.clone().cancelled_owned());
        let too_late = Box::pin(sleep(PREFACE_WITHIN));
        let preface = Some(Preface { left: PREFACE_BYTES, too_late });
        Self { io, peer, dead, preface, _held: held }
    }

    /// Returns who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    fn alive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.dead.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let preface = self.preface.as_mut();
        if preface.is_some_and(|preface| preface.too_late.as_mut().poll(cx).is_ready()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn heard(&mut self, bytes: usize) {
        if let Some(preface) = &mut self.preface {
            preface.left = preface.left.saturating_sub(bytes);
        }
        self.preface.take_if(|preface| preface.left == 0);
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.peer.kill.cancel();
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(cx)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.heard(buffer.filled().len() - before);
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.alive(cx)?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.alive(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
