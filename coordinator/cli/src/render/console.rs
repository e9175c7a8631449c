//! The one place that prints: results to stdout, progress and failures to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use super::{Paint, progress::Size};
use crate::failure::Failure;

/// Where output goes, and what it can show.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    result: Paint,
    progress: Paint,
    progress_size: Option<Size>,
}

/// What is assumed of a terminal that does not say how large it is.
const USUAL: Size = Size { columns: 80, rows: 24 };

impl Console {
    /// Looks at stdout, stderr, `NO_COLOR` and `TERM`.
    pub fn of_this_process() -> Self {
        // https://no-color.org: set to anything but the empty string.
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let paint = |is_terminal: bool| {
            if is_terminal && !no_colour && !is_dumb { Paint::Colour } else { Paint::Plain }
        };
        let is_live = io::stderr().is_terminal() && !is_dumb;
        Self {
            result: paint(io::stdout().is_terminal()),
            progress: paint(io::stderr().is_terminal()),
            progress_size: is_live.then(size_of_stderr),
        }
    }

    /// Returns whether results are coloured.
    pub const fn result_paint(self) -> Paint {
        self.result
    }

    /// Returns whether progress is coloured.
    pub const fn progress_paint(self) -> Paint {
        self.progress
    }

    /// Returns whether progress can be drawn in place.
    pub const fn is_live(self) -> bool {
        self.progress_size.is_some()
    }

    /// Returns the terminal's size at this moment: its user may have changed it.
    pub fn size(self) -> Size {
        self.progress_size.map_or(USUAL, |_| size_of_stderr())
    }

    /// Prints a result. Its text has its own line breaks.
    ///
    /// # Errors
    ///
    /// If stdout takes no more: a script must not take half a list for a whole one. A reader that
    /// went away (`cutover history | head -1`) has what it wanted.
    pub fn result(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::refused(format!("the result could not be written: {error}")))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Prints a line of progress.
    pub fn progress(self, line: &str) {
        put(&format!("{line}\n"));
    }

    /// Prints why a command did not do what was asked.
    pub fn failure(self, failure: &Failure) {
        put(&failure.to_string());
    }

    /// Prints progress as it is, with its own line breaks and cursor movements.
    pub fn draw(self, text: &str) {
        put(text);
    }
}

/// Prints to stderr. When that fails there is nowhere left to say so.
fn put(text: &str) {
    let mut out = io::stderr().lock();
    let _written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn size_of_stderr() -> Size {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: usize::from(size.ws_col), rows: usize::from(size.ws_row) }
        }
        Ok(_) | Err(_) => USUAL,
    }
}
