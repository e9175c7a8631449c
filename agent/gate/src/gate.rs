//! The gate as a whole: takes programs, says what it does.

mod unserved;

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

use self::unserved::{NotServed, Unserved};
use crate::{
    certificate::Certificate,
    closing::Closing,
    live::Live,
    program::{InvalidProgram, Program, Protocol, Service},
    shard::{Accept, Thread},
    state::{ServiceState, State},
    tcp,
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

/// A gate. When it is dropped its clients are cut.
#[derive(Debug)]
pub struct Gate {
    id: Uuid,
    revision: Option<u64>,
    served: BTreeMap<ApplicationName, Served>,
    /// Those that are gone from the program, while they have something under way.
    gone: BTreeMap<ApplicationName, Served>,
    /// Those that are not served as the program says. Each is served as it was before, or by nobody.
    unserved: BTreeMap<ApplicationName, Unserved>,
    threads: Vec<Thread>,
    /// What each thread is to accept as soon as anybody is accepted. None: they do.
    waiting: Option<Vec<(usize, Accept)>>,
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
        Ok(Self {
            id,
            revision: None,
            served: BTreeMap::new(),
            gone: BTreeMap::new(),
            unserved: BTreeMap::new(),
            threads,
            waiting: None,
            has_left: false,
        })
    }

    /// Accepts nobody until it [begins](Self::begin). Who comes waits in the queue of its socket,
    /// which another process may have, too.
    pub(crate) fn wait(&mut self) {
        self.waiting.get_or_insert_default();
    }

    /// Accepts clients from now on.
    pub(crate) fn begin(&mut self) {
        for (index, accept) in self.waiting.take().into_iter().flatten() {
            self.accept(index, accept);
        }
    }

    fn accept(&mut self, index: usize, accept: Accept) {
        if let Some(waiting) = &mut self.waiting {
            waiting.push((index, accept));
        } else if let Some(thread) = self.threads.get(index) {
            thread.accept(accept);
        }
    }

    /// Follows `program`, as a whole. A route changes at one moment: each request sees the old one
    /// or the new one. Takes from `sockets` those that it needs. Must be called within a tokio
    /// runtime that lasts as long as the gate.
    ///
    /// A service that cannot be served as it says, as another program has its port or its
    /// certificate cannot be shown, keeps no other from it: it stays as it was, its state says why,
    /// and [`try_again`](Self::try_again) tries again.
    ///
    /// # Errors
    ///
    /// When the program makes no sense; nothing has changed then.
    pub fn apply(
        &mut self,
        program: &Program,
        sockets: &mut Sockets,
    ) -> Result<(), InvalidProgram> {
        program.check()?;
        self.spare(program, sockets);
        // Whoever is not wanted: its clients' requests end, and no other comes.
        let is_wanted = |name: &_| program.services.iter().any(|it| it.application == *name);
        let unwanted = self.served.extract_if(.., |name, _| !is_wanted(name));
        self.gone.extend(unwanted.map(|(name, served)| (name, served.end())));
        self.forget();
        let before = std::mem::take(&mut self.unserved);
        for service in &program.services {
            let known = before.get(&service.application);
            self.try_to_serve(service, known.map(|it| it.why.as_str()), sockets);
        }
        self.make_room(program);
        self.revision = Some(program.revision);
        Ok(())
    }

    /// Forgets services that are gone and have nothing under way.
    fn forget(&mut self) {
        self.gone.retain(|_, gone| !gone.live.is_over());
    }

    /// Tries to serve what could not be served as the program says.
    pub fn try_again(&mut self) {
        self.forget();
        for (_, Unserved { service, why }) in std::mem::take(&mut self.unserved) {
            self.try_to_serve(&service, Some(&why), &mut Sockets::new());
        }
    }

    /// Puts sockets into `sockets` that the program gives to another service, or another protocol.
    fn spare(&self, program: &Program, sockets: &mut Sockets) {
        for (name, served) in &self.served {
            let listen = served.live.routing().service.listen;
            let next = program.services.iter().find(|it| it.listen == listen);
            let is_kept = |it: &&Service| it.application == *name && it.protocol == served.protocol;
            if next.is_none() || next.filter(is_kept).is_some() || sockets.contains_key(&listen) {
                continue;
            }
            // Without it the address is free as soon as this service has let go of it.
            let socket = served.socket.as_ref().and_then(|socket| socket.try_clone().ok());
            sockets.extend(socket.map(|socket| (listen, socket)));
        }
    }

    /// Ends services that stay as they were where the program has another one.
    fn make_room(&mut self, program: &Program) {
        let unserved = &self.unserved;
        let is_in_the_way = |name: &ApplicationName, served: &mut Served| {
            let listen = served.live.routing().service.listen;
            let is_it = |it: &Service| it.listen == listen && it.application != *name;
            unserved.contains_key(name) && program.services.iter().any(is_it)
        };
        let in_the_way = self.served.extract_if(.., is_in_the_way);
        self.gone.extend(in_the_way.map(|(name, served)| (name, served.end())));
    }

    fn try_to_serve(&mut self, service: &Service, known: Option<&str>, sockets: &mut Sockets) {
        let application = &service.application;
        let Err(error) = self.serve(service, sockets) else {
            if known.is_some() {
                tracing::info!(%application, "served as the program says");
            }
            return;
        };
        let why = error.with_remedy();
        // Once for each reason, and not with each try.
        if known != Some(why.as_str()) {
            tracing::error!(%application, "not served as the program says: {why}");
        }
        let unserved = Unserved { service: service.clone(), why };
        self.unserved.insert(application.clone(), unserved);
    }

    /// Serves `service` as it says. What it has under way goes on being counted, wherever it listens.
    fn serve(&mut self, service: &Service, sockets: &mut Sockets) -> Result<(), NotServed> {
        let name = &service.application;
        let before = self.served.get(name);
        if self.has_left {
            // Whoever took over listens for it, and shows its certificate.
            if let Some(Served { live, .. }) = before.or_else(|| self.gone.get(name)) {
                live.replace(service, live.certificate());
            }
            return Ok(());
        }
        let certificate = certificate(service, before)?;
        let is_there = |it: &&Served| {
            it.protocol == service.protocol && it.live.routing().service.listen == service.listen
        };
        if let Some(served) = before.filter(is_there) {
            served.live.replace(service, certificate);
            return Ok(());
        }
        let (socket, listeners) = self.listen(service.listen, sockets)?;
        // One that comes back has what it had.
        let live = match self.served.remove(name).or_else(|| self.gone.remove(name)) {
            Some(Served { live, closing, .. }) => {
                closing.send_replace(Closing::Now);
                live.replace(service, certificate);
                live
            }
            None => Arc::new(Live::new(service, certificate, self.threads.len())),
        };
        let closing = watch::Sender::new(Closing::No);
        for (index, listener) in listeners.into_iter().enumerate() {
            let (live, closing) = (Arc::clone(&live), closing.subscribe());
            self.accept(index, Accept { live, listener, protocol: service.protocol, closing });
        }
        let served = Served { live, protocol: service.protocol, socket: Some(socket), closing };
        self.served.insert(name.clone(), served);
        Ok(())
    }

    /// Returns a socket that listens at `listen`, and one more of it for each thread: one queue for
    /// all, so that what waits in it is lost with none of them.
    fn listen(
        &self,
        listen: SocketAddr,
        sockets: &mut Sockets,
    ) -> Result<(TcpListener, Vec<TcpListener>), NotServed> {
        let failed = |source| NotServed::Listen { listen, source };
        let handed = sockets.remove(&listen);
        let is_handed = handed.is_some();
        let socket = handed.map_or_else(|| TcpListener::bind(listen), Ok).map_err(failed)?;
        match self.share(&socket) {
            Ok(listeners) => Ok((socket, listeners)),
            Err(error) => {
                // Whoever handed it in sees by it that nobody accepts its clients.
                sockets.extend(is_handed.then_some((listen, socket)));
                Err(failed(error))
            }
        }
    }

    fn share(&self, socket: &TcpListener) -> io::Result<Vec<TcpListener>> {
        socket.set_nonblocking(true)?;
        // Who is accepted there inherits it.
        tcp::keep_alive(socket)?;
        self.threads.iter().map(|_| socket.try_clone()).collect()
    }

    /// Returns the services that stay as they were, as what the program says of them cannot be.
    pub(crate) fn as_they_were(&self) -> Vec<Service> {
        let served = self.unserved.keys().filter_map(|name| self.served.get(name));
        served.map(|it| it.live.routing().service.clone()).collect()
    }

    /// Returns why this service is not served as the program says.
    pub(crate) fn unserved(&self, application: &ApplicationName) -> Option<&str> {
        self.unserved.get(application).map(|it| it.why.as_str())
    }

    /// Accepts no client any more, and ends each connection after the request that it is at.
    pub fn close(&mut self) {
        self.unserved.clear();
        for served in self.served.values_mut() {
            drop(served.socket.take());
            served.closing.send_replace(Closing::Now);
        }
    }

    /// Accepts no client any more, as another process does, and ends each connection with its next
    /// answer. Programs that it is given from now on change where the rest of its requests go.
    pub(crate) fn leave(&mut self) {
        self.has_left = true;
        self.unserved.clear();
        for served in self.served.values_mut() {
            drop(served.socket.take());
            served.closing.send_replace(Closing::AtNextChance);
        }
    }

    /// Ends what lasts, as at the limit of a drain.
    pub(crate) fn end_what_lasts(&self) {
        for served in self.served.values().chain(self.gone.values()) {
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
        self.served.values().chain(self.gone.values()).map(|served| served.live.load().0).sum()
    }

    /// Says what it does at this moment.
    pub fn state(&self) -> State {
        let served = self.served.iter().map(|(name, it)| it.state(name, self.unserved.get(name)));
        let mut services: Vec<ServiceState> = served.collect();
        for (name, unserved) in &self.unserved {
            if !self.served.contains_key(name) {
                services.push(unserved.state_of_nobody());
            }
        }
        for (name, gone) in &self.gone {
            let gone = gone.state(name, None);
            match services.iter_mut().find(|it| it.application == *name) {
                Some(unserved) => unserved.add(gone),
                None if gone.has_something() => services.push(gone),
                None => {}
            }
        }
        services.sort_by(|one, other| one.application.cmp(&other.application));
        State { gate: self.id, revision: self.revision, leaving: 0, services }
    }
}

/// Returns what a service is to show: what it shows already, if that is it.
fn certificate(
    service: &Service,
    before: Option<&Served>,
) -> Result<Option<Arc<Certificate>>, NotServed> {
    let Some(files) = &service.tls else { return Ok(None) };
    let shown = before.and_then(|it| it.live.certificate());
    match shown.filter(|it| it.is_of(files, service.protocol)) {
        Some(shown) => Ok(Some(shown)),
        None => Ok(Some(Arc::new(Certificate::new(files, service.protocol)?))),
    }
}

impl Served {
    /// Lets go of its clients: their requests end, at the limits of a drain, and no other comes.
    fn end(mut self) -> Self {
        drop(self.socket.take());
        self.closing.send_replace(Closing::Now);
        self.live.lead_nowhere();
        self
    }

    fn state(&self, application: &ApplicationName, unserved: Option<&Unserved>) -> ServiceState {
        let (connections, held) = self.live.load();
        let mut upstreams = self.live.upstreams();
        let listen = self.socket.as_ref().and_then(|socket| socket.local_addr().ok());
        let listen = listen.unwrap_or_else(|| self.live.routing().service.listen);
        let application = application.clone();
        let trouble = match unserved {
            Some(unserved) => {
                unserved.add_to(&mut upstreams);
                format!("{}; until then it is served as before", unserved.why)
            }
            // Whoever has left shows none.
            None if self.socket.is_none() => String::new(),
            None => {
                let of_own = self.live.certificate().map(|it| it.trouble()).unwrap_or_default();
                let of_peers = self.live.trouble_with_peers();
                let both = [of_own, of_peers].into_iter().filter(|it| !it.is_empty());
                both.collect::<Vec<_>>().join("; ")
            }
        };
        let is_served = unserved.is_none();
        ServiceState { application, listen, connections, held, is_served, trouble, upstreams }
    }
}
