//! Reads the head of an HTTP/1.1 request from bytes; no I/O.

/// The largest head, in bytes: what nginx and Apache take in their first buffers.
pub(crate) const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The largest body that is read away, in bytes. Nothing here needs one.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// A request, as far as anybody here looks at it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) after: After,
    /// How many bytes of body follow the head.
    pub(crate) body_bytes: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Other,
}

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum After {
    KeepAlive,
    Close,
}

/// What the bytes hold so far.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Head {
    /// The head does not end yet.
    Partial,
    /// The head is complete and this long.
    Complete { request: Request, head_bytes: usize },
    /// No answer but this status can be given.
    Refused(Refusal),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    BadRequest,
    BodyTooLarge,
    HeadTooLarge,
    EncodingUnknown,
    VersionUnknown,
}

impl Refusal {
    /// Returns the status line's end.
    pub(crate) const fn status(self) -> &'static str {
        match self {
            Self::BadRequest => "400 Bad Request",
            Self::BodyTooLarge => "413 Content Too Large",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::EncodingUnknown => "501 Not Implemented",
            Self::VersionUnknown => "505 HTTP Version Not Supported",
        }
    }
}

/// Parses the head at the beginning of `bytes`.
pub(crate) fn parse_head(bytes: &[u8]) -> Head {
    let within = bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = within.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() < HEAD_BYTES_MAX {
            Head::Partial
        } else {
            Head::Refused(Refusal::HeadTooLarge)
        };
    };
    match within.get(..end).map(parse_lines) {
        Some(Ok(request)) => Head::Complete { request, head_bytes: end + 4 },
        Some(Err(refusal)) => Head::Refused(refusal),
        None => Head::Refused(Refusal::BadRequest),
    }
}

fn parse_lines(head: &[u8]) -> Result<Request, Refusal> {
    let is_text =
        head.iter().all(|b| b.is_ascii() && (!b.is_ascii_control() || b"\r\n\t".contains(b)));
    let head = std::str::from_utf8(head).ok().filter(|_| is_text).ok_or(Refusal::BadRequest)?;
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else { return Err(Refusal::BadRequest) };
    if method.is_empty() || !target.starts_with('/') {
        return Err(Refusal::BadRequest);
    }
    let mut after = match version {
        "HTTP/1.1" => After::KeepAlive,
        "HTTP/1.0" => After::Close,
        _ if version.starts_with("HTTP/") => return Err(Refusal::VersionUnknown),
        _ => return Err(Refusal::BadRequest),
    };
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Refusal::BadRequest)?;
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
        if !is_name || line.contains(['\r', '\n']) {
            return Err(Refusal::BadRequest);
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "connection" => after = after_of(value, after),
            // Two lengths, or a length beside an encoding, is how requests are smuggled.
            "content-length" if length.is_some() => return Err(Refusal::BadRequest),
            "content-length" => length = Some(length_of(value)?),
            "transfer-encoding" => return Err(Refusal::EncodingUnknown),
            _ => {}
        }
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        _ => Method::Other,
    };
    Ok(Request { method, target: target.to_owned(), after, body_bytes: length.unwrap_or(0) })
}

fn after_of(value: &str, by_version: After) -> After {
    let has = |word: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
    if has("close") {
        After::Close
    } else if has("keep-alive") {
        After::KeepAlive
    } else {
        by_version
    }
}

fn length_of(value: &str) -> Result<usize, Refusal> {
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refusal::BadRequest);
    }
    let length = value.parse().map_err(|_| Refusal::BodyTooLarge)?;
    if length > BODY_BYTES_MAX { Err(Refusal::BodyTooLarge) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Request {
        match parse_head(text.as_bytes()) {
            Head::Complete { request, head_bytes } => {
                assert_eq!(head_bytes, text.len());
                request
            }
            other @ (Head::Partial | Head::Refused(_)) => panic!("{text:?}: {other:?}"),
        }
    }

    fn refusal(text: &str) -> Refusal {
        match parse_head(text.as_bytes()) {
            Head::Refused(refusal) => refusal,
            other @ (Head::Partial | Head::Complete { .. }) => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn a_request_is_read_up_to_its_empty_line() {
        let text = "GET /healthz?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";

        assert_eq!(
            request(text),
            Request {
                method: Method::Get,
                target: "/healthz?x=1".to_owned(),
                after: After::KeepAlive,
                body_bytes: 3,
            }
        );
        for end in 0..text.len() {
            assert_eq!(parse_head(&text.as_bytes()[..end]), Head::Partial, "{end}");
        }
    }

    #[test]
    fn the_connection_stays_unless_version_or_header_say_otherwise() {
        for (head, after) in [
            ("GET / HTTP/1.1\r\n\r\n", After::KeepAlive),
            ("GET / HTTP/1.0\r\n\r\n", After::Close),
            ("GET / HTTP/1.1\r\nconnection: Close\r\n\r\n", After::Close),
            ("GET / HTTP/1.0\r\nConnection: foo, keep-alive\r\n\r\n", After::KeepAlive),
        ] {
            assert_eq!(request(head).after, after, "{head:?}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (head, status) in [
            ("\r\n\r\n", "400"),
            ("GET /\r\n\r\n", "400"),
            ("GET  / HTTP/1.1\r\n\r\n", "400"),
            ("GET http://a/ HTTP/1.1\r\n\r\n", "400"),
            ("GET / FTP/1.1\r\n\r\n", "400"),
            ("GET / HTTP/2.0\r\n\r\n", "505"),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nName : x\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nA: x\nB: y\r\n\r\n", "400"),
            ("GET /\0 HTTP/1.1\r\n\r\n", "400"),
            ("GET /ä HTTP/1.1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", "413"),
            ("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", "413"),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "501"),
        ] {
            assert!(refusal(head).status().starts_with(status), "{head:?}: {:?}", refusal(head));
        }
    }

    #[test]
    fn a_head_has_a_largest_size() {
        let endless = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(refusal(&endless), Refusal::HeadTooLarge);

        // The end lies behind the limit.
        assert_eq!(refusal(&format!("{endless}\r\n\r\n")), Refusal::HeadTooLarge);
    }
}
