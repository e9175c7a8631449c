//! `cutover login`: checks who we are before anything is stored.

use super::Desk;
use crate::{
    args::login::LoginArgs,
    failure::Failure,
    grpc::Coordinator,
    login_file::{self, Login, Surroundings},
};

/// Checks the token with the coordinator, and stores it.
pub(super) async fn login(desk: Desk<'_>, args: LoginArgs) -> Result<(), Failure> {
    let LoginArgs { url, token, ca_hash } = args;
    if token.reveal().is_empty() {
        return Err(Failure::wrong_use("the token is empty"));
    }
    let path = Surroundings::of_this_process().login_file(desk.config)?;
    let coordinator = Coordinator::connect(url.as_str(), ca_hash.0, &token).await?;
    let identity = coordinator.who_am_i().await?;
    let login = Login { coordinator: url, ca_hash, token };
    login_file::write(&path, &login)?;
    desk.console.result(&format!(
        "logged in to {} as {} ({}), coordinator {}\n",
        login.coordinator, identity.name, identity.role, identity.coordinator_version,
    ))
}
