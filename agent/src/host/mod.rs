//! Host: what this machine is, how busy it is, and which of its boots this is.
//!
//! Everything is read from `/proc`, `/etc/os-release` and `statvfs`; each read is capped.

mod boot;
mod inventory;
mod load;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use boot::{boot_id, since_boot};
pub use inventory::{InventoryError, take_inventory};
pub use load::{LoadSampler, SampleError};

/// Returns where an application is reached that listens on `address`: one that listens on every
/// address is reached on the loopback.
pub const fn reached_at(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}
