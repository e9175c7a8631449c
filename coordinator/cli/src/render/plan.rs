//! A plan: batch by batch, with its worst moment and where each setting came from.

use std::{fmt::Write as _, time::Duration};

use cutover_common::duration_text;

use super::{
    Paint, Tone, count, names,
    table::{Cell, table},
};
use crate::{text::Text, view::Plan};

/// Prints what deploying `application` to `environment` would do.
pub fn plan(application: &str, environment: &str, plan: &Plan, paint: Paint) -> String {
    let mut text = String::new();
    let heading = summary(application, environment, plan);
    put(&mut text, &paint.tone(Tone::Heading, &heading));
    put(&mut text, &worst(plan));
    if let Some(replacement) = replacement(plan) {
        put(&mut text, &replacement);
    }
    if let Some(why) = &plan.not_passed_on {
        put(&mut text, &format!("its requests are not passed on: {why}"));
    }
    if let Some(once) = &plan.once {
        put(&mut text, once.as_str());
    }

    if !plan.waves.is_empty() {
        text.push('\n');
        let rows: Vec<[Cell; 4]> = plan
            .waves
            .iter()
            .enumerate()
            .map(|(index, wave)| {
                let steps: Vec<&str> = wave.steps.iter().map(Text::as_str).collect();
                [
                    (index + 1).into(),
                    names(&wave.agents).into(),
                    format!("{} of {}", wave.worst_healthy, plan.hosts).into(),
                    steps.join(", ").into(),
                ]
            })
            .collect();
        text += &table(["WAVE", "HOSTS", "HEALTHY AT WORST", "STEPS"], &rows, paint);
    }
    if !plan.settings.is_empty() {
        text.push('\n');
        let rows: Vec<[Cell; 3]> = plan
            .settings
            .iter()
            .map(|setting| {
                [(&setting.name).into(), (&setting.value).into(), (&setting.source).into()]
            })
            .collect();
        text += &table(["SETTING", "VALUE", "FROM"], &rows, paint);
    }
    if !plan.up_to_date.is_empty() {
        text.push('\n');
        put(&mut text, &format!("on {} already: {}", plan.to_version, names(&plan.up_to_date)));
    }
    if !plan.drained.is_empty() {
        text.push('\n');
        put(&mut text, &format!("left out, as drained: {}", names(&plan.drained)));
    }
    text
}

/// Prints a plan in one line.
pub fn summary(application: &str, environment: &str, plan: &Plan) -> String {
    let from = plan.from_version.as_ref().map_or(String::new(), |from| format!("{from} → "));
    let moved: usize = plan.waves.iter().map(|wave| wave.agents.len()).sum();
    format!(
        "{application} {from}{} to {environment}: {}, {} in {}",
        plan.to_version,
        plan.strategy,
        count(moved, "host"),
        batches(plan.waves.len()),
    )
}

/// Prints the worst moment of a plan in one line.
pub fn worst(plan: &Plan) -> String {
    if plan.from_version.is_none() {
        return "nothing runs there yet: hosts become healthy batch by batch".to_owned();
    }
    format!(
        "at the worst moment {} of {} healthy, never fewer than {}",
        plan.worst_healthy,
        count(usize::try_from(plan.hosts).unwrap_or(usize::MAX), "host"),
        plan.min_healthy,
    )
}

/// Says what clients notice while a host is replaced.
fn replacement(plan: &Plan) -> Option<String> {
    match (plan.replacement.as_str(), plan.outage_ms) {
        ("beside", _) => {
            let text = "each host starts the new version beside the old one: no outage";
            Some(text.to_owned())
        }
        ("passed_on", _) => {
            let text = "each host passes its requests on to the others while it is replaced";
            Some(text.to_owned())
        }
        ("outage", Some(ms)) => {
            let longest = duration_text::print(Duration::from_millis(ms));
            Some(format!(
                "each host serves nobody while it is replaced: {longest} at most when it was last \
                 measured"
            ))
        }
        ("outage", None) => {
            let text =
                "each host serves nobody while it is replaced; how long is measured this time";
            Some(text.to_owned())
        }
        _ => None,
    }
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String does not fail");
}

fn batches(count: usize) -> String {
    if count == 1 { "1 batch".to_owned() } else { format!("{count} batches") }
}
