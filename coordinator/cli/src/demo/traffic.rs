//! Traffic: clients that ask the fleet all the time, as a load balancer's would.
//!
//! Each request goes to the next host; if that host does not take it, to the one after. A request
//! has failed when no host answered it, or when a host began to answer and did not finish.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

/// How many clients ask at one time.
const CLIENTS: usize = 8;

/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(2);

/// A client's pause between two requests: some thousand requests a second in all, which leaves
/// the machine to the fleet.
const PAUSE: Duration = Duration::from_millis(5);

/// What the clients saw.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Seen {
    pub(super) requests: u64,
    pub(super) failed: u64,
    /// Requests that a host did not take and another answered.
    pub(super) elsewhere: u64,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    failed: AtomicU64,
    elsewhere: AtomicU64,
    next_host: AtomicUsize,
    is_over: AtomicBool,
}

/// Clients that ask until they are stopped.
pub(super) struct Traffic {
    clients: JoinSet<()>,
    counters: Arc<Counters>,
}

/// Why a host gave no answer.
enum NoAnswer {
    /// It did not take the request: another may be asked.
    NotTaken,
    /// It took the request and did not finish: the client has lost.
    CutOff,
}

impl Traffic {
    pub(super) fn start(hosts: Vec<SocketAddr>) -> Self {
        let counters = Arc::new(Counters::default());
        let hosts: Arc<[SocketAddr]> = hosts.into();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(client(hosts.clone(), counters.clone()));
        }
        Self { clients, counters }
    }

    /// Stops asking, lets requests that are under way finish, and says what was seen.
    pub(super) async fn stop(mut self) -> Seen {
        self.counters.is_over.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        Seen {
            requests: self.counters.requests.load(Ordering::Relaxed),
            failed: self.counters.failed.load(Ordering::Relaxed),
            elsewhere: self.counters.elsewhere.load(Ordering::Relaxed),
        }
    }
}

async fn client(hosts: Arc<[SocketAddr]>, counters: Arc<Counters>) {
    while !counters.is_over.load(Ordering::Relaxed) {
        let first = counters.next_host.fetch_add(1, Ordering::Relaxed);
        counters.requests.fetch_add(1, Ordering::Relaxed);
        match ask_around(&hosts, first).await {
            Some(0) => {}
            Some(_) => {
                counters.elsewhere.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns how many hosts did not take the request before one answered; none if it failed.
async fn ask_around(hosts: &[SocketAddr], first: usize) -> Option<usize> {
    for refusals in 0..hosts.len() {
        let host = hosts[(first + refusals) % hosts.len()];
        match tokio::time::timeout(REQUEST_MAX, ask(host)).await {
            Ok(Ok(())) => return Some(refusals),
            Ok(Err(NoAnswer::NotTaken)) => {}
            Ok(Err(NoAnswer::CutOff)) | Err(_) => return None,
        }
    }
    None
}

async fn ask(host: SocketAddr) -> Result<(), NoAnswer> {
    let stream = TcpStream::connect(host).await.map_err(|_| NoAnswer::NotTaken)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|_| NoAnswer::NotTaken)?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/")
        .header("host", "demo")
        .body(Empty::<Bytes>::new())
        .map_err(|_| NoAnswer::CutOff)?;
    let answered = async {
        // Closed without a byte of an answer: the host was just ending and did not take it, and
        // a GET may be asked again.
        let answer = sender.send_request(request).await.map_err(|_| NoAnswer::NotTaken)?;
        let is_good = answer.status().is_success();
        answer.into_body().collect().await.map_err(|_| NoAnswer::CutOff)?;
        if is_good { Ok(()) } else { Err(NoAnswer::CutOff) }
    }
    .await;
    connection.abort();
    answered
}
