//! Passes when a GET is answered with 2xx or 3xx, wholly and briefly.

use std::net::SocketAddr;

use cutover_common::ErrorChain;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use super::ProbeAnswer;

/// A health answer is a word or a small document; promises.md §4 row 15 sets the cap.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// As much for the headers.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Says who asks, so that applications can leave probes out of their access logs.
const AGENT: &str = concat!("cutover-agent/", env!("CARGO_PKG_VERSION"));

pub(super) async fn ask(address: SocketAddr, path: &str) -> ProbeAnswer {
    match answer_of(address, path).await {
        Ok(Answer { status, body: Body::Whole }) => {
            let detail = format!("GET {path} answered {status}");
            // A redirect is the application's own business, and is not followed: it may lead to
            // another host.
            if status.is_success() || status.is_redirection() {
                ProbeAnswer::passed(&detail)
            } else {
                ProbeAnswer::failed(&detail)
            }
        }
        Ok(Answer { status, body: Body::TooLong }) => ProbeAnswer::failed(&format!(
            "GET {path} answered {status} with more than {BODY_BYTES_MAX} bytes; give health a \
             path of its own with a short answer"
        )),
        Err(text) => ProbeAnswer::failed(&text),
    }
}

struct Answer {
    status: StatusCode,
    body: Body,
}

enum Body {
    Whole,
    TooLong,
}

async fn answer_of(address: SocketAddr, path: &str) -> Result<Answer, String> {
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("{path:?} is no path that can be asked for: {error}"))?;
    let could_not_ask = |error: hyper::Error| format!("GET {path}: {}", ErrorChain(&error));

    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("could not connect to {address}: {error}"))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(could_not_ask)?;
    // Ends the connection when this future is dropped, as at the end of the probe's time.
    let mut connections = JoinSet::new();
    connections.spawn(connection);

    let response = sender.send_request(request).await.map_err(could_not_ask)?;
    let status = response.status();
    let body = read(response.into_body()).await.map_err(could_not_ask)?;
    Ok(Answer { status, body })
}

async fn read(mut body: Incoming) -> hyper::Result<Body> {
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        length = length.saturating_add(frame?.data_ref().map_or(0, Bytes::len));
        if length > BODY_BYTES_MAX {
            return Ok(Body::TooLong);
        }
    }
    Ok(Body::Whole)
}
