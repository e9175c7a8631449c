//! `[service]`, what clients meet: TLS, sticky, the PROXY protocol, limits.

use super::{
    problem::Problem,
    reader::{Item, Reader, Section, read},
    words::{LIMITS, STICKY, TLS},
};
use crate::{
    Limits, Network, Protocol, Service, Sticky, TlsFiles,
    network::InvalidNetwork,
    pace::echo,
    service::{InvalidHostPath, InvalidSticky},
};

/// Reads `tls`, when there is one.
pub(super) fn read_tls(service: &Section<'_>, reader: &mut Reader<'_>) -> Option<TlsFiles> {
    let item = service.item("tls")?;
    let section = Section::open(&item, &TLS, reader)?;
    let mut path = |key, example: &str| {
        section.required(key, &format!("write {key} = {example}"), reader);
        section.read(key, reader, |item| host_path(item, example))
    };
    let certificate = path("certificate", "\"/etc/ssl/web.pem\"");
    let key = path("key", "\"/etc/ssl/web.key\"");
    Some(TlsFiles { certificate: certificate?, key: key? })
}

fn host_path(item: &Item<'_>, example: &str) -> Result<String, Problem> {
    let text = item.string(example)?;
    match TlsFiles::check_path(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(error @ InvalidHostPath::NotAbsolute) => {
            let problem = format!("{} is {error}", echo(text));
            Err(Problem::new(
                problem,
                format!("write where it is on every host, such as {example}"),
            ))
        }
        Err(error @ (InvalidHostPath::TooLong(_) | InvalidHostPath::Characters)) => {
            Err(Problem::new(format!("is {error}"), format!("write a path such as {example}")))
        }
    }
}

/// Reads `sticky`, when there is one.
pub(super) fn read_sticky(
    service: &Section<'_>,
    protocol: Protocol,
    reader: &mut Reader<'_>,
) -> Option<Sticky> {
    let item = service.item("sticky")?;
    refuse_for_tcp(&item, protocol, reader);
    let section = Section::open(&item, &STICKY, reader)?;
    let cookie = section.read("cookie", reader, |item| sticky(item, "\"route\"", Sticky::Cookie));
    let header =
        section.read("header", reader, |item| sticky(item, "\"X-Session\"", Sticky::Header));
    match (section.item("cookie"), section.item("header")) {
        // An unknown name has its mistake already.
        (None, None) if section.items().next().is_some() => None,
        (None, None) => {
            let instead = "write { cookie = \"route\" } or { header = \"X-Session\" }";
            reader.refuse_presence(&section.place, Problem::new("names nothing", instead));
            None
        }
        (Some(_), Some(header)) => {
            let problem = Problem::new("clients are kept by cookie already", "keep one of them");
            reader.refuse(&header.place, problem);
            None
        }
        (Some(_), None) | (None, Some(_)) => cookie.or(header),
    }
}

fn sticky(
    item: &Item<'_>,
    example: &str,
    of: impl FnOnce(String) -> Sticky,
) -> Result<Sticky, Problem> {
    let text = item.string(example)?;
    let sticky = of(text.to_owned());
    match sticky.check() {
        Ok(()) => Ok(sticky),
        Err(InvalidSticky::Form(_)) => {
            let instead = "write 1 to 64 letters, digits, hyphens or underscores";
            Err(Problem::new(format!("{} is no name", echo(text)), instead))
        }
        Err(InvalidSticky::Reserved(_)) => {
            let problem = format!("{} belongs to the connection or to the gate", echo(text));
            Err(Problem::new(problem, "write a header that your clients send"))
        }
    }
}

/// Reads `proxy_protocol` and `trusted_peers`.
pub(super) fn read_peers(
    service: &Section<'_>,
    protocol: Protocol,
    reader: &mut Reader<'_>,
) -> (bool, Vec<Network>) {
    let is_on = service.read("proxy_protocol", reader, |item| item.boolean());
    let peers = service.item("trusted_peers").and_then(|item| read_networks(&item, reader));
    let instead = "write trusted_peers = [\"10.0.0.1\"] with the addresses of the load balancers";
    match (is_on, service.item("trusted_peers")) {
        (Some(true), None) => {
            service.required("trusted_peers", instead, reader);
        }
        (Some(true), Some(item)) if peers.as_ref().is_some_and(Vec::is_empty) => {
            let problem = "trusts nobody to speak the PROXY protocol, so nobody could connect";
            reader.refuse(&item.place, Problem::new(problem, instead));
        }
        // Without it plain TCP has no place where a peer could say who its client is.
        (None | Some(false), Some(item)) if protocol == Protocol::Tcp => {
            let problem = "has no meaning for protocol \"tcp\" without proxy_protocol";
            reader.refuse(
                &item.place,
                Problem::new(problem, "write proxy_protocol = true, or remove it"),
            );
        }
        (None | Some(_), _) => {}
    }
    (is_on.unwrap_or_default(), peers.unwrap_or_default())
}

fn read_networks(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Vec<Network>> {
    let example = "write a list of addresses or networks, such as [\"10.0.0.1\", \"fd00::/8\"]";
    let Some(entries) = item.entries() else {
        let problem = format!("{} is not a list of addresses", item.description());
        reader.refuse(&item.place, Problem::new(problem, example));
        return None;
    };
    if entries.len() > Service::TRUSTED_PEERS_MAX {
        let instead = format!("write at most {}", Service::TRUSTED_PEERS_MAX);
        let problem = format!("has {} entries", entries.len());
        reader.refuse(&item.place, Problem::new(problem, instead));
        return None;
    }
    let mut networks = Vec::new();
    for entry in entries {
        networks.extend(read(&entry, reader, network));
    }
    Some(networks)
}

fn network(item: &Item<'_>) -> Result<Network, Problem> {
    let text = item.string("\"10.0.0.1\"")?;
    text.parse().map_err(|error| {
        let instead = match error {
            InvalidNetwork::Unaligned(network) => {
                format!("write \"{network}\" for all of it, or the address alone")
            }
            InvalidNetwork::Unreadable => {
                "write an address such as \"10.0.0.1\", or a network such as \"10.0.0.0/8\"; \
                 names are not looked up"
                    .to_owned()
            }
        };
        Problem::new(format!("{} {error}", echo(text)), instead)
    })
}

/// Reads `limits`, or returns the defaults.
pub(super) fn read_limits(
    service: &Section<'_>,
    protocol: Protocol,
    reader: &mut Reader<'_>,
) -> Limits {
    let defaults = Limits::default();
    let Some(item) = service.item("limits") else { return defaults };
    let Some(section) = Section::open(&item, &LIMITS, reader) else { return defaults };
    for key in ["head", "body", "stall_within", "idle_within", "answer_within"] {
        if let Some(item) = section.item(key) {
            refuse_for_tcp(&item, protocol, reader);
        }
    }
    let head = u64::from(*Limits::HEAD_BYTES.start())..=u64::from(*Limits::HEAD_BYTES.end());
    let head = section.read("head", reader, |item| item.size(&head));
    let mut within = |key| section.read(key, reader, |item| item.duration(&Limits::WITHIN));
    let (head_within, stall_within) = (within("head_within"), within("stall_within"));
    let (idle_within, answer_within) = (within("idle_within"), within("answer_within"));
    Limits {
        head_bytes: head.and_then(|it| it.try_into().ok()).unwrap_or(defaults.head_bytes),
        body_bytes: section.read("body", reader, |item| item.size(&Limits::BODY_BYTES)),
        head_within: head_within.unwrap_or(defaults.head_within),
        stall_within: stall_within.unwrap_or(defaults.stall_within),
        idle_within: idle_within.unwrap_or(defaults.idle_within),
        answer_within: answer_within.unwrap_or(defaults.answer_within),
        connections: section
            .read("connections", reader, |item| item.integer(&Limits::CONNECTIONS))
            .unwrap_or(defaults.connections),
    }
}

fn refuse_for_tcp(item: &Item<'_>, protocol: Protocol, reader: &mut Reader<'_>) {
    if protocol == Protocol::Tcp {
        let problem = "is only for HTTP: plain TCP has no requests to look into";
        let instead = "remove it, or write protocol = \"http\"";
        reader.refuse(&item.place, Problem::new(problem, instead));
    }
}
