//! A gate with clients: how the tests speak to it, and wait for what it says of itself.

use std::{
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cutover_gate::{Gate, Program, Sockets, UpstreamState};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::instance::Instance;

/// How long anything here may take before a test says that it never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A gate of one service.
pub(crate) struct Bench {
    pub(crate) gate: Gate,
    pub(crate) address: SocketAddr,
    socket: Option<TcpListener>,
    revision: u64,
    pub(crate) service: Value,
}

impl Bench {
    /// Starts a gate in front of instances with these weights.
    pub(crate) fn start(upstreams: &[(&str, &Instance, u16)]) -> Self {
        let mut bench = Self::unprogrammed();
        bench.route(upstreams);
        bench
    }

    pub(crate) fn unprogrammed() -> Self {
        Self::unprogrammed_at("127.0.0.1")
    }

    pub(crate) fn unprogrammed_at(ip: &str) -> Self {
        let socket = TcpListener::bind((ip, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let service = json!({
            "application": "shop", "listen": address, "protocol": "http",
            "route": { "flow": "open", "upstreams": [] },
        });
        let gate = Gate::start(NonZeroUsize::new(2).unwrap()).unwrap();
        Self { gate, address, socket: Some(socket), revision: 0, service }
    }

    /// Sends requests to instances by these weights from now on.
    pub(crate) fn route(&mut self, upstreams: &[(&str, &Instance, u16)]) {
        let upstreams: Vec<Value> = upstreams
            .iter()
            .map(|(name, instance, weight)| upstream(name, instance.address, *weight))
            .collect();
        self.service["route"]["upstreams"] = json!(upstreams);
        self.apply();
    }

    /// Follows `service` as it is now.
    pub(crate) fn apply(&mut self) {
        self.revision += 1;
        let program = self.program();
        let mut sockets = Sockets::new();
        sockets.extend(self.socket.take().map(|socket| (self.address, socket)));
        self.gate.apply(&program, &mut sockets).unwrap();
    }

    /// Follows a program in which the service is not.
    pub(crate) fn end_service(&mut self) {
        self.revision += 1;
        let program = json!({ "revision": self.revision, "services": [] });
        let program = serde_json::from_value(program).unwrap();
        self.gate.apply(&program, &mut Sockets::new()).unwrap();
    }

    /// What is wrong with the service, as the gate says.
    pub(crate) fn trouble(&self) -> (bool, String) {
        let state = self.gate.state();
        (state.services[0].is_served, state.services[0].trouble.clone())
    }

    fn program(&self) -> Program {
        let program = json!({ "revision": self.revision, "services": [self.service] });
        serde_json::from_value(program).unwrap()
    }

    pub(crate) fn upstream(&self, name: &str) -> Option<UpstreamState> {
        let state = self.gate.state();
        state.services.first()?.upstreams.iter().find(|it| it.name.as_str() == name).cloned()
    }

    /// Waits until the gate says so of an upstream.
    pub(crate) async fn wait_for(&self, name: &str, what: impl Fn(&UpstreamState) -> bool) {
        wait_until(name, || self.upstream(name).is_some_and(|it| what(&it))).await;
    }

    pub(crate) async fn wait_until_empty(&self, name: &str) {
        self.wait_for(name, |upstream| upstream.is_empty).await;
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        self.client().await.get(path).await
    }
}

/// Waits for a level, and fails when it never comes.
pub(crate) async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn upstream(name: &str, address: SocketAddr, weight: u16) -> Value {
    json!({ "name": name, "address": address, "weight": weight, "is_healthy": true })
}

/// One connection of a client.
pub(crate) struct Client {
    pub(crate) sender: http1::SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::on(stream).await
    }

    /// Goes on from where `stream` is.
    pub(crate) async fn on(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    pub(crate) async fn get(&mut self, path: &str) -> (StatusCode, String) {
        self.send(Request::get(path), Bytes::new()).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: Bytes) -> (StatusCode, String) {
        self.send(Request::post(path), body).await
    }

    pub(crate) async fn send(
        &mut self,
        request: http::request::Builder,
        body: Bytes,
    ) -> (StatusCode, String) {
        let response = self.ask(request, body).await.unwrap();
        let status = response.status();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(text.to_vec()).unwrap())
    }

    pub(crate) async fn ask(
        &mut self,
        request: http::request::Builder,
        body: Bytes,
    ) -> hyper::Result<Response<hyper::body::Incoming>> {
        self.sender.ready().await?;
        let request = request.header("host", "shop.example").body(Full::new(body)).unwrap();
        self.sender.send_request(request).await
    }
}

/// Sends bytes as they are and returns all that comes until the connection is closed.
pub(crate) async fn speak(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    // A reset after an answer is an end, too.
    drop(read.expect("the connection is closed in the end"));
    String::from_utf8_lossy(&said).into_owned()
}
