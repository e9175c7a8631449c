//! Service <-> pb.

use std::{ops::RangeInclusive, time::Duration};

use cutover_proto::v1 as pb;

use super::{
    InvalidRelease, millis,
    release::{duration, port},
};
use crate::{Limits, Network, Protocol, Service, Sticky, Swap, TlsFiles};

fn within<T: PartialOrd>(
    field: &'static str,
    value: T,
    range: &RangeInclusive<T>,
) -> Result<T, InvalidRelease> {
    if range.contains(&value) { Ok(value) } else { Err(InvalidRelease::OutOfRange(field)) }
}

impl TryFrom<pb::Service> for Service {
    type Error = InvalidRelease;

    fn try_from(message: pb::Service) -> Result<Self, InvalidRelease> {
        let (protocol, swap) = (message.protocol(), message.swap());
        let pb::Service {
            port: asked,
            protocol: _,
            swap: _,
            drain_ms,
            drain_long_lived_ms,
            keep_warm_ms,
            tls,
            sticky,
            proxy_protocol,
            trusted_peers,
            limits,
        } = message;
        let protocol = match protocol {
            pb::service::Protocol::Unspecified => {
                return Err(InvalidRelease::Unknown("service.protocol"));
            }
            pb::service::Protocol::Http => Protocol::Http,
            pb::service::Protocol::Tcp => Protocol::Tcp,
        };
        let trusted_peers = peers(trusted_peers)?;
        if proxy_protocol && trusted_peers.is_empty() {
            return Err(InvalidRelease::NobodyTrusted);
        }
        Ok(Self {
            port: port("service.port", asked)?,
            protocol,
            swap: match swap {
                pb::service::Swap::Unspecified => {
                    return Err(InvalidRelease::Unknown("service.swap"));
                }
                pb::service::Swap::Beside => Swap::Beside,
                pb::service::Swap::InPlace => Swap::InPlace,
            },
            drain: duration("service.drain", drain_ms)?,
            drain_long_lived: duration("service.drain_long_lived", drain_long_lived_ms)?,
            keep_warm: duration("service.keep_warm", keep_warm_ms)?,
            tls: tls.map(TryInto::try_into).transpose()?,
            sticky: sticky.map(|sticky| self::sticky(sticky, protocol)).transpose()?,
            proxy_protocol,
            trusted_peers,
            limits: limits.map(TryInto::try_into).transpose()?.unwrap_or_default(),
        })
    }
}

fn peers(texts: Vec<String>) -> Result<Vec<Network>, InvalidRelease> {
    if texts.len() > Service::TRUSTED_PEERS_MAX {
        return Err(InvalidRelease::OutOfRange("service.trusted_peers"));
    }
    let network = |text: String| {
        text.parse().map_err(|_| InvalidRelease::Peer(text.chars().take(64).collect()))
    };
    texts.into_iter().map(network).collect()
}

fn sticky(sticky: pb::service::Sticky, protocol: Protocol) -> Result<Sticky, InvalidRelease> {
    if protocol != Protocol::Http {
        return Err(InvalidRelease::OnlyHttp("service.sticky"));
    }
    let sticky = match sticky {
        pb::service::Sticky::Cookie(name) => Sticky::Cookie(name),
        pb::service::Sticky::Header(name) => Sticky::Header(name),
    };
    sticky.check().map_err(InvalidRelease::Sticky)?;
    Ok(sticky)
}

impl From<Service> for pb::Service {
    fn from(service: Service) -> Self {
        let Service {
            port,
            protocol,
            swap,
            drain,
            drain_long_lived,
            keep_warm,
            tls,
            sticky,
            proxy_protocol,
            trusted_peers,
            limits,
        } = service;
        let protocol = match protocol {
            Protocol::Http => pb::service::Protocol::Http,
            Protocol::Tcp => pb::service::Protocol::Tcp,
        };
        let swap = match swap {
            Swap::Beside => pb::service::Swap::Beside,
            Swap::InPlace => pb::service::Swap::InPlace,
        };
        Self {
            port: port.into(),
            protocol: protocol.into(),
            swap: swap.into(),
            drain_ms: millis(drain),
            drain_long_lived_ms: millis(drain_long_lived),
            keep_warm_ms: millis(keep_warm),
            tls: tls.map(Into::into),
            sticky: sticky.map(|sticky| match sticky {
                Sticky::Cookie(name) => pb::service::Sticky::Cookie(name),
                Sticky::Header(name) => pb::service::Sticky::Header(name),
            }),
            proxy_protocol,
            trusted_peers: trusted_peers.iter().map(ToString::to_string).collect(),
            limits: Some(limits.into()),
        }
    }
}

impl TryFrom<pb::TlsFiles> for TlsFiles {
    type Error = InvalidRelease;

    fn try_from(message: pb::TlsFiles) -> Result<Self, InvalidRelease> {
        let pb::TlsFiles { certificate, key } = message;
        for (field, path) in [("service.tls.certificate", &certificate), ("service.tls.key", &key)]
        {
            Self::check_path(path).map_err(|source| InvalidRelease::Path { field, source })?;
        }
        Ok(Self { certificate, key })
    }
}

impl From<TlsFiles> for pb::TlsFiles {
    fn from(files: TlsFiles) -> Self {
        let TlsFiles { certificate, key } = files;
        Self { certificate, key }
    }
}

impl TryFrom<pb::Limits> for Limits {
    type Error = InvalidRelease;

    fn try_from(message: pb::Limits) -> Result<Self, InvalidRelease> {
        let pb::Limits {
            head_bytes,
            body_bytes,
            head_within_ms,
            stall_within_ms,
            idle_within_ms,
            answer_within_ms,
            connections,
        } = message;
        let time = |field, ms| within(field, Duration::from_millis(ms), &Self::WITHIN);
        let body = |bytes| within("service.limits.body_bytes", bytes, &Self::BODY_BYTES);
        Ok(Self {
            head_bytes: within("service.limits.head_bytes", head_bytes, &Self::HEAD_BYTES)?,
            body_bytes: body_bytes.map(body).transpose()?,
            head_within: time("service.limits.head_within", head_within_ms)?,
            stall_within: time("service.limits.stall_within", stall_within_ms)?,
            idle_within: time("service.limits.idle_within", idle_within_ms)?,
            answer_within: time("service.limits.answer_within", answer_within_ms)?,
            connections: within("service.limits.connections", connections, &Self::CONNECTIONS)?,
        })
    }
}

impl From<Limits> for pb::Limits {
    fn from(limits: Limits) -> Self {
        let Limits {
            head_bytes,
            body_bytes,
            head_within,
            stall_within,
            idle_within,
            answer_within,
            connections,
        } = limits;
        Self {
            head_bytes,
            body_bytes,
            head_within_ms: millis(head_within),
            stall_within_ms: millis(stall_within),
            idle_within_ms: millis(idle_within),
            answer_within_ms: millis(answer_within),
            connections,
        }
    }
}
