//! Setting: the names of what can be said about a deploy.

use std::{fmt, str::FromStr};

use crate::nearest::nearest;

/// One thing that can be said about a deploy: in `[[deploy]]` of `cutover.toml` by its name, on
/// the command line by its name with hyphens.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum DeploySetting {
    Strategy,
    /// How many hosts move together.
    Batch,
    /// Which hosts go first.
    CanaryHosts,
    /// By which steps they get traffic.
    CanarySteps,
    /// Whether a person says that a canary was good enough.
    CanaryPromote,
    /// What follows when a canary cannot be judged.
    CanaryUnsure,
    /// When a canary is worse than the old release, and what is enough evidence.
    CanaryJudge,
    /// Which of the release's checks a canary is asked.
    CanaryChecks,
    /// By which header clients reach the new release on purpose.
    CanaryHeader,
    /// By which cookie they do.
    CanaryCookie,
    /// Whether no request may get the old release after one got the new.
    Cutover,
    /// How long requests are held at a cutover at the most.
    Hold,
    /// How long the old release runs on after a cutover.
    Keep,
    /// Whether a person says when to cut over.
    Approve,
    /// The label by whose values hosts are in two groups, of which edges lead to one.
    Groups,
    /// Where to stop before clients notice.
    Until,
    /// Whether the next host begins as soon as one is done, instead of when its batch is.
    Sliding,
    /// The batches after which a person is waited for.
    PauseAfter,
    /// The label that says in which zone a host is; zone comes after zone.
    Zone,
    /// How long a finished zone is watched.
    ZoneSoak,
    MinHealthy,
    /// How many stay healthy in each zone.
    ZoneMinHealthy,
    /// How busy the hosts that stay may be when others are taken out.
    MaxLoad,
    MaxFailed,
    MaxUnreachable,
    /// What becomes of a host that is out of reach.
    Unreachable,
    HealthyFor,
    HealthyWithin,
    ProgressWithin,
    Soak,
    Bake,
    AutoRollback,
}

impl DeploySetting {
    /// All of them, in the order to show.
    pub const ALL: [Self; 32] = [
        Self::Strategy,
        Self::Batch,
        Self::CanaryHosts,
        Self::CanarySteps,
        Self::CanaryPromote,
        Self::CanaryUnsure,
        Self::CanaryJudge,
        Self::CanaryChecks,
        Self::CanaryHeader,
        Self::CanaryCookie,
        Self::Cutover,
        Self::Hold,
        Self::Keep,
        Self::Approve,
        Self::Groups,
        Self::Until,
        Self::Sliding,
        Self::PauseAfter,
        Self::Zone,
        Self::ZoneSoak,
        Self::MinHealthy,
        Self::ZoneMinHealthy,
        Self::MaxLoad,
        Self::MaxFailed,
        Self::MaxUnreachable,
        Self::Unreachable,
        Self::HealthyFor,
        Self::HealthyWithin,
        Self::ProgressWithin,
        Self::Soak,
        Self::Bake,
        Self::AutoRollback,
    ];

    /// Returns the name, as in `cutover.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strategy => "strategy",
            Self::Batch => "batch",
            Self::CanaryHosts => "canary_hosts",
            Self::CanarySteps => "canary_steps",
            Self::CanaryPromote => "canary_promote",
            Self::CanaryUnsure => "canary_unsure",
            Self::CanaryJudge => "canary_judge",
            Self::CanaryChecks => "canary_checks",
            Self::CanaryHeader => "canary_header",
            Self::CanaryCookie => "canary_cookie",
            Self::Cutover => "cutover",
            Self::Hold => "hold",
            Self::Keep => "keep",
            Self::Approve => "approve",
            Self::Groups => "groups",
            Self::Until => "until",
            Self::Sliding => "sliding",
            Self::PauseAfter => "pause_after",
            Self::Zone => "zone",
            Self::ZoneSoak => "zone_soak",
            Self::MinHealthy => "min_healthy",
            Self::ZoneMinHealthy => "zone_min_healthy",
            Self::MaxLoad => "max_load",
            Self::MaxFailed => "max_failed",
            Self::MaxUnreachable => "max_unreachable",
            Self::Unreachable => "unreachable",
            Self::HealthyFor => "healthy_for",
            Self::HealthyWithin => "healthy_within",
            Self::ProgressWithin => "progress_within",
            Self::Soak => "soak",
            Self::Bake => "bake",
            Self::AutoRollback => "auto_rollback",
        }
    }
}

impl fmt::Display for DeploySetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no setting has.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no deploy setting {name:?}{}", .instead.map_or_else(String::new, |it| format!("; did you mean {it}?")))]
pub struct UnknownSetting {
    name: String,
    instead: Option<&'static str>,
}

impl FromStr for DeploySetting {
    type Err = UnknownSetting;

    fn from_str(text: &str) -> Result<Self, UnknownSetting> {
        let unknown = || UnknownSetting {
            name: text.chars().take(40).collect(),
            instead: nearest(text, Self::ALL.map(Self::name)),
        };
        Self::ALL.into_iter().find(|setting| setting.name() == text).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_name_and_a_wrong_one_hears_the_nearest() {
        for setting in DeploySetting::ALL {
            assert_eq!(setting.name().parse(), Ok(setting));
        }

        let error = "max_faild".parse::<DeploySetting>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no deploy setting \"max_faild\"; did you mean max_failed?"
        );
    }
}
