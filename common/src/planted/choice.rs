//! Which bug is planted: one for each thread, so that runs beside each other can have different
//! ones, and none until somebody plants it.

use std::{cell::Cell, fmt, str::FromStr};

use super::Bug;

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants `bug` on this thread in place of the one before; none takes it out.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Returns what is planted on this thread.
pub fn which() -> Option<Bug> {
    PLANTED.get()
}

/// Returns whether `bug` is planted on this thread.
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// There is no bug of this name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no planted bug {name:?}; {hint}")]
pub struct UnknownBug {
    name: String,
    hint: String,
}

impl FromStr for Bug {
    type Err = UnknownBug;

    fn from_str(name: &str) -> Result<Self, UnknownBug> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name).ok_or_else(|| {
            let names = Self::ALL.iter().map(|bug| bug.name());
            let hint = crate::nearest::nearest(name, names).map_or_else(
                || "the table of the planted bugs lists all".to_owned(),
                |near| format!("did you mean {near:?}?"),
            );
            UnknownBug { name: name.to_owned(), hint }
        })
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
