//! What an operator may say about the judge, checked once.

use serde::{Deserialize, Serialize};

use crate::Metric;

/// Limits as written, for instance under `[judge]`. What is not said has its default.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct JudgeSettings {
    /// How often a rollout of a version that is no worse may be stopped, all metrics, looks and
    /// restarts together: 0.01 is one in a hundred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub false_alarms: Option<f64>,
    /// How far hosts of the same version are expected to differ, before it was seen how far they
    /// do: 0.1 is ten percent. Only for comparisons between hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_spread: Option<f64>,
    /// Requests that each side must have had before the canary passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_min: Option<u64>,
    /// Seconds for which each side must have been watched before the canary passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watched_seconds_min: Option<u64>,
    pub errors: LimitSettings,
    pub latency: LimitSettings,
    pub restarts: LimitSettings,
    pub memory: LimitSettings,
    pub log_lines: LimitSettings,
}

/// The limit of one metric as written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// How many times the control's value the canary's must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// How much more it must be, in the metric's unit ([`Metric::unit`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<f64>,
    /// The part of the allowed false alarms that this metric may cause, relative to the others'.
    /// Zero: it is not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

/// How a canary is judged. Every number was checked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "JudgeSettings", into = "JudgeSettings")]
pub struct JudgeSpec {
    settings: JudgeSettings,
    pub(crate) false_alarms: f64,
    pub(crate) host_spread: f64,
    pub(crate) requests_min: u64,
    pub(crate) watched_seconds_min: u64,
    limits: [Limit; 5],
}

/// When a metric of the canary is bad enough to fail it, if it is no accident.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limit {
    pub(crate) ratio: f64,
    pub(crate) difference: f64,
    /// Of one.
    pub(crate) share: f64,
}

/// Why settings are no [`JudgeSpec`]: all that is wrong with them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", mistakes.join("; "))]
pub struct InvalidJudgeSpec {
    mistakes: Vec<String>,
}

impl InvalidJudgeSpec {
    /// Returns each mistake, with its key and what to write instead.
    pub fn mistakes(&self) -> &[String] {
        &self.mistakes
    }
}

/// The limits of those who say nothing.
///
/// Errors: half as many again, and one request in a thousand more, is what an operator would
/// turn back for; less is seen on dashboards by day. Latency: a quarter and 5 ms, above what a
/// cold cache or a neighbour costs. Restarts, memory, lines: ratios that no version reaches by
/// being another build. Errors get the largest part of the false alarms, as they are what a
/// canary is for and rare enough to need it; memory and lines can wait some minutes longer.
fn limit_by_default(metric: Metric) -> Limit {
    let (ratio, difference, share) = match metric {
        Metric::Errors => (1.5, 0.001, 0.4),
        Metric::Latency => (1.25, 5.0, 0.3),
        Metric::Restarts => (3.0, 1.0, 0.1),
        Metric::Memory => (1.5, 32.0, 0.1),
        Metric::LogLines => (3.0, 1.0, 0.1),
    };
    Limit { ratio, difference, share }
}

/// One rollout in a hundred: a false alarm costs a rollback of a good version, which is cheap and
/// reported, so that rarer would only buy slowness.
const FALSE_ALARMS: f64 = 0.01;
/// Hosts of one make differ by some percent; see docs/judge.md on what it costs.
const HOST_SPREAD: f64 = 0.1;
/// Two minutes of a canary with a request in two seconds; a version that fails every tenth
/// request has then failed five.
const REQUESTS_MIN: u64 = 50;
/// Time for a crash loop to show more than one restart.
const WATCHED_SECONDS_MIN: u64 = 120;

impl JudgeSpec {
    /// Checks settings and fills in what they do not say.
    ///
    /// # Errors
    ///
    /// Names every setting that is out of bounds, and its bounds.
    pub fn new(settings: JudgeSettings) -> Result<Self, InvalidJudgeSpec> {
        let mut mistakes = Vec::new();
        let mut within = |key: &str, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                mistakes.push(format!("{key} is {value}: write a number from {low} to {high}"));
            }
            value
        };
        let false_alarms = settings.false_alarms.unwrap_or(FALSE_ALARMS);
        let false_alarms = within("false_alarms", false_alarms, 1e-6, 0.2);
        let host_spread = settings.host_spread.unwrap_or(HOST_SPREAD);
        let host_spread = within("host_spread", host_spread, 0.0, 1.0);
        let mut limits = Metric::ALL.map(|metric| {
            let written = settings.limit(metric);
            let default = limit_by_default(metric);
            let key = |name: &str| format!("{}.{name}", metric.key());
            // Below, the canary and its control would differ by how buckets are cut.
            let ratio = written.ratio.unwrap_or(default.ratio);
            let ratio = within(&key("ratio"), ratio, 1.05, 50.0);
            let difference = written.difference.unwrap_or(default.difference);
            let difference = within(&key("difference"), difference, 0.0, 1e6);
            let share = written.share.unwrap_or(default.share);
            Limit { ratio, difference, share: within(&key("share"), share, 0.0, 1.0) }
        });
        let shares: f64 = limits.iter().map(|limit| limit.share).sum();
        if shares == 0.0 {
            mistakes.push("every share is 0, so nothing is judged: leave one out".to_owned());
        }
        if !mistakes.is_empty() {
            return Err(InvalidJudgeSpec { mistakes });
        }
        limits.iter_mut().for_each(|limit| limit.share /= shares);
        Ok(Self {
            false_alarms,
            host_spread,
            requests_min: settings.requests_min.unwrap_or(REQUESTS_MIN),
            watched_seconds_min: settings.watched_seconds_min.unwrap_or(WATCHED_SECONDS_MIN),
            limits,
            settings,
        })
    }

    /// Returns the settings it was made of.
    pub fn settings(&self) -> &JudgeSettings {
        &self.settings
    }

    pub(crate) fn limit(&self, metric: Metric) -> Limit {
        self.limits[metric as usize]
    }
}

impl Default for JudgeSpec {
    fn default() -> Self {
        Self::new(JudgeSettings::default()).expect("the defaults are within bounds: see tests")
    }
}

impl TryFrom<JudgeSettings> for JudgeSpec {
    type Error = InvalidJudgeSpec;

    fn try_from(settings: JudgeSettings) -> Result<Self, Self::Error> {
        Self::new(settings)
    }
}

impl From<JudgeSpec> for JudgeSettings {
    fn from(spec: JudgeSpec) -> Self {
        spec.settings
    }
}

impl JudgeSettings {
    fn limit(&self, metric: Metric) -> LimitSettings {
        match metric {
            Metric::Errors => self.errors,
            Metric::Latency => self.latency,
            Metric::Restarts => self.restarts,
            Metric::Memory => self.memory,
            Metric::LogLines => self.log_lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_its_default() {
        let spec: JudgeSpec = serde_json::from_str(r#"{ "errors": { "ratio": 2.0 } }"#).unwrap();

        assert_eq!(spec.false_alarms, 0.01);
        let Limit { ratio, difference, share } = spec.limit(Metric::Errors);
        assert_eq!((ratio, difference), (2.0, 0.001));
        assert!((share - 0.4).abs() < 1e-12);
        assert_eq!(JudgeSpec::default().limit(Metric::Memory).ratio, 1.5);
        let again = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<JudgeSpec>(&again).unwrap(), spec);
    }

    #[test]
    fn shares_are_relative_to_each_other() {
        let none = LimitSettings { share: Some(0.0), ..LimitSettings::default() };
        let settings = JudgeSettings { latency: none, memory: none, ..JudgeSettings::default() };
        let spec = JudgeSpec::new(settings).unwrap();

        assert!((spec.limit(Metric::Errors).share - 0.4 / 0.6).abs() < 1e-12);
        assert_eq!(spec.limit(Metric::Latency).share, 0.0);
    }

    #[test]
    fn all_mistakes_are_named_at_once_with_what_to_write() {
        let low = LimitSettings { ratio: Some(0.5), ..LimitSettings::default() };
        let settings =
            JudgeSettings { false_alarms: Some(f64::NAN), errors: low, ..JudgeSettings::default() };

        let error = JudgeSpec::new(settings).unwrap_err();

        assert_eq!(
            error.to_string(),
            "false_alarms is NaN: write a number from 0.000001 to 0.2; \
             errors.ratio is 0.5: write a number from 1.05 to 50"
        );
        assert!(serde_json::from_str::<JudgeSpec>(r#"{ "eror": 1 }"#).is_err());
        let none = LimitSettings { share: Some(0.0), ..LimitSettings::default() };
        let settings = JudgeSettings {
            errors: none,
            latency: none,
            restarts: none,
            memory: none,
            log_lines: none,
            ..JudgeSettings::default()
        };
        assert_eq!(JudgeSpec::new(settings).unwrap_err().mistakes().len(), 1);
    }
}
