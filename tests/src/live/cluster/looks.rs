//! What there is to see of a cluster: gates, slots, instances, and what applications answer.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use cutover_runtime::descendants;
use rustix::process::Pid;
use serde_json::Value;

use super::{
    super::ran::{Ran, run},
    Cluster,
};

/// How long one HTTP answer may take, on a machine that is busy.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// One slot that holds something, as `cutover agents show` says it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeldSlot {
    pub version: String,
    pub phase: String,
    pub health: String,
    /// Whether the gate leads to it.
    pub has_traffic: bool,
}

/// One instance, as its agent reports it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Instance {
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: tells one process from a later one of the same pid.
    pub start_ticks: u64,
}

impl Cluster {
    /// Returns the pids of the gate of agent `index`: one, or two while one takes over from the
    /// other.
    pub fn gates(&self, index: usize) -> Vec<Pid> {
        let data = self.agents[index].data.join("gate").display().to_string();
        let is_gate = |pid: &Pid| {
            let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            let command = command.unwrap_or_default();
            let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
            words.first().is_some_and(|word| word.ends_with(b"cutover-gate"))
                && words.contains(&data.as_bytes())
        };
        descendants::all().into_iter().filter(is_gate).collect()
    }

    /// Returns what the gate of agent `index` says of itself, as `cutover-gate status` prints it.
    ///
    /// # Panics
    ///
    /// When it cannot be asked.
    pub fn gate_status(&self, index: usize) -> Value {
        serde_json::from_str(&self.ask_gate(index).done()).expect("it is json")
    }

    /// Returns the same, or nothing while no gate is there to be asked.
    pub fn gate_status_if_there(&self, index: usize) -> Option<Value> {
        let ran = self.ask_gate(index);
        (ran.status == 0).then(|| serde_json::from_str(&ran.stdout).ok())?
    }

    fn ask_gate(&self, index: usize) -> Ran {
        let mut command = Command::new(self.programs.agent.with_file_name("cutover-gate"));
        command.args(["status", "--json", "--data"]).arg(self.agents[index].data.join("gate"));
        run(&mut command)
    }

    /// Returns what agent `index` says of itself, also to nobody else, as `cutover-agent status` prints
    /// it.
    ///
    /// # Panics
    ///
    /// When it cannot be asked.
    pub fn agent_status(&self, index: usize) -> Value {
        let mut command = Command::new(&self.programs.agent);
        command.args(["status", "--output", "json", "--data"]).arg(&self.agents[index].data);
        serde_json::from_str(&run(&mut command).done()).expect("it is json")
    }

    /// Returns what the slots of the sample application hold on agent `index`, as the coordinator
    /// was told.
    ///
    /// # Panics
    ///
    /// When nothing is known of that agent.
    pub fn slots(&self, index: usize) -> Vec<HeldSlot> {
        let shown = self.json(&["agents", "show", &self.agents[index].name, "--output", "json"]);
        let applications = shown["applications"].as_array().expect("a list of applications");
        let slots = applications.iter().filter_map(|it| it["slots"].as_array()).flatten();
        let slots = slots.map(|slot| {
            let of = |key: &str| slot[key].as_str().unwrap_or_default().to_owned();
            let has_traffic = slot["traffic"] == "here";
            HeldSlot {
                version: of("version"),
                phase: of("phase"),
                health: of("health"),
                has_traffic,
            }
        });
        slots.collect()
    }

    /// Returns where the agents' gates listen for clients of `port`.
    pub fn hosts(&self, port: u16) -> Vec<SocketAddr> {
        self.agents.iter().map(|agent| SocketAddr::new(agent.address, port)).collect()
    }

    /// Returns what all instances of the sample application on agent `index` have logged.
    pub fn instance_logs(&self, index: usize) -> String {
        let logs = self.agents[index].data.join("logs").join("web");
        let files = fs::read_dir(logs).into_iter().flatten().flatten();
        files.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect()
    }

    /// Asks agent `index`'s application for `path`. None when nothing answers.
    pub fn get(&self, index: usize, port: u16, path: &str) -> Option<String> {
        Self::get_from(SocketAddr::new(self.agents[index].address, port), path)
    }

    /// Asks whoever listens on `address` for `path`. None when nothing answers.
    pub fn get_from(address: SocketAddr, path: &str) -> Option<String> {
        Self::get_with(address, path, "")
    }

    /// Does the same with more lines of the head, each with its end.
    pub fn get_with(address: SocketAddr, path: &str, more: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN).ok()?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Returns the instances of the sample application, one for each agent that has one, found in
    /// what they themselves answer and in `/proc`.
    pub fn instances(&self, port: u16) -> Vec<Option<Instance>> {
        (0..self.agents.len())
            .map(|index| {
                let answer = self.get(index, port, "/")?;
                let body = answer.split("\r\n\r\n").nth(1)?;
                let pid: u32 = body.split_whitespace().last()?.parse().ok()?;
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                let after = stat.rsplit_once(')')?.1;
                let start_ticks = after.split_whitespace().nth(19)?.parse().ok()?;
                Some(Instance { pid, start_ticks })
            })
            .collect()
    }
}
