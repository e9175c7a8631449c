//! Clients that ask every host of a fleet all the time, while something is done to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Cluster, Failure,
    client::{ANSWER_WITHIN, Connection, Page},
    opening::Opening,
    wait_for,
};

/// What clients ask for. Half of them wait for the second: at any moment something is under way.
pub const PAGES: [&str; 2] = ["GET /", "POST /slow?ms=100"];

/// The clients of each host, and whether they keep their connection. Two of each, so that one can
/// ask for a slow page while the other goes on.
const KEEP: [bool; 4] = [true, true, false, false];

/// Between two requests of one client. All together ask some hundred times a second, which leaves
/// most of two cores to what is tested, and to other tests.
const PAUSE: Duration = Duration::from_millis(5);

/// How long every client may take for two more requests: as long as the slowest that are no
/// failures yet.
const TWO_MORE_WITHIN: Duration = ANSWER_WITHIN.saturating_mul(2);

/// Clients that ask until this is dropped.
#[derive(Debug)]
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    ends: AtomicBool,
    connections: AtomicU64,
    heard: Mutex<Heard>,
    /// For each client, whom it asks, and how many requests are over.
    over: Vec<(SocketAddr, AtomicU64)>,
}

/// What one client does.
#[derive(Clone, Debug)]
struct Client {
    number: usize,
    host: SocketAddr,
    /// Its method and path.
    page: String,
    keeps: bool,
    opening: Opening,
    /// How long it waits before it asks again.
    pause: Duration,
}

/// What clients heard.
#[derive(Debug, Default)]
pub struct Heard {
    pub answers: Vec<Answer>,
    pub failures: Vec<Failed>,
    /// Whoever asked after this asked after all that was done.
    pub done: Option<Instant>,
}

/// A good answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    pub host: SocketAddr,
    /// Each has a number of its own.
    pub connection: u64,
    pub begun: Instant,
    pub ended: Instant,
    pub version: String,
}

/// A request that failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failed {
    pub host: SocketAddr,
    /// 0: there was none.
    pub connection: u64,
    pub begun: Instant,
    pub ended: Instant,
    pub failure: Failure,
}

impl Clients {
    /// Begins to ask every host for `pages`, such as `GET /`, of which each client asks for one, and
    /// returns when each has been answered. The second word of a page is the version that made it.
    ///
    /// The gate may send a GET once more, so that none fails that an instance cut off. A POST it may
    /// not: one that takes long tells whether instances are stopped while they have something.
    ///
    /// # Panics
    ///
    /// When they hear nothing.
    pub fn ask(cluster: &Cluster, port: u16, pages: &[&str]) -> Self {
        Self::ask_at(&cluster.hosts(port), pages)
    }

    /// Does the same without a pause: as much as the machine bears.
    ///
    /// # Panics
    ///
    /// When they hear nothing.
    pub fn press(cluster: &Cluster, port: u16, pages: &[&str]) -> Self {
        Self::begin(&cluster.hosts(port), pages, Duration::ZERO, &Opening::default())
    }

    /// Does the same to whoever listens on `hosts`.
    ///
    /// # Panics
    ///
    /// When they hear nothing.
    pub fn ask_at(hosts: &[SocketAddr], pages: &[&str]) -> Self {
        Self::begin(hosts, pages, PAUSE, &Opening::default())
    }

    /// Does the same on connections that begin in this way.
    ///
    /// # Panics
    ///
    /// When they hear nothing.
    pub fn ask_with(hosts: &[SocketAddr], pages: &[&str], opening: &Opening) -> Self {
        Self::begin(hosts, pages, PAUSE, opening)
    }

    fn begin(hosts: &[SocketAddr], pages: &[&str], pause: Duration, opening: &Opening) -> Self {
        let mut clients = Vec::new();
        for host in hosts.iter().copied() {
            for (nth, keeps) in KEEP.into_iter().enumerate() {
                let page = pages[nth % pages.len()].to_owned();
                let (number, opening) = (clients.len(), opening.clone());
                clients.push(Client { number, host, page, keeps, opening, pause });
            }
        }
        let shared = Arc::new(Shared {
            ends: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            heard: Mutex::default(),
            over: clients.iter().map(|it| (it.host, AtomicU64::new(0))).collect(),
        });
        let threads = clients.into_iter().map(|client| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || client.ask(&shared))
        });
        let threads = threads.collect();
        let clients = Self { shared, threads };
        clients.ask_on();
        clients
    }

    /// Returns what was heard since the last time, and goes on. Every client has asked once more
    /// since this was called.
    ///
    /// # Panics
    ///
    /// When clients hear nothing any more.
    pub fn heard(&self) -> Heard {
        let done = Some(Instant::now());
        self.ask_on();
        Heard { done, ..std::mem::take(&mut *self.shared.heard()) }
    }

    /// Does the same for `hosts` alone: nobody waits for the clients of others, and what those heard
    /// stays for the next time.
    ///
    /// # Panics
    ///
    /// When their clients hear nothing any more.
    pub fn heard_at(&self, hosts: &[SocketAddr]) -> Heard {
        let done = Some(Instant::now());
        self.two_more(|host| hosts.contains(host));
        Heard { done, ..self.shared.take(hosts) }
    }

    /// Returns when every client has asked once more.
    ///
    /// # Panics
    ///
    /// When clients hear nothing any more.
    pub fn ask_on(&self) {
        self.two_more(|_| true);
    }

    /// Waits until each of `versions` has answered on `host` since the last time that it was heard,
    /// and demands that no request failed there.
    ///
    /// # Panics
    ///
    /// When it is not so.
    #[track_caller]
    pub fn until_all_answer(&self, host: SocketAddr, versions: &[&str]) {
        let mut found = BTreeSet::new();
        wait_for(&format!("{versions:?} to answer at {host}"), TWO_MORE_WITHIN, || {
            let heard = self.heard_at(&[host]);
            heard.all_is_well();
            found.extend(heard.answers.into_iter().map(|it| it.version));
            versions.iter().all(|it| found.contains(*it)).then_some(())
        });
    }

    /// Waits until at each of `hosts` somebody was told to ask again later, and demands that whoever
    /// was, on whichever of them, had waited for at least `limit`. What others heard stays for the
    /// next time.
    ///
    /// # Panics
    ///
    /// When it is not so.
    #[track_caller]
    pub fn until_told_to_retry_after(&self, limit: Duration, hosts: &[SocketAddr]) {
        wait_for("a client to be told to ask again later", TWO_MORE_WITHIN, || {
            let heard = self.shared.heard();
            let is_told = |host: &SocketAddr| heard.failures.iter().any(|it| it.host == *host);
            hosts.iter().all(is_told).then_some(())
        });
        self.shared.take(hosts).none_failed_before(limit);
    }

    /// Waits until every client of such hosts has two requests more behind it: the second was begun
    /// after this.
    fn two_more(&self, is_meant: impl Fn(&SocketAddr) -> bool) {
        let of_meant = self.shared.over.iter().filter(|(host, _)| is_meant(host));
        let over = || of_meant.clone().map(|(_, over)| over.load(Ordering::SeqCst));
        let wanted: Vec<u64> = over().map(|it| it + 2).collect();
        wait_for("every client to be answered", TWO_MORE_WITHIN, || {
            over().zip(&wanted).all(|(it, wanted)| it >= *wanted).then_some(())
        });
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // One that panicked has said so, and nothing was heard of it.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was heard of `hosts`, and leaves the rest.
    fn take(&self, hosts: &[SocketAddr]) -> Heard {
        let mut heard = self.heard();
        let answers = heard.answers.extract_if(.., |it| hosts.contains(&it.host)).collect();
        let failures = heard.failures.extract_if(.., |it| hosts.contains(&it.host)).collect();
        Heard { answers, failures, done: None }
    }
}

impl Client {
    fn ask(self, shared: &Shared) {
        let mut kept: Option<(u64, Connection)> = None;
        while !shared.ends.load(Ordering::SeqCst) {
            self.ask_once(&mut kept, shared);
            shared.over[self.number].1.fetch_add(1, Ordering::SeqCst);
            thread::sleep(self.pause);
        }
    }

    fn ask_once(&self, kept: &mut Option<(u64, Connection)>, shared: &Shared) {
        let (host, begun) = (self.host, Instant::now());
        let mut number = 0;
        let opened = match kept.take() {
            Some(kept) => Ok(kept),
            None => Connection::open(host, &self.opening)
                .map(|it| (shared.connections.fetch_add(1, Ordering::SeqCst) + 1, it)),
        };
        let asked = opened.and_then(|(connection, mut it)| {
            number = connection;
            let page = it.ask(&self.page, self.keeps)?;
            let version = version_of(&page)?;
            *kept = Some((connection, it)).filter(|_| self.keeps && !page.is_last);
            Ok(version)
        });
        let (connection, ended) = (number, Instant::now());
        let mut heard = shared.heard();
        match asked {
            Ok(version) => heard.answers.push(Answer { host, connection, begun, ended, version }),
            Err(failure) => heard.failures.push(Failed { host, connection, begun, ended, failure }),
        }
    }
}

fn version_of(page: &Page) -> Result<String, Failure> {
    let strange = || Failure::Strange(page.body.clone());
    page.body.split_whitespace().nth(1).map(ToOwned::to_owned).ok_or_else(strange)
}

impl Heard {
    /// Demands that every request got a whole, good answer.
    ///
    /// # Panics
    ///
    /// When it is not so.
    #[track_caller]
    pub fn all_is_well(&self) -> &Self {
        let (answered, failed) = (self.answers.len(), self.failures.len());
        let first = &self.failures[..failed.min(5)];
        assert!(failed == 0, "{failed} of {} failed: {first:#?}", answered + failed);
        assert!(answered > 0, "nobody asked");
        self
    }

    /// Returns what was heard of `host` alone.
    #[must_use]
    pub fn of(&self, host: SocketAddr) -> Self {
        let answers = self.answers.iter().filter(|it| it.host == host).cloned().collect();
        let failures = self.failures.iter().filter(|it| it.host == host).cloned().collect();
        Self { answers, failures, done: self.done }
    }

    /// Demands that every request got a good answer, but for those that waited for at least `limit`
    /// and were then told to ask again later.
    ///
    /// A gate that lets go by itself does so a second before, in which its agent has to write and to
    /// tell. Whether that is enough says as much of the machine as of the gate; whoever asks again
    /// after such a word is held for a moment only, and may not fail.
    ///
    /// # Panics
    ///
    /// When it is not so.
    #[track_caller]
    pub fn none_failed_before(&self, limit: Duration) -> &Self {
        let too_early = self.failures.iter().find(|it| {
            it.failure != Failure::RetryLater || it.ended.duration_since(it.begun) < limit
        });
        assert_eq!(too_early, None, "a gate that may hold for {limit:?} did not");
        self
    }

    /// Demands that every request got a good answer, but for those that were begun before `back` and
    /// lost their connection, or found nobody to connect to: their gate was killed, and another one
    /// was there by then.
    ///
    /// # Panics
    ///
    /// When it is not so.
    #[track_caller]
    pub fn only_lost_connections_before(&self, back: Instant) -> &Self {
        let strange = self.failures.iter().find(|it| {
            let is_lost = match &it.failure {
                Failure::Refused | Failure::Reset | Failure::ClosedEarly | Failure::Short => true,
                Failure::Status(_)
                | Failure::RetryLater
                | Failure::TimedOut
                | Failure::Strange(_) => false,
            };
            !is_lost || it.begun >= back
        });
        assert_eq!(strange, None, "more than the connections of a killed gate was lost");
        self
    }

    /// Demands that `version` alone answered.
    ///
    /// # Panics
    ///
    /// When it is not so.
    #[track_caller]
    pub fn only(&self, version: &str) {
        let versions: BTreeSet<&str> = self.answers.iter().map(|it| &*it.version).collect();
        assert_eq!(versions, BTreeSet::from([version]));
    }

    /// Demands that on each host the traffic moved from `old` to `new` once and for everybody:
    /// who asked after an answer of the new version, on whichever connection, got the new one, and
    /// so did all who asked when all was done. A request that was under way may end as it began.
    ///
    /// # Panics
    ///
    /// When it is not so.
    #[track_caller]
    pub fn moved(&self, old: &str, new: &str) {
        let strange = self.answers.iter().find(|it| it.version != old && it.version != new);
        assert_eq!(strange, None, "neither {old} nor {new} answered");
        let mut hosts: BTreeMap<SocketAddr, [Vec<&Answer>; 2]> = BTreeMap::new();
        for answer in &self.answers {
            let which = usize::from(answer.version == new);
            hosts.entry(answer.host).or_default()[which].push(answer);
        }
        for (host, [of_old, of_new]) in hosts {
            let last = of_old.iter().max_by_key(|it| it.begun);
            let first = of_new.iter().min_by_key(|it| it.ended);
            let (Some(last), Some(first)) = (last, first) else {
                panic!("on {host} {} old and {} new ones answered", of_old.len(), of_new.len());
            };
            assert!(last.begun <= first.ended, "{host} went back: {first:?}, and then {last:?}");
            let is_late = self.done.is_some_and(|done| last.begun > done);
            assert!(!is_late, "{host} served the old version when all was done: {last:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard of (version, begun, ended), in milliseconds.
    fn heard(answers: &[(&str, u64, u64)], done: u64) -> Heard {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let answers = answers.iter().map(|&(version, begun, ended)| Answer {
            host: SocketAddr::from(([127, 0, 0, 1], 1)),
            connection: 1,
            begun: at(begun),
            ended: at(ended),
            version: version.to_owned(),
        });
        Heard { answers: answers.collect(), failures: Vec::new(), done: Some(at(done)) }
    }

    #[test]
    fn a_request_that_was_under_way_may_end_late() {
        heard(&[("1", 0, 1), ("2", 2, 4), ("1", 3, 9), ("2", 9, 10)], 8).moved("1", "2");
    }

    #[test]
    #[should_panic(expected = "went back")]
    fn nobody_gets_the_old_version_after_the_new_one_answered() {
        heard(&[("1", 0, 1), ("2", 2, 4), ("1", 5, 6), ("2", 7, 8)], 6).moved("1", "2");
    }

    #[test]
    #[should_panic(expected = "when all was done")]
    fn nobody_gets_the_old_version_when_all_was_done() {
        heard(&[("1", 0, 1), ("1", 4, 5), ("2", 4, 6)], 3).moved("1", "2");
    }

    /// What is heard of one request that a gate held for so many milliseconds.
    fn refused_after(ms: u64) -> Heard {
        let begun = Instant::now();
        let refused = Failed {
            host: SocketAddr::from(([127, 0, 0, 1], 1)),
            connection: 1,
            begun,
            ended: begun + Duration::from_millis(ms),
            failure: Failure::RetryLater,
        };
        Heard { failures: vec![refused], ..Heard::default() }
    }

    #[test]
    fn who_waited_for_the_limit_may_be_told_to_ask_again() {
        refused_after(10).none_failed_before(Duration::from_millis(10));
    }

    #[test]
    #[should_panic(expected = "may hold for 10ms did not")]
    fn nobody_is_told_to_ask_again_before_the_limit() {
        refused_after(9).none_failed_before(Duration::from_millis(10));
    }

    #[test]
    #[should_panic(expected = "2 old and 0 new")]
    fn traffic_that_stays_did_not_move() {
        heard(&[("1", 0, 1), ("1", 2, 3)], 3).moved("1", "2");
    }
}
