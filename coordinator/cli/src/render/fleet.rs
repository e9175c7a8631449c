//! Agents, environments and join tokens.

use std::fmt::Write as _;

use cutover_common::Timestamp;

use super::{
    Paint, Tone, ago, bytes, count, labels, moment, names, or_dash,
    table::{Cell, table},
    tone_of, took, words,
};
use crate::{
    text::Text,
    view::{
        Agent, AgentApplication, Configured, Drain, EdgeHost, Environment, Freeze, JoinToken,
        ShownEnvironment, SlotTraffic, StableRelease,
    },
};

/// Prints a list of agents.
pub fn agents(agents: &[Agent], now: Timestamp, paint: Paint) -> String {
    if agents.is_empty() {
        return "no agents yet: cutover agents token\n".to_owned();
    }
    let rows: Vec<[Cell; 7]> = agents
        .iter()
        .map(|agent| {
            [
                (&agent.name).into(),
                presence(agent),
                heard(agent, now).into(),
                or_dash(agent.version.as_ref()).into(),
                or_dash(agent.address.as_ref()).into(),
                labels(&agent.labels).into(),
                running(agent).into(),
            ]
        })
        .collect();
    let header = ["AGENT", "PRESENCE", "HEARD", "VERSION", "ADDRESS", "LABELS", "RUNS"];
    table(header, &rows, paint)
}

/// Prints one agent.
pub fn agent(agent: &Agent, now: Timestamp, paint: Paint) -> String {
    let mut facts: Vec<[Cell; 2]> = vec![
        ["agent".into(), (&agent.name).into()],
        ["presence".into(), presence(agent)],
        ["heard".into(), heard(agent, now).into()],
        ["version".into(), or_dash(agent.version.as_ref()).into()],
        ["address".into(), or_dash(agent.address.as_ref()).into()],
        ["labels".into(), labels(&agent.labels).into()],
    ];
    if let Some(drain) = &agent.drain {
        facts.push(["drained".into(), drained(drain).into()]);
    }
    let mut moments = |name: &str, unix_ms: Option<u64>| {
        facts.extend(unix_ms.map(|unix_ms| [name.into(), moment(unix_ms).into()]));
    };
    moments("joined", agent.joined_unix_ms);
    if let Some(host) = &agent.host {
        let system = format!("{}, {}, kernel {}", host.os, host.arch, host.kernel);
        facts.push(["host".into(), (&host.hostname).into()]);
        facts.push(["system".into(), system.into()]);
        facts.push(["cpus".into(), host.cpus.into()]);
        facts.push(["runtime".into(), (&host.runtime).into()]);
    }
    if let Some(load) = agent.load {
        let of = |used, total| format!("{} of {}", bytes(used), bytes(total));
        let cpu = format!("{}.{} %", load.cpu_permille / 10, load.cpu_permille % 10);
        facts.push(["cpu in use".into(), cpu.into()]);
        facts.push([
            "memory in use".into(),
            of(load.memory_used_bytes, load.memory_total_bytes).into(),
        ]);
        facts.push(["disk in use".into(), of(load.disk_used_bytes, load.disk_total_bytes).into()]);
    }
    if let Some(edge) = &agent.edge {
        let (tone, word) = match edge.is_followed {
            true => (Tone::Good, "as told"),
            false => (Tone::Bad, "its gate does not follow yet"),
        };
        let trouble = edge.trouble.as_ref().map(|trouble| format!("; {trouble}"));
        let word = format!("{word}{}", trouble.unwrap_or_default());
        facts.push(["edge".into(), Cell::toned(tone, word)]);
    }
    let mut text = table(["WHAT", "IS"], &facts, paint);
    if !agent.applications.is_empty() {
        text.push('\n');
        text += &applications(&agent.applications, paint);
    }
    if !agent.traffic.is_empty() {
        text.push('\n');
        text += &traffic(&agent.traffic, paint);
    }
    if let Some(edge) = agent.edge.as_ref().filter(|edge| !edge.hosts.is_empty()) {
        text.push('\n');
        text += &edge_hosts(&edge.hosts, paint);
    }
    text
}

fn applications(applications: &[AgentApplication], paint: Paint) -> String {
    let rows: Vec<[Cell; 8]> = applications
        .iter()
        .flat_map(|application| {
            application.slots.iter().map(|slot| {
                [
                    (&application.application).into(),
                    slot.slot.into(),
                    or_dash(slot.version.as_ref()).into(),
                    Cell::toned(tone_of(slot.phase), slot.phase),
                    Cell::toned(tone_of(slot.health), slot.health),
                    slot.traffic.unwrap_or("-").into(),
                    slot.restarts.into(),
                    slot.detail.as_ref().map_or("", Text::as_str).into(),
                ]
            })
        })
        .collect();
    let header =
        ["APPLICATION", "SLOT", "VERSION", "PHASE", "HEALTH", "TRAFFIC", "RESTARTS", "DETAIL"];
    table(header, &rows, paint)
}

fn traffic(slots: &[SlotTraffic], paint: Paint) -> String {
    let latency = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), |us| format!("<{us} us"));
    let rows: Vec<[Cell; 9]> = slots
        .iter()
        .map(|slot| {
            let open = slot.requests_in_flight.saturating_add(slot.long_lived);
            [
                (&slot.application).into(),
                (&slot.slot).into(),
                slot.requests.to_string().into(),
                open.to_string().into(),
                slot.answered_5xx.to_string().into(),
                slot.connect_errors.to_string().into(),
                slot.resets.to_string().into(),
                latency(slot.p50_us).into(),
                latency(slot.p99_us).into(),
            ]
        })
        .collect();
    let header =
        ["TRAFFIC", "SLOT", "REQUESTS", "OPEN", "5XX", "UNREACHED", "RESETS", "P50", "P99"];
    table(header, &rows, paint)
}

fn edge_hosts(hosts: &[EdgeHost], paint: Paint) -> String {
    let rows: Vec<[Cell; 9]> = hosts
        .iter()
        .map(|host| {
            let open = host.requests_in_flight.saturating_add(host.long_lived);
            let doubt = if host.is_certain { "" } else { ", out of touch" };
            [
                (&host.application).into(),
                (&host.host).into(),
                format!("{}{doubt}", host.weight_permille).into(),
                host.requests.to_string().into(),
                open.to_string().into(),
                host.answered_5xx.to_string().into(),
                host.connect_errors.to_string().into(),
                host.resets.to_string().into(),
                host.retries.to_string().into(),
            ]
        })
        .collect();
    let header =
        ["EDGE OF", "HOST", "WEIGHT", "REQUESTS", "OPEN", "5XX", "UNREACHED", "RESETS", "RETRIED"];
    table(header, &rows, paint)
}

fn presence(agent: &Agent) -> Cell {
    let drained = if agent.drain.is_some() { ", drained" } else { "" };
    let presence = words(agent.presence.as_str());
    Cell::toned(tone_of(agent.presence.as_str()), format!("{presence}{drained}"))
}

/// Prints since when, by whom and why a host is taken out for maintenance.
fn drained(drain: &Drain) -> String {
    let since = drain.since_unix_ms.map_or_else(String::new, |at| format!("{} ", moment(at)));
    match &drain.reason {
        Some(reason) => format!("{since}by {}: {reason}", drain.by),
        None => format!("{since}by {}", drain.by),
    }
}

fn heard(agent: &Agent, now: Timestamp) -> String {
    agent.last_heard_unix_ms.map_or_else(|| "-".to_owned(), |unix_ms| ago(now, unix_ms))
}

fn running(agent: &Agent) -> String {
    let running: Vec<String> = agent
        .applications
        .iter()
        .flat_map(|application| {
            application.slots.iter().filter(|slot| slot.phase == "running").map(|slot| {
                format!("{}@{}", application.application, or_dash(slot.version.as_ref()))
            })
        })
        .collect();
    running.join(",")
}

/// Prints a list of environments.
pub fn environments(environments: &[Environment], paint: Paint) -> String {
    if environments.is_empty() {
        return "no environments yet: cutover env create ENV --select KEY=VALUE\n".to_owned();
    }
    let rows: Vec<[Cell; 4]> = environments
        .iter()
        .map(|environment| {
            [
                (&environment.name).into(),
                labels(&environment.select).into(),
                environment.agents.len().into(),
                stable(environment).into(),
            ]
        })
        .collect();
    table(["ENVIRONMENT", "SELECTS", "AGENTS", "STABLE"], &rows, paint)
}

/// Prints one environment.
pub fn environment(environment: &Environment, paint: Paint) -> String {
    let mut facts: Vec<[Cell; 2]> = vec![
        ["environment".into(), (&environment.name).into()],
        ["selects".into(), labels(&environment.select).into()],
        ["agents".into(), names(&environment.agents).into()],
        ["stable".into(), stable(environment).into()],
    ];
    for freeze in &environment.freezes {
        let what = if freeze.is_on { "frozen" } else { "freeze" };
        facts.push([what.into(), self::freeze(freeze).into()]);
    }
    table(["WHAT", "IS"], &facts, paint)
}

/// Prints one environment, with its config.
pub fn shown_environment(shown: &ShownEnvironment, paint: Paint) -> String {
    let ShownEnvironment { environment, config } = shown;
    let facts = self::environment(environment, paint);
    if config.is_empty() {
        return facts;
    }
    let rows: Vec<[Cell; 4]> = config
        .iter()
        .map(|variable| {
            let value = variable.value.as_ref().map_or("(secret)", Text::as_str);
            let of = variable.application.as_ref().map_or("all", Text::as_str);
            [(&variable.name).into(), value.into(), of.into(), (&variable.by).into()]
        })
        .collect();
    format!("{facts}\n{}", table(["VARIABLE", "IS", "FOR", "SET BY"], &rows, paint))
}

/// Prints what became of a change of an environment's config.
pub fn configured(configured: &Configured) -> String {
    let Configured { environment, number, .. } = configured;
    match number {
        Some(number) => format!("environment {environment} has config {number} from now on\n"),
        None => format!("environment {environment} has this config already\n"),
    }
}

/// How many deploys a changed config is said to come with.
const CONCERNS_MAX: usize = 5;

/// Returns what to type for a changed config to come to those that it concerns.
pub fn comes_with(configured: &Configured) -> Vec<String> {
    let Configured { environment, number, concerns } = configured;
    if number.is_none() {
        return Vec::new();
    }
    if concerns.is_empty() {
        return vec!["it comes with the next deploy there".to_owned()];
    }
    let deploy = |release: &StableRelease| {
        let StableRelease { application, version } = release;
        format!("what runs gets it with: cutover deploy {application}@{version} --to {environment}")
    };
    concerns.iter().take(CONCERNS_MAX).map(deploy).collect()
}

fn freeze(freeze: &Freeze) -> String {
    let Freeze { from_unix_ms, until_unix_ms, weekly, by, reason, is_on } = freeze;
    let (from, until) = (from_unix_ms.map(moment), until_unix_ms.map(moment));
    let when = match (weekly, from, until) {
        (Some(weekly), _, _) => format!("every week {weekly} UTC"),
        (None, Some(from), Some(until)) if !is_on => format!("{from} to {until}"),
        (None, Some(from), None) if !is_on => format!("from {from} until it is thawed"),
        (None, _, Some(until)) => format!("until {until}"),
        (None, _, None) => "until it is thawed".to_owned(),
    };
    let because = if reason.as_str().is_empty() { String::new() } else { format!(": {reason}") };
    format!("{when}, by {by}{because}")
}

fn stable(environment: &Environment) -> String {
    let stable: Vec<String> = environment
        .stable
        .iter()
        .map(|stable| format!("{}@{}", stable.application, stable.version))
        .collect();
    if stable.is_empty() { "-".to_owned() } else { stable.join(", ") }
}

/// Prints what became of a new environment.
pub fn created(name: &Text, agents: u32) -> String {
    let agents = count(usize::try_from(agents).unwrap_or(usize::MAX), "agent");
    format!("environment {name} created; it selects {agents}\n")
}

/// Prints the command that joins a server: that line and nothing else, as it will be piped.
pub fn join_command(token: &JoinToken) -> String {
    let mut text = String::new();
    writeln!(text, "{}", token.join_command).expect("writing to a String does not fail");
    text
}

/// Prints what to know about a join command beside it.
pub fn join_note(token: &JoinToken, now: Timestamp) -> String {
    let left = took(Timestamp::from_unix_ms(token.expires_unix_ms).since(now));
    format!("type it on the server within {left}; it is good for one agent")
}
