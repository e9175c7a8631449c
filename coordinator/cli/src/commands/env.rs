//! `cutover env …`

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use cutover_common::{SecretValue, config::VALUE_BYTES_MAX};

use super::{Desk, agents::unknown, retry::until_answered};
use crate::{
    args::{fleet::EnvCommand, values::VariableChange},
    failure::Failure,
    grpc::{ConfigChange, Freeze},
    render::fleet,
    view::ShownEnvironment,
};

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
        EnvCommand::Set { environment, changes, app } => {
            let mut change = ConfigChange::none(environment, app);
            for asked in changes {
                match asked {
                    VariableChange::Set(name, value) => drop(change.set.insert(name, value)),
                    VariableChange::Unset(name) => change.unset.push(name),
                }
            }
            configure(desk, &change).await
        }
        EnvCommand::Secret { environment, name, file, app } => {
            let value = read_secret(file.as_deref())?;
            let mut change = ConfigChange::none(environment, app);
            change.secrets.insert(name, value);
            configure(desk, &change).await
        }
        EnvCommand::Show { environment, output } => {
            let coordinator = desk.coordinator().await?;
            let environments = coordinator.environments().await?;
            let found =
                environments.iter().find(|found| found.name.as_str() == environment.as_str());
            let found = found.ok_or_else(|| {
                let known = environments.iter().map(|environment| environment.name.as_str());
                unknown("environment", environment.as_str(), known)
            })?;
            let config = coordinator.config(&environment).await?;
            let shown = ShownEnvironment { environment: found.clone(), config };
            desk.print(output, &shown, |shown| fleet::shown_environment(shown, paint))
        }
    }
}

async fn configure(desk: Desk<'_>, change: &ConfigChange) -> Result<(), Failure> {
    let coordinator = desk.coordinator().await?;
    let configured = until_answered(desk.console, || coordinator.configure(change)).await?;
    desk.console.result(&fleet::configured(&configured))?;
    for line in fleet::comes_with(&configured) {
        desk.console.progress(&line);
    }
    Ok(())
}

/// Reads the value of a secret: never from the command line, which others on this host can see.
fn read_secret(file: Option<&Path>) -> Result<SecretValue, Failure> {
    let failed = |source: io::Error| {
        let place = file.map_or_else(|| "stdin".to_owned(), |file| file.display().to_string());
        Failure::wrong_use(format!("could not read the secret from {place}: {source}"))
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(VALUE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(2);
    match file {
        Some(path) => File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes),
        None => io::stdin().take(limit).read_to_end(&mut bytes),
    }
    .map_err(failed)?;
    if file.is_none() && bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    SecretValue::new(bytes).map_err(|error| {
        Failure::wrong_use(format!("no secret was set: {error}"))
            .with_hint("give it on stdin: cutover env secret ENV NAME < FILE")
    })
}
