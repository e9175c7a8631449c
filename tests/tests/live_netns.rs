//! Hosts in network namespaces of their own, whose cable is pulled in the middle of a canary's step,
//! a strict cutover and a rollback. Clients on such a host are served on, nothing is stopped that
//! serves, `cutover why` says how it is with it, and all of it ends well when the cable is back.

use std::time::Duration;

use cutover_tests::live::{
    Clients, Cluster, Fleet, Heard, PAGES, ask_aside, can_make_namespaces, say, wait_for,
};

/// How long an agent may take to see what became of its instance or its connection, on a machine that
/// is busy.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// As long as a gate may hold at all: a client waits for as long as it takes to cut a host off, to
/// look at the others, and to let it hear again.
const LONG_HOLD: Duration = Duration::from_mins(1);

/// Clients on each host, which reach it also when it is cut off, and others of hosts that never are.
struct Traffic {
    on_hosts: Vec<Clients>,
    from_outside: Clients,
}

impl Traffic {
    fn begin(fleet: &Fleet, never_cut: &[usize]) -> Self {
        let hosts = fleet.cluster.hosts(Fleet::PORT);
        let never_cut: Vec<_> = never_cut.iter().map(|index| hosts[*index]).collect();
        Self {
            on_hosts: (0..hosts.len()).map(|index| fleet.ask_on_the_host(index)).collect(),
            from_outside: Clients::ask_at(&never_cut, &PAGES),
        }
    }

    /// What all heard since the last time but those on host `index`.
    fn heard_but_on(&self, index: usize) -> Vec<Heard> {
        let others = self.on_hosts.iter().enumerate().filter(|(of, _)| *of != index);
        others.map(|(_, clients)| clients).chain([&self.from_outside]).map(Clients::heard).collect()
    }

    /// Demands that no request failed since the last time.
    #[track_caller]
    fn all_is_well(&self) {
        for heard in self.heard() {
            heard.all_is_well();
        }
    }

    fn heard(&self) -> Vec<Heard> {
        self.on_hosts.iter().chain([&self.from_outside]).map(Clients::heard).collect()
    }
}

/// Three hosts with a cable each, or nothing where there can be none, which is said.
fn cabled() -> Option<Fleet> {
    if let Err(why) = can_make_namespaces() {
        say(&format!("skipped: {why}"));
        return None;
    }
    Some(Fleet::start_with_cables(3))
}

/// Waits until both sides have noticed that host `index` is cut off. Its agent has no lease any more
/// then: that counts from what it sent last, and lasts for no longer than a silence that is noticed.
fn until_noticed(fleet: &Fleet, index: usize) {
    fleet.cluster.wait_until_live(fleet.cluster.agents().len() - 1);
    wait_for("the agent to notice that it is cut off", SEEN_WITHIN, || {
        (fleet.cluster.agent_status(index)["connected"] == false).then_some(())
    });
}

/// Returns each version that host `index` runs, with its process, as its agent itself says it.
fn processes(fleet: &Fleet, index: usize) -> Vec<(String, u64)> {
    let status = fleet.cluster.agent_status(index);
    let slots = status["applications"][0]["slots"].as_array().expect("a list of slots");
    let of = |slot: &serde_json::Value| {
        Some((slot["version"].as_str()?.to_owned(), slot["pid"].as_u64()?))
    };
    slots.iter().filter_map(of).collect()
}

/// Demands that `cutover why` says all of `words` of host `index`.
#[track_caller]
fn assert_why(fleet: &Fleet, index: usize, words: &[&str]) {
    let name = &fleet.cluster.agents()[index].name;
    let why = fleet.cluster.cutover(&["why", "web", name]).done();
    assert!(words.iter().all(|it| why.contains(it)), "{words:?}: {why}");
}

#[test]
fn a_host_that_is_cut_off_in_a_step_of_a_canary_keeps_its_share_and_goes_on_when_it_is_back() {
    let Some(fleet) = cabled() else { return };
    let hosts = fleet.cluster.hosts(Fleet::PORT);
    let traffic = Traffic::begin(&fleet, &[1, 2]);
    let steps = ["--canary-hosts", "1", "--canary-steps", "50%:1h", "--batch", "2"];
    let args = [&["--strategy", "canary", "--no-watch"][..], &steps].concat();
    fleet.deploy("2", &args).done();
    fleet.until_why_says("Comparing");
    traffic.on_hosts[0].until_all_answer(hosts[0], &["1", "2"]);
    let before = processes(&fleet, 0);

    fleet.cluster.cut_wire(0);
    fleet.tell("promote");
    until_noticed(&fleet, 0);
    fleet.until_why_says("for web-1 to be reachable, as lost contact is no failure");
    let told = "web-1 (not connected), in batch 1, was told";
    assert_why(&fleet, 0, &[told, "Lost contact is no failure: when it is reachable"]);
    for heard in traffic.heard_but_on(0) {
        heard.all_is_well().only("1");
    }
    traffic.on_hosts[0].heard().all_is_well();
    traffic.on_hosts[0].until_all_answer(hosts[0], &["1", "2"]);
    assert_eq!(processes(&fleet, 0), before);

    fleet.cluster.mend_wire(0);
    fleet.until_over_as("succeeded");
    traffic.all_is_well();
    traffic.heard().iter().for_each(|heard| heard.all_is_well().only("2"));
    fleet.ask().heard().all_is_well().only("2");
    assert_eq!((fleet.starts_by_host("1"), fleet.starts_by_host("2")), (vec![1; 3], vec![1; 3]));
}

/// All hosts hold, as something is under way at the first. Then the second is cut off, and the others
/// are armed.
fn arm_all_but_the_second(fleet: &Fleet, hold: Duration) {
    let held = fleet.hold_all(hold);
    fleet.cluster.cut_wire(1);
    fleet.let_go(held);
    fleet.until_why_says("until web-2 can switch");
}

#[test]
fn a_host_that_is_cut_off_in_a_cutover_goes_back_by_itself_and_all_switch_when_it_is_back() {
    let Some(fleet) = cabled() else { return };
    let traffic = Traffic::begin(&fleet, &[0, 2]);
    arm_all_but_the_second(&fleet, Fleet::HOLD);
    let before = processes(&fleet, 1);

    until_noticed(&fleet, 1);
    // It could not be made, and is tried again when all are there.
    fleet.until_why_says("for web-2 to be reachable");
    assert_why(&fleet, 1, &["web-2 (not connected), in batch 1, runs 2 beside what serves"]);
    for heard in traffic.heard_but_on(1) {
        heard.all_is_well().only("1");
    }
    traffic.on_hosts[1].heard().none_failed_before(Fleet::HOLD).only("1");
    traffic.on_hosts[1].heard().all_is_well().only("1");
    assert_eq!(processes(&fleet, 1), before);

    fleet.cluster.mend_wire(1);
    fleet.until_cut_over_strictly("1", "2");
    traffic.heard().iter().for_each(|heard| heard.all_is_well().moved("1", "2"));
    fleet.ask().heard().all_is_well().only("2");
}

#[test]
fn a_host_that_is_cut_off_when_a_cutover_was_decided_makes_its_clients_wait_for_the_new_version() {
    let Some(fleet) = cabled() else { return };
    let hosts = fleet.cluster.hosts(Fleet::PORT);
    let traffic = Traffic::begin(&fleet, &[0]);
    arm_all_but_the_second(&fleet, LONG_HOLD);
    let before = processes(&fleet, 2);

    fleet.cluster.cut_wire(2);
    fleet.cluster.mend_wire(1);
    fleet.until_it_serves("2");
    let waits = fleet.cluster.on_the_host(2, || ask_aside(hosts[2], "GET /"));
    for _ in 0..20 {
        let page = Cluster::get_from(hosts[0], "/").expect("every request is answered");
        assert!(page.contains("web 2 "), "{page}");
    }
    assert!(!waits.is_finished(), "a gate that was armed waits for the word of its agent");
    assert_why(&fleet, 2, &["web-3", " in batch 1, was told "]);
    assert_eq!(processes(&fleet, 2), before);

    fleet.cluster.mend_wire(2);
    let page = waits.join().expect("a client tells what it heard").expect("it was answered");
    assert!(page.contains("web 2 "), "{page}");
    fleet.until_cut_over_strictly("1", "2");
    traffic.heard().iter().for_each(|heard| heard.all_is_well().moved("1", "2"));
    fleet.ask().heard().all_is_well().only("2");
}

/// It has been told to go back, and has begun what it ran before. That is healthy when nobody can
/// tell the host any more whether it may lead its clients there.
#[test]
fn a_host_that_is_cut_off_in_a_rollback_leads_nobody_back_before_it_is_heard_again() {
    let Some(fleet) = cabled() else { return };
    fleet.push_moody("1-late");
    (0..3).for_each(|index| fleet.make_healthy(index));
    fleet.deploy("1-late", &["--strategy", "all_at_once"]).done();
    fleet.deploy("2", &["--batch", "3", "--soak", "1h", "--no-watch"]).done();
    fleet.until_why_says("Watching the batch");
    fleet.until_it_is_gone("1-late");
    let traffic = Traffic::begin(&fleet, &[0, 2]);

    fleet.make_sick(1);
    fleet.tell("rollback");
    wait_for("the second host to begin what it ran before", SEEN_WITHIN, || {
        (processes(&fleet, 1).len() == 2).then_some(())
    });
    let before = processes(&fleet, 1);
    fleet.cluster.cut_wire(1);
    until_noticed(&fleet, 1);
    fleet.make_healthy(1);
    wait_for("what it ran before to have settled", SEEN_WITHIN, || {
        let status = fleet.cluster.agent_status(1);
        let slots = status["applications"][0]["slots"].as_array()?;
        let mut late = slots.iter().filter(|it| it["version"] == "1-late");
        late.any(|it| it["health"] == "Settled").then_some(())
    });

    fleet.until_all_are_back_but(1);
    assert_why(&fleet, 1, &["web-2 (not connected), in batch 1,"]);
    traffic.all_is_well();
    traffic.heard_but_on(1).iter().for_each(|heard| heard.all_is_well().only("1-late"));
    traffic.on_hosts[1].heard().all_is_well().only("2");
    assert_eq!(processes(&fleet, 1), before);

    fleet.cluster.mend_wire(1);
    fleet.until_rolled_back();
    traffic.on_hosts[1].heard().all_is_well().moved("2", "1-late");
    traffic.heard().iter().for_each(|heard| heard.all_is_well().only("1-late"));
    fleet.ask().heard().all_is_well().only("1-late");
    assert_eq!(
        (fleet.starts_by_host("1-late"), fleet.starts_by_host("2")),
        (vec![2; 3], vec![1; 3])
    );
}
