//! Refusals and failures as gRPC statuses: the only place that makes one.

use cutover_coordinator_core::{Refusal, RefusalKind};
use tonic::{Code, Status, metadata::MetadataMap};

use crate::engine::EngineGone;

/// The metadata key under which a status says what to do next.
const HINT: &str = "cutover-hint";

/// Turns a refusal into a status.
pub(super) fn refused(refusal: &Refusal) -> Status {
    let code = match refusal.kind {
        RefusalKind::Invalid => Code::InvalidArgument,
        RefusalKind::NotFound => Code::NotFound,
        RefusalKind::Exists => Code::AlreadyExists,
        RefusalKind::State => Code::FailedPrecondition,
        RefusalKind::Denied => Code::PermissionDenied,
    };
    with_hint(code, &refusal.text, &refusal.hint)
}

/// Makes a status that says what to do next.
pub(super) fn with_hint(code: Code, text: &str, hint: &str) -> Status {
    let mut metadata = MetadataMap::new();
    // Metadata is ASCII; a hint that is not is worth less than a status that arrives.
    let ascii: String =
        hint.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    if !ascii.is_empty()
        && let Ok(value) = ascii.parse()
    {
        metadata.insert(HINT, value);
    }
    Status::with_metadata(code, text, metadata)
}

/// The text of a request is no good.
pub(super) fn invalid(text: impl Into<String>) -> Status {
    Status::invalid_argument(text)
}

impl From<EngineGone> for Status {
    fn from(gone: EngineGone) -> Self {
        with_hint(Code::Unavailable, &gone.to_string(), "try again in a moment")
    }
}
