//! Sets up what the programs log: lines on stderr, filtered by CUTOVER_LOG.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Which program logs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    Coordinator,
    Agent,
    Gate,
    Cli,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitTelemetry {
    #[error(
        "CUTOVER_LOG={value:?} is no log filter; write a level (error, warn, info, debug, trace) \
         or target=level pairs, for example CUTOVER_LOG=info,cutover_agent=debug"
    )]
    Filter { value: String, source: tracing_subscriber::filter::ParseError },
    #[error("logging is already set up in this process")]
    Twice,
}

/// The variable that filters logs.
const FILTER_VARIABLE: &str = "CUTOVER_LOG";

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("log format {other:?} must be text or json")),
        }
    }
}

/// Sends the process's logs to stderr.
///
/// Agents and applications choose some of the text that is logged, so control characters never
/// reach the terminal (promises.md T3.2).
///
/// # Errors
///
/// If CUTOVER_LOG is no filter, or logging was set up before.
pub fn init(program: Program, format: LogFormat) -> Result<(), InitTelemetry> {
    let filter = filter_from(std::env::var(FILTER_VARIABLE).ok(), program)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(EscapedStderr);
    match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|_| InitTelemetry::Twice)
}

fn filter_from(value: Option<String>, program: Program) -> Result<EnvFilter, InitTelemetry> {
    let standard = match program {
        Program::Coordinator | Program::Agent | Program::Gate => "info",
        // A person reads the command line's own output; its log is for the curious.
        Program::Cli => "warn",
    };
    let value = value.filter(|value| !value.is_empty()).unwrap_or_else(|| standard.to_owned());
    EnvFilter::builder().parse(&value).map_err(|source| InitTelemetry::Filter { value, source })
}

struct EscapedStderr;

impl<'a> MakeWriter<'a> for EscapedStderr {
    type Writer = Escaped<io::StderrLock<'static>>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaped(io::stderr().lock())
    }
}

/// Writes lines with every control character spelled out, except the line's own end.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    /// Takes one whole line: the subscriber formats an event first and writes it at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(escaped(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn escaped(line: &str) -> String {
    let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
    let mut out = String::with_capacity(line.len());
    for c in text.chars() {
        if is_unsafe(c) {
            write!(out, "\\u{{{:x}}}", u32::from(c)).expect("a String takes every write");
        } else {
            out.push(c);
        }
    }
    out.push_str(end);
    out
}

/// Control characters, and those that reorder or hide what stands around them.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_text_cannot_steer_the_terminal_or_forge_a_line() {
        let mut out = Vec::new();
        let line = "agent said \u{1b}[2J\r\n2026 ERROR forged \u{9b}31m \u{202e}txt\n";

        Escaped(&mut out).write_all(line.as_bytes()).unwrap();

        assert_eq!(
            String::from_utf8(out).unwrap(),
            "agent said \\u{1b}[2J\\u{d}\\u{a}2026 ERROR forged \\u{9b}31m \\u{202e}txt\n"
        );
    }

    #[test]
    fn a_filter_that_is_none_says_what_to_write() {
        let error = filter_from(Some("a=b=c".to_owned()), Program::Agent).unwrap_err();

        assert!(error.to_string().contains("CUTOVER_LOG=\"a=b=c\""), "{error}");
        assert!(error.to_string().contains("CUTOVER_LOG=info,cutover_agent=debug"), "{error}");
    }

    #[test]
    fn without_a_filter_daemons_log_info() {
        assert_eq!(filter_from(None, Program::Agent).unwrap().to_string(), "info");
        assert_eq!(filter_from(Some(String::new()), Program::Agent).unwrap().to_string(), "info");
    }
}
