//! One client's connection: HTTP/1.1 or HTTP/2, as the client chooses.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{net::TcpStream, sync::watch};

use super::{head::Client, pass::pass};
use crate::{live::Live, program::Limits, proxied, shard::Shard};

/// How many requests one HTTP/2 client has under way at once: what common servers allow.
const STREAMS_MAX: u32 = 128;

/// Serves a connection until its end, or until the request that it is at when `closing` changes.
pub(crate) async fn serve(
    shard: Arc<Shard>,
    live: Arc<Live>,
    mut stream: TcpStream,
    peer: SocketAddr,
    mut closing: watch::Receiver<bool>,
) {
    let Some(_connected) = live.connect() else {
        tracing::warn!(%peer, "a client is sent away: as many are connected as may be");
        return;
    };
    let address = match proxied::client_of(&live, &mut stream, peer).await {
        Ok(address) => address,
        Err(error) => {
            tracing::warn!(%peer, error = &error as &dyn std::error::Error, "a client is sent away");
            return;
        }
    };
    let is_trusted = live.routing().service.trusted_peers.contains(&address.ip().to_canonical());
    let client = Client { address, is_trusted, is_encrypted: false };
    let builder = builder(&live.limits());
    let service = service_fn(|request| {
        let (shard, live) = (Arc::clone(&shard), Arc::clone(&live));
        async move { Ok::<_, Infallible>(pass(&shard, &live, client, request).await) }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error, "a client's connection broke");
    }
}

/// Ends when its service is to end.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    let wanted = closing.wait_for(|closing| *closing).await;
    // Or when nobody is there to say so.
    drop(wanted);
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.head_ms.max(limits.idle_ms).into()))
        .max_buf_size(usize::try_from(limits.head_bytes_max).unwrap_or(usize::MAX))
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.head_bytes_max)
        .max_concurrent_streams(STREAMS_MAX)
        // A peer that is gone without a word is noticed.
        .keep_alive_interval(Duration::from_millis(limits.idle_ms.into()))
        .keep_alive_timeout(Duration::from_millis(limits.head_ms.into()));
    builder
}
