//! The side of the process that is taken over from.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Handed, LEFT, SERVING, descriptors, socket_of};
use crate::{
    control::Server,
    duty::{Duty, Left},
};

/// How long the new process may take until it accepts clients. Programs wait as long.
const SERVING_WITHIN: Duration = Duration::from_secs(10);

/// Hands everything over to whoever asked for it at the control socket, and leaves. When that does
/// not happen, all is as before.
///
/// # Errors
///
/// When the other process does not get as far as to accept clients.
pub(crate) async fn hand_over(
    stream: tokio::net::UnixStream,
    duty: Arc<Mutex<Duty>>,
) -> io::Result<()> {
    let held = Arc::clone(&duty).lock_owned().await;
    if held.has_left() {
        // Another one was faster. This one asks it when the connection is closed.
        return Ok(());
    }
    // There before anybody can ask for it.
    let path = socket_of(held.data(), held.process());
    let server = Server::open_leaving(&path, duty).map_err(io::Error::other)?;
    let stream = stream.into_std()?;
    let given = tokio::task::spawn_blocking(move || give(stream, held)).await;
    match given.map_err(io::Error::other).flatten() {
        Ok(mut held) => {
            tracing::info!("another process has taken over; what is under way ends here");
            held.leave(Left { server, path });
            Ok(())
        }
        Err(error) => {
            drop(std::fs::remove_file(&path));
            Err(error)
        }
    }
}

fn give(mut stream: UnixStream, duty: OwnedMutexGuard<Duty>) -> io::Result<OwnedMutexGuard<Duty>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SERVING_WITHIN))?;
    stream.set_write_timeout(Some(SERVING_WITHIN))?;
    let post = duty.post().ok_or(io::ErrorKind::NotConnected)?;
    let own = [post.lock.as_fd(), post.control.as_fd()];
    let sockets = duty.sockets();
    let all: Vec<BorrowedFd<'_>> =
        own.into_iter().chain(sockets.iter().map(|(_, socket)| *socket)).collect();
    descriptors::send(&stream, &all)?;
    let handed = Handed {
        listens: sockets.iter().map(|(address, _)| *address).collect(),
        program: duty.program().cloned(),
        as_they_were: duty.as_they_were(),
        process: duty.process(),
        state: duty.own_state(),
        before: duty.before(),
    };
    let mut line = serde_json::to_vec(&handed)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut said = String::new();
    BufReader::new(&stream).take(SERVING.len() as u64).read_line(&mut said)?;
    if said != SERVING {
        return Err(io::Error::other("the process that was to take over ended before it served"));
    }
    // From here on it is done, whether or not this is heard.
    if let Err(error) = stream.write_all(LEFT.as_bytes()) {
        tracing::debug!(%error, "the process that took over did not hear that it has");
    }
    Ok(duty)
}
