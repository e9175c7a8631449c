//! F6: a release comes with the config that its version names, whatever is set since.

use std::collections::BTreeMap;

use cutover_common::{Config, EnvironmentName, Release};
use cutover_coordinator_core::{EventKind, Setting};

use crate::oracle::Violation;

/// Each config that an environment ever had, by the numbers in versions.
#[derive(Clone, Debug, Default)]
pub(super) struct Configs(BTreeMap<EnvironmentName, Vec<Config>>);

impl Configs {
    /// Takes a change.
    pub(super) fn take(&mut self, kind: &EventKind) {
        let EventKind::EnvironmentConfigured { environment, set, unset, .. } = kind else { return };
        let configs = self.0.entry(environment.clone()).or_default();
        let mut config = configs.last().cloned().unwrap_or_default();
        for name in unset.iter().chain(set.keys()) {
            config.env.remove(name);
            config.secrets.remove(name);
        }
        for (name, setting) in set {
            match setting {
                Setting::Plain(value) => drop(config.env.insert(name.clone(), value.clone())),
                Setting::Secret { id, .. } => drop(config.secrets.insert(name.clone(), *id)),
            }
        }
        configs.push(config);
    }

    /// Looks at a release that leaves for an agent. After a restore numbers go on further up than
    /// these books do.
    pub(super) fn judge(&self, release: &Release, was_restored: bool) -> Result<(), Violation> {
        let named = release.name.version.config();
        if was_restored && named.is_some() {
            return Ok(());
        }
        let config = |(environment, number): (&str, u32)| {
            let (_, configs) = self.0.iter().find(|(name, _)| name.as_str() == environment)?;
            configs.get(usize::try_from(number).ok()?.checked_sub(1)?).cloned()
        };
        let expected = named.map_or_else(|| Some(Config::default()), config);
        if expected.as_ref() == Some(&release.config) {
            return Ok(());
        }
        let text = format!("{} is sent with {:?}, not {expected:?}", release.name, release.config);
        Err(Violation::new("F6", text))
    }
}
