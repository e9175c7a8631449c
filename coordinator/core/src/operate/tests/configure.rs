//! Releases that come with the config of their environment, and go back with it.

use std::collections::BTreeSet;

use cutover_common::{ApplicationName, SecretId, SlotGoal, Timestamp};
use uuid::Uuid;

use crate::{
    Action, Answer, ConfigOrder, Event, EventKind, Input, Refusal, Request, Sealed, Setting, Verb,
    config::ConfigChange,
    testing::{PROD, Story, gated, labels, name, order},
};

fn config(application: Option<&str>, set: &[(&str, &str)], unset: &[&str]) -> ConfigOrder {
    let plain = |value: &str| Setting::Plain(value.to_owned());
    ConfigOrder {
        environment: PROD.parse().unwrap(),
        application: application.map(|it| it.parse().unwrap()),
        set: set.iter().map(|(name, value)| (name.parse().unwrap(), plain(value))).collect(),
        unset: unset.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

fn try_set(story: &mut Story, order: ConfigOrder) -> Result<Answer, Refusal> {
    story.ask(Request::ConfigureEnvironment(order))
}

/// What the instance on `agent` is to have in its environment, by its goal.
fn has(story: &Story, agent: &str) -> String {
    let goal = story.agents[&name(agent)].assigned.as_ref().unwrap();
    let running = goal.slots.iter().find_map(|(_, slot)| match slot {
        SlotGoal::Running(release) => Some(release),
        SlotGoal::Absent | SlotGoal::Prepared(_) => None,
    });
    let env = &running.unwrap().config.env;
    env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn deployed(story: &mut Story, version: &str) {
    story.deploy(version, &[]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_change_of_the_config_is_a_rollout_and_comes_back_with_a_rollback() {
    let mut story = Story::running(2);
    assert_eq!(story.configure(&[("LOG", "info")]), Some(1));
    story.settle();
    assert_eq!(story.told("web-1").as_deref(), Some("1.0"), "nothing moves by itself");
    story.restart();
    story.connect_all();

    deployed(&mut story, "1.0");
    assert_eq!(story.told("web-1").as_deref(), Some("1.0~prod.1"));
    assert_eq!(has(&story, "web-2"), "LOG=info");
    let refusal = story.try_deploy("1.0", &[]).unwrap_err();
    assert!(refusal.text.contains("1.0~prod.1 runs in health on all 2 hosts"), "{refusal:?}");

    story.configure(&[("LOG", "debug")]);
    deployed(&mut story, "2.0");
    assert_eq!(story.told("web-1").as_deref(), Some("2.0~prod.2"));
    assert_eq!(has(&story, "web-1"), "LOG=debug");
    // The way back of what is over: the release of before, with the config of before.
    story.control(Verb::Rollback).unwrap();
    story.settle();
    assert_eq!(story.told("web-1").as_deref(), Some("1.0~prod.1"));
    assert_eq!(has(&story, "web-1"), "LOG=info");
    // And of that to what had none.
    story.deploy("3.0", &[("batch", "1")]);
    story.restart();
    story.connect_all();
    story.control(Verb::Rollback).unwrap();
    story.settle();
    assert_eq!(story.told("web-1").as_deref(), Some("1.0~prod.1"), "{}", story.why());
}

#[test]
fn a_rollback_to_what_had_no_config_brings_none() {
    let mut story = Story::running(2);
    story.configure(&[("LOG", "info")]);
    deployed(&mut story, "2.0");

    story.control(Verb::Rollback).unwrap();
    story.settle();

    assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
    assert_eq!(has(&story, "web-1"), "");
    story.control(Verb::Retry).unwrap_err();
}

#[test]
fn a_retry_and_hosts_that_join_get_the_config_that_runs() {
    let mut story = Story::running(2);
    story.configure(&[("LOG", "info")]);
    deployed(&mut story, "2.0");
    story.configure(&[("LOG", "debug")]);

    story.join("web-3");
    story.connect("web-3");
    story.settle();

    assert_eq!(story.told("web-3").as_deref(), Some("2.0~prod.1"));
    assert_eq!(has(&story, "web-3"), "LOG=info");
}

#[test]
fn a_restart_brings_no_other_config() {
    let mut story = Story::fleet(2);
    for version in ["4.0", "5.0"] {
        story.push(gated(version));
    }
    story.configure(&[("LOG", "info")]);
    deployed(&mut story, "4.0");
    story.configure(&[("LOG", "debug")]);

    story.deploy("4.0", &[("strategy", "restart")]);
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(story.newest().to.as_str(), "4.0~prod.1");
    assert_eq!(has(&story, "web-1"), "LOG=info");
}

#[test]
fn what_is_set_for_another_application_is_no_change_and_nothing_set_is_none() {
    let mut story = Story::running(1);
    let mut other = crate::testing::release("1.0", "api");
    other.name.application = "api".parse().unwrap();
    story.push(other);
    try_set(&mut story, config(Some("api"), &[("LOG", "debug")], &[])).unwrap();

    let refusal = story.try_deploy("1.0", &[]).unwrap_err();
    assert!(refusal.text.contains("web@1.0 runs in health"), "{refusal:?}");

    story.configure(&[("LOG", "info")]);
    try_set(&mut story, config(None, &[], &["LOG"])).unwrap();
    assert!(story.try_deploy("1.0", &[]).is_err(), "it is as it was pushed");
}

#[test]
fn the_same_again_is_no_change_and_a_change_says_what_it_concerns() {
    let mut story = Story::running(1);
    let answer = try_set(&mut story, config(None, &[("LOG", "info")], &[])).unwrap();
    let Answer::Configured { number, concerns } = answer else { panic!("{answer:?}") };
    assert_eq!((number, concerns[0].to_string().as_str()), (Some(1), "web@1.0"));

    assert_eq!(story.configure(&[("LOG", "info")]), None);
    let nothing = try_set(&mut story, config(None, &[], &["LOGS"])).unwrap();
    assert!(matches!(nothing, Answer::Configured { number: None, .. }), "{nothing:?}");
    assert_eq!(story.configure(&[("LOG", "warn")]), Some(2));
}

#[test]
fn a_config_that_cannot_be_is_refused() {
    let mut story = Story::running(1);
    story.configure(&[("LOG", "info")]);
    let mut refused = |order: ConfigOrder| {
        let refusal = try_set(&mut story, order).unwrap_err();
        format!("{}; {}", refusal.text, refusal.hint)
    };
    insta::assert_snapshot!(
        refused(config(None, &[("PORT", "80")], &[])),
        @"PORT is where an instance listens, which its agent tells it; choose another name"
    );
    insta::assert_snapshot!(
        refused(config(Some("wbe"), &[("A", "1")], &[])),
        @r#"there is no application "wbe"; did you mean "web"? `cutover release list` lists all"#
    );
    let nowhere = ConfigOrder { environment: "prodd".parse().unwrap(), ..config(None, &[], &[]) };
    assert!(refused(nowhere).contains("did you mean \"prod\"?"));
    let many: Vec<(String, &str)> = (0..257).map(|n| (format!("V{n}"), "x")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, it)| (name.as_str(), *it)).collect();
    assert!(refused(config(None, &many, &[])).contains("more than 256 variables"));
    let long = "x".repeat(32 * 1024);
    let large: Vec<(&str, &str)> =
        ["A", "B", "C", "D", "E", "F"].map(|name| (name, long.as_str())).into();
    assert!(refused(config(None, &large, &[])).contains("bytes of 196608"));
}

#[test]
fn the_config_of_another_environment_is_refused() {
    let mut story = Story::running(1);
    story.configure(&[("LOG", "info")]);
    deployed(&mut story, "2.0");
    let select = labels(&[("env", PROD)]);
    let shop = "shop".parse().unwrap();
    story.ask(Request::CreateEnvironment { name: shop, select }).unwrap();

    let mut elsewhere = order("2.0~prod.1", &[]);
    elsewhere.environment = "shop".parse().unwrap();
    let refusal = story.core.plan(&elsewhere).unwrap_err();

    insta::assert_snapshot!(refusal.text, @"2.0~prod.1 has the config of prod");
    insta::assert_snapshot!(refusal.hint, @"deploy it with that of shop: cutover deploy web@2.0 --to shop");
}

#[test]
fn a_secret_is_named_by_its_goal_and_found_sealed() {
    let mut story = Story::running(1);
    let (old, new) = (SecretId(Uuid::from_u128(1)), SecretId(Uuid::from_u128(2)));
    for id in [old, new] {
        let secret = Setting::Secret { id, sealed: Sealed([7].into()) };
        let mut order = config(Some("web"), &[], &[]);
        order.set = [("DB_PASSWORD".parse().unwrap(), secret)].into();
        order.unset = BTreeSet::new();
        try_set(&mut story, order).unwrap();
        deployed(&mut story, "1.0");
    }

    let web: ApplicationName = "web".parse().unwrap();
    let goal = story.core.goals().of(&name("web-1"), &web).unwrap();
    let assigned = story.core.assignment(&name("web-1"), &web, goal).unwrap();
    let named: BTreeSet<SecretId> = assigned.secrets().collect();
    assert_eq!(named, [old, new].into(), "what runs, and what it would go back to");
    assert_eq!(story.core.sealed(old), Some(&Sealed([7].into())));
    assert_eq!(story.core.sealed(SecretId(Uuid::nil())), None);
}

#[test]
fn all_that_a_config_ever_was_is_bounded_together() {
    let mut story = Story::running(1);
    let long: Vec<String> = ["x", "y"].map(|it| it.repeat(32 * 1024)).into();
    // What is in memory, as so many events would take their time here.
    let configs = &mut story.core.environments.get_mut(&PROD.parse().unwrap()).unwrap().configs;
    let names = ["A", "B", "C", "D", "E"];
    let change = |round: usize| {
        let large = names.map(|name| (name, long[round % 2].as_str()));
        config(None, &large, &[])
    };
    for round in 0..64 * 1024 / 160 {
        let ConfigOrder { application, set, unset, .. } = change(round);
        let (by, at) = (String::new(), Timestamp::default());
        configs.change(ConfigChange { application, set, unset, by, at });
    }

    let request = Request::ConfigureEnvironment(change(1));
    let by = "ann".to_owned();
    let asked = Input::Asked { reply: crate::input::ReplyId(7), by, request };
    let step = story.core.handle(story.now, asked);

    let refusal = step.actions.into_iter().find_map(|action| {
        let Action::Answer { answer, .. } = action else { return None };
        answer.err()
    });
    let refusal = refusal.expect("it is refused");
    insta::assert_snapshot!(format!("{}; {}", refusal.text, refusal.hint), @"all changes of the config of environment prod would take 67176453 bytes of 67108864; they are kept for the ways back; put what is large into the release, or into a file on the hosts; an environment of another name begins with none");
}

#[test]
fn what_is_there_can_be_taken_away_whatever_is_kept() {
    let mut story = Story::running(1);
    story.configure(&[("LOG", "info")]);
    let configs = &mut story.core.environments.get_mut(&PROD.parse().unwrap()).unwrap().configs;
    for _ in 0..64 * 1024 / 32 {
        configs.change(ConfigChange {
            application: None,
            set: [("A".parse().unwrap(), Setting::Plain("x".repeat(32 * 1024)))].into(),
            unset: BTreeSet::new(),
            by: String::new(),
            at: Timestamp::default(),
        });
    }
    let mut ask = |order: ConfigOrder| {
        let request = Request::ConfigureEnvironment(order);
        let by = "ann".to_owned();
        let asked = Input::Asked { reply: crate::input::ReplyId(7), by, request };
        let step = story.core.handle(story.now, asked);
        step.actions
            .into_iter()
            .any(|action| matches!(action, Action::Answer { answer: Ok(_), .. }))
    };

    assert!(!ask(config(None, &[("LOG", "warn")], &[])));
    assert!(ask(config(None, &[], &["LOG"])));
}

#[test]
fn a_secret_that_is_lost_is_deployed_nowhere_until_it_is_set_anew() {
    let mut story = Story::running(2);
    let secret = |id: u128| Setting::Secret {
        id: SecretId(Uuid::from_u128(id)),
        sealed: Sealed([7].into()),
    };
    let give = |story: &mut Story, id: u128| {
        let set = [("DB_PASSWORD".parse().unwrap(), secret(id))].into();
        try_set(story, ConfigOrder { set, ..config(None, &[], &[]) }).unwrap();
    };
    give(&mut story, 1);
    deployed(&mut story, "1.0");
    assert_eq!(story.core.all_sealed().count(), 1);
    let mut log = story.log.clone();
    let secrets = [SecretId(Uuid::from_u128(1))].into();
    log.push(Event { at: story.now, kind: EventKind::SecretsLost { secrets } });
    let mut story = Story::from_log(&story, log);
    story.connect_all();

    assert_eq!(story.core.all_sealed().count(), 0);
    let refusal = story.try_deploy("2.0", &[]).unwrap_err();
    insta::assert_snapshot!(format!("{}; {}", refusal.text, refusal.hint), @"the value of the secret DB_PASSWORD of prod is lost, with the key that it was sealed with; set it anew: cutover env secret prod DB_PASSWORD (`cutover env show` says for which application); or take it away: cutover env set prod DB_PASSWORD-; then deploy web@2.0");
    assert_eq!(story.told("web-1").as_deref(), Some("1.0~prod.1"), "what runs goes on");

    // A host that joins cannot have the value, and is not asked to run without it again and again.
    let rollouts = |story: &Story| story.core.history(None, None, 100).len();
    let begun = rollouts(&story);
    story.join("web-3");
    story.connect("web-3");
    story.pass(std::time::Duration::from_secs(3_600));
    assert_eq!(rollouts(&story), begun);
    let web = "web".parse().unwrap();
    let status = story.core.status(Some(&web), story.now);
    let detail = &status[0].hosts.iter().find(|host| host.agent == name("web-3")).unwrap().detail;
    assert!(detail.contains("DB_PASSWORD of prod is lost"), "{detail}");

    give(&mut story, 2);
    deployed(&mut story, "2.0");
    // Hosts that ran the release of before have the value still.
    story.control(Verb::Rollback).unwrap();
    story.settle();
    assert_eq!(story.told("web-1").as_deref(), Some("1.0~prod.1"), "{}", story.why());
}
