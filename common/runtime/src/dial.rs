//! A tonic channel over our TLS, and what to tell people when there is none.
//!
//! In TLS 1.3 a client's handshake ends before the server has judged its certificate, so dialing
//! is over only when the server has sent its first HTTP/2 bytes: a removed agent learns here that
//! it was removed, and not from the first call that fails.

mod network;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use cutover_common::protocol::HEARTBEAT_EVERY;
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error as TlsError, OtherError};
use rustls_pki_types::ServerName;
use tokio::{
    io::AsyncBufReadExt,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

pub use self::network::{Network, Tcp, watch_over};
use crate::tls::{
    OutOfTime,
    client::{CaMismatch, NotCoordinator},
    fault_in, utc,
};

/// How long connecting may take, from the name's look-up to the server's first bytes.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long an unanswered HTTP/2 ping may stay so. With pings every 5 s a peer that vanished is
/// noticed within 10 s.
const PING_ANSWER_MAX: Duration = Duration::from_secs(5);

/// How much of a refused address an error repeats, in characters.
const URL_ECHO_MAX: usize = 200;

/// For how many hosts the address that worked last is remembered: a program dials one or two.
const REMEMBERED_MAX: usize = 16;

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("{url:?} is not an address of a coordinator; write https://HOST:PORT")]
    NotHttps { url: String },
    #[error("the name {host:?} could not be looked up")]
    Resolve { host: String, source: io::Error },
    #[error("the coordinator at {address} is not reachable")]
    Unreachable { address: String, source: io::Error },
    #[error("the coordinator at {address} did not answer within {CONNECT_MAX:?}")]
    TooSlow { address: String },
    #[error("refusing to talk to {address}")]
    TlsCaMismatch { address: String, source: CaMismatch },
    #[error("refusing to talk to {address}: {text}")]
    Certificate { address: String, text: String },
    #[error("the coordinator at {address} refused this connection: {}", because.as_text())]
    Refused { address: String, because: Refusal },
    #[error("the connection to {address} could not be set up")]
    Setup { address: String, source: tonic::transport::Error },
}

/// Why a coordinator ended a handshake, as far as its alert says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The agent was removed, or has enrolled anew.
    Revoked,
    /// The certificate has ended, or begins later, by the coordinator's clock.
    Expired,
    /// The certificate is of another authority.
    ForeignCa,
    /// A certificate is needed and none was shown.
    NoCertificate,
    /// Anything else: closed without a word, or another alert.
    Other,
}

impl Refusal {
    /// Returns what it means and what to do.
    pub fn as_text(self) -> &'static str {
        match self {
            Self::Revoked => {
                "this agent was removed, or its name has joined again elsewhere; to bring it back \
                 type cutover-agent leave and join with a new token"
            }
            Self::Expired => {
                "this agent's certificate is not valid by the coordinator's clock; compare both \
                 clocks, and if they agree join again with a new token"
            }
            Self::ForeignCa => {
                "this agent's certificate is of another coordinator; join this one with a token"
            }
            Self::NoCertificate => "it serves agents that have joined; join with a token first",
            Self::Other => "it ended the handshake; its log may say why",
        }
    }
}

/// Connects to `url` (`https://HOST:PORT`) and speaks `alpn`.
///
/// # Errors
///
/// If there is no connection, either side does not trust the other, or the server is silent.
pub async fn channel(
    url: &str,
    config: Arc<ClientConfig>,
    alpn: &[u8],
) -> Result<Channel, DialError> {
    channel_over(Tcp::default(), url, config, alpn).await
}

/// Connects like [`channel`], over `network`: several agents on one machine, for one, can be told
/// apart by where they connect from.
///
/// # Errors
///
/// As for [`channel`], or if `network` cannot connect from where it should.
pub async fn channel_over<N: Network>(
    network: N,
    url: &str,
    config: Arc<ClientConfig>,
    alpn: &[u8],
) -> Result<Channel, DialError> {
    Dialer::new(url, network, config, alpn)?.channel().await
}

/// Returns whether `url` is one that [`channel`] takes.
///
/// # Errors
///
/// If it is anything but `https://HOST:PORT`.
pub fn parse_url(url: &str) -> Result<(), DialError> {
    host_and_port(url).map(|_| ())
}

/// Knows all that is needed to connect, again and again.
#[derive(Clone)]
struct Dialer<N> {
    host: String,
    port: u16,
    name: ServerName<'static>,
    network: N,
    config: Arc<ClientConfig>,
}

impl<N: Network> Dialer<N> {
    fn new(
        url: &str,
        network: N,
        config: Arc<ClientConfig>,
        alpn: &[u8],
    ) -> Result<Self, DialError> {
        let (host, port) = host_and_port(url)?;
        let name = ServerName::try_from(host.clone())
            .map_err(|_| DialError::NotHttps { url: url.to_owned() })?;
        let mut config = Arc::unwrap_or_clone(config);
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(Self { host, port, name, network, config: Arc::new(config) })
    }

    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    async fn channel(self) -> Result<Channel, DialError> {
        // The first connection is made here, for its exact error; tonic reconnects with `open`.
        let first = self.open().await?;
        let address = self.address();
        let setup = |source| DialError::Setup { address: address.clone(), source };
        // With `https` tonic insists on its own TLS; ours is beneath.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(setup)?
            .http2_keep_alive_interval(HEARTBEAT_EVERY)
            .keep_alive_timeout(PING_ANSWER_MAX)
            .keep_alive_while_idle(true);
        let ready = Arc::new(Mutex::new(Some(first)));
        let connector = tower::service_fn(move |_: Uri| {
            let (dialer, ready) = (self.clone(), ready.clone());
            async move {
                let first = ready.lock().unwrap_or_else(PoisonError::into_inner).take();
                let stream = match first {
                    Some(stream) => stream,
                    None => dialer.open().await?,
                };
                Ok::<_, DialError>(TokioIo::new(stream))
            }
        });
        endpoint.connect_with_connector(connector).await.map_err(setup)
    }

    async fn open(&self) -> Result<TlsStream<N::Stream>, DialError> {
        let deadline = Instant::now() + CONNECT_MAX;
        let too_slow = |_| DialError::TooSlow { address: self.address() };
        timeout_at(deadline, self.connect(deadline)).await.map_err(too_slow)?
    }

    async fn connect(&self, deadline: Instant) -> Result<TlsStream<N::Stream>, DialError> {
        let tcp = self.tcp(deadline).await?;
        let connector = TlsConnector::from(self.config.clone());
        let mut stream =
            connector.connect(self.name.clone(), tcp).await.map_err(|error| self.judge(error))?;
        // HTTP/2 begins with the server's settings, so the first byte means: accepted.
        match stream.fill_buf().await {
            Ok([]) => Err(DialError::Refused { address: self.address(), because: Refusal::Other }),
            Ok(_) => Ok(stream),
            Err(error) => Err(self.judge(error)),
        }
    }

    async fn tcp(&self, deadline: Instant) -> Result<N::Stream, DialError> {
        let mut last = io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            "the name has no address of the family of the local address",
        );
        let addresses = self.addresses().await?;
        for (number, address) in addresses.iter().enumerate() {
            // A share of the time for each: an address that swallows packets must not keep us
            // from the next.
            let shares = u32::try_from(addresses.len() - number).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Instant::now()) / shares;
            match timeout(share, self.network.connect(*address)).await {
                Ok(Ok(stream)) => {
                    remember(&self.address(), *address);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        let address = self.address();
        if last.kind() == io::ErrorKind::TimedOut {
            return Err(DialError::TooSlow { address });
        }
        Err(DialError::Unreachable { address, source: last })
    }

    /// Looks the host up; the address that worked last is tried after what the look-up says, or
    /// instead of it (promises.md §3 row 45: a wrong host fails the certificate's name check).
    async fn addresses(&self) -> Result<Vec<SocketAddr>, DialError> {
        let known = remembered(&self.address());
        let mut addresses = match self.network.lookup(&self.host, self.port).await {
            Ok(found) => found,
            Err(source) if known.is_none() => {
                return Err(DialError::Resolve { host: self.host.clone(), source });
            }
            Err(_) => Vec::new(),
        };
        addresses.extend(known.filter(|known| !addresses.contains(known)));
        addresses.retain(|address| self.network.reaches(*address));
        Ok(addresses)
    }

    /// Says what a failed handshake means.
    fn judge(&self, error: io::Error) -> DialError {
        let address = self.address();
        match fault_in(&error) {
            Some(TlsError::InvalidCertificate(reason)) => judge_certificate(address, reason),
            Some(TlsError::AlertReceived(alert)) => {
                DialError::Refused { address, because: refusal(*alert) }
            }
            Some(other) => DialError::Certificate { address, text: other.to_string() },
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                DialError::Refused { address, because: Refusal::Other }
            }
            None => DialError::Unreachable { address, source: error },
        }
    }
}

fn host_and_port(url: &str) -> Result<(String, u16), DialError> {
    // A password that was written into the address is not repeated.
    let shown = url.rsplit('@').next().unwrap_or_default();
    let refused = || DialError::NotHttps { url: shown.chars().take(URL_ECHO_MAX).collect() };
    let uri: Uri = url.parse().map_err(|_| refused())?;
    let authority = uri.authority().ok_or_else(refused)?;
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let has_user = authority.as_str().contains('@');
    if uri.scheme_str() != Some("https") || !is_bare || has_user {
        return Err(refused());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().filter(|port| *port != 0).ok_or_else(refused)?;
    if host.is_empty() || ServerName::try_from(host).is_err() {
        return Err(refused());
    }
    Ok((host.to_owned(), port))
}

fn judge_certificate(address: String, reason: &CertificateError) -> DialError {
    if let CertificateError::Other(OtherError(error)) = reason {
        if let Some(mismatch) = error.downcast_ref::<CaMismatch>() {
            return DialError::TlsCaMismatch { address, source: mismatch.clone() };
        }
        if error.downcast_ref::<NotCoordinator>().is_some() {
            return DialError::Certificate { address, text: NotCoordinator.to_string() };
        }
    }
    DialError::Certificate { address, text: certificate_fault(reason) }
}

fn certificate_fault(reason: &CertificateError) -> String {
    if let Some((out_of_time, now)) = OutOfTime::of(reason) {
        let remedy = match out_of_time {
            OutOfTime::Ended { .. } => {
                "; if that clock is right, restart the coordinator (it makes a new certificate), \
                 else set the clock"
            }
            OutOfTime::NotBegun { .. } => {
                ": one of the two clocks is wrong (CLOCK_SKEW); set it, for example with NTP"
            }
        };
        return format!("{out_of_time} and this machine's clock says {}{remedy}", utc(now));
    }
    if *reason == CertificateError::UnknownIssuer {
        return "its certificate is of another CA than the one that this side trusts: wrong \
                host, or somebody is in between"
            .to_owned();
    }
    reason.to_string()
}

fn refusal(alert: AlertDescription) -> Refusal {
    [
        (AlertDescription::CertificateRevoked, Refusal::Revoked),
        (AlertDescription::CertificateExpired, Refusal::Expired),
        (AlertDescription::UnknownCA, Refusal::ForeignCa),
        (AlertDescription::CertificateRequired, Refusal::NoCertificate),
    ]
    .into_iter()
    .find_map(|(known, refusal)| (known == alert).then_some(refusal))
    .unwrap_or(Refusal::Other)
}

static LAST_GOOD: LazyLock<Mutex<HashMap<String, SocketAddr>>> = LazyLock::new(Mutex::default);

fn remember(host: &str, address: SocketAddr) {
    let mut last_good = LAST_GOOD.lock().unwrap_or_else(PoisonError::into_inner);
    if last_good.len() < REMEMBERED_MAX || last_good.contains_key(host) {
        last_good.insert(host.to_owned(), address);
    }
}

fn remembered(host: &str) -> Option<SocketAddr> {
    LAST_GOOD.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied()
}

#[cfg(test)]
mod tests;
