//! The agent's identity on disk and in memory.
//!
//! Key and certificate are one file, replaced by one rename: whatever crashes, they fit. That
//! file is also what says that this server has joined; everything else is written before it.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use cutover_common::{AgentName, Sha256, Timestamp};
use cutover_runtime::clock::wall;
use cutover_runtime::tls::{
    ClientConfig, PeerIdentity, Role, SwapCert, TlsSetup, client,
    csr::KeyRequest,
    files::{self, Access, ReadFile, WriteFile},
    peer::{self, BadIdentity, Validity},
    utc,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What `agent.json` holds: where this agent belongs. Not secret.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) name: AgentName,
    pub(super) url: String,
    pub(super) address: Option<IpAddr>,
    pub(super) ca_hash: Sha256,
}

/// Where an agent's identity is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    data: PathBuf,
    dir: PathBuf,
}

/// Who this agent is. The certificate can be renewed while connections are open.
#[derive(Debug)]
pub struct AgentIdentity {
    pub name: AgentName,
    /// Which enrolment of that name: another one after each join.
    pub enrolment: Uuid,
    /// The coordinator's agents' port, `https://HOST:PORT`.
    pub url: String,
    /// The address that this host's applications listen on, if one was given at the join.
    pub address: Option<IpAddr>,
    ca_pem: String,
    certificate: Arc<SwapCert>,
    place: Place,
}

/// Why there is no identity to run with.
#[derive(Debug, thiserror::Error)]
pub enum LoadIdentity {
    #[error(
        "{data} has no identity; join first: cutover-agent join https://HOST:7440 --token T \
         --ca-hash sha256:H --data {data}",
        data = data.display()
    )]
    NotJoined { data: PathBuf },
    #[error("could not load this agent's identity")]
    Read(#[from] ReadFile),
    #[error("{path} is damaged; restore it from a backup, or leave and join again", path = path.display())]
    Record { path: PathBuf, source: serde_json::Error },
    #[error("{path} is not the CA that this agent joined; restore it from a backup, or leave and join again", path = path.display())]
    OtherCa { path: PathBuf },
    #[error("this agent's certificate is damaged; leave and join again")]
    Certificate(#[from] BadIssue),
    #[error("this agent's certificate cannot be used; leave and join again")]
    Tls(#[from] TlsSetup),
}

/// Why what the coordinator issued is not this agent's certificate.
#[derive(Debug, thiserror::Error)]
pub enum BadIssue {
    #[error("it is not one certificate in PEM form")]
    Unreadable,
    #[error("it is for another key")]
    OtherKey(#[source] TlsSetup),
    #[error("it names nobody")]
    Nobody(#[from] BadIdentity),
    #[error("it is for another role than an agent's")]
    OtherRole,
    #[error("it is for another name or enrolment")]
    OtherName,
    #[error("it comes with another CA than the pinned one")]
    OtherCa,
    #[error(
        "it is good from {} to {} and this machine's clock says {}: set the clock \
         (CLOCK_SKEW)", utc(validity.not_before), utc(validity.not_after), utc(*now)
    )]
    NotNow { validity: Validity, now: Timestamp },
}

impl Record {
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("names and addresses are plain JSON")
    }
}

impl Place {
    pub(super) fn of(data: &Path) -> Self {
        Self { data: data.to_owned(), dir: data.join("identity") }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn pending_key(&self) -> PathBuf {
        self.dir.join("pending-key.pem")
    }

    pub(super) fn has_identity(&self) -> bool {
        self.pair().exists()
    }

    fn pair(&self) -> PathBuf {
        self.dir.join("agent.pem")
    }

    fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    fn record(&self) -> PathBuf {
        self.data.join("agent.json")
    }

    /// Stores a whole identity. Until the last rename there is none.
    pub(super) fn store(
        &self,
        record: &Record,
        ca_pem: &str,
        pair_pem: &str,
    ) -> Result<(), WriteFile> {
        files::write(&self.ca(), ca_pem.as_bytes(), Access::Everybody)?;
        files::write(&self.record(), &record.to_json(), Access::Everybody)?;
        self.store_pair(pair_pem)?;
        files::remove(&self.pending_key())
    }

    /// Replaces key and certificate, both or none.
    pub(super) fn store_pair(&self, pair_pem: &str) -> Result<(), WriteFile> {
        files::write(&self.pair(), pair_pem.as_bytes(), Access::Owner)
    }
}

impl AgentIdentity {
    /// Loads what a join stored.
    ///
    /// # Errors
    ///
    /// If there is none, others may reach the key, or a file is damaged.
    pub fn load(data: &Path) -> Result<Self, LoadIdentity> {
        let place = Place::of(data);
        if !place.has_identity() {
            return Err(LoadIdentity::NotJoined { data: data.to_owned() });
        }
        let path = place.record();
        let record: Record = serde_json::from_str(&files::read_public(&path)?)
            .map_err(|source| LoadIdentity::Record { path, source })?;
        let ca_pem = files::read_public(&place.ca())?;
        if client::ca_hash_of(&ca_pem)? != record.ca_hash {
            return Err(LoadIdentity::OtherCa { path: place.ca() });
        }
        let pair = files::read_secret(&place.pair())?;
        let key = files::read_key(&place.pair())?;
        let chain = files::certificates_in(&pair).ok_or(BadIssue::Unreadable)?;
        let certificate = SwapCert::new(chain, key).map_err(BadIssue::OtherKey)?;
        let identity = as_agent(&certificate)?;
        if identity.name != record.name.as_str() {
            return Err(BadIssue::OtherName.into());
        }
        Ok(Self {
            name: record.name,
            enrolment: identity.enrolment,
            url: record.url,
            address: record.address,
            ca_pem,
            certificate,
            place,
        })
    }

    /// Returns a client configuration that shows this agent's certificate, after a renewal the
    /// renewed one.
    ///
    /// # Errors
    ///
    /// If the CA's certificate is damaged.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsSetup> {
        client::agent(&self.ca_pem, self.certificate.clone())
    }

    /// Returns from when and until when the certificate is good.
    ///
    /// # Errors
    ///
    /// If it cannot be parsed.
    pub fn validity(&self) -> Result<Validity, BadIdentity> {
        peer::validity(&self.certificate.leaf())
    }

    /// Returns who the certificate says this agent is.
    pub(super) fn peer_identity(&self) -> PeerIdentity {
        PeerIdentity::agent(&self.name, self.enrolment)
    }

    /// Takes a renewed certificate into use: on disk first, then for the next handshakes.
    pub(super) fn install(
        &self,
        key: &KeyRequest,
        certificate_pem: &str,
    ) -> Result<(), super::RenewError> {
        self.place.store_pair(&pair_pem(key, certificate_pem))?;
        let chain = files::certificates_in(certificate_pem).ok_or(BadIssue::Unreadable)?;
        self.certificate.swap(chain, key.key()).map_err(BadIssue::OtherKey)?;
        Ok(())
    }
}

/// Gives the identity up; fine if there is none. The data directory is free for another join.
///
/// # Errors
///
/// If a file cannot be removed.
pub fn forget(data: &Path) -> Result<(), WriteFile> {
    let place = Place::of(data);
    // The pair first: without it there is no identity, whatever else is left.
    for path in [place.pair(), place.pending_key(), place.record(), place.ca()] {
        files::remove(&path)?;
    }
    Ok(())
}

/// Checks that a certificate is for this key, this role and this time.
pub(super) fn check_issue(pem: &str, key: &KeyRequest) -> Result<PeerIdentity, BadIssue> {
    let chain = files::certificates_in(pem).ok_or(BadIssue::Unreadable)?;
    if chain.len() != 1 {
        return Err(BadIssue::Unreadable);
    }
    let certificate = SwapCert::new(chain, key.key()).map_err(BadIssue::OtherKey)?;
    let identity = as_agent(&certificate)?;
    let validity = peer::validity(&certificate.leaf())?;
    let now = wall();
    if now < validity.not_before || now >= validity.not_after {
        return Err(BadIssue::NotNow { validity, now });
    }
    Ok(identity)
}

/// Returns key and certificate as one text.
pub(super) fn pair_pem(key: &KeyRequest, certificate_pem: &str) -> String {
    format!("{}{certificate_pem}", key.key_pem())
}

fn as_agent(certificate: &SwapCert) -> Result<PeerIdentity, BadIssue> {
    let identity = PeerIdentity::from_certificate(&certificate.leaf())?;
    match identity.role {
        Role::Agent => Ok(identity),
        Role::Coordinator => Err(BadIssue::OtherRole),
    }
}
