//! Canaries that are asked by checks: of a metrics server, and by commands on their hosts.

use std::{collections::BTreeSet, sync::Arc};

use cutover_common::{
    CheckReport, SourceName,
    check::{Answer, CanaryId},
};

use crate::{
    Action, Input, Request, Verb,
    input::{MetricAnswer, QueryId},
    rollout::Waiting,
    testing::{Story, gated, name, seconds},
};

const CHECKS: &str = r#"
[application]
name = "web"
[run]
command = ["./server"]
[[checks]]
name = "errors"
prometheus = "sum(errors{release=\"{{release}}\",host=~\"{{canary_hosts}}\"})"
source = "main"
fail_above = 0.05
every = "20s"
failures = 2
[[checks]]
name = "queue"
command = ["./queue"]
every = "20s"
failures = 2
"#;

fn main_source() -> BTreeSet<SourceName> {
    BTreeSet::from(["main".parse().unwrap()])
}

/// Begins with three hosts that run 4.0, and knows the source `main`; 5.0 has two checks.
fn fleet() -> Story {
    let mut story = Story::fleet(3);
    story.handle(Input::SourcesNamed { sources: main_source() });
    story.push(gated("4.0"));
    let mut release = gated("5.0");
    let manifest = cutover_common::manifest::Manifest::parse(CHECKS).unwrap();
    release.checks = manifest.command_checks();
    let request =
        Request::RegisterRelease { release: Arc::new(release), manifest: CHECKS.to_owned() };
    story.ask(request).unwrap();
    story.deploy("4.0", &[("strategy", "all_at_once")]);
    story.settle();
    story
}

/// Begins a canary of 5.0 on web-1, which gets half of its traffic for ten minutes, and whose traffic
/// needs none to be judged.
fn canary(settings: &[(&str, &str)]) -> Story {
    let mut story = fleet();
    let all = [&[("strategy", "canary"), ("canary_steps", "50%:2m")], settings].concat();
    story.deploy("5.0", &all);
    story.settle();
    assert!(matches!(story.waiting(), Some(Waiting::ForVerdict { .. })), "{}", story.why());
    story
}

/// Lets gates count good answers on both sides, so that the judge has no doubt.
fn serve(story: &mut Story) {
    use cutover_common::Slot;
    story.count("web-1", Slot::Blue, 1_000, 1);
    story.count("web-1", Slot::Green, 1_000, 1);
    story.count("web-2", Slot::Blue, 1_000, 1);
}

/// What the world says of both checks.
#[derive(Clone, Debug)]
struct World {
    metric: MetricAnswer,
    command: Answer,
    answers: u32,
    failing: u32,
}

impl World {
    const fn new(metric: MetricAnswer, command: Answer) -> Self {
        Self { metric, command, answers: 0, failing: 0 }
    }

    /// Passes some time: whatever is asked is answered, and web-1 runs its command every 20 s.
    fn pass(&mut self, story: &mut Story, for_seconds: u64) {
        for round in 0..for_seconds / 5 {
            serve(story);
            if round % 4 == 0 {
                self.answers += 1;
                self.failing = match self.command {
                    Answer::Pass => 0,
                    Answer::Fail => self.failing + 1,
                    Answer::NotEnough => self.failing,
                };
            }
            let (rollout, attempt) = (story.newest().id, story.newest().begun_anew);
            story.agent("web-1").checks = vec![CheckReport {
                application: "web".parse().unwrap(),
                canary: CanaryId { rollout, attempt },
                check: "queue".parse().unwrap(),
                answers: self.answers,
                failing: self.failing,
                answer: self.command,
                detail: "it exited".to_owned(),
            }];
            story.pass(seconds(5));
            for query in std::mem::take(&mut story.queries) {
                story.handle(Input::Queried { query, found: self.metric.clone() });
            }
        }
    }
}

#[test]
fn a_canary_whose_checks_pass_goes_on() {
    let mut story = canary(&[]);
    let mut world = World::new(MetricAnswer::Number(0.01), Answer::Pass);

    world.pass(&mut story, 60);
    insta::assert_snapshot!(story.why(), @"0 of 3 hosts run 5.0, and this step of batch 1 of 3 began 1m ago. Comparing it with the old release for another 1m: latency p50 2.9 ms on the canary, 2.9 ms beside it (1x), after 11,000 and 11,000 requests; no more than chance gives; check errors (asked main) passes: 0.01; check queue on web-1 passes: it exited.");
    world.pass(&mut story, 65);
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_number_beyond_its_limit_fails_the_canary_at_the_second_time() {
    let mut story = canary(&[]);
    let mut world = World::new(MetricAnswer::Number(0.25), Answer::Pass);

    world.pass(&mut story, 10);
    assert!(matches!(story.waiting(), Some(Waiting::ForVerdict { .. })), "{}", story.why());
    world.pass(&mut story, 20);

    assert_eq!(story.state_word(), "rolling_back", "{}", story.why());
    insta::assert_snapshot!(story.why(), @"Going back because check errors fails (asked main): 0.25 is above 0.05, 2 times in a row. Waiting up to 9m 50s for web-1 to be as before, then for a person.");
    story.settle();
    assert_eq!(story.hosts("pending"), "web-2 web-3");
}

#[test]
fn a_single_blip_is_borne() {
    let mut story = canary(&[]);
    let mut world = World::new(MetricAnswer::Number(0.25), Answer::Pass);

    world.pass(&mut story, 5);
    world.metric = MetricAnswer::Number(0.01);
    world.pass(&mut story, 125);
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_command_that_fails_on_the_canary_fails_it() {
    let mut story = canary(&[]);
    let mut world = World::new(MetricAnswer::Number(0.01), Answer::Fail);

    world.pass(&mut story, 40);

    insta::assert_snapshot!(story.why(), @"Going back because check queue fails on web-1: it exited, 2 times in a row. Waiting up to 9m 45s for web-1 to be as before, then for a person.");
}

#[test]
fn what_says_nothing_neither_fails_nor_passes_the_canary_and_a_person_decides_in_the_end() {
    for found in [
        MetricAnswer::Failed("the server answered 503".to_owned()),
        MetricAnswer::Nothing,
        MetricAnswer::Number(f64::NAN),
        MetricAnswer::Number(f64::INFINITY),
    ] {
        let mut story = canary(&[]);
        let mut world = World::new(found, Answer::NotEnough);

        world.pass(&mut story, 130);
        assert!(matches!(story.waiting(), Some(Waiting::ForVerdict { .. })), "{}", story.why());
        world.pass(&mut story, 600);

        assert_eq!(story.state_word(), "held", "{}", story.why());
        assert_eq!(story.hosts("pending"), "web-2 web-3");
    }
}

#[test]
fn what_a_check_without_an_answer_means_is_declared() {
    for (unsure, ends) in [("pass", "succeeded"), ("fail", "rolled_back")] {
        let mut story = canary(&[("canary_unsure", unsure)]);
        World::new(MetricAnswer::Nothing, Answer::NotEnough).pass(&mut story, 130);
        story.settle();

        assert_eq!(story.state_word(), ends, "{}", story.why());
    }
}

#[test]
fn a_server_that_never_answers_is_given_up_and_asked_again() {
    let mut story = canary(&[]);

    for _ in 0..30 {
        serve(&mut story);
        story.pass(seconds(5));
    }

    assert!(story.queries.len() > 3, "{:?}", story.queries);
    insta::assert_snapshot!(story.why(), @"0 of 3 hosts run 5.0, and this step of batch 1 of 3 began 2m 30s ago. Comparing it with the old release for another 9m 30s, as there is not enough evidence yet: check errors (asked main) cannot tell: no answer within 10s, check queue on web-1 has no answer yet.");
    // An answer that comes after all is not of the question that is open.
    story.handle(Input::Queried { query: QueryId(1), found: MetricAnswer::Number(9.0) });
    story.handle(Input::Queried { query: QueryId(2), found: MetricAnswer::Number(9.0) });
    assert!(matches!(story.waiting(), Some(Waiting::ForVerdict { .. })), "{}", story.why());
}

#[test]
fn a_check_that_passes_makes_good_nothing_that_the_judge_finds_worse() {
    use cutover_common::Slot;
    let mut story = canary(&[]);
    let mut world = World::new(MetricAnswer::Number(0.0), Answer::Pass);

    for _ in 0..10 {
        story.count("web-1", Slot::Green, 1_000, 50);
        world.pass(&mut story, 5);
    }

    assert_eq!(story.state_word(), "rolling_back", "{}", story.why());
    assert!(story.why().contains("is worse than what it replaces"), "{}", story.why());
}

#[test]
fn a_source_that_nobody_named_is_refused_before_anything_begins() {
    let mut story = fleet();
    let sources = BTreeSet::from(["mian".parse().unwrap()]);
    story.handle(Input::SourcesNamed { sources });

    let refusal = story.try_deploy("5.0", &[("strategy", "canary")]).unwrap_err();

    insta::assert_snapshot!(format!("{}\n{}", refusal.text, refusal.hint), @r#"
    check errors asks "main", which is no source of metrics that this coordinator was told of
    did you mean "mian"? Otherwise start the coordinator with --metrics main=URL, or deploy without: --canary-checks none
    "#);
    // Nobody is asked by another strategy, or by a canary without it.
    story.try_deploy("5.0", &[("strategy", "canary"), ("canary_checks", "queue")]).unwrap();
}

#[test]
fn a_check_that_the_release_does_not_declare_is_refused_with_the_nearest() {
    let mut story = fleet();

    let refusal =
        story.try_deploy("5.0", &[("strategy", "canary"), ("canary_checks", "quue")]).unwrap_err();

    insta::assert_snapshot!(refusal.text, @r#"canary_checks: there is no check "quue"; write "queue""#);
}

#[test]
fn a_new_process_and_a_retry_ask_anew() {
    let mut story = canary(&[]);
    let mut world = World::new(MetricAnswer::Number(0.25), Answer::Fail);
    world.pass(&mut story, 5);
    story.restart();
    story.handle(Input::SourcesNamed { sources: main_source() });
    story.connect_all();
    // What an agent had counted before is of another comparison.
    let (rollout, attempt) = (story.newest().id, story.newest().begun_anew);
    assert!(attempt > 0);
    story.agent("web-1").checks = vec![CheckReport {
        application: "web".parse().unwrap(),
        canary: CanaryId { rollout, attempt: attempt - 1 },
        check: "queue".parse().unwrap(),
        answers: 9,
        failing: 9,
        answer: Answer::Fail,
        detail: "it exited".to_owned(),
    }];
    story.beat_all();
    assert!(story.why().contains("check queue has no answer yet"), "{}", story.why());
    world.answers = 0;
    world.failing = 0;
    world.command = Answer::NotEnough;
    world.metric = MetricAnswer::Nothing;

    world.pass(&mut story, 900);
    assert_eq!(story.state_word(), "held", "{}", story.why());
    story.control(Verb::Retry).unwrap();
    story.settle();
    assert!(story.why().contains("check errors has no answer yet"), "{}", story.why());
    (world.answers, world.failing) = (0, 0);
    world.metric = MetricAnswer::Number(0.0);
    world.command = Answer::Pass;
    world.pass(&mut story, 140);
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn only_the_canarys_host_is_told_to_run_commands_and_only_while_it_is_compared() {
    let mut story = canary(&[]);
    let told = |story: &mut Story, agent: &str| {
        story.beat(agent);
        let mut echoed = None;
        for action in &story.actions {
            if let Action::Echo { compared, .. } = action {
                echoed = Some(compared.clone());
            }
        }
        echoed.unwrap()
    };

    let compared = told(&mut story, "web-1");
    assert_eq!(compared.len(), 1);
    assert_eq!(compared[0].version.as_str(), "5.0");
    assert_eq!(compared[0].checks, ["queue".parse().unwrap()]);
    assert!(told(&mut story, "web-2").is_empty());
    World::new(MetricAnswer::Number(0.0), Answer::Pass).pass(&mut story, 125);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert!(told(&mut story, "web-1").is_empty());
    assert!(story.core.fleet().seen(&name("web-1")).is_some());
}
