//! What a gate is told to do: the whole goal at once, so that two programs can be compared and
//! either of them can be lost.

mod check;
mod limits;
mod name;
mod route;

#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use cutover_common::{ApplicationName, Network};
use serde::{Deserialize, Serialize};

pub use self::{
    check::{InvalidProgram, InvalidService},
    limits::Limits,
    name::{InvalidUpstreamName, UpstreamName},
    route::{Allow, Drain, Flow, Route, Sticky, Upstream, UpstreamKind},
};

/// How many services a gate has at most. A host runs tens of applications; each service costs
/// one listening socket for each core.
pub const SERVICES_MAX: usize = 256;

/// How many upstreams a service has at most: the hosts that one edge stands in front of.
pub const UPSTREAMS_MAX: usize = 512;

/// Everything that a gate should be doing.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Which goal this is. The gate repeats it in its state; it never orders two programs by it.
    pub revision: u64,
    /// What it listens for.
    pub services: Vec<Service>,
}

/// One port of one application.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Whose traffic this is. Unique in a program.
    pub application: ApplicationName,
    /// Where clients connect. Unique in a program, and never port 0.
    pub listen: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The certificate shown to clients; without one, they speak in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Whether each connection begins with a PROXY protocol header, version 2. Only trusted peers
    /// can connect then; who a client is, is what they say.
    #[serde(default)]
    pub accepts_proxy_protocol: bool,
    /// Peers whose word on the client (`X-Forwarded-*`, `X-Real-IP`, `Forwarded`) is kept and added
    /// to. What anybody else says of it is thrown away, so that no client can invent its address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_peers: Vec<Network>,
    /// What a client may take of the gate.
    #[serde(default)]
    pub limits: Limits,
    /// Where its requests go.
    pub route: Route,
}

impl Service {
    /// Returns whether the word of who has this address is believed.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_peers.iter().any(|peers| peers.contains(address))
    }
}

/// What a service's clients speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2, chosen by the client. A route is chosen for each request.
    Http,
    /// Bytes. A route is chosen for each connection.
    Tcp,
}

/// Where a certificate chain and its private key are, in PEM. Both are read again when they
/// change.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first. An absolute path.
    pub certificate: PathBuf,
    /// The private key. An absolute path.
    pub key: PathBuf,
}
