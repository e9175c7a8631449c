//! Reads values of known types out of a parsed file, and collects what is wrong with them.

use std::{
    ops::{Range, RangeInclusive},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    mistake::{ManifestMistakes, Mistake},
    problem::{Problem, duration_in, size_in},
    syntax::SyntaxMap,
    words::{NOT_SUPPORTED, Standing, Words},
};
use crate::{check::Limit, pace::echo};

/// A key or value in the file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) span: Range<usize>,
}

/// Why a mistake may be an echo of a syntax error, which would only confuse beside it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Doubt {
    /// The value is what it is, unless the syntax error is in it or on its line.
    AboutValue,
    /// A key is missing or unknown: any error of structure can move keys to other tables.
    AboutPresence,
}

/// Collects the mistakes of one file.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    text: &'t str,
    syntax: SyntaxMap,
    mistakes: Vec<Mistake>,
    omitted: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, syntax: SyntaxMap) -> Self {
        Self { text, syntax, mistakes: Vec::new(), omitted: 0 }
    }

    /// Records that the value at `place` is wrong.
    pub(super) fn refuse(&mut self, place: &Place, problem: Problem) {
        self.record(place, problem, Doubt::AboutValue);
    }

    /// Records that something is missing or unknown at `place`.
    pub(super) fn refuse_presence(&mut self, place: &Place, problem: Problem) {
        self.record(place, problem, Doubt::AboutPresence);
    }

    /// Returns `read`, or all mistakes of the file.
    pub(super) fn finish<T>(mut self, read: Option<T>) -> Result<T, ManifestMistakes> {
        let (syntax_mistakes, syntax_omitted) = self.syntax.mistakes(self.text);
        self.mistakes.extend(syntax_mistakes);
        let omitted = self.omitted + syntax_omitted;
        match (self.mistakes.pop(), read) {
            (None, Some(read)) => Ok(read),
            (Some(first), _) => Err(ManifestMistakes::new(first, self.mistakes, omitted)),
            // Every reading that gives nothing records why, so this is a bug of ours; it must
            // still be an answer.
            (None, None) => Err(ManifestMistakes::new(
                Mistake {
                    line: 1,
                    column: 1,
                    path: "cutover.toml".to_owned(),
                    problem: "could not be read, and Cutover does not know why".to_owned(),
                    instead: "report this file as a bug".to_owned(),
                },
                Vec::new(),
                0,
            )),
        }
    }

    fn record(&mut self, place: &Place, problem: Problem, doubt: Doubt) {
        let is_echo = match doubt {
            Doubt::AboutValue => self.syntax.touches(&place.span),
            Doubt::AboutPresence => {
                self.syntax.breaks_structure() || self.syntax.touches(&place.span)
            }
        };
        if is_echo {
            return;
        }
        if self.mistakes.len() >= ManifestMistakes::KEPT_MAX {
            self.omitted += 1;
            return;
        }
        let (line, column) = self.syntax.position(self.text, place.span.start);
        let Problem { problem, instead } = problem;
        self.mistakes.push(Mistake { line, column, path: place.path.clone(), problem, instead });
    }
}

/// A value that was found.
#[derive(Debug)]
pub(super) struct Item<'v> {
    pub(super) place: Place,
    value: &'v DeValue<'v>,
    text: &'v str,
}

impl<'v> Item<'v> {
    /// Returns the string; `example` is what to write when this is none.
    pub(super) fn string(&self, example: &str) -> Result<&'v str, Problem> {
        self.value.as_str().ok_or_else(|| {
            let problem = format!("{} is not a string", self.description());
            Problem::new(problem, format!("write {example}"))
        })
    }

    /// Returns the value in quotes, when quotes are all that a string lacks.
    pub(super) fn quoted(&self) -> Option<String> {
        let is_scalar = !self.value.is_table() && !self.value.is_array();
        is_scalar.then(|| format!("\"{}\"", self.source()))
    }

    /// Returns the integer, if it lies in `range`.
    pub(super) fn integer<T>(&self, range: &RangeInclusive<T>) -> Result<T, Problem>
    where
        T: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let instead = format!("write a whole number from {} to {}", range.start(), range.end());
        let Some(integer) = self.value.as_integer() else {
            let problem = format!("{} is not a whole number", self.description());
            return Err(Problem::new(problem, instead));
        };
        i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|integer| T::try_from(integer).ok())
            .filter(|integer| range.contains(integer))
            .ok_or_else(|| Problem::new(format!("{} is out of range", self.source()), instead))
    }

    /// Returns the number, whole or not, if it can be compared with.
    pub(super) fn number(&self) -> Result<Limit, Problem> {
        let instead = "write a number without quotes, such as 0.05";
        let read = match (self.value.as_integer(), self.value.as_float()) {
            (Some(integer), _) if integer.radix() == 10 => integer.as_str().parse().ok(),
            (_, Some(float)) => float.as_str().parse().ok(),
            _ => None,
        };
        let refuse = || Problem::new(format!("{} is no number", self.description()), instead);
        read.and_then(Limit::new).ok_or_else(refuse)
    }

    /// Returns the boolean.
    pub(super) fn boolean(&self) -> Result<bool, Problem> {
        self.value.as_bool().ok_or_else(|| {
            let problem = format!("{} is neither true nor false", self.description());
            Problem::new(problem, "write true or false, without quotes")
        })
    }

    /// Returns the duration, if it lies in `range`.
    pub(super) fn duration(&self, range: &RangeInclusive<Duration>) -> Result<Duration, Problem> {
        duration_in(self.duration_text()?, range)
    }

    /// Returns the size in bytes, if it lies in `range`.
    pub(super) fn size(&self, range: &RangeInclusive<u64>) -> Result<u64, Problem> {
        let Some(text) = self.value.as_str() else {
            let instead = if self.value.is_integer() {
                format!("write \"{}B\" for bytes, or another unit", self.source())
            } else {
                "write a whole number with a unit, such as \"32KiB\"".to_owned()
            };
            return Err(Problem::new(format!("{} is no size", self.description()), instead));
        };
        size_in(text, range)
    }

    /// Returns the text of a duration.
    pub(super) fn duration_text(&self) -> Result<&'v str, Problem> {
        self.value.as_str().ok_or_else(|| {
            let instead = if self.value.is_integer() {
                format!("write \"{}s\" for seconds, or another unit", self.source())
            } else {
                "write a whole number with a unit, such as \"30s\"".to_owned()
            };
            Problem::new(format!("{} is no duration", self.description()), instead)
        })
    }

    /// Returns the number of entries, and an item for each, when this is an array.
    pub(super) fn entries(&self) -> Option<impl ExactSizeIterator<Item = Item<'v>>> {
        let text = self.text;
        let path = self.place.path.clone();
        let entries = self.value.as_array()?.iter().enumerate();
        Some(entries.map(move |(index, value)| {
            Item::new(format!("{path}[{index}]"), value.span(), value, text)
        }))
    }

    /// Returns whether this is a table.
    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// Returns the digits of a decimal integer, with its sign.
    pub(super) fn decimal(&self) -> Option<&str> {
        self.value.as_integer().filter(|integer| integer.radix() == 10).map(|i| i.as_str())
    }

    /// Returns the string, when this is one.
    pub(super) fn as_string(&self) -> Option<&'v str> {
        self.value.as_str()
    }

    /// Says what the value is, with its beginning.
    pub(super) fn description(&self) -> String {
        if self.value.is_table() || self.value.is_array() {
            return self.kind().to_owned();
        }
        format!("{} {}", self.kind(), self.source())
    }

    /// Says what the value is, without repeating it: for what may be a secret.
    pub(super) fn kind(&self) -> &'static str {
        match self.value.type_str() {
            "array" => "an array",
            "table" => "a table",
            other => other,
        }
    }

    fn new(
        path: String,
        span: Range<usize>,
        value: &'v Spanned<DeValue<'v>>,
        text: &'v str,
    ) -> Self {
        Self { place: Place { path, span }, value: value.get_ref(), text }
    }

    /// Returns the beginning of the value as it stands in the file, safe to print.
    fn source(&self) -> String {
        let text = self.text.get(self.place.span.clone()).unwrap_or_default();
        let mut source = String::new();
        for letter in text.chars().take(40) {
            match letter {
                '"' | '\'' => source.push(letter),
                _ => source.extend(letter.escape_debug()),
            }
        }
        source
    }
}

/// A table that was found.
#[derive(Debug)]
pub(super) struct Section<'v> {
    pub(super) place: Place,
    table: &'v DeTable<'v>,
    text: &'v str,
}

impl<'v> Section<'v> {
    /// Opens the top of the file, and records what is unknown in it.
    pub(super) fn top(
        table: &'v DeTable<'v>,
        words: &Words,
        text: &'v str,
        reader: &mut Reader<'_>,
    ) -> Self {
        let section = Self { place: Place { path: String::new(), span: 0..0 }, table, text };
        section.refuse_unknown(words, reader);
        section
    }

    /// Opens a table, and records what is unknown in it.
    pub(super) fn open(item: &Item<'v>, words: &Words, reader: &mut Reader<'_>) -> Option<Self> {
        let expected = format!("the {} table with {}", words.table, words.known.join(", "));
        let section = Self::open_free(item, &expected, reader)?;
        section.refuse_unknown(words, reader);
        Some(section)
    }

    /// Opens a table whose keys are the user's own.
    pub(super) fn open_free(
        item: &Item<'v>,
        expected: &str,
        reader: &mut Reader<'_>,
    ) -> Option<Self> {
        let Some(table) = item.value.as_table() else {
            let problem = format!("{} is not a table", item.description());
            reader.refuse(&item.place, Problem::new(problem, format!("write {expected}")));
            return None;
        };
        Some(Self { place: item.place.clone(), table, text: item.text })
    }

    /// Returns the value of `key`.
    pub(super) fn item(&self, key: &str) -> Option<Item<'v>> {
        let value = self.table.get(key)?;
        Some(Item::new(self.path_of(key), value.span(), value, self.text))
    }

    /// Returns the value of `key`, or records that it is missing.
    pub(super) fn required(
        &self,
        key: &str,
        instead: &str,
        reader: &mut Reader<'_>,
    ) -> Option<Item<'v>> {
        let item = self.item(key);
        if item.is_none() {
            let place = Place { path: self.path_of(key), span: self.place.span.clone() };
            reader.refuse_presence(&place, Problem::new("is missing", instead));
        }
        item
    }

    /// Reads the value of `key`, when there is one; records what is wrong with it.
    pub(super) fn read<T>(
        &self,
        key: &str,
        reader: &mut Reader<'_>,
        parse: impl FnOnce(&Item<'v>) -> Result<T, Problem>,
    ) -> Option<T> {
        let item = self.item(key)?;
        read(&item, reader, parse)
    }

    /// Returns all keys with their values.
    pub(super) fn items(&self) -> impl Iterator<Item = (&'v str, Item<'v>)> {
        self.table.iter().map(|(key, value)| {
            let key = key.get_ref().as_ref();
            (key, Item::new(self.path_of(key), value.span(), value, self.text))
        })
    }

    fn refuse_unknown(&self, words: &Words, reader: &mut Reader<'_>) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            let place = Place { path: self.path_of(name), span: key.span() };
            match words.judge(name) {
                Standing::Known => {}
                Standing::Later(instead) => {
                    reader.refuse(&place, Problem::new(NOT_SUPPORTED, instead));
                }
                Standing::Unknown(instead) => {
                    reader.refuse_presence(&place, Problem::new("unknown name", instead));
                }
            }
        }
    }

    fn path_of(&self, key: &str) -> String {
        let is_bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let key = if !key.is_empty() && key.len() <= 63 && key.bytes().all(is_bare) {
            key.to_owned()
        } else {
            echo(key)
        };
        if self.place.path.is_empty() { key } else { format!("{}.{key}", self.place.path) }
    }
}

/// Reads `item` with `parse`; records what is wrong with it.
pub(super) fn read<'v, T>(
    item: &Item<'v>,
    reader: &mut Reader<'_>,
    parse: impl FnOnce(&Item<'v>) -> Result<T, Problem>,
) -> Option<T> {
    match parse(item) {
        Ok(read) => Some(read),
        Err(problem) => {
            reader.refuse(&item.place, problem);
            None
        }
    }
}
