//! `canary` of a `[[deploy]]`.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    deploy::name,
    problem::{Problem, duration_in},
    reader::{Item, Reader, Section, read},
    strategy::{Promotion, Unsure},
    words::{CANARY, CANARY_STEP, JUDGE},
};
use crate::{
    AllowCookie, AllowHeader, CanaryHosts, CanaryStep, CanarySteps, CheckName, JudgeSetting,
    check::{CHECKS_MAX, ChosenChecks},
    duration_text,
    nearest::nearest,
    pace::echo,
};

/// What it says, each key only if it was written.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct CanarySpec {
    pub hosts: Option<CanaryHosts>,
    pub steps: Option<CanarySteps>,
    pub promote: Option<Promotion>,
    pub unsure: Option<Unsure>,
    pub judge: Option<JudgeSetting>,
    /// None: all that are declared.
    #[serde(default)]
    pub checks: Option<ChosenChecks>,
    /// How clients reach the new release on purpose; by one of them, where both are written.
    pub header: Option<AllowHeader>,
    #[serde(default)]
    pub cookie: Option<AllowCookie>,
}

/// Reads `canary = { hosts = 1, steps = [{ weight = "5%", hold = "5m" }] }`.
pub(super) fn read_canary(
    item: &Item<'_>,
    declared: Option<&BTreeSet<CheckName>>,
    reader: &mut Reader<'_>,
) -> Option<CanarySpec> {
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
    let unsure =
        section.read("unsure", reader, |item| Ok(item.string("\"wait\"")?.parse::<Unsure>()?));
    let judge = section.item("judge").and_then(|item| read_judge(&item, reader));
    let checks = section.item("checks").and_then(|item| read_chosen(&item, declared, reader));
    let header = section.read("header", reader, |item| {
        Ok(item.string("\"x-canary=1\"")?.parse::<AllowHeader>()?)
    });
    let cookie = section
        .read("cookie", reader, |item| Ok(item.string("\"canary=1\"")?.parse::<AllowCookie>()?));
    Some(CanarySpec { hosts, steps, promote, unsure, judge, checks, header, cookie })
}

/// Reads `checks = ["error-ratio", "queue"]`; all of them must be declared.
fn read_chosen(
    item: &Item<'_>,
    declared: Option<&BTreeSet<CheckName>>,
    reader: &mut Reader<'_>,
) -> Option<ChosenChecks> {
    let Some(entries) = item.entries() else {
        let problem = format!("{} is no list of names", item.description());
        reader
            .refuse(&item.place, Problem::new(problem, "write [\"error-ratio\"], or [] for none"));
        return None;
    };
    let mut chosen = Vec::new();
    let mut are_read = true;
    for entry in entries.take(CHECKS_MAX + 1) {
        let name = read(&entry, reader, |item| declared_check(item, declared));
        are_read &= name.is_some();
        chosen.extend(name);
    }
    are_read.then(|| chosen.into_iter().collect())
}

fn declared_check(
    item: &Item<'_>,
    declared: Option<&BTreeSet<CheckName>>,
) -> Result<CheckName, Problem> {
    let check: CheckName = name(item)?;
    // Where the declarations cannot be read, that is the mistake.
    let Some(declared) = declared.filter(|declared| !declared.contains(&check)) else {
        return Ok(check);
    };
    let instead = match nearest(check.as_str(), declared.iter().map(CheckName::as_str)) {
        Some(near) => format!("write {near:?}"),
        None => format!("declare it: [[checks]] with name = \"{check}\""),
    };
    Err(Problem::new(format!("there is no check \"{check}\""), instead))
}

/// Reads `judge = { false_alarms = "0.5%", errors = "2x+0.5%", memory = "off" }`.
fn read_judge(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<JudgeSetting> {
    let section = Section::open(item, &JUDGE, reader)?;
    let mut setting = JudgeSetting::default();
    let mut is_read = true;
    for key in JudgeSetting::KEYS {
        let Some(item) = section.item(key) else { continue };
        let said = read(&item, reader, |item| {
            let text = match item.decimal() {
                Some(digits) if key == "requests_min" => digits,
                Some(_) | None => item.string("\"off\", \"2x\" or what else it takes")?,
            };
            Ok(setting.say(key, text)?)
        });
        is_read &= said.is_some();
    }
    if !is_read || setting == JudgeSetting::default() {
        return None;
    }
    read(item, reader, |_| Ok(setting.checked()?))
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
