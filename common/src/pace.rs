//! Pace and size expressions: "3", "25%" and the ramp "1,5,20%", with the one place that rounds.
//!
//! Whether a count fits a fleet is judged where the fleet is known, when the plan is made.

mod canary;
mod judge;
mod load;
mod pauses;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::{
    canary::{CanaryHosts, CanaryStep, CanarySteps},
    judge::{JudgeSetting, JudgedLimit, JudgedMetric},
    load::MaxLoad,
    pauses::Pauses,
};
use crate::DeploySetting;

/// Why a deploy setting is refused: what is wrong with its text, and what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{setting}: {problem}; {instead}")]
pub struct InvalidSetting {
    setting: &'static str,
    problem: String,
    instead: String,
}

impl InvalidSetting {
    /// Names the setting, says what is wrong, and what to write instead.
    pub fn new(
        setting: &'static str,
        problem: impl Into<String>,
        instead: impl Into<String>,
    ) -> Self {
        Self { setting, problem: problem.into(), instead: instead.into() }
    }

    /// Returns the setting's name, as in `cutover.toml` and, with hyphens, on the command line.
    pub const fn setting(&self) -> &'static str {
        self.setting
    }

    /// Returns what is wrong.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// Returns what to write instead.
    pub fn instead(&self) -> &str {
        &self.instead
    }
}

/// A setting whose value is an [`Amount`]. It decides how the amount rounds, and if 0 is allowed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum AmountSetting {
    /// How many hosts move together.
    Batch,
    /// How many hosts go first.
    CanaryHosts,
    /// How many instances must stay healthy.
    MinHealthy,
    /// How many instances must stay healthy in each zone.
    ZoneMinHealthy,
    /// How many failed hosts a rollout may have before it stops.
    MaxFailed,
    /// How many unreachable hosts a rollout may have before it stops.
    MaxUnreachable,
}

impl AmountSetting {
    /// Returns the name, as in `cutover.toml`.
    pub const fn name(self) -> &'static str {
        let setting = match self {
            Self::Batch => DeploySetting::Batch,
            Self::CanaryHosts => DeploySetting::CanaryHosts,
            Self::MinHealthy => DeploySetting::MinHealthy,
            Self::ZoneMinHealthy => DeploySetting::ZoneMinHealthy,
            Self::MaxFailed => DeploySetting::MaxFailed,
            Self::MaxUnreachable => DeploySetting::MaxUnreachable,
        };
        setting.name()
    }

    const fn allows_zero(self) -> bool {
        match self {
            // A batch of no hosts never ends, and a canary of none proves nothing.
            Self::Batch | Self::CanaryHosts => false,
            Self::MinHealthy | Self::ZoneMinHealthy | Self::MaxFailed | Self::MaxUnreachable => {
                true
            }
        }
    }
}

/// A number of hosts, or a share of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Amount {
    Count(u32),
    /// 0 to 100.
    Percent(u8),
}

impl Amount {
    /// Parses "3" or "25%" for `setting`.
    ///
    /// # Errors
    ///
    /// Refuses signs, fractions, more than 100%, and 0 where it is not allowed; the error says
    /// what to write.
    pub fn parse(setting: AmountSetting, text: &str) -> Result<Self, InvalidSetting> {
        let text = text.trim();
        let amount = match text.strip_suffix('%') {
            Some(number) => {
                let percent = whole(number).ok_or_else(|| not_an_amount(setting, text))?;
                let percent = u8::try_from(percent).ok().filter(|percent| *percent <= 100);
                Self::Percent(percent.ok_or_else(|| {
                    InvalidSetting::new(
                        setting.name(),
                        format!("{} is more than all hosts", echo(text)),
                        "write a percentage up to \"100%\"",
                    )
                })?)
            }
            None => {
                let count = whole(text).ok_or_else(|| not_an_amount(setting, text))?;
                Self::Count(u32::try_from(count).map_err(|_| {
                    InvalidSetting::new(
                        setting.name(),
                        format!("{} is more hosts than a fleet can have", echo(text)),
                        "write the number of hosts, or a percentage such as \"25%\"",
                    )
                })?)
            }
        };
        amount.allowed_in(setting)
    }

    /// Returns how many of `total` hosts this is.
    ///
    /// A batch rounds down, but is at least 1 and at most `total`; `min_healthy` rounds up, so
    /// that the floor is never lower than was asked; budgets round down, so that they are never
    /// larger. Counts other than a batch's are returned as they are, even when above `total`:
    /// the plan refuses them with the numbers.
    pub fn of(self, setting: AmountSetting, total: u32) -> u32 {
        match setting {
            AmountSetting::Batch | AmountSetting::CanaryHosts => {
                self.rounded_down(total).max(1).min(total)
            }
            AmountSetting::MinHealthy | AmountSetting::ZoneMinHealthy => self.rounded_up(total),
            AmountSetting::MaxFailed | AmountSetting::MaxUnreachable => self.rounded_down(total),
        }
    }

    pub(crate) fn allowed_in(self, setting: AmountSetting) -> Result<Self, InvalidSetting> {
        let is_zero = matches!(self, Self::Count(0) | Self::Percent(0));
        if is_zero && !setting.allows_zero() {
            return Err(InvalidSetting::new(
                setting.name(),
                format!("{self} moves no host, and would never finish"),
                "write at least 1, or a percentage from \"1%\"",
            ));
        }
        Ok(self)
    }

    fn rounded_down(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => share(u64::from(total) * u64::from(percent) / 100),
        }
    }

    fn rounded_up(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => share((u64::from(total) * u64::from(percent)).div_ceil(100)),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl From<Amount> for String {
    fn from(amount: Amount) -> Self {
        amount.to_string()
    }
}

impl TryFrom<String> for Amount {
    type Error = InvalidSetting;

    /// Reads what is stored, where the setting is not at hand: 0 passes.
    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        Self::parse(AmountSetting::MaxFailed, &text)
    }
}

/// The sizes of a rollout's batches: a ramp whose last step repeats. Never empty, no step is 0.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Batches(Vec<Amount>);

impl Batches {
    /// The longest ramp. Doubling from 1, half of it covers any fleet.
    pub const STEPS_MAX: usize = 64;

    /// Makes a ramp of these steps.
    ///
    /// # Errors
    ///
    /// Refuses no steps, more than [`Self::STEPS_MAX`], and a step of 0.
    pub fn new(steps: Vec<Amount>) -> Result<Self, InvalidSetting> {
        let name = AmountSetting::Batch.name();
        if steps.is_empty() {
            let instead = "write at least one, such as [1, 5, \"20%\"]";
            return Err(InvalidSetting::new(name, "the list has no sizes", instead));
        }
        if steps.len() > Self::STEPS_MAX {
            let problem = format!("the list has {} sizes", steps.len());
            let instead = format!("write at most {}; the last one repeats", Self::STEPS_MAX);
            return Err(InvalidSetting::new(name, problem, instead));
        }
        for step in &steps {
            step.allowed_in(AmountSetting::Batch)?;
        }
        Ok(Self(steps))
    }

    /// Parses "5", "25%" or "1,5,20%".
    ///
    /// # Errors
    ///
    /// Refuses what [`Self::new`] refuses, and what [`Amount::parse`] refuses in any step.
    pub fn parse(text: &str) -> Result<Self, InvalidSetting> {
        let mut steps = Vec::new();
        // One more than allowed, so that `new` can refuse it without reading the rest.
        for step in text.split(',').take(Self::STEPS_MAX + 1) {
            steps.push(Amount::parse(AmountSetting::Batch, step)?);
        }
        Self::new(steps)
    }

    /// Returns the ramp's steps.
    pub fn steps(&self) -> &[Amount] {
        &self.0
    }

    /// Returns the size of each batch, in order, covering exactly `total` hosts.
    ///
    /// Percentages are of `total`, not of the rest. No size is 0; no hosts, no batches.
    pub fn sizes(&self, total: u32) -> Vec<u32> {
        let mut sizes = Vec::new();
        let mut rest = total;
        let mut steps = self.0.iter();
        let mut size = 1;
        while rest > 0 {
            if let Some(step) = steps.next() {
                size = step.of(AmountSetting::Batch, total);
            }
            sizes.push(size.min(rest));
            rest = rest.saturating_sub(size);
        }
        sizes
    }
}

impl FromStr for Batches {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        Self::parse(text)
    }
}

impl fmt::Display for Batches {
    /// Prints the ramp as [`Batches::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{step}")?;
        }
        Ok(())
    }
}

impl From<Batches> for String {
    fn from(batches: Batches) -> Self {
        batches.to_string()
    }
}

impl TryFrom<String> for Batches {
    type Error = InvalidSetting;

    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        Self::parse(&text)
    }
}

/// How much of a refused text an error repeats, in characters: enough to recognise it.
const ECHO_MAX: usize = 40;

/// Returns the beginning of a refused text, quoted.
pub(crate) fn echo(text: &str) -> String {
    format!("{:?}", text.chars().take(ECHO_MAX).collect::<String>())
}

/// Reads digits and nothing else. A number too large for the type reads as the largest.
fn whole(digits: &str) -> Option<u64> {
    let is_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_digits.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn not_an_amount(setting: AmountSetting, text: &str) -> InvalidSetting {
    let problem = if text.starts_with('-') {
        format!("{} is below zero", echo(text))
    } else {
        format!("{} is neither a whole number nor a whole percentage", echo(text))
    };
    InvalidSetting::new(
        setting.name(),
        problem,
        "write a number of hosts such as 3, or a percentage such as \"25%\"",
    )
}

/// Narrows a share of a `u32`, which fits as no share is above 100%.
fn share(hosts: u64) -> u32 {
    u32::try_from(hosts).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
