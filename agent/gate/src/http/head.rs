//! Heads on their way: what belongs to one connection is taken off, and who asks is written down.

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{
        CONNECTION, CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
    },
};

use super::refuse::Refusal;

/// Set on requests to another host's gate: it sends them to none further. A client that sets it
/// itself only gives up the other hosts.
pub(super) const HOP: HeaderName = HeaderName::from_static("cutover-gate-hop");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How many headers named in `Connection` are taken off: more is nonsense.
const NAMED_MAX: usize = 32;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) is_trusted: bool,
    pub(crate) is_encrypted: bool,
}

/// Makes the head of a client's request one for an instance.
///
/// # Errors
///
/// When it cannot be sent on.
pub(super) fn prepare<B>(request: &mut Request<B>, client: Client) -> Result<(), Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    let authority = request.uri().authority().map(|it| it.as_str().to_owned());
    if let Some(authority) = authority {
        // Of two names the one that was connected to counts (RFC 9112, 3.2.2); over HTTP/2 it is
        // the only one.
        let host = HeaderValue::from_str(&authority).map_err(|_| Refusal::Malformed)?;
        request.headers_mut().insert(HOST, host);
        let path = request.uri().path_and_query().map_or("/", |it| it.as_str());
        *request.uri_mut() = path.parse::<Uri>().map_err(|_| Refusal::Malformed)?;
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() > Version::HTTP_10) {
        return Err(Refusal::Malformed);
    }
    *request.version_mut() = Version::HTTP_11;
    let upgrade = wanted_upgrade(request.headers());
    let takes_trailers = has_token(request.headers(), &TE, "trailers");
    take_off(request.headers_mut());
    let headers = request.headers_mut();
    // The gate answers it itself when an instance begins to read.
    headers.remove(EXPECT);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
    forward(headers, client);
    Ok(())
}

/// Returns what a client wants to speak instead, when it says so properly.
pub(super) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    has_token(headers, &CONNECTION, "upgrade").then(|| headers.get(UPGRADE).cloned())?
}

/// Takes off what belongs to one connection.
pub(super) fn take_off(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .take(NAMED_MAX)
        .collect();
    // Nobody takes off by it what others rely on.
    for name in named.iter().filter(|name| **name != HOST && **name != CONTENT_TYPE) {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

fn forward(headers: &mut HeaderMap, client: Client) {
    if !client.is_trusted {
        for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO] {
            headers.remove(name);
        }
    }
    let ip = client.address.ip().to_canonical();
    let proto = if client.is_encrypted { "https" } else { "http" };
    let quoted = match ip {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    append(headers, &X_FORWARDED_FOR, &ip.to_string());
    append(headers, &FORWARDED, &format!("{quoted};proto={proto}"));
    if !headers.contains_key(&X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if let Some(host) = headers.get(HOST).cloned()
        && !headers.contains_key(&X_FORWARDED_HOST)
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

fn append(headers: &mut HeaderMap, name: &HeaderName, value: &str) {
    let before = headers.get_all(name).iter().filter_map(|it| it.to_str().ok());
    let all: Vec<&str> = before.chain([value]).collect();
    if let Ok(value) = HeaderValue::from_str(&all.join(", ")) {
        headers.insert(name, value);
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|it| it.trim().eq_ignore_ascii_case(token))
}

/// Returns the value of a cookie.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Returns about how many bytes of the gate's memory a request takes while it waits.
pub(super) fn size_of<B>(request: &Request<B>) -> u64 {
    let headers: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let path = request.uri().path_and_query().map_or(0, |it| it.as_str().len());
    (headers + path) as u64
}

#[cfg(test)]
mod tests;
