//! Tests of the pace: how amounts and batches are written, and what they come to.

use proptest::prelude::*;

use super::*;

fn batches(text: &str) -> Batches {
    Batches::parse(text).unwrap()
}

#[test]
fn an_amount_is_a_count_or_a_percentage() {
    for (text, amount) in [
        ("3", Amount::Count(3)),
        ("25%", Amount::Percent(25)),
        ("100%", Amount::Percent(100)),
        ("50", Amount::Count(50)),
        ("50%", Amount::Percent(50)),
        (" 5 ", Amount::Count(5)),
    ] {
        assert_eq!(Amount::parse(AmountSetting::Batch, text).unwrap(), amount, "{text:?}");
        assert_eq!(amount.to_string(), text.trim());
    }
}

#[test]
fn what_is_no_amount_is_refused_with_the_setting_and_what_to_write() {
    let refused = |setting, text| Amount::parse(setting, text).unwrap_err().to_string();

    insta::assert_snapshot!(
        [
            refused(AmountSetting::Batch, "0"),
            refused(AmountSetting::Batch, "0%"),
            refused(AmountSetting::MinHealthy, "101%"),
            refused(AmountSetting::MinHealthy, "-1"),
            refused(AmountSetting::MaxFailed, "NaN"),
            refused(AmountSetting::MaxUnreachable, "99999999999999999999"),
            refused(AmountSetting::MaxFailed, ""),
        ]
        .join("\n"),
        @r#"
    batch: 0 moves no host, and would never finish; write at least 1, or a percentage from "1%"
    batch: 0% moves no host, and would never finish; write at least 1, or a percentage from "1%"
    min_healthy: "101%" is more than all hosts; write a percentage up to "100%"
    min_healthy: "-1" is below zero; write a number of hosts such as 3, or a percentage such as "25%"
    max_failed: "NaN" is neither a whole number nor a whole percentage; write a number of hosts such as 3, or a percentage such as "25%"
    max_unreachable: "99999999999999999999" is more hosts than a fleet can have; write the number of hosts, or a percentage such as "25%"
    max_failed: "" is neither a whole number nor a whole percentage; write a number of hosts such as 3, or a percentage such as "25%"
    "#
    );
    for bad in ["%", "1.5", "1e3", "+1", "5 %", "0x10", "٣", "1%%", "256%", "-5%", "inf"] {
        assert!(Amount::parse(AmountSetting::MaxFailed, bad).is_err(), "{bad:?}");
    }
}

#[test]
fn zero_is_refused_for_a_batch_only() {
    for setting in
        [AmountSetting::MinHealthy, AmountSetting::MaxFailed, AmountSetting::MaxUnreachable]
    {
        assert_eq!(Amount::parse(setting, "0").unwrap(), Amount::Count(0));
    }
    assert!(Amount::parse(AmountSetting::Batch, "0").is_err());
}

#[test]
fn each_setting_rounds_to_its_safe_side() {
    let third = Amount::Percent(33);

    assert_eq!(third.of(AmountSetting::Batch, 10), 3);
    assert_eq!(third.of(AmountSetting::Batch, 2), 1);
    assert_eq!(third.of(AmountSetting::MinHealthy, 10), 4);
    assert_eq!(third.of(AmountSetting::MaxFailed, 10), 3);
    assert_eq!(third.of(AmountSetting::MaxUnreachable, 2), 0);
    assert_eq!(Amount::Percent(100).of(AmountSetting::MinHealthy, u32::MAX), u32::MAX);
}

#[test]
fn a_floor_above_the_fleet_is_left_for_the_plan_to_refuse() {
    assert_eq!(Amount::Count(5).of(AmountSetting::MinHealthy, 3), 5);
    assert_eq!(Amount::Count(5).of(AmountSetting::Batch, 3), 3);
}

#[test]
fn the_last_step_of_a_ramp_repeats() {
    assert_eq!(batches("1,5,20%").sizes(20), [1, 5, 4, 4, 4, 2]);
    assert_eq!(batches("3").sizes(7), [3, 3, 1]);
    assert_eq!(batches("50%").sizes(1), [1]);
    assert_eq!(batches("1,100%").sizes(4), [1, 3]);
    assert_eq!(batches("25%").sizes(0), [0; 0]);
}

#[test]
fn a_ramp_prints_what_it_parses_and_survives_storage() {
    let ramp = batches("1, 5, 20%");

    assert_eq!(ramp.to_string(), "1,5,20%");
    let stored = serde_json::to_string(&ramp).unwrap();
    assert_eq!(serde_json::from_str::<Batches>(&stored).unwrap(), ramp);
    assert!(serde_json::from_str::<Batches>("\"0\"").is_err());
}

#[test]
fn a_ramp_without_steps_with_too_many_or_with_a_zero_is_refused() {
    assert!(Batches::new(Vec::new()).is_err());
    assert!(Batches::new(vec![Amount::Percent(0)]).is_err());
    assert!(Batches::new(vec![Amount::Count(1); Batches::STEPS_MAX + 1]).is_err());
    for bad in ["", ",", "1,", "1,0", "1,,2", "5,101%", &"1,".repeat(1_000_000)] {
        assert!(Batches::parse(bad).is_err());
    }
}

fn step() -> impl Strategy<Value = Amount> {
    prop_oneof![
        (1..=u32::MAX).prop_map(Amount::Count),
        (1..=9_u32).prop_map(Amount::Count),
        (1..=100_u8).prop_map(Amount::Percent),
    ]
}

proptest! {
    #[test]
    fn batches_cover_the_fleet_exactly_and_none_is_empty(
        steps in prop::collection::vec(step(), 1..8),
        total in 0..2_000_u32,
    ) {
        let sizes = Batches::new(steps).unwrap().sizes(total);

        prop_assert_eq!(sizes.iter().sum::<u32>(), total);
        prop_assert!(sizes.iter().all(|size| *size >= 1));
    }

    #[test]
    fn a_percentage_is_never_off_by_a_whole_host(percent in 0..=100_u8, total: u32) {
        let exact = f64::from(total) * f64::from(percent) / 100.0;
        let amount = Amount::Percent(percent);
        let floor = f64::from(amount.of(AmountSetting::MinHealthy, total));
        let budget = f64::from(amount.of(AmountSetting::MaxFailed, total));

        prop_assert!(floor >= exact - 1e-6 && floor < exact + 1.0);
        prop_assert!(budget <= exact + 1e-6 && budget > exact - 1.0);
    }

    #[test]
    fn any_text_is_parsed_or_refused_in_a_bounded_message(text in "\\PC{0,200}|[0-9,%-]{0,40}") {
        match Batches::parse(&text) {
            Ok(batches) => prop_assert_eq!(Batches::parse(&batches.to_string()).unwrap(), batches),
            Err(error) => prop_assert!(error.to_string().len() < 1_000),
        }
    }
}
