//! The simulated network, as dialing and listening know networks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cutover_coordinator::listen::Accept;
use cutover_runtime::dial::Network;
use tokio::time::sleep;
use turmoil::net::{TcpListener, TcpStream};

use crate::{clock::elapsed, trace::Trace};

/// After how long Linux repeats a SYN that nobody answered; then twice as long each time.
const SYN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How one host reaches the others.
#[derive(Clone, Debug)]
pub(crate) struct HostNetwork {
    pub(crate) host: String,
    pub(crate) trace: Trace,
    /// Whether what this host sends is swallowed at this moment.
    pub(crate) is_cut: Arc<AtomicBool>,
}

impl Network for HostNetwork {
    type Stream = TcpStream;

    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::new(turmoil::lookup(host), port)])
    }

    fn reaches(&self, _address: SocketAddr) -> bool {
        true
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.trace.add(elapsed(), &self.host, "dials");
        let mut wait = SYN_AGAIN_AFTER;
        loop {
            match TcpStream::connect(address).await {
                // turmoil answers a swallowed SYN with a refusal. A network answers nothing, and
                // the kernel asks again.
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionRefused
                        && self.is_cut.load(Ordering::Relaxed) =>
                {
                    sleep(wait).await;
                    wait *= 2;
                }
                connected => return connected,
            }
        }
    }
}

/// A port of a simulated host.
pub(crate) struct Port(TcpListener);

impl Port {
    pub(crate) async fn open(port: u16) -> io::Result<Self> {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Ok(Self(TcpListener::bind(SocketAddr::new(any, port)).await?))
    }
}

impl Accept for Port {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    fn watch_over(_stream: &TcpStream) -> io::Result<()> {
        // There is no kernel that could notice anything: what is noticed, HTTP/2 and the session
        // notice by themselves.
        Ok(())
    }
}
