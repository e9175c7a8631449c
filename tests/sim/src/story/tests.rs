//! Tests of the story: no line is a dump of a structure.

use crate::{run, swarm, trace::Who};

#[test]
fn no_line_of_a_story_is_a_dump() {
    for seed in 0..40 {
        for line in run::run(&swarm::draw(seed), true).lines {
            // What a promise's oracle says is for those who mend it.
            let is_dump = [" { ", "(\"", "Some(", "Uuid("].iter().any(|it| line.text.contains(it));
            assert!(
                !is_dump || line.text.starts_with("BROKEN"),
                "seed {seed}: {} {}",
                line.who,
                line.text
            );
            assert!(line.text.len() < 400, "seed {seed}: {}", line.text);
        }
    }
}

#[test]
fn a_story_tells_a_rollout_from_both_sides() {
    let lines = (0..200)
        .map(|seed| run::run(&swarm::draw(seed), true).lines)
        .find(|lines| lines.iter().any(|line| line.text.contains("succeeded")))
        .expect("a rollout succeeds in some seed");
    let has = |who: fn(Who) -> bool, part: &str| {
        lines.iter().any(|line| who(line.who) && line.text.contains(part))
    };

    assert!(has(|who| who == Who::Operator, "asks: deploy app-"));
    assert!(has(|who| who == Who::Coordinator(0), "begins a rollout of app-"));
    assert!(has(|who| matches!(who, Who::Host(_)), "accepts goal 1.1 of app-"));
    assert!(has(|who| matches!(who, Who::Host(_)), "begins as pid "));
}
