//! Bytes both ways: what follows an upgrade, and applications that are not HTTP.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::{TcpSocket, TcpStream},
    sync::{oneshot, watch},
    time::timeout,
};

use crate::{
    live::{Chosen, Connected, End, Live, Place, Span, UnderWay},
    program::UpstreamKind,
    proxied,
    route::{CameFrom, Wish, point_of_turn},
    shard::Shard,
    websocket,
};

/// How much of one direction is in memory at once.
const BUFFER_BYTES: usize = 16 * 1024;

/// How many places a connection is tried at.
const TRIES: usize = 2;

/// The same in front of hosts, of which some may have gone together.
const HOST_TRIES: usize = 4;

/// Carries bytes between a client and an instance that agreed to speak something else, until one
/// of them ends or the drain's limit comes. `kept` is dropped then.
pub(crate) fn tunnel(
    client: OnUpgrade,
    instance: OnUpgrade,
    under_way: UnderWay,
    kept: impl Send + 'static,
) {
    let place = Arc::clone(under_way.place());
    known_while(&place, async move {
        if let Some((client, instance)) = agreed(client, instance).await {
            carry(client, instance, &under_way).await;
        }
        drop(kept);
    });
}

/// Does the same for WebSockets. At the drain's limit both ends are told to close.
pub(crate) fn tunnel_websocket(
    client: OnUpgrade,
    instance: OnUpgrade,
    under_way: UnderWay,
    kept: impl Send + 'static,
) {
    let (tell, ends) = watch::channel(false);
    let known = under_way.place().note(End::Tell(tell), Span::LongLived);
    tokio::spawn(async move {
        if let Some((client, instance)) = agreed(client, instance).await {
            let counters = &under_way.place().counters;
            if let Err(error) = websocket::carry(client, instance, counters, ends).await {
                counters.was_reset();
                tracing::debug!(%error, "a WebSocket broke");
            }
        }
        drop((known, under_way, kept));
    });
}

async fn agreed(
    client: OnUpgrade,
    instance: OnUpgrade,
) -> Option<(TokioIo<Upgraded>, TokioIo<Upgraded>)> {
    match tokio::try_join!(client, instance) {
        Ok((client, instance)) => Some((TokioIo::new(client), TokioIo::new(instance))),
        Err(error) => {
            tracing::debug!(%error, "an upgrade was agreed on and did not happen");
            None
        }
    }
}

/// Runs `work` as a task that its place can end at the drain's limit for what lasts.
fn known_while(place: &Arc<Place>, work: impl Future<Output = ()> + Send + 'static) {
    let (tell, known) = oneshot::channel();
    let task = tokio::spawn(async move {
        // Held to the end: a task that is over is not known any more.
        let _known: Result<Arc<crate::live::Known>, _> = known.await;
        work.await;
    });
    drop(tell.send(place.note(End::Abort(task.abort_handle()), Span::LongLived)));
}

async fn carry(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut instance: impl AsyncRead + AsyncWrite + Unpin,
    under_way: &UnderWay,
) {
    let counters = &under_way.place().counters;
    let carried =
        copy_bidirectional_with_sizes(&mut client, &mut instance, BUFFER_BYTES, BUFFER_BYTES);
    match carried.await {
        Ok((sent, received)) => {
            counters.sent(usize::try_from(sent).unwrap_or(usize::MAX));
            counters.received(usize::try_from(received).unwrap_or(usize::MAX));
        }
        Err(error) => {
            counters.was_reset();
            tracing::debug!(%error, "a long-lived connection broke");
        }
    }
}

/// Serves one connection of an application that is not HTTP.
pub(crate) async fn serve(
    shard: Arc<Shard>,
    live: Arc<Live>,
    mut client: TcpStream,
    peer: SocketAddr,
) {
    let Some(connected) = live.connect() else {
        tracing::warn!(%peer, "a client is sent away: as many are connected as may be");
        return;
    };
    // An instance of plain TCP is not told who its client is: there is no place to say it.
    if let Err(error) = proxied::client_of(&live, &mut client, peer).await {
        tracing::warn!(%peer, error = &error as &dyn std::error::Error, "a client is sent away");
        return;
    }
    let Some(certificate) = live.certificate() else {
        return connect_to_instance(&shard, &live, client, (connected, peer)).await;
    };
    let within = Duration::from_millis(live.limits().head_ms.into());
    match certificate.shake_hands(client, within).await {
        Ok(client) => connect_to_instance(&shard, &live, client, (connected, peer)).await,
        Err(error) => tracing::debug!(%peer, %error, "a client's handshake failed"),
    }
}

async fn connect_to_instance(
    shard: &Shard,
    live: &Live,
    client: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    (connected, peer): (Connected, SocketAddr),
) {
    let Some((mut under_way, instance)) = reach(shard, live, peer).await else {
        tracing::debug!("a client is sent away: no instance takes connections");
        return;
    };
    under_way.lasts();
    let place = Arc::clone(under_way.place());
    known_while(&place, async move {
        carry(client, instance, &under_way).await;
        drop(connected);
    });
}

/// Returns from whom a connection comes. It has no place for a word between gates: who has the address
/// of one that this could be passed on to is taken for that one, so that nothing circles.
fn came_from(live: &Live, peer: SocketAddr) -> CameFrom {
    let routing = live.routing();
    let gates = routing.service.route.upstreams.iter().filter(|it| it.kind == UpstreamKind::Gate);
    let mut addresses = gates.map(|gate| gate.address.ip());
    let is_gate = addresses.any(|address| address == peer.ip().to_canonical());
    if is_gate { CameFrom::Gate } else { CameFrom::Client }
}

async fn reach(shard: &Shard, live: &Live, peer: SocketAddr) -> Option<(UnderWay, TcpStream)> {
    let came_from = came_from(live, peer);
    let wish = Wish { point: point_of_turn(shard.turn()), came_from, ..Wish::default() };
    let from = live.routing().service.listen.ip();
    let mut tried = Vec::new();
    loop {
        let Chosen { under_way, connect_within } = live.choose(wish, &tried, 0).await.ok()?;
        let place = under_way.place();
        place.counters.began();
        match timeout(connect_within, connect_from(from, place)).await {
            Ok(Ok(stream)) => return Some((under_way, stream)),
            Ok(Err(_)) | Err(_) => place.counters.could_not_connect(),
        }
        let is_host = place.kind == UpstreamKind::Host;
        if is_host {
            place.rest();
        }
        tried.push(Arc::clone(place));
        if tried.len() >= if is_host { HOST_TRIES } else { TRIES } {
            return None;
        }
    }
}

/// Connects to a place. Another gate sees the address at which this one serves, if it has one.
async fn connect_from(from: IpAddr, place: &Place) -> io::Result<TcpStream> {
    let is_same_kind = from.is_ipv4() == place.address.is_ipv4();
    if place.kind == UpstreamKind::Slot || from.is_unspecified() || !is_same_kind {
        return connect(place).await;
    }
    let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind((from, 0).into())?;
    prepared(place, socket.connect(place.address).await?)
}

/// Connects to a place.
pub(crate) async fn connect(place: &Place) -> io::Result<TcpStream> {
    prepared(place, TcpStream::connect(place.address).await?)
}

fn prepared(place: &Place, stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    match place.kind {
        // On this host nobody goes without a word.
        UpstreamKind::Slot => {}
        UpstreamKind::Gate | UpstreamKind::Host => keep_alive(&stream)?,
    }
    Ok(stream)
}

/// Has the kernel notice when the other end is gone without a word. What a listening socket accepts
/// inherits it.
pub(crate) fn keep_alive(socket: impl AsFd) -> io::Result<()> {
    /// How long nothing may come before it is asked.
    const IDLE: Duration = Duration::from_secs(60);
    const INTERVAL: Duration = Duration::from_secs(10);
    /// Questions that may stay unanswered.
    const PROBES: u32 = 3;

    let socket = socket.as_fd();
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, IDLE)?;
    sockopt::set_tcp_keepintvl(socket, INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, PROBES)?;
    Ok(())
}

/// How long a listener that cannot accept rests: descriptors are freed by others meanwhile.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(50);
