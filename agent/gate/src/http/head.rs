//! Heads on their way: what belongs to one connection is taken off, and who asks is written down.

use std::net::{IpAddr, SocketAddr};

use cutover_common::Allow;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{
        CONNECTION, CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
    },
};

use hyper::body::Body;

use super::refuse::Refusal;

/// Set on requests to another host's gate, and says which gate sent them: an edge's go at most one
/// gate further, any other's none. A client that sets it itself only gives up the other hosts.
pub(super) const HOP: HeaderName = HeaderName::from_static("cutover-gate-hop");
/// What [`HOP`] says on the way from an edge to a host.
pub(super) const HOP_OF_EDGE: HeaderValue = HeaderValue::from_static("edge");
/// What it says on the way from a host to the one that stands in for it. It says nothing else in
/// earlier versions, and whatever is not an edge's means this.
pub(super) const HOP_OF_GATE: HeaderValue = HeaderValue::from_static("1");
/// Set on a gate's own answers to another gate: no instance answered. No client sees it, and what
/// an instance says by it is taken off.
pub(super) const REFUSED: HeaderName = HeaderName::from_static("cutover-gate-refused");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How many headers named in `Connection` are taken off: more is nonsense.
const NAMED_MAX: usize = 32;

/// Who asks, and what is written of that on each of its requests.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    is_trusted: bool,
    x_forwarded_for: HeaderValue,
    x_forwarded_proto: HeaderValue,
    forwarded: HeaderValue,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, is_trusted: bool, is_encrypted: bool) -> Self {
        let ip = address.ip().to_canonical();
        let proto = if is_encrypted { "https" } else { "http" };
        let quoted = match ip {
            IpAddr::V4(ip) => format!("for={ip}"),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
        };
        let text = |text: String| {
            HeaderValue::try_from(text).expect("addresses are written in letters, digits and signs")
        };
        Self {
            is_trusted,
            x_forwarded_for: text(ip.to_string()),
            x_forwarded_proto: HeaderValue::from_static(proto),
            forwarded: text(format!("{quoted};proto={proto}")),
        }
    }
}

/// Makes the head of a client's request one for an instance.
///
/// # Errors
///
/// When it cannot be sent on.
pub(super) fn prepare<B>(request: &mut Request<B>, client: &Client) -> Result<(), Refusal> {
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
    if request.version() == Version::HTTP_2 {
        join_cookies(request.headers_mut());
    }
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    let upgrade = wanted_upgrade(headers);
    let takes_trailers = has_token(headers, &TE, "trailers");
    take_off(headers);
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

/// Makes one of the several headers in which HTTP/2 brings cookies (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    // Of values that can be sent, so that it can be.
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

/// Says that a body follows where that is not known otherwise: of a GET or HEAD without this word
/// nobody expects one (RFC 9112, 6.1).
pub(super) fn announce_body<B: Body>(request: &mut Request<B>) {
    let is_expected = ![Method::GET, Method::HEAD].contains(request.method());
    let body = request.body();
    if is_expected || body.is_end_stream() || body.size_hint().exact().is_some() {
        return;
    }
    request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
}

/// Returns what a client wants to speak instead, when it says so properly.
///
/// Never HTTP/2: its requests would reach the instance without the gate looking at them.
pub(super) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted =
        has_token(headers, &CONNECTION, "upgrade").then(|| headers.get(UPGRADE).cloned())?;
    wanted.filter(|_| {
        let mut all = headers.get_all(UPGRADE).iter().map(HeaderValue::to_str);
        all.all(|it| it.is_ok_and(|it| !it.to_ascii_lowercase().contains("h2")))
    })
}

/// What belongs to one connection. The first of them names others.
static OF_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    REFUSED,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes off what belongs to one connection.
pub(super) fn take_off(headers: &mut HeaderMap) {
    // A head has few of them: to look for each costs more than to look at what there is.
    let mut there = [false; 9];
    for name in headers.keys() {
        if let Some(at) = OF_CONNECTION.iter().position(|it| it == name) {
            there[at] = true;
        }
    }
    if there[0] {
        take_off_named(headers);
    }
    for (name, _) in OF_CONNECTION.iter().zip(there).filter(|(_, is_there)| *is_there) {
        headers.remove(name);
    }
}

/// Takes off what `Connection` names.
fn take_off_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !["keep-alive", "close"].contains(name))
        .filter_map(|name| name.parse().ok())
        .take(NAMED_MAX)
        .collect();
    // Nobody takes off by it what others rely on.
    for name in named.iter().filter(|name| **name != HOST && **name != CONTENT_TYPE) {
        headers.remove(name);
    }
}

fn forward(headers: &mut HeaderMap, client: &Client) {
    let host = headers.get(HOST).cloned();
    if client.is_trusted {
        append(headers, &X_FORWARDED_FOR, &client.x_forwarded_for);
        append(headers, &FORWARDED, &client.forwarded);
        let proto = headers.entry(X_FORWARDED_PROTO);
        proto.or_insert_with(|| client.x_forwarded_proto.clone());
        if let Some(host) = host {
            headers.entry(X_FORWARDED_HOST).or_insert(host);
        }
        return;
    }
    // In the place of whatever there is. For most this takes no memory.
    let claims: Vec<HeaderName> = headers.keys().filter(|it| is_claim(it)).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
    headers.insert(X_FORWARDED_FOR, client.x_forwarded_for.clone());
    headers.insert(FORWARDED, client.forwarded.clone());
    headers.insert(X_FORWARDED_PROTO, client.x_forwarded_proto.clone());
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

/// Returns whether a header says who a client is, also where an instance reads `_` as `-`.
fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let begins_with = |known: &[u8]| {
        let same = |(byte, known): (&u8, &u8)| byte == known || (*byte, *known) == (b'_', b'-');
        name.len() >= known.len() && name.iter().zip(known).all(same)
    };
    let is = |known: &[u8]| name.len() == known.len() && begins_with(known);
    is(b"forwarded") || is(b"x-real-ip") || begins_with(b"x-forwarded-")
}

fn append(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    let value = value.to_str().unwrap_or_default();
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

/// Returns the value of the first cookie of this name. Others beside it may have any bytes, which
/// clients send.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Returns whether a request of these headers carries what lets it through: one of the two is
/// enough.
pub(super) fn carries(headers: &HeaderMap, allow: &Allow) -> bool {
    let by_header = allow.header().is_some_and(|header| {
        headers.get(header.name()).is_some_and(|value| header.is(value.as_bytes()))
    });
    let by_cookie = || {
        allow.cookie().is_some_and(|wanted| {
            cookie(headers, wanted.name()).is_some_and(|value| wanted.is(value))
        })
    };
    by_header || by_cookie()
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
