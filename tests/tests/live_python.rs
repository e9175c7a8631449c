//! A server that nobody here wrote, of the kind with a master and workers: gunicorn from PyPI, with
//! an application of a few lines. No request fails while it goes from version to version.

use std::path::{Path, PathBuf};

use cutover_tests::live::{Clients, Cluster, release_dir};

const PORT: u16 = 8070;

/// Says which version it is, quickly and slowly.
const APPLICATION: &str = r#"import time

VERSION = open("VERSION").read().strip()


def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.2)
    body = f"pages {VERSION}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"#;

/// Where tests/setup.sh put it.
fn gunicorn() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-venv/bin/gunicorn");
    path.canonicalize().expect("gunicorn is installed; run: make test")
}

fn push(cluster: &Cluster, version: &str) {
    let manifest = format!(
        r#"[application]
name = "pages"

[run]
command = [{:?}, "--bind", "$ADDRESS:$PORT", "--workers", "2", "--worker-class", "gthread", "--threads", "8", "--keep-alive", "5", "--no-control-socket", "app:application"]
env = {{ PYTHONDONTWRITEBYTECODE = "1" }}
stop_within = "20s"

[service]
port = {PORT}

[health]
http = "/health"
every = "100ms"
timeout = "100ms"
failures = 50
start_within = "30s"
"#,
        gunicorn()
    );
    let files =
        [("cutover.toml", manifest.as_str()), ("app.py", APPLICATION), ("VERSION", version)];
    cluster.push(&release_dir(cluster.folder(), version, &files), version);
}

#[test]
fn gunicorn_is_rolled_forth_and_back_under_load() {
    let cluster = Cluster::start(2);
    push(&cluster, "1");
    push(&cluster, "2");
    let deploy = |release: &str| {
        let mut args = vec!["deploy", release, "--to", "test", "--batch", "1"];
        args.extend(["--healthy-for", "300ms", "--healthy-within", "60s"]);
        cluster.cutover(&args).done();
    };
    deploy("pages@1");
    let clients = Clients::ask(&cluster, PORT, &["GET /", "POST /slow"]);
    deploy("pages@2");
    clients.heard().all_is_well().moved("1", "2");

    cluster.cutover(&["rollback", "pages", "--reason", "a bug"]).done();
    cluster.cutover(&["watch", "pages"]).done();
    clients.heard().all_is_well().moved("2", "1");
    let answer = cluster.get(0, PORT, "/").unwrap_or_default();
    assert!(answer.contains("server: gunicorn"), "{answer}");
}
