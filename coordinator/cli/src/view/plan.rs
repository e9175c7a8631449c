//! A plan: what a deploy would do.

use serde::Serialize;

use crate::text::Text;

/// What would happen, wave by wave.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub strategy: Text,
    /// Null on a first deploy.
    pub from_version: Option<Text>,
    pub to_version: Text,
    pub hosts: u32,
    pub min_healthy: u32,
    /// How many instances stay healthy at the worst moment.
    pub worst_healthy: u32,
    pub waves: Vec<PlannedWave>,
    pub settings: Vec<Setting>,
    /// Agents that run the release already.
    pub up_to_date: Vec<Text>,
    /// Agents that are left out, as their hosts are drained.
    pub drained: Vec<Text>,
    /// How a host goes from one release to the next: first, beside, passed_on or outage.
    pub replacement: Text,
    /// With an outage, the longest that was measured when hosts were replaced last. Null when none
    /// was.
    pub outage_ms: Option<u64>,
    /// With an outage, why hosts pass no requests on meanwhile. Null where no gate could.
    pub not_passed_on: Option<Text>,
    /// What becomes of its once hook. Null where it has none.
    pub once: Option<Text>,
}

/// Agents that move together.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedWave {
    pub agents: Vec<Text>,
    pub steps: Vec<Text>,
    pub worst_healthy: u32,
}

/// One setting, and where its value came from.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    pub name: Text,
    pub value: Text,
    /// flag, cutover.toml or default
    pub source: Text,
}
