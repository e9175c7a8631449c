//! `cutover agents …`

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{AgentName, nearest::nearest};
use cutover_runtime::clock::wall;

use super::{Desk, retry::until_answered};
use crate::{
    args::{
        fleet::AgentsCommand,
        values::{InvalidValue, Label, LabelChange, collect_labels},
    },
    failure::Failure,
    render::{count_of_labels, fleet},
};

/// Carries out one of the commands on agents.
pub(super) async fn run(desk: Desk<'_>, command: AgentsCommand) -> Result<(), Failure> {
    let paint = desk.console.result_paint();
    match command {
        AgentsCommand::List(output) => {
            let agents = desk.coordinator().await?.agents().await?;
            desk.print(output, &agents, |agents| fleet::agents(agents, wall(), paint))
        }
        AgentsCommand::Show { agent, output } => {
            let agents = desk.coordinator().await?.agents().await?;
            let found = agents.iter().find(|found| found.name.as_str() == agent.as_str());
            let found = found.ok_or_else(|| {
                unknown("agent", agent.as_str(), agents.iter().map(|agent| agent.name.as_str()))
            })?;
            desk.print(output, found, |agent| fleet::agent(agent, wall(), paint))
        }
        AgentsCommand::Token { name, labels, output } => {
            let labels = collect_labels(labels).map_err(|error| wrong(&error))?;
            let token = desk.coordinator().await?.create_join_token(name.as_ref(), labels).await?;
            desk.print(output, &token, fleet::join_command)?;
            desk.console.progress(&fleet::join_note(&token, wall()));
            Ok(())
        }
        AgentsCommand::Label { agent, changes } => label(desk, &agent, changes).await,
        AgentsCommand::Drain { agent, undo: true, reason, .. } => {
            undrain(desk, &agent, &reason).await
        }
        AgentsCommand::Drain { agent, undo: false, force, reason } => {
            drain(desk, &agent, force, &reason).await
        }
        AgentsCommand::Remove { agent } => {
            desk.coordinator().await?.remove_agent(&agent).await?;
            desk.console.result(&format!("agent {agent} removed\n"))
        }
    }
}

/// What it asks for may be asked again and again with the same end.
async fn undrain(desk: Desk<'_>, agent: &AgentName, reason: &str) -> Result<(), Failure> {
    let coordinator = desk.coordinator().await?;
    until_answered(desk.console, || coordinator.undrain_agent(agent, reason)).await?;
    desk.console.result(&format!("agent {agent} takes part again\n"))
}

/// What it asks for may be asked again and again with the same end.
async fn drain(
    desk: Desk<'_>,
    agent: &AgentName,
    force: bool,
    reason: &str,
) -> Result<(), Failure> {
    let coordinator = desk.coordinator().await?;
    until_answered(desk.console, || coordinator.drain_agent(agent, reason, force)).await?;
    desk.console.result(&format!("agent {agent} drained; what runs there is left running\n"))?;
    desk.console.progress(&format!("let it take part again: cutover agents drain {agent} --undo"));
    Ok(())
}

async fn label(
    desk: Desk<'_>,
    agent: &AgentName,
    changes: Vec<LabelChange>,
) -> Result<(), Failure> {
    let (set, unset) = sort(changes).map_err(|error| wrong(&error))?;
    let count = set.len() + unset.len();
    desk.coordinator().await?.label_agent(agent, set, unset).await?;
    desk.console.result(&format!("{} of agent {agent} changed\n", count_of_labels(count)))
}

/// Sorts changes into what is set and what is taken away.
fn sort(
    changes: Vec<LabelChange>,
) -> Result<(BTreeMap<String, String>, Vec<String>), InvalidValue> {
    let mut seen = BTreeSet::new();
    let (mut set, mut unset) = (BTreeMap::new(), Vec::new());
    for change in changes {
        if !seen.insert(change.key().to_owned()) {
            return Err(InvalidValue::LabelTwice(change.key().to_owned()));
        }
        match change {
            LabelChange::Set(Label { key, value }) => {
                set.insert(key, value);
            }
            LabelChange::Unset(key) => unset.push(key),
        }
    }
    Ok((set, unset))
}

fn wrong(error: &InvalidValue) -> Failure {
    Failure::wrong_use(error.to_string())
}

/// Says that there is nothing of this name, and which one was probably meant.
pub(super) fn unknown<'a>(
    kind: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Failure {
    let failure = Failure::wrong_use(format!("there is no {kind} {name}"));
    match nearest(name, known) {
        Some(nearest) => failure.with_hint(format!("did you mean {nearest}?")),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str) -> LabelChange {
        text.parse().unwrap()
    }

    #[test]
    fn label_changes_are_sorted_and_a_contradiction_is_refused() {
        let (set, unset) = sort(vec![change("zone=a"), change("tier-")]).unwrap();
        assert_eq!(set, BTreeMap::from([("zone".to_owned(), "a".to_owned())]));
        assert_eq!(unset, ["tier"]);

        let error = sort(vec![change("zone=a"), change("zone-")]).unwrap_err();
        assert_eq!(error, InvalidValue::LabelTwice("zone".to_owned()));
    }

    #[test]
    fn an_unknown_name_comes_with_the_nearest() {
        insta::assert_snapshot!(unknown("agent", "wbe-1", ["web-1", "db-1"]), @r"
        error: there is no agent wbe-1
        hint: did you mean web-1?
        ");
    }
}
