//! Services that are not served as the program says.

use std::{io, net::SocketAddr};

use cutover_common::ErrorChain;

use crate::{
    certificate::NoCertificate,
    program::{Service, Upstream},
    route::Table,
    state::{Counts, ServiceState, UpstreamState},
};

/// A service that is not served as the program says.
#[derive(Debug)]
pub(super) struct Unserved {
    pub(super) service: Service,
    pub(super) why: String,
}

/// Why a service is not served as the program says.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotServed {
    #[error("nothing can listen on {listen}")]
    Listen {
        listen: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("its certificate cannot be shown")]
    Certificate(#[from] NoCertificate),
}

impl NotServed {
    /// Says what is wrong, and what to do.
    pub(super) fn with_remedy(&self) -> String {
        let remedy = match self {
            Self::Listen { source, .. } => remedy_of(source.kind()),
            Self::Certificate(_) => "put both files there, readable for the gate's user",
        };
        format!("{}; {remedy}", ErrorChain(self))
    }
}

fn remedy_of(kind: io::ErrorKind) -> &'static str {
    if kind == io::ErrorKind::AddrInUse {
        return "end the program that has the port, or choose another";
    }
    if kind == io::ErrorKind::PermissionDenied {
        return "choose a port from 1024 up, or let the gate use lower ones as its unit does";
    }
    if kind == io::ErrorKind::AddrNotAvailable {
        return "give the agent an address of this host with --address";
    }
    "free what the host lacks"
}

impl Unserved {
    /// Nobody can connect, and nothing is under way.
    pub(super) fn state_of_nobody(&self) -> ServiceState {
        let mut upstreams = Vec::new();
        self.add_to(&mut upstreams);
        ServiceState {
            application: self.service.application.clone(),
            listen: self.service.listen,
            connections: 0,
            held: 0,
            is_served: false,
            trouble: self.why.clone(),
            upstreams,
        }
    }

    /// Adds where requests will go as soon as the service is served: no such place is empty.
    pub(super) fn add_to(&self, upstreams: &mut Vec<UpstreamState>) {
        let route = &self.service.route;
        let table = Table::new(route);
        for (at, Upstream { name, address, .. }) in route.upstreams.iter().enumerate() {
            let is_empty = !table.gives_to(at);
            let is_it = |it: &&mut UpstreamState| it.name == *name && it.address == *address;
            match upstreams.iter_mut().find(is_it) {
                Some(known) => known.is_empty &= is_empty,
                None => upstreams.push(UpstreamState {
                    name: name.clone(),
                    address: *address,
                    requests_in_flight: 0,
                    long_lived: 0,
                    is_empty,
                    counts: Counts::default(),
                }),
            }
        }
    }
}
