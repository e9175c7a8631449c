//! Everything that a person reads: plain facts and a paint in, text out. Nothing here does I/O
//! but [`console`].

pub mod console;
pub mod fleet;
pub mod json;
pub mod plan;
pub mod progress;
pub mod release;
pub mod rollout;
pub mod simulated;
pub mod status;
pub mod table;
#[cfg(test)]
mod tests;
pub mod transfer;

use std::{collections::BTreeMap, time::Duration};

use cutover_common::Timestamp;
use cutover_runtime::tls::utc;

use crate::text::Text;

/// Whether to colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Paint {
    Plain,
    Colour,
}

/// What a colour is to say. The words say it too: colour is never the only sign.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
    Busy,
    Quiet,
    Heading,
}

impl Paint {
    /// Colours `text`, or not.
    pub fn tone(self, tone: Tone, text: &str) -> String {
        let code = match (self, tone) {
            (Self::Plain, _) | (_, Tone::Plain) => return text.to_owned(),
            (Self::Colour, Tone::Good) => 32,
            (Self::Colour, Tone::Bad) => 31,
            (Self::Colour, Tone::Busy) => 33,
            (Self::Colour, Tone::Quiet) => 2,
            (Self::Colour, Tone::Heading) => 1,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Returns the tone of a word for a state, of a host, an agent, an instance or a rollout.
pub fn tone_of(word: &str) -> Tone {
    match word {
        "live" | "succeeded" | "staged" | "updated" | "healthy" => Tone::Good,
        "lost" | "failed" | "failing" | "unreachable" | "stuck" | "held" | "rolled_back"
        | "aborted" | "refused" => Tone::Bad,
        "advancing" | "baking" | "rolling_back" | "paused" | "preparing" | "updating"
        | "staging" | "reverting" | "passing" | "starting" | "stopping" | "waiting" => Tone::Busy,
        "pending" | "prepared" | "excluded" | "queued" | "never_seen" | "unknown" | "nothing" => {
            Tone::Quiet
        }
        _ => Tone::Plain,
    }
}

/// Prints a word of the wire for people: `rolling_back` as `rolling back`.
fn words(text: &str) -> String {
    text.replace('_', " ")
}

/// Prints an optional text, `-` for none.
fn or_dash(text: Option<&Text>) -> &str {
    text.map_or("-", Text::as_str)
}

/// Prints a number of bytes in the unit that leaves 1 to 4 digits.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // In tenths, rounded down, so that nothing is shown as more than it is.
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Prints how long something took, in its two largest units.
pub fn took(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Prints how long ago a moment is.
fn ago(now: Timestamp, unix_ms: u64) -> String {
    format!("{} ago", took(now.since(Timestamp::from_unix_ms(unix_ms))))
}

/// Prints a moment.
fn moment(unix_ms: u64) -> String {
    utc(Timestamp::from_unix_ms(unix_ms))
}

/// Prints labels as they are typed.
fn labels(labels: &BTreeMap<Text, Text>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// Prints names in one line, the first ones when there are many.
fn names(names: &[Text]) -> String {
    // Two lines of a usual terminal; the JSON output has all.
    const NAMES_MAX: usize = 12;
    let mut shown: Vec<String> = names.iter().take(NAMES_MAX).map(Text::to_string).collect();
    if names.len() > NAMES_MAX {
        shown.push(format!("and {} more", names.len() - NAMES_MAX));
    }
    shown.join(", ")
}

/// Prints a count with its noun: `1 host`, `3 hosts`.
fn count(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Prints how many labels changed.
pub fn count_of_labels(labels: usize) -> String {
    count(labels, "label")
}
