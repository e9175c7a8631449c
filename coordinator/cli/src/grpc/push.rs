//! Sending a release: how much is there already, then the rest in chunks.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cutover_proto::v1 as pb;
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::{
    client::{Coordinator, request, unary},
    orders::ReleaseOffer,
    status::failure,
};
use crate::failure::{Failure, Kind};

/// How much is sent in one message, in bytes.
pub const UPLOAD_CHUNK_BYTES: usize = 256 * 1024;

/// How many chunks wait in memory: enough to read ahead of the network.
const CHUNKS_WAITING: usize = 4;

/// How long an upload may stand still. After its last byte the coordinator reads the whole
/// archive once more and waits for its disk: at 100 MB/s that is 6 GB.
const STALL_MAX: Duration = Duration::from_secs(60);

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// What the coordinator answers to an offer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Offered {
    /// It has the release, with this very content.
    AlreadyThere,
    /// It wants the archive from `offset` on.
    Wanted { upload: String, offset: u64 },
}

impl Coordinator {
    /// Offers a release.
    ///
    /// # Errors
    ///
    /// If the coordinator refuses it: another content under this version, a broken manifest.
    pub async fn offer(&self, offer: &ReleaseOffer) -> Result<Offered, Failure> {
        let mut client = self.client.clone();
        let pb::BeginPushResponse { complete, offset, upload } =
            unary(client.begin_push(request(offer.to_pb()))).await?;
        if complete {
            return Ok(Offered::AlreadyThere);
        }
        if offset > offer.archive_size_bytes {
            let error = format!(
                "the coordinator says that it has {offset} bytes of an archive of {}",
                offer.archive_size_bytes
            );
            return Err(Failure::new(Kind::OurBug, error));
        }
        Ok(Offered::Wanted { upload, offset })
    }

    /// Sends `archive` from `offset` to its end, and tells how many bytes are on their way.
    ///
    /// # Errors
    ///
    /// If the connection breaks or stands still, the file cannot be read, or the coordinator
    /// refuses what arrived.
    pub async fn upload(
        &self,
        upload: &str,
        archive: Arc<File>,
        offset: u64,
        mut tell: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let (chunks, waiting) = mpsc::channel(CHUNKS_WAITING);
        let sent = Arc::new(AtomicU64::new(offset));
        let start = pb::PushStart { upload: upload.to_owned(), offset };
        let reader = spawn_blocking({
            let sent = sent.clone();
            move || read_chunks(&archive, start, &chunks, &sent)
        });
        let mut client = self.client.clone();
        let answer = {
            let mut call = std::pin::pin!(client.push(Request::new(ReceiverStream::new(waiting))));
            let mut ticks = interval(TELL_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut last = (sent.load(Ordering::Relaxed), Instant::now());
            loop {
                tokio::select! {
                    answer = &mut call => break answer.map_err(|status| failure(&status)),
                    _ = ticks.tick() => {
                        let sent = sent.load(Ordering::Relaxed);
                        tell(sent);
                        if sent != last.0 {
                            last = (sent, Instant::now());
                        } else if last.1.elapsed() > STALL_MAX {
                            break Err(stalled());
                        }
                    }
                }
            }
        };
        // A file that could not be read is the cause, whatever the coordinator made of its half.
        match reader.await {
            Ok(Ok(())) => answer.map(drop),
            Ok(Err(error)) => {
                let error = format!("the packed archive could not be read back: {error}");
                Err(Failure::refused(error))
            }
            Err(panic) => Err(Failure::of(Kind::OurBug, &panic)),
        }
    }
}

fn stalled() -> Failure {
    let error = format!("the upload did not get on for {} s", STALL_MAX.as_secs());
    Failure::new(Kind::NotReachable, error)
}

/// Sends the file in chunks until its end, or until nobody takes them.
fn read_chunks(
    archive: &File,
    start: pb::PushStart,
    chunks: &mpsc::Sender<pb::PushRequest>,
    sent: &AtomicU64,
) -> io::Result<()> {
    use pb::push_request::Kind as Push;

    let mut offset = start.offset;
    let mut next = Push::Start(start);
    loop {
        if chunks.blocking_send(pb::PushRequest { kind: Some(next) }).is_err() {
            // The call is over; its answer says why.
            return Ok(());
        }
        sent.store(offset, Ordering::Relaxed);
        let mut data = vec![0; UPLOAD_CHUNK_BYTES];
        let read = archive.read_at(&mut data, offset)?;
        if read == 0 {
            return Ok(());
        }
        data.truncate(read);
        offset += read as u64;
        next = Push::Data(data);
    }
}
