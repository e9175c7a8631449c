//! `[[deploy]]`: how a release comes to one environment. What is absent is left to the flags of
//! the command and to the coordinator's defaults.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    problem::{Problem, duration_in},
    reader::{Item, Reader, Section, read},
    words::{CANARY, CANARY_STEP, DEPLOY},
};
use crate::{
    Allow, Amount, AmountSetting, Batches, CanaryHosts, CanaryStep, CanarySteps, DeploySetting,
    EnvironmentName, InvalidSetting, MaxLoad, Pauses, duration_text,
    host::is_label_part,
    nearest::nearest,
    pace::{echo, parse_allow},
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
    pub healthy_for: Option<Duration>,
    pub healthy_within: Option<Duration>,
    pub progress_within: Option<Duration>,
    pub soak: Option<Duration>,
    pub bake: Option<Duration>,
    pub auto_rollback: Option<bool>,
}

/// `canary` of a `[[deploy]]`, each key only if it was written.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct CanarySpec {
    pub hosts: Option<CanaryHosts>,
    pub steps: Option<CanarySteps>,
    pub promote: Option<Promotion>,
    pub header: Option<Allow>,
}

/// Who says that a canary was good enough.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// The judge.
    #[default]
    Auto,
    /// A person, after the judge.
    Manual,
}

impl FromStr for Promotion {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let name = DeploySetting::CanaryPromote.name();
        one_of(name, text, [("auto", Self::Auto), ("manual", Self::Manual)])
    }
}

impl fmt::Display for Promotion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Manual => "manual",
        })
    }
}

/// How clients are led from one release to the other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CutoverMode {
    /// All gates hold what is new until nothing is under way at the old release: no request gets the
    /// old one after one got the new one.
    #[default]
    Strict,
    /// Each gate leads to the new one as soon as it hears of it.
    Relaxed,
}

impl FromStr for CutoverMode {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let name = DeploySetting::Cutover.name();
        one_of(name, text, [("strict", Self::Strict), ("relaxed", Self::Relaxed)])
    }
}

impl fmt::Display for CutoverMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Strict => "strict",
            Self::Relaxed => "relaxed",
        })
    }
}

fn one_of<T: Copy, const N: usize>(
    setting: &'static str,
    text: &str,
    words: [(&str, T); N],
) -> Result<T, InvalidSetting> {
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let words = words.map(|(word, _)| echo(word)).join(" or ");
        let problem = format!("{} is not one of its words", echo(text));
        InvalidSetting::new(setting, problem, format!("write {words}"))
    })
}

/// How a rollout moves through its hosts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// One wave a batch.
    Rolling,
    /// A small wave that gets traffic step by step and is judged, then the rest as rolling.
    Canary,
    /// The new release starts everywhere, then clients are led to it at one moment.
    BlueGreen,
    /// One wave.
    AllAtOnce,
    /// Rolling, with the release that runs: each instance is replaced by a new one of the same.
    Restart,
}

impl Strategy {
    /// All of them, in the order to list.
    pub const ALL: [Self; 5] =
        [Self::Rolling, Self::Canary, Self::BlueGreen, Self::AllAtOnce, Self::Restart];

    /// Returns the name, as in `cutover.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Canary => "canary",
            Self::BlueGreen => "blue_green",
            Self::AllAtOnce => "all_at_once",
            Self::Restart => "restart",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Strategy {
    type Err = InvalidSetting;

    /// Parses a name, with underscores as in the file or hyphens as on the command line.
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let name = text.replace('-', "_");
        if let Some(strategy) = Self::ALL.into_iter().find(|strategy| strategy.name() == name) {
            return Ok(strategy);
        }
        let names = Self::ALL.map(Self::name);
        let write_one = || format!("write one of {}", names.map(echo).join(", "));
        let instead =
            nearest(&name, names).map_or_else(write_one, |name| format!("write {name:?}"));
        Err(InvalidSetting::new("strategy", format!("{} is no strategy", echo(text)), instead))
    }
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

/// Reads all `[[deploy]]`.
pub(super) fn read_deploys(top: &Section<'_>, reader: &mut Reader<'_>) -> Option<Vec<DeploySpec>> {
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
        let deploy = read_deploy(&entry, &mut environments, reader);
        deploys.extend(deploy);
    }
    (deploys.len() == count).then_some(deploys)
}

fn read_deploy(
    item: &Item<'_>,
    environments: &mut BTreeSet<EnvironmentName>,
    reader: &mut Reader<'_>,
) -> Option<DeploySpec> {
    let section = Section::open(item, &DEPLOY, reader)?;
    let environment = section
        .required("environment", "write environment = \"production\"", reader)
        .and_then(|item| read(&item, reader, |item| environment(item, environments)));
    let strategy = section
        .read("strategy", reader, |item| Ok(item.string("\"rolling\"")?.parse::<Strategy>()?));
    let batch = read_batches(&section, reader);
    if strategy == Some(Strategy::AllAtOnce)
        && let Some(item) = section.item("batch")
    {
        let problem = "has no meaning beside strategy = \"all_at_once\"";
        let instead = "remove it, or write strategy = \"rolling\"";
        reader.refuse(&item.place, Problem::new(problem, instead));
    }
    let mut amount =
        |setting: AmountSetting| section.read(setting.name(), reader, |item| amount(item, setting));
    let min_healthy = amount(AmountSetting::MinHealthy);
    let zone_min_healthy = amount(AmountSetting::ZoneMinHealthy);
    let max_failed = amount(AmountSetting::MaxFailed);
    let max_unreachable = amount(AmountSetting::MaxUnreachable);
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
    let cutover = section.read(DeploySetting::Cutover.name(), reader, |item| {
        Ok(item.string("\"strict\"")?.parse::<CutoverMode>()?)
    });
    let canary = match section.item("canary") {
        Some(item) => read_canary(&item, reader)?,
        None => CanarySpec::default(),
    };
    let sliding = section.read(DeploySetting::Sliding.name(), reader, Item::boolean);
    let pause_after = section.read(DeploySetting::PauseAfter.name(), reader, pauses);
    let zone = section.read(DeploySetting::Zone.name(), reader, label_key);
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
        sliding,
        pause_after,
        zone,
        zone_soak,
        min_healthy,
        zone_min_healthy,
        max_load,
        max_failed,
        max_unreachable,
        healthy_for,
        healthy_within,
        progress_within,
        soak,
        bake,
        auto_rollback,
    })
}

/// Reads `canary = { hosts = 1, steps = [{ weight = "5%", hold = "5m" }] }`.
fn read_canary(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<CanarySpec> {
    let section = Section::open(item, &CANARY, reader)?;
    let hosts = section.read("hosts", reader, |item| {
        if let Some(digits) = item.decimal() {
            return Ok(digits.parse::<CanaryHosts>()?);
        }
        Ok(item.string("\"10%\"")?.parse::<CanaryHosts>()?)
    });
    let steps = match section.item("steps") {
        Some(item) => read_canary_steps(&item, reader),
        None => None,
    };
    let promote = section
        .read("promote", reader, |item| Ok(item.string("\"manual\"")?.parse::<Promotion>()?));
    let header =
        section.read("header", reader, |item| Ok(parse_allow(item.string("\"x-canary=1\"")?)?));
    Some(CanarySpec { hosts, steps, promote, header })
}

fn read_canary_steps(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<CanarySteps> {
    let instead = "write a list such as [{ weight = \"5%\", hold = \"5m\" }]";
    let Some(entries) = item.entries() else {
        let problem = format!("{} is no list of steps", item.description());
        reader.refuse(&item.place, Problem::new(problem, instead));
        return None;
    };
    let mut steps = Vec::new();
    let mut are_read = true;
    for entry in entries.take(CanarySteps::MAX + 1) {
        let step = Section::open(&entry, &CANARY_STEP, reader)
            .and_then(|section| read_canary_step(&section, reader));
        are_read &= step.is_some();
        steps.extend(step);
    }
    if !are_read {
        return None;
    }
    read(item, reader, |_| Ok(CanarySteps::new(steps)?))
}

fn read_canary_step(section: &Section<'_>, reader: &mut Reader<'_>) -> Option<CanaryStep> {
    let weight = section.required("weight", "write weight = \"5%\"", reader).and_then(|item| {
        read(&item, reader, |item| {
            let text = item.string("\"5%\"")?;
            let percent = text.strip_suffix('%').and_then(|digits| digits.parse::<u32>().ok());
            percent.ok_or_else(|| {
                let problem = format!("{} is no share of the traffic", echo(text));
                Problem::new(problem, "write a percentage from \"1%\" to \"100%\"")
            })
        })
    });
    let hold = section.required("hold", "write hold = \"5m\"", reader).and_then(|item| {
        read(&item, reader, |item| {
            let range = Duration::ZERO..=duration_text::LONGEST;
            duration_in(item.duration_text()?, &range)
        })
    });
    let (weight, hold) = (weight?, hold?);
    let item = section.item("weight")?;
    read(&item, reader, |_| Ok(CanaryStep::new(weight, hold)?))
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

fn label_key(item: &Item<'_>) -> Result<String, Problem> {
    let text = item.string("\"zone\"")?;
    if is_label_part(text) {
        return Ok(text.to_owned());
    }
    let problem = format!("{} is no key of a label", echo(text));
    Err(Problem::new(problem, "write the key of a label that agents have, such as \"zone\""))
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
