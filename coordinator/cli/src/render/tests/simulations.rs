//! What people and programs read about simulations.

use super::*;

fn end(agent: &str, batch: u32, state: &str, runs: Option<&str>) -> HostEnd {
    HostEnd {
        agent: agent.into(),
        batch,
        state: state.into(),
        detail: None,
        running_version: runs.map(Text::from),
    }
}

fn sample() -> Simulated {
    let line = |after_ms, text: &str| StoryLine { after_ms, text: text.into() };
    Simulated {
        from_version: Some("1.3.0".into()),
        to_version: "1.4.0".into(),
        strategy: "rolling".into(),
        batches: 2,
        ending: "held".to_owned().into(),
        why: "Held for a person: web-3 cannot be reached. 2 of 4 hosts run 1.4.0.".into(),
        lasts_ms: 3_723_000,
        hosts: 4,
        lowest_healthy: 3,
        lowest_after_ms: 60_000,
        story: vec![
            line(0, "anna started: web from 1.3.0 to 1.4.0"),
            line(12_999, "batch 1 of 2: replacing on web-1, web-2"),
            line(3_723_000, "held: web-3 cannot be reached"),
        ],
        host_ends: vec![
            end("web-1", 1, "updated", Some("1.4.0")),
            end("web-2", 1, "updated", Some("1.4.0")),
            end("web-3", 2, "updating", None),
            HostEnd { detail: Some("no disk".into()), ..end("web-4", 2, "pending", Some("1.3.0")) },
        ],
        assumed: "an instance passes its first probe 5s after its start".into(),
    }
}

#[test]
fn a_simulation_tells_what_would_happen_when_and_how_it_would_end() {
    assert_snapshot!(simulated::simulated("web", "production", &sample(), Paint::Plain), @r"
    web 1.3.0 → 1.4.0 to production, simulated: rolling, 4 hosts in 2 batches
    assumed: an instance passes its first probe 5s after its start

    +0:00     anna started: web from 1.3.0 to 1.4.0
    +0:12     batch 1 of 2: replacing on web-1, web-2
    +1:02:03  held: web-3 cannot be reached

    held after 1h02m
    Held for a person: web-3 cannot be reached. 2 of 4 hosts run 1.4.0.
    fewest healthy hosts: 3 of 4, first at +1:00

    HOSTS         STATE     RUN    DETAIL
    web-1, web-2  updated   1.4.0  -
    web-3         updating  -      -
    web-4         pending   1.3.0  no disk
    ");
}

#[test]
fn a_first_deploy_of_one_host_that_waits_says_how_it_goes_on() {
    let waits = Simulated {
        from_version: None,
        batches: 1,
        ending: "waits".to_owned().into(),
        why: "Batch 1 of 1 is done, and waits for a person to promote it.".into(),
        story: vec![StoryLine { after_ms: 0, text: "anna started: web 1.4.0".into() }],
        host_ends: vec![end("web-1", 1, "staged", Some("1.4.0"))],
        ..sample()
    };

    assert_snapshot!(simulated::simulated("web", "staging", &waits, Paint::Plain), @r"
    web 1.4.0 to staging, simulated: rolling, 1 host in 1 batch
    assumed: an instance passes its first probe 5s after its start

    +0:00  anna started: web 1.4.0

    waits after 1h02m
    Batch 1 of 1 is done, and waits for a person to promote it.
    with --promote it goes on from there
    fewest healthy hosts: 3 of 4, first at +1:00

    HOSTS  STATE   RUN    DETAIL
    web-1  staged  1.4.0  -
    ");
}

#[test]
fn colour_says_how_it_ended_and_the_words_say_it_too() {
    let text = |ending: &str| {
        let simulated = Simulated { ending: ending.to_owned().into(), ..sample() };
        let text = simulated::simulated("web", "production", &simulated, Paint::Colour);
        text.lines().find(|line| line.contains(" after 1h02m")).unwrap().escape_debug().to_string()
    };

    let endings = ["succeeded", "rolled_back", "waits", "unfinished"].map(text);
    assert_snapshot!(endings.join("\n"), @r"
    \u{1b}[32msucceeded\u{1b}[0m after 1h02m
    \u{1b}[31mrolled back\u{1b}[0m after 1h02m
    \u{1b}[33mwaits\u{1b}[0m after 1h02m
    \u{1b}[31munfinished\u{1b}[0m after 1h02m
    ");
}

#[test]
fn a_simulation_as_json_has_stable_names_and_null_for_what_is_not_known() {
    assert_snapshot!(json(&sample()).unwrap(), @r#"
    {
      "from_version": "1.3.0",
      "to_version": "1.4.0",
      "strategy": "rolling",
      "batches": 2,
      "ending": "held",
      "why": "Held for a person: web-3 cannot be reached. 2 of 4 hosts run 1.4.0.",
      "lasts_ms": 3723000,
      "hosts": 4,
      "lowest_healthy": 3,
      "lowest_after_ms": 60000,
      "story": [
        {
          "after_ms": 0,
          "text": "anna started: web from 1.3.0 to 1.4.0"
        },
        {
          "after_ms": 12999,
          "text": "batch 1 of 2: replacing on web-1, web-2"
        },
        {
          "after_ms": 3723000,
          "text": "held: web-3 cannot be reached"
        }
      ],
      "host_ends": [
        {
          "agent": "web-1",
          "batch": 1,
          "state": "updated",
          "detail": null,
          "running_version": "1.4.0"
        },
        {
          "agent": "web-2",
          "batch": 1,
          "state": "updated",
          "detail": null,
          "running_version": "1.4.0"
        },
        {
          "agent": "web-3",
          "batch": 2,
          "state": "updating",
          "detail": null,
          "running_version": null
        },
        {
          "agent": "web-4",
          "batch": 2,
          "state": "pending",
          "detail": "no disk",
          "running_version": "1.3.0"
        }
      ],
      "assumed": "an instance passes its first probe 5s after its start"
    }
    "#);
}

#[test]
fn only_a_rollout_that_does_what_it_was_asked_to_is_a_success() {
    let words =
        ["succeeded", "staged", "rolled_back", "aborted", "held", "waits", "unfinished", "else"];
    let successes = words.into_iter().filter(|word| Ending::from((*word).to_owned()).is_success());

    assert_eq!(successes.collect::<Vec<_>>(), ["succeeded", "staged"]);
}
