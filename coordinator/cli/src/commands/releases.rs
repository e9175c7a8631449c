//! `cutover release …`

use super::{Desk, push};
use crate::{args::release::ReleaseCommand, failure::Failure, render::release};

/// Carries out one of the commands on releases.
pub(super) async fn run(desk: Desk<'_>, command: ReleaseCommand) -> Result<(), Failure> {
    match command {
        ReleaseCommand::Push { dir, version, output } => {
            let pushed = push::push(desk, &dir, version).await?;
            desk.print(output, &pushed, release::pushed)
        }
        ReleaseCommand::List { application, output } => {
            let releases = desk.coordinator().await?.releases(application.as_ref()).await?;
            let paint = desk.console.result_paint();
            desk.print(output, &releases, |releases| release::releases(releases, paint))
        }
    }
}
