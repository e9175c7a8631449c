//! Bytes both ways: what follows an upgrade, and applications that are not HTTP.

use std::{io, net::SocketAddr, os::fd::AsFd, sync::Arc, time::Duration};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::TcpStream,
    sync::{oneshot, watch},
    time::timeout,
};

use crate::{
    dial::{Dialed, For, dial},
    live::{Chosen, Connected, End, Live, Place, Span, UnderWay},
    program::UpstreamKind,
    proxied::{self, Ends},
    route::{CameFrom, Wish, point_of_turn},
    shard::Shard,
    websocket,
};

/// How much of one direction is in memory at once.
const BUFFER_BYTES: usize = 16 * 1024;

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
    let (address, connected_to) = match proxied::client_of(&live, &mut client, peer).await {
        Ok(named) => named,
        Err(error) => {
            tracing::warn!(%peer, error = &error as &dyn std::error::Error, "a client is sent away");
            return;
        }
    };
    // One that has no address any more is over.
    let Ok(server) = connected_to.map_or_else(|| client.local_addr(), Ok) else { return };
    let ends = Ends { client: address, server };
    let Some(certificate) = live.certificate() else {
        return connect_to_instance(&shard, &live, client, (connected, peer, ends)).await;
    };
    let within = Duration::from_millis(live.limits().head_ms.into());
    match certificate.shake_hands(client, within).await {
        Ok(client) => connect_to_instance(&shard, &live, client, (connected, peer, ends)).await,
        Err(error) => tracing::debug!(%peer, %error, "a client's handshake failed"),
    }
}

async fn connect_to_instance(
    shard: &Shard,
    live: &Live,
    client: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    (connected, peer, ends): (Connected, SocketAddr, Ends),
) {
    let Some((mut under_way, instance)) = reach(shard, live, peer, &ends).await else {
        tracing::debug!("a client is sent away: no instance takes connections");
        return;
    };
    under_way.lasts();
    let place = Arc::clone(under_way.place());
    known_while(&place, async move {
        match instance {
            Dialed::Plain(instance) => carry(client, instance, &under_way).await,
            Dialed::Encrypted(instance) => carry(client, instance, &under_way).await,
        }
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

async fn reach(
    shard: &Shard,
    live: &Live,
    peer: SocketAddr,
    ends: &Ends,
) -> Option<(UnderWay, Dialed)> {
    let came_from = came_from(live, peer);
    let wish = Wish { point: point_of_turn(shard.turn()), came_from, ..Wish::default() };
    let mut tried = Vec::new();
    loop {
        let Chosen { under_way, connect_within } = live.choose(wish, &tried, 0).await.ok()?;
        let place = under_way.place();
        place.counters.began();
        match timeout(connect_within, dial(place, live, For::One(ends))).await {
            Ok(Ok(stream)) => return Some((under_way, stream)),
            Ok(Err(_)) | Err(_) => place.counters.could_not_connect(),
        }
        if place.kind != UpstreamKind::Slot {
            place.rest();
        }
        tried.push(Arc::clone(place));
        if tried.len() >= place.kind.tries() {
            return None;
        }
    }
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
