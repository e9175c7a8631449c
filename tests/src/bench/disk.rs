//! The floor: what the disk and the loopback take when nothing else is done.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Size of one appended record and of one message: about what an event has.
const RECORD_BYTES: usize = 200;

/// Something to append to, and somebody who answers.
#[derive(Debug)]
pub(super) struct Floor {
    file: File,
    stream: TcpStream,
}

/// What one append and one round trip took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) fdatasync: Duration,
    pub(super) round_trip: Duration,
}

impl Floor {
    /// Makes a file in `folder`, and a connection over the loopback.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let file = File::create(folder.join("floor"))?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        let (mut peer, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        peer.set_nodelay(true)?;
        // Ends when the other end of the connection is dropped.
        thread::spawn(move || {
            let mut record = [0; RECORD_BYTES];
            while peer.read_exact(&mut record).is_ok() && peer.write_all(&record).is_ok() {}
        });
        Ok(Self { file, stream })
    }

    /// Appends and syncs, then asks and waits for the answer.
    pub(super) fn take(&mut self) -> io::Result<Taken> {
        let mut record = [7; RECORD_BYTES];
        let begun = Instant::now();
        self.file.write_all(&record)?;
        self.file.sync_data()?;
        let synced = Instant::now();
        self.stream.write_all(&record)?;
        self.stream.read_exact(&mut record)?;
        Ok(Taken { fdatasync: synced - begun, round_trip: synced.elapsed() })
    }
}
