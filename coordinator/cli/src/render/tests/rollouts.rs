//! What people read about plans and rollouts.

use super::*;

#[test]
fn a_plan_shows_each_wave_its_worst_moment_and_where_settings_come_from() {
    assert_snapshot!(plan::plan("web", "production", &sample_plan(), Paint::Plain), @r"
    web 1.3.0 → 1.4.0 to production: rolling, 3 hosts in 2 batches
    at the worst moment 2 of 4 hosts healthy, never fewer than 2

    WAVE  HOSTS         HEALTHY AT WORST  STEPS
    1     web-1         3 of 4            prepare, cutover, soak 10s
    2     web-2, web-3  2 of 4            prepare, cutover, soak 10s

    SETTING      VALUE  FROM
    batch        1,2    flag
    min_healthy  50%    cutover.toml
    healthy_for  10s    default

    on 1.4.0 already: web-4
    ");
}

#[test]
fn a_first_deploy_has_no_version_to_come_from() {
    let plan = Plan { from_version: None, waves: vec![wave(&["web-1"], 0)], ..sample_plan() };

    assert_snapshot!(plan::summary("web", "staging", &plan), @"web 1.4.0 to staging: rolling, 1 host in 1 batch");
}

#[test]
fn a_plan_says_what_clients_notice() {
    let said = |replacement: &str, outage_ms| {
        let plan = Plan { replacement: replacement.into(), outage_ms, ..sample_plan() };
        let text = plan::plan("web", "staging", &plan, Paint::Plain);
        text.lines().nth(2).unwrap_or_default().to_owned()
    };

    assert_snapshot!(
        [
            said("beside", None),
            said("passed_on", None),
            said("outage", None),
            said("outage", Some(1_250)),
            said("first", None),
        ]
        .join("\n"),
        @r"
    each host starts the new version beside the old one: no outage
    each host passes its requests on to the others while it is replaced
    each host serves nobody while it is replaced; how long is measured this time
    each host serves nobody while it is replaced: 1250ms at most when it was last measured
    "
    );
}

#[test]
fn an_outage_in_place_has_its_reason() {
    let why = Some("service.trusted_peers lacks web-1 (10.0.0.1)".into());
    let plan = Plan { replacement: "outage".into(), not_passed_on: why, ..sample_plan() };
    let text = plan::plan("web", "staging", &plan, Paint::Plain);
    let said: Vec<&str> = text.lines().skip(2).take(2).collect();

    assert_snapshot!(said.join("\n"), @r"
    each host serves nobody while it is replaced; how long is measured this time
    its requests are not passed on: service.trusted_peers lacks web-1 (10.0.0.1)
    ");
}

#[test]
fn why_is_two_sentences_and_what_to_type() {
    assert_snapshot!(rollout::why(&sample_rollout()), @r"
    1 of 3 hosts run 1.4.0. Waiting for web-2 to be healthy (web-2: GET /healthz answered 503); it holds in 42s.
    next: cutover watch 0193ab12-3456-7abc-8def-0123456789ab
    next: cutover rollback 0193ab12-3456-7abc-8def-0123456789ab
    ");
}

#[test]
fn history_is_a_line_for_each_rollout() {
    let rollouts = [
        sample_rollout(),
        Rollout { from_version: None, ..ended(RolloutState::RolledBack, "Rolled back: x.") },
    ];

    assert_snapshot!(rollout::history(&rollouts, at(3_725), Paint::Plain), @r"
    ROLLOUT        RELEASE            TO          STRATEGY  STATE        STARTED               TOOK   BY
    0193ab12-3456  web 1.3.0 → 1.4.0  production  rolling   advancing    2026-11-23T19:00:00Z  1h02m  anna
    0193ab12-3456  web 1.4.0          production  rolling   rolled back  2026-11-23T19:00:00Z  1m35s  anna
    ");
}

#[test]
fn a_success_is_one_line_and_any_other_end_says_why() {
    let good = ended(RolloutState::Succeeded, "Succeeded: all hosts run 1.4.0.");
    let bad = ended(
        RolloutState::RolledBack,
        "Rolled back: web-2 failed. Every host it had touched runs 1.3.0 again.",
    );

    assert_snapshot!(rollout::ending(&good, at(999), Paint::Plain), @"web 1.3.0 → 1.4.0 to production: succeeded after 1m35s, 3 hosts (0193ab12-3456)");
    assert_snapshot!(rollout::ending(&bad, at(999), Paint::Plain), @r"
    web 1.3.0 → 1.4.0 to production: rolled back after 1m35s, 3 hosts (0193ab12-3456)
    Rolled back: web-2 failed. Every host it had touched runs 1.3.0 again.
    next: cutover retry 0193ab12-3456-7abc-8def-0123456789ab
    ");
}

#[test]
fn colour_is_added_around_words_and_nowhere_else() {
    let plain = rollout::history(&[sample_rollout()], at(60), Paint::Plain);
    let colour = rollout::history(&[sample_rollout()], at(60), Paint::Colour);

    assert!(!plain.contains('\u{1b}'));
    assert!(colour.contains("\u{1b}[33madvancing\u{1b}[0m"), "{colour:?}");
    let stripped = ["\u{1b}[33m", "\u{1b}[1m", "\u{1b}[0m"]
        .iter()
        .fold(colour, |text, code| text.replace(code, ""));
    assert_eq!(stripped, plain);
}

#[test]
fn what_is_queued_says_what_it_comes_after() {
    let told = Accepted {
        rollout: queued().id,
        repeated_request: false,
        queued: true,
        waits_for: queued().waits_for,
        ahead: 2,
    };
    let refused = Rollout {
        state: RolloutState::Refused,
        ended: true,
        why: "Refused when its turn came: environment production is frozen.".into(),
        ended_unix_ms: Some(START + 60_000),
        ..queued()
    };

    assert_snapshot!(rollout::accepted(&told), @"rollout 0193ab13-0000-7abc-8def-0123456789ab queued after 0193ab12-3456-7abc-8def-0123456789ab, 2 in the queue before it");
    assert_snapshot!(rollout::history(&[queued()], at(120), Paint::Plain), @r"
    ROLLOUT        RELEASE    TO          STRATEGY  STATE   STARTED               TOOK   BY
    0193ab13-0000  web 1.5.0  production  -         queued  2026-11-23T19:00:00Z  2m00s  anna
    ");
    assert_snapshot!(changes(None, &queued()).join("\n"), @r"
    rollout 0193ab13-0000-7abc-8def-0123456789ab: web 1.5.0 to production
    queued
    Waiting for rollout 0193ab12-3456-7abc-8def-0123456789ab to 1.4.0 to end (advancing), for 2m by now. Then it is planned on the fleet of that moment, and begins.
    ");
    assert_snapshot!(rollout::ending(&refused, at(120), Paint::Plain), @r"
    web 1.5.0 to production: refused after 1m00s (0193ab13-0000)
    Refused when its turn came: environment production is frozen.
    next: cutover abort 0193ab13-0000-7abc-8def-0123456789ab
    ");
}
