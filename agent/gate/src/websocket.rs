//! WebSockets on their way: passed on as they are, and ended between two frames when they must end.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    sync::watch,
    time::timeout,
};
use uuid::Uuid;

use crate::live::Counters;

/// How much of one direction is in memory at once.
const BUFFER_BYTES: usize = 16 * 1024;

/// How long both ends may take to close when they were told to: one answer over any network.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Going away (RFC 6455, 7.4.1): clients connect again.
const GOING_AWAY: u16 = 1001;

const REASON: &[u8] = b"this server goes away; connect again";

/// The longest head of a frame: two bytes, a length of eight, a mask of four.
const HEAD_BYTES_MAX: usize = 14;

const OPCODE_CLOSE: u8 = 8;

/// Where the bytes of one direction are among their frames.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    /// What is left of the payload whose head is over.
    left: u64,
    /// A frame that closes was passed on.
    has_closed: bool,
}

impl Frames {
    const fn is_between(&self) -> bool {
        self.head_bytes == 0 && self.left == 0
    }

    /// Takes note of bytes that are passed on, all or those up to the end of a frame. Returns how many.
    fn pass(&mut self, bytes: &[u8], ends_with_frame: bool) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let rest = (bytes.len() - at) as u64;
                let taken = self.left.min(rest);
                self.left -= taken;
                at += usize::try_from(taken).unwrap_or(bytes.len());
            } else {
                self.head[self.head_bytes] = bytes[at];
                self.head_bytes += 1;
                at += 1;
                self.end_head();
            }
            if ends_with_frame && self.is_between() {
                break;
            }
        }
        at
    }

    /// Ends the head, if it is whole (RFC 6455, 5.2).
    fn end_head(&mut self) {
        let [first, second, extended @ ..] = &self.head;
        let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
        let (length_bytes, length) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes([extended[0], extended[1]]))),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&extended[..8]);
                (8, u64::from_be_bytes(length))
            }
            short => (0, u64::from(short)),
        };
        if self.head_bytes == 2 + length_bytes + mask_bytes {
            self.left = length;
            self.has_closed |= first & 0x0f == OPCODE_CLOSE;
            self.head_bytes = 0;
            self.head = [0; HEAD_BYTES_MAX];
        }
    }
}

/// Returns a frame that closes: masked, as a client sends it, or not, as a server does.
fn close(is_masked: bool) -> Vec<u8> {
    let payload = [&GOING_AWAY.to_be_bytes(), REASON].concat();
    let mut frame = vec![0x80 | OPCODE_CLOSE, u8::try_from(payload.len()).unwrap_or(0)];
    if is_masked {
        frame[1] |= 0x80;
        let mask = &Uuid::new_v4().into_bytes()[..4];
        frame.extend_from_slice(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        frame.extend_from_slice(&payload);
    }
    frame
}

/// Carries frames between a client and an instance until one of them ends, or `ends` says that they
/// must. Then both are told so, each at the end of its frame.
pub(crate) async fn carry(
    client: impl AsyncRead + AsyncWrite,
    instance: impl AsyncRead + AsyncWrite,
    counters: &Counters,
    mut ends: watch::Receiver<bool>,
) -> io::Result<()> {
    let (from_client, to_client) = split(client);
    let (from_instance, to_instance) = split(instance);
    let (up, down) = (ends.clone(), ends.clone());
    let carried = async {
        tokio::try_join!(
            pass(from_client, to_instance, true, |bytes| counters.sent(bytes), up),
            pass(from_instance, to_client, false, |bytes| counters.received(bytes), down),
        )
    };
    tokio::pin!(carried);
    tokio::select! {
        carried = carried.as_mut() => return carried.map(drop),
        () = told(&mut ends) => {}
    }
    // Who does not close although it was told to is cut.
    timeout(CLOSE_WITHIN, carried).await.map_or(Ok(()), |carried| carried.map(drop))
}

/// Ends when they must end, and never when nobody is there to say so.
pub(crate) async fn told(ends: &mut watch::Receiver<bool>) {
    if ends.wait_for(|ends| *ends).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    is_masked: bool,
    count: impl Fn(usize),
    mut ends: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut frames = Frames::default();
    let mut must_end = false;
    loop {
        if must_end && frames.is_between() {
            if !frames.has_closed {
                to.write_all(&close(is_masked)).await?;
                to.flush().await?;
            }
            break;
        }
        let read = tokio::select! {
            biased;
            () = told(&mut ends), if !must_end => {
                must_end = true;
                continue;
            }
            read = from.read(&mut buffer) => read?,
        };
        if read == 0 {
            return to.shutdown().await;
        }
        let passed = frames.pass(&buffer[..read], must_end);
        to.write_all(&buffer[..passed]).await?;
        to.flush().await?;
        count(passed);
    }
    // What is said after the close is for nobody.
    while from.read(&mut buffer).await? > 0 {}
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, is_masked: bool, length: usize) -> Vec<u8> {
        let mask_bit = if is_masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match length {
            0..=125 => frame.push(mask_bit | u8::try_from(length).unwrap()),
            126..=0xffff => {
                frame.push(mask_bit | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask_bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(vec![9; if is_masked { 4 } else { 0 }]);
        frame.extend(vec![7; length]);
        frame
    }

    #[test]
    fn the_end_of_a_frame_is_found_wherever_its_bytes_are_cut() {
        for length in [0, 1, 125, 126, 300, 65_535, 65_536] {
            for is_masked in [false, true] {
                let whole = frame(2, is_masked, length);
                let two = [whole.clone(), frame(9, is_masked, 3)].concat();
                for piece in [1, 2, 3, 7, 1_000, two.len()] {
                    let mut frames = Frames::default();
                    let mut seen = 0;
                    for bytes in two.chunks(piece) {
                        if seen < whole.len() {
                            assert!(seen == 0 || !frames.is_between(), "{length} {piece} {seen}");
                            seen += frames.pass(bytes, true);
                        }
                    }
                    assert_eq!(seen, whole.len(), "{length} {piece}");
                    assert!(frames.is_between() && !frames.has_closed);
                    assert_eq!(frames.pass(&two, false), two.len());
                    assert!(frames.is_between() && !frames.has_closed);
                }
            }
        }
    }

    #[test]
    fn a_close_of_its_own_is_a_whole_frame_and_masked_for_a_server() {
        for is_masked in [false, true] {
            let frame = close(is_masked);
            let mut frames = Frames::default();
            assert_eq!(frames.pass(&frame, false), frame.len());
            assert!(frames.is_between() && frames.has_closed);
            let head = if is_masked { 6 } else { 2 };
            let mask = if is_masked { frame[2..6].to_vec() } else { vec![0; 4] };
            let payload: Vec<u8> =
                frame[head..].iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(payload[..2], [0x03, 0xe9]);
        }
    }
}
