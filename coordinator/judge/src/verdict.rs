//! What the judge says, and the numbers behind it, in words that an operator reads.

use std::fmt;

use serde::Serialize;

use crate::math::exp;

/// What is compared.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Errors,
    Latency,
    Restarts,
    Memory,
    LogLines,
}

impl Metric {
    pub const ALL: [Self; 5] =
        [Self::Errors, Self::Latency, Self::Restarts, Self::Memory, Self::LogLines];

    /// Returns its name in settings.
    pub fn key(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Restarts => "restarts",
            Self::Memory => "memory",
            Self::LogLines => "log_lines",
        }
    }

    /// Returns its name in a sentence.
    fn words(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latencies",
            Self::Restarts => "restarts",
            Self::Memory => "sizes in memory",
            Self::LogLines => "error lines",
        }
    }

    /// Returns the unit of its values and of its limit's `difference`.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Errors => "of requests",
            Self::Latency => "ms",
            Self::Restarts => "per host and hour",
            Self::Memory => "MiB",
            Self::LogLines => "per host and minute",
        }
    }
}

/// What the judge says of a canary. It may be asked at any time and as often as one likes.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Verdict {
    /// Enough was seen, and nothing speaks against the canary.
    Pass,
    /// The canary is worse by the limit at least, and that is no accident. It stays said.
    Fail(Evidence),
    /// Nothing speaks against the canary, nor for it. What to do then is the caller's policy.
    NotEnough(Vec<Missing>),
}

/// What a verdict needs, and what there is of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Missing {
    CanaryRequests {
        seen: u64,
        wanted: u64,
    },
    ControlRequests {
        seen: u64,
        wanted: u64,
    },
    CanarySeconds {
        seen: u64,
        wanted: u64,
    },
    ControlSeconds {
        seen: u64,
        wanted: u64,
    },
    /// The canary looks worse by this, and it may still be an accident.
    Certainty {
        metric: Metric,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, unit, seen, wanted) = match self {
            Self::CanaryRequests { seen, wanted } => ("canary", "requests", seen, wanted),
            Self::ControlRequests { seen, wanted } => ("control", "requests", seen, wanted),
            Self::CanarySeconds { seen, wanted } => ("canary", "seconds", seen, wanted),
            Self::ControlSeconds { seen, wanted } => ("control", "seconds", seen, wanted),
            Self::Certainty { metric } => {
                return write!(
                    f,
                    "{} look worse on the canary, and that may still be an accident",
                    metric.words()
                );
            }
        };
        write!(f, "the {side} had {} of {} {unit}", grouped(*seen), grouped(*wanted))
    }
}

/// What is known of one metric, in plain numbers. Displays as one sentence without a full stop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    pub metric: Metric,
    /// Which quantile the values are, for latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    /// The values of both versions in [`Metric::unit`]. None: unknown.
    pub canary: Option<f64>,
    pub control: Option<f64>,
    /// How many times the control's value the canary's is, hosts and hours being equal. None:
    /// unknown, or the control's is zero.
    pub ratio: Option<f64>,
    /// What the values were measured over: requests, seconds, or minutes for memory.
    pub canary_exposure: f64,
    pub control_exposure: f64,
    /// The e-value: how many times as well a difference explains what was seen as no difference
    /// does. Bounded at 1e300.
    pub e_value: f64,
    /// At which e-value the metric fails, if it is also beyond its limit.
    pub bar: f64,
    /// Whether the canary is at its limit or beyond, and likely not far below it.
    pub is_beyond_limit: bool,
}

impl Evidence {
    /// Returns a bound of the chance that a canary without a difference ever looks like this.
    pub fn chance(&self) -> f64 {
        if self.e_value > 1.0 { 1.0 / self.e_value } else { 1.0 }
    }
}

pub(crate) fn e_value(log_evidence: f64) -> f64 {
    exp(log_evidence).min(1e300)
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(canary), Some(control)) = (self.canary, self.control) else {
            return write!(f, "{}: nothing to compare", self.name());
        };
        let value = |value: f64| self.value(value);
        let (name, canary, control) = (self.name(), value(canary), value(control));
        write!(f, "{name} {canary} on the canary, {control} beside it")?;
        if let Some(ratio) = self.ratio {
            write!(f, " ({}x)", short(ratio))?;
        }
        let whole = |exposure: f64| grouped(rounded(exposure));
        let (canary, control) = (whole(self.canary_exposure), whole(self.control_exposure));
        match self.metric {
            Metric::Errors | Metric::Latency => {
                write!(f, ", after {canary} and {control} requests")?;
            }
            Metric::Restarts | Metric::LogLines => {
                write!(f, ", after {canary} and {control} seconds")?;
            }
            Metric::Memory => write!(f, ", after {canary} minutes")?,
        }
        let one_in = 1.0 / self.chance();
        if one_in >= 10.0 {
            // Rounded down to one digit: it is a bound.
            let mut unit = 1.0;
            while unit * 10.0 <= one_in && unit < 1e9 {
                unit *= 10.0;
            }
            let bound = rounded((one_in / unit).floor().min(9.0) * unit);
            write!(f, "; chance of this without a difference below 1 in {}", grouped(bound))
        } else {
            write!(f, "; no more than chance gives")
        }
    }
}

impl Evidence {
    fn name(&self) -> String {
        let name = match self.metric {
            Metric::Errors => "errors",
            Metric::Latency => "latency",
            Metric::Restarts => "restarts",
            Metric::Memory => "memory",
            Metric::LogLines => "error lines",
        };
        match self.quantile {
            Some(quantile) => format!("{name} p{}", short(quantile * 100.0)),
            None => name.to_owned(),
        }
    }

    fn value(&self, value: f64) -> String {
        match self.metric {
            Metric::Errors => format!("{} %", short(value * 100.0)),
            Metric::Latency => format!("{} ms", short(value)),
            Metric::Restarts => format!("{} an hour", short(value)),
            Metric::Memory => format!("{} MiB", short(value)),
            Metric::LogLines => format!("{} a minute", short(value)),
        }
    }
}

/// Returns a number to two or three places that count.
fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        grouped(rounded(value))
    } else if size >= 1.0 || size == 0.0 {
        let text = format!("{value:.1}");
        text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
    } else if size >= 0.095 {
        format!("{value:.2}")
    } else if size >= 0.0095 {
        format!("{value:.3}")
    } else {
        format!("{value:.4}")
    }
}

/// Returns the nearest whole number, and the largest there is for what is larger.
#[expect(clippy::cast_possible_truncation, reason = "it is cut off at both ends")]
#[expect(clippy::cast_sign_loss, reason = "what is below zero is zero")]
pub(crate) fn rounded(value: f64) -> u64 {
    value.round() as u64
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors() -> Evidence {
        Evidence {
            metric: Metric::Errors,
            quantile: None,
            canary: Some(0.041),
            control: Some(0.009),
            ratio: Some(4.56),
            canary_exposure: 1_210.0,
            control_exposure: 23_114.0,
            e_value: 1_234.0,
            bar: 500.0,
            is_beyond_limit: true,
        }
    }

    #[test]
    fn evidence_is_a_sentence() {
        assert_eq!(
            errors().to_string(),
            "errors 4.1 % on the canary, 0.90 % beside it (4.6x), after 1,210 and 23,114 requests; \
             chance of this without a difference below 1 in 1,000"
        );
        let latency = Evidence {
            metric: Metric::Latency,
            quantile: Some(0.99),
            canary: Some(412.3),
            control: Some(98.76),
            e_value: 2.0,
            ..errors()
        };
        assert_eq!(
            latency.to_string(),
            "latency p99 412 ms on the canary, 98.8 ms beside it (4.6x), after 1,210 and 23,114 \
             requests; no more than chance gives"
        );
        let nothing = Evidence { metric: Metric::Memory, canary: None, ..errors() };
        assert_eq!(nothing.to_string(), "memory: nothing to compare");
    }

    #[test]
    fn what_is_missing_is_said_with_what_there_is() {
        let missing = Missing::CanaryRequests { seen: 12, wanted: 1_050 };
        assert_eq!(missing.to_string(), "the canary had 12 of 1,050 requests");
    }
}
