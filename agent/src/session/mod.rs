//! The session: this agent's one connection to the coordinator, dialed again whenever it ends.
//!
//! Decides nothing about applications: it turns messages into inputs. While there is no session
//! everything that runs keeps running (A2, A7).

mod logs;
mod outlet;
mod renewal;
mod stream;

use std::{sync::Arc, time::Duration};

use cutover_agent_core::{Input, SessionId};
use cutover_common::{Backoff, ErrorChain, protocol::REDIAL_WITHIN, wire::FarewellReason};
use cutover_runtime::{
    dial::{self, DialError, Network},
    dice::Dice,
    tls::{ALPN_H2, TlsSetup},
};
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;

pub use self::{outlet::Outlet, renewal::renew_in_time};
use crate::{join::AgentIdentity, process::LogFiles, secrets::Secrets};

/// After a connection that could not be made or broke: a restarted coordinator is found again in
/// seconds, and 1000 agents do not all dial in one second.
const REDIAL: Backoff = Backoff { first: Duration::from_secs(1), longest: REDIAL_WITHIN };

/// After ALREADY_CONNECTED: the coordinator needs up to 15 s to notice that an earlier connection
/// of this agent is dead.
const REDIAL_BUSY: Backoff =
    Backoff { first: Duration::from_secs(3), longest: Duration::from_secs(30) };

/// After an answer that a person must change: slow, but without anybody having to restart the
/// agent afterwards.
const REDIAL_REFUSED: Backoff =
    Backoff { first: Duration::from_secs(15), longest: Duration::from_secs(300) };

/// What a session needs.
#[derive(Clone)]
pub struct SessionSettings<N> {
    pub identity: Arc<AgentIdentity>,
    /// What to dial over.
    pub network: N,
    /// Where the jitter between dials comes from.
    pub dice: Arc<dyn Dice>,
    /// What operators may read.
    pub logs: LogFiles,
    /// Where the values of secrets are kept.
    pub secrets: Secrets,
}

/// How a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionEnd {
    #[error("could not set up TLS")]
    Tls(#[from] TlsSetup),
    #[error("not connected")]
    Dial(#[from] DialError),
    #[error("the coordinator did not take the session")]
    Open(#[source] Box<tonic::Status>),
    #[error("the connection broke")]
    Broken(#[source] Box<tonic::Status>),
    #[error("the coordinator closed the session")]
    Closed,
    #[error("the coordinator was silent for {:?}", cutover_common::protocol::SILENCE_MAX)]
    Silent,
    #[error("the coordinator sent something that this agent does not understand: {0}")]
    BadMessage(String),
    #[error(
        "PROTOCOL_MISMATCH: the coordinator speaks protocol {theirs}, this agent {}; run the same version of both",
        cutover_common::protocol::PROTOCOL
    )]
    OtherProtocol { theirs: u32 },
    #[error("this agent may not obey it")]
    Refused(#[from] cutover_agent_core::SessionRefusal),
    #[error("the coordinator ended the session: {text}")]
    Farewell { reason: FarewellReason, text: String },
}

impl SessionEnd {
    /// Returns how fast to dial again.
    fn backoff(&self) -> Backoff {
        match self {
            Self::Farewell { reason, .. } => match reason {
                FarewellReason::AlreadyConnected => REDIAL_BUSY,
                FarewellReason::ShuttingDown => REDIAL,
                FarewellReason::ProtocolMismatch
                | FarewellReason::Removed
                | FarewellReason::BadMessage => REDIAL_REFUSED,
            },
            Self::Refused(_) | Self::OtherProtocol { .. } | Self::BadMessage(_) => REDIAL_REFUSED,
            Self::Dial(DialError::Refused { .. }) | Self::Tls(_) => REDIAL_REFUSED,
            Self::Dial(
                DialError::NotHttps { .. }
                | DialError::Resolve { .. }
                | DialError::Unreachable { .. }
                | DialError::TooSlow { .. }
                | DialError::TlsCaMismatch { .. }
                | DialError::Certificate { .. }
                | DialError::Setup { .. },
            )
            | Self::Open(_)
            | Self::Broken(_)
            | Self::Closed
            | Self::Silent => REDIAL,
        }
    }
}

/// Keeps a session open until the engine is gone. `channels` is told of the connection that is
/// open, for fetching and renewing.
pub async fn keep<N: Network>(
    settings: SessionSettings<N>,
    outlet: Outlet,
    inbox: mpsc::Sender<Input>,
    channels: watch::Sender<Option<Channel>>,
) {
    let mut failures = 0;
    for number in 1.. {
        let session = SessionId(number);
        let mut was_welcomed = false;
        let ended = attempt(&settings, &outlet, &inbox, &channels, session, &mut was_welcomed);
        let Err(end) = ended.await else { return };
        outlet.close();
        channels.send_replace(None);
        if inbox.send(Input::SessionEnded { session }).await.is_err() {
            return;
        }
        failures = if was_welcomed { 1 } else { failures + 1 };
        let wait = end.backoff().after(failures, settings.dice.jitter());
        tracing::warn!(
            agent = %settings.identity.name, coordinator = %settings.identity.url,
            "{}; dialing again in {:.1} s, and what runs keeps running",
            ErrorChain(&end), wait.as_secs_f64()
        );
        tokio::time::sleep(wait).await;
    }
}

/// Dials and serves one session. Ok: the engine is gone.
async fn attempt<N: Network>(
    settings: &SessionSettings<N>,
    outlet: &Outlet,
    inbox: &mpsc::Sender<Input>,
    channels: &watch::Sender<Option<Channel>>,
    session: SessionId,
    was_welcomed: &mut bool,
) -> Result<(), SessionEnd> {
    let identity = &settings.identity;
    let config = identity.client_config()?;
    let network = settings.network.clone();
    let channel = dial::channel_over(network, &identity.url, config, ALPN_H2).await?;
    channels.send_replace(Some(channel.clone()));
    let inlet = outlet.open(session);
    if inbox.send(Input::SessionOpened { session }).await.is_err() {
        return Ok(());
    }
    let (logs, secrets) = (settings.logs.clone(), settings.secrets.clone());
    let serving = stream::Serving { inbox, session, logs, secrets };
    stream::serve(channel, inlet, serving, was_welcomed).await
}
