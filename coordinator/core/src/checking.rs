//! Checking: what the checks of a canary have answered, and when a metrics server is asked next.
//!
//! The answers are in memory only, as the judge's evidence is: a process that begins asks anew, and
//! so does a rollout that somebody retries. What decided something is in the event's reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cutover_common::{
    AgentName, Check, CheckName, CheckReport, Compared, SourceName, Timestamp,
    check::{ANSWER_CHARS_MAX, Answer, CanaryId, Filling, MetricQuery, MetricQuestion},
    planted,
};
use uuid::Uuid;

use crate::{
    Step,
    action::Action,
    coordinator::Coordinator,
    input::{MetricAnswer, QueryId},
    judging::gets_canary_traffic,
    rollout::{Rollout, State},
};

/// How long after its time an answer of a metrics server is waited for, before it is given up.
/// Whoever asks keeps the time himself, so that this is for one that has lost a question.
const GRACE: Duration = Duration::from_secs(5);

/// What all checks of rollouts that are under way have answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkings {
    of: BTreeMap<Uuid, Checking>,
    /// Questions are counted for as long as the process lives.
    asked: u64,
    /// In a simulation nobody is asked, and every check passes.
    are_pretended: bool,
}

/// What the checks of one canary have answered.
#[derive(Clone, Debug)]
struct Checking {
    canary: CanaryId,
    /// By the check and, of a command, the host that it is run on.
    tallies: BTreeMap<(CheckName, Option<AgentName>), Tally>,
    questions: BTreeMap<CheckName, Asked>,
}

/// A question to a metrics server.
#[derive(Clone, Copy, Debug)]
struct Asked {
    query: QueryId,
    at: Timestamp,
    is_open: bool,
}

/// The answers of one check at one place.
#[derive(Clone, Debug, Default)]
struct Tally {
    answers: u32,
    /// How many of the last in a row have failed; those that say nothing are left out.
    failing: u32,
    newest: Option<Newest>,
}

#[derive(Clone, Debug)]
struct Newest {
    answer: Answer,
    detail: String,
    /// When it was asked, or where an agent asks, when it was heard.
    at: Timestamp,
}

impl Tally {
    /// Notes an answer to a question of `at`.
    fn note(&mut self, answer: Answer, detail: String, at: Timestamp) {
        self.answers = self.answers.saturating_add(1);
        self.failing = match answer {
            Answer::Pass => 0,
            Answer::Fail => self.failing.saturating_add(1),
            Answer::NotEnough => {
                planted!(CheckErrorFails: self.failing.saturating_add(1); self.failing)
            }
        };
        self.newest = Some(Newest { answer, detail, at });
    }

    /// Takes what an agent has counted. Returns whether that is anything new.
    fn take(&mut self, report: &CheckReport, now: Timestamp) -> bool {
        let newest = self.newest.as_ref();
        let is_known =
            newest.is_some_and(|it| it.answer == report.answer && it.detail == report.detail);
        if is_known && (self.answers, self.failing) == (report.answers, report.failing) {
            return false;
        }
        let CheckReport { answers, failing, answer, detail, .. } = report;
        (self.answers, self.failing) = (*answers, *failing);
        self.newest = Some(Newest { answer: *answer, detail: detail.clone(), at: now });
        true
    }
}

impl Checkings {
    /// Makes those of a simulation, in which every check passes.
    pub(crate) fn pretended() -> Self {
        Self { are_pretended: true, ..Self::default() }
    }

    /// Says which check fails the canary, if one does, with its evidence.
    pub(crate) fn failed(&self, rollout: &Rollout) -> Option<String> {
        let checking = self.of.get(&rollout.id)?;
        checks(rollout).find_map(|check| {
            let places = checking.places(rollout, check);
            let mut failed = places.filter(|(_, tally)| tally.failing >= check.failures);
            failed.next().map(|(agent, tally)| failed_text(check, agent, tally))
        })
    }

    /// Says what keeps checks from passing a canary's step that began at `since`.
    pub(crate) fn missing(&self, rollout: &Rollout, since: Timestamp) -> Vec<String> {
        if self.are_pretended {
            return Vec::new();
        }
        let checking = self.of.get(&rollout.id);
        let missing = checks(rollout).filter_map(|check| missing(rollout, checking, check, since));
        planted!(UnansweredCheckPasses: Vec::new(); missing.collect())
    }

    /// Says how each check stands.
    pub(crate) fn standings(&self, rollout: &Rollout) -> Vec<String> {
        if self.are_pretended {
            return Vec::new();
        }
        let checking = self.of.get(&rollout.id);
        checks(rollout).map(|check| standing(rollout, checking, check)).collect()
    }

    /// Forgets what was answered of a rollout: it is asked anew.
    pub(crate) fn forget(&mut self, id: Uuid) {
        self.of.remove(&id);
    }

    /// Returns when somebody is to be asked, or given up, next.
    pub(crate) fn next_wake<'a>(
        &self,
        rollouts: impl Iterator<Item = &'a Rollout>,
    ) -> Option<Timestamp> {
        if self.are_pretended {
            return None;
        }
        let asked = rollouts.filter(|rollout| is_asked(rollout));
        asked.filter_map(|rollout| self.of.get(&rollout.id)?.next_due(rollout)).min()
    }
}

impl Checking {
    fn new(canary: CanaryId) -> Self {
        Self { canary, tallies: BTreeMap::new(), questions: BTreeMap::new() }
    }

    /// Returns the places at which `check` has answered; of hosts those that are canaries still.
    fn places<'a>(
        &'a self,
        rollout: &'a Rollout,
        check: &'a Check,
    ) -> impl Iterator<Item = (Option<&'a AgentName>, &'a Tally)> {
        let counts = |agent: &Option<AgentName>| {
            agent.as_ref().is_none_or(|agent| is_canary_host(rollout, agent))
        };
        let of_check = self
            .tallies
            .iter()
            .filter(move |((name, agent), _)| *name == check.name && counts(agent));
        of_check.map(|((_, agent), tally)| (agent.as_ref(), tally))
    }

    fn next_due(&self, rollout: &Rollout) -> Option<Timestamp> {
        let due = |check: &Check| {
            check.metric()?;
            Some(self.questions.get(&check.name)?.due(check))
        };
        checks(rollout).filter_map(due).min()
    }

    fn note(&mut self, check: &Check, answer: Answer, detail: String, at: Timestamp) {
        let detail = detail.chars().take(ANSWER_CHARS_MAX).collect();
        self.tallies.entry((check.name.clone(), None)).or_default().note(answer, detail, at);
    }
}

impl Asked {
    /// Returns when it is to be asked again, or given up.
    fn due(&self, check: &Check) -> Timestamp {
        self.at + if self.is_open { check.within + GRACE } else { check.every }
    }
}

fn checks(rollout: &Rollout) -> impl Iterator<Item = &Check> {
    rollout.spec.canary.iter().flat_map(|canary| &canary.checks)
}

fn failed_text(check: &Check, agent: Option<&AgentName>, tally: &Tally) -> String {
    let newest = tally.newest.as_ref().map_or("", |newest| &*newest.detail);
    let times = match tally.failing {
        1 => String::new(),
        times => format!(", {times} times in a row"),
    };
    let place = place(check, agent);
    format!("check {} fails{place}: {newest}{times}", check.name)
}

/// Says of whom a check is asked.
fn place(check: &Check, agent: Option<&AgentName>) -> String {
    match (check.metric(), agent) {
        (Some(metric), _) => format!(" (asked {})", metric.source),
        (None, Some(agent)) => format!(" on {agent}"),
        (None, None) => String::new(),
    }
}

fn missing(
    rollout: &Rollout,
    checking: Option<&Checking>,
    check: &Check,
    since: Timestamp,
) -> Option<String> {
    let tally = |agent: Option<AgentName>| {
        checking.and_then(|checking| checking.tallies.get(&(check.name.clone(), agent)))
    };
    let lacks = |agent: Option<AgentName>| {
        let place = place(check, agent.as_ref());
        let name = &check.name;
        match tally(agent).and_then(|tally| tally.newest.as_ref()) {
            Some(Newest { answer: Answer::Pass, at, .. }) if *at >= since => None,
            Some(Newest { answer: Answer::Pass, .. }) => {
                Some(format!("check {name}{place} has not passed since this step began"))
            }
            Some(Newest { answer: Answer::Fail, detail, .. }) => {
                Some(format!("check {name}{place} failed when it was asked last: {detail}"))
            }
            Some(Newest { answer: Answer::NotEnough, detail, .. }) => {
                Some(format!("check {name}{place} cannot tell: {detail}"))
            }
            None => Some(format!("check {name}{place} has no answer yet")),
        }
    };
    if check.metric().is_some() {
        return lacks(None);
    }
    let mut hosts = canary_hosts(rollout);
    hosts.find_map(|agent| lacks(Some(agent.clone())))
}

fn standing(rollout: &Rollout, checking: Option<&Checking>, check: &Check) -> String {
    let name = &check.name;
    let newest = |(agent, tally): (Option<&AgentName>, &Tally)| {
        let newest = tally.newest.as_ref()?;
        let place = place(check, agent);
        let detail = &newest.detail;
        Some(match newest.answer {
            Answer::Pass => (0, format!("check {name}{place} passes: {detail}")),
            Answer::NotEnough => (1, format!("check {name}{place} cannot tell: {detail}")),
            Answer::Fail => {
                let (failing, failures) = (tally.failing, check.failures);
                (2, format!("check {name}{place} fails ({failing} of {failures}): {detail}"))
            }
        })
    };
    // Of several hosts the one that stands worst.
    let worst = checking
        .into_iter()
        .flat_map(|checking| checking.places(rollout, check))
        .filter_map(newest)
        .max_by_key(|(badness, _)| *badness);
    worst.map_or_else(|| format!("check {name} has no answer yet"), |(_, text)| text)
}

/// Returns the hosts on which clients get the canary.
fn canary_hosts(rollout: &Rollout) -> impl Iterator<Item = &AgentName> {
    let hosts = rollout.hosts.iter().filter(|(_, host)| host.wave == 0);
    hosts.filter(|(_, host)| gets_canary_traffic(host)).map(|(agent, _)| agent)
}

fn is_canary_host(rollout: &Rollout, agent: &AgentName) -> bool {
    let host = rollout.hosts.get(agent);
    host.is_some_and(|host| host.wave == 0 && gets_canary_traffic(host))
}

/// Returns whether a canary is under way whose checks are asked: while a person is waited for that
/// could change nothing.
fn is_checked(rollout: &Rollout) -> bool {
    let is_first_wave = match &rollout.state {
        State::Advancing { wave, .. } => *wave == 0,
        // It goes on from there.
        State::Paused { was, .. } => matches!(**was, State::Advancing { wave: 0, .. }),
        State::Held { .. }
        | State::Baking { .. }
        | State::RollingBack { .. }
        | State::Ended { .. } => false,
    };
    is_first_wave && checks(rollout).next().is_some()
}

/// Returns whether a metrics server is asked about it: not before anybody gets it.
fn is_asked(rollout: &Rollout) -> bool {
    is_checked(rollout) && canary_hosts(rollout).next().is_some()
}

fn canary_id(rollout: &Rollout) -> CanaryId {
    CanaryId { rollout: rollout.id, attempt: rollout.begun_anew }
}

/// Says what an answer of a metrics server means.
fn judged(metric: &MetricQuestion, found: MetricAnswer) -> (Answer, String) {
    match found {
        MetricAnswer::Number(number) if number.is_finite() => match metric.broken_by(number) {
            Some(broken) => (Answer::Fail, broken),
            None => (Answer::Pass, number.to_string()),
        },
        // A ratio without traffic, as 0/0.
        MetricAnswer::Number(number) => (Answer::NotEnough, format!("it gave {number}")),
        MetricAnswer::Nothing => (Answer::NotEnough, "it gave no number".to_owned()),
        MetricAnswer::Failed(why) => (Answer::NotEnough, why),
    }
}

impl Coordinator {
    /// Takes what `agent` has told of checks with its newest beat. Returns whether anything of it is
    /// new.
    pub(crate) fn note_checks(&mut self, agent: &AgentName, now: Timestamp) -> bool {
        let Some(seen) = self.fleet.seen(agent) else { return false };
        let mut is_new = false;
        for report in &seen.checks {
            let Some(rollout) = self.rollouts.get(&report.canary.rollout) else { continue };
            let canary = canary_id(rollout);
            let is_current = report.canary == canary;
            let is_asked =
                checks(rollout).any(|check| check.name == report.check && check.metric().is_none());
            if !is_current || !is_asked || !is_canary_host(rollout, agent) || !is_checked(rollout) {
                continue;
            }
            let checking =
                self.checks.of.entry(rollout.id).or_insert_with(|| Checking::new(canary));
            let place = (report.check.clone(), Some(agent.clone()));
            is_new |= checking.tallies.entry(place).or_default().take(report, now);
        }
        is_new
    }

    /// Returns the canaries that are compared on the host of `agent`, and what it is to run for
    /// them.
    pub(crate) fn compared_on(&self, agent: &AgentName) -> Vec<Compared> {
        let compared = |rollout: &Rollout| {
            if !is_checked(rollout) || !is_canary_host(rollout, agent) {
                return None;
            }
            let commands = checks(rollout).filter(|check| check.metric().is_none());
            let checks: Vec<CheckName> = commands.map(|check| check.name.clone()).collect();
            (!checks.is_empty()).then(|| Compared {
                application: rollout.application.clone(),
                version: rollout.to.clone(),
                canary: canary_id(rollout),
                checks,
            })
        };
        self.active().filter_map(compared).collect()
    }

    /// Takes the answer of a metrics server.
    pub(crate) fn queried(&mut self, query: QueryId, found: MetricAnswer) {
        let of_query = |asked: &Asked| asked.is_open && asked.query == query;
        let asked = self.checks.of.iter_mut().find_map(|(id, checking)| {
            let (name, asked) = checking.questions.iter_mut().find(|(_, asked)| of_query(asked))?;
            asked.is_open = false;
            Some((*id, name.clone(), asked.at))
        });
        // Nobody waits for it any more.
        let Some((id, name, at)) = asked else { return };
        self.answered(id, &name, at, found);
    }

    fn answered(&mut self, id: Uuid, name: &CheckName, at: Timestamp, found: MetricAnswer) {
        let Some(rollout) = self.rollouts.get(&id) else { return };
        let Some(check) = checks(rollout).find(|check| check.name == *name) else { return };
        let Some(metric) = check.metric() else { return };
        let (answer, detail) = judged(metric, found);
        if let Some(checking) = self.checks.of.get_mut(&id) {
            checking.note(check, answer, detail, at);
        }
    }

    /// Asks what is due, and gives up what was asked for too long ago. Returns whether that makes a
    /// difference to what is decided.
    pub(crate) fn ask_checks(&mut self, now: Timestamp, step: &mut Step) -> bool {
        if self.checks.are_pretended {
            return false;
        }
        let rollouts = &self.rollouts;
        self.checks.of.retain(|id, checking| {
            let rollout = rollouts.get(id).filter(|rollout| is_checked(rollout));
            rollout.is_some_and(|rollout| checking.canary == canary_id(rollout))
        });
        let mut is_given_up = false;
        for (id, name) in self.due_questions(now) {
            is_given_up |= self.ask_check(id, &name, now, step);
        }
        is_given_up
    }

    /// Returns the questions to metrics servers that are due at `now`.
    fn due_questions(&self, now: Timestamp) -> Vec<(Uuid, CheckName)> {
        let canaries = self.active().filter(|rollout| is_asked(rollout));
        let due = canaries.flat_map(|rollout| {
            let checking = self.checks.of.get(&rollout.id);
            let is_due = move |check: &&Check| {
                let asked = checking.and_then(|checking| checking.questions.get(&check.name));
                check.metric().is_some() && asked.is_none_or(|asked| now >= asked.due(check))
            };
            checks(rollout).filter(is_due).map(|check| (rollout.id, check.name.clone()))
        });
        due.collect()
    }

    /// Asks a check of a metrics server. Returns whether an answer was given up for it, or is known
    /// without asking.
    fn ask_check(&mut self, id: Uuid, name: &CheckName, now: Timestamp, step: &mut Step) -> bool {
        let Some(rollout) = self.rollouts.get(&id) else { return false };
        let Some(check) = checks(rollout).find(|check| check.name == *name) else { return false };
        let Some(metric) = check.metric() else { return false };
        let text = filled(rollout, &metric.query);
        let (source, within, every) = (metric.source.clone(), check.within, check.every);
        let is_known = self.sources.contains(&source);
        self.checks.asked += 1;
        let query = QueryId(self.checks.asked);
        let canary = canary_id(rollout);
        let checking = self.checks.of.entry(id).or_insert_with(|| Checking::new(canary));
        let before = checking.questions.get(name).filter(|asked| asked.is_open).copied();
        let impossible = if !is_known {
            Some(format!("this coordinator was not told of a source of metrics {source}"))
        } else if text.is_none() {
            Some("its query is too long, once it is filled in".to_owned())
        } else {
            None
        };
        let is_open = impossible.is_none();
        checking.questions.insert(name.clone(), Asked { query, at: now, is_open });
        if let Some(lost) = before {
            let why = format!("no answer within {within:?}");
            self.answered(id, name, lost.at, MetricAnswer::Failed(why));
        }
        if let Some(why) = impossible {
            self.answered(id, name, now, MetricAnswer::Failed(why));
            return true;
        }
        if let Some(text) = text {
            step.actions.push(Action::Query { query, source, text, within: within.min(every) });
        }
        before.is_some()
    }

    /// Returns the metrics servers that may be asked.
    pub const fn sources(&self) -> &BTreeSet<SourceName> {
        &self.sources
    }
}

/// Returns the query of a check as it is asked.
fn filled(rollout: &Rollout, query: &MetricQuery) -> Option<String> {
    let hosts: Vec<&str> = canary_hosts(rollout).map(AgentName::as_str).collect();
    query.filled(Filling {
        application: rollout.application.as_str(),
        environment: rollout.environment.as_str(),
        release: rollout.to.as_pushed(),
        canary_hosts: &hosts.join("|"),
    })
}
