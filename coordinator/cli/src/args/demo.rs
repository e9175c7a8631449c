//! `cutover demo`.

use clap::Args;
use cutover_common::manifest::Strategy;

/// How the demo goes.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many agents, on 127.0.0.11 and the following addresses
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=32))]
    pub agents: u8,
    /// How the second and the third release go out
    #[arg(long, value_name = "S", default_value_t = Strategy::Rolling)]
    pub strategy: Strategy,
    /// Leave the fleet running at the end, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}
