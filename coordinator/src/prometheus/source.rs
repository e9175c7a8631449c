//! Sources: metrics servers as an administrator names them on the command line.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use cutover_common::{ErrorChain, SourceName};
use cutover_runtime::tls::{files, outbound};
use hyper::Uri;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

/// How many servers there may be: each team has one.
const SOURCES_MAX: usize = 64;

/// The largest file of authorities, in bytes. A system's bundle has 220 KiB.
const CA_BYTES_MAX: u64 = 1024 * 1024;

/// A file that belongs to a source: `NAME=FILE`.
pub type NamedFile = (SourceName, PathBuf);

/// What was said of sources.
#[derive(Debug, Default)]
pub struct SourceFlags {
    pub urls: Vec<(SourceName, String)>,
    pub tokens: Vec<NamedFile>,
    pub cas: Vec<NamedFile>,
}

/// Why a source cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("--{flag} {name}: {problem}")]
pub struct BadSource {
    flag: &'static str,
    name: String,
    problem: String,
}

/// One server.
#[derive(Clone)]
pub struct Source {
    pub(super) host: String,
    pub(super) port: u16,
    /// What stands in front of `/api/v1/query`: empty, or `/prometheus`.
    pub(super) prefix: String,
    /// None: it is spoken to in the clear.
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Read for each question, so that it may be replaced.
    pub(super) token: Option<PathBuf>,
}

impl SourceFlags {
    /// Returns the servers that the flags name.
    ///
    /// # Errors
    ///
    /// Refuses a name that is there twice, an address that is none, a file that cannot be read, and
    /// a token that would cross the network in the clear.
    pub fn open(self) -> Result<BTreeMap<SourceName, Source>, BadSource> {
        let Self { urls, tokens, cas } = self;
        let tokens = once("metrics-token", tokens)?;
        let cas = once("metrics-ca", cas)?;
        let urls = once("metrics", urls)?;
        if urls.len() > SOURCES_MAX {
            let problem = format!("there are {} sources; give at most {SOURCES_MAX}", urls.len());
            return Err(bad("metrics", "", problem));
        }
        for (flag, names) in [("metrics-token", &tokens), ("metrics-ca", &cas)] {
            if let Some(name) = names.keys().find(|name| !urls.contains_key(*name)) {
                let problem = format!("there is no such source; name it with --metrics {name}=URL");
                return Err(bad(flag, name.as_str(), problem));
            }
        }
        let open = |(name, url): (SourceName, String)| {
            let source = Source::open(&name, &url, tokens.get(&name), cas.get(&name))?;
            Ok((name, source))
        };
        urls.into_iter().map(open).collect()
    }
}

fn bad(flag: &'static str, name: &str, problem: impl Into<String>) -> BadSource {
    BadSource { flag, name: name.to_owned(), problem: problem.into() }
}

fn once<T>(
    flag: &'static str,
    pairs: Vec<(SourceName, T)>,
) -> Result<BTreeMap<SourceName, T>, BadSource> {
    let mut known = BTreeMap::new();
    for (name, value) in pairs {
        let text = name.to_string();
        if known.insert(name, value).is_some() {
            return Err(bad(flag, &text, "is given twice"));
        }
    }
    Ok(known)
}

impl Source {
    fn open(
        name: &SourceName,
        url: &str,
        token: Option<&PathBuf>,
        ca: Option<&PathBuf>,
    ) -> Result<Self, BadSource> {
        // The address is not repeated: somebody may have written a password into it.
        let refuse = |problem: &str| bad("metrics", name.as_str(), problem);
        let uri: Uri = url.parse().map_err(|_| refuse("is no address; write http://HOST:PORT"))?;
        let authority = uri.authority().ok_or_else(|| refuse("names no host"))?;
        if authority.as_str().contains('@') {
            let instead =
                "has a name or a password in it; put a token into a file: --metrics-token";
            return Err(refuse(instead));
        }
        if uri.query().is_some() {
            return Err(refuse("has a query; write the address alone"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (is_tls, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(refuse("begins neither with http:// nor with https://")),
        };
        let tls = match (is_tls, ca) {
            (true, Some(path)) => Some(connector(name, &host, path)?),
            (true, None) => {
                return Err(bad(
                    "metrics",
                    name.as_str(),
                    format!(
                        "says nothing of whom to trust; give --metrics-ca {name}=FILE, such as \
                         /etc/ssl/certs/ca-certificates.crt for all authorities of the system"
                    ),
                ));
            }
            (false, Some(_)) => {
                return Err(bad("metrics-ca", name.as_str(), "has no meaning beside http://"));
            }
            (false, None) => None,
        };
        if token.is_some() && !is_tls && !is_loopback(&host) {
            let problem = "would cross the network in the clear; write https://";
            return Err(bad("metrics-token", name.as_str(), problem));
        }
        if let Some(path) = token {
            read_token(path).map_err(|problem| bad("metrics-token", name.as_str(), problem))?;
        }
        Ok(Self {
            host,
            port: authority.port_u16().unwrap_or(port),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            tls,
            token: token.cloned(),
        })
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn connector(
    name: &SourceName,
    host: &str,
    path: &Path,
) -> Result<(TlsConnector, ServerName<'static>), BadSource> {
    let refuse = |problem: String| bad("metrics-ca", name.as_str(), problem);
    let pem = read_bounded(path).map_err(|error| refuse(format!("{}: {error}", path.display())))?;
    let config = outbound::trusting(&pem)
        .map_err(|error| refuse(format!("{}: {}", path.display(), ErrorChain(&error))))?;
    let server = ServerName::try_from(host.to_owned())
        .map_err(|_| refuse(format!("{host:?} is no name that a certificate can have")))?;
    Ok((TlsConnector::from(Arc::clone(&config)), server))
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(CA_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a bearer token. The error says nothing of what is in the file.
pub(super) fn read_token(path: &Path) -> Result<String, String> {
    let text = files::read_secret(path).map_err(|error| ErrorChain(&error).to_string())?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{} holds no token", path.display()));
    }
    Ok(token.to_owned())
}
