//! The plain forms: what everything is made to, where it need not be otherwise.

use crate::script::{
    Answers, Application, Behaviour, Call, CheckBehaviours, Direction, Disks, Fault, HookBehaviour,
    KillPoint, Life, Network, OnStop, Release, Script, Settings, What,
};

/// A network without noise.
const NETWORK: Network = Network {
    delay_min_us: 100,
    delay_max_us: 100,
    loss_permille: 0,
    drop_permille: 0,
    duplicate_permille: 0,
    reorder_permille: 0,
    late_max_ms: 50,
    bytes_per_ms: 1_000_000,
    keepalive: true,
};

/// Disks that are all alike.
const DISKS: Disks = Disks {
    sync_min_us: 100,
    sync_max_us: 100,
    journal_bytes_max: 1_048_576,
    append_bytes_max: 1_048_576,
};

type Calm<T> = fn(&mut T);

/// What can be calmed in the world: all of a part at once, then what did not work bit by bit.
pub(super) const WORLD: &[Calm<Script>] = &[
    |script| script.settings = Settings::default(),
    |script| script.settings.agent_batch_max = Settings::default().agent_batch_max,
    |script| script.settings.coordinator_batch_max = Settings::default().coordinator_batch_max,
    |script| script.settings.certificate_ms = Settings::default().certificate_ms,
    |script| script.network = NETWORK,
    |script| script.network.loss_permille = 0,
    |script| script.network.drop_permille = 0,
    |script| script.network.duplicate_permille = 0,
    |script| script.network.reorder_permille = 0,
    |script| script.network.late_max_ms = NETWORK.late_max_ms,
    |script| (script.network.delay_min_us, script.network.delay_max_us) = (100, 100),
    |script| script.network.bytes_per_ms = NETWORK.bytes_per_ms,
    |script| script.network.keepalive = true,
    |script| script.disks = DISKS,
    |script| (script.disks.sync_min_us, script.disks.sync_max_us) = (100, 100),
    |script| script.disks.journal_bytes_max = DISKS.journal_bytes_max,
    |script| script.disks.append_bytes_max = DISKS.append_bytes_max,
];

/// What can be calmed in an application.
pub(super) const APPLICATION: &[Calm<Application>] = &[
    |application| application.probe = None,
    |application| application.has_stop_hook = false,
    |application| application.hooks.clear(),
    |application| application.once = false,
    |application| application.checks = None,
    |application| application.requests_per_s = None,
    |application| application.stop_within_ms = 5_000,
];

/// What can be calmed in a release.
pub(super) const RELEASE: &[Calm<Release>] = &[
    |release| release.exceptions.clear(),
    |release| release.behaviour = Behaviour::WELL,
    |release| release.behaviour.life = Life::Well,
    |release| release.behaviour.hook = HookBehaviour::Passes,
    |release| release.behaviour.bad_hook = None,
    |release| release.behaviour.on_stop = OnStop::Exits { after_ms: 50 },
    |release| release.behaviour.boot_ms = Behaviour::WELL.boot_ms,
    |release| release.checks = CheckBehaviours::default(),
    |release| release.answers = Answers::GOOD,
    |release| release.answers.errors_permille = 0,
    |release| release.answers.latency_ms = Answers::GOOD.latency_ms,
    |release| release.is_damaged = false,
    |release| release.archive_bytes = 1_000,
];

/// Makes one thing plain.
pub(super) fn make_plain(what: &mut What) {
    match what {
        What::Fault(Fault::KillAgent { point, .. } | Fault::KillCoordinator { point, .. }) => {
            *point = KillPoint::Now;
        }
        What::Fault(Fault::CutLink { direction, .. }) => *direction = Direction::Both,
        What::Call(Call::Join { token_age_ms, .. }) => *token_age_ms = 0,
        What::Fault(_) | What::Call(_) => {}
    }
}

/// Rounds how long something lasts.
pub(super) fn round_times(what: &mut What, round: u64) {
    if let What::Fault(fault) = what
        && let Some(lasts_ms) = fault.lasts_ms_mut()
    {
        *lasts_ms = (*lasts_ms / round * round).max(100);
    }
}
