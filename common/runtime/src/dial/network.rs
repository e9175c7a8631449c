//! The network beneath a connection. Programs use this machine's TCP; a simulation brings its own.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
};

use cutover_common::protocol::HEARTBEAT_EVERY;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream, lookup_host},
};

/// Finds hosts and connects to them.
pub trait Network: Clone + Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Looks up the addresses of `host`, a name or an address.
    fn lookup(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Returns whether `address` is of a kind that can be connected to.
    fn reaches(&self, address: SocketAddr) -> bool;

    /// Connects. The caller bounds the time.
    fn connect(&self, address: SocketAddr)
    -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// This machine's TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp {
    /// The address to connect from.
    pub local: Option<IpAddr>,
}

impl Network for Tcp {
    type Stream = TcpStream;

    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host((host, port)).await?.collect())
    }

    fn reaches(&self, address: SocketAddr) -> bool {
        self.local.is_none_or(|local| local.is_ipv4() == address.is_ipv4())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(local) = self.local {
            socket.bind(SocketAddr::new(local, 0))?;
        }
        let stream = socket.connect(address).await?;
        watch_over(&stream)?;
        Ok(stream)
    }
}

/// Sets on a socket what tonic would only set on its own: no delay, and both the kernel's ways to
/// notice a peer that vanished.
///
/// # Errors
///
/// If the kernel refuses an option.
pub fn watch_over(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;

    /// Unacknowledged bytes end the connection after this, in milliseconds: the three heartbeats
    /// of `SILENCE_MAX`.
    const UNACKNOWLEDGED_MAX_MS: u32 = 15_000;
    /// Probes that may stay unanswered on an idle connection, 5 s apart.
    const PROBES: u32 = 3;

    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, HEARTBEAT_EVERY)?;
    sockopt::set_tcp_keepintvl(stream, HEARTBEAT_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MAX_MS)?;
    Ok(())
}
