//! `cutover release`.

use std::path::PathBuf;

use clap::Subcommand;
use cutover_common::{ApplicationName, Version};

use super::OutputArgs;

/// `cutover release …`
#[derive(Debug, Subcommand)]
pub enum ReleaseCommand {
    /// Pack a directory with a cutover.toml, and send it to the coordinator
    Push {
        /// The directory; everything in it becomes part of the release
        dir: PathBuf,
        /// The version's name [default: the beginning of the content's digest]
        #[arg(long)]
        version: Option<Version>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List the releases, the newest first
    List {
        /// Only of this application
        #[arg(value_name = "APP")]
        application: Option<ApplicationName>,
        #[command(flatten)]
        output: OutputArgs,
    },
}
