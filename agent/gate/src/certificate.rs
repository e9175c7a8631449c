//! The certificate that a service shows its clients, read again when its files change, and by which it
//! knows other hosts' gates that serve the same.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use cutover_common::ErrorChain;
use cutover_runtime::tls::{
    ClientConfig, ServerConfig, TlsSetup, fault_in,
    files::{self, ReadFile},
    passing::{Stranger, passing_config},
    server::public_config,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client, rustls::pki_types::ServerName, server::TlsStream,
};

use crate::program::{Protocol, TlsFiles};

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCertificate {
    #[error("its files cannot be read")]
    Read(#[from] ReadFile),
    #[error("its files do not go together")]
    Setup(#[from] TlsSetup),
}

/// A certificate and its key, as they are in their files.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: TlsFiles,
    protocol: Protocol,
    shown: ArcSwap<Shown>,
    read: Mutex<Read>,
}

/// One certificate, to both sides.
#[derive(Debug)]
struct Shown {
    to_clients: Arc<ServerConfig>,
    /// Which gates of other hosts serve the same, going by it.
    to_peers: Arc<ClientConfig>,
}

/// What came of it when the files were read last.
#[derive(Debug)]
struct Read {
    /// What they looked like.
    stamp: [Option<Stamp>; 2],
    /// Why the one before is shown still; empty if it is not.
    trouble: String,
}

/// What changes when a file does, or who may read it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let it = fs::symlink_metadata(path).ok()?;
        Some(Self { inode: it.ino(), size: it.size(), changed: (it.ctime(), it.ctime_nsec()) })
    }

    fn of_both(files: &TlsFiles) -> [Option<Self>; 2] {
        [Self::of(&files.certificate), Self::of(&files.key)]
    }
}

impl Certificate {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// When there is none that can be shown.
    pub(crate) fn new(files: &TlsFiles, protocol: Protocol) -> Result<Self, NoCertificate> {
        let stamp = Stamp::of_both(files);
        let shown = Arc::new(read(files, protocol)?);
        let (shown, trouble) = (ArcSwap::new(shown), String::new());
        let read = Mutex::new(Read { stamp, trouble });
        Ok(Self { files: files.clone(), protocol, shown, read })
    }

    pub(crate) fn is_of(&self, files: &TlsFiles, protocol: Protocol) -> bool {
        self.files == *files && self.protocol == protocol
    }

    /// Makes a connection an encrypted one, with the certificate that is in the files now.
    pub(crate) async fn shake_hands(
        &self,
        stream: TcpStream,
        within: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.look().0.to_clients);
        timeout(within, TlsAcceptor::from(config).accept(stream)).await?
    }

    /// Makes a connection to another host's gate an encrypted one, if it shows that it serves the same.
    pub(crate) async fn shake_hands_with_peer(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let config = Arc::clone(&self.look().0.to_peers);
        TlsConnector::from(config).connect(ServerName::from(peer.ip()), stream).await
    }

    /// Returns why the files are not shown as they are now; empty if they are.
    pub(crate) fn trouble(&self) -> String {
        self.look().1
    }

    /// Two looks at the file system for each handshake are cheap beside the handshake itself, and no
    /// change is seen late.
    fn look(&self) -> (Arc<Shown>, String) {
        let stamp = Stamp::of_both(&self.files);
        let mut last = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if last.stamp != stamp {
            last.stamp = stamp;
            let certificate = self.files.certificate.display();
            match read(&self.files, self.protocol) {
                Ok(shown) => {
                    tracing::info!(%certificate, "showing the certificate that is in the files now");
                    self.shown.store(Arc::new(shown));
                    last.trouble.clear();
                }
                Err(error) => {
                    let error = ErrorChain(&error);
                    last.trouble = format!(
                        "its certificate cannot be shown as it is now: {error}; the one before \
                         is shown until both files are right"
                    );
                    tracing::warn!(%certificate, "{}", last.trouble);
                }
            }
        }
        (self.shown.load_full(), last.trouble.clone())
    }
}

/// Returns why a gate of another host that was reached is none to pass anything on to, and what to do.
/// None: its connection broke, as any may.
pub(crate) fn why_refused(peer: SocketAddr, failure: &io::Error) -> Option<String> {
    let (why, remedy) = match Stranger::in_failure(failure) {
        Some(stranger) => (
            ErrorChain(stranger).to_string(),
            "put the same certificate and key on both hosts, or certificates of one issuer for the \
             same first name, in files that have the issuer's behind them",
        ),
        None => (
            fault_in(failure)?.to_string(),
            "look at what that host serves there, and with which certificate",
        ),
    };
    Some(format!("nothing can be passed on to {peer}: {why}; {remedy}"))
}

fn read(files: &TlsFiles, protocol: Protocol) -> Result<Shown, NoCertificate> {
    let chain = files::read_certificates(&files.certificate)?;
    let key = files::read_key(&files.key)?;
    let (spoken, spoken_to_peers): (&[&[u8]], &[&[u8]]) = match protocol {
        Protocol::Http => (&[b"h2", b"http/1.1"], &[b"http/1.1"]),
        Protocol::Tcp => (&[], &[]),
    };
    let to_peers = passing_config(&chain, spoken_to_peers)?;
    Ok(Shown { to_clients: public_config(chain, key, spoken)?, to_peers })
}
