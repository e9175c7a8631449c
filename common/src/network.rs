//! Network: one address, or all that begin alike.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// One address, such as `10.0.0.1`, or all that begin alike, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

/// Why a text is no network.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidNetwork {
    #[error("is neither an address nor a network")]
    Unreadable,
    /// Whether the whole network is meant, or the one address in it, cannot be told.
    #[error("names one address of the network {0}, and not the network")]
    Unaligned(Network),
}

impl Network {
    /// Returns whether `address` is in it. An IPv4 address may be written as IPv6 does.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical().into())
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let network: IpNet = text.parse().map_err(|_| InvalidNetwork::Unreadable)?;
        // No client comes from such an address: it is one of IPv4 by then.
        if network.addr().to_canonical() != network.addr() {
            return Err(InvalidNetwork::Unreadable);
        }
        if network.trunc() != network {
            return Err(InvalidNetwork::Unaligned(Self(network.trunc())));
        }
        Ok(Self(network))
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Self, InvalidNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(network) = self;
        if network.prefix_len() == network.max_prefix_len() {
            return fmt::Display::fmt(&network.addr(), f);
        }
        fmt::Display::fmt(network, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn prints_what_it_parses() {
        for text in ["10.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "fd00::1", "fd00::/8"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("::ffff:10.0.0.2").to_string(), "10.0.0.2");
        assert_eq!(network("10.0.0.2/32").to_string(), "10.0.0.2");
    }

    #[test]
    fn holds_what_begins_as_it_does() {
        let held = |text: &str, address: &str| network(text).contains(address.parse().unwrap());

        assert!(held("10.0.0.0/8", "10.255.0.1") && held("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(held("fd00::/8", "fd12::1") && held("10.0.0.1", "10.0.0.1"));
        assert!(!held("10.0.0.0/8", "11.0.0.1") && !held("10.0.0.1", "10.0.0.2"));
        assert!(!held("0.0.0.0/0", "fd00::1"));
    }

    #[test]
    fn what_may_mean_two_things_is_refused() {
        let refused = |text: &str| text.parse::<Network>().unwrap_err();

        assert_eq!(refused("10.0.0.1/8"), InvalidNetwork::Unaligned(network("10.0.0.0/8")));
        for bad in ["", "lb.example", "10.0.0.0/33", "10.0.0.0/", "/8", "::ffff:10.0.0.0/104"] {
            assert_eq!(refused(bad), InvalidNetwork::Unreadable, "{bad}");
        }
    }
}
