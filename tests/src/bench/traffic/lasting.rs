//! What takes longer than a swap: WebSockets that talk all the time, uploads and downloads; across
//! swaps of a gate that is told what to do, and across deploys to a host whose agent is killed.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::{task::JoinSet, time::timeout};

use super::{
    client::{Connection, Failure},
    load::{Clients, LETTERS, Load},
    swaps::{Stage, judge, note},
    websocket::{Frame, Socket},
};
use crate::bench::figures::{Report, Section};

/// Of each upload and download.
const TRANSFER_BYTES: usize = 100_000_000;

/// What a transfer moves before it rests, and for how long: 100 MB in 2.5 s and more.
const PIECE_BYTES: usize = 1_000_000;
const PIECE_REST: Duration = Duration::from_millis(25);

/// Of a drain, in milliseconds: requests, and what lasts.
pub(super) const DRAIN: [u32; 2] = [30_000, 2_000];

/// What a close may come early by: clocks are read in two processes.
const EARLY_MAX: Duration = Duration::from_millis(20);

/// How long an echo may take.
const ECHO_WITHIN: Duration = Duration::from_secs(10);

const SOCKETS: usize = 8;
const TRANSFERS: usize = 2;

/// Clients of all three kinds, with small requests beside them.
#[derive(Debug)]
pub(super) struct Lasting {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    pub(super) load: Load,
}

/// What the clients share.
#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    ends: AtomicBool,
    messages: AtomicU64,
    closes: AtomicU64,
    uploads: AtomicU64,
    downloads: AtomicU64,
    /// Since when the instance of each letter drains.
    drains_since: Mutex<[Option<Instant>; 2]>,
    failures: Mutex<Vec<String>>,
}

impl Shared {
    fn fail(&self, what: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn goes_on(&self) -> bool {
        !self.ends.load(Ordering::SeqCst)
    }

    fn drained_for(&self, letter: u8) -> Option<Duration> {
        let drains = self.drains_since.lock().unwrap_or_else(PoisonError::into_inner);
        drains[usize::from(letter != LETTERS[0])].map(|since| since.elapsed())
    }

    fn set_drain(&self, which: usize, since: Option<Instant>) {
        self.drains_since.lock().unwrap_or_else(PoisonError::into_inner)[which] = since;
    }
}

impl Lasting {
    /// Starts clients of `address`.
    pub(super) fn start(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            address,
            ends: AtomicBool::new(false),
            messages: AtomicU64::new(0),
            closes: AtomicU64::new(0),
            uploads: AtomicU64::new(0),
            downloads: AtomicU64::new(0),
            drains_since: Mutex::default(),
            failures: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..SOCKETS {
            tasks.spawn(talk(Arc::clone(&shared)));
        }
        for _ in 0..TRANSFERS {
            tasks.spawn(upload_again(Arc::clone(&shared)));
            tasks.spawn(download_again(Arc::clone(&shared)));
        }
        Self { shared, tasks, load: Load::start(address, Clients::FEW, 1, true) }
    }

    /// The instance of the letter at `old` is about to be told to drain, and the other one is not.
    pub(super) fn swap_begins(&self, old: usize) {
        self.shared.set_drain(1 - old, None);
        self.load.seen.swap_begins();
        // Before it is told to drain: a close cannot seem early then.
        self.shared.set_drain(old, Some(Instant::now()));
    }

    /// From here on, only the other instance may answer.
    pub(super) fn swap_is_done(&self) {
        self.load.seen.swap_is_done();
    }

    /// Ends all clients, and adds what they have seen.
    pub(super) async fn end(self, mut section: Section, report: &mut Report) -> Result<()> {
        let Self { shared, tasks, load } = self;
        shared.ends.store(true, Ordering::SeqCst);
        let seen = load.end().await;
        tasks.join_all().await;
        let count = |count: &AtomicU64| count.load(Ordering::SeqCst) as f64;
        let transfers = count(&shared.uploads) + count(&shared.downloads);
        section.figure("WebSocket messages echoed", count(&shared.messages), "", "");
        section.figure(
            "WebSockets closed by a drain",
            count(&shared.closes),
            "",
            format!("each with a close frame, none before its limit of {} ms", DRAIN[1]),
        );
        section.figure("uploads of 100 MB", count(&shared.uploads), "", "");
        section.figure("downloads of 100 MB", count(&shared.downloads), "", "each byte checked");
        section.figure("small requests beside them", seen.answered() as f64, "", "");
        let failures = shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let failed = failures.len() as f64 + seen.failed() as f64;
        section.figure("failed or cut", failed, "", "must be 0");
        note(&mut section);
        report.add(section);
        ensure!(failures.is_empty(), "{} were cut:\n  {}", failures.len(), failures.join("\n  "));
        ensure!(count(&shared.closes) > 0.0 && transfers > 0.0, "nothing lasted across a swap");
        judge(&seen)
    }
}

/// Measures what a gate does that is told what to do.
pub(super) async fn measure(swaps: usize, report: &mut Report) -> Result<()> {
    let mut stage = Stage::set(DRAIN).await?;
    let lasting = Lasting::start(stage.gate.listen);
    for number in 1..=swaps {
        lasting.load.goes_on(500).await?;
        lasting.swap_begins(stage.active);
        stage.switch().await?;
        lasting.swap_is_done();
        stage.old_is_empty().await?;
        stage.restart_old().await?;
        if number == swaps.div_ceil(2) {
            stage.gate.upgrade().await?;
        }
    }
    let section = Section::new(format!(
        "7. What lasts, across {swaps} swaps with a restart each and one upgrade of the gate"
    ));
    lasting.end(section, report).await
}

async fn talk(shared: Arc<Shared>) {
    while shared.goes_on() {
        if let Err(error) = converse(&shared).await {
            shared.fail(format!("a WebSocket: {error}"));
            tokio::time::sleep(PIECE_REST).await;
        }
    }
}

/// Speaks on one WebSocket until it is closed.
async fn converse(shared: &Shared) -> Result<()> {
    let (mut socket, letter) = Socket::connect(shared.address).await?;
    let mut number = 0_u64;
    while shared.goes_on() {
        number += 1;
        let text = number.to_string().into_bytes();
        // One that was closed a moment ago takes nothing; why is in what it says last.
        let said = socket.say(&text).await;
        match timeout(ECHO_WITHIN, socket.receive()).await?? {
            Frame::Text(back) => {
                said?;
                ensure!(back == text, "{number} came back as {back:?}");
                shared.messages.fetch_add(1, Ordering::SeqCst);
            }
            Frame::Close => {
                let limit = Duration::from_millis(u64::from(DRAIN[1]));
                let drained = shared.drained_for(letter);
                ensure!(
                    drained.is_some_and(|drained| drained + EARLY_MAX >= limit),
                    "closed {drained:?} into a drain of {limit:?}"
                );
                shared.closes.fetch_add(1, Ordering::SeqCst);
                // The peer may not wait for it.
                drop(socket.say_goodbye().await);
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn upload_again(shared: Arc<Shared>) {
    while shared.goes_on() {
        match upload(&shared).await {
            Ok(()) => drop(shared.uploads.fetch_add(1, Ordering::SeqCst)),
            Err(error) => shared.fail(format!("an upload: {error:?}")),
        }
    }
}

async fn upload(shared: &Shared) -> Result<(), Failure> {
    let mut connection = Connection::open(shared.address).await?;
    let head =
        format!("POST / HTTP/1.1\r\nhost: bench\r\ncontent-length: {TRANSFER_BYTES}\r\n\r\n");
    connection.send(head.as_bytes()).await?;
    let piece = vec![b'x'; PIECE_BYTES];
    for _ in 0..TRANSFER_BYTES / PIECE_BYTES {
        connection.send(&piece).await?;
        tokio::time::sleep(PIECE_REST).await;
    }
    let head = connection.head().await?;
    let mut body = Vec::new();
    while body.len() < head.body_bytes {
        body.extend(connection.piece().await?);
    }
    let is_right =
        LETTERS.contains(&body[0]) && body[1..] == *TRANSFER_BYTES.to_string().as_bytes();
    is_right.then_some(()).ok_or(Failure::Wrong)
}

async fn download_again(shared: Arc<Shared>) {
    while shared.goes_on() {
        match download(&shared).await {
            Ok(()) => drop(shared.downloads.fetch_add(1, Ordering::SeqCst)),
            Err(error) => shared.fail(format!("a download: {error:?}")),
        }
    }
}

async fn download(shared: &Shared) -> Result<(), Failure> {
    let mut connection = Connection::open(shared.address).await?;
    let head = format!("GET /bytes/{TRANSFER_BYTES} HTTP/1.1\r\nhost: bench\r\n\r\n");
    connection.send(head.as_bytes()).await?;
    let head = connection.head().await?;
    let (mut got, mut since_rest, mut first) = (0, 0, None);
    while got < head.body_bytes {
        let piece = connection.piece().await?;
        let first = *first.get_or_insert(piece[0]);
        if !LETTERS.contains(&first) || piece.iter().any(|byte| *byte != first) {
            return Err(Failure::Wrong);
        }
        got += piece.len();
        since_rest += piece.len();
        if since_rest >= PIECE_BYTES {
            since_rest = 0;
            tokio::time::sleep(PIECE_REST).await;
        }
    }
    if head.body_bytes == TRANSFER_BYTES && got == TRANSFER_BYTES {
        return Ok(());
    }
    Err(Failure::Wrong)
}
