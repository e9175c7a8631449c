//! Logs: brings together an operator who reads and the agent that sends what is kept on its host.
//!
//! A reading has a name that only its agent was told, and is over when either side is gone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cutover_common::{AgentName, wire::LogPiece};
use tokio::sync::mpsc;
use uuid::Uuid;

/// How many readings there may be at a time, of all operators: each costs a few pieces of 32 KiB.
const READINGS_MAX: usize = 256;

/// How many pieces of one reading may wait for its reader.
const PIECES_MAX: usize = 4;

/// The readings that are under way. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LogDesk(Arc<Mutex<BTreeMap<Uuid, Wanted>>>);

#[derive(Debug)]
struct Wanted {
    agent: AgentName,
    /// None: it is being answered.
    pieces: Option<mpsc::Sender<LogPiece>>,
}

/// There are too many readings.
#[derive(Debug, thiserror::Error)]
#[error("{READINGS_MAX} logs are being read already; end one of them")]
pub struct TooManyReadings;

/// One reading, from the reader's side. Over when it is dropped.
#[derive(Debug)]
pub struct Reading {
    desk: LogDesk,
    id: Uuid,
    pieces: mpsc::Receiver<LogPiece>,
}

impl LogDesk {
    /// Begins a reading of what `agent` keeps.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub fn begin(&self, agent: &AgentName) -> Result<Reading, TooManyReadings> {
        let mut all = self.all();
        if all.len() >= READINGS_MAX {
            return Err(TooManyReadings);
        }
        let id = cutover_runtime::dice::uuid();
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        all.insert(id, Wanted { agent: agent.clone(), pieces: Some(sender) });
        Ok(Reading { desk: self.clone(), id, pieces })
    }

    /// Returns where the pieces of a reading go, if it is one of `agent` that nobody answered yet.
    pub fn answer(&self, id: Uuid, agent: &AgentName) -> Option<mpsc::Sender<LogPiece>> {
        self.all().get_mut(&id).filter(|wanted| wanted.agent == *agent)?.pieces.take()
    }

    /// Whoever panicked with the lock held left the map as it was.
    fn all(&self) -> MutexGuard<'_, BTreeMap<Uuid, Wanted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    /// Returns its name, which the agent is told.
    pub const fn id(&self) -> Uuid {
        self.id
    }

    /// Returns the next piece. None: the agent has sent all, or is gone.
    pub async fn next(&mut self) -> Option<LogPiece> {
        self.pieces.recv().await
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.desk.all().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> AgentName {
        name.parse().unwrap()
    }

    #[test]
    fn a_reading_is_answered_once_and_by_its_own_agent_only() {
        let desk = LogDesk::default();
        let reading = desk.begin(&agent("web-1")).unwrap();

        assert!(desk.answer(Uuid::nil(), &agent("web-1")).is_none());
        assert!(desk.answer(reading.id(), &agent("web-2")).is_none());
        assert!(desk.answer(reading.id(), &agent("web-1")).is_some());
        assert!(desk.answer(reading.id(), &agent("web-1")).is_none());
    }

    #[test]
    fn what_nobody_reads_any_more_makes_room() {
        let desk = LogDesk::default();
        let readings: Vec<Reading> =
            (0..READINGS_MAX).map(|_| desk.begin(&agent("web-1")).unwrap()).collect();
        assert!(desk.begin(&agent("web-1")).is_err());

        drop(readings);

        assert!(desk.begin(&agent("web-1")).is_ok());
    }
}
