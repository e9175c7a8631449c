//! A wire between an agent and its coordinator that can be cut: what was sent stays under way, as
//! on a network without a path, and neither end is told. Unlike one that is frozen, an agent whose
//! wire is cut goes on with all that it does by itself.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

/// Carries connections from an address of its own to the coordinator, until it is dropped.
#[derive(Debug)]
pub(super) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_cut: bool,
    is_over: bool,
    /// Both ends of each connection, to end those that carry them.
    ends: Vec<TcpStream>,
}

impl Wire {
    /// Begins to carry what comes to a port of the loopback to `coordinator`.
    ///
    /// # Panics
    ///
    /// When there is no port.
    pub(super) fn to(coordinator: SocketAddr) -> Self {
        // The address that the coordinator's certificate is for.
        let listener = TcpListener::bind((coordinator.ip(), 0)).expect("the loopback has a port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared::default());
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, coordinator, &shared)
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Returns where the agent's end is.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Carries nothing from now on, in either direction.
    pub(super) fn cut(&self) {
        self.shared.state().is_cut = true;
    }

    /// Carries again, beginning with what was under way.
    pub(super) fn mend(&self) {
        self.shared.state().is_cut = false;
        self.shared.changed.notify_all();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let ends = {
            let mut state = self.shared.state();
            state.is_over = true;
            std::mem::take(&mut state.ends)
        };
        self.shared.changed.notify_all();
        for end in ends {
            // One that its peer has closed is ended already.
            drop(end.shutdown(Shutdown::Both));
        }
        // Wakes who accepts.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as the wire is cut, and returns whether it is there.
    fn is_there(&self) -> bool {
        let waits = |state: &mut State| state.is_cut && !state.is_over;
        let state = self.changed.wait_while(self.state(), waits);
        !state.unwrap_or_else(PoisonError::into_inner).is_over
    }

    /// Notes the ends of a connection, and returns whether it is to be carried.
    fn note(&self, ends: [TcpStream; 2]) -> bool {
        let mut state = self.state();
        state.ends.extend(ends);
        !state.is_over
    }
}

fn accept(listener: &TcpListener, coordinator: SocketAddr, shared: &Arc<Shared>) {
    let mut carriers = Vec::new();
    while let Ok((agent, _)) = listener.accept() {
        if shared.state().is_over {
            break;
        }
        let shared = Arc::clone(shared);
        carriers.push(thread::spawn(move || carry(&agent, coordinator, &shared)));
    }
    for carrier in carriers {
        // One that panicked has said so.
        drop(carrier.join());
    }
}

/// Carries one connection to its end. A coordinator that is not there is seen as on any network:
/// the connection ends.
fn carry(agent: &TcpStream, coordinator: SocketAddr, shared: &Shared) {
    if !shared.is_there() {
        return;
    }
    let Ok(coordinator) = TcpStream::connect(coordinator) else { return };
    let ends = agent.try_clone().and_then(|agent| Ok([agent, coordinator.try_clone()?]));
    if !ends.is_ok_and(|ends| shared.note(ends)) {
        return;
    }
    thread::scope(|scope| {
        scope.spawn(|| pass(agent, &coordinator, shared));
        pass(&coordinator, agent, shared);
    });
}

/// Passes on what comes from `from`, and its end.
fn pass(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared) {
    let mut chunk = [0; 16 * 1024];
    loop {
        let count = from.read(&mut chunk).unwrap_or(0);
        if !shared.is_there() || count == 0 || to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    // A reset and an end look the same to the other side: both of its directions are over.
    for end in [from, to] {
        drop(end.shutdown(Shutdown::Both));
    }
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, time::Duration};

    use super::*;

    /// Long enough for what comes to come, on a machine that is busy.
    const COMES_WITHIN: Duration = Duration::from_secs(20);

    /// A wire with a connection through it: the agent's end and the coordinator's.
    fn connected() -> (Wire, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Wire::to(listener.local_addr().unwrap());
        let agent = TcpStream::connect(wire.address()).unwrap();
        let (coordinator, _) = listener.accept().unwrap();
        for end in [&agent, &coordinator] {
            end.set_read_timeout(Some(COMES_WITHIN)).unwrap();
        }
        (wire, agent, coordinator)
    }

    fn hears(mut end: &TcpStream) -> u8 {
        let mut byte = [0];
        end.read_exact(&mut byte).unwrap();
        byte[0]
    }

    #[test]
    fn a_cut_wire_keeps_what_is_sent_and_delivers_it_when_it_is_mended() {
        let (wire, mut agent, mut coordinator) = connected();
        agent.write_all(b"a").unwrap();
        assert_eq!(hears(&coordinator), b'a');

        wire.cut();
        agent.write_all(b"b").unwrap();
        coordinator.write_all(b"c").unwrap();
        coordinator.set_nonblocking(true).unwrap();
        assert_eq!(coordinator.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        coordinator.set_nonblocking(false).unwrap();

        wire.mend();
        assert_eq!((hears(&coordinator), hears(&agent)), (b'b', b'c'));
    }

    #[test]
    fn an_end_is_passed_on_and_a_wire_that_is_dropped_ends_what_it_carried() {
        let (wire, agent, mut coordinator) = connected();
        drop(agent);
        assert_eq!(coordinator.read(&mut [0]).unwrap(), 0);
        drop(wire);

        let (wire, mut agent, _coordinator) = connected();
        wire.cut();
        drop(wire);
        assert_eq!(agent.read(&mut [0]).unwrap(), 0);
    }
}
