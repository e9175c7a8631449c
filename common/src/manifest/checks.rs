//! `[[checks]]`: what the canaries of a release are asked, beside what the judge compares.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use super::{
    deploy::name,
    problem::Problem,
    reader::{Item, Reader, Section, read},
    run::{Program, read_argv},
    words::CHECK,
};
use crate::{
    Check, CheckName, CommandCheck, SourceName,
    check::{CHECKS_BYTES_MAX, CHECKS_MAX, InvalidQuery, MetricQuery, MetricQuestion, Question},
    duration_text,
    pace::echo,
};

/// An hour between two looks is the longest that a canary of a day can do something with.
pub(super) const EVERY: RangeInclusive<Duration> =
    CommandCheck::EVERY_MIN..=Duration::from_secs(60 * 60);

/// Half a minute: a canary's first step of minutes has several answers.
pub(super) const EVERY_DEFAULT: Duration = Duration::from_secs(30);

/// What answers after five minutes speaks of another canary.
pub(super) const WITHIN: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(300);

/// As long as Prometheus' own clients wait; a check that takes longer is told so.
pub(super) const WITHIN_DEFAULT: Duration = Duration::from_secs(10);

pub(super) const FAILURES: RangeInclusive<u32> = 1..=100;

/// One that fails once is asked again before it counts.
pub(super) const FAILURES_DEFAULT: u32 = 2;

/// Reads all `[[checks]]`.
pub(super) fn read_checks(top: &Section<'_>, reader: &mut Reader<'_>) -> Option<Vec<Check>> {
    let Some(item) = top.item("checks") else {
        return Some(Vec::new());
    };
    let Some(entries) = item.entries() else {
        let problem = format!("{} is no list of tables", item.kind());
        reader.refuse(&item.place, Problem::new(problem, "write [[checks]], with two brackets"));
        return None;
    };
    let count = entries.len();
    if count > CHECKS_MAX {
        let problem = format!("has {count} checks");
        let instead = format!("write at most {CHECKS_MAX}; one command can look at several things");
        reader.refuse(&item.place, Problem::new(problem, instead));
        return None;
    }
    let mut names = BTreeSet::new();
    let checks: Vec<Option<Check>> =
        entries.map(|entry| read_check(&entry, &mut names, reader)).collect();
    let checks: Vec<Check> = checks.into_iter().collect::<Option<_>>()?;
    let size_bytes: usize = checks.iter().map(size_of).sum();
    if size_bytes > CHECKS_BYTES_MAX {
        let problem = format!("have {size_bytes} bytes of queries and commands");
        let instead = format!("write at most {CHECKS_BYTES_MAX}; put more into scripts and rules");
        reader.refuse(&item.place, Problem::new(problem, instead));
        return None;
    }
    Some(checks)
}

fn size_of(check: &Check) -> usize {
    match &check.question {
        Question::Metric(metric) => metric.query.as_str().len(),
        // Each argument has its quotes and a comma.
        Question::Command(command) => command.iter().map(|argument| argument.len() + 3).sum(),
    }
}

fn read_check(
    item: &Item<'_>,
    names: &mut BTreeSet<CheckName>,
    reader: &mut Reader<'_>,
) -> Option<Check> {
    let section = Section::open(item, &CHECK, reader)?;
    let name = section
        .required("name", "write name = \"error-ratio\"", reader)
        .and_then(|item| read(&item, reader, |item| unused(item, names)));
    let question = read_question(&section, reader);
    let every = section.read("every", reader, |item| item.duration(&EVERY));
    let within = section.read("within", reader, |item| item.duration(&WITHIN));
    let failures = section.read("failures", reader, |item| item.integer(&FAILURES));
    let every = every.unwrap_or(EVERY_DEFAULT);
    if let (Some(within), Some(item)) = (within, section.item("within"))
        && within > every
    {
        let shown = duration_text::print(every);
        let problem = format!("is longer than every ({shown}), so that answers would queue");
        reader.refuse(
            &item.place,
            Problem::new(problem, "write a shorter within, or a longer every"),
        );
    }
    Some(Check {
        name: name?,
        question: question?,
        every,
        within: within.unwrap_or(WITHIN_DEFAULT).min(every),
        failures: failures.unwrap_or(FAILURES_DEFAULT),
    })
}

fn unused(item: &Item<'_>, names: &mut BTreeSet<CheckName>) -> Result<CheckName, Problem> {
    let check: CheckName = name(item)?;
    if !names.insert(check.clone()) {
        let problem = format!("there is a check \"{check}\" already");
        return Err(Problem::new(problem, "give one of them another name"));
    }
    Ok(check)
}

fn read_question(section: &Section<'_>, reader: &mut Reader<'_>) -> Option<Question> {
    match (section.item("prometheus"), section.item("command")) {
        (Some(query), None) => read_metric(&query, section, reader).map(Question::Metric),
        (None, Some(command)) => {
            for key in ["source", "fail_above", "fail_below"] {
                if let Some(item) = section.item(key) {
                    let problem = "has no meaning beside command";
                    let instead = "remove it: a command says by its exit status how it is";
                    reader.refuse(&item.place, Problem::new(problem, instead));
                }
            }
            read_argv(&command, Program::NotAbsolute, reader).map(Question::Command)
        }
        (Some(_), Some(command)) => {
            let problem = "has no meaning beside prometheus";
            reader.refuse(&command.place, Problem::new(problem, "make two checks of it"));
            None
        }
        (None, None) => {
            let problem = "asks nothing";
            let instead = "write prometheus = \"sum(...)\" with source = \"main\", or command = \
                           [\"./checks/queue\"]";
            reader.refuse_presence(&section.place, Problem::new(problem, instead));
            None
        }
    }
}

fn read_metric(
    item: &Item<'_>,
    section: &Section<'_>,
    reader: &mut Reader<'_>,
) -> Option<MetricQuestion> {
    let query = read(item, reader, query);
    let source = section
        .required("source", "write source = \"main\", a name that the coordinator knows", reader)
        .and_then(|item| read(&item, reader, source));
    let fail_above = section.read("fail_above", reader, Item::number);
    let fail_below = section.read("fail_below", reader, Item::number);
    match (&fail_above, &fail_below, section.item("fail_above"), section.item("fail_below")) {
        (_, _, None, None) => {
            let problem = "has neither fail_above nor fail_below";
            let instead = "write fail_above = 0.05, the largest number that is well";
            reader.refuse_presence(&section.place, Problem::new(problem, instead));
        }
        (Some(above), Some(below), _, Some(item)) if below.get() > above.get() => {
            let problem = format!("is above fail_above ({above}), so that every number would fail");
            reader.refuse(&item.place, Problem::new(problem, "write a number below it"));
        }
        _ => {}
    }
    Some(MetricQuestion { source: source?, query: query?, fail_above, fail_below })
}

fn source(item: &Item<'_>) -> Result<SourceName, Problem> {
    let text = item.string("\"main\"")?;
    if text.contains("://") {
        let problem = format!("{} is an address", echo(text));
        let instead = "write the name that the coordinator was given for it: cutover-coordinator \
                       run --metrics main=http://...";
        return Err(Problem::new(problem, instead));
    }
    name(item)
}

fn query(item: &Item<'_>) -> Result<MetricQuery, Problem> {
    let text = item.string("\"sum(...)\"")?;
    text.parse().map_err(|error: InvalidQuery| {
        let known = || {
            let names = MetricQuery::NAMES.map(|name| format!("{{{{{name}}}}}"));
            format!("write one of {}", names.join(", "))
        };
        let instead = match &error {
            InvalidQuery::Empty => "write a query that gives one number".to_owned(),
            InvalidQuery::TooLong(_) => {
                format!("write at most {} bytes, or make a recording rule", MetricQuery::BYTES_MAX)
            }
            InvalidQuery::Control => "remove it".to_owned(),
            InvalidQuery::Unknown { near: Some(near), .. } => format!("write {{{{{near}}}}}"),
            InvalidQuery::Unknown { near: None, .. } | InvalidQuery::Open => known(),
        };
        Problem::new(error.to_string(), instead)
    })
}
