//! `init`: a new data directory.

use std::path::Path;

use cutover_common::Timestamp;
use cutover_coordinator_core::{Event, EventKind, enrolment::Role};
use cutover_runtime::{
    clock::wall,
    tls::{files::create_private_dir, render_ca_hash},
};

use super::{Failure, say};
use crate::{
    args::Init,
    codec,
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
    let store = make(data, &names, now)?;
    let listen = args.listen;
    let settings = Settings {
        listen_agents: listen.listen_agents,
        listen_operators: listen.listen_operators,
        listen_web: listen.listen_web,
        advertise,
    };
    settings.write(data).map_err(|error| Failure::of(&error))?;
    report(data, &names, &settings, &store);
    Ok(())
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
