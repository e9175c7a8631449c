//! Canary: which hosts go first, and by which steps they get traffic.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Amount, AmountSetting, InvalidSetting, echo};
use crate::{
    AllowCookie, AllowHeader, DeploySetting, ErrorChain, Permille, allow::InvalidAllow,
    duration_text, host::is_label_part,
};

/// The hosts that go first.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum CanaryHosts {
    Amount(Amount),
    /// Those with this label.
    Labelled {
        key: String,
        value: String,
    },
}

impl FromStr for CanaryHosts {
    type Err = InvalidSetting;

    /// Parses "1", "10%" or "tier=canary".
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let Some((key, value)) = text.split_once('=') else {
            return Ok(Self::Amount(Amount::parse(AmountSetting::CanaryHosts, text)?));
        };
        if is_label_part(key) && is_label_part(value) {
            return Ok(Self::Labelled { key: key.to_owned(), value: value.to_owned() });
        }
        Err(InvalidSetting::new(
            DeploySetting::CanaryHosts.name(),
            format!("{} is no label", echo(text)),
            "write a number of hosts, a percentage, or a label such as \"tier=canary\"",
        ))
    }
}

impl fmt::Display for CanaryHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(amount) => write!(f, "{amount}"),
            Self::Labelled { key, value } => write!(f, "{key}={value}"),
        }
    }
}

impl From<CanaryHosts> for String {
    fn from(hosts: CanaryHosts) -> Self {
        hosts.to_string()
    }
}

impl TryFrom<String> for CanaryHosts {
    type Error = InvalidSetting;

    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        text.parse()
    }
}

/// One step of a canary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CanaryStep {
    /// How much of the traffic of its hosts the new release gets.
    pub weight: Permille,
    /// How long it is compared before the next step.
    pub hold: Duration,
}

impl CanaryStep {
    /// Makes a step of a percentage of the traffic: 1 to 100.
    ///
    /// # Errors
    ///
    /// Refuses any other number.
    pub fn new(percent: u32, hold: Duration) -> Result<Self, InvalidSetting> {
        let weight = percent.checked_mul(10).and_then(|permille| Permille::try_from(permille).ok());
        match weight.filter(|weight| *weight > Permille::NONE) {
            Some(weight) => Ok(Self { weight, hold }),
            None => Err(InvalidSetting::new(
                DeploySetting::CanarySteps.name(),
                format!("{percent}% is no share of the traffic"),
                "write a percentage from \"1%\" to \"100%\"",
            )),
        }
    }
}

/// The steps of a canary, in their order. Never empty.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct CanarySteps(Vec<CanaryStep>);

impl CanarySteps {
    /// How many there may be: each percent once.
    pub const MAX: usize = 100;

    /// Makes a canary of these steps.
    ///
    /// # Errors
    ///
    /// Refuses none, more than [`Self::MAX`], and one that gives less traffic than the one in front.
    pub fn new(steps: Vec<CanaryStep>) -> Result<Self, InvalidSetting> {
        let refuse = |problem: &str, instead: &str| {
            InvalidSetting::new(DeploySetting::CanarySteps.name(), problem, instead)
        };
        if steps.is_empty() {
            return Err(refuse("there is no step", "write at least one, such as \"10%:5m\""));
        }
        if steps.len() > Self::MAX {
            return Err(refuse("there are too many steps", "write at most 100"));
        }
        let falls = |pair: &[CanaryStep]| matches!(pair, [one, next] if next.weight < one.weight);
        if steps.windows(2).any(falls) {
            return Err(refuse(
                "a step gives less traffic than the one in front of it",
                "write them in rising order",
            ));
        }
        Ok(Self(steps))
    }

    /// Returns the steps.
    pub fn steps(&self) -> &[CanaryStep] {
        &self.0
    }

    /// Returns how long all of them last together.
    pub fn lasts(&self) -> Duration {
        self.0.iter().map(|step| step.hold).sum()
    }
}

impl FromStr for CanarySteps {
    type Err = InvalidSetting;

    /// Parses "5%:5m,50%:10m".
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let step = |part: &str| {
            let refuse = || {
                InvalidSetting::new(
                    DeploySetting::CanarySteps.name(),
                    format!("{} is no step", echo(part)),
                    "write a share of the traffic and how long it is held, such as \"5%:5m\"",
                )
            };
            let (weight, hold) = part.trim().split_once(':').ok_or_else(refuse)?;
            let percent = weight.strip_suffix('%').and_then(super::whole).ok_or_else(refuse)?;
            let hold = duration_text::parse(hold).map_err(|_| refuse())?;
            CanaryStep::new(u32::try_from(percent).unwrap_or(u32::MAX), hold)
        };
        Self::new(text.split(',').take(Self::MAX + 1).map(step).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for CanarySteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let hold = duration_text::print(step.hold);
            write!(f, "{comma}{}%:{hold}", step.weight.get() / 10)?;
        }
        Ok(())
    }
}

impl From<CanarySteps> for String {
    fn from(steps: CanarySteps) -> Self {
        steps.to_string()
    }
}

impl TryFrom<String> for CanarySteps {
    type Error = InvalidSetting;

    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        text.parse()
    }
}

impl FromStr for AllowHeader {
    type Err = InvalidSetting;

    /// Parses "x-canary=1": the header by which a client reaches the new release on purpose.
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        named_value(text, Self::new).map_err(|why| {
            InvalidSetting::new(
                DeploySetting::CanaryHeader.name(),
                format!("{} is no header: {why}", echo(text)),
                "write its name and value, such as \"x-canary=1\"",
            )
        })
    }
}

impl FromStr for AllowCookie {
    type Err = InvalidSetting;

    /// Parses "canary=1": the cookie by which a client reaches the new release on purpose.
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        named_value(text, Self::new).map_err(|why| {
            InvalidSetting::new(
                DeploySetting::CanaryCookie.name(),
                format!("{} is no cookie: {why}", echo(text)),
                "write its name and value, such as \"canary=1\"",
            )
        })
    }
}

/// Makes something of "NAME=VALUE", or says why not.
fn named_value<T>(
    text: &str,
    make: impl FnOnce(&str, &str) -> Result<T, InvalidAllow>,
) -> Result<T, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "it has no =".to_owned())?;
    make(name, value).map_err(|error| ErrorChain(&error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<CanarySteps>().unwrap_err().to_string()
    }

    #[test]
    fn steps_are_read_and_printed() {
        let steps: CanarySteps = "5%:5m, 50%:10m".parse().unwrap();

        assert_eq!(steps.steps().len(), 2);
        assert_eq!(steps.steps()[0].weight.get(), 50);
        assert_eq!(steps.lasts(), Duration::from_secs(900));
        assert_eq!(steps.to_string(), "5%:5m,50%:10m");
    }

    #[test]
    fn steps_that_make_no_sense_are_refused_in_words() {
        assert!(refused("5%").ends_with("such as \"5%:5m\""));
        assert_eq!(
            refused("0%:5m"),
            "canary_steps: 0% is no share of the traffic; write a percentage from \"1%\" to \"100%\""
        );
        assert!(refused("50%:1m,5%:1m").contains("rising order"));
        assert!(refused("101%:1m").contains("no share"));
    }

    #[test]
    fn canary_hosts_are_a_number_a_share_or_a_label() {
        for text in ["1", "10%", "tier=canary"] {
            assert_eq!(text.parse::<CanaryHosts>().unwrap().to_string(), text);
        }
        for text in ["0", "0%", "", "=x", "a b=c"] {
            assert!(text.parse::<CanaryHosts>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_header_has_a_name_and_a_value() {
        assert_eq!(read::<AllowHeader>("x-canary=1"), "x-canary=1");
        for text in ["x-canary", "=1", "x canary=1", "x-canary="] {
            assert!(text.parse::<AllowHeader>().is_err(), "{text}");
        }
        assert_eq!(
            read::<AllowHeader>("host=1"),
            "canary_header: \"host=1\" is no header: the gate cannot look at it: header \"host\" \
             belongs to the connection or to the gate; write its name and value, such as \
             \"x-canary=1\""
        );
    }

    #[test]
    fn a_cookie_has_a_name_and_a_value() {
        assert_eq!(read::<AllowCookie>("canary=a=b"), "canary=a=b", "a value may have a =");
        assert_eq!(
            read::<AllowCookie>("canary"),
            "canary_cookie: \"canary\" is no cookie: it has no =; write its name and value, such \
             as \"canary=1\""
        );
        for text in ["", "=1", "can ary=1", "canary=", "canary=\"1\"", "canary=1; stay=2"] {
            assert!(text.parse::<AllowCookie>().is_err(), "{text}");
        }
    }

    fn read<T: FromStr<Err = InvalidSetting> + ToString>(text: &str) -> String {
        text.parse::<T>().map_or_else(|mistake| mistake.to_string(), |it| it.to_string())
    }
}
