//! What agents of a cluster reach their coordinator by, and how it is cut.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    netns::{Cable, Switch},
    wire::Wire,
};

/// How all agents of a cluster are linked to its coordinator.
#[derive(Debug)]
pub(super) enum Links {
    /// Over the loopback.
    Loopback,
    /// By a wire each, over the loopback.
    Wires,
    /// By a cable each, from a host of its own.
    Cables(Switch),
}

/// How one of them is.
#[derive(Debug)]
pub(super) enum Link {
    Loopback,
    Wire(Wire),
    Cable(Cable),
}

impl Links {
    /// Returns the address of number `number` in the cluster's network.
    pub(super) fn address(&self, number: u8) -> IpAddr {
        match self {
            Self::Loopback | Self::Wires => {
                // Unlike any other test's that runs beside this one: each has a process of its own.
                let pid = std::process::id();
                let octet = |n: u32| u8::try_from(n % 250 + 2).expect("at most 251");
                IpAddr::V4(Ipv4Addr::new(127, octet(pid / 250), octet(pid), number))
            }
            Self::Cables(_) => IpAddr::V4(Switch::address(number)),
        }
    }

    /// Links an agent whose address is number `number` to the coordinator, at `coordinator`.
    pub(super) fn link(&self, number: u8, coordinator: SocketAddr) -> Link {
        match self {
            Self::Loopback => Link::Loopback,
            Self::Wires => Link::Wire(Wire::to(coordinator)),
            Self::Cables(switch) => Link::Cable(switch.add_host(number)),
        }
    }
}

impl Link {
    /// Returns where the agent finds its coordinator, which is at `coordinator`.
    pub(super) const fn leads_to(&self, coordinator: SocketAddr) -> SocketAddr {
        match self {
            Self::Loopback | Self::Cable(_) => coordinator,
            Self::Wire(wire) => wire.address(),
        }
    }

    /// Lets nothing pass, in either direction. Neither end is told.
    ///
    /// # Panics
    ///
    /// When it is one that cannot be cut.
    pub(super) fn cut(&self) {
        match self {
            Self::Loopback => panic!("the loopback cannot be cut"),
            Self::Wire(wire) => wire.cut(),
            Self::Cable(cable) => cable.pull(),
        }
    }

    /// Lets pass again.
    ///
    /// # Panics
    ///
    /// When it is one that cannot be cut.
    pub(super) fn mend(&self) {
        match self {
            Self::Loopback => panic!("the loopback is never cut"),
            Self::Wire(wire) => wire.mend(),
            Self::Cable(cable) => cable.plug_in(),
        }
    }

    /// Does `work` where the agent is. What it starts, threads too, stays there.
    pub(super) fn on_the_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self {
            Self::Loopback | Self::Wire(_) => work(),
            Self::Cable(cable) => cable.on_the_host(work),
        }
    }
}
