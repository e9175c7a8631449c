//! Release <-> pb.

use std::time::Duration;

use cutover_proto::v1 as pb;
use uuid::Uuid;

use super::{TooMany, bounded, millis};
use crate::{
    CommandCheck, Config, Hook, HookKind, ProbePort, ProbeSpec, ProbeTarget, Release, ReleaseRef,
    RunSpec, SecretId, Service, StopSignal, VariableName,
    check::CHECKS_MAX,
    config::{InvalidVariableName, VALUE_BYTES_MAX},
    digest::InvalidDigest,
    duration_text::LONGEST,
    name::{InvalidName, InvalidVersion},
    release::is_shared_path,
    service::{InvalidHostPath, InvalidSticky},
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
    #[error("field `{0}` has a value that this version does not know")]
    Unknown(&'static str),
    #[error("field `hooks` has a kind that this version does not know")]
    UnknownHook,
    #[error("field `hooks` has two of one kind")]
    HookTwice,
    #[error("field `checks` has a bad name")]
    CheckName(#[source] InvalidName),
    #[error("field `checks` has two of one name, or more than {CHECKS_MAX}")]
    Checks,
    #[error("field `run.shared` names something else than a folder in the release")]
    Shared,
    #[error("field `{0}` is out of range")]
    OutOfRange(&'static str),
    #[error("field `{0}` is only for HTTP")]
    OnlyHttp(&'static str),
    #[error("field `{field}` is invalid")]
    Path { field: &'static str, source: InvalidHostPath },
    #[error("field `config` has a bad name")]
    Variable(#[from] InvalidVariableName),
    #[error("field `config.{0}` has a value that no variable can hold")]
    ConfigValue(VariableName),
    #[error("field `config.{0}` names no secret")]
    Secret(VariableName),
    #[error("field `service.sticky` is invalid")]
    Sticky(#[source] InvalidSticky),
    #[error("field `service.trusted_peers` has {0:?}, which is neither an address nor a network")]
    Peer(String),
    #[error("field `service.trusted_peers` is empty, and nobody could connect")]
    NobodyTrusted,
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

pub(super) fn duration(field: &'static str, ms: u64) -> Result<Duration, InvalidRelease> {
    let duration = Duration::from_millis(ms);
    if duration > LONGEST { Err(InvalidRelease::TooLong(field)) } else { Ok(duration) }
}

pub(super) fn port(field: &'static str, port: u32) -> Result<u16, InvalidRelease> {
    match u16::try_from(port) {
        Ok(0) | Err(_) => Err(InvalidRelease::Port(field)),
        Ok(port) => Ok(port),
    }
}

fn probe_port(port: u32) -> Result<ProbePort, InvalidRelease> {
    match port {
        0 => Ok(ProbePort::Instance),
        given => self::port("probe.port", given).map(ProbePort::Fixed),
    }
}

fn probe_port_out(port: ProbePort) -> u32 {
    match port {
        ProbePort::Instance => 0,
        ProbePort::Fixed(port) => port.into(),
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
            service,
            config,
            checks,
        } = message;
        let digest_of = |field, text: String| {
            text.parse().map_err(|source| InvalidRelease::Digest { field, source })
        };
        bounded("hooks", hooks.len())?;
        let hooks: Vec<Hook> =
            hooks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        if HookKind::ALL.iter().any(|kind| hooks.iter().filter(|it| it.kind == *kind).count() > 1) {
            return Err(InvalidRelease::HookTwice);
        }
        let service: Option<Service> = service.map(TryInto::try_into).transpose()?;
        let probe: Option<ProbeSpec> = probe.map(TryInto::try_into).transpose()?;
        if service.is_none() && probe.as_ref().is_some_and(ProbeSpec::asks_own_port) {
            return Err(InvalidRelease::Missing("probe.port"));
        }
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
            probe,
            hooks,
            service,
            config: config.unwrap_or_default().try_into()?,
            checks: command_checks(checks)?,
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
            service,
            config,
            checks,
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
            service: service.map(Into::into),
            config: (!config.is_empty()).then(|| config.into()),
            checks: checks.into_iter().map(Into::into).collect(),
        }
    }
}

fn command_checks(messages: Vec<pb::CommandCheck>) -> Result<Vec<CommandCheck>, InvalidRelease> {
    let mut checks: Vec<CommandCheck> = Vec::new();
    for message in messages {
        let check: CommandCheck = message.try_into()?;
        if checks.len() == CHECKS_MAX || checks.iter().any(|known| known.name == check.name) {
            return Err(InvalidRelease::Checks);
        }
        checks.push(check);
    }
    Ok(checks)
}

impl TryFrom<pb::CommandCheck> for CommandCheck {
    type Error = InvalidRelease;

    fn try_from(message: pb::CommandCheck) -> Result<Self, InvalidRelease> {
        let pb::CommandCheck { name, command, every_ms, within_ms } = message;
        let every = duration("checks.every", every_ms)?;
        let within = duration("checks.within", within_ms)?;
        // A host would do nothing else.
        if every < Self::EVERY_MIN || within.is_zero() {
            return Err(InvalidRelease::OutOfRange("checks.every"));
        }
        Ok(Self {
            name: name.parse().map_err(InvalidRelease::CheckName)?,
            command: argv("checks.command", command)?,
            every,
            within,
        })
    }
}

impl From<CommandCheck> for pb::CommandCheck {
    fn from(check: CommandCheck) -> Self {
        let CommandCheck { name, command, every, within } = check;
        Self { name: name.into(), command, every_ms: millis(every), within_ms: millis(within) }
    }
}

impl TryFrom<pb::Config> for Config {
    type Error = InvalidRelease;

    fn try_from(message: pb::Config) -> Result<Self, InvalidRelease> {
        let pb::Config { env, secrets } = message;
        bounded("config.env", env.len())?;
        bounded("config.secrets", secrets.len())?;
        let env = env.into_iter().map(|(name, value)| {
            let name: VariableName = name.parse()?;
            if value.len() > VALUE_BYTES_MAX || value.contains('\0') {
                return Err(InvalidRelease::ConfigValue(name));
            }
            Ok((name, value))
        });
        let secrets = secrets.into_iter().map(|(name, id)| {
            let name: VariableName = name.parse()?;
            match Uuid::try_parse(&id) {
                Ok(id) => Ok((name, SecretId(id))),
                Err(_) => Err(InvalidRelease::Secret(name)),
            }
        });
        Ok(Self {
            env: env.collect::<Result<_, InvalidRelease>>()?,
            secrets: secrets.collect::<Result<_, InvalidRelease>>()?,
        })
    }
}

impl From<Config> for pb::Config {
    fn from(config: Config) -> Self {
        let Config { env, secrets } = config;
        Self {
            env: env.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            secrets: secrets
                .into_iter()
                .map(|(name, id)| (name.into(), id.0.to_string()))
                .collect(),
        }
    }
}

impl TryFrom<pb::RunSpec> for RunSpec {
    type Error = InvalidRelease;

    fn try_from(message: pb::RunSpec) -> Result<Self, InvalidRelease> {
        let pb::RunSpec { command, env, stop_signal, stop_within_ms, shared } = message;
        bounded("run.env", env.len())?;
        bounded("run.shared", shared.len())?;
        // Where an agent makes links: never taken on trust.
        if !shared.iter().all(|path| is_shared_path(path)) {
            return Err(InvalidRelease::Shared);
        }
        Ok(Self {
            command: argv("run.command", command)?,
            env,
            stop_signal: StopSignal::from_name(&stop_signal).ok_or(InvalidRelease::Signal)?,
            stop_within: duration("run.stop_within", stop_within_ms)?,
            shared,
        })
    }
}

impl From<RunSpec> for pb::RunSpec {
    fn from(run: RunSpec) -> Self {
        let RunSpec { command, env, stop_signal, stop_within, shared } = run;
        Self {
            command,
            env,
            stop_signal: stop_signal.name().to_owned(),
            stop_within_ms: millis(stop_within),
            shared,
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
                ProbeTarget::Http { port: probe_port(asked)?, path }
            }
            pb::probe_spec::Target::HttpPath(_) => {
                return Err(InvalidRelease::Missing("probe.http_path"));
            }
            pb::probe_spec::Target::Tcp(_) => ProbeTarget::Tcp { port: probe_port(asked)? },
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
                (pb::probe_spec::Target::HttpPath(path), probe_port_out(port))
            }
            ProbeTarget::Tcp { port } => (pb::probe_spec::Target::Tcp(true), probe_port_out(port)),
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

/// Returns the kind of hook that a message names; none where it names none.
pub fn hook_kind(kind: pb::HookKind) -> Option<HookKind> {
    match kind {
        pb::HookKind::Unspecified => None,
        pb::HookKind::Install => Some(HookKind::Install),
        pb::HookKind::BeforeStart | pb::HookKind::BeforeStartOnce => Some(HookKind::BeforeStart),
        pb::HookKind::AfterStart => Some(HookKind::AfterStart),
        pb::HookKind::Smoke => Some(HookKind::Smoke),
        pb::HookKind::BeforeStop => Some(HookKind::BeforeStop),
        pb::HookKind::AfterStop => Some(HookKind::AfterStop),
    }
}

/// Returns how a message names a kind of hook, or none.
pub const fn hook_kind_out(kind: Option<HookKind>) -> pb::HookKind {
    match kind {
        None => pb::HookKind::Unspecified,
        Some(HookKind::Install) => pb::HookKind::Install,
        Some(HookKind::BeforeStart) => pb::HookKind::BeforeStart,
        Some(HookKind::AfterStart) => pb::HookKind::AfterStart,
        Some(HookKind::Smoke) => pb::HookKind::Smoke,
        Some(HookKind::BeforeStop) => pb::HookKind::BeforeStop,
        Some(HookKind::AfterStop) => pb::HookKind::AfterStop,
    }
}

impl TryFrom<pb::HookSpec> for Hook {
    type Error = InvalidRelease;

    fn try_from(message: pb::HookSpec) -> Result<Self, InvalidRelease> {
        let kind = message.kind();
        let pb::HookSpec { kind: _, command, within_ms } = message;
        Ok(Self {
            kind: hook_kind(kind).ok_or(InvalidRelease::UnknownHook)?,
            command: argv("hooks.command", command)?,
            within: duration("hooks.within", within_ms)?,
            once: kind == pb::HookKind::BeforeStartOnce,
        })
    }
}

impl From<Hook> for pb::HookSpec {
    fn from(hook: Hook) -> Self {
        let Hook { kind, command, within, once } = hook;
        let kind = match (kind, once) {
            (HookKind::BeforeStart, true) => pb::HookKind::BeforeStartOnce,
            (kind, _) => hook_kind_out(Some(kind)),
        };
        Self { kind: kind.into(), command, within_ms: millis(within) }
    }
}
