//! Reports: what a slot looks like to the coordinator and to people.

use cutover_common::{
    Health, HookKind, Phase, Release, SlotGoal, SlotReport, Timers, Traffic, duration_text, planted,
};

use crate::{
    Ending, HookProgress, Instance, Life,
    hooks::{before_the_traffic, patience, stuck_text},
    lease::Permission,
    prepare::Preparation,
    slots::{Decision, SlotTraffic, SlotView, Waiting, Work, decide},
    volatile::LiveSlot,
};

/// Returns the report of one slot. `is_led_to`: the gate has said that it leads there; `trouble`
/// is what keeps it from serving the application.
pub(crate) fn slot(
    view: &SlotView<'_>,
    live: &LiveSlot,
    timers: Timers,
    is_led_to: bool,
    trouble: &str,
) -> SlotReport {
    let decision = decide(view);
    let Some(instance) = &view.state.instance else { return vacant(view, live, &decision) };
    let mut report = occupied(view, live, timers, instance, &decision);
    report.detail = join(&[&report.detail, &live.trouble]);
    report.traffic = match view.traffic {
        SlotTraffic::Ungated => return report,
        _ if is_led_to => Traffic::Here,
        SlotTraffic::Led
        | SlotTraffic::Leaving
        | SlotTraffic::Warm { .. }
        | SlotTraffic::Replaced
        | SlotTraffic::Out => Traffic::Away,
    };
    report.detail = join(&[&report.detail, trouble]);
    report
}

fn vacant(view: &SlotView<'_>, live: &LiveSlot, decision: &Decision) -> SlotReport {
    let (phase, detail) = match decision {
        Decision::Wait(Waiting::ForRetry { .. }) => {
            let gave_up = view.preparation.is_some_and(Preparation::is_hopeless);
            let phase = if gave_up { Phase::Failed } else { Phase::Preparing };
            (phase, waiting_text(view, decision))
        }
        Decision::Wait(Waiting::ForGoal { .. }) => (Phase::Failed, waiting_text(view, decision)),
        Decision::Wait(Waiting::ForHook(HookKind::Install)) => {
            (Phase::Preparing, waiting_text(view, decision))
        }
        Decision::Wait(
            Waiting::ForOtherSlot
            | Waiting::ForPermission(_)
            | Waiting::ForHook(_)
            | Waiting::ForOnce(_)
            | Waiting::ForOnceLease(_),
        ) => (Phase::Waiting, waiting_text(view, decision)),
        Decision::Do(_) | Decision::Wait(_) | Decision::Rest => match view.goal {
            SlotGoal::Absent => (Phase::Empty, String::new()),
            SlotGoal::Prepared(wanted) | SlotGoal::Running(wanted) => {
                if view.state.prepared.as_ref() == Some(wanted) {
                    (Phase::Prepared, String::new())
                } else {
                    (Phase::Preparing, "fetching and verifying the release".to_owned())
                }
            }
        },
    };
    let detail = join(&[&detail, &live.note]);
    SlotReport {
        phase,
        release: view.goal.release().map(|release| name(release)),
        detail,
        ..SlotReport::default()
    }
}

fn occupied(
    view: &SlotView<'_>,
    live: &LiveSlot,
    timers: Timers,
    instance: &Instance,
    decision: &Decision,
) -> SlotReport {
    let waiting = waiting_text(view, decision);
    let base = SlotReport {
        release: Some(name(&instance.release)),
        restarts: instance.restarts,
        ..SlotReport::default()
    };
    match &instance.life {
        Life::Starting => SlotReport { phase: Phase::Starting, detail: waiting, ..base },
        Life::Running { evidence } => {
            let (health, said) = health(view, live, timers);
            let hooks = before_the_traffic(&instance.release, view.state, view.generation);
            // It counts as settled when its hooks have passed.
            let health = planted!(
                SettledBeforeHooks: health;
                if hooks.has_passed() { health } else { health.at_most_passing() }
            );
            let running = SlotReport { instance: Some(evidence.clone()), ..base };
            if let Decision::Wait(Waiting::ForGoal { .. }) = decision {
                let (phase, health) = (Phase::Failed, Health::Failing);
                return SlotReport { phase, health, detail: waiting, ..running };
            }
            let detail = join(&[&said, &waiting]);
            SlotReport { phase: Phase::Running, health, detail, ..running }
        }
        Life::Stopping { hook } => {
            let hook = match hook {
                HookProgress::Begun => "running its before_stop hook",
                HookProgress::Over { warning } => warning,
            };
            let retry = live.stop_retry.as_ref().map_or("", |retry| &retry.detail);
            SlotReport { phase: Phase::Stopping, detail: join(&[hook, retry]), ..base }
        }
        Life::Stopped { hook, warning } => {
            let hook = match hook {
                HookProgress::Begun => "running its after_stop hook",
                HookProgress::Over { warning } => warning,
            };
            SlotReport { phase: Phase::Stopping, detail: join(&[warning, hook]), ..base }
        }
        Life::Ended { ending, detail } => {
            let phase = match ending {
                Ending::Exited => Phase::Running,
                Ending::NotStarted => Phase::Failed,
            };
            let late = late_text(view, live, timers);
            SlotReport {
                phase,
                health: Health::Failing,
                detail: join(&[&late, detail, &waiting]),
                ..base
            }
        }
    }
}

fn health(view: &SlotView<'_>, live: &LiveSlot, timers: Timers) -> (Health, String) {
    let Some(watch) = &live.watch else { return (Health::Unknown, String::new()) };
    let answer = watch.last_answer();
    let late = late_text(view, live, timers);
    let health = watch.health(timers, view.now);
    if late.is_empty() || health.is_passing() {
        // What passes serves, however late it came: only its coordinator can do without it (A1).
        let late = if health == Health::Settled { "" } else { &late };
        return (health, join(&[late, answer]));
    }
    let answer = if answer.is_empty() { "no answer to a probe so far" } else { answer };
    (Health::Failing, format!("{late}: {answer}"))
}

/// Says that no instance became settled in time, or nothing.
fn late_text(view: &SlotView<'_>, live: &LiveSlot, timers: Timers) -> String {
    let patience = patience(timers, view.goal);
    let is_late = live.trying_since.is_some_and(|since| view.now >= since + patience);
    if !is_late {
        return String::new();
    }
    format!("not healthy within {}", duration_text::print(patience))
}

fn waiting_text(view: &SlotView<'_>, decision: &Decision) -> String {
    let Decision::Wait(waiting) = decision else { return String::new() };
    match waiting {
        Waiting::ForWork(Work::Adopting) => {
            "looking for the instance after a restart of the agent".to_owned()
        }
        Waiting::ForWork(
            Work::Starting | Work::RunningHook | Work::EndingHook | Work::Stopping,
        )
        | Waiting::ForPreparation => String::new(),
        Waiting::ForHook(kind) => match view.state.open_hook() {
            Some(_) => format!("running its {kind} hook"),
            None => format!("its {kind} hook is run once it is healthy"),
        },
        Waiting::ForOnce(kind) => {
            format!("waits until its {kind} hook has passed on the host that runs it for all")
        }
        Waiting::ForOnceLease(kind) => format!(
            "its {kind} hook is for all hosts, and waits for a fresh lease from the coordinator"
        ),
        Waiting::ForGoal { kind, end } => stuck_text(*kind, end),
        Waiting::ForStopRetry { .. } => "stopping is tried again".to_owned(),
        Waiting::ForRetry { detail, at: Some(_) } => format!("{detail}; tried again"),
        Waiting::ForRetry { detail, at: None } => {
            format!("{detail}; not tried again before another goal")
        }
        Waiting::ForRestart { .. } => "starts again".to_owned(),
        Waiting::ForReplacement { slot } if *slot == view.slot => {
            "runs until the release that replaces it is prepared".to_owned()
        }
        Waiting::ForReplacement { slot } => {
            format!("runs until the release in {slot} is prepared")
        }
        Waiting::ForPermission(Permission::SplitBrain) => {
            "is to stop, but two coordinators claim the same term, so nothing is stopped".to_owned()
        }
        Waiting::ForPermission(Permission::NoLease | Permission::Fresh) => {
            "is to stop, and waits for a fresh lease from the coordinator".to_owned()
        }
        Waiting::ForShift => "serves until the other slot can".to_owned(),
        Waiting::ForDrain => "gets nothing new, and ends what is under way".to_owned(),
        Waiting::ForWarmth { .. } => "is kept warm without traffic".to_owned(),
        Waiting::ForOtherSlot => format!("waits for {} to stop", view.slot.other()),
    }
}

fn name(release: &Release) -> (cutover_common::Version, cutover_common::Sha256) {
    (release.name.version.clone(), release.digest)
}

pub(crate) fn join(parts: &[&str]) -> String {
    let said: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    said.join("; ")
}
