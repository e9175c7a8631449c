//! PROXY protocol, version 2: who a client is, by the word of a proxy in front of the gate, and the same
//! word to another host's gate.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use proxy_header::{Error, ParseConfig, ProxiedAddress, ProxyHeader};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

use crate::live::Live;

/// How long the part is that each header has, and that says how long the rest is.
const FIXED_BYTES: usize = 16;

/// The longest rest of a header that is read: addresses, and a certificate's names several times.
const REST_BYTES_MAX: usize = 4 * 1024;

/// What a connection of this protocol begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Both ends of a client's connection, as that client knows them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    /// Where it connected, to a proxy maybe.
    pub(crate) server: SocketAddr,
}

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
    Invalid(#[source] Error),
    #[error("its PROXY protocol header did not come within {} ms", within.as_millis())]
    Late { within: Duration },
    #[error("it broke before its PROXY protocol header was there")]
    Broke(#[source] std::io::Error),
}

/// Returns who the client of `stream` is, and where it connected if a proxy says so. Takes the header
/// from it where its service asks for one: what follows is the client's own.
///
/// # Errors
///
/// When there must be a header and there is none that can be believed.
pub(crate) async fn client_of(
    live: &Live,
    stream: &mut TcpStream,
    peer: SocketAddr,
) -> Result<(SocketAddr, Option<SocketAddr>), NoHeader> {
    let within = {
        // Not held while the header comes: a route that is still held is not left behind.
        let routing = live.routing();
        let service = &routing.service;
        if !service.accepts_proxy_protocol {
            return Ok((peer, None));
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
    let named = header.proxied_address();
    Ok(named.map_or((peer, None), |named| (named.source, Some(named.destination))))
}

/// Returns the header of a connection on which a gate speaks for itself. Whoever takes it goes by the
/// connection's own address.
pub(crate) fn header_of_own() -> Result<Vec<u8>, Error> {
    encoded(&ProxyHeader::with_local())
}

/// Returns the header of a connection that is one client's.
pub(crate) fn header_of(ends: &Ends) -> Result<Vec<u8>, Error> {
    let [client, server] = [ends.client, ends.server].map(canonical);
    // Both are of one family, or the header has no place for them.
    let named = if client.is_ipv4() == server.is_ipv4() {
        ProxiedAddress::stream(client, server)
    } else {
        ProxiedAddress::stream(as_ipv6(client), as_ipv6(server))
    };
    encoded(&ProxyHeader::with_address(named))
}

fn encoded(header: &ProxyHeader<'_>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    header.encode_v2(&mut bytes)?;
    Ok(bytes)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    (address.ip().to_canonical(), address.port()).into()
}

fn as_ipv6(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => (ip.to_ipv6_mapped(), address.port()).into(),
        IpAddr::V6(ip) => (ip, address.port()).into(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the ends that a gate reads from a header.
    fn read(header: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
        let config = ParseConfig { include_tlvs: false, allow_v1: false, allow_v2: true };
        let (header, length) = ProxyHeader::parse(header, config).unwrap();
        assert!((FIXED_BYTES..=FIXED_BYTES + REST_BYTES_MAX).contains(&length));
        header.proxied_address().map(|named| (named.source, named.destination))
    }

    #[test]
    fn what_is_written_of_a_client_is_what_is_read() {
        for (client, server) in [
            ("192.0.2.7:4711", "198.51.100.1:443"),
            ("[2001:db8::7]:4711", "[2001:db8::1]:443"),
            ("192.0.2.7:4711", "[2001:db8::1]:443"),
            ("[2001:db8::7]:4711", "198.51.100.1:443"),
            // As a socket for both families says it.
            ("[::ffff:192.0.2.7]:4711", "198.51.100.1:443"),
        ] {
            let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
            let header = header_of(&Ends { client, server }).unwrap();
            let (from, to) = read(&header).unwrap();
            assert_eq!([from, to].map(canonical), [client, server].map(canonical));
        }
        assert_eq!(header_of_own().unwrap(), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
        assert_eq!(read(&header_of_own().unwrap()), None);
    }
}
