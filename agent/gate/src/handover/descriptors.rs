//! Open files, from one process to another.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

/// How many travel with one byte; Linux allows 253.
const AT_ONCE: usize = 64;

/// The bytes that they travel with: others come, or these are the last ones.
const MORE: u8 = 1;
const LAST: u8 = 2;

/// What came.
pub(super) enum Received {
    Descriptors(Vec<OwnedFd>),
    /// Something else, which begins with this byte.
    Else(u8),
}

pub(super) fn send(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut chunks = descriptors.chunks(AT_ONCE).peekable();
    while let Some(chunk) = chunks.next() {
        let mark = [if chunks.peek().is_some() { MORE } else { LAST }];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(AT_ONCE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(chunk)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(stream, &[IoSlice::new(&mark)], &mut ancillary, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

pub(super) fn receive(stream: &UnixStream) -> io::Result<Received> {
    let mut received = Vec::new();
    loop {
        let mut mark = [0];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(AT_ONCE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        // One byte at a time: what travels with the next one is not taken with it.
        let message = recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut mark)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                received.extend(rights);
            }
        }
        match mark[0] {
            MORE => {}
            LAST => return Ok(Received::Descriptors(received)),
            other => return Ok(Received::Else(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::fd::AsFd as _,
    };

    use super::*;

    #[test]
    fn as_many_as_there_may_be_arrive_in_their_order() {
        let (one, mut other) = UnixStream::pair().unwrap();
        let pairs: Vec<_> = (0..300).map(|_| UnixStream::pair().unwrap()).collect();
        let sent: Vec<BorrowedFd<'_>> = pairs.iter().map(|(end, _)| end.as_fd()).collect();

        send(&one, &sent).unwrap();
        (&one).write_all(b"rest").unwrap();

        let Received::Descriptors(received) = receive(&other).unwrap() else {
            panic!("descriptors were sent");
        };
        assert_eq!(received.len(), sent.len());
        for (number, (end, (_, kept))) in
            (0..=u8::MAX).cycle().zip(received.into_iter().zip(&pairs))
        {
            UnixStream::from(end).write_all(&[number]).unwrap();
            let mut heard = [0];
            { kept }.read_exact(&mut heard).unwrap();
            assert_eq!(heard, [number]);
        }
        let mut rest = [0; 4];
        other.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"rest");
    }
}
