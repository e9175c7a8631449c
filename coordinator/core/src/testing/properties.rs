//! What holds whatever happens, and that everything comes to an end.

use proptest::prelude::*;

use super::{
    Story, migrated, release,
    script::{Happening, happening, settings},
};
/// How many agents the generated stories have.
const AGENTS: usize = 4;

fn scripts() -> impl Strategy<Value = (Vec<Happening>, Happening)> {
    let begin =
        (1..4_usize, settings()).prop_map(|(to, settings)| Happening::Deploy { to, settings });
    (prop::collection::vec(happening(), 0..60), begin)
}

fn told((happenings, begin): &(Vec<Happening>, Happening), mut story: Story) -> Story {
    story.push(migrated(release("4.0", "4.0")));
    story.happen(begin);
    for happening in happenings {
        story.happen(happening);
    }
    story
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// The checks are those of `check`, after every input, and the core's own assertions.
    #[test]
    fn nothing_that_can_happen_breaks_a_promise(script in scripts(), is_first in any::<bool>()) {
        let begin = if is_first { Story::fleet(AGENTS) } else { Story::running(AGENTS) };
        told(&script, begin);
    }

    #[test]
    fn every_rollout_ends_or_is_held_when_the_fleet_is_well(script in scripts()) {
        let mut story = told(&script, Story::running(AGENTS));
        story.leave_alone(None, story.bound());
        assert_at_rest(&story);
    }

    #[test]
    fn every_rollout_ends_or_is_held_when_one_host_is_broken(
        script in scripts(),
        broken in 0..AGENTS,
    ) {
        let mut story = told(&script, Story::running(AGENTS));
        story.leave_alone(Some(broken), story.bound());
        assert_at_rest(&story);
    }
}

fn assert_at_rest(story: &Story) {
    for rollout in story.core.active() {
        let history = rollout.history.iter().map(|(_, line)| format!("\n  {line}"));
        let why = story.core.why(rollout, story.now);
        assert!(story.is_at_rest(), "{why}{}", history.collect::<String>());
    }
}
