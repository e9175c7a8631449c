//! Connections to places: to an instance in the clear, and to the gate of another host as that gate's own
//! clients begin.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::client::TlsStream;

use crate::{
    live::{Live, Manner, Place},
    program::UpstreamKind,
    proxied::{self, Ends},
    tcp::keep_alive,
};

/// A connection to a place, on which a request or a client's bytes may begin.
pub(crate) enum Dialed {
    Plain(TcpStream),
    // Boxed for the same reason as its handshake.
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// For whom a connection is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum For<'a> {
    /// The requests of any client, one after the other: who it is, each of them says.
    Everybody,
    /// One client, to whom it belongs as long as it lasts.
    One(&'a Ends),
}

/// The service's certificate was not to be had: with a route that has one comes the certificate.
#[derive(Debug, thiserror::Error)]
#[error("the service has a certificate, and this process does not")]
struct NoCertificate;

/// Connects to `place`, which is one of `live`.
pub(crate) async fn dial(place: &Place, live: &Live, whom: For<'_>) -> io::Result<Dialed> {
    let Manner { writes_header, is_encrypted } = place.manner;
    let mut stream = match (place.kind, whom) {
        (UpstreamKind::Slot, _) | (UpstreamKind::Host, For::Everybody) => {
            TcpStream::connect(place.address).await?
        }
        (UpstreamKind::Gate, _) | (UpstreamKind::Host, For::One(_)) => {
            let from = live.now().service.listen.ip();
            connect_from(from, place.address).await?
        }
    };
    stream.set_nodelay(true)?;
    match place.kind {
        // On this host nobody goes without a word.
        UpstreamKind::Slot => {}
        UpstreamKind::Gate | UpstreamKind::Host => keep_alive(&stream)?,
    }
    if writes_header {
        let header = match whom {
            For::Everybody => proxied::header_of_own(),
            For::One(ends) => proxied::header_of(ends),
        };
        stream.write_all(&header.map_err(io::Error::other)?).await?;
    }
    if !is_encrypted {
        return Ok(Dialed::Plain(stream));
    }
    // Boxed, so that requests to places in the clear do not take its room.
    let stream = Box::pin(encrypted(place, live, stream)).await?;
    Ok(Dialed::Encrypted(Box::new(stream)))
}

async fn encrypted(
    place: &Place,
    live: &Live,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    // Never in the clear for want of it: a process that has left has none of a later program.
    let certificate = live.certificate().ok_or_else(|| io::Error::other(NoCertificate))?;
    let shaken = certificate.shake_hands_with_peer(stream, place.address).await;
    match &shaken {
        Ok(_) => place.was_accepted(),
        Err(failure) => place.was_refused(failure),
    }
    shaken
}

/// Connects from the address at which this gate serves, if it has one: by it another gate knows whose
/// word it believes, and what came from a gate already.
async fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let is_same_kind =
        from.is_ipv4() == to.is_ipv4() && from.is_loopback() == to.ip().is_loopback();
    if from.is_unspecified() || !is_same_kind {
        return TcpStream::connect(to).await;
    }
    let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // This takes a port that no other destination gets meanwhile. The kernel would choose it with the
    // destination (`IP_BIND_ADDRESS_NO_PORT`), but neither rustix nor socket2 can ask it to.
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}
