//! A server that nobody here wrote: Debian's nginx, with its own configuration and two versions
//! of its pages, and a third whose configuration does not start. No request fails in all of it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use cutover_tests::live::{Clients, Cluster, program_on_path, release_dir};

const PORT: u16 = 8090;

const MANIFEST: &str = r#"[application]
name = "pages"

[run]
command = ["./start"]
env = { LISTEN = "$ADDRESS:$PORT", STATE = "$DATA_DIR/$SLOT", RELEASE = "$RELEASE_DIR" }
stop_signal = "QUIT"
stop_within = "10s"

[service]
port = 8090

[health]
http = "/index.html"
every = "100ms"
timeout = "100ms"
start_within = "3s"
"#;

/// Fills in where to listen and where to write, and becomes nginx.
const START: &str = r#"#!/bin/sh
set -eu
mkdir -p "$STATE/tmp"
sed -e "s|@LISTEN@|$LISTEN|" -e "s|@STATE@|$STATE|" -e "s|@RELEASE@|$RELEASE|" nginx.conf > "$STATE/nginx.conf"
exec nginx -e stderr -p "$STATE" -c "$STATE/nginx.conf" -g "daemon off;"
"#;

/// Its workers stay the agent's user, to whom alone the agent's folder is open.
const CONFIGURATION: &str = r"user root;
worker_processes 1;
pid @STATE@/nginx.pid;
error_log stderr warn;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path @STATE@/tmp/body;
    proxy_temp_path @STATE@/tmp/proxy;
    fastcgi_temp_path @STATE@/tmp/fastcgi;
    uwsgi_temp_path @STATE@/tmp/uwsgi;
    scgi_temp_path @STATE@/tmp/scgi;
    server {
        listen @LISTEN@;
        root @RELEASE@/pages;
    }
}
";

fn write(cluster: &Cluster, version: &str, configuration: &str) -> PathBuf {
    let page = format!("pages {version}\n");
    let files = [
        ("cutover.toml", MANIFEST),
        ("nginx.conf", configuration),
        ("start", START),
        ("pages/index.html", page.as_str()),
    ];
    let dir = release_dir(cluster.folder(), version, &files);
    fs::set_permissions(dir.join("start"), fs::Permissions::from_mode(0o755))
        .expect("our own file takes a mode");
    dir
}

fn deploy(cluster: &Cluster, release: &str) -> cutover_tests::live::Ran {
    cluster.cutover(&[
        "deploy",
        release,
        "--to",
        "test",
        "--batch",
        "1,2",
        "--healthy-for",
        "300ms",
        "--healthy-within",
        "5s",
        "--progress-within",
        "30s",
    ])
}

fn all_serve(cluster: &Cluster, version: &str) -> bool {
    (0..4).all(|index| {
        let answer = cluster.get(index, PORT, "/index.html").unwrap_or_default();
        answer.contains("server: nginx") && answer.contains(&format!("pages {version}\n"))
    })
}

#[test]
fn nginx_is_rolled_forth_and_back_and_a_configuration_that_does_not_start_goes_back_by_itself() {
    assert!(program_on_path("nginx").is_some(), "nginx is not installed; run: make test");
    let cluster = Cluster::start(4);
    cluster.push(&write(&cluster, "1", CONFIGURATION), "1");
    cluster.push(&write(&cluster, "2", CONFIGURATION), "2");
    let broken = CONFIGURATION.replace("listen @LISTEN@;", "lissten @LISTEN@;");
    cluster.push(&write(&cluster, "3", &broken), "3");

    deploy(&cluster, "pages@1").done();
    assert!(all_serve(&cluster, "1"));
    let clients = Clients::ask(&cluster, PORT, &["GET /index.html"]);
    deploy(&cluster, "pages@2").done();
    clients.heard().all_is_well().moved("1", "2");
    assert!(all_serve(&cluster, "2"));

    deploy(&cluster, "pages@3").failed_with(1);
    clients.heard().all_is_well().only("2");
    let why = cluster.cutover(&["why", "pages"]).done();
    assert!(why.contains("Rolled back"), "{why}");

    deploy(&cluster, "pages@1").done();
    clients.heard().all_is_well().moved("2", "1");
    assert!(all_serve(&cluster, "1"));
}
