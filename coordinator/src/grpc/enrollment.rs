//! Enrollment service: an agent joins. Served to connections that can do nothing else.

use std::sync::Arc;

use cutover_common::Timestamp;
use cutover_coordinator_core::{Refusal, RefusalKind, Request, enrolment::JOIN_TOKEN_TTL};
use cutover_proto::v1::{
    JoinRequest, JoinResponse,
    enrollment_server::{Enrollment, EnrollmentServer},
};
use cutover_runtime::{clock, dice, tls::csr::ProvenKey};
use tonic::{Code, Response, Status};

use super::{
    AGENT_MESSAGE_MAX,
    status::{invalid, refused, with_hint},
};
use crate::{
    engine::EngineHandle,
    identity::{
        Identity, skew,
        token::{TokenKind, hash_of},
    },
    outlets::SignRefused,
};

/// The service.
pub struct Enrolling {
    pub engine: EngineHandle,
    pub identity: Arc<Identity>,
}

impl Enrolling {
    /// Makes the service as it is served, with its limits.
    pub fn into_server(self) -> EnrollmentServer<Self> {
        EnrollmentServer::new(self).max_decoding_message_size(AGENT_MESSAGE_MAX)
    }
}

#[tonic::async_trait]
impl Enrollment for Enrolling {
    async fn join(
        &self,
        request: tonic::Request<JoinRequest>,
    ) -> Result<Response<JoinResponse>, Status> {
        let JoinRequest { token, name, csr_pem, labels, unix_time_ms } = request.into_inner();
        skew::judge(Timestamp::from_unix_ms(unix_time_ms), clock::wall())
            .map_err(|skew| Status::failed_precondition(skew.to_string()))?;
        let name: cutover_common::AgentName = name
            .parse()
            .map_err(|error: cutover_common::name::InvalidName| invalid(error.to_string()))?;
        let key = ProvenKey::parse(&csr_pem)
            .map_err(|error| invalid(cutover_common::ErrorChain(&error).to_string()))?;
        // A text that cannot be a token is answered like one that is unknown.
        let token_hash = hash_of(&token, TokenKind::Join)
            .unwrap_or_else(|| cutover_common::Sha256::of(token.as_bytes()));
        let request = Request::Join {
            token_hash,
            name: name.clone(),
            labels,
            enrolment: dice::uuid(),
            key_hash: key.hash(),
        };
        let issued = self.engine.sign(request, csr_pem).await?.map_err(|error| match error {
            SignRefused::Refused(refusal) => join_refused(&refusal),
            SignRefused::BadRequest(text) => invalid(text),
        })?;
        Ok(Response::new(JoinResponse {
            certificate_pem: issued.pem,
            ca_pem: self.identity.ca.pem().to_owned(),
            name: name.into(),
        }))
    }
}

/// Answers a join that is refused. A token that is not valid is told apart from everything else,
/// as another try with the same one ends the same.
fn join_refused(refusal: &Refusal) -> Status {
    match refusal.kind {
        RefusalKind::Denied => with_hint(Code::Unauthenticated, &refusal.text, &refusal.hint),
        RefusalKind::Invalid | RefusalKind::NotFound | RefusalKind::Exists | RefusalKind::State => {
            refused(refusal)
        }
    }
}

/// When a join token made now stops working.
pub(super) fn token_expiry(now: Timestamp) -> Timestamp {
    now + JOIN_TOKEN_TTL
}
