//! What the arguments are made of: each is parsed once, here, and is a type from then on.

use std::{collections::BTreeMap, convert::Infallible, fmt, str::FromStr, time::Duration};

use cutover_common::{
    ApplicationName, Labels, ReleaseRef, Sha256, Timestamp, VariableName,
    config::InvalidVariableName, duration_text, host::is_label_part, name::InvalidName,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Why an argument is not what it should be. Says what it should look like.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidValue {
    #[error("write it as https://HOST:PORT, such as https://deploy.example.com:7441")]
    Url,
    #[error("write it as sha256: and 64 lower-case hex digits")]
    CaHash,
    #[error("write it as APP@VERSION, such as web@1.4.0")]
    ReleaseForm,
    #[error(transparent)]
    ReleaseApplication(InvalidName),
    #[error(transparent)]
    ReleaseVersion(cutover_common::name::InvalidVersion),
    #[error("write it as KEY=VALUE, each 1 to 63 printable characters without space, '=' and ','")]
    Label,
    #[error("write it as KEY=VALUE to set it, or KEY- to take it away")]
    LabelChange,
    #[error("write it as NAME=VALUE to set it, or NAME- to take it away")]
    VariableChange,
    #[error(transparent)]
    Variable(#[from] InvalidVariableName),
    #[error("label {0:?} is given twice")]
    LabelTwice(String),
    #[error(
        "write it as a rollout's id, at least its first 8 characters, or an application's name"
    )]
    Rollout,
    #[error("write it as a moment with its offset from UTC, such as 2026-12-27T08:00:00Z")]
    Moment,
}

/// `NAME=VALUE`, or `NAME-`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum VariableChange {
    Set(VariableName, String),
    Unset(VariableName),
}

impl FromStr for VariableChange {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if let Some((name, value)) = text.split_once('=') {
            return Ok(Self::Set(name.parse()?, value.to_owned()));
        }
        let name = text.strip_suffix('-').ok_or(InvalidValue::VariableChange)?;
        Ok(Self::Unset(name.parse()?))
    }
}

/// A moment, written as RFC 3339 has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moment(pub Timestamp);

impl FromStr for Moment {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidValue::Moment)?;
        let ms = u64::try_from(moment.unix_timestamp_nanos() / 1_000_000);
        Ok(Self(Timestamp::from_unix_ms(ms.map_err(|_| InvalidValue::Moment)?)))
    }
}

/// A text that is never shown: neither by `Debug` nor by an error.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Returns the text, to send or store it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    // Never fails: clap repeats a refused value in its error.
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `https://HOST:PORT` of a coordinator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CoordinatorUrl(String);

impl CoordinatorUrl {
    /// Returns the address, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CoordinatorUrl {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let uri: http::Uri = text.parse().map_err(|_| InvalidValue::Url)?;
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        let is_bare = uri.path() == "/" && uri.query().is_none();
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if uri.scheme_str() != Some("https") || !has_host || !is_bare || has_user {
            return Err(InvalidValue::Url);
        }
        // A port is asked for: without one it would be 443, which no coordinator listens on.
        uri.port_u16().ok_or(InvalidValue::Url)?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for CoordinatorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `sha256:HASH` of a coordinator's CA.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CaHash(pub Sha256);

impl FromStr for CaHash {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let hex = text.strip_prefix("sha256:").ok_or(InvalidValue::CaHash)?;
        hex.parse().map(Self).map_err(|_| InvalidValue::CaHash)
    }
}

/// `APP@VERSION`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReleaseArg(pub ReleaseRef);

impl FromStr for ReleaseArg {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (application, version) = text.split_once('@').ok_or(InvalidValue::ReleaseForm)?;
        Ok(Self(ReleaseRef {
            application: application.parse().map_err(InvalidValue::ReleaseApplication)?,
            version: version.parse().map_err(InvalidValue::ReleaseVersion)?,
        }))
    }
}

/// `KEY=VALUE`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Label {
    pub key: String,
    pub value: String,
}

impl FromStr for Label {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (key, value) = text.split_once('=').ok_or(InvalidValue::Label)?;
        if !is_label_part(key) || !is_label_part(value) {
            return Err(InvalidValue::Label);
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Puts labels into one map.
///
/// # Errors
///
/// Refuses a key that is given twice: which of the two counts would be a guess.
pub fn collect_labels(labels: impl IntoIterator<Item = Label>) -> Result<Labels, InvalidValue> {
    let mut map = BTreeMap::new();
    for Label { key, value } in labels {
        if map.insert(key.clone(), value).is_some() {
            return Err(InvalidValue::LabelTwice(key));
        }
    }
    Ok(map)
}

/// `KEY=VALUE,KEY=VALUE`: the labels that an agent must have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selector(pub Labels);

impl FromStr for Selector {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let labels: Vec<Label> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
        collect_labels(labels).map(Self)
    }
}

/// `KEY=VALUE` or `KEY-`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LabelChange {
    Set(Label),
    Unset(String),
}

impl LabelChange {
    /// Returns the label that it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Set(label) => &label.key,
            Self::Unset(key) => key,
        }
    }
}

impl FromStr for LabelChange {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text.contains('=') {
            return text.parse().map(Self::Set);
        }
        let key = text.strip_suffix('-').ok_or(InvalidValue::LabelChange)?;
        if !is_label_part(key) {
            return Err(InvalidValue::LabelChange);
        }
        Ok(Self::Unset(key.to_owned()))
    }
}

/// A rollout as an operator names it: an id, its beginning, or an application.
///
/// The coordinator decides which: an application may be called `deadbeef`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RolloutArg(String);

impl RolloutArg {
    /// Returns what was typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RolloutArg {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        // An application's name is a superset of an id and of its beginnings, but for a hyphen
        // at the end of a beginning.
        let name = text.strip_suffix('-').unwrap_or(text);
        name.parse::<ApplicationName>().map_err(|_| InvalidValue::Rollout)?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RolloutArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses how long to wait.
///
/// # Errors
///
/// Refuses what is no duration.
pub fn parse_timeout(text: &str) -> Result<Duration, duration_text::InvalidDuration> {
    duration_text::parse(text)
}
