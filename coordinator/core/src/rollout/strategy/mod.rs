//! Strategies: each a small pure function from (spec, hosts) to waves.

mod rolling;

use cutover_common::AgentName;

use super::{Plan, Spec, Strategy};

/// A host that a plan is made for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    pub agent: AgentName,
    /// The zone that it is in; empty for one without the label.
    pub zone: String,
}

/// Compiles the plan of `spec` over `hosts`, which are in the order to be updated.
pub fn compile(spec: &Spec, hosts: &[Candidate]) -> Plan {
    match spec.strategy {
        // All at once is rolling with one batch, and a restart rolling with what runs.
        Strategy::Rolling | Strategy::AllAtOnce | Strategy::Restart => {
            rolling::compile(spec, hosts)
        }
    }
}

#[cfg(test)]
mod tests;
