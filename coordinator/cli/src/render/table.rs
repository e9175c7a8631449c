//! Lists in columns.

use super::{Paint, Tone};

/// One cell of a list.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Makes a cell in a tone.
    pub fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.to_string(), tone: Tone::Plain }
    }
}

/// Prints `rows` under `header`, each column as wide as its widest cell. No rows: nothing.
pub fn table<const N: usize>(header: [&str; N], rows: &[[Cell; N]], paint: Paint) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let header = header.map(|title| Cell::toned(Tone::Heading, title));
    let all = || std::iter::once(&header).chain(rows);
    let mut widths = [0; N];
    for row in all() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    all().map(|row| line(row, &widths, paint)).collect()
}

fn line(row: &[Cell], widths: &[usize], paint: Paint) -> String {
    // Padding after the last text would wrap on a narrow terminal and annoy in a diff.
    let filled = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
    let mut line = String::new();
    for (index, (cell, width)) in row.iter().zip(widths).take(filled).enumerate() {
        line.push_str(&paint.tone(cell.tone, &cell.text));
        if index + 1 < filled {
            let padding = width - cell.text.chars().count() + 2;
            line.extend(std::iter::repeat_n(' ', padding));
        }
    }
    line.push('\n');
    line
}
