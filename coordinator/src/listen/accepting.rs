//! Where connections come from: this machine's TCP, or a simulated network.

use std::{future::Future, io, net::SocketAddr};

use cutover_runtime::dial::watch_over;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// Accepts connections.
pub trait Accept: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection. May be given up and called again.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Has whatever carries `stream` notice a peer that vanished, beneath HTTP/2's pings.
    ///
    /// # Errors
    ///
    /// If the connection has ended already.
    fn watch_over(stream: &Self::Stream) -> io::Result<()>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }

    fn watch_over(stream: &TcpStream) -> io::Result<()> {
        watch_over(stream)
    }
}
