//! One gate takes over from another, without a moment in which nobody accepts clients.
//!
//! Over the control socket the new process asks for the lock, the control socket and all listening
//! sockets of the old one, accepts clients, and says so; only then the old one leaves. Whichever
//! of the two dies before that, the other one has all of it. What the old one still has under way
//! goes on there, by the programs that the new one passes on to it.

mod descriptors;
mod give;
mod leaving;
mod take;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use self::{
    give::hand_over,
    leaving::{Predecessors, socket_of},
    take::{TakeOver, Taken, take},
};
use crate::{
    program::{Program, Service},
    state::State,
};

/// What comes with the descriptors of the lock, the control socket and, in this order, all
/// listening sockets.
#[derive(Debug, Deserialize, Serialize)]
struct Handed {
    listens: Vec<SocketAddr>,
    /// The one that is followed.
    program: Option<Program>,
    /// What is served as an earlier program said, as what this one says cannot be.
    #[serde(default)]
    as_they_were: Vec<Service>,
    /// Which process hands it over.
    process: Uuid,
    /// What it has, without the part of the processes before it.
    state: State,
    /// The processes that it took over from and that still have something under way.
    before: Vec<Before>,
}

/// A process that has left.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Before {
    process: Uuid,
    /// What it said last.
    state: State,
}

/// What the new process says when it accepts clients.
const SERVING: &str = "serving\n";

/// What the old one says when it accepts none any more.
const LEFT: &str = "left\n";
