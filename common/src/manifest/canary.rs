//! `canary` of a `[[deploy]]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    problem::{Problem, duration_in},
    reader::{Item, Reader, Section, read},
    strategy::{Promotion, Unsure},
    words::{CANARY, CANARY_STEP},
};
use crate::{
    Allow, CanaryHosts, CanaryStep, CanarySteps, duration_text,
    pace::{echo, parse_allow},
};

/// What it says, each key only if it was written.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct CanarySpec {
    pub hosts: Option<CanaryHosts>,
    pub steps: Option<CanarySteps>,
    pub promote: Option<Promotion>,
    pub unsure: Option<Unsure>,
    pub header: Option<Allow>,
}

/// Reads `canary = { hosts = 1, steps = [{ weight = "5%", hold = "5m" }] }`.
pub(super) fn read_canary(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<CanarySpec> {
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
    let header =
        section.read("header", reader, |item| Ok(parse_allow(item.string("\"x-canary=1\"")?)?));
    Some(CanarySpec { hosts, steps, promote, unsure, header })
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
