//! Strategies: each a small pure function from (spec, hosts) to waves.

mod blue_green;
mod canary;
mod rolling;

use cutover_common::AgentName;

use super::{Plan, Spec, Strategy};

/// A host that a plan is made for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    pub agent: AgentName,
    /// The zone that it is in; empty for one without the label.
    pub zone: String,
    /// Whether it goes first.
    pub is_canary: bool,
}

/// Whether a new instance can run beside the one that serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    Beside,
    Alone,
}

/// Compiles the plan of `spec` over `hosts`, which are in the order to be updated.
pub fn compile(spec: &Spec, hosts: &[Candidate], standing: Standing) -> Plan {
    match spec.strategy {
        Strategy::Canary => canary::compile(spec, hosts, standing),
        Strategy::BlueGreen => blue_green::compile(spec, hosts),
        // All at once is rolling with one batch, and a restart rolling with what runs.
        Strategy::Rolling | Strategy::AllAtOnce | Strategy::Restart => {
            rolling::compile(spec, hosts)
        }
    }
}

#[cfg(test)]
mod tests;
