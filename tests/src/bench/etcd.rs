//! etcd, alone on the loopback, and a client for the one call that is compared: put.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// How long etcd may take to elect itself.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running etcd. Ended when it is dropped.
#[derive(Debug)]
pub(super) struct Etcd {
    child: Child,
    url: String,
}

/// `etcdserverpb.PutRequest`, of rpc.proto: the fields that are sent.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `etcdserverpb.PutResponse`: nothing of it is read.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// One connection.
#[derive(Debug)]
pub(super) struct Client(Grpc<Channel>);

impl Etcd {
    /// Starts `program` with its data in `folder`, and waits until it takes a value.
    pub(super) async fn start(program: &Path, folder: &Path) -> Result<Self> {
        let [clients, peers] = [free_port()?, free_port()?];
        let url = format!("http://127.0.0.1:{clients}");
        let peers = format!("http://127.0.0.1:{peers}");
        let data: PathBuf = folder.join("etcd");
        let child = Command::new(program)
            .args(["--name", "bench", "--log-level", "error", "--logger", "zap"])
            .arg("--data-dir")
            .arg(&data)
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("bench={peers}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("etcd.log"))?)
            .spawn()
            .context("etcd can be started")?;
        let etcd = Self { child, url };
        let deadline = Instant::now() + UP_WITHIN;
        loop {
            let took = match etcd.client().await {
                Ok(mut client) => client.put(b"up".to_vec(), Vec::new()).await,
                Err(error) => Err(error),
            };
            match took {
                Ok(()) => return Ok(etcd),
                Err(error) => ensure!(
                    Instant::now() < deadline,
                    "etcd takes nothing ({error:#}); it says: {}",
                    std::fs::read_to_string(folder.join("etcd.log"))?
                ),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) async fn client(&self) -> Result<Client> {
        let endpoint = Endpoint::from_shared(self.url.clone())?.tcp_nodelay(true);
        Ok(Client(Grpc::new(endpoint.connect().await?)))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _asked = kill_process(Pid::from_child(&self.child), Signal::KILL);
        drop(self.child.wait());
    }
}

impl Client {
    /// Puts `value`; returns when etcd says that it is durable.
    pub(super) async fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<()> {
        self.0.ready().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        let codec = ProstCodec::<PutRequest, PutResponse>::default();
        self.0.unary(Request::new(PutRequest { key, value }), path, codec).await?;
        Ok(())
    }
}

/// Returns a port that was free a moment ago: etcd takes no 0.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
