//! Deploys: what is accepted, what is refused, and what is the same again.

use std::time::Duration;

use cutover_common::{
    ApplicationName, InstanceEvidence, InstanceId, Phase, Protocol, Release, Swap, TlsFiles,
    Traffic,
};
use uuid::Uuid;

use crate::{
    Answer, RefusalKind, Request, Verb,
    input::DeployOrder,
    rollout::Replacement,
    testing::{Story, gated, in_place, labels, order},
};

#[test]
fn the_same_request_again_is_the_same_rollout() {
    let mut story = Story::running(2);
    let (request_id, first, second) = (story.draw(), story.draw(), story.draw());
    let deploy = |rollout, to| Request::Deploy { request_id, rollout, order: order(to, &[]) };

    let started = story.ask(deploy(first, "2.0")).unwrap();
    let repeated = story.ask(deploy(second, "2.0")).unwrap();
    story.restart();
    let after_restart = story.ask(deploy(second, "2.0")).unwrap();
    let other = story.ask(deploy(second, "3.0")).unwrap_err();

    assert_eq!(started, Answer::RolloutStarted { rollout: first, repeated: false });
    assert_eq!(repeated, Answer::RolloutStarted { rollout: first, repeated: true });
    assert_eq!(after_restart, repeated);
    assert_eq!(other.kind, RefusalKind::Invalid);
}

#[test]
fn the_same_request_after_the_end_starts_nothing() {
    let mut story = Story::running(2);
    let request_id = story.draw();
    let rollout = story.draw();
    let deploy = Request::Deploy { request_id, rollout, order: order("2.0", &[]) };
    story.ask(deploy.clone()).unwrap();
    story.settle();

    let again = story.ask(deploy).unwrap();

    assert_eq!(again, Answer::RolloutStarted { rollout, repeated: true });
    assert_eq!(story.core.active().count(), 0);
}

#[test]
fn a_second_rollout_is_refused_and_the_first_is_named() {
    let mut story = Story::running(2);
    let first = story.deploy("2.0", &[]);

    let refusal = story.try_deploy("3.0", &[]).unwrap_err();

    assert_eq!(refusal.kind, RefusalKind::State);
    let id = first.to_string();
    insta::assert_snapshot!(refusal.text.replace(&id, "ID"), @"web has a rollout in prod that is not over: ID to 2.0, started by ann");
    insta::assert_snapshot!(refusal.hint.replace(&id, "ID"), @"see what it waits for: cutover why ID; or begin this one after it: --if-busy queue; or stop it and begin this one: --if-busy supersede");
}

#[test]
fn a_rollout_of_another_environment_that_shares_a_host_is_refused() {
    let mut story = Story::running(2);
    let select = labels(&[("env", "prod")]);
    let name = "same-hosts".parse().unwrap();
    story.ask(Request::CreateEnvironment { name, select }).unwrap();
    story.deploy("2.0", &[]);
    let (request_id, rollout) = (story.draw(), story.draw());
    let mut order = order("3.0", &[]);
    order.environment = "same-hosts".parse().unwrap();

    let refusal = story.ask(Request::Deploy { request_id, rollout, order }).unwrap_err();

    assert_eq!(refusal.kind, RefusalKind::State);
}

#[test]
fn a_rollout_that_is_held_or_paused_still_keeps_others_out() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[]);
    story.control(Verb::Pause).unwrap();

    assert!(story.try_deploy("3.0", &[]).is_err());

    story.control(Verb::Abort).unwrap();
    assert!(story.try_deploy("3.0", &[]).is_ok());
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    let mut story = Story::running(1);
    let mut ask = |change: &dyn Fn(&mut DeployOrder)| {
        let (request_id, rollout) = (story.draw(), story.draw());
        let mut order = order("2.0", &[]);
        change(&mut order);
        let refusal = story.ask(Request::Deploy { request_id, rollout, order }).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::NotFound);
        format!("{}; {}", refusal.text, refusal.hint)
    };

    let environment = ask(&|order| order.environment = "prd".parse().unwrap());
    let application = ask(&|order| order.application = "wep".parse().unwrap());
    let release = ask(&|order| order.version = "2.1".parse().unwrap());

    insta::assert_snapshot!(environment, @r#"there is no environment "prd"; did you mean "prod"? `cutover env list` lists all"#);
    insta::assert_snapshot!(application, @r#"there is no application "wep"; did you mean "web"? `cutover release list` lists all"#);
    insta::assert_snapshot!(release, @r#"there is no release of web "2.1"; did you mean "2.0"? `cutover release list web` lists all"#);
}

#[test]
fn an_environment_without_agents_is_refused() {
    let mut story = Story::empty();
    let select = labels(&[("env", "prod")]);
    story.ask(Request::CreateEnvironment { name: "prod".parse().unwrap(), select }).unwrap();
    story.push(crate::testing::release("2.0", "2.0"));

    let refusal = story.try_deploy("2.0", &[]).unwrap_err();

    insta::assert_snapshot!(format!("{}; {}", refusal.text, refusal.hint), @"environment prod has no agents; `cutover env show prod` tells the labels it selects; give them with `cutover agents label`");
}

#[test]
fn deploying_what_runs_everywhere_is_refused() {
    let mut story = Story::running(2);

    let refusal = story.try_deploy("1.0", &[]).unwrap_err();

    insta::assert_snapshot!(refusal.text, @"web@1.0 runs in health on all 2 hosts of prod already");
}

#[test]
fn every_wrong_setting_is_named_in_one_answer() {
    let mut story = Story::running(2);
    let wrong = [
        ("batch", "0"),
        ("min_healthy", "101%"),
        ("max_failed", "-1"),
        ("healthy_for", "5"),
        ("healthy_within", "0s"),
        ("bake", "99h"),
        ("strategy", "blue_gren"),
        ("auto_rollback", "yes"),
    ];

    let refusal = story.try_deploy("2.0", &wrong).unwrap_err();

    assert_eq!(refusal.kind, RefusalKind::Invalid);
    insta::assert_snapshot!(refusal.text, @r#"
strategy: "blue_gren" is no strategy; write "blue_green"
batch: 0 moves no host, and would never finish; write at least 1, or a percentage from "1%"
min_healthy: "101%" is more than all hosts; write a percentage up to "100%"
max_failed: "-1" is below zero; write a number of hosts such as 3, or a percentage such as "25%"
healthy_for: "5" is no duration; write a whole number with a unit, such as "500ms", "30s", "5m" or "2h"
healthy_within: "0s" is too short; write a duration from "1ms" to "24h"
bake: "99h" is too long; write a duration from "0s" to "24h"
auto_rollback: "yes" must be "on" or "off"
"#);
}

#[test]
fn times_that_contradict_each_other_are_refused() {
    let mut story = Story::running(2);

    let never = story.try_deploy("2.0", &[("healthy_for", "5m"), ("healthy_within", "1m")]);
    let early = story.try_deploy("2.0", &[("healthy_within", "20m")]);

    insta::assert_snapshot!(never.unwrap_err().text, @"healthy_within: 1m is not longer than healthy_for, 5m, so no host could ever be done; write a longer healthy_within");
    insta::assert_snapshot!(early.unwrap_err().text, @"progress_within: 10m is shorter than healthy_within, 20m, so a slow start would look like a standstill; write a longer progress_within");
}

#[test]
fn a_plan_says_what_clients_notice() {
    let mut story = Story::running(2);
    let replacement = |story: &Story| story.core.plan(&order("2.0", &[])).unwrap().replacement;
    assert_eq!(replacement(&story), Replacement::Outage { measured: None });

    story.say_outage("web-1", Duration::from_millis(900));
    story.say_outage("web-2", Duration::from_millis(1_400));

    let longest = Some(Duration::from_millis(1_400));
    assert_eq!(replacement(&story), Replacement::Outage { measured: longest });
}

/// Returns what clients notice of a deploy, in a word, and why nothing is passed on.
fn noticed(story: &Story, to: &str, settings: &[(&str, &str)]) -> String {
    let planned = story.core.plan(&order(to, settings)).unwrap();
    let why = planned.not_passed_on.map(|why| format!(": {why}"));
    format!("{}{}", planned.replacement.word(), why.unwrap_or_default())
}

fn with_certificate(of: &str) -> Release {
    let mut release = in_place(of);
    let files = TlsFiles { certificate: "/c.pem".to_owned(), key: "/c.key".to_owned() };
    release.service.as_mut().unwrap().tls = Some(files);
    release
}

fn with_headers(of: &str, trusted: &[&str]) -> Release {
    let mut release = in_place(of);
    let service = release.service.as_mut().unwrap();
    service.proxy_protocol = true;
    service.trusted_peers = trusted.iter().map(|it| it.parse().unwrap()).collect();
    release
}

#[test]
fn in_place_requests_are_passed_on_unless_the_others_are_reached_in_another_way() {
    let mut story = Story::running(2);
    for release in
        [in_place("4.0"), in_place("5.0"), with_certificate("6.0"), with_certificate("7.0")]
    {
        story.push(release);
    }
    assert_eq!(noticed(&story, "4.0", &[]), "outage", "no gate stands there yet");
    story.deploy("4.0", &[]);
    story.settle();

    assert_eq!(noticed(&story, "5.0", &[]), "passed_on");
    insta::assert_snapshot!(noticed(&story, "6.0", &[]), @"outage: the two versions differ in service.port, protocol, tls or proxy_protocol, and a host stands in only for one that is reached as itself");
    insta::assert_snapshot!(noticed(&story, "5.0", &[("batch", "100%")]), @"outage: no other host is known to serve at the worst moment; smaller batches or more hosts change that");
    story.deploy("6.0", &[]);
    story.settle();
    assert_eq!(noticed(&story, "7.0", &[]), "passed_on");
}

#[test]
fn with_proxy_headers_they_are_passed_on_where_every_host_is_trusted() {
    let mut story = Story::running(2);
    story.push(with_headers("4.0", &["10.0.0.1", "10.0.0.2"]));
    story.push(with_headers("5.0", &["10.0.0.0/24"]));
    story.push(with_headers("6.0", &["10.0.0.2", "192.0.2.1"]));
    story.push(with_headers("7.0", &["192.0.2.1"]));
    story.deploy("4.0", &[]);
    story.settle();

    assert_eq!(noticed(&story, "5.0", &[]), "passed_on");
    insta::assert_snapshot!(noticed(&story, "6.0", &[]), @"outage: service.trusted_peers of both versions must have every host that writes PROXY headers to others, and lacks web-1 (10.0.0.1)");
    insta::assert_snapshot!(noticed(&story, "7.0", &[]), @"outage: service.trusted_peers of both versions must have every host that writes PROXY headers to others, and lacks web-1 (10.0.0.1), web-2 (10.0.0.2)");
}

#[test]
fn a_host_whose_last_but_one_release_still_drains_gets_the_time_for_it() {
    let mut story = Story::running(2);
    for version in ["4.0", "5.0", "6.0"] {
        let mut release = in_place(version);
        release.service.as_mut().unwrap().swap = Swap::Beside;
        story.push(release);
    }
    for version in ["4.0", "5.0"] {
        story.deploy(version, &[]);
        story.settle();
    }
    let allowance = |story: &Story| story.core.plan(&order("6.0", &[])).unwrap().spec.allowance;
    let before = allowance(&story);
    let drained = in_place("4.0").drained_within();
    assert!(drained > Duration::ZERO);

    let leaving = story.slot_as("web-2", "4.0", |slot| {
        let instance = InstanceId(Uuid::nil());
        let boot_id = String::new();
        slot.phase = Phase::Running;
        slot.instance = Some(InstanceEvidence { instance, boot_id, pid: 1, start_ticks: 1 });
        slot.traffic = Traffic::Away;
    });
    story.say("web-2", leaving);

    assert_eq!(allowance(&story), before + drained);
}

#[test]
fn a_port_that_leads_to_another_application_is_refused_with_its_name() {
    let mut story = Story::running(2);
    story.push(in_place("4.0"));
    story.deploy("4.0", &[]);
    story.settle();
    let shop: ApplicationName = "shop".parse().unwrap();
    let mut release = in_place("1.0");
    release.name.application = shop.clone();
    story.push(release);

    let refusal = story.core.plan(&DeployOrder { application: shop, ..order("1.0", &[]) });

    let refusal = refusal.unwrap_err();
    insta::assert_snapshot!(refusal.text, @"port 8080 of web-1 is web's, and leads to one application");
    insta::assert_snapshot!(refusal.hint, @"give one of the two another service.port, or hosts of its own");
}

#[test]
fn a_header_that_would_lead_nobody_to_a_canary_is_refused() {
    let mut story = Story::running(2);
    let mut plain_tcp = gated("4.0");
    plain_tcp.service.as_mut().unwrap().protocol = Protocol::Tcp;
    story.push(plain_tcp);
    story.push(gated("5.0"));
    let on_purpose = [("strategy", "canary"), ("canary_cookie", "canary=1")];
    let refusal = |version| story.core.plan(&order(version, &on_purpose)).unwrap_err().text;

    insta::assert_snapshot!(refusal("2.0"), @"clients cannot reach the canary by a header or a cookie: 2.0 of web has no [service], so that no gate looks at what clients send");
    insta::assert_snapshot!(refusal("4.0"), @"clients cannot reach the canary by a header or a cookie: 4.0 of web is a TCP service (service.protocol), which has neither");
    assert!(story.core.plan(&order("5.0", &on_purpose)).is_ok());
}

#[test]
fn the_plan_does_not_move_when_the_fleet_does() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    let plan = story.newest().plan.clone();

    story.join("web-9");
    story.connect("web-9");
    story.settle();

    assert_eq!(story.newest().plan, plan);
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert!(
        !story.newest().hosts.contains_key(&crate::testing::name("web-9")),
        "it has one of its own"
    );
}

#[test]
fn an_application_names_its_rollout_that_is_not_over() {
    let mut story = Story::running(2);
    let staging = "staging".parse().unwrap();
    story.join_with("stage-1", labels(&[("env", "staging")]));
    story.connect("stage-1");
    let select = labels(&[("env", "staging")]);
    story.ask(Request::CreateEnvironment { name: staging, select }).unwrap();
    let production = story.deploy("2.0", &[]);
    story.now = story.now + crate::testing::seconds(1);
    let (request_id, rollout) = (story.draw(), story.draw());
    let mut order = order("2.0", &[]);
    order.environment = "staging".parse().unwrap();
    story.ask(Request::Deploy { request_id, rollout, order }).unwrap();

    let both = story.core.find_rollout("web").unwrap_err();
    assert_eq!(both.kind, RefusalKind::Invalid);

    story.obey("stage-1");
    story.obey("stage-1");
    assert!(story.core.rollout(rollout).unwrap().is_over());
    assert_eq!(story.core.find_rollout("web").unwrap().id, production);
}

#[test]
fn a_rollout_is_found_by_the_beginning_of_its_id() {
    let mut story = Story::running(1);
    let id = story.deploy("2.0", &[]);

    let text = id.to_string();
    assert_eq!(story.core.find_rollout(&text).unwrap().id, id);
    assert_eq!(story.core.find_rollout(&text[..8]).unwrap().id, id);
    assert!(story.core.find_rollout(&text[..7]).is_err());
    assert!(story.core.find_rollout("").is_err());
}

/// Registers a release with such a file.
fn push_with(story: &mut Story, of: &str, manifest: &str) {
    let release = std::sync::Arc::new(gated(of));
    let manifest = format!(
        "[application]\nname = \"web\"\n[run]\ncommand = [\"./server\"]\n[service]\nport = 8080\n{manifest}"
    );
    cutover_common::manifest::Manifest::parse(&manifest).unwrap();
    story.ask(Request::RegisterRelease { release, manifest }).unwrap();
}

#[test]
fn releases_that_cannot_serve_beside_each_other_are_cut_over_strictly_or_not_at_all() {
    let mut story = Story::fleet(2);
    push_with(&mut story, "4.0", "");
    push_with(&mut story, "5.0", "[compatibility]\nbeside = \">=4.5\"\n");
    push_with(&mut story, "5.1", "[compatibility]\nbeside = \">=4\"\n");
    story.deploy("4.0", &[]);
    story.settle();

    for strategy in ["rolling", "canary", "all_at_once"] {
        let refusal = story.try_deploy("5.0", &[("strategy", strategy)]).unwrap_err();
        insta::allow_duplicates! {
            insta::assert_snapshot!(refusal.text, @"5.0 of web can serve beside >=4.5 only (compatibility.beside), and prod would have both 4.0 and 5.0 for a while");
            insta::assert_snapshot!(refusal.hint, @"lead all clients over at one moment: --strategy blue_green --cutover strict");
        }
    }
    let relaxed = [("strategy", "blue_green"), ("cutover", "relaxed")];
    story.try_deploy("5.0", &relaxed).unwrap_err();
    story.deploy("5.0", &[("strategy", "blue_green"), ("keep", "0s")]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());

    // What the newer one says counts on the way back, too.
    story.try_deploy("4.0", &[]).unwrap_err();
    story.deploy("5.1", &[]);
}
