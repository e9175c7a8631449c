//! Whether a program makes sense, judged before any of it is done.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

use cutover_common::{
    ApplicationName, HoldLimits,
    service::{InvalidSticky, check_header},
};

use super::{
    Flow, Limits, Program, Protocol, Route, SERVICES_MAX, Service, Sticky, UPSTREAMS_MAX, Upstream,
    UpstreamName,
};

/// Why a program is refused. Nothing of it is done then.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidProgram {
    #[error("the program has {count} services; at most {SERVICES_MAX} are allowed")]
    Services { count: usize },
    #[error("application {0} stands in the program twice; give it one service")]
    ApplicationTwice(ApplicationName),
    #[error("two services listen on {0}; give each its own address")]
    ListenTwice(SocketAddr),
    #[error("service {application} is invalid")]
    Service {
        application: ApplicationName,
        #[source]
        source: InvalidService,
    },
}

/// Why a service is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidService {
    #[error("it listens on port 0; name a port")]
    ListenPort,
    #[error("it has {count} upstreams; at most {UPSTREAMS_MAX} are allowed")]
    Upstreams { count: usize },
    #[error("upstream {0} stands in it twice")]
    NameTwice(UpstreamName),
    #[error("two upstreams have the address {0}")]
    AddressTwice(SocketAddr),
    #[error("upstream {name} has the address {address}, to which nothing can connect")]
    Address { name: UpstreamName, address: SocketAddr },
    #[error(
        "upstream {name} has this gate's own address {address}: requests would run in a circle"
    )]
    Circle { name: UpstreamName, address: SocketAddr },
    #[error("upstream {name} has the weight {weight}; 0 to 1000 permille are allowed")]
    Weight { name: UpstreamName, weight: u16 },
    #[error("upstream {0} is reached on purpose and is not among the upstreams")]
    AllowsNobody(UpstreamName),
    #[error("{field} cannot be looked at")]
    Name {
        field: &'static str,
        #[source]
        source: InvalidSticky,
    },
    #[error("{0} is only for HTTP; plain TCP has no requests to look into")]
    OnlyHttp(&'static str),
    #[error("{field} is {value}; {} to {} are allowed", allowed.start(), allowed.end())]
    OutOfRange { field: &'static str, value: u64, allowed: RangeInclusive<u64> },
    #[error("the path {} is not absolute", .0.display())]
    Path(PathBuf),
    #[error("it accepts the PROXY protocol and trusts nobody to speak it; name trusted_peers")]
    NobodyTrusted,
    #[error("it trusts {count} peers; at most {UPSTREAMS_MAX} are allowed")]
    TrustedPeers { count: usize },
}

/// One day: the longest time that anything here takes.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

impl Program {
    /// Judges this program.
    ///
    /// # Errors
    ///
    /// The first thing that makes no sense.
    pub fn check(&self) -> Result<(), InvalidProgram> {
        if self.services.len() > SERVICES_MAX {
            return Err(InvalidProgram::Services { count: self.services.len() });
        }
        let (mut applications, mut listens) = (BTreeSet::new(), BTreeSet::new());
        for service in &self.services {
            if !applications.insert(&service.application) {
                return Err(InvalidProgram::ApplicationTwice(service.application.clone()));
            }
            if !listens.insert(service.listen) {
                return Err(InvalidProgram::ListenTwice(service.listen));
            }
        }
        for service in &self.services {
            check_service(service, &listens).map_err(|source| InvalidProgram::Service {
                application: service.application.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

fn check_service(service: &Service, listens: &BTreeSet<SocketAddr>) -> Result<(), InvalidService> {
    if service.listen.port() == 0 {
        return Err(InvalidService::ListenPort);
    }
    if service.trusted_peers.len() > UPSTREAMS_MAX {
        return Err(InvalidService::TrustedPeers { count: service.trusted_peers.len() });
    }
    if service.accepts_proxy_protocol && service.trusted_peers.is_empty() {
        return Err(InvalidService::NobodyTrusted);
    }
    if let Some(tls) = &service.tls {
        for path in [&tls.certificate, &tls.key] {
            if !path.is_absolute() {
                return Err(InvalidService::Path(path.clone()));
            }
        }
    }
    check_limits(&service.limits)?;
    check_upstreams(&service.route.upstreams, listens)?;
    check_choice(&service.route, service.protocol)?;
    check_flow(service.route.flow)
}

fn check_limits(limits: &Limits) -> Result<(), InvalidService> {
    let range = cutover_common::Limits::HEAD_BYTES;
    let range = u64::from(*range.start())..=u64::from(*range.end());
    within("head_bytes_max", limits.head_bytes_max.into(), range)?;
    let times = [
        ("head_ms", limits.head_ms),
        ("stall_ms", limits.stall_ms),
        ("idle_ms", limits.idle_ms),
        ("answer_ms", limits.answer_ms),
        ("connect_ms", limits.connect_ms),
        ("gate_connect_ms", limits.gate_connect_ms),
    ];
    for (field, value) in times {
        within(field, value.into(), 1..=DAY_MS)?;
    }
    let range = cutover_common::Limits::CONNECTIONS;
    let range = u64::from(*range.start())..=u64::from(*range.end());
    within("connections_max", limits.connections_max.into(), range)
}

fn check_upstreams(
    upstreams: &[Upstream],
    listens: &BTreeSet<SocketAddr>,
) -> Result<(), InvalidService> {
    if upstreams.len() > UPSTREAMS_MAX {
        return Err(InvalidService::Upstreams { count: upstreams.len() });
    }
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for upstream in upstreams {
        let Upstream { name, address, weight, drain, .. } = upstream;
        if !names.insert(name) {
            return Err(InvalidService::NameTwice(name.clone()));
        }
        if !addresses.insert(address) {
            return Err(InvalidService::AddressTwice(*address));
        }
        if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
            return Err(InvalidService::Address { name: name.clone(), address: *address });
        }
        if listens.iter().any(|listen| reaches(*address, *listen)) {
            return Err(InvalidService::Circle { name: name.clone(), address: *address });
        }
        if *weight > 1000 {
            return Err(InvalidService::Weight { name: name.clone(), weight: *weight });
        }
        if let Some(drain) = drain {
            within("drain.requests_ms", drain.requests_ms.into(), 0..=DAY_MS)?;
            within("drain.long_lived_ms", drain.long_lived_ms.into(), 0..=DAY_MS)?;
        }
    }
    Ok(())
}

/// Whether a connection to `address` certainly arrives at a socket that listens on `listen`.
fn reaches(address: SocketAddr, listen: SocketAddr) -> bool {
    let is_same = address.ip() == listen.ip();
    // A wildcard takes whatever comes to this host, of which only loopback is known here.
    let is_wildcard = match (address.ip(), listen.ip()) {
        (IpAddr::V4(ip), IpAddr::V4(on)) => on.is_unspecified() && ip.is_loopback(),
        (IpAddr::V6(ip), IpAddr::V6(on)) => on.is_unspecified() && ip.is_loopback(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    };
    address.port() == listen.port() && (is_same || is_wildcard)
}

fn check_choice(route: &Route, protocol: Protocol) -> Result<(), InvalidService> {
    match (&route.sticky, protocol) {
        (Some(_), Protocol::Tcp) => return Err(InvalidService::OnlyHttp("sticky")),
        (Some(Sticky::Cookie { name }), Protocol::Http) => {
            let checked = cutover_common::Sticky::Cookie(name.clone()).check();
            checked
                .map_err(|source| InvalidService::Name { field: "sticky.cookie.name", source })?;
        }
        (Some(Sticky::Header { name }), Protocol::Http) => header("sticky.header.name", name)?,
        (None, Protocol::Http | Protocol::Tcp) => {}
    }
    let Some(allow) = &route.allow else { return Ok(()) };
    if protocol == Protocol::Tcp {
        return Err(InvalidService::OnlyHttp("allow"));
    }
    if route.upstreams.iter().all(|upstream| upstream.name != allow.upstream) {
        return Err(InvalidService::AllowsNobody(allow.upstream.clone()));
    }
    Ok(())
}

fn check_flow(flow: Flow) -> Result<(), InvalidService> {
    match flow {
        Flow::Open => Ok(()),
        Flow::Hold { for_ms, requests_max, bytes_max } => {
            let times = HoldLimits::WITHIN;
            let [first, last] = [times.start(), times.end()]
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            within("hold.for_ms", for_ms.into(), first..=last)?;
            let requests = HoldLimits::REQUESTS;
            let requests = u64::from(*requests.start())..=u64::from(*requests.end());
            within("hold.requests_max", requests_max.into(), requests)?;
            within("hold.bytes_max", bytes_max, HoldLimits::BYTES)
        }
    }
}

fn header(field: &'static str, name: &str) -> Result<(), InvalidService> {
    check_header(name).map_err(|source| InvalidService::Name { field, source })
}

fn within(
    field: &'static str,
    value: u64,
    allowed: RangeInclusive<u64>,
) -> Result<(), InvalidService> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(InvalidService::OutOfRange { field, value, allowed })
}
