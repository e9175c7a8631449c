//! An HTTP/1.1 client that forgives nothing.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long one request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why a request failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// Nobody accepted.
    Refused,
    /// The connection ended, or was reset, before the whole answer was there.
    Broken,
    TimedOut,
    /// Another status than 200.
    Status(u16),
    /// An answer, and not the right one.
    Wrong,
}

impl Failure {
    pub(super) const KINDS: [&'static str; 5] =
        ["refused", "reset or EOF", "timed out", "status", "wrong answer"];

    pub(super) const fn kind(self) -> usize {
        match self {
            Self::Refused => 0,
            Self::Broken => 1,
            Self::TimedOut => 2,
            Self::Status(_) => 3,
            Self::Wrong => 4,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// The whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    /// The peer will close.
    pub(super) is_last: bool,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) body_bytes: usize,
    is_last: bool,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let opened = timeout(ANSWER_WITHIN, TcpStream::connect(address)).await;
        let stream = opened.map_err(|_| Failure::TimedOut)?.map_err(|_| Failure::Refused)?;
        stream.set_nodelay(true).map_err(|_| Failure::Broken)?;
        Ok(Self { stream, received: Vec::with_capacity(1024) })
    }

    /// Sends `request`, which is a head and its body, and waits for the answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        let asked = timeout(ANSWER_WITHIN, async {
            self.send(request).await?;
            let head = self.head().await?;
            while self.received.len() < head.body_bytes {
                self.fill().await?;
            }
            if self.received.len() > head.body_bytes {
                return Err(Failure::Wrong);
            }
            let body = self.received.clone();
            self.received.clear();
            Ok(Answer { body, is_last: head.is_last })
        });
        asked.await.unwrap_or(Err(Failure::TimedOut))
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).await.map_err(|_| Failure::Broken)
    }

    /// Reads the head of an answer, which must be 200.
    pub(super) async fn head(&mut self) -> Result<Head, Failure> {
        let end = loop {
            let end = self.received.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            self.fill().await?;
        };
        let head = parse(&self.received[..end])?;
        self.received.drain(..end);
        Ok(head)
    }

    /// Returns what has arrived of a body, at least a byte.
    pub(super) async fn piece(&mut self) -> Result<Vec<u8>, Failure> {
        if self.received.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.received))
    }

    async fn fill(&mut self) -> Result<(), Failure> {
        self.received.reserve(4096);
        match self.stream.read_buf(&mut self.received).await {
            Ok(0) | Err(_) => Err(Failure::Broken),
            Ok(_) => Ok(()),
        }
    }
}

fn parse(head: &[u8]) -> Result<Head, Failure> {
    let text = std::str::from_utf8(head).map_err(|_| Failure::Wrong)?;
    let status = text.get(9..12).and_then(|it| it.parse().ok()).ok_or(Failure::Wrong)?;
    if status != 200 {
        return Err(Failure::Status(status));
    }
    let mut found = Head { body_bytes: usize::MAX, is_last: false };
    for (name, value) in text.split("\r\n").filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            found.body_bytes = value.trim().parse().map_err(|_| Failure::Wrong)?;
        } else if name.eq_ignore_ascii_case("connection") {
            found.is_last = value.trim().eq_ignore_ascii_case("close");
        }
    }
    if found.body_bytes == usize::MAX {
        return Err(Failure::Wrong);
    }
    Ok(found)
}
