//! What is wrong with a manifest, where, and what to write instead.

use std::fmt;

/// One mistake in a manifest.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Mistake {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// The key, such as `run.stop_within` or `deploy[1].batch`.
    pub path: String,
    pub problem: String,
    pub instead: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, path, problem, instead } = self;
        write!(f, "{line}:{column}: {path}: {problem}; {instead}")
    }
}

/// All mistakes of a manifest, in the order of its lines. Never empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ManifestMistakes {
    mistakes: Vec<Mistake>,
    /// How many more there were than [`Self::KEPT_MAX`].
    omitted: usize,
}

impl ManifestMistakes {
    /// How many mistakes are printed: about a screen. Whoever has more repairs these first.
    pub const SHOWN_MAX: usize = 50;

    /// How many mistakes are kept, the rest is counted: a hostile file of 256 KiB has a hundred
    /// thousand.
    pub(super) const KEPT_MAX: usize = 1_000;

    /// Sorts `first` and `rest`; `omitted` were found and not kept.
    pub(super) fn new(first: Mistake, mut rest: Vec<Mistake>, omitted: usize) -> Self {
        rest.push(first);
        rest.sort();
        Self { mistakes: rest, omitted }
    }

    /// Returns the mistakes in the order of their lines.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.mistakes.iter()
    }

    /// Returns how many there are, including those that were counted only.
    pub const fn count(&self) -> usize {
        self.mistakes.len() + self.omitted
    }

    /// Displays them with the name of the file that was read, one a line.
    pub fn display_in<'a>(&'a self, file: &'a str) -> impl fmt::Display + 'a {
        Shown { file, mistakes: self }
    }
}

impl fmt::Display for ManifestMistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.display_in("cutover.toml").fmt(f)
    }
}

impl std::error::Error for ManifestMistakes {}

struct Shown<'a> {
    file: &'a str,
    mistakes: &'a ManifestMistakes,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, mistakes } = self;
        for (index, mistake) in mistakes.iter().take(ManifestMistakes::SHOWN_MAX).enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{file}:{mistake}")?;
        }
        let more = mistakes.count().saturating_sub(ManifestMistakes::SHOWN_MAX);
        if more > 0 {
            write!(f, "\n{file}: and {more} more")?;
        }
        Ok(())
    }
}
