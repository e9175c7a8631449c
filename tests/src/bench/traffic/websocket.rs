//! As much of the WebSocket protocol (RFC 6455) as both ends of an echo need: short frames only.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PONG: u8 = 0x8a;
const PING: u8 = 0x89;

/// The key of every client here, and what RFC 6455 (section 1.3) makes of it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The longest payload whose length fits the second byte of a frame.
const PAYLOAD_BYTES_MAX: usize = 125;

/// Returns the answer to a handshake.
pub(super) fn accept(key: &str, letter: u8) -> String {
    let accept = if key == KEY { ACCEPT } else { "unknown" };
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: {accept}\r\nx-version: {}\r\n\r\n",
        char::from(letter)
    )
}

/// Says everything back, until the peer closes.
pub(super) async fn echo(stream: TcpStream, received: Vec<u8>) -> io::Result<()> {
    let mut socket = Socket { stream, received, masks: false };
    loop {
        match socket.receive().await? {
            Frame::Text(text) => socket.send(TEXT, &text).await?,
            Frame::Close => return socket.send(CLOSE, &[]).await,
        }
    }
}

/// What was received.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Frame {
    Text(Vec<u8>),
    Close,
}

/// One end.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    received: Vec<u8>,
    masks: bool,
}

impl Socket {
    /// Connects to `address`; returns the letter of who answered, too.
    pub(super) async fn connect(address: SocketAddr) -> io::Result<(Self, u8)> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut socket = Self { stream, received: Vec::new(), masks: true };
        let head = format!(
            "GET /socket HTTP/1.1\r\nhost: bench\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
        );
        socket.stream.write_all(head.as_bytes()).await?;
        let end = loop {
            let end = socket.received.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            socket.fill().await?;
        };
        let head = String::from_utf8_lossy(&socket.received[..end]).to_lowercase();
        let letter = head.split("x-version: ").nth(1).and_then(|rest| rest.bytes().next());
        match letter {
            Some(letter) if head.starts_with("http/1.1 101") => {
                socket.received.drain(..end);
                Ok((socket, letter.to_ascii_uppercase()))
            }
            Some(_) | None => Err(io::Error::other(format!("no websocket: {head}"))),
        }
    }

    pub(super) async fn say(&mut self, text: &[u8]) -> io::Result<()> {
        self.send(TEXT, text).await
    }

    /// Answers a close.
    pub(super) async fn say_goodbye(&mut self) -> io::Result<()> {
        self.send(CLOSE, &[]).await
    }

    pub(super) async fn receive(&mut self) -> io::Result<Frame> {
        loop {
            let Some((kind, payload)) = self.next_frame() else {
                self.fill().await?;
                continue;
            };
            match kind {
                TEXT => return Ok(Frame::Text(payload)),
                CLOSE => return Ok(Frame::Close),
                PING => self.send(PONG, &payload).await?,
                PONG => {}
                _ => return Err(io::Error::other(format!("a frame of kind {kind:#x}"))),
            }
        }
    }

    fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (kind, second) = (*self.received.first()?, *self.received.get(1)?);
        let length = usize::from(second & 0x7f);
        let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
        let payload = self.received.get(2 + mask_bytes..2 + mask_bytes + length)?;
        let mask = &self.received[2..2 + mask_bytes];
        let bytes = payload.iter().enumerate();
        let plain = bytes.map(|(at, byte)| byte ^ mask.get(at % 4).copied().unwrap_or(0)).collect();
        self.received.drain(..2 + mask_bytes + length);
        Some((kind, plain))
    }

    async fn send(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let length = u8::try_from(payload.len().min(PAYLOAD_BYTES_MAX)).unwrap_or(0);
        let mut frame = vec![kind];
        if self.masks {
            // Nothing here reads it as anything else than bytes: any mask is as good.
            let mask = [0x37, 0xfa, 0x21, 0x3d];
            frame.push(length | 0x80);
            frame.extend(mask);
            frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        } else {
            frame.push(length);
            frame.extend(payload);
        }
        self.stream.write_all(&frame).await
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}
