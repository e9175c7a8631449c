//! The gate's own answers: short, and of what is wrong.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;

use super::{body::Answer, head::REFUSED};

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

/// Whether an instance can have heard of a request that another gate has given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeardBy {
    Nobody,
    Somebody,
}

impl HeardBy {
    const fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Nobody => "unsent",
            Self::Somebody => "broken",
        })
    }

    /// Returns what another gate says by its answer. None: it is an instance's.
    pub(super) fn said(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(REFUSED)?;
        [Self::Nobody, Self::Somebody].into_iter().find(|heard| heard.value() == *value)
    }
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

    /// Returns the answer to another gate, which asks elsewhere where that is as good.
    pub(super) fn response_to_gate(self) -> Response<Answer> {
        let mut response = self.response();
        let heard = match self {
            // No instance has seen anything of it.
            Self::NobodyServes | Self::Unreachable => HeardBy::Nobody,
            Self::Broken => HeardBy::Somebody,
            Self::HeldTooLong
            | Self::TooManyHeld
            | Self::TooSlow
            | Self::TooLong
            | Self::Malformed
            | Self::Connect => return response,
        };
        response.headers_mut().insert(REFUSED, heard.value());
        response
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
