//! docs/cutover-toml.md says what the parser does: keys, ranges, defaults and examples.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use super::{
    Manifest, ManifestMistakes, Strategy, Timing, checks, health, hooks, run, service, words,
};
use crate::{
    Batches, HookKind, Limits, Service, StopSignal,
    check::{CHECKS_MAX, MetricQuery},
    duration_text::print,
    size_text::print as size,
};

const REFERENCE: &str = include_str!("../../../docs/cutover-toml.md");

/// The part of the reference below the heading `title`.
fn chapter(title: &str) -> &'static str {
    let heading = format!("\n## {title}\n");
    let (_, chapter) = REFERENCE.split_once(&heading).unwrap_or_else(|| panic!("no {title:?}"));
    chapter.split("\n## ").next().unwrap_or_default()
}

/// The first cells of a table's rows, which are in backquotes.
fn first_cells(chapter: &str) -> BTreeSet<String> {
    let cell = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    chapter.lines().filter_map(cell).collect()
}

/// The row about `key`.
fn row(key: &str) -> &'static str {
    let begin = format!("| `{key}` |");
    let row = chapter("Keys").lines().find(|line| line.starts_with(&begin));
    row.unwrap_or_else(|| panic!("no row about {key}"))
}

/// The fenced blocks whose fence is followed by `language`.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("\n```{language}\n");
    let after = REFERENCE.split(fence.as_str()).skip(1);
    after.filter_map(|rest| rest.split("```").next()).collect()
}

fn assert_says(key: &str, words: &str) {
    assert!(row(key).contains(words), "the row of {key} should say {words}: {}", row(key));
}

fn assert_range(key: &str, range: &RangeInclusive<Duration>) {
    assert_says(key, &format!("`\"{}\"` to `\"{}\"`", print(*range.start()), print(*range.end())));
}

#[test]
fn every_key_is_in_the_reference_and_every_key_of_the_reference_exists() {
    let paths = |choose: fn(&words::Words) -> Vec<&'static str>| -> BTreeSet<String> {
        let of = |(path, words): &(&str, &words::Words)| {
            choose(words).into_iter().map(|key| format!("{path}{key}")).collect::<Vec<_>>()
        };
        words::ALL.iter().flat_map(of).collect()
    };

    assert_eq!(first_cells(chapter("Keys")), paths(|words| words.known.to_vec()));
    assert_eq!(
        first_cells(chapter("Not supported by this version")),
        paths(|words| words.later.iter().map(|(word, _)| *word).collect())
    );
}

#[test]
fn the_reference_gives_the_ranges_of_the_parser() {
    assert_range("run.stop_within", &run::STOP_WITHIN);
    assert_range("service.drain", &service::DRAIN);
    assert_range("service.drain_long_lived", &service::KEEP_WARM);
    assert_range("service.keep_warm", &service::KEEP_WARM);
    for key in ["head_within", "stall_within", "idle_within", "answer_within"] {
        assert_range(&format!("service.limits.{key}"), &Limits::WITHIN);
    }
    let (least, most) = (size(*Limits::BODY_BYTES.start()), size(*Limits::BODY_BYTES.end()));
    assert_says("service.limits.body", &format!("`\"{least}\"` to `\"{most}\"`"));
    let head = (*Limits::HEAD_BYTES.start(), *Limits::HEAD_BYTES.end());
    let (least, most) = (size(head.0.into()), size(head.1.into()));
    assert_says("service.limits.head", &format!("`\"{least}\"` to `\"{most}\"`"));
    let (least, most) = (Limits::CONNECTIONS.start(), Limits::CONNECTIONS.end());
    assert_says("service.limits.connections", &format!("{least} to {most}"));
    assert_says("service.trusted_peers", &format!("at most {}", Service::TRUSTED_PEERS_MAX));
    assert_range("health.every", &health::EVERY);
    assert_range("health.timeout", &health::TIMEOUT);
    assert_range("health.start_within", &health::START_WITHIN);
    for kind in HookKind::ALL {
        assert_range(&format!("hooks.{kind}.within"), &hooks::WITHIN);
    }
    assert_range("checks.every", &checks::EVERY);
    assert_range("checks.within", &checks::WITHIN);
    let failures = format!("{} to {}", checks::FAILURES.start(), checks::FAILURES.end());
    assert_says("checks.failures", &failures);
    assert_says("checks", &format!("at most {CHECKS_MAX}"));
    assert_says("checks.prometheus", &format!("at most {} bytes", MetricQuery::BYTES_MAX));
    for timing in Timing::ALL {
        assert_range(&format!("deploy.{}", timing.name()), &timing.range());
    }
    let in_a_row = format!("{} to {}", health::IN_A_ROW.start(), health::IN_A_ROW.end());
    assert_says("health.passes", &in_a_row);
    assert_says("health.failures", &in_a_row);
    for signal in StopSignal::ALL {
        assert_says("run.stop_signal", &format!("`\"{}\"`", signal.name()));
    }
    for swap in crate::Swap::ALL {
        assert_says("service.swap", &format!("`\"{}\"`", swap.name()));
    }
    for strategy in Strategy::ALL {
        assert_says("deploy.strategy", &format!("`\"{strategy}\"`"));
    }
    assert_says("deploy.batch", &format!("at most {} in a list", Batches::STEPS_MAX));
    assert!(REFERENCE.contains(&format!("the first {} are shown", ManifestMistakes::SHOWN_MAX)));
    assert!(REFERENCE.contains(&format!("at most {} KiB", Manifest::BYTES_MAX / 1024)));
}

#[test]
fn the_reference_gives_the_defaults_of_the_parser() {
    let limits = Limits::default();
    assert_says("service.limits.head", &format!("| `\"{}\"`", size(limits.head_bytes.into())));
    assert_says("service.limits.connections", &format!("| {} |", limits.connections));
    assert_eq!(limits.body_bytes, None);
    for (key, default) in [
        ("service.limits.head_within", limits.head_within),
        ("service.limits.stall_within", limits.stall_within),
        ("service.limits.idle_within", limits.idle_within),
        ("service.limits.answer_within", limits.answer_within),
        ("run.stop_within", run::STOP_WITHIN_DEFAULT),
        ("service.drain", service::DRAIN_DEFAULT),
        ("service.drain_long_lived", service::DRAIN_LONG_LIVED_DEFAULT),
        ("health.every", health::EVERY_DEFAULT),
        ("health.timeout", health::TIMEOUT_DEFAULT),
        ("health.start_within", health::START_WITHIN_DEFAULT),
        ("checks.every", checks::EVERY_DEFAULT),
        ("checks.within", checks::WITHIN_DEFAULT),
    ] {
        // 60 seconds are written as such, as in the example.
        let written = if default.as_secs() == 60 { "60s".to_owned() } else { print(default) };
        assert_says(key, &format!("| `\"{written}\"`"));
    }
    for kind in HookKind::ALL {
        let default = print(hooks::within_default(kind));
        assert_says(&format!("hooks.{kind}.within"), &format!("| `\"{default}\"`"));
    }
    assert_says("checks.failures", &format!("| {} |", checks::FAILURES_DEFAULT));
    assert_says("health.passes", &format!("| {} |", health::PASSES_DEFAULT));
    assert_says("health.failures", &format!("| {} |", health::FAILURES_DEFAULT));
    assert_says("run.stop_signal", &format!("| `\"{}\"` |", StopSignal::default().name()));
}

#[test]
fn the_examples_of_the_reference_are_manifests() {
    let examples = blocks("toml");

    assert_eq!(examples.len(), 3);
    for example in examples {
        Manifest::parse(example).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    }
}

#[test]
fn the_mistakes_of_the_reference_are_told_just_so() {
    let [mistaken] = blocks("toml mistakes")[..] else { panic!("one example") };
    let [told] = blocks("text")[..] else { panic!("one example") };

    assert_eq!(Manifest::parse(mistaken).unwrap_err().to_string(), told.trim_end());
}
