//! A process that is handed what another one serves: nobody is lost when it does not take over.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use cutover_gate::daemon::SOCKET_FILE;
use rustix::{
    cmsg_space,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use serde_json::json;

use crate::{
    process::{Ours, command, own_address, start},
    support::PATIENCE,
};

/// A process that serves, played by a test as far as to hand everything over.
struct Old {
    dir: tempfile::TempDir,
    control: UnixListener,
    sockets: Vec<TcpListener>,
}

impl Old {
    fn that_serves(services: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("gate");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        let control = UnixListener::bind(data.join(SOCKET_FILE)).unwrap();
        let sockets = (0..services).map(|_| {
            let socket = TcpListener::bind(own_address()).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        Self { sockets: sockets.collect(), dir, control }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("gate")
    }

    /// Hands everything to the process that asks for it.
    fn hand_over(&self) -> BufReader<UnixStream> {
        let (stream, _) = self.control.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = BufReader::new(stream);
        let mut asked = String::new();
        stream.read_line(&mut asked).unwrap();
        assert_eq!(asked, "\"take_over\"\n");
        let lock = File::create(self.data().join("gate.lock")).unwrap();
        let own = [lock.as_fd(), self.control.as_fd()];
        let all: Vec<BorrowedFd<'_>> =
            own.into_iter().chain(self.sockets.iter().map(|it| it.as_fd())).collect();
        let chunks = all.chunks(64);
        let last = chunks.len() - 1;
        for (number, chunk) in chunks.enumerate() {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(64))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(chunk)));
            let mark = [if number == last { 2 } else { 1 }];
            sendmsg(stream.get_ref(), &[IoSlice::new(&mark)], &mut ancillary, SendFlags::NOSIGNAL)
                .unwrap();
        }
        let listens: Vec<_> = self.sockets.iter().map(|it| it.local_addr().unwrap()).collect();
        let name = |number| format!("shop-{number}");
        let services = listens.iter().enumerate().map(|(number, listen)| {
            json!({
                "application": name(number), "listen": listen, "protocol": "http",
                "route": { "flow": "open", "upstreams": [] },
            })
        });
        let states = listens.iter().enumerate().map(|(number, listen)| {
            json!({
                "application": name(number), "listen": listen, "connections": 0, "held": 0,
                "upstreams": [],
            })
        });
        let (services, states): (Vec<_>, Vec<_>) = (services.collect(), states.collect());
        let id = uuid::Uuid::new_v4();
        let handed = json!({
            "listens": listens,
            "program": { "revision": 1, "services": services },
            "process": id,
            "state": { "gate": id, "revision": 1, "services": states },
            "before": [],
        });
        writeln!(stream.get_mut(), "{handed}").unwrap();
        stream
    }
}

/// Returns what it says of that, where somebody listens.
fn ends_without_success(mut new: Ours) -> String {
    let begin = Instant::now();
    while new.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < PATIENCE, "it never ends");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!new.wait().unwrap().success());
    let mut said = String::new();
    if let Some(errors) = &mut new.stderr {
        errors.read_to_string(&mut said).unwrap();
    }
    said
}

#[test]
fn who_connects_before_it_has_taken_over_is_the_old_one_s() {
    let old = Old::that_serves(1);
    let new = start(&mut command(&old.dir, &["--take-over"]));
    let mut stream = old.hand_over();
    let mut said = String::new();
    stream.read_line(&mut said).unwrap();
    assert_eq!(said, "serving\n");

    let socket = &old.sockets[0];
    for _ in 0..100 {
        let _client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        let begin = Instant::now();
        while socket.accept().is_err() {
            assert!(begin.elapsed() < PATIENCE, "the new one has it");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    // It has changed its mind, and goes on.
    drop(stream);
    ends_without_success(new);
}

#[test]
fn one_that_lacks_descriptors_for_all_sockets_serves_none() {
    let old = Old::that_serves(100);
    let take_over = command(&old.dir, &["--take-over"]);
    let mut limited = Command::new("sh");
    // More than all that it is handed, and less than that once more for each of two cores.
    limited.args(["-c", "ulimit -n 180; exec \"$0\" \"$@\""]);
    limited.arg(take_over.get_program()).args(take_over.get_args()).stdout(Stdio::null());
    let new = start(limited.stderr(Stdio::piped()));

    let mut said = Vec::new();
    drop(old.hand_over().read_to_end(&mut said));

    assert_eq!(String::from_utf8_lossy(&said), "");
    let why = ends_without_success(new);
    assert!(why.contains("would be served no more, as nothing can listen on"), "{why}");
}
