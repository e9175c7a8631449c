//! Plan: what a deploy would do.

use std::collections::BTreeSet;

use cutover_common::{
    AgentName, AmountSetting, ApplicationName, CanaryHosts, EnvironmentName, Release, ReleaseRef,
    SlotReport, Traffic, Version, manifest::Manifest, planted,
};

use super::{
    deploy::refuse,
    possible::{Size, bounded, can_be_reached, can_cut_over, possible_waves, restarts_what_runs},
};
use crate::{
    action::{Refusal, RefusalKind},
    coordinator::{Coordinator, StoredRelease},
    fleet::{Goal, Presence},
    input::{DeployOrder, WithConfig},
    once::Stand,
    rollout::{
        Plan, Planned, PlannedOnce, Replacement, Setting, Spec, Strategy,
        spec::{self, Canary},
        strategy::{self, Candidate, Standing},
    },
};

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

const fn standing(replacement: Replacement) -> Standing {
    match replacement {
        Replacement::Beside => Standing::Beside,
        Replacement::First | Replacement::PassedOn | Replacement::Outage { .. } => Standing::Alone,
    }
}

fn count(hosts: usize) -> u32 {
    u32::try_from(hosts).unwrap_or(u32::MAX)
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
        let all = self.some_members(&order.environment)?;
        self.not_locked(order)?;
        let members = self.led_to(&order.environment, &order.application);
        let left_out = members.iter().filter(|agent| self.enrolments.drain(agent).is_some());
        let (mut spec, settings) = self.settings(order, release, count(left_out.count()))?;
        let taken = match spec.groups() {
            Some(groups) => self.of_group(&all, groups),
            None => members.clone(),
        };
        let (drained, in_service): (Vec<AgentName>, Vec<AgentName>) =
            taken.into_iter().partition(|agent| self.enrolments.drain(agent).is_some());
        let converges = matches!(meant, Meant::Those(_));
        let meant: Vec<AgentName> =
            in_service.iter().filter(|agent| meant.includes(agent)).cloned().collect();
        self.adoptable(&meant, &order.application)?;
        self.sources_known(&spec)?;
        if converges {
            spec.converge();
        }
        let from = self.from(order, &members);
        let release = &self.meant_by(order, release, spec.strategy, from.as_ref())?;
        if converges {
            // Nobody has asked for it, so that nobody would see that hosts wait for what is lost.
            self.can_be_read(&order.environment, &release.release)?;
        }
        let version = release.release.name.version.clone();
        let order = &DeployOrder { version, with: WithConfig::Own, ..order.clone() };
        restarts_what_runs(&spec, from.as_ref(), order)?;
        let before = from.as_ref().and_then(|version| self.held(&order.application, version));
        let releases: Vec<&Release> = before.into_iter().chain([&*release.release]).collect();
        spec.allowance = Spec::allowance_for(&releases, &self.leaving(&meant, &order.application));
        let (replacement, _) = self.replacement((before, &release.release), &members);
        self.port_is_free(&meant, &release.release)?;
        let (up_to_date, hosts) = self.to_do((&spec, release, order), &members, meant);
        bounded(hosts.len())?;
        let hosts = self.in_order(hosts, order, from.as_ref());
        let total = count(drained.len() + in_service.len());
        let healthy = self.healthy_of(&in_service, &order.application);
        let size = Size { total, drained: count(drained.len()), healthy };
        self.possible(&spec, &hosts, order, size)?;
        // Of the hosts that clients are led to.
        let (total, healthy) = match spec.groups() {
            Some(_) => (count(members.len()), self.healthy_of(&members, &order.application)),
            None => (total, healthy),
        };
        can_cut_over(&spec, replacement, &release.release, order)?;
        can_be_reached(&spec, &release.release, order)?;
        self.has_edge(&spec, order)?;
        self.can_serve_beside(&spec, release, &members, order)?;
        let plan = strategy::compile(&spec, &self.candidates(&spec, hosts)?, standing(replacement));
        possible_waves(&spec, &plan)?;
        self.can_be_staged(&plan, release, order)?;
        let notice = self.notice((before, &release.release), &members, (&plan, &spec), healthy);
        let once = self.planned_once(order, release, &plan);
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
            once,
        })
    }

    /// Returns which of the hosts that are `meant` have nothing to do, and which have.
    fn to_do(
        &self,
        (spec, release, order): (&Spec, &StoredRelease, &DeployOrder),
        members: &[AgentName],
        meant: Vec<AgentName>,
    ) -> (Vec<AgentName>, Vec<AgentName>) {
        let is_done = |agent: &AgentName| {
            let runs = self.runs_well(agent, &release.release);
            runs && self.wants(agent, order) && spec.strategy != Strategy::Restart
        };
        match spec.groups() {
            // Clients get it already, or those hosts get it that they are led to then.
            Some(groups) if groups.from.is_some() && members.iter().all(is_done) => {
                (members.to_vec(), Vec::new())
            }
            Some(_) => (Vec::new(), meant),
            None => meant.into_iter().partition(is_done),
        }
    }

    /// Returns `hosts` in the order to go: those that serve nobody first, as they are the cheapest to
    /// learn from. Of those that do, the ones that run something else than the environment does.
    fn in_order(
        &self,
        mut hosts: Vec<AgentName>,
        order: &DeployOrder,
        from: Option<&Version>,
    ) -> Vec<AgentName> {
        hosts.sort_by_key(|agent| {
            let runs = self.goals.of(agent, &order.application).and_then(Goal::running);
            let is_current = from.is_some() && runs == from;
            (self.fleet.is_healthy(agent, &order.application), is_current)
        });
        hosts
    }

    /// Returns what becomes of the once hook of the release, if it has one.
    fn planned_once(
        &self,
        order: &DeployOrder,
        release: &StoredRelease,
        plan: &Plan,
    ) -> Option<PlannedOnce> {
        release.release.once_hook()?;
        let first = plan.waves.first()?;
        let once = self.onces.get(&order.environment, &order.application, &order.version);
        Some(match once.map(|once| (once.stand, &once.agent)) {
            Some((Stand::Passed, _)) => PlannedOnce::Passed,
            Some((Stand::Unclear(_), agent)) => PlannedOnce::Unclear(agent.clone()),
            Some((Stand::Given | Stand::Failed | Stand::Freed, _)) | None => {
                let is_there = |agent: &&AgentName| self.fleet.presence(agent) == Presence::Live;
                PlannedOnce::Runs(first.agents.iter().find(is_there).cloned())
            }
        })
    }

    /// Resolves the settings of a deploy.
    pub(super) fn settings(
        &self,
        order: &DeployOrder,
        release: &StoredRelease,
        drained: u32,
    ) -> Result<(Spec, Vec<Setting>), Refusal> {
        let members = self.led_to(&order.environment, &order.application);
        let manifest = Manifest::parse(&release.manifest).ok();
        let deploys = manifest.as_ref().map_or(&[][..], |manifest| &manifest.deploys);
        let deploy = deploys.iter().find(|deploy| deploy.environment == order.environment);
        let zones = |label: &str| members.iter().map(|agent| self.label_of(agent, label)).collect();
        let total = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let groups = |label: &str| self.grouped(order, label);
        let hosts = spec::Hosts { zones: &zones, total, drained, groups: &groups };
        let checks = manifest.as_ref().map_or(&[][..], |manifest| &manifest.checks);
        Spec::resolve(&order.options, (deploy, checks), &hosts)
            .map_err(|mistakes| Refusal::new(RefusalKind::Invalid, mistakes.join("\n"), ""))
    }

    /// Returns the value of `label` of `agent`; empty for one without it.
    pub(super) fn label_of(&self, agent: &AgentName, label: &str) -> String {
        let enrolled = self.enrolments.agents.get(agent);
        enrolled.and_then(|enrolled| enrolled.labels.get(label)).cloned().unwrap_or_default()
    }

    /// Returns the hosts with their zones, and those that go first.
    fn candidates(&self, spec: &Spec, hosts: Vec<AgentName>) -> Result<Vec<Candidate>, Refusal> {
        let zone = |agent: &AgentName| {
            let label = spec.zone.as_deref();
            label.map_or_else(String::new, |label| self.label_of(agent, label))
        };
        let total = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        let is_canary = |number: u32, agent: &AgentName| match &spec.canary {
            None => false,
            Some(Canary { hosts: CanaryHosts::Amount(amount), .. }) => {
                number < amount.of(AmountSetting::CanaryHosts, total)
            }
            Some(Canary { hosts: CanaryHosts::Labelled { key, value }, .. }) => {
                self.label_of(agent, key) == *value
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

    fn wants(&self, agent: &AgentName, order: &DeployOrder) -> bool {
        let goal = self.goals.of(agent, &order.application);
        goal.is_some_and(|goal| goal.running() == Some(&order.version))
    }

    /// Refuses an environment that there is not, with the nearest name.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn known_environment(&self, environment: &EnvironmentName) -> Result<(), Refusal> {
        if self.environments.contains_key(environment) {
            return Ok(());
        }
        let known = self.environments.keys().map(EnvironmentName::as_str);
        Err(Refusal::unknown("environment", environment.as_str(), known, "cutover env list"))
    }

    pub(super) fn some_members(
        &self,
        environment: &EnvironmentName,
    ) -> Result<Vec<AgentName>, Refusal> {
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

    pub(super) fn known_release(
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
}
