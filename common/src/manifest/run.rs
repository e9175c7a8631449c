//! `[run]`: how an instance is started and stopped; and what every argv must keep to.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use super::{
    problem::Problem,
    reader::{Item, Reader, Section, read},
    words::RUN,
};
use crate::{
    RunSpec, StopSignal, VariableName,
    config::{InvalidVariableName, VALUE_BYTES_MAX},
    nearest::nearest,
    pace::echo,
    release::is_shared_path,
};

/// From one millisecond, the smallest unit there is, to an hour: a stop that takes longer holds
/// up a rollout of ten batches for a day.
pub(super) const STOP_WITHIN: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(60 * 60);

/// What systemd and Kubernetes users expect of a server that drains.
pub(super) const STOP_WITHIN_DEFAULT: Duration = Duration::from_secs(30);

/// The most arguments of an argv and variables of an environment: far above what people write by
/// hand, and below the 1,000 that a message may carry.
const COUNT_MAX: usize = 256;

/// The most folders that stay from release to release: each is a link, made with every release.
const SHARED_MAX: usize = 32;

/// Where the program of an argv may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Program {
    /// In the release or on the host.
    Anywhere,
    /// In the release, or found by its bare name: hooks travel with the release that declares
    /// them (promises.md §4 row 46).
    NotAbsolute,
}

/// Reads `[run]`; its command is required.
pub(super) fn read_run(top: &Section<'_>, reader: &mut Reader<'_>) -> Option<RunSpec> {
    let instead = "write [run] with command = [\"./server\"]";
    let item = top.required("run", instead, reader)?;
    let section = Section::open(&item, &RUN, reader)?;
    let command = section
        .required("command", "write command = [\"./server\", \"--port\", \"$PORT\"]", reader)
        .and_then(|item| read_argv(&item, Program::Anywhere, reader));
    let env = section.item("env").and_then(|item| read_env(&item, reader)).unwrap_or_default();
    let stop_signal = section.read("stop_signal", reader, stop_signal).unwrap_or_default();
    let stop_within = section
        .read("stop_within", reader, |item| item.duration(&STOP_WITHIN))
        .unwrap_or(STOP_WITHIN_DEFAULT);
    let shared = section.item("shared").and_then(|item| read_shared(&item, reader));
    Some(RunSpec {
        command: command?,
        env,
        stop_signal,
        stop_within,
        shared: shared.unwrap_or_default(),
    })
}

/// Reads the folders that stay from release to release.
fn read_shared(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let Some(entries) = item.entries() else {
        let problem = format!("{} is not a list of folders", item.kind());
        reader.refuse(&item.place, Problem::new(problem, "write [\"uploads\"]"));
        return None;
    };
    let mut shared: Vec<String> = Vec::new();
    for entry in entries {
        let parse = |item: &Item<'_>| checked_shared(item.string("\"uploads\"")?, &shared);
        shared.extend(read(&entry, reader, parse));
    }
    if shared.len() > SHARED_MAX {
        let problem = format!("has {} folders", shared.len());
        let instead = format!("write at most {SHARED_MAX}, or one that holds the others");
        reader.refuse(&item.place, Problem::new(problem, instead));
    }
    Some(shared)
}

fn checked_shared(text: &str, others: &[String]) -> Result<String, Problem> {
    let refused = |problem: &str| {
        let instead = "write a folder in the release, such as \"uploads\" or \"var/log\"";
        Err(Problem::new(format!("{} {problem}", echo(text)), instead))
    };
    if !is_shared_path(text) {
        return refused("is no plain path in the release");
    }
    let is_in =
        |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|it| it.starts_with('/'));
    if others.iter().any(|other| is_in(text, other) || is_in(other, text)) {
        return refused("is shared already, or holds or is within one that is");
    }
    Ok(text.to_owned())
}

/// Reads a program with its arguments. Never a shell line.
pub(super) fn read_argv(
    item: &Item<'_>,
    program: Program,
    reader: &mut Reader<'_>,
) -> Option<Vec<String>> {
    let Some(entries) = item.entries() else {
        let instead = match item.as_string() {
            Some(line) => {
                let words: Vec<String> = line.split_whitespace().take(8).map(echo).collect();
                format!("write [{}]", words.join(", "))
            }
            None => "write [\"./program\", \"argument\"]".to_owned(),
        };
        let problem = format!("{} is not a list of strings", item.kind());
        reader.refuse(&item.place, Problem::new(problem, instead));
        return None;
    };
    let count = entries.len();
    if count == 0 || count > COUNT_MAX {
        let problem = format!("has {count} entries");
        let instead = format!("write the program and at most {} arguments", COUNT_MAX - 1);
        reader.refuse(&item.place, Problem::new(problem, instead));
        return None;
    }
    let mut argv = Vec::with_capacity(count);
    for (index, entry) in entries.enumerate() {
        let parse = |item: &Item<'_>| {
            let text = argument(item)?;
            if index == 0 { checked_program(text, program) } else { Ok(text.to_owned()) }
        };
        argv.extend(read(&entry, reader, parse));
    }
    (argv.len() == count).then_some(argv)
}

fn argument<'v>(item: &Item<'v>) -> Result<&'v str, Problem> {
    let example = item.quoted();
    bounded(item.string(example.as_deref().unwrap_or("\"argument\""))?)
}

fn bounded(text: &str) -> Result<&str, Problem> {
    if text.contains('\0') {
        let problem = "contains a NUL, which no program can be given";
        return Err(Problem::new(problem, "remove \\u0000"));
    }
    if text.len() > VALUE_BYTES_MAX {
        let problem = format!("is {} bytes long", text.len());
        return Err(Problem::new(problem, "write at most 32 KiB, or put it into a file"));
    }
    Ok(text)
}

fn checked_program(text: &str, program: Program) -> Result<String, Problem> {
    if text.trim().is_empty() {
        return Err(Problem::new(
            "names no program",
            "write the program's path, such as \"./server\"",
        ));
    }
    if text.split('/').any(|part| part == "..") {
        let problem = format!("{} leads out of the release", echo(text));
        return Err(Problem::new(problem, "write a path in the release, such as \"./server\""));
    }
    if text.ends_with('/') {
        let problem = format!("{} is a folder", echo(text));
        return Err(Problem::new(problem, "write the program's path, such as \"./server\""));
    }
    if program == Program::NotAbsolute && text.starts_with('/') {
        let problem = format!("{} is outside of the release", echo(text));
        let instead = "put a script into the release and write its path, such as \"./hooks/drain\"";
        return Err(Problem::new(problem, instead));
    }
    Ok(text.to_owned())
}

fn read_env(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<BTreeMap<String, String>> {
    let section = Section::open_free(item, "env = { NAME = \"value\" }", reader)?;
    let mut env = BTreeMap::new();
    for (name, item) in section.items() {
        let parse = |item: &Item<'_>| {
            if let Some(problem) = refused_name(name) {
                return Err(problem);
            }
            // The value is not repeated: it may be a secret.
            let value = item.as_string().ok_or_else(|| {
                let problem = format!("{} is not a string", item.kind());
                Problem::new(problem, format!("write the value of {} in double quotes", echo(name)))
            })?;
            Ok(bounded(value)?.to_owned())
        };
        if let Some(value) = read(&item, reader, parse) {
            env.insert(name.to_owned(), value);
        }
    }
    if env.len() > COUNT_MAX {
        let problem = format!("has {} variables", env.len());
        let instead = format!("write at most {COUNT_MAX}");
        reader.refuse(&item.place, Problem::new(problem, instead));
    }
    Some(env)
}

fn refused_name(name: &str) -> Option<Problem> {
    Some(match name.parse::<VariableName>().err()? {
        InvalidVariableName::NoName(_) => {
            let problem = format!("{} is no name of an environment variable", echo(name));
            let instead = "write letters, digits and underscores, at most 128, not a digit first";
            Problem::new(problem, instead)
        }
        reserved @ InvalidVariableName::Reserved(_) => {
            let instead = if name == "PATH" {
                "remove it, and write programs with their path"
            } else {
                "remove it, or give the program an argument"
            };
            Problem::new(reserved.to_string(), instead)
        }
    })
}

fn stop_signal(item: &Item<'_>) -> Result<StopSignal, Problem> {
    let text = item.string("\"TERM\"")?;
    StopSignal::from_name(text).ok_or_else(|| {
        let names = StopSignal::ALL.map(StopSignal::name);
        let upper = text.to_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let instead = match nearest(bare, names) {
            Some(name) => format!("write {name:?}"),
            None => format!("write one of {}", names.join(", ")),
        };
        Problem::new(format!("{} is no signal that can stop an instance", echo(text)), instead)
    })
}
