//! The gate's own answers: short, and of what is wrong.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;

use super::body::Answer;

/// Why a request gets no answer from an instance.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no instance takes requests at this moment; try again")]
    NobodyServes,
    #[error("requests wait for a change of version, and this one waited too long; try again")]
    HeldTooLong,
    #[error("requests wait for a change of version, and too many do already; try again")]
    TooManyHeld,
    #[error("no connection to the instance could be made; try again")]
    Unreachable,
    #[error("the connection to the instance broke before it answered")]
    Broken,
    #[error("the instance did not begin to answer in time")]
    TooSlow,
    #[error("the body of the request is too long")]
    TooLong,
    #[error("the request has no host, or its address is not understood")]
    Malformed,
    #[error("the method CONNECT is not for servers")]
    Connect,
}

impl Refusal {
    const fn status(self) -> StatusCode {
        match self {
            Self::NobodyServes | Self::HeldTooLong | Self::TooManyHeld => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unreachable | Self::Broken => StatusCode::BAD_GATEWAY,
            Self::TooSlow => StatusCode::GATEWAY_TIMEOUT,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    pub(super) fn response(self) -> Response<Answer> {
        let text = format!("cutover-gate: {self}\n");
        let mut response = Response::new(Answer::Own(Full::new(Bytes::from(text))));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            // A hold and a swap are over within seconds.
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
