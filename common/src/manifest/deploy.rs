//! `[[deploy]]`: how a release comes to one environment. What is absent is left to the flags of
//! the command and to the coordinator's defaults.

use std::{collections::BTreeSet, ops::RangeInclusive, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    canary::{CanarySpec, read_canary},
    problem::{Problem, duration_in},
    reader::{Item, Reader, Section, read},
    strategy::{CutoverMode, Strategy, Unreachable},
    words::DEPLOY,
};
use crate::{
    Amount, AmountSetting, Batches, CheckName, DeploySetting, EnvironmentName, InvalidSetting,
    MaxLoad, Pauses, duration_text, host::is_label_part, pace::echo,
};

/// The settings of one `[[deploy]]`, each only if it was written.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct DeploySpec {
    pub environment: EnvironmentName,
    pub strategy: Option<Strategy>,
    pub batch: Option<Batches>,
    pub canary: CanarySpec,
    pub cutover: Option<CutoverMode>,
    pub hold: Option<Duration>,
    pub keep: Option<Duration>,
    pub approve: Option<bool>,
    /// The key of the label by whose values hosts are in two groups.
    #[serde(default)]
    pub groups: Option<String>,
    pub sliding: Option<bool>,
    pub pause_after: Option<Pauses>,
    /// The key of the label that says in which zone a host is.
    pub zone: Option<String>,
    pub zone_soak: Option<Duration>,
    pub min_healthy: Option<Amount>,
    pub zone_min_healthy: Option<Amount>,
    pub max_load: Option<MaxLoad>,
    pub max_failed: Option<Amount>,
    pub max_unreachable: Option<Amount>,
    #[serde(default)]
    pub unreachable: Option<Unreachable>,
    pub healthy_for: Option<Duration>,
    pub healthy_within: Option<Duration>,
    pub progress_within: Option<Duration>,
    pub soak: Option<Duration>,
    pub bake: Option<Duration>,
    pub auto_rollback: Option<bool>,
}

/// A wait of a rollout.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Timing {
    HealthyFor,
    HealthyWithin,
    ProgressWithin,
    Soak,
    ZoneSoak,
    Bake,
    /// How long requests are held at a cutover.
    Hold,
    /// How long the old release runs on after one.
    Keep,
}

impl Timing {
    /// All of them, in the order to list.
    pub const ALL: [Self; 8] = [
        Self::HealthyFor,
        Self::HealthyWithin,
        Self::ProgressWithin,
        Self::Soak,
        Self::ZoneSoak,
        Self::Bake,
        Self::Hold,
        Self::Keep,
    ];

    /// Returns the name, as in `cutover.toml`.
    pub const fn name(self) -> &'static str {
        let setting = match self {
            Self::HealthyFor => DeploySetting::HealthyFor,
            Self::HealthyWithin => DeploySetting::HealthyWithin,
            Self::ProgressWithin => DeploySetting::ProgressWithin,
            Self::Soak => DeploySetting::Soak,
            Self::ZoneSoak => DeploySetting::ZoneSoak,
            Self::Bake => DeploySetting::Bake,
            Self::Hold => DeploySetting::Hold,
            Self::Keep => DeploySetting::Keep,
        };
        setting.name()
    }

    /// Returns what is accepted. 0 is a watch that is not wanted, but never a deadline: one that
    /// has passed at once fails every rollout.
    pub const fn range(self) -> RangeInclusive<Duration> {
        match self {
            // Whoever waits for an answer has given up after a minute.
            Self::Hold => Duration::from_millis(100)..=Duration::from_mins(1),
            Self::HealthyFor | Self::Soak | Self::ZoneSoak | Self::Bake | Self::Keep => {
                Duration::ZERO..=duration_text::LONGEST
            }
            Self::HealthyWithin | Self::ProgressWithin => {
                Duration::from_millis(1)..=duration_text::LONGEST
            }
        }
    }

    /// Parses "30s" or "5m".
    ///
    /// # Errors
    ///
    /// Refuses what is no duration or out of range; the error says what to write.
    pub fn parse(self, text: &str) -> Result<Duration, InvalidSetting> {
        duration_in(text, &self.range()).map_err(|Problem { problem, instead }| {
            InvalidSetting::new(self.name(), problem, instead)
        })
    }
}

/// Reads all `[[deploy]]`. `checks`: those that are declared, if that could be read.
pub(super) fn read_deploys(
    top: &Section<'_>,
    checks: Option<&BTreeSet<CheckName>>,
    reader: &mut Reader<'_>,
) -> Option<Vec<DeploySpec>> {
    let Some(item) = top.item("deploy") else {
        return Some(Vec::new());
    };
    let Some(entries) = item.entries() else {
        let problem =
            if item.is_table() { "is written for one environment only" } else { "is no table" };
        reader.refuse(&item.place, Problem::new(problem, "write [[deploy]], with two brackets"));
        return None;
    };
    let count = entries.len();
    let mut environments = BTreeSet::new();
    let mut deploys = Vec::new();
    for entry in entries {
        let deploy = read_deploy(&entry, checks, &mut environments, reader);
        deploys.extend(deploy);
    }
    (deploys.len() == count).then_some(deploys)
}

fn read_deploy(
    item: &Item<'_>,
    checks: Option<&BTreeSet<CheckName>>,
    environments: &mut BTreeSet<EnvironmentName>,
    reader: &mut Reader<'_>,
) -> Option<DeploySpec> {
    let section = Section::open(item, &DEPLOY, reader)?;
    let environment = section
        .required("environment", "write environment = \"production\"", reader)
        .and_then(|item| read(&item, reader, |item| environment(item, environments)));
    let (strategy, batch) = read_strategy(&section, reader);
    let mut amount =
        |setting: AmountSetting| section.read(setting.name(), reader, |item| amount(item, setting));
    let min_healthy = amount(AmountSetting::MinHealthy);
    let zone_min_healthy = amount(AmountSetting::ZoneMinHealthy);
    let max_failed = amount(AmountSetting::MaxFailed);
    let max_unreachable = amount(AmountSetting::MaxUnreachable);
    let unreachable = section.read(DeploySetting::Unreachable.name(), reader, |item| {
        Ok(item.string("\"skip\"")?.parse::<Unreachable>()?)
    });
    let mut wait = |timing: Timing| {
        section.read(timing.name(), reader, |item| Ok(timing.parse(item.duration_text()?)?))
    };
    let healthy_for = wait(Timing::HealthyFor);
    let healthy_within = wait(Timing::HealthyWithin);
    let progress_within = wait(Timing::ProgressWithin);
    let soak = wait(Timing::Soak);
    let zone_soak = wait(Timing::ZoneSoak);
    let bake = wait(Timing::Bake);
    let hold = wait(Timing::Hold);
    let keep = wait(Timing::Keep);
    refuse_impossible_waits(&section, healthy_for, healthy_within, progress_within, reader);
    let auto_rollback = section.read(DeploySetting::AutoRollback.name(), reader, Item::boolean);
    let approve = section.read(DeploySetting::Approve.name(), reader, Item::boolean);
    let groups =
        section.read(DeploySetting::Groups.name(), reader, |item| label_key(item, "group"));
    let cutover = section.read(DeploySetting::Cutover.name(), reader, |item| {
        Ok(item.string("\"strict\"")?.parse::<CutoverMode>()?)
    });
    let canary = section
        .item("canary")
        .map_or_else(|| Some(CanarySpec::default()), |item| read_canary(&item, checks, reader))?;
    let sliding = section.read(DeploySetting::Sliding.name(), reader, Item::boolean);
    let pause_after = section.read(DeploySetting::PauseAfter.name(), reader, pauses);
    let zone = section.read(DeploySetting::Zone.name(), reader, |item| label_key(item, "zone"));
    let max_load = section.read(DeploySetting::MaxLoad.name(), reader, |item| {
        Ok(MaxLoad::parse(item.string("\"80%\"")?)?)
    });
    Some(DeploySpec {
        environment: environment?,
        strategy,
        batch,
        canary,
        cutover,
        hold,
        keep,
        approve,
        groups,
        sliding,
        pause_after,
        zone,
        zone_soak,
        min_healthy,
        zone_min_healthy,
        max_load,
        max_failed,
        max_unreachable,
        unreachable,
        healthy_for,
        healthy_within,
        progress_within,
        soak,
        bake,
        auto_rollback,
    })
}

/// Reads the strategy and its batches, which some have not.
fn read_strategy(
    section: &Section<'_>,
    reader: &mut Reader<'_>,
) -> (Option<Strategy>, Option<Batches>) {
    let strategy = section
        .read("strategy", reader, |item| Ok(item.string("\"rolling\"")?.parse::<Strategy>()?));
    let batch = read_batches(section, reader);
    if let Some(strategy @ (Strategy::AllAtOnce | Strategy::BlueGreen)) = strategy
        && let Some(item) = section.item("batch")
    {
        let problem = format!("has no meaning beside strategy = \"{strategy}\"");
        let instead = "remove it, or write strategy = \"rolling\"";
        reader.refuse(&item.place, Problem::new(problem, instead));
    }
    (strategy, batch)
}

/// Reads the number of a batch, or a list of them.
fn pauses(item: &Item<'_>) -> Result<Pauses, Problem> {
    let number = |item: &Item<'_>| {
        let instead = "write the number of a batch, such as 1, or a list of them";
        let number = item.decimal().and_then(|digits| digits.parse().ok());
        number.ok_or_else(|| {
            Problem::new(format!("{} is no number of a batch", item.description()), instead)
        })
    };
    let batches = match item.entries() {
        None => vec![number(item)?],
        Some(entries) => entries
            .take(Pauses::MAX + 1)
            .map(|entry| number(&entry))
            .collect::<Result<Vec<u32>, Problem>>()?,
    };
    Ok(Pauses::new(batches)?)
}

/// Reads the key of a label, such as `example`.
fn label_key(item: &Item<'_>, example: &str) -> Result<String, Problem> {
    let text = item.string(&format!("{example:?}"))?;
    if is_label_part(text) {
        return Ok(text.to_owned());
    }
    let problem = format!("{} is no key of a label", echo(text));
    let instead = format!("write the key of a label that agents have, such as {example:?}");
    Err(Problem::new(problem, instead))
}

/// Refuses waits that no rollout could pass. The coordinator judges again with flags and defaults.
fn refuse_impossible_waits(
    section: &Section<'_>,
    healthy_for: Option<Duration>,
    healthy_within: Option<Duration>,
    progress_within: Option<Duration>,
    reader: &mut Reader<'_>,
) {
    let Some(within) = healthy_within else { return };
    let shown = duration_text::print(within);
    let mut refuse = |timing: Timing, problem: String, instead: &str| {
        if let Some(item) = section.item(timing.name()) {
            reader.refuse(&item.place, Problem::new(problem, instead));
        }
    };
    if healthy_for.is_some_and(|lasting| lasting >= within) {
        let problem = format!("can never be reached within healthy_within ({shown})");
        let instead = "write a shorter healthy_for, or a longer healthy_within";
        refuse(Timing::HealthyFor, problem, instead);
    }
    if progress_within.is_some_and(|progress| progress < within) {
        let problem = format!(
            "is shorter than healthy_within ({shown}), so that a slow start would look like a \
             standstill"
        );
        let instead = "write a longer progress_within, or a shorter healthy_within";
        refuse(Timing::ProgressWithin, problem, instead);
    }
}

fn environment(
    item: &Item<'_>,
    environments: &mut BTreeSet<EnvironmentName>,
) -> Result<EnvironmentName, Problem> {
    let name: EnvironmentName = name(item)?;
    if !environments.insert(name.clone()) {
        let problem = format!("\"{name}\" has a [[deploy]] already");
        return Err(Problem::new(problem, "keep one of them"));
    }
    Ok(name)
}

/// Reads a name of the kind that [`crate::name`] checks.
pub(super) fn name<T: FromStr>(item: &Item<'_>) -> Result<T, Problem> {
    let text = item.string("\"web\"")?;
    text.parse().map_err(|_| {
        let problem = format!("{} is no name", echo(text));
        let instead = "write 1 to 63 lower-case letters, digits or hyphens, no hyphen at an end";
        Problem::new(problem, instead)
    })
}

/// Reads one size, or a ramp of them; each wrong size of a ramp is a mistake of its own.
fn read_batches(section: &Section<'_>, reader: &mut Reader<'_>) -> Option<Batches> {
    let item = section.item(AmountSetting::Batch.name())?;
    let steps = match item.entries() {
        None => vec![read(&item, reader, |item| amount(item, AmountSetting::Batch))?],
        Some(entries) => {
            let count = entries.len().min(Batches::STEPS_MAX + 1);
            let steps: Vec<Amount> = entries
                .take(count)
                .filter_map(|entry| {
                    read(&entry, reader, |entry| amount(entry, AmountSetting::Batch))
                })
                .collect();
            if steps.len() < count {
                return None;
            }
            steps
        }
    };
    read(&item, reader, |_| Ok(Batches::new(steps)?))
}

/// Reads a bare number as a count and a string as a percentage, and lets neither stand for the
/// other: "50" could mean both (promises.md §4 row 11).
fn amount(item: &Item<'_>, setting: AmountSetting) -> Result<Amount, Problem> {
    if let Some(digits) = item.decimal() {
        return Ok(Amount::parse(setting, digits)?);
    }
    let instead = "write a number of hosts such as 3, or a percentage such as \"25%\"";
    let Some(text) = item.as_string() else {
        return Err(Problem::new(format!("{} is no number of hosts", item.description()), instead));
    };
    let amount = Amount::parse(setting, text)?;
    match amount {
        Amount::Percent(_) => Ok(amount),
        Amount::Count(count) => {
            let problem = format!("{} may mean hosts or percent", echo(text));
            Err(Problem::new(problem, format!("write {count} for hosts, or \"{count}%\"")))
        }
    }
}
