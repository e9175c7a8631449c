//! How this server becomes an agent: one call with a one-time token, over TLS that trusts nothing
//! but the CA whose hash was given.
//!
//! The key is made here, never leaves this machine, and is on disk before the call: if the answer
//! is lost, joining again with the same token and the same key is answered again.

mod identity;
mod renew;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use cutover_common::{AgentName, Labels, Sha256};
use cutover_proto::v1::{self as pb, enrollment_client::EnrollmentClient};
use cutover_runtime::{
    clock::wall,
    dial::{self, DialError, Network, Tcp},
    tls::{
        ALPN_JOIN, TlsSetup, client,
        csr::{KeyRequest, MakeRequest},
        files::{self, Access, ReadFile, WriteFile},
    },
};
use tonic::{Code, Status};

use identity::{Place, Record};

pub use identity::{AgentIdentity, BadIssue, LoadIdentity, forget};
pub use renew::{RenewError, renew};

/// How long the coordinator may take to answer: it signs and writes one event.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes. A certificate with its CA has about 2 KiB.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// How much of the coordinator's words is repeated, in characters.
const WORDS_MAX: usize = 500;

/// What is needed to join. Has no `Debug`: it carries the token.
pub struct JoinRequest {
    /// `https://HOST:PORT` of the coordinator's agents' port.
    pub url: String,
    pub token: String,
    pub ca_hash: Sha256,
    pub data_dir: PathBuf,
    pub name: AgentName,
    pub labels: Labels,
    /// The address that this host's applications listen on, if one was given.
    pub address: Option<IpAddr>,
}

/// Why this server did not become an agent.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "{data_dir} already has an identity; to give it up type cutover-agent leave --data \
         {data_dir}, or choose another directory with --data",
        data_dir = data_dir.display()
    )]
    AlreadyJoined { data_dir: PathBuf },
    #[error("could not make this agent's key")]
    Key(#[from] MakeRequest),
    #[error("could not read the key of an earlier try to join")]
    Read(#[from] ReadFile),
    #[error("could not store this agent's identity")]
    Store(#[from] WriteFile),
    #[error("could not set up the connection")]
    Tls(#[from] TlsSetup),
    #[error("could not connect to the coordinator")]
    Dial(#[from] DialError),
    /// One text for all, so that a guess learns nothing.
    #[error(
        "the coordinator does not take this token: it is unknown, used, expired or for another \
         agent; make a new one with cutover agents token"
    )]
    Token,
    #[error("the coordinator refused: {words}")]
    Refused { words: String },
    #[error("the coordinator did not answer within {ANSWER_MAX:?}; try again with the same token")]
    NoAnswer,
    #[error("the connection broke before the coordinator answered; try again with the same token")]
    Broken(#[source] Box<Status>),
    #[error("the coordinator answered with something else than this agent's certificate")]
    Answer(#[from] BadIssue),
}

/// Makes this server an agent and stores its identity in the data directory.
///
/// # Errors
///
/// If the directory has an identity, the coordinator is not reachable or not the pinned one, it
/// refuses, or the identity cannot be stored. Nothing but a key is left behind then.
pub async fn join(request: JoinRequest) -> Result<(), JoinError> {
    join_over(Tcp::default(), request).await
}

/// Joins like [`join`], over `network`.
///
/// # Errors
///
/// As for [`join`].
pub async fn join_over<N: Network>(network: N, request: JoinRequest) -> Result<(), JoinError> {
    let place = Place::of(&request.data_dir);
    if place.has_identity() {
        return Err(JoinError::AlreadyJoined { data_dir: request.data_dir });
    }
    dial::parse_url(&request.url)?;
    files::create_private_dir(&request.data_dir)?;
    files::create_private_dir(place.dir())?;
    let key = pending_key(&place.pending_key())?;
    let config = client::pinned(request.ca_hash)?;
    let channel = dial::channel_over(network, &request.url, config, ALPN_JOIN).await?;
    let call = pb::JoinRequest {
        token: request.token,
        name: request.name.to_string(),
        csr_pem: key.csr_pem().to_owned(),
        labels: request.labels.into_iter().collect(),
        unix_time_ms: wall().unix_ms(),
    };
    let mut enrollment = EnrollmentClient::new(channel).max_decoding_message_size(ANSWER_MAX_BYTES);
    let answer = tokio::time::timeout(ANSWER_MAX, enrollment.join(call))
        .await
        .map_err(|_| JoinError::NoAnswer)?
        .map_err(refused)?;
    let pb::JoinResponse { certificate_pem, ca_pem, name } = answer.into_inner();
    let issued = identity::check_issue(&certificate_pem, &key)?;
    if issued.name != request.name.as_str() || name != issued.name {
        return Err(BadIssue::OtherName.into());
    }
    if client::ca_hash_of(&ca_pem)? != request.ca_hash {
        return Err(BadIssue::OtherCa.into());
    }
    let record = Record {
        name: request.name,
        url: request.url,
        address: request.address,
        ca_hash: request.ca_hash,
    };
    place.store(&record, &ca_pem, &identity::pair_pem(&key, &certificate_pem))?;
    Ok(())
}

/// Returns the key of an earlier try that had no answer, or a new one that is on disk.
fn pending_key(path: &Path) -> Result<KeyRequest, JoinError> {
    if path.exists() {
        return Ok(KeyRequest::from_key(&files::read_secret(path)?)?);
    }
    let key = KeyRequest::generate()?;
    files::write(path, key.key_pem().as_bytes(), Access::Owner)?;
    Ok(key)
}

fn refused(status: Status) -> JoinError {
    match status.code() {
        Code::Unauthenticated => JoinError::Token,
        Code::Unavailable | Code::Cancelled | Code::Unknown => JoinError::Broken(Box::new(status)),
        Code::DeadlineExceeded => JoinError::NoAnswer,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => JoinError::Refused { words: words(status.message()) },
    }
}

/// Returns a peer's words fit for a terminal.
fn words(text: &str) -> String {
    text.chars().take(WORDS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
