//! Connections: dialled, used, broken, noticed to be broken.

use std::time::Duration;

use cutover_agent_core::{Input as AgentInput, SessionId as AgentSession};
use cutover_common::{
    Backoff,
    protocol::SILENCE_MAX,
    wire::{Echo, FarewellReason},
};
use cutover_coordinator_core::{Input, Request};

use super::{
    Happening, World,
    network::{Connection, ConnectionId, Down, Message, NEXT, Up},
};
use crate::{oracle::Seen, script::Direction, story, trace::Who};

/// As the agent's session dials again after a connection that could not be made or broke.
const REDIAL: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };
/// As it does after ALREADY_CONNECTED.
const REDIAL_BUSY: Backoff =
    Backoff { first: Duration::from_secs(3), longest: Duration::from_secs(30) };
/// As it does after an answer that a person must change.
const REDIAL_REFUSED: Backoff =
    Backoff { first: Duration::from_secs(15), longest: Duration::from_secs(300) };
/// How long a dial waits for an answer.
const DIAL_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection that is pinged lives without an answer: 5 s to the ping, 5 s for it.
const KEEPALIVE: Duration = Duration::from_secs(10);

impl World {
    /// An agent dials.
    pub(super) fn dials(&mut self, number: u16) {
        let now = self.now;
        let host = self.host(number);
        let epoch = host.epoch;
        let Some(agent) = &host.agent else { return };
        if agent.connection.is_some() {
            return;
        }
        if !host.agent_runs() {
            // It dials when it goes on.
            let at = now + Duration::from_secs(1);
            self.queue.push(at, Happening::Dials { number, epoch });
            return;
        }
        let coordinator = self.network.link(number).coordinator;
        if self.network.link(number).is_cut(Direction::Both) {
            self.redial(number, REDIAL, DIAL_WITHIN);
            return;
        }
        let way = self.network.delay(number) + self.network.delay(number);
        let host = self.host(number);
        let pass = (host.name.clone(), host.certificate.enrolment);
        let is_valid = host.certificate.not_after > now;
        let site = self.site(coordinator);
        match &site.process {
            Some(_) if site.paused_until.is_some() => self.redial(number, REDIAL, DIAL_WITHIN),
            None => self.redial(number, REDIAL, way),
            Some(process) if !is_valid || !process.admitted.contains(&pass) => {
                self.redial(number, REDIAL_REFUSED, way);
            }
            Some(_) => {
                let at = now + way;
                self.queue.push(at, Happening::Connected { number, epoch, coordinator });
            }
        }
    }

    fn redial(&mut self, number: u16, backoff: Backoff, after: Duration) {
        let now = self.now;
        let host = self.host_mut(number);
        let jitter = host.luck.jitter();
        let epoch = host.epoch;
        let Some(agent) = &mut host.agent else { return };
        agent.failures += 1;
        let wait = backoff.after(agent.failures, jitter);
        self.queue.push(now + after + wait, Happening::Dials { number, epoch });
    }

    /// A connection is there.
    pub(super) fn connected(&mut self, number: u16, epoch: u32, coordinator: u16) {
        let now = self.now;
        let site_epoch = self.site(coordinator).epoch;
        if self.site(coordinator).process.is_none() {
            self.redial(number, REDIAL, Duration::ZERO);
            return;
        }
        let host = self.host_mut(number);
        if host.epoch != epoch {
            return;
        }
        let Some(agent) = &mut host.agent else { return };
        agent.sessions += 1;
        let session = AgentSession(agent.sessions);
        let connection = Connection::new(number, coordinator, (epoch, site_epoch), session, now);
        let id = self.network.connect(connection);
        if let Some(agent) = &mut self.host_mut(number).agent {
            agent.connection = Some(id);
        }
        self.trace.mark(now, Who::Host(number), ("connected", coordinator));
        self.trace.tell(now, Who::Host(number), || match coordinator {
            0 => "is connected".to_owned(),
            _ => "is connected to the second coordinator".to_owned(),
        });
        self.queue.push(now + SILENCE_MAX, Happening::Silence { id });
        self.tell_agent(number, epoch, AgentInput::SessionOpened { session });
    }

    pub(super) fn send_up(&mut self, number: u16, session: AgentSession, up: Up) {
        let Some(id) = self.open_below(number, session) else { return };
        self.see(&Seen::Says { number, session, up: &up });
        if !matches!(up, Up::Hello(_)) && self.network.drops(number) {
            return;
        }
        self.send(id, Message::Up(up));
    }

    fn open_below(&self, number: u16, session: AgentSession) -> Option<ConnectionId> {
        let id = self.host(number).agent.as_ref()?.connection?;
        let connection = self.network.connections.get(&id)?;
        (connection.agent_session == session && connection.is_open_below).then_some(id)
    }

    /// Sends a message, or leaves it waiting where the link lets nothing through.
    pub(super) fn send(&mut self, id: ConnectionId, message: Message) {
        let now = self.now;
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        let host = connection.host;
        let direction = direction_of(&message);
        if self.network.link(host).is_cut(direction) {
            if let Some(connection) = self.network.connections.get_mut(&id) {
                connection.unsent.push(message);
            }
            return;
        }
        let Some(passage) = self.network.pass(id, &message, now) else { return };
        self.counts.messages += 1;
        if let Some(at) = passage.again_at {
            self.queue.push(at, Happening::Arrives { id, message: Box::new(message.clone()) });
        }
        self.queue.push(passage.at, Happening::Arrives { id, message: Box::new(message) });
    }

    /// A message is there.
    pub(super) fn arrives(&mut self, id: ConnectionId, message: Message) {
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        let host = connection.host;
        if self.network.links[usize::from(host)].is_cut(direction_of(&message)) {
            connection.held_up.push(message);
            return;
        }
        match message {
            Message::Up(up) => self.arrives_above(id, up),
            Message::Down(down) => self.arrives_below(id, down),
        }
    }

    fn arrives_above(&mut self, id: ConnectionId, up: Up) {
        let Some(connection) = self.network.connections.get(&id) else { return };
        let (host, number) = (connection.host, connection.coordinator);
        let is_same = connection.site_epoch == self.site(number).epoch;
        if !connection.is_open_above || !is_same {
            return;
        }
        let input = match (up, connection.session) {
            (Up::Hello(hello), None) => {
                let host = self.host(host);
                let (agent, enrolment) = (host.name.clone(), host.certificate.enrolment);
                let Some(process) = &mut self.site_mut(number).process else { return };
                let session = process.session();
                process.sessions.insert(session, id);
                if let Some(connection) = self.network.connections.get_mut(&id) {
                    connection.session = Some(session);
                }
                Input::SessionOpened { session, agent, enrolment, hello }
            }
            (Up::Heartbeat(heartbeat), Some(session)) => Input::Beat { session, heartbeat },
            (Up::Report(report), Some(session)) => Input::Reported { session, report },
            (Up::Hello(_), Some(_)) | (Up::Heartbeat(_) | Up::Report(_), None) => return,
        };
        self.tell_site(number, input);
    }

    fn arrives_below(&mut self, id: ConnectionId, down: Down) {
        let now = self.now;
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        if !connection.is_open_below {
            return;
        }
        connection.heard = now;
        let (host, epoch) = (connection.host, connection.host_epoch);
        let session = connection.agent_session;
        let input = match down {
            Down::Welcome(welcome) => {
                if let Some(agent) = &mut self.host_mut(host).agent {
                    agent.failures = 0;
                }
                AgentInput::Welcomed { session, welcome }
            }
            Down::Echo(Echo { nonce, compared }) => AgentInput::Echoed { session, nonce, compared },
            Down::Assignment(assignment) => AgentInput::Assigned { session, assignment },
            Down::EdgeRoutes(routes) => AgentInput::EdgeRouted { session, routes },
            Down::Farewell(reason) => {
                let backoff = match reason {
                    FarewellReason::AlreadyConnected => REDIAL_BUSY,
                    FarewellReason::ShuttingDown => REDIAL,
                    FarewellReason::ProtocolMismatch
                    | FarewellReason::Removed
                    | FarewellReason::BadMessage => REDIAL_REFUSED,
                };
                self.trace.tell(now, Who::Host(host), || {
                    format!("is sent away: {}", story::farewell(reason))
                });
                self.close_below(id, backoff);
                return;
            }
        };
        self.tell_agent(host, epoch, input);
    }

    /// The agent's side ends the connection, and dials again later.
    pub(super) fn close_below(&mut self, id: ConnectionId, backoff: Backoff) {
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        if !std::mem::replace(&mut connection.is_open_below, false) {
            return;
        }
        let (number, epoch) = (connection.host, connection.host_epoch);
        let session = connection.agent_session;
        if self.host(number).epoch == epoch {
            if let Some(agent) = &mut self.host_mut(number).agent {
                agent.connection = None;
            }
            self.tell_agent(number, epoch, AgentInput::SessionEnded { session });
            self.redial(number, backoff, Duration::ZERO);
        }
        self.tell_closed_above(id);
    }

    /// The agent may not obey the coordinator of this session.
    pub(super) fn refuse_below(&mut self, number: u16, session: AgentSession) {
        if let Some(id) = self.open_below(number, session) {
            self.close_below(id, REDIAL_REFUSED);
        }
    }

    /// The end of a connection is on its way to the coordinator, if the link lets it through.
    fn tell_closed_above(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connections.get(&id) else { return };
        let host = connection.host;
        if self.network.link(host).is_cut(Direction::Up) {
            return;
        }
        let at = self.now + self.network.delay(host);
        self.queue.push(at, Happening::ClosedAbove { id });
    }

    /// The end of a connection is on its way to the agent, if the link lets it through.
    pub(super) fn tell_closed_below(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connections.get(&id) else { return };
        let host = connection.host;
        if self.network.link(host).is_cut(Direction::Down) {
            return;
        }
        let at = self.now + self.network.delay(host);
        self.queue.push(at, Happening::ClosedBelow { id });
    }

    /// The coordinator notices that a connection is gone.
    pub(super) fn closed_above(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        connection.is_open_above = false;
        let (number, epoch) = (connection.coordinator, connection.site_epoch);
        if let Some(session) = connection.session.take()
            && self.site(number).epoch == epoch
        {
            if let Some(process) = &mut self.site_mut(number).process {
                process.sessions.remove(&session);
            }
            self.tell_site(number, Input::SessionClosed { session });
        }
        self.forget_if_closed(id);
    }

    /// The agent notices that a connection is gone.
    pub(super) fn closed_below(&mut self, id: ConnectionId) {
        self.close_below(id, REDIAL);
        self.forget_if_closed(id);
    }

    fn forget_if_closed(&mut self, id: ConnectionId) {
        let is_closed = self
            .network
            .connections
            .get(&id)
            .is_some_and(|connection| !connection.is_open_above && !connection.is_open_below);
        if is_closed {
            self.network.connections.remove(&id);
        }
    }

    /// Both sides lose a connection at once.
    pub(super) fn severed(&mut self, id: ConnectionId) {
        self.closed_above(id);
        self.closed_below(id);
    }

    /// Looks whether a coordinator has been silent for too long.
    pub(super) fn silence(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.network.connections.get(&id) else { return };
        if !connection.is_open_below {
            return;
        }
        let due = connection.heard + SILENCE_MAX;
        let host = connection.host;
        if due > now || !self.host(host).agent_runs() {
            let at = due.max(now + Duration::from_secs(1));
            self.queue.push(at, Happening::Silence { id });
        } else {
            self.trace.tell(now, Who::Host(host), || "the coordinator is silent".to_owned());
            self.close_below(id, REDIAL);
        }
    }

    /// A host loses its agent: the kernel ends its connections, unless the host itself is gone.
    pub(super) fn close_all_of_host(&mut self, number: u16, is_told: bool) {
        let ids: Vec<ConnectionId> = self.network.of_host(number).map(|(id, _)| id).collect();
        for id in ids {
            if let Some(connection) = self.network.connections.get_mut(&id) {
                connection.is_open_below = false;
            }
            if is_told {
                self.tell_closed_above(id);
            }
        }
    }

    /// A coordinator's process is gone: the kernel ends its connections.
    pub(super) fn close_all_of_site(&mut self, number: u16) {
        let of_site = |(_, connection): &(&ConnectionId, &Connection)| {
            connection.coordinator == number && connection.is_open_above
        };
        let ids: Vec<ConnectionId> =
            self.network.connections.iter().filter(of_site).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(connection) = self.network.connections.get_mut(&id) {
                connection.is_open_above = false;
                connection.session = None;
            }
            self.tell_closed_below(id);
        }
    }

    /// A link lets nothing through from here on.
    pub(super) fn cut_link(&mut self, host: u16, direction: Direction, for_ms: u64) {
        self.network.link_mut(host).cut(direction);
        let cut = self.network.link(host).cut_count;
        let until = self.now + Duration::from_millis(for_ms);
        self.queue.push(until, Happening::LinkMended { host, direction });
        if self.script.network.keepalive {
            self.queue.push(self.now + KEEPALIVE, Happening::KeepaliveEnds { host, cut });
        }
    }

    /// A link has let no ping through for too long: both sides end their connections.
    pub(super) fn keepalive_ends(&mut self, host: u16, cut: u32) {
        let link = self.network.link(host);
        if link.cut_count != cut || !link.is_cut(Direction::Both) {
            return;
        }
        let ids: Vec<ConnectionId> = self.network.of_host(host).map(|(id, _)| id).collect();
        for id in ids {
            self.severed(id);
        }
    }

    /// A link lets messages through again: TCP sends again what is waiting.
    pub(super) fn link_mended(&mut self, host: u16, direction: Direction) {
        self.network.link_mut(host).mend(direction);
        let ids: Vec<ConnectionId> = self.network.of_host(host).map(|(id, _)| id).collect();
        for id in ids {
            let Some(connection) = self.network.connections.get_mut(&id) else { continue };
            let (open_above, open_below) = (connection.is_open_above, connection.is_open_below);
            let (held_up, unsent) =
                (std::mem::take(&mut connection.held_up), std::mem::take(&mut connection.unsent));
            // What was on its way is there before anything that follows it.
            let mut at = self.now;
            for message in held_up {
                self.queue.push(at, Happening::Arrives { id, message: Box::new(message) });
                at = at + NEXT;
            }
            for message in unsent {
                self.send(id, message);
            }
            // A side that closed while nothing could pass is heard of now.
            if !open_below {
                self.tell_closed_above(id);
            }
            if !open_above {
                self.tell_closed_below(id);
            }
        }
    }

    /// An agent's certificate is at half its life.
    pub(super) fn renews(&mut self, number: u16, serial: u32) {
        let now = self.now;
        let host = self.host(number);
        if host.certificate.serial != serial || host.certificate.not_after <= now {
            return;
        }
        let again = now + Duration::from_millis(self.script.settings.certificate_ms / 10);
        self.queue.push(again, Happening::Renews { number, serial });
        let host = self.host(number);
        let is_connected = host.agent_runs()
            && host.agent.as_ref().is_some_and(|agent| agent.connection.is_some());
        if is_connected && !self.network.link(number).is_cut(Direction::Both) {
            let agent = host.name.clone();
            let enrolment = host.certificate.enrolment;
            let coordinator = self.network.link(number).coordinator;
            if coordinator == 0 {
                self.ask(Request::Renew { agent, enrolment }, Some((number, serial)));
            }
        }
    }

    /// A certificate has come to its end: so do the connections that were opened with it.
    pub(super) fn certificate_ends(&mut self, number: u16, serial: u32) {
        if self.host(number).certificate.serial != serial {
            return;
        }
        self.trace.tell(self.now, Who::Host(number), || "its certificate has ended".to_owned());
        let ids: Vec<ConnectionId> = self.network.of_host(number).map(|(id, _)| id).collect();
        for id in ids {
            self.severed(id);
        }
    }

    /// A host has a new certificate.
    pub(super) fn certified(&mut self, number: u16, after: u32, enrolment: uuid::Uuid) {
        let life = Duration::from_millis(self.script.settings.certificate_ms);
        let now = self.now;
        let certificate = &mut self.host_mut(number).certificate;
        if certificate.serial != after {
            return;
        }
        certificate.serial += 1;
        certificate.enrolment = enrolment;
        certificate.not_after = now + life;
        let serial = certificate.serial;
        self.queue.push(now + life / 2, Happening::Renews { number, serial });
        self.queue.push(now + life, Happening::CertificateEnds { number, serial });
    }
}

const fn direction_of(message: &Message) -> Direction {
    match message {
        Message::Up(_) => Direction::Up,
        Message::Down(_) => Direction::Down,
    }
}
