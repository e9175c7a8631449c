//! Delays: how old what a coordinator knows of a host may be in a run, by all that the script
//! makes slow or deaf. Nothing is an oracle's business that is younger than this.

use std::time::Duration;

use cutover_common::protocol::{HEARTBEAT_EVERY, SILENCE_MAX};

use crate::script::{Fault, Script, What};

/// The longest that lost packets delay a message: 200 ms, doubled until 4 s are reached.
const LOSS: Duration = Duration::from_millis(6_200);

/// What is fast at any time: processes begun, looked at, asked.
const QUICK: Duration = Duration::from_millis(500);

/// See above.
#[derive(Clone, Debug, Default)]
pub(super) struct Delays {
    /// By host: from a fact to the agent's word of it.
    deaf: Vec<Duration>,
    /// By host: from an agent's word to a decision that is based on it.
    stale: Vec<Duration>,
    /// By application: from a fact to the verdict of probes.
    probing: Vec<Duration>,
}

impl Delays {
    pub(super) fn new(script: &Script) -> Self {
        let network = script.network;
        let sync = Duration::from_micros(script.disks.sync_max_us);
        let lossy = network.loss_permille + network.drop_permille > 0;
        let backlog = if script.settings.coordinator_batch_max < 64 {
            sync * u32::from(script.hosts) * 2
        } else {
            sync * 2
        };
        let mut stale = SILENCE_MAX
            + HEARTBEAT_EVERY
            + Duration::from_micros(network.delay_max_us) * 2
            + backlog
            + QUICK;
        if lossy {
            stale += LOSS + HEARTBEAT_EVERY * 2;
        }
        let mut delays = Self {
            deaf: vec![sync * 4 + QUICK; usize::from(script.hosts)],
            stale: vec![stale; usize::from(script.hosts)],
            probing: script.applications.iter().map(probing).collect(),
        };
        for entry in &script.entries {
            if let What::Fault(fault) = &entry.what {
                delays.add(fault);
            }
        }
        delays
    }

    fn add(&mut self, fault: &Fault) {
        let ms = Duration::from_millis;
        let of_host = |list: &mut Vec<Duration>, host: u16, by: Duration| {
            if let Some(delay) = list.get_mut(usize::from(host)) {
                *delay += by;
            }
        };
        let of_all = |list: &mut Vec<Duration>, by: Duration| {
            list.iter_mut().for_each(|delay| *delay += by);
        };
        match *fault {
            Fault::PauseAgent { host, for_ms } | Fault::Suspend { host, for_ms } => {
                of_host(&mut self.deaf, host, ms(for_ms));
            }
            Fault::SlowDisk { host, sync_ms, .. } => of_host(&mut self.deaf, host, ms(sync_ms * 4)),
            Fault::SlowLink { host, delay_ms, .. } => of_host(&mut self.stale, host, ms(delay_ms)),
            Fault::PauseCoordinator { for_ms, .. } => of_all(&mut self.stale, ms(for_ms)),
            Fault::SlowCoordinatorDisk { sync_ms, .. } => of_all(&mut self.stale, ms(sync_ms * 4)),
            // The others end something: what was known of it is forgotten, or soon too old.
            _ => {}
        }
    }

    /// Returns how old a fact of an application on a host may be when a coordinator decides by it.
    pub(super) fn of(&self, host: u16, application: u16) -> Duration {
        let at = |list: &[Duration], index: u16| {
            list.get(usize::from(index)).copied().unwrap_or_default()
        };
        at(&self.deaf, host) + at(&self.stale, host) + at(&self.probing, application)
    }

    /// Returns how late an agent may take an answer of a probe.
    pub(super) fn deaf(&self, host: u16) -> Duration {
        self.deaf.get(usize::from(host)).copied().unwrap_or_default()
    }

    /// Returns how long probes may take to find that an application turned bad.
    pub(super) fn probing(&self, application: u16) -> Duration {
        self.probing.get(usize::from(application)).copied().unwrap_or_default()
    }
}

fn probing(application: &crate::script::Application) -> Duration {
    let Some(probe) = application.probe else { return Duration::ZERO };
    let one = Duration::from_millis(probe.every_ms + probe.timeout_ms);
    one * (probe.failures + 1)
}
