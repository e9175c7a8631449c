//! The live view of a rollout: a few lines redrawn in place on a terminal, and a line for each
//! change everywhere else.

use std::{collections::BTreeMap, fmt::Write as _};

use cutover_common::Timestamp;

use super::{Paint, Tone, rollout::elapsed, tone_of, took, words};
use crate::{
    text::Text,
    view::{Rollout, RolloutHost, short},
};

/// How large the terminal is, in characters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size {
    pub columns: usize,
    pub rows: usize,
}

/// What is drawn at the moment, so that it can be drawn over.
#[derive(Debug, Default)]
pub struct Drawing {
    lines: usize,
}

impl Drawing {
    /// Returns what to print so that `frame` takes the place of what was drawn before.
    pub fn redraw(&mut self, frame: &[String]) -> String {
        let mut text = self.erase();
        for line in frame {
            writeln!(text, "{line}").expect("writing to a String does not fail");
        }
        self.lines = frame.len();
        text
    }

    /// Returns what to print so that nothing is left of what was drawn.
    pub fn erase(&mut self) -> String {
        match std::mem::take(&mut self.lines) {
            0 => String::new(),
            // To the beginning of the line, up, and clear everything below (ECMA-48 CPL and ED).
            lines => format!("\u{1b}[{lines}F\u{1b}[J"),
        }
    }
}

/// Draws a rollout as lines that fit into `size`.
pub fn frame(rollout: &Rollout, now: Timestamp, size: Size, paint: Paint) -> Vec<String> {
    let after = took(elapsed(rollout, now));
    let title = format!("{} ({})", rollout.title(), short(&rollout.id));
    let standing = format!("{}, {after}", standing(rollout));
    let mut lines = vec![
        paint.tone(Tone::Heading, &cut(&title, size.columns)),
        paint.tone(tone_of(rollout.state.as_str()), &cut(&standing, size.columns)),
    ];
    // Two lines above, up to three of the reason, one for the rest of the hosts, one for the
    // cursor: what is left is for hosts. At least three: a smaller terminal may scroll.
    let hosts_max = size.rows.saturating_sub(7).max(3);
    lines.extend(hosts(rollout, hosts_max, size.columns, paint));
    // How it ended is the result, which follows on stdout.
    if !rollout.why.is_empty() && !rollout.is_over() {
        lines.extend(wrap(rollout.why.as_str(), size.columns, 3));
    }
    lines
}

fn hosts(rollout: &Rollout, hosts_max: usize, columns: usize, paint: Paint) -> Vec<String> {
    let mut hosts: Vec<&RolloutHost> = rollout.hosts.iter().collect();
    // When not all fit, those that move or are in trouble come first.
    if hosts.len() > hosts_max {
        hosts.sort_by_key(|host| {
            let state = host.state.as_str();
            matches!(state, "pending" | "prepared" | "updated" | "reverted" | "excluded")
        });
    }
    let rest = hosts.split_off(hosts_max.min(hosts.len()));
    let width = hosts.iter().map(|host| host.agent.as_str().chars().count()).max().unwrap_or(0);
    let mut lines: Vec<String> = hosts
        .into_iter()
        .map(|host| {
            let state = words(host.state.as_str());
            let line = cut(&format!("  {:width$}  {state:<11}  ", host.agent), columns);
            let left = columns.saturating_sub(line.chars().count());
            let detail = cut(host.detail.as_ref().map_or("", Text::as_str), left);
            paint.tone(tone_of(host.state.as_str()), line.trim_end())
                + &" ".repeat(if detail.is_empty() { 0 } else { trailing_spaces(&line) })
                + &detail
        })
        .collect();
    if !rest.is_empty() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for host in &rest {
            *counts.entry(host.state.as_str()).or_default() += 1;
        }
        let counts: Vec<String> =
            counts.iter().map(|(state, count)| format!("{count} {}", words(state))).collect();
        lines.push(cut(&format!("  and {} more: {}", rest.len(), counts.join(", ")), columns));
    }
    lines
}

fn trailing_spaces(line: &str) -> usize {
    line.chars().rev().take_while(|c| *c == ' ').count()
}

/// Returns a line for each thing that changed from `before` to `after`; no `before`: for
/// everything that can be seen.
pub fn changes(before: Option<&Rollout>, after: &Rollout) -> Vec<String> {
    let mut lines = Vec::new();
    if before.is_none() {
        lines.push(format!("rollout {}: {}", after.id, after.title()));
    }
    if before.map(|before| (&before.state, before.wave)) != Some((&after.state, after.wave)) {
        lines.push(standing(after));
    }
    let known: BTreeMap<&Text, &RolloutHost> = before
        .iter()
        .flat_map(|before| before.hosts.iter().map(|host| (&host.agent, host)))
        .collect();
    for host in &after.hosts {
        let is_known = known
            .get(&host.agent)
            .is_some_and(|known| known.state == host.state && known.detail == host.detail);
        // At the beginning a host that waits for its turn is no news.
        let is_waiting = before.is_none() && host.state.as_str() == "pending";
        if !is_known && !is_waiting {
            let state = words(host.state.as_str());
            lines.push(match &host.detail {
                Some(detail) => format!("{}: {state}, {detail}", host.agent),
                None => format!("{}: {state}", host.agent),
            });
        }
    }
    let reason = |rollout: &Rollout| without_numbers(rollout.why.as_str());
    if !after.why.is_empty() && before.map(reason) != Some(reason(after)) {
        lines.push(after.why.to_string());
    }
    lines
}

/// Returns the state, and the wave when one is under way.
fn standing(rollout: &Rollout) -> String {
    let state = rollout.state.words();
    match rollout.wave {
        0 => state,
        wave => format!("{state}, batch {wave} of {}", rollout.waves),
    }
}

/// Returns what stays of a reason while only its countdown goes on ("it holds in 42s"): that is
/// no news for a log. What its numbers count otherwise, hosts, has lines of its own.
fn without_numbers(why: &str) -> String {
    let is_kept = |word: &&str| !word.starts_with(|c: char| c.is_ascii_digit());
    why.split_whitespace().filter(is_kept).collect::<Vec<_>>().join(" ")
}

/// Cuts a line to a width: a line that wraps would not be drawn over.
fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    let mut cut: String = line.chars().take(columns.saturating_sub(1)).collect();
    cut.extend((columns > 0).then_some('…'));
    cut
}

/// Breaks a text into lines between words; cuts what does not fit into `lines_max`.
fn wrap(text: &str, columns: usize, lines_max: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let is_last = lines.len() == lines_max;
        let line = lines.last_mut().expect("there is always a line: it begins with one");
        let fits = line.chars().count() + 1 + word.chars().count() <= columns;
        if line.is_empty() {
            line.push_str(word);
        } else if fits || is_last {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.iter().map(|line| cut(line, columns)).collect()
}
