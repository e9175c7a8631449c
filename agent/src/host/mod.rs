//! Host: what this machine is, how busy it is, and which of its boots this is.
//!
//! Everything is read from `/proc`, `/etc/os-release` and `statvfs`; each read is capped.

mod boot;
mod inventory;
mod load;

pub use boot::{boot_id, since_boot};
pub use inventory::{InventoryError, take_inventory};
pub use load::{LoadSampler, SampleError};
