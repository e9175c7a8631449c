//! Coverage: which rows of the list of faults a run has reached, and how often.

use std::collections::BTreeMap;

/// How often each row was reached.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pub rows: BTreeMap<u16, u64>,
}

impl Coverage {
    /// Notes that a row of the list of faults was reached.
    pub fn reach(&mut self, row: u16) {
        *self.rows.entry(row).or_default() += 1;
    }

    /// Adds what another run reached.
    pub fn add(&mut self, other: &Self) {
        for (row, count) in &other.rows {
            *self.rows.entry(*row).or_default() += count;
        }
    }
}
