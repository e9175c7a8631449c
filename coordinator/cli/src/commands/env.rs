//! `cutover env …`

use super::{Desk, agents::unknown, retry::until_answered};
use crate::{args::fleet::EnvCommand, failure::Failure, grpc::Freeze, render::fleet};

/// Carries out one of the commands on environments.
pub(super) async fn run(desk: Desk<'_>, command: EnvCommand) -> Result<(), Failure> {
    let paint = desk.console.result_paint();
    match command {
        EnvCommand::Create { environment, select, output } => {
            let coordinator = desk.coordinator().await?;
            let created = coordinator.create_environment(&environment, select.0).await?;
            desk.print(output, &created, |created| fleet::created(&created.name, created.agents))
        }
        EnvCommand::List(output) => {
            let environments = desk.coordinator().await?.environments().await?;
            desk.print(output, &environments, |found| fleet::environments(found, paint))
        }
        EnvCommand::Freeze { environment, from, until, weekly, reason } => {
            let (from, until) = (from.map(|it| it.0), until.map(|it| it.0));
            let freeze = Freeze { environment, from, until, weekly, reason };
            let coordinator = desk.coordinator().await?;
            until_answered(desk.console, || coordinator.freeze(&freeze)).await?;
            let environment = &freeze.environment;
            desk.console.result(&format!("freeze of environment {environment} noted\n"))?;
            desk.console.progress(&format!("see it: cutover env show {environment}"));
            Ok(())
        }
        EnvCommand::Thaw { environment } => {
            let coordinator = desk.coordinator().await?;
            until_answered(desk.console, || coordinator.thaw(&environment)).await?;
            desk.console.result(&format!("environment {environment} has no freezes\n"))
        }
        EnvCommand::Show { environment, output } => {
            let environments = desk.coordinator().await?.environments().await?;
            let found =
                environments.iter().find(|found| found.name.as_str() == environment.as_str());
            let found = found.ok_or_else(|| {
                let known = environments.iter().map(|environment| environment.name.as_str());
                unknown("environment", environment.as_str(), known)
            })?;
            desk.print(output, found, |found| fleet::environment(found, paint))
        }
    }
}
