//! Checks as they are written, and what is told of those that make no sense.

use std::time::Duration;

use super::Manifest;
use crate::check::Question;

const LEAST: &str = "[application]\nname = \"web\"\n[run]\ncommand = [\"./server\"]\n";

fn parse(more: &str) -> Manifest {
    Manifest::parse(&format!("{LEAST}{more}")).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn refused(more: &str) -> String {
    Manifest::parse(&format!("{LEAST}{more}")).expect_err(more).to_string()
}

#[test]
fn a_check_asks_a_server_or_runs_a_command() {
    let manifest = parse(
        "[[checks]]\nname = \"errors\"\nprometheus = \"sum(errors)\"\nsource = \"main\"\n\
         fail_above = 3\nfail_below = -0.5\n\
         [[checks]]\nname = \"queue\"\ncommand = [\"./queue\"]\nevery = \"5s\"\nfailures = 1\n",
    );

    let [errors, queue] = &manifest.checks[..] else { panic!("two checks") };
    let metric = errors.metric().unwrap();
    assert_eq!((metric.source.as_str(), metric.query.as_str()), ("main", "sum(errors)"));
    assert_eq!(metric.fail_above.map(|limit| limit.get()), Some(3.0));
    assert_eq!(metric.fail_below.map(|limit| limit.get()), Some(-0.5));
    assert_eq!((errors.every, errors.within, errors.failures), (secs(30), secs(10), 2));
    assert_eq!(queue.question, Question::Command(vec!["./queue".to_owned()]));
    // No answer can take longer than it is until the next question.
    assert_eq!((queue.every, queue.within, queue.failures), (secs(5), secs(5), 1));
    let commands = manifest.command_checks();
    assert_eq!(commands.len(), 1);
    assert_eq!(commands[0].name.as_str(), "queue");
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_canary_is_asked_all_checks_or_those_that_it_names() {
    let checks = "[[checks]]\nname = \"queue\"\ncommand = [\"./queue\"]\n";
    let chosen = |canary: &str| {
        let deploy = format!("[[deploy]]\nenvironment = \"production\"\ncanary = {canary}\n");
        let manifest = parse(&format!("{checks}{deploy}"));
        manifest.deploys[0].canary.checks.clone().map(|chosen| chosen.to_string())
    };

    assert_eq!(chosen("{ hosts = 1 }"), None);
    assert_eq!(chosen("{ checks = [] }").unwrap(), "none");
    assert_eq!(chosen("{ checks = [\"queue\"] }").unwrap(), "queue");
}

#[test]
fn all_checks_together_have_a_limit() {
    let argument = "x".repeat(9_000);
    let check = |name: &str| {
        format!("[[checks]]\nname = {name:?}\ncommand = [\"./check\", {argument:?}]\n")
    };

    assert!(!parse(&check("a")).checks.is_empty());
    let told = refused(&(check("a") + &check("b")));
    assert!(told.contains("checks: have 180"), "{told}");
}

#[test]
fn checks_that_make_no_sense_are_refused_in_words() {
    let check = |lines: &str| refused(&format!("[[checks]]\nname = \"a\"\n{lines}\n"));
    let metric = |lines: &str| check(&format!("prometheus = \"up\"\nsource = \"main\"\n{lines}"));
    let query =
        |text: &str| check(&format!("source = \"main\"\nfail_above = 1\nprometheus = {text:?}"));
    let canary = "[[deploy]]\nenvironment = \"production\"\ncanary = { checks = [\"queu\"] }\n";
    let many = "[[checks]]\n".repeat(17);

    insta::assert_snapshot!(
        [
            check(""),
            check("command = [\"/bin/check\"]"),
            check("command = [\"./check\"]\nfail_above = 1"),
            check("command = [\"./check\"]\nprometheus = \"up\""),
            check("command = [\"./check\"]\nevery = \"5s\"\nwithin = \"6s\""),
            check("command = [\"./check\"]\nevery = \"10ms\"\nfailures = 0"),
            check("command = [\"./check\"]\ninterval = \"5s\"\nurl = \"http://prometheus\""),
            check("prometheus = \"up\"\nfail_above = 1"),
            check("prometheus = \"up\"\nfail_above = 1\nsource = \"http://prometheus:9090\""),
            metric(""),
            metric("fail_above = \"5%\""),
            metric("fail_above = nan"),
            metric("fail_above = 1\nfail_below = 2"),
            query(""),
            query("up{i=\"{{canary_host}}\"}"),
            query("up{i=\"{{password}}\"}"),
            query("up{{release"),
            refused("[checks]\nname = \"a\"\n"),
            refused(&many),
            refused(&format!(
                "{0}{0}", "[[checks]]\nname = \"a\"\ncommand = [\"./check\"]\n"
            )),
            refused(&format!(
                "[[checks]]\nname = \"queue\"\ncommand = [\"./queue\"]\n{canary}"
            )),
            refused(canary),
        ]
        .join("\n"),
        @r#"
        cutover.toml:5:1: checks[0]: asks nothing; write prometheus = "sum(...)" with source = "main", or command = ["./checks/queue"]
        cutover.toml:7:12: checks[0].command[0]: "/bin/check" is outside of the release; put a script into the release and write its path, such as "./hooks/drain"
        cutover.toml:8:14: checks[0].fail_above: has no meaning beside command; remove it: a command says by its exit status how it is
        cutover.toml:7:11: checks[0].command: has no meaning beside prometheus; make two checks of it
        cutover.toml:9:10: checks[0].within: is longer than every (5s), so that answers would queue; write a shorter within, or a longer every
        cutover.toml:8:9: checks[0].every: "10ms" is too short; write a duration from "1s" to "1h"
        cutover.toml:9:12: checks[0].failures: 0 is out of range; write a whole number from 1 to 100
        cutover.toml:8:1: checks[0].interval: unknown name; write "every"
        cutover.toml:9:1: checks[0].url: unknown name; write source = "main": the coordinator's administrator names servers
        cutover.toml:5:1: checks[0].source: is missing; write source = "main", a name that the coordinator knows
        cutover.toml:9:10: checks[0].source: "http://prometheus:9090" is an address; write the name that the coordinator was given for it: cutover-coordinator run --metrics main=http://...
        cutover.toml:5:1: checks[0]: has neither fail_above nor fail_below; write fail_above = 0.05, the largest number that is well
        cutover.toml:9:14: checks[0].fail_above: string "5%" is no number; write a number without quotes, such as 0.05
        cutover.toml:9:14: checks[0].fail_above: float nan is no number; write a number without quotes, such as 0.05
        cutover.toml:10:14: checks[0].fail_below: is above fail_above (1), so that every number would fail; write a number below it
        cutover.toml:9:14: checks[0].prometheus: is empty; write a query that gives one number
        cutover.toml:9:14: checks[0].prometheus: names "canary_host", and nothing of that name is filled in; write {{canary_hosts}}
        cutover.toml:9:14: checks[0].prometheus: names "password", and nothing of that name is filled in; write one of {{application}}, {{environment}}, {{release}}, {{canary_hosts}}
        cutover.toml:9:14: checks[0].prometheus: has {{ without }}; write one of {{application}}, {{environment}}, {{release}}, {{canary_hosts}}
        cutover.toml:5:1: checks: a table is no list of tables; write [[checks]], with two brackets
        cutover.toml:5:1: checks: has 17 checks; write at most 16; one command can look at several things
        cutover.toml:9:8: checks[1].name: there is a check "a" already; give one of them another name
        cutover.toml:10:22: deploy[0].canary.checks[0]: there is no check "queu"; write "queue"
        cutover.toml:7:22: deploy[0].canary.checks[0]: there is no check "queu"; declare it: [[checks]] with name = "queu"
        "#
    );
}
