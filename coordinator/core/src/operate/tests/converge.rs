//! Hosts that join or come back get what the environment runs.

use cutover_common::EnvironmentName;

use crate::{
    DeployOrder, Request, Verb,
    rollout::HostState,
    testing::{Story, gated, labels, name, order, seconds},
};

#[test]
fn a_host_that_joins_gets_what_the_environment_runs() {
    let mut story = Story::running(2);

    story.join("web-3");
    story.connect("web-3");

    let rollout = story.follow();
    assert!(rollout.converges);
    assert_eq!(rollout.plan.waves.len(), 1);
    assert_eq!(rollout.plan.waves[0].agents, [name("web-3")]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(story.told("web-3").as_deref(), Some("1.0"));
    // It is the release that was tried last.
    assert_eq!(story.core.find_rollout("web").unwrap().number, 1);
}

#[test]
fn a_host_that_joins_during_a_rollout_waits_and_never_gets_what_was_not_good() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "on")]);
    story.obey_all();

    story.join("web-3");
    story.connect("web-3");
    assert_eq!(story.told("web-3"), None, "one rollout at a time");
    story.fail("web-1", "2.0");
    story.settle();

    assert!(story.follow().converges, "{}", story.why());
    assert_eq!(story.told("web-3").as_deref(), Some("1.0"));
}

#[test]
fn a_host_that_was_away_catches_up_when_it_is_back() {
    let mut story = Story::running(3);
    story.lose("web-3");
    story.pass(seconds(400));
    story.deploy("2.0", &[("max_unreachable", "1"), ("min_healthy", "1")]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert!(matches!(story.host("web-3"), HostState::Unreachable { .. }));

    story.connect("web-3");

    assert!(story.follow().converges);
    story.settle();
    assert_eq!(story.told("web-3").as_deref(), Some("2.0"));
}

#[test]
fn a_host_that_was_drained_catches_up_when_it_takes_part_again() {
    let mut story = Story::running(2);
    story.drain("web-2").unwrap();
    story.deploy("2.0", &[("min_healthy", "0")]);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("1.0"));

    story.undrain("web-2").unwrap();

    assert!(story.follow().converges);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("2.0"));
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_host_that_fails_is_left_as_it_is_and_no_person_is_asked() {
    let mut story = Story::running(1);
    story.join("web-2");
    story.connect("web-2");
    story.follow();
    story.obey("web-2");
    story.fail("web-2", "1.0");
    assert_eq!(story.state_word(), "aborted", "{}", story.why());
    let tried = story.newest().number;

    story.lose("web-2");
    story.connect("web-2");

    assert_eq!(story.follow().number, tried, "it is not tried for ever");
    story.deploy("2.0", &[]);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("2.0"));
}

#[test]
fn who_was_excluded_or_failed_is_left_to_people() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("max_failed", "1"), ("batch", "1"), ("min_healthy", "0")]);
    story.exclude(&["web-1"]).unwrap();
    story.obey_all();
    story.fail("web-2", "2.0");
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());

    story.lose("web-1");
    story.connect("web-1");
    story.lose("web-2");
    story.connect("web-2");

    assert!(!story.follow().converges);
}

#[test]
fn what_a_person_asks_for_takes_its_place() {
    let mut story = Story::running(1);
    story.join("web-2");
    story.connect("web-2");
    assert!(story.follow().converges);
    let converging = story.newest().id;

    story.deploy("2.0", &[]);

    assert!(story.core.rollout(converging).unwrap().is_over());
    assert!(!story.newest().converges);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("2.0"));
}

#[test]
fn a_label_brings_a_host_in() {
    let mut story = Story::running(1);
    story.join_with("web-2", labels(&[("env", "other")]));
    story.connect("web-2");
    assert!(!story.follow().converges);

    let agent = name("web-2");
    let set = labels(&[("env", "prod")]);
    story.ask(Request::LabelAgent { agent, set, unset: Vec::new() }).unwrap();

    assert!(story.follow().converges);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("1.0"));
}

#[test]
fn a_rollout_that_stands_is_superseded_when_somebody_says_so() {
    let mut story = Story::running(2);
    let first = story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.control(Verb::Pause).unwrap();
    let mut order = order("3.0", &[]);
    let refusal = story.core.plan(&order).unwrap_err();
    assert!(refusal.hint.contains("--if-busy supersede"), "{}", refusal.hint);

    order.if_busy = crate::IfBusy::Supersede;
    let (request_id, rollout) = (story.draw(), story.draw());
    story.ask(Request::Deploy { request_id, rollout, order }).unwrap();

    assert!(story.core.rollout(first).unwrap().is_over());
    story.follow();
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
    assert_eq!(story.told("web-1").as_deref(), Some("3.0"));
}

#[test]
fn a_host_that_was_skipped_gets_the_release_when_it_has_succeeded() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();

    let text = story.skip(&["web-3"]).unwrap();
    assert_eq!(text, "skipped until 2.0 has succeeded everywhere else: web-3");
    let skipping = story.rollout.unwrap();
    story.settle();
    let rollout = story.core.rollout(skipping).unwrap();
    assert!(matches!(rollout.hosts[&name("web-3")].state, HostState::Excluded { .. }));
    let ended = story.core.why(rollout, story.now);
    assert!(ended.contains("skipped: web-3"), "{ended}");

    assert!(story.follow().converges);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(story.told("web-3").as_deref(), Some("2.0"));
}

#[test]
fn a_host_that_was_skipped_stays_when_the_release_was_not_good() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "on")]);
    story.skip(&["web-3"]).unwrap();

    story.obey_all();
    story.fail("web-1", "2.0");
    story.settle();

    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
    assert_eq!(story.told("web-3").as_deref(), Some("1.0"));
}

#[test]
fn a_host_that_nothing_came_to_still_gets_what_runs() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "on")]);
    story.settle();
    story.join("web-3");
    story.connect("web-3");
    assert!(story.follow().converges);

    // What a person asks for takes its place, and goes back before it is web-3's turn.
    story.deploy("3.0", &[("batch", "1"), ("min_healthy", "1")]);
    story.obey_all();
    let first = story.hosts("updating");
    let first = first.split(' ').next().unwrap().to_owned();
    assert_ne!(first, "");
    story.fail(&first, "3.0");
    story.settle();

    assert!(story.follow().converges || story.told("web-3").as_deref() == Some("2.0"));
    story.settle();
    assert_eq!(story.told("web-3").as_deref(), Some("2.0"));
}

#[test]
fn what_was_given_up_rests_before_it_begins_again() {
    let mut story = Story::running(1);
    story.join("web-2");
    story.connect("web-2");
    let given_up = story.follow().number;
    story.lose("web-2");
    story.pass(seconds(60));
    assert_eq!(story.state_word(), "aborted", "{}", story.why());

    for _ in 0..5 {
        story.connect("web-2");
        story.lose("web-2");
        story.pass(seconds(30));
    }
    assert_eq!(story.follow().number, given_up, "it rests");
    story.connect("web-2");
    story.pass(seconds(600));

    assert!(story.follow().number > given_up);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("1.0"));
}

#[test]
fn one_that_cannot_take_part_does_not_keep_the_others_from_it() {
    let mut story = Story::fleet(1);
    story.push(gated("4.0"));
    story.deploy("4.0", &[]);
    story.settle();
    let mut shop = gated("1.0");
    shop.name.application = "shop".parse().unwrap();
    shop.digest = crate::testing::hash("shop");
    story.push(shop);
    let shops: EnvironmentName = "shops".parse().unwrap();
    let select = labels(&[("env", "shops")]);
    story.ask(Request::CreateEnvironment { name: shops.clone(), select: select.clone() }).unwrap();
    story.join_with("web-9", select);
    story.connect("web-9");
    let application = "shop".parse().unwrap();
    let order = DeployOrder { application, environment: shops, ..order("1.0", &[]) };
    let (request_id, rollout) = (story.draw(), story.draw());
    story.ask(Request::Deploy { request_id, rollout, order }).unwrap();
    story.follow();
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());

    // The port of the service is shop's there.
    let (agent, set) = (name("web-9"), labels(&[("env", "prod")]));
    story.ask(Request::LabelAgent { agent, set, unset: Vec::new() }).unwrap();
    assert!(!story.follow().converges, "it cannot take part");
    let detail = |story: &Story| {
        let status = story.core.status(Some(&"web".parse().unwrap()), story.now);
        let host = status[0].hosts.iter().find(|host| host.agent == name("web-9")).unwrap();
        host.detail.clone()
    };
    insta::assert_snapshot!(detail(&story), @"does not get what prod runs: port 8080 of web-9 is shop's, and leads to one application (give one of the two another service.port, or hosts of its own)");
    story.join("web-2");
    story.connect("web-2");

    assert!(story.follow().converges);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("4.0"), "{}", story.why());
}

#[test]
fn what_comes_by_itself_makes_way_for_what_is_asked_of_a_host() {
    let mut story = Story::running(1);
    story.join("web-2");
    story.connect("web-2");
    let converging = story.follow().id;

    let (agent, set) = (name("web-2"), labels(&[("zone", "a")]));
    story.ask(Request::LabelAgent { agent, set, unset: Vec::new() }).unwrap();

    assert!(story.core.rollout(converging).unwrap().is_over());
    story.settle();
    assert!(story.follow().converges, "it goes on with the new label");
    assert_ne!(story.newest().id, converging);
    assert_eq!(story.told("web-2").as_deref(), Some("1.0"));
    // Nobody is sent to it by the name of the application.
    let view = story.core.view(story.core.rollout(converging).unwrap(), story.now);
    assert_eq!(view.next, Vec::<String>::new());
}

#[test]
fn a_host_that_joins_is_given_the_time_that_the_others_were_given() {
    let mut story = Story::running(2);
    let typed = [
        ("healthy_within", "7m"),
        ("healthy_for", "9s"),
        ("min_healthy", "0"),
        ("strategy", "all_at_once"),
    ];
    story.deploy("2.0", &typed);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());

    story.join("web-3");
    story.connect("web-3");

    let rollout = story.follow();
    assert!(rollout.converges);
    assert_eq!(rollout.spec.strategy.to_string(), "rolling");
    let times = (rollout.spec.healthy_within, rollout.spec.healthy_for);
    assert_eq!(times, (seconds(420), seconds(9)));
    assert_eq!(rollout.spec.min_healthy, 2, "of three, as nobody said anything else");
}

#[test]
fn what_was_typed_for_other_hosts_keeps_nobody_from_what_runs() {
    let mut story = Story::fleet(0);
    let of = |zone: &str| labels(&[("env", "prod"), ("az", zone)]);
    for (agent, zone) in [("web-1", "a"), ("web-2", "a"), ("web-3", "a")] {
        story.join_with(agent, of(zone));
        story.connect(agent);
    }
    story.deploy("1.0", &[("zone", "az"), ("zone_min_healthy", "2"), ("healthy_for", "9s")]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());

    // The first host of another zone: two of one can never be healthy there.
    story.join_with("web-4", of("b"));
    story.connect("web-4");

    assert!(story.follow().converges, "{}", story.why());
    story.settle();
    assert_eq!(story.told("web-4").as_deref(), Some("1.0"));
}
