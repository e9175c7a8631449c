//! The instance behind the proxies: `cutover-bench instance ADDRESS LETTER`, a process that names
//! its version in the first byte of each answer, and ends at once when it is told to.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{FileType, fstat},
    process::{Pid, Signal, kill_process},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{listens, websocket};

/// The length of the answer to `GET /`.
pub(super) const SMALL_BYTES: usize = 32;

/// How much of a long body is written at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// A running instance. Ended when it is dropped.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) address: SocketAddr,
    pub(super) letter: u8,
    child: Child,
}

impl Instance {
    /// Starts one, and waits until it listens.
    pub(super) async fn start(address: SocketAddr, letter: u8) -> Result<Self> {
        let child = spawn(address, letter)?;
        let instance = Self { address, letter, child };
        listens("an instance", address).await?;
        Ok(instance)
    }

    /// Asks it to end, waits until it has, and starts it again.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.stop();
        self.child = spawn(self.address, self.letter)?;
        listens("an instance", self.address).await
    }

    fn stop(&mut self) {
        // Fails only when it has ended already.
        let _asked = kill_process(Pid::from_child(&self.child), Signal::TERM);
        drop(self.child.wait());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(address: SocketAddr, letter: u8) -> Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["instance", &address.to_string(), &char::from(letter).to_string()])
        // It ends when this process does, however that ends.
        .stdin(Stdio::piped())
        .spawn()
        .context("an instance can be started")
}

/// Is an instance: serves for ever, or until nobody holds the pipe that is its stdin.
///
/// # Errors
///
/// When it cannot listen.
pub fn run(address: SocketAddr, letter: u8) -> Result<()> {
    // As a release of a host it has a stdin that nobody holds.
    if FileType::from_raw_mode(fstat(io::stdin())?.st_mode) == FileType::Fifo {
        thread::spawn(|| {
            drop(io::stdin().read_to_end(&mut Vec::new()));
            std::process::exit(0);
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A connection that breaks is its client's affair.
            tokio::spawn(async move { drop(serve(stream, letter).await) });
        }
    })
}

/// What a request asks for.
struct Asked {
    head_bytes: usize,
    body_bytes: u64,
    /// How many bytes it wants; none for those of a small answer.
    wants: Option<u64>,
    is_post: bool,
    websocket_key: Option<String>,
}

async fn serve(mut stream: TcpStream, letter: u8) -> io::Result<()> {
    let mut received = Vec::with_capacity(PIECE_BYTES);
    loop {
        let asked = loop {
            if let Some(asked) = parse(&received) {
                break asked;
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        };
        received.drain(..asked.head_bytes);
        if let Some(key) = asked.websocket_key {
            let head = websocket::accept(&key, letter);
            stream.write_all(head.as_bytes()).await?;
            return websocket::echo(stream, received).await;
        }
        read_away(&mut stream, &mut received, asked.body_bytes).await?;
        match asked.wants {
            Some(bytes) => write_long(&mut stream, letter, bytes).await?,
            None if asked.is_post => {
                let body = format!("{}{}", char::from(letter), asked.body_bytes);
                write_small(&mut stream, body.as_bytes()).await?;
            }
            None => write_small(&mut stream, &[letter; SMALL_BYTES]).await?,
        }
    }
}

fn parse(received: &[u8]) -> Option<Asked> {
    let head_bytes = received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&received[..head_bytes]).ok()?;
    let mut lines = head.split("\r\n");
    let first = lines.next()?;
    let mut asked = Asked {
        head_bytes,
        body_bytes: 0,
        wants: first.split('/').nth(2).and_then(|rest| rest.split(' ').next()?.parse().ok()),
        is_post: first.starts_with("POST"),
        websocket_key: None,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            asked.body_bytes = value.trim().parse().ok()?;
        } else if name.eq_ignore_ascii_case("sec-websocket-key") {
            asked.websocket_key = Some(value.trim().to_owned());
        }
    }
    Some(asked)
}

async fn read_away(stream: &mut TcpStream, received: &mut Vec<u8>, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    loop {
        let here = received.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        received.drain(..here);
        left -= here as u64;
        if left == 0 {
            return Ok(());
        }
        if stream.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn write_small(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    stream.write_all(&answer).await
}

async fn write_long(stream: &mut TcpStream, letter: u8, bytes: u64) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let piece = [letter; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        stream.write_all(&piece[..count]).await?;
        left -= count as u64;
    }
    Ok(())
}
