//! Accepts connections, a thread each, until TERM; then lets them finish.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Command,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
    low_level::pipe,
};

use crate::{
    Failure,
    connection::{self, Site},
};

/// How many connections are served at a time. Each is a thread with a small stack.
const CONNECTIONS_MAX: usize = 1_000;
const STACK_BYTES: usize = 128 * 1024;

/// How long a client may say nothing, or not take what it asked for.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// From TERM to the exit, at most; the promise is a second, and the rest is for the exit itself.
const FINISH_WITHIN: Duration = Duration::from_millis(900);

/// The only argument of a child that holds its parent's port, which is its stdin.
const HOLD_PORT: &str = "--hold-port";

/// Is such a child, if the arguments behind the program's name say so: leaves its parent's
/// session, as a daemon does, and does nothing until it is killed.
///
/// # Errors
///
/// Returns what the system refused.
pub(crate) fn hold_port(mut args: impl Iterator<Item = String>) -> Result<(), Failure> {
    if args.next().as_deref() != Some(HOLD_PORT) {
        return Ok(());
    }
    let leaving = |cause: Errno| Failure::of_system("leave the session", &cause.into());
    rustix::process::setsid().map_err(leaving)?;
    loop {
        thread::park();
    }
}

/// A bound port.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    /// Becomes readable at TERM or INT.
    stop_order: UnixStream,
}

impl Server {
    /// Binds the port, and begins to heed TERM, if it is not to be ignored, and INT.
    ///
    /// # Errors
    ///
    /// Returns what the system refused.
    pub(crate) fn bind(address: IpAddr, port: u16, ignores_term: bool) -> Result<Self, Failure> {
        let heeding = |cause: io::Error| Failure::of_system("heed signals", &cause);
        let (stop_order, sender) = UnixStream::pair().map_err(heeding)?;
        pipe::register(SIGINT, sender.try_clone().map_err(heeding)?).map_err(heeding)?;
        if ignores_term {
            // Noted where nobody looks.
            flag::register(SIGTERM, Arc::default()).map_err(heeding)?;
        } else {
            pipe::register(SIGTERM, sender).map_err(heeding)?;
        }
        let address = SocketAddr::new(address, port);
        let listening = |cause| Failure::of_system(&format!("listen on {address}"), &cause);
        let listener = TcpListener::bind(address).map_err(listening)?;
        listener.set_nonblocking(true).map_err(listening)?;
        Ok(Self { listener, stop_order })
    }

    /// Returns the address with the port that the system chose for port 0.
    ///
    /// # Errors
    ///
    /// Returns what the system refused.
    pub(crate) fn address(&self) -> Result<SocketAddr, Failure> {
        self.listener.local_addr().map_err(|cause| Failure::of_system("read the port", &cause))
    }

    /// Starts a child that holds the port and never accepts, and returns its pid.
    ///
    /// # Errors
    ///
    /// Returns what the system refused.
    pub(crate) fn leave_child(&self) -> Result<u32, Failure> {
        let leaving = |cause| Failure::of_system("leave a child behind", &cause);
        let own = std::env::current_exe().map_err(leaving)?;
        let port: OwnedFd = self.listener.try_clone().map_err(leaving)?.into();
        let child = Command::new(own).arg(HOLD_PORT).stdin(port).spawn().map_err(leaving)?;
        Ok(child.id())
    }

    /// Serves `site` until TERM. Then accepts nothing more, finishes the requests that have
    /// arrived, and returns.
    ///
    /// # Errors
    ///
    /// Returns an error of the listening socket itself; one of a connection ends that connection.
    pub(crate) fn serve(self, site: Site) -> Result<(), Failure> {
        let shared = Arc::new(Shared {
            site,
            stopping: AtomicBool::new(false),
            open: Mutex::new(BTreeMap::new()),
            closed: Condvar::new(),
        });
        let waiting = |cause: io::Error| Failure::of_system("wait for connections", &cause);
        let mut number = 0;
        loop {
            let mut sources = [
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(&self.stop_order, PollFlags::IN),
            ];
            match poll(&mut sources, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(cause) => return Err(waiting(cause.into())),
            }
            let is_stopped = !sources[1].revents().is_empty();
            // At a stop too: the system has told these clients that they are connected.
            while let Some(stream) = self.accept().map_err(waiting)? {
                number += 1;
                shared.serve_aside(number, stream);
            }
            if is_stopped {
                drop(self.listener);
                shared.finish();
                return Ok(());
            }
        }
    }

    fn accept(&self) -> io::Result<Option<TcpStream>> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Ok(Some(stream)),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // The client left before its turn (accept(2), "Error handling").
                Err(cause)
                    if matches!(
                        cause.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(cause) => return Err(cause),
            }
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    site: Site,
    stopping: AtomicBool,
    /// The open connections, by number, to wake those that wait for a request.
    open: Mutex<BTreeMap<u64, TcpStream>>,
    closed: Condvar,
}

impl Shared {
    /// Serves a connection in a thread of its own. One too many is told so and closed.
    fn serve_aside(self: &Arc<Self>, number: u64, mut stream: TcpStream) {
        let prepared = prepare(&stream);
        let Ok(handle) = prepared else { return };
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.len() >= CONNECTIONS_MAX {
                drop(open);
                let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\
                            Connection: close\r\n\r\n";
                // It is sent away either way.
                match stream.write_all(busy.as_bytes()) {
                    Ok(()) | Err(_) => return,
                }
            }
            open.insert(number, handle);
        }
        let shared = Arc::clone(self);
        let spawned = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            // A client that breaks off is its own affair.
            match connection::serve(&mut stream, &shared.site, &shared.stopping) {
                Ok(()) | Err(_) => shared.forget(number),
            }
        });
        if spawned.is_err() {
            self.forget(number);
        }
    }

    fn forget(&self, number: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&number);
        self.closed.notify_all();
    }

    /// Waits until every connection has answered what it had received, or the time is up.
    fn finish(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.values() {
            // What has arrived can still be read; then comes the end (shutdown(2), tcp(7)). An
            // error says that the client is gone.
            match stream.shutdown(Shutdown::Read) {
                Ok(()) | Err(_) => {}
            }
        }
        let waited = self.closed.wait_timeout_while(open, FINISH_WITHIN, |open| !open.is_empty());
        drop(waited);
    }
}

/// Sets the connection up, and returns a second handle to it.
fn prepare(stream: &TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE_MAX))?;
    stream.set_write_timeout(Some(IDLE_MAX))?;
    stream.try_clone()
}
