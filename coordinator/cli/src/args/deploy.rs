//! `cutover deploy`.

use clap::builder::NonEmptyStringValueParser;
use cutover_common::{DeploySetting, EnvironmentName};
use uuid::Uuid;

use super::{OutputArgs, rollout::WaitArgs, values::ReleaseArg};

/// Arguments of `cutover deploy`.
#[derive(Debug, clap::Args)]
pub struct DeployArgs {
    /// What to deploy
    #[arg(value_name = "APP@VERSION")]
    pub release: ReleaseArg,

    /// Where to
    #[arg(long = "to", value_name = "ENV")]
    pub environment: EnvironmentName,

    /// Print what would happen, wave by wave, and do nothing
    #[arg(long)]
    pub plan: bool,

    #[command(flatten)]
    pub settings: SettingArgs,

    #[command(flatten)]
    pub following: FollowingArgs,

    #[command(flatten)]
    pub wait: WaitArgs,

    /// What to do while another rollout of it is under way there: refuse, supersede, which stops
    /// that one and what is queued, or queue, which begins when all of that is over
    #[arg(long, value_name = "WHAT", value_enum, default_value_t, hide_possible_values = true)]
    pub if_busy: IfBusy,

    /// Deploy even where the environment is frozen, for this reason
    #[arg(long, value_name = "REASON", default_value = "", hide_default_value = true)]
    pub despite_freeze: String,

    /// Makes a repeated request the same rollout [default: a fresh one for each run]
    #[arg(long, value_name = "UUID")]
    pub request_id: Option<Uuid>,

    #[command(flatten)]
    pub output: OutputArgs,
}

/// What becomes of a deploy while another rollout of the application is under way there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum IfBusy {
    #[default]
    Refuse,
    Supersede,
    Queue,
}

/// Whether to wait for the end of the rollout.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct FollowingArgs {
    /// Wait for the end of the rollout [the default]
    #[arg(long, overrides_with = "no_watch")]
    watch: bool,

    /// Return as soon as the rollout is accepted
    #[arg(long, overrides_with = "watch")]
    no_watch: bool,
}

impl FollowingArgs {
    /// Returns whether to wait for the end.
    pub const fn is_watched(self) -> bool {
        self.watch || !self.no_watch
    }
}

/// How to go about it. What is not given comes from the release's cutover.toml, then from the
/// coordinator's defaults; the coordinator parses the values.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Settings (default: what cutover.toml says)")]
pub struct SettingArgs {
    /// How the release gets there: rolling, canary, blue_green, all_at_once, restart
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub strategy: Option<String>,

    /// How many hosts move together: 2, 25%, or a ramp such as 1,5,20%
    #[arg(long, value_name = "N|N%|LIST", value_parser = NonEmptyStringValueParser::new())]
    pub batch: Option<String>,

    /// Which hosts go first as a canary: 1, 10%, or a label such as tier=canary
    #[arg(long, value_name = "N|N%|K=V", value_parser = NonEmptyStringValueParser::new())]
    pub canary_hosts: Option<String>,

    /// By which steps they get traffic, and for how long each is compared: 5%:5m,50%:10m
    #[arg(long, value_name = "N%:DURATION,…", value_parser = NonEmptyStringValueParser::new())]
    pub canary_steps: Option<String>,

    /// Who says that a canary was good enough: auto, or manual for `cutover promote`
    #[arg(long, value_name = "WHO", value_parser = NonEmptyStringValueParser::new())]
    pub canary_promote: Option<String>,

    /// What follows when there is not enough evidence to judge it: wait, pass or fail
    #[arg(long, value_name = "WHAT", value_parser = NonEmptyStringValueParser::new())]
    pub canary_unsure: Option<String>,

    /// When it is worse than the old release, and what is enough to say so: errors=2x+0.5%,memory=off
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = NonEmptyStringValueParser::new())]
    pub canary_judge: Option<String>,

    /// Which of the release's checks a canary is asked: names, or none; all, unless it is said
    #[arg(long, value_name = "NAME,…", value_parser = NonEmptyStringValueParser::new())]
    pub canary_checks: Option<String>,

    /// The header by which clients reach the canary on purpose, such as x-canary=1
    #[arg(long, value_name = "NAME=VALUE", value_parser = NonEmptyStringValueParser::new())]
    pub canary_header: Option<String>,

    /// The cookie by which clients reach the canary on purpose, such as canary=1
    #[arg(long, value_name = "NAME=VALUE", value_parser = NonEmptyStringValueParser::new())]
    pub canary_cookie: Option<String>,

    /// How blue/green leads clients over: strict (no request gets the old release after one got the
    /// new one) or relaxed
    #[arg(long, value_name = "HOW", value_parser = NonEmptyStringValueParser::new())]
    pub cutover: Option<String>,

    /// How long requests wait at a strict cutover at the most
    #[arg(long, value_name = "DURATION", value_parser = NonEmptyStringValueParser::new())]
    pub hold: Option<String>,

    /// How long the old release runs on after a cutover
    #[arg(long, value_name = "DURATION", value_parser = NonEmptyStringValueParser::new())]
    pub keep: Option<String>,

    /// Wait for `cutover promote` before the cutover
    #[arg(long)]
    pub approve: bool,

    /// Blue/green between two groups of hosts behind an edge: the label that says in which group a
    /// host is
    #[arg(long, value_name = "LABEL", value_parser = NonEmptyStringValueParser::new())]
    pub groups: Option<String>,

    /// Stop there, before clients notice: smoke
    #[arg(long, value_name = "WHERE", value_parser = NonEmptyStringValueParser::new())]
    pub until: Option<String>,

    /// Begin with the next host as soon as one is done, instead of when the batch is
    #[arg(long)]
    pub sliding: bool,

    /// Wait for `cutover promote` after these batches, such as 1 or 1,3
    #[arg(long, value_name = "LIST", value_parser = NonEmptyStringValueParser::new())]
    pub pause_after: Option<String>,

    /// Zone after zone: the label that says in which zone a host is
    #[arg(long, value_name = "LABEL", value_parser = NonEmptyStringValueParser::new())]
    pub zone: Option<String>,

    /// How long each zone is watched before the next one begins
    #[arg(long, value_name = "DURATION", value_parser = NonEmptyStringValueParser::new())]
    pub zone_soak: Option<String>,

    /// How many hosts must stay healthy at every moment
    #[arg(long, value_name = "N|N%", value_parser = NonEmptyStringValueParser::new())]
    pub min_healthy: Option<String>,

    /// How many hosts of each zone must stay healthy at every moment
    #[arg(long, value_name = "N|N%", value_parser = NonEmptyStringValueParser::new())]
    pub zone_min_healthy: Option<String>,

    /// How busy the hosts that stay may be when others are taken out, such as 80%
    #[arg(long, value_name = "N%", value_parser = NonEmptyStringValueParser::new())]
    pub max_load: Option<String>,

    /// How many hosts may fail before the rollout does
    #[arg(long, value_name = "N|N%", value_parser = NonEmptyStringValueParser::new())]
    pub max_failed: Option<String>,

    /// How many hosts may be left out because they are out of reach
    #[arg(long, value_name = "N|N%", value_parser = NonEmptyStringValueParser::new())]
    pub max_unreachable: Option<String>,

    /// What becomes of a host that is out of reach: wait, skip (it gets the release later), or fail
    #[arg(long, value_name = "WHAT", value_parser = NonEmptyStringValueParser::new())]
    pub unreachable: Option<String>,

    /// How long a host must be healthy before it counts
    #[arg(long, value_name = "DURATION", value_parser = NonEmptyStringValueParser::new())]
    pub healthy_for: Option<String>,

    /// How long a host may take to become healthy
    #[arg(long, value_name = "DURATION", value_parser = NonEmptyStringValueParser::new())]
    pub healthy_within: Option<String>,

    /// How long the rollout may go without any progress
    #[arg(long, value_name = "DURATION", value_parser = NonEmptyStringValueParser::new())]
    pub progress_within: Option<String>,

    /// How long each wave is watched before the next one begins
    #[arg(long, value_name = "DURATION", value_parser = NonEmptyStringValueParser::new())]
    pub soak: Option<String>,

    /// How long the whole is watched at the end
    #[arg(long, value_name = "DURATION", value_parser = NonEmptyStringValueParser::new())]
    pub bake: Option<String>,

    /// Hold for a person instead of rolling back when the rollout fails
    #[arg(long)]
    pub no_auto_rollback: bool,
}

impl SettingArgs {
    /// Returns what was given, by its name.
    pub fn named(&self) -> Vec<(DeploySetting, String)> {
        let Self {
            strategy,
            batch,
            canary_hosts,
            canary_steps,
            canary_promote,
            canary_unsure,
            canary_judge,
            canary_checks,
            canary_header,
            canary_cookie,
            cutover,
            hold,
            keep,
            approve,
            groups,
            until,
            sliding,
            pause_after,
            zone,
            zone_soak,
            min_healthy,
            zone_min_healthy,
            max_load,
            max_failed,
            max_unreachable,
            unreachable,
            healthy_for,
            healthy_within,
            progress_within,
            soak,
            bake,
            no_auto_rollback,
        } = self.clone();
        let all = [
            (DeploySetting::Strategy, strategy),
            (DeploySetting::Batch, batch),
            (DeploySetting::CanaryHosts, canary_hosts),
            (DeploySetting::CanarySteps, canary_steps),
            (DeploySetting::CanaryPromote, canary_promote),
            (DeploySetting::CanaryUnsure, canary_unsure),
            (DeploySetting::CanaryJudge, canary_judge),
            (DeploySetting::CanaryChecks, canary_checks),
            (DeploySetting::CanaryHeader, canary_header),
            (DeploySetting::CanaryCookie, canary_cookie),
            (DeploySetting::Cutover, cutover),
            (DeploySetting::Hold, hold),
            (DeploySetting::Keep, keep),
            (DeploySetting::Approve, approve.then(|| "on".to_owned())),
            (DeploySetting::Groups, groups),
            (DeploySetting::Until, until),
            (DeploySetting::Sliding, sliding.then(|| "on".to_owned())),
            (DeploySetting::PauseAfter, pause_after),
            (DeploySetting::Zone, zone),
            (DeploySetting::ZoneSoak, zone_soak),
            (DeploySetting::MinHealthy, min_healthy),
            (DeploySetting::ZoneMinHealthy, zone_min_healthy),
            (DeploySetting::MaxLoad, max_load),
            (DeploySetting::MaxFailed, max_failed),
            (DeploySetting::MaxUnreachable, max_unreachable),
            (DeploySetting::Unreachable, unreachable),
            (DeploySetting::HealthyFor, healthy_for),
            (DeploySetting::HealthyWithin, healthy_within),
            (DeploySetting::ProgressWithin, progress_within),
            (DeploySetting::Soak, soak),
            (DeploySetting::Bake, bake),
            (DeploySetting::AutoRollback, no_auto_rollback.then(|| "off".to_owned())),
        ];
        all.into_iter().filter_map(|(setting, value)| Some((setting, value?))).collect()
    }
}
