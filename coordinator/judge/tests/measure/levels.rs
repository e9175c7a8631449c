//! Streams of memory: what a fleet's instances would occupy while a canary is watched.

use cutover_judge::{Side, math};

use super::{
    baselines::{Hour, PeerAlarms, z_of_means},
    dice::Dice,
    streams::Canary,
};

/// A heartbeat.
pub const ROUND_SECONDS: f64 = 5.0;
const BYTES_IN_MIB: f64 = 1_048_576.0;
/// What an instance occupies at first.
const LEVEL_MIB: f64 = 300.0;
/// Requests come and go: a standard deviation of 10 % that is forgotten within a minute.
const NOISE: f64 = 0.1;
const KEPT_BY_ROUND: f64 = 0.9;

/// A fleet whose memory is watched. A canary by weight has an instance on each host.
#[derive(Clone, Copy, Debug)]
pub struct MemoryWatch {
    pub hosts: usize,
    pub canary: Canary,
    /// The standard deviation of the logarithm of a host's own level.
    pub skew: f64,
    /// Within so many seconds a level doubles, and falls back as the collector runs. Each
    /// instance is somewhere else in it.
    pub saw_tooth_seconds: Option<f64>,
    /// By how much both versions grow.
    pub growth_mib_per_minute: f64,
    /// What the canary multiplies its level by, and by how much it grows beside that.
    pub ratio: f64,
    pub leak_mib_per_minute: f64,
}

/// Ten hosts, of which each runs both versions.
pub const LEVEL: MemoryWatch = MemoryWatch {
    hosts: 10,
    canary: Canary::Weight(0.1),
    skew: 0.0,
    saw_tooth_seconds: None,
    growth_mib_per_minute: 0.0,
    ratio: 1.0,
    leak_mib_per_minute: 0.0,
};

/// A watch under way.
pub struct MemoryFlow {
    watch: MemoryWatch,
    dice: Dice,
    instances: Vec<Instance>,
    seconds: f64,
}

struct Instance {
    side: Side,
    host: usize,
    level_mib: f64,
    /// Where in its saw-tooth it began, from zero to one.
    phase: f64,
    noise: f64,
}

impl MemoryFlow {
    pub fn new(watch: MemoryWatch, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut instances = Vec::new();
        for host in 0..watch.hosts {
            let own = LEVEL_MIB * math::exp(watch.skew * dice.normal());
            for (side, times) in [(Side::Control, 1.0), (Side::Canary, watch.ratio)] {
                let runs = match watch.canary {
                    Canary::Weight(_) => true,
                    Canary::Hosts(hosts) => (host < hosts) == (side == Side::Canary),
                };
                if runs {
                    let (level_mib, phase) = (own * times, dice.unit());
                    instances.push(Instance { side, host, level_mib, phase, noise: 0.0 });
                }
            }
        }
        Self { watch, dice, instances, seconds: 0.0 }
    }

    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Gives `take` the side, the host and the bytes of each instance in the next round.
    pub fn next_round(&mut self, mut take: impl FnMut(Side, usize, u64)) {
        let watch = self.watch;
        self.seconds += ROUND_SECONDS;
        let fresh = NOISE * (1.0 - KEPT_BY_ROUND * KEPT_BY_ROUND).sqrt();
        for instance in &mut self.instances {
            instance.noise = KEPT_BY_ROUND * instance.noise + fresh * self.dice.normal();
            let leak = match instance.side {
                Side::Control => 0.0,
                Side::Canary => watch.leak_mib_per_minute,
            };
            let grown = (watch.growth_mib_per_minute + leak) * self.seconds / 60.0;
            let tooth = watch.saw_tooth_seconds.map_or(0.0, |seconds| {
                let place = self.seconds / seconds + instance.phase;
                place - place.floor()
            });
            let level = (instance.level_mib + grown) * (1.0 + tooth) * math::exp(instance.noise);
            take(instance.side, instance.host, in_bytes(level));
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "levels are some hundred MiB")]
#[expect(clippy::cast_sign_loss, reason = "levels are above zero")]
fn in_bytes(mib: f64) -> u64 {
    (mib * BYTES_IN_MIB) as u64
}

/// Shows an hour of `watch` to both others. A point is the mean of a minute, and the z-test that
/// of two means, of all gauges since the canary began, as if each were by itself.
pub fn memory_peers(watch: MemoryWatch, seed: u64) -> PeerAlarms {
    let mut flow = MemoryFlow::new(watch, seed);
    let mut hour = Hour::new(ROUND_SECONDS);
    let (mut minute, mut all) = ([[0.0; 3]; 2], [[0.0; 3]; 2]);
    while hour.is_open() {
        flow.next_round(|side, _, bytes| {
            let (side, mib) = (usize::from(side == Side::Canary), bytes as f64 / BYTES_IN_MIB);
            for sums in [&mut minute[side], &mut all[side]] {
                sums.iter_mut().zip([1.0, mib, mib * mib]).for_each(|(sum, more)| *sum += more);
            }
        });
        hour.end_round(z_of_means(all));
        if hour.is_minute_full() {
            hour.end_minute(minute.map(|[count, sum, _]| sum / count));
            minute = [[0.0; 3]; 2];
        }
    }
    hour.alarms()
}
