//! The server's half of a handshake: one TCP connection in, one that is known to be of a kind out.

use std::{io, sync::Arc, time::Duration};

use cutover_common::Timestamp;
use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::{ALPN_H2, ALPN_JOIN, PeerIdentity, peer};

/// A connection whose handshake is complete.
pub type ServerStream<S = TcpStream> = tokio_rustls::server::TlsStream<S>;

/// How long a peer may take from connecting to the end of its handshake (promises.md T1.4).
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// A peer that has begun to speak TLS.
pub struct Greeting<S = TcpStream> {
    start: StartHandshake<S>,
    deadline: Instant,
}

/// An agent whose certificate was verified.
pub struct VerifiedAgent<S = TcpStream> {
    pub stream: ServerStream<S>,
    pub identity: PeerIdentity,
    /// When its certificate ends, and with it this connection.
    pub not_after: Timestamp,
}

/// What a connection to the agents' port turned out to be.
pub enum AgentsPort<S = TcpStream> {
    Join(ServerStream<S>),
    Agent(VerifiedAgent<S>),
}

/// The two configurations of the agents' port.
#[derive(Clone)]
pub struct AgentsPortConfig {
    pub join: Arc<ServerConfig>,
    pub agents: Arc<ServerConfig>,
}

/// Why a connection came to nothing. No secret in it: it is logged at debug level and counted.
#[derive(Debug, thiserror::Error)]
pub enum Handshake {
    #[error("no complete handshake within {HANDSHAKE_MAX:?}")]
    TooSlow,
    #[error("the peer does not speak TLS 1.3 as we do")]
    Hello(#[source] io::Error),
    #[error("the handshake failed")]
    Failed(#[source] io::Error),
    #[error("the peer did not ask for the protocol of this port")]
    Protocol,
    #[error("the peer's certificate names nobody")]
    Identity(#[source] peer::BadIdentity),
    #[error("the peer showed no certificate")]
    NoCertificate,
}

/// Reads the peer's first message.
///
/// # Errors
///
/// If it is not TLS, or takes too long.
pub async fn greet<S>(stream: S) -> Result<Greeting<S>, Handshake>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = Instant::now() + HANDSHAKE_MAX;
    let start = timeout_at(deadline, LazyConfigAcceptor::new(Acceptor::default(), stream))
        .await
        .map_err(|_| Handshake::TooSlow)?
        .map_err(Handshake::Hello)?;
    Ok(Greeting { start, deadline })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Greeting<S> {
    /// Completes the handshake of the agents' port.
    ///
    /// Who asks for the join protocol and nothing else gets a connection for joining; everybody
    /// else must be an enrolled agent.
    ///
    /// # Errors
    ///
    /// If the peer is neither, or takes too long.
    pub async fn into_agents_port(
        self,
        config: AgentsPortConfig,
    ) -> Result<AgentsPort<S>, Handshake> {
        if self.wants_to_join() {
            return self.finish(config.join, ALPN_JOIN).await.map(AgentsPort::Join);
        }
        let stream = self.finish(config.agents, ALPN_H2).await?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let leaf = certificates.first().ok_or(Handshake::NoCertificate)?;
        let identity = PeerIdentity::from_certificate(leaf).map_err(Handshake::Identity)?;
        let not_after = peer::validity(leaf).map_err(Handshake::Identity)?.not_after;
        Ok(AgentsPort::Agent(VerifiedAgent { stream, identity, not_after }))
    }

    /// Completes the handshake of the operators' port.
    ///
    /// # Errors
    ///
    /// If it fails or takes too long.
    pub async fn into_operators_port(
        self,
        config: Arc<ServerConfig>,
    ) -> Result<ServerStream<S>, Handshake> {
        self.finish(config, ALPN_H2).await
    }

    fn wants_to_join(&self) -> bool {
        let hello = self.start.client_hello();
        let Some(mut offered) = hello.alpn() else { return false };
        offered.next() == Some(ALPN_JOIN) && offered.next().is_none()
    }

    async fn finish(
        self,
        config: Arc<ServerConfig>,
        alpn: &[u8],
    ) -> Result<ServerStream<S>, Handshake> {
        let stream = timeout_at(self.deadline, self.start.into_stream(config))
            .await
            .map_err(|_| Handshake::TooSlow)?
            .map_err(Handshake::Failed)?;
        // rustls lets a peer pass that offers no protocol at all.
        if stream.get_ref().1.alpn_protocol() == Some(alpn) {
            Ok(stream)
        } else {
            Err(Handshake::Protocol)
        }
    }
}
