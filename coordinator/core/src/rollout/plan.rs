//! Plan: what a strategy compiles to. Immutable; execution makes no choices (F6).

use std::{fmt, net::IpAddr, time::Duration};

use cutover_common::{AgentName, Permille, Version, duration_text};
use serde::{Deserialize, Serialize};

use super::{Setting, Spec, story::listed};

/// Ordered waves.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Plan {
    pub waves: Vec<Wave>,
    /// The names of its zones; empty for the hosts that are in none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
}

impl Plan {
    /// Returns the zone of a wave. None: there are no zones.
    pub fn zone(&self, wave: &Wave) -> Option<&str> {
        self.zones.get(usize::from(wave.zone?)).map(String::as_str)
    }
}

/// Agents that move together, and what they do.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Wave {
    pub agents: Vec<AgentName>,
    pub steps: Vec<PlanStep>,
    /// The zone that they are in, as its place in the plan's list. None: there are no zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<u16>,
    /// How many of them are under way or watched at a time, each followed by the next. None: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
}

/// One step of a wave.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum PlanStep {
    /// The release is on each host's disk, verified.
    Prepare,
    /// The release runs on each host in settled health, in place of the old one.
    Start,
    /// The wave stays healthy for so long.
    Hold(Duration),
    /// A person says that it goes on.
    Approve,
    /// The release runs on each host beside the old one, has passed its smoke test, and clients do
    /// not get it.
    Stage,
    /// Clients of each host get it in so many of a thousand cases.
    Shift(Permille),
    /// For so long it is compared with the hosts that run the old one.
    Judge(Duration),
    /// Clients of all hosts get it, and the old one runs on beside it.
    Cutover,
    /// The old one is stopped.
    Retire,
}

impl fmt::Display for PlanStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare => f.write_str("prepare"),
            Self::Start => f.write_str("replace in place"),
            Self::Hold(duration) => write!(f, "soak {}", duration_text::print(*duration)),
            Self::Approve => f.write_str("wait for promote"),
            Self::Stage => f.write_str("start beside, without traffic"),
            Self::Shift(share) => write!(f, "{} of the traffic", percent(*share)),
            Self::Judge(duration) => {
                write!(f, "compare for {}", duration_text::print(*duration))
            }
            Self::Cutover => f.write_str("cutover"),
            Self::Retire => f.write_str("stop the old one"),
        }
    }
}

/// Prints a share as a percentage: "5%", "0.5%".
pub(crate) fn percent(share: Permille) -> String {
    match (share.get() / 10, share.get() % 10) {
        (whole, 0) => format!("{whole}%"),
        (whole, tenths) => format!("{whole}.{tenths}%"),
    }
}

/// How a host goes from one release to the next, as its clients see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replacement {
    /// Nothing was there before.
    First,
    /// The new instance starts next to the old one, then the traffic moves.
    Beside,
    /// The host holds one instance at a time, and passes its requests on meanwhile.
    PassedOn,
    /// Nobody is served in between, for as long as was measured at most when hosts were replaced
    /// last. None: that was not measured yet.
    Outage { measured: Option<Duration> },
}

impl Replacement {
    /// Returns the word that is shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Beside => "beside",
            Self::PassedOn => "passed_on",
            Self::Outage { .. } => "outage",
        }
    }
}

/// Why hosts that are replaced in place pass no requests on, although a gate stands before them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotPassedOn {
    /// Whoever runs the one release cannot stand in for whoever runs the other.
    ReachedOtherwise,
    /// Others do not believe the PROXY headers of these hosts. None: it is not known where they
    /// connect from.
    Untrusted(Vec<(AgentName, Option<IpAddr>)>),
    /// There is nobody to stand in at the worst moment.
    NobodyElse,
}

impl fmt::Display for NotPassedOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReachedOtherwise => f.write_str(
                "the two versions differ in service.port, protocol, tls or proxy_protocol, and a host \
                 stands in only for one that is reached as itself",
            ),
            Self::Untrusted(hosts) => {
                let hosts: Vec<String> = hosts
                    .iter()
                    .map(|(agent, address)| match address {
                        Some(address) => format!("{agent} ({address})"),
                        None => format!("{agent} (which was given no --address)"),
                    })
                    .collect();
                let hosts = listed(hosts.iter().map(String::as_str));
                write!(
                    f,
                    "service.trusted_peers of both versions must have every host that writes PROXY \
                     headers to others, and lacks {hosts}"
                )
            }
            Self::NobodyElse => {
                f.write_str(
                "no other host is known to serve at the worst moment; smaller batches or more hosts \
                 change that",
            )
            }
        }
    }
}

/// What becomes of the once hook of a release.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlannedOnce {
    /// This host runs it before any other begins, if it is there then. None: nobody is there now.
    Runs(Option<AgentName>),
    /// It has passed in the environment.
    Passed,
    /// Only a person lets it be run, as nobody knows what it has done on this host.
    Unclear(AgentName),
}

impl fmt::Display for PlannedOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs(Some(agent)) => write!(
                f,
                "its once hook is run on {agent}, and no other host begins before it has passed"
            ),
            Self::Runs(None) => f.write_str(
                "its once hook is run on the first host that is there, and no other begins before it \
                 has passed",
            ),
            Self::Passed => f.write_str("its once hook has passed here, and is not run again"),
            Self::Unclear(agent) => write!(
                f,
                "nobody knows what its once hook has done on {agent}: the rollout is held until \
                 `cutover retry` lets it be run again"
            ),
        }
    }
}

/// A plan with what an operator wants to know before it runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Planned {
    pub plan: Plan,
    pub spec: Spec,
    pub settings: Vec<Setting>,
    pub from: Option<Version>,
    pub to: Version,
    /// Whether it is for hosts that lack what runs already.
    pub converges: bool,
    /// Agents that run the release already, in health.
    pub up_to_date: Vec<AgentName>,
    /// Agents that are left out, as their hosts are drained.
    pub drained: Vec<AgentName>,
    /// How many hosts the environment has.
    pub hosts: u32,
    /// How many are healthy at this moment.
    pub healthy: u32,
    /// For each wave, how many stay healthy at its worst moment.
    pub worst_healthy: Vec<u32>,
    pub replacement: Replacement,
    /// Only with an outage, and where a gate stands before the application.
    pub not_passed_on: Option<NotPassedOn>,
    /// What becomes of its once hook. None: it has none.
    pub once: Option<PlannedOnce>,
}

impl Planned {
    /// Returns a step in the words of this plan.
    pub fn step_text(&self, step: PlanStep) -> String {
        match (step, self.replacement) {
            (PlanStep::Start, _) if self.spec.groups().is_some() => {
                "start where no edge leads".to_owned()
            }
            (PlanStep::Start, Replacement::First) => "start".to_owned(),
            (PlanStep::Start, Replacement::Beside) => "start beside, move the traffic".to_owned(),
            (
                PlanStep::Start
                | PlanStep::Prepare
                | PlanStep::Hold(_)
                | PlanStep::Approve
                | PlanStep::Stage
                | PlanStep::Shift(_)
                | PlanStep::Judge(_)
                | PlanStep::Cutover
                | PlanStep::Retire,
                Replacement::First
                | Replacement::Beside
                | Replacement::PassedOn
                | Replacement::Outage { .. },
            ) => step.to_string(),
        }
    }
}
