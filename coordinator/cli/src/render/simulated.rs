//! A simulation: what would happen when, how it would end, and what is assumed.

use std::{fmt::Write as _, time::Duration};

use super::{
    Paint, Tone, count, names, or_dash,
    table::{Cell, table},
    tone_of, took, words,
};
use crate::{
    text::Text,
    view::{HostEnd, Simulated},
};

/// Prints how deploying `application` to `environment` would go.
pub fn simulated(
    application: &str,
    environment: &str,
    simulated: &Simulated,
    paint: Paint,
) -> String {
    let mut text = String::new();
    let from = simulated.from_version.as_ref().map_or_else(String::new, |it| format!("{it} → "));
    let heading = format!(
        "{application} {from}{} to {environment}, simulated: {}, {} in {}",
        simulated.to_version,
        simulated.strategy,
        count(simulated.host_ends.len(), "host"),
        batches(simulated.batches),
    );
    put(&mut text, &paint.tone(Tone::Heading, &heading));
    put(&mut text, &format!("assumed: {}", simulated.assumed));
    text.push('\n');
    let moments: Vec<String> = simulated.story.iter().map(|line| moment(line.after_ms)).collect();
    let width = moments.iter().map(String::len).max().unwrap_or_default();
    for (moment, line) in moments.iter().zip(&simulated.story) {
        put(&mut text, &format!("{moment:<width$}  {}", line.text));
    }
    text.push('\n');
    put(&mut text, &ending(simulated, paint));
    put(&mut text, simulated.why.as_str());
    if simulated.ending.as_str() == "waits" {
        put(&mut text, "with --promote it goes on from there");
    }
    let (lowest, hosts) = (simulated.lowest_healthy, simulated.hosts);
    let first = moment(simulated.lowest_after_ms);
    put(&mut text, &format!("fewest healthy hosts: {lowest} of {hosts}, first at {first}"));
    if !simulated.host_ends.is_empty() {
        text.push('\n');
        text += &hosts_at_the_end(&simulated.host_ends, paint);
    }
    text
}

fn ending(simulated: &Simulated, paint: Paint) -> String {
    let word = simulated.ending.as_str();
    let tone = match word {
        "waits" => Tone::Busy,
        "unfinished" => Tone::Bad,
        word => tone_of(word),
    };
    let after = took(Duration::from_millis(simulated.lasts_ms));
    format!("{} after {after}", paint.tone(tone, &words(word)))
}

/// Prints hosts that end alike in one row.
fn hosts_at_the_end(ends: &[HostEnd], paint: Paint) -> String {
    let mut alike: Vec<(&HostEnd, Vec<Text>)> = Vec::new();
    for end in ends {
        let is_alike = |other: &HostEnd| {
            (&other.state, &other.running_version, &other.detail)
                == (&end.state, &end.running_version, &end.detail)
        };
        match alike.iter_mut().find(|(other, _)| is_alike(other)) {
            Some((_, agents)) => agents.push(end.agent.clone()),
            None => alike.push((end, vec![end.agent.clone()])),
        }
    }
    let rows: Vec<[Cell; 4]> = alike
        .iter()
        .map(|(end, agents)| {
            [
                names(agents).into(),
                Cell::toned(tone_of(end.state.as_str()), words(end.state.as_str())),
                or_dash(end.running_version.as_ref()).into(),
                or_dash(end.detail.as_ref()).into(),
            ]
        })
        .collect();
    table(["HOSTS", "STATE", "RUN", "DETAIL"], &rows, paint)
}

/// Prints how long after the start: `+0:12`, `+1:02:03`.
fn moment(after_ms: u64) -> String {
    let seconds = after_ms / 1_000;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("+{minutes}:{seconds:02}"),
        hours => format!("+{hours}:{minutes:02}:{seconds:02}"),
    }
}

fn batches(count: u32) -> String {
    if count == 1 { "1 batch".to_owned() } else { format!("{count} batches") }
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String does not fail");
}
