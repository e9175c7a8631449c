//! `cutover simulate`.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use cutover_common::{AgentName, EnvironmentName};

use super::{
    OutputArgs,
    deploy::{IfBusy, SettingArgs},
    values::{ReleaseArg, parse_timeout},
};

/// Arguments of `cutover simulate`.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// What would be deployed
    #[arg(value_name = "APP@VERSION")]
    pub release: ReleaseArg,

    /// Where to
    #[arg(long = "to", value_name = "ENV")]
    pub environment: EnvironmentName,

    /// Let the release never become healthy on this host; may be given several times
    #[arg(long, value_name = "AGENT")]
    pub fail: Vec<AgentName>,

    /// Cut this host off when it is told to switch, or all hosts of this zone with the first of
    /// them; may be given several times
    #[arg(long, value_name = "AGENT|ZONE", value_parser = NonEmptyStringValueParser::new())]
    pub lose: Vec<String>,

    /// Say that it is good enough wherever it waits for a person
    #[arg(long)]
    pub promote: bool,

    /// How long to assume that an instance takes from its start to the first probe that passes
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout, default_value = "5s")]
    pub starts_in: Duration,

    #[command(flatten)]
    pub settings: SettingArgs,

    /// What to do while another rollout of it is under way there: refuse, or supersede
    #[arg(long, value_name = "WHAT", value_enum, default_value_t, hide_possible_values = true)]
    pub if_busy: IfBusy,

    #[command(flatten)]
    pub output: OutputArgs,
}
