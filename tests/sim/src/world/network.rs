//! The network: a link for each host, connections that break, are half open, or are slow.

use std::{collections::BTreeMap, time::Duration};

use cutover_agent_core::{SessionId as AgentSession, Welcome};
use cutover_common::{
    Assignment, EdgeRoutes, Report,
    wire::{Echo, FarewellReason, Heartbeat, Hello},
};
use cutover_coordinator_core::SessionId;

use crate::{
    dice::Dice,
    moment::Moment,
    script::{Direction, Network as Settings},
};

/// Names a connection for the whole run.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId(pub u32);

/// What an agent says.
#[derive(Clone, Debug)]
pub enum Up {
    Hello(Hello),
    Heartbeat(Heartbeat),
    Report(Report),
}

/// What a coordinator says.
#[derive(Clone, Debug)]
pub enum Down {
    Welcome(Welcome),
    Echo(Echo),
    Assignment(Box<Assignment>),
    EdgeRoutes(Box<EdgeRoutes>),
    Farewell(FarewellReason),
}

/// A message.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few of them are on their way at a time")]
pub enum Message {
    Up(Up),
    Down(Down),
}

/// One connection. Each side may think that it is open when the other does not.
#[derive(Debug)]
pub struct Connection {
    pub host: u16,
    pub coordinator: u16,
    /// Of this process of the agent, and of the coordinator.
    pub(super) host_epoch: u32,
    pub(super) site_epoch: u32,
    pub agent_session: AgentSession,
    pub session: Option<SessionId>,
    pub is_open_above: bool,
    pub is_open_below: bool,
    /// When the newest message of each direction arrives: TCP keeps their order.
    up_at: Moment,
    down_at: Moment,
    /// When the agent last heard something.
    pub(super) heard: Moment,
    /// What was on its way when the link let nothing through any more.
    pub(super) held_up: Vec<Message>,
    /// What was sent since, and waits.
    pub(super) unsent: Vec<Message>,
}

/// The link of one host.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// How many faults cut each direction at this moment.
    pub cuts_up: u32,
    pub cuts_down: u32,
    pub slow_us: u64,
    /// How often it was cut.
    pub cut_count: u32,
    /// The coordinator that its host reaches.
    pub coordinator: u16,
}

impl Link {
    /// Returns whether this direction lets nothing through.
    pub const fn is_cut(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.cuts_up > 0,
            Direction::Down => self.cuts_down > 0,
            Direction::Both => self.cuts_up > 0 || self.cuts_down > 0,
        }
    }

    pub(super) const fn cut(&mut self, direction: Direction) {
        if !matches!(direction, Direction::Down) {
            self.cuts_up += 1;
        }
        if !matches!(direction, Direction::Up) {
            self.cuts_down += 1;
        }
        self.cut_count += 1;
    }

    pub(super) const fn mend(&mut self, direction: Direction) {
        if !matches!(direction, Direction::Down) {
            self.cuts_up = self.cuts_up.saturating_sub(1);
        }
        if !matches!(direction, Direction::Up) {
            self.cuts_down = self.cuts_down.saturating_sub(1);
        }
    }
}

/// All of it.
#[derive(Debug)]
pub struct Network {
    pub settings: Settings,
    pub links: Vec<Link>,
    pub connections: BTreeMap<ConnectionId, Connection>,
    luck: Vec<Dice>,
    next: u32,
}

/// When a message arrives, and whether a copy of it does.
pub(super) struct Passage {
    pub(super) at: Moment,
    pub(super) again_at: Option<Moment>,
}

/// How long a lost packet takes to be sent again: TCP's smallest retransmission time on Linux.
const RETRANSMIT: Duration = Duration::from_millis(200);

/// How much later the next message of a stream comes at least: two of one moment would come in
/// either order.
pub(super) const NEXT: Duration = Duration::from_micros(1);

impl Network {
    pub(super) fn new(seed: u64, settings: Settings, hosts: u16) -> Self {
        Self {
            settings,
            links: vec![Link::default(); usize::from(hosts)],
            connections: BTreeMap::new(),
            luck: (0..hosts).map(|host| Dice::new(seed, ("link", host))).collect(),
            next: 0,
        }
    }

    /// Returns the link of a host.
    pub fn link(&self, host: u16) -> &Link {
        &self.links[usize::from(host)]
    }

    pub(super) fn link_mut(&mut self, host: u16) -> &mut Link {
        &mut self.links[usize::from(host)]
    }

    /// Returns how long one message takes on this host's link.
    pub(super) fn delay(&mut self, host: u16) -> Duration {
        let link = &self.links[usize::from(host)];
        let luck = &mut self.luck[usize::from(host)];
        let us = luck.between(self.settings.delay_min_us, self.settings.delay_max_us);
        let mut delay = Duration::from_micros(us + link.slow_us);
        let mut wait = RETRANSMIT;
        while luck.chance(self.settings.loss_permille) && wait < Duration::from_secs(4) {
            delay += wait;
            wait *= 2;
        }
        delay
    }

    pub(super) fn drops(&mut self, host: u16) -> bool {
        self.luck[usize::from(host)].chance(self.settings.drop_permille)
    }

    pub(super) fn connect(&mut self, connection: Connection) -> ConnectionId {
        self.next += 1;
        let id = ConnectionId(self.next);
        self.connections.insert(id, connection);
        id
    }

    /// Returns when `message`, sent now on `id`, arrives.
    pub(super) fn pass(
        &mut self,
        id: ConnectionId,
        message: &Message,
        now: Moment,
    ) -> Option<Passage> {
        let host = self.connections.get(&id)?.host;
        let delay = self.delay(host);
        let settings = self.settings;
        let luck = &mut self.luck[usize::from(host)];
        let connection = self.connections.get_mut(&id)?;
        let late = |luck: &mut Dice| Duration::from_millis(luck.between(1, settings.late_max_ms));
        match message {
            Message::Up(_) => {
                connection.up_at = (connection.up_at + NEXT).max(now + delay);
                Some(Passage { at: connection.up_at, again_at: None })
            }
            Message::Down(message) => {
                // Only what the protocol promises to bear: a goal or an echo at any time.
                let is_loose = matches!(message, Down::Assignment(_) | Down::Echo(_));
                if is_loose && luck.chance(settings.reorder_permille) {
                    return Some(Passage { at: now + delay + late(luck), again_at: None });
                }
                connection.down_at = (connection.down_at + NEXT).max(now + delay);
                let at = connection.down_at;
                let is_twice = is_loose && luck.chance(settings.duplicate_permille);
                Some(Passage { at, again_at: is_twice.then(|| at + late(luck)) })
            }
        }
    }

    /// Returns the connections of a host that somebody thinks to be open.
    pub fn of_host(&self, host: u16) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.connections
            .iter()
            .filter(move |(_, connection)| connection.host == host)
            .map(|(id, connection)| (*id, connection))
    }
}

impl Connection {
    pub(super) const fn new(
        host: u16,
        coordinator: u16,
        epochs: (u32, u32),
        agent_session: AgentSession,
        now: Moment,
    ) -> Self {
        Self {
            host,
            coordinator,
            host_epoch: epochs.0,
            site_epoch: epochs.1,
            agent_session,
            session: None,
            is_open_above: true,
            is_open_below: true,
            up_at: now,
            down_at: now,
            heard: now,
            held_up: Vec::new(),
            unsent: Vec::new(),
        }
    }
}
