//! Deploys: plan and start.

use cutover_common::{
    AgentName, ApplicationName, EnvironmentName, Release, ReleaseRef, SlotReport, Timestamp,
    Traffic, Version, manifest::Manifest, planted,
};
use uuid::Uuid;

use crate::{
    action::{Answer, Refusal, RefusalKind},
    coordinator::{Coordinator, Step},
    event::{EventKind, RolloutStarted},
    fleet::with_prepared,
    input::DeployOrder,
    rollout::{Planned, Replacement, Rollout, Spec, decide::Serving, story::names, strategy},
};

/// How many hosts one rollout takes. Its plan is one event: with a batch for each host and the
/// longest names this many still fit into the largest that is stored.
pub const ROLLOUT_HOSTS_MAX: usize = 5_000;

fn bounded(hosts: usize) -> Result<(), Refusal> {
    if hosts <= ROLLOUT_HOSTS_MAX {
        return Ok(());
    }
    Err(refuse(
        format!("{hosts} hosts are more than one rollout takes, which is {ROLLOUT_HOSTS_MAX}"),
        "divide them between environments, by a label",
    ))
}

/// How many hosts an environment has.
#[derive(Clone, Copy)]
struct Size {
    total: u32,
    drained: u32,
    /// Of those that are not drained.
    healthy: u32,
}

pub(super) fn refuse(text: impl Into<String>, hint: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::State, text, hint)
}

impl Coordinator {
    /// Returns what deploying `order` would do. Refuses what could never end well, with the
    /// numbers.
    ///
    /// # Errors
    ///
    /// Refuses unknown names, impossible settings, an empty environment, and a second rollout.
    pub fn plan(&self, order: &DeployOrder) -> Result<Planned, Refusal> {
        // Names first: whoever mistyped one wants to hear that, not what follows from it.
        self.known_environment(&order.environment)?;
        let release = self.known_release(&order.application, &order.version)?;
        let members = self.some_members(&order.environment)?;
        self.not_locked(order, &members)?;
        let (drained, in_service): (Vec<AgentName>, Vec<AgentName>) =
            members.iter().cloned().partition(|agent| self.enrolments.drain(agent).is_some());
        self.adoptable(&in_service, &order.application)?;
        let manifest = Manifest::parse(&release.manifest).ok();
        let deploys = manifest.as_ref().map_or(&[][..], |manifest| &manifest.deploys);
        let deploy = deploys.iter().find(|deploy| deploy.environment == order.environment);
        let total = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let left_out = u32::try_from(drained.len()).unwrap_or(u32::MAX);
        let (mut spec, settings) = Spec::resolve(&order.options, deploy, total, left_out)
            .map_err(|mistakes| Refusal::new(RefusalKind::Invalid, mistakes.join("\n"), ""))?;
        let from = self.from(order, &members);
        let before = from.as_ref().and_then(|version| self.held(&order.application, version));
        let releases: Vec<&Release> = before.into_iter().chain([&*release.release]).collect();
        spec.allowance =
            Spec::allowance_for(&releases, &self.leaving(&in_service, &order.application));
        let replacement = self.replacement(before, &release.release, &members);
        self.port_is_free(&in_service, &release.release)?;
        let digest = release.release.digest;
        let (up_to_date, mut hosts): (Vec<AgentName>, Vec<AgentName>) =
            in_service.iter().cloned().partition(|agent| {
                let slot = self.fleet.slot_of(agent, &order.application, &order.version);
                slot.is_some_and(|slot| {
                    slot.health.is_passing()
                        && slot.release.as_ref().is_some_and(|(_, held)| *held == digest)
                }) && self.wants(agent, order)
            });
        bounded(hosts.len())?;
        // Hosts that serve nobody first: they are the cheapest to learn from.
        hosts.sort_by_key(|agent| self.fleet.is_healthy(agent, &order.application));
        let is_healthy = |agent: &&AgentName| self.fleet.is_healthy(agent, &order.application);
        let healthy = in_service.iter().filter(is_healthy).count();
        let healthy = u32::try_from(healthy).unwrap_or(u32::MAX);
        let size = Size { total, drained: left_out, healthy };
        self.possible(&spec, &hosts, order, size)?;
        let plan = strategy::compile(&spec, &hosts);
        let worst_healthy = plan
            .waves
            .iter()
            .map(|wave| {
                let up = wave
                    .agents
                    .iter()
                    .filter(|agent| self.fleet.is_healthy(agent, &order.application))
                    .count();
                let up = match replacement {
                    // The old instance serves until the new one has proved itself.
                    Replacement::Beside => 0,
                    Replacement::First | Replacement::PassedOn | Replacement::Outage { .. } => {
                        u32::try_from(up).unwrap_or(u32::MAX)
                    }
                };
                // The executor takes out no more than the floor bears at one time.
                healthy.saturating_sub(up).max(spec.min_healthy.min(healthy))
            })
            .collect();
        Ok(Planned {
            plan,
            spec,
            settings,
            from,
            to: order.version.clone(),
            up_to_date,
            drained,
            hosts: total,
            healthy,
            worst_healthy,
            replacement,
        })
    }

    fn held(&self, application: &ApplicationName, version: &Version) -> Option<&Release> {
        let (application, version) = (application.clone(), version.clone());
        self.release(&ReleaseRef { application, version }).map(|stored| &*stored.release)
    }

    /// Returns the releases whose instances still end what is under way at them: until they have,
    /// nothing else can run in their places.
    fn leaving(&self, agents: &[AgentName], application: &ApplicationName) -> Vec<&Release> {
        let reports = agents.iter().filter_map(|agent| self.fleet.fresh_report(agent, application));
        let slots = reports.flat_map(|report| report.slots.iter().map(|(_, slot)| slot));
        let is_leaving =
            |slot: &&SlotReport| slot.instance.is_some() && slot.traffic == Traffic::Away;
        let leaving = slots.filter(|slot| planted!(LeavingGetsNoTime: false; is_leaving(slot)));
        leaving.filter_map(|slot| self.held(application, &slot.release.as_ref()?.0)).collect()
    }

    /// Refuses a service whose port another application has on one of `agents`: a port leads to
    /// one.
    fn port_is_free(&self, agents: &[AgentName], release: &Release) -> Result<(), Refusal> {
        let Some(service) = &release.service else { return Ok(()) };
        for agent in agents {
            let others = self.goals.of_agent(agent).filter(|(application, goal)| {
                let runs = || goal.running().and_then(|version| self.held(application, version));
                **application != release.name.application
                    && runs()
                        .and_then(|other| other.service.as_ref())
                        .is_some_and(|other| other.port == service.port)
            });
            if let Some((other, _)) = others.into_iter().next() {
                let port = service.port;
                return Err(refuse(
                    format!("port {port} of {agent} is {other}'s, and leads to one application"),
                    "give one of the two another service.port, or hosts of its own",
                ));
            }
        }
        Ok(())
    }

    fn replacement(
        &self,
        before: Option<&Release>,
        release: &Release,
        members: &[AgentName],
    ) -> Replacement {
        let Some(before) = before else { return Replacement::First };
        if release.can_stand_beside(before) {
            return Replacement::Beside;
        }
        let is_passed_on = |release: &Release| {
            release.service.as_ref().is_some_and(cutover_common::Service::can_be_passed_on)
        };
        if is_passed_on(release) && is_passed_on(before) {
            return Replacement::PassedOn;
        }
        let application = &release.name.application;
        let measured = members
            .iter()
            .filter_map(|agent| self.fleet.seen(agent)?.reports.get(application)?.outage);
        Replacement::Outage { measured: measured.max() }
    }

    fn wants(&self, agent: &AgentName, order: &DeployOrder) -> bool {
        let goal = self.goals.of(agent, &order.application);
        goal.is_some_and(|goal| goal.running() == Some(&order.version))
    }

    fn known_environment(&self, environment: &EnvironmentName) -> Result<(), Refusal> {
        if self.environments.contains_key(environment) {
            return Ok(());
        }
        let known = self.environments.keys().map(EnvironmentName::as_str);
        Err(Refusal::unknown("environment", environment.as_str(), known, "cutover env list"))
    }

    fn some_members(&self, environment: &EnvironmentName) -> Result<Vec<AgentName>, Refusal> {
        let members = self.members(environment);
        if members.is_empty() {
            return Err(refuse(
                format!("environment {environment} has no agents"),
                format!(
                    "`cutover env show {environment}` tells the labels it selects; \
                     give them with `cutover agents label`"
                ),
            ));
        }
        Ok(members)
    }

    fn known_release(
        &self,
        application: &ApplicationName,
        version: &Version,
    ) -> Result<&crate::coordinator::StoredRelease, Refusal> {
        let name = ReleaseRef { application: application.clone(), version: version.clone() };
        if let Some(release) = self.releases.get(&name) {
            return Ok(release);
        }
        let mut applications: Vec<&str> =
            self.releases.keys().map(|name| name.application.as_str()).collect();
        applications.dedup();
        if !applications.contains(&application.as_str()) {
            return Err(Refusal::unknown(
                "application",
                application.as_str(),
                applications,
                "cutover release list",
            ));
        }
        let versions = self.versions(application).map(Version::as_str);
        let list = format!("cutover release list {application}");
        let what = format!("release of {application}");
        Err(Refusal::unknown(&what, version.as_str(), versions, &list))
    }

    /// One rollout for each (application, environment), and none that shares a host with another
    /// of the same application (F1).
    fn not_locked(&self, order: &DeployOrder, members: &[AgentName]) -> Result<(), Refusal> {
        let locks = |rollout: &&Rollout| {
            rollout.application == order.application
                && (rollout.environment == order.environment
                    || members.iter().any(|agent| rollout.hosts.contains_key(agent)))
        };
        let holder = planted!(
            HeldDoesNotLock: self.active().find(|rollout| rollout.step().is_some() && locks(rollout));
            self.active().find(locks)
        );
        let Some(holder) = holder else { return Ok(()) };
        Err(refuse(
            format!(
                "{} has a rollout in {} that is not over: {} to {}, started by {}",
                order.application, holder.environment, holder.id, holder.to, holder.by
            ),
            format!("see what it waits for: cutover why {}", holder.id),
        ))
    }

    /// Refuses settings that can never be met, with the numbers (never after the first host was
    /// taken out).
    fn possible(
        &self,
        spec: &Spec,
        hosts: &[AgentName],
        order: &DeployOrder,
        Size { total, drained, healthy }: Size,
    ) -> Result<(), Refusal> {
        let floor = spec.min_healthy;
        let drained = if drained == 0 { String::new() } else { format!(" ({drained} drained)") };
        if floor > total {
            return Err(Refusal::new(
                RefusalKind::State,
                format!(
                    "min_healthy {floor} can never be met: {} has {total} hosts",
                    order.environment
                ),
                format!("give at most --min-healthy {}", total.saturating_sub(1)),
            ));
        }
        let is_up = |agent: &&AgentName| self.fleet.is_healthy(agent, &order.application);
        let disrupts = hosts.iter().any(|agent| is_up(&agent));
        if !disrupts {
            return Ok(());
        }
        if floor >= total {
            return Err(refuse(
                format!(
                    "min_healthy {floor} of {total} hosts can never be met: {} is replaced in \
                     place, so taking one host out leaves {}",
                    order.application,
                    total.saturating_sub(1)
                ),
                format!("give at most --min-healthy {}", total.saturating_sub(1)),
            ));
        }
        // What is down is taken first and may bring the spare; of what is not there that cannot
        // be known.
        let scene = self.scene(self.fleet.last_looked(), &[]);
        let is_down = |agent| scene.serving(agent, &order.application) == Serving::Down;
        let spare_down = hosts.iter().any(is_down);
        if healthy.saturating_sub(1) < floor && !spare_down {
            return Err(refuse(
                format!(
                    "only {healthy} of {total} hosts{drained} are healthy and min_healthy is \
                     {floor}: taking one more out would leave {}",
                    healthy.saturating_sub(1)
                ),
                "bring the others back first (`cutover status`), or give a lower --min-healthy",
            ));
        }
        Ok(())
    }

    pub(super) fn deploy(
        &mut self,
        now: Timestamp,
        by: &str,
        request_id: Uuid,
        rollout: Uuid,
        order: &DeployOrder,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        if let Some(id) = planted!(RequestIdForgotten: None; self.requests.get(&request_id)) {
            return self.repeated(*id, order);
        }
        if self.rollouts.contains_key(&rollout) {
            // The id may be the caller's choice: it must not take another rollout's place (E5).
            return Err(Refusal::new(
                RefusalKind::Invalid,
                format!("{rollout} is the id of another rollout"),
                "leave --request-id out, or give a new one",
            ));
        }
        let planned = self.plan(order)?;
        if planned.plan.waves.is_empty() && !planned.drained.is_empty() {
            return Err(refuse(
                format!(
                    "every host of {} that does not run {}@{} in health is drained: {}",
                    order.environment,
                    order.application,
                    order.version,
                    names(&planned.drained)
                ),
                "let one take part again: cutover agents drain AGENT --undo",
            ));
        }
        if planned.plan.waves.is_empty() {
            return Err(refuse(
                format!(
                    "{}@{} runs in health on all {} hosts of {} already",
                    order.application, order.version, planned.hosts, order.environment
                ),
                "nothing is to be done",
            ));
        }
        self.start(now, by, request_id, rollout, order, planned, step);
        Ok(Answer::RolloutStarted { rollout, repeated: false })
    }

    /// The same request again is the same rollout; another one under its id is a mistake.
    fn repeated(&self, id: Uuid, order: &DeployOrder) -> Result<Answer, Refusal> {
        let is_same = self.rollouts.get(&id).is_some_and(|rollout| {
            rollout.application == order.application
                && rollout.environment == order.environment
                && rollout.to == order.version
        });
        if is_same {
            return Ok(Answer::RolloutStarted { rollout: id, repeated: true });
        }
        Err(Refusal::new(
            RefusalKind::Invalid,
            format!("this request id started rollout {id}, which is something else"),
            "leave --request-id out, or give a new one",
        ))
    }

    #[expect(clippy::too_many_arguments, reason = "one request's fields, taken apart once")]
    fn start(
        &mut self,
        now: Timestamp,
        by: &str,
        request_id: Uuid,
        id: Uuid,
        order: &DeployOrder,
        planned: Planned,
        step: &mut Step,
    ) {
        let started = RolloutStarted {
            id,
            request_id,
            application: order.application.clone(),
            environment: order.environment.clone(),
            from: planned.from,
            to: planned.to,
            spec: planned.spec,
            plan: planned.plan,
            by: by.to_owned(),
        };
        let agents: Vec<AgentName> =
            started.plan.waves.iter().flat_map(|wave| wave.agents.clone()).collect();
        self.record(now, step, EventKind::RolloutStarted(Box::new(started)));
        // Everything is fetched from the start on: what cannot be is known before a host is
        // disturbed, and a batch does not wait for its download.
        let goals = agents
            .into_iter()
            .map(|agent| {
                let slots = self.slots_to_build_on(&agent, &order.application);
                (agent, with_prepared(&slots, &order.version))
            })
            .collect();
        self.set_goals(now, step, id, goals);
    }

    /// Finds a rollout by its id, a unique beginning of one, or an application's name: for the
    /// one that is not over, else for its newest.
    ///
    /// # Errors
    ///
    /// Refuses what names none, or several.
    pub fn find_rollout(&self, text: &str) -> Result<&Rollout, Refusal> {
        let of_application =
            || self.rollouts.values().filter(|rollout| rollout.application.as_str() == text);
        let active: Vec<&Rollout> = of_application().filter(|rollout| !rollout.is_over()).collect();
        if active.len() > 1 {
            let environments: Vec<String> = active
                .iter()
                .map(|rollout| format!("{} in {}", rollout.id, rollout.environment))
                .collect();
            return Err(Refusal::new(
                RefusalKind::Invalid,
                format!("{text} has {} rollouts that are not over", active.len()),
                format!("name one of them: {}", environments.join(", ")),
            ));
        }
        let newest = of_application().max_by_key(|rollout| rollout.number);
        if let Some(rollout) = active.first().copied().or(newest) {
            return Ok(rollout);
        }
        let beginning = text.to_ascii_lowercase();
        let mut fitting = self.rollouts.values().filter(|rollout| {
            beginning.len() >= 8 && rollout.id.to_string().starts_with(&beginning)
        });
        match (fitting.next(), fitting.next()) {
            (Some(rollout), None) => Ok(rollout),
            (Some(_), Some(_)) => Err(Refusal::new(
                RefusalKind::Invalid,
                format!("{text:?} is the beginning of several rollouts"),
                "give more of the id; `cutover history` lists them",
            )),
            (None, _) => {
                let mut known: Vec<&str> =
                    self.rollouts.values().map(|rollout| rollout.application.as_str()).collect();
                known.dedup();
                Err(Refusal::unknown("rollout", text, known, "cutover history"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_that_the_log_could_not_take_is_refused() {
        assert_eq!(bounded(ROLLOUT_HOSTS_MAX), Ok(()));
        assert!(bounded(ROLLOUT_HOSTS_MAX + 1).unwrap_err().text.contains("5001 hosts"));
    }
}
