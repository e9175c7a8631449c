//! Commands on rollouts: status, watch, why, history, and the verbs of an operator.

use cutover_runtime::{clock::wall, dice};

use super::{
    Desk, Outcome,
    follow::{Ending, follow},
    retry::until_answered,
};
use crate::{
    args::rollout::{
        AnewArgs, ControlArgs, ExcludeArgs, HistoryArgs, ShowArgs, StatusArgs, WatchArgs,
    },
    failure::Failure,
    grpc::{Control, Exclude, Verb},
    render::{
        rollout,
        status::{self, Hosts},
    },
};

/// `cutover status`
pub(super) async fn status(desk: Desk<'_>, args: StatusArgs) -> Result<(), Failure> {
    let StatusArgs { application, output } = args;
    let applications = desk.coordinator().await?.status(application.as_ref()).await?;
    let hosts = if application.is_some() { Hosts::All } else { Hosts::Troubled };
    let paint = desk.console.result_paint();
    desk.print(output, &applications, |found| status::status(found, hosts, paint))
}

/// `cutover watch`
pub(super) async fn watch(desk: Desk<'_>, args: WatchArgs) -> Result<Outcome, Failure> {
    let WatchArgs { rollout, wait, output } = args;
    let coordinator = desk.coordinator().await?;
    // From here on by its id: an application's newest rollout may be another one tomorrow.
    let found = coordinator.rollout(rollout.as_str()).await?;
    let ending = follow(&coordinator, desk.console, found.id.as_str(), wait).await?;
    if let Ending::Over(rollout) = &ending {
        let paint = desk.console.result_paint();
        desk.print(output, rollout, |rollout| rollout::ending(rollout, wall(), paint))?;
    }
    Ok(ending.outcome())
}

/// `cutover why`
pub(super) async fn why(desk: Desk<'_>, args: ShowArgs) -> Result<(), Failure> {
    let ShowArgs { rollout, agent, batch, output } = args;
    let coordinator = desk.coordinator().await?;
    if agent.is_some() || batch.is_some() {
        let part = coordinator.part(rollout.as_str(), agent.as_ref(), batch).await?;
        return desk.print(output, &part, |part| rollout::why_and_next(&part.why, &part.next));
    }
    let found = coordinator.rollout(rollout.as_str()).await?;
    desk.print(output, &found, rollout::why)
}

/// `cutover history`
pub(super) async fn history(desk: Desk<'_>, args: HistoryArgs) -> Result<(), Failure> {
    let HistoryArgs { application, environment, limit, output } = args;
    let coordinator = desk.coordinator().await?;
    let rollouts = coordinator.rollouts(application.as_ref(), environment.as_ref(), limit).await?;
    let paint = desk.console.result_paint();
    desk.print(output, &rollouts, |rollouts| rollout::history(rollouts, wall(), paint))
}

/// `cutover pause`, `resume`, `abort`, `retry` and `rollback`
pub(super) async fn control(desk: Desk<'_>, verb: Verb, args: AnewArgs) -> Result<(), Failure> {
    let AnewArgs { control, if_busy } = args;
    let ControlArgs { rollout, reason, request_id, output } = control;
    let coordinator = desk.coordinator().await?;
    // By its id, so that the words on stderr and the deed are about the same rollout.
    let found = coordinator.rollout(rollout.as_str()).await?;
    desk.console.progress(&format!("rollout {}: {}", found.id, found.title()));
    let control = Control {
        request_id: request_id.unwrap_or_else(dice::uuid),
        rollout: found.id.to_string(),
        verb,
        reason,
        if_busy,
    };
    let controlled = until_answered(desk.console, || coordinator.control(&control)).await?;
    desk.print(output, &controlled, rollout::controlled)?;
    desk.console.progress(&format!("watch it: cutover watch {}", controlled.rollout));
    Ok(())
}

/// `cutover exclude`, and `cutover skip`
pub(super) async fn exclude(desk: Desk<'_>, args: ExcludeArgs, skip: bool) -> Result<(), Failure> {
    let ExcludeArgs { rollout, agents, reason, request_id, output } = args;
    let coordinator = desk.coordinator().await?;
    // By its id, so that the words on stderr and the deed are about the same rollout.
    let found = coordinator.rollout(rollout.as_str()).await?;
    desk.console.progress(&format!("rollout {}: {}", found.id, found.title()));
    let exclude = Exclude {
        request_id: request_id.unwrap_or_else(dice::uuid),
        rollout: found.id.to_string(),
        agents,
        skip,
        reason,
    };
    let controlled = until_answered(desk.console, || coordinator.exclude(&exclude)).await?;
    desk.print(output, &controlled, rollout::controlled)?;
    desk.console.progress(&format!("watch it: cutover watch {}", controlled.rollout));
    Ok(())
}
