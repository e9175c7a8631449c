//! `[compatibility]`: which releases this one can serve beside.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    reader::{Reader, Section},
    words::COMPATIBILITY,
};
use crate::{InvalidSetting, Version, pace::echo};

/// How many conditions a range has at the most: two bound it, and a few more take something out.
const CONDITIONS_MAX: usize = 8;

/// Versions, by conditions that all must hold: `>=1.4, <2`.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionRange(Vec<Condition>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Condition {
    relation: Relation,
    than: Numbers,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Relation {
    Below,
    AtMost,
    Is,
    AtLeast,
    Above,
}

/// The numbers of a version: 1.4.0 is [1, 4, 0].
#[derive(Clone, Debug, Eq, PartialEq)]
struct Numbers(Vec<u64>);

impl VersionRange {
    /// Returns whether `version` is in it. One that is not made of numbers and dots is in none: where
    /// it stands nobody can tell.
    pub fn includes(&self, version: &Version) -> bool {
        Numbers::parse(version.as_str()).is_some_and(|numbers| {
            self.0.iter().all(|Condition { relation, than }| {
                let order = numbers.compare(than);
                match relation {
                    Relation::Below => order == Ordering::Less,
                    Relation::AtMost => order != Ordering::Greater,
                    Relation::Is => order == Ordering::Equal,
                    Relation::AtLeast => order != Ordering::Less,
                    Relation::Above => order == Ordering::Greater,
                }
            })
        })
    }
}

impl FromStr for VersionRange {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let conditions: Option<Vec<Condition>> = text.split(',').map(Condition::parse).collect();
        match conditions {
            Some(conditions) if conditions.len() <= CONDITIONS_MAX => Ok(Self(conditions)),
            Some(_) | None => Err(InvalidSetting::new(
                "beside",
                format!("{} is no range of versions", echo(text)),
                format!(
                    "write conditions such as \">=1.4\" or \">=1.4, <2\", {CONDITIONS_MAX} at most"
                ),
            )),
        }
    }
}

impl Condition {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        // The longer ones first.
        let (relation, than) = [
            (">=", Relation::AtLeast),
            ("<=", Relation::AtMost),
            (">", Relation::Above),
            ("<", Relation::Below),
            ("=", Relation::Is),
        ]
        .iter()
        .find_map(|(sign, relation)| Some((*relation, text.strip_prefix(sign)?)))?;
        Some(Self { relation, than: Numbers::parse(than.trim())? })
    }
}

impl Numbers {
    /// Parses what is made of numbers and dots; a `v` in front is common and says nothing.
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
        let number = |part: &str| is_plain(part).then(|| part.parse().ok()).flatten();
        text.split('.').map(number).collect::<Option<Vec<u64>>>().map(Self)
    }

    /// Compares number by number; what is not there is 0.
    fn compare(&self, other: &Self) -> Ordering {
        let longest = self.0.len().max(other.0.len());
        let at = |numbers: &Self, place: usize| numbers.0.get(place).copied().unwrap_or_default();
        (0..longest)
            .map(|place| at(self, place).cmp(&at(other, place)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Condition { relation, than }) in self.0.iter().enumerate() {
            let sign = match relation {
                Relation::Below => "<",
                Relation::AtMost => "<=",
                Relation::Is => "=",
                Relation::AtLeast => ">=",
                Relation::Above => ">",
            };
            let numbers: Vec<String> = than.0.iter().map(u64::to_string).collect();
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{sign}{}", numbers.join("."))?;
        }
        Ok(())
    }
}

impl TryFrom<String> for VersionRange {
    type Error = InvalidSetting;

    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        text.parse()
    }
}

impl From<VersionRange> for String {
    fn from(range: VersionRange) -> Self {
        range.to_string()
    }
}

/// Reads `[compatibility]`, when there is one.
pub(super) fn read_compatibility(
    top: &Section<'_>,
    reader: &mut Reader<'_>,
) -> Option<VersionRange> {
    let item = top.item("compatibility")?;
    let section = Section::open(&item, &COMPATIBILITY, reader)?;
    section.required("beside", "write beside = \">=1.4\"", reader)?;
    section.read("beside", reader, |item| Ok(item.string("\">=1.4\"")?.parse::<VersionRange>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_a_range_by_their_numbers() {
        for (range, inside, outside) in [
            (">=1.4", vec!["1.4", "1.4.0", "v1.10", "2"], vec!["1.3.9", "1", "0.14", "canary"]),
            (">=1.4, <2", vec!["1.4", "1.99.1"], vec!["2", "2.0.0", "1.3"]),
            ("=1.4", vec!["1.4", "1.4.0", "v1.4"], vec!["1.4.1", "1.40"]),
            (">1.4,<=1.6", vec!["1.4.1", "1.6"], vec!["1.4", "1.6.1", "1.5-rc1"]),
        ] {
            let range: VersionRange = range.parse().unwrap();
            let includes = |text: &&str| range.includes(&text.parse().unwrap());
            assert!(inside.iter().all(includes), "{range}: {inside:?}");
            assert!(!outside.iter().any(includes), "{range}: {outside:?}");
            assert_eq!(range.to_string().parse::<VersionRange>().unwrap(), range);
        }
    }

    #[test]
    fn what_is_no_range_is_refused_in_words_that_help() {
        let many = [">=1"; 9].join(",");
        for text in ["", "1.4", ">=", ">=1.x", "~1.4", ">=1.4,", ">=99999999999999999999", &many] {
            let refused = text.parse::<VersionRange>().unwrap_err().to_string();
            assert!(refused.contains("such as \">=1.4\""), "{refused}");
        }
    }
}
