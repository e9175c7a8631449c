//! What people read about agents, environments, releases and their health.

use super::*;

#[test]
fn agents_are_listed_with_what_they_run() {
    let agents = [sample_agent(), lost_agent()];

    assert_snapshot!(fleet::agents(&agents, at(2), Paint::Plain), @r"
    AGENT       PRESENCE  HEARD   VERSION  ADDRESS    LABELS           RUNS
    web-1       live      2s ago  0.1.0    10.0.0.11  tier=web,zone=a  web@1.3.0
    database-1  lost      -       -        -
    ");
    assert_snapshot!(fleet::agents(&[], at(2), Paint::Plain), @"no agents yet: cutover agents token");
}

#[test]
fn an_agent_is_shown_with_its_host_and_slots() {
    assert_snapshot!(fleet::agent(&sample_agent(), at(2), Paint::Plain), @r"
    WHAT           IS
    agent          web-1
    presence       live
    heard          2s ago
    version        0.1.0
    address        10.0.0.11
    labels         tier=web,zone=a
    joined         2026-11-22T19:00:00Z
    host           web-1.example.com
    system         Debian GNU/Linux 13, x86_64, kernel 6.12.0
    cpus           4
    runtime        process
    cpu in use     12.5 %
    memory in use  1.5 GiB of 8.0 GiB
    disk in use    20.0 GiB of 100.0 GiB

    APPLICATION  SLOT  VERSION  PHASE    HEALTH   TRAFFIC  RESTARTS  DETAIL
    web          blue  1.3.0    running  healthy  here     1         GET /healthz answered 200

    TRAFFIC  SLOT  REQUESTS  OPEN  5XX  UNREACHED  RESETS  P50       P99
    web      blue  12345     3     4    0          0       <1024 us  -
    ");
}

#[test]
fn a_drained_agent_is_listed_and_shown_as_such() {
    assert_snapshot!(fleet::agents(&[drained_agent()], at(2), Paint::Plain), @r"
    AGENT  PRESENCE       HEARD   VERSION  ADDRESS    LABELS           RUNS
    web-2  live, drained  2s ago  0.1.0    10.0.0.11  tier=web,zone=a  web@1.3.0
    ");
    let shown = fleet::agent(&drained_agent(), at(2), Paint::Plain);
    let line = shown.lines().find(|line| line.starts_with("drained")).unwrap();
    assert_snapshot!(line, @"drained        2026-11-23T19:00:00Z by anna: a new disk");
}

#[test]
fn an_environment_shows_its_config_and_no_secret() {
    let variable = |application: Option<&str>, name: &str, value: Option<&str>| ConfigVariable {
        application: application.map(Into::into),
        name: name.into(),
        is_secret: value.is_none(),
        value: value.map(Into::into),
        by: "ann".into(),
        set_unix_ms: 0,
    };
    let environment = Environment {
        name: "production".into(),
        select: [("tier".into(), "web".into())].into(),
        agents: vec!["web-1".into()],
        stable: vec![StableRelease { application: "web".into(), version: "1.3.0".into() }],
        freezes: Vec::new(),
    };
    let config = vec![
        variable(None, "LOG", Some("info \u{1b}[31m")),
        variable(Some("web"), "DB_PASSWORD", None),
    ];

    let stable = environment.stable.clone();
    let shown = ShownEnvironment { environment, config };
    assert_snapshot!(fleet::shown_environment(&shown, Paint::Plain), @r"
    WHAT         IS
    environment  production
    selects      tier=web
    agents       web-1
    stable       web@1.3.0

    VARIABLE     IS               FOR  SET BY
    LOG          info \u{1b}[31m  all  ann
    DB_PASSWORD  (secret)         web  ann
    ");
    let mut configured =
        Configured { environment: "production".into(), number: Some(3), concerns: stable };
    assert_snapshot!(fleet::configured(&configured), @"environment production has config 3 from now on");
    assert_snapshot!(
        fleet::comes_with(&configured).join("\n"),
        @"what runs gets it with: cutover deploy web@1.3.0 --to production"
    );
    configured.number = None;
    assert_snapshot!(fleet::configured(&configured), @"environment production has this config already");
    assert!(fleet::comes_with(&configured).is_empty());
}

#[test]
fn environments_are_listed_with_what_is_stable() {
    let production = Environment {
        name: "production".into(),
        select: [("tier".into(), "web".into())].into(),
        agents: vec!["web-1".into(), "web-2".into()],
        stable: vec![StableRelease { application: "web".into(), version: "1.3.0".into() }],
        freezes: Vec::new(),
    };
    let empty = Environment {
        name: "qa".into(),
        agents: Vec::new(),
        stable: Vec::new(),
        ..production.clone()
    };

    assert_snapshot!(fleet::environments(&[production.clone(), empty], Paint::Plain), @r"
    ENVIRONMENT  SELECTS   AGENTS  STABLE
    production   tier=web  2       web@1.3.0
    qa           tier=web  0       -
    ");
    assert_snapshot!(fleet::environment(&production, Paint::Plain), @r"
    WHAT         IS
    environment  production
    selects      tier=web
    agents       web-1, web-2
    stable       web@1.3.0
    ");
    let freeze = Freeze {
        from_unix_ms: Some(START),
        until_unix_ms: None,
        weekly: None,
        by: "anna".into(),
        reason: "login is down".into(),
        is_on: true,
    };
    let weekly = Freeze {
        from_unix_ms: None,
        weekly: Some("fri 16:00..mon 08:00".into()),
        reason: "".into(),
        is_on: false,
        ..freeze.clone()
    };
    let later = Freeze { until_unix_ms: Some(START + 3_600_000), is_on: false, ..freeze.clone() };
    let frozen = Environment { freezes: vec![freeze, weekly, later], ..production };
    let shown = fleet::environment(&frozen, Paint::Plain);
    let lines: Vec<&str> = shown.lines().skip(5).collect();
    assert_snapshot!(lines.join("\n"), @r"
    frozen       until it is thawed, by anna: login is down
    freeze       every week fri 16:00..mon 08:00 UTC, by anna
    freeze       2026-11-23T19:00:00Z to 2026-11-23T20:00:00Z, by anna: login is down
    ");
    assert_snapshot!(fleet::created(&"qa".into(), 1), @"environment qa created; it selects 1 agent");
}

#[test]
fn releases_are_listed_and_a_push_says_what_became_of_it() {
    let release = Release {
        application: "web".into(),
        version: "1.4.0".into(),
        digest: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into(),
        size_bytes: 13_000_000,
        archive_size_bytes: 5_000_000,
        pushed_unix_ms: START,
        pushed_by: "anna".into(),
    };
    let pushed = Pushed {
        application: release.application.clone(),
        version: release.version.clone(),
        digest: release.digest.clone(),
        size_bytes: release.size_bytes,
        archive_size_bytes: release.archive_size_bytes,
        already_there: false,
    };

    assert_snapshot!(release::releases(&[release], Paint::Plain), @r"
    APPLICATION  VERSION  DIGEST        SIZE      PUSHED                BY
    web          1.4.0    ba7816bf8f01  12.3 MiB  2026-11-23T19:00:00Z  anna
    ");
    assert_snapshot!(release::pushed(&pushed), @"web@1.4.0 pushed (ba7816bf8f01, 12.3 MiB, 4.7 MiB packed)");
    assert_snapshot!(release::pushed(&Pushed { already_there: true, ..pushed }), @"web@1.4.0 is already there (ba7816bf8f01)");
}

#[test]
fn status_tells_which_group_edges_lead_to_and_who_stands_by() {
    let mut grouped = ApplicationStatus {
        group: Some("group=blue".into()),
        rollout: None,
        rollout_state: None,
        rollout_why: None,
        queue: Vec::new(),
        hosts: 1,
        ..sample_status()
    };
    grouped.host_states[1].stands_by = true;
    grouped.host_states.truncate(2);

    assert_snapshot!(status::status(&[grouped.clone()], Hosts::Troubled, Paint::Plain), @"
    APPLICATION  ENVIRONMENT  STABLE  HEALTHY  ROLLOUT
    web          production   1.3.0   1 of 1   -

    web in production
    edges lead to the hosts with group=blue
    ");
    assert_snapshot!(status::status(&[grouped], Hosts::All, Paint::Plain), @"
    APPLICATION  ENVIRONMENT  STABLE  HEALTHY  ROLLOUT
    web          production   1.3.0   1 of 1   -

    web in production
    edges lead to the hosts with group=blue
    HOST   PRESENCE  VERSION  PHASE    HEALTH   RESTARTS  DETAIL
    web-1  live      1.3.0    running  healthy  0
    web-2  live      1.3.0    running  failing  0         stands by; GET /healthz answered 503
    ");
}

#[test]
fn status_lists_troubled_hosts_and_on_request_all() {
    let quiet = ApplicationStatus {
        environment: "staging".into(),
        hosts: 1,
        healthy: 1,
        host_states: sample_status().host_states[..1].to_vec(),
        rollout: None,
        rollout_state: None,
        rollout_why: None,
        queue: Vec::new(),
        ..sample_status()
    };

    assert_snapshot!(status::status(&[sample_status(), quiet], Hosts::Troubled, Paint::Plain), @r"
    APPLICATION  ENVIRONMENT  STABLE  HEALTHY  ROLLOUT
    web          production   1.3.0   1 of 3   rolling back 0193ab12-3456
    web          staging      1.3.0   1 of 1   -

    web in production: Going back because web-2 failed.
    then: 0193ab13-0000 to 1.5.0, queued by anna 2026-11-23T19:00:00Z
    HOST   PRESENCE  VERSION  PHASE    HEALTH   RESTARTS  DETAIL
    web-2  live      1.3.0    running  failing  0         GET /healthz answered 503
    web-3  lost      1.3.0    running  healthy  0
    ");
    assert_snapshot!(status::status(&[sample_status()], Hosts::All, Paint::Plain), @r"
    APPLICATION  ENVIRONMENT  STABLE  HEALTHY  ROLLOUT
    web          production   1.3.0   1 of 3   rolling back 0193ab12-3456

    web in production: Going back because web-2 failed.
    then: 0193ab13-0000 to 1.5.0, queued by anna 2026-11-23T19:00:00Z
    HOST   PRESENCE  VERSION  PHASE    HEALTH   RESTARTS  DETAIL
    web-1  live      1.3.0    running  healthy  0
    web-2  live      1.3.0    running  failing  0         GET /healthz answered 503
    web-3  lost      1.3.0    running  healthy  0
    ");
    assert_snapshot!(status::status(&[], Hosts::All, Paint::Plain), @"nothing is deployed: cutover deploy APP@VERSION --to ENV");
}

#[test]
fn sizes_and_durations_are_short() {
    let sizes = [0, 1023, 1024, 1536, 1 << 20, (1 << 30) - 1, 5 << 40, u64::MAX].map(bytes);
    assert_eq!(
        sizes,
        [
            "0 B",
            "1023 B",
            "1.0 KiB",
            "1.5 KiB",
            "1.0 MiB",
            "1023.9 MiB",
            "5.0 TiB",
            "16777215.9 TiB"
        ]
    );
    let times = [0, 59, 61, 3_660, 90_000].map(|seconds| took(Duration::from_secs(seconds)));
    assert_eq!(times, ["0s", "59s", "1m01s", "1h01m", "1d01h"]);
}
