//! What instances served and when, as they wrote it down themselves (`--request-log`): the proof of
//! a strict cutover, which no client can give, as it does not see when its request reaches whom.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Requests that instances of a machine served.
#[derive(Clone, Debug, Default)]
pub struct Served(Vec<Request>);

/// One of them, in nanoseconds of the machine's monotonic clock.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Request {
    version: String,
    begun: u64,
    /// None as long as it is under way, and for ever if its instance was killed meanwhile.
    ended: Option<u64>,
}

/// What an old version did after a new one had begun to serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Overlap {
    /// Requests that it began then.
    pub begun: usize,
    /// Requests that it still had then.
    pub under_way: usize,
}

impl Served {
    /// Reads all logs in `folder`.
    ///
    /// # Panics
    ///
    /// When one cannot be read, or has a line that no instance writes.
    pub fn read(folder: &Path) -> Self {
        let logs = fs::read_dir(folder).expect("the folder of the logs can be read");
        let logs = logs.map(|log| log.expect("a folder can be listed").path());
        Self(logs.flat_map(|log| parse(&fs::read_to_string(log).expect("a log is text"))).collect())
    }

    /// Returns this moment, by the same clock.
    pub fn now() -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        let whole = |it: i64| u64::try_from(it).expect("the clock began before this");
        whole(now.tv_sec) * 1_000_000_000 + whole(now.tv_nsec)
    }

    /// Returns what was begun at `moment` or later.
    #[must_use]
    pub fn since(self, moment: u64) -> Self {
        Self(self.0.into_iter().filter(|it| it.begun >= moment).collect())
    }

    /// Returns how many requests `version` began.
    pub fn count(&self, version: &str) -> usize {
        self.of(version).count()
    }

    /// Returns for how long neither version had a request: from the last answer of `old`, on
    /// whichever host, to the first request of `new`.
    ///
    /// # Errors
    ///
    /// When `old` began a request after `new` had begun its first, or still had one.
    ///
    /// # Panics
    ///
    /// When one of the two served nothing, from which nothing follows.
    pub fn strictly(&self, old: &str, new: &str) -> Result<Duration, Overlap> {
        let first = self.of(new).map(|it| it.begun).min();
        let first = first.unwrap_or_else(|| panic!("{new} served nothing"));
        assert!(self.count(old) > 0, "{old} served nothing");
        let is_late = |request: &&Request| request.begun > first;
        let is_under_way = |request: &&Request| {
            request.begun <= first && request.ended.is_none_or(|it| it > first)
        };
        let begun = self.of(old).filter(is_late).count();
        let under_way = self.of(old).filter(is_under_way).count();
        if begun + under_way > 0 {
            return Err(Overlap { begun, under_way });
        }
        let last = self.of(old).filter_map(|it| it.ended).max().unwrap_or(first);
        Ok(Duration::from_nanos(first - last))
    }

    fn of(&self, version: &str) -> impl Iterator<Item = &Request> {
        self.0.iter().filter(move |it| it.version == version)
    }
}

/// Reads the log of one instance. Its last line may be on its way.
fn parse(text: &str) -> Vec<Request> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut requests = BTreeMap::new();
    for line in whole.lines() {
        let [version, number, what, at] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("no line of a log of requests: {line:?}");
        };
        let at: u64 = at.parse().unwrap_or_else(|_| panic!("no moment: {line:?}"));
        let begun = || Request { version: version.to_owned(), begun: at, ended: None };
        let request = requests.entry(number).or_insert_with(begun);
        match what {
            "begun" => {}
            "ended" => request.ended = Some(at),
            _ => panic!("no line of a log of requests: {line:?}"),
        }
    }
    requests.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(logs: &[&str]) -> Served {
        Served(logs.iter().flat_map(|log| parse(log)).collect())
    }

    const OLD: &str = "1 1 begun 10\n1 2 begun 11\n1 1 ended 20\n1 2 ended 30\n";

    #[test]
    fn a_new_version_that_begins_when_the_old_one_has_nothing_follows_strictly() {
        let served = served(&[OLD, "2 1 begun 35\n2 1 ended 36\n", "2 1 begun 33\n2 1 en"]);

        assert_eq!(served.strictly("1", "2"), Ok(Duration::from_nanos(3)));
        assert_eq!(served.count("2"), 2);
        assert_eq!(served.since(34).count("2"), 1);
    }

    #[test]
    fn a_request_that_the_old_version_begins_later_on_any_host_is_an_overlap() {
        let served = served(&[OLD, "2 1 begun 33\n2 1 ended 34\n", "1 1 begun 40\n1 1 ended 41\n"]);

        assert_eq!(served.strictly("1", "2"), Err(Overlap { begun: 1, under_way: 0 }));
    }

    #[test]
    fn a_request_that_the_old_version_still_has_is_an_overlap() {
        for log in ["2 1 begun 25\n", "2 1 begun 15\n"] {
            let overlap = served(&[OLD, log]).strictly("1", "2").unwrap_err();
            assert_eq!(overlap.begun, 0, "{log}");
        }
        let unknown = served(&["1 1 begun 10\n", "2 1 begun 50\n"]);
        assert_eq!(unknown.strictly("1", "2"), Err(Overlap { begun: 0, under_way: 1 }));
    }

    #[test]
    #[should_panic(expected = "2 served nothing")]
    fn a_version_that_served_nothing_proves_nothing() {
        assert_eq!(served(&[OLD]).strictly("1", "2"), Ok(Duration::ZERO));
    }
}
