//! Waits for the end of a process that need not be a child.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Tells when the process behind a pidfd ended: the descriptor becomes readable then, and stays
/// so (pidfd_open(2)).
#[derive(Debug)]
pub(super) struct EndWatch(AsyncFd<OwnedFd>);

impl EndWatch {
    #[expect(
        deprecated,
        reason = "its replacement is unsafe for the sake of types that only claim to own their \
                  descriptor; an OwnedFd does own it (tokio pull request 8587)"
    )]
    pub(super) fn new(pidfd: OwnedFd) -> io::Result<Self> {
        AsyncFd::with_interest(pidfd, Interest::READABLE).map(Self)
    }

    /// Returns once the process ended.
    pub(super) async fn ended(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }
}
