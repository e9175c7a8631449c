//! `cutover env …`

use super::{Desk, agents::unknown};
use crate::{args::fleet::EnvCommand, failure::Failure, render::fleet};

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
