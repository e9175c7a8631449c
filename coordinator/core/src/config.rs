//! Config of an environment: all that it ever was, so that a release that is gone back to comes
//! with what it had.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cutover_common::{ApplicationName, Config, SecretId, Timestamp, VariableName};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Where numbers go on after a restore: above any that was given since the backup, and elsewhere after
/// each restore, so that none comes to mean two things. So many seconds have passed since 2025 began;
/// nobody changes a config more often than each second.
pub(crate) fn numbers_after_restore(at: Timestamp) -> u32 {
    const BEGINNING_OF_2025: u64 = 1_735_689_600;
    let seconds = (at.unix_ms() / 1_000).saturating_sub(BEGINNING_OF_2025);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// What a variable is set to.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Setting {
    Plain(String),
    Secret { id: SecretId, sealed: Sealed },
}

impl Setting {
    /// Returns how much it adds to what is stored and sent.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Plain(value) => value.len(),
            Self::Secret { sealed, .. } => sealed.0.len(),
        }
    }
}

/// A secret's value, readable only by who has this coordinator's key. The core never looks into it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealed(pub Arc<[u8]>);

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&hex)
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        let byte = |at: usize| hex.get(at..at + 2).and_then(|it| u8::from_str_radix(it, 16).ok());
        let bytes: Option<Arc<[u8]>> = (0..hex.len()).step_by(2).map(byte).collect();
        bytes.map(Self).ok_or_else(|| D::Error::custom("a sealed secret is no hex"))
    }
}

/// One change of an environment's config.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigChange {
    /// None: for all applications that say nothing else.
    pub application: Option<ApplicationName>,
    pub set: BTreeMap<VariableName, Setting>,
    pub unset: BTreeSet<VariableName>,
    pub by: String,
    pub at: Timestamp,
}

impl ConfigChange {
    fn concerns(&self, application: &ApplicationName) -> bool {
        self.application.as_ref().is_none_or(|own| own == application)
    }

    /// Returns how much it takes where it is kept.
    fn size_bytes(&self) -> usize {
        let set = self.set.iter().map(|(name, it)| name.as_str().len() + it.size_bytes());
        let unset = self.unset.iter().map(|name| name.as_str().len());
        set.chain(unset).sum::<usize>() + self.by.len()
    }
}

/// How much a config is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Extent {
    /// The variables that are set at this moment, and what they take.
    pub(crate) variables: usize,
    pub(crate) bytes: usize,
    /// The changes that there ever were, and what they take: all are kept.
    pub(crate) changes: usize,
    pub(crate) bytes_kept: usize,
}

/// A variable that is set, with the change that set it.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    pub setting: &'a Setting,
    pub change: &'a ConfigChange,
}

/// All changes of an environment's config, by their numbers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Configs {
    /// Shared, as a simulated rollout works on a copy.
    changes: BTreeMap<u32, Arc<ConfigChange>>,
    /// Numbers go on from here, but for those that were given before it was set.
    from: u32,
    /// The values of all secrets that were ever set and can be read.
    sealed: BTreeMap<SecretId, Sealed>,
    /// How much all changes take.
    bytes_kept: usize,
}

impl Configs {
    pub(crate) fn change(&mut self, change: ConfigChange) {
        for setting in change.set.values() {
            if let Setting::Secret { id, sealed } = setting {
                self.sealed.insert(*id, sealed.clone());
            }
        }
        self.bytes_kept = self.bytes_kept.saturating_add(change.size_bytes());
        self.changes.insert(self.next(), change.into());
    }

    /// Begins those of an environment that is made after a restore, if there was one.
    pub(crate) fn beginning(from: u32) -> Self {
        Self { from, ..Self::default() }
    }

    /// Numbers go on from `from`, and far above those that there are: clocks can be wrong.
    pub(crate) fn restore(&mut self, from: u32) {
        const JUMP: u32 = 10_000;
        self.from = self.next().saturating_add(JUMP).max(from);
    }

    /// Returns whether a change has this number.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.changes.contains_key(&number)
    }

    /// Forgets values that nobody can read any more.
    pub(crate) fn lose(&mut self, secrets: &BTreeSet<SecretId>) {
        self.sealed.retain(|id, _| !secrets.contains(id));
    }

    /// Returns the number of the next change.
    pub(crate) fn next(&self) -> u32 {
        let last = self.changes.last_key_value().map_or(0, |(number, _)| *number);
        last.max(self.from).saturating_add(1)
    }

    /// Returns how much there would be after `change`.
    pub(crate) fn extent_after(&self, change: &ConfigChange) -> Extent {
        let scope = change.application.as_ref();
        let mut own: BTreeMap<&VariableName, &Setting> =
            self.given(scope, u32::MAX).into_iter().map(|(name, it)| (name, it.setting)).collect();
        own.retain(|name, _| !change.unset.contains(*name));
        own.extend(&change.set);
        let others = self.scopes().filter(|(other, _)| *other != scope);
        let others = others.flat_map(|(_, given)| given).map(|(name, it)| (name, it.setting));
        let (mut variables, mut bytes) = (0, 0);
        for (name, setting) in own.into_iter().chain(others) {
            variables += 1;
            bytes += name.as_str().len() + setting.size_bytes();
        }
        let bytes_kept = self.bytes_kept.saturating_add(change.size_bytes());
        Extent { variables, bytes, changes: self.changes.len() + 1, bytes_kept }
    }

    /// Returns the number of the newest change that concerns `application`; none if nothing is set
    /// for it.
    pub(crate) fn newest(&self, application: &ApplicationName) -> Option<u32> {
        let mut concerning = self.changes.iter().filter(|(_, it)| it.concerns(application));
        let (number, _) = concerning.next_back()?;
        (!self.of(application, *number).is_empty()).then_some(*number)
    }

    /// Returns what `application` is given by the changes up to `number`.
    pub(crate) fn of(&self, application: &ApplicationName, number: u32) -> Config {
        let mut given = self.given(None, number);
        given.extend(self.given(Some(application), number));
        let mut config = Config::default();
        for (name, Given { setting, .. }) in given {
            match setting {
                Setting::Plain(value) => drop(config.env.insert(name.clone(), value.clone())),
                Setting::Secret { id, .. } => drop(config.secrets.insert(name.clone(), *id)),
            }
        }
        config
    }

    /// Returns what is set for an application itself, or for all, by the changes up to `number`.
    pub(crate) fn given(
        &self,
        application: Option<&ApplicationName>,
        number: u32,
    ) -> BTreeMap<&VariableName, Given<'_>> {
        let mut given = BTreeMap::new();
        let changes = self.changes.range(..=number).map(|(_, change)| change);
        for change in changes.filter(|change| change.application.as_ref() == application) {
            given.retain(|name, _| !change.unset.contains(*name));
            given
                .extend(change.set.iter().map(|(name, setting)| (name, Given { setting, change })));
        }
        given
    }

    /// Returns what is set at this moment: for all applications, and for each that has its own.
    pub fn scopes(
        &self,
    ) -> impl Iterator<Item = (Option<&ApplicationName>, BTreeMap<&VariableName, Given<'_>>)> {
        let scopes: BTreeSet<Option<&ApplicationName>> =
            self.changes.values().map(|change| change.application.as_ref()).collect();
        let scopes = scopes.into_iter().map(|scope| (scope, self.given(scope, u32::MAX)));
        scopes.filter(|(_, given)| !given.is_empty())
    }

    /// Returns the sealed value of a secret; none of one that is lost.
    pub(crate) fn sealed(&self, secret: SecretId) -> Option<&Sealed> {
        self.sealed.get(&secret)
    }

    /// Returns all secrets that were ever set and are not lost, sealed.
    pub(crate) fn all_sealed(&self) -> impl Iterator<Item = (SecretId, &Sealed)> {
        self.sealed.iter().map(|(id, sealed)| (*id, sealed))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn app(name: &str) -> ApplicationName {
        name.parse().unwrap()
    }

    fn change(of: Option<&str>, set: &[(&str, &str)], unset: &[&str]) -> ConfigChange {
        let plain = |value: &str| Setting::Plain(value.to_owned());
        ConfigChange {
            application: of.map(app),
            set: set.iter().map(|(name, it)| (name.parse().unwrap(), plain(it))).collect(),
            unset: unset.iter().map(|name| name.parse().unwrap()).collect(),
            by: "ann".to_owned(),
            at: Timestamp::default(),
        }
    }

    fn shown(config: &Config) -> Vec<String> {
        config.env.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn an_application_gets_its_own_before_what_all_get_and_only_its_changes_count() {
        let mut configs = Configs::default();
        assert_eq!(configs.newest(&app("web")), None);

        configs.change(change(None, &[("LOG", "info"), ("DB", "one")], &[]));
        configs.change(change(Some("api"), &[("LOG", "debug")], &[]));
        configs.change(change(Some("web"), &[("DB", "two")], &[]));
        configs.change(change(Some("web"), &[], &["DB"]));
        configs.change(change(None, &[], &["DB", "LOG"]));

        let at = |name: &str, number| shown(&configs.of(&app(name), number));
        assert_eq!(at("web", 0), [""; 0]);
        assert_eq!(at("web", 2), ["DB=one", "LOG=info"]);
        assert_eq!(at("web", 3), ["DB=two", "LOG=info"]);
        assert_eq!(at("web", 4), ["DB=one", "LOG=info"]);
        assert_eq!(at("api", 4), ["DB=one", "LOG=debug"]);
        assert_eq!(at("web", 5), [""; 0]);
        // Nothing is set for it any more: it is deployed as it was pushed.
        assert_eq!(configs.newest(&app("web")), None);
        assert_eq!(configs.newest(&app("api")), Some(5));
        assert_eq!(configs.scopes().count(), 1);
    }

    #[test]
    fn after_a_restore_no_number_means_two_things() {
        let mut backup = Configs::default();
        backup.change(change(None, &[("A", "1")], &[]));
        let at = |seconds: u64| {
            numbers_after_restore(Timestamp::from_unix_ms(1_800_000_000_000 + seconds * 1_000))
        };

        let mut first = backup.clone();
        first.restore(at(0));
        first.change(change(None, &[("A", "2")], &[]));
        // The same backup once more, a minute later.
        let mut second = backup;
        second.restore(at(60));
        second.change(change(None, &[("A", "3")], &[]));
        // One that the backup does not have, and is made again.
        let mut again = Configs::beginning(at(60));
        again.change(change(None, &[("A", "4")], &[]));

        assert_eq!(first.newest(&app("web")), Some(at(0) + 1));
        assert_eq!(second.newest(&app("web")), Some(at(60) + 1));
        assert!(!second.has(at(0) + 1) && !again.has(1));
        assert_eq!(shown(&second.of(&app("web"), 1)), ["A=1"]);
        assert_eq!(shown(&second.of(&app("web"), at(60) + 1)), ["A=3"]);
    }

    #[test]
    fn a_secret_is_stored_sealed_and_read_again() {
        let setting = Setting::Secret {
            id: SecretId(Uuid::from_u128(7)),
            sealed: Sealed([0, 1, 0xab].into()),
        };

        let text = serde_json::to_string(&setting).unwrap();

        assert!(text.contains("0001ab"), "{text}");
        assert_eq!(serde_json::from_str::<Setting>(&text).unwrap(), setting);
        for bad in ["0", "0g", "ä"] {
            assert!(serde_json::from_str::<Sealed>(&format!("{bad:?}")).is_err(), "{bad}");
        }
    }
}
