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

/// Names one release of an application. Compared as text: Cutover orders nothing by it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "String")]
pub struct Version(Arc<str>);

impl Version {
    /// Returns the checked text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let is_inner = |b: u8| b.is_ascii_alphanumeric() || b".-_+".contains(&b);
        let begins_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if begins_well && text.len() <= 64 && text.bytes().all(is_inner) {
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
    fn an_error_repeats_only_the_beginning_of_a_long_text() {
        let error = "x".repeat(1_000_000).parse::<Version>().unwrap_err();

        assert!(error.to_string().len() < 300);
    }
}
