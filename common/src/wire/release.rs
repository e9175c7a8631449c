//! Release <-> pb.

use std::time::Duration;

use cutover_proto::v1 as pb;

use super::{TooMany, bounded, millis};
use crate::{
    Hook, HookKind, ProbeSpec, ProbeTarget, Release, ReleaseRef, RunSpec, StopSignal,
    digest::InvalidDigest,
    duration_text::LONGEST,
    name::{InvalidName, InvalidVersion},
};

/// Why a message is no [`Release`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRelease {
    #[error("field `application` is invalid")]
    Application(#[source] InvalidName),
    #[error("field `version` is invalid")]
    Version(#[source] InvalidVersion),
    #[error("field `{field}` is invalid")]
    Digest { field: &'static str, source: InvalidDigest },
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    #[error("field `{0}` is longer than 24h")]
    TooLong(&'static str),
    #[error("field `{0}` is not a port")]
    Port(&'static str),
    #[error("field `stop_signal` names no signal that can stop a process")]
    Signal,
    #[error("field `hooks` has a kind that this version does not know")]
    UnknownHook,
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

fn duration(field: &'static str, ms: u64) -> Result<Duration, InvalidRelease> {
    let duration = Duration::from_millis(ms);
    if duration > LONGEST { Err(InvalidRelease::TooLong(field)) } else { Ok(duration) }
}

fn port(field: &'static str, port: u32) -> Result<u16, InvalidRelease> {
    match u16::try_from(port) {
        Ok(0) | Err(_) => Err(InvalidRelease::Port(field)),
        Ok(port) => Ok(port),
    }
}

fn argv(field: &'static str, command: Vec<String>) -> Result<Vec<String>, InvalidRelease> {
    if command.first().is_none_or(String::is_empty) {
        return Err(InvalidRelease::Missing(field));
    }
    bounded(field, command.len())?;
    Ok(command)
}

impl TryFrom<pb::Release> for Release {
    type Error = InvalidRelease;

    fn try_from(message: pb::Release) -> Result<Self, InvalidRelease> {
        let pb::Release {
            application,
            version,
            digest,
            size_bytes,
            archive_digest,
            archive_size_bytes,
            run,
            probe,
            hooks,
            service_port,
        } = message;
        let digest_of = |field, text: String| {
            text.parse().map_err(|source| InvalidRelease::Digest { field, source })
        };
        bounded("hooks", hooks.len())?;
        Ok(Self {
            name: ReleaseRef {
                application: application.parse().map_err(InvalidRelease::Application)?,
                version: version.parse().map_err(InvalidRelease::Version)?,
            },
            digest: digest_of("digest", digest)?,
            size_bytes,
            archive_digest: digest_of("archive_digest", archive_digest)?,
            archive_size_bytes,
            run: run.ok_or(InvalidRelease::Missing("run"))?.try_into()?,
            probe: probe.map(TryInto::try_into).transpose()?,
            hooks: hooks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            service_port: match service_port {
                0 => None,
                given => Some(port("service_port", given)?),
            },
        })
    }
}

impl From<Release> for pb::Release {
    fn from(release: Release) -> Self {
        let Release {
            name: ReleaseRef { application, version },
            digest,
            size_bytes,
            archive_digest,
            archive_size_bytes,
            run,
            probe,
            hooks,
            service_port,
        } = release;
        Self {
            application: application.into(),
            version: version.into(),
            digest: digest.to_string(),
            size_bytes,
            archive_digest: archive_digest.to_string(),
            archive_size_bytes,
            run: Some(run.into()),
            probe: probe.map(Into::into),
            hooks: hooks.into_iter().map(Into::into).collect(),
            service_port: service_port.map_or(0, u32::from),
        }
    }
}

impl TryFrom<pb::RunSpec> for RunSpec {
    type Error = InvalidRelease;

    fn try_from(message: pb::RunSpec) -> Result<Self, InvalidRelease> {
        let pb::RunSpec { command, env, stop_signal, stop_within_ms } = message;
        bounded("run.env", env.len())?;
        Ok(Self {
            command: argv("run.command", command)?,
            env,
            stop_signal: StopSignal::from_name(&stop_signal).ok_or(InvalidRelease::Signal)?,
            stop_within: duration("run.stop_within", stop_within_ms)?,
        })
    }
}

impl From<RunSpec> for pb::RunSpec {
    fn from(run: RunSpec) -> Self {
        let RunSpec { command, env, stop_signal, stop_within } = run;
        Self {
            command,
            env,
            stop_signal: stop_signal.name().to_owned(),
            stop_within_ms: millis(stop_within),
        }
    }
}

impl TryFrom<pb::ProbeSpec> for ProbeSpec {
    type Error = InvalidRelease;

    fn try_from(message: pb::ProbeSpec) -> Result<Self, InvalidRelease> {
        let pb::ProbeSpec {
            target,
            every_ms,
            timeout_ms,
            passes,
            failures,
            start_within_ms,
            port: asked,
        } = message;
        let target = match target.ok_or(InvalidRelease::Missing("probe.target"))? {
            pb::probe_spec::Target::HttpPath(path) if path.starts_with('/') => {
                ProbeTarget::Http { port: port("probe.port", asked)?, path }
            }
            pb::probe_spec::Target::HttpPath(_) => {
                return Err(InvalidRelease::Missing("probe.http_path"));
            }
            pb::probe_spec::Target::Tcp(_) => ProbeTarget::Tcp { port: port("probe.port", asked)? },
            pb::probe_spec::Target::Command(pb::CommandTarget { command }) => {
                ProbeTarget::Command(argv("probe.command", command)?)
            }
        };
        let at_least_one = |field, n: u32| match n {
            0 => Err(InvalidRelease::Missing(field)),
            n => Ok(n),
        };
        if every_ms == 0 || timeout_ms == 0 {
            return Err(InvalidRelease::Missing("probe.every"));
        }
        Ok(Self {
            target,
            every: duration("probe.every", every_ms)?,
            timeout: duration("probe.timeout", timeout_ms)?,
            passes: at_least_one("probe.passes", passes)?,
            failures: at_least_one("probe.failures", failures)?,
            start_within: duration("probe.start_within", start_within_ms)?,
        })
    }
}

impl From<ProbeSpec> for pb::ProbeSpec {
    fn from(probe: ProbeSpec) -> Self {
        let ProbeSpec { target, every, timeout, passes, failures, start_within } = probe;
        let (target, port) = match target {
            ProbeTarget::Http { port, path } => {
                (pb::probe_spec::Target::HttpPath(path), u32::from(port))
            }
            ProbeTarget::Tcp { port } => (pb::probe_spec::Target::Tcp(true), u32::from(port)),
            ProbeTarget::Command(command) => {
                (pb::probe_spec::Target::Command(pb::CommandTarget { command }), 0)
            }
        };
        Self {
            target: Some(target),
            every_ms: millis(every),
            timeout_ms: millis(timeout),
            passes,
            failures,
            start_within_ms: millis(start_within),
            port,
        }
    }
}

impl TryFrom<pb::HookSpec> for Hook {
    type Error = InvalidRelease;

    fn try_from(message: pb::HookSpec) -> Result<Self, InvalidRelease> {
        let kind = message.kind();
        let pb::HookSpec { kind: _, command, within_ms } = message;
        Ok(Self {
            kind: match kind {
                pb::HookKind::Unspecified => return Err(InvalidRelease::UnknownHook),
                pb::HookKind::BeforeStop => HookKind::BeforeStop,
            },
            command: argv("hooks.command", command)?,
            within: duration("hooks.within", within_ms)?,
        })
    }
}

impl From<Hook> for pb::HookSpec {
    fn from(hook: Hook) -> Self {
        let Hook { kind, command, within } = hook;
        let kind = match kind {
            HookKind::BeforeStop => pb::HookKind::BeforeStop,
        };
        Self { kind: kind.into(), command, within_ms: millis(within) }
    }
}
