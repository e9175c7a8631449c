//! Converge: a host that joins an environment, or comes back to it, gets what the environment runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cutover_common::{
    AgentName, ApplicationName, DeploySetting, EnvironmentName, Sha256, Timestamp, Version, planted,
};
use uuid::{Builder, Uuid};

use crate::{
    action::RefusalKind,
    coordinator::{Coordinator, Environment, Step},
    event::{Change, Event, EventKind},
    fleet::Presence,
    input::{DeployOrder, IfBusy, Input, WithConfig},
    operate::{plan::Meant, queue::with_hint},
    rollout::{Options, Outcome, Planned, Rollout, Strategy},
};

/// Who asks for it, as `cutover history` shows it.
const BY: &str = "cutover";

/// When hosts that lack something and could not get it are looked at again: what stood in the way may
/// have gone without a word.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How many hosts are tried one by one where not all can get it: each is a plan.
const ALONE_MAX: usize = 64;

/// What may make hosts lack what their environment runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Arrival {
    /// Nothing, unless a rollout ends.
    Nobody,
    Agent(AgentName),
    /// Somebody asked for something: labels, drains and environments may have changed.
    Anybody,
}

/// What is known at this moment of hosts that lack something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Converging {
    /// When they are looked at again.
    pub(crate) looks_again: Option<Timestamp>,
    /// Until when nothing is brought to the hosts of an environment, as it was given up: a host that
    /// comes and goes begins no rollout after rollout.
    rests_until: BTreeMap<Place, Timestamp>,
    /// Why hosts do not get it, in words, until they are looked at again.
    refused: BTreeMap<Place, BTreeMap<AgentName, String>>,
}

type Place = (ApplicationName, EnvironmentName);

impl Converging {
    fn look_at(&mut self, at: Timestamp) {
        self.looks_again = Some(self.looks_again.map_or(at, |before| before.min(at)));
    }
}

pub(crate) const fn is_an_end(event: &Event) -> bool {
    matches!(event.kind, EventKind::Rollout { change: Change::Ended { .. }, .. })
}

pub(crate) fn arrival(input: &Input) -> Arrival {
    match input {
        Input::SessionOpened { agent, .. } => Arrival::Agent(agent.clone()),
        Input::Asked { .. } => Arrival::Anybody,
        Input::Started { .. }
        | Input::Tick
        | Input::SessionClosed { .. }
        | Input::Beat { .. }
        | Input::SourcesNamed { .. }
        | Input::Queried { .. }
        | Input::Reported { .. } => Arrival::Nobody,
    }
}

impl Coordinator {
    /// Begins rollouts of what environments run on the hosts that lack it. Returns whether any
    /// began.
    pub(crate) fn converge(&mut self, now: Timestamp, comes: &Arrival, step: &mut Step) -> bool {
        match comes {
            Arrival::Nobody => return false,
            Arrival::Agent(_) => {}
            Arrival::Anybody => self.converging.looks_again = None,
        }
        self.converging.rests_until.retain(|_, until| *until > now);
        let looked_at = self.environments.iter().filter(|(_, it)| self.is_of(it, comes));
        let (names, due): (BTreeSet<&EnvironmentName>, Vec<_>) =
            looked_at.map(|(name, environment)| (name, self.behind(name, environment))).unzip();
        self.converging.refused.retain(|(_, environment), _| !names.contains(environment));
        let due: Vec<(DeployOrder, BTreeSet<AgentName>)> = due.into_iter().flatten().collect();
        let mut has_begun = false;
        for (order, agents) in due {
            let place = (order.application.clone(), order.environment.clone());
            if let Some(until) = self.converging.rests_until.get(&place).copied() {
                self.converging.look_at(until);
                continue;
            }
            // One that shares hosts with it may have begun a moment ago. Its end is an arrival.
            if planted!(ConvergesBesideAnother: false; self.is_taken(&order)) {
                continue;
            }
            let (planned, refused) = self.plan_for_some(&order, &agents);
            self.converging.refused.insert(place, refused);
            let Some(planned) = planned else {
                self.converging.look_at(now + LOOK_AGAIN);
                continue;
            };
            let ids = (self.id_of(&order, "request"), self.id_of(&order, "rollout"));
            self.start(now, BY, ids, &order, planned, step);
            has_begun = true;
        }
        has_begun
    }

    /// Returns whether another rollout is under way where `order` would begin, or about to be.
    fn is_taken(&self, order: &DeployOrder) -> bool {
        let mut queued = self.queue.waiting_for(&order.application, &order.environment);
        self.lockers(order).next().is_some() || queued.next().is_some()
    }

    /// Plans for all of `agents`, or for those that can take part: one that cannot must not keep
    /// the others from it. Returns also why the others cannot.
    fn plan_for_some(
        &self,
        order: &DeployOrder,
        agents: &BTreeSet<AgentName>,
    ) -> (Option<Planned>, BTreeMap<AgentName, String>) {
        let mut options = Options::default();
        options.set(DeploySetting::Strategy, Strategy::Rolling.to_string());
        let plain = DeployOrder { options, ..order.clone() };
        let plan = |agents: &BTreeSet<AgentName>| {
            let planned = self.plan_for(order, Meant::Those(agents));
            // What fitted the hosts of then, such as the floor of each zone, need not fit those of now.
            let planned = match planned {
                Err(refusal) if refusal.kind == RefusalKind::Invalid => {
                    self.plan_for(&plain, Meant::Those(agents))
                }
                Ok(_) | Err(_) => planned,
            };
            let planned = planned.map_err(with_hint)?;
            Ok((!planned.plan.waves.is_empty()).then_some(planned))
        };
        let alone = |agent: &AgentName| BTreeSet::from([agent.clone()]);
        if let Ok(Some(planned)) = plan(agents) {
            return (Some(planned), BTreeMap::new());
        }
        let mut able = BTreeSet::new();
        let mut refused = BTreeMap::new();
        for agent in agents.iter().take(ALONE_MAX) {
            match plan(&alone(agent)) {
                Ok(Some(_)) => drop(able.insert(agent.clone())),
                Ok(None) => {}
                Err(why) => drop(refused.insert(agent.clone(), why)),
            }
        }
        let first = || plan(&alone(able.first()?)).ok().flatten();
        (plan(&able).ok().flatten().or_else(first), refused)
    }

    /// Returns why `agent` does not get what its environment runs, in words, if it was refused.
    pub(crate) fn is_refused(
        &self,
        agent: &AgentName,
        environment: &EnvironmentName,
        application: &ApplicationName,
    ) -> Option<&str> {
        let place = (application.clone(), environment.clone());
        self.converging.refused.get(&place)?.get(agent).map(String::as_str)
    }

    /// Notes that what was brought to hosts that lack it is given up with `change`.
    pub(crate) fn note_given_up(&mut self, now: Timestamp, id: Uuid, change: &Change) {
        let Some(rollout) = self.rollouts.get(&id).filter(|rollout| rollout.converges) else {
            return;
        };
        if matches!(change, Change::Ended { outcome: Outcome::Aborted, .. }) {
            let place = (rollout.application.clone(), rollout.environment.clone());
            self.converging.rests_until.insert(place, now + rollout.spec.progress_within);
        }
    }

    /// Ends what comes by itself and stands in the way of what a person asks of `agent`.
    pub(super) fn make_way(
        &mut self,
        now: Timestamp,
        by: &str,
        is_in_the_way: impl Fn(&Rollout) -> bool,
        agent: &AgentName,
        step: &mut Step,
    ) {
        let comes = |rollout: &&Rollout| rollout.converges && is_in_the_way(rollout);
        let coming: Vec<Uuid> = self.active().filter(comes).map(|rollout| rollout.id).collect();
        let reason = format!("it makes way for what is asked of {agent}");
        for id in coming {
            self.abort(now, (by, None), id, &reason, step);
        }
    }

    fn is_of(&self, environment: &Environment, comes: &Arrival) -> bool {
        match comes {
            Arrival::Nobody => false,
            Arrival::Anybody => true,
            Arrival::Agent(agent) => {
                let enrolled = self.enrolments.agents.get(agent);
                let is_of = enrolled.is_some_and(|it| it.is_selected(&environment.select));
                planted!(LatecomerForgotten: false; is_of)
            }
        }
    }

    /// Returns the hosts of an environment that lack what it runs, by application, with what brings
    /// it to them.
    fn behind(
        &self,
        name: &EnvironmentName,
        environment: &Environment,
    ) -> Vec<(DeployOrder, BTreeSet<AgentName>)> {
        let lacks = |application: &ApplicationName, version: &Version| -> BTreeSet<AgentName> {
            let members = self.led_to(name, application);
            let settled = environment.settled.get(application);
            let is_due = |agent: &&AgentName| {
                settled.is_some_and(|settled| !settled.contains(*agent))
                    && self.fleet.presence(agent) == Presence::Live
                    && self.enrolments.drain(agent).is_none()
                    && !self.is_ahead(agent, application)
                    && self.goals.of(agent, application).and_then(|goal| goal.running())
                        != Some(version)
            };
            members.iter().filter(is_due).cloned().collect()
        };
        environment
            .stable
            .iter()
            .filter_map(|(application, stable)| {
                let version = planted!(
                    ConvergesToTheNewest: self.rollouts.values().filter(|it| it.application == *application).max_by_key(|it| it.number).map_or(stable, |it| &it.to);
                    stable
                );
                let agents = lacks(application, version);
                if agents.is_empty() {
                    return None;
                }
                let order = DeployOrder {
                    application: application.clone(),
                    version: version.clone(),
                    environment: name.clone(),
                    with: WithConfig::Own,
                    options: self.options_of_latecomers(name, application, version),
                    if_busy: IfBusy::Refuse,
                    despite_freeze: String::new(),
                };
                Some((order, agents))
            })
            .collect()
    }

    /// Returns an id that no other rollout has, the same for the same history.
    fn id_of(&self, order: &DeployOrder, what: &str) -> Uuid {
        let DeployOrder { application, version, environment, .. } = order;
        let (term, begun) = (self.term.0, self.begun);
        let nonce = self.boot_nonce;
        let text =
            format!("{what} {begun} of {term} {nonce}: {application}@{version} {environment}");
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Sha256::of(text.as_bytes()).as_bytes()[..16]);
        Builder::from_random_bytes(bytes).into_uuid()
    }
}
