//! Spec: how a rollout goes, resolved once from flags, the release's `cutover.toml` and defaults.

use std::time::Duration;

use cutover_common::{
    Amount, AmountSetting, Batches, Release, Timers, duration_text,
    manifest::{DeploySpec, Timing},
};
use serde::{Deserialize, Serialize};

pub use cutover_common::manifest::Strategy;

/// Settings as an operator typed them; empty where nothing was typed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options {
    pub strategy: String,
    pub batch: String,
    pub min_healthy: String,
    pub max_failed: String,
    pub max_unreachable: String,
    pub healthy_for: String,
    pub healthy_within: String,
    pub progress_within: String,
    pub soak: String,
    pub bake: String,
    /// `on`, `off` or nothing.
    pub auto_rollback: String,
}

/// How a rollout goes. Shares are resolved to hosts: a running rollout's numbers never move.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Spec {
    pub strategy: Strategy,
    pub batches: Batches,
    /// How many instances stay healthy at every moment, as far as this rollout decides.
    pub min_healthy: u32,
    /// How many failed hosts are borne before it goes back.
    pub max_failed: u32,
    /// How many unreachable hosts are left out before it holds.
    pub max_unreachable: u32,
    pub healthy_for: Duration,
    pub healthy_within: Duration,
    /// What a host may take on top of that: for hooks, and for what is under way at an instance
    /// that has to go before another can start.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub allowance: Duration,
    /// How long nothing at all may happen before it holds.
    pub progress_within: Duration,
    pub soak: Duration,
    pub bake: Duration,
    pub auto_rollback: bool,
}

impl Spec {
    /// Returns the timers that agents keep.
    pub const fn timers(&self) -> Timers {
        Timers { healthy_for: self.healthy_for, healthy_within: self.healthy_within }
    }

    /// Returns how long a host may take from the moment that it is told until it is healthy.
    pub fn patience(&self) -> Duration {
        self.healthy_within + self.allowance
    }

    /// Returns what hosts may take on top of `healthy_within` on the way from one of these releases
    /// to another, while instances of those that are `leaving` have not gone yet.
    pub fn allowance_for(releases: &[&Release], leaving: &[&Release]) -> Duration {
        let hooks = releases.iter().map(|release| release.hooks_within()).max();
        let stands_alone =
            |release: &&&Release| releases.iter().any(|other| !release.can_stand_beside(other));
        let alone = releases.iter().filter(stands_alone);
        let gone = alone.chain(leaving).map(|release| release.drained_within()).max();
        hooks.unwrap_or_default() + gone.unwrap_or_default()
    }
}

/// A setting as it is shown in a plan.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Setting {
    pub name: String,
    pub value: String,
    pub source: SettingSource,
}

/// Where a setting came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum SettingSource {
    Flag,
    Manifest,
    Default,
}

impl SettingSource {
    /// Returns the word that is shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Manifest => "cutover.toml",
            Self::Default => "default",
        }
    }
}

/// Nomad's `min_healthy_time` and CodeDeploy users' habit: long enough for a crash loop to show.
const HEALTHY_FOR: Duration = Duration::from_secs(10);
/// Nomad's `healthy_deadline`.
const HEALTHY_WITHIN: Duration = Duration::from_secs(300);
/// Nomad's `progress_deadline`.
const PROGRESS_WITHIN: Duration = Duration::from_secs(600);

/// How long after `healthy_within` the coordinator waits for an agent's word. The agent counts
/// from the instance's start, which is later than ours by the way there; three heartbeats bear it.
pub(crate) const WORD_WITHIN: Duration = Duration::from_secs(15);

/// Collects settings, and everything that is wrong with them.
struct Resolver {
    settings: Vec<Setting>,
    mistakes: Vec<String>,
}

impl Resolver {
    /// Takes the flag, else the manifest's value, else the default.
    fn pick<T>(
        &mut self,
        name: &str,
        flag: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
        manifest: Option<T>,
        default: T,
        print: impl FnOnce(&T) -> String,
    ) -> T {
        let (value, source) = match (flag, manifest) {
            ("", Some(value)) => (value, SettingSource::Manifest),
            ("", None) => (default, SettingSource::Default),
            (text, _) => match parse(text) {
                Ok(value) => (value, SettingSource::Flag),
                Err(mistake) => {
                    self.mistakes.push(mistake);
                    (default, SettingSource::Default)
                }
            },
        };
        self.settings.push(Setting { name: name.to_owned(), value: print(&value), source });
        value
    }

    fn duration(
        &mut self,
        timing: Timing,
        flag: &str,
        from: Option<Duration>,
        default: Duration,
    ) -> Duration {
        let parse = |text: &str| timing.parse(text).map_err(|mistake| mistake.to_string());
        let print = |value: &Duration| duration_text::print(*value);
        self.pick(timing.name(), flag, parse, from, default, print)
    }

    fn amount(
        &mut self,
        setting: AmountSetting,
        flag: &str,
        from: Option<Amount>,
        default: Amount,
        hosts: u32,
    ) -> u32 {
        let parse =
            |text: &str| Amount::parse(setting, text).map_err(|mistake| mistake.to_string());
        let print = |amount: &Amount| match amount {
            Amount::Count(_) => amount.to_string(),
            Amount::Percent(_) => format!("{amount} = {} of {hosts}", amount.of(setting, hosts)),
        };
        self.pick(setting.name(), flag, parse, from, default, print).of(setting, hosts)
    }
}

impl Spec {
    /// Resolves the settings of a rollout in an environment of `hosts` hosts, of which `drained`
    /// are left out and count as down.
    ///
    /// # Errors
    ///
    /// Returns every mistake in the flags, each naming its setting and what to write.
    pub fn resolve(
        options: &Options,
        manifest: Option<&DeploySpec>,
        hosts: u32,
        drained: u32,
    ) -> Result<(Self, Vec<Setting>), Vec<String>> {
        let mut resolver = Resolver { settings: Vec::new(), mistakes: Vec::new() };
        let strategy = resolver.pick(
            "strategy",
            &options.strategy,
            |text| text.parse::<Strategy>().map_err(|mistake| mistake.to_string()),
            manifest.and_then(|deploy| deploy.strategy),
            Strategy::Rolling,
            ToString::to_string,
        );
        let all_at_once = strategy == Strategy::AllAtOnce;
        let whole = Amount::Percent(100);
        let batches = if all_at_once && options.batch.is_empty() {
            ramp(vec![whole])
        } else {
            resolver.pick(
                "batch",
                &options.batch,
                |text| text.parse::<Batches>().map_err(|mistake| mistake.to_string()),
                manifest.and_then(|deploy| deploy.batch.clone()),
                ramp(vec![Amount::Percent(25)]),
                ToString::to_string,
            )
        };
        if all_at_once && !options.batch.is_empty() {
            resolver.mistakes.push(
                "batch: all_at_once is one batch; leave it out, or use --strategy rolling"
                    .to_owned(),
            );
        }
        // The floor follows the pace unless it is given: it then bears what the largest batch
        // takes out and nothing more, so that an outage elsewhere stops the next batch.
        let in_service = hosts.saturating_sub(drained);
        let largest = batches.sizes(in_service).into_iter().max().unwrap_or(0);
        let min_healthy = resolver.amount(
            AmountSetting::MinHealthy,
            &options.min_healthy,
            manifest.and_then(|deploy| deploy.min_healthy),
            Amount::Count(in_service.saturating_sub(largest)),
            hosts,
        );
        let max_failed = resolver.amount(
            AmountSetting::MaxFailed,
            &options.max_failed,
            manifest.and_then(|deploy| deploy.max_failed),
            Amount::Count(0),
            hosts,
        );
        let max_unreachable = resolver.amount(
            AmountSetting::MaxUnreachable,
            &options.max_unreachable,
            manifest.and_then(|deploy| deploy.max_unreachable),
            Amount::Count(0),
            hosts,
        );
        resolver.timed(
            options,
            manifest,
            Spec {
                strategy,
                batches,
                min_healthy,
                max_failed,
                max_unreachable,
                healthy_for: HEALTHY_FOR,
                healthy_within: HEALTHY_WITHIN,
                allowance: Duration::ZERO,
                progress_within: PROGRESS_WITHIN,
                soak: Duration::ZERO,
                bake: Duration::ZERO,
                auto_rollback: true,
            },
        )
    }
}

impl Resolver {
    fn timed(
        mut self,
        options: &Options,
        manifest: Option<&DeploySpec>,
        defaults: Spec,
    ) -> Result<(Spec, Vec<Setting>), Vec<String>> {
        let from = |field: fn(&DeploySpec) -> Option<Duration>| manifest.and_then(field);
        let spec = Spec {
            healthy_for: self.duration(
                Timing::HealthyFor,
                &options.healthy_for,
                from(|deploy| deploy.healthy_for),
                defaults.healthy_for,
            ),
            healthy_within: self.duration(
                Timing::HealthyWithin,
                &options.healthy_within,
                from(|deploy| deploy.healthy_within),
                defaults.healthy_within,
            ),
            progress_within: self.duration(
                Timing::ProgressWithin,
                &options.progress_within,
                from(|deploy| deploy.progress_within),
                defaults.progress_within,
            ),
            soak: self.duration(Timing::Soak, &options.soak, from(|d| d.soak), defaults.soak),
            bake: self.duration(Timing::Bake, &options.bake, from(|d| d.bake), defaults.bake),
            auto_rollback: self.pick(
                "auto_rollback",
                &options.auto_rollback,
                |text| match text {
                    "on" => Ok(true),
                    "off" => Ok(false),
                    _ => Err(format!("auto_rollback: {text:?} must be \"on\" or \"off\"")),
                },
                manifest.and_then(|deploy| deploy.auto_rollback),
                defaults.auto_rollback,
                |on| if *on { "on".to_owned() } else { "off".to_owned() },
            ),
            ..defaults
        };
        if spec.healthy_within <= spec.healthy_for {
            self.mistakes.push(format!(
                "healthy_within: {} is not longer than healthy_for, {}, so no host could ever be \
                 done; write a longer healthy_within",
                duration_text::print(spec.healthy_within),
                duration_text::print(spec.healthy_for),
            ));
        }
        if spec.progress_within < spec.healthy_within {
            self.mistakes.push(format!(
                "progress_within: {} is shorter than healthy_within, {}, so a slow start would \
                 look like a standstill; write a longer progress_within",
                duration_text::print(spec.progress_within),
                duration_text::print(spec.healthy_within),
            ));
        }
        if self.mistakes.is_empty() { Ok((spec, self.settings)) } else { Err(self.mistakes) }
    }
}

fn ramp(steps: Vec<Amount>) -> Batches {
    Batches::new(steps).expect("one step that is not zero")
}
