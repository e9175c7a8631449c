//! Plans by the documented examples of other systems, each named with its source: where users come
//! from, the numbers are the same, or the difference is said.

use std::collections::BTreeMap;

use cutover_common::{AgentName, Allow, Amount, AmountSetting, DeploySetting};

use super::*;
use crate::{
    rollout::{PlanStep, Wave, spec},
    testing::options,
};

/// Returns the spec that `settings` say for these hosts, each in its zone.
fn spec_of(settings: &[(&str, &str)], hosts: &[Candidate]) -> Result<Spec, Vec<String>> {
    let zones = |_: &str| hosts.iter().map(|host| host.zone.clone()).collect();
    let total = hosts.iter().map(|_| 1).sum();
    let groups = |_: &str| Err("hosts are in no groups".to_owned());
    let sizes = spec::Hosts { zones: &zones, total, drained: 0, groups: &groups };
    Spec::resolve(&options(settings), (None, &[]), &sizes).map(|(spec, _)| spec)
}

fn hosts(zones: &[(&str, usize)]) -> Vec<Candidate> {
    let all = zones.iter().flat_map(|(zone, count)| std::iter::repeat_n(*zone, *count));
    (1..)
        .zip(all)
        .map(|(number, zone)| Candidate {
            agent: format!("web-{number}").parse().unwrap(),
            zone: zone.to_owned(),
            is_canary: number == 1,
        })
        .collect()
}

/// Returns the sizes of the batches, with their zones.
fn batches(settings: &[(&str, &str)], zones: &[(&str, usize)]) -> Vec<(String, usize)> {
    let hosts = hosts(zones);
    let plan = compile(&spec_of(settings, &hosts).unwrap(), &hosts, Standing::Beside);
    let agents: Vec<&AgentName> = plan.waves.iter().flat_map(|wave| &wave.agents).collect();
    assert_eq!(agents.len(), hosts.len(), "each host is in one batch");
    let zone = |wave: &Wave| plan.zone(wave).unwrap_or_default().to_owned();
    plan.waves.iter().map(|wave| (zone(wave), wave.agents.len())).collect()
}

fn sizes(settings: &[(&str, &str)], count: usize) -> Vec<usize> {
    batches(settings, &[("", count)]).into_iter().map(|(_, size)| size).collect()
}

/// Returns how many of `count` must stay healthy.
fn floor(settings: &[(&str, &str)], count: usize) -> u32 {
    spec_of(settings, &hosts(&[("", count)])).unwrap().min_healthy
}

/// AWS CodeDeploy, "Predefined deployment configurations": `HalfAtATime` with nine instances moves
/// at most four at a time, as batches round down, and five must stay.
#[test]
fn codedeploy_half_of_nine_at_a_time() {
    assert_eq!(sizes(&[("batch", "50%")], 9), [4, 4, 1]);
    assert_eq!(floor(&[("batch", "50%")], 9), 5);
}

/// AWS CodeDeploy, "Minimum healthy hosts and deployments": nine instances of which six must be
/// healthy are updated three at a time. There one number is pace and floor; here the floor follows
/// the pace, or is given beside it.
#[test]
fn codedeploy_six_of_nine_stay_healthy() {
    assert_eq!(sizes(&[("batch", "3")], 9), [3, 3, 3]);
    assert_eq!(floor(&[("batch", "3")], 9), 6);
    assert_eq!(floor(&[("batch", "1"), ("min_healthy", "6")], 9), 6);
}

/// AWS CodeDeploy, "Minimum healthy instances": 40 percent of nine is rounded up, so four must
/// stay, and five may go.
#[test]
fn codedeploy_forty_percent_of_nine_round_up() {
    assert_eq!(Amount::Percent(40).of(AmountSetting::MinHealthy, 9), 4);
    assert_eq!(floor(&[("batch", "5"), ("min_healthy", "40%")], 9), 4);
    assert_eq!(sizes(&[("batch", "5"), ("min_healthy", "40%")], 9), [5, 4]);
}

/// AWS CodeDeploy, API reference, `MinimumHealthyHosts`: 95 percent of ten rounds up to ten, and
/// the deployment fails at its start. Here it is refused before anything begins, with the numbers.
#[test]
fn codedeploy_ninety_five_percent_of_ten_is_refused() {
    let mut story = crate::testing::Story::running(10);

    let refusal = story.try_deploy("2.0", &[("min_healthy", "95%")]).unwrap_err();

    assert!(refusal.text.starts_with("min_healthy 10 of 10 hosts can never be met"), "{refusal:?}");
    assert_eq!(refusal.hint, "give at most --min-healthy 9");
}

/// AWS CodeDeploy, `OneAtATime`, and "one host left": with one host there is one batch, and it may
/// be taken out as nothing else can stay.
#[test]
fn one_host_is_one_batch() {
    assert_eq!(sizes(&[("batch", "1")], 1), [1]);
    assert_eq!(sizes(&[("batch", "25%")], 1), [1]);
    assert_eq!(floor(&[("batch", "25%")], 1), 0);
}

/// Ansible, "Setting the batch size with serial": the list 1, 5, "20%" begins with one host, then
/// five, and repeats its last until none are left.
#[test]
fn ansible_ramp_of_one_five_and_a_fifth() {
    assert_eq!(sizes(&[("batch", "1,5,20%")], 20), [1, 5, 4, 4, 4, 2]);
}

/// Ansible, the same page: 30 percent of twenty hosts is six, six, six and two.
#[test]
fn ansible_thirty_percent_of_twenty() {
    assert_eq!(sizes(&[("batch", "30%")], 20), [6, 6, 6, 2]);
}

/// AWS CodeDeploy, `ZonalConfig`: one zone after another, whatever their sizes, and no batch in two
/// zones. Shares are of the zone.
#[test]
fn codedeploy_zones_of_unequal_size() {
    let zones = [("b", 5), ("a", 2), ("", 1), ("c", 3)];

    let by_half = batches(&[("zone", "az"), ("batch", "50%")], &zones);

    let expected =
        [("a", 1), ("a", 1), ("b", 2), ("b", 2), ("b", 1), ("c", 1), ("c", 1), ("c", 1), ("", 1)];
    assert_eq!(by_half, expected.map(|(zone, size)| (zone.to_owned(), size)));
}

/// AWS CodeDeploy, `minimumHealthyHostsPerZone`: a share of each zone, rounded up.
#[test]
fn codedeploy_healthy_hosts_per_zone() {
    let hosts = hosts(&[("a", 2), ("b", 5)]);
    let spec = spec_of(&[("zone", "az"), ("zone_min_healthy", "50%")], &hosts).unwrap();

    let floors: BTreeMap<String, u32> = [("a".to_owned(), 1), ("b".to_owned(), 3)].into();
    assert_eq!(spec.zone_floors, floors);

    let mistakes = spec_of(&[("zone", "az"), ("zone_min_healthy", "3")], &hosts).unwrap_err();
    assert_eq!(
        mistakes,
        ["zone_min_healthy: 3 can never be met: zone \"a\" has 2 hosts; write at most 2, or a \
             percentage"]
    );
}

/// AWS CodeDeploy, `firstZoneMonitorDurationInSeconds` and its sisters: a finished zone is watched
/// before the next one; with its last batch, where that is watched as well.
#[test]
fn a_finished_zone_is_watched() {
    let hosts = hosts(&[("a", 2), ("b", 1)]);
    let settings = [("zone", "az"), ("batch", "1"), ("soak", "10s"), ("zone_soak", "1m")];
    let plan = compile(&spec_of(&settings, &hosts).unwrap(), &hosts, Standing::Beside);

    let holds = |wave: usize| {
        let steps = plan.waves[wave].steps.iter();
        steps
            .filter_map(
                |step| if let PlanStep::Hold(time) = step { Some(time.as_secs()) } else { None },
            )
            .collect::<Vec<_>>()
    };
    assert_eq!([holds(0), holds(1), holds(2)], [vec![10], vec![60], vec![60]]);
}

/// Octopus, "Rolling deployments": the window slides, and the next target begins when any is done.
#[test]
fn octopus_window_of_three() {
    let hosts = hosts(&[("", 10)]);
    let spec = spec_of(&[("batch", "3"), ("sliding", "on")], &hosts).unwrap();
    let plan = compile(&spec, &hosts, Standing::Beside);

    assert_eq!(plan.waves.len(), 1);
    assert_eq!((plan.waves[0].agents.len(), plan.waves[0].window), (10, Some(3)));
    assert_eq!(spec.min_healthy, 7);
}

#[test]
fn a_person_is_waited_for_after_the_batches_that_are_named() {
    let hosts = hosts(&[("", 4)]);
    let spec = spec_of(&[("batch", "1"), ("pause_after", "1,3")], &hosts).unwrap();
    let plan = compile(&spec, &hosts, Standing::Beside);

    let pauses: Vec<bool> =
        plan.waves.iter().map(|wave| wave.steps.last() == Some(&PlanStep::Approve)).collect();
    assert_eq!(pauses, [true, false, true, false]);
}

#[test]
fn settings_that_cannot_be_together_are_refused_at_once() {
    let settings = [
        ("batch", "1,2"),
        ("sliding", "on"),
        ("pause_after", "1"),
        ("zone_soak", "1m"),
        ("zone_min_healthy", "1"),
    ];

    let mistakes = spec_of(&settings, &hosts(&[("", 4)])).unwrap_err();

    assert_eq!(
        mistakes,
        [
            "sliding: a window has one size, and batch is the ramp 1,2; write one size",
            "pause_after: a sliding window has no batches to pause after; leave out one of the two",
            "zone_soak: there are no zones; name their label with zone",
            "zone_min_healthy: there are no zones; name their label with zone",
        ]
    );
}

fn steps_of(settings: &[(&str, &str)], standing: Standing) -> Vec<Vec<String>> {
    let hosts = hosts(&[("", 3)]);
    let plan = compile(&spec_of(settings, &hosts).unwrap(), &hosts, standing);
    let words = |wave: &Wave| wave.steps.iter().map(ToString::to_string).collect();
    plan.waves.iter().map(words).collect()
}

/// Argo Rollouts, "Canary": steps of `setWeight` and `pause`; then everything.
#[test]
fn a_canary_gets_traffic_step_by_step_and_the_rest_is_rolling() {
    let settings = [("strategy", "canary"), ("canary_steps", "5%:5m,50%:10m"), ("batch", "2")];

    let steps = steps_of(&settings, Standing::Beside);

    assert_eq!(
        steps,
        [
            vec![
                "prepare",
                "start beside, without traffic",
                "5% of the traffic",
                "compare for 5m",
                "50% of the traffic",
                "compare for 10m",
                "replace in place",
            ],
            vec!["prepare", "replace in place"],
        ]
    );
}

/// Octopus, "Canary deployments": a subset of the targets, then a person, then the rest.
#[test]
fn a_canary_without_a_gate_is_a_whole_host() {
    let settings =
        [("strategy", "canary"), ("canary_steps", "5%:5m,50%:10m"), ("canary_promote", "manual")];

    let steps = steps_of(&settings, Standing::Alone);

    assert_eq!(
        steps.first().unwrap(),
        &["prepare", "replace in place", "compare for 15m", "wait for promote"]
    );
}

/// Argo Rollouts, "`BlueGreen`": `autoPromotionEnabled`, `scaleDownDelaySeconds`; AWS CodeDeploy
/// waits for a person and ends the old fleet after a time.
#[test]
fn blue_green_is_one_wave_with_one_cutover() {
    let settings = [("strategy", "blue_green"), ("approve", "on"), ("keep", "1h")];

    let steps = steps_of(&settings, Standing::Beside);

    assert_eq!(
        steps,
        [[
            "prepare",
            "start beside, without traffic",
            "wait for promote",
            "cutover",
            "soak 1h",
            "stop the old one",
        ]]
    );
    let until = steps_of(&[("strategy", "blue_green"), ("until", "smoke")], Standing::Beside);
    assert_eq!(until, [["prepare", "start beside, without traffic"]]);
}

#[test]
fn a_canary_is_reached_by_the_header_and_the_cookie_that_are_said() {
    let allow = |settings: &[(&str, &str)]| {
        let settings = [&[("strategy", "canary")], settings].concat();
        spec_of(&settings, &hosts(&[("", 2)])).map(|spec| spec.canary.unwrap().allow)
    };
    let (header, cookie) = (("canary_header", "x-canary=1"), ("canary_cookie", "canary=1"));

    assert_eq!(allow(&[]), Ok(None));
    assert_eq!(allow(&[header]), Ok(Some(Allow::Header("x-canary=1".parse().unwrap()))));
    assert_eq!(allow(&[cookie]), Ok(Some(Allow::Cookie("canary=1".parse().unwrap()))));
    let both = allow(&[header, cookie]).unwrap().unwrap();
    assert_eq!(both, Allow::Either("x-canary=1".parse().unwrap(), "canary=1".parse().unwrap()));
    // A retry says the same again.
    let again: Vec<(DeploySetting, String)> = both.settings().collect();
    let typed: Vec<(&str, &str)> = again.iter().map(|(it, text)| (it.name(), &**text)).collect();
    assert_eq!(typed, [header, cookie]);

    let mistakes = allow(&[("canary_header", "host=1"), ("canary_cookie", "can ary=1")]);
    assert_eq!(mistakes.unwrap_err().len(), 2);
}

#[test]
fn what_only_another_strategy_knows_is_refused() {
    let settings = [("canary_steps", "5%:5m"), ("canary_cookie", "canary=1"), ("keep", "1h")];

    let mistakes = spec_of(&settings, &hosts(&[("", 2)])).unwrap_err();

    assert_eq!(
        mistakes,
        [
            "canary_steps: only canary knows it; leave it out, or use --strategy canary",
            "canary_cookie: only canary knows it; leave it out, or use --strategy canary",
            "keep: only blue_green knows it; leave it out, or use --strategy blue_green",
        ]
    );
}
