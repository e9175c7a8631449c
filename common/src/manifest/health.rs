//! `[health]`: how health is asked. Always on the agent's own host (promises.md §4 row 14).

use std::{ops::RangeInclusive, time::Duration};

use super::{
    problem::Problem,
    reader::{Item, Reader, Section},
    run::{Program, read_argv},
    words::HEALTH,
};
use crate::{ProbePort, ProbeSpec, ProbeTarget, Swap, duration_text, pace::echo};

/// The shortest is a hundred probes a second, which is work for the host and tells nothing more.
pub(super) const EVERY: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(60 * 60);
pub(super) const EVERY_DEFAULT: Duration = Duration::from_secs(2);

/// From one millisecond: an answer from the same host can be that fast.
pub(super) const TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(60 * 60);
pub(super) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);

/// A hundred in a row at the default pace is more than three minutes.
pub(super) const IN_A_ROW: RangeInclusive<u32> = 1..=100;
pub(super) const PASSES_DEFAULT: u32 = 2;
pub(super) const FAILURES_DEFAULT: u32 = 3;

pub(super) const START_WITHIN: RangeInclusive<Duration> =
    Duration::from_millis(1)..=duration_text::LONGEST;
pub(super) const START_WITHIN_DEFAULT: Duration = Duration::from_secs(60);

/// Ports that can be listened on.
pub(super) const PORTS: RangeInclusive<u16> = 1..=u16::MAX;

/// The longest path of a probe, in bytes: what every server takes in a request line.
const HTTP_PATH_BYTES_MAX: usize = 2_000;

/// The service of the application whose health is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProbedService {
    None,
    /// Its mistake is recorded already.
    Unreadable,
    At {
        /// The gate's.
        port: u16,
        swap: Swap,
    },
}

/// Reads `[health]`, when there is one.
pub(super) fn read_health(
    top: &Section<'_>,
    service: ProbedService,
    reader: &mut Reader<'_>,
) -> Option<ProbeSpec> {
    let item = top.item("health")?;
    let section = Section::open(&item, &HEALTH, reader)?;
    let target = read_target(&section, service, reader);
    let every = section.read("every", reader, |item| item.duration(&EVERY));
    let timeout = section.read("timeout", reader, |item| {
        let timeout = item.duration(&TIMEOUT)?;
        let every = every.unwrap_or(EVERY_DEFAULT);
        if timeout <= every {
            return Ok(timeout);
        }
        let problem = format!("is longer than every ({})", duration_text::print(every));
        let instead = "write a shorter timeout, or a longer every, so that probes do not overlap";
        Err(Problem::new(problem, instead))
    });
    let every = every.unwrap_or(EVERY_DEFAULT);
    let in_a_row = |item: &Item<'_>| item.integer(&IN_A_ROW);
    let passes = section.read("passes", reader, in_a_row).unwrap_or(PASSES_DEFAULT);
    let failures = section.read("failures", reader, in_a_row).unwrap_or(FAILURES_DEFAULT);
    let start_within = section
        .read("start_within", reader, |item| item.duration(&START_WITHIN))
        .unwrap_or(START_WITHIN_DEFAULT);
    Some(ProbeSpec {
        target: target?,
        every,
        timeout: timeout.unwrap_or(TIMEOUT_DEFAULT.min(every)),
        passes,
        failures,
        start_within,
    })
}

fn read_target(
    section: &Section<'_>,
    service: ProbedService,
    reader: &mut Reader<'_>,
) -> Option<ProbeTarget> {
    let given: Vec<&str> =
        ["http", "tcp", "command"].into_iter().filter(|key| section.item(key).is_some()).collect();
    let port = section.read("port", reader, |item| item.integer(&PORTS));
    // All that are given are read, so that their mistakes are told even when one is too many.
    let http = section.read("http", reader, http_path);
    let tcp = section.read("tcp", reader, tcp_switch);
    let command =
        section.item("command").and_then(|item| read_argv(&item, Program::Anywhere, reader));
    match given.as_slice() {
        // `grpc` has its own mistake.
        [] if section.item("grpc").is_some() => None,
        [] => {
            let instead = "write http = \"/healthz\", tcp = true or command = [\"./check\"]";
            reader.refuse_presence(&section.place, Problem::new("asks nothing", instead));
            None
        }
        [_] => {
            if let Some(command) = command {
                refuse_port_of_command(section, reader);
                return Some(ProbeTarget::Command(command));
            }
            let is_command = given == ["command"];
            let port = match port {
                _ if is_command => None,
                Some(port) => port_given(section, service, port, reader),
                None => port_of_instance(section, service, reader),
            };
            match (http, tcp) {
                (Some(path), _) => Some(ProbeTarget::Http { port: port?, path }),
                (None, Some(())) => Some(ProbeTarget::Tcp { port: port? }),
                (None, None) => None,
            }
        }
        [first, second, ..] => {
            if let Some(item) = section.item(second) {
                let problem = format!("health is asked by {first} already");
                reader.refuse(&item.place, Problem::new(problem, "keep one of them"));
            }
            None
        }
    }
}

fn port_given(
    section: &Section<'_>,
    service: ProbedService,
    port: u16,
    reader: &mut Reader<'_>,
) -> Option<ProbePort> {
    let problem = match service {
        ProbedService::At { port: of_gate, .. } if of_gate == port => {
            format!("{port} is the gate's port, where another instance may answer")
        }
        // Health by port alone: the version that is to go would answer for the one to come.
        ProbedService::At { swap: Swap::Beside, .. } => {
            format!("both versions of a swap would listen on {port}, and either may answer")
        }
        ProbedService::At { swap: Swap::InPlace, .. }
        | ProbedService::Unreadable
        | ProbedService::None => return Some(ProbePort::Fixed(port)),
    };
    if let Some(item) = section.item("port") {
        let instead = "remove it, each instance is asked at its own $PORT";
        reader.refuse(&item.place, Problem::new(problem, instead));
    }
    None
}

fn port_of_instance(
    section: &Section<'_>,
    service: ProbedService,
    reader: &mut Reader<'_>,
) -> Option<ProbePort> {
    match service {
        ProbedService::At { .. } => Some(ProbePort::Instance),
        // A port of its own that could not be read has its mistake too.
        ProbedService::Unreadable => None,
        ProbedService::None => {
            let instead = "write port = 8080, or give the application a [service]";
            section.required("port", instead, reader);
            None
        }
    }
}

fn refuse_port_of_command(section: &Section<'_>, reader: &mut Reader<'_>) {
    if let Some(item) = section.item("port") {
        let problem = "has no meaning beside command";
        let instead = "remove it, or write http or tcp instead of command";
        reader.refuse(&item.place, Problem::new(problem, instead));
    }
}

fn tcp_switch(item: &Item<'_>) -> Result<(), Problem> {
    if item.boolean()? {
        return Ok(());
    }
    Err(Problem::new("false asks nothing", "write tcp = true, or remove it"))
}

fn http_path(item: &Item<'_>) -> Result<String, Problem> {
    let text = item.string("\"/healthz\"")?;
    let instead = "write a path such as \"/healthz\", the host is always the agent's own";
    let is_path = text.starts_with('/') && !text.starts_with("//");
    if !is_path {
        return Err(Problem::new(format!("{} is no path", echo(text)), instead));
    }
    if text.len() > HTTP_PATH_BYTES_MAX {
        let instead = format!("write at most {HTTP_PATH_BYTES_MAX} bytes");
        return Err(Problem::new(format!("is {} bytes long", text.len()), instead));
    }
    let is_sendable = |b: u8| b.is_ascii_graphic() && b != b'#' && b != b'\\';
    if !text.bytes().all(is_sendable) {
        let problem = format!("{} has characters that no request can carry", echo(text));
        return Err(Problem::new(problem, "write them percent-encoded, such as %20 for a space"));
    }
    Ok(text.to_owned())
}
