//! One request to one place: on a connection that waits there, or on a new one.

use std::{io, pin::pin, sync::Arc, time::Duration};

use http::{Method, Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout, timeout_at},
};

use super::body::{Progress, Upload};
use crate::{
    dial::{Dialed, For, dial},
    live::{End, Link, Live, Place, Span},
};

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Nothing was sent: it can go elsewhere, whatever it is.
    NotSent(Box<Request<Upload>>),
    /// The connection broke before the answer began.
    Broken,
    TooSlow,
}

/// Sends a request to a place.
pub(super) async fn exchange(
    (live, place): (&Live, &Arc<Place>),
    shard: usize,
    mut request: Request<Upload>,
    progress: &Progress,
    (connect_within, answer_within): (Duration, Duration),
) -> Result<(Response<Incoming>, Link), NoAnswer> {
    loop {
        let (mut link, is_new) = match idle(place, shard, connect_within).await {
            Some(link) => (link, false),
            None => match timeout(connect_within, connect(live, place)).await {
                Ok(Ok(link)) => (link, true),
                Ok(Err(_)) | Err(_) => {
                    place.counters.could_not_connect();
                    return Err(NoAnswer::NotSent(Box::new(request)));
                }
            },
        };
        let sent = link.sender.try_send_request(request);
        match answered(sent, progress, answer_within).await {
            None => return Err(NoAnswer::TooSlow),
            Some(Ok(response)) => return Ok((response, link)),
            Some(Err(mut failed)) => match failed.take_message() {
                // It had waited for too long: the instance closed it at this very moment.
                Some(unsent) if !is_new => request = unsent,
                Some(unsent) => return Err(NoAnswer::NotSent(Box::new(unsent))),
                None => {
                    place.counters.was_reset();
                    return Err(NoAnswer::Broken);
                }
            },
        }
    }
}

/// Waits for an answer. None: the instance was waited for too long, for its answer or until it took
/// more of the request.
async fn answered<T>(
    sent: impl Future<Output = T>,
    progress: &Progress,
    within: Duration,
) -> Option<T> {
    let mut sent = pin!(sent);
    let mut since = Instant::now();
    loop {
        if let Ok(sent) = timeout_at(since + within, sent.as_mut()).await {
            return Some(sent);
        }
        let later = progress.instance_s_since();
        if later <= since {
            return None;
        }
        since = later;
    }
}

/// Returns a connection that waits for its next request.
async fn idle(place: &Arc<Place>, shard: usize, within: Duration) -> Option<Link> {
    while let Some(mut link) = place.take_idle(shard) {
        // It was over when it was kept, so that this takes no time, unless the instance has answered
        // without having read all of the request.
        match timeout(within, link.sender.ready()).await {
            Ok(Ok(())) => return Some(link),
            Ok(Err(_)) => {}
            // Others may be the same.
            Err(_) => return None,
        }
    }
    None
}

async fn connect(live: &Live, place: &Arc<Place>) -> io::Result<Link> {
    match dial(place, live, For::Everybody).await? {
        Dialed::Plain(stream) => link(place, stream).await,
        Dialed::Encrypted(stream) => link(place, stream).await,
    }
}

async fn link(
    place: &Arc<Place>,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> io::Result<Link> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to an instance ended");
        }
    });
    let known = place.note(End::Abort(task.abort_handle()), Span::Request);
    Ok(Link { sender, known })
}

/// Returns whether doing it twice is as good as once (RFC 9110, 9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE]
        .contains(method)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::service::service_fn;
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        sync::mpsc,
    };

    use super::*;
    use crate::live::Manner;

    /// Returns a request as a client sends it.
    async fn request_of_client(text: &[u8]) -> Request<Incoming> {
        let (mut client, ours) = duplex(10_000);
        client.write_all(text).await.unwrap();
        let (tell, mut asked) = mpsc::unbounded_channel();
        let service = service_fn(move |request| {
            tell.send(request).unwrap();
            std::future::pending::<Result<Response<String>, Infallible>>()
        });
        let server = hyper::server::conn::http1::Builder::new();
        tokio::spawn(async move {
            // Its client stays.
            let _client = client;
            drop(server.serve_connection(TokioIo::new(ours), service).await);
        });
        asked.recv().await.unwrap()
    }

    #[tokio::test]
    async fn a_connection_whose_instance_has_not_read_all_is_not_waited_for() {
        let upstream = json!({
            "name": "blue", "address": "127.0.0.1:1", "weight": 1_000, "is_healthy": true,
        });
        let place =
            Arc::new(Place::new(&serde_json::from_value(upstream).unwrap(), Manner::default(), 1));
        let (ours, mut theirs) = duplex(64);
        let (mut sender, connection) = http1::handshake(TokioIo::new(ours)).await.unwrap();
        let task = tokio::spawn(async { drop(connection.await) });
        let known = place.note(End::Abort(task.abort_handle()), Span::Request);
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n", "x".repeat(1_000));
        let request = format!("{head}Content-Length: 5\r\n\r\nhello");
        let request = request_of_client(request.as_bytes()).await;
        let to = Arc::clone(&place);
        let upload = |body| Upload::new(Some(body), None, Duration::from_secs(30), to);
        let request = request.map(upload);
        let progress = request.body().progress();
        let asked = tokio::spawn(async move { (sender.send_request(request).await, sender) });
        theirs.read_exact(&mut [0; 50]).await.unwrap();
        theirs.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        let (answered, sender) = asked.await.unwrap();
        assert!(answered.unwrap().status().is_success());
        assert!(progress.is_over(), "the gate has all of it");

        place.keep_idle(0, Link { sender, known });

        let within = Duration::from_millis(10);
        let found = timeout(Duration::from_secs(30), idle(&place, 0, within)).await;
        assert!(found.expect("nobody waits for it").is_none());
    }
}
