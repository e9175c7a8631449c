//! What `[service]` says of clients, through real agents: TLS from files that are renewed and break,
//! also through an edge; sticky, plain TCP, the PROXY protocol. What is wrong with one application
//! keeps no other waiting.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use cutover_tests::live::{
    Clients, Cluster, PROXY_HEADER, Ran, Sample, program_on_path, release_dir, run, wait_for,
};
use rcgen::{CertificateParams, KeyPair};

const PORT: u16 = 8443;

/// How long a client waits for an answer, and a test for what a host says of itself, on a machine
/// that is busy.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A certificate on a host, as its operator puts it there.
struct Files {
    dir: PathBuf,
    host: String,
}

impl Files {
    fn new(cluster: &Cluster) -> Self {
        let dir = cluster.folder().join("tls");
        fs::create_dir(&dir).expect("the disk takes a folder");
        Self { dir, host: cluster.agents()[0].address.to_string() }
    }

    fn certificate(&self) -> PathBuf {
        self.dir.join("web.pem")
    }

    fn key(&self) -> PathBuf {
        self.dir.join("web.key")
    }

    /// Puts another certificate there. Returns a copy that clients trust.
    fn renew(&self, number: u32) -> PathBuf {
        let key = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new(vec![self.host.clone()]).expect("an address is a name");
        let certificate = params.self_signed(&key).expect("a key signs").pem();
        put(&self.key(), &key.serialize_pem(), 0o600);
        put(&self.certificate(), &certificate, 0o644);
        let trusted = self.dir.join(format!("trusted-{number}.pem"));
        fs::write(&trusted, certificate).expect("the disk takes a file");
        trusted
    }

    fn toml(&self, key: &Path) -> String {
        format!(
            "[service.tls]\ncertificate = {:?}\nkey = {key:?}\n[service.sticky]\ncookie = \"route\"\n",
            self.certificate()
        )
    }
}

fn put(path: &Path, text: &str, mode: u32) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("the disk takes a file");
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode)).expect("it is ours");
    fs::rename(&beside, path).expect("it is ours");
}

fn curl(cluster: &Cluster, trusted: &Path, more: &[&str]) -> Ran {
    let url = format!("https://{}:{PORT}/", cluster.agents()[0].address);
    let jar = cluster.folder().join("cookies");
    let mut command = Command::new(program_on_path("curl").expect("curl is installed"));
    command.args(["--silent", "--show-error", "--max-time", "30", "--include"]);
    command.arg("--cacert").arg(trusted).arg("--cookie").arg(&jar).arg("--cookie-jar").arg(&jar);
    run(command.args(more).arg(url))
}

fn deploy(cluster: &Cluster, release: &str) -> Ran {
    let quick = ["--healthy-for", "300ms", "--healthy-within", "60s", "--progress-within", "2m"];
    cluster.cutover(&[&["deploy", release, "--to", "test"], &quick[..]].concat())
}

fn push(cluster: &Cluster, version: &str, port: u16, toml: &str) {
    let sample = Sample { port, toml, ..Sample::good(version) };
    cluster.push(&sample.write(cluster.folder(), &cluster.programs().sample), version);
}

/// Another application on the same host, whose versions are named so that their folders are.
fn push_another(cluster: &Cluster, version: &str) {
    let manifest = r#"[application]
name = "another"
[run]
command = ["./server", "--address", "$ADDRESS", "--port", "$PORT", "--version-file", "VERSION"]
[service]
port = 8081
[health]
http = "/healthz"
every = "100ms"
timeout = "100ms"
failures = 50
start_within = "3s"
"#;
    let files = [("cutover.toml", manifest), ("VERSION", version)];
    let dir = release_dir(cluster.folder(), version, &files);
    fs::copy(&cluster.programs().sample, dir.join("server")).expect("the disk takes a file");
    cluster.push(&dir, version);
}

#[test]
fn a_certificate_is_shown_renewed_and_missed_and_only_its_own_application_waits_for_it() {
    let cluster = Cluster::start(1);
    let files = Files::new(&cluster);
    let first = files.renew(1);
    push(&cluster, "1", PORT, &files.toml(&files.key()));
    push(&cluster, "2", PORT, &files.toml(&files.key()));
    deploy(&cluster, "web@1").done();

    let said = curl(&cluster, &first, &["--http1.1"]).done();
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("web 1 "), "{said}");
    assert!(said.to_lowercase().contains("set-cookie: route="), "{said}");
    let said = curl(&cluster, &first, &["--http2"]).done();
    assert!(said.starts_with("HTTP/2 200"), "{said}");
    assert!(!said.to_lowercase().contains("set-cookie"), "it has its cookie: {said}");
    let in_the_clear = cluster.get(0, PORT, "/").unwrap_or_default();
    assert!(!in_the_clear.contains("web "), "{in_the_clear}");

    deploy(&cluster, "web@2").done();
    let second = files.renew(2);
    let said = curl(&cluster, &second, &[]).done();
    assert!(said.contains("web 2 "), "{said}");
    assert_ne!(curl(&cluster, &first, &[]).status, 0, "the first is shown no more");

    // Renewed so that it cannot be read: the one before is shown, and the host says so.
    fs::set_permissions(files.key(), fs::Permissions::from_mode(0o644)).unwrap();
    let told = |what: &str| {
        wait_for(what, ANSWER_WITHIN, || {
            let told = cluster.cutover(&["agents", "show", "web-1"]).done();
            told.contains(what).then_some(())
        });
    };
    told("chmod 600");
    assert!(curl(&cluster, &second, &[]).done().contains("web 2 "));

    // A release whose key is nowhere gets no traffic and goes back; another one is deployed meanwhile.
    let nowhere = files.dir.join("nowhere.key");
    push(&cluster, "3", PORT, &files.toml(&nowhere));
    push_another(&cluster, "another-1");
    let patient = ["--healthy-for", "300ms", "--healthy-within", "60s", "--no-watch"];
    cluster.cutover(&[&["deploy", "web@3", "--to", "test"], &patient[..]].concat()).done();
    told("nowhere.key");
    deploy(&cluster, "another@another-1").done();
    let said = cluster.get(0, 8081, "/").unwrap_or_default();
    assert!(said.contains("web another-1 "), "{said}");
    assert!(curl(&cluster, &second, &[]).done().contains("web 2 "), "as before");

    // As soon as the file is there the release is served.
    put(&nowhere, &fs::read_to_string(files.key()).unwrap(), 0o600);
    cluster.cutover(&["watch", "web", "--timeout", "60s"]).done();
    assert!(curl(&cluster, &second, &[]).done().contains("web 3 "));
}

#[test]
fn an_edge_passes_tls_on_to_the_hosts_that_have_the_certificate() {
    let mut cluster = Cluster::start(1);
    let files = Files::new(&cluster);
    let trusted = files.renew(1);
    for version in ["1", "2"] {
        push(&cluster, version, PORT, &files.toml(&files.key()));
    }
    deploy(&cluster, "web@1").done();
    cluster.add_edge(9);
    // Where the name leads that the certificate is for.
    let edge = format!("::{}:{PORT}", cluster.agents()[1].address);
    let ask = |how: &str| curl(&cluster, &trusted, &[how, "--connect-to", &edge]);
    wait_for("the edge to lead to the host", Duration::from_secs(60), || {
        (ask("--http1.1").status == 0).then_some(())
    });

    let said = ask("--http2").done();
    assert!(said.starts_with("HTTP/2 200") && said.contains("web 1 "), "{said}");
    deploy(&cluster, "web@2").done();
    let said = ask("--http1.1").done();
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("web 2 "), "{said}");
    wait_for("the edge to say where it leads", ANSWER_WITHIN, || {
        let told = cluster.cutover(&["agents", "show", "edge-9"]).done();
        told.contains("web-1").then_some(())
    });
}

fn ask(address: SocketAddr, before: &[u8]) -> String {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN).expect("the gate listens");
    stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("it is open");
    let request = b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    // Who is not trusted is cut in the middle of what it says.
    drop(stream.write_all(&[before, request].concat()));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn plain_tcp_is_swapped_unnoticed_and_asks_for_who_its_clients_are_when_told_to() {
    let cluster = Cluster::start(1);
    let tcp = |version: &str, toml: &str| {
        let sample = Sample { toml, ..Sample::good(version) };
        let dir = sample.write(cluster.folder(), &cluster.programs().sample);
        let path = dir.join("cutover.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("[service]", "[service]\nprotocol = \"tcp\"")).unwrap();
        cluster.push(&dir, version);
    };
    tcp("1", "");
    tcp("2", "[service.limits]\nconnections = 1000\n");
    deploy(&cluster, "web@1").done();
    let is_good = |answer: &str| answer.starts_with("HTTP/1.1 200") && answer.contains("web ");
    let clients = Clients::ask(&cluster, 8080, &["GET /"]);
    deploy(&cluster, "web@2").done();
    deploy(&cluster, "web@1").done();
    clients.heard().all_is_well();
    drop(clients);

    let path = cluster.folder().join("releases/1/cutover.toml");
    let text = fs::read_to_string(&path).unwrap();
    let proxied = "[service]\nproxy_protocol = true\ntrusted_peers = [\"127.0.0.1\"]";
    let files = [("cutover.toml", text.replace("[service]", proxied)), ("VERSION", "4".to_owned())];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let dir = release_dir(cluster.folder(), "4", &files);
    fs::copy(&cluster.programs().sample, dir.join("server")).expect("the disk takes a file");
    cluster.push(&dir, "4");
    deploy(&cluster, "web@4").done();

    let address = SocketAddr::new(cluster.agents()[0].address, 8080);
    let said = ask(address, &PROXY_HEADER);
    assert!(is_good(&said) && said.contains("web 4 "), "{said}");
    assert_eq!(ask(address, b""), "", "nobody is believed without a word of the proxy");
}
