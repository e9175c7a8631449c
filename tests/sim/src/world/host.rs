//! A host: its kernel, its disk, its clock, and the agent on it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cutover_agent_core::{Action, Agent, Input, Retained};
use cutover_agent_journal::{Disk, DiskJournal};
use cutover_common::{AgentName, ApplicationName, InstanceId, Sha256};
use uuid::Uuid;

use super::{
    clock::{ProcessClock, Wall},
    gate::Gate,
    kernel::Kernel,
    network::ConnectionId,
};
use crate::{dice::Dice, disk::SimDisk, moment::Moment, script::KillPoint};

/// The name of the file that the journal is in, as the journal itself names it.
pub(super) const JOURNAL: &str = "agent.journal";

/// A disk that a process has open, and that outlives it.
#[derive(Clone, Debug)]
pub struct DiskHandle(Arc<Mutex<SimDisk>>);

impl DiskHandle {
    pub(crate) fn new(disk: SimDisk) -> Self {
        Self(Arc::new(Mutex::new(disk)))
    }

    /// Returns the disk itself.
    pub fn get(&self) -> MutexGuard<'_, SimDisk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for DiskHandle {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.get().read(name))
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.get().append(name, bytes)
    }

    fn write_new(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.get().create(name, bytes)
    }

    fn overwrite(&mut self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.get().overwrite(name, usize::try_from(at).unwrap_or(usize::MAX), bytes)
    }

    fn set_length(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.get().truncate(name, usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.get().sync(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.get().rename(from, to)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.get().sync_names()
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }
}

/// One host.
#[derive(Debug)]
pub struct Host {
    pub name: AgentName,
    pub number: u16,
    pub kernel: Kernel,
    pub gate: Gate,
    pub disk: DiskHandle,
    pub wall: Wall,
    /// Releases on disk, whole and durable.
    pub releases: BTreeSet<(ApplicationName, Sha256)>,
    pub certificate: Certificate,
    /// How often the agent was started: what was asked of an earlier process is not answered.
    pub epoch: u32,
    pub agent: Option<AgentProcess>,
    /// Nothing on the host runs until then.
    pub suspended_until: Option<Moment>,
    /// The agent is stopped until then.
    pub paused_until: Option<Moment>,
    /// Never started again.
    pub is_gone: bool,
    /// The agent has read a journal that it must not act on.
    pub observes_only: bool,
    /// How many faults keep it from beginning processes.
    pub refuses_processes: u32,
    pub sync_slow_us: Option<u64>,
    pub kill_at: Option<(KillPoint, u64)>,
    /// Work that has begun and that a kill of the agent may or may not complete.
    pub spawning: BTreeMap<InstanceId, Box<super::perform::Spawn>>,
    pub luck: Dice,
}

/// What lets an agent in.
#[derive(Clone, Copy, Debug)]
pub struct Certificate {
    pub enrolment: Uuid,
    pub not_after: Moment,
    pub serial: u32,
}

/// A running agent.
#[derive(Debug)]
pub struct AgentProcess {
    pub core: Agent,
    pub(super) journal: DiskJournal<DiskHandle>,
    pub clock: ProcessClock,
    pub inbox: VecDeque<Input>,
    /// What is performed when the flush that is under way has ended.
    pub(super) storing: Option<Vec<Action>>,
    pub(super) is_woken: bool,
    pub(super) wakes_at: Option<Moment>,
    pub connection: Option<ConnectionId>,
    pub(super) sessions: u64,
    pub(super) failures: u32,
    /// Whether the disk has changed what the journal says, since it was read.
    pub has_flipped: bool,
    pub retained: Option<Retained>,
    /// How often a check was run that fails at first.
    pub(super) blips: u32,
}

impl AgentProcess {
    /// Returns whether a flush is under way: memory is ahead of the journal then.
    pub const fn is_storing(&self) -> bool {
        self.storing.is_some()
    }
}

impl Host {
    /// Makes a core of what the journal says, without changing it. None: it cannot be read.
    pub fn replay(&self) -> Option<Agent> {
        let events = DiskJournal::peek(&mut self.disk.clone()).ok()?;
        Agent::replay(&events).ok()
    }

    /// Returns whether the agent's process can do something at this moment.
    pub const fn agent_runs(&self) -> bool {
        self.agent.is_some() && self.paused_until.is_none() && self.suspended_until.is_none()
    }

    /// Returns whether the host itself runs.
    pub const fn is_up(&self) -> bool {
        self.suspended_until.is_none() && !self.is_gone
    }
}
