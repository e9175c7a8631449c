//! The values of secrets on this host: one file for each, for its owner only, and for as long as a
//! release names it. What runs can so be started again while the coordinator is away.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as _,
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cutover_common::{
    ApplicationName, Config, ErrorChain, Generation, SecretId, SecretValue, VariableName,
    config::VALUE_BYTES_MAX, wire,
};
use cutover_runtime::tls::files::{self, Access, WriteFile};
use uuid::Uuid;

use crate::shim::files::read_capped;

const DIRECTORY: &str = "secrets";

/// Where the values are kept.
#[derive(Clone, Debug)]
pub struct Secrets {
    dir: PathBuf,
    /// Held while one is written.
    pending: Arc<Mutex<Pending>>,
}

/// What came for goals that were not taken yet.
#[derive(Debug, Default)]
struct Pending {
    /// Those whose goal has not been looked at yet, with the number of that goal: what was decided
    /// before it says nothing of them.
    awaited: BTreeMap<SecretId, BTreeMap<ApplicationName, Generation>>,
    /// Those that could not be written.
    unwritten: BTreeMap<SecretId, SecretValue>,
}

/// A secret that a release names is not on this host.
#[derive(Debug, thiserror::Error)]
pub enum MissingSecret {
    #[error("the value of the secret {name} could not be kept")]
    NotKept { name: VariableName, source: WriteFile },
    #[error("the value of the secret {name} is not on this host; a new deploy brings it")]
    NotHere { name: VariableName },
}

impl MissingSecret {
    /// Returns whether there was no room for it.
    pub fn is_of_full_disk(&self) -> bool {
        let Self::NotKept { source, .. } = self else { return false };
        let cause = source.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        cause.is_some_and(|cause| {
            matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        })
    }
}

impl Secrets {
    /// Names the place for them below the agent's data.
    pub fn in_data(data: &Path) -> Self {
        Self { dir: data.join(DIRECTORY), pending: Arc::default() }
    }

    /// Keeps what a coordinator sent for this goal, durably: before the goal is taken.
    ///
    /// What cannot be kept is no reason to hear the coordinator no more: what names it is not
    /// prepared, and says why.
    pub fn keep(
        &self,
        sent: &wire::Secrets,
        application: &ApplicationName,
        generation: Generation,
    ) {
        // Held until all is written: what nothing names may be removed meanwhile.
        let mut pending = self.pending();
        for (id, value) in &sent.0 {
            let goals = pending.awaited.entry(*id).or_default();
            let goal = goals.entry(application.clone()).or_default();
            *goal = generation.max(*goal);
            pending.unwritten.insert(*id, value.clone());
        }
        for (id, value) in &sent.0 {
            match self.write(*id, value) {
                Ok(()) => {
                    pending.unwritten.remove(id);
                }
                Err(error) => {
                    tracing::warn!("could not keep a secret: {}", ErrorChain(&error));
                }
            }
        }
    }

    /// Finds out whether all values are here that a release's config names, and writes those that
    /// could not be written when they came.
    ///
    /// # Errors
    ///
    /// If one of them is not here.
    pub fn require(&self, config: &Config) -> Result<(), MissingSecret> {
        let mut pending = self.pending();
        for (name, id) in &config.secrets {
            let name = || name.clone();
            if let Some(value) = pending.unwritten.get(id) {
                self.write(*id, value)
                    .map_err(|source| MissingSecret::NotKept { name: name(), source })?;
                pending.unwritten.remove(id);
            } else if !self.path(*id).exists() {
                return Err(MissingSecret::NotHere { name: name() });
            }
        }
        Ok(())
    }

    fn write(&self, id: SecretId, value: &SecretValue) -> Result<(), WriteFile> {
        files::create_private_dir(&self.dir)?;
        // An id stands for one value.
        if self.path(id).exists() {
            return Ok(());
        }
        files::write(&self.path(id), value.reveal(), Access::Owner)
    }

    /// Removes all that `named` does not name: what the goals of these generations, and what is
    /// held for them, need. What came for a later goal stays until that was looked at.
    ///
    /// # Errors
    ///
    /// If one cannot be removed, or the place cannot be read.
    pub fn retain(
        &self,
        named: &BTreeSet<SecretId>,
        goals: &BTreeMap<ApplicationName, Generation>,
    ) -> io::Result<()> {
        {
            let mut pending = self.pending();
            let Pending { awaited, unwritten } = &mut *pending;
            for awaited in awaited.values_mut() {
                awaited.retain(|application, generation| {
                    goals.get(application).is_none_or(|looked_at| looked_at < generation)
                });
            }
            awaited.retain(|_, goals| !goals.is_empty());
            unwritten.retain(|id, _| named.contains(id) || awaited.contains_key(id));
        }
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let file_name = entry.file_name();
            let Some(name) = file_name.to_str() else { continue };
            // Nobody writes while it is held: what is half written was left by an agent that died.
            let pending = self.pending();
            let id = Uuid::try_parse(name).ok().map(SecretId);
            let is_over = match id {
                Some(id) => !named.contains(&id) && !pending.awaited.contains_key(&id),
                None => is_half_written(name),
            };
            if is_over {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Returns where the values are that a release's config names.
    pub fn paths(&self, config: &Config) -> BTreeMap<VariableName, PathBuf> {
        config.secrets.iter().map(|(name, id)| (name.clone(), self.path(*id))).collect()
    }

    fn path(&self, id: SecretId) -> PathBuf {
        self.dir.join(id.0.to_string())
    }

    /// Whoever panicked with the lock held left the sets as they were.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a file of this name was to be renamed to that of a secret: `.ID.RANDOM`.
fn is_half_written(name: &str) -> bool {
    let parts = name.strip_prefix('.').and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(id, end)| Uuid::try_parse(id).is_ok() && Uuid::try_parse(end).is_ok())
}

/// Who listed the place while a secret was written may have seen what was renamed since.
fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Reads the values, as an environment for whoever needs them.
///
/// # Errors
///
/// For people, if one cannot be read.
pub fn reveal(
    paths: &BTreeMap<VariableName, PathBuf>,
) -> Result<BTreeMap<VariableName, OsString>, String> {
    let value = |(name, path): (&VariableName, &PathBuf)| {
        let bytes = read_capped(path, VALUE_BYTES_MAX as u64);
        let bytes = bytes.map_err(|error| {
            format!(
                "the value of the secret {name} is not on this host ({}: {error}); a new deploy \
                 brings it",
                path.display()
            )
        })?;
        Ok((name.clone(), OsString::from_vec(bytes)))
    };
    paths.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn sent(id: u128, value: &[u8]) -> wire::Secrets {
        let value = SecretValue::new(value.to_vec()).unwrap();
        wire::Secrets(vec![(SecretId(Uuid::from_u128(id)), value)])
    }

    fn config(id: u128) -> Config {
        let name = "DB_PASSWORD".parse().unwrap();
        Config { secrets: [(name, SecretId(Uuid::from_u128(id)))].into(), ..Config::default() }
    }

    fn web() -> ApplicationName {
        "web".parse().unwrap()
    }

    fn keep(secrets: &Secrets, id: u128, value: &[u8], goal: u64) {
        secrets.keep(&sent(id, value), &web(), Generation(goal));
    }

    /// The goal of this generation was looked at, and this is what is needed.
    fn retain(secrets: &Secrets, named: &[u128], goal: u64) {
        let named = named.iter().map(|id| SecretId(Uuid::from_u128(*id))).collect();
        secrets.retain(&named, &[(web(), Generation(goal))].into()).unwrap();
    }

    #[test]
    fn a_secret_is_kept_for_its_owner_until_nothing_names_it() {
        let data = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_data(data.path());
        keep(&secrets, 1, b"hunter2\n", 1);
        keep(&secrets, 1, b"another", 2);

        let paths = secrets.paths(&config(1));
        let mode = fs::metadata(paths.values().next().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(reveal(&paths).unwrap().into_values().next().unwrap(), "hunter2\n");

        // Before its goal has come, and while it is named, it stays; also for the next process.
        retain(&secrets, &[], 1);
        retain(&secrets, &[1], 2);
        let next = Secrets::in_data(data.path());
        assert!(reveal(&next.paths(&config(1))).is_ok());
        retain(&next, &[], 3);
        let error = reveal(&paths).unwrap_err();
        assert!(
            error.contains("the value of the secret DB_PASSWORD is not on this host"),
            "{error}"
        );
    }

    #[test]
    fn a_secret_that_is_named_again_stays_however_late_the_tidying_of_before_is() {
        let data = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_data(data.path());
        keep(&secrets, 1, b"hunter2", 1);
        // Goal 1 names it, goal 2 does not, and with goal 3 it comes again. Only then somebody finds the
        // time to tidy up after the first two.
        keep(&secrets, 1, b"hunter2", 3);
        retain(&secrets, &[1], 1);
        retain(&secrets, &[], 2);

        assert!(reveal(&secrets.paths(&config(1))).is_ok());
        retain(&secrets, &[1], 3);
        assert!(reveal(&secrets.paths(&config(1))).is_ok());
        // What was refused, or has been passed over, is nobody's.
        keep(&secrets, 2, b"hunter3", 4);
        retain(&secrets, &[1], 5);
        assert!(reveal(&secrets.paths(&config(2))).is_err());
    }

    #[test]
    fn what_an_agent_that_died_left_half_written_is_removed_and_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_data(data.path());
        keep(&secrets, 1, b"hunter2", 1);
        let dir = data.path().join(DIRECTORY);
        let of = |id: u128| dir.join(format!(".{}.{}", Uuid::from_u128(id), Uuid::nil().simple()));
        for left in [of(1), of(2)] {
            fs::write(&left, "hun").unwrap();
        }
        let foreign = dir.join(".notes.old");
        fs::write(&foreign, "whatever").unwrap();

        retain(&secrets, &[1], 1);

        assert!(!of(1).exists() && !of(2).exists());
        assert!(foreign.exists());
        assert!(reveal(&secrets.paths(&config(1))).is_ok());
    }

    #[test]
    fn what_could_not_be_kept_is_told_to_who_names_it_and_written_when_that_is_possible() {
        let data = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_data(data.path());
        let in_its_place = data.path().join(DIRECTORY);
        fs::write(&in_its_place, "no folder").unwrap();
        keep(&secrets, 1, b"hunter2", 1);

        let error = ErrorChain(&secrets.require(&config(1)).unwrap_err()).to_string();
        let place = data.path().display();
        assert!(
            error.starts_with(&format!(
                "the value of the secret DB_PASSWORD could not be kept: could not write {place}"
            )),
            "{error}"
        );
        fs::remove_file(in_its_place).unwrap();
        secrets.require(&config(1)).unwrap();
        assert_eq!(
            reveal(&secrets.paths(&config(1))).unwrap().into_values().next().unwrap(),
            "hunter2"
        );
        let error = secrets.require(&config(2)).unwrap_err();
        assert!(matches!(error, MissingSecret::NotHere { .. }), "{error}");
        secrets.require(&Config::default()).unwrap();
    }
}
