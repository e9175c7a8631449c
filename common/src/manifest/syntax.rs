//! Where the text is not even TOML, and where offsets are in lines and columns.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::mistake::{ManifestMistakes, Mistake};

/// The path of a mistake that is no key's.
const PATH: &str = "toml syntax";

/// The texts of the `toml` crate that we know (1.2.1). One that changed is shown as it is; the
/// tests say so.
const DUPLICATE: &str = "duplicate key";
const UNQUOTED: &str = "string values must be quoted";
const UNCLOSED: [&str; 2] = ["unclosed array,", "unclosed inline table,"];

/// The syntax errors of a file, and its lines.
///
/// The parser recovers from an error and goes on, so that the rest can be judged too; this map
/// says which of the later mistakes could be mere echoes.
#[derive(Debug)]
pub(super) struct SyntaxMap {
    line_starts: Vec<usize>,
    /// The first error of each line, by the line's index: what follows on it is mostly an echo.
    errors: BTreeMap<usize, SyntaxError>,
    /// What an array or table that is never closed took in.
    swallowed: Option<Range<usize>>,
    breaks_structure: bool,
}

#[derive(Debug)]
struct SyntaxError {
    span: Range<usize>,
    message: String,
}

impl SyntaxMap {
    /// Orders the `errors` that the parser met on its way to `table`.
    pub(super) fn new(text: &str, table: &DeTable<'_>, errors: &[Error]) -> Self {
        let mut map = Self {
            line_starts: std::iter::once(0)
                .chain(text.match_indices('\n').map(|(offset, _)| offset + 1))
                .collect(),
            errors: BTreeMap::new(),
            swallowed: None,
            breaks_structure: false,
        };
        let mut errors: Vec<SyntaxError> = errors
            .iter()
            .map(|error| SyntaxError {
                span: error.span().unwrap_or_default(),
                message: error.message().to_owned(),
            })
            .collect();
        map.swallowed = fold_unclosed(table, &mut errors);
        for error in errors {
            map.breaks_structure |= !error.is_local();
            let line = map.line_of(error.span.start);
            match map.errors.get(&line) {
                Some(found) if found.span.start <= error.span.start => {}
                _ => {
                    map.errors.insert(line, error);
                }
            }
        }
        map
    }

    /// Returns whether an error lies in `span` or on a line of it.
    pub(super) fn touches(&self, span: &Range<usize>) -> bool {
        let lines = self.line_of(span.start)..=self.line_of(span.end);
        let is_swallowed = self.swallowed.as_ref().is_some_and(|range| range.contains(&span.start));
        is_swallowed || self.errors.range(lines).next().is_some()
    }

    /// Returns whether keys may have ended up in the wrong table, or nowhere.
    pub(super) const fn breaks_structure(&self) -> bool {
        self.breaks_structure
    }

    /// Returns the line and column of `offset`, both from 1. Columns count characters.
    pub(super) fn position(&self, text: &str, offset: usize) -> (u32, u32) {
        let line = self.line_of(offset);
        let start = self.line_starts.get(line).copied().unwrap_or_default();
        let before = text.get(start..offset).unwrap_or_default();
        // An editor does not show a byte order mark as a character.
        let before = before.strip_prefix('\u{feff}').unwrap_or(before);
        (number(line), number(before.chars().count()))
    }

    /// Returns the first errors as mistakes, and the number of those left out.
    pub(super) fn mistakes(&self, text: &str) -> (Vec<Mistake>, usize) {
        let mistake = |error: &SyntaxError| {
            let (line, column) = self.position(text, error.span.start);
            let (path, problem, instead) = error.explain(text);
            Mistake { line, column, path, problem, instead }
        };
        let mistakes = self.errors.values().take(ManifestMistakes::KEPT_MAX).map(mistake);
        (mistakes.collect(), self.errors.len().saturating_sub(ManifestMistakes::KEPT_MAX))
    }

    fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }
}

impl SyntaxError {
    /// Returns whether the error leaves all other keys where they are.
    fn is_local(&self) -> bool {
        self.message == DUPLICATE || self.message.starts_with(UNQUOTED)
    }

    fn is_unclosed(&self) -> bool {
        UNCLOSED.iter().any(|unclosed| self.message.starts_with(unclosed))
    }

    /// Returns path, problem and what to write instead.
    fn explain(&self, text: &str) -> (String, String, String) {
        let found = text.get(self.span.clone()).unwrap_or_default();
        let found: String = found.chars().take(40).flat_map(char::escape_debug).collect();
        if self.message == DUPLICATE {
            return (found, "is given twice".to_owned(), "keep one of them".to_owned());
        }
        if self.message.starts_with(UNQUOTED) && !found.is_empty() {
            let boolean = match found.to_lowercase().as_str() {
                "yes" | "on" | "true" => "true, or ",
                "no" | "off" | "false" => "false, or ",
                _ => "",
            };
            let instead = format!("write {boolean}\"{found}\"");
            return (PATH.to_owned(), format!("{found} is not in quotes"), instead);
        }
        let (problem, instead) = match self.message.split_once(", expected ") {
            Some((problem, expected)) if self.is_unclosed() => {
                (problem, format!("write {expected} at its end"))
            }
            Some((problem, expected)) => (problem, format!("write {expected} here")),
            None => (self.message.as_str(), "correct the TOML here".to_owned()),
        };
        (PATH.to_owned(), problem.to_owned(), instead)
    }
}

/// Moves the error about a bracket that is never closed from where the parser gave up to where
/// the bracket stands, drops the errors in between, and returns what lies in between.
fn fold_unclosed(table: &DeTable<'_>, errors: &mut Vec<SyntaxError>) -> Option<Range<usize>> {
    let ends: BTreeSet<usize> =
        errors.iter().filter(|error| error.is_unclosed()).map(|error| error.span.start).collect();
    let mut brackets = Vec::new();
    if !ends.is_empty() {
        find_brackets(table.values(), &mut brackets);
    }
    let outermost = brackets
        .into_iter()
        .filter(|bracket| ends.contains(&bracket.end))
        .min_by_key(|bracket| bracket.start)?;
    let at = errors.iter().position(|e| e.is_unclosed() && e.span.start == outermost.end)?;
    let message = errors.swap_remove(at).message;
    errors.retain(|error| !(outermost.start..=outermost.end).contains(&error.span.start));
    errors.push(SyntaxError { span: outermost.start..outermost.start + 1, message });
    Some(outermost)
}

/// Collects where arrays and tables stand. As deep as the parser allows, which is 80.
fn find_brackets<'v>(
    values: impl Iterator<Item = &'v Spanned<DeValue<'v>>>,
    brackets: &mut Vec<Range<usize>>,
) {
    for value in values {
        if let Some(array) = value.get_ref().as_array() {
            brackets.push(value.span());
            find_brackets(&mut array.iter() as &mut dyn Iterator<Item = _>, brackets);
        }
        if let Some(table) = value.get_ref().as_table() {
            brackets.push(value.span());
            find_brackets(&mut table.values() as &mut dyn Iterator<Item = _>, brackets);
        }
    }
}

/// Numbers from 1; a file of 256 KiB has no number that does not fit.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}
