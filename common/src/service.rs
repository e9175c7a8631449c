//! Service: the public side of an application, which the gate of each host serves.

mod limits;
mod sticky;
mod tls_files;

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    limits::Limits,
    sticky::{InvalidSticky, Sticky, check_header},
    tls_files::{InvalidHostPath, TlsFiles},
};
use crate::Network;

/// The application's public side.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Service {
    /// The gate's port on every host.
    pub port: u16,
    pub protocol: Protocol,
    pub swap: Swap,
    /// How long requests that an instance still has may take once it gets nothing new.
    pub drain: Duration,
    /// The same for what lasts: WebSockets and other upgrades, event streams, plain TCP.
    pub drain_long_lived: Duration,
    /// How long the instance that was replaced runs on without traffic.
    pub keep_warm: Duration,
    /// None: clients speak in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// None: each request goes anywhere. Only for HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Whether each connection begins with a PROXY protocol header, version 2, and only trusted
    /// peers can connect.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Peers whose word on the client is believed.
    #[serde(default)]
    pub trusted_peers: Vec<Network>,
    #[serde(default)]
    pub limits: Limits,
}

/// What clients speak to the service.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    #[default]
    Http,
    Tcp,
}

impl Protocol {
    /// Both, in the order to list.
    pub const ALL: [Self; 2] = [Self::Http, Self::Tcp];

    /// Returns the name, as in `cutover.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// How one release takes the place of another on a host.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Swap {
    /// The new one is started next to the old one, and the traffic moves when it is healthy.
    #[default]
    Beside,
    /// The host cannot hold both: it is taken out, and its gate passes requests on to other
    /// hosts while the one is stopped and the other is started.
    InPlace,
}

impl Swap {
    /// Both, in the order to list.
    pub const ALL: [Self; 2] = [Self::Beside, Self::InPlace];

    /// Returns the name, as in `cutover.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Beside => "beside",
            Self::InPlace => "in_place",
        }
    }
}

impl Service {
    /// How many peers may be trusted: the load balancers in front of a fleet, many times over.
    pub const TRUSTED_PEERS_MAX: usize = 256;

    /// Returns whether an instance of this service can run next to one of `other`: both want it,
    /// and the gate can lead from the one port to either. What clients see and may take (TLS,
    /// sticky, PROXY protocol, limits) is the gate's affair: no instance knows of it.
    pub fn can_stand_beside(&self, other: &Self) -> bool {
        self.swap == Swap::Beside
            && other.swap == Swap::Beside
            && self.port == other.port
            && self.protocol == other.protocol
    }

    /// Returns whether a gate that serves this can pass on what it gets to one that serves `other`.
    /// It begins there as its own clients do: at that port, in that protocol, with a TLS handshake
    /// or a PROXY header.
    pub fn can_be_passed_on_to(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && self.tls.is_some() == other.tls.is_some()
            && self.proxy_protocol == other.proxy_protocol
    }

    /// Returns whether a gate that serves this takes what another host's passes on, which connects
    /// from `address`. None: it is not known from where.
    pub fn takes_from(&self, address: Option<IpAddr>) -> bool {
        let is_trusted =
            |address| self.trusted_peers.iter().any(|network| network.contains(address));
        !self.proxy_protocol || address.is_some_and(is_trusted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        // As it was stored before there was more to say.
        let stored = r#"{"port":8080,"protocol":"http","swap":"beside","drain":{"secs":30,"nanos":0},
            "drain_long_lived":{"secs":600,"nanos":0},"keep_warm":{"secs":0,"nanos":0}}"#;
        serde_json::from_str(stored).unwrap()
    }

    #[test]
    fn a_service_that_was_stored_without_the_later_keys_has_their_defaults() {
        let Service { tls, sticky, proxy_protocol, trusted_peers, limits, .. } = service();

        assert_eq!((tls, sticky, proxy_protocol), (None, None, false));
        assert!(trusted_peers.is_empty());
        assert_eq!(limits, Limits::default());
    }

    #[test]
    fn only_what_an_instance_knows_of_keeps_two_from_standing_beside_each_other() {
        let one = service();
        let files = TlsFiles { certificate: "/c.pem".to_owned(), key: "/k.pem".to_owned() };
        let limits = Limits { connections: 1, ..Limits::default() };
        let other = Service {
            tls: Some(files),
            sticky: Some(Sticky::Cookie("route".to_owned())),
            proxy_protocol: true,
            trusted_peers: vec!["10.0.0.1".parse().unwrap()],
            limits,
            ..service()
        };
        assert!(one.can_stand_beside(&other) && other.can_stand_beside(&one));

        assert!(!one.can_stand_beside(&Service { port: 8081, ..service() }));
        assert!(!one.can_stand_beside(&Service { protocol: Protocol::Tcp, ..service() }));
        assert!(!one.can_stand_beside(&Service { swap: Swap::InPlace, ..service() }));
    }

    #[test]
    fn only_a_gate_that_is_reached_in_the_same_way_can_be_passed_on_to() {
        let one = service();
        let tls = |name: &str| {
            let (certificate, key) = (format!("/{name}.pem"), format!("/{name}.key"));
            Service { tls: Some(TlsFiles { certificate, key }), ..service() }
        };
        let limits = Limits { connections: 1, ..Limits::default() };
        assert!(one.can_be_passed_on_to(&Service { limits, swap: Swap::InPlace, ..service() }));
        assert!(tls("a").can_be_passed_on_to(&tls("b")));

        for other in [
            Service { port: 8081, ..service() },
            Service { protocol: Protocol::Tcp, ..service() },
            Service { proxy_protocol: true, ..service() },
            tls("a"),
        ] {
            assert!(!one.can_be_passed_on_to(&other) && !other.can_be_passed_on_to(&one));
            assert!(other.can_be_passed_on_to(&other));
        }
    }

    #[test]
    fn who_is_not_trusted_is_not_taken_where_headers_are_asked_for() {
        let one = service();
        assert!(one.takes_from(None) && one.takes_from("10.0.0.1".parse().ok()));

        let trusted_peers = vec!["10.0.0.0/24".parse().unwrap()];
        let asks = Service { proxy_protocol: true, trusted_peers, ..service() };
        assert!(asks.takes_from("10.0.0.1".parse().ok()));
        assert!(asks.takes_from("::ffff:10.0.0.1".parse().ok()));
        assert!(!asks.takes_from("10.0.1.1".parse().ok()));
        assert!(!asks.takes_from(None));
    }
}
