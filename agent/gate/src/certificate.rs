//! The certificate that a service shows its clients, read again when its files change.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use cutover_common::ErrorChain;
use cutover_runtime::tls::{
    ServerConfig, TlsSetup,
    files::{self, ReadFile},
    server::public_config,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::program::{Protocol, TlsFiles};

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum NoCertificate {
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
    /// None: there was none yet.
    shown: ArcSwapOption<ServerConfig>,
    /// What the files looked like when they were read last, whatever came of it.
    read: Mutex<Option<[Option<Stamp>; 2]>>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let it = fs::symlink_metadata(path).ok()?;
        Some(Self { inode: it.ino(), size: it.size(), modified: (it.mtime(), it.mtime_nsec()) })
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
        let config = read(files, protocol)?;
        Ok(Self {
            files: files.clone(),
            protocol,
            shown: ArcSwapOption::new(Some(config)),
            read: Mutex::new(Some(stamp)),
        })
    }

    /// Reads it when the first client comes, and as soon as its files change after.
    pub(crate) fn waiting(files: &TlsFiles, protocol: Protocol) -> Self {
        let (shown, read) = (ArcSwapOption::empty(), Mutex::default());
        Self { files: files.clone(), protocol, shown, read }
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
        let Some(config) = self.config() else {
            return Err(io::Error::other("there is no certificate to show"));
        };
        timeout(within, TlsAcceptor::from(config).accept(stream)).await?
    }

    /// Two looks at the file system for each handshake are cheap beside the handshake itself, and no
    /// change is seen late.
    fn config(&self) -> Option<Arc<ServerConfig>> {
        let stamp = Stamp::of_both(&self.files);
        let mut read_before = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read_before.replace(stamp) != Some(stamp) {
            let certificate = self.files.certificate.display();
            match read(&self.files, self.protocol) {
                Ok(config) => {
                    tracing::info!(%certificate, "showing the certificate that is in the files now");
                    self.shown.store(Some(config));
                }
                Err(error) => tracing::warn!(
                    %certificate, error = %ErrorChain(&error),
                    "the certificate in the files cannot be shown; the one before stays"
                ),
            }
        }
        drop(read_before);
        self.shown.load_full()
    }
}

fn read(files: &TlsFiles, protocol: Protocol) -> Result<Arc<ServerConfig>, NoCertificate> {
    let chain = files::read_certificates(&files.certificate)?;
    let key = files::read_key(&files.key)?;
    let alpn: &[&[u8]] = match protocol {
        Protocol::Http => &[b"h2", b"http/1.1"],
        Protocol::Tcp => &[],
    };
    Ok(public_config(chain, key, alpn)?)
}
