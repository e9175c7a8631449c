//! Service: the public side of an application, which the gate of each host serves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
    /// Returns whether an instance of this service can run next to one of `other`: both want it,
    /// and the gate can lead from the one port to either.
    pub fn can_stand_beside(&self, other: &Self) -> bool {
        self.swap == Swap::Beside
            && other.swap == Swap::Beside
            && self.port == other.port
            && self.protocol == other.protocol
    }
}
