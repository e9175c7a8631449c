//! Messages to what the commands show. Every message is taken apart by name, so that a new field
//! stops the build until somebody decides what it means; every text is sanitized on the way.

use std::collections::BTreeMap;

use cutover_common::{AgentName, EdgeHostReport, EdgeReport, SlotCounts};
use cutover_proto::v1 as pb;

use crate::{
    text::Text,
    view::{
        Accepted, Agent, AgentApplication, AgentSlot, ApplicationStatus, ConfigVariable,
        Configured, Drain, Edge, EdgeHost, Environment, Freeze, HistoryEntry, Host, HostEnd,
        HostStatus, JoinToken, Load, Plan, PlannedWave, QueuedRollout, Release, Rollout,
        RolloutHost, RolloutState, Setting, Simulated, SlotTraffic, StableRelease, StoryLine,
    },
};

fn optional(text: String) -> Option<Text> {
    Text::from(text).or_none()
}

/// Zero is what an absent moment is on the wire.
fn moment(unix_ms: u64) -> Option<u64> {
    (unix_ms != 0).then_some(unix_ms)
}

fn texts(texts: Vec<String>) -> Vec<Text> {
    texts.into_iter().map(Text::from).collect()
}

fn labels(labels: BTreeMap<String, String>) -> BTreeMap<Text, Text> {
    labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

pub(super) fn agent(message: pb::Agent) -> Agent {
    let pb::Agent {
        name,
        labels: label_map,
        presence,
        last_heard_unix_ms,
        inventory,
        load: load_message,
        reports,
        joined_unix_ms,
        agent_version,
        address,
        drain: drain_message,
        counts,
        edge: edge_message,
    } = message;
    Agent {
        name: name.into(),
        presence: presence.into(),
        labels: labels(label_map),
        address: optional(address),
        version: optional(agent_version),
        last_heard_unix_ms: moment(last_heard_unix_ms),
        joined_unix_ms: moment(joined_unix_ms),
        host: inventory.map(host),
        load: load_message.map(load),
        applications: reports.into_iter().map(application).collect(),
        traffic: counts.into_iter().filter_map(slot_traffic).collect(),
        drain: drain_message.map(drain),
        edge: edge_message.and_then(edge),
    }
}

/// Returns what the gate counted of a slot, if it is said as it should be.
fn slot_traffic(message: pb::SlotCounts) -> Option<SlotTraffic> {
    let counts = SlotCounts::try_from(message).ok()?;
    Some(SlotTraffic {
        application: counts.application.to_string().into(),
        slot: counts.slot.to_string().into(),
        requests: counts.requests,
        requests_in_flight: counts.requests_in_flight,
        long_lived: counts.long_lived,
        answered_5xx: counts.statuses[4],
        connect_errors: counts.connect_errors,
        resets: counts.resets,
        retries: counts.retries,
        bytes_in: counts.bytes_in,
        bytes_out: counts.bytes_out,
        p50_us: counts.latency.us_at(500),
        p99_us: counts.latency.us_at(990),
    })
}

/// Returns what an edge says of its hosts, if it is said as it should be.
fn edge(message: pb::EdgeReport) -> Option<Edge> {
    // Of cutovers `cutover why` tells.
    let EdgeReport { revision: _, is_followed, trouble, hosts, cutovers: _ } =
        message.try_into().ok()?;
    let host = |host: EdgeHostReport| {
        let EdgeHostReport { application, host, weight, is_certain, counts } = host;
        EdgeHost {
            application: application.to_string().into(),
            host: host.to_string().into(),
            weight_permille: weight,
            is_certain,
            requests: counts.requests,
            requests_in_flight: counts.in_flight,
            long_lived: counts.long_lived,
            answered_5xx: counts.answered_5xx,
            connect_errors: counts.connect_errors,
            resets: counts.resets,
            retries: counts.retries,
        }
    };
    let hosts = hosts.into_iter().map(host).collect();
    Some(Edge { is_followed, trouble: optional(trouble), hosts })
}

fn drain(message: pb::Drain) -> Drain {
    let pb::Drain { by, reason, since_unix_ms } = message;
    Drain { by: by.into(), reason: optional(reason), since_unix_ms: moment(since_unix_ms) }
}

fn host(message: pb::Inventory) -> Host {
    let pb::Inventory {
        hostname,
        os,
        kernel,
        arch,
        cpus,
        memory_bytes,
        disk_bytes,
        // The agent's own is shown.
        address: _,
        runtime,
    } = message;
    Host {
        hostname: hostname.into(),
        os: os.into(),
        kernel: kernel.into(),
        arch: arch.into(),
        cpus,
        memory_bytes,
        disk_bytes,
        runtime: runtime.into(),
    }
}

fn load(message: pb::HostLoad) -> Load {
    let pb::HostLoad {
        cpu_permille,
        memory_used_bytes,
        memory_total_bytes,
        disk_used_bytes,
        disk_total_bytes,
        load1_milli,
    } = message;
    Load {
        cpu_permille,
        memory_used_bytes,
        memory_total_bytes,
        disk_used_bytes,
        disk_total_bytes,
        load1_milli,
    }
}

fn application(message: pb::Report) -> AgentApplication {
    let pb::Report {
        application,
        fence: _,
        blue,
        green,
        refused: _,
        outage_ms: _,
        hold: _,
        once: _,
    } = message;
    let slots = [("blue", blue), ("green", green)];
    AgentApplication {
        application: application.into(),
        slots: slots
            .into_iter()
            .filter_map(|(name, report)| report.map(|report| slot(name, report)))
            .filter(|slot| slot.phase != "empty")
            .collect(),
    }
}

fn slot(name: &'static str, message: pb::SlotReport) -> AgentSlot {
    let (phase, health) = (phase(message.phase()), health(message.health()));
    let traffic = traffic(message.traffic());
    let pb::SlotReport {
        phase: _,
        version,
        digest: _,
        health: _,
        detail,
        restarts,
        instance: _,
        traffic: _,
    } = message;
    AgentSlot {
        slot: name,
        version: optional(version),
        phase,
        health,
        traffic,
        restarts,
        detail: optional(detail),
    }
}

fn traffic(traffic: pb::slot_report::Traffic) -> Option<&'static str> {
    use pb::slot_report::Traffic;
    match traffic {
        Traffic::Unspecified => None,
        Traffic::Away => Some("away"),
        Traffic::Here => Some("here"),
    }
}

fn phase(phase: pb::slot_report::Phase) -> &'static str {
    use pb::slot_report::Phase;
    match phase {
        Phase::Unspecified => "unknown",
        Phase::Empty => "empty",
        Phase::Preparing => "preparing",
        Phase::Prepared => "prepared",
        Phase::Waiting => "waiting",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Stopping => "stopping",
        Phase::Failed => "failed",
    }
}

fn health(health: pb::slot_report::Health) -> &'static str {
    use pb::slot_report::Health;
    match health {
        Health::Unspecified | Health::Unknown => "unknown",
        Health::Passing => "passing",
        Health::Settled => "healthy",
        Health::Failing => "failing",
    }
}

pub(super) fn join_token(
    message: pb::CreateJoinTokenResponse,
    name: Option<&AgentName>,
) -> JoinToken {
    let pb::CreateJoinTokenResponse { token, ca_hash, expires_unix_ms, join_url } = message;
    let mut command = format!(
        "cutover-agent join {} --token {} --ca-hash {} --data /var/lib/cutover-agent",
        quoted(&join_url),
        quoted(&token),
        quoted(&ca_hash),
    );
    if let Some(name) = name {
        command += &format!(" --name {name}");
    }
    JoinToken {
        token: token.into(),
        ca_hash: ca_hash.into(),
        join_url: join_url.into(),
        expires_unix_ms,
        join_command: command.into(),
    }
}

/// Quotes what a shell would not take as it is, since the line is made to be pasted into one.
fn quoted(text: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "_-.:/@+=".contains(c);
    if !text.is_empty() && text.chars().all(is_bare) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

pub(super) fn environment(message: pb::Environment) -> Environment {
    let pb::Environment { name, select, agents, stable, freezes } = message;
    Environment {
        name: name.into(),
        select: labels(select),
        agents: texts(agents),
        stable: stable.into_iter().map(self::stable).collect(),
        freezes: freezes.into_iter().map(freeze).collect(),
    }
}

pub(super) fn configured(
    environment: &str,
    message: pb::ConfigureEnvironmentResponse,
) -> Configured {
    let pb::ConfigureEnvironmentResponse { number, concerns } = message;
    Configured {
        environment: environment.into(),
        number: (number > 0).then_some(number),
        concerns: concerns.into_iter().map(stable).collect(),
    }
}

pub(super) fn config_variable(message: pb::ConfigVariable) -> ConfigVariable {
    let pb::ConfigVariable { application, name, value, by, set_unix_ms } = message;
    ConfigVariable {
        application: optional(application),
        name: name.into(),
        is_secret: value.is_none(),
        value: value.map(Into::into),
        by: by.into(),
        set_unix_ms,
    }
}

fn stable(message: pb::StableRelease) -> StableRelease {
    let pb::StableRelease { application, version } = message;
    StableRelease { application: application.into(), version: version.into() }
}

fn freeze(message: pb::Freeze) -> Freeze {
    let pb::Freeze { window, by, reason, is_on } = message;
    let pb::FreezeWindow { from_unix_ms, until_unix_ms, weekly } = window.unwrap_or_default();
    Freeze {
        from_unix_ms: moment(from_unix_ms),
        until_unix_ms: moment(until_unix_ms),
        weekly: optional(weekly),
        by: by.into(),
        reason: reason.into(),
        is_on,
    }
}

pub(super) fn release(message: pb::ReleaseRow) -> Release {
    let pb::ReleaseRow {
        application,
        version,
        digest,
        size_bytes,
        archive_size_bytes,
        pushed_unix_ms,
        pushed_by,
    } = message;
    Release {
        application: application.into(),
        version: version.into(),
        digest: digest.into(),
        size_bytes,
        archive_size_bytes,
        pushed_unix_ms,
        pushed_by: pushed_by.into(),
    }
}

pub(super) fn plan(message: pb::Plan) -> Plan {
    let pb::Plan {
        strategy,
        waves,
        settings,
        up_to_date,
        drained,
        from_version,
        to_version,
        worst_healthy,
        hosts,
        min_healthy,
        replacement,
        outage_ms,
        not_passed_on,
        once,
    } = message;
    Plan {
        strategy: strategy.into(),
        from_version: optional(from_version),
        to_version: to_version.into(),
        hosts,
        min_healthy,
        worst_healthy,
        waves: waves
            .into_iter()
            .map(|pb::PlannedWave { agents, steps, worst_healthy }| PlannedWave {
                agents: texts(agents),
                steps: texts(steps),
                worst_healthy,
            })
            .collect(),
        settings: settings
            .into_iter()
            .map(|pb::Setting { name, value, source }| Setting {
                name: name.into(),
                value: value.into(),
                source: source.into(),
            })
            .collect(),
        up_to_date: texts(up_to_date),
        drained: texts(drained),
        replacement: replacement.into(),
        outage_ms: (outage_ms > 0).then_some(outage_ms),
        not_passed_on: optional(not_passed_on),
        once: optional(once),
    }
}

pub(super) fn simulated(message: pb::SimulateResponse) -> Simulated {
    let pb::SimulateResponse {
        from_version,
        to_version,
        strategy,
        batches,
        ending,
        why,
        lasts_ms,
        story,
        hosts,
        lowest_healthy,
        lowest_after_ms,
        host_ends,
        assumed,
    } = message;
    Simulated {
        from_version: optional(from_version),
        to_version: to_version.into(),
        strategy: strategy.into(),
        batches,
        ending: ending.into(),
        why: why.into(),
        lasts_ms,
        hosts,
        lowest_healthy,
        lowest_after_ms,
        story: story
            .into_iter()
            .map(|pb::SimulatedLine { after_ms, text }| StoryLine { after_ms, text: text.into() })
            .collect(),
        host_ends: host_ends.into_iter().map(host_end).collect(),
        assumed: assumed.into(),
    }
}

fn host_end(message: pb::SimulatedHost) -> HostEnd {
    let pb::SimulatedHost { agent, batch, state, detail, running_version } = message;
    HostEnd {
        agent: agent.into(),
        batch,
        state: state.into(),
        detail: optional(detail),
        running_version: optional(running_version),
    }
}

pub(super) fn rollout(message: pb::Rollout) -> Rollout {
    let pb::Rollout {
        id,
        application,
        environment,
        from_version,
        to_version,
        strategy,
        state,
        why,
        next,
        wave,
        waves,
        hosts,
        history,
        started_unix_ms,
        ended_unix_ms,
        started_by,
        ended,
        waits_for,
        ahead,
    } = message;
    Rollout {
        id: id.into(),
        application: application.into(),
        environment: environment.into(),
        from_version: optional(from_version),
        to_version: to_version.into(),
        strategy: strategy.into(),
        state: RolloutState::from(state.as_str()),
        ended,
        why: why.into(),
        next: texts(next),
        wave,
        waves,
        hosts: hosts.into_iter().map(rollout_host).collect(),
        history: history
            .into_iter()
            .map(|pb::HistoryEntry { unix_ms, text }| HistoryEntry { unix_ms, text: text.into() })
            .collect(),
        started_unix_ms,
        ended_unix_ms: moment(ended_unix_ms),
        started_by: started_by.into(),
        waits_for: optional(waits_for),
        ahead,
    }
}

pub(super) fn accepted(message: pb::DeployResponse) -> Accepted {
    let pb::DeployResponse { rollout, repeated_request, queued, waits_for, ahead } = message;
    Accepted {
        rollout: rollout.into(),
        repeated_request,
        queued,
        waits_for: optional(waits_for),
        ahead,
    }
}

fn rollout_host(message: pb::RolloutHost) -> RolloutHost {
    let pb::RolloutHost { agent, wave, state, detail, running_version } = message;
    RolloutHost {
        agent: agent.into(),
        wave,
        state: state.into(),
        detail: optional(detail),
        running_version: optional(running_version),
    }
}

pub(super) fn status(message: pb::ApplicationStatus) -> ApplicationStatus {
    let pb::ApplicationStatus {
        application,
        environment,
        stable_version,
        hosts,
        healthy,
        host_states,
        rollout,
        rollout_state,
        rollout_why,
        queue,
        group,
    } = message;
    ApplicationStatus {
        application: application.into(),
        environment: environment.into(),
        stable_version: optional(stable_version),
        hosts,
        healthy,
        host_states: host_states.into_iter().map(host_status).collect(),
        rollout: optional(rollout),
        rollout_state: (!rollout_state.is_empty())
            .then(|| RolloutState::from(rollout_state.as_str())),
        rollout_why: optional(rollout_why),
        queue: queue.into_iter().map(queued).collect(),
        group: optional(group),
    }
}

fn queued(message: pb::QueuedRollout) -> QueuedRollout {
    let pb::QueuedRollout { rollout, to_version, queued_by, queued_unix_ms } = message;
    QueuedRollout {
        rollout: rollout.into(),
        to_version: to_version.into(),
        queued_by: queued_by.into(),
        queued_unix_ms,
    }
}

fn host_status(message: pb::HostStatus) -> HostStatus {
    let pb::HostStatus { agent, presence, version, phase, health, detail, restarts, stands_by } =
        message;
    HostStatus {
        agent: agent.into(),
        presence: presence.into(),
        version: optional(version),
        phase: optional(phase),
        health: optional(health),
        detail: optional(detail),
        restarts,
        stands_by,
    }
}
