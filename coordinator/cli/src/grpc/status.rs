//! Statuses and dialing errors to failures: the one place that decides exit codes for them.

use std::error::Error as _;

use cutover_common::ErrorChain;
use cutover_runtime::dial::DialError;
use tonic::{Code, Status};

use crate::failure::{Failure, Kind};

/// Where the coordinator puts what to type next.
const HINT_KEY: &str = "cutover-hint";

/// Turns the answer to a call into a failure.
pub(super) fn failure(status: &Status) -> Failure {
    let kind = kind(status);
    let failure = Failure::new(kind, text(kind, status));
    match status.metadata().get(HINT_KEY) {
        Some(hint) => failure.with_hint(String::from_utf8_lossy(hint.as_encoded_bytes())),
        None => with_usual_hint(failure, status.code()),
    }
}

fn kind(status: &Status) -> Kind {
    // Whatever was not sent by the coordinator was made here, from what broke on the way.
    let is_ours = status.source().is_some();
    match status.code() {
        Code::InvalidArgument | Code::NotFound | Code::OutOfRange => Kind::WrongUse,
        Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::AlreadyExists
        | Code::Aborted
        | Code::ResourceExhausted => Kind::Refused,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Kind::NotReachable,
        Code::Unknown | Code::Internal if is_ours => Kind::NotReachable,
        Code::Ok | Code::Unknown | Code::Internal | Code::Unimplemented | Code::DataLoss => {
            Kind::OurBug
        }
    }
}

fn text(kind: Kind, status: &Status) -> String {
    let message = status.message();
    match kind {
        Kind::NotReachable => match status.source() {
            Some(cause) => format!("the connection to the coordinator broke: {}", root(cause)),
            None if message.is_empty() => "the coordinator is not available".to_owned(),
            None => message.to_owned(),
        },
        Kind::OurBug => format!("the coordinator failed ({}): {message}", status.code()),
        Kind::RolloutFailed | Kind::WrongUse | Kind::Refused if message.is_empty() => {
            format!("the coordinator refused without a reason ({})", status.code())
        }
        Kind::RolloutFailed | Kind::WrongUse | Kind::Refused => message.to_owned(),
    }
}

/// Returns the cause below all others: what lies above says "transport error" in many ways.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

fn with_usual_hint(failure: Failure, code: Code) -> Failure {
    match (failure.kind(), code) {
        (_, Code::Unauthenticated) => failure.with_hint(
            "the token is not or no longer known: ask for one and type cutover login again",
        ),
        (Kind::NotReachable, _) => failure.with_hint(
            "see whether the coordinator runs and whether this machine reaches it; \
             applications keep running without it",
        ),
        (Kind::OurBug, _) => failure
            .with_hint("this is a bug in Cutover; the coordinator's log says more: report both"),
        (Kind::RolloutFailed | Kind::WrongUse | Kind::Refused, _) => failure,
    }
}

/// Turns a connection that did not come about into a failure.
pub(super) fn undialed(error: &DialError) -> Failure {
    let text = ErrorChain(error).to_string();
    match error {
        DialError::NotHttps { .. } => Failure::wrong_use(text),
        DialError::TlsCaMismatch { .. } | DialError::Certificate { .. } => Failure::refused(text)
            .with_hint(
                "if the coordinator was set up anew, type cutover login with its new --ca-hash",
            ),
        DialError::Resolve { .. }
        | DialError::Unreachable { .. }
        | DialError::TooSlow { .. }
        | DialError::Refused { .. }
        | DialError::Setup { .. } => Failure::new(Kind::NotReachable, text).with_hint(
            "see whether the coordinator runs and whether this machine reaches it; \
             applications keep running without it",
        ),
    }
}
