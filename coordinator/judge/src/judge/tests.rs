//! What the judge says in simple cases.

use super::*;
use crate::{HostIndex, JudgeSettings, Side, Traffic};

const ROUND: Duration = Duration::from_secs(5);

fn sample(side: Side, host: usize) -> Sample<'static> {
    Sample {
        side,
        host: HostIndex::new(host).unwrap(),
        watched: ROUND,
        traffic: None,
        restarts: 0,
        memory_bytes: None,
        error_lines: None,
    }
}

fn requests(requests: u64, errors: u64) -> Traffic<'static> {
    Traffic { requests, errors, latency: &[] }
}

fn judge() -> Judge {
    Judge::new(&JudgeSpec::default(), LatencyScale::powers_of_two(27), 0)
}

/// Watches a canary on host 0 and the old version on hosts 1 to 4 for so many rounds.
fn watch(
    judge: &mut Judge,
    rounds: u32,
    mut change: impl FnMut(u32, &mut Sample<'static>),
) -> Verdict {
    for round in 0..rounds {
        for host in 0..5 {
            let side = if host == 0 { Side::Canary } else { Side::Control };
            let mut sample = sample(side, host);
            change(round, &mut sample);
            judge.observe(&sample);
        }
        judge.end_round(ROUND);
    }
    judge.verdict()
}

fn failed_metric(verdict: Verdict) -> Option<Metric> {
    match verdict {
        Verdict::Fail(evidence) => Some(evidence.metric),
        Verdict::Pass | Verdict::NotEnough(_) => None,
    }
}

#[test]
fn nothing_seen_is_not_enough() {
    let missing = |seen| {
        Verdict::NotEnough(vec![
            Missing::CanarySeconds { seen, wanted: 120 },
            Missing::ControlSeconds { seen, wanted: 120 },
        ])
    };
    assert_eq!(judge().verdict(), missing(0));
    let mut judge = judge();
    for _ in 0..1_000 {
        judge.end_round(ROUND);
    }
    assert_eq!(judge.verdict(), missing(0));
    assert!(judge.evidence().iter().all(|evidence| evidence.canary.is_none()));
}

#[test]
fn a_service_without_a_gate_passes_by_the_time_that_it_was_watched() {
    assert!(matches!(watch(&mut judge(), 23, |_, _| ()), Verdict::NotEnough(_)));
    assert_eq!(watch(&mut judge(), 24, |_, _| ()), Verdict::Pass);
}

#[test]
fn a_service_whose_canary_gets_no_requests_does_not_pass() {
    let idle = |_: u32, sample: &mut Sample<'static>| {
        sample.traffic = Some(requests(if sample.side == Side::Canary { 0 } else { 20 }, 0));
    };
    let missing = Missing::CanaryRequests { seen: 0, wanted: 50 };
    assert_eq!(watch(&mut judge(), 720, idle), Verdict::NotEnough(vec![missing]));
}

/// Half of a host's requests, for so many rounds, of which so many in twenty fail on the canary.
fn watch_beside(judge: &mut Judge, rounds: u32, errors: u64) -> Verdict {
    for _ in 0..rounds {
        for (side, errors) in [(Side::Control, 0), (Side::Canary, errors)] {
            let traffic = Some(requests(20, errors));
            judge.observe(&Sample { traffic, ..sample(side, 0) });
        }
        judge.end_round(ROUND);
    }
    judge.verdict()
}

#[test]
fn a_canary_that_fails_everything_does_not_pass_before_that_is_proved() {
    let settings = JudgeSettings { watched_seconds_min: Some(10), ..JudgeSettings::default() };
    let spec = JudgeSpec::new(settings).unwrap();
    let mut judge = Judge::new(&spec, LatencyScale::powers_of_two(27), 0);
    let doubt = Verdict::NotEnough(vec![Missing::Certainty { metric: Metric::Errors }]);

    assert_eq!(watch_beside(&mut judge, 4, 20), doubt);
    assert_eq!(failed_metric(watch_beside(&mut judge, 12, 20)), Some(Metric::Errors));
}

#[test]
fn a_canary_that_looked_bad_passes_when_it_looks_better() {
    let mut judge = judge();
    assert!(matches!(watch_beside(&mut judge, 24, 0), Verdict::Pass));
    let mut bad = judge.clone();

    assert!(!matches!(watch_beside(&mut bad, 2, 20), Verdict::Pass | Verdict::Fail(_)));
    assert_eq!(watch_beside(&mut bad, 40, 0), Verdict::Pass);
    assert_eq!(watch_beside(&mut judge, 2, 1), Verdict::Pass);
}

#[test]
fn errors_on_the_canary_alone_fail_it_and_stay_said() {
    let mut judge = judge();
    let verdict = watch(&mut judge, 60, |_, sample| {
        sample.traffic = Some(requests(20, u64::from(sample.side == Side::Canary)));
    });

    assert_eq!(failed_metric(verdict.clone()), Some(Metric::Errors));
    let later = watch(&mut judge, 60, |_, sample| sample.traffic = Some(requests(20, 0)));
    assert_eq!(later, verdict);
}

#[test]
fn errors_on_both_sides_are_not_the_canary_s() {
    let verdict = watch(&mut judge(), 720, |_, sample| sample.traffic = Some(requests(20, 2)));
    assert_eq!(verdict, Verdict::Pass);
}

#[test]
fn a_better_canary_never_fails() {
    let verdict = watch(&mut judge(), 720, |_, sample| {
        sample.traffic = Some(requests(20, u64::from(sample.side == Side::Control)));
        sample.restarts = u32::from(sample.side == Side::Control);
        sample.error_lines = Some(u64::from(sample.side == Side::Control));
        let mib = if sample.side == Side::Canary { 100 } else { 400 };
        sample.memory_bytes = Some(mib << 20);
    });
    assert_eq!(verdict, Verdict::Pass);
}

#[test]
fn a_canary_that_keeps_restarting_fails() {
    let verdict = watch(&mut judge(), 120, |round, sample| {
        sample.restarts = u32::from(sample.side == Side::Canary && round % 6 == 5);
    });
    assert_eq!(failed_metric(verdict), Some(Metric::Restarts));
}

#[test]
fn a_canary_that_complains_fails_where_the_old_version_complains_a_little() {
    let verdict = watch(&mut judge(), 720, |round, sample| {
        let lines =
            u64::from(round.is_multiple_of(4)) * if sample.side == Side::Canary { 12 } else { 1 };
        sample.error_lines = Some(lines);
    });
    assert_eq!(failed_metric(verdict), Some(Metric::LogLines));
}

#[test]
fn memory_that_doubles_fails_and_memory_that_grows_a_little_does_not() {
    let twice = |times: u64| {
        move |_: u32, sample: &mut Sample<'static>| {
            let times = if sample.side == Side::Canary { times } else { 10 };
            sample.memory_bytes = Some((times * 20) << 20);
        }
    };
    assert_eq!(failed_metric(watch(&mut judge(), 360, twice(20))), Some(Metric::Memory));
    assert_eq!(watch(&mut judge(), 360, twice(13)), Verdict::Pass);
}

#[test]
fn memory_that_leaks_after_an_hour_of_health_fails() {
    let verdict = watch(&mut judge(), 1_440, |round, sample| {
        let leak =
            if sample.side == Side::Canary { u64::from(round.saturating_sub(720)) } else { 0 };
        sample.memory_bytes = Some((200 + leak) << 20);
    });
    assert_eq!(failed_metric(verdict), Some(Metric::Memory));
}

#[test]
fn a_slow_canary_fails_by_latency_even_beyond_the_last_bucket() {
    const FAST: [u64; 3] = [0, 20, 0];
    const SLOW: [u64; 3] = [0, 0, 20];
    const BOTH: [u64; 3] = [5, 14, 1];
    let mut judge =
        Judge::new(&JudgeSpec::default(), LatencyScale::new(&[1_000, 20_000]).unwrap(), 0);
    let verdict = watch(&mut judge, 240, |_, sample| {
        let latency: &[u64] = match (sample.side, sample.host.get()) {
            (Side::Canary, _) => &SLOW,
            (Side::Control, 1) => &BOTH,
            (Side::Control, _) => &FAST,
        };
        sample.traffic = Some(Traffic { requests: 20, errors: 0, latency });
    });
    assert_eq!(failed_metric(verdict), Some(Metric::Latency));
}

#[test]
fn numbers_that_nobody_can_have_counted_do_no_harm() {
    let mut judge = judge();
    let _verdict = watch(&mut judge, 200, |_, sample| {
        sample.watched = Duration::MAX;
        sample.traffic =
            Some(Traffic { requests: u64::MAX, errors: u64::MAX, latency: &[u64::MAX, u64::MAX] });
        sample.restarts = u32::MAX;
        sample.memory_bytes = Some(u64::MAX);
        sample.error_lines = Some(u64::MAX);
    });
    judge.end_round(Duration::MAX);

    assert!(judge.evidence().iter().all(|evidence| evidence.e_value.is_finite()));
}

#[test]
fn later_attempts_need_more() {
    let bar = |attempt| {
        let judge = Judge::new(&JudgeSpec::default(), LatencyScale::powers_of_two(27), attempt);
        judge.evidence()[0].bar
    };
    // One in a hundred, half of it for this attempt, 0.4 of that for errors.
    assert!((bar(0) - 500.0).abs() < 1e-6, "{}", bar(0));
    assert!((bar(3) - 4_000.0).abs() < 1e-6, "{}", bar(3));
    assert!(bar(u32::MAX).is_finite());
}

#[test]
fn what_is_not_judged_is_neither_said_nor_failed() {
    let spec: JudgeSpec = serde_json::from_str(r#"{ "errors": { "share": 0 } }"#).unwrap();
    let mut judge = Judge::new(&spec, LatencyScale::powers_of_two(27), 0);
    let verdict = watch(&mut judge, 60, |_, sample| {
        sample.traffic = Some(requests(20, 20 * u64::from(sample.side == Side::Canary)));
    });

    assert_eq!(verdict, Verdict::Pass);
    assert!(judge.evidence().iter().all(|evidence| evidence.metric != Metric::Errors));
}

#[test]
fn a_late_regression_is_not_drowned_in_an_hour_of_health() {
    let mut judge = judge();
    let errors = |bad: u64| {
        move |round: u32, sample: &mut Sample<'static>| {
            let every = u64::from(round.is_multiple_of(4));
            let times = if sample.side == Side::Canary { bad } else { 1 };
            sample.traffic = Some(requests(100, every * times));
        }
    };
    assert_eq!(watch(&mut judge, 700, errors(1)), Verdict::Pass);
    let verdict = watch(&mut judge, 36, errors(10));

    assert_eq!(failed_metric(verdict.clone()), Some(Metric::Errors));
    let Verdict::Fail(evidence) = verdict else { unreachable!() };
    assert!(evidence.ratio.is_some_and(|ratio| ratio > 1.5), "{evidence}");
}

#[test]
fn requests_that_were_never_side_by_side_are_not_enough() {
    let mut judge = judge();
    // First only the old version has clients, then only the new one.
    let verdict = watch(&mut judge, 100, |round, sample| {
        let is_asked = (round < 50) == (sample.side == Side::Control);
        let errors = if sample.side == Side::Canary { 10 } else { 0 };
        sample.traffic = Some(if is_asked { requests(20, errors) } else { requests(0, 0) });
    });

    let missing = |missing: &Missing| {
        matches!(missing, Missing::CanaryRequests { .. } | Missing::ControlRequests { .. })
    };
    assert!(matches!(&verdict, Verdict::NotEnough(all) if all.iter().all(missing)), "{verdict:?}");
}
