//! `forget-secrets`: going on where the key of the secrets is lost.

use std::collections::BTreeSet;

use cutover_common::SecretId;
use cutover_coordinator_core::{Coordinator, Event, EventKind, Setting, codec};
use cutover_runtime::clock::wall;

use super::{Failure, say};
use crate::{
    args::ForgetSecrets,
    identity::Identity,
    replay::replay,
    store::{EventStore, SledStore},
};

/// How many secrets one event names: with some 40 bytes for each far below what an event may have.
const NAMED_MAX: usize = 1_000;

/// Gives up the secrets that the key does not open, and says which have to be set anew.
///
/// # Errors
///
/// When the store is in use or damaged, the key is broken, or the disk does not take it.
pub fn forget_secrets(args: &ForgetSecrets) -> Result<(), Failure> {
    let data = &args.data.data;
    let mut store = SledStore::open(&data.join("store")).map_err(|error| Failure::of(&error))?;
    let core = replay(&store).map_err(|error| Failure::of(&error))?;
    let key = Identity::sealing_key(data).map_err(|error| Failure::of(&error))?;
    let lost: BTreeSet<SecretId> = core
        .all_sealed()
        .filter(|(id, sealed)| key.as_ref().is_none_or(|key| key.open(*id, sealed).is_err()))
        .map(|(id, _)| id)
        .collect();
    if lost.is_empty() {
        say("The key opens every secret: nothing is forgotten.");
        return Ok(());
    }
    let at = core.last_event().max(wall());
    let ids: Vec<SecretId> = lost.iter().copied().collect();
    let events: Vec<Vec<u8>> = ids
        .chunks(NAMED_MAX)
        .map(|ids| EventKind::SecretsLost { secrets: ids.iter().copied().collect() })
        .map(|kind| codec::encode(&Event { at, kind }))
        .collect();
    let last = store.last();
    store.append(last, &events).map_err(|error| Failure::of(&error))?;
    store.settle().map_err(|error| Failure::of(&error))?;
    say(&format!(
        "Forgot {} values that nobody can read. What runs keeps what it has.",
        lost.len()
    ));
    for line in to_set_anew(&core, &lost) {
        say(&line);
    }
    Ok(())
}

/// Returns what to type for each variable that had one of these.
fn to_set_anew(core: &Coordinator, lost: &BTreeSet<SecretId>) -> Vec<String> {
    let mut lines = Vec::new();
    for (environment, ..) in core.environments() {
        let scopes = core.configs(environment).into_iter().flat_map(|configs| configs.scopes());
        for (application, given) in scopes {
            let of = application.map(|name| format!(" --app {name}")).unwrap_or_default();
            let is_lost = |setting: &Setting| match setting {
                Setting::Secret { id, .. } => lost.contains(id),
                Setting::Plain(_) => false,
            };
            let names = given.iter().filter(|(_, given)| is_lost(given.setting));
            let typed = |name| format!("Set anew: cutover env secret {environment} {name}{of}");
            lines.extend(names.map(|(name, _)| typed(*name)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use cutover_common::{ApplicationName, Labels, SecretValue, Timestamp};
    use uuid::Uuid;

    use super::*;
    use crate::args::DataDir;

    fn secret(id: u128) -> SecretId {
        SecretId(Uuid::from_u128(id))
    }

    /// Makes a data directory with a secret for all applications, and one for web.
    fn begin(data: &Path) {
        let mut store = SledStore::create(&data.join("store")).unwrap();
        let names = ["localhost".to_owned()];
        let identity = Identity::init(data, &names, store.incarnation(), wall()).unwrap();
        let environment = || "prod".parse().unwrap();
        let value = SecretValue::new(b"hunter2".to_vec()).unwrap();
        let set = |application: Option<&str>, id: u128| {
            let (id, name) = (secret(id), "KEY".parse().unwrap());
            let sealed = identity.sealing.seal(id, &value);
            EventKind::EnvironmentConfigured {
                environment: environment(),
                application: application.map(|name| name.parse::<ApplicationName>().unwrap()),
                set: [(name, Setting::Secret { id, sealed })].into(),
                unset: BTreeSet::new(),
                by: String::new(),
            }
        };
        let (name, select, by) = (environment(), Labels::new(), String::new());
        let created = EventKind::EnvironmentCreated { name, select, by };
        let events = [created, set(None, 1), set(Some("web"), 2)]
            .map(|kind| codec::encode(&Event { at: Timestamp::default(), kind }));
        let last = store.last();
        store.append(last, &events).unwrap();
        store.settle().unwrap();
    }

    fn opened(data: &Path) -> Result<Coordinator, String> {
        let store = SledStore::open(&data.join("store")).map_err(|error| error.to_string())?;
        let core = replay(&store).map_err(|error| error.to_string())?;
        let opened = Identity::open(data, store.incarnation(), core.all_sealed(), wall());
        opened.map_err(|error| cutover_common::ErrorChain(&error).to_string())?;
        Ok(core)
    }

    #[test]
    fn without_the_key_there_is_no_start_before_what_it_sealed_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        begin(data);
        assert_eq!(opened(data).unwrap().all_sealed().count(), 2);
        let args = ForgetSecrets { data: DataDir { data: data.to_owned() } };
        forget_secrets(&args).unwrap();
        assert_eq!(opened(data).unwrap().all_sealed().count(), 2, "all can be read");

        fs::remove_file(data.join("identity/secrets-key.hex")).unwrap();
        let refused = opened(data).unwrap_err();
        assert!(refused.contains("SECRETS_KEY"), "{refused}");
        assert!(opened(data).is_err(), "no key was made in its place");

        forget_secrets(&args).unwrap();
        let core = opened(data).unwrap();
        assert_eq!(core.all_sealed().count(), 0);
        assert_eq!(
            to_set_anew(&core, &[secret(1), secret(2)].into()),
            [
                "Set anew: cutover env secret prod KEY",
                "Set anew: cutover env secret prod KEY --app web"
            ]
        );
    }
}
