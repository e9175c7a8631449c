//! What an operator types on a server: join, status, leave; and the daemon's own start.

use std::{io, io::Write as _};

use cutover_agent_core::{Agent, Event};
use cutover_common::{AgentName, ErrorChain, Health};
use cutover_runtime::{
    dial::DialError,
    shutdown::Shutdown,
    telemetry::{self, Program},
};

use crate::{
    app::{self, RunSettings},
    args::{Data, Gate, Join, Output, Run, Status as StatusArgs},
    gate::Keeper,
    join::{self, AgentIdentity, JoinError, JoinRequest, LoadIdentity},
    journal::{DataLock, FileJournal, Journal as _, LockError, RealDisk},
    status::{ApplicationStatus, SlotStatus, Status},
};

/// Why a command failed, and the exit status that says of which kind that is (design §10).
#[derive(Debug)]
pub struct Failure {
    pub text: String,
    pub status: u8,
}

/// Wrong use: something has to be typed differently.
const WRONG_USE: u8 = 2;
const REFUSED: u8 = 3;
const NOT_REACHABLE: u8 = 4;
/// Something on this machine does not work, such as its disk.
const BROKEN: u8 = 1;

impl Failure {
    fn of(status: u8, error: &dyn std::error::Error) -> Self {
        Self { text: ErrorChain(error).to_string(), status }
    }
}

/// Makes this server an agent.
///
/// # Errors
///
/// Says what to do next; nothing but a key is left behind.
pub fn join(args: Join) -> Result<(), Failure> {
    let name = match args.name {
        Some(name) => name,
        None => host_name()?,
    };
    let data = args.data.data;
    let request = JoinRequest {
        url: args.url,
        token: args.token,
        ca_hash: args.ca_hash,
        data_dir: data.clone(),
        name: name.clone(),
        labels: args.labels.into_iter().collect(),
        address: args.address,
    };
    let joined = tokio_runtime()?.block_on(join::join(request));
    joined.map_err(|error| Failure::of(join_status(&error), &error))?;
    print(&format!(
        "joined as {name}; start the agent: cutover-agent run --data {}\n",
        data.display()
    ))
}

const fn join_status(error: &JoinError) -> u8 {
    match error {
        JoinError::AlreadyJoined { .. } | JoinError::Dial(DialError::NotHttps { .. }) => WRONG_USE,
        JoinError::Token
        | JoinError::Refused { .. }
        | JoinError::Answer(_)
        | JoinError::Dial(DialError::TlsCaMismatch { .. } | DialError::Refused { .. }) => REFUSED,
        JoinError::Dial(_) | JoinError::NoAnswer | JoinError::Broken(_) => NOT_REACHABLE,
        JoinError::Key(_) | JoinError::Read(_) | JoinError::Store(_) | JoinError::Tls(_) => BROKEN,
    }
}

/// Returns the first part of the host's name as an agent's name.
fn host_name() -> Result<AgentName, Failure> {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy().to_lowercase();
    let first = host.split('.').next().unwrap_or_default();
    first.parse().map_err(|_| Failure {
        text: format!("the host's name {host:?} is no agent's name; choose one with --name"),
        status: WRONG_USE,
    })
}

/// Runs the daemon until it is told to end.
///
/// # Errors
///
/// When it cannot start, or has to end.
pub fn run(args: Run) -> Result<(), Failure> {
    telemetry::init(Program::Agent, args.log_format)
        .map_err(|error| Failure::of(WRONG_USE, &error))?;
    end_on_panic();
    let gate = match args.gate {
        Gate::Agent => Keeper::Agent,
        Gate::Init => Keeper::Init,
    };
    let settings = RunSettings { data: args.data.data, address: args.address, gate };
    let runtime = tokio_runtime()?;
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().map_err(|error| Failure::of(BROKEN, &error))?;
        app::run(settings, shutdown).await.map_err(|error| Failure::of(error.exit_status(), &error))
    });
    // A hook or a download does not hold up the end: both go on from where they were.
    runtime.shutdown_background();
    ended
}

/// A panic anywhere is a broken invariant, and ends the whole process: half of an agent would
/// wait for answers that never come.
fn end_on_panic() {
    let print_it = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print_it(panic);
        std::process::exit(70);
    }));
}

/// Prints what the agent runs.
///
/// # Errors
///
/// When there is no agent here, or its files cannot be read.
pub fn status(args: &StatusArgs) -> Result<(), Failure> {
    let data = &args.data.data;
    let identity = match AgentIdentity::load(data) {
        Ok(identity) => identity,
        Err(error @ LoadIdentity::NotJoined { .. }) => return Err(Failure::of(WRONG_USE, &error)),
        Err(error) => return Err(Failure::of(BROKEN, &error)),
    };
    let status = Status::read(data).map_err(|error| Failure::of(BROKEN, &error))?;
    match args.output {
        Output::Json => {
            let json = serde_json::to_string_pretty(&status)
                .map_err(|error| Failure::of(BROKEN, &error))?;
            print(&format!("{json}\n"))
        }
        Output::Text => print(&render(&identity, &status)),
    }
}

fn render(identity: &AgentIdentity, status: &Status) -> String {
    let how = match (status.running, status.connected) {
        (false, _) => "not running; this is what it remembers".to_owned(),
        (true, true) => format!("running, connected to {}", identity.url),
        (true, false) => {
            format!("running, NOT connected to {}; its log says why", identity.url)
        }
    };
    let mut text = format!("agent {}: {how}\n", identity.name);
    if status.applications.is_empty() {
        text.push_str("no applications\n");
    }
    for ApplicationStatus { application, fence, slots } in &status.applications {
        text.push_str(&format!("{application} (goal {fence})\n"));
        for slot in slots {
            text.push_str(&format!("  {}\n", render_slot(slot)));
        }
    }
    text
}

fn render_slot(slot: &SlotStatus) -> String {
    let SlotStatus { slot, version, phase, health, detail, restarts, pid } = slot;
    let pid = pid.map_or(String::new(), |pid| format!(", pid {pid}"));
    let restarts = if *restarts == 0 { String::new() } else { format!(", {restarts} restarts") };
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    // What does not run has no health to speak of.
    let health = if *health == Health::Unknown { String::new() } else { format!(", {health:?}") };
    format!("{slot:<6} {version:<16} {phase:?}{health}{pid}{restarts}{detail}")
}

/// Forgets the coordinator and says what stays.
///
/// # Errors
///
/// When the agent runs, or something cannot be removed.
pub fn leave(args: &Data) -> Result<(), Failure> {
    let data = &args.data;
    if let Err(error @ LoadIdentity::NotJoined { .. }) = AgentIdentity::load(data) {
        return Err(Failure::of(WRONG_USE, &error));
    }
    let _lock = DataLock::take(data).map_err(|error| match error {
        error @ LockError::Held { .. } => Failure::of(REFUSED, &error),
        error @ LockError::Io { .. } => Failure::of(BROKEN, &error),
    })?;
    let (mut journal, events) =
        FileJournal::open(RealDisk::new(data)).map_err(|error| Failure::of(REFUSED, &error))?;
    let agent = Agent::replay(&events).map_err(|error| Failure::of(REFUSED, &error))?;
    // Another coordinator counts terms and generations of its own.
    journal.append(&[Event::CoordinatorForgotten]).map_err(|error| Failure::of(BROKEN, &error))?;
    join::forget(data).map_err(|error| Failure::of(BROKEN, &error))?;
    let mut text = "left the coordinator; this directory is free for another join\n".to_owned();
    for (name, application) in &agent.remembered().applications {
        for (slot, state) in application.slots.iter() {
            if let Some(instance) = &state.instance {
                let version = &instance.release.name.version;
                text.push_str(&format!(
                    "still there: {name} {version} in {slot}, instance {}\n",
                    instance.id.0
                ));
            }
        }
    }
    print(&text)
}

fn tokio_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(BROKEN, &error))
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::of(BROKEN, &error))
}
