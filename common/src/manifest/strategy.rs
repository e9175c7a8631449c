//! Strategies, and the words of their settings.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{DeploySetting, InvalidSetting, nearest::nearest, pace::echo};

/// Who says that a canary was good enough.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// The judge.
    #[default]
    Auto,
    /// A person, after the judge.
    Manual,
}

impl FromStr for Promotion {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let name = DeploySetting::CanaryPromote.name();
        one_of(name, text, [("auto", Self::Auto), ("manual", Self::Manual)])
    }
}

impl fmt::Display for Promotion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Manual => "manual",
        })
    }
}

/// What follows when there is not enough evidence to judge a canary.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsure {
    /// It is compared for longer; after `progress_within` a person decides.
    #[default]
    Wait,
    /// It counts as good.
    Pass,
    /// It counts as worse.
    Fail,
}

impl FromStr for Unsure {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let words = [("wait", Self::Wait), ("pass", Self::Pass), ("fail", Self::Fail)];
        one_of(DeploySetting::CanaryUnsure.name(), text, words)
    }
}

impl fmt::Display for Unsure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Wait => "wait",
            Self::Pass => "pass",
            Self::Fail => "fail",
        })
    }
}

/// What becomes of a host that is out of reach for long.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreachable {
    /// It is waited for; after `progress_within` a person decides.
    Wait,
    /// As many as `max_unreachable` are left out, and get the release when they are back. More are
    /// waited for.
    #[default]
    Skip,
    /// Where more than `max_unreachable` are, the next one counts as failed.
    Fail,
}

impl FromStr for Unreachable {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let words = [("wait", Self::Wait), ("skip", Self::Skip), ("fail", Self::Fail)];
        one_of(DeploySetting::Unreachable.name(), text, words)
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Wait => "wait",
            Self::Skip => "skip",
            Self::Fail => "fail",
        })
    }
}

/// How clients are led from one release to the other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CutoverMode {
    /// All gates hold what is new until nothing is under way at the old release: no request gets the
    /// old one after one got the new one.
    #[default]
    Strict,
    /// Each gate leads to the new one as soon as it hears of it.
    Relaxed,
}

impl FromStr for CutoverMode {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let name = DeploySetting::Cutover.name();
        one_of(name, text, [("strict", Self::Strict), ("relaxed", Self::Relaxed)])
    }
}

impl fmt::Display for CutoverMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Strict => "strict",
            Self::Relaxed => "relaxed",
        })
    }
}

fn one_of<T: Copy, const N: usize>(
    setting: &'static str,
    text: &str,
    words: [(&str, T); N],
) -> Result<T, InvalidSetting> {
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let words = words.map(|(word, _)| echo(word)).join(" or ");
        let problem = format!("{} is not one of its words", echo(text));
        InvalidSetting::new(setting, problem, format!("write {words}"))
    })
}

/// How a rollout moves through its hosts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// One wave a batch.
    Rolling,
    /// A small wave that gets traffic step by step and is judged, then the rest as rolling.
    Canary,
    /// The new release starts everywhere, then clients are led to it at one moment.
    BlueGreen,
    /// One wave.
    AllAtOnce,
    /// Rolling, with the release that runs: each instance is replaced by a new one of the same.
    Restart,
}

impl Strategy {
    /// All of them, in the order to list.
    pub const ALL: [Self; 5] =
        [Self::Rolling, Self::Canary, Self::BlueGreen, Self::AllAtOnce, Self::Restart];

    /// Returns the name, as in `cutover.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Canary => "canary",
            Self::BlueGreen => "blue_green",
            Self::AllAtOnce => "all_at_once",
            Self::Restart => "restart",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Strategy {
    type Err = InvalidSetting;

    /// Parses a name, with underscores as in the file or hyphens as on the command line.
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let name = text.replace('-', "_");
        if let Some(strategy) = Self::ALL.into_iter().find(|strategy| strategy.name() == name) {
            return Ok(strategy);
        }
        let names = Self::ALL.map(Self::name);
        let write_one = || format!("write one of {}", names.map(echo).join(", "));
        let instead =
            nearest(&name, names).map_or_else(write_one, |name| format!("write {name:?}"));
        Err(InvalidSetting::new("strategy", format!("{} is no strategy", echo(text)), instead))
    }
}
