//! What a run is made of: a seed, or a script in a file.

use std::{fs, path::PathBuf, str::FromStr};

use super::Failure;
use crate::{script::Script, swarm};

/// A seed, or a file.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Seed(u64),
    File(PathBuf),
}

impl FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::File(PathBuf::from(text)), Self::Seed))
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seed(seed) => write!(f, "seed {seed}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl Source {
    /// Draws the seed's script, or reads the file's.
    pub(super) fn script(&self) -> Result<Script, Failure> {
        match self {
            Self::Seed(seed) => Ok(swarm::draw(*seed)),
            Self::File(path) => {
                let read = |source| Failure::Read { path: path.clone(), source };
                let text = fs::read_to_string(path).map_err(read)?;
                let parse = |source| Failure::Parse { path: path.clone(), source };
                Script::parse(&text).map_err(parse)
            }
        }
    }
}
