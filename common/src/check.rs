//! Check: a question that a release wants asked of its canary, beside what the judge compares.
//!
//! A query is asked by the coordinator, of a server that its administrator has named; a command is
//! run on the canary's hosts by their agents, as a hook is.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    ApplicationName, CheckName, DeploySetting, InvalidSetting, SourceName, Version,
    nearest::nearest, pace::echo,
};

/// How many checks a release may declare: each is asked again and again for as long as a canary
/// lasts, on each of its hosts.
pub const CHECKS_MAX: usize = 16;

/// How long queries and commands of all checks may be together, in bytes: they are part of each
/// rollout's plan, which is one event.
pub const CHECKS_BYTES_MAX: usize = 16 * 1024;

/// How much is told of one answer, in characters: a line for people, which `why` shows.
pub const ANSWER_CHARS_MAX: usize = 300;

/// One check, as a release declares it.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Check {
    pub name: CheckName,
    pub question: Question,
    /// From one question to the next.
    pub every: Duration,
    /// How long an answer may take.
    pub within: Duration,
    /// How many answers in a row must speak against the canary to fail it.
    pub failures: u32,
}

/// What is asked.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Question {
    Metric(MetricQuestion),
    /// argv; exits with 0 where all is well, and with 1 where it is not.
    Command(Vec<String>),
}

/// A query of a metrics server, which gives one number.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct MetricQuestion {
    pub source: SourceName,
    pub query: MetricQuery,
    /// A number above it speaks against the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_above: Option<Limit>,
    /// A number below it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_below: Option<Limit>,
}

impl MetricQuestion {
    /// Says which limit `value` breaks, if it breaks one.
    pub fn broken_by(&self, value: f64) -> Option<String> {
        let above = self.fail_above.filter(|limit| value > limit.get());
        let below = self.fail_below.filter(|limit| value < limit.get());
        above
            .map(|limit| format!("{value} is above {limit}"))
            .or_else(|| below.map(|limit| format!("{value} is below {limit}")))
    }
}

impl Check {
    /// Returns its command, if it is one.
    pub fn command(&self) -> Option<CommandCheck> {
        match &self.question {
            Question::Metric(_) => None,
            Question::Command(command) => Some(CommandCheck {
                name: self.name.clone(),
                command: command.clone(),
                every: self.every,
                within: self.within,
            }),
        }
    }

    /// Returns the question of a metrics server, if it is one.
    pub const fn metric(&self) -> Option<&MetricQuestion> {
        match &self.question {
            Question::Metric(metric) => Some(metric),
            Question::Command(_) => None,
        }
    }
}

/// A check that agents run, as they need it.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct CommandCheck {
    pub name: CheckName,
    pub command: Vec<String>,
    pub every: Duration,
    pub within: Duration,
}

impl CommandCheck {
    /// How often it may be asked for, whatever a file says: not more often than a host can bear.
    pub const EVERY_MIN: Duration = Duration::from_secs(1);
}

/// A number that an answer is held against. Never NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
// As text: what is stored is the number that was read, to the last bit.
#[serde(try_from = "String", into = "String")]
pub struct Limit(f64);

// Lawful, as it is never NaN.
impl Eq for Limit {}

impl Limit {
    /// Makes a limit of a number.
    pub fn new(number: f64) -> Option<Self> {
        number.is_finite().then_some(Self(number))
    }

    /// Returns the number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl From<Limit> for String {
    fn from(limit: Limit) -> Self {
        limit.to_string()
    }
}

/// A text that is no number to compare with.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no number")]
pub struct InvalidLimit(String);

impl TryFrom<String> for Limit {
    type Error = InvalidLimit;

    fn try_from(text: String) -> Result<Self, InvalidLimit> {
        let number = text.parse().ok().and_then(Self::new);
        number.ok_or_else(|| InvalidLimit(text.chars().take(40).collect()))
    }
}

/// The text of a query, with places to fill in.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetricQuery(String);

/// Why a text is no query.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidQuery {
    #[error("is empty")]
    Empty,
    #[error("is {0} bytes long")]
    TooLong(usize),
    #[error("has a control character")]
    Control,
    #[error("names {name}, and nothing of that name is filled in")]
    Unknown { name: String, near: Option<&'static str> },
    #[error("has {{{{ without }}}}")]
    Open,
}

/// What is filled into a query. All of it is letters, digits and `.`, `_`, `-`, `+`, `~`, and `|`
/// between hosts: nothing that could end a string or a matcher.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    pub application: &'a str,
    pub environment: &'a str,
    /// As it was pushed.
    pub release: &'a str,
    /// Names of hosts, one or the other: `web-1|web-2`.
    pub canary_hosts: &'a str,
}

impl MetricQuery {
    /// The longest, in bytes: longer than what people write by hand.
    pub const BYTES_MAX: usize = 4 * 1024;
    /// The longest that is sent, once it is filled in: a canary of a hundred hosts fits well.
    pub const FILLED_BYTES_MAX: usize = 16 * 1024;
    /// What can be filled in.
    pub const NAMES: [&'static str; 4] = ["application", "environment", "release", "canary_hosts"];

    /// Returns the text, as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what is asked. None: it would be too long.
    pub fn filled(&self, filling: Filling<'_>) -> Option<String> {
        let Filling { application, environment, release, canary_hosts } = filling;
        let values = [application, environment, release, canary_hosts];
        let mut filled = String::new();
        let mut rest = self.0.as_str();
        while let Some((before, behind)) = rest.split_once("{{") {
            let (name, behind) = behind.split_once("}}")?;
            let named = Self::NAMES.iter().zip(values).find(|(known, _)| **known == name.trim());
            filled.push_str(before);
            filled.push_str(named?.1);
            rest = behind;
            if filled.len() > Self::FILLED_BYTES_MAX {
                return None;
            }
        }
        filled.push_str(rest);
        (filled.len() <= Self::FILLED_BYTES_MAX).then_some(filled)
    }
}

impl FromStr for MetricQuery {
    type Err = InvalidQuery;

    fn from_str(text: &str) -> Result<Self, InvalidQuery> {
        if text.trim().is_empty() {
            return Err(InvalidQuery::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(InvalidQuery::TooLong(text.len()));
        }
        // A query may have lines.
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err(InvalidQuery::Control);
        }
        for part in text.split("{{").skip(1) {
            let (name, _) = part.split_once("}}").ok_or(InvalidQuery::Open)?;
            if !Self::NAMES.contains(&name.trim()) {
                let near = nearest(name.trim(), Self::NAMES);
                return Err(InvalidQuery::Unknown { name: echo(name), near });
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for MetricQuery {
    type Error = InvalidQuery;

    fn try_from(text: String) -> Result<Self, InvalidQuery> {
        text.parse()
    }
}

impl From<MetricQuery> for String {
    fn from(query: MetricQuery) -> Self {
        query.0
    }
}

/// Which of a release's checks a canary is asked: "none", or their names.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct ChosenChecks(BTreeSet<CheckName>);

impl ChosenChecks {
    /// Returns whether `check` is one of them.
    pub fn contains(&self, check: &CheckName) -> bool {
        self.0.contains(check)
    }

    /// Returns their names.
    pub fn iter(&self) -> impl Iterator<Item = &CheckName> {
        self.0.iter()
    }
}

impl FromIterator<CheckName> for ChosenChecks {
    fn from_iter<I: IntoIterator<Item = CheckName>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

impl FromStr for ChosenChecks {
    type Err = InvalidSetting;

    /// Parses "none" or "error-ratio,queue".
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        if text == "none" {
            return Ok(Self::default());
        }
        let name = |part: &str| {
            part.trim().parse().map_err(|_| {
                InvalidSetting::new(
                    DeploySetting::CanaryChecks.name(),
                    format!("{} is no name of a check", echo(part)),
                    "write names of [[checks]], such as \"error-ratio,queue\", or \"none\"",
                )
            })
        };
        text.split(',').take(CHECKS_MAX + 1).map(name).collect()
    }
}

impl fmt::Display for ChosenChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let names: Vec<&str> = self.0.iter().map(CheckName::as_str).collect();
        f.write_str(&names.join(","))
    }
}

/// What one answer says of the canary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    Pass,
    Fail,
    /// It says nothing: there was no number, or the command could not tell.
    NotEnough,
}

/// What an agent tells of a check that it runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckReport {
    pub application: ApplicationName,
    /// The canary that it was run for, as the coordinator named it.
    pub canary: CanaryId,
    pub check: CheckName,
    /// How many answers there were.
    pub answers: u32,
    /// How many of the last in a row have failed; those that say nothing are left out.
    pub failing: u32,
    /// The newest.
    pub answer: Answer,
    /// For people, one line: how it ended.
    pub detail: String,
}

/// Names one comparison of a canary: the next one of the same rollout begins anew.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CanaryId {
    pub rollout: Uuid,
    pub attempt: u32,
}

/// That a release is being compared on a host, which is when its checks are run there. What they
/// are is in the release that the host's goal has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compared {
    pub application: ApplicationName,
    pub version: Version,
    pub canary: CanaryId,
    /// Those of its checks that count.
    pub checks: Vec<CheckName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_filled_in_once_and_nothing_else_is_known() {
        let filling = Filling {
            application: "web",
            environment: "production",
            release: "2.0",
            canary_hosts: "web-1|web-2",
        };
        let query: MetricQuery =
            "sum(up{app=\"{{application}}\", i=~\"{{ canary_hosts }}:.*\"}) > {{release}}"
                .parse()
                .unwrap();

        assert_eq!(
            query.filled(filling).unwrap(),
            "sum(up{app=\"web\", i=~\"web-1|web-2:.*\"}) > 2.0"
        );
        let unknown = "up{{canary_host}}".parse::<MetricQuery>().unwrap_err();
        let near = Some("canary_hosts");
        assert_eq!(unknown, InvalidQuery::Unknown { name: "\"canary_host\"".to_owned(), near });
        assert_eq!("up{{release".parse::<MetricQuery>(), Err(InvalidQuery::Open));
        assert_eq!(" ".parse::<MetricQuery>(), Err(InvalidQuery::Empty));
        let long: MetricQuery = "{{canary_hosts}}".parse().unwrap();
        let hosts = "a".repeat(MetricQuery::FILLED_BYTES_MAX + 1);
        assert_eq!(long.filled(Filling { canary_hosts: &hosts, ..filling }), None);
    }

    #[test]
    fn limits_are_numbers_and_stored_as_they_were_read() {
        for number in [0.1, -3.0, 1e300, 0.1 + 0.2] {
            let limit = Limit::new(number).unwrap();
            assert_eq!(Limit::try_from(String::from(limit)), Ok(limit));
        }
        assert_eq!(Limit::new(f64::NAN), None);
        assert!(Limit::try_from("inf".to_owned()).is_err());
    }

    #[test]
    fn a_number_breaks_the_limit_that_it_is_beyond_and_none_that_it_is_at() {
        let metric = MetricQuestion {
            source: "main".parse().unwrap(),
            query: "up".parse().unwrap(),
            fail_above: Limit::new(0.5),
            fail_below: Limit::new(0.1),
        };

        assert_eq!(metric.broken_by(0.6).unwrap(), "0.6 is above 0.5");
        assert_eq!(metric.broken_by(0.05).unwrap(), "0.05 is below 0.1");
        assert_eq!(metric.broken_by(0.5), None);
        assert_eq!(metric.broken_by(0.1), None);
    }

    #[test]
    fn checks_are_chosen_by_name() {
        for text in ["none", "a,b"] {
            assert_eq!(text.parse::<ChosenChecks>().unwrap().to_string(), text);
        }
        assert!("a,B".parse::<ChosenChecks>().is_err());
    }
}
