//! One service as it is served: the route of this moment, and the places it leads to.

mod count;
mod place;

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use tokio::{sync::watch, time::Instant};

use self::place::lock;
pub(crate) use self::{
    count::Counters,
    place::{End, Known, Link, Manner, Place, Span, UnderWay},
};
use crate::{
    certificate::Certificate,
    program::{Drain, Flow, Limits, Route, Service, Upstream, UpstreamKind},
    route::{Table, Wish},
    state::UpstreamState,
};

/// One route and all that belongs to it. A request sees one of these, whole.
#[derive(Debug)]
pub(crate) struct Routing {
    pub(crate) service: Service,
    pub(crate) table: Table,
    /// In the order of the program.
    places: Vec<Arc<Place>>,
}

/// One service.
#[derive(Debug)]
pub(crate) struct Live {
    routing: ArcSwap<Routing>,
    /// None: clients speak in the clear.
    certificate: ArcSwapOption<Certificate>,
    /// Routes that some request may still be choosing by.
    older: Mutex<Vec<Weak<Routing>>>,
    /// Places that are gone from the program and not yet empty.
    leaving: Mutex<Vec<Arc<Place>>>,
    changed: watch::Sender<()>,
    held: AtomicU64,
    held_bytes: AtomicU64,
    connections: AtomicU64,
    shards: usize,
}

/// Why a request goes nowhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoPlace {
    /// No upstream is there for it.
    NobodyServes,
    /// It was held for as long as may be.
    HeldTooLong,
    /// As many are held as may be.
    TooManyHeld,
}

/// What a choice led to.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) under_way: UnderWay,
    pub(crate) connect_within: Duration,
}

/// One that counts until it is dropped.
#[derive(Debug)]
struct Counted<'a> {
    count: &'a AtomicU64,
    by: u64,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(self.by, Ordering::SeqCst);
    }
}

impl Live {
    pub(crate) fn new(
        service: &Service,
        certificate: Option<Arc<Certificate>>,
        shards: usize,
    ) -> Self {
        let place = |it| Arc::new(place(service, it, shards));
        let places = service.route.upstreams.iter().map(place);
        let routing = Routing {
            table: Table::new(&service.route),
            places: places.collect(),
            service: service.clone(),
        };
        begin_drains(&routing);
        Self {
            routing: ArcSwap::from_pointee(routing),
            certificate: ArcSwapOption::new(certificate),
            older: Mutex::default(),
            leaving: Mutex::default(),
            changed: watch::Sender::new(()),
            held: AtomicU64::new(0),
            held_bytes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            shards,
        }
    }

    /// Returns the route of this moment. Whoever keeps it keeps a place from counting as empty.
    pub(crate) fn routing(&self) -> Arc<Routing> {
        self.routing.load_full()
    }

    /// Returns the same, to be looked at and not kept. It keeps a place from counting as empty too:
    /// whoever replaces the route waits for nobody, but takes note of those who look.
    pub(crate) fn now(&self) -> Guard<Arc<Routing>> {
        self.routing.load()
    }

    /// Returns what is shown to clients that connect now.
    pub(crate) fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.load_full()
    }

    /// Takes another route, at one moment for everybody.
    pub(crate) fn replace(&self, service: &Service, certificate: Option<Arc<Certificate>>) {
        self.certificate.store(certificate);
        let before = self.routing();
        let mut leaving = lock(&self.leaving);
        let mut known: Vec<Arc<Place>> = before.places.iter().chain(&*leaving).cloned().collect();
        let places = service.route.upstreams.iter().map(|upstream| {
            let is_it = |place: &Arc<Place>| {
                place.name == upstream.name
                    && place.address == upstream.address
                    && place.kind == upstream.kind
                    && place.manner == Manner::of(service, upstream.kind)
            };
            match known.iter().position(is_it) {
                Some(at) => known.swap_remove(at),
                None => Arc::new(place(service, upstream, self.shards)),
            }
        });
        let routing = Arc::new(Routing {
            places: places.collect(),
            table: Table::new(&service.route),
            service: service.clone(),
        });
        self.routing.store(Arc::clone(&routing));
        begin_drains(&routing);
        for place in &known {
            place.drain(Drain::default());
        }
        *leaving = known;
        drop(leaving);
        let mut older = lock(&self.older);
        older.retain(|older| older.strong_count() > 0);
        older.push(Arc::downgrade(&before));
        drop(older);
        drop(before);
        self.changed.send_replace(());
    }

    /// Leads nowhere from now on. What is under way ends at the limits of a drain.
    pub(crate) fn lead_nowhere(&self) {
        let mut service = self.routing().service.clone();
        service.route =
            Route { flow: Flow::Open, upstreams: Vec::new(), sticky: None, allow: None };
        self.replace(&service, self.certificate());
    }

    /// Returns whether nobody is connected and nothing is under way. Only of one that leads nowhere.
    pub(crate) fn is_over(&self) -> bool {
        let is_idle = |place: &Arc<Place>| place.load() == (0, 0);
        self.load().0 == 0 && lock(&self.leaving).iter().all(is_idle)
    }

    /// Returns where a request goes, when it may go. It counts there from this moment on.
    /// None of `tried` is chosen.
    pub(crate) async fn choose(
        &self,
        wish: Wish,
        tried: &[Arc<Place>],
        bytes: u64,
    ) -> Result<Chosen, NoPlace> {
        {
            let routing = self.now();
            if routing.table.flow == Flow::Open {
                return routing.choose(wish, tried).ok_or(NoPlace::NobodyServes);
            }
        }
        let mut changed = self.changed.subscribe();
        let mut waiting: Option<(Instant, [Counted<'_>; 2])> = None;
        loop {
            changed.borrow_and_update();
            // Not kept while it waits: what is held belongs to no route.
            let flow = {
                let routing = self.routing();
                if routing.table.flow == Flow::Open {
                    return routing.choose(wish, tried).ok_or(NoPlace::NobodyServes);
                }
                routing.table.flow
            };
            let Flow::Hold { for_ms, requests_max, bytes_max } = flow else { continue };
            let since = match &waiting {
                Some((since, _)) => *since,
                None => {
                    let counted = self.hold(bytes, requests_max.into(), bytes_max)?;
                    waiting.insert((Instant::now(), counted)).0
                }
            };
            let until = since + Duration::from_millis(for_ms.into());
            if tokio::time::timeout_at(until, changed.changed()).await.is_err() {
                return Err(NoPlace::HeldTooLong);
            }
        }
    }

    fn hold(&self, bytes: u64, most: u64, bytes_most: u64) -> Result<[Counted<'_>; 2], NoPlace> {
        let count = |count, by, most| {
            let before = AtomicU64::fetch_add(count, by, Ordering::SeqCst);
            let counted = Counted { count, by };
            if before.saturating_add(by) > most { Err(NoPlace::TooManyHeld) } else { Ok(counted) }
        };
        Ok([count(&self.held, 1, most)?, count(&self.held_bytes, bytes, bytes_most)?])
    }

    /// Counts one client. None: as many are connected as may be.
    pub(crate) fn connect(self: &Arc<Self>) -> Option<Connected> {
        let most = self.routing.load().service.limits.connections_max;
        let before = self.connections.fetch_add(1, Ordering::SeqCst);
        let connected = Connected(Arc::clone(self));
        (before < u64::from(most)).then_some(connected)
    }

    pub(crate) fn limits(&self) -> Limits {
        self.routing.load().service.limits.clone()
    }

    pub(crate) fn load(&self) -> (u64, u64) {
        (self.connections.load(Ordering::SeqCst), self.held.load(Ordering::SeqCst))
    }

    /// Returns why nothing can be passed on to other hosts, of the first of those where that is so.
    pub(crate) fn trouble_with_peers(&self) -> String {
        let routing = self.now();
        let mut troubles = routing.places.iter().map(|place| place.trouble());
        troubles.find(|trouble| !trouble.is_empty()).unwrap_or_default()
    }

    /// Ends what lasts, as at the limit of a drain.
    pub(crate) fn end_what_lasts(&self) {
        let leaving = lock(&self.leaving);
        for place in self.routing().places.iter().chain(&*leaving) {
            place.cut(Span::LongLived);
        }
    }

    /// Returns what is known of every place. Those that left and are empty are forgotten after.
    pub(crate) fn upstreams(&self) -> Vec<UpstreamState> {
        let mut leaving = lock(&self.leaving);
        // First whether anybody may still choose by an older route, then what is under way: who
        // chooses counts before it lets go of its route.
        let is_settled = {
            let mut older = lock(&self.older);
            older.retain(|older| older.strong_count() > 0);
            older.is_empty()
        };
        let routing = self.routing();
        let state = |place: &Arc<Place>, gets: bool| {
            let (requests_in_flight, long_lived) = place.load();
            UpstreamState {
                name: place.name.clone(),
                address: place.address,
                requests_in_flight,
                long_lived,
                is_empty: is_settled && !gets && requests_in_flight == 0 && long_lived == 0,
                counts: place.counters.read(),
            }
        };
        let current = routing.places.iter().enumerate();
        let mut states: Vec<UpstreamState> =
            current.map(|(at, place)| state(place, routing.table.gives_to(at))).collect();
        leaving.retain(|place| {
            let left = state(place, false);
            let is_empty = left.is_empty;
            states.push(left);
            !is_empty
        });
        states
    }
}

impl Routing {
    /// Returns a place for this request, which counts there from now on.
    pub(crate) fn choose(&self, wish: Wish, tried: &[Arc<Place>]) -> Option<Chosen> {
        let tried: Vec<usize> = tried.iter().filter_map(|place| self.position(place)).collect();
        let rests = |at: usize| self.places.get(at).is_some_and(|place| place.rests());
        let place = self.places.get(self.table.choose(wish, &tried, rests)?)?;
        let limits = &self.service.limits;
        let within = match place.kind {
            UpstreamKind::Slot => limits.connect_ms,
            UpstreamKind::Gate | UpstreamKind::Host => limits.gate_connect_ms,
        };
        Some(Chosen {
            under_way: place.begin(Span::Request),
            connect_within: Duration::from_millis(within.into()),
        })
    }

    /// Returns the position of `place` in this route, if it is in it.
    fn position(&self, place: &Arc<Place>) -> Option<usize> {
        self.places.iter().position(|it| Arc::ptr_eq(it, place))
    }
}

fn place(service: &Service, upstream: &Upstream, shards: usize) -> Place {
    Place::new(upstream, Manner::of(service, upstream.kind), shards)
}

fn begin_drains(routing: &Routing) {
    for (upstream, place) in routing.service.route.upstreams.iter().zip(&routing.places) {
        match upstream.drain {
            Some(drain) => place.drain(drain),
            None => place.revive(),
        }
    }
}

/// A client that is connected. It counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Live>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}
