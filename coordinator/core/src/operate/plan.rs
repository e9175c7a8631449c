//! Plan: what a deploy would do, and whether it can ever end well.

use std::collections::BTreeSet;

use cutover_common::{
    AgentName, AmountSetting, ApplicationName, CanaryHosts, EnvironmentName, Pauses, Release,
    ReleaseRef, SlotReport, Traffic, Version,
    manifest::{CutoverMode, Manifest},
    planted,
};

use super::deploy::refuse;
use crate::{
    action::{Refusal, RefusalKind},
    coordinator::{Coordinator, StoredRelease},
    fleet::Goal,
    input::{DeployOrder, IfBusy},
    rollout::{
        Plan, Planned, Replacement, Rollout, Setting, Spec, Strategy,
        decide::Serving,
        spec::{self, Canary},
        strategy::{self, Candidate, Standing},
    },
};

/// How many hosts one rollout takes. Its plan is one event: with a batch for each host and the
/// longest names this many still fit into the largest that is stored.
pub const ROLLOUT_HOSTS_MAX: usize = 5_000;

/// In how many zones its hosts can be: more than any provider has in all its regions together.
pub const ZONES_MAX: usize = 500;

fn bounded(hosts: usize) -> Result<(), Refusal> {
    if hosts <= ROLLOUT_HOSTS_MAX {
        return Ok(());
    }
    Err(refuse(
        format!("{hosts} hosts are more than one rollout takes, which is {ROLLOUT_HOSTS_MAX}"),
        "divide them between environments, by a label",
    ))
}

/// Which hosts of an environment a plan is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meant<'a> {
    Everybody,
    /// These lack what the environment runs.
    Those(&'a BTreeSet<AgentName>),
}

impl Meant<'_> {
    fn includes(self, agent: &AgentName) -> bool {
        match self {
            Self::Everybody => true,
            Self::Those(agents) => agents.contains(agent),
        }
    }
}

/// Returns whether `rollout` ends when `order` begins: what only brings hosts what runs already
/// makes room for what a person asks for.
fn makes_room(rollout: &Rollout, order: &DeployOrder) -> bool {
    rollout.converges || order.if_busy == IfBusy::Supersede
}

/// A restart brings no other release.
fn restarts_what_runs(
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

/// Refuses a cutover where two releases cannot run beside each other.
fn can_cut_over(spec: &Spec, replacement: Replacement, order: &DeployOrder) -> Result<(), Refusal> {
    let stands_beside = matches!(replacement, Replacement::Beside | Replacement::First);
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

impl Coordinator {
    /// Refuses a floor of a zone that can never be met while one of its hosts is taken out.
    fn zones_possible(
        &self,
        spec: &Spec,
        hosts: &[AgentName],
        order: &DeployOrder,
    ) -> Result<(), Refusal> {
        let Some(label) = &spec.zone else { return Ok(()) };
        let members = self.members(&order.environment);
        for (zone, floor) in &spec.zone_floors {
            let is_here = |agent: &&AgentName| self.zone(agent, label) == *zone;
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
}

/// Refuses zones that a plan cannot hold, and a pause that would never come.
fn possible_waves(spec: &Spec, plan: &Plan) -> Result<(), Refusal> {
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

/// How many hosts an environment has.
#[derive(Clone, Copy)]
struct Size {
    total: u32,
    drained: u32,
    /// Of those that are not drained.
    healthy: u32,
}

impl Coordinator {
    /// Returns what deploying `order` would do. Refuses what could never end well, with the
    /// numbers.
    ///
    /// # Errors
    ///
    /// Refuses unknown names, impossible settings, an empty environment, and a second rollout.
    pub fn plan(&self, order: &DeployOrder) -> Result<Planned, Refusal> {
        self.plan_for(order, Meant::Everybody)
    }

    /// Returns what deploying `order` would do to those hosts that are meant.
    pub(super) fn plan_for(
        &self,
        order: &DeployOrder,
        meant: Meant<'_>,
    ) -> Result<Planned, Refusal> {
        // Names first: whoever mistyped one wants to hear that, not what follows from it.
        self.known_environment(&order.environment)?;
        let release = self.known_release(&order.application, &order.version)?;
        let members = self.some_members(&order.environment)?;
        self.not_locked(order)?;
        let (drained, in_service): (Vec<AgentName>, Vec<AgentName>) =
            members.iter().cloned().partition(|agent| self.enrolments.drain(agent).is_some());
        let converges = matches!(meant, Meant::Those(_));
        let meant: Vec<AgentName> =
            in_service.iter().filter(|agent| meant.includes(agent)).cloned().collect();
        self.adoptable(&meant, &order.application)?;
        let total = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let left_out = u32::try_from(drained.len()).unwrap_or(u32::MAX);
        let (mut spec, settings) = self.settings(order, release, &members, left_out)?;
        if converges {
            spec.converge();
        }
        let from = self.from(order, &members);
        restarts_what_runs(&spec, from.as_ref(), order)?;
        let before = from.as_ref().and_then(|version| self.held(&order.application, version));
        let releases: Vec<&Release> = before.into_iter().chain([&*release.release]).collect();
        spec.allowance = Spec::allowance_for(&releases, &self.leaving(&meant, &order.application));
        let (replacement, _) = self.replacement((before, &release.release), &members);
        self.port_is_free(&meant, &release.release)?;
        let (up_to_date, mut hosts): (Vec<AgentName>, Vec<AgentName>) =
            meant.into_iter().partition(|agent| {
                let runs = self.runs_well(agent, &release.release);
                runs && self.wants(agent, order) && spec.strategy != Strategy::Restart
            });
        bounded(hosts.len())?;
        // Hosts that serve nobody first: they are the cheapest to learn from. Of those that do, the
        // ones that run something else than the environment does.
        hosts.sort_by_key(|agent| {
            let runs = self.goals.of(agent, &order.application).and_then(Goal::running);
            let is_current = from.is_some() && runs == from.as_ref();
            (self.fleet.is_healthy(agent, &order.application), is_current)
        });
        let healthy = self.healthy_of(&in_service, &order.application);
        let size = Size { total, drained: left_out, healthy };
        self.possible(&spec, &hosts, order, size)?;
        let standing = match replacement {
            Replacement::Beside => Standing::Beside,
            Replacement::First | Replacement::PassedOn | Replacement::Outage { .. } => {
                Standing::Alone
            }
        };
        can_cut_over(&spec, replacement, order)?;
        self.can_serve_beside(&spec, release, &members, order)?;
        let plan = strategy::compile(&spec, &self.candidates(&spec, hosts)?, standing);
        possible_waves(&spec, &plan)?;
        let notice = self.notice((before, &release.release), &members, (&plan, &spec), healthy);
        Ok(Planned {
            plan,
            spec,
            settings,
            from,
            to: order.version.clone(),
            converges,
            up_to_date,
            drained,
            hosts: total,
            healthy,
            worst_healthy: notice.worst_healthy,
            replacement: notice.replacement,
            not_passed_on: notice.not_passed_on,
        })
    }

    /// Resolves the settings of a deploy.
    fn settings(
        &self,
        order: &DeployOrder,
        release: &StoredRelease,
        members: &[AgentName],
        drained: u32,
    ) -> Result<(Spec, Vec<Setting>), Refusal> {
        let manifest = Manifest::parse(&release.manifest).ok();
        let deploys = manifest.as_ref().map_or(&[][..], |manifest| &manifest.deploys);
        let deploy = deploys.iter().find(|deploy| deploy.environment == order.environment);
        let zones = |label: &str| members.iter().map(|agent| self.zone(agent, label)).collect();
        let total = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let hosts = spec::Hosts { zones: &zones, total, drained };
        Spec::resolve(&order.options, deploy, &hosts)
            .map_err(|mistakes| Refusal::new(RefusalKind::Invalid, mistakes.join("\n"), ""))
    }

    /// Returns the zone of `agent` by `label`; empty for one without it.
    fn zone(&self, agent: &AgentName, label: &str) -> String {
        let enrolled = self.enrolments.agents.get(agent);
        enrolled.and_then(|enrolled| enrolled.labels.get(label)).cloned().unwrap_or_default()
    }

    /// Returns the hosts with their zones, and those that go first.
    fn candidates(&self, spec: &Spec, hosts: Vec<AgentName>) -> Result<Vec<Candidate>, Refusal> {
        let zone = |agent: &AgentName| {
            let label = spec.zone.as_deref();
            label.map_or_else(String::new, |label| self.zone(agent, label))
        };
        let total = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        let is_canary = |number: u32, agent: &AgentName| match &spec.canary {
            None => false,
            Some(Canary { hosts: CanaryHosts::Amount(amount), .. }) => {
                number < amount.of(AmountSetting::CanaryHosts, total)
            }
            Some(Canary { hosts: CanaryHosts::Labelled { key, value }, .. }) => {
                self.zone(agent, key) == *value
            }
        };
        let candidates: Vec<Candidate> = (0..)
            .zip(hosts)
            .map(|(number, agent)| Candidate {
                zone: zone(&agent),
                is_canary: is_canary(number, &agent),
                agent,
            })
            .collect();
        if let Some(canary) = &spec.canary
            && !candidates.is_empty()
            && !candidates.iter().any(|candidate| candidate.is_canary)
        {
            return Err(refuse(
                format!("no host that the release is to come to has the label {}", canary.hosts),
                "give it to one with `cutover agents label`, or give a number with --canary-hosts",
            ));
        }
        Ok(candidates)
    }

    pub(crate) fn healthy_of(&self, agents: &[AgentName], application: &ApplicationName) -> u32 {
        let is_healthy = |agent: &&AgentName| self.fleet.is_healthy(agent, application);
        u32::try_from(agents.iter().filter(is_healthy).count()).unwrap_or(u32::MAX)
    }

    /// Returns whether `agent` runs this very content, in health.
    fn runs_well(&self, agent: &AgentName, release: &Release) -> bool {
        let slot = self.fleet.slot_of(agent, &release.name.application, &release.name.version);
        slot.is_some_and(|slot| {
            let held = slot.release.as_ref();
            slot.health.is_passing() && held.is_some_and(|(_, held)| *held == release.digest)
        })
    }

    pub(crate) fn held(
        &self,
        application: &ApplicationName,
        version: &Version,
    ) -> Option<&Release> {
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

    /// Refuses to let clients get two releases at a time that cannot serve beside each other, as one
    /// of them says.
    fn can_serve_beside(
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
            running.filter(|version| **version != order.version).collect();
        let says_no = |one: &StoredRelease, other: &Version| {
            let range = Manifest::parse(&one.manifest).ok()?.beside?;
            (!range.includes(other)).then_some(range)
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

    fn wants(&self, agent: &AgentName, order: &DeployOrder) -> bool {
        let goal = self.goals.of(agent, &order.application);
        goal.is_some_and(|goal| goal.running() == Some(&order.version))
    }

    pub(super) fn known_environment(&self, environment: &EnvironmentName) -> Result<(), Refusal> {
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
    ) -> Result<&StoredRelease, Refusal> {
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
    fn not_locked(&self, order: &DeployOrder) -> Result<(), Refusal> {
        let mut locking = self.lockers(order).filter(|rollout| !makes_room(rollout, order));
        let holder = planted!(
            HeldDoesNotLock: locking.find(|rollout| rollout.step().is_some());
            locking.next()
        );
        let Some(holder) = holder else { return Ok(()) };
        Err(refuse(
            format!(
                "{} has a rollout in {} that is not over: {} to {}, started by {}",
                order.application, holder.environment, holder.id, holder.to, holder.by
            ),
            format!(
                "see what it waits for: cutover why {}; or stop it and begin this one: \
                 --if-busy supersede",
                holder.id
            ),
        ))
    }

    /// Returns the rollouts that must be over before `order` can begin.
    pub(crate) fn lockers<'a>(
        &'a self,
        order: &'a DeployOrder,
    ) -> impl Iterator<Item = &'a Rollout> {
        let members = self.members(&order.environment);
        self.active().filter(move |rollout| {
            rollout.application == order.application
                && (rollout.environment == order.environment
                    || members.iter().any(|agent| rollout.hosts.contains_key(agent)))
        })
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
