//! `cutover login`.

use super::values::{CaHash, CoordinatorUrl, Secret};

/// Arguments of `cutover login`.
#[derive(Debug, clap::Args)]
pub struct LoginArgs {
    /// The operators' address of the coordinator, such as https://HOST:7441
    #[arg(value_name = "URL")]
    pub url: CoordinatorUrl,

    /// Your token, as the coordinator's administrator gave it to you
    #[arg(long, value_name = "TOKEN", env = "CUTOVER_TOKEN", hide_env_values = true)]
    pub token: Secret,

    /// The fingerprint of the coordinator's CA, as `cutover-coordinator init` printed it
    #[arg(long, value_name = "sha256:HASH")]
    pub ca_hash: CaHash,
}
