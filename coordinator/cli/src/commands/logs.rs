//! `cutover logs`: prints what hosts send, a line at a time.

use std::collections::BTreeMap;

use cutover_common::wire::LogQuery;
use serde::Serialize;

use super::{Desk, Outcome};
use crate::{
    args::{OutputFormat, logs::LogsArgs},
    failure::Failure,
    grpc::LogPiece,
    render::json::json_line,
    text::Text,
};

/// How many lines of instances are shown unless somebody says: a screen or two.
const LINES: u32 = 100;

/// The longest line that is waited for, in bytes; what is longer is shown in parts.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Reads logs to their end, or until Ctrl-C.
pub(super) async fn logs(desk: Desk<'_>, args: LogsArgs) -> Result<Outcome, Failure> {
    let LogsArgs { application, agent, slot, hook, lines, follow, output } = args;
    let lines = lines.or_else(|| hook.is_none().then_some(LINES));
    let (slot, hook) = (slot.map(Into::into), hook.map(|hook| hook.0));
    let query = LogQuery { application, slot, hook, lines, follow };
    let coordinator = desk.coordinator().await?;
    let mut pieces = coordinator.logs(&query, agent.as_ref()).await?;
    let mut printer = Printer {
        desk,
        is_json: output.output == OutputFormat::Json,
        is_one: agent.is_some(),
        begun: BTreeMap::new(),
        has_trouble: None,
    };
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {
                printer.finish()?;
                return Ok(Outcome::Interrupted);
            }
            piece = pieces.next() => match piece? {
                Some(piece) => printer.take(piece)?,
                None => break,
            },
        }
    }
    printer.finish()?;
    match printer.has_trouble {
        Some(trouble) if printer.is_one => Err(Failure::refused(trouble)),
        Some(_) | None => Ok(Outcome::Done),
    }
}

/// One line of one host, as JSON.
#[derive(Serialize)]
struct Line<'a> {
    agent: &'a Text,
    slot: &'a Text,
    line: Text,
}

struct Printer<'a> {
    desk: Desk<'a>,
    is_json: bool,
    /// Whether one host was named: its lines need no name in front.
    is_one: bool,
    /// The lines that have begun, by host and slot.
    begun: BTreeMap<(Text, Text), Vec<u8>>,
    has_trouble: Option<String>,
}

impl Printer<'_> {
    fn take(&mut self, piece: LogPiece) -> Result<(), Failure> {
        let LogPiece { agent, slot, data, trouble } = piece;
        if !trouble.is_empty() {
            let text = format!("{agent}: {trouble}");
            if !self.is_one {
                self.desk.console.progress(&text);
            }
            self.has_trouble = Some(text);
            return Ok(());
        }
        let mut line = self.begun.remove(&(agent.clone(), slot.clone())).unwrap_or_default();
        for byte in data {
            if byte == b'\n' || line.len() >= LINE_BYTES_MAX {
                self.print(&agent, &slot, &line)?;
                line.clear();
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
        self.begun.insert((agent, slot), line);
        Ok(())
    }

    /// Prints the lines that no line break has ended.
    fn finish(&mut self) -> Result<(), Failure> {
        for ((agent, slot), line) in std::mem::take(&mut self.begun) {
            if !line.is_empty() {
                self.print(&agent, &slot, &line)?;
            }
        }
        Ok(())
    }

    fn print(&self, agent: &Text, slot: &Text, line: &[u8]) -> Result<(), Failure> {
        // What an application says is no command to a terminal.
        let raw = String::from_utf8_lossy(line);
        let text: Vec<Text> = raw.trim_end_matches('\r').split('\t').map(Text::new).collect();
        let text = text.iter().map(Text::as_str).collect::<Vec<_>>().join("\t");
        let shown = if self.is_json {
            json_line(&Line { agent, slot, line: Text::new(&raw) })?
        } else if self.is_one {
            format!("{text}\n")
        } else {
            format!("{agent} {slot} | {text}\n")
        };
        self.desk.console.result(&shown)
    }
}
