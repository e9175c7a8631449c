//! One connection: requests in, answers out, in order.

use std::{
    io::{self, Read, Write},
    num::NonZeroU32,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use crate::{
    request::{After, HEAD_BYTES_MAX, Head, Method, Request, parse_head},
    request_log::RequestLog,
};

/// What the server answers with.
#[derive(Debug)]
pub(crate) struct Site {
    version: String,
    pid: u32,
    health: Health,
    /// /held is answered when this file is there.
    held_until: Option<PathBuf>,
    /// How often /healthz was asked for.
    checks: AtomicU32,
    /// Whether anything else ever was.
    was_asked: AtomicBool,
    faults: Faults,
    /// How many pages were asked for.
    pages: AtomicU32,
    /// Of everything else.
    log: Option<RequestLog>,
}

/// What /healthz says.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) enum Health {
    #[default]
    Good,
    Bad,
    /// Passes so often, fails so often, and so on.
    Flaps {
        each: NonZeroU32,
    },
    /// Passes so often. Whoever asks once more sees the process crash.
    Dies {
        after: u32,
    },
    /// Passes when this file is there.
    Waits {
        file: PathBuf,
    },
}

/// What is wrong with the pages.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Faults {
    /// One of so many is answered with 500.
    pub(crate) fails_each: Option<NonZeroU32>,
    /// How much longer each takes.
    pub(crate) slow_by: Duration,
}

/// Where its health is asked for.
const HEALTH: &str = "/healthz";

/// How often it is looked for the file that `/held` waits for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The longest that `/slow?ms=N` takes.
const SLOW_MAX: Duration = Duration::from_secs(10);

/// Serves requests until the client leaves, asks to close, or the server is stopping.
///
/// # Errors
///
/// Returns what reading or writing failed with; the connection is then of no more use.
pub(crate) fn serve(
    stream: &mut (impl Read + Write),
    site: &Site,
    stopping: &AtomicBool,
) -> io::Result<()> {
    let mut received = Vec::new();
    loop {
        let (request, head_bytes) = match parse_head(&received) {
            Head::Complete { request, head_bytes } => (request, head_bytes),
            Head::Refused(refusal) => {
                let body = format!("{}\n", refusal.status());
                return write_answer(stream, refusal.status(), &body, Method::Get, After::Close);
            }
            Head::Partial => {
                if read_more(stream, &mut received)? == 0 {
                    return Ok(());
                }
                continue;
            }
        };
        let whole = head_bytes + request.body_bytes;
        while received.len() < whole {
            if read_more(stream, &mut received)? == 0 {
                return Ok(());
            }
        }
        received.drain(..whole);
        let (status, body) = site.answer_logged(&request)?;
        // Read after the answer is made: a request that outlasts the stop order closes too.
        let after = if stopping.load(Ordering::SeqCst) { After::Close } else { request.after };
        write_answer(stream, status, &body, request.method, after)?;
        if after == After::Close {
            return Ok(());
        }
    }
}

impl Site {
    pub(crate) fn new(
        version: String,
        pid: u32,
        health: Health,
        held_until: Option<PathBuf>,
    ) -> Self {
        let (checks, was_asked) = (AtomicU32::new(0), AtomicBool::new(false));
        let (faults, pages) = (Faults::default(), AtomicU32::new(0));
        Self { version, pid, health, held_until, checks, was_asked, faults, pages, log: None }
    }

    /// Returns this with what is wrong with its pages.
    pub(crate) fn with_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// Returns this with what is asked for, but for checks of the health, noted in `log`.
    pub(crate) fn with_log(self, log: Option<RequestLog>) -> Self {
        Self { log, ..self }
    }

    /// Returns status and body, and notes when. A log that cannot be written proves nothing, so
    /// that its error is the request's.
    fn answer_logged(&self, request: &Request) -> io::Result<(&'static str, String)> {
        let log = self.log.as_ref().filter(|_| path_of(request) != HEALTH);
        let number = log.map(RequestLog::begin).transpose()?;
        let answer = self.answer(request);
        if let Some((log, number)) = log.zip(number) {
            log.end(number)?;
        }
        Ok(answer)
    }

    /// Returns status and body.
    fn answer(&self, request: &Request) -> (&'static str, String) {
        let path = path_of(request);
        if path != HEALTH {
            self.log_first_request(path);
        }
        let not_found = || ("404 Not Found", "not found\n".to_owned());
        if request.method == Method::Other {
            return ("405 Method Not Allowed", "only GET, HEAD and POST\n".to_owned());
        }
        match path {
            "/" => self.page(),
            HEALTH if self.check() => ("200 OK", "ok\n".to_owned()),
            HEALTH => ("503 Service Unavailable", "told to fail\n".to_owned()),
            "/slow" => {
                let ms = request.target.strip_prefix("/slow?ms=").and_then(|ms| ms.parse().ok());
                let Some(ms) = ms else { return not_found() };
                thread::sleep(Duration::from_millis(ms).min(SLOW_MAX));
                self.page()
            }
            "/held" => {
                let Some(file) = &self.held_until else { return not_found() };
                self.log("holds a request");
                while !file.exists() {
                    thread::sleep(LOOK_EVERY);
                }
                self.page()
            }
            _ => not_found(),
        }
    }

    fn page(&self) -> (&'static str, String) {
        let Faults { fails_each, slow_by } = self.faults;
        thread::sleep(slow_by);
        let nth = self.pages.fetch_add(1, Ordering::SeqCst);
        if fails_each.is_some_and(|each| nth % each == 0) {
            return ("500 Internal Server Error", "told to fail\n".to_owned());
        }
        ("200 OK", format!("web {} pid {}\n", self.version, self.pid))
    }

    /// Says in the log that clients come here: the proof that they did, or did not.
    fn log_first_request(&self, path: &str) {
        if self.was_asked.swap(true, Ordering::SeqCst) {
            return;
        }
        self.log(&format!("was asked for {path:?}"));
    }

    fn log(&self, what: &str) {
        // Nobody is left to tell when stdout is closed.
        drop(writeln!(io::stdout(), "web {} pid {} {what}", self.version, self.pid));
    }

    /// Returns whether this check of the health passes.
    fn check(&self) -> bool {
        let nth = self.checks.fetch_add(1, Ordering::SeqCst);
        match &self.health {
            Health::Good => true,
            Health::Bad => false,
            Health::Flaps { each } => (nth / *each).is_multiple_of(2),
            Health::Dies { after } if nth >= *after => std::process::abort(),
            Health::Dies { .. } => true,
            Health::Waits { file } => file.exists(),
        }
    }
}

fn path_of(request: &Request) -> &str {
    request.target.split('?').next().unwrap_or_default()
}

fn read_more(stream: &mut impl Read, received: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; HEAD_BYTES_MAX];
    let count = stream.read(&mut chunk)?;
    received.extend_from_slice(chunk.get(..count).unwrap_or_default());
    Ok(count)
}

fn write_answer(
    stream: &mut impl Write,
    status: &str,
    body: &str,
    method: Method,
    after: After,
) -> io::Result<()> {
    let connection = match after {
        After::KeepAlive => "keep-alive",
        After::Close => "close",
    };
    let shown = match method {
        Method::Head => "",
        Method::Get | Method::Post | Method::Other => body,
    };
    // One write, so that an answer is one packet.
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: {connection}\r\n\r\n{shown}",
        body.len()
    );
    stream.write_all(answer.as_bytes())?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that has sent all it will send.
    struct Client<'a> {
        sends: &'a [u8],
        receives: Vec<u8>,
    }

    impl Read for Client<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // A byte at a time: heads and bodies arrive in pieces.
            let count = buffer.len().min(1);
            self.sends.read(&mut buffer[..count])
        }
    }

    impl Write for Client<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.receives.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answers(sends: &str, health: Health, stopping: bool) -> String {
        let mut client = Client { sends: sends.as_bytes(), receives: Vec::new() };
        let site = Site::new("1.10".to_owned(), 7, health, None);
        serve(&mut client, &site, &AtomicBool::new(stopping)).unwrap();
        String::from_utf8(client.receives).unwrap()
    }

    #[test]
    fn requests_on_one_connection_are_answered_in_order() {
        let sends = "PUT / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbodyPOST / HTTP/1.1\r\n\
                     Content-Length: 4\r\n\r\nbodyGET / HTTP/1.1\r\n\r\n\
                     HEAD /healthz HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\nConnection: close\r\n\r\n\
                     GET / HTTP/1.1\r\n\r\n";
        let text = answers(sends, Health::Good, false);
        let statuses: Vec<&str> = text.lines().filter(|l| l.starts_with("HTTP/1.1 ")).collect();

        assert_eq!(
            statuses,
            [
                "HTTP/1.1 405 Method Not Allowed",
                "HTTP/1.1 200 OK",
                "HTTP/1.1 200 OK",
                "HTTP/1.1 200 OK",
                "HTTP/1.1 404 Not Found"
            ]
        );
        assert!(text.contains("\r\n\r\nweb 1.10 pid 7\n"), "{text}");
        assert!(!text.contains("ok\n"), "the answer to HEAD has no body: {text}");
    }

    #[test]
    fn health_fails_on_demand() {
        let sends = "GET /healthz HTTP/1.1\r\n\r\n";

        assert!(answers(sends, Health::Good, false).starts_with("HTTP/1.1 200 "));
        assert!(answers(sends, Health::Bad, false).starts_with("HTTP/1.1 503 "));
    }

    #[test]
    fn health_flaps_on_demand() {
        let each = NonZeroU32::new(2).unwrap();
        let text =
            answers(&"GET /healthz HTTP/1.1\r\n\r\n".repeat(5), Health::Flaps { each }, false);
        let statuses: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)).collect();

        assert_eq!(statuses, ["200", "200", "503", "503", "200"]);
    }

    #[test]
    fn pages_fail_on_demand_and_health_does_not() {
        let sends = "GET / HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n".repeat(3);
        let mut client = Client { sends: sends.as_bytes(), receives: Vec::new() };
        let faults = Faults { fails_each: NonZeroU32::new(2), slow_by: Duration::ZERO };
        let site = Site::new("1".to_owned(), 7, Health::Good, None).with_faults(faults);
        serve(&mut client, &site, &AtomicBool::new(false)).unwrap();

        let text = String::from_utf8(client.receives).unwrap();
        let statuses: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)).collect();
        assert_eq!(statuses, ["500", "200", "200", "200", "500", "200"]);
    }

    #[test]
    fn a_server_that_is_stopping_answers_once_more_and_closes() {
        let text = answers("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", Health::Good, true);

        assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 1);
        assert!(text.contains("Connection: close"));
    }

    #[test]
    fn a_client_that_leaves_in_the_middle_gets_nothing() {
        assert_eq!(answers("GET / HT", Health::Good, false), "");
        assert_eq!(
            answers("GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx", Health::Good, false),
            ""
        );
    }
}
