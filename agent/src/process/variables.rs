//! What `$PORT` and friends mean in a release's commands and environment.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use cutover_common::{
    AgentName, ApplicationName, HookKind, InstanceId, Slot, Version, nearest::nearest,
};

/// What an instance is told of where it runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Variables {
    /// The port to listen on. None: the application has no port, and `$PORT` is unknown.
    pub port: Option<u16>,
    /// The address to listen on.
    pub address: IpAddr,
    /// The unpacked release, read-only by custom; the working directory.
    pub release_dir: PathBuf,
    /// The application's own folder that stays from release to release.
    pub data_dir: PathBuf,
    pub application: ApplicationName,
    pub version: Version,
    /// None: there is none yet, and `$INSTANCE` is unknown.
    pub instance: Option<InstanceId>,
    pub slot: Slot,
    pub agent: AgentName,
    /// The hook that is told. None: it is the instance itself.
    pub hook: Option<HookKind>,
}

/// Why a text could not be filled in.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FillInError {
    #[error(
        "{text:?} names the unknown variable ${name}{suggestion}; known are {known}. Write $$ for a dollar sign"
    )]
    Unknown {
        text: String,
        name: String,
        /// Empty, or ` (did you mean $PORT?)`.
        suggestion: String,
        known: String,
    },
    #[error("{text:?} has a $ with no name behind it. Write $$ for a dollar sign")]
    NoName { text: String },
    #[error("{text:?} has a ${{ with no }} behind it. Write $$ for a dollar sign")]
    NotClosed { text: String },
}

/// What is known only once there is an instance.
const OF_AN_INSTANCE: [&str; 2] = ["INSTANCE", "PORT"];

/// How much of a refused text an error repeats, in characters.
const ECHO_MAX: usize = 80;

impl Variables {
    fn known(&self) -> BTreeMap<&'static str, String> {
        let mut known = BTreeMap::from([
            ("ADDRESS", self.address.to_string()),
            ("AGENT", self.agent.to_string()),
            ("APPLICATION", self.application.to_string()),
            ("DATA_DIR", self.data_dir.display().to_string()),
            ("RELEASE_DIR", self.release_dir.display().to_string()),
            ("SLOT", self.slot.to_string()),
            ("VERSION", self.version.to_string()),
        ]);
        if let Some(instance) = self.instance {
            known.insert("INSTANCE", instance.0.to_string());
        }
        if let Some(port) = self.port {
            known.insert("PORT", port.to_string());
        }
        if let Some(hook) = self.hook {
            known.insert("HOOK", hook.to_string());
            // Where the instance answers before the public does: nobody else is led there.
            known.extend(self.port.map(|port| ("PREVIEW_PORT", port.to_string())));
        }
        known
    }

    /// Returns all that is known, as an environment.
    pub fn as_environment(&self) -> BTreeMap<String, String> {
        self.known().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Fills in each element of an argv.
    ///
    /// # Errors
    ///
    /// As [`fill_in`].
    pub fn fill_in_all(&self, argv: &[String]) -> Result<Vec<String>, FillInError> {
        argv.iter().map(|element| fill_in(element, self)).collect()
    }

    /// Fills in each value of an environment. Names are left as they are, and values left out that
    /// are of an instance which is not there yet.
    ///
    /// # Errors
    ///
    /// As [`fill_in`].
    pub fn fill_in_values(
        &self,
        env: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, FillInError> {
        let filled = env.iter().filter_map(|(name, value)| match fill_in(value, self) {
            Ok(value) => Some(Ok((name.clone(), value))),
            Err(FillInError::Unknown { name, .. })
                if self.instance.is_none() && OF_AN_INSTANCE.contains(&name.as_str()) =>
            {
                None
            }
            Err(error) => Some(Err(error)),
        });
        filled.collect()
    }
}

/// Replaces `$NAME` and `${NAME}` by their values, and `$$` by `$`. Values are not looked into
/// again.
///
/// # Errors
///
/// A name that is not known is refused: an empty text in its place would start an application
/// with half of its arguments.
pub fn fill_in(text: &str, variables: &Variables) -> Result<String, FillInError> {
    let known = variables.known();
    let echo = || text.chars().take(ECHO_MAX).collect::<String>();
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            filled.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match after.strip_prefix('{') {
            Some(braced) => {
                braced.split_once('}').ok_or_else(|| FillInError::NotClosed { text: echo() })?
            }
            None => after.split_at(name_length(after)),
        };
        if name.is_empty() {
            return Err(FillInError::NoName { text: echo() });
        }
        let value = known.get(name).ok_or_else(|| unknown(echo(), name, &known))?;
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn name_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

fn unknown(text: String, name: &str, known: &BTreeMap<&'static str, String>) -> FillInError {
    let suggestion = nearest(&name.to_ascii_uppercase(), known.keys().copied())
        .map_or(String::new(), |near| format!(" (did you mean ${near}?)"));
    let known: Vec<String> = known.keys().map(|name| format!("${name}")).collect();
    FillInError::Unknown {
        text,
        name: name.chars().take(ECHO_MAX).collect(),
        suggestion,
        known: known.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use uuid::Uuid;

    use super::*;

    fn variables() -> Variables {
        Variables {
            port: Some(20001),
            address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)),
            release_dir: PathBuf::from("/data/releases/web/ab"),
            data_dir: PathBuf::from("/data/shared/web"),
            application: "web".parse().unwrap(),
            version: "1.10".parse().unwrap(),
            instance: Some(InstanceId(Uuid::nil())),
            slot: Slot::Green,
            agent: "web-1".parse().unwrap(),
            hook: None,
        }
    }

    #[test]
    fn every_variable_is_filled_in_wherever_it_stands() {
        let table = [
            ("", ""),
            ("plain", "plain"),
            ("$PORT", "20001"),
            ("${PORT}", "20001"),
            ("$ADDRESS:$PORT/", "127.0.0.11:20001/"),
            ("$RELEASE_DIR/a", "/data/releases/web/ab/a"),
            ("$DATA_DIR/db", "/data/shared/web/db"),
            ("${APPLICATION}_$SLOT-$VERSION", "web_green-1.10"),
            ("$AGENT", "web-1"),
            ("$INSTANCE", "00000000-0000-0000-0000-000000000000"),
            ("$$", "$"),
            ("$$PORT", "$PORT"),
            ("$$$PORT", "$20001"),
            ("a$PORT.b", "a20001.b"),
            ("ä$PORT€", "ä20001€"),
            ("$(id) `id`".trim_start_matches('$'), "(id) `id`"),
        ];
        for (text, expected) in table {
            assert_eq!(fill_in(text, &variables()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_filled_in_is_not_looked_into_again() {
        let variables = Variables { data_dir: PathBuf::from("/$PORT/$$"), ..variables() };

        assert_eq!(fill_in("$DATA_DIR", &variables).as_deref(), Ok("/$PORT/$$"));
    }

    #[test]
    fn an_unknown_variable_is_named_with_the_known_ones() {
        let error = fill_in("--port=$PROT", &variables()).unwrap_err();

        assert_eq!(
            error.to_string(),
            "\"--port=$PROT\" names the unknown variable $PROT (did you mean $PORT?); known are \
             $ADDRESS, $AGENT, $APPLICATION, $DATA_DIR, $INSTANCE, $PORT, $RELEASE_DIR, $SLOT, \
             $VERSION. Write $$ for a dollar sign"
        );
        for unknown in ["$HOME", "$port", "${PORT }", "$PORTS", "$PORT_", "$1"] {
            let error = fill_in(unknown, &variables()).unwrap_err();
            assert!(matches!(error, FillInError::Unknown { .. }), "{unknown}: {error}");
        }
    }

    #[test]
    fn a_dollar_sign_without_a_name_is_refused() {
        for text in ["$", "a$", "$ PORT", "$(id)", "${}", "$-"] {
            let error = fill_in(text, &variables()).unwrap_err();
            assert!(matches!(error, FillInError::NoName { .. }), "{text}: {error}");
        }
        let error = fill_in("${PORT", &variables()).unwrap_err();
        assert!(error.to_string().contains("with no } behind it"), "{error}");
    }

    #[test]
    fn an_application_without_a_port_has_no_port_variable() {
        let variables = Variables { port: None, ..variables() };

        let error = fill_in("$PORT", &variables).unwrap_err();

        assert!(!error.to_string().contains("known are $ADDRESS, $AGENT, $PORT"), "{error}");
        assert!(matches!(error, FillInError::Unknown { .. }));
    }

    #[test]
    fn a_hook_knows_its_name_and_where_the_preview_is() {
        let smoke = Variables { hook: Some(HookKind::Smoke), ..variables() };
        assert_eq!(fill_in("$HOOK:$PREVIEW_PORT", &smoke).as_deref(), Ok("smoke:20001"));
        assert_eq!(smoke.as_environment()["PREVIEW_PORT"], "20001");

        let early =
            Variables { instance: None, port: None, hook: Some(HookKind::Install), ..smoke };
        let env = [("A", "$PORT"), ("B", "$INSTANCE"), ("C", "$HOOK")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let filled = early.fill_in_values(&env).unwrap();
        assert_eq!(filled, BTreeMap::from([("C".to_owned(), "install".to_owned())]));
        let wrong = BTreeMap::from([("A".to_owned(), "$PROT".to_owned())]);
        assert!(early.fill_in_values(&wrong).is_err());
    }

    #[test]
    fn argv_and_environment_are_filled_in_value_by_value() {
        let argv = ["./server", "--port", "$PORT"].map(str::to_owned);
        assert_eq!(variables().fill_in_all(&argv).unwrap(), ["./server", "--port", "20001"]);

        let env = BTreeMap::from([("$PORT".to_owned(), "$PORT".to_owned())]);
        let filled = variables().fill_in_values(&env).unwrap();
        assert_eq!(filled, BTreeMap::from([("$PORT".to_owned(), "20001".to_owned())]));
    }
}
