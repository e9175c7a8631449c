//! Again: the settings of a rollout, given to another one.

use cutover_common::{
    Allow, ApplicationName, DeploySetting, EnvironmentName, Version, check::ChosenChecks,
    duration_text::print,
};

use crate::{
    coordinator::Coordinator,
    input::Verb,
    rollout::{Options, Outcome, Rollout, Spec, State, Strategy},
};

impl Coordinator {
    /// Returns options for hosts that lack `version`, which came to the others already: as whoever
    /// brought it there said. What depends on how many hosts there are is reckoned anew, and hosts that
    /// have just come are nobody's canary.
    pub(super) fn options_of_latecomers(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
        version: &Version,
    ) -> Options {
        const KEPT: [DeploySetting; 10] = [
            DeploySetting::Batch,
            DeploySetting::Sliding,
            DeploySetting::HealthyFor,
            DeploySetting::HealthyWithin,
            DeploySetting::ProgressWithin,
            DeploySetting::Soak,
            DeploySetting::Zone,
            DeploySetting::ZoneMinHealthy,
            DeploySetting::ZoneSoak,
            DeploySetting::MaxLoad,
        ];
        let brought_it = |rollout: &&Rollout| {
            let has_succeeded =
                matches!(rollout.state, State::Ended { outcome: Outcome::Succeeded, .. });
            has_succeeded
                && !rollout.converges
                && rollout.environment == *environment
                && rollout.application == *application
                && rollout.to == *version
        };
        let newest = self.rollouts.values().filter(brought_it).max_by_key(|it| it.number);
        let said = newest.map(|rollout| same_options(&rollout.spec, Verb::Rollback));
        let kept = said.iter().flat_map(Options::iter).filter(|(name, _)| KEPT.contains(name));
        let mut options: Options = kept.collect();
        options.set(DeploySetting::Strategy, Strategy::Rolling.to_string());
        options
    }
}

/// Returns options that resolve to `spec` again, whatever the manifest of the other release says.
/// The way back asks nobody in between, and a restart is gone back from by nothing.
pub(super) fn same_options(spec: &Spec, verb: Verb) -> Options {
    let is_way_back = verb == Verb::Rollback;
    let mut options: Options = [
        (DeploySetting::Strategy, spec.strategy.to_string()),
        (DeploySetting::MinHealthy, spec.min_healthy.to_string()),
        (DeploySetting::MaxFailed, spec.max_failed.to_string()),
        (DeploySetting::MaxUnreachable, spec.max_unreachable.to_string()),
        (DeploySetting::Unreachable, spec.unreachable.to_string()),
        (DeploySetting::HealthyFor, print(spec.healthy_for)),
        (DeploySetting::HealthyWithin, print(spec.healthy_within)),
        (DeploySetting::ProgressWithin, print(spec.progress_within)),
        (DeploySetting::Soak, print(spec.soak)),
        (DeploySetting::Bake, print(spec.bake)),
        (DeploySetting::AutoRollback, on_or_off(spec.auto_rollback)),
    ]
    .into_iter()
    .collect();
    // The way back goes through no canary again.
    if is_way_back && spec.strategy == Strategy::Canary {
        options.set(DeploySetting::Strategy, Strategy::Rolling.to_string());
    } else if let Some(canary) = &spec.canary {
        options.set(DeploySetting::CanaryHosts, canary.hosts.to_string());
        options.set(DeploySetting::CanarySteps, canary.steps.to_string());
        options.set(DeploySetting::CanaryPromote, canary.promote.to_string());
        options.set(DeploySetting::CanaryUnsure, canary.unsure.to_string());
        if let Some(judge) = &canary.judge {
            options.set(DeploySetting::CanaryJudge, judge.to_string());
        }
        let checks: ChosenChecks = canary.checks.iter().map(|check| check.name.clone()).collect();
        options.set(DeploySetting::CanaryChecks, checks.to_string());
        for (setting, text) in canary.allow.iter().flat_map(Allow::settings) {
            options.set(setting, text);
        }
    }
    if let Some(how) = &spec.blue_green {
        options.set(DeploySetting::Cutover, how.cutover.to_string());
        options.set(DeploySetting::Hold, print(how.hold));
        options.set(DeploySetting::Keep, print(how.keep));
        options.set(DeploySetting::Approve, on_or_off(how.approve && !is_way_back));
        if let Some(groups) = &how.groups {
            options.set(DeploySetting::Groups, &groups.label);
        }
        if how.until_smoke && !is_way_back {
            options.set(DeploySetting::Until, "smoke");
        }
    }
    if !matches!(spec.strategy, Strategy::AllAtOnce | Strategy::BlueGreen) {
        options.set(DeploySetting::Batch, spec.batches.to_string());
        options.set(DeploySetting::Sliding, on_or_off(spec.sliding));
    }
    if let Some(pauses) = spec.pause_after.as_ref().filter(|_| !is_way_back) {
        options.set(DeploySetting::PauseAfter, pauses.to_string());
    }
    if let Some(zone) = &spec.zone {
        options.set(DeploySetting::Zone, zone);
        options.set(DeploySetting::ZoneSoak, print(spec.zone_soak));
    }
    if let Some(floor) = &spec.zone_min_healthy {
        options.set(DeploySetting::ZoneMinHealthy, floor.to_string());
    }
    if let Some(load) = &spec.max_load {
        options.set(DeploySetting::MaxLoad, load.to_string());
    }
    options
}

fn on_or_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}
