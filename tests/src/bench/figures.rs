//! What was measured: figures with their units, as a table and as JSON.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

/// One figure.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// What it is compared with, or how far it spreads.
    remark: String,
}

/// The figures of one subject.
#[derive(Clone, Debug)]
pub(super) struct Section {
    title: String,
    figures: Vec<Figure>,
    /// What a reader must know to judge them.
    notes: Vec<String>,
}

/// Everything that one run measured.
#[derive(Clone, Debug)]
pub struct Report {
    machine: Vec<(&'static str, String)>,
    sections: Vec<Section>,
}

impl Section {
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), figures: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn figure(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        remark: impl Into<String>,
    ) {
        self.figures.push(Figure { name: name.into(), value, unit, remark: remark.into() });
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

impl Report {
    pub(super) const fn new(machine: Vec<(&'static str, String)>) -> Self {
        Self { machine, sections: Vec::new() }
    }

    pub(super) fn add(&mut self, section: Section) {
        self.sections.push(section);
    }

    /// Adds what is known only at the end: `foreign` is the share of all cpus that others used.
    pub(super) fn close(&mut self, took: Duration, load: String, foreign: f64) {
        self.machine.push(("load at the end", load));
        self.machine.push(("used by others", format!("{:.0} % of all cpus", foreign * 100.0)));
        self.machine.push(("took", format!("{} s", took.as_secs())));
    }

    /// Returns the table for people.
    pub fn render(&self) -> String {
        let mut text = String::from("Machine\n");
        let put = "writing to a string cannot fail";
        for (name, value) in &self.machine {
            writeln!(text, "  {name:<16} {value}").expect(put);
        }
        let figures = self.sections.iter().flat_map(|section| &section.figures);
        let width = figures.map(|figure| figure.name.chars().count()).max().unwrap_or(0);
        for section in &self.sections {
            writeln!(text, "\n{}", section.title).expect(put);
            for figure in &section.figures {
                let Figure { name, value, unit, remark } = figure;
                let value = shown(*value);
                let line = format!("  {name:<width$}  {value:>9} {unit:<10}  {remark}");
                writeln!(text, "{}", line.trim_end()).expect(put);
            }
            for note in &section.notes {
                writeln!(text, "  - {note}").expect(put);
            }
        }
        text
    }

    /// Returns the same for programs.
    pub fn to_json(&self) -> Value {
        let machine: serde_json::Map<String, Value> =
            self.machine.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let sections: Vec<Value> = self
            .sections
            .iter()
            .map(|section| {
                let figures: Vec<Value> = section
                    .figures
                    .iter()
                    .map(|figure| {
                        json!({
                            "name": figure.name,
                            "value": figure.value,
                            "unit": figure.unit,
                            "remark": figure.remark,
                        })
                    })
                    .collect();
                json!({ "title": section.title, "figures": figures, "notes": section.notes })
            })
            .collect();
        json!({ "machine": machine, "sections": sections })
    }
}

/// Returns a number with as many digits as can be meant.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Measurements of one thing.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    pub(super) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the value below which `permille` of all are. NaN without any.
    pub(super) fn at(&self, permille: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let index = (sorted.len() * permille / 1000).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    /// Returns the middle one; of an even number, the mean of the two in the middle.
    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
            (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => (below + above) / 2.0,
            (_, Some(middle)) => *middle,
            (_, None) => f64::NAN,
        }
    }

    /// Returns `others` as multiples of these, pair by pair.
    pub(super) fn multiples_in(&self, others: &Self) -> Self {
        self.0.iter().zip(&others.0).map(|(own, other)| other / own).collect()
    }

    pub(super) fn range(&self) -> String {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{} to {}", shown(least), shown(most))
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Returns a duration in milliseconds.
pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_medians_are_those_of_the_sorted_values() {
        let samples: Samples = (1..=200).rev().map(f64::from).collect();

        assert_eq!(samples.at(990), 199.0);
        assert_eq!(samples.at(1000), 200.0);
        assert_eq!(samples.median(), 100.5);
        assert_eq!([3.0, 9.0, 1.0].into_iter().collect::<Samples>().median(), 3.0);
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn a_table_is_aligned_and_says_what_the_json_says() {
        let mut report = Report::new(vec![("cpu", "a cpu".to_owned())]);
        let mut section = Section::new("Things");
        section.figure("short", 0.5, "ms", "");
        section.figure("a long name", 12_345.6, "per s", "3x of a peer");
        report.add(section);

        let text = report.render();
        let columns: Vec<usize> =
            ["0.500", "12346"].iter().map(|it| text.find(it).unwrap()).collect();
        let column = |at: usize| at - text[..at].rfind('\n').unwrap();
        assert_eq!(column(columns[0]), column(columns[1]));
        assert_eq!(report.to_json()["sections"][0]["figures"][1]["remark"], "3x of a peer");
    }
}
