//! Debian's nginx and HAProxy in front of an instance, each with two workers or threads.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{listens, own_address};
use crate::live::program_on_path;

/// How many connections each worker takes, on both of its sides.
const CONNECTIONS_MAX: usize = 19_000;

/// A proxy, or a server. Ended when it is dropped.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) listen: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Peer {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts nginx as a proxy; none when it is not installed.
    pub(super) async fn nginx(upstream: SocketAddr) -> Result<Option<Self>> {
        Self::nginx_with(2, |listen| proxy_of(listen, upstream)).await
    }

    /// Starts nginx as a server of one worker for `files`, each a name and its content.
    pub(super) async fn files(files: &[(&str, Vec<u8>)]) -> Result<Option<(Self, TempDir)>> {
        let root = tempfile::tempdir()?;
        for (name, content) in files {
            fs::write(root.path().join(name), content)?;
        }
        readable(root.path())?;
        let site = |listen: SocketAddr| {
            format!(
                "server {{ listen {listen} backlog=4096; root {}; keepalive_requests 1000000000;\n\
                 open_file_cache max=10; }}",
                root.path().display()
            )
        };
        Ok(Self::nginx_with(1, site).await?.map(|peer| (peer, root)))
    }

    /// Has nginx pass everything new to `upstream`, as its users do it: a new file and HUP.
    pub(super) fn reload_nginx(&self, upstream: SocketAddr) -> Result<()> {
        let text = nginx_conf(self.dir.path(), 2, &proxy_of(self.listen, upstream));
        fs::write(self.dir.path().join("nginx.conf"), text)?;
        kill_process(Pid::from_child(&self.child), Signal::HUP)?;
        Ok(())
    }

    async fn nginx_with(
        workers: usize,
        site: impl Fn(SocketAddr) -> String,
    ) -> Result<Option<Self>> {
        let Some(program) = program_on_path("nginx") else { return Ok(None) };
        let (dir, listen) = (tempfile::tempdir()?, own_address()?);
        readable(dir.path())?;
        let conf = dir.path().join("nginx.conf");
        fs::write(&conf, nginx_conf(dir.path(), workers, &site(listen)))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&conf).args(["-e", "stderr", "-p"]).arg(dir.path());
        Self::start("nginx", command, listen, dir).await.map(Some)
    }

    /// Starts HAProxy as a proxy; none when it is not installed.
    pub(super) async fn haproxy(upstream: SocketAddr) -> Result<Option<Self>> {
        let Some(program) = program_on_path("haproxy") else { return Ok(None) };
        let (dir, listen) = (tempfile::tempdir()?, own_address()?);
        let conf = dir.path().join("haproxy.cfg");
        fs::write(
            &conf,
            format!(
                "global\n  nbthread 2\n  no strict-limits\n  maxconn {CONNECTIONS_MAX}\n\
                 defaults\n  mode http\n  timeout connect 5s\n  timeout client 75s\n\
                 \x20 timeout server 300s\n  timeout tunnel 3600s\n  http-reuse always\n\
                 \x20 option forwardfor\n\
                 frontend f\n  bind {listen}\n  default_backend b\n\
                 backend b\n  server s {upstream}\n"
            ),
        )?;
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&conf);
        Self::start("haproxy", command, listen, dir).await.map(Some)
    }

    /// Starts `command`, which keeps its files in `dir`, and waits until it listens.
    pub(super) async fn start(
        what: &str,
        mut command: Command,
        listen: SocketAddr,
        dir: TempDir,
    ) -> Result<Self> {
        let log = File::create(dir.path().join("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{what} can be started"))?;
        let peer = Self { listen, child, dir };
        listens(what, listen).await.with_context(|| peer.says())?;
        Ok(peer)
    }

    fn says(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Asked first: nginx's workers end with their master only then.
        let _asked = kill_process(Pid::from_child(&self.child), Signal::TERM);
        drop(self.child.wait());
    }
}

fn proxy_of(listen: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "upstream u {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}\n\
         map $http_upgrade $close_or_upgrade {{ default upgrade; '' ''; }}\n\
         server {{ listen {listen} backlog=4096; keepalive_requests 1000000000;\n\
         client_max_body_size 0;\n\
         location / {{ proxy_pass http://u; proxy_http_version 1.1;\n\
         proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection $close_or_upgrade;\n\
         proxy_set_header X-Forwarded-For $remote_addr;\n\
         proxy_max_temp_file_size 0; }} }}"
    )
}

fn nginx_conf(dir: &Path, workers: usize, site: &str) -> String {
    let temporary = |name: &str| -> PathBuf { dir.join(name) };
    format!(
        "daemon off; pid {}; worker_processes {workers};\n\
         events {{ worker_connections {CONNECTIONS_MAX}; }}\n\
         http {{ access_log off; error_log stderr crit; keepalive_timeout 75s; sendfile on;\n\
         tcp_nodelay on; client_body_temp_path {}; proxy_temp_path {};\n{site} }}\n",
        temporary("pid").display(),
        temporary("bodies").display(),
        temporary("answers").display(),
    )
}

/// Lets nginx's workers in, which are nobody's when it was started by root.
fn readable(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
