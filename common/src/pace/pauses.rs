//! Pauses: the batches after which a rollout waits for a person.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{InvalidSetting, echo, whole};
use crate::DeploySetting;

/// Numbers of batches, counted from 1. Never empty.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pauses(BTreeSet<u32>);

impl Pauses {
    /// How many pauses there may be: a person is asked each time.
    pub const MAX: usize = 64;

    /// Makes pauses after these batches.
    ///
    /// # Errors
    ///
    /// Refuses none, more than [`Self::MAX`], and batch 0.
    pub fn new(batches: impl IntoIterator<Item = u32>) -> Result<Self, InvalidSetting> {
        let refuse = |problem: &str, instead: &str| {
            InvalidSetting::new(DeploySetting::PauseAfter.name(), problem, instead)
        };
        let batches: BTreeSet<u32> = batches.into_iter().take(Self::MAX + 1).collect();
        if batches.is_empty() {
            return Err(refuse("the list names no batch", "write at least one, such as [1]"));
        }
        if batches.len() > Self::MAX {
            return Err(refuse("the list is too long", "write at most 64 batches"));
        }
        if batches.contains(&0) {
            return Err(refuse("0 is no batch", "count batches from 1"));
        }
        Ok(Self(batches))
    }

    /// Parses "1" or "1,3".
    ///
    /// # Errors
    ///
    /// Refuses what is no whole number, and what [`Self::new`] refuses.
    pub fn parse(text: &str) -> Result<Self, InvalidSetting> {
        let mut batches = Vec::new();
        for part in text.split(',').take(Self::MAX + 1) {
            let number = whole(part.trim()).and_then(|number| u32::try_from(number).ok());
            batches.push(number.ok_or_else(|| {
                InvalidSetting::new(
                    DeploySetting::PauseAfter.name(),
                    format!("{} is no number of a batch", echo(part)),
                    "write numbers of batches such as \"1,3\"",
                )
            })?);
        }
        Self::new(batches)
    }

    /// Returns whether the rollout waits after this batch, counted from 1.
    pub fn contains(&self, batch: u32) -> bool {
        self.0.contains(&batch)
    }

    /// Returns the last batch that is named.
    pub fn last(&self) -> u32 {
        self.0.last().copied().unwrap_or_default()
    }
}

impl FromStr for Pauses {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        Self::parse(text)
    }
}

impl fmt::Display for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, batch) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{batch}")?;
        }
        Ok(())
    }
}

impl From<Pauses> for String {
    fn from(pauses: Pauses) -> Self {
        pauses.to_string()
    }
}

impl TryFrom<String> for Pauses {
    type Error = InvalidSetting;

    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_read_in_any_order_and_printed_in_theirs() {
        let pauses = Pauses::parse("3, 1,3").unwrap();

        assert_eq!(pauses.to_string(), "1,3");
        assert!(pauses.contains(3) && !pauses.contains(2));
        assert_eq!(pauses.last(), 3);
    }

    #[test]
    fn what_is_no_batch_is_refused_in_words() {
        let refused = |text: &str| Pauses::parse(text).unwrap_err().to_string();

        assert_eq!(refused("0"), "pause_after: 0 is no batch; count batches from 1");
        assert_eq!(
            refused("first"),
            "pause_after: \"first\" is no number of a batch; write numbers of batches such as \
             \"1,3\""
        );
        let many: Vec<String> = (1..=65).map(|number| number.to_string()).collect();
        assert!(refused(&many.join(",")).contains("at most 64"));
    }
}
