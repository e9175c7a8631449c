//! Checked text: names of agents, applications and environments, and versions. They are handed
//! around everywhere, so that a copy shares the text.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

/// Why a text is no name. Its message says what a name looks like.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{kind} {text:?} must be 1 to 63 lower-case letters, digits or hyphens, \
     and begin and end with a letter or digit"
)]
pub struct InvalidName {
    kind: &'static str,
    text: String,
}

/// Why a text is no version.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "version {0:?} must be 1 to 64 letters, digits, dots, hyphens, underscores or plus signs, \
     and begin with a letter or digit"
)]
pub struct InvalidVersion(String);

/// How much of a refused text an error repeats, in characters: enough to recognise it.
const ECHO_MAX: usize = 80;

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let is_edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    bytes.len() <= 63
        && bytes.iter().all(is_inner)
        && is_edge(bytes.first())
        && is_edge(bytes.last())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Returns the checked text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if is_name(text) {
                    return Ok(Self(text.into()));
                }
                Err(InvalidName { kind: $kind, text: text.chars().take(ECHO_MAX).collect() })
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.as_str().to_owned()
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// Names an agent, and with it its host. Unique in a fleet.
    AgentName,
    "agent name"
);
name!(
    /// Names an application.
    ApplicationName,
    "application name"
);
name!(
    /// Names an environment.
    EnvironmentName,
    "environment name"
);
name!(
    /// Names a check that a release declares.
    CheckName,
    "check name"
);
name!(
    /// Names a metrics server that the coordinator may ask.
    SourceName,
    "source name"
);

/// Names one release of an application. Compared as text: Cutover orders nothing by it.
///
/// As it was pushed, `2.0`; with the config of an environment, of which it is the third,
/// `2.0~production.3`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "String")]
pub struct Version(Arc<str>);

impl Version {
    /// Returns the checked text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns this version with an environment's config of that number, in place of any other.
    pub fn with_config(&self, environment: &EnvironmentName, number: u32) -> Self {
        let pushed = self.as_pushed();
        Self(format!("{pushed}~{environment}.{number}").into())
    }

    /// Returns the text of the version as it was pushed.
    pub fn as_pushed(&self) -> &str {
        self.0.split_once('~').map_or(&*self.0, |(pushed, _)| pushed)
    }

    /// Returns the version as it was pushed.
    pub fn pushed(&self) -> Self {
        if self.config().is_none() { self.clone() } else { Self(self.as_pushed().into()) }
    }

    /// Returns the environment whose config it has, and the number of that.
    pub fn config(&self) -> Option<(&str, u32)> {
        let (environment, number) = self.0.split_once('~')?.1.split_once('.')?;
        Some((environment, number.parse().ok()?))
    }
}

/// Returns whether `text` is an environment with a number from 1, in the one way it is written.
fn is_config(text: &str) -> bool {
    text.split_once('.').is_some_and(|(environment, number)| {
        let parsed = number.parse::<u32>().ok();
        is_name(environment) && parsed.is_some_and(|it| it > 0 && it.to_string() == number)
    })
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let is_inner = |b: u8| b.is_ascii_alphanumeric() || b".-_+".contains(&b);
        let (pushed, config) = match text.split_once('~') {
            Some((pushed, config)) => (pushed, Some(config)),
            None => (text, None),
        };
        let begins_well = pushed.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if begins_well
            && pushed.len() <= 64
            && pushed.bytes().all(is_inner)
            && config.is_none_or(is_config)
        {
            return Ok(Self(text.into()));
        }
        Err(InvalidVersion(text.chars().take(ECHO_MAX).collect()))
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.as_str().to_owned()
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label() {
        for good in ["a", "web", "web-1", "9", &"a".repeat(63)] {
            assert!(good.parse::<AgentName>().is_ok(), "{good}");
        }
        // promises.md §4 row 1.
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a/b",
            "..",
            "a\n",
            "a\0",
            "ä",
            "\u{202e}a",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_version_stays_text() {
        for good in ["1.10", "v2", "1e3", "2026-11-23_r1", "1.0.0+build.5"] {
            assert_eq!(good.parse::<Version>().unwrap().as_str(), good);
        }
        for bad in ["", ".1", "-1", "1/2", "1 2", "../x", "1\n", &"1".repeat(65)] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_version_may_have_the_config_of_an_environment() {
        let pushed: Version = "2.0".parse().unwrap();

        let third = pushed.with_config(&"production".parse().unwrap(), 3);

        assert_eq!(third.as_str(), "2.0~production.3");
        assert_eq!(third.as_str().parse(), Ok(third.clone()));
        assert_eq!((third.pushed(), pushed.pushed()), (pushed.clone(), pushed.clone()));
        assert_eq!(third.config(), Some(("production", 3)));
        assert_eq!(pushed.config(), None);
        assert_eq!(third.with_config(&"eu".parse().unwrap(), 4).as_str(), "2.0~eu.4");
        for bad in [
            "2~",
            "2~p",
            "2~p.",
            "2~p.0",
            "2~p.01",
            "2~p.1.2",
            "2~P.1",
            "2~p.x",
            "~p.1",
            "2~p.4294967296",
        ] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_repeats_only_the_beginning_of_a_long_text() {
        let error = "x".repeat(1_000_000).parse::<Version>().unwrap_err();

        assert!(error.to_string().len() < 300);
    }
}
