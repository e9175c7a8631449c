//! What a gate says of itself.

use std::net::SocketAddr;

use cutover_common::{ApplicationName, Latencies};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::program::UpstreamName;

/// What a gate does at this moment.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct State {
    /// Which gate this is: another one has counted from zero. A process that took over from the one
    /// before goes on with its name and its counts.
    pub gate: Uuid,
    /// The program that it follows; none before the first.
    pub revision: Option<u64>,
    /// How many processes that were taken over from still have something under way. It is in the
    /// numbers of the services.
    #[serde(default)]
    pub leaving: u64,
    /// Those of the program, and those that are gone from it and have something under way.
    pub services: Vec<ServiceState>,
}

/// One service.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct ServiceState {
    pub application: ApplicationName,
    /// Where it listens in truth.
    pub listen: SocketAddr,
    /// How many clients are connected.
    pub connections: u64,
    /// How many requests are held.
    pub held: u64,
    /// Whether it is served as the program says. If not, it is served as it was before, or by
    /// nobody.
    #[serde(default = "yes")]
    pub is_served: bool,
    /// What is wrong with it, and what to do; empty if nothing is known to be.
    #[serde(default)]
    pub trouble: String,
    /// Those of the program, and those that are gone from it and not yet empty.
    pub upstreams: Vec<UpstreamState>,
}

impl ServiceState {
    /// Returns whether anything is under way, or may be.
    pub(crate) fn has_something(&self) -> bool {
        self.connections > 0 || self.upstreams.iter().any(|it| !it.is_empty)
    }

    /// Returns the same service without anything under way, as if it were served.
    pub(crate) fn emptied(&self) -> Self {
        Self {
            application: self.application.clone(),
            listen: self.listen,
            connections: 0,
            held: 0,
            is_served: true,
            trouble: String::new(),
            upstreams: Vec::new(),
        }
    }

    /// Adds what the same service has from before it was gone from a program.
    pub(crate) fn add(&mut self, before: Self) {
        self.connections += before.connections;
        self.held += before.held;
        for upstream in before.upstreams {
            let is_it = |it: &&mut UpstreamState| {
                it.name == upstream.name && it.address == upstream.address
            };
            match self.upstreams.iter_mut().find(is_it) {
                Some(known) => known.add(&upstream, true),
                None => self.upstreams.push(upstream),
            }
        }
    }
}

/// What a process says that knows no other way.
const fn yes() -> bool {
    true
}

/// One upstream.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct UpstreamState {
    pub name: UpstreamName,
    pub address: SocketAddr,
    pub requests_in_flight: u64,
    pub long_lived: u64,
    /// Nothing is under way there, and nothing can come any more as long as this program holds,
    /// not even from a request that was received before it. Only after this is an instance
    /// stopped.
    pub is_empty: bool,
    pub counts: Counts,
}

impl UpstreamState {
    /// Adds what another one has there. `counts`: it goes on being counted here.
    pub(crate) fn add(&mut self, other: &Self, counts: bool) {
        self.is_empty &= other.is_empty;
        self.requests_in_flight += other.requests_in_flight;
        self.long_lived += other.long_lived;
        if counts {
            self.counts.add(&other.counts);
        }
    }
}

/// What was counted since the process began. Only ever grows.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct Counts {
    pub requests: u64,
    /// Answers by their class, 1xx to 5xx.
    pub statuses: [u64; 5],
    pub connect_errors: u64,
    /// Connections that broke before the end of an answer.
    pub resets: u64,
    /// Requests that could not be sent there, and went on elsewhere or anew.
    pub retries: u64,
    /// Bytes of bodies received from there.
    pub bytes_in: u64,
    /// Bytes of bodies sent there.
    pub bytes_out: u64,
    /// Answers by the time until their head came.
    pub latency: Latencies,
    /// The sum of the times that `latency` counts, in microseconds.
    #[serde(default)]
    pub latency_us_sum: u64,
}

impl Counts {
    /// Adds what another process has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            requests,
            statuses,
            connect_errors,
            resets,
            retries,
            bytes_in,
            bytes_out,
            latency,
            latency_us_sum,
        } = other;
        self.requests += requests;
        self.connect_errors += connect_errors;
        self.resets += resets;
        self.retries += retries;
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
        self.latency_us_sum += latency_us_sum;
        self.latency.add_all(latency);
        for (mine, theirs) in self.statuses.iter_mut().zip(statuses) {
            *mine += theirs;
        }
    }
}
