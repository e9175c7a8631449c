//! One request to one place: on a connection that waits there, or on a new one.

use std::{sync::Arc, time::Duration};

use http::{Method, Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::body::Upload;
use crate::live::{End, Link, Place, Span};

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
    place: &Arc<Place>,
    shard: usize,
    mut request: Request<Upload>,
    (connect_within, answer_within): (Duration, Duration),
) -> Result<(Response<Incoming>, Link), NoAnswer> {
    loop {
        let (mut link, is_new) = match idle(place, shard).await {
            Some(link) => (link, false),
            None => match timeout(connect_within, connect(place)).await {
                Ok(Ok(link)) => (link, true),
                Ok(Err(_)) | Err(_) => {
                    place.counters.could_not_connect();
                    return Err(NoAnswer::NotSent(Box::new(request)));
                }
            },
        };
        let sent = timeout(answer_within, link.sender.try_send_request(request)).await;
        match sent {
            Err(_) => return Err(NoAnswer::TooSlow),
            Ok(Ok(response)) => return Ok((response, link)),
            Ok(Err(mut failed)) => match failed.take_message() {
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

/// Returns a connection that waits for its next request.
async fn idle(place: &Arc<Place>, shard: usize) -> Option<Link> {
    while let Some(mut link) = place.take_idle(shard) {
        // It was over when it was kept, so that this takes no time.
        if link.sender.ready().await.is_ok() {
            return Some(link);
        }
    }
    None
}

async fn connect(place: &Arc<Place>) -> std::io::Result<Link> {
    let stream = TcpStream::connect(place.address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
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
