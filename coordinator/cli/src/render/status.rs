//! What runs where, and how it is.

use super::{
    Paint, Tone, moment, or_dash,
    table::{Cell, table},
    tone_of, words,
};
use crate::{
    text::Text,
    view::{ApplicationStatus, HostStatus, QueuedRollout, short},
};

/// Which hosts are listed one by one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hosts {
    All,
    /// Those that are not healthy, or not heard of.
    Troubled,
}

/// Prints what runs where.
pub fn status(applications: &[ApplicationStatus], hosts: Hosts, paint: Paint) -> String {
    if applications.is_empty() {
        return "nothing is deployed: cutover deploy APP@VERSION --to ENV\n".to_owned();
    }
    let rows: Vec<[Cell; 5]> = applications.iter().map(application).collect();
    let header = ["APPLICATION", "ENVIRONMENT", "STABLE", "HEALTHY", "ROLLOUT"];
    let mut text = table(header, &rows, paint);
    for application in applications {
        text += &details(application, hosts, paint);
    }
    text
}

fn application(status: &ApplicationStatus) -> [Cell; 5] {
    let tone = if status.healthy < status.hosts { Tone::Bad } else { Tone::Good };
    let rollout = match (&status.rollout, &status.rollout_state) {
        (Some(id), Some(state)) => {
            Cell::toned(tone_of(state.as_str()), format!("{} {}", state.words(), short(id)))
        }
        (Some(id), None) => short(id).into(),
        (None, _) => "-".into(),
    };
    [
        (&status.application).into(),
        (&status.environment).into(),
        or_dash(status.stable_version.as_ref()).into(),
        Cell::toned(tone, format!("{} of {}", status.healthy, status.hosts)),
        rollout,
    ]
}

fn details(status: &ApplicationStatus, hosts: Hosts, paint: Paint) -> String {
    let rows: Vec<[Cell; 7]> = status
        .host_states
        .iter()
        .filter(|host| hosts == Hosts::All || is_troubled(host))
        .map(host)
        .collect();
    let is_quiet = status.rollout_why.is_none() && status.queue.is_empty();
    if rows.is_empty() && is_quiet && status.group.is_none() {
        return String::new();
    }
    let title = format!("{} in {}", status.application, status.environment);
    let mut text = format!("\n{}", paint.tone(Tone::Heading, &title));
    if let Some(why) = &status.rollout_why {
        text += &format!(": {why}");
    }
    text.push('\n');
    if let Some(group) = &status.group {
        text += &format!("edges lead to the hosts with {group}\n");
    }
    for queued in &status.queue {
        let QueuedRollout { rollout, to_version, queued_by, queued_unix_ms } = queued;
        let since = moment(*queued_unix_ms);
        text +=
            &format!("then: {} to {to_version}, queued by {queued_by} {since}\n", short(rollout));
    }
    let header = ["HOST", "PRESENCE", "VERSION", "PHASE", "HEALTH", "RESTARTS", "DETAIL"];
    text + &table(header, &rows, paint)
}

fn is_troubled(host: &HostStatus) -> bool {
    let is = |text: Option<&Text>, word| text.map(Text::as_str) == Some(word);
    let is_well = is(host.health.as_ref(), "healthy") && is(host.phase.as_ref(), "running");
    // Of those that stand by nobody expects anything.
    host.presence.as_str() != "live" || !(is_well || host.stands_by)
}

fn detail(host: &HostStatus) -> String {
    let detail = host.detail.as_ref().map_or("", Text::as_str);
    match (host.stands_by, detail) {
        (false, detail) => detail.to_owned(),
        (true, "") => "stands by".to_owned(),
        (true, detail) => format!("stands by; {detail}"),
    }
}

fn host(host: &HostStatus) -> [Cell; 7] {
    let toned = |text: Option<&Text>| {
        let word = or_dash(text);
        Cell::toned(tone_of(word), words(word))
    };
    [
        (&host.agent).into(),
        toned(Some(&host.presence)),
        or_dash(host.version.as_ref()).into(),
        toned(host.phase.as_ref()),
        toned(host.health.as_ref()),
        host.restarts.into(),
        detail(host).into(),
    ]
}
