//! Instances: started, found again, asked, stopped; each end is told to the core once.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use cutover_agent_core::{Finding, Input, Place, ProbeAnswer};
use cutover_common::{ApplicationName, ErrorChain, InstanceId, ProbeSpec, ProbeTarget, Release};
use tracing::Instrument as _;

use super::Works;
use crate::{
    host::reached_at,
    probe::{CommandPlace, ask},
    process::{
        Adopted, Ended, ExitCause, LogSpec, StartSpec, Started, StopSpec, Variables, end_checks,
    },
};

/// How long to wait before asking again what could not be found out: an unknown outcome is
/// neither done nor failed (E6), and what hides it is mended by people.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What may have been started by a start that failed has no grace: it is to be gone.
const AT_ONCE: Duration = Duration::ZERO;

/// Starts an instance. Another start follows only when nothing of this one can be running.
pub(super) async fn start(
    works: Arc<Works>,
    place: Place,
    instance: InstanceId,
    release: Arc<Release>,
    port: Option<u16>,
) -> Input {
    let spec = match launch(&works, &place, instance, &release, port).await {
        Ok(spec) => spec,
        Err(detail) => return Input::StartFailed { instance, detail },
    };
    match works.host.runtime.start(spec).await {
        Ok(Started::Running(evidence)) => {
            watch(works, place.application, instance);
            Input::Started { evidence }
        }
        Ok(Started::Ended(record)) => {
            let detail = record.cause.to_string();
            match record.cause {
                ExitCause::SpawnError(_) => Input::StartFailed { instance, detail },
                ExitCause::Exited(_) | ExitCause::Signalled(_) => {
                    Input::Exited { instance, detail }
                }
            }
        }
        Err(error) => {
            let detail = ErrorChain(&error).to_string();
            let stop = StopSpec { signal: release.run.stop_signal, grace: AT_ONCE };
            while let Err(error) =
                works.host.runtime.stop(&place.application, instance, stop.clone()).await
            {
                let undoing = ErrorChain(&error).to_string();
                tracing::error!("could not undo a failed start: {undoing}");
                let detail = format!("{detail}; could not undo the start so far: {undoing}");
                ask_again(&works, Input::StopFailed { instance, detail }).await;
            }
            Input::StartFailed { instance, detail }
        }
    }
}

/// Tells the core why there is no answer so far, and waits.
async fn ask_again(works: &Works, trouble: Input) {
    // Not received: the engine ended, and this process with it.
    drop(works.inbox.send(trouble).await);
    tokio::time::sleep(ASK_AGAIN_AFTER).await;
}

/// Tells the core, once, when an instance ends that is alive at this moment.
fn watch(works: Arc<Works>, application: ApplicationName, instance: InstanceId) {
    let watched = async move {
        let detail = loop {
            match works.host.runtime.wait(&application, instance).await {
                Ok(Ended::Exited(record)) => break record.cause.to_string(),
                Ok(Ended::Gone | Ended::Never) => {
                    break "gone without an exit status; its shim was killed".to_owned();
                }
                Err(error) => {
                    tracing::error!("could not watch the instance: {}", ErrorChain(&error));
                    tokio::time::sleep(ASK_AGAIN_AFTER).await;
                }
            }
        };
        // Not received: the engine ended, and finds out when it is started again.
        drop(works.inbox.send(Input::Exited { instance, detail }).await);
    };
    tokio::spawn(watched.in_current_span());
}

/// Finds an instance again.
pub(super) async fn adopt(works: Arc<Works>, place: Place, instance: InstanceId) -> Input {
    let finding = loop {
        match works.host.runtime.adopt(&place.application, instance).await {
            Ok(Adopted::Running(evidence)) => {
                tracing::info!(pid = evidence.pid, "found again, running");
                watch(works, place.application, instance);
                break Finding::Running { evidence };
            }
            Ok(Adopted::Exited(record)) => {
                break Finding::Exited { detail: record.cause.to_string() };
            }
            Ok(Adopted::Never) => break Finding::Never,
            Ok(Adopted::Gone) => break Finding::Gone,
            Err(error) => {
                let detail = ErrorChain(&error).to_string();
                tracing::error!("could not find the instance again: {detail}");
                let finding = Finding::Unclear { detail };
                ask_again(&works, Input::Adopted { instance, finding }).await;
            }
        }
    };
    Input::Adopted { instance, finding }
}

/// Stops an instance for good. Its hook was the core's affair.
pub(super) async fn stop(
    works: Arc<Works>,
    place: Place,
    instance: InstanceId,
    release: Arc<Release>,
) -> Input {
    if !release.checks.is_empty() {
        // Of an agent that was killed while one ran.
        end_checks(instance).await;
    }
    let run = &release.run;
    let spec = StopSpec { signal: run.stop_signal, grace: run.stop_within };
    match works.host.runtime.stop(&place.application, instance, spec).await {
        Ok(outcome) => {
            if outcome.killed {
                tracing::warn!("had to be killed: it did not stop within {:?}", run.stop_within);
            }
            let detail = match outcome.ended {
                Ended::Exited(record) => record.cause.to_string(),
                Ended::Gone => "gone without an exit status".to_owned(),
                Ended::Never => "was never started".to_owned(),
            };
            Input::Stopped { instance, detail }
        }
        Err(error) => {
            let detail = ErrorChain(&error).to_string();
            tracing::error!("could not stop the instance: {detail}");
            Input::StopFailed { instance, detail }
        }
    }
}

/// Asks an instance how it is.
pub(super) async fn probe(
    works: Arc<Works>,
    place: Place,
    instance: InstanceId,
    release: Arc<Release>,
    port: Option<u16>,
    probe: ProbeSpec,
) -> Input {
    let variables = variables(&works, &place, Some(instance), &release, port);
    let filled = environment(&variables, &release).and_then(|env| {
        let secrets = works.host.secrets.paths(&release.config);
        let target = match probe.target {
            ProbeTarget::Command(argv) => {
                let argv = variables.fill_in_all(&argv);
                ProbeTarget::Command(argv.map_err(|error| ErrorChain(&error).to_string())?)
            }
            target @ (ProbeTarget::Http { .. } | ProbeTarget::Tcp { .. }) => target,
        };
        Ok((env, secrets, target))
    });
    let answer = match filled {
        Err(text) => ProbeAnswer { passed: false, text },
        Ok((env, secrets, target)) => {
            let directory = &variables.release_dir;
            let asked = CommandPlace { instance, env: &env, secrets: &secrets, directory };
            let address = reached_at(works.host.address);
            let answer = ask(&target, (address, port), probe.timeout, asked).await;
            ProbeAnswer { passed: answer.passed, text: answer.detail }
        }
    };
    Input::Probed { instance, answer }
}

async fn launch(
    works: &Works,
    place: &Place,
    instance: InstanceId,
    release: &Release,
    port: Option<u16>,
) -> Result<StartSpec, String> {
    let runtime = &works.host.runtime;
    if let Some(port) = port {
        require_free((works.host.address, port).into())?;
    }
    let variables = variables(works, place, Some(instance), release, port);
    runtime
        .make_shared_dir(&place.application)
        .await
        .map_err(|error| format!("could not make the application's own folder: {error}"))?;
    let command = variables.fill_in_all(&release.run.command);
    Ok(StartSpec {
        application: place.application.clone(),
        instance,
        release_dir: variables.release_dir.clone(),
        command: command.map_err(|error| ErrorChain(&error).to_string())?,
        env: environment(&variables, release)?,
        secrets: works.host.secrets.paths(&release.config),
        log: LogSpec::at(runtime.log_path(&place.application, place.slot)),
    })
}

/// Refuses a port that is taken: an instance that cannot listen there says so in words of its own,
/// or, worse, whoever has the port answers for it. A start that found its process again is past
/// this. Between this and the application's own listening somebody may still take it, and then its
/// probes fail.
fn require_free(address: SocketAddr) -> Result<(), String> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the port {} cannot be listened on: {error}", address.port())),
    }
}

pub(super) fn variables(
    works: &Works,
    place: &Place,
    instance: Option<InstanceId>,
    release: &Release,
    port: Option<u16>,
) -> Variables {
    let host = &works.host;
    Variables {
        port,
        address: host.address,
        release_dir: host.releases.path(&place.application, release.digest),
        data_dir: host.runtime.shared_dir(&place.application),
        application: place.application.clone(),
        // The application knows nothing of the config in it.
        version: release.name.version.pushed(),
        instance,
        slot: place.slot,
        agent: host.agent.clone(),
        hook: None,
    }
}

/// Returns an instance's whole environment, but for secrets. PORT and ADDRESS are in it without
/// being asked for, as servers expect on other platforms.
pub(super) fn environment(
    variables: &Variables,
    release: &Release,
) -> Result<BTreeMap<String, String>, String> {
    let mut env = BTreeMap::from([("ADDRESS".to_owned(), variables.address.to_string())]);
    if let Some(port) = variables.port {
        env.insert("PORT".to_owned(), port.to_string());
    }
    let declared = variables.fill_in_values(&release.run.env);
    env.extend(declared.map_err(|error| ErrorChain(&error).to_string())?);
    let config = &release.config;
    env.extend(config.env.iter().map(|(name, value)| (name.clone().into(), value.clone())));
    env.retain(|name, _| !config.secrets.keys().any(|secret| secret.as_str() == name));
    Ok(env)
}
