//! PROXY protocol, version 2: who a client is, by the word of a proxy in front of the gate.

use std::{net::SocketAddr, time::Duration};

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

use crate::live::Live;

/// How long the part is that each header has, and that says how long the rest is.
const FIXED_BYTES: usize = 16;

/// The longest rest of a header that is read: addresses, and a certificate's names several times.
const REST_BYTES_MAX: usize = 4 * 1024;

/// What a connection of this protocol begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Why a connection is closed without a word.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoHeader {
    #[error("it is none of the trusted peers, which alone may say who a client is")]
    Untrusted,
    #[error("it does not begin with a PROXY protocol header of version 2")]
    Absent,
    #[error("its PROXY protocol header is {rest} bytes long; at most {REST_BYTES_MAX} are read")]
    Long { rest: usize },
    #[error("its PROXY protocol header makes no sense")]
    Invalid(#[source] proxy_header::Error),
    #[error("its PROXY protocol header did not come within {} ms", within.as_millis())]
    Late { within: Duration },
    #[error("it broke before its PROXY protocol header was there")]
    Broke(#[source] std::io::Error),
}

/// Returns who the client of `stream` is. Takes the header from it where its service asks for one:
/// what follows is the client's own.
///
/// # Errors
///
/// When there must be a header and there is none that can be believed.
pub(crate) async fn client_of(
    live: &Live,
    stream: &mut TcpStream,
    peer: SocketAddr,
) -> Result<SocketAddr, NoHeader> {
    let within = {
        // Not held while the header comes: a route that is still held is not left behind.
        let routing = live.routing();
        let service = &routing.service;
        if !service.accepts_proxy_protocol {
            return Ok(peer);
        }
        if !service.trusts(peer.ip()) {
            return Err(NoHeader::Untrusted);
        }
        Duration::from_millis(service.limits.head_ms.into())
    };
    let header = timeout(within, read(stream)).await;
    let header = header.map_err(|_| NoHeader::Late { within })??;
    let config = ParseConfig { include_tlvs: false, allow_v1: false, allow_v2: true };
    let (header, _) = ProxyHeader::parse(&header, config).map_err(NoHeader::Invalid)?;
    // A proxy that speaks for itself, as to see whether the gate is there, names nobody.
    Ok(header.proxied_address().map_or(peer, |named| named.source))
}

async fn read(stream: &mut TcpStream) -> Result<Vec<u8>, NoHeader> {
    let mut header = vec![0; FIXED_BYTES];
    stream.read_exact(&mut header).await.map_err(NoHeader::Broke)?;
    if !header.starts_with(&SIGNATURE) {
        return Err(NoHeader::Absent);
    }
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if rest > REST_BYTES_MAX {
        return Err(NoHeader::Long { rest });
    }
    header.resize(FIXED_BYTES + rest, 0);
    stream.read_exact(&mut header[FIXED_BYTES..]).await.map_err(NoHeader::Broke)?;
    Ok(header)
}
