//! What the host is: told to the coordinator at the beginning of each session.

use std::{io, net::IpAddr, path::Path, thread::available_parallelism};

use cutover_common::Inventory;

use super::load::{SampleError, read_disk, read_memory};
use crate::shim::files::read_capped;

/// `os-release` files are about 400 bytes; more than this is something else.
const OS_RELEASE_BYTES_MAX: u64 = 16 * 1024;

/// How many characters of one text an inventory carries; the longest seen is 60.
const TEXT_CHARS_MAX: usize = 200;

/// Why there is no inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    #[error("could not count the host's processors")]
    Processors(#[source] io::Error),
    #[error("could not measure the host's memory and disk")]
    Sizes(#[from] SampleError),
}

/// Describes this host. `address` is the one that its applications listen on, `runtime` the name
/// of the one that runs them.
///
/// # Errors
///
/// When a size cannot be read; a missing `os-release` only makes the text shorter.
pub fn take_inventory(
    data_dir: &Path,
    address: IpAddr,
    runtime: &str,
) -> Result<Inventory, InventoryError> {
    let system = rustix::system::uname();
    let cpus = available_parallelism().map_err(InventoryError::Processors)?;
    Ok(Inventory {
        hostname: clean(&system.nodename().to_string_lossy()),
        os: read_os(),
        kernel: clean(&system.release().to_string_lossy()),
        arch: clean(&system.machine().to_string_lossy()),
        cpus: u32::try_from(cpus.get()).unwrap_or(u32::MAX),
        memory_bytes: read_memory()?.total_bytes,
        disk_bytes: read_disk(data_dir)?.total_bytes,
        address: address.to_string(),
        runtime: runtime.to_owned(),
    })
}

fn read_os() -> String {
    // The second path is where os-release(5) says to look next.
    ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .filter_map(|path| read_capped(Path::new(path), OS_RELEASE_BYTES_MAX).ok())
        .find_map(|bytes| parse_os_release(&String::from_utf8_lossy(&bytes)))
        .unwrap_or_else(|| "Linux".to_owned())
}

fn parse_os_release(text: &str) -> Option<String> {
    let value_of = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        let value = clean(value.trim().trim_matches(['"', '\'']));
        (!value.is_empty()).then_some(value)
    };
    value_of("PRETTY_NAME").or_else(|| value_of("NAME")).or_else(|| value_of("ID"))
}

/// Leaves only what may be shown on a terminal (promises.md §4 row 72).
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_systems_name_is_unquoted_and_has_no_escapes() {
        let text = "NAME=Debian\nPRETTY_NAME=\"Debian \x1b[31mGNU/Linux 12\"\n";

        assert_eq!(parse_os_release(text).as_deref(), Some("Debian [31mGNU/Linux 12"));
        assert_eq!(parse_os_release("ID=alpine\n").as_deref(), Some("alpine"));
        assert_eq!(parse_os_release("PRETTY_NAME=\"\"\n"), None);
    }

    #[test]
    fn the_inventory_of_this_host_is_complete() {
        let inventory =
            take_inventory(Path::new("/"), IpAddr::V4(Ipv4Addr::LOCALHOST), "process").unwrap();

        assert!(!inventory.hostname.is_empty(), "{inventory:?}");
        assert!(!inventory.os.is_empty(), "{inventory:?}");
        assert!(!inventory.kernel.is_empty(), "{inventory:?}");
        assert_eq!(inventory.arch, std::env::consts::ARCH);
        assert!(inventory.cpus >= 1, "{inventory:?}");
        assert!(inventory.memory_bytes > 0, "{inventory:?}");
        assert!(inventory.disk_bytes > 0, "{inventory:?}");
        assert_eq!(inventory.address, "127.0.0.1");
    }
}
