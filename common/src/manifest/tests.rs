//! What a manifest may say, and a file that has everything wrong.

use super::*;
use crate::{
    Amount, Batches, HookKind, Limits, MaxLoad, Pauses, ProbePort, ProbeTarget, Protocol, Sticky,
    StopSignal,
    duration_text::{self, parse as duration},
};

/// The least that is a manifest.
const LEAST: &str = "[application]\nname = \"web\"\n[run]\ncommand = [\"./server\"]\n";

fn parsed(text: &str) -> Manifest {
    Manifest::parse(text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn refused(text: &str) -> String {
    Manifest::parse(text).expect_err(text).to_string()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one text with all mistakes, and what is said of each")]
fn every_mistake_is_told_at_once_with_its_line_and_what_to_write() {
    let text = r#"[application]
name = "Web Shop"
version = 1.10

[run]
command = "./server --port $PORT"
env = { LD_PRELOAD = "x.so", LEVEL = 3 }
stop_signal = "KILL"
stop_witin = "30s"
stop_within = 30

[service]
port = 80800
protocol = "https"

[health]
http = "http://other/healthz"
every = "0s"
timeout = "5"
passes = 0
tcp = true

[hooks]
before_stop = { command = ["/bin/drain"], within = "2d" }
pre_stop = { command = ["./x"] }

[[deploy]]
environment = "staging"
strategy = "roling"
batch = [1, 0, "20%"]
min_healthy = "101%"
max_failed = -1

[[deploy]]
environment = "staging"
strategy = "canry"
batch = "50"
max_unreachable = nan
soak = 60
auto_rollback = "yes"
window = 3
zone = "a b"
max_load = "0%"
pause_after = [0]

[colour]
"#;

    insta::assert_snapshot!(refused(text), @r#"
    cutover.toml:2:8: application.name: "Web Shop" is no name; write 1 to 63 lower-case letters, digits or hyphens, no hyphen at an end
    cutover.toml:3:1: application.version: unknown name; remove it, the version is given by `cutover release push`
    cutover.toml:6:11: run.command: string is not a list of strings; write ["./server", "--port", "$PORT"]
    cutover.toml:7:22: run.env.LD_PRELOAD: LD_PRELOAD must not be set by a release; remove it, or give the program an argument
    cutover.toml:7:38: run.env.LEVEL: integer is not a string; write the value of "LEVEL" in double quotes
    cutover.toml:8:15: run.stop_signal: "KILL" is no signal that can stop an instance; write one of TERM, INT, QUIT, HUP, USR1, USR2
    cutover.toml:9:1: run.stop_witin: unknown name; write "stop_within"
    cutover.toml:10:15: run.stop_within: integer 30 is no duration; write "30s" for seconds, or another unit
    cutover.toml:13:8: service.port: 80800 is out of range; write a whole number from 1 to 65535
    cutover.toml:14:12: service.protocol: "https" is no protocol; write "http"
    cutover.toml:17:8: health.http: "http://other/healthz" is no path; write a path such as "/healthz", the host is always the agent's own
    cutover.toml:18:9: health.every: "0s" is too short; write a duration from "10ms" to "1h"
    cutover.toml:19:11: health.timeout: "5" is no duration; write a whole number with a unit, such as "500ms", "30s", "5m" or "2h"
    cutover.toml:20:10: health.passes: 0 is out of range; write a whole number from 1 to 100
    cutover.toml:21:7: health.tcp: health is asked by http already; keep one of them
    cutover.toml:24:28: hooks.before_stop.command[0]: "/bin/drain" is outside of the release; put a script into the release and write its path, such as "./hooks/drain"
    cutover.toml:24:52: hooks.before_stop.within: "2d" is no duration; write a whole number with a unit, such as "500ms", "30s", "5m" or "2h"
    cutover.toml:25:1: hooks.pre_stop: unknown name; write "before_stop"
    cutover.toml:29:12: deploy[0].strategy: "roling" is no strategy; write "rolling"
    cutover.toml:30:13: deploy[0].batch[1]: 0 moves no host, and would never finish; write at least 1, or a percentage from "1%"
    cutover.toml:31:15: deploy[0].min_healthy: "101%" is more than all hosts; write a percentage up to "100%"
    cutover.toml:32:14: deploy[0].max_failed: "-1" is below zero; write a number of hosts such as 3, or a percentage such as "25%"
    cutover.toml:35:15: deploy[1].environment: "staging" has a [[deploy]] already; keep one of them
    cutover.toml:36:12: deploy[1].strategy: "canry" is no strategy; write "canary"
    cutover.toml:37:9: deploy[1].batch: "50" may mean hosts or percent; write 50 for hosts, or "50%"
    cutover.toml:38:19: deploy[1].max_unreachable: float nan is no number of hosts; write a number of hosts such as 3, or a percentage such as "25%"
    cutover.toml:39:8: deploy[1].soak: integer 60 is no duration; write "60s" for seconds, or another unit
    cutover.toml:40:17: deploy[1].auto_rollback: string "yes" is neither true nor false; write true or false, without quotes
    cutover.toml:41:1: deploy[1].window: unknown name; write batch = 2 and sliding = true
    cutover.toml:42:8: deploy[1].zone: "a b" is no key of a label; write the key of a label that agents have, such as "zone"
    cutover.toml:43:12: deploy[1].max_load: "0%" is no share of a host's cpus; write a percentage from "1%" to "100%", such as "80%"
    cutover.toml:44:15: deploy[1].pause_after: 0 is no batch; count batches from 1
    cutover.toml:46:2: colour: unknown name; valid names: application, run, service, health, hooks, checks, compatibility, deploy
    "#);
}

#[test]
fn the_least_manifest_gets_the_documented_defaults() {
    let manifest = parsed(LEAST);

    assert_eq!(manifest.application.as_str(), "web");
    assert_eq!(manifest.run.command, ["./server"]);
    assert!(manifest.run.env.is_empty());
    assert_eq!(manifest.run.stop_signal, StopSignal::Term);
    assert_eq!(duration_text::print(manifest.run.stop_within), "30s");
    assert_eq!(manifest.service, None);
    assert_eq!(manifest.probe, None);
    assert!(manifest.hooks.is_empty() && manifest.deploys.is_empty());
}

const EVERY_KEY: &str = r#"
[application]
name = "web"
[run]
command = ["/usr/sbin/nginx", "-p", "$PORT"]
env = { LOG = "info", _a1 = "" }
stop_signal = "SIGQUIT"
stop_within = "1m"
[service]
port = 8080
protocol = "tcp"
swap = "in_place"
[health]
http = "/healthz?full=1"
port = 9_090
every = "5s"
timeout = "1500ms"
passes = 4
failures = 5
start_within = "2m"
[hooks]
before_start = { command = ["./hooks/migrate"], once = true }
before_stop = { command = ["./hooks/drain", "--now"], within = "10s" }
[[deploy]]
environment = "staging"
[[deploy]]
environment = "production"
strategy = "rolling"
batch = [1, 5, "20%"]
canary = { hosts = "10%", steps = [{ weight = "5%", hold = "5m" }], promote = "manual", unsure = "pass", judge = { false_alarms = "0.5%", requests_min = 200, errors = "2x+0.5%", memory = "off" }, header = "x-canary=1", cookie = "canary=1" }
cutover = "relaxed"
hold = "5s"
keep = "1h"
approve = true
sliding = false
pause_after = [1, 2]
zone = "rack"
zone_soak = "5m"
min_healthy = "75%"
zone_min_healthy = 1
max_load = "80%"
max_failed = 0
max_unreachable = 2
unreachable = "fail"
healthy_for = "10s"
healthy_within = "2m"
progress_within = "10m"
soak = "0s"
bake = "24h"
auto_rollback = false
"#;

#[test]
fn every_key_is_read() {
    let manifest = parsed(EVERY_KEY);

    assert_eq!(manifest.run.command, ["/usr/sbin/nginx", "-p", "$PORT"]);
    assert_eq!(manifest.run.env.get("LOG").map(String::as_str), Some("info"));
    assert_eq!(manifest.run.stop_signal, StopSignal::Quit);
    assert_eq!(manifest.run.stop_within, duration("1m").unwrap());
    let service = manifest.service.unwrap();
    assert_eq!((service.port, service.protocol), (8080, Protocol::Tcp));
    assert_eq!(service.swap, crate::Swap::InPlace);
    let probe = manifest.probe.unwrap();
    let path = "/healthz?full=1".to_owned();
    assert_eq!(probe.target, ProbeTarget::Http { port: ProbePort::Fixed(9090), path });
    assert_eq!(probe.every, duration("5s").unwrap());
    assert_eq!(probe.timeout, duration("1500ms").unwrap());
    assert_eq!((probe.passes, probe.failures), (4, 5));
    assert_eq!(probe.start_within, duration("2m").unwrap());
    let [first, hook] = manifest.hooks.as_slice() else { panic!("two hooks") };
    assert_eq!((first.kind, first.once), (HookKind::BeforeStart, true));
    assert!(!hook.once);
    assert_eq!(hook.kind, HookKind::BeforeStop);
    assert_eq!(hook.command, ["./hooks/drain", "--now"]);
    assert_eq!(hook.within, duration("10s").unwrap());
    let [staging, production] = manifest.deploys.as_slice() else { panic!("two deploys") };
    assert_eq!(*staging, nothing_said("staging"));
    let expected = DeploySpec {
        strategy: Some(Strategy::Rolling),
        batch: Some(Batches::parse("1,5,20%").unwrap()),
        canary: CanarySpec {
            hosts: "10%".parse().ok(),
            steps: "5%:5m".parse().ok(),
            promote: Some(Promotion::Manual),
            unsure: Some(Unsure::Pass),
            judge: "false_alarms=0.5%,requests_min=200,errors=2x+0.5%,memory=off".parse().ok(),
            checks: None,
            header: "x-canary=1".parse().ok(),
            cookie: "canary=1".parse().ok(),
        },
        cutover: Some(CutoverMode::Relaxed),
        hold: duration("5s").ok(),
        keep: duration("1h").ok(),
        approve: Some(true),
        sliding: Some(false),
        pause_after: Pauses::parse("1,2").ok(),
        zone: Some("rack".to_owned()),
        zone_soak: duration("5m").ok(),
        min_healthy: Some(Amount::Percent(75)),
        zone_min_healthy: Some(Amount::Count(1)),
        max_load: MaxLoad::parse("80%").ok(),
        max_failed: Some(Amount::Count(0)),
        max_unreachable: Some(Amount::Count(2)),
        unreachable: Some(Unreachable::Fail),
        healthy_for: duration("10s").ok(),
        healthy_within: duration("2m").ok(),
        progress_within: duration("10m").ok(),
        soak: duration("0s").ok(),
        bake: duration("24h").ok(),
        auto_rollback: Some(false),
        ..nothing_said("production")
    };
    assert_eq!(*production, expected);
}

fn nothing_said(environment: &str) -> DeploySpec {
    DeploySpec {
        environment: environment.parse().unwrap(),
        strategy: None,
        batch: None,
        canary: CanarySpec::default(),
        cutover: None,
        hold: None,
        keep: None,
        approve: None,
        groups: None,
        sliding: None,
        pause_after: None,
        zone: None,
        zone_soak: None,
        min_healthy: None,
        zone_min_healthy: None,
        max_load: None,
        max_failed: None,
        max_unreachable: None,
        unreachable: None,
        healthy_for: None,
        healthy_within: None,
        progress_within: None,
        soak: None,
        bake: None,
        auto_rollback: None,
    }
}

#[test]
fn of_the_whole_design_only_what_this_version_does_not_do_is_refused() {
    let text = r#"
[application]
name = "web"

[run]
command = ["./server", "--port", "$PORT"]   # argv, never a shell; $PORT and friends are filled in
env = { LOG = "info" }
stop_signal = "TERM"
stop_within = "30s"

[service]                # absent: no gate, replaced in place
port = 8080              # the gate's public port on every host
protocol = "http"        # http | tcp

[health]
http = "/healthz"        # or tcp = true, grpc = "NAME", command = ["./check"]
every = "2s"
timeout = "1s"
passes = 2
failures = 3
start_within = "60s"

[hooks]                  # each an argv with its own timeout
before_start = { command = ["./migrate", "--check"], within = "5m" }

[source]
git = "https://git.example.com/web.git"
branch = "main"

[build]
steps = [{ name = "test", run = ["make", "test"] }, { name = "build", run = ["make"] }]
artifact = ["dist/**"]

[[deploy]]
environment = "staging"
strategy = "rolling"
batch = "50%"

[[deploy]]
environment = "production"
approval = { by = 1, within = "2d" }
strategy = "canary"
canary = { hosts = 1, steps = [{ weight = "5%", hold = "5m" }, { weight = "50%", hold = "10m" }] }
min_healthy = "75%"
bake = "10m"
"#;

    insta::assert_snapshot!(refused(text), @r#"
    cutover.toml:26:2: source: not supported by this version of cutover; remove it, build outside and push with `cutover release push`
    cutover.toml:30:2: build: not supported by this version of cutover; remove it, build outside and push with `cutover release push`
    cutover.toml:41:1: deploy[1].approval: not supported by this version of cutover; remove it
    "#);
}

#[test]
fn what_clients_meet_is_read() {
    let service =
        |more: &str| parsed(&format!("{LEAST}[service]\nport = 8080\n{more}")).service.unwrap();

    let nothing = service("");
    assert_eq!((nothing.tls, nothing.sticky, nothing.proxy_protocol), (None, None, false));
    assert_eq!((nothing.trusted_peers, nothing.limits), (vec![], Limits::default()));

    let all = service(
        r#"
tls = { certificate = "/etc/ssl/web.pem", key = "/etc/ssl/web.key" }
sticky = { header = "X-Session" }
proxy_protocol = true
trusted_peers = ["10.0.0.1", "::ffff:10.0.0.2", "fd00::/8"]
[service.limits]
head = "8KiB"
body = "100MiB"
head_within = "1s"
stall_within = "2s"
idle_within = "3s"
answer_within = "4s"
connections = 5
"#,
    );
    let tls = all.tls.unwrap();
    assert_eq!((&*tls.certificate, &*tls.key), ("/etc/ssl/web.pem", "/etc/ssl/web.key"));
    assert_eq!(all.sticky, Some(Sticky::Header("X-Session".to_owned())));
    assert!(all.proxy_protocol);
    let peers: [crate::Network; 3] =
        ["10.0.0.1", "10.0.0.2", "fd00::/8"].map(|peer| peer.parse().unwrap());
    assert_eq!(all.trusted_peers, peers);
    let expected = Limits {
        head_bytes: 8 << 10,
        body_bytes: Some(100 << 20),
        head_within: duration("1s").unwrap(),
        stall_within: duration("2s").unwrap(),
        idle_within: duration("3s").unwrap(),
        answer_within: duration("4s").unwrap(),
        connections: 5,
    };
    assert_eq!(all.limits, expected);

    let cookie = service("sticky = { cookie = \"route\" }\ntrusted_peers = [\"10.0.0.1\"]");
    assert_eq!(cookie.sticky, Some(Sticky::Cookie("route".to_owned())));
    assert_eq!(cookie.trusted_peers.len(), 1, "for the headers that tell who a client is");
}

#[test]
fn the_probe_asks_the_instances_port_unless_it_has_its_own() {
    let target = |more: &str| parsed(&format!("{LEAST}{more}")).probe.unwrap().target;

    assert_eq!(
        target("[service]\nport = 8080\n[health]\ntcp = true\n"),
        ProbeTarget::Tcp { port: ProbePort::Instance }
    );
    assert_eq!(
        target("[health]\ntcp = true\nport = 9\n"),
        ProbeTarget::Tcp { port: ProbePort::Fixed(9) }
    );
    assert_eq!(
        target("[service]\nport = 8080\nswap = \"in_place\"\n[health]\ntcp = true\nport = 9\n"),
        ProbeTarget::Tcp { port: ProbePort::Fixed(9) }
    );
    let command = ProbeTarget::Command(vec!["./check".to_owned()]);
    assert_eq!(target("[health]\ncommand = [\"./check\"]\n"), command);
}

#[test]
fn a_default_timeout_is_never_longer_than_the_interval() {
    let manifest = parsed(&format!("{LEAST}[health]\ntcp = true\nport = 9\nevery = \"200ms\"\n"));

    assert_eq!(manifest.probe.unwrap().timeout, duration("200ms").unwrap());
}

#[test]
fn tabs_carriage_returns_and_a_byte_order_mark_do_no_harm() {
    let text = LEAST.replace(" = ", "\t=\t").replace('\n', "\r\n");
    let manifest = parsed(&format!("\u{feff}{text}"));

    assert_eq!(manifest, parsed(LEAST));
}

#[test]
fn a_manifest_survives_storage() {
    let manifest = parsed(&format!("{LEAST}[[deploy]]\nenvironment = \"e\"\nbatch = \"5%\"\n"));
    let stored = serde_json::to_string(&manifest).unwrap();

    assert_eq!(serde_json::from_str::<Manifest>(&stored).unwrap(), manifest);
}
