//! An instance: a small server whose every answer says which one it is.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONNECTION, CONTENT_TYPE, UPGRADE},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

type Said = Either<Full<Bytes>, Either<Incoming, StreamBody<Events>>>;

/// How long the answer to `/big` is: more than all sockets between hold.
pub(crate) const BIG_BYTES: usize = 64 * 1024 * 1024;

/// The answer to `/large`: more than the gate keeps of it.
static LARGE: [u8; 2 * 1024 * 1024] = [7; 2 * 1024 * 1024];

/// What is still to be sent.
pub(crate) struct Events(mpsc::UnboundedReceiver<Frame<Bytes>>);

impl futures::Stream for Events {
    type Item = Result<Frame<Bytes>, hyper::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|event| event.map(Ok))
    }
}

/// A server of its own. Everything of it ends when it is dropped.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: JoinSet<()>,
}

pub(crate) struct Shared {
    name: &'static str,
    /// How many requests it got.
    pub(crate) got: AtomicU64,
    /// How many connections it has.
    pub(crate) connected: AtomicU64,
    /// Lets requests for `/slow` go on, one each.
    pub(crate) slow: Semaphore,
    /// Closes each connection after one answer, without saying so before.
    closes: bool,
    /// What came over all its upgraded connections.
    pub(crate) heard: std::sync::Mutex<Vec<u8>>,
    events: std::sync::Mutex<Vec<mpsc::UnboundedSender<Frame<Bytes>>>>,
}

impl Instance {
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::on(name, "127.0.0.1:0".parse().unwrap(), false).await
    }

    pub(crate) async fn that_closes(name: &'static str) -> Self {
        Self::on(name, "127.0.0.1:0".parse().unwrap(), true).await
    }

    async fn on(name: &'static str, address: SocketAddr, closes: bool) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name,
            got: AtomicU64::new(0),
            connected: AtomicU64::new(0),
            slow: Semaphore::new(0),
            closes,
            heard: std::sync::Mutex::default(),
            events: std::sync::Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        let of_all = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let shared = Arc::clone(&of_all);
                connections.spawn(async move {
                    shared.connected.fetch_add(1, Ordering::SeqCst);
                    connection(Arc::clone(&shared), stream).await;
                    shared.connected.fetch_sub(1, Ordering::SeqCst);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, shared, tasks }
    }

    pub(crate) fn got(&self) -> u64 {
        self.shared.got.load(Ordering::SeqCst)
    }

    /// Sends an event to everybody who listens to `/events`.
    pub(crate) fn tell(&self, event: &'static str) {
        for listener in self.shared.events.lock().unwrap().iter() {
            listener.send(Frame::data(Bytes::from_static(event.as_bytes()))).unwrap();
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    if shared.closes {
        return answer_and_close(&shared, stream).await;
    }
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A client that went away is none of its business.
    drop(connection.with_upgrades().await);
}

/// Answers one short request, and is gone without having said that it would be.
async fn answer_and_close(shared: &Shared, mut stream: TcpStream) {
    let mut request = Vec::new();
    let ends = |request: &[u8]| {
        let text = String::from_utf8_lossy(request).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.split("content-length: ").nth(1).and_then(|it| it.lines().next());
        body.len() >= length.map_or(0, |it| it.parse().unwrap())
    };
    while !ends(&request) {
        if !matches!(stream.read_buf(&mut request).await, Ok(read) if read > 0) {
            return;
        }
    }
    shared.got.fetch_add(1, Ordering::SeqCst);
    let said =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", shared.name.len(), shared.name);
    stream.write_all(said.as_bytes()).await.unwrap();
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Said> {
    shared.got.fetch_add(1, Ordering::SeqCst);
    let text = |text: String| Response::new(Either::Left(Full::new(Bytes::from(text))));
    let path = request.uri().path().to_owned();
    // What is below it is the same later.
    let path = match path.strip_prefix("/slow") {
        Some(later) => {
            shared.slow.acquire().await.unwrap().forget();
            later
        }
        None => &path,
    };
    match path {
        "/echo" => Response::new(Either::Right(Either::Left(request.into_body()))),
        "/length" => {
            let body = request.into_body().collect().await;
            text(body.map_or_else(|_| "broken".to_owned(), |it| it.to_bytes().len().to_string()))
        }
        "/big" => Response::new(Either::Left(Full::new(Bytes::from(vec![7; BIG_BYTES])))),
        "/large" => Response::new(Either::Left(Full::new(Bytes::from_static(&LARGE)))),
        "/headers" => text(format!("{:?}", request.headers())),
        "/upgrade" => upgraded(shared, request),
        "/trailers" => {
            let (tell, frames) = mpsc::unbounded_channel();
            tell.send(Frame::data(Bytes::from_static(b"hello"))).unwrap();
            let trailers = [("sum".parse().unwrap(), "5".parse().unwrap())].into_iter().collect();
            tell.send(Frame::trailers(trailers)).unwrap();
            let body = StreamBody::new(Events(frames));
            let mut response = Response::new(Either::Right(Either::Right(body)));
            response.headers_mut().insert("trailer", "sum".parse().unwrap());
            response
        }
        "/events" => {
            let (tell, events) = mpsc::unbounded_channel();
            tell.send(Frame::data(Bytes::from_static(b"data: hello\n\n"))).unwrap();
            shared.events.lock().unwrap().push(tell);
            let body = StreamBody::new(Events(events));
            let mut response = Response::new(Either::Right(Either::Right(body)));
            response.headers_mut().insert(CONTENT_TYPE, "text/event-stream".parse().unwrap());
            response
        }
        _ => text(shared.name.to_owned()),
    }
}

/// Speaks back whatever it hears.
fn upgraded(shared: &Arc<Shared>, mut request: Request<Incoming>) -> Response<Said> {
    let protocol = request.headers()[UPGRADE].clone();
    let upgrade = hyper::upgrade::on(&mut request);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut buffer = [0; 1_000];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            shared.heard.lock().unwrap().extend_from_slice(&buffer[..length]);
            if stream.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, protocol)
        .body(Either::Left(Full::default()))
        .unwrap()
}
