//! Coverage: which rows of the list of faults runs have reached, how often, and which pairs of
//! them within one run.

mod course;
mod rows;
mod watch;

pub use self::rows::{Proof, ROWS, Row};
pub(crate) use self::watch::Watch;

/// One more than the highest number of a row.
const NUMBERS: usize = ROWS.len() + 1;

/// How often each row was reached, in one run or in many.
#[derive(Clone, Debug)]
pub struct Coverage {
    counts: [u64; NUMBERS],
    /// For each row the rows that were reached in a run with it, as bits. Empty: this is one run,
    /// and all of its rows were reached together.
    with: Vec<u128>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { counts: [0; NUMBERS], with: Vec::new() }
    }
}

impl Coverage {
    /// Notes that a row of the list of faults was reached.
    pub(crate) fn reach(&mut self, row: u8) {
        if let Some(count) = self.counts.get_mut(usize::from(row)) {
            *count += 1;
        }
    }

    /// Adds what another run, or other runs, reached.
    pub fn add(&mut self, other: &Self) {
        if self.with.is_empty() {
            let alone = self.reached();
            self.with = (0..NUMBERS).map(|row| together(alone, row)).collect();
        }
        let alone = other.reached();
        for (row, with) in self.with.iter_mut().enumerate() {
            *with |= other.with.get(row).copied().unwrap_or_else(|| together(alone, row));
        }
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    /// Returns how often a row was reached.
    pub fn count(&self, row: u8) -> u64 {
        self.counts.get(usize::from(row)).copied().unwrap_or_default()
    }

    /// Returns every row of the list, with how often it was reached.
    pub fn table(&self) -> impl Iterator<Item = (&'static Row, u64)> {
        ROWS.iter().map(|row| (row, self.count(row.number)))
    }

    /// Returns the rows that the simulator is to reach, and has not.
    pub fn missed(&self) -> impl Iterator<Item = &'static Row> {
        self.table()
            .filter(|(row, count)| row.proof == Proof::Cores && *count == 0)
            .map(|(row, _)| row)
    }

    /// Returns how many pairs of rows were reached within one run.
    pub fn pairs(&self) -> u64 {
        let alone = self.reached();
        let with = |row| self.with.get(row).copied().unwrap_or_else(|| together(alone, row));
        // Each pair is noted at both of its rows.
        (0..NUMBERS).map(|row| u64::from(with(row).count_ones())).sum::<u64>() / 2
    }

    /// Returns how many pairs there are of rows that the simulator is to reach.
    pub fn pairs_max() -> u64 {
        let rows = ROWS.iter().filter(|row| row.proof == Proof::Cores).count() as u64;
        rows * rows.saturating_sub(1) / 2
    }

    fn reached(&self) -> u128 {
        let bits = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        bits.fold(0, |all, (row, _)| all | 1 << row)
    }
}

/// Returns the other rows of a run that reached all of `reached`, seen from `row`.
const fn together(reached: u128, row: usize) -> u128 {
    let own = 1 << row;
    if reached & own == 0 { 0 } else { reached & !own }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rows: &[u8]) -> Coverage {
        let mut coverage = Coverage::default();
        for row in rows {
            coverage.reach(*row);
        }
        coverage
    }

    #[test]
    fn rows_are_numbered_as_in_the_list() {
        for (index, row) in ROWS.iter().enumerate() {
            assert_eq!(usize::from(row.number), index + 1, "{}", row.name);
        }
    }

    #[test]
    fn pairs_are_counted_within_a_run_and_once() {
        let mut all = Coverage::default();
        all.add(&run(&[1, 2, 2]));
        all.add(&run(&[2, 1]));
        all.add(&run(&[3]));
        assert_eq!((all.pairs(), all.count(2)), (1, 3));

        let mut other = Coverage::default();
        other.add(&run(&[1, 3, 7]));
        all.add(&other);

        assert_eq!(all.pairs(), 4);
        assert_eq!(run(&[1, 3, 7]).pairs(), 3);
    }
}
