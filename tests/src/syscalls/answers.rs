//! Answers: who served a host's application, moment by moment, as its users saw it.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often each host is asked: a replacement in place takes some 50 ms.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// How long an answer may take. A machine that is busy is not an application that is down.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What one question led to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// `web VERSION pid PID`.
    From { version: String, pid: String },
    /// Nobody listens.
    Refused,
    /// It broke off, or came too late: an application that is about to end may do so.
    Unclear,
}

/// A stretch of time with one answer.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) answer: Answer,
    pub(super) from: Instant,
    pub(super) until: Instant,
}

/// Asks one host without end.
#[derive(Debug)]
pub(super) struct Asker {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Stretch>>,
}

impl Asker {
    pub(super) fn start(address: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let is_over = is_over.clone();
            move || {
                let mut seen: Vec<Stretch> = Vec::new();
                loop {
                    // One is asked after the end: on a busy machine the host may not have been
                    // asked since it was replaced.
                    let is_last = is_over.load(Ordering::Relaxed);
                    let from = Instant::now();
                    let answer = ask(address);
                    let until = Instant::now();
                    match seen.last_mut() {
                        Some(last) if last.answer == answer => last.until = until,
                        Some(_) | None => seen.push(Stretch { answer, from, until }),
                    }
                    if is_last {
                        return seen;
                    }
                    thread::sleep(ASK_EVERY);
                }
            }
        });
        Self { is_over, thread }
    }

    /// Returns what was answered, without what was unclear.
    pub(super) fn end(self) -> Vec<Stretch> {
        self.is_over.store(true, Ordering::Relaxed);
        let seen = self.thread.join().expect("an asker does not panic");
        let mut clear: Vec<Stretch> = Vec::new();
        for stretch in seen.into_iter().filter(|stretch| stretch.answer != Answer::Unclear) {
            match clear.last_mut() {
                Some(last) if last.answer == stretch.answer => last.until = stretch.until,
                Some(_) | None => clear.push(stretch),
            }
        }
        clear
    }
}

fn ask(address: SocketAddr) -> Answer {
    match exchange(address) {
        Ok(text) => {
            let body = text.rsplit("\r\n\r\n").next().unwrap_or_default();
            match body.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["web", version, "pid", pid] => {
                    Answer::From { version: (*version).to_owned(), pid: (*pid).to_owned() }
                }
                _ => Answer::Unclear,
            }
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Answer::Refused,
        Err(_) => Answer::Unclear,
    }
}

fn exchange(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.until.duration_since(self.from).as_millis();
        match &self.answer {
            Answer::From { version, pid } => write!(f, "{version} (pid {pid}) {length} ms"),
            Answer::Refused => write!(f, "nobody {length} ms"),
            Answer::Unclear => write!(f, "unclear {length} ms"),
        }
    }
}
