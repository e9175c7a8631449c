//! One HTTP/1.1 client that forgives nothing: whatever is not a whole, good answer in time is a
//! failure, and has a name.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::opening::{Opening, Stream};

/// How long one request may take, with its connection: far above what a swap may add, and above the
/// longest that a gate may hold it at a cutover (`deploy.hold`, a minute), so that its word is heard
/// on a machine that is busy too.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// The same where the request is held on purpose: longer than any test holds it.
const HELD_WITHIN: Duration = Duration::from_secs(240);

/// The largest answer that is taken, head and body. The tests' pages have some bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What is posted.
const BODY: &str = "a request that may be sent once only";

/// Why a request failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// Nobody accepted the connection.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection ended before the answer began.
    ClosedEarly,
    /// The connection ended in the middle of the answer.
    Short,
    /// Another status than 200.
    Status(u16),
    /// 503, and when to ask again.
    RetryLater,
    TimedOut,
    /// An answer that is not one, or that is not of this application.
    Strange(String),
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) body: String,
    /// Whether the server closes the connection.
    pub(super) is_last: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

/// Asks for `page`, such as `POST /held`, aside and with patience, and returns what comes.
pub fn ask_aside(address: SocketAddr, page: &str) -> JoinHandle<Result<String, Failure>> {
    let page = page.to_owned();
    thread::spawn(move || {
        let mut connection = Connection::patient(address, &Opening::default(), HELD_WITHIN)?;
        Ok(connection.ask(&page, false)?.body)
    })
}

/// Asks for `page` on a connection of its own.
///
/// # Errors
///
/// When there is no whole, good answer.
pub fn ask_once(address: SocketAddr, opening: &Opening, page: &str) -> Result<String, Failure> {
    Ok(Connection::open(address, opening)?.ask(page, false)?.body)
}

impl Connection {
    pub(super) fn open(address: SocketAddr, opening: &Opening) -> Result<Self, Failure> {
        Self::patient(address, opening, ANSWER_WITHIN)
    }

    fn patient(address: SocketAddr, opening: &Opening, within: Duration) -> Result<Self, Failure> {
        let stream = TcpStream::connect_timeout(&address, within).map_err(named)?;
        stream.set_nodelay(true).map_err(named)?;
        stream.set_read_timeout(Some(within)).map_err(named)?;
        stream.set_write_timeout(Some(within)).map_err(named)?;
        let stream = opening.begin(stream).map_err(named)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Asks for `page`, which is a method and a path; a POST has a body. `keeps` says whether the
    /// connection is to be used again.
    pub(super) fn ask(&mut self, page: &str, keeps: bool) -> Result<Page, Failure> {
        let after = if keeps { "keep-alive" } else { "close" };
        let body = if page.starts_with("POST ") { BODY } else { "" };
        let request = format!(
            "{page} HTTP/1.1\r\nhost: test\r\nconnection: {after}\r\ncontent-length: {}\r\n\r\n\
             {body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).map_err(named)?;
        let head_bytes = loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.receive()?;
        };
        let head = String::from_utf8_lossy(&self.received[..head_bytes]).into_owned();
        let strange = || Failure::Strange(head.clone());
        let status = head.get(9..12).and_then(|it| it.parse().ok()).ok_or_else(strange)?;
        match status {
            200 => {}
            503 if field(&head, "retry-after").is_some() => return Err(Failure::RetryLater),
            status => return Err(Failure::Status(status)),
        }
        let body_bytes: usize =
            field(&head, "content-length").and_then(|it| it.parse().ok()).ok_or_else(strange)?;
        while self.received.len() < head_bytes.saturating_add(body_bytes) {
            self.receive()?;
        }
        let whole = std::mem::take(&mut self.received);
        let body = String::from_utf8_lossy(&whole[head_bytes..]).into_owned();
        if body.len() != body_bytes {
            return Err(Failure::Strange(body));
        }
        let is_last = field(&head, "connection").is_some_and(|it| it.eq_ignore_ascii_case("close"));
        Ok(Page { body, is_last })
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let mut chunk = [0; 4096];
        let count = match self.stream.read(&mut chunk) {
            // Under TLS an end without a word: nothing more comes in either case.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            read => read.map_err(named)?,
        };
        match (count, self.received.len()) {
            (0, 0) => Err(Failure::ClosedEarly),
            (0, _) => Err(Failure::Short),
            (_, so_far) if so_far + count > ANSWER_BYTES_MAX => {
                Err(Failure::Strange(format!("more than {ANSWER_BYTES_MAX} bytes")))
            }
            (count, _) => {
                self.received.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn named(error: io::Error) -> Failure {
    let is_one_of = |kinds: &[ErrorKind]| kinds.contains(&error.kind());
    if is_one_of(&[ErrorKind::ConnectionRefused]) {
        Failure::Refused
    } else if is_one_of(&[ErrorKind::ConnectionReset, ErrorKind::BrokenPipe]) {
        Failure::Reset
    } else if is_one_of(&[ErrorKind::WouldBlock, ErrorKind::TimedOut]) {
        Failure::TimedOut
    } else {
        Failure::Strange(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;

    /// Starts a server that reads one request, says `says`, and goes.
    fn server(says: &'static str) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(says.as_bytes()).unwrap();
        });
        (address, server)
    }

    #[test]
    fn each_failure_has_its_name() {
        for (says, failure) in [
            ("", Failure::ClosedEarly),
            ("HTTP/1.1 200 OK\r\nconte", Failure::Short),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfour", Failure::Short),
            ("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", Failure::Status(503)),
            ("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n", Failure::RetryLater),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nfour",
                Failure::Strange("four".to_owned()),
            ),
        ] {
            let (address, server) = server(says);
            let heard = Connection::open(address, &Opening::default())
                .and_then(|mut it| it.ask("GET /", true));
            server.join().unwrap();
            assert_eq!(heard.unwrap_err(), failure, "{says}");
        }
    }

    #[test]
    fn a_whole_answer_is_good() {
        let (address, server) = server("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour");
        let page =
            Connection::open(address, &Opening::default()).unwrap().ask("GET /", true).unwrap();
        server.join().unwrap();

        assert_eq!((page.body.as_str(), page.is_last), ("four", false));
    }

    #[test]
    fn a_port_without_a_listener_refuses() {
        // Reserved since the first list of ports (tcpmux), and not given out by itself.
        let address = SocketAddr::from(([127, 0, 0, 1], 1));

        assert_eq!(Connection::open(address, &Opening::default()).unwrap_err(), Failure::Refused);
    }
}
