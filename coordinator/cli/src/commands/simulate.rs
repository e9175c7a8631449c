//! `cutover simulate`: says how a deploy would go, and does nothing.

use super::{Desk, Outcome};
use crate::{
    args::simulate::SimulateArgs,
    failure::Failure,
    grpc::{Order, SimulateOrder},
    render,
};

/// Says how a deploy would go on the fleet of this moment.
pub(super) async fn simulate(desk: Desk<'_>, args: SimulateArgs) -> Result<Outcome, Failure> {
    let SimulateArgs {
        release,
        environment,
        fail,
        lose,
        promote,
        starts_in,
        settings,
        if_busy,
        output,
    } = args;
    // A freeze keeps nobody from looking.
    let despite_freeze = String::new();
    let order = Order { release: release.0, environment, settings, if_busy, despite_freeze };
    let asked = SimulateOrder { order, fail, lose, promote, starts_in };
    let simulated = desk.coordinator().await?.simulate(&asked).await?;
    let (application, environment) = (&asked.order.release.application, &asked.order.environment);
    let paint = desk.console.result_paint();
    desk.print(output, &simulated, |simulated| {
        let (application, environment) = (application.as_str(), environment.as_str());
        render::simulated::simulated(application, environment, simulated, paint)
    })?;
    Ok(if simulated.ending.is_success() { Outcome::Done } else { Outcome::RolloutFailed })
}
