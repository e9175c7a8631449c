//! Renewal: a certificate for the next half of its life, without a break of the session.

use std::{sync::Arc, time::Duration};

use cutover_common::ErrorChain;
use cutover_runtime::{clock::wall, tls::utc};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::join::{AgentIdentity, renew};

/// How often the certificate is looked at. The wall clock may step, so nothing longer is slept.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Renews this agent's certificate whenever half of its life is over and a coordinator is
/// connected. A renewal that failed is tried again a minute later: twelve hours remain for it.
pub async fn renew_in_time(
    identity: Arc<AgentIdentity>,
    channels: watch::Receiver<Option<Channel>>,
) {
    loop {
        let channel = channels.borrow().clone();
        match (identity.needs_renewal(wall()), channel) {
            (Ok(true), Some(channel)) => match renew(&identity, channel).await {
                Ok(until) => {
                    tracing::info!(agent = %identity.name, until = %utc(until), "certificate renewed");
                }
                Err(error) => {
                    tracing::warn!(agent = %identity.name, "could not renew the certificate: {}", ErrorChain(&error));
                }
            },
            (Ok(true), None) | (Ok(false), _) => {}
            (Err(error), _) => {
                tracing::error!(agent = %identity.name, "could not read the certificate: {}", ErrorChain(&error));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
