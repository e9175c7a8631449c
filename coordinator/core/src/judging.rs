//! Judging: what gates and agents tell of a canary and of the hosts beside it, shown to the judge.
//!
//! The evidence is in memory only. A process that begins takes it up anew, with its part of the
//! false alarms that are allowed; what was seen before is not watched for.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use cutover_common::{
    AgentName, InstanceVitals, JudgeSetting, JudgedLimit, JudgedMetric, LATENCY_BUCKETS, Permille,
    Phase, Slot, SlotCounts, SlotReport, Timestamp, Version,
    latency::{LATENCY_DOUBLINGS, LATENCY_PARTS},
    planted,
    protocol::HEARTBEAT_EVERY,
};
use cutover_judge::{
    Evidence, HostIndex, Judge, JudgeSettings, JudgeSpec, LatencyScale, LimitSettings, Missing,
    Sample, Side, Traffic, Verdict,
};
use uuid::Uuid;

use crate::{
    coordinator::Coordinator,
    fleet::Seen,
    rollout::{Host, HostState, Rollout, State},
};

/// For how long each side must have been watched before a canary passes: a crash loop shows more
/// than one restart by then. Whoever holds a canary for less asks for less.
const WATCHED_MIN: Duration = Duration::from_secs(120);

/// All judges of rollouts that are under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judges(BTreeMap<Uuid, Judging>);

/// The judge of one rollout.
#[derive(Clone, Debug)]
pub(crate) struct Judging {
    judge: Judge,
    /// The place of each host that was ever shown.
    places: BTreeMap<AgentName, usize>,
    before: BTreeMap<(AgentName, Slot), Before>,
    /// When the round that is open began.
    round: Timestamp,
}

/// What a slot had told when it was shown last.
#[derive(Clone, Debug)]
struct Before {
    at: Timestamp,
    version: Version,
    restarts: u32,
    counts: Option<SlotCounts>,
    vitals: Option<InstanceVitals>,
}

impl Judging {
    fn new(rollout: &Rollout, now: Timestamp) -> Self {
        // The first step that is watched must be able to tell.
        let steps = rollout.spec.canary.iter().flat_map(|canary| canary.steps.steps());
        let first = steps.map(|step| step.hold).find(|hold| !hold.is_zero());
        let watched = first.map_or(WATCHED_MIN, |hold| WATCHED_MIN.min(hold / 2));
        let said = rollout.spec.canary.as_ref().and_then(|canary| canary.judge.clone());
        let spec = JudgeSpec::new(settings(&said.unwrap_or_default(), watched)).unwrap_or_default();
        let judge = Judge::new(&spec, scale(), rollout.begun_anew);
        Self { judge, places: BTreeMap::new(), before: BTreeMap::new(), round: now }
    }

    /// Says what there is to say.
    pub(crate) fn verdict(&self) -> Verdict {
        self.judge.verdict()
    }

    /// Returns whether more is to be seen because what was seen looks bad.
    pub(crate) fn looks_bad(&self) -> bool {
        let is_doubt = |missing: &Missing| matches!(missing, Missing::Certainty { .. });
        match self.verdict() {
            Verdict::NotEnough(missing) => missing.iter().any(is_doubt),
            Verdict::Pass | Verdict::Fail(_) => false,
        }
    }

    /// Returns the evidence that speaks the most against the canary, if there is any.
    pub(crate) fn strongest(&self) -> Option<Evidence> {
        let known = self.judge.evidence().into_iter().filter(|it| it.canary.is_some());
        known.max_by(|one, other| (one.e_value / one.bar).total_cmp(&(other.e_value / other.bar)))
    }

    /// Shows what `agent` has told with its newest beat. Returns whether that ends a round, after which
    /// there may be a verdict.
    fn show(&mut self, rollout: &Rollout, agent: &AgentName, seen: &Seen, now: Timestamp) -> bool {
        let Some(report) = seen.reports.get(&rollout.application) else { return false };
        for (slot, told) in report.slots.iter() {
            let Some((version, _)) = &told.release else { continue };
            let Some(side) = side_of(rollout, agent, version) else { continue };
            let counts = seen
                .counts
                .iter()
                .filter(|counts| counts.application == rollout.application)
                .find(|counts| planted!(SlotsMixedUp: true; counts.slot == slot));
            let after = Before {
                at: now,
                version: version.clone(),
                restarts: told.restarts,
                counts: counts.cloned(),
                vitals: seen.vitals_of(&rollout.application, slot).cloned(),
            };
            let before = self.before.insert((agent.clone(), slot), after.clone());
            // What came before the first look is not known to be of this time, nor of this version.
            let Some(before) = before.filter(|before| before.version == *version) else { continue };
            if is_alive(told) || told.restarts != before.restarts {
                self.sample(agent, side, &before, &after);
            }
        }
        let is_over = now.since(self.round) >= HEARTBEAT_EVERY;
        if is_over {
            self.judge.end_round(now.since(self.round));
            self.round = now;
        }
        is_over
    }

    fn sample(&mut self, agent: &AgentName, side: Side, before: &Before, after: &Before) {
        let next = self.places.len();
        let place = match self.places.entry(agent.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => *new.insert(next),
        };
        let Some(host) = HostIndex::new(place) else { return };
        let counted = before.counts.as_ref().zip(after.counts.as_ref());
        let counted = counted.filter(|(before, after)| before.gate == after.gate);
        let mut latency = [0; LATENCY_BUCKETS];
        let traffic = counted.map(|(before, after)| {
            latency = after.latency.since(&before.latency);
            let grown = |of: fn(&SlotCounts) -> u64| of(after).saturating_sub(of(before));
            (grown(|it| it.requests), grown(errors))
        });
        self.judge.observe(&Sample {
            side,
            host,
            watched: after.at.since(before.at),
            traffic: traffic.map(|(requests, errors)| Traffic {
                requests,
                errors,
                latency: &latency,
            }),
            restarts: after.restarts.saturating_sub(before.restarts),
            memory_bytes: after.vitals.as_ref().and_then(|vitals| vitals.memory_bytes),
            error_lines: before.vitals.as_ref().zip(after.vitals.as_ref()).and_then(said_error),
        });
    }
}

/// Returns what the judge is told of what an operator said; `watched` where nothing was said of that.
fn settings(said: &JudgeSetting, watched: Duration) -> JudgeSettings {
    let millionths = |count: u32| f64::from(count) / 1e6;
    let limit = |metric| match said.limits.get(&metric) {
        None => LimitSettings::default(),
        Some(JudgedLimit::Off) => LimitSettings { share: Some(0.0), ..LimitSettings::default() },
        Some(JudgedLimit::From { ratio_thousandths, difference_millionths }) => LimitSettings {
            ratio: ratio_thousandths.map(|ratio| f64::from(ratio) / 1e3),
            difference: difference_millionths.map(millionths),
            share: None,
        },
    };
    JudgeSettings {
        false_alarms: said.false_alarms_ppm.map(millionths),
        host_spread: said.host_spread_ppm.map(millionths),
        requests_min: said.requests_min.map(u64::from),
        watched_seconds_min: Some(said.watched_min.unwrap_or(watched).as_secs()),
        errors: limit(JudgedMetric::Errors),
        latency: limit(JudgedMetric::Latency),
        restarts: limit(JudgedMetric::Restarts),
        memory: limit(JudgedMetric::Memory),
        log_lines: limit(JudgedMetric::LogLines),
    }
}

/// Returns the buckets that gates count in, as the judge is told of them.
fn scale() -> LatencyScale {
    LatencyScale::log_linear(LATENCY_DOUBLINGS as usize, LATENCY_PARTS)
}

/// Returns how many lines said error between two looks at a slot.
fn said_error((before, after): (&InstanceVitals, &InstanceVitals)) -> Option<u64> {
    let (known, lines) = (before.error_lines?, after.error_lines?);
    let is_same = before.instance == after.instance;
    // Another instance was started after the look before, and has counted from zero.
    Some(if is_same { lines.saturating_sub(known) } else { lines })
}

const fn errors(counts: &SlotCounts) -> u64 {
    let [_, _, _, _, server_errors] = counts.statuses;
    server_errors + counts.connect_errors + counts.resets
}

fn is_alive(slot: &SlotReport) -> bool {
    slot.phase == Phase::Running && slot.instance.is_some()
}

/// Returns on which side `version` on `agent` stands. None: on none, as a canary that gets no
/// traffic yet.
fn side_of(rollout: &Rollout, agent: &AgentName, version: &Version) -> Option<Side> {
    if rollout.from.as_ref() == Some(version) {
        let is_asked = planted!(
            IdleIsControl: true;
            gets_old_traffic(rollout.hosts.get(agent))
        );
        return is_asked.then_some(planted!(SidesMixedUp: Side::Canary; Side::Control));
    }
    if rollout.to != *version {
        return None;
    }
    let gets_it = gets_canary_traffic(rollout.hosts.get(agent)?);
    gets_it.then_some(planted!(SidesMixedUp: Side::Control; Side::Canary))
}

/// Returns whether clients of a host get the release of before. Where they get the other one alone, what
/// is still there is compared with nothing: it would stand beside a canary as if nobody asked.
fn gets_old_traffic(host: Option<&Host>) -> bool {
    host.is_none_or(|host| share_of_new(host) < Permille::ALL)
}

/// Returns whether clients of a host get the release that it is to be brought to.
pub(crate) fn gets_canary_traffic(host: &Host) -> bool {
    share_of_new(host) > Permille::NONE
}

/// Returns how much of a host's traffic the release gets that it is to be brought to. While a host is
/// told to change, or something is wrong with it, nothing is certain, and it counts for the old one.
const fn share_of_new(host: &Host) -> Permille {
    match host.state {
        HostState::Staged => host.share,
        HostState::Updated => Permille::ALL,
        HostState::Pending
        | HostState::Staging { .. }
        | HostState::Updating { .. }
        | HostState::Failed { .. }
        | HostState::Unreachable { .. }
        | HostState::Reverting { .. }
        | HostState::Reverted
        | HostState::Stuck { .. }
        | HostState::Excluded { .. } => Permille::NONE,
    }
}

impl Judges {
    /// Returns the judge of a rollout, if there is anything to compare.
    pub(crate) fn of(&self, rollout: &Rollout) -> Option<&Judging> {
        self.0.get(&rollout.id)
    }
}

impl Coordinator {
    /// Shows the judges what `agent` has told with its newest beat. Returns whether one of them may
    /// have a verdict.
    pub(crate) fn show_judges(&mut self, agent: &AgentName, now: Timestamp) -> bool {
        let Some(seen) = self.fleet.seen(agent) else { return false };
        let labels = self.enrolments.agents.get(agent);
        let mut ends_round = false;
        for rollout in self.rollouts.values().filter(|rollout| is_judged(rollout)) {
            let environment = self.environments.get(&rollout.environment);
            let is_member = labels
                .zip(environment)
                .is_some_and(|(enrolled, environment)| enrolled.is_selected(&environment.select));
            if !rollout.hosts.contains_key(agent) && !is_member {
                continue;
            }
            let judging =
                self.judges.0.entry(rollout.id).or_insert_with(|| Judging::new(rollout, now));
            ends_round |= judging.show(rollout, agent, seen, now);
        }
        ends_round
    }

    /// Forgets what was said of a rollout: it is compared anew.
    pub(crate) fn compare_anew(&mut self, id: Uuid) {
        self.judges.0.remove(&id);
        self.checks.forget(id);
    }

    /// Forgets the judges of rollouts that are not judged any more.
    pub(crate) fn dismiss_judges(&mut self) {
        let rollouts = &self.rollouts;
        self.judges.0.retain(|id, _| rollouts.get(id).is_some_and(is_judged));
    }
}

/// Returns whether there is something that a canary can be worse than: where nothing ran before, or
/// the same release, there is not.
pub(crate) fn can_be_compared(rollout: &Rollout) -> bool {
    rollout.from.is_some() && rollout.has_way_back()
}

/// Returns whether there is a canary to be compared with what ran before.
pub(crate) fn is_judged(rollout: &Rollout) -> bool {
    let is_first_wave = match &rollout.state {
        State::Advancing { wave, .. } => *wave == 0,
        // It goes on from there.
        State::Paused { was, .. } | State::Held { was, .. } => {
            matches!(**was, State::Advancing { wave: 0, .. })
        }
        State::Baking { .. } | State::RollingBack { .. } | State::Ended { .. } => false,
    };
    is_first_wave && rollout.spec.canary.is_some() && can_be_compared(rollout)
}

#[cfg(test)]
mod tests {
    use cutover_common::{InstanceId, LatencyBucket};

    use super::*;

    #[test]
    fn the_judge_knows_the_buckets_in_which_gates_count() {
        let scale = scale();

        assert_eq!(scale.buckets(), LATENCY_BUCKETS);
        for bucket in LatencyBucket::all() {
            let end = bucket.end_us().unwrap_or(1 << 40);
            for micros in [end - 1, end] {
                let told = LatencyBucket::of_us(micros).place();
                assert_eq!(scale.bucket_of(micros as f64), told, "{micros} microseconds");
            }
        }
    }

    #[test]
    fn error_lines_are_counted_from_look_to_look_and_those_of_another_instance_from_its_start() {
        let look = |instance, error_lines| InstanceVitals {
            application: "web".parse().unwrap(),
            slot: Slot::Blue,
            instance: InstanceId(Uuid::from_u128(instance)),
            memory_bytes: None,
            error_lines,
        };
        for (before, after, lines) in [
            (look(1, Some(5)), look(1, Some(7)), Some(2)),
            (look(1, Some(5)), look(2, Some(3)), Some(3)),
            (look(1, Some(5)), look(1, Some(4)), Some(0)),
            (look(1, None), look(1, Some(7)), None),
            (look(1, Some(5)), look(2, None), None),
        ] {
            assert_eq!(said_error((&before, &after)), lines);
        }
    }
}
