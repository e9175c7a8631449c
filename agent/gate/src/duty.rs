//! What a gate's process answers for: the gate, and all of which there is one in a directory.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
};

use cutover_common::ErrorChain;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::{
    control::{Applied, Said, Server},
    gate::{Gate, Sockets},
    handover::{Before, Predecessors},
    keep,
    program::{Program, Service},
    state::State,
};

/// A gate's process, as it is told what to do.
#[derive(Debug)]
pub(crate) struct Duty {
    process: Uuid,
    /// The name under which it counts: that of the process before it, if it took over.
    id: Uuid,
    data: PathBuf,
    gate: Gate,
    program: Option<Program>,
    predecessors: Predecessors,
    /// None: another process has it.
    post: Option<Post>,
    /// How often it was said what there is.
    asked: u64,
    /// How often of that whoever asked has been answered.
    told: watch::Sender<u64>,
    left: mpsc::Sender<Left>,
}

/// What only one process in a directory has.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) lock: File,
    pub(crate) control: UnixListener,
    pub(crate) metrics: Option<TcpListener>,
}

/// How a process is told what to do after it left.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) server: Server,
    pub(crate) path: PathBuf,
}

/// What a process begins with.
pub(crate) struct Begin {
    pub(crate) data: PathBuf,
    pub(crate) gate: Gate,
    pub(crate) program: Option<Program>,
    pub(crate) predecessors: Predecessors,
    pub(crate) post: Post,
    /// The name to go on under.
    pub(crate) id: Option<Uuid>,
}

impl Duty {
    /// Returns it, and what tells that it has left.
    pub(crate) fn begin(begin: Begin) -> (Self, mpsc::Receiver<Left>) {
        let Begin { data, gate, program, predecessors, post, id } = begin;
        let (left, has_left) = mpsc::channel(1);
        let process = Uuid::new_v4();
        let id = id.unwrap_or(process);
        let post = Some(post);
        let told = watch::Sender::new(0);
        let duty =
            Self { process, id, data, gate, program, predecessors, post, asked: 0, told, left };
        (duty, has_left)
    }

    pub(crate) const fn has_left(&self) -> bool {
        self.post.is_none()
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) const fn process(&self) -> Uuid {
        self.process
    }

    pub(crate) const fn program(&self) -> Option<&Program> {
        self.program.as_ref()
    }

    pub(crate) const fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// Returns how often it was asked what there is.
    pub(crate) const fn asked(&self) -> u64 {
        self.asked
    }

    /// Notes that whoever asked has been answered as often as it was `asked`.
    pub(crate) fn was_told(&self, asked: u64) {
        self.told.send_modify(|told| *told = asked.max(*told));
    }

    /// Returns how often that was.
    pub(crate) fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    pub(crate) fn has_predecessors(&self) -> bool {
        !self.predecessors.are_gone()
    }

    /// Returns what there is one of in a directory: it is the next process's with the listening sockets.
    pub(crate) const fn post(&self) -> Option<&Post> {
        self.post.as_ref()
    }

    pub(crate) fn sockets(&self) -> Vec<(SocketAddr, BorrowedFd<'_>)> {
        let metrics = self.post.as_ref().and_then(|post| post.metrics.as_ref());
        let metrics = metrics.and_then(|it| Some((it.local_addr().ok()?, it.as_fd())));
        self.gate.sockets().into_iter().chain(metrics).collect()
    }

    /// Returns what is served as an earlier program said.
    pub(crate) fn as_they_were(&self) -> Vec<Service> {
        self.gate.as_they_were()
    }

    /// Returns the processes that it took over from, and that have something under way.
    pub(crate) fn before(&self) -> Vec<Before> {
        self.predecessors.give()
    }

    /// Leaves: another process has all of it from now on.
    pub(crate) fn leave(&mut self, left: Left) {
        self.gate.leave();
        self.predecessors.are_given();
        // Closed, not unlocked: the other process has the same lock.
        drop(self.post.take());
        if self.left.try_send(left).is_err() {
            tracing::error!("nobody waits for what is still under way");
        }
    }

    /// Says what there is, without what the processes before it have.
    pub(crate) fn own_state(&self) -> State {
        let mut state = State { gate: self.id, ..self.gate.state() };
        self.predecessors.add_gone_to(&mut state);
        state
    }

    /// Says what there is.
    pub(crate) async fn state(&mut self) -> State {
        self.asked += 1;
        self.ask_predecessors().await;
        let mut state = self.own_state();
        self.predecessors.add_to(&mut state);
        state
    }

    pub(crate) async fn ask_predecessors(&mut self) {
        self.predecessors.ask(self.program.as_ref()).await;
    }

    /// Follows a program, and keeps it.
    pub(crate) async fn apply(&mut self, program: Program) -> Said {
        if let Err(error) = self.gate.apply(&program, &mut Sockets::new()) {
            return Said::Refused(ErrorChain(&error).to_string());
        }
        let revision = program.revision;
        let program = self.program.insert(program);
        self.predecessors.are_behind(program);
        // What a process that has left is told is on disk already.
        let is_kept = self.post.is_some() && keep(&self.data, program.clone()).await;
        self.predecessors.ask(Some(program)).await;
        Said::Applied(Applied { gate: self.id, revision, is_kept })
    }
}

async fn keep(data: &Path, program: Program) -> bool {
    let data = data.to_owned();
    match tokio::task::spawn_blocking(move || keep::write(&data, &program)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!(error = %ErrorChain(&error), "the program is followed and cannot be kept");
            false
        }
        Err(error) => {
            tracing::error!(%error, "the program is followed and was not kept");
            false
        }
    }
}
