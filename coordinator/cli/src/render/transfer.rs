//! How far packing or sending is: one line redrawn on a terminal, a line for each quarter
//! elsewhere.

use super::bytes;

/// Something that goes on for a while, measured in bytes.
#[derive(Debug)]
pub struct Transfer {
    what: String,
    /// None: nobody knows how much it will be.
    total_bytes: Option<u64>,
    /// The last quarter that was told.
    quarter: u64,
    is_drawn: bool,
}

/// What to show.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Progress {
    /// For a terminal only.
    Redraw(String),
    /// Also worth a line of its own, where nothing can be redrawn.
    Milestone { redraw: String, line: String },
}

/// Goes to the beginning of the line and clears it (ECMA-48 EL).
const CLEAR_LINE: &str = "\r\u{1b}[2K";

impl Transfer {
    /// Begins something.
    pub fn new(what: String, total_bytes: Option<u64>) -> Self {
        Self {
            what: crate::text::Text::from(what).to_string(),
            total_bytes,
            quarter: 0,
            is_drawn: false,
        }
    }

    /// Says how far it is.
    pub fn at(&mut self, done_bytes: u64) -> Progress {
        self.is_drawn = true;
        let Some(total) = self.total_bytes else {
            return Progress::Redraw(format!("{CLEAR_LINE}{}: {}", self.what, bytes(done_bytes)));
        };
        let share = |parts: u64| {
            u64::try_from(u128::from(done_bytes) * u128::from(parts) / u128::from(total.max(1)))
                .unwrap_or(parts)
        };
        let line =
            format!("{}: {} of {} ({} %)", self.what, bytes(done_bytes), bytes(total), share(100));
        let redraw = format!("{CLEAR_LINE}{line}");
        let quarter = share(4);
        if quarter <= self.quarter {
            return Progress::Redraw(redraw);
        }
        self.quarter = quarter;
        Progress::Milestone { redraw, line }
    }

    /// Returns what to print so that nothing is left of it on a terminal.
    pub fn erase(&mut self) -> String {
        if std::mem::take(&mut self.is_drawn) { CLEAR_LINE.to_owned() } else { String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_each_quarter_is_a_line() {
        let mut transfer = Transfer::new("sending web@1".to_owned(), Some(4 << 20));

        let lines: Vec<String> = (0..=8)
            .filter_map(|half_mib| match transfer.at(half_mib << 19) {
                Progress::Milestone { line, .. } => Some(line),
                Progress::Redraw(_) => None,
            })
            .collect();

        insta::assert_snapshot!(lines.join("\n"), @r"
        sending web@1: 1.0 MiB of 4.0 MiB (25 %)
        sending web@1: 2.0 MiB of 4.0 MiB (50 %)
        sending web@1: 3.0 MiB of 4.0 MiB (75 %)
        sending web@1: 4.0 MiB of 4.0 MiB (100 %)
        ");
    }
}
