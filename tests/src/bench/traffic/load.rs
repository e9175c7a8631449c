//! Clients in a closed loop: each asks, waits for the whole answer, checks it, and asks again.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use super::{
    client::{Connection, Failure},
    histogram::Histogram,
    instance::SMALL_BYTES,
};

/// The letters of the two instances; the one at `swaps % 2` is active.
pub(super) const LETTERS: [u8; 2] = [b'A', b'B'];

/// Bodies that clients send: one that fits a packet of the loopback, and one that does not.
const BODIES: [usize; 2] = [5_000, 150_000];

/// How many failures are remembered with their circumstances.
const REMEMBERED_MAX: usize = 12;

/// How long no client may be answered before the bench gives up.
const STALL_MAX: Duration = Duration::from_secs(60);

/// After a failure, so that a client whose server is gone does not spin.
const REST: Duration = Duration::from_millis(2);

/// How many clients there are of each kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clients {
    /// On one connection each.
    pub(super) keeping: usize,
    /// On one connection each, with bodies.
    pub(super) posting: usize,
    /// On a new connection for each request.
    pub(super) opening: usize,
}

impl Clients {
    /// As many as keep two cores busy without a queue that hides what a swap adds.
    pub(super) const MANY: Self = Self { keeping: 24, posting: 3, opening: 5 };
    /// Beside others that have more to do.
    pub(super) const FEW: Self = Self { keeping: 3, posting: 1, opening: 1 };
}

/// What the clients have seen so far.
#[derive(Debug)]
pub(super) struct Seen {
    address: SocketAddr,
    ends: AtomicBool,
    answered: AtomicU64,
    failed: [AtomicU64; Failure::KINDS.len()],
    remembered: Mutex<Vec<String>>,
    /// Twice the number of swaps so far; odd while one is under way.
    turn: AtomicU64,
    /// Whether only the active instance may answer.
    is_strict: bool,
    begun: Instant,
    /// For each letter, when the first and the last request that it answered began, in us.
    answers: [[AtomicU64; 2]; 2],
    blocks: Vec<Histogram>,
    block: AtomicUsize,
    /// Of requests that were under way while a swap was.
    pub(super) across: Histogram,
}

/// Clients that run.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) seen: Arc<Seen>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts clients of `address`, whose times are told apart in `blocks` blocks.
    pub(super) fn start(
        address: SocketAddr,
        clients: Clients,
        blocks: usize,
        is_strict: bool,
    ) -> Self {
        let seen = Arc::new(Seen {
            address,
            ends: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            failed: Default::default(),
            remembered: Mutex::default(),
            turn: AtomicU64::new(0),
            is_strict,
            begun: Instant::now(),
            answers: [(); 2].map(|()| [AtomicU64::new(u64::MAX), AtomicU64::new(0)]),
            blocks: (0..blocks).map(|_| Histogram::new()).collect(),
            block: AtomicUsize::new(0),
            across: Histogram::new(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..clients.keeping {
            tasks.spawn(ask(Arc::clone(&seen), get(), 0, true));
        }
        for number in 0..clients.posting {
            let bytes = BODIES[number % BODIES.len()];
            tasks.spawn(ask(Arc::clone(&seen), post(bytes), bytes, true));
        }
        for number in 0..clients.opening {
            // One of them with a body.
            let (request, bytes) = if number == 0 { (post(500), 500) } else { (get(), 0) };
            tasks.spawn(ask(Arc::clone(&seen), request, bytes, false));
        }
        Self { seen, tasks }
    }

    /// Waits until `count` more requests were answered.
    pub(super) async fn goes_on(&self, count: u64) -> Result<()> {
        let (wanted, begun) = (self.seen.answered() + count, Instant::now());
        while self.seen.answered() < wanted {
            ensure!(begun.elapsed() < STALL_MAX, "clients are not answered: {}", self.seen.why());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Ends all clients after the answer that each waits for.
    pub(super) async fn end(self) -> Arc<Seen> {
        self.seen.ends.store(true, Ordering::SeqCst);
        self.tasks.join_all().await;
        self.seen
    }
}

impl Seen {
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.iter().map(|it| it.load(Ordering::SeqCst)).sum()
    }

    /// Returns how many failed, by kind, and the first of them.
    pub(super) fn why(&self) -> String {
        let kinds = Failure::KINDS.iter().zip(&self.failed);
        let kinds = kinds.map(|(kind, count)| (kind, count.load(Ordering::SeqCst)));
        let kinds: Vec<String> = kinds
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        kinds.join(", ")
    }

    pub(super) fn remembered(&self) -> Vec<String> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn begin_block(&self, block: usize) {
        self.block.store(block, Ordering::SeqCst);
    }

    pub(super) fn block(&self, block: usize) -> &Histogram {
        &self.blocks[block]
    }

    /// From here on, either instance may answer.
    pub(super) fn swap_begins(&self) {
        self.turn.fetch_add(1, Ordering::SeqCst);
    }

    /// From here on, only the next instance may.
    pub(super) fn swap_is_done(&self) {
        self.turn.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns for how long both letters answered: from the first request that B answered to the
    /// last one that A answered. Negative when there was none such.
    pub(super) fn overlap_ms(&self) -> f64 {
        let [a, b] = &self.answers;
        (a[1].load(Ordering::SeqCst) as f64 - b[0].load(Ordering::SeqCst) as f64) / 1e3
    }

    fn is_right(&self, body: &[u8], sent: usize, turns: [u64; 2]) -> bool {
        let Some(which) = LETTERS.iter().position(|letter| body.first() == Some(letter)) else {
            return false;
        };
        let is_whole = if sent == 0 {
            body == [LETTERS[which]; SMALL_BYTES]
        } else {
            body[1..] == *sent.to_string().as_bytes()
        };
        let is_settled = turns[0] == turns[1] && turns[0].is_multiple_of(2);
        let is_active = turns[0] / 2 % 2 == which as u64;
        is_whole && (is_active || !is_settled || !self.is_strict)
    }

    fn note(&self, begun: Instant, turns: [u64; 2], done: Result<u8, Failure>) {
        let taken = begun.elapsed();
        match done {
            Ok(letter) => {
                self.answered.fetch_add(1, Ordering::SeqCst);
                self.blocks[self.block.load(Ordering::SeqCst)].add(taken);
                if turns[0] != turns[1] || !turns[0].is_multiple_of(2) {
                    self.across.add(taken);
                }
                let at = u64::try_from((begun - self.begun).as_micros()).unwrap_or(u64::MAX);
                let which = usize::from(letter != LETTERS[0]);
                self.answers[which][0].fetch_min(at, Ordering::Relaxed);
                self.answers[which][1].fetch_max(at, Ordering::Relaxed);
            }
            Err(failure) => {
                self.failed[failure.kind()].fetch_add(1, Ordering::SeqCst);
                let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
                if remembered.len() < REMEMBERED_MAX {
                    remembered.push(format!(
                        "{failure:?} after {:.1} ms, {:.3} s after the begin, in swap {:?}",
                        taken.as_secs_f64() * 1e3,
                        self.begun.elapsed().as_secs_f64(),
                        turns.map(|turn| turn as f64 / 2.0),
                    ));
                }
            }
        }
    }
}

fn get() -> Vec<u8> {
    b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n".to_vec()
}

fn post(bytes: usize) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nhost: bench\r\ncontent-length: {bytes}\r\n\r\n");
    let mut request = head.into_bytes();
    request.resize(request.len() + bytes, b'x');
    request
}

async fn ask(seen: Arc<Seen>, request: Vec<u8>, sent: usize, keeps: bool) {
    let mut kept: Option<Connection> = None;
    while !seen.ends.load(Ordering::SeqCst) {
        let turn = seen.turn.load(Ordering::SeqCst);
        let begun = Instant::now();
        let asked = async {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => Connection::open(seen.address).await?,
            };
            let answer = connection.ask(&request).await?;
            Ok((connection, answer))
        };
        let asked = asked.await;
        let turns = [turn, seen.turn.load(Ordering::SeqCst)];
        let done = match asked {
            Ok((connection, answer)) if seen.is_right(&answer.body, sent, turns) => {
                kept = Some(connection).filter(|_| keeps && !answer.is_last);
                Ok(answer.body[0])
            }
            Ok(_) => Err(Failure::Wrong),
            Err(failure) => Err(failure),
        };
        seen.note(begun, turns, done);
        if done.is_err() {
            tokio::time::sleep(REST).await;
        }
    }
}
