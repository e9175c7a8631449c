//! What answers make of an instance: one line a rule.

use std::time::Duration;

use cutover_common::{ProbePort, ProbeTarget};
use uuid::Uuid;

use super::*;

const TIMERS: Timers =
    Timers { healthy_for: Duration::from_secs(10), healthy_within: Duration::from_secs(60) };

struct Asked {
    watch: Watch,
    probe: ProbeSpec,
    now: Timestamp,
}

impl Asked {
    fn begin() -> Self {
        let probe = ProbeSpec {
            target: ProbeTarget::Tcp { port: ProbePort::Fixed(80) },
            every: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            passes: 2,
            failures: 3,
            start_within: Duration::from_secs(20),
        };
        let now = Timestamp::from_unix_ms(0);
        Self { watch: Watch::begin(InstanceId(Uuid::nil()), Some(&probe), now), probe, now }
    }

    /// Answers the probes that are due with `answers`: `+` passes, `-` fails.
    fn answer(&mut self, answers: &str) -> &mut Self {
        for answer in answers.chars() {
            self.now = self.watch.next_at().unwrap();
            self.watch.asked(self.now);
            let answer = ProbeAnswer { passed: answer == '+', text: answer.to_string() };
            self.watch.answered(answer, &self.probe, self.now);
        }
        self
    }

    fn health(&self) -> Health {
        self.watch.health(TIMERS, self.now)
    }
}

#[test]
fn passes_in_a_row_make_it_passing_and_failures_in_a_row_failing() {
    for (answers, health) in [
        ("", Health::Unknown),
        ("+", Health::Unknown),
        ("++", Health::Passing),
        ("+-+", Health::Unknown),
        ("+-++", Health::Passing),
        ("++--", Health::Passing),
        ("++---", Health::Failing),
        ("++---+", Health::Failing),
        ("++---++", Health::Passing),
        ("++--+--+", Health::Passing),
    ] {
        assert_eq!(Asked::begin().answer(answers).health(), health, "{answers:?}");
    }
}

#[test]
fn failures_do_not_count_while_starting_until_the_first_pass() {
    // Asked every 2 s: the tenth answer comes at 18 s, the eleventh at 20 s.
    assert_eq!(Asked::begin().answer("----------").health(), Health::Unknown);
    assert_eq!(Asked::begin().answer("-------------").health(), Health::Failing);
    assert_eq!(Asked::begin().answer("+---").health(), Health::Failing);
}

#[test]
fn settles_after_healthy_for_counted_from_the_first_pass() {
    let mut asked = Asked::begin();
    asked.answer("-++");
    assert_eq!(asked.watch.settles_at(TIMERS), Some(Timestamp::from_unix_ms(12_000)));

    assert_eq!(asked.answer("+++").health(), Health::Passing);
    assert_eq!(asked.answer("+").health(), Health::Settled);
}

#[test]
fn one_failure_breaks_the_run_but_not_what_is_settled() {
    let mut asked = Asked::begin();
    assert_eq!(asked.answer("++++-+++++").health(), Health::Passing);
    assert_eq!(asked.answer("+").health(), Health::Settled);
    assert_eq!(asked.answer("-").health(), Health::Settled);
    assert_eq!(asked.answer("--").health(), Health::Failing);
    assert_eq!(asked.answer("++").health(), Health::Passing);
}

#[test]
fn settled_for_a_shorter_time_is_not_settled_for_a_longer_one() {
    let shorter = Timers { healthy_for: Duration::from_secs(4), ..TIMERS };
    let mut asked = Asked::begin();

    // Runs of 4 s, for 36 s: settled for 4 s all the time, and never for 10 s.
    asked.answer("+++-++-++-++-++-++-");

    assert_eq!(asked.watch.health(shorter, asked.now), Health::Settled);
    assert_eq!(asked.health(), Health::Passing);
}

#[test]
fn a_release_without_a_probe_passes_while_it_is_alive() {
    let start = Timestamp::from_unix_ms(0);
    let watch = Watch::begin(InstanceId(Uuid::nil()), None, start);

    assert_eq!(watch.next_at(), None);
    assert_eq!(watch.health(TIMERS, start), Health::Passing);
    assert_eq!(watch.health(TIMERS, start + TIMERS.healthy_for), Health::Settled);
}

#[test]
fn an_answer_that_nobody_asked_for_counts_nothing() {
    let mut asked = Asked::begin();
    let answer = ProbeAnswer { passed: true, text: "ok".to_owned() };
    for _ in 0..5 {
        asked.watch.answered(answer.clone(), &asked.probe, asked.now);
    }

    assert_eq!(asked.health(), Health::Unknown);
}
