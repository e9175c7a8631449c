//! Ends what command probes leave behind.
//!
//! A probe is no part of its instance: one that cannot be ended keeps nobody from stopping it.

use std::{collections::BTreeMap, time::Duration};

use cutover_common::InstanceId;

use super::{blocking, sweep::kill_by_token};

/// Set in the environment of an instance's probes and so of all that they start.
const PROBE_VARIABLE: &str = "CUTOVER_PROBE";

/// How long the killed are waited for. They end within milliseconds, and the next probe, or the
/// stop, looks for them again.
const PROBE_SWEEP_WITHIN: Duration = Duration::from_secs(1);

/// Puts the token of an instance's probes into the environment of one.
pub fn mark_probe(env: &mut BTreeMap<String, String>, instance: InstanceId) {
    env.insert(PROBE_VARIABLE.to_owned(), instance.0.to_string());
}

/// Ends all that the instance's probes have started and that still runs.
pub async fn end_probe(instance: InstanceId) {
    let value = instance.0.to_string();
    let ended = blocking(move || kill_by_token(PROBE_VARIABLE, &value, PROBE_SWEEP_WITHIN)).await;
    if let Err(error) = ended {
        tracing::warn!(instance = %instance.0, %error, "a probe left something behind");
    }
}
