//! Measures the instances that run, between one heartbeat and the next.

use std::sync::{Arc, Mutex, PoisonError};

use cutover_common::{
    ApplicationName, InstanceId, InstanceVitals, Report, Slot, protocol::HEARTBEAT_EVERY,
};
use tokio::{task::JoinHandle, time::Instant};

use crate::process::ProcessRuntime;

/// What was measured, and who measures. The loop waits for none of it: a host has thousands of
/// processes to look through, and a disk that hangs.
pub(super) struct Vitals {
    runtime: ProcessRuntime,
    measured: Arc<Mutex<Option<Measured>>>,
    measuring: Option<JoinHandle<()>>,
}

struct Measured {
    at: Instant,
    vitals: Vec<InstanceVitals>,
}

impl Vitals {
    pub(super) fn new(runtime: ProcessRuntime) -> Self {
        Self { runtime, measured: Arc::default(), measuring: None }
    }

    /// Returns what was measured since the last call of the instances that `reports` still speak
    /// of, and begins to measure them anew.
    pub(super) fn take(&mut self, reports: &[Report]) -> Vec<InstanceVitals> {
        let running = running(reports);
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What is from before a session was lost would be read as of this moment, and what has
        // come since as of the next.
        let measured = measured.filter(|it| it.at.elapsed() < HEARTBEAT_EVERY * 2);
        let mut vitals = measured.map(|it| it.vitals).unwrap_or_default();
        vitals.retain(|it| running.iter().any(|(_, _, instance)| *instance == it.instance));
        if self.measuring.as_ref().is_none_or(JoinHandle::is_finished) && !running.is_empty() {
            let (runtime, told) = (self.runtime.clone(), self.measured.clone());
            self.measuring = Some(tokio::spawn(async move {
                let measured =
                    Measured { at: Instant::now(), vitals: runtime.vitals(running).await };
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(measured);
            }));
        }
        vitals
    }
}

fn running(reports: &[Report]) -> Vec<(ApplicationName, Slot, InstanceId)> {
    let slots = reports.iter().flat_map(|report| {
        report.slots.iter().map(move |(slot, told)| (&report.application, slot, told))
    });
    slots
        .filter_map(|(application, slot, told)| {
            Some((application.clone(), slot, told.instance.as_ref()?.instance))
        })
        .collect()
}
