//! Checks of canaries: each run is an answer, whatever becomes of it.

use std::sync::Arc;

use cutover_agent_core::{Input, Place};
use cutover_common::{
    CommandCheck, ErrorChain, InstanceId, Release,
    check::{Answer, CanaryId},
};

use super::{
    Works,
    instances::{environment, variables},
};
use crate::process::{CheckSpec, run_check};

/// Runs a check once.
pub(super) async fn run(
    works: Arc<Works>,
    place: Place,
    (canary, check): (CanaryId, CommandCheck),
    instance: InstanceId,
    release: Arc<Release>,
    port: Option<u16>,
) -> Input {
    let spec = spec(&works, &place, &check, instance, &release, port);
    let (answer, detail) = match spec {
        Ok(spec) => run_check(spec).await,
        Err(detail) => (Answer::NotEnough, detail),
    };
    Input::Checked { application: place.application, canary, check, answer, detail }
}

fn spec(
    works: &Works,
    place: &Place,
    check: &CommandCheck,
    instance: InstanceId,
    release: &Release,
    port: Option<u16>,
) -> Result<CheckSpec, String> {
    let variables = variables(works, place, Some(instance), release, port);
    let command = variables.fill_in_all(&check.command);
    let mut env = variables.as_environment();
    env.extend(environment(&variables, release)?);
    Ok(CheckSpec {
        instance,
        name: check.name.clone(),
        command: command.map_err(|error| ErrorChain(&error).to_string())?,
        env,
        secrets: works.host.secrets.paths(&release.config),
        directory: variables.release_dir,
        within: check.within,
    })
}
