//! Rest: what is true when a fleet that was left alone has come to rest, and that it does.

use std::time::Duration;

use cutover_agent_core::{HookEnd, Life, Remembered, SessionId};
use cutover_common::{Generation, OncePart, Permille, Slot, SlotGoal};
use cutover_coordinator_core::{
    queue::Queued,
    rollout::{PlanStep, Rollout, State},
};

use super::{Seen, Violation, fleet::FleetOracle};
use crate::{
    script::{Application, Call, Entry, Mode, QUEUES, Script, What},
    world::{HOOK_WITHIN, Host, World},
};

/// The longest that an agent waits before it dials again, after an answer that a person must
/// change.
const REDIAL_MAX: Duration = Duration::from_secs(300);

/// How long a dead peer may be taken for alive, twice: by each side.
const SILENCES: Duration = Duration::from_secs(60);

/// What the coordinator's defaults are where a deploy gives no flag.
const PROGRESS_WITHIN: Duration = Duration::from_secs(600);
/// See above.
const HEALTHY_WITHIN: Duration = Duration::from_secs(300);
/// How much longer an agent's word may take, with the longest soak or bake that is drawn.
const SLACK: Duration = Duration::from_secs(60);

/// Returns how long, after the faults of a liveness run are over, everything may take to come to
/// rest, in milliseconds (A6).
///
/// Each wave of a rollout may take its whole time without a step forward, and then the way back
/// may, of every rollout that the script asks for: one application has one at a time.
pub fn bound_ms(script: &Script) -> u64 {
    let of_application = |number: usize| {
        let deploys = script.entries.iter().filter_map(|entry| match &entry.what {
            What::Call(Call::Deploy { application, options, .. })
                if usize::from(*application) == number =>
            {
                Some(deploy_within(options, &script.applications[number]))
            }
            What::Call(_) | What::Fault(_) => None,
        });
        // Of those that were asked for one is under way when the world heals, and at most one
        // more begins, a call that is made again; and those that are queued.
        deploys.max().unwrap_or_default() * (2 + queued(script, number))
    };
    let slowest = (0..script.applications.len()).map(of_application).max().unwrap_or_default();
    let bound = REDIAL_MAX + SILENCES + slowest;
    u64::try_from(bound.as_millis()).unwrap_or(u64::MAX)
}

/// Returns how many deploys of an application wait for others.
fn queued(script: &Script, number: usize) -> u32 {
    let is_queued = |entry: &&Entry| match &entry.what {
        What::Call(Call::Deploy { application, options, .. }) => {
            usize::from(*application) == number && options.iter().any(|(name, _)| name == QUEUES)
        }
        What::Call(_) | What::Fault(_) => false,
    };
    u32::try_from(script.entries.iter().filter(is_queued).count()).unwrap_or(u32::MAX)
}

fn deploy_within(options: &[(String, String)], application: &Application) -> Duration {
    let hosts = application.hosts.len();
    let option = |name: &str| options.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let seconds = |name: &str, default: Duration| {
        let typed = option(name).and_then(|value| value.strip_suffix('s')?.parse().ok());
        typed.map_or(default, Duration::from_secs)
    };
    let progress = seconds("progress_within", PROGRESS_WITHIN);
    let healthy = seconds("healthy_within", HEALTHY_WITHIN);
    let waves = match option("strategy").map(String::as_str) {
        Some("all_at_once") => 1,
        Some(_) | None => u32::try_from(hosts).unwrap_or(1),
    };
    let hooks = u32::try_from(application.hooks.len() + 1).unwrap_or(1) * HOOK_WITHIN;
    let drain = application.gate.map_or(0, |gate| gate.drain_ms);
    let allowance = hooks + Duration::from_millis(drain);
    (progress + healthy + allowance + SLACK) * (waves + 1) * 2
}

/// Returns whether a hook keeps the goal from being reached until there is another one.
pub(super) fn is_stuck(application: &cutover_agent_core::Application, slot: Slot) -> bool {
    let wanted = application.goal(slot).release().map(|release| release.digest);
    let duties = application.assignment.once.iter();
    let duty = duties.into_iter().find(|duty| Some(duty.release) == wanted);
    let has_ended_badly = |permit: Generation| {
        application.once.iter().any(|run| {
            let has_passed = run.end.as_ref().is_none_or(|end| *end == HookEnd::Passed);
            Some(run.release) == wanted && run.permit >= permit && !has_passed
        })
    };
    let is_kept_back = duty.is_some_and(|duty| match duty.part {
        OncePart::Awaited => true,
        OncePart::Run { permit } => has_ended_badly(permit),
    });
    is_kept_back
        || application.slots.of(slot).hooks.iter().any(|run| {
            Some(run.release) == wanted
                && run.generation == application.fence().generation
                && matches!(run.end, Some(HookEnd::Failed { .. } | HookEnd::Interrupted))
        })
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct RestOracle {
    is_healed: bool,
}

impl RestOracle {
    pub(super) fn see(
        &mut self,
        world: &World,
        seen: &Seen<'_>,
        fleet: &FleetOracle,
    ) -> Result<(), Violation> {
        match seen {
            Seen::Healed => {
                self.is_healed = true;
                Ok(())
            }
            Seen::End => {
                if self.is_healed {
                    comes_to_rest(world, fleet)?;
                }
                replays_to_the_same(world, self.is_healed)
            }
            _ => Ok(()),
        }
    }
}

/// A6: within its bound everything that was left alone comes to rest.
fn comes_to_rest(world: &World, fleet: &FleetOracle) -> Result<(), Violation> {
    match restless(world, fleet) {
        None => Ok(()),
        Some(why) => Err(Violation::new("A6", format!("the fleet does not come to rest: {why}"))),
    }
}

/// Returns what is not at rest, of all that is to be well for ever.
pub(super) fn restless(world: &World, fleet: &FleetOracle) -> Option<String> {
    let Mode::Liveness { broken, .. } = &world.script.mode else { return None };
    let site = world.site(0);
    if site.is_gone {
        return None;
    }
    let Some(process) = &site.process else {
        return Some("the coordinator does not run".to_owned());
    };
    if process.core.term().0 == 0 || !process.inbox.is_empty() {
        return Some("the coordinator has inputs".to_owned());
    }
    if let Some(rollout) = process.core.active().find(|rollout| !waits_for_people(rollout)) {
        return Some(format!("{} to {} is {:?}", rollout.id, rollout.to, rollout.state));
    }
    let is_next = |queued: &&Queued| process.core.ahead_of(queued).rollout.is_none();
    if let Some(queued) = process.core.queue().waiting().find(is_next) {
        return Some(format!("{} to {} is about to begin", queued.id, queued.order.version));
    }
    if let Some((_, call)) = world.operators.calls.iter().find(|(_, call)| call.is_open()) {
        return Some(format!("an operator waits for an answer: {:?}", call.request));
    }
    world
        .hosts
        .iter()
        .filter(|host| !broken.contains(&host.number) && !host.observes_only && !host.is_gone)
        .find_map(|host| host_is_restless(world, host).map(|why| format!("{}: {why}", host.name)))
        .or_else(|| fleet.is_behind(world))
}

fn waits_for_people(rollout: &Rollout) -> bool {
    let is_asked_for = matches!(rollout.step(), Some((_, PlanStep::Approve)));
    is_asked_for || matches!(rollout.state, State::Held { .. } | State::Paused { .. })
}

fn host_is_restless(world: &World, host: &Host) -> Option<String> {
    let Some(process) = &world.site(0).process else { return None };
    let Some(agent) = &host.agent else { return Some("its agent does not run".to_owned()) };
    if !host.agent_runs() {
        return Some("its agent is stopped".to_owned());
    }
    let enrolled = process.core.enrolments().agents.get(&host.name);
    if enrolled.is_none_or(|enrolled| enrolled.enrolment != host.certificate.enrolment) {
        // Removed; it keeps what it runs, and is not told anything.
        return None;
    }
    if host.certificate.not_after <= world.now {
        // Nobody renews it any more: a person has to let it join again.
        return None;
    }
    if !agent.core.is_joined() {
        return Some("its agent is not connected".to_owned());
    }
    if !agent.inbox.is_empty() || !host.spawning.is_empty() {
        return Some("its agent has work".to_owned());
    }
    let remembered = agent.core.remembered();
    if let Some(told) = process.core.edge_told(&host.name) {
        let held = remembered.edge.as_ref().map(|edge| edge.revision);
        // Where hosts hold what the store knows nothing of, edges stay as they are until a person
        // has looked (F7).
        let is_ahead = |host: &Host| {
            let names = world.script.applications.iter().filter_map(|it| it.name.parse().ok());
            names.into_iter().any(|name| process.core.is_ahead(&host.name, &name))
        };
        if held != Some(told) && !world.hosts.iter().any(is_ahead) {
            return Some(format!("follows routes {held:?} as an edge, not {told:?}"));
        }
    }
    goals_are_held(world, host, remembered).or_else(|| {
        let mut known = remembered
            .applications
            .iter()
            .filter(|(name, _)| !process.core.is_ahead(&host.name, name));
        known.find_map(|(name, application)| {
            Slot::ALL
                .into_iter()
                .find_map(|slot| slot_is_restless(world, host, application, slot))
                .map(|why| format!("{name}: {why}"))
        })
    })
}

fn goals_are_held(world: &World, host: &Host, remembered: &Remembered) -> Option<String> {
    let core = &world.site(0).process.as_ref()?.core;
    let applications = world.script.applications.iter().filter_map(|it| it.name.parse().ok());
    applications.into_iter().find_map(|name| {
        let goal = core.goals().of(&host.name, &name)?;
        if core.is_ahead(&host.name, &name) {
            // It waits for a person, and its numbers are of another history.
            return None;
        }
        let held = remembered.applications.get(&name).map(|it| it.fence().generation);
        let is_held = held.is_some_and(|held| held >= goal.generation);
        (!is_held).then(|| format!("holds goal {held:?} of {name}, not {:?}", goal.generation))
    })
}

fn slot_is_restless(
    world: &World,
    host: &Host,
    application: &cutover_agent_core::Application,
    slot: Slot,
) -> Option<String> {
    let goal = application.goal(slot);
    let state = application.slots.of(slot);
    // What cannot be brought there is tried for ever, and rests for nobody.
    let is_good = Slot::ALL.into_iter().all(|slot| {
        application.goal(slot).release().is_none_or(|release| {
            let spec = world.spec_of(&release.name.application, &release.name.version);
            spec.is_none_or(|spec| spec.behaviour_on(host.number).is_good() && !spec.is_damaged)
        })
    });
    // Nor does what a hook keeps back until somebody asks again.
    if !is_good || Slot::ALL.into_iter().any(|slot| is_stuck(application, slot)) {
        return None;
    }
    match goal {
        SlotGoal::Running(release) => {
            let Some(instance) = &state.instance else {
                return Some(format!("{} does not run", release.name));
            };
            let process = host.kernel.processes.get(&instance.id);
            let is_well = process.is_some_and(|it| it.is_well(world.now));
            let is_it = instance.release.digest == release.digest;
            let name = &release.name.application;
            let route = application.assignment.route.as_ref();
            let is_led_to = route.is_none_or(|it| {
                let share = if it.to == slot { it.share.rest() } else { it.share };
                share > Permille::NONE
            });
            if release.service.is_some() && is_led_to && !host.gate.leads_to(name, slot) {
                return Some(format!("{} gets no traffic", release.name));
            }
            (!is_it || !is_well || !matches!(instance.life, Life::Running { .. }))
                .then(|| format!("{} is not well: {:?}", release.name, instance.life))
        }
        SlotGoal::Prepared(release) => {
            let is_prepared = state.prepared.as_ref().is_some_and(|it| it.digest == release.digest);
            (!is_prepared || state.instance.is_some())
                .then(|| format!("{} is not prepared, or runs", release.name))
        }
        SlotGoal::Absent => state.instance.is_some().then(|| format!("{slot} is not empty")),
    }
}

/// D1: what is stored makes the same memory again, of everything.
fn replays_to_the_same(world: &World, is_calm: bool) -> Result<(), Violation> {
    for site in &world.sites {
        let Some(process) = site.process.as_ref().filter(|process| !process.is_storing()) else {
            continue;
        };
        if !site.replay().remembers_the_same_as(&process.core) {
            let what = format!("coordinator {} remembers what its log does not say", site.number);
            return Err(Violation::new("D1", what));
        }
    }
    for host in &world.hosts {
        let Some(agent) = host.agent.as_ref().filter(|agent| !agent.is_storing()) else {
            continue;
        };
        let same =
            host.replay().is_some_and(|replayed| replayed.remembered() == agent.core.remembered());
        if !same && !agent.has_flipped {
            let what = format!("{} remembers what its journal does not say", host.name);
            return Err(Violation::new("D1", what));
        }
    }
    nothing_is_left(world, is_calm)
}

/// Nothing is left over: of sessions, of calls, of releases on disk.
///
/// An agent hears of the end of its session when the word arrives, which a bad network delays.
fn nothing_is_left(world: &World, is_calm: bool) -> Result<(), Violation> {
    for host in &world.hosts {
        let Some(agent) = host.agent.as_ref().filter(|agent| !agent.is_storing()) else {
            continue;
        };
        let Some(retained) = &agent.retained else { continue };
        for (application, digest) in &host.releases {
            let is_kept = retained.releases.get(application).is_none_or(|it| it.contains(digest));
            if !is_kept && agent.inbox.is_empty() {
                let what = format!("{} keeps a {application} that nobody wants", host.name);
                return Err(Violation::new("A9", what));
            }
        }
        let open = |id| world.network.connections.get(&id).map(|it| it.agent_session);
        let session: Option<SessionId> = agent.connection.and_then(open);
        if is_calm && agent.core.is_joined() && session.is_none() && agent.inbox.is_empty() {
            let what = format!("{} is joined without a connection", host.name);
            return Err(Violation::new("A9", what));
        }
    }
    Ok(())
}
