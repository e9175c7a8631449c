//! The ledger: what a coordinator's events say, in an oracle's own and much simpler words.
//!
//! It judges what may follow what by the promises alone; what hosts really do is judged beside it.

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{
    AgentName, Labels, Permille, ReleaseRef, Route, Sha256, Slot, Slots, Timestamp, Version,
    edge::EDGE_LABEL,
};
use cutover_coordinator_core::{
    Event, EventKind,
    event::{Change, Dequeued, RolloutStarted},
    fleet::GoalSlot,
    rollout::{CutoverPhase, Exclusion},
};
use uuid::Uuid;

use super::{
    configs::Configs,
    course::{Course, Standing},
    queue,
};
use crate::{moment::Moment, oracle::Violation, script::Script};

/// What is known by the events of one store.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Names of applications, by their numbers in the script.
    names: Vec<String>,
    pub(super) term: u64,
    /// Whether it was ever made from a backup.
    pub(super) was_restored: bool,
    /// When its newest process began, or its store was restored.
    pub(super) begun: Moment,
    /// The agents that are enrolled, by their hosts.
    pub(super) agents: BTreeMap<u16, Enrolled>,
    tokens: BTreeMap<Sha256, Token>,
    /// By application.
    pub(super) contents: BTreeMap<(u16, Version), Sha256>,
    pub(super) courses: BTreeMap<Uuid, Course>,
    pub(super) configs: Configs,
    /// By host and application.
    pub(super) goals: BTreeMap<(u16, u16), Goal>,
    /// The goals of hosts that were removed: one that joins again goes on from them.
    pub(super) former: BTreeMap<(u16, u16), Goal>,
    pub(super) stable: BTreeMap<u16, Version>,
    /// By application: the rollout that has brought it there.
    brought_by: BTreeMap<u16, Uuid>,
    /// The applications of which a rollout has succeeded since the last restore.
    tried: BTreeSet<u16>,
    /// By application: the hosts that people took out of its rollouts for good, since one succeeded.
    left_alone: BTreeMap<u16, BTreeSet<u16>>,
    /// By application: the hosts that a rollout has come to since one succeeded, which are as it left
    /// them, whatever that is.
    come_to: BTreeMap<u16, BTreeSet<u16>>,
    pub(super) queue: queue::Books,
    /// Which group of its hosts edges lead to, of applications whose hosts are in groups.
    pub(super) led: BTreeMap<u16, Led>,
}

/// Which group of hosts edges lead to.
#[derive(Clone, Debug)]
pub(super) struct Led {
    label: String,
    /// None: none yet.
    pub(super) group: Option<String>,
    /// How often edges were told to hold.
    pub(super) holds: u64,
}

/// An agent that has joined.
#[derive(Clone, Debug)]
pub(super) struct Enrolled {
    pub(super) enrolment: Uuid,
    /// The applications whose environments it belongs to.
    pub(super) applications: Vec<u16>,
    /// Whether its host is taken out for maintenance.
    pub(super) is_drained: bool,
    labels: Labels,
}

#[derive(Clone, Debug)]
struct Token {
    name: Option<AgentName>,
    expires: Timestamp,
    is_used: bool,
}

/// What a host is to do for one application.
#[derive(Clone, Debug)]
pub(super) struct Goal {
    pub(super) generation: u64,
    pub(super) slots: Slots<GoalSlot>,
    pub(super) route: Option<Route>,
    pub(super) rollout: Uuid,
}

impl Goal {
    /// Returns the version that should run.
    pub(super) fn running(&self) -> Option<&Version> {
        running(&self.slots, self.route.as_ref())
    }

    /// Returns whether what clients get should run in `slot`: after a restart both hold one release.
    pub(super) fn leads_to(&self, slot: Slot) -> bool {
        let leads = self.route.as_ref().is_none_or(|route| route.to == slot);
        leads && matches!(self.slots.of(slot), GoalSlot::Running(_))
    }
}

/// Returns the version that clients should get: of two that run, the one that the route leads to.
pub(super) fn running<'a>(
    slots: &'a Slots<GoalSlot>,
    route: Option<&Route>,
) -> Option<&'a Version> {
    slots.iter().find_map(|(place, slot)| match slot {
        GoalSlot::Running(version) if route.is_none_or(|route| route.to == place) => Some(version),
        GoalSlot::Running(_) | GoalSlot::Absent | GoalSlot::Prepared(_) => None,
    })
}

/// Returns the number of the host that an agent is on.
pub(super) fn host_of(agent: &AgentName) -> u16 {
    agent.as_str().rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(u16::MAX)
}

impl Ledger {
    /// Returns the goal that the next one of a host follows.
    pub(super) fn last(&self, key: &(u16, u16)) -> Option<&Goal> {
        self.goals.get(key).or_else(|| self.former.get(key))
    }

    pub(super) fn new(script: &Script) -> Self {
        let names = script.applications.iter().map(|spec| spec.name.clone()).collect();
        Self { names, ..Self::default() }
    }

    /// Returns the number of an application or of the environment that bears its name.
    pub(super) fn number_of(&self, name: &str) -> u16 {
        let at = self.names.iter().position(|known| known == name);
        at.and_then(|at| u16::try_from(at).ok()).unwrap_or(u16::MAX)
    }

    /// Returns the hosts of an application's environment.
    pub(super) fn members(&self, application: u16) -> impl Iterator<Item = u16> {
        self.agents
            .iter()
            .filter(move |(_, agent)| agent.applications.contains(&application))
            .map(|(host, _)| *host)
    }

    /// Returns the hosts of an application's environment that edges lead to: all, unless they are in
    /// groups. Of a group that nobody is in none would be left.
    pub(super) fn led_to(&self, application: u16) -> Vec<u16> {
        let Some(led) = self.led.get(&application) else {
            return self.members(application).collect();
        };
        let hosts: Vec<u16> = match &led.group {
            Some(group) => self.of_group(application, &led.label, group).collect(),
            None => Vec::new(),
        };
        if hosts.is_empty() { self.members(application).collect() } else { hosts }
    }

    /// Returns the hosts of an application's environment that are in a group.
    pub(super) fn of_group<'a>(
        &'a self,
        application: u16,
        label: &'a str,
        group: &'a str,
    ) -> impl Iterator<Item = u16> + 'a {
        self.members(application).filter(move |host| self.label_of(*host, label) == group)
    }

    /// Returns what a host says of a label, nothing if it does not have it.
    pub(super) fn label_of(&self, host: u16, label: &str) -> &str {
        let labels = self.agents.get(&host).map(|enrolled| &enrolled.labels);
        labels.and_then(|labels| labels.get(label)).map_or("", String::as_str)
    }

    /// Returns the hosts that stand in front of an application's environment.
    pub(super) fn edges(&self, application: u16) -> impl Iterator<Item = u16> {
        let agents = self.agents.iter().filter(move |(_, enrolled)| {
            let of = enrolled.labels.get(EDGE_LABEL);
            of.is_some_and(|of| self.number_of(of) == application)
        });
        agents.map(|(host, _)| *host)
    }

    /// Returns the agents in the order of their names.
    pub(super) fn by_name(&self) -> impl Iterator<Item = (u16, &Enrolled)> {
        let mut agents: Vec<(u16, &Enrolled)> =
            self.agents.iter().map(|(host, agent)| (*host, agent)).collect();
        agents.sort_by_key(|(host, _)| host.to_string());
        agents.into_iter()
    }

    /// Returns the rollouts that are not over.
    pub(super) fn active(&self) -> impl Iterator<Item = &Course> {
        self.courses.values().filter(|course| course.outcome.is_none())
    }

    /// Returns the rollouts by which what runs has come.
    pub(super) fn brought(&self) -> impl Iterator<Item = &Course> {
        self.brought_by.values().filter_map(|id| self.courses.get(id))
    }

    /// Forgets since when something is watched.
    pub(super) fn forget_times(&mut self) {
        for course in self.courses.values_mut() {
            course.since = None;
        }
    }

    /// Takes an event that was decided or stored at `now`.
    pub(super) fn take(&mut self, event: &Event, now: Moment) -> Result<(), Violation> {
        match &event.kind {
            EventKind::Started { term, .. } | EventKind::Restored { term } => {
                let is_restored = matches!(event.kind, EventKind::Restored { .. });
                return self.take_term(term.0, is_restored, now);
            }
            EventKind::JoinTokenCreated { token_hash, name, expires, .. } => {
                let token = Token { name: name.clone(), expires: *expires, is_used: false };
                self.tokens.insert(*token_hash, token);
            }
            EventKind::AgentJoined { agent, enrolment, labels, token_hash, .. } => {
                self.take_token(agent, token_hash, event.at)?;
                let enrolled = Enrolled {
                    enrolment: *enrolment,
                    applications: self.applications(labels),
                    is_drained: false,
                    labels: labels.clone(),
                };
                self.agents.insert(host_of(agent), enrolled);
            }
            EventKind::AgentLabelled { agent, labels, .. } => self.take_labels(agent, labels)?,
            EventKind::AgentRemoved { agent, .. } => {
                self.not_in_a_rollout(agent)?;
                self.forget_host(host_of(agent));
            }
            EventKind::AgentDrained { agent, .. } | EventKind::AgentUndrained { agent, .. } => {
                if let Some(enrolled) = self.agents.get_mut(&host_of(agent)) {
                    enrolled.is_drained = matches!(event.kind, EventKind::AgentDrained { .. });
                }
            }
            EventKind::ReleaseRegistered { release, .. } => {
                let key = (
                    self.number_of(release.name.application.as_str()),
                    release.name.version.clone(),
                );
                if self.contents.insert(key, release.digest).is_some() {
                    return Err(Violation::new("D5", format!("{} was changed", release.name)));
                }
            }
            EventKind::EnvironmentConfigured { .. } => self.configs.take(&event.kind),
            EventKind::ReleaseConfigured { name } => return self.take_configured(name),
            EventKind::GoalSet {
                agent, application, generation, slots, route, rollout, ..
            } => {
                let key = (host_of(agent), self.number_of(application.as_str()));
                let goal = Goal {
                    generation: generation.0,
                    slots: slots.clone(),
                    route: route.clone(),
                    rollout: *rollout,
                };
                self.has_its_share(key, &goal)?;
                return self.take_goal(key, goal);
            }
            EventKind::RolloutStarted(started) => return self.take_course(started, now),
            EventKind::RolloutQueued(queued) => return self.queue.queued(queued),
            EventKind::RolloutDequeued { id, how, .. } => return self.take_dequeued(*id, how),
            EventKind::Rollout { id, change, .. } => return self.take_change(*id, change, now),
            EventKind::OperatorCreated { .. }
            | EventKind::EnvironmentCreated { .. }
            | EventKind::EnvironmentFrozen { .. }
            | EventKind::EnvironmentThawed { .. }
            | EventKind::SecretsLost { .. } => {}
        }
        Ok(())
    }

    fn take_labels(&mut self, agent: &AgentName, labels: &Labels) -> Result<(), Violation> {
        let applications = self.applications(labels);
        self.not_in_a_rollout(agent)?;
        let Some(enrolled) = self.agents.get_mut(&host_of(agent)) else { return Ok(()) };
        enrolled.applications = applications;
        if enrolled.labels.get(EDGE_LABEL) != labels.get(EDGE_LABEL) {
            self.courses.values_mut().for_each(|course| course.is_no_edge(host_of(agent)));
        }
        enrolled.labels = labels.clone();
        Ok(())
    }

    /// A release gets a config: its content stays what was pushed.
    fn take_configured(&mut self, name: &ReleaseRef) -> Result<(), Violation> {
        let application = self.number_of(name.application.as_str());
        let Some(content) = self.contents.get(&(application, name.version.pushed())).copied()
        else {
            return Err(Violation::new("D5", format!("{name} has a config and was never pushed")));
        };
        self.contents.insert((application, name.version.clone()), content);
        Ok(())
    }

    fn take_course(&mut self, started: &RolloutStarted, now: Moment) -> Result<(), Violation> {
        let application = self.number_of(started.application.as_str());
        let course = Course::new(started, application, now);
        if started.converges {
            let broken = |promise, why: &str| {
                let text = format!("{} is brought to hosts that lack it, {why}", started.to);
                Err(Violation::new(promise, text))
            };
            if !self.tried.contains(&application) {
                return broken("F7", "and nothing was deployed since the last restore");
            }
            if self.stable.get(&application) != Some(&started.to) {
                return broken("E1", "and that is not what runs there");
            }
        }
        let is_alone = |host: &&u16| {
            let alone = self.left_alone.get(&application);
            started.converges && alone.is_some_and(|alone| alone.contains(host))
        };
        if let Some(host) = course.hosts.keys().find(is_alone) {
            let text = format!("{} comes by itself to host-{host}, excluded before", started.to);
            return Err(Violation::new("A5", text));
        }
        self.one_at_a_time(&course)?;
        let hosts: Vec<u16> = course.hosts.keys().copied().collect();
        self.none_is_drained(&hosts, started.id)?;
        if let Some(groups) = course.groups() {
            let holds = self.led.get(&application).map_or(0, |led| led.holds);
            let (label, group) = (groups.label.clone(), groups.from.clone());
            self.led.insert(application, Led { label, group, holds });
        }
        if self.courses.insert(started.id, course).is_some() {
            let text = format!("rollout {} was replaced by another plan", started.id);
            return Err(Violation::new("F6", text));
        }
        self.queue.began(started)
    }

    fn take_dequeued(&mut self, id: Uuid, how: &Dequeued) -> Result<(), Violation> {
        let is_turn = self.queue.application_of(id).is_some_and(|it| self.is_free(it));
        self.queue.dequeued(id, how, is_turn)
    }

    /// A4: what runs beside what serves gets the share of the step, and no more.
    fn has_its_share(&self, key: (u16, u16), goal: &Goal) -> Result<(), Violation> {
        let share = goal.route.as_ref().map_or(Permille::NONE, |route| route.share);
        let member = self.courses.get(&goal.rollout).and_then(|it| it.hosts.get(&key.0));
        // What an earlier rollout left beside what serves stays as it is until this one comes to it.
        let before = self.goals.get(&key).and_then(|goal| goal.route.as_ref());
        let is_left = before.is_some_and(|route| route.share == share);
        let is_told = member.is_some_and(|member| member.share == share);
        if share == Permille::NONE || is_told || is_left {
            return Ok(());
        }
        let text = format!("host-{} is to give another share than its step says: {share:?}", key.0);
        Err(Violation::new("A4", text))
    }

    fn take_term(&mut self, term: u64, is_restored: bool, now: Moment) -> Result<(), Violation> {
        if term <= self.term {
            return Err(Violation::new("F2", format!("term {term} follows {}", self.term)));
        }
        (self.term, self.begun) = (term, now);
        self.was_restored |= is_restored;
        for course in self.courses.values_mut() {
            course.begin_again(now);
            if is_restored {
                course.hold();
            }
        }
        if is_restored {
            self.tried.clear();
            self.queue.restored();
        }
        Ok(())
    }

    fn forget_host(&mut self, host: u16) {
        self.agents.remove(&host);
        self.courses.values_mut().for_each(|course| course.is_no_edge(host));
        let by_application = self.left_alone.values_mut().chain(self.come_to.values_mut());
        by_application.for_each(|hosts| hosts.retain(|it| *it != host));
        self.former.extend(self.goals.extract_if(.., |(of, _), _| *of == host));
    }

    fn take_token(
        &mut self,
        agent: &AgentName,
        hash: &Sha256,
        at: Timestamp,
    ) -> Result<(), Violation> {
        let broken = |what: &str| Err(Violation::new("S4", format!("{agent} joined {what}")));
        let Some(token) = self.tokens.get_mut(hash) else { return broken("without a token") };
        if token.is_used {
            return broken("with a token that was used");
        }
        if token.expires <= at {
            return broken("with a token that has expired");
        }
        if token.name.as_ref().is_some_and(|name| name != agent) {
            return broken("with another agent's token");
        }
        token.is_used = true;
        if self.agents.contains_key(&host_of(agent)) {
            return broken("although there is one");
        }
        Ok(())
    }

    fn take_goal(&mut self, key: (u16, u16), goal: Goal) -> Result<(), Violation> {
        if let Some(before) = self.last(&key)
            && before.generation >= goal.generation
        {
            let text = format!("generation {} of host-{} is repeated", goal.generation, key.0);
            return Err(Violation::new("F2", text));
        }
        if let Some(course) = self.courses.get_mut(&goal.rollout) {
            if course.hosts.get(&key.0).is_some_and(|member| member.standing == Standing::Out) {
                let text = format!(
                    "host-{} was taken out of rollout {}, and has a new goal of it",
                    key.0, goal.rollout
                );
                return Err(Violation::new("A5", text));
            }
            course.note_goal(key.0, goal.running());
        }
        self.goals.insert(key, goal);
        Ok(())
    }

    fn take_change(&mut self, id: Uuid, change: &Change, now: Moment) -> Result<(), Violation> {
        match change {
            Change::HostsReleased { agents } | Change::HostsReverted { agents } => {
                let hosts: Vec<u16> = agents.iter().map(host_of).collect();
                self.none_is_drained(&hosts, id)?;
            }
            Change::HostsExcluded { agents, cause: Exclusion::Drained { .. } } => {
                let taking_part = agents.iter().find(|agent| !self.is_drained(host_of(agent)));
                if let Some(agent) = taking_part {
                    let text = format!("{agent} is left out of {id} as drained, and is not");
                    return Err(Violation::new("E1", text));
                }
            }
            _ => {}
        }
        let Some(course) = self.courses.get_mut(&id) else {
            return Err(Violation::new("D1", format!("rollout {id} is not known: {change:?}")));
        };
        course.take(change, now)?;
        self.lead(id, change);
        let Some(course) = self.courses.get_mut(&id) else { return Ok(()) };
        if course.has_succeeded() {
            self.stable.insert(course.application, course.to.clone());
            self.tried.insert(course.application);
            if !course.converges {
                self.brought_by.insert(course.application, id);
            }
        }
        if course.outcome.is_some() {
            let alone = self.left_alone.entry(course.application).or_default();
            if course.has_succeeded() && !course.converges {
                alone.clear();
            }
            let left = course.hosts.iter().filter(|(_, member)| member.is_left_alone);
            alone.extend(left.map(|(host, _)| *host));
            let come_to = self.come_to.entry(course.application).or_default();
            if course.has_succeeded() && !course.converges {
                come_to.clear();
            }
            come_to.extend(course.come_to());
        }
        Ok(())
    }

    /// Takes what a change of a rollout between groups says of where edges lead.
    fn lead(&mut self, id: Uuid, change: &Change) {
        let Some(course) = self.courses.get(&id) else { return };
        let application = course.application;
        let Some(led) = self.led.get_mut(&application).filter(|_| course.groups().is_some()) else {
            return;
        };
        match change {
            Change::GroupSwitched { group } => led.group = Some(group.clone()),
            Change::CutoverMoved { phase: CutoverPhase::Hold } => led.holds += 1,
            Change::Ended { .. } if led.group.is_none() => {
                self.led.remove(&application);
            }
            _ => {}
        }
        if matches!(change, Change::GroupSwitched { .. }) {
            let edges = self.edges(application).collect();
            if let Some(course) = self.courses.get_mut(&id) {
                course.edges = edges;
            }
        }
    }

    /// Of one application no two rollouts are under way on any host.
    fn one_at_a_time(&self, new: &Course) -> Result<(), Violation> {
        let other = self.active().find(|other| {
            let shares = || new.hosts.keys().any(|host| other.hosts.contains_key(host));
            other.application == new.application
                && (other.environment == new.environment || shares())
        });
        other.map_or(Ok(()), |other| {
            let text = format!("rollout {} begins while {} is under way", new.id, other.id);
            Err(Violation::new("F1", text))
        })
    }

    /// Returns whether nothing of an application is under way that somebody has asked for.
    fn is_free(&self, application: &str) -> bool {
        let number = self.number_of(application);
        !self.active().any(|course| course.application == number && !course.converges)
    }

    /// Judges, at rest, that nobody waits for nothing.
    pub(super) fn nothing_is_forgotten(&self) -> Result<(), Violation> {
        self.queue.wait_for_something(|application| self.is_free(application))
    }

    /// Returns whether what runs of an application is brought to hosts that lack it: something was
    /// deployed since the last restore, and no rollout of it is under way or waits for its turn.
    pub(super) fn is_brought_along(&self, application: u16) -> bool {
        let is_under_way = self.active().any(|course| course.application == application);
        let name = self.names.get(usize::from(application));
        let is_queued = name.is_some_and(|name| self.queue.has_some_of(name));
        self.tried.contains(&application) && !is_under_way && !is_queued
    }

    /// Returns whether a host stays as it is: by what a rollout left, or as people want it.
    pub(super) fn stays_as_it_is(&self, host: u16, application: u16) -> bool {
        let of = |known: &BTreeMap<u16, BTreeSet<u16>>| {
            known.get(&application).is_some_and(|hosts| hosts.contains(&host))
        };
        of(&self.left_alone) || of(&self.come_to) || self.is_drained(host)
    }

    /// Returns whether a host is taken out for maintenance.
    pub(super) fn is_drained(&self, host: u16) -> bool {
        self.agents.get(&host).is_some_and(|agent| agent.is_drained)
    }

    /// A5: no rollout begins on a host that is taken out for maintenance.
    fn none_is_drained(&self, hosts: &[u16], rollout: Uuid) -> Result<(), Violation> {
        match hosts.iter().find(|host| self.is_drained(**host)) {
            None => Ok(()),
            Some(host) => {
                let text = format!("rollout {rollout} begins on host-{host}, which is drained");
                Err(Violation::new("A5", text))
            }
        }
    }

    fn not_in_a_rollout(&self, agent: &AgentName) -> Result<(), Violation> {
        let host = host_of(agent);
        match self.active().find(|course| course.hosts.contains_key(&host)) {
            None => Ok(()),
            Some(course) => {
                let text = format!("{agent} was changed in the middle of rollout {}", course.id);
                Err(Violation::new("F6", text))
            }
        }
    }

    fn applications(&self, labels: &Labels) -> Vec<u16> {
        labels.keys().map(|label| self.number_of(label)).collect()
    }
}
