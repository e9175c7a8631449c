//! Prints an error and its causes, each once.

use std::{error::Error, fmt};

/// Displays `error: cause: cause of the cause`.
///
/// Our errors name only their own step in `Display`; this joins the steps.
pub struct ErrorChain<'a>(pub &'a dyn Error);

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
