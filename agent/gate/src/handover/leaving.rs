//! Processes that have left and still have something under way: what they say is part of what is
//! said of the gate, and they follow its programs.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use cutover_common::{ApplicationName, ErrorChain};
use tokio::time::timeout;
use uuid::Uuid;

use super::Before;
use crate::{
    control::{AskGate, Client},
    program::{Program, UpstreamName},
    state::{Counts, ServiceState, State, UpstreamState},
};

/// How long one may take to answer, while programs and questions wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

const PREFIX: &str = "leaving-";
const SUFFIX: &str = ".sock";

/// Where a process that has left is asked.
pub(crate) fn socket_of(data: &Path, process: Uuid) -> PathBuf {
    data.join(format!("{PREFIX}{}{SUFFIX}", process.simple()))
}

/// All processes before this one that may have something under way.
#[derive(Debug, Default)]
pub(crate) struct Predecessors {
    leaving: Vec<Leaving>,
    /// What those counted that are gone.
    counted: BTreeMap<(ApplicationName, UpstreamName, SocketAddr), Counts>,
}

#[derive(Debug)]
struct Leaving {
    process: Uuid,
    path: PathBuf,
    last: State,
    /// What it counted goes on being counted here. Not when it was left by another process that
    /// crashed: who reads the counts begins anew then.
    counts: bool,
    /// It may not follow the program of this moment.
    is_behind: bool,
    /// It said so just now, of the program of this moment.
    is_fresh: bool,
}

impl Predecessors {
    /// Those that were handed over.
    pub(crate) fn handed(data: &Path, before: Vec<(Uuid, State)>) -> Self {
        let leaving = before.into_iter().map(|(process, last)| {
            let path = socket_of(data, process);
            Leaving { process, path, last, counts: true, is_behind: true, is_fresh: false }
        });
        Self { leaving: leaving.collect(), counted: BTreeMap::new() }
    }

    /// Those that have their socket in `data`, after a crash of the process that knew of them.
    pub(crate) fn found(data: &Path) -> Self {
        let mut leaving = Vec::new();
        for entry in fs::read_dir(data).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let process = name
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX))
                .and_then(|id| Uuid::try_parse(id).ok());
            let Some(process) = process else { continue };
            let last = State { gate: process, revision: None, leaving: 0, services: Vec::new() };
            let path = entry.path();
            leaving.push(Leaving {
                process,
                path,
                last,
                counts: false,
                is_behind: true,
                is_fresh: false,
            });
        }
        Self { leaving, counted: BTreeMap::new() }
    }

    pub(crate) fn are_gone(&self) -> bool {
        self.leaving.is_empty()
    }

    /// There is another program to be followed. What is not in it is not counted on.
    pub(crate) fn are_behind(&mut self, program: &Program) {
        for leaving in &mut self.leaving {
            leaving.is_behind = true;
        }
        self.counted.retain(|(application, name, address), _| {
            let service = program.services.iter().find(|it| it.application == *application);
            service.is_some_and(|it| {
                it.route.upstreams.iter().any(|it| it.name == *name && it.address == *address)
            })
        });
    }

    /// Returns what the next process must know of them.
    pub(crate) fn give(&self) -> Vec<Before> {
        let before = |it: &Leaving| Before { process: it.process, state: it.last.clone() };
        self.leaving.iter().map(before).collect()
    }

    /// They are somebody else's now.
    pub(crate) fn are_given(&mut self) {
        self.leaving.clear();
    }

    /// Asks each of them what it has, and has it follow `program`.
    pub(crate) async fn ask(&mut self, program: Option<&Program>) {
        let mut gone = Vec::new();
        for (at, leaving) in self.leaving.iter_mut().enumerate() {
            leaving.is_fresh = false;
            match timeout(ANSWER_WITHIN, leaving.ask(program)).await {
                Ok(Ok(())) => leaving.is_fresh = true,
                Ok(Err(error)) if is_gone(&error) => gone.push(at),
                Ok(Err(error)) => {
                    let error = ErrorChain(&error);
                    tracing::warn!(%error, "a process that was taken over from does not follow");
                }
                Err(_) => tracing::warn!("a process that was taken over from does not answer"),
            }
        }
        for at in gone.into_iter().rev() {
            let Leaving { path, last, counts, .. } = self.leaving.remove(at);
            // Its socket is left where it was killed.
            drop(fs::remove_file(path));
            if counts {
                self.keep(last);
            }
        }
    }

    fn keep(&mut self, last: State) {
        for ServiceState { application, upstreams, .. } in last.services {
            for UpstreamState { name, address, counts, .. } in upstreams {
                self.counted.entry((application.clone(), name, address)).or_default().add(&counts);
            }
        }
    }

    /// Adds to `state` what those counted that are gone.
    pub(crate) fn add_gone_to(&self, state: &mut State) {
        for ((application, name, address), counts) in &self.counted {
            let services = state.services.iter_mut().filter(|it| it.application == *application);
            let mut upstreams = services.flat_map(|it| it.upstreams.iter_mut());
            if let Some(it) = upstreams.find(|it| it.name == *name && it.address == *address) {
                it.counts.add(counts);
            }
        }
    }

    /// Adds to `state` what those have that are not gone.
    pub(crate) fn add_to(&self, state: &mut State) {
        state.leaving = self.leaving.len() as u64;
        for leaving in &self.leaving {
            for service in &mut state.services {
                leaving.add_to(service);
            }
            // What is gone from the program since.
            for gone in &leaving.last.services {
                let is_known = state.services.iter().any(|it| it.application == gone.application);
                if !is_known && (gone.has_something() || !leaving.is_fresh) {
                    let mut service = gone.emptied();
                    leaving.add_to(&mut service);
                    state.services.push(service);
                }
            }
        }
    }
}

impl Leaving {
    async fn ask(&mut self, program: Option<&Program>) -> Result<(), AskGate> {
        let mut client = Client::connect(&self.path).await?;
        if self.is_behind
            && let Some(program) = program
        {
            client.apply(program).await?;
        }
        self.last = client.state().await?;
        self.is_behind = false;
        Ok(())
    }

    fn add_to(&self, service: &mut ServiceState) {
        let last = self.last.services.iter().find(|it| it.application == service.application);
        if let Some(last) = last {
            service.connections += last.connections;
            service.held += last.held;
        }
        let theirs = last.map(|it| it.upstreams.as_slice()).unwrap_or_default();
        for upstream in &mut service.upstreams {
            upstream.is_empty &= self.is_fresh;
            let is_it =
                |it: &&UpstreamState| it.name == upstream.name && it.address == upstream.address;
            let Some(their) = theirs.iter().find(is_it) else { continue };
            upstream.add(their, self.counts);
        }
        for their in theirs {
            let is_known = service
                .upstreams
                .iter()
                .any(|it| it.name == their.name && it.address == their.address);
            if !(is_known || (self.is_fresh && their.is_empty)) {
                service.upstreams.push(UpstreamState { is_empty: false, ..their.clone() });
            }
        }
    }
}

/// Nobody has that socket: the process has ended.
fn is_gone(error: &AskGate) -> bool {
    let AskGate::Connect { source, .. } = error else { return false };
    matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
