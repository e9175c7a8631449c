//! Configure: what an environment adds to releases that are deployed to it.

use cutover_common::{
    ApplicationName, EnvironmentName, Release, ReleaseRef, Timestamp, VariableName, Version,
    planted,
};

use super::deploy::refuse;
use crate::{
    action::{Answer, Refusal, RefusalKind},
    config::{ConfigChange, Extent, Setting},
    coordinator::{Coordinator, Environment, Step, StoredRelease},
    event::EventKind,
    input::{ConfigOrder, DeployOrder, WithConfig},
    rollout::Strategy,
};

/// How many variables are set in an environment at a time (A9): more than programs read.
const VARIABLES_MAX: usize = 256;

/// How much all that is set in an environment may take together, in bytes: it comes with each goal,
/// twice, and the largest message of a coordinator has room for ten times as much.
const BYTES_MAX: usize = 192 * 1024;

/// How often an environment's config changes: once a day for centuries.
const CHANGES_MAX: usize = 100_000;

/// How much all changes of an environment's config may take together, in bytes: they are in memory
/// and in the log for ever. A whole config of the largest kind every day for a year, or a usual
/// change every hour for decades.
const BYTES_KEPT_MAX: usize = 64 * 1024 * 1024;

impl Coordinator {
    /// Changes the config of an environment. What runs there stays as it is until the next deploy.
    pub(super) fn configure(
        &mut self,
        now: Timestamp,
        by: &str,
        order: ConfigOrder,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        self.known_environment(&order.environment)?;
        if let Some(application) = &order.application {
            self.known_application(application)?;
        }
        let names = order.set.keys().chain(&order.unset);
        if let Some(name) = names.into_iter().find(|name| name.is_of_the_agent()) {
            return Err(Refusal::new(
                RefusalKind::Invalid,
                format!("{name} is where an instance listens, which its agent tells it"),
                "choose another name",
            ));
        }
        let unchanged = Answer::Configured { number: None, concerns: Vec::new() };
        let Some(configs) = self.environments.get(&order.environment).map(|it| &it.configs) else {
            return Ok(unchanged);
        };
        let given = configs.given(order.application.as_ref(), u32::MAX);
        let is_there = |(name, setting): (&VariableName, &Setting)| {
            given.get(name).is_some_and(|given| given.setting == setting)
        };
        let is_gone = |name: &VariableName| !given.contains_key(name);
        if order.unset.iter().all(is_gone) && order.set.iter().all(is_there) {
            return Ok(unchanged);
        }
        let ConfigOrder { environment, application, set, unset } = order;
        let (concerned, number) = (application.clone(), configs.next());
        let change = ConfigChange { application, set, unset, by: by.to_owned(), at: now };
        // What is only taken away makes nothing larger that is bounded.
        if !change.set.is_empty() {
            bounded(&environment, configs.extent_after(&change))?;
        }
        let ConfigChange { application, set, unset, by, .. } = change;
        let changed = EventKind::EnvironmentConfigured {
            environment: environment.clone(),
            application,
            set,
            unset,
            by,
        };
        self.record(now, step, changed);
        let concerns = self.stable_in(&environment, concerned.as_ref());
        Ok(Answer::Configured { number: Some(number), concerns })
    }

    /// Returns what runs in an environment, of one application or of all, as it was pushed.
    fn stable_in(&self, name: &EnvironmentName, only: Option<&ApplicationName>) -> Vec<ReleaseRef> {
        let stable = self.environments.get(name).into_iter().flat_map(|it| &it.stable);
        stable
            .filter(|(application, _)| only.is_none_or(|only| only == *application))
            .map(|(application, version)| ReleaseRef {
                application: application.clone(),
                version: version.pushed(),
            })
            .collect()
    }

    /// Returns the release that an order means: as it was pushed, it comes with the config that its
    /// environment has at this moment; but a restart brings nothing that does not run.
    pub(super) fn meant_by(
        &self,
        order: &DeployOrder,
        pushed: &StoredRelease,
        strategy: Strategy,
        from: Option<&Version>,
    ) -> Result<StoredRelease, Refusal> {
        if let Some((environment, _)) = order.version.config() {
            if environment == order.environment.as_str() {
                return Ok(pushed.clone());
            }
            let version = order.version.as_pushed();
            return Err(refuse(
                format!("{} has the config of {environment}", order.version),
                format!(
                    "deploy it with that of {}: cutover deploy {}@{version} --to {}",
                    order.environment, order.application, order.environment
                ),
            ));
        }
        if planted!(OldReleaseGetsNewConfig: false; order.with == WithConfig::Own) {
            return Ok(pushed.clone());
        }
        let runs = from.filter(|from| from.as_pushed() == order.version.as_str());
        if let (Strategy::Restart, Some(version)) = (strategy, runs) {
            let name =
                ReleaseRef { application: order.application.clone(), version: version.clone() };
            return Ok(self.releases.get(&name).unwrap_or(pushed).clone());
        }
        let environment = self.environments.get(&order.environment);
        let configs = environment.map(|it| &it.configs);
        let Some(number) = configs.and_then(|it| it.newest(&order.application)) else {
            return Ok(pushed.clone());
        };
        let version = order.version.with_config(&order.environment, number);
        let name = ReleaseRef { application: order.application.clone(), version };
        let known = self.releases.get(&name).cloned().or_else(|| self.configured(&name));
        let release = known.unwrap_or_else(|| pushed.clone());
        self.can_be_read(&order.environment, &release.release)?;
        Ok(release)
    }

    /// Refuses a release with a secret whose value is lost: hosts would be sent a goal without it.
    pub(super) fn can_be_read(
        &self,
        environment: &EnvironmentName,
        release: &Release,
    ) -> Result<(), Refusal> {
        let secrets = &release.config.secrets;
        let lost = secrets.iter().find(|(_, id)| self.sealed(**id).is_none());
        let Some((name, _)) = lost else { return Ok(()) };
        Err(refuse(
            format!(
                "the value of the secret {name} of {environment} is lost, with the key that it was \
                 sealed with"
            ),
            format!(
                "set it anew: cutover env secret {environment} {name} (`cutover env show` says for \
                 which application); or take it away: cutover env set {environment} {name}-; then \
                 deploy {}@{}",
                release.name.application,
                release.name.version.as_pushed(),
            ),
        ))
    }

    /// Returns a release with the config that its version names.
    pub(crate) fn configured(&self, name: &ReleaseRef) -> Option<StoredRelease> {
        let (environment, number) = name.version.config()?;
        let (_, environment) =
            self.environments.iter().find(|(known, _)| known.as_str() == environment)?;
        let pushed =
            ReleaseRef { application: name.application.clone(), version: name.version.pushed() };
        let stored =
            self.releases.get(&pushed).filter(|_| environment.configs.has(number))?.clone();
        let mut release = (*stored.release).clone();
        release.config = environment.configs.of(&name.application, number);
        release.name = name.clone();
        Some(StoredRelease { release: release.into(), ..stored })
    }
}

/// Refuses a config that grows beyond all use.
fn bounded(name: &EnvironmentName, extent: Extent) -> Result<(), Refusal> {
    let Extent { variables, bytes, changes, bytes_kept } = extent;
    let outside = "put what is large into the release, or into a file on the hosts";
    if variables > VARIABLES_MAX {
        let text = format!("environment {name} would have more than {VARIABLES_MAX} variables");
        return Err(refuse(text, outside));
    }
    if bytes > BYTES_MAX {
        let text =
            format!("the config of environment {name} would take {bytes} bytes of {BYTES_MAX}");
        return Err(refuse(text, outside));
    }
    let anew = format!("{outside}; an environment of another name begins with none");
    if changes > CHANGES_MAX {
        let text = format!("the config of environment {name} was changed {CHANGES_MAX} times");
        return Err(refuse(text, anew));
    }
    if bytes_kept > BYTES_KEPT_MAX {
        let text = format!(
            "all changes of the config of environment {name} would take {bytes_kept} bytes of \
             {BYTES_KEPT_MAX}; they are kept for the ways back"
        );
        return Err(refuse(text, anew));
    }
    Ok(())
}

impl Environment {
    /// Takes a change of its config.
    pub(crate) fn configure(&mut self, at: Timestamp, kind: &EventKind) {
        if let EventKind::EnvironmentConfigured { application, set, unset, by, .. } = kind {
            self.configs.change(ConfigChange {
                application: application.clone(),
                set: set.clone(),
                unset: unset.clone(),
                by: by.clone(),
                at,
            });
        }
    }
}
