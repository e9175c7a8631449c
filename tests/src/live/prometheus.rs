//! A real Prometheus server, which asks the coordinator for its metrics.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use super::{daemon::Daemon, programs::program_on_path, wait_for};

/// It reads its own log of samples first, and asks each second.
const UP_WITHIN: Duration = Duration::from_secs(120);

/// A server that is there, or was.
#[derive(Debug)]
pub(super) struct Prometheus {
    daemon: Daemon,
    address: SocketAddr,
}

impl Prometheus {
    /// Makes one at `address` that keeps what it has below `folder`, and asks `target`.
    pub(super) fn new(folder: &Path, address: SocketAddr, target: &str) -> Self {
        let program = program_on_path("prometheus").expect("tests/setup.sh test installs it");
        let configuration = folder.join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: coordinator\n    \
             static_configs:\n      - targets: [\"{target}\"]\n"
        );
        fs::write(&configuration, text).expect("the disk takes a file");
        let args = [
            format!("--config.file={}", configuration.display()),
            format!("--storage.tsdb.path={}", folder.join("prometheus").display()),
            format!("--web.listen-address={address}"),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let daemon = Daemon::new(&program, &args, folder.join("prometheus.log"));
        Self { daemon, address }
    }

    /// Starts it, and waits until it knows something of what it asks.
    pub(super) fn start(&mut self) {
        self.daemon.start();
        wait_for("Prometheus to know the coordinator's agents", UP_WITHIN, || {
            if let Some(status) = self.daemon.ended() {
                panic!("Prometheus ended ({status}): {}", self.daemon.log_tail());
            }
            let page = "/api/v1/query?query=cutover_coordinator_agents";
            let answer = super::Cluster::get_with(self.address, page, "")?;
            answer.contains("\"presence\":\"live\"").then_some(())
        });
    }

    /// Ends it.
    pub(super) fn stop(&mut self) {
        self.daemon.stop();
    }

    /// Returns where it is asked.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
