//! Hosts in network namespaces of their own, on a switch that leads nowhere else: a cable that is
//! pulled is a real one, for the kernel's TCP, its routes and its neighbours too, and a host goes on
//! without it.
//!
//! Namespaces have no names: each is there as long as this process has it open, or some process is in
//! it, so that nothing is left of one that is killed. The machine's own network is not touched.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{ran::run, wait_for};

/// How long the kernel may take to make a namespace, on a machine that is busy.
const MADE_WITHIN: Duration = Duration::from_secs(60);

/// The network that all hosts of a switch are in. Other switches' may be the same: they never meet.
const NETWORK: [u8; 3] = [10, 77, 0];

/// What a host calls its end of the cable.
const HOST_END: &str = "eth0";

/// A network namespace.
#[derive(Debug)]
struct Namespace(File);

/// What the cables of all hosts end in. Its own namespace has an address on it, number 1.
#[derive(Debug)]
pub(super) struct Switch(Arc<Namespace>);

/// A host's cable to its switch, and the host's namespace.
#[derive(Debug)]
pub(super) struct Cable {
    switch: Arc<Namespace>,
    switch_end: String,
    host: Namespace,
}

/// Returns whether namespaces can be made here.
///
/// # Errors
///
/// Says why not.
pub fn can_make_namespaces() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces can be made by root only".to_owned());
    }
    for (program, package) in [("ip", "iproute2"), ("unshare", "util-linux")] {
        if super::program_on_path(program).is_none() {
            return Err(format!("there is no {program} ({package}); run: tests/setup.sh test"));
        }
    }
    // What a switch and a cable are made of. Both are gone with the shell.
    let made = "ip link add switch type bridge && ip link add name a-1 type veth peer name a-2";
    let tried = run(Command::new("unshare").args(["--net", "sh", "-c", made]));
    if tried.status != 0 {
        return Err(format!("no network namespace can be made here: {}", tried.stderr.trim()));
    }
    Ok(())
}

impl Namespace {
    /// Makes one in which nothing is up but the loopback.
    fn new() -> Self {
        let own = fs::read_link("/proc/thread-self/ns/net").expect("we are in one");
        // It waits for the end of its input, and so for us: until we have the namespace open.
        let mut keeper = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare can be started");
        let path = format!("/proc/{}/ns/net", keeper.id());
        let file = wait_for("a network namespace", MADE_WITHIN, || {
            // What was opened, and not what there is: it changes from one moment to the next.
            let file = File::open(&path).ok()?;
            let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
            (opened != own).then_some(file)
        });
        drop(keeper.stdin.take());
        keeper.wait().expect("our own child can be waited for");
        let namespace = Self(file);
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Returns what others know it by, as long as we have it open.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Makes this thread, and whatever it starts from now on, be in it.
    fn enter(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter a namespace");
    }

    /// Does `work` in a thread that is in it.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let entered = || {
            self.enter();
            work()
        };
        match thread::scope(|scope| scope.spawn(entered).join()) {
            Ok(done) => done,
            Err(panicked) => std::panic::resume_unwind(panicked),
        }
    }

    /// Gives a device of it an address, and brings it up.
    fn give(&self, device: &str, address: Ipv4Addr) {
        self.ip(&["address", "add", &format!("{address}/24"), "dev", device]);
        self.ip(&["link", "set", "dev", device, "up"]);
    }

    fn ip(&self, args: &[&str]) {
        self.inside(|| run(Command::new("ip").args(args))).done();
    }
}

impl Switch {
    /// Makes one.
    ///
    /// # Panics
    ///
    /// When the system does not let us.
    pub(super) fn new() -> Self {
        let namespace = Namespace::new();
        namespace.ip(&["link", "add", "switch", "type", "bridge"]);
        namespace.give("switch", Self::address(1));
        Self(Arc::new(namespace))
    }

    /// Returns the address of number `number` of its network.
    pub(super) const fn address(number: u8) -> Ipv4Addr {
        let [a, b, c] = NETWORK;
        Ipv4Addr::new(a, b, c, number)
    }

    /// Makes this thread, and whatever it starts from now on, be where the switch is.
    ///
    /// # Panics
    ///
    /// When the system does not let us.
    pub(super) fn enter(&self) {
        self.0.enter();
    }

    /// Makes a host with the address of number `number`, and plugs it in.
    ///
    /// # Panics
    ///
    /// When the system does not let us.
    pub(super) fn add_host(&self, number: u8) -> Cable {
        let (host, switch_end) = (Namespace::new(), format!("host-{number}"));
        let other_end = ["peer", "name", HOST_END, "netns", &host.path()];
        let cable = [&["link", "add", "name", &switch_end, "type", "veth"][..], &other_end];
        self.0.ip(&cable.concat());
        self.0.ip(&["link", "set", "dev", &switch_end, "master", "switch", "up"]);
        host.give(HOST_END, Self::address(number));
        Cable { switch: Arc::clone(&self.0), switch_end, host }
    }
}

impl Cable {
    /// Pulls it out of the switch. What was sent is lost, and nobody is told.
    ///
    /// # Panics
    ///
    /// When the system does not let us.
    pub(super) fn pull(&self) {
        self.switch.ip(&["link", "set", "dev", &self.switch_end, "down"]);
    }

    /// Plugs it in again.
    ///
    /// # Panics
    ///
    /// When the system does not let us.
    pub(super) fn plug_in(&self) {
        self.switch.ip(&["link", "set", "dev", &self.switch_end, "up"]);
    }

    /// Does `work` on the host. What it starts, threads too, stays there.
    pub(super) fn on_the_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.host.inside(work)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _, Write as _},
        net::{SocketAddr, TcpListener, TcpStream},
    };

    use super::*;
    use crate::live::say;

    /// Long enough for what comes to come, on a machine that is busy.
    const COMES_WITHIN: Duration = Duration::from_secs(60);

    /// A connection over a cable: the cable, its end on the host and the one at the switch.
    fn connected() -> (Switch, Cable, TcpStream, TcpStream) {
        let switch = Switch::new();
        switch.enter();
        let cable = switch.add_host(11);
        let listener = TcpListener::bind(SocketAddr::from((Switch::address(1), 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let there = cable.on_the_host(|| TcpStream::connect_timeout(&address, COMES_WITHIN));
        let (there, (here, from)) = (there.unwrap(), listener.accept().unwrap());
        assert_eq!(from.ip(), Switch::address(11));
        there.set_read_timeout(Some(COMES_WITHIN)).unwrap();
        (switch, cable, there, here)
    }

    #[test]
    fn a_host_whose_cable_is_pulled_hears_nothing_serves_itself_and_hears_all_when_it_is_back() {
        if let Err(why) = can_make_namespaces() {
            say(&format!("skipped: {why}"));
            return;
        }
        let (_switch, cable, mut there, mut here) = connected();

        cable.pull();
        wait_for("the host's end to be without a carrier", COMES_WITHIN, || {
            let shown =
                cable.on_the_host(|| run(Command::new("ip").args(["link", "show", HOST_END])));
            shown.done().contains("NO-CARRIER").then_some(())
        });
        here.write_all(b"a").unwrap();
        there.set_nonblocking(true).unwrap();
        assert_eq!(there.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        there.set_nonblocking(false).unwrap();
        cable.on_the_host(|| {
            let own = TcpListener::bind(SocketAddr::from((Switch::address(11), 0))).unwrap();
            let address = own.local_addr().unwrap();
            TcpStream::connect_timeout(&address, COMES_WITHIN).unwrap();
        });

        cable.plug_in();
        let mut byte = [0];
        there.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"a");
    }
}
