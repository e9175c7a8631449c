//! Strategies: each a small pure function from (spec, hosts) to waves.

mod rolling;

use cutover_common::AgentName;

use super::{Plan, Spec, Strategy};

/// Compiles the plan of `spec` over `hosts`, which are in the order to be updated.
pub fn compile(spec: &Spec, hosts: &[AgentName]) -> Plan {
    match spec.strategy {
        // All at once is rolling with one batch.
        Strategy::Rolling | Strategy::AllAtOnce => rolling::compile(spec, hosts),
    }
}
