//! Where the requests of a service go.

use std::net::SocketAddr;

use cutover_common::allow::{AllowWords, CookieWords, InvalidAllow};
use serde::{Deserialize, Serialize};

use super::UpstreamName;

/// Where requests go, and whether they go at all.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Whether requests go on.
    pub flow: Flow,
    /// Where they may go. Their order has no meaning.
    pub upstreams: Vec<Upstream>,
    /// What keeps a client at one upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Which requests reach one upstream whatever the weights say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Allow>,
}

/// Whether requests go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Flow {
    /// They go on.
    Open,
    /// They wait. Beyond any of the three bounds the answer is 503 with Retry-After.
    Hold {
        /// How long each waits at most, in milliseconds.
        for_ms: u32,
        /// How many wait at most.
        requests_max: u32,
        /// How many bytes of requests wait at most.
        bytes_max: u64,
    },
}

/// One place where requests may go.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its name in state and counters. Unique in a service.
    pub name: UpstreamName,
    /// Where it listens. Unique in a service.
    pub address: SocketAddr,
    /// What it is.
    #[serde(default)]
    pub kind: UpstreamKind,
    /// Its share of what is new, in permille; shares count against the sum of all that are
    /// healthy. With 0 it gets nothing new, and what it has goes on.
    pub weight: u16,
    /// Whether it may get anything at all.
    pub is_healthy: bool,
    /// Whether somebody knows at this moment how it is. Of one that is in doubt it is not known:
    /// it keeps its share, and a second try of a request goes to the others first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_in_doubt: bool,
    /// It gets nothing new, and what it has ends at these limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
}

/// What an upstream is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamKind {
    /// An instance on this host.
    #[default]
    Slot,
    /// The gate of another host, which stands in for the instances of this one. It is spoken to as
    /// clients speak to this service: with a PROXY header and over TLS where they are. A request that
    /// it was sent by such a gate goes to no second one.
    Gate,
    /// The gate of a host that this gate stands in front of. A request that came from any gate
    /// never goes to one.
    Host,
}

impl UpstreamKind {
    /// Returns how many upstreams are tried for one request or connection that goes to one of these first.
    pub(crate) const fn tries(self) -> usize {
        match self {
            // Once, and once more.
            Self::Slot => 2,
            // Of hosts that may have gone together, a rack or a zone, some more are borne.
            Self::Gate | Self::Host => 4,
        }
    }
}

/// When what an upstream still has is cut, counted from the program in which it first drains.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// For requests, in milliseconds.
    pub requests_ms: u32,
    /// For WebSockets and other upgrades, event streams and plain TCP, in milliseconds.
    pub long_lived_ms: u32,
}

impl Default for Drain {
    /// For an upstream that is gone from the program.
    fn default() -> Self {
        // What common process managers grant a server that stops, and ten minutes for people
        // who are in the middle of something.
        Self { requests_ms: 30_000, long_lived_ms: 600_000 }
    }
}

/// What keeps a client at one upstream.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sticky {
    /// The value of a cookie. A client without it is given one by the gate.
    Cookie { name: String },
    /// The value of a header. A request without it goes by weight.
    Header { name: String },
}

/// Which requests reach one upstream whatever its weight.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "AllowWritten", into = "AllowWritten")]
pub struct Allow {
    /// What they carry.
    pub by: cutover_common::Allow,
    /// The one that they reach, if it is healthy and does not drain.
    pub upstream: UpstreamName,
}

/// The same, as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct AllowWritten {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookie: Option<CookieWords>,
    upstream: UpstreamName,
}

impl TryFrom<AllowWritten> for Allow {
    type Error = InvalidAllow;

    fn try_from(written: AllowWritten) -> Result<Self, InvalidAllow> {
        let AllowWritten { header, value, cookie, upstream } = written;
        Ok(Self { by: AllowWords { header, value, cookie }.try_into()?, upstream })
    }
}

impl From<Allow> for AllowWritten {
    fn from(Allow { by, upstream }: Allow) -> Self {
        let AllowWords { header, value, cookie } = by.into();
        Self { header, value, cookie, upstream }
    }
}
