//! How much more than by chance the control differs from itself.
//!
//! Two numbers, from the control alone, so that a bad canary cannot hide in them. `inflation` is
//! the variance of counts over that of independent events: errors come in bursts. `spread` is how
//! far hosts of the same version lie apart for good. What hits all hosts at once is in neither,
//! as it hits both sides of a comparison alike.

/// How far hosts' own rates lie apart: a scale, and how many hosts' worth is known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) deviation: f64,
    pub(crate) freedom: f64,
}

/// One control host in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostCount {
    pub(crate) host: usize,
    pub(crate) bad: f64,
    pub(crate) exposure: f64,
}

/// How many blocks the belief in no inflation is worth, and how many events at least.
const PRIOR_BLOCKS: f64 = 20.0;
const PRIOR_EVENTS: f64 = 10.0;
/// How many standard errors are put on top of what is seen. One burst says that there are bursts,
/// and not yet how many.
const DOUBTS: f64 = 1.0;
const HOST_DOUBTS: f64 = 1.0;
/// How many hosts the expected spread is worth. With eight, hosts that lie further apart raise
/// more false alarms (1.30 % instead of 1.15 % where ten differ by 30 %); with three, errors five
/// times as many on one host of twenty are found later than in 1.4 times the bound.
const PRIOR_HOSTS: f64 = 5.0;
/// Events that a host's own rate is drawn towards the fleet's by.
const RATE_EVENTS: f64 = 4.0;

#[derive(Clone, Debug, Default)]
pub(crate) struct Dispersion {
    hosts: Vec<HostHistory>,
    bad: f64,
    exposure: f64,
    short: Squares,
    long: Squares,
    rest: f64,
    /// The last round and block of a control that is a single host, which is compared with its
    /// own past.
    round_before: Option<HostCount>,
    block: (f64, f64),
    block_before: Option<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct HostHistory {
    bad: f64,
    exposure: f64,
    block_residual: f64,
    block_variance: f64,
}

/// Squares of residuals, beside what chance would make of them.
#[derive(Clone, Copy, Debug, Default)]
struct Squares {
    seen: f64,
    by_chance: f64,
    count: f64,
    /// Squares of what single terms are off by: how far the sums can be trusted.
    doubt: f64,
}

impl Squares {
    fn add(&mut self, residual: f64, variance: f64) {
        if variance > 0.0 {
            self.seen += residual * residual;
            self.by_chance += variance;
            self.count += 1.0;
            let off = residual * residual - variance;
            self.doubt += off * off;
        }
    }

    fn inflation(&self, doubts: f64) -> f64 {
        let mean = if self.count > 0.0 { self.by_chance / self.count } else { 0.0 };
        let prior = (PRIOR_BLOCKS * mean).max(PRIOR_EVENTS);
        (prior + self.seen + doubts * self.doubt.sqrt()) / (prior + self.by_chance)
    }
}

impl Dispersion {
    /// Takes one round of the control. `rest` is the chance of an exposure not being bad: one for
    /// what is rare or has no number of trials.
    pub(crate) fn observe(&mut self, round: &[HostCount], rest: f64) {
        let last = round.iter().map(|count| count.host + 1).max().unwrap_or(0);
        if self.hosts.len() < last {
            self.hosts.resize(last, HostHistory::default());
        }
        match round {
            [] => {}
            [alone] => self.compare_with_past(*alone, rest),
            several => self.compare_hosts(several, rest),
        }
        for count in round {
            let host = &mut self.hosts[count.host];
            host.bad += count.bad;
            host.exposure += count.exposure;
            self.bad += count.bad;
            self.exposure += count.exposure;
        }
        self.rest = rest;
    }

    /// Ends a long block: a minute. Bursts that last are only seen in blocks that are longer than
    /// they are.
    pub(crate) fn end_block(&mut self) {
        for host in &mut self.hosts {
            self.long.add(host.block_residual, host.block_variance);
            (host.block_residual, host.block_variance) = (0.0, 0.0);
        }
        if let Some(before) = self.block_before {
            let (residual, variance) = change(before, self.block, self.rest);
            self.long.add(residual, variance);
        }
        self.block_before = (self.block.1 > 0.0).then_some(self.block);
        self.block = (0.0, 0.0);
    }

    /// Returns by how much the variance of counts exceeds that of independent events; at least
    /// one.
    pub(crate) fn inflation(&self) -> f64 {
        self.short.inflation(DOUBTS).max(self.long.inflation(0.0)).max(1.0)
    }

    /// Returns the standard deviation of the logarithm of a host's own odds, around the fleet's.
    pub(crate) fn spread(&self, expected: f64, rest: f64) -> Spread {
        let inflation = self.inflation();
        let prior = PRIOR_HOSTS * expected * expected;
        if self.bad <= 0.0 {
            return Spread { deviation: expected, freedom: PRIOR_HOSTS };
        }
        let rate = self.bad / self.exposure;
        let (mut squares, mut weights, mut hosts, mut doubt) = (0.0, 0.0, 0.0, 0.0);
        for host in self.hosts.iter().filter(|host| host.exposure > 0.0) {
            let mean = rate * host.exposure;
            // A host with few events says little about its own rate.
            let noise = inflation / (mean * rest);
            let weight = 1.0 / (1.0 + noise);
            let off = (host.bad / mean - 1.0) / rest;
            squares += weight * weight * (off * off - noise);
            doubt += (weight * weight * noise) * (weight * weight * noise);
            weights += weight * weight;
            hosts += 1.0;
        }
        let seen = if hosts > 1.0 { squares * hosts / (hosts - 1.0) } else { 0.0 };
        let seen = seen + HOST_DOUBTS * doubt.sqrt();
        let freedom = if hosts > 1.0 { weights * (hosts - 1.0) / hosts } else { 0.0 };
        let freedom = PRIOR_HOSTS + freedom;
        Spread { deviation: ((prior + seen.max(0.0)) / freedom).sqrt(), freedom }
    }

    /// What the fleet had in this round is dealt to its hosts by their exposure and their own
    /// rates so far; a host's residual is what it had beyond that.
    fn compare_hosts(&mut self, round: &[HostCount], rest: f64) {
        let all: f64 = round.iter().map(|count| count.bad).sum();
        if all <= 0.0 {
            return;
        }
        let rate = if self.exposure > 0.0 { self.bad / self.exposure } else { 0.0 };
        let pull = |count: &HostCount, host: &HostHistory| {
            let own = (host.bad + RATE_EVENTS) / (host.exposure * rate + RATE_EVENTS);
            count.exposure * own
        };
        let whole: f64 = round.iter().map(|count| pull(count, &self.hosts[count.host])).sum();
        for count in round {
            let host = &mut self.hosts[count.host];
            let part = pull(count, host) / whole;
            let residual = count.bad - all * part;
            let variance = all * part * (1.0 - part) * rest;
            self.short.add(residual, variance);
            host.block_residual += residual;
            host.block_variance += variance;
        }
    }

    /// One host alone has only its own past to differ from, so that what hits everybody counts
    /// too. That makes the judge slower, never rasher.
    fn compare_with_past(&mut self, count: HostCount, rest: f64) {
        if let Some(before) = self.round_before.filter(|before| before.host == count.host) {
            let (residual, variance) =
                change((before.bad, before.exposure), (count.bad, count.exposure), rest);
            self.short.add(residual, variance);
        }
        self.round_before = Some(count);
        self.block.0 += count.bad;
        self.block.1 += count.exposure;
    }
}

/// Returns how far the second of two counts with exposures is from its part of both, and the
/// variance that chance gives it.
fn change(before: (f64, f64), after: (f64, f64), rest: f64) -> (f64, f64) {
    let (all, exposure) = (before.0 + after.0, before.1 + after.1);
    if all <= 0.0 || exposure <= 0.0 {
        return (0.0, 0.0);
    }
    let part = after.1 / exposure;
    (after.0 - all * part, all * part * (1.0 - part) * rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows rounds in which host h has `bad(round, h)` events, and returns what is made of them.
    fn shown(hosts: usize, rounds: usize, bad: impl Fn(usize, usize) -> f64) -> Dispersion {
        let mut dispersion = Dispersion::default();
        for round in 0..rounds {
            let counts: Vec<HostCount> = (0..hosts)
                .map(|host| HostCount { host, bad: bad(round, host), exposure: 100.0 })
                .collect();
            dispersion.observe(&counts, 1.0);
            if round % 12 == 11 {
                dispersion.end_block();
            }
        }
        dispersion
    }

    /// One event on one host after another, at no regular distance.
    fn one_at_a_time(round: usize, host: usize) -> f64 {
        f64::from(u8::from(round * round % 7 % 4 == host))
    }

    #[test]
    fn nothing_seen_is_no_inflation_and_the_expected_spread() {
        let dispersion = Dispersion::default();

        assert_eq!(dispersion.inflation(), 1.0);
        assert_eq!(dispersion.spread(0.1, 1.0), Spread { deviation: 0.1, freedom: PRIOR_HOSTS });
    }

    #[test]
    fn events_that_come_in_fives_count_for_one_each() {
        let single = shown(4, 240, one_at_a_time).inflation();
        let fives = shown(4, 240, |round, host| 5.0 * one_at_a_time(round, host)).inflation();

        assert!(single < 1.3, "{single}");
        assert!(fives > 4.0, "{fives}");
    }

    #[test]
    fn what_hits_all_hosts_at_once_is_no_inflation() {
        let together = |round: usize, _: usize| if round % 24 < 6 { 40.0 } else { 1.0 };

        assert_eq!(shown(4, 240, together).inflation(), 1.0);
        // One host alone cannot tell, and takes it for its own.
        assert!(shown(1, 240, together).inflation() > 5.0);
    }

    #[test]
    fn hosts_that_differ_for_good_are_spread_and_not_inflation() {
        let own = |_: usize, host: usize| [6.0, 8.0, 10.0, 16.0][host];
        let (alike, apart) = (shown(4, 240, |_, _| 10.0), shown(4, 240, own));

        assert!(apart.inflation() < 1.5, "{}", apart.inflation());
        let deviation = |dispersion: &Dispersion| dispersion.spread(0.1, 1.0).deviation;
        assert!(deviation(&apart) > 0.2, "{}", deviation(&apart));
        assert!(deviation(&alike) < 0.1, "{}", deviation(&alike));
    }
}
