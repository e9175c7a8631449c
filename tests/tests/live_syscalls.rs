//! kill -9 after calls of the kernel: promises.md §3, rows 1 to 13 of the agent and 20 to 25 of the
//! coordinator. A sample of what `make kill-everywhere` walks through; its seed is printed.

use cutover_tests::{
    live::{Dice, Which, say},
    syscalls::{Outcome, Point, Walk, Window, can_trace, sample},
};

/// Kills of a daemon that takes part in a deployment; each costs two seconds.
const IN_DEPLOYMENT: usize = 5;

/// Kills of a daemon that starts after such a kill.
const IN_RESTART: usize = 1;

#[test]
fn an_agent_that_is_killed_after_any_call_keeps_every_promise() {
    kill_here_and_there(Which::Agent(0));
}

#[test]
fn a_coordinator_that_is_killed_after_any_call_keeps_every_promise() {
    kill_here_and_there(Which::Coordinator);
}

fn kill_here_and_there(daemon: Which) {
    if let Err(why) = can_trace() {
        say(&format!("skipped: {why}"));
        return;
    }
    let mut dice = Dice::from_environment();
    let mut walk = Walk::default();
    let undisturbed = walk.record_deployment(daemon);
    assert_kept(&undisturbed);
    let calls = undisturbed.calls;
    let starts = walk.record_start(daemon);

    let mut points: Vec<(Window, usize)> = sample(&calls, IN_DEPLOYMENT, &mut dice)
        .into_iter()
        .map(|after| (Window::Deployment, after))
        .collect();
    let firsts = sample(&calls, IN_RESTART, &mut dice);
    for (killed_after, after) in firsts.into_iter().zip(sample(&starts, IN_RESTART, &mut dice)) {
        points.push((Window::Restart { killed_after }, after));
    }
    let mut kills = 0;
    for (window, after) in points {
        let outcome = walk.kill_at(Point { daemon, window, after });
        assert_kept(&outcome);
        kills += usize::from(outcome.kind.is_some());
    }

    // The calls differ a little from one deployment to the next: a late one may not be reached.
    assert!(kills * 2 > IN_DEPLOYMENT, "{kills} kills of {}", IN_DEPLOYMENT + IN_RESTART);
}

#[track_caller]
fn assert_kept(outcome: &Outcome) {
    let Outcome { point, killed_after, broken, story, .. } = outcome;
    let last = killed_after.as_deref().unwrap_or("not killed");
    say(&format!("{point}: {last}"));
    assert!(broken.is_empty(), "{point}: {last}\n{broken:#?}\n{story}");
}
