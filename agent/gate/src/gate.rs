//! The gate as a whole: takes programs, says what it does.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    os::fd::{AsFd as _, BorrowedFd},
    sync::Arc,
};

use cutover_common::ApplicationName;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    certificate::{Certificate, NoCertificate},
    closing::Closing,
    live::Live,
    program::{InvalidProgram, Program, Protocol, Service, TlsFiles},
    shard::{Accept, Thread},
    state::{ServiceState, State},
};

/// Listening sockets that exist already, by their address.
///
/// A service whose address is among them takes that socket instead of a new one: clients that are
/// on their way to it lose nothing.
pub type Sockets = BTreeMap<SocketAddr, TcpListener>;

/// Why a gate does not start.
#[derive(Debug, thiserror::Error)]
#[error("starting the gate's shard {index} failed")]
pub struct StartGate {
    index: usize,
    #[source]
    source: io::Error,
}

/// Why a program is not followed. Nothing of it is done then.
#[derive(Debug, thiserror::Error)]
pub enum ApplyProgram {
    #[error("the program is refused")]
    Invalid(#[from] InvalidProgram),
    #[error("{application} cannot listen on {listen}; is another program there?")]
    Listen {
        application: ApplicationName,
        listen: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{application} has no certificate that can be shown")]
    Certificate {
        application: ApplicationName,
        #[source]
        source: NoCertificate,
    },
}

/// A gate. When it is dropped its clients are cut.
#[derive(Debug)]
pub struct Gate {
    id: Uuid,
    revision: Option<u64>,
    served: BTreeMap<ApplicationName, Served>,
    threads: Vec<Thread>,
    /// Another process accepts its clients now.
    has_left: bool,
}

/// A service that is served.
#[derive(Debug)]
struct Served {
    live: Arc<Live>,
    protocol: Protocol,
    /// None: it is closing, and whoever connects is refused rather than left waiting.
    socket: Option<TcpListener>,
    closing: watch::Sender<Closing>,
}

impl Gate {
    /// Starts a gate with one shard for each core that it is to use. It serves nothing yet.
    ///
    /// # Errors
    ///
    /// When a thread or its runtime cannot be made.
    pub fn start(shards: NonZeroUsize) -> Result<Self, StartGate> {
        let start = |index| Thread::start(index).map_err(|source| StartGate { index, source });
        let threads = (0..shards.get()).map(start).collect::<Result<_, _>>()?;
        let id = Uuid::new_v4();
        Ok(Self { id, revision: None, served: BTreeMap::new(), threads, has_left: false })
    }

    /// Follows `program`, as a whole. A route changes at one moment: each request sees the old one
    /// or the new one. Takes from `sockets` those that it needs. Must be called within a tokio
    /// runtime that lasts as long as the gate.
    ///
    /// # Errors
    ///
    /// When the program is refused or a new address cannot be listened on; nothing has changed
    /// then.
    pub fn apply(&mut self, program: &Program, sockets: &mut Sockets) -> Result<(), ApplyProgram> {
        self.follow(program, sockets, Certificate::new)
    }

    /// Follows a program that was followed before. A certificate that cannot be shown now is no
    /// reason to serve nothing: its service waits for one.
    pub(crate) fn apply_again(&mut self, program: &Program) -> Result<(), ApplyProgram> {
        self.follow(program, &mut Sockets::new(), |files, protocol| {
            Ok(Certificate::waiting(files, protocol))
        })
    }

    fn follow(
        &mut self,
        program: &Program,
        sockets: &mut Sockets,
        read: impl Fn(&TlsFiles, Protocol) -> Result<Certificate, NoCertificate>,
    ) -> Result<(), ApplyProgram> {
        program.check()?;
        let mut certificates = self.certificates(program, read)?;
        let mut bound = if self.has_left { Sockets::new() } else { self.bind(program, sockets)? };
        let mut before = std::mem::take(&mut self.served);
        for service in &program.services {
            let name = service.application.clone();
            let kept = before.remove(&name);
            let certificate = certificates.remove(&name);
            let served = match (kept, bound.remove(&service.listen)) {
                (Some(served), None) => {
                    served.live.replace(service, certificate);
                    served
                }
                (kept, Some(socket)) => {
                    drop(kept);
                    self.serve(service, certificate, socket)?
                }
                // One that left: whoever took over listens for it.
                (None, None) => continue,
            };
            self.served.insert(name, served);
        }
        // Whoever is left is not wanted: its clients' requests end, and no other comes.
        for gone in before.into_values() {
            gone.closing.send_replace(Closing::Now);
        }
        self.revision = Some(program.revision);
        Ok(())
    }

    /// Returns the certificates of all services that have one. Those that are shown already stay.
    fn certificates(
        &self,
        program: &Program,
        read: impl Fn(&TlsFiles, Protocol) -> Result<Certificate, NoCertificate>,
    ) -> Result<BTreeMap<ApplicationName, Arc<Certificate>>, ApplyProgram> {
        let mut certificates = BTreeMap::new();
        for service in &program.services {
            let Some(files) = &service.tls else { continue };
            let application = service.application.clone();
            let shown = self.served.get(&application).and_then(|it| it.live.certificate());
            let certificate = match shown.filter(|it| it.is_of(files, service.protocol)) {
                Some(shown) => shown,
                None => Arc::new(read(files, service.protocol).map_err(|source| {
                    ApplyProgram::Certificate { application: application.clone(), source }
                })?),
            };
            certificates.insert(application, certificate);
        }
        Ok(certificates)
    }

    /// Returns the sockets of all services that are not served on their address already.
    fn bind(&self, program: &Program, sockets: &mut Sockets) -> Result<Sockets, ApplyProgram> {
        let mut bound = Sockets::new();
        for service in &program.services {
            let is_kept = self.served.get(&service.application).is_some_and(|served| {
                served.protocol == service.protocol
                    && served.live.routing().service.listen == service.listen
            });
            if is_kept {
                continue;
            }
            let socket = match sockets.remove(&service.listen) {
                Some(socket) => Ok(socket),
                None => TcpListener::bind(service.listen),
            };
            let socket = socket.and_then(|socket| {
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            let socket = socket.map_err(|source| ApplyProgram::Listen {
                application: service.application.clone(),
                listen: service.listen,
                source,
            })?;
            bound.insert(service.listen, socket);
        }
        Ok(bound)
    }

    fn serve(
        &self,
        service: &Service,
        certificate: Option<Arc<Certificate>>,
        socket: TcpListener,
    ) -> Result<Served, ApplyProgram> {
        let live = Arc::new(Live::new(service, certificate, self.threads.len()));
        let closing = watch::Sender::new(Closing::No);
        for thread in &self.threads {
            // One socket for all: what waits in its queue is lost with none of them.
            let listener = socket.try_clone().map_err(|source| ApplyProgram::Listen {
                application: service.application.clone(),
                listen: service.listen,
                source,
            })?;
            thread.accept(Accept {
                live: Arc::clone(&live),
                listener,
                protocol: service.protocol,
                closing: closing.subscribe(),
            });
        }
        Ok(Served { live, protocol: service.protocol, socket: Some(socket), closing })
    }

    /// Accepts no client any more, and ends each connection after the request that it is at.
    pub fn close(&mut self) {
        for served in self.served.values_mut() {
            drop(served.socket.take());
            served.closing.send_replace(Closing::Now);
        }
    }

    /// Accepts no client any more, as another process does, and ends each connection with its next
    /// answer. Programs that it is given from now on change where the rest of its requests go.
    pub(crate) fn leave(&mut self) {
        self.has_left = true;
        for served in self.served.values_mut() {
            drop(served.socket.take());
            served.closing.send_replace(Closing::AtNextChance);
        }
    }

    /// Ends what lasts, as at the limit of a drain.
    pub(crate) fn end_what_lasts(&self) {
        for served in self.served.values() {
            served.live.end_what_lasts();
        }
    }

    /// Returns the listening sockets, for a process that takes over.
    pub(crate) fn sockets(&self) -> Vec<(SocketAddr, BorrowedFd<'_>)> {
        let sockets = self.served.values().filter_map(|served| {
            let socket = served.socket.as_ref()?;
            Some((served.live.routing().service.listen, socket.as_fd()))
        });
        sockets.collect()
    }

    /// Returns how many clients are connected.
    pub fn connections(&self) -> u64 {
        self.served.values().map(|served| served.live.load().0).sum()
    }

    /// Says what it does at this moment.
    pub fn state(&self) -> State {
        let services = self.served.iter().map(|(application, served)| {
            let (connections, held) = served.live.load();
            let upstreams = served.live.upstreams();
            let listen = served.socket.as_ref().and_then(|socket| socket.local_addr().ok());
            let listen = listen.unwrap_or_else(|| served.live.routing().service.listen);
            let application = application.clone();
            ServiceState { application, listen, connections, held, upstreams }
        });
        State { gate: self.id, revision: self.revision, leaving: 0, services: services.collect() }
    }
}
