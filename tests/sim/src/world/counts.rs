//! Requests: how many each gate gives to the slots of an application, how they end, and what it tells of
//! them.
//!
//! Nothing happens for a request by itself. What has come is counted when a heartbeat is to tell of it,
//! and before anything changes for what comes next.

use std::{collections::BTreeMap, mem};

use cutover_common::{ApplicationName, Latencies, LatencyBucket, Slot, SlotCounts};

use super::{Gate, Host, World};
use crate::{
    dice::Dice,
    moment::Moment,
    script::{Answers, Application},
};

/// What gates count of a place, in the manner of the real one: another instance is another place, and
/// another process has counted nothing.
#[derive(Clone, Debug)]
struct Place {
    port: u16,
    /// Millionths of a request that is still to come.
    rest: u64,
    requests: u64,
    errors: u64,
    latency: Latencies,
}

/// What one gate has counted.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Up to when.
    until: Moment,
    places: BTreeMap<(ApplicationName, Slot), Place>,
    luck: Dice,
}

impl Requests {
    pub(super) const fn new(luck: Dice) -> Self {
        Self { until: Moment(0), places: BTreeMap::new(), luck }
    }

    /// Another process counts from zero.
    pub(super) fn begin_again(&mut self) {
        self.places.clear();
    }
}

impl Place {
    fn new(port: u16) -> Self {
        Self { port, rest: 0, requests: 0, errors: 0, latency: Latencies::default() }
    }

    fn take(&mut self, requests: u64, answers: Answers, luck: &mut Dice) {
        self.requests += requests;
        self.errors += luck.hits(requests, answers.errors_permille);
        // A quarter of them each, so that a quantile is no single bucket.
        let (each, left) = (requests / 4, requests % 4);
        for (percent, more) in [(85, left), (95, 0), (105, 0), (115, 0)] {
            let micros = answers.latency_ms * 10 * percent;
            self.latency.add(LatencyBucket::of_us(micros), each + more);
        }
    }
}

impl World {
    /// Counts what has come to a host's gate since it was counted last.
    pub(super) fn count_requests(&mut self, number: u16) {
        let now = self.now;
        let Self { script, hosts, .. } = self;
        let Some(host) = hosts.get_mut(usize::from(number)) else { return };
        let since = mem::replace(&mut host.gate.requests.until, now);
        for application in &script.applications {
            if let Some(each_second) = asked(application) {
                count(host, application, (since, now), each_second);
            }
        }
    }

    /// Returns what an agent tells of what its gate has counted.
    pub(super) fn counted(&mut self, number: u16) -> Vec<SlotCounts> {
        self.count_requests(number);
        let gate = &self.host(number).gate;
        let applications = self.script.applications.iter();
        let names =
            applications.filter(|it| asked(it).is_some()).filter_map(|it| it.name.parse().ok());
        names.flat_map(|name: ApplicationName| told(gate, number, &name)).collect()
    }
}

/// Returns how many requests come in a second, if any are counted.
fn asked(application: &Application) -> Option<u64> {
    application.requests_per_s.filter(|_| application.gate.is_some()).map(u64::from)
}

fn count(
    host: &mut Host,
    application: &Application,
    (since, now): (Moment, Moment),
    each_second: u64,
) {
    let Ok(name) = application.name.parse::<ApplicationName>() else { return };
    let gate = &host.gate;
    let led: Vec<_> =
        gate.upstreams(&name).filter(|(slot, _)| gate.leads_to(&name, *slot)).collect();
    let all: u64 = led.iter().map(|(_, upstream)| u64::from(upstream.weight)).sum();
    for (slot, upstream) in led.into_iter().filter(|(_, upstream)| upstream.weight > 0) {
        // Nothing is sent to what is not there: what came there goes on elsewhere, or waits.
        let Some(process) = host.kernel.newest(&name, slot) else { continue };
        let ended = process.ended.as_ref().map_or(now, |ended| ended.at.min(now));
        let lasts = ended.since(since.max(process.started));
        let version = process.version.as_pushed();
        let Some(release) = application.releases.iter().find(|it| it.version == version) else {
            continue;
        };
        let Requests { places, luck, .. } = &mut host.gate.requests;
        let place = places.entry((name.clone(), slot)).or_insert_with(|| Place::new(upstream.port));
        if place.port != upstream.port {
            *place = Place::new(upstream.port);
        }
        let micros = u64::try_from(lasts.as_micros()).unwrap_or(u64::MAX);
        let come = micros.saturating_mul(each_second * u64::from(upstream.weight)) / all;
        place.rest = place.rest.saturating_add(come);
        let requests = place.rest / 1_000_000;
        place.rest %= 1_000_000;
        place.take(requests, release.answers, luck);
    }
}

/// Returns what a gate says of each instance that it knows, those that nobody asks included.
fn told(gate: &Gate, number: u16, name: &ApplicationName) -> Vec<SlotCounts> {
    let counts = gate.upstreams(name).map(move |(slot, upstream)| {
        let place = gate.requests.places.get(&(name.clone(), slot));
        let place = place.filter(|place| place.port == upstream.port);
        let Place { requests, errors, latency, .. } =
            place.cloned().unwrap_or_else(|| Place::new(upstream.port));
        SlotCounts {
            application: name.clone(),
            slot,
            gate: gate.id(number).to_string(),
            requests_in_flight: 0,
            long_lived: 0,
            requests,
            statuses: [0, requests - errors, 0, 0, errors],
            connect_errors: 0,
            resets: 0,
            retries: 0,
            bytes_in: 0,
            bytes_out: 0,
            latency,
        }
    });
    counts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_each_request_once_and_as_many_errors_as_its_release_makes() {
        let (mut place, mut luck) = (Place::new(20_000), Dice::new(7, "requests"));
        let answers = |errors_permille| Answers { errors_permille, latency_ms: 10 };

        place.take(1_001, answers(1_000), &mut luck);
        place.take(8_999, answers(0), &mut luck);
        assert_eq!(
            (place.requests, place.errors, place.latency.answers()),
            (10_000, 1_001, 10_000)
        );

        place.take(10_000, answers(100), &mut luck);
        assert!((1_901..2_101).contains(&place.errors), "{place:?}");
    }
}
