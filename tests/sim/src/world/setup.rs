//! How a run begins: a coordinator, agents that have joined, environments and releases, all by the
//! calls that operators make.

use std::sync::Arc;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cutover_common::{
    CommandCheck, Config, Hook, HookKind, Labels, Limits, ProbePort, ProbeSpec, ProbeTarget,
    Protocol, Release, ReleaseRef, RunSpec, Service, Sha256, StopSignal, Swap, manifest::Manifest,
};
use cutover_coordinator_core::Request;

use super::{
    Happening, World,
    clock::Wall,
    counts::Requests,
    gate::Gate,
    host::{Certificate, DiskHandle, Host},
    kernel::Kernel,
    site::{Site, Store},
};
use crate::{
    dice::Dice,
    disk::SimDisk,
    moment::Moment,
    script::{Application, Mode},
};

/// Where the gate would listen. Each application has another one, by its number.
const SERVICE_PORT: u16 = 8000;

/// How long a hook may take.
pub const HOOK_WITHIN: Duration = Duration::from_secs(2);

impl World {
    pub(super) fn install(&mut self) {
        let seed = self.script.seed;
        let store = Store { incarnation: self.luck.uuid(), records: Vec::new() };
        self.sites.push(Site::new(0, seed, store));
        for number in 0..self.script.hosts {
            let host = self.make_host(number);
            self.hosts.push(host);
        }
        self.start_site(0);
        for host in 0..self.script.hosts {
            let token_hash = Sha256::of(self.luck.uuid().as_bytes());
            let expires = self.site(0).wall.at(self.now) + Duration::from_secs(600);
            self.ask(self.join_token(host, token_hash, expires), None);
            let at = Moment::from_ms(200);
            self.queue.push(at, Happening::Joins { host, token_hash });
            let epoch = self.host(host).epoch;
            let at = Moment::from_ms(400);
            self.queue.push(at, Happening::AgentStarts { number: host, epoch });
        }
        for application in self.script.applications.clone() {
            self.describe(&application);
        }
        for (index, entry) in self.script.entries.iter().enumerate() {
            self.queue.push(Moment::from_ms(entry.at_ms), Happening::Scheduled { index });
        }
        if let Mode::Liveness { heals_ms, .. } = self.script.mode {
            self.queue.push(Moment::from_ms(heals_ms), Happening::Heals);
        }
    }

    fn make_host(&self, number: u16) -> Host {
        let seed = self.script.seed;
        Host {
            name: format!("host-{number}").parse().expect("a name by the rules"),
            number,
            kernel: Kernel::new(),
            gate: Gate::new(Requests::new(Dice::new(seed, ("requests", number)))),
            disk: DiskHandle::new(SimDisk::new(Dice::new(seed, ("disk", number)))),
            wall: Wall::default(),
            releases: BTreeSet::new(),
            certificate: Certificate {
                enrolment: uuid::Uuid::nil(),
                not_after: Moment::default(),
                serial: 0,
            },
            epoch: 0,
            agent: None,
            suspended_until: None,
            paused_until: None,
            is_gone: false,
            observes_only: false,
            refuses_processes: 0,
            sync_slow_us: None,
            kill_at: None,
            spawning: BTreeMap::new(),
            luck: Dice::new(seed, ("host", number)),
        }
    }

    /// Returns the labels that a host joins with: one for each application that it belongs to.
    pub(super) fn labels_of(&self, host: u16) -> Labels {
        let of_host = |application: &&Application| application.hosts.contains(&host);
        let applications = self.script.applications.iter().filter(of_host);
        let zone = ("zone".to_owned(), zone_of(host).to_owned());
        let applications = applications.map(|it| (it.name.clone(), "yes".to_owned()));
        applications.chain([zone]).collect()
    }

    fn describe(&mut self, application: &Application) {
        let select = Labels::from([(application.name.clone(), "yes".to_owned())]);
        let name = application.name.parse().expect("a script's names are names");
        self.ask(Request::CreateEnvironment { name, select }, None);
        for release in &application.releases {
            let release = Arc::new(release_of(application, release));
            let manifest = manifest_of(application);
            self.ask(Request::RegisterRelease { release, manifest }, None);
        }
    }
}

/// Returns the zone that a host is in: they are of unequal size.
fn zone_of(host: u16) -> &'static str {
    match host % 5 {
        0 | 1 | 3 => "a",
        2 => "b",
        _ => "c",
    }
}

/// Returns the number at the end of an application's name.
fn number_of(name: &str) -> u16 {
    name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Returns as much of a `cutover.toml` as anybody reads.
fn manifest_of(application: &Application) -> String {
    let Some(checks) = application.checks else { return String::new() };
    let common = format!("every = \"1s\"\nwithin = \"1s\"\nfailures = {}\n", checks.failures);
    let mut text =
        format!("[application]\nname = {:?}\n[run]\ncommand = [\"./server\"]\n", application.name);
    if checks.metric {
        let query = "{{application}} {{release}} {{canary_hosts}}";
        text.push_str(&format!(
            "[[checks]]\nname = \"metric\"\nprometheus = {query:?}\nsource = \"main\"\n\
             fail_above = 1\n{common}"
        ));
    }
    if checks.command {
        text.push_str(&format!(
            "[[checks]]\nname = \"command\"\ncommand = [\"./check\"]\n{common}"
        ));
    }
    text
}

fn checks_of(application: &Application) -> Vec<CommandCheck> {
    let text = manifest_of(application);
    Manifest::parse(&text).map_or_else(|_| Vec::new(), |manifest| manifest.command_checks())
}

fn release_of(application: &Application, release: &crate::script::Release) -> Release {
    let content = format!("{} {}", application.name, release.version);
    let stop_hook = application.has_stop_hook.then_some(HookKind::BeforeStop);
    let kinds = application.hooks.iter().copied().chain(stop_hook);
    let hook = |kind: HookKind| Hook {
        kind,
        command: vec![format!("./{kind}")],
        within: HOOK_WITHIN,
        once: application.once && kind == HookKind::BeforeStart,
    };
    Release {
        name: ReleaseRef {
            application: application.name.parse().expect("a script's names are names"),
            version: release.version.parse().expect("a script's versions are versions"),
        },
        digest: Sha256::of(content.as_bytes()),
        size_bytes: release.archive_bytes,
        archive_digest: Sha256::of(format!("archive of {content}").as_bytes()),
        archive_size_bytes: release.archive_bytes,
        run: RunSpec {
            command: vec!["./server".to_owned()],
            env: BTreeMap::new(),
            stop_signal: StopSignal::Term,
            stop_within: Duration::from_millis(application.stop_within_ms),
            shared: Vec::new(),
        },
        probe: application.probe.map(|probe| ProbeSpec {
            target: ProbeTarget::Tcp {
                port: match application.gate {
                    Some(_) => ProbePort::Instance,
                    None => ProbePort::Fixed(8080),
                },
            },
            every: Duration::from_millis(probe.every_ms),
            timeout: Duration::from_millis(probe.timeout_ms),
            passes: probe.passes,
            failures: probe.failures,
            start_within: Duration::from_millis(probe.start_within_ms),
        }),
        hooks: kinds.map(hook).collect(),
        checks: checks_of(application),
        service: application.gate.map(|gate| Service {
            port: SERVICE_PORT + number_of(&application.name),
            protocol: Protocol::Http,
            swap: if gate.in_place { Swap::InPlace } else { Swap::Beside },
            drain: Duration::from_millis(gate.drain_ms),
            drain_long_lived: Duration::from_millis(gate.drain_ms),
            keep_warm: Duration::from_millis(gate.keep_warm_ms),
            tls: None,
            sticky: None,
            proxy_protocol: false,
            trusted_peers: Vec::new(),
            limits: Limits::default(),
        }),
        config: Config::default(),
    }
}
