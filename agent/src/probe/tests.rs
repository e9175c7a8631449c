//! Servers that answer well, badly, for ever and never.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use uuid::Uuid;

use super::*;
use crate::process::stat::read_stat;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LONG: Duration = Duration::from_secs(20);

async fn probe(target: ProbeTarget, timeout: Duration) -> ProbeAnswer {
    let env = BTreeMap::from([("WORD".to_owned(), "given".to_owned())]);
    // Tests that run beside each other must not end each other's probes.
    let instance = InstanceId(Uuid::new_v4());
    let place = CommandPlace {
        instance,
        env: &env,
        secrets: &BTreeMap::new(),
        directory: Path::new("/tmp"),
    };
    ask(&target, (LOCALHOST, None), timeout, place).await
}

/// A server that reads one request and then does what `answer` does.
struct Server {
    address: SocketAddr,
    tasks: JoinSet<String>,
}

impl Server {
    async fn start<F>(answer: impl FnOnce(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            answer(stream).await;
            String::from_utf8(request).unwrap()
        });
        Self { address, tasks }
    }

    async fn says(answer: &'static str) -> Self {
        Self::start(async move |mut stream| stream.write_all(answer.as_bytes()).await.unwrap())
            .await
    }

    fn http(&self, path: &str) -> ProbeTarget {
        ProbeTarget::Http { port: ProbePort::Fixed(self.address.port()), path: path.to_owned() }
    }

    async fn request(mut self) -> String {
        self.tasks.join_next().await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn success_and_redirects_pass_and_all_else_fails() {
    let table = [
        ("200 OK", true),
        ("204 No Content", true),
        ("302 Found\r\nlocation: http://192.0.2.1/", true),
        ("404 Not Found", false),
        ("500 Internal Server Error", false),
        ("503 Service Unavailable", false),
    ];
    for (status, passes) in table {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        let server = Server::says(answer.leak()).await;

        let answer = probe(server.http("/healthz"), LONG).await;

        assert_eq!(answer.passed, passes, "{answer:?}");
        let code = &status[..3];
        assert!(answer.detail.starts_with(&format!("GET /healthz answered {code}")), "{answer:?}");
    }
}

#[tokio::test]
async fn the_request_says_who_asks_and_whom() {
    let server = Server::says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let address = server.address;

    assert!(probe(server.http("/healthz?deep=1"), LONG).await.passed);

    let request = server.request().await;
    assert!(request.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: {address}\r\n")), "{request}");
    assert!(request.contains("user-agent: cutover-agent/"), "{request}");
}

#[tokio::test]
async fn a_server_that_hangs_fails_at_the_end_of_the_time() {
    let server = Server::start(async |stream| {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let started = Instant::now();

    let answer = probe(server.http("/"), Duration::from_millis(200)).await;

    assert_eq!(answer, ProbeAnswer { passed: false, detail: "no answer within 200ms".to_owned() });
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_body_that_trickles_for_ever_fails_at_the_end_of_the_time() {
    let server = Server::start(async |mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        // Ends when the probe hangs up.
        while stream.write_all(b".").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    let answer = probe(server.http("/"), Duration::from_millis(300)).await;

    assert_eq!(answer.detail, "no answer within 300ms");
    server.request().await;
}

#[tokio::test]
async fn an_endless_body_fails_at_the_cap_and_is_hung_up_on() {
    let server = Server::start(async |mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
    })
    .await;

    let answer = probe(server.http("/"), LONG).await;

    assert!(!answer.passed);
    assert!(answer.detail.contains("200 OK with more than 65536 bytes"), "{answer:?}");
    server.request().await;
}

#[tokio::test]
async fn endless_headers_fail() {
    let server = Server::start(async |mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.unwrap();
        while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
    })
    .await;

    let answer = probe(server.http("/"), LONG).await;

    assert!(!answer.passed, "{answer:?}");
    server.request().await;
}

#[tokio::test]
async fn an_answer_that_is_no_http_or_is_cut_off_fails() {
    for said in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        "HTTP/1.1 200",
        "",
    ] {
        let server = Server::says(said).await;

        let answer = probe(server.http("/"), LONG).await;

        assert!(!answer.passed, "{said:?}: {answer:?}");
        assert!(answer.detail.starts_with("GET /: "), "{said:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_path_that_would_change_the_request_is_refused() {
    let answer = probe(
        ProbeTarget::Http {
            port: ProbePort::Fixed(1),
            path: "/ HTTP/1.1\r\nhost: evil\r\n".to_owned(),
        },
        LONG,
    )
    .await;

    assert!(!answer.passed);
    assert!(answer.detail.contains("is no path that can be asked for"), "{answer:?}");
}

#[tokio::test]
async fn a_refused_connection_fails_and_says_where() {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();

    let accepted = probe(ProbeTarget::Tcp { port: ProbePort::Fixed(port) }, LONG).await;
    drop(listener);
    let refused = probe(ProbeTarget::Tcp { port: ProbePort::Fixed(port) }, LONG).await;
    let refused_http =
        probe(ProbeTarget::Http { port: ProbePort::Fixed(port), path: "/".to_owned() }, LONG).await;

    assert!(accepted.passed, "{accepted:?}");
    for answer in [refused, refused_http] {
        assert!(!answer.passed);
        let expected = format!("could not connect to 127.0.0.1:{port}: Connection refused");
        assert!(answer.detail.starts_with(&expected), "{answer:?}");
    }
}

#[tokio::test]
async fn a_command_passes_with_status_0_in_its_directory_and_environment() {
    let sh = |script: &str| ProbeTarget::Command(["sh", "-c", script].map(str::to_owned).to_vec());

    let passed = probe(sh("echo $WORD in $PWD"), LONG).await;
    assert_eq!(passed.detail, "the command exited with status 0: given in /tmp");
    assert!(passed.passed);

    let failed = probe(sh("echo 'disk\tfull\x1b[31m' >&2; exit 2"), LONG).await;
    assert!(!failed.passed);
    assert_eq!(failed.detail, "the command exited with status 2: disk\\tfull\\u{1b}[31m");

    let killed = probe(sh("kill -9 $$"), LONG).await;
    assert_eq!(killed.detail, "signal 9 ended the command");

    let hanging = probe(sh("echo waiting; sleep 1000"), Duration::from_secs(5)).await;
    assert!(!hanging.passed);
    assert_eq!(hanging.detail, "the command took longer than 5s and was killed: waiting");

    let missing = probe(ProbeTarget::Command(vec!["./check".to_owned()]), LONG).await;
    assert!(!missing.passed);
    assert!(missing.detail.contains("there is no file /tmp/./check"), "{missing:?}");
}

#[tokio::test]
async fn what_left_the_group_of_a_probe_is_ended_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let script = format!(
        "setsid sh -c 'echo $$ > {file}.new; mv {file}.new {file}; exec sleep 1000' &
         while ! test -e {file}; do sleep 0.01; done",
        file = file.display()
    );
    let argv = ["sh", "-c", &script].map(str::to_owned).to_vec();

    let answer = probe(ProbeTarget::Command(argv), LONG).await;

    assert!(answer.passed, "{answer:?}");
    let pid = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    assert!(read_stat(pid).unwrap().is_none_or(|stat| stat.is_ended()));
}

#[tokio::test]
async fn only_the_last_words_of_a_long_output_are_told() {
    let script = "seq 1 10000; echo the end; exit 1";
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();

    let answer = probe(ProbeTarget::Command(argv), LONG).await;

    assert!(answer.detail.ends_with("\\nthe end"), "{answer:?}");
    assert!(answer.detail.starts_with("the command exited with status 1: "), "{answer:?}");
}

#[test]
fn a_detail_is_one_short_line() {
    assert_eq!(one_line(" a\r\nb\u{202e}c\u{7}é "), "a\\r\\nb\\u{202e}c\\u{7}é");
    assert_eq!(one_line(&"ä".repeat(500)), format!("{}…", "ä".repeat(200)));
}
