//! `init`: a new data directory.

use std::path::Path;

use cutover_common::Timestamp;
use cutover_coordinator_core::{Event, EventKind, codec, enrolment::Role};
use cutover_runtime::{
    clock::wall,
    tls::{files::create_private_dir, render_ca_hash},
};

use super::{Failure, say};
use crate::{
    args::Init,
    identity::{
        Identity,
        token::{NewToken, TokenKind},
    },
    settings::Settings,
    store::{EventStore, SledStore},
};

/// Makes the data directory, and prints the login command.
///
/// # Errors
///
/// When there is one already, a name is none, or the disk does not take it.
pub fn init(args: Init) -> Result<(), Failure> {
    let data = &args.data.data;
    if data.join("store").exists() || data.join("identity").exists() {
        return Err(Failure {
            text: format!(
                "{} holds a coordinator already; run it (cutover-coordinator run --data {0}), or \
                 choose another directory",
                data.display()
            ),
            status: 3,
        });
    }
    create_private_dir(data).map_err(|error| Failure::of(&error))?;
    let now = wall();
    let mut names = args.names;
    if names.is_empty() {
        names.push(hostname());
    }
    let advertise = names.first().cloned().unwrap_or_else(|| "localhost".to_owned());
    let listen = args.listen;
    let settings = Settings {
        listen_agents: listen.listen_agents,
        listen_operators: listen.listen_operators,
        listen_web: listen.listen_web,
        advertise,
    };
    let made = make(data, &names, now).and_then(|made| {
        settings.write(data).map_err(|error| Failure::of(&error))?;
        Ok(made)
    });
    let made = made.inspect_err(|_| remove_half(data))?;
    report(data, &names, &settings, &made);
    Ok(())
}

/// Removes what an init that failed has made, none of which was there before: the next one is
/// to find the directory as this one did.
fn remove_half(data: &Path) {
    for made in ["store", "identity"] {
        // What cannot be removed is what the next init speaks of.
        drop(std::fs::remove_dir_all(data.join(made)));
    }
}

struct Made {
    token: NewToken,
    ca_hash: String,
}

fn make(data: &Path, names: &[String], now: Timestamp) -> Result<Made, Failure> {
    let mut store = SledStore::create(&data.join("store")).map_err(|error| Failure::of(&error))?;
    let identity = Identity::init(data, names, store.incarnation(), now)
        .map_err(|error| Failure::of(&error))?;
    let token = NewToken::new(TokenKind::Operator);
    let event = Event {
        at: now,
        kind: EventKind::OperatorCreated {
            name: "admin".to_owned(),
            role: Role::Admin,
            token_hash: token.hash(),
        },
    };
    let last = store.last();
    store.append(last, &[codec::encode(&event)]).map_err(|error| Failure::of(&error))?;
    store.settle().map_err(|error| Failure::of(&error))?;
    Ok(Made { token, ca_hash: render_ca_hash(&identity.ca.ca_hash()) })
}

fn report(data: &Path, names: &[String], settings: &Settings, made: &Made) {
    let port = settings.listen_operators.port();
    say(&format!("Made a coordinator in {} for {}.", data.display(), names.join(", ")));
    say("Back up its folder `identity`: whoever has it can speak for the fleet's coordinator.");
    say("");
    say("Run it:");
    say(&format!("  cutover-coordinator run --data {}", data.display()));
    say("Log in as its administrator (the token is shown only now):");
    say(&format!(
        "  cutover login https://{}:{port} --token {} --ca-hash {}",
        settings.advertise,
        made.token.reveal(),
        made.ca_hash
    ));
}

fn hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{DataDir, Listen};

    fn args(data: &Path, name: &str) -> Init {
        let any = "127.0.0.1:0".parse().unwrap();
        Init {
            data: DataDir { data: data.to_owned() },
            listen: Listen { listen_agents: any, listen_operators: any, listen_web: any },
            names: vec![name.to_owned()],
        }
    }

    #[test]
    fn an_init_that_failed_is_not_in_the_way_of_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");

        let mistyped = init(args(&data, "no host name")).unwrap_err();
        assert!(mistyped.text.contains("no host name"), "{}", mistyped.text);
        init(args(&data, "coordinator.example")).unwrap();
        let second = init(args(&data, "coordinator.example")).unwrap_err();

        assert_eq!(second.status, 3);
        assert!(Settings::read(&data).is_ok(), "a refused init removes nothing");
    }
}
