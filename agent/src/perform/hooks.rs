//! Hooks: run at most once each, and ended when nobody wants to know any more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cutover_agent_core::{HookEnd, HookId, Input, Place};
use cutover_common::{ErrorChain, InstanceId, Release};
use tokio::sync::oneshot;

use super::{
    Works,
    instances::{environment, variables},
};
use crate::process::{HookOutcome, HookSpec};

/// How long to wait before what an ended hook left behind is looked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The hooks that run, each with the means to end it.
#[derive(Debug, Default)]
pub(super) struct RunningHooks(Mutex<BTreeMap<HookId, oneshot::Sender<()>>>);

/// Comes when a hook is to end.
pub(super) type ToEnd = oneshot::Receiver<()>;

impl RunningHooks {
    /// Notes that a hook is about to run. Before anybody can ask for its end.
    pub(super) fn begin(&self, hook: HookId) -> ToEnd {
        let (ender, to_end) = oneshot::channel();
        self.all().insert(hook, ender);
        to_end
    }

    fn take(&self, hook: HookId) -> Option<oneshot::Sender<()>> {
        self.all().remove(&hook)
    }

    /// Whoever panicked with the lock held left the map as it was.
    fn all(&self) -> MutexGuard<'_, BTreeMap<HookId, oneshot::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a hook to its end, or until it is to end.
pub(super) async fn run(
    works: Arc<Works>,
    place: Place,
    (hook, to_end): (HookId, ToEnd),
    instance: Option<InstanceId>,
    release: Arc<Release>,
    port: Option<u16>,
) -> Input {
    let end = match spec(&works, &place, hook, instance, &release, port).await {
        Err(detail) => HookEnd::Failed { detail },
        Ok(None) => HookEnd::Passed,
        Ok(Some(spec)) => tokio::select! {
            outcome = works.host.runtime.run_hook(spec) => match outcome {
                HookOutcome::Passed => HookEnd::Passed,
                HookOutcome::Failed(detail) => {
                    let (agent, kind) = (&works.host.agent, hook.kind);
                    let how = format!("cutover logs {} --agent {agent} --hook {kind}", place.application);
                    HookEnd::Failed { detail: format!("{detail} (all of it: {how})") }
                }
            },
            Ok(()) = to_end => {
                sweep(&works, hook).await;
                HookEnd::Interrupted
            }
        },
    };
    drop(works.hooks.take(hook));
    Input::HookEnded { hook, end }
}

/// Ends a hook that runs, or what is left of one that another agent process ran.
pub(super) async fn end(works: Arc<Works>, hook: HookId) -> Option<Input> {
    if works.hooks.take(hook).is_some_and(|ender| ender.send(()).is_ok()) {
        // Whoever runs it answers.
        return None;
    }
    sweep(&works, hook).await;
    Some(Input::HookEnded { hook, end: HookEnd::Interrupted })
}

/// Returns once nothing of a hook runs any more.
async fn sweep(works: &Works, hook: HookId) {
    while let Err(error) = works.host.runtime.end_hook(hook.run).await {
        tracing::error!("could not end what a hook left behind: {}", ErrorChain(&error));
        tokio::time::sleep(ASK_AGAIN_AFTER).await;
    }
}

async fn spec(
    works: &Works,
    place: &Place,
    hook: HookId,
    instance: Option<InstanceId>,
    release: &Release,
    port: Option<u16>,
) -> Result<Option<HookSpec>, String> {
    let Some(declared) = release.hook(hook.kind) else { return Ok(None) };
    let runtime = &works.host.runtime;
    runtime
        .make_shared_dir(&place.application)
        .await
        .map_err(|error| format!("could not make the application's own folder: {error}"))?;
    let mut variables = variables(works, place, instance, release, port);
    variables.hook = Some(hook.kind);
    let command = variables.fill_in_all(&declared.command);
    let mut env = variables.as_environment();
    env.extend(environment(&variables, release)?);
    Ok(Some(HookSpec {
        run: hook.run,
        command: command.map_err(|error| ErrorChain(&error).to_string())?,
        env,
        secrets: works.host.secrets.paths(&release.config),
        directory: variables.release_dir,
        within: declared.within,
        log: runtime.logs().hook(&place.application, place.slot, hook.kind),
    }))
}
