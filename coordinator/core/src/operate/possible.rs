//! Possible: refuses what could never end well, before the first host is told anything.

use std::collections::BTreeSet;

use cutover_common::{
    AgentName, Pauses, Protocol, Release, ReleaseRef, SourceName, Version,
    manifest::{CutoverMode, Manifest},
    nearest::nearest,
};

use super::deploy::refuse;
use crate::{
    action::{Refusal, RefusalKind},
    coordinator::{Coordinator, StoredRelease},
    fleet::Goal,
    input::DeployOrder,
    once::Stand,
    rollout::{Plan, PlanStep, Replacement, Spec, Strategy, Wave, decide::Serving},
};

/// How many hosts one rollout takes. Its plan is one event: with a batch for each host and the
/// longest names this many still fit into the largest that is stored.
pub const ROLLOUT_HOSTS_MAX: usize = 5_000;

/// In how many zones its hosts can be: more than any provider has in all its regions together.
pub const ZONES_MAX: usize = 500;

/// How many hosts an environment has.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) total: u32,
    pub(super) drained: u32,
    /// Of those that are not drained.
    pub(super) healthy: u32,
}

pub(super) fn bounded(hosts: usize) -> Result<(), Refusal> {
    if hosts <= ROLLOUT_HOSTS_MAX {
        return Ok(());
    }
    Err(refuse(
        format!("{hosts} hosts are more than one rollout takes, which is {ROLLOUT_HOSTS_MAX}"),
        "divide them between environments, by a label",
    ))
}

/// A restart brings no other release.
pub(super) fn restarts_what_runs(
    spec: &Spec,
    from: Option<&Version>,
    order: &DeployOrder,
) -> Result<(), Refusal> {
    if spec.strategy != Strategy::Restart || from == Some(&order.version) {
        return Ok(());
    }
    let (application, environment) = (&order.application, &order.environment);
    Err(match from {
        Some(from) => refuse(
            format!("restart brings no other release, and {environment} runs {application}@{from}"),
            format!(
                "restart that (cutover deploy {application}@{from} --to {environment} --strategy \
                 restart), or deploy {} with another strategy",
                order.version
            ),
        ),
        None => refuse(
            format!("{application} was never deployed to {environment}, so nothing is restarted"),
            "deploy it with another strategy",
        ),
    })
}

/// Refuses a cutover where two releases cannot run beside each other, or that no gate can make.
pub(super) fn can_cut_over(
    spec: &Spec,
    replacement: Replacement,
    release: &Release,
    order: &DeployOrder,
) -> Result<(), Refusal> {
    let stands_beside = matches!(replacement, Replacement::Beside | Replacement::First);
    if spec.groups().is_some() {
        if release.service.is_some() {
            return Ok(());
        }
        return Err(refuse(
            format!("{} has no [service] that an edge could lead clients to", order.version),
            "give it one, or deploy it without groups",
        ));
    }
    if spec.strategy != Strategy::BlueGreen || stands_beside {
        return Ok(());
    }
    Err(refuse(
        format!(
            "blue_green starts {} beside what runs, and {} is replaced in place",
            order.version, order.application
        ),
        "give it a [service] whose swap is \"beside\" in both releases, or use --strategy rolling",
    ))
}

/// Refuses a header or a cookie that would lead nobody to a canary: only HTTP has them, and only a gate
/// looks at them.
pub(super) fn can_be_reached(
    spec: &Spec,
    release: &Release,
    order: &DeployOrder,
) -> Result<(), Refusal> {
    if spec.canary.as_ref().is_none_or(|canary| canary.allow.is_none()) {
        return Ok(());
    }
    let because = match release.service.as_ref().map(|service| service.protocol) {
        Some(Protocol::Http) => return Ok(()),
        Some(Protocol::Tcp) => "is a TCP service (service.protocol), which has neither",
        None => "has no [service], so that no gate looks at what clients send",
    };
    Err(refuse(
        format!(
            "clients cannot reach the canary by a header or a cookie: {} of {} {because}",
            order.version, order.application
        ),
        "leave out --canary-header and --canary-cookie; where its cutover.toml says them, take them \
         out and push it as another version",
    ))
}

/// Refuses zones that a plan cannot hold, and a pause that would never come.
pub(super) fn possible_waves(spec: &Spec, plan: &Plan) -> Result<(), Refusal> {
    if plan.zones.len() > ZONES_MAX {
        let text = format!("{} zones are more than {ZONES_MAX}", plan.zones.len());
        return Err(refuse(text, "name a label that many hosts share with --zone"));
    }
    let batches = plan.waves.len();
    let last = spec.pause_after.as_ref().map_or(0, Pauses::last);
    if batches == 0 || usize::try_from(last).is_ok_and(|last| last <= batches) {
        return Ok(());
    }
    let text = format!("pause_after names batch {last}, and there are {batches}");
    Err(refuse(text, format!("name batches from 1 to {batches}, or give a smaller batch")))
}

impl Coordinator {
    /// Refuses settings that can never be met, with the numbers (never after the first host was
    /// taken out).
    pub(super) fn possible(
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
        // Of those that clients are not led to none is missed.
        if !disrupts || spec.groups().is_some() {
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
        self.zones_possible(spec, hosts, order)?;
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

    /// Refuses a floor of a zone that can never be met while one of its hosts is taken out.
    pub(super) fn zones_possible(
        &self,
        spec: &Spec,
        hosts: &[AgentName],
        order: &DeployOrder,
    ) -> Result<(), Refusal> {
        let Some(label) = &spec.zone else { return Ok(()) };
        let members = self.led_to(&order.environment, &order.application);
        for (zone, floor) in &spec.zone_floors {
            let is_here = |agent: &&AgentName| self.label_of(agent, label) == *zone;
            let size = members.iter().filter(is_here).count();
            // Also one that is down now may serve by then.
            let runs = |agent: &AgentName| {
                let goal = self.goals.of(agent, &order.application);
                goal.is_some_and(|goal| goal.running().is_some())
            };
            let disrupts = hosts.iter().filter(is_here).any(runs);
            if disrupts && usize::try_from(*floor).is_ok_and(|floor| floor >= size) {
                return Err(refuse(
                    format!(
                        "zone_min_healthy {floor} of the {size} hosts of zone {zone:?} can never \
                         be met: taking one out leaves {}",
                        size.saturating_sub(1)
                    ),
                    format!("give at most --zone-min-healthy {}", size.saturating_sub(1)),
                ));
            }
        }
        Ok(())
    }

    /// Refuses a check that asks a metrics server of which this coordinator was not told.
    pub(super) fn sources_known(&self, spec: &Spec) -> Result<(), Refusal> {
        let checks = spec.canary.iter().flat_map(|canary| &canary.checks);
        let asked = checks.filter_map(|check| Some((&check.name, &check.metric()?.source)));
        let mut unknown = asked.filter(|(_, source)| !self.sources.contains(*source));
        let Some((check, source)) = unknown.next() else { return Ok(()) };
        let names = self.sources.iter().map(SourceName::as_str);
        let near = nearest(source.as_str(), names)
            .map_or_else(String::new, |near| format!("did you mean {near:?}? Otherwise "));
        Err(refuse(
            format!(
                "check {check} asks {source:?}, which is no source of metrics that this \
                 coordinator was told of",
                source = source.as_str()
            ),
            format!(
                "{near}start the coordinator with --metrics {source}=URL, or deploy without: \
                 --canary-checks none"
            ),
        ))
    }

    /// Refuses to let clients get two releases at a time that cannot serve beside each other, as one
    /// of them says.
    pub(super) fn can_serve_beside(
        &self,
        spec: &Spec,
        release: &StoredRelease,
        members: &[AgentName],
        order: &DeployOrder,
    ) -> Result<(), Refusal> {
        let is_strict =
            spec.blue_green.as_ref().is_some_and(|how| how.cutover == CutoverMode::Strict);
        if is_strict {
            return Ok(());
        }
        let running = members
            .iter()
            .filter_map(|agent| self.goals.of(agent, &order.application).and_then(Goal::running));
        let others: BTreeSet<&Version> =
            running.filter(|it| it.as_pushed() != order.version.as_pushed()).collect();
        let says_no = |one: &StoredRelease, other: &Version| {
            let range = Manifest::parse(&one.manifest).ok()?.beside?;
            (!range.includes(&other.pushed())).then_some(range)
        };
        for other in others {
            let name =
                ReleaseRef { application: order.application.clone(), version: other.clone() };
            let stored = self.release(&name);
            let refused = says_no(release, other)
                .map(|range| (&order.version, range))
                .or_else(|| Some((other, says_no(stored?, &order.version)?)));
            if let Some((version, range)) = refused {
                let (application, environment) = (&order.application, &order.environment);
                return Err(refuse(
                    format!(
                        "{version} of {application} can serve beside {range} only \
                         (compatibility.beside), and {environment} would have both {other} and {} \
                         for a while",
                        order.version
                    ),
                    "lead all clients over at one moment: --strategy blue_green --cutover strict",
                ));
            }
        }
        Ok(())
    }

    /// Refuses to start a release beside what a host runs that takes its place, or waits for the same
    /// once hook: not every host runs what the environment does, as after an aborted deploy.
    pub(super) fn can_be_staged(
        &self,
        plan: &Plan,
        release: &StoredRelease,
        order: &DeployOrder,
    ) -> Result<(), Refusal> {
        let to = &order.version;
        let once = self.onces.get(&order.environment, &order.application, to);
        let stages = |wave: &&Wave| wave.steps.contains(&PlanStep::Stage);
        for agent in plan.waves.iter().filter(stages).flat_map(|wave| &wave.agents) {
            let goal = self.goals.of(agent, &order.application);
            let Some(runs) = goal.and_then(Goal::running).filter(|runs| *runs != to) else {
                continue;
            };
            let is_waiting = runs.as_pushed() == to.as_pushed()
                && release.release.once_hook().is_some()
                && once.is_none_or(|once| once.stand != Stand::Passed);
            let held = self.held(&order.application, runs);
            let has_room = held.is_none_or(|held| release.release.can_stand_beside(held));
            let because = match (is_waiting, has_room) {
                (true, _) => "waits for the once hook of the same release, which has not passed",
                (false, false) => "leaves no place for another one beside it",
                (false, true) => continue,
            };
            return Err(refuse(
                format!(
                    "{} starts {to} beside what runs, and {runs}, which {agent} was told to run, \
                     {because}",
                    order.application
                ),
                "replace it: --strategy rolling",
            ));
        }
        Ok(())
    }

    /// Refuses a service whose port another application has on one of `agents`: a port leads to
    /// one.
    pub(super) fn port_is_free(
        &self,
        agents: &[AgentName],
        release: &Release,
    ) -> Result<(), Refusal> {
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
