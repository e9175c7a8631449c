//! Groups: some runs have an application whose hosts are in two groups, with edges in front that lead
//! to one of them, and what goes wrong when they go over from one to the other.

use super::edges;
use crate::{
    dice::Dice,
    script::{
        Application, Call, Entry, Fault, Gated, Group, KillPoint, Mode, QUEUES, Script, What,
    },
};

/// How many runs in a thousand, of those in which they can be.
const RUNS_PERMILLE: u32 = 180;

/// When agents have joined, and can be labelled. The first deploy comes a second later.
const LABELLED_MS: u64 = 1_000;

/// Of a deploy in batches, what is said between groups too.
const KEPT: [&str; 9] = [
    "healthy_for",
    "healthy_within",
    "progress_within",
    "min_healthy",
    "max_failed",
    "max_unreachable",
    "unreachable",
    "bake",
    "auto_rollback",
];

/// Makes the run of a seed such a one, if it is to be one, with luck of its own.
pub(super) fn draw(script: &mut Script) {
    let mut dice = Dice::new(script.seed, "groups");
    // Two coordinators would lead the same edges.
    let is_cloned = script.entries.iter().any(|it| it.what == What::Fault(Fault::Clone));
    let applications = script.applications.iter();
    let Some(number) = applications.into_iter().position(|it| it.hosts.len() > 1) else { return };
    if is_cloned || !dice.chance(RUNS_PERMILLE) {
        return;
    }
    let application = u16::try_from(number).unwrap_or(0);
    gate(&mut dice, &mut script.applications[number]);
    let spec = &script.applications[number];
    let ends_ms = match script.mode {
        Mode::Liveness { heals_ms, .. } => heals_ms,
        Mode::Safety => script.ends_ms.saturating_sub(60_000),
    };
    let mut entries = Vec::new();
    label(&mut dice, spec, ends_ms, &mut entries);
    let first = script.hosts;
    script.hosts += u16::try_from(dice.between(1, 2)).unwrap_or(1);
    for host in first..script.hosts {
        edge(&mut dice, (host, application), ends_ms, &mut entries);
    }
    let times = deploys(&mut dice, (application, spec), &mut script.entries);
    // What comes first is what everything else begins from.
    for at_ms in times.into_iter().skip(1) {
        disturb(&mut dice, (at_ms, application), first..script.hosts, &mut entries);
    }
    script.entries.extend(entries);
    script.entries.sort_by_key(|entry| entry.at_ms);
    if let Mode::Liveness { heals_ms, .. } = script.mode {
        script.entries.retain(|entry| entry.at_ms < heals_ms);
        script.ends_ms = heals_ms + crate::oracle::bound_ms(script);
    }
}

/// Puts an application behind a gate. Most requests end within the time that others are held.
pub(super) fn gate<'a>(dice: &mut Dice, application: &'a mut Application) -> &'a mut Gated {
    let gated = application.gate.get_or_insert(Gated {
        in_place: false,
        requests_ms: 10,
        drain_ms: 500,
        keep_warm_ms: 0,
    });
    gated.requests_ms = *dice.pick(&[10, 500, 500, 2_000, 20_000]);
    gated
}

/// Each group has at least one host. Rarely one goes over to the other.
fn label(dice: &mut Dice, spec: &Application, ends_ms: u64, entries: &mut Vec<Entry>) {
    let mut push = |at_ms: u64, call: Call| entries.push(Entry { at_ms, what: What::Call(call) });
    for (index, host) in spec.hosts.iter().copied().enumerate() {
        let group = match index {
            0 => Group::Blue,
            1 => Group::Green,
            _ => *dice.pick(&[Group::Blue, Group::Green]),
        };
        push(LABELLED_MS + dice.between(0, 500), Call::Group { host, group });
    }
    if dice.chance(150) {
        let host = *dice.pick(&spec.hosts);
        let at_ms = dice.between(8_000, ends_ms.max(8_000));
        let group = *dice.pick(&[Group::Blue, Group::Green]);
        push(at_ms, Call::Group { host, group });
    }
}

/// One more host stands in front.
fn edge(dice: &mut Dice, (host, application): (u16, u16), ends_ms: u64, entries: &mut Vec<Entry>) {
    let mut push = |at_ms: u64, what: What| entries.push(Entry { at_ms, what });
    let late_ms = if dice.chance(150) { 30_000 } else { 500 };
    let at_ms = LABELLED_MS + dice.between(0, late_ms);
    push(at_ms, What::Call(Call::Edge { host, application }));
    if dice.chance(120) {
        let at_ms = dice.between(10_000, ends_ms.max(10_000));
        push(at_ms, What::Call(Call::Unedge { host }));
        if dice.chance(700) {
            let at_ms = at_ms + dice.between(10, 15_000);
            push(at_ms, What::Call(Call::Edge { host, application }));
        }
    }
    for _ in 0..dice.between(0, 2) {
        let at_ms = dice.between(8_000, ends_ms.max(8_000));
        push(at_ms, What::Fault(edges::fault(dice, host)));
    }
}

/// Makes the first deploy and most others one to a group. Returns when they are asked for.
fn deploys(
    dice: &mut Dice,
    (number, spec): (u16, &Application),
    entries: &mut [Entry],
) -> Vec<u64> {
    let mut times = Vec::new();
    let mut runs = 0;
    for entry in entries {
        let What::Call(Call::Deploy { application, release, options }) = &mut entry.what else {
            continue;
        };
        let is_first = times.is_empty();
        if *application != number || !(is_first || dice.chance(750)) {
            continue;
        }
        if !is_first && *release == runs {
            // Where clients have it already there is nothing to do.
            *release = (*release + 1) % 4;
        }
        runs = *release;
        options.retain(|(name, value)| {
            let is_floor = name == "min_healthy";
            let fits = value.parse().is_ok_and(|floor: usize| floor * 2 <= spec.hosts.len());
            let is_of_call = name.parse::<cutover_common::DeploySetting>().is_err();
            is_of_call || KEPT.contains(&name.as_str()) && (!is_floor || fits)
        });
        let mut push = |name: &str, value: &str| options.push((name.to_owned(), value.to_owned()));
        push("strategy", "blue_green");
        push("groups", crate::script::GROUP_LABEL);
        push("cutover", one_of(dice, &["strict", "strict", "strict", "relaxed"]));
        push("hold", one_of(dice, &["1s", "3s", "10s"]));
        push("keep", one_of(dice, &["0s", "0s", "3s", "10s"]));
        if !is_first {
            push("approve", one_of(dice, &["off", "off", "off", "on"]));
            if dice.chance(100) {
                push("until", "smoke");
            }
            if dice.chance(300) {
                push(QUEUES, "yes");
            }
        }
        times.push(entry.at_ms);
    }
    times
}

/// Something goes wrong while edges go over, or somebody interferes.
fn disturb(
    dice: &mut Dice,
    (at_ms, application): (u64, u16),
    edges: std::ops::Range<u16>,
    entries: &mut Vec<Entry>,
) {
    if dice.chance(350) {
        return;
    }
    let mut push = |at_ms: u64, what: What| entries.push(Entry { at_ms, what });
    // Most cutovers come some seconds after they were asked for.
    let soon = |dice: &mut Dice| at_ms + dice.between(1_500, 15_000);
    // What is told one by one takes long, so that more can come between.
    let slow =
        Fault::SlowLink { host: edges.start, delay_ms: dice.between(300, 1_500), for_ms: 40_000 };
    if dice.chance(500) {
        push(at_ms, What::Fault(slow));
    }
    for host in edges {
        for _ in 0..dice.between(0, 2) {
            push(soon(dice), What::Fault(edges::fault(dice, host)));
        }
    }
    if dice.chance(500) {
        let point = *dice.pick(&[KillPoint::Now, KillPoint::AfterStore, KillPoint::BeforeStore]);
        let down_ms = *dice.pick(&[10, 1_000, 12_000]);
        let kill = Fault::KillCoordinator { coordinator: 0, point, down_ms };
        push(soon(dice), What::Fault(kill));
    }
    if dice.chance(350) {
        let call = match dice.below(6) {
            0 => Call::Pause { application },
            1 => Call::Abort { application },
            2 => Call::Retry { application },
            _ => Call::Rollback { application },
        };
        push(soon(dice), What::Call(call));
    }
}

fn one_of(dice: &mut Dice, choices: &[&'static str]) -> &'static str {
    dice.pick::<&str>(choices)
}
