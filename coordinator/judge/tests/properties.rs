//! What holds for every stream of samples.

use std::time::Duration;

use cutover_judge::{HostIndex, Judge, JudgeSpec, LatencyScale, Sample, Side, Traffic, Verdict};
use proptest::prelude::*;

const BUCKETS: usize = 6;
const ROUND: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
struct Row {
    side: Side,
    host: usize,
    traffic: Option<(u64, u64, Vec<u64>)>,
    restarts: u32,
    memory_bytes: Option<u64>,
    error_lines: Option<u64>,
}

impl Row {
    fn show(&self, judge: &mut Judge) {
        let traffic = self.traffic.as_ref();
        judge.observe(&Sample {
            side: self.side,
            host: HostIndex::new(self.host).expect("it is below four"),
            watched: ROUND,
            traffic: traffic.map(|(requests, errors, latency)| Traffic {
                requests: *requests,
                errors: *errors,
                latency,
            }),
            restarts: self.restarts,
            memory_bytes: self.memory_bytes,
            error_lines: self.error_lines,
        });
    }
}

fn judge() -> Judge {
    let scale = LatencyScale::powers_of_two(BUCKETS);
    Judge::new(&JudgeSpec::default(), scale, 0)
}

fn row() -> impl Strategy<Value = Row> {
    let latency = proptest::collection::vec(0_u64..30, 0..8);
    (
        prop_oneof![Just(Side::Control), Just(Side::Canary)],
        0_usize..4,
        proptest::option::of((0_u64..200, 0_u64..5, latency)),
        0_u32..2,
        proptest::option::of(0_u64..(1 << 32)),
        proptest::option::of(0_u64..20),
    )
        .prop_map(|(side, host, traffic, restarts, memory_bytes, error_lines)| Row {
            side,
            host,
            traffic,
            restarts,
            memory_bytes,
            error_lines,
        })
}

fn rounds() -> impl Strategy<Value = Vec<Vec<Row>>> {
    proptest::collection::vec(proptest::collection::vec(row(), 0..10), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_order_of_samples_in_a_round_is_of_no_consequence(rounds in rounds()) {
        let (mut one, mut other) = (judge(), judge());
        for round in &rounds {
            round.iter().for_each(|row| row.show(&mut one));
            round.iter().rev().for_each(|row| row.show(&mut other));
            one.end_round(ROUND);
            other.end_round(ROUND);
        }

        prop_assert_eq!(one.evidence(), other.evidence());
        prop_assert_eq!(one.verdict(), other.verdict());
    }

    #[test]
    fn samples_that_know_nothing_change_no_evidence(rounds in rounds()) {
        let (mut one, mut other) = (judge(), judge());
        for round in &rounds {
            round.iter().for_each(|row| row.show(&mut one));
            round.iter().for_each(|row| row.show(&mut other));
            // A host that says that it is there, for no time at all.
            for side in [Side::Control, Side::Canary] {
                other.observe(&Sample {
                    side,
                    host: HostIndex::new(3).unwrap(),
                    watched: Duration::ZERO,
                    traffic: None,
                    restarts: 0,
                    memory_bytes: None,
                    error_lines: None,
                });
            }
            one.end_round(ROUND);
            other.end_round(ROUND);
        }

        prop_assert_eq!(one.evidence(), other.evidence());
        prop_assert_eq!(one.verdict(), other.verdict());
    }

    #[test]
    fn no_two_sides_of_one_stream_both_fail(rounds in rounds()) {
        let (mut one, mut other) = (judge(), judge());
        for round in &rounds {
            for row in round {
                row.show(&mut one);
                let side = if row.side == Side::Control { Side::Canary } else { Side::Control };
                Row { side, ..row.clone() }.show(&mut other);
            }
            one.end_round(ROUND);
            other.end_round(ROUND);
        }
        if let (Verdict::Fail(one), Verdict::Fail(other)) = (one.verdict(), other.verdict()) {
            prop_assert_ne!(one.metric, other.metric);
        }
    }

    #[test]
    fn every_number_that_is_shown_is_a_number(rounds in rounds()) {
        let mut judge = judge();
        for round in &rounds {
            round.iter().for_each(|row| row.show(&mut judge));
            judge.end_round(ROUND);
            for evidence in judge.evidence() {
                prop_assert!(evidence.e_value.is_finite() && evidence.e_value >= 0.0);
                let values = [evidence.canary, evidence.control, evidence.ratio];
                prop_assert!(values.into_iter().flatten().all(f64::is_finite), "{evidence:?}");
                prop_assert!((0.0..=1.0).contains(&evidence.chance()));
                prop_assert!(!evidence.to_string().contains("NaN"), "{evidence}");
            }
        }
    }
}
