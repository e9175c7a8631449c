//! Renews the agent's certificate at half of its life, over the session's connection.

use std::time::Duration;

use cutover_common::Timestamp;
use cutover_proto::v1::{self as pb, agent_link_client::AgentLinkClient};
use cutover_runtime::tls::{
    csr::{KeyRequest, MakeRequest},
    files::WriteFile,
    peer::BadIdentity,
};
use tonic::{Status, transport::Channel};

use super::{
    ANSWER_MAX, ANSWER_MAX_BYTES,
    identity::{self, AgentIdentity, BadIssue},
};

/// Why the certificate was not renewed. The earlier one stays in use.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    #[error("could not make a key")]
    Key(#[from] MakeRequest),
    #[error("the coordinator did not answer within {ANSWER_MAX:?}")]
    NoAnswer,
    #[error("the coordinator refused to renew this agent's certificate")]
    Refused(#[source] Box<Status>),
    #[error("the coordinator answered with something else than this agent's certificate")]
    Answer(#[from] BadIssue),
    #[error("could not read the renewed certificate")]
    Read(#[from] BadIdentity),
    #[error("could not store the renewed certificate")]
    Store(#[from] WriteFile),
}

impl AgentIdentity {
    /// Returns whether half of the certificate's life is over.
    ///
    /// # Errors
    ///
    /// If the certificate cannot be parsed.
    pub fn needs_renewal(&self, now: Timestamp) -> Result<bool, BadIdentity> {
        Ok(now >= self.renews_at()?)
    }

    /// Returns when half of the certificate's life is over. With 24 h certificates that leaves
    /// 12 h for a coordinator that is down to come back.
    ///
    /// # Errors
    ///
    /// If the certificate cannot be parsed.
    pub fn renews_at(&self) -> Result<Timestamp, BadIdentity> {
        let validity = self.validity()?;
        let half: Duration = validity.not_after.since(validity.not_before) / 2;
        Ok(validity.not_before + half)
    }
}

/// Gets a certificate for a new key, stores both and shows them from the next handshake on; open
/// connections go on. Returns when it ends.
///
/// # Errors
///
/// If the coordinator refuses or is silent, or the certificate cannot be stored.
pub async fn renew(identity: &AgentIdentity, channel: Channel) -> Result<Timestamp, RenewError> {
    let key = KeyRequest::generate()?;
    let call = pb::RenewRequest { csr_pem: key.csr_pem().to_owned() };
    let mut link = AgentLinkClient::new(channel).max_decoding_message_size(ANSWER_MAX_BYTES);
    let answer = tokio::time::timeout(ANSWER_MAX, link.renew(call))
        .await
        .map_err(|_| RenewError::NoAnswer)?
        .map_err(|status| RenewError::Refused(Box::new(status)))?;
    let pb::RenewResponse { certificate_pem } = answer.into_inner();
    if identity::check_issue(&certificate_pem, &key)? != identity.peer_identity() {
        return Err(BadIssue::OtherName.into());
    }
    identity.install(&key, &certificate_pem)?;
    Ok(identity.validity()?.not_after)
}
