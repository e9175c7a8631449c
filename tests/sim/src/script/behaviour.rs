//! Behaviour: what an application does once it is started.

use cutover_common::HookKind;
use serde::{Deserialize, Serialize};

/// How the instances of a release behave.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Behaviour {
    /// From its start until it answers.
    pub boot_ms: u64,
    pub life: Life,
    pub on_stop: OnStop,
    #[serde(default)]
    pub hook: HookBehaviour,
    /// One of its other hooks that does not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_hook: Option<BadHook>,
}

/// A hook that does not pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct BadHook {
    pub kind: HookKind,
    pub how: HookBehaviour,
}

/// What becomes of an instance.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Life {
    /// Answers well for ever.
    Well,
    /// Cannot be executed.
    CannotStart,
    /// Lives, and never answers well.
    NeverReady,
    /// Exits this long after its start, every time.
    Crashes { after_ms: u64 },
    /// Exits this long after its start, the first `times` times on each host.
    CrashesAtFirst { after_ms: u64, times: u32 },
    /// Passes once, then never again.
    PassesOnce,
    /// Answers well and badly in turn.
    Flaps { period_ms: u64 },
    /// Answers well, and badly for ever from this long after its start.
    TurnsBad { after_ms: u64 },
}

/// How an instance takes its stop signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum OnStop {
    Exits {
        after_ms: u64,
    },
    /// Has to be killed when its grace is over.
    Ignores,
    /// Exits, and leaves a child that can only be found and ended later.
    LeavesChild {
        for_ms: u64,
    },
}

/// How the stop hook behaves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum HookBehaviour {
    #[default]
    Passes,
    Fails,
    /// Has to be killed when its time is over.
    Hangs,
}

/// What the checks of a release answer, once they are asked of its canary.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct CheckBehaviours {
    /// By the metrics server.
    #[serde(default)]
    pub metric: CheckBehaviour,
    /// By the command on each host.
    #[serde(default)]
    pub command: CheckBehaviour,
}

/// How the requests to a release end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Answers {
    /// How many in a thousand fail.
    #[serde(default)]
    pub errors_permille: u32,
    /// How long most of them take.
    pub latency_ms: u64,
}

impl Answers {
    /// Of a release that works.
    pub const GOOD: Self = Self { errors_permille: 0, latency_ms: 10 };

    pub(super) fn are_good(&self) -> bool {
        *self == Self::GOOD
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self::GOOD
    }
}

/// What a check answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckBehaviour {
    #[default]
    Passes,
    Fails,
    /// Fails the first time that a process asks it.
    Blips,
    /// Says nothing on the canary, and how that is.
    Errs,
    /// Gives no answer in time.
    Hangs,
}

impl CheckBehaviours {
    pub(super) fn all_pass(&self) -> bool {
        *self == Self::default()
    }

    /// Returns how the check of this name behaves.
    pub fn of(self, check: &str) -> CheckBehaviour {
        if check == "metric" { self.metric } else { self.command }
    }
}

impl CheckBehaviour {
    /// Returns whether there is never an answer that is good.
    pub const fn never_passes(self) -> bool {
        matches!(self, Self::Fails | Self::Errs | Self::Hangs)
    }
}

impl Behaviour {
    /// A release that works.
    pub const WELL: Self = Self {
        boot_ms: 300,
        life: Life::Well,
        on_stop: OnStop::Exits { after_ms: 50 },
        hook: HookBehaviour::Passes,
        bad_hook: None,
    };

    /// Returns whether it becomes healthy and stays so.
    pub const fn is_good(&self) -> bool {
        let is_kept_back = match self.bad_hook {
            None => false,
            // Around a stop it is a warning, never a veto.
            Some(BadHook { kind: HookKind::BeforeStop | HookKind::AfterStop, .. }) => false,
            Some(BadHook { how: HookBehaviour::Passes, .. }) => false,
            Some(BadHook { .. }) => true,
        };
        !is_kept_back && matches!(self.life, Life::Well | Life::CrashesAtFirst { .. })
    }

    /// Returns how its hook of this kind behaves.
    pub fn of_hook(&self, kind: HookKind) -> HookBehaviour {
        if kind == HookKind::BeforeStop {
            return self.hook;
        }
        self.bad_hook.filter(|bad| bad.kind == kind).map_or(HookBehaviour::Passes, |bad| bad.how)
    }
}
