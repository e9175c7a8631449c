//! A site: the machine of one coordinator, with its store and its process. The loop is the one of
//! the daemon's engine: drain, decide, store with one flush, perform.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cutover_common::{AgentName, wire::Echo};
use cutover_coordinator_core::{
    Action, Coordinator, Event, EventKind, Input, SessionId, Step, codec, event::Change,
    input::ReplyId,
};
use uuid::Uuid;

use super::{
    Happening, World,
    clock::{ProcessClock, Wall},
    network::{ConnectionId, Down, Message},
    operator::CallId,
};
use crate::{dice::Dice, moment::Moment, oracle::Seen, script::KillPoint, story, trace::Who};

/// What is durable of a coordinator.
#[derive(Clone, Debug, Default)]
pub struct Store {
    pub incarnation: Uuid,
    pub records: Vec<Vec<u8>>,
}

/// A machine with a coordinator.
#[derive(Debug)]
pub struct Site {
    pub number: u16,
    pub store: Store,
    pub wall: Wall,
    pub epoch: u32,
    pub process: Option<SiteProcess>,
    pub paused_until: Option<Moment>,
    /// Never started again.
    pub is_gone: bool,
    pub(super) sync_slow_us: Option<u64>,
    pub(super) kill_at: Option<(KillPoint, u64)>,
    pub(super) fails_next: Option<u64>,
    pub luck: Dice,
}

/// A running coordinator.
#[derive(Debug)]
pub struct SiteProcess {
    pub core: Coordinator,
    pub boot_nonce: Uuid,
    pub clock: ProcessClock,
    pub inbox: VecDeque<Input>,
    storing: Option<Storing>,
    is_woken: bool,
    wakes_at: Option<Moment>,
    pub sessions: BTreeMap<SessionId, ConnectionId>,
    pub replies: BTreeMap<ReplyId, CallId>,
    pub admitted: BTreeSet<(AgentName, Uuid)>,
    next_session: u64,
    next_reply: u64,
    /// How often the metrics server was asked what fails at first.
    pub(super) blips: u32,
}

/// What a flush is under way for.
#[derive(Debug)]
struct Storing {
    appends: Vec<Vec<Vec<u8>>>,
    events: Vec<Event>,
    actions: Vec<Action>,
}

impl Site {
    pub(super) fn new(number: u16, seed: u64, store: Store) -> Self {
        Self {
            number,
            store,
            wall: Wall::default(),
            epoch: 0,
            process: None,
            paused_until: None,
            is_gone: false,
            sync_slow_us: None,
            kill_at: None,
            fails_next: None,
            luck: Dice::new(seed, ("site", number)),
        }
    }

    /// Returns whether its process can do something at this moment.
    pub const fn runs(&self) -> bool {
        self.process.is_some() && self.paused_until.is_none()
    }

    /// Makes a core of what is stored.
    pub fn replay(&self) -> Coordinator {
        let mut core = Coordinator::default();
        for record in &self.store.records {
            let event = codec::decode(record).expect("the store holds what was encoded");
            core.apply(&event).expect("the store holds what was decided");
        }
        core
    }
}

impl SiteProcess {
    /// Returns whether a flush is under way: memory is ahead of the store then.
    pub const fn is_storing(&self) -> bool {
        self.storing.is_some()
    }

    /// Returns a name for a call that waits for an answer.
    pub(super) const fn reply(&mut self) -> ReplyId {
        self.next_reply += 1;
        ReplyId(self.next_reply)
    }

    /// Returns a name for a session.
    pub(super) const fn session(&mut self) -> SessionId {
        self.next_session += 1;
        SessionId(self.next_session)
    }
}

impl World {
    /// Starts a coordinator's process.
    pub(super) fn start_site(&mut self, number: u16) {
        let now = self.now;
        let site = self.site_mut(number);
        if site.is_gone || site.process.is_some() {
            return;
        }
        site.epoch += 1;
        let core = site.replay();
        let clock = ProcessClock::start(site.wall, now, core.last_event());
        let boot_nonce = site.luck.uuid();
        let sources = BTreeSet::from(["main".parse().expect("this is a name")]);
        site.process = Some(SiteProcess {
            core,
            boot_nonce,
            clock,
            inbox: VecDeque::from([Input::Started { boot_nonce }, Input::SourcesNamed { sources }]),
            blips: 0,
            storing: None,
            is_woken: false,
            wakes_at: None,
            sessions: BTreeMap::new(),
            replies: BTreeMap::new(),
            admitted: BTreeSet::new(),
            next_session: 0,
            next_reply: 0,
        });
        self.trace.tell(now, Who::Coordinator(number), || "starts".to_owned());
        self.see(&Seen::SiteStarted { number });
        self.wake_site(number);
    }

    /// Gives a coordinator an input.
    pub(super) fn tell_site(&mut self, number: u16, input: Input) {
        if let Some(process) = &mut self.site_mut(number).process {
            process.inbox.push_back(input);
            self.wake_site(number);
        }
    }

    fn wake_site(&mut self, number: u16) {
        let now = self.now;
        let site = self.site_mut(number);
        let (is_paused, epoch) = (site.paused_until.is_some(), site.epoch);
        let Some(process) = &mut site.process else { return };
        if is_paused || process.is_woken || process.storing.is_some() {
            return;
        }
        process.is_woken = true;
        self.queue.push(now, Happening::SiteTakes { number, epoch });
    }

    /// Goes on after a pause.
    pub(super) fn resume_site(&mut self, number: u16) {
        self.site_mut(number).paused_until = None;
        if let Some(process) = &mut self.site_mut(number).process {
            process.is_woken = false;
            process.wakes_at = None;
            let is_storing = process.storing.is_some();
            let epoch = self.site(number).epoch;
            if is_storing {
                self.queue.push(self.now, Happening::SiteStored { number, epoch });
            }
            self.tell_site(number, Input::Tick);
        }
    }

    /// Takes the inputs that wait.
    pub(super) fn site_takes(&mut self, number: u16) {
        let now = self.now;
        let batch_max = self.script.settings.coordinator_batch_max;
        let site = self.site_mut(number);
        if !site.runs() {
            return;
        }
        let Some(mut process) = site.process.take() else { return };
        process.is_woken = false;
        let mut steps = Vec::new();
        while steps.len() < batch_max
            && let Some(input) = process.inbox.pop_front()
        {
            self.counts.inputs += 1;
            self.trace.mark(now, Who::Coordinator(number), std::mem::discriminant(&input));
            let is_timed = matches!(input, Input::Tick);
            self.see(&Seen::SiteTakes { number, input: &input });
            let step = process.core.handle(process.clock.at(now), input);
            // What is judged is the core as it is after this very input.
            self.site_mut(number).process = Some(process);
            self.see(&Seen::SiteStepped { number, step: &step, is_timed });
            let Some(back) = self.site_mut(number).process.take() else { return };
            process = back;
            steps.push(step);
        }
        self.site_mut(number).process = Some(process);
        self.finish_site(number, &steps);
    }

    fn finish_site(&mut self, number: u16, steps: &[Step]) {
        let now = self.now;
        let events: Vec<Event> = steps.iter().flat_map(|step| step.events.clone()).collect();
        let actions: Vec<Action> = steps.iter().flat_map(|step| step.actions.clone()).collect();
        if events.is_empty() {
            self.perform_site(number, actions, None);
            self.sleep_site(number);
            return;
        }
        let appends = codec::appends(steps, self.script.disks.append_bytes_max);
        for append in &appends {
            self.trace.mark(now, Who::Coordinator(number), append);
        }
        self.tell_events(number, &events);
        let sync = self.site_sync(number, appends.len());
        let site = self.site_mut(number);
        let epoch = site.epoch;
        if let Some(down_ms) = site.fails_next.take() {
            // The append fails: nothing of it is durable, and the process ends (D4).
            self.kill_site(number, down_ms, "its store failed");
            return;
        }
        let count = appends.len();
        if let Some(process) = &mut site.process {
            process.storing = Some(Storing { appends, events, actions });
        }
        match site.kill_at {
            Some((KillPoint::BeforeStore, down_ms)) => {
                site.kill_at = None;
                self.kill_site(number, down_ms, "killed before it stored");
            }
            Some((KillPoint::AtDisk { operation }, down_ms)) => {
                site.kill_at = None;
                let done = usize::try_from(operation).unwrap_or(0) % (count + 1);
                self.store_appends(number, done);
                if let Some(process) = &mut self.site_mut(number).process {
                    process.storing = None;
                }
                self.kill_site(number, down_ms, "killed while it stored");
            }
            Some((KillPoint::Now | KillPoint::AfterStore | KillPoint::AfterActions { .. }, _))
            | None => self.queue.push(now + sync, Happening::SiteStored { number, epoch }),
        }
    }

    fn site_sync(&mut self, number: u16, appends: usize) -> std::time::Duration {
        let disks = self.script.disks;
        let site = self.site_mut(number);
        let us = site
            .sync_slow_us
            .unwrap_or_else(|| site.luck.between(disks.sync_min_us, disks.sync_max_us));
        std::time::Duration::from_micros(us * u64::try_from(appends).unwrap_or(1))
    }

    fn store_appends(&mut self, number: u16, count: usize) {
        let site = self.site_mut(number);
        let Some(storing) = site.process.as_ref().and_then(|process| process.storing.as_ref())
        else {
            return;
        };
        let records: Vec<Vec<u8>> = storing.appends.iter().take(count).flatten().cloned().collect();
        let events = storing.events[..records.len()].to_vec();
        site.store.records.extend(records);
        self.counts.rollouts += ended(&events);
        self.see(&Seen::SiteStored { number, events: &events });
    }

    /// The flush has ended: what was decided is durable, and is done.
    pub(super) fn site_stored(&mut self, number: u16) {
        if self.site(number).paused_until.is_some() {
            return;
        }
        self.store_appends(number, usize::MAX);
        let site = self.site_mut(number);
        let Some(storing) = site.process.as_mut().and_then(|process| process.storing.take()) else {
            return;
        };
        match site.kill_at {
            Some((KillPoint::AfterStore, down_ms)) => {
                site.kill_at = None;
                self.kill_site(number, down_ms, "killed when it had stored");
                return;
            }
            Some((KillPoint::AfterActions { count }, down_ms)) => {
                site.kill_at = None;
                self.perform_site(number, storing.actions, usize::try_from(count).ok());
                self.kill_site(number, down_ms, "killed in the middle of what it did");
                return;
            }
            Some((KillPoint::Now | KillPoint::BeforeStore | KillPoint::AtDisk { .. }, _))
            | None => {}
        }
        self.perform_site(number, storing.actions, None);
        let has_more =
            self.site(number).process.as_ref().is_some_and(|process| !process.inbox.is_empty());
        if has_more {
            self.wake_site(number);
        } else {
            self.sleep_site(number);
        }
    }

    /// Arranges the wake-up that the core wants.
    fn sleep_site(&mut self, number: u16) {
        let now = self.now;
        let site = self.site_mut(number);
        let epoch = site.epoch;
        let Some(process) = &mut site.process else { return };
        if !process.inbox.is_empty() {
            self.wake_site(number);
            return;
        }
        let Some(wanted) = process.core.next_wake() else { return };
        let at = process.clock.moment_of(wanted).max(now + std::time::Duration::from_millis(1));
        if process.wakes_at.is_none_or(|pending| pending <= now || at < pending) {
            process.wakes_at = Some(at);
            self.queue.push(at, Happening::SiteWakes { number, epoch });
        }
    }

    /// A moment that the core asked for has come.
    pub(super) fn site_wakes(&mut self, number: u16) {
        let now = self.now;
        let site = self.site_mut(number);
        if !site.runs() {
            return;
        }
        let Some(process) = &mut site.process else { return };
        if process.wakes_at.is_none_or(|at| at > now) {
            return;
        }
        process.wakes_at = None;
        let is_due =
            process.core.next_wake().is_some_and(|wanted| process.clock.moment_of(wanted) <= now);
        if is_due && process.storing.is_none() {
            self.tell_site(number, Input::Tick);
        } else if process.storing.is_none() {
            self.sleep_site(number);
        }
    }

    /// Kills a coordinator's process. What it was storing may be durable in part.
    pub(super) fn kill_site(&mut self, number: u16, down_ms: u64, why: &str) {
        let site = self.site_mut(number);
        if let Some(storing) = site.process.as_ref().and_then(|it| it.storing.as_ref()) {
            let appends = storing.appends.len();
            let done = site.luck.below(appends + 1);
            self.store_appends(number, done);
        }
        let site = self.site_mut(number);
        if site.process.take().is_none() {
            return;
        }
        site.epoch += 1;
        (site.paused_until, site.kill_at) = (None, None);
        let epoch = site.epoch;
        self.trace.tell(self.now, Who::Coordinator(number), || why.to_owned());
        self.trace.mark(self.now, Who::Coordinator(number), "killed");
        self.close_all_of_site(number);
        self.see(&Seen::SiteEnded { number });
        let at = self.now + std::time::Duration::from_millis(down_ms);
        self.queue.push(at, Happening::SiteStarts { number, epoch });
    }

    fn perform_site(&mut self, number: u16, actions: Vec<Action>, at_most: Option<usize>) {
        let incarnation = self.site(number).store.incarnation;
        for action in actions.into_iter().take(at_most.unwrap_or(usize::MAX)) {
            match action {
                Action::Answer { reply, answer } => self.answer(number, reply, answer),
                Action::Welcome { session, term, boot_nonce } => {
                    let welcome = cutover_agent_core::Welcome { incarnation, term, boot_nonce };
                    self.send_down(number, session, Down::Welcome(welcome));
                }
                Action::Echo { session, nonce, compared } => {
                    self.send_down(number, session, Down::Echo(Echo { nonce, compared }));
                }
                Action::Query { query, source: _, text, within } => {
                    self.query(number, query, &text, within);
                }
                Action::Assign { session, assignment } => {
                    self.see(&Seen::Assigned { number, session, assignment: &assignment });
                    self.send_down(number, session, Down::Assignment(assignment));
                }
                Action::RouteEdge { session, routes } => {
                    self.send_down(number, session, Down::EdgeRoutes(routes));
                }
                Action::EndSession { session, reason } => {
                    self.send_down(number, session, Down::Farewell(reason.reason));
                    self.close_above(number, session);
                }
                Action::SignCertificate { reply, agent, enrolment } => {
                    self.signed(number, reply, &agent, enrolment);
                }
                Action::Enrolments(valid) => self.admit(number, valid),
                Action::Changed => {}
            }
        }
    }

    fn send_down(&mut self, number: u16, session: SessionId, down: Down) {
        let process = self.site(number).process.as_ref();
        let Some(id) = process.and_then(|it| it.sessions.get(&session)).copied() else { return };
        self.send(id, Message::Down(down));
    }

    fn close_above(&mut self, number: u16, session: SessionId) {
        let Some(process) = &mut self.site_mut(number).process else { return };
        if let Some(id) = process.sessions.remove(&session) {
            // The reader of the stream ends, and tells the core.
            process.inbox.push_back(Input::SessionClosed { session });
            if let Some(connection) = self.network.connections.get_mut(&id) {
                connection.is_open_above = false;
            }
            self.tell_closed_below(id);
            self.wake_site(number);
        }
    }

    fn admit(&mut self, number: u16, valid: BTreeSet<(AgentName, Uuid)>) {
        let Some(process) = &mut self.site_mut(number).process else { return };
        process.admitted = valid;
        // A removed agent's connection is ended a moment later.
        let sessions: Vec<ConnectionId> = process.sessions.values().copied().collect();
        for id in sessions {
            let Some(connection) = self.network.connections.get(&id) else { continue };
            let host = self.host(connection.host);
            let (name, enrolment) = (host.name.clone(), host.certificate.enrolment);
            let process = self.site(number).process.as_ref();
            if process.is_some_and(|it| !it.admitted.contains(&(name, enrolment))) {
                let at = self.now + std::time::Duration::from_secs(1);
                self.queue.push(at, Happening::Severed { id });
            }
        }
    }

    fn tell_events(&mut self, number: u16, events: &[Event]) {
        if !self.trace.is_told() {
            return;
        }
        let Some(process) = &self.site(number).process else { return };
        for text in story::coordinator_events(&process.core, events) {
            self.trace.tell(self.now, Who::Coordinator(number), || text);
        }
    }
}

/// Counts the rollouts that came to their end.
fn ended(events: &[Event]) -> u64 {
    let ends = |event: &&Event| {
        matches!(event.kind, EventKind::Rollout { change: Change::Ended { .. }, .. })
    };
    events.iter().filter(ends).count() as u64
}
