//! Host after host with the real programs, under traffic: a restart, a window that slides, and
//! batches after which a person is asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cutover_tests::live::{Fleet, Told, say, wait_for};

/// How long an instance may take to start, on a machine that is busy.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_restart_replaces_every_instance_by_one_of_the_same_release_and_no_request_fails() {
    let fleet = Fleet::start(3);
    let before = fleet.cluster.instances(Fleet::PORT);
    let clients = fleet.ask();

    fleet.deploy("1", &["--strategy", "restart", "--batch", "1"]).done();

    clients.heard().all_is_well().only("1");
    let after = fleet.cluster.instances(Fleet::PORT);
    for (old, new) in before.iter().zip(&after) {
        assert!(old.is_some() && new.is_some() && old != new, "{before:?}, and then {after:?}");
    }
    assert_eq!(fleet.starts_by_host("1"), [2, 2, 2]);
}

#[test]
fn a_window_slides_past_a_host_that_takes_long_is_never_wider_and_no_request_fails() {
    let fleet = Fleet::start(4);
    let hosts = fleet.cluster.hosts(Fleet::PORT);
    fleet.push_moody("2-late");
    let clients = fleet.ask();

    fleet.deploy("2-late", &["--sliding", "--batch", "2", "--no-watch"]).done();
    fleet.until_why_says("for web-1, web-2 to be healthy");
    (2..4).for_each(|index| fleet.make_healthy(index));
    wait_for("two hosts to start it", STARTS_WITHIN, || {
        (fleet.starts_by_host("2-late")[..2] == [1, 1]).then_some(())
    });
    clients.heard().all_is_well().only("1");
    assert_eq!(fleet.starts_by_host("2-late"), [1, 1, 0, 0], "the window is full");

    fleet.make_healthy(1);
    fleet.until_why_says("3 of 4 hosts run 2-late");
    let heard = clients.heard();
    hosts[1..].iter().for_each(|host| heard.of(*host).all_is_well().moved("1", "2-late"));
    heard.of(hosts[0]).all_is_well().only("1");

    fleet.make_healthy(0);
    fleet.until_over_as("succeeded");
    clients.heard().of(hosts[0]).all_is_well().moved("1", "2-late");
    clients.heard().all_is_well().only("2-late");
    assert_eq!(fleet.starts_by_host("2-late"), [1, 1, 1, 1]);
}

#[test]
fn a_rollout_waits_for_a_person_after_each_batch_it_was_told_to_also_when_its_coordinator_is_killed()
 {
    let mut fleet = Fleet::start(3);
    let hosts = fleet.cluster.hosts(Fleet::PORT);
    let clients = fleet.ask();
    fleet.deploy("2", &["--batch", "1", "--pause-after", "1,2", "--no-watch"]).done();
    fleet.until_why_says("Batch 1 is done, and waits for a person to promote it.");

    // A restart is no promotion.
    fleet.cluster.kill_the_coordinator();
    fleet.cluster.start_the_coordinator();
    fleet.cluster.wait_until_live(3);
    fleet.until_why_says("Batch 1 is done, and waits for a person to promote it.");
    let heard = clients.heard();
    heard.of(hosts[0]).all_is_well().moved("1", "2");
    hosts[1..].iter().for_each(|host| heard.of(*host).all_is_well().only("1"));
    assert_eq!(fleet.starts_by_host("2"), [1, 0, 0]);

    fleet.tell("promote");
    fleet.until_why_says("Batch 2 is done, and waits for a person to promote it.");
    clients.heard().of(hosts[2]).all_is_well().only("1");
    assert_eq!(fleet.starts_by_host("2"), [1, 1, 0]);

    fleet.tell("promote");
    fleet.until_over_as("succeeded");
    clients.heard().all_is_well();
    clients.heard().all_is_well().only("2");
    assert_eq!(fleet.starts_by_host("2"), [1, 1, 1]);
}

/// Returns which of `events` says `words`, of those from `from` on.
#[track_caller]
fn first(events: &[Told], from: usize, words: &str) -> usize {
    let found = events.iter().skip(from).position(|it| it.text.contains(words));
    from + found.unwrap_or_else(|| panic!("none says {words:?}: {events:#?}"))
}

/// Returns the events that tell hosts to run something, each as its own text.
fn releases(events: &[Told]) -> Vec<&str> {
    events.iter().map(|it| &*it.text).filter(|it| it.contains(" told to run ")).collect()
}

#[test]
fn all_hosts_at_once_are_told_by_one_event_and_no_request_fails() {
    let fleet = Fleet::start(4);
    let clients = fleet.ask();

    fleet.deploy("2", &["--strategy", "all_at_once"]).done();

    clients.heard().all_is_well().moved("1", "2");
    clients.heard().all_is_well().only("2");
    assert_eq!(fleet.starts_by_host("2"), [1; 4]);
    assert_eq!(releases(&fleet.events()), ["web-1, web-2, web-3, web-4 told to run 2"]);
}

#[test]
fn zone_follows_zone_when_the_one_before_is_done_and_no_request_fails() {
    let fleet = Fleet::start(4);
    for (agent, zone) in [("web-1", "b"), ("web-2", "a"), ("web-3", "b"), ("web-4", "a")] {
        fleet.cluster.cutover(&["agents", "label", agent, &format!("zone={zone}")]).done();
    }
    let clients = fleet.ask();

    fleet.deploy("2", &["--zone", "zone", "--batch", "3"]).done();

    clients.heard().all_is_well().moved("1", "2");
    clients.heard().all_is_well().only("2");
    let (events, mut last) = (fleet.events(), 0);
    for [one, other] in [["web-2", "web-4"], ["web-1", "web-3"]] {
        let told = first(&events, last, &format!("{one}, {other} told to run 2"));
        let healthy = |agent| first(&events, told, &format!("{agent} runs 2 and is healthy"));
        last = healthy(one).max(healthy(other));
    }
    assert_eq!(releases(&events).len(), 2, "{events:#?}");
    assert_eq!(fleet.starts_by_host("2"), [1; 4]);
}

/// A rollout one by one of what is healthy as long as the test says so, with `more` arguments.
fn begin_moody(more: &[&str]) -> Fleet {
    let fleet = Fleet::start(3);
    fleet.push_moody("2-moody");
    (0..3).for_each(|index| fleet.make_healthy(index));
    let args = [&["--batch", "1", "--no-watch"][..], more].concat();
    fleet.deploy("2-moody", &args).done();
    fleet
}

/// The first host turns bad while `cutover why` says that it `watches`, and `updated` hosts go back:
/// by what the coordinator heard of it, and by nothing else. Says how long it took.
fn turns_bad(fleet: &Fleet, watches: &str, updated: usize) {
    let hosts = fleet.cluster.hosts(Fleet::PORT);
    fleet.until_why_says(watches);
    let clients = fleet.ask();
    let before = fleet.events();
    assert_eq!(releases(&before).len(), updated, "{before:#?}");

    let sick = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    fleet.make_sick(0);
    fleet.until_over_as("rolled_back");

    let heard = clients.heard();
    for host in &hosts[1..] {
        heard.of(*host).all_is_well();
    }
    // A gate leads nobody to an instance that fails its probes, and this one has no other.
    let told_to_retry = heard.of(hosts[0]).none_failed_before(Duration::ZERO).failures.len();
    assert!(told_to_retry > 0, "the gate led clients to an instance that fails its probes");
    clients.heard().all_is_well().only("1");
    let events = fleet.events();
    let since = events.strip_prefix(&*before).expect("what has happened stays as it was");
    let [failed, back, ..] = since else { panic!("{since:#?}") };
    assert!(failed.text.starts_with("web-1 failed: "), "{since:#?}");
    let going = format!("going back on {updated} hosts: ");
    assert!(back.text.starts_with(&going), "{since:#?}");
    let to_old = |text: &str| text.ends_with(" told to run 1 again");
    assert!(releases(since).iter().all(|text| to_old(text)), "{since:#?}");
    let (told, reacted) = (failed.at.saturating_sub(sick), back.at.saturating_sub(failed.at));
    say(&format!(
        "{told:?} from the first bad probe to the host's word, {reacted:?} to the way back; \
         {told_to_retry} were told to ask again later"
    ));
}

#[test]
fn a_host_that_turns_bad_in_a_soak_takes_the_rollout_back_and_nobody_else_gets_it() {
    let fleet = begin_moody(&["--soak", "1h"]);

    turns_bad(&fleet, "Watching the batch", 1);

    assert_eq!(fleet.starts_by_host("2-moody"), [1, 0, 0]);
}

#[test]
fn a_host_that_turns_bad_in_the_bake_takes_the_whole_rollout_back() {
    let fleet = begin_moody(&["--bake", "1h"]);

    turns_bad(&fleet, "Watching all hosts", 3);

    assert_eq!(fleet.starts_by_host("2-moody"), [1, 1, 1]);
}
