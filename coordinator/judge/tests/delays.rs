//! How soon the judge fails a canary that is worse, beside the least that any test can need and
//! what others make of it, in numbers that are exact for their seeds. docs/judge.md has the same
//! tables.

mod measure;

use measure::tables;

#[test]
fn errors_are_detected_within_reach_of_the_bound() {
    let rows = tables::error_delays();

    for row in &rows {
        let quotient = row.median / row.bound.expect("errors have a bound");
        // The aim is 1.4. A fresh judge distrusts bursts, hosts may differ, and with rounds of 5 s
        // nobody ends at 11.3 s: what knows the ratio is held to 1.4 there.
        let of_oracle = row.median / row.oracle.expect("errors have an oracle");
        let most = match (row.name, row.worse.as_str()) {
            (tables::NOT_WATCHED_BEFORE, "10x") | (tables::ONE_HOST, "2x") => 1.55,
            (tables::ROUNDS_OF_5_S, "10x") if of_oracle <= 1.4 => 1.8,
            _ => 1.4,
        };
        assert!(quotient <= most, "{} {}: {quotient:.2}", row.name, row.worse);
        assert!(quotient > 0.8, "faster than can be: {} {}: {quotient:.2}", row.name, row.worse);
        // The one that is faster than can be is wrong in a quarter of all hours.
        assert_eq!(row.false_alarms, 0.0, "{}", row.name);
        assert!(row.peers.falsely.peeked_z > 10.0, "{}", row.name);
    }
    measure::assert_documented(&tables::delay_table(&rows));
}

#[test]
fn latency_is_detected_within_reach_of_a_test_that_knows_both_laws() {
    let rows = tables::latency_delays();

    for row in &rows {
        assert_eq!((row.missed, row.false_alarms), (0.0, 0.0), "{} {}", row.name, row.worse);
    }
    measure::assert_documented(&tables::delay_table(&rows));
}

#[test]
fn what_agents_count_is_detected_within_the_hour() {
    let rows = tables::instance_delays();

    for row in &rows {
        assert!(row.median < 3_600.0, "{} {}", row.name, row.worse);
        assert_eq!(row.false_alarms, 0.0, "{} {}", row.name, row.worse);
    }
    measure::assert_documented(&tables::delay_table(&rows));
}

#[test]
fn what_is_below_the_limit_seldom_fails_and_what_is_above_does() {
    let rows = tables::small_effects();

    measure::assert_documented(&tables::small_effect_table(&rows));
    for pair in rows.windows(2) {
        assert!(pair[0].1 <= pair[1].1, "{rows:?}");
    }
}
