//! `cutover deploy`.

use clap::builder::NonEmptyStringValueParser;
use cutover_common::EnvironmentName;
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

    /// Makes a repeated request the same rollout [default: a fresh one for each run]
    #[arg(long, value_name = "UUID")]
    pub request_id: Option<Uuid>,

    #[command(flatten)]
    pub output: OutputArgs,
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
    /// How the release gets there: rolling, all_at_once, …
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub strategy: Option<String>,

    /// How many hosts move together: 2, 25%, or a ramp such as 1,5,20%
    #[arg(long, value_name = "N|N%|LIST", value_parser = NonEmptyStringValueParser::new())]
    pub batch: Option<String>,

    /// How many hosts must stay healthy at every moment
    #[arg(long, value_name = "N|N%", value_parser = NonEmptyStringValueParser::new())]
    pub min_healthy: Option<String>,

    /// How many hosts may fail before the rollout does
    #[arg(long, value_name = "N|N%", value_parser = NonEmptyStringValueParser::new())]
    pub max_failed: Option<String>,

    /// How many hosts may be unreachable before the rollout fails
    #[arg(long, value_name = "N|N%", value_parser = NonEmptyStringValueParser::new())]
    pub max_unreachable: Option<String>,

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
