//! Spec: how a rollout goes, resolved once from flags, the release's `cutover.toml` and defaults.

mod resolve;

use std::{collections::BTreeMap, time::Duration};

use cutover_common::{
    Allow, Amount, Batches, CanaryHosts, CanarySteps, Check, DeploySetting, HoldLimits,
    JudgeSetting, MaxLoad, Pauses, Release, Timers,
    manifest::{CutoverMode, Promotion},
};
use serde::{Deserialize, Serialize};

pub use self::resolve::{Grouped, Hosts};
pub use cutover_common::manifest::{Strategy, Unreachable, Unsure};

/// Settings as an operator typed them, each only if it was typed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options(BTreeMap<DeploySetting, String>);

impl Options {
    /// Says `value` of `setting`. Nothing said is not said.
    pub fn set(&mut self, setting: DeploySetting, value: impl Into<String>) {
        let value = value.into();
        if value.is_empty() {
            self.0.remove(&setting);
        } else {
            self.0.insert(setting, value);
        }
    }

    /// Returns what was typed; empty if nothing was.
    pub fn get(&self, setting: DeploySetting) -> &str {
        self.0.get(&setting).map_or("", String::as_str)
    }

    /// Returns what was typed, in the order to show.
    pub fn iter(&self) -> impl Iterator<Item = (DeploySetting, &str)> {
        self.0.iter().map(|(setting, value)| (*setting, value.as_str()))
    }
}

impl<S: Into<String>> FromIterator<(DeploySetting, S)> for Options {
    fn from_iter<I: IntoIterator<Item = (DeploySetting, S)>>(pairs: I) -> Self {
        let mut options = Self::default();
        for (setting, value) in pairs {
            options.set(setting, value);
        }
        options
    }
}

/// How a rollout goes. Shares are resolved to hosts: a running rollout's numbers never move.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Spec {
    pub strategy: Strategy,
    pub batches: Batches,
    /// The hosts that go first and how; only for a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// How clients are led over at one moment; only for blue/green.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreen>,
    /// Whether the next host of a batch begins as soon as one is done: a batch then is a zone, or
    /// all, and its size is how many hosts are under way at a time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sliding: bool,
    /// After which batches a person is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_after: Option<Pauses>,
    /// The key of the label that says in which zone a host is. None: there are no zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// How long a finished zone is watched.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub zone_soak: Duration,
    /// How many instances stay healthy at every moment, as far as this rollout decides.
    pub min_healthy: u32,
    /// How many of each zone stay healthy, as it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_min_healthy: Option<Amount>,
    /// The same in hosts, for each zone by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub zone_floors: BTreeMap<String, u32>,
    /// How busy the hosts that stay may be when others are taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_load: Option<MaxLoad>,
    /// How many failed hosts are borne before it goes back.
    pub max_failed: u32,
    /// How many unreachable hosts are left out before it holds.
    pub max_unreachable: u32,
    /// What becomes of those that are out of reach.
    #[serde(default, skip_serializing_if = "is_skip")]
    pub unreachable: Unreachable,
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

/// How a canary goes.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Canary {
    pub hosts: CanaryHosts,
    pub steps: CanarySteps,
    pub promote: Promotion,
    #[serde(default)]
    pub unsure: Unsure,
    /// When it is worse than the old release, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeSetting>,
    /// What it is asked beside that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// By what a client reaches the new release on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Allow>,
}

/// How a blue/green rollout goes.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct BlueGreen {
    pub cutover: CutoverMode,
    /// How long requests are held at the most.
    pub hold: Duration,
    /// How long the old release runs on.
    pub keep: Duration,
    /// Whether a person says when.
    pub approve: bool,
    /// Whether it ends before clients notice.
    pub until_smoke: bool,
    /// Where edges lead clients from one group of hosts to another. None: each host has both
    /// releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
}

/// Two groups of hosts, of which edges lead to one.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Groups {
    /// The key of the label whose value says in which group a host is.
    pub label: String,
    /// The group that clients get. None: nothing runs yet.
    pub from: Option<String>,
    /// The group that gets the new release, and then the clients.
    pub to: String,
}

/// How many requests a gate holds at a cutover: as many as a busy host gets in a second.
const HOLD_REQUESTS: u32 = 10_000;
/// In how much memory: what the gate's service limits give one host at the most, twice.
const HOLD_BYTES: u64 = 64 * 1024 * 1024;

impl Spec {
    /// Makes this one for hosts that lack what runs already. Nobody waits for them: those that fail
    /// or are lost again are left as they are.
    pub(crate) fn converge(&mut self) {
        self.pause_after = None;
        (self.max_failed, self.max_unreachable) = (u32::MAX, u32::MAX);
        self.unreachable = Unreachable::Skip;
        self.bake = Duration::ZERO;
    }

    /// Returns the groups of hosts that edges go over from one to the other of.
    pub fn groups(&self) -> Option<&Groups> {
        self.blue_green.as_ref()?.groups.as_ref()
    }

    /// Returns what gates may hold at a cutover.
    pub(crate) fn hold_limits(&self) -> HoldLimits {
        let within = self.blue_green.as_ref().map_or(HOLD, |blue_green| blue_green.hold);
        HoldLimits { within, requests: HOLD_REQUESTS, bytes: HOLD_BYTES }
    }

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

/// Longer than most requests take, and shorter than most clients wait.
const HOLD: Duration = Duration::from_secs(10);
/// As long as it takes to be told that something is wrong, and to say so.
const KEEP: Duration = Duration::from_secs(600);

/// How long after `healthy_within` the coordinator waits for an agent's word. The agent counts
/// from the instance's start, which is later than ours by the way there; three heartbeats bear it.
pub(crate) const WORD_WITHIN: Duration = Duration::from_secs(15);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
const fn is_skip(value: &Unreachable) -> bool {
    matches!(value, Unreachable::Skip)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
