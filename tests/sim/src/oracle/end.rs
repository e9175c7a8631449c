//! Ends: a rollout ends as it must, or waits for a person for a reason that is truly there.

use std::collections::BTreeSet;

use cutover_common::{AgentName, Slot, Version, edge::EDGE_LABEL, manifest::Unsure};
use cutover_coordinator_core::{
    Event, EventKind, SessionId,
    event::Change,
    once::Stand,
    rollout::{HostState, Outcome, PlanStep, Rollout, State, spec::Groups},
};
use uuid::Uuid;

use super::{Seen, Violation, rest::is_stuck};
use crate::{
    script::{Answers, Application, Behaviour, Call, Life, Mode, SUPERSEDES, Script, What},
    world::{Host, SiteProcess, World, busy_permille},
};

/// How many things may still be to come for each host of a fleet at rest: its heartbeat, probes
/// and wake-ups of each application, and what they replaced, which is still in the queue.
const QUEUE_PER_HOST: usize = 64;

/// See above.
#[derive(Debug, Default)]
pub(super) struct EndOracle {
    is_healed: bool,
    /// Nothing goes wrong in the script, and nobody interferes.
    is_quiet: bool,
    /// Besides, all releases are good everywhere, and quickly there.
    is_calm: bool,
    /// The rollouts of coordinators that began with nothing behind them.
    begun: BTreeSet<Uuid>,
}

impl EndOracle {
    pub(super) fn new(script: &Script) -> Self {
        let is_deploy = |what: &What| matches!(what, What::Call(Call::Deploy { options, .. }) if !supersedes(options));
        let network = &script.network;
        // What is more than TCP does can make a host late, and failed.
        let is_kind = network.reorder_permille == 0 && network.drop_permille == 0;
        let is_quiet = is_kind && script.entries.iter().all(|entry| is_deploy(&entry.what));
        let is_good = |application: &Application| {
            application.hooks.is_empty()
                && application.releases.iter().all(|release| {
                    !release.is_damaged
                        && release.exceptions.is_empty()
                        && release.behaviour == Behaviour::WELL
                })
        };
        let is_quick = network.bytes_per_ms >= 100_000;
        let is_calm = is_quiet && is_quick && script.applications.iter().all(is_good);
        Self { is_quiet, is_calm, ..Self::default() }
    }

    pub(super) fn see(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), Violation> {
        match seen {
            Seen::SiteStored { number, events } => {
                events.iter().try_for_each(|event| self.stored(world, *number, event))
            }
            Seen::Healed => {
                self.is_healed = true;
                Ok(())
            }
            Seen::End => self.end(world),
            _ => Ok(()),
        }
    }

    fn stored(&mut self, world: &World, number: u16, event: &Event) -> Result<(), Violation> {
        match &event.kind {
            EventKind::RolloutStarted(started) if !started.converges => {
                self.begun.insert(started.id);
                Ok(())
            }
            EventKind::Rollout {
                id,
                change: Change::Ended { outcome: Outcome::Succeeded, .. },
                ..
            } => {
                let core = world.site(number).process.as_ref().map(|process| &process.core);
                let rollout = core.and_then(|core| core.rollout(*id));
                rollout.map_or(Ok(()), |rollout| may_succeed(world, rollout))
            }
            // A6: with nothing wrong and nobody in the way a good release arrives at once.
            EventKind::Rollout {
                id,
                change: Change::HostFailed { why, .. } | Change::Held { why },
                ..
            } if self.is_calm && !may_lack_evidence(world, number, *id) => {
                let text = format!("nothing is wrong, and rollout {id} meets with this: {why}");
                Err(Violation::new("A6", text))
            }
            _ => Ok(()),
        }
    }

    fn end(&self, world: &World) -> Result<(), Violation> {
        let site = world.site(0);
        let Some(process) = &site.process else { return Ok(()) };
        for rollout in process.core.active() {
            if self.is_healed {
                has_reason(world, rollout)?;
            }
        }
        if self.is_quiet && self.is_healed {
            for id in &self.begun {
                let Some(rollout) = process.core.rollout(*id) else { continue };
                must_succeed(world, rollout)?;
            }
        }
        if self.is_healed { nothing_waits(world) } else { Ok(()) }
    }
}

fn supersedes(options: &[(String, String)]) -> bool {
    options.iter().any(|(name, _)| name == SUPERSEDES)
}

/// E4: what works nowhere never succeeds.
fn may_succeed(world: &World, rollout: &Rollout) -> Result<(), Violation> {
    let application = rollout.application.as_str();
    let Some(spec) = application_of(world, application) else { return Ok(()) };
    let can_work = |host: u16| {
        let release = spec.releases.iter().find(|it| it.version == rollout.to.as_pushed());
        release.is_none_or(|release| {
            let life = release.behaviour_on(host).life;
            let is_hopeless = match life {
                Life::CannotStart => true,
                Life::NeverReady => spec.probe.is_some(),
                _ => false,
            };
            !release.is_damaged && !is_hopeless
        })
    };
    if rollout.hosts.keys().any(|agent| can_work(number_of(agent))) {
        return Ok(());
    }
    let text = format!("{application} {} works nowhere, and its rollout succeeded", rollout.to);
    Err(Violation::new("E4", text))
}

/// Returns whether it waits for a person as its plan says: people say so only so often.
fn waits_as_asked(rollout: &Rollout) -> bool {
    matches!(rollout.step(), Some((_, PlanStep::Approve)))
}

/// Returns whether it has a canary that may be held, or go back, by what it is asked, for want of
/// evidence, or as its requests end worse or as badly as those of the old release: luck counts then.
fn may_be_doubted(world: &World, rollout: &Rollout) -> bool {
    let Some(canary) = &rollout.spec.canary else { return false };
    let spec = application_of(world, rollout.application.as_str());
    let answers = |version: &Version| {
        let releases = spec.into_iter().flat_map(|spec| &spec.releases);
        releases.into_iter().find(|it| it.version == version.as_pushed()).map(|it| it.answers)
    };
    canary.unsure != Unsure::Pass
        || !canary.checks.is_empty()
        || answers(&rollout.to).is_some_and(|answers| answers != Answers::GOOD)
}

fn may_lack_evidence(world: &World, number: u16, id: Uuid) -> bool {
    let process = world.site(number).process.as_ref();
    let rollout = process.and_then(|process| process.core.rollout(id));
    rollout.is_some_and(|rollout| may_be_doubted(world, rollout))
}

/// Returns whether requests last for longer than gates hold others at the cutover.
fn is_never_empty(world: &World, rollout: &Rollout) -> bool {
    let gate = application_of(world, rollout.application.as_str()).and_then(|spec| spec.gate);
    let hold = rollout.spec.blue_green.as_ref().map(|how| how.hold);
    gate.zip(hold)
        .is_some_and(|(gate, hold)| u128::from(gate.requests_ms) + 1_000 > hold.as_millis())
}

/// A6: with nothing wrong and nobody in the way a good release arrives.
fn must_succeed(world: &World, rollout: &Rollout) -> Result<(), Violation> {
    if let State::Ended { outcome: Outcome::Succeeded | Outcome::Staged, .. } = rollout.state {
        return Ok(());
    }
    if waits_as_asked(rollout) || may_be_doubted(world, rollout) || is_never_empty(world, rollout) {
        return Ok(());
    }
    let Mode::Liveness { broken, .. } = &world.script.mode else { return Ok(()) };
    let Some(spec) = application_of(world, rollout.application.as_str()) else { return Ok(()) };
    let is_fine = |host: &u16| {
        !broken.contains(host)
            && is_good(spec, &rollout.to, *host)
            && rollout.from.as_ref().is_none_or(|from| is_good(spec, from, *host))
    };
    let takes_ms = spec
        .releases
        .iter()
        .find(|it| it.version == rollout.to.as_pushed())
        .map_or(0, |release| release.archive_bytes / world.script.network.bytes_per_ms.max(1));
    let is_quick = u128::from(takes_ms) * 2 < rollout.spec.progress_within.as_millis();
    if !is_quick || !spec.hosts.iter().all(is_fine) || !never_crashes(spec, &rollout.to) {
        return Ok(());
    }
    let text = format!(
        "nothing was wrong with {} {} nor with its hosts, and its rollout is {:?}",
        rollout.application, rollout.to, rollout.state
    );
    Err(Violation::new("A6", text))
}

fn never_crashes(spec: &Application, version: &Version) -> bool {
    let release = spec.releases.iter().find(|it| it.version == version.as_pushed());
    release.is_some_and(|release| {
        release.behaviour.life == Life::Well
            && release.exceptions.iter().all(|it| it.behaviour.life == Life::Well)
    })
}

/// A6: what still waits for a person, after people have sent it on again and again, waits for
/// something that is truly so.
fn has_reason(world: &World, rollout: &Rollout) -> Result<(), Violation> {
    if waits_as_asked(rollout) || may_be_doubted(world, rollout) || is_never_empty(world, rollout) {
        return Ok(());
    }
    let Some(process) = &world.site(0).process else { return Ok(()) };
    let Some(spec) = application_of(world, rollout.application.as_str()) else { return Ok(()) };
    let members = process.core.members(&rollout.environment);
    let is_fit = |agent: &AgentName| {
        let Some(host) = world.hosts.get(usize::from(number_of(agent))) else { return false };
        is_well(world, host) && !process.core.is_ahead(agent, &rollout.application)
    };
    if !rollout.hosts.keys().chain(&members).all(is_fit) {
        return Ok(());
    }
    if let Some(groups) = rollout.groups()
        && !groups_are_fit(world, process, rollout, groups, &is_fit)
    {
        return Ok(());
    }
    // Of each host: what runs, what is to run, and what it would go back to.
    let is_sound = |agent: &AgentName| {
        let host = number_of(agent);
        let goal = process.core.goals().of(agent, &rollout.application);
        let goal = goal.and_then(|goal| goal.running());
        let back = rollout.back_to(agent);
        [goal, back, rollout.hosts.contains_key(agent).then_some(&rollout.to)]
            .into_iter()
            .flatten()
            .all(|version| is_good(spec, version, host))
    };
    if !rollout.hosts.keys().chain(&members).all(is_sound) {
        return Ok(());
    }
    // A hook that was interrupted is run again only when somebody asks.
    let application = rollout.application.clone();
    let is_kept_back = |host: &Host| {
        let known = host.agent.as_ref()?.core.remembered().applications.get(&application)?;
        Some(Slot::ALL.into_iter().any(|slot| is_stuck(known, slot)))
    };
    if world.hosts.iter().any(|host| is_kept_back(host).unwrap_or(false)) {
        return Ok(());
    }
    // Nor is one that is for all hosts and of which nobody knows what it has done.
    let once = process.core.onces().of(rollout).map(|once| once.stand);
    if matches!(once, Some(Stand::Failed | Stand::Unclear(_))) {
        return Ok(());
    }
    // Who takes part no more is sent on by nobody.
    if rollout.hosts.values().all(|host| matches!(host.state, HostState::Excluded { .. })) {
        return Ok(());
    }
    if bears_no_disruption(process, rollout, &members) {
        return Ok(());
    }
    let slow = spec.releases.iter().any(|release| {
        let takes_ms = release.archive_bytes / world.script.network.bytes_per_ms.max(1);
        u128::from(takes_ms) * 2 > rollout.spec.progress_within.as_millis()
    });
    if slow {
        return Ok(());
    }
    let text = format!(
        "{} to {} waits for people, and nothing is wrong: {:?}",
        rollout.id, rollout.to, rollout.state
    );
    Err(Violation::new("A6", text))
}

/// Returns whether the edges can be told, and the group that clients came from was not stopped: once
/// it was there is nothing to lead them back to.
fn groups_are_fit(
    world: &World,
    process: &SiteProcess,
    rollout: &Rollout,
    groups: &Groups,
    is_fit: &dyn Fn(&AgentName) -> bool,
) -> bool {
    let enrolments = process.core.enrolments();
    let says = |agent: &AgentName, label: &str, value: &str| {
        let enrolled = enrolments.agents.get(agent);
        enrolled.and_then(|it| it.labels.get(label)).is_some_and(|it| it == value)
    };
    let hosts = || world.hosts.iter().map(|host| &host.name);
    let mut edges = hosts().filter(|it| says(it, EDGE_LABEL, rollout.environment.as_str()));
    let runs = |agent: &AgentName| {
        let goal = process.core.goals().of(agent, &rollout.application);
        goal.is_some_and(|goal| goal.running().is_some())
    };
    let has_left = groups
        .from
        .as_ref()
        .is_none_or(|from| hosts().any(|agent| says(agent, &groups.label, from) && runs(agent)));
    edges.all(is_fit) && has_left
}

/// Returns whether the floor, of all hosts or of a zone, or what the hosts have to do can only be
/// waited for.
fn bears_no_disruption(process: &SiteProcess, rollout: &Rollout, members: &[AgentName]) -> bool {
    let serving: Vec<&AgentName> = members
        .iter()
        .filter(|agent| {
            let goal = process.core.goals().of(agent, &rollout.application);
            let is_drained = process.core.enrolments().drain(agent).is_some();
            goal.is_some_and(|goal| goal.running().is_some()) && !is_drained
        })
        .collect();
    let is_short = |up: usize, floor: u32| usize::try_from(floor).is_ok_and(|floor| up <= floor);
    let zone = |agent: &AgentName| {
        let label = rollout.spec.zone.as_ref()?;
        process.core.enrolments().agents.get(agent)?.labels.get(label)
    };
    let of_zone = |name: &String| {
        serving.iter().filter(|agent| zone(agent).is_some_and(|zone| zone == name)).count()
    };
    is_short(serving.len(), rollout.spec.min_healthy)
        || rollout.spec.zone_floors.iter().any(|(name, floor)| is_short(of_zone(name), *floor))
        || is_too_busy(rollout, members, &serving)
}

/// Returns whether of the hosts that serve the busiest could not bear its part of what another does,
/// and of what those do that are drained.
fn is_too_busy(rollout: &Rollout, members: &[AgentName], serving: &[&AgentName]) -> bool {
    let Some(max) = rollout.spec.max_load else { return false };
    let busy = |agent: &AgentName| busy_permille(number_of(agent));
    let all: u32 = members.iter().map(busy).sum();
    let stay: u32 = serving.iter().copied().map(busy).sum();
    let busiest = serving.iter().copied().map(busy).max().unwrap_or(0);
    serving.iter().any(|out| {
        let left = stay.saturating_sub(busy(out));
        left == 0 || busiest * all / left > max.permille()
    })
}

/// Returns whether a host is one that a coordinator can command.
fn is_well(world: &World, host: &Host) -> bool {
    let Mode::Liveness { broken, .. } = &world.script.mode else { return false };
    let enrolled = world.site(0).process.as_ref().and_then(|process| {
        process.core.enrolments().agents.get(&host.name).map(|enrolled| enrolled.enrolment)
    });
    !broken.contains(&host.number)
        && !host.observes_only
        && !host.is_gone
        && enrolled == Some(host.certificate.enrolment)
        && host.certificate.not_after > world.now
        && host.agent.as_ref().is_some_and(|agent| {
            let remembered = agent.core.remembered();
            let bound = remembered.binding.as_ref().map(|binding| binding.term);
            agent.core.is_joined() && !(remembered.split.is_some() && remembered.split >= bound)
        })
}

/// A9: nothing waits that nobody will ever answer.
fn nothing_waits(world: &World) -> Result<(), Violation> {
    for site in &world.sites {
        let Some(process) = site.process.as_ref().filter(|it| !it.is_storing()) else { continue };
        if process.inbox.is_empty() && !process.replies.is_empty() {
            let text = format!("{} calls are never answered", process.replies.len());
            return Err(Violation::new("A9", text));
        }
        let is_dead = |session: &&SessionId| {
            let connection = process.sessions.get(session);
            let connection = connection.and_then(|id| world.network.connections.get(id));
            connection.is_none_or(|connection| !connection.is_open_above)
                || process.core.fleet().agent(**session).is_none()
        };
        let dead = process.sessions.keys().find(is_dead);
        if let Some(session) = dead.filter(|_| process.inbox.is_empty()) {
            let text = format!("session {} has no connection, or no agent", session.0);
            return Err(Violation::new("A9", text));
        }
    }
    let most = QUEUE_PER_HOST * (world.hosts.len() + 2) * world.script.applications.len();
    if world.waiting() > most {
        return Err(Violation::new("A9", format!("{} things are to come", world.waiting())));
    }
    Ok(())
}

fn application_of<'a>(world: &'a World, name: &str) -> Option<&'a Application> {
    world.script.applications.iter().find(|spec| spec.name == name)
}

fn is_good(spec: &Application, version: &Version, host: u16) -> bool {
    let release = spec.releases.iter().find(|it| it.version == version.as_pushed());
    release.is_some_and(|release| !release.is_damaged && release.behaviour_on(host).is_good())
}

fn number_of(agent: &AgentName) -> u16 {
    agent.as_str().rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(u16::MAX)
}
