//! Planted bugs: wrong versions of single decisions, which the simulator must find.
//!
//! They exist with the feature `planted-bugs` only, which no program that is shipped has: without
//! it [`planted!`](crate::planted!) is its right expression and nothing else, and the wrong one is
//! not compiled. A bug that is not found says that the simulated world, or what is checked in it,
//! is too kind.

#[cfg(feature = "planted-bugs")]
mod bugs;
#[cfg(feature = "planted-bugs")]
mod choice;

#[cfg(feature = "planted-bugs")]
pub use self::{
    bugs::Bug,
    choice::{UnknownBug, is, plant, which},
};

/// Is the last expression, and with the feature `planted-bugs`, where the named bug is planted,
/// the one before it: `planted!(BugName: wrong; right)`.
///
/// The wrong expression names nothing that the right code around it does not need, so that
/// neither build has an unused import or variable.
#[cfg(not(feature = "planted-bugs"))]
#[macro_export]
macro_rules! planted {
    ($bug:ident: $wrong:expr; $right:expr) => {
        $right
    };
}

/// Is the last expression, or the one before it where the named bug is planted on this thread:
/// `planted!(BugName: wrong; right)`.
#[cfg(feature = "planted-bugs")]
#[macro_export]
macro_rules! planted {
    ($bug:ident: $wrong:expr; $right:expr) => {
        if $crate::planted::is($crate::planted::Bug::$bug) { $wrong } else { $right }
    };
}

/// Is what is in it with the feature `planted-bugs`, and nothing without: tests that look for bugs.
#[cfg(not(feature = "planted-bugs"))]
#[macro_export]
macro_rules! where_bugs_are_planted {
    ($($test:item)*) => {};
}

/// Is what is in it: tests that look for planted bugs.
#[cfg(feature = "planted-bugs")]
#[macro_export]
macro_rules! where_bugs_are_planted {
    ($($test:item)*) => { $($test)* };
}

#[cfg(test)]
mod tests;
