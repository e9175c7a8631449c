//! Traffic: what a swap does to clients, and what the gate costs beside nginx and HAProxy.

mod client;
mod controls;
mod gate;
mod histogram;
mod host;
pub mod instance;
mod lasting;
mod load;
mod peer;
pub(super) mod swaps;
pub(super) mod versus;
mod websocket;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// How long a program that was started may take until it listens.
const UP_WITHIN: Duration = Duration::from_secs(20);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Returns the path of a program that was built beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("a running program has a path")?;
    let path = own.with_file_name(name);
    ensure!(path.is_file(), "{} is not built; run: make bench", path.display());
    Ok(path)
}

/// Returns an address that is free. Its ip is this process's own, and no client's: the kernel gives
/// none of its ports away meanwhile.
fn own_address() -> Result<SocketAddr> {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 78, high, low);
    Ok(TcpListener::bind((ip, 0))?.local_addr()?)
}

/// Waits until somebody listens at `address`.
async fn listens(what: &str, address: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        ensure!(begun.elapsed() < UP_WITHIN, "{what} never listens at {address}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
