//! Every state with every change: the allowed pairs are listed, all others are refused.

use cutover_common::{AgentName, Timestamp};

use crate::{
    event::Change,
    rollout::{Cause, Exclusion, HostState, Outcome, Rollout, State},
    testing::{Story, name},
};

const NOW: Timestamp = Timestamp::from_unix_ms(9_000_000);

/// A rollout over web-1 and web-2, one batch each, with every host as given.
fn rollout(state: State, host: &HostState) -> Rollout {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("soak", "10s")]);
    let mut rollout = story.newest().clone();
    rollout.state = state;
    for it in rollout.hosts.values_mut() {
        it.state = host.clone();
        it.tries = u32::from(*host != HostState::Pending);
    }
    rollout
}

fn advancing() -> State {
    State::Advancing { wave: 0, step: 1, since: NOW }
}

fn going_back() -> State {
    State::RollingBack { cause: cause(), waves: waves(), wave: 0, since: NOW }
}

fn paused(was: State) -> State {
    State::Paused { was: Box::new(was), by: "ann".to_owned(), reason: String::new(), since: NOW }
}

fn held(was: State) -> State {
    State::Held { was: Box::new(was), why: "a reason".to_owned(), since: NOW }
}

fn cause() -> Cause {
    Cause::Operator { by: "ann".to_owned(), reason: String::new() }
}

fn exclusion() -> Exclusion {
    Exclusion::Operator { by: "ann".to_owned(), reason: String::new() }
}

fn waves() -> Vec<Vec<AgentName>> {
    vec![vec![name("web-1")], vec![name("web-2")]]
}

fn states() -> Vec<(&'static str, State)> {
    let ended = |outcome| State::Ended { outcome, why: "a reason".to_owned(), at: NOW };
    vec![
        ("Advancing", advancing()),
        ("Baking", State::Baking { since: NOW }),
        ("RollingBack", going_back()),
        ("Paused(Advancing)", paused(advancing())),
        ("Paused(RollingBack)", paused(going_back())),
        ("Held(Advancing)", held(advancing())),
        ("Held(RollingBack)", held(going_back())),
        ("Ended(Succeeded)", ended(Outcome::Succeeded)),
        ("Ended(RolledBack)", ended(Outcome::RolledBack)),
        ("Ended(Aborted)", ended(Outcome::Aborted)),
    ]
}

/// Every kind of change, with the state of hosts in which it makes the most sense.
fn changes() -> Vec<(&'static str, HostState, Change)> {
    let agent = name("web-1");
    let agents = vec![agent.clone()];
    let why = "a reason".to_owned();
    let by = "ann".to_owned();
    let updating = HostState::Updating { since: NOW };
    let reverting = HostState::Reverting { since: NOW };
    let ended = |outcome| Change::Ended { outcome, why: "a reason".to_owned() };
    vec![
        ("StepStarted(next)", updating.clone(), Change::StepStarted { wave: 0, step: 2 }),
        ("StepStarted(skipped)", updating.clone(), Change::StepStarted { wave: 1, step: 0 }),
        ("StepStarted(same)", updating.clone(), Change::StepStarted { wave: 0, step: 1 }),
        ("StepStarted(none)", updating.clone(), Change::StepStarted { wave: 7, step: 0 }),
        ("HostsReleased", HostState::Pending, Change::HostsReleased { agents: agents.clone() }),
        ("HostUpdated", updating.clone(), Change::HostUpdated { agent: agent.clone() }),
        (
            "HostFailed",
            updating.clone(),
            Change::HostFailed { agent: agent.clone(), why: why.clone() },
        ),
        (
            "HostUnreachable",
            updating.clone(),
            Change::HostUnreachable { agent: agent.clone(), why: why.clone() },
        ),
        ("BakeStarted", HostState::Updated, Change::BakeStarted),
        (
            "RollbackStarted",
            updating.clone(),
            Change::RollbackStarted { cause: cause(), waves: waves() },
        ),
        ("RollbackWave(next)", reverting.clone(), Change::RollbackWave { wave: 1 }),
        ("RollbackWave(none)", reverting.clone(), Change::RollbackWave { wave: 2 }),
        ("HostsReverted", updating.clone(), Change::HostsReverted { agents: agents.clone() }),
        ("HostReverted", reverting.clone(), Change::HostReverted { agent: agent.clone() }),
        ("HostStuck", reverting, Change::HostStuck { agent, why: why.clone() }),
        ("HostsWithdrawn", updating.clone(), Change::HostsWithdrawn { agents: agents.clone() }),
        ("HostsExcluded", updating.clone(), Change::HostsExcluded { agents, cause: exclusion() }),
        ("Paused", updating.clone(), Change::Paused { by: by.clone(), reason: String::new() }),
        ("Resumed", updating.clone(), Change::Resumed { by: by.clone() }),
        ("Held", updating.clone(), Change::Held { why }),
        ("Retried", updating.clone(), Change::Retried { by }),
        ("Ended(Succeeded)", HostState::Updated, ended(Outcome::Succeeded)),
        ("Ended(RolledBack)", HostState::Reverted, ended(Outcome::RolledBack)),
        ("Ended(Aborted)", updating, ended(Outcome::Aborted)),
    ]
}

#[test]
fn what_may_follow_what_is_listed_and_all_else_is_refused() {
    let mut table = String::new();
    for (from, state) in states() {
        let mut allowed = Vec::new();
        for (change_name, host, change) in changes() {
            let before = rollout(state.clone(), &host);
            let mut after = before.clone();
            match after.apply(&change, NOW) {
                Ok(()) => allowed.push(change_name),
                Err(_) => assert_eq!(after, before, "{change_name} in {from}: half applied"),
            }
        }
        let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(" ") };
        table.push_str(&format!("{from}: {allowed}\n"));
    }

    insta::assert_snapshot!(table, @"
Advancing: StepStarted(next) HostsReleased HostUpdated HostFailed HostUnreachable BakeStarted RollbackStarted HostsWithdrawn HostsExcluded Paused Held Ended(Succeeded) Ended(Aborted)
Baking: HostUpdated HostFailed HostUnreachable RollbackStarted HostsWithdrawn HostsExcluded Paused Held Ended(Succeeded) Ended(Aborted)
RollingBack: RollbackWave(next) HostsReverted HostReverted HostStuck HostsWithdrawn HostsExcluded Paused Held Ended(RolledBack) Ended(Aborted)
Paused(Advancing): HostUpdated HostFailed HostUnreachable RollbackStarted HostsWithdrawn HostsExcluded Resumed Ended(Aborted)
Paused(RollingBack): HostReverted HostStuck HostsWithdrawn HostsExcluded Resumed Ended(Aborted)
Held(Advancing): HostUpdated HostFailed HostUnreachable RollbackStarted HostsWithdrawn HostsExcluded Retried Ended(Aborted)
Held(RollingBack): HostReverted HostStuck HostsWithdrawn HostsExcluded Retried Ended(Aborted)
Ended(Succeeded): nothing
Ended(RolledBack): nothing
Ended(Aborted): nothing
");
}

#[test]
fn a_host_moves_only_along_the_listed_ways() {
    let why = || "a reason".to_owned();
    let hosts = [
        ("Pending", HostState::Pending),
        ("Updating", HostState::Updating { since: NOW }),
        ("Updated", HostState::Updated),
        ("Failed", HostState::Failed { why: why(), touched: false }),
        ("Failed(touched)", HostState::Failed { why: why(), touched: true }),
        ("Unreachable", HostState::Unreachable { why: why(), touched: false }),
        ("Unreachable(touched)", HostState::Unreachable { why: why(), touched: true }),
        ("Reverting", HostState::Reverting { since: NOW }),
        ("Reverted", HostState::Reverted),
        ("Stuck", HostState::Stuck { why: why() }),
        ("Excluded", HostState::Excluded { cause: exclusion(), touched: false }),
        ("Excluded(touched)", HostState::Excluded { cause: exclusion(), touched: true }),
    ];
    let mut table = String::new();
    for (from, host) in hosts {
        let mut allowed = Vec::new();
        for (change_name, _, change) in changes() {
            let is_of_hosts = change_name.starts_with("Host");
            let fits = [advancing(), going_back()]
                .into_iter()
                .any(|state| rollout(state, &host).apply(&change, NOW).is_ok());
            if is_of_hosts && fits {
                allowed.push(change_name);
            }
        }
        let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(" ") };
        table.push_str(&format!("{from}: {allowed}\n"));
    }

    insta::assert_snapshot!(table, @"
Pending: HostsReleased HostFailed HostUnreachable HostsReverted HostsExcluded
Updating: HostUpdated HostFailed HostUnreachable HostsReverted HostsWithdrawn HostsExcluded
Updated: HostFailed HostUnreachable HostsReverted HostsExcluded
Failed: HostsReverted HostsExcluded
Failed(touched): HostsReverted HostsWithdrawn HostsExcluded
Unreachable: HostsReverted HostsExcluded
Unreachable(touched): HostsReverted HostsWithdrawn HostsExcluded
Reverting: HostReverted HostStuck HostsExcluded
Reverted: HostsExcluded
Stuck: HostsExcluded
Excluded: nothing
Excluded(touched): nothing
");
}

#[test]
fn a_change_of_several_hosts_is_made_of_all_or_of_none() {
    let mut rollout = rollout(advancing(), &HostState::Pending);
    rollout.hosts.get_mut(&name("web-2")).unwrap().state = HostState::Updated;
    let before = rollout.clone();

    let both = Change::HostsReleased { agents: vec![name("web-1"), name("web-2")] };

    assert!(rollout.apply(&both, NOW).is_err());
    assert_eq!(rollout, before);
}

#[test]
fn an_excluded_host_is_not_sent_again() {
    let excluded = HostState::Excluded { cause: exclusion(), touched: true };
    for was in [advancing(), going_back()] {
        let mut rollout = rollout(held(was), &excluded);

        rollout.apply(&Change::Retried { by: "ann".to_owned() }, NOW).unwrap();

        assert!(rollout.hosts.values().all(|host| host.state == excluded), "{rollout:?}");
    }
}

#[test]
fn a_host_of_another_rollout_is_refused() {
    let mut rollout = rollout(advancing(), &HostState::Pending);

    assert!(rollout.apply(&Change::HostsReleased { agents: vec![name("db-1")] }, NOW).is_err());
}

#[test]
fn the_history_of_a_flapping_host_is_bounded() {
    let mut rollout = rollout(advancing(), &HostState::Pending);
    for _ in 0..3_000 {
        rollout
            .apply(&Change::Paused { by: "ann".to_owned(), reason: String::new() }, NOW)
            .unwrap();
        rollout.apply(&Change::Resumed { by: "ann".to_owned() }, NOW).unwrap();
    }

    assert_eq!(rollout.history.len(), 2_000);
}
