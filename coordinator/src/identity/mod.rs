//! Who this coordinator is: the fleet's authority, and the certificate that it serves with.
//!
//! Lives in `<data>/identity/`. The authority is made once; the server's certificate is made anew
//! whenever less than half of its time is left, with the same names.

pub mod sealing;
pub mod skew;
pub mod token;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use cutover_common::{SecretId, Timestamp};
use cutover_coordinator_core::Sealed;
use cutover_runtime::tls::{
    CertificateDer, PeerIdentity, PrivateKeyDer, SwapCert, TlsSetup,
    ca::{CertificateAuthority, CreateAuthority, IssueServer, LoadAuthority, SERVER_VALID_FOR},
    files::{self, Access, ReadFile, WriteFile},
    peer::{self, BadIdentity},
};
use uuid::Uuid;

use self::sealing::{LoadSealingKey, SealingKey};

/// Names that every coordinator serves under, for people on its own machine.
const LOOPBACK_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

const DIRECTORY: &str = "identity";
const SERVER_FILE: &str = "server.pem";
const SERVER_KEY_FILE: &str = "server-key.pem";

/// The coordinator's keys and certificates, loaded.
pub struct Identity {
    pub ca: CertificateAuthority,
    /// What the listeners show; swapped when the certificate is made anew.
    pub server: Arc<SwapCert>,
    /// What secrets are sealed with.
    pub sealing: SealingKey,
    incarnation: Uuid,
    dir: PathBuf,
}

/// What [`Identity::reissue_if_due`] found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reissue {
    /// The one in use is good for longer.
    NotDue {
        until: Timestamp,
    },
    Reissued {
        until: Timestamp,
    },
}

/// Why the coordinator's identity could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitIdentity {
    #[error("could not make the fleet's authority")]
    Authority(#[from] CreateAuthority),
    #[error("could not make the coordinator's certificate")]
    Server(#[from] ReissueServer),
    #[error(transparent)]
    Sealing(#[from] LoadSealingKey),
}

/// Why the coordinator's identity could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum OpenIdentity {
    #[error("could not load the fleet's authority")]
    Authority(#[from] LoadAuthority),
    #[error("could not load the coordinator's certificate")]
    Read(#[from] ReadFile),
    #[error("the coordinator's certificate in {path} is broken", path = path.display())]
    Broken { path: PathBuf, source: BadIdentity },
    #[error("could not renew the coordinator's certificate")]
    Server(#[from] ReissueServer),
    #[error(transparent)]
    Sealing(#[from] LoadSealingKey),
}

/// Why the server's certificate could not be made anew.
#[derive(Debug, thiserror::Error)]
pub enum ReissueServer {
    #[error("could not issue it")]
    Issue(#[from] IssueServer),
    #[error("could not store it")]
    Write(#[from] WriteFile),
    #[error("could not use it")]
    Use(#[from] TlsSetup),
    #[error("could not read its names")]
    Names(#[from] BadIdentity),
}

impl Identity {
    /// Makes the authority and the coordinator's certificate, good for `names` (host names or
    /// addresses) and for this machine's own loopback.
    ///
    /// # Errors
    ///
    /// If the data directory has an identity, a name is none, or it cannot be stored.
    pub fn init(
        data: &Path,
        names: &[String],
        incarnation: Uuid,
        now: Timestamp,
    ) -> Result<Self, InitIdentity> {
        let dir = data.join(DIRECTORY);
        let ca = CertificateAuthority::create(&dir, now)?;
        let mut names = names.to_vec();
        for name in LOOPBACK_NAMES {
            if !names.iter().any(|given| given == name) {
                names.push(name.to_owned());
            }
        }
        let served = issue(&ca, &dir, &names, incarnation, now)?;
        let server = served.into_swap_cert().map_err(ReissueServer::from)?;
        let sealing = SealingKey::load_or_make(&dir, [])?;
        Ok(Self { ca, server, sealing, incarnation, dir })
    }

    /// Loads the identity, and makes the server's certificate anew if less than half of its time
    /// is left, its key is missing or not its own, or it names another incarnation.
    ///
    /// # Errors
    ///
    /// If a key may be reached by others, a file is missing or broken, or the key of the secrets does
    /// not open all that is `sealed`.
    pub fn open<'a>(
        data: &Path,
        incarnation: Uuid,
        sealed: impl IntoIterator<Item = (SecretId, &'a Sealed)>,
        now: Timestamp,
    ) -> Result<Self, OpenIdentity> {
        let dir = data.join(DIRECTORY);
        let ca = CertificateAuthority::load(&dir)?;
        let path = dir.join(SERVER_FILE);
        let chain = files::read_certificates(&path)?;
        let leaf = chain.first().cloned().ok_or_else(|| OpenIdentity::Broken {
            path: path.clone(),
            source: BadIdentity::Unreadable,
        })?;
        let broken = |source| OpenIdentity::Broken { path: path.clone(), source };
        let is_current = !is_due(&leaf, now).map_err(broken)?
            && PeerIdentity::from_certificate(&leaf)
                .is_ok_and(|identity| identity == PeerIdentity::coordinator(incarnation));
        let server = match stored_server(&dir, chain)? {
            Some(server) if is_current => server,
            // The certificate is written after its key: a crash between leaves a pair that does
            // not fit, and names that are still good.
            Some(_) | None => {
                let names = peer::host_names(&leaf).map_err(broken)?;
                let served = issue(&ca, &dir, &names, incarnation, now)?;
                served.into_swap_cert().map_err(ReissueServer::from)?
            }
        };
        let sealing = SealingKey::load_or_make(&dir, sealed)?;
        Ok(Self { ca, server, sealing, incarnation, dir })
    }

    /// Returns the key of the secrets of a data directory, if there is one.
    ///
    /// # Errors
    ///
    /// If it may be read by others, or is broken.
    pub fn sealing_key(data: &Path) -> Result<Option<SealingKey>, LoadSealingKey> {
        SealingKey::load(&data.join(DIRECTORY))
    }

    /// Makes the server's certificate anew if less than half of its time is left. Open
    /// connections go on. To be called every few hours.
    ///
    /// # Errors
    ///
    /// If it is due and cannot be made or stored; the earlier one stays in use.
    pub fn reissue_if_due(&self, now: Timestamp) -> Result<Reissue, ReissueServer> {
        let leaf = self.server.leaf();
        if !is_due(&leaf, now)? {
            return Ok(Reissue::NotDue { until: peer::validity(&leaf)?.not_after });
        }
        let names = peer::host_names(&leaf)?;
        let served = issue(&self.ca, &self.dir, &names, self.incarnation, now)?;
        let until = served.not_after;
        self.server.swap(served.chain, served.key)?;
        Ok(Reissue::Reissued { until })
    }
}

/// A certificate with the authority's behind it, and its key.
struct Served {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    not_after: Timestamp,
}

impl Served {
    fn into_swap_cert(self) -> Result<Arc<SwapCert>, TlsSetup> {
        SwapCert::new(self.chain, self.key)
    }
}

fn issue(
    ca: &CertificateAuthority,
    dir: &Path,
    names: &[String],
    incarnation: Uuid,
    now: Timestamp,
) -> Result<Served, ReissueServer> {
    let issued = ca.issue_server(names, incarnation, now)?;
    files::write(&dir.join(SERVER_KEY_FILE), issued.key_pem.as_bytes(), Access::Owner)?;
    // The leaf, then the CA: who joins knows only the CA's hash and looks for it in the chain.
    let chain_pem = format!("{}{}", issued.certificate_pem, ca.pem());
    files::write(&dir.join(SERVER_FILE), chain_pem.as_bytes(), Access::Everybody)?;
    Ok(Served {
        chain: files::certificates_in(&chain_pem).ok_or(BadIdentity::Unreadable)?,
        key: issued.key(),
        not_after: issued.not_after,
    })
}

/// Returns the stored certificate with its key; none if the key is missing or another's.
fn stored_server(
    dir: &Path,
    chain: Vec<CertificateDer<'static>>,
) -> Result<Option<Arc<SwapCert>>, OpenIdentity> {
    let path = dir.join(SERVER_KEY_FILE);
    if !path.exists() {
        return Ok(None);
    }
    Ok(SwapCert::new(chain, files::read_key(&path)?).ok())
}

fn is_due(leaf: &CertificateDer<'_>, now: Timestamp) -> Result<bool, BadIdentity> {
    let end = peer::validity(leaf)?.not_after;
    Ok(end.since(now) < SERVER_VALID_FOR / 2)
}

#[cfg(test)]
mod tests;
