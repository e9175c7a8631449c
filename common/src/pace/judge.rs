//! What is said of the judge of a canary: "false_alarms=0.5%,errors=2x+0.5%,memory=off".

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{InvalidSetting, echo};
use crate::{DeploySetting, duration_text, size_text};

const MIB: u64 = 1024 * 1024;

/// What a canary is compared in with the old release.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum JudgedMetric {
    Errors,
    Latency,
    Restarts,
    Memory,
    LogLines,
}

impl JudgedMetric {
    pub const ALL: [Self; 5] =
        [Self::Errors, Self::Latency, Self::Restarts, Self::Memory, Self::LogLines];

    /// Returns its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Restarts => "restarts",
            Self::Memory => "memory",
            Self::LogLines => "log_lines",
        }
    }

    /// Returns what to write, with its bounds.
    const fn instead(self) -> &'static str {
        match self {
            Self::Errors => {
                "write \"off\", a ratio from \"1.05x\" to \"50x\", more of the requests from \"+0%\" \
                 to \"+100%\", or both: \"1.5x+0.1%\""
            }
            Self::Latency => {
                "write \"off\", a ratio from \"1.05x\" to \"50x\", more time from \"+0s\" to \
                 \"+1s\", or both: \"1.25x+5ms\""
            }
            Self::Restarts => {
                "write \"off\", a ratio from \"1.05x\" to \"50x\", more for each host and hour from \
                 \"+0\" to \"+1000\", or both: \"3x+1\""
            }
            Self::Memory => {
                "write \"off\", a ratio from \"1.05x\" to \"50x\", more from \"+1MiB\" to \"+4GiB\", \
                 or both: \"1.5x+32MiB\""
            }
            Self::LogLines => {
                "write \"off\", a ratio from \"1.05x\" to \"50x\", more for each host and minute \
                 from \"+0\" to \"+1000\", or both: \"3x+1\""
            }
        }
    }

    /// Parses a difference, as millionths of the unit that the judge counts in.
    fn difference(self, text: &str) -> Option<u32> {
        let millionths = match self {
            Self::Errors => ppm(text, &(0..=1_000_000))?.into(),
            Self::Latency => {
                let more = duration_text::parse(text).ok().filter(|it| *it <= LATENCY_MAX)?;
                u64::try_from(more.as_millis()).ok()? * 1_000_000
            }
            Self::Memory => {
                let bytes = size_text::parse(text).ok().filter(|it| *it <= MEMORY_MAX)?;
                let mib = bytes / MIB;
                if mib == 0 || mib * MIB != bytes {
                    return None;
                }
                mib * 1_000_000
            }
            Self::Restarts | Self::LogLines => {
                decimal(text, 6).filter(|it| *it <= COUNT_MAX_MILLIONTHS)?
            }
        };
        u32::try_from(millionths).ok()
    }

    fn print_difference(self, millionths: u32) -> String {
        match self {
            Self::Errors => format!("{}%", print_decimal(millionths, 4)),
            Self::Latency => {
                duration_text::print(Duration::from_millis((millionths / 1_000_000).into()))
            }
            Self::Memory => size_text::print(u64::from(millionths / 1_000_000) * MIB),
            Self::Restarts | Self::LogLines => print_decimal(millionths, 6),
        }
    }
}

const LATENCY_MAX: Duration = Duration::from_secs(1);
/// Its millionths of a MiB are still a number that is stored.
const MEMORY_MAX: u64 = 4 * 1024 * MIB;
const COUNT_MAX_MILLIONTHS: u64 = 1_000 * 1_000_000;
/// Below, the canary and its control would differ by how latencies are cut into buckets.
const RATIO_THOUSANDTHS: RangeInclusive<u64> = 1_050..=50_000;

/// When a metric of the canary is bad enough to fail it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JudgedLimit {
    /// It is not judged.
    Off,
    /// What is not said has the judge's default.
    From {
        /// How many times the old release's value it must be.
        ratio_thousandths: Option<u32>,
        /// How much more it must be, in millionths of the metric's unit.
        difference_millionths: Option<u32>,
    },
}

/// What is said of the judge; what is not has its default.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct JudgeSetting {
    /// How often a rollout of a release that is no worse may be stopped, in millionths.
    pub false_alarms_ppm: Option<u32>,
    /// How far hosts of one release are expected to differ, in millionths.
    pub host_spread_ppm: Option<u32>,
    /// How many requests each side must have had.
    pub requests_min: Option<u32>,
    /// For how long each side must have been watched.
    pub watched_min: Option<Duration>,
    pub limits: BTreeMap<JudgedMetric, JudgedLimit>,
}

impl JudgeSetting {
    /// The keys, in the order to show.
    pub const KEYS: [&'static str; 9] = [
        "false_alarms",
        "host_spread",
        "requests_min",
        "watched_min",
        "errors",
        "latency",
        "restarts",
        "memory",
        "log_lines",
    ];

    /// Says `text` of `key`.
    ///
    /// # Errors
    ///
    /// Refuses a key that there is not, and a value out of its bounds.
    pub fn say(&mut self, key: &str, text: &str) -> Result<(), InvalidSetting> {
        let text = text.trim();
        let refuse = |instead: &str| refused(format!("{} is no {key}", echo(text)), instead);
        match key {
            "false_alarms" => {
                let read = ppm(text, &(1..=200_000));
                let instead = "write a percentage from \"0.0001%\" to \"20%\"";
                self.false_alarms_ppm = Some(read.ok_or_else(|| refuse(instead))?);
            }
            "host_spread" => {
                let read = ppm(text, &(0..=1_000_000));
                let instead = "write a percentage from \"0%\" to \"100%\"";
                self.host_spread_ppm = Some(read.ok_or_else(|| refuse(instead))?);
            }
            "requests_min" => {
                let read = decimal(text, 0).filter(|it| (1..=1_000_000).contains(it));
                let read = read.and_then(|it| u32::try_from(it).ok());
                let instead = "write a whole number from 1 to 1000000";
                self.requests_min = Some(read.ok_or_else(|| refuse(instead))?);
            }
            "watched_min" => {
                let range = Duration::from_secs(1)..=duration_text::LONGEST;
                let read = duration_text::parse(text).ok().filter(|it| range.contains(it));
                let instead = "write a duration from \"1s\" to \"24h\"";
                self.watched_min = Some(read.ok_or_else(|| refuse(instead))?);
            }
            _ => {
                let metric = JudgedMetric::ALL.into_iter().find(|metric| metric.name() == key);
                let metric = metric.ok_or_else(|| {
                    let instead = format!("write one of {}", Self::KEYS.join(", "));
                    refused(format!("{} is nothing that the judge knows", echo(key)), instead)
                })?;
                let read = limit(metric, text).ok_or_else(|| refuse(metric.instead()))?;
                self.limits.insert(metric, read);
            }
        }
        Ok(())
    }

    /// Returns it, if it leaves something to be judged.
    ///
    /// # Errors
    ///
    /// Refuses to have every metric off.
    pub fn checked(self) -> Result<Self, InvalidSetting> {
        let is_off = |metric| self.limits.get(&metric) == Some(&JudgedLimit::Off);
        if JudgedMetric::ALL.into_iter().all(is_off) {
            let instead = "leave one of them in, or use strategy \"rolling\" with a soak";
            return Err(refused("every metric is off, so nothing is judged".to_owned(), instead));
        }
        Ok(self)
    }
}

fn refused(problem: String, instead: impl Into<String>) -> InvalidSetting {
    InvalidSetting::new(DeploySetting::CanaryJudge.name(), problem, instead)
}

/// Parses "off", "2x", "+5ms" or "2x+5ms".
fn limit(metric: JudgedMetric, text: &str) -> Option<JudgedLimit> {
    if text == "off" {
        return Some(JudgedLimit::Off);
    }
    let (ratio, difference) = match text.split_once('+') {
        Some((ratio, difference)) => (ratio.trim(), Some(difference.trim())),
        None => (text, None),
    };
    let ratio_thousandths = match ratio {
        "" => None,
        ratio => {
            let thousandths = decimal(ratio.strip_suffix('x')?, 3)?;
            let is_in = RATIO_THOUSANDTHS.contains(&thousandths);
            Some(u32::try_from(thousandths).ok().filter(|_| is_in)?)
        }
    };
    let difference_millionths = match difference {
        None => None,
        Some(text) => Some(metric.difference(text)?),
    };
    let is_said = ratio_thousandths.is_some() || difference_millionths.is_some();
    is_said.then_some(JudgedLimit::From { ratio_thousandths, difference_millionths })
}

/// Parses a percentage as millionths.
fn ppm(text: &str, range: &RangeInclusive<u32>) -> Option<u32> {
    let millionths = u32::try_from(decimal(text.strip_suffix('%')?, 4)?).ok()?;
    range.contains(&millionths).then_some(millionths)
}

/// Parses "1.25" with at most so many digits behind the point, in the units of the last one.
fn decimal(text: &str, places: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_empty = text.contains('.') && fraction.is_empty();
    if is_empty || fraction.len() > places || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole = super::whole(whole)?;
    let fraction = super::whole(&format!("{fraction:0<places$}")).unwrap_or_default();
    let unit = 10_u64.checked_pow(u32::try_from(places).ok()?)?;
    whole.checked_mul(unit)?.checked_add(fraction)
}

fn print_decimal(value: u32, places: usize) -> String {
    let digits = format!("{value:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

impl FromStr for JudgeSetting {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let mut setting = Self::default();
        let parts = text.split(',').count();
        if parts > Self::KEYS.len() {
            let problem = format!("{parts} things are said, and there are {}", Self::KEYS.len());
            return Err(refused(problem, "say each once"));
        }
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                refused(format!("{} says nothing", echo(part)), "write errors=2x, memory=off")
            })?;
            setting.say(key.trim(), value)?;
        }
        setting.checked()
    }
}

impl fmt::Display for JudgeSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |ppm: u32| format!("{}%", print_decimal(ppm, 4));
        let mut parts = Vec::new();
        let mut push = |key: &str, value: Option<String>| {
            parts.extend(value.map(|value| format!("{key}={value}")));
        };
        push("false_alarms", self.false_alarms_ppm.map(percent));
        push("host_spread", self.host_spread_ppm.map(percent));
        push("requests_min", self.requests_min.map(|count| count.to_string()));
        push("watched_min", self.watched_min.map(duration_text::print));
        for (metric, limit) in &self.limits {
            push(metric.name(), Some(print_limit(*metric, *limit)));
        }
        f.write_str(&parts.join(","))
    }
}

fn print_limit(metric: JudgedMetric, limit: JudgedLimit) -> String {
    match limit {
        JudgedLimit::Off => "off".to_owned(),
        JudgedLimit::From { ratio_thousandths, difference_millionths } => {
            let ratio = ratio_thousandths.map(|it| format!("{}x", print_decimal(it, 3)));
            let more = difference_millionths.map(|it| format!("+{}", metric.print_difference(it)));
            ratio.unwrap_or_default() + &more.unwrap_or_default()
        }
    }
}

impl From<JudgeSetting> for String {
    fn from(setting: JudgeSetting) -> Self {
        setting.to_string()
    }
}

impl TryFrom<String> for JudgeSetting {
    type Error = InvalidSetting;

    /// Where nothing was said, nothing is written.
    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        if text.is_empty() { Ok(Self::default()) } else { text.parse() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<JudgeSetting>().unwrap_err().to_string()
    }

    #[test]
    fn what_is_said_is_printed_again() {
        let texts = [
            "false_alarms=0.5%,host_spread=30%,requests_min=200,watched_min=1m",
            "errors=2x+0.05%,latency=1.1x,restarts=+0.5,memory=off,log_lines=off",
            "latency=1.25x+5ms,memory=2x+64MiB",
        ];
        for text in texts {
            assert_eq!(text.parse::<JudgeSetting>().unwrap().to_string(), text);
        }
        let spaced: JudgeSetting = "memory = off, errors = 2.50x + 1%".parse().unwrap();
        assert_eq!(spaced.to_string(), "errors=2.5x+1%,memory=off");
    }

    #[test]
    fn what_is_stored_is_read_again_also_where_nothing_was_said() {
        for setting in [JudgeSetting::default(), "errors=2x".parse().unwrap()] {
            let text = serde_json::to_string(&setting).unwrap();
            assert_eq!(serde_json::from_str::<JudgeSetting>(&text).unwrap(), setting, "{text}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_with_what_to_write() {
        let all = "errors=off,latency=off,restarts=off,memory=off,log_lines=off";
        let texts = [
            "false_alarms=30%",
            "requests_min=0",
            "watched_min=2d",
            "errors=1.01x",
            "latency=2x+2s",
            "memory=+100KiB",
            "eror=2x",
            "errors",
            all,
            &["errors=2x"; 10].join(","),
        ];
        insta::assert_snapshot!(texts.map(refused).join("\n"), @r#"
        canary_judge: "30%" is no false_alarms; write a percentage from "0.0001%" to "20%"
        canary_judge: "0" is no requests_min; write a whole number from 1 to 1000000
        canary_judge: "2d" is no watched_min; write a duration from "1s" to "24h"
        canary_judge: "1.01x" is no errors; write "off", a ratio from "1.05x" to "50x", more of the requests from "+0%" to "+100%", or both: "1.5x+0.1%"
        canary_judge: "2x+2s" is no latency; write "off", a ratio from "1.05x" to "50x", more time from "+0s" to "+1s", or both: "1.25x+5ms"
        canary_judge: "+100KiB" is no memory; write "off", a ratio from "1.05x" to "50x", more from "+1MiB" to "+4GiB", or both: "1.5x+32MiB"
        canary_judge: "eror" is nothing that the judge knows; write one of false_alarms, host_spread, requests_min, watched_min, errors, latency, restarts, memory, log_lines
        canary_judge: "errors" says nothing; write errors=2x, memory=off
        canary_judge: every metric is off, so nothing is judged; leave one of them in, or use strategy "rolling" with a soak
        canary_judge: 10 things are said, and there are 9; say each once
        "#);
        for text in ["", "errors=", "errors=x", "errors=+", "errors=1.x", "errors=2", "errors=-2x"]
        {
            assert!(text.parse::<JudgeSetting>().is_err(), "{text}");
        }
    }
}
