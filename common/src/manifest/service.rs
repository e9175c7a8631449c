//! `[service]`: the application's public side.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    clients::{read_limits, read_peers, read_sticky, read_tls},
    health::PORTS,
    problem::Problem,
    reader::{Item, Reader, Section},
    words::SERVICE,
};
use crate::{Protocol, Service, Swap, duration_text::LONGEST, nearest::nearest, pace::echo};

/// From nothing, for requests that may be cut, to an hour: a drain that takes longer holds up a
/// rollout of ten batches for a day.
pub(super) const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60 * 60);

/// What common process managers grant a server that stops.
pub(super) const DRAIN_DEFAULT: Duration = Duration::from_secs(30);

/// Ten minutes for people who are in the middle of something.
pub(super) const DRAIN_LONG_LIVED_DEFAULT: Duration = Duration::from_secs(600);

pub(super) const KEEP_WARM: RangeInclusive<Duration> = Duration::ZERO..=LONGEST;

/// Reads `[service]`, when there is one.
pub(super) fn read_service(top: &Section<'_>, reader: &mut Reader<'_>) -> Option<Service> {
    let item = top.item("service")?;
    let section = Section::open(&item, &SERVICE, reader)?;
    section.required("port", "write port = 8080", reader);
    let port = section.read("port", reader, |item| item.integer(&PORTS));
    let named = section.read("protocol", reader, |item| {
        one_of(item, "protocol", Protocol::ALL.map(|one| (one.name(), one)))
    });
    let protocol = named.unwrap_or_default();
    let swap = section
        .read("swap", reader, |item| one_of(item, "swap", Swap::ALL.map(|one| (one.name(), one))));
    let drain = section.read("drain", reader, |item| item.duration(&DRAIN));
    let lasting = section.read("drain_long_lived", reader, |item| item.duration(&KEEP_WARM));
    let keep_warm = section.read("keep_warm", reader, |item| item.duration(&KEEP_WARM));
    let swap = swap.unwrap_or_default();
    if swap == Swap::InPlace
        && let Some(item) = section.item("keep_warm")
    {
        let problem = "has no meaning where swap is \"in_place\": the host holds one instance";
        reader.refuse(&item.place, Problem::new(problem, "remove it"));
    }
    let tls = read_tls(&section, reader);
    let sticky = read_sticky(&section, protocol, reader);
    let (proxy_protocol, trusted_peers) = read_peers(&section, protocol, reader);
    let limits = read_limits(&section, protocol, reader);
    Some(Service {
        port: port?,
        protocol,
        swap,
        drain: drain.unwrap_or(DRAIN_DEFAULT),
        drain_long_lived: lasting.unwrap_or(DRAIN_LONG_LIVED_DEFAULT),
        keep_warm: keep_warm.unwrap_or_default(),
        tls,
        sticky,
        proxy_protocol,
        trusted_peers,
        limits,
    })
}

fn one_of<T: Copy>(item: &Item<'_>, what: &str, words: [(&str, T); 2]) -> Result<T, Problem> {
    let names = words.map(|(name, _)| name);
    let text = item.string(&format!("{:?}", names[0]))?;
    words.into_iter().find(|(name, _)| *name == text).map(|(_, value)| value).ok_or_else(|| {
        let instead = match nearest(&text.to_lowercase(), names) {
            Some(name) => format!("write {name:?}"),
            None => format!("write {:?} or {:?}", names[0], names[1]),
        };
        Problem::new(format!("{} is no {what}", echo(text)), instead)
    })
}
