//! Asks an instance once how it is. How often, and what many answers mean, is the core's affair.
//!
//! Always on this host, always on a connection of its own, and with a limit on time and bytes
//! (promises.md §4 rows 14 and 15).

mod command;
mod http;
mod tcp;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use cutover_common::{InstanceId, ProbePort, ProbeTarget, VariableName};

/// How many characters of an answer are kept: a line for people.
const DETAIL_CHARS_MAX: usize = 200;

/// What a probe heard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbeAnswer {
    pub passed: bool,
    /// For people: one line without control characters, and the same for the same answer.
    pub detail: String,
}

impl ProbeAnswer {
    fn passed(detail: &str) -> Self {
        Self { passed: true, detail: one_line(detail) }
    }

    fn failed(detail: &str) -> Self {
        Self { passed: false, detail: one_line(detail) }
    }
}

/// Where a command probe runs.
#[derive(Clone, Copy, Debug)]
pub struct CommandPlace<'a> {
    /// Which is asked. One probe of it runs at a time: what it leaves behind is known by this.
    pub instance: InstanceId,
    /// The whole environment, to which the token of its probes is added.
    pub env: &'a BTreeMap<String, String>,
    /// What is in the environment besides, by the files that hold the values.
    pub secrets: &'a BTreeMap<VariableName, PathBuf>,
    pub directory: &'a Path,
}

/// Asks `target` of the instance at `address` and, if it has one, its own port, within `timeout`.
/// What goes wrong is an answer, too.
pub async fn ask(
    target: &ProbeTarget,
    (address, own): (IpAddr, Option<u16>),
    timeout: Duration,
    place: CommandPlace<'_>,
) -> ProbeAnswer {
    let at = |port: &ProbePort| match port {
        ProbePort::Fixed(port) => Some((address, *port).into()),
        ProbePort::Instance => own.map(|port| (address, port).into()),
    };
    let nowhere = || ProbeAnswer::failed("the instance has no port of its own");
    let asked = async {
        match target {
            ProbeTarget::Http { port, path } => match at(port) {
                Some(at) => http::ask(at, path).await,
                None => nowhere(),
            },
            ProbeTarget::Tcp { port } => match at(port) {
                Some(at) => tcp::ask(at).await,
                None => nowhere(),
            },
            // It has its own clock, which kills before it answers.
            ProbeTarget::Command(argv) => command::ask(argv, timeout, place).await,
        }
    };
    match target {
        ProbeTarget::Command(_) => asked.await,
        ProbeTarget::Http { .. } | ProbeTarget::Tcp { .. } => tokio::time::timeout(timeout, asked)
            .await
            .unwrap_or_else(|_| ProbeAnswer::failed(&format!("no answer within {timeout:?}"))),
    }
}

/// Escapes control characters and bidirectional tricks (promises.md §4 row 72), and cuts.
pub(crate) fn one_line(text: &str) -> String {
    let is_shown = |c: char| !c.is_control() && !is_format(c);
    let escaped: String = text
        .trim()
        .chars()
        .take(DETAIL_CHARS_MAX)
        .flat_map(|c| {
            let (shown, escaped) =
                if is_shown(c) { (Some(c), None) } else { (None, Some(c.escape_default())) };
            shown.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect();
    if text.trim().chars().count() > DETAIL_CHARS_MAX { format!("{escaped}…") } else { escaped }
}

/// Characters without a width of their own, which change how the others look (Unicode Cf).
const fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests;
