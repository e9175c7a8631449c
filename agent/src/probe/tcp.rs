//! Passes when the port accepts a connection.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::ProbeAnswer;

pub(super) async fn ask(address: SocketAddr) -> ProbeAnswer {
    match TcpStream::connect(address).await {
        Ok(_) => ProbeAnswer::passed(&format!("{address} accepts connections")),
        Err(error) => ProbeAnswer::failed(&format!("could not connect to {address}: {error}")),
    }
}
