//! Table: what was called, how often it was the last call, and what came of it.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use super::{Outcome, Point, Promise, Window};
use crate::live::Which;

/// What a daemon did, and in which window.
type Part = (&'static str, &'static str);

#[derive(Debug, Default)]
struct Row {
    calls: usize,
    kills: usize,
    broken: usize,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Table {
    rows: BTreeMap<(Part, String), Row>,
    kills: usize,
    late: usize,
    unreached: usize,
    longest_gap: Duration,
    broken: BTreeMap<Promise, usize>,
}

impl Table {
    /// Notes the kinds of the calls that there are to walk through.
    pub fn expect(&mut self, point: Point, kinds: &[String]) {
        for kind in kinds {
            self.row(point, kind).calls += 1;
        }
    }

    /// Notes what came of one kill.
    pub fn note(&mut self, outcome: &Outcome) {
        let Some(kind) = &outcome.kind else {
            self.unreached += 1;
            return;
        };
        let row = self.row(outcome.point, kind);
        row.kills += 1;
        row.broken += usize::from(!outcome.broken.is_empty());
        self.kills += 1;
        self.late += usize::from(outcome.late > 0);
        self.longest_gap = self.longest_gap.max(outcome.gap);
        for broken in &outcome.broken {
            *self.broken.entry(broken.promise).or_default() += 1;
        }
    }

    /// Returns whether anything is broken.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    fn row(&mut self, point: Point, kind: &str) -> &mut Row {
        let daemon = match point.daemon {
            Which::Coordinator => "coordinator",
            Which::Agent(_) => "agent",
        };
        let window = match point.window {
            Window::Deployment => "deployment",
            Window::Restart { .. } => "restart",
        };
        self.rows.entry(((daemon, window), kind.to_owned())).or_default()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        writeln!(
            text,
            "{:<12} {:<11} {:<16} {:>6} {:>6} {:>7}",
            "daemon", "in its", "last call", "calls", "kills", "broken"
        )?;
        for (((daemon, window), kind), Row { calls, kills, broken }) in &self.rows {
            writeln!(
                text,
                "{daemon:<12} {window:<11} {kind:<16} {calls:>6} {kills:>6} {broken:>7}"
            )?;
        }
        writeln!(text, "\n{:<8} {:>7} {:>7}", "promise", "checks", "broken")?;
        for promise in Promise::ALL {
            let broken = self.broken.get(&promise).copied().unwrap_or_default();
            writeln!(text, "{:<8} {:>7} {broken:>7}", promise.id(), self.kills)?;
        }
        writeln!(
            text,
            "\n{} kills, {} of them after another thread's further call; {} points were not reached; \
             nobody answered on a host for at most {} ms",
            self.kills,
            self.late,
            self.unreached,
            self.longest_gap.as_millis()
        )?;
        f.write_str(&text)
    }
}
