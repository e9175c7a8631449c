//! Config of environments: taken, with secrets sealed before anything is remembered, and shown
//! without them.

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{
    ApplicationName, EnvironmentName, SecretId, SecretValue, Timestamp, VariableName,
    config::{InvalidVariableName, VALUE_BYTES_MAX},
    name::InvalidName,
};
use cutover_coordinator_core::{ConfigOrder, Coordinator, Event, EventKind, Setting, codec};
use cutover_proto::v1 as pb;
use cutover_runtime::dice;
use tonic::Status;

use super::status::invalid;
use crate::{identity::sealing::SealingKey, store::EVENT_BYTES_MAX};

/// How many variables one call names: more than an environment has.
const NAMED_MAX: usize = 1_000;

/// What is kept free in the event for who changed it and when, in bytes.
const EVENT_REST_BYTES: usize = 4 * 1024;

/// Takes what is to be changed.
pub(super) fn order(
    request: pb::ConfigureEnvironmentRequest,
    key: &SealingKey,
) -> Result<ConfigOrder, Status> {
    let pb::ConfigureEnvironmentRequest { environment, application, set, secrets, unset } = request;
    if set.len() + secrets.len() + unset.len() > NAMED_MAX {
        return Err(invalid(format!("more than {NAMED_MAX} variables are named")));
    }
    let named = |error: InvalidName| invalid(error.to_string());
    let application = match application.as_str() {
        "" => None,
        name => Some(name.parse::<ApplicationName>().map_err(named)?),
    };
    let mut settings: BTreeMap<VariableName, Setting> = BTreeMap::new();
    for (name, value) in set {
        let name = variable(&name)?;
        if value.len() > VALUE_BYTES_MAX || value.contains('\0') {
            return Err(invalid(format!(
                "the value of {name} is too long or has a NUL byte: no variable can hold it"
            )));
        }
        settings.insert(name, Setting::Plain(value));
    }
    for (name, value) in secrets {
        let name = variable(&name)?;
        let value = SecretValue::new(value)
            .map_err(|error| invalid(format!("the secret {name} cannot be taken: {error}")))?;
        let id = SecretId(dice::uuid());
        settings.insert(name, Setting::Secret { id, sealed: key.seal(id, &value) });
    }
    let unset: BTreeSet<VariableName> =
        unset.iter().map(|name| variable(name)).collect::<Result<_, _>>()?;
    if let Some(name) = unset.iter().find(|name| settings.contains_key(*name)) {
        return Err(invalid(format!("{name} is to be set and unset at once")));
    }
    let environment: EnvironmentName = environment.parse().map_err(named)?;
    storable(ConfigOrder { environment, application, set: settings, unset })
}

/// Refuses what the log could not take: the engine would find out when it is too late to refuse.
fn storable(order: ConfigOrder) -> Result<ConfigOrder, Status> {
    let ConfigOrder { environment, application, set, unset } = order.clone();
    let by = String::new();
    let kind = EventKind::EnvironmentConfigured { environment, application, set, unset, by };
    let size_bytes = codec::encode(&Event { at: Timestamp::default(), kind }).len();
    if size_bytes > EVENT_BYTES_MAX - EVENT_REST_BYTES {
        return Err(invalid(format!(
            "this change takes {size_bytes} bytes where it is stored, and at most \
             {EVENT_BYTES_MAX} are stored; control characters count six times: shorten it"
        )));
    }
    Ok(order)
}

fn variable(name: &str) -> Result<VariableName, Status> {
    name.parse().map_err(|error: InvalidVariableName| invalid(error.to_string()))
}

/// Shows what is set in an environment at this moment.
pub(super) fn variables(
    core: &Coordinator,
    environment: &EnvironmentName,
) -> Vec<pb::ConfigVariable> {
    let scopes = core.configs(environment).into_iter().flat_map(|configs| configs.scopes());
    scopes
        .flat_map(|(application, given)| {
            let application = application.map(ToString::to_string).unwrap_or_default();
            given.into_iter().map(move |(name, given)| pb::ConfigVariable {
                application: application.clone(),
                name: name.to_string(),
                value: match given.setting {
                    Setting::Plain(value) => Some(value.clone()),
                    Setting::Secret { .. } => None,
                },
                by: given.change.by.clone(),
                set_unix_ms: given.change.at.unix_ms(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_log_could_not_take_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let key = SealingKey::load_or_make(dir.path(), []).unwrap();
        let asked = |value: &str| {
            let set = (0..6).map(|number| (format!("V{number}"), value.repeat(32 * 1024)));
            let request = pb::ConfigureEnvironmentRequest {
                environment: "production".to_owned(),
                set: set.collect(),
                ..pb::ConfigureEnvironmentRequest::default()
            };
            order(request, &key)
        };

        assert!(asked("x").is_ok());
        let refused = asked("\u{1}").unwrap_err();
        assert!(refused.message().contains("control characters count six times"), "{refused:?}");
    }
}
