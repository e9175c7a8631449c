//! A window that slides: as many hosts are under way or watched as it is wide, each followed by the
//! next.

use cutover_common::{AgentName, SlotReport, Timestamp, planted};

use super::{Decision, Scene, forward::still_healthy};
use crate::rollout::{HostState, Rollout, Waiting};

/// The hosts of a window that are done and still watched: each holds a place.
pub(super) struct Watched {
    pub(super) hosts: usize,
    /// When the first of them has been watched for long enough.
    until: Option<Timestamp>,
    /// Those that have been, and of which nothing is known at the end: no data is not health.
    unsure: Vec<AgentName>,
    /// When the watch of the last of those was over.
    ended: Timestamp,
}

impl Watched {
    pub(super) fn in_window(rollout: &Rollout, scene: Scene<'_>, wave: usize, step: usize) -> Self {
        let (unsure, ended) = (Vec::new(), Timestamp::default());
        let mut watched = Self { hosts: 0, until: None, unsure, ended };
        let has_window = rollout.plan.waves.get(wave).is_some_and(|wave| wave.window.is_some());
        if !has_window || rollout.spec.soak.is_zero() || rollout.is_promoted(wave, step) {
            return watched;
        }
        for (agent, host) in &rollout.hosts {
            let Some(since) = host.watched.filter(|_| host.wave == wave) else { continue };
            if host.state != HostState::Updated {
                continue;
            }
            let until = since + rollout.spec.soak;
            let slot = scene.slot_of_goal(rollout, agent, &rollout.to);
            if scene.now < until {
                watched.until = Some(watched.until.map_or(until, |first| first.min(until)));
                watched.hosts += 1;
            } else if !slot.is_some_and(SlotReport::has_settled) {
                watched.unsure.push(agent.clone());
                watched.ended = watched.ended.max(until);
                watched.hosts += 1;
            }
        }
        watched
    }

    /// Waits for the first of them, or for a word of those that are unsure. None: nobody is
    /// watched any more.
    pub(super) fn wait(self, rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
        match self.until {
            Some(until) => Some(Decision::Wait(Waiting::ForSoak { until })),
            None => still_healthy(
                rollout,
                scene,
                self.unsure,
                planted!(WindowWaitsForEver: scene.now; self.ended),
            ),
        }
    }
}
