//! How busy hosts may be.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{InvalidSetting, echo, whole};
use crate::DeploySetting;

/// How busy hosts may be, as a share of their cpus: 1 to 100 percent.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct MaxLoad(u8);

impl MaxLoad {
    /// Parses "80%".
    ///
    /// # Errors
    ///
    /// Refuses what is no percentage from 1% to 100%.
    pub fn parse(text: &str) -> Result<Self, InvalidSetting> {
        let percent = text.trim().strip_suffix('%').and_then(whole);
        let percent = percent.and_then(|percent| u8::try_from(percent).ok());
        percent.filter(|percent| (1..=100).contains(percent)).map(Self).ok_or_else(|| {
            InvalidSetting::new(
                DeploySetting::MaxLoad.name(),
                format!("{} is no share of a host's cpus", echo(text)),
                "write a percentage from \"1%\" to \"100%\", such as \"80%\"",
            )
        })
    }

    /// Returns it in thousandths.
    pub fn permille(self) -> u32 {
        u32::from(self.0) * 10
    }
}

impl FromStr for MaxLoad {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        Self::parse(text)
    }
}

impl fmt::Display for MaxLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl From<MaxLoad> for String {
    fn from(load: MaxLoad) -> Self {
        load.to_string()
    }
}

impl TryFrom<String> for MaxLoad {
    type Error = InvalidSetting;

    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_a_percentage_and_nothing_else() {
        assert_eq!(MaxLoad::parse("80%").unwrap().permille(), 800);
        for wrong in ["80", "0%", "101%", "", "%", "-1%", "1.5%"] {
            let error = MaxLoad::parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with("max_load: "), "{error}");
        }
    }
}
