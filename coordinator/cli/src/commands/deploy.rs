//! `cutover deploy`: starts a rollout, once, and follows it.

use cutover_runtime::{clock::wall, dice};

use super::{
    Desk, Outcome,
    follow::{Ending, follow},
    retry::until_answered,
};
use crate::{
    args::deploy::{DeployArgs, IfBusy},
    failure::{Failure, Kind},
    grpc::{Coordinator, DeployOrder, Order},
    render::{self, rollout},
    view::Accepted,
};

/// Starts a rollout, or says what it would do.
pub(super) async fn deploy(desk: Desk<'_>, args: DeployArgs) -> Result<Outcome, Failure> {
    let DeployArgs {
        release,
        environment,
        plan,
        settings,
        following,
        wait,
        if_busy,
        despite_freeze,
        request_id,
        output,
    } = args;
    let order = Order { release: release.0, environment, settings, if_busy, despite_freeze };
    let coordinator = desk.coordinator().await?;
    let paint = desk.console.result_paint();
    if plan {
        let plan = coordinator.plan(&order).await?;
        let (application, environment) = (&order.release.application, &order.environment);
        desk.print(output, &plan, |plan| {
            render::plan::plan(application.as_str(), environment.as_str(), plan, paint)
        })?;
        return Ok(Outcome::Done);
    }
    // A repeated request is past its plan: its rollout may be what makes another impossible. What is
    // queued is planned when its turn comes.
    if request_id.is_none() && if_busy != IfBusy::Queue {
        announce(desk, &coordinator, &order).await?;
    }
    // Made once: whatever is lost on the way, this run starts one rollout.
    let request_id = request_id.unwrap_or_else(dice::uuid);
    let accepted = start(desk, &coordinator, &DeployOrder { request_id, order }).await?;
    if accepted.repeated_request {
        desk.console.progress("this request had started the rollout before");
    }
    if let Some(queued) = rollout::queued(&accepted).filter(|_| following.is_watched()) {
        desk.console.progress(&queued);
    }
    if !following.is_watched() {
        desk.print(output, &accepted, rollout::accepted)?;
        desk.console.progress(&format!("watch it: cutover watch {}", accepted.rollout));
        return Ok(Outcome::Done);
    }
    let id = accepted.rollout.as_str();
    let ending = follow(&coordinator, desk.console, id, wait).await?;
    if let Ending::Over(rollout) = &ending {
        desk.print(output, rollout, |rollout| rollout::ending(rollout, wall(), paint))?;
    }
    Ok(ending.outcome())
}

/// Says what is about to happen, or why it cannot.
async fn announce(desk: Desk<'_>, coordinator: &Coordinator, order: &Order) -> Result<(), Failure> {
    let plan = until_answered(desk.console, || coordinator.plan(order)).await?;
    let (application, environment) = (&order.release.application, &order.environment);
    let summary = render::plan::summary(application.as_str(), environment.as_str(), &plan);
    desk.console.progress(&summary);
    desk.console.progress(&render::plan::worst(&plan));
    Ok(())
}

async fn start(
    desk: Desk<'_>,
    coordinator: &Coordinator,
    deploy: &DeployOrder,
) -> Result<Accepted, Failure> {
    let started = until_answered(desk.console, || coordinator.deploy(deploy)).await;
    started.map_err(|failure| match failure.kind() {
        Kind::NotReachable => failure.with_hint(format!(
            "the rollout may have begun; to go on with it and never start a second one, type the \
             same again with --request-id {}",
            deploy.request_id
        )),
        Kind::RolloutFailed | Kind::WrongUse | Kind::Refused | Kind::OurBug => failure,
    })
}
