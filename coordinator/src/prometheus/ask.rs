//! One question: one connection, one request, one bounded answer.

use std::{fmt::Write as _, time::Duration};

use cutover_common::ErrorChain;
use cutover_coordinator_core::input::MetricAnswer;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::{JoinSet, spawn_blocking},
};

use super::{
    answer,
    source::{Source, read_token},
};

/// One number with its labels is a few hundred bytes; a query that was not summed up has one for
/// each series, and is told so.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// As much as any proxy sends.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Says who asks, so that it can be told apart in the server's query log.
const AGENT: &str = concat!("cutover-coordinator/", env!("CARGO_PKG_VERSION"));

/// Asks `source`. The caller keeps the time.
pub(super) async fn ask(source: &Source, query: &str, within: Duration) -> MetricAnswer {
    match answer_of(source, query, within).await {
        Ok(answer) => answer,
        Err(why) => MetricAnswer::Failed(why),
    }
}

async fn answer_of(source: &Source, query: &str, within: Duration) -> Result<MetricAnswer, String> {
    let request = request(source, query, within).await?;
    let Source { host, port, tls, .. } = source;
    let stream = TcpStream::connect((host.as_str(), *port))
        .await
        .map_err(|error| format!("could not connect to it: {error}"))?;
    match tls {
        None => exchange(stream, request).await,
        Some((connector, name)) => {
            let stream = connector.connect(name.clone(), stream).await;
            let stream = stream.map_err(|error| format!("TLS with it failed: {error}"))?;
            exchange(stream, request).await
        }
    }
}

/// Makes the request. By POST, as a filled-in query may be longer than what goes into a path.
async fn request(
    source: &Source,
    query: &str,
    within: Duration,
) -> Result<Request<Full<Bytes>>, String> {
    let Source { host, port, prefix, token, .. } = source;
    let body = format!("query={}&timeout={}ms", escaped(query), within.as_millis());
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let request = Request::post(format!("{prefix}/api/v1/query"))
        .header(HOST, format!("{host}:{port}"))
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let request = match token {
        None => request,
        Some(path) => {
            let path = path.clone();
            let token = spawn_blocking(move || read_token(&path)).await;
            let token = token.map_err(|error| error.to_string())??;
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| "its token cannot be sent".to_owned())?;
            value.set_sensitive(true);
            request.header(AUTHORIZATION, value)
        }
    };
    request.body(Full::from(body)).map_err(|error| format!("it cannot be asked: {error}"))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<MetricAnswer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let could_not_ask =
        |error: hyper::Error| format!("it could not be asked: {}", ErrorChain(&error));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(could_not_ask)?;
    // Ends the connection when this future is dropped, as at the end of the question's time.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let response = sender.send_request(request).await.map_err(could_not_ask)?;
    let status = response.status();
    if status.is_redirection() {
        return Err(format!("it answered {status}, and redirects are not followed"));
    }
    let body = read(response.into_body()).await?;
    Ok(answer::read(status, &body))
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, String> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("its answer broke off: {error}"))?;
        let Some(data) = frame.data_ref() else { continue };
        if read.len() + data.len() > BODY_BYTES_MAX {
            return Err(format!(
                "its answer has more than {BODY_BYTES_MAX} bytes; sum it up to one number"
            ));
        }
        read.extend_from_slice(data);
    }
    Ok(read)
}

/// Escapes a value of a form.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            write!(escaped, "%{byte:02X}").ok();
        }
    }
    escaped
}
