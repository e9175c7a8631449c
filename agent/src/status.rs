//! Status: what `cutover-agent status` prints: a file that the daemon keeps, read by another
//! process.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cutover_agent_core::{Agent, IllegalEvent};
use cutover_common::{Health, Phase, Report, Slot};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::journal::{FileJournal, OpenJournal, RealDisk, is_locked};

const STATUS_FILE: &str = "status.json";

/// How the agent is, as its engine knows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    pub is_joined: bool,
    pub reports: Vec<Report>,
}

/// How the agent is, as it is written and printed. Field names are a contract.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Status {
    /// Whether the daemon runs. If not, the rest is what it remembers.
    pub running: bool,
    pub connected: bool,
    pub applications: Vec<ApplicationStatus>,
}

/// One application on this host.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct ApplicationStatus {
    pub application: String,
    /// TERM.GENERATION of the goal.
    pub fence: String,
    /// Those that are not empty.
    pub slots: Vec<SlotStatus>,
}

/// One slot.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct SlotStatus {
    pub slot: Slot,
    pub version: String,
    pub phase: Phase,
    pub health: Health,
    pub detail: String,
    pub restarts: u32,
    pub pid: Option<u32>,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum ReadStatus {
    #[error("the agent is just starting; ask again in a moment")]
    Starting,
    #[error("could not read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no status", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(transparent)]
    Journal(#[from] OpenJournal),
    #[error("the journal is not what an agent writes")]
    Replay(#[from] IllegalEvent),
}

impl Status {
    /// Reads the status of the agent with this data directory, whether it runs or not.
    ///
    /// # Errors
    ///
    /// When neither its status nor its journal can be read.
    pub fn read(data: &Path) -> Result<Self, ReadStatus> {
        if is_locked(data) {
            let path = data.join(STATUS_FILE);
            let json = match fs::read(&path) {
                Ok(json) => json,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(ReadStatus::Starting);
                }
                Err(source) => return Err(ReadStatus::Read { path, source }),
            };
            return serde_json::from_slice(&json)
                .map_err(|source| ReadStatus::Parse { path, source });
        }
        let agent = Agent::replay(&FileJournal::peek(&mut RealDisk::new(data))?)?;
        let applications = agent.remembered().applications.values();
        let remembered = applications.map(|application| ApplicationStatus {
            application: application.assignment.application.to_string(),
            fence: application.fence().to_string(),
            slots: application
                .slots
                .iter()
                .filter_map(|(slot, state)| {
                    let release = match &state.instance {
                        Some(instance) => &instance.release,
                        None => state.prepared.as_ref()?,
                    };
                    let is_running = state.instance.is_some();
                    Some(SlotStatus {
                        slot,
                        version: release.name.version.to_string(),
                        phase: if is_running { Phase::Running } else { Phase::Prepared },
                        health: Health::Unknown,
                        detail: String::new(),
                        restarts: 0,
                        pid: None,
                    })
                })
                .collect(),
        });
        Ok(Self { running: false, connected: false, applications: remembered.collect() })
    }

    fn of(snapshot: &Snapshot) -> Self {
        let applications = snapshot.reports.iter().map(|report| ApplicationStatus {
            application: report.application.to_string(),
            fence: report.fence.to_string(),
            slots: report
                .slots
                .iter()
                .filter_map(|(slot, report)| SlotStatus::of(slot, report))
                .collect(),
        });
        Self { running: true, connected: snapshot.is_joined, applications: applications.collect() }
    }
}

impl SlotStatus {
    fn of(slot: Slot, report: &cutover_common::SlotReport) -> Option<Self> {
        let (version, _) = report.release.as_ref()?;
        Some(Self {
            slot,
            version: version.to_string(),
            phase: report.phase,
            health: report.health,
            detail: report.detail.clone(),
            restarts: report.restarts,
            pid: report.instance.as_ref().map(|instance| instance.pid),
        })
    }
}

/// Keeps the status file up to date until the engine ends. A status that cannot be written is
/// logged: it is for people, and nothing depends on it.
pub async fn keep(data: PathBuf, mut snapshots: watch::Receiver<Snapshot>) {
    loop {
        let status = Status::of(&snapshots.borrow_and_update());
        let written = {
            let data = data.clone();
            tokio::task::spawn_blocking(move || write(&data, &status)).await
        };
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "could not write the status file");
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

/// Writes the file in one step, so that no reader sees half of it. Not synced: after a crash of
/// the host no agent runs that it would speak of.
fn write(data: &Path, status: &Status) -> io::Result<()> {
    let beside = data.join("status.json.new");
    fs::write(&beside, serde_json::to_vec_pretty(status)?)?;
    fs::rename(beside, data.join(STATUS_FILE))
}
