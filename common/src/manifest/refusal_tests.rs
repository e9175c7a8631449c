//! One kind of mistake after the other, and what is told about it.

use super::Manifest;

/// The least that is a manifest.
const LEAST: &str = "[application]\nname = \"web\"\n[run]\ncommand = [\"./server\"]\n";

fn refused(text: &str) -> String {
    Manifest::parse(text).expect_err(text).to_string()
}

/// The mistakes of the least manifest and `more`.
fn refused_with(more: &str) -> String {
    refused(&format!("{LEAST}{more}"))
}

#[test]
fn a_probe_that_asks_nothing_twice_or_another_host_is_refused() {
    let health = |lines: &str| refused_with(&format!("[health]\n{lines}\n"));

    insta::assert_snapshot!(
        [
            health("every = \"2s\""),
            health("tcp = false\nport = 1"),
            health("tcp = true"),
            health("tcp = true\nport = 0"),
            health("tcp = true\nport = 70000"),
            health("http = \"/a\"\ncommand = [\"./check\"]\nport = 1"),
            health("command = [\"./check\"]\nport = 1"),
            health("grpc = \"web\""),
            health("http = \"//other/x\"\nport = 1"),
            health("http = \"user:word@other/x\"\nport = 1"),
            health("http = \"file:///etc/passwd\"\nport = 1"),
            health("http = \"/a b\\r\\nHost: x\"\nport = 1"),
            health("tcp = true\nport = 1\ntimeout = \"3s\""),
            refused_with("[service]\nport = 8080\n[health]\ntcp = true\nport = 8080\n"),
            refused_with("[service]\nport = 8080\n[health]\ntcp = true\nport = 9090\n"),
        ]
        .join("\n"),
        @r#"
    cutover.toml:5:1: health: asks nothing; write http = "/healthz", tcp = true or command = ["./check"]
    cutover.toml:6:7: health.tcp: false asks nothing; write tcp = true, or remove it
    cutover.toml:5:1: health.port: is missing; write port = 8080, or give the application a [service]
    cutover.toml:7:8: health.port: 0 is out of range; write a whole number from 1 to 65535
    cutover.toml:7:8: health.port: 70000 is out of range; write a whole number from 1 to 65535
    cutover.toml:7:11: health.command: health is asked by http already; keep one of them
    cutover.toml:7:8: health.port: has no meaning beside command; remove it, or write http or tcp instead of command
    cutover.toml:6:1: health.grpc: not supported by this version of cutover; write http, tcp or command
    cutover.toml:6:8: health.http: "//other/x" is no path; write a path such as "/healthz", the host is always the agent's own
    cutover.toml:6:8: health.http: "user:word@other/x" is no path; write a path such as "/healthz", the host is always the agent's own
    cutover.toml:6:8: health.http: "file:///etc/passwd" is no path; write a path such as "/healthz", the host is always the agent's own
    cutover.toml:6:8: health.http: "/a b\r\nHost: x" has characters that no request can carry; write them percent-encoded, such as %20 for a space
    cutover.toml:8:11: health.timeout: is longer than every (2s); write a shorter timeout, or a longer every, so that probes do not overlap
    cutover.toml:9:8: health.port: 8080 is the gate's port, where another instance may answer; remove it, each instance is asked at its own $PORT
    cutover.toml:9:8: health.port: both versions of a swap would listen on 9090, and either may answer; remove it, each instance is asked at its own $PORT
    "#
    );
}

#[test]
fn a_command_is_a_list_of_strings_in_the_release_or_on_the_host() {
    let command = |value: &str| {
        refused(&format!("[application]\nname = \"web\"\n[run]\ncommand = {value}\n"))
    };

    insta::assert_snapshot!(
        [
            command("[]"),
            command("\"./server --port 1\""),
            command("[\"\"]"),
            command("[\"./a\", 8080, true]"),
            command("[\"../server\"]"),
            command("[\"./bin/\"]"),
            command("[\"./a\", \"x\\u0000y\"]"),
            command("{}"),
        ]
        .join("\n"),
        @r#"
    cutover.toml:4:11: run.command: has 0 entries; write the program and at most 255 arguments
    cutover.toml:4:11: run.command: string is not a list of strings; write ["./server", "--port", "1"]
    cutover.toml:4:12: run.command[0]: names no program; write the program's path, such as "./server"
    cutover.toml:4:19: run.command[1]: integer 8080 is not a string; write "8080"
    cutover.toml:4:25: run.command[2]: boolean true is not a string; write "true"
    cutover.toml:4:12: run.command[0]: "../server" leads out of the release; write a path in the release, such as "./server"
    cutover.toml:4:12: run.command[0]: "./bin/" is a folder; write the program's path, such as "./server"
    cutover.toml:4:19: run.command[1]: contains a NUL, which no program can be given; remove \u0000
    cutover.toml:4:11: run.command: a table is not a list of strings; write ["./program", "argument"]
    "#
    );
}

#[test]
fn the_environment_of_an_instance_cannot_take_over_its_runtime() {
    let env = |entry: &str| {
        Manifest::parse(&format!("{LEAST}env = {{ {entry} }}\n")).map_err(|m| m.to_string())
    };

    for good in ["LOG = \"x\"", "_ = \"x\"", "MY_PATH = \"x\"", "OLD_LD_X = \"x\""] {
        assert!(env(good).is_ok(), "{good}");
    }
    for bad in [
        "LD_PRELOAD = \"x\"",
        "LD_LIBRARY_PATH = \"x\"",
        "PATH = \"x\"",
        "BASH_ENV = \"x\"",
        "CUTOVER_VERSION = \"x\"",
        "\"A=B\" = \"x\"",
        "1A = \"x\"",
        "A-B = \"x\"",
        "\"\" = \"x\"",
        "A = \"\\u0000\"",
        "A = 1",
    ] {
        assert!(env(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_value_of_the_environment_is_never_repeated() {
    let text = refused_with("env = { TOKEN = [\"hunter2\"], PATH = \"hunter2\", B = 4711 }\n");

    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(!text.contains("hunter2") && !text.contains("4711"), "{text}");
}

#[test]
fn what_is_no_toml_is_told_with_its_line_together_with_the_rest() {
    insta::assert_snapshot!(
        refused("[application]\nname = web\n\n[run]\ncommand = [\"a\"]\ncommand = [\"b\"]\nstop_within = 30s\nenv = yes\nstop = 1\n"),
        @r#"
    cutover.toml:2:8: toml syntax: web is not in quotes; write "web"
    cutover.toml:6:1: command: is given twice; keep one of them
    cutover.toml:7:15: toml syntax: 30s is not in quotes; write "30s"
    cutover.toml:8:7: toml syntax: yes is not in quotes; write true, or "yes"
    cutover.toml:9:1: run.stop: unknown name; write "stop_signal"
    "#
    );
    insta::assert_snapshot!(
        refused("[application]\nname = \"web\"\n[run\ncommand = [\"./a\"]\nstop_within = \"0s\"\n[service]\nport = 0\n"),
        @r#"
    cutover.toml:3:5: toml syntax: unclosed table; write `]` here
    cutover.toml:7:8: service.port: 0 is out of range; write a whole number from 1 to 65535
    "#
    );
    insta::assert_snapshot!(refused("[run]\nstop_within = \"0s\"\ncommand = [\"./a\",\n[service]\nport = 0\n"), @r#"
    cutover.toml:2:15: run.stop_within: "0s" is too short; write a duration from "1ms" to "1h"
    cutover.toml:3:11: toml syntax: unclosed array; write `]` at its end
    "#);
    insta::assert_snapshot!(refused("[application]\nname = \"web\nkey\n= 5\n"), @r#"
    cutover.toml:2:12: toml syntax: invalid basic string; write `"` here
    cutover.toml:3:4: toml syntax: key with no value; write `=` here
    "#);
}

#[test]
fn lines_and_columns_are_as_an_editor_shows_them() {
    let mistakes =
        Manifest::parse("\u{feff}\"ä\" = 1\r\n[application]\r\n\tname = \"ä\"\r\n").unwrap_err();
    let positions: Vec<_> = mistakes.iter().map(|m| (m.line, m.column, m.path.as_str())).collect();

    assert_eq!(positions, [(1, 1, "\"ä\""), (1, 1, "run"), (3, 9, "application.name")]);
}

#[test]
fn a_number_that_looks_like_a_version_is_never_taken_for_a_text() {
    for number in ["1.10", "1e3", "0o12", "1", "2026-11-23", "no"] {
        let text = format!("[application]\nname = {number}\n[run]\ncommand = [\"./a\"]\n");
        assert!(refused(&text).starts_with("cutover.toml:2:8: "), "{}", refused(&text));
    }
}

#[test]
fn tables_of_the_wrong_kind_are_told_apart() {
    insta::assert_snapshot!(
        [
            refused("run = 5\n[[application]]\nname = \"web\"\n"),
            refused_with("[deploy]\nenvironment = \"staging\"\n"),
            refused_with("[hooks]\nbefore_stop = [\"./x\"]\n"),
            refused_with("env = \"A=B\"\n"),
        ]
        .join("\n"),
        @r#"
    cutover.toml:1:7: run: integer 5 is not a table; write the [run] table with command, env, stop_signal, stop_within, shared
    cutover.toml:2:1: application: an array is not a table; write the [application] table with name
    cutover.toml:5:1: deploy: is written for one environment only; write [[deploy]], with two brackets
    cutover.toml:6:15: hooks.before_stop: an array is not a table; write the [hooks.before_stop] table with command, within
    cutover.toml:5:7: run.env: string "A=B" is not a table; write env = { NAME = "value" }
    "#
    );
}

#[test]
fn only_before_start_can_run_on_one_host_for_all() {
    let hook = |kind: &str, once: &str| {
        format!("[hooks]\n{kind} = {{ command = [\"./x\"], once = {once} }}\n")
    };
    insta::assert_snapshot!(
        [refused_with(&hook("install", "true")), refused_with(&hook("before_start", "1"))].join("\n"),
        @r#"
    cutover.toml:6:32: hooks.install.once: unknown name; remove it, or do this in before_start: that alone runs on one host for all, the other hooks are about the host that they run on
    cutover.toml:6:44: hooks.before_start.once: integer 1 is neither true nor false; write true or false, without quotes
    "#
    );
}

#[test]
fn settings_that_can_never_work_together_are_refused() {
    let deploy = |lines: &str| refused_with(&format!("[[deploy]]\nenvironment = \"e\"\n{lines}\n"));

    insta::assert_snapshot!(
        [
            deploy("strategy = \"all_at_once\"\nbatch = 1"),
            deploy("healthy_for = \"2m\"\nhealthy_within = \"1m\""),
            deploy("progress_within = \"1m\"\nhealthy_within = \"2m\""),
            deploy("progress_within = \"0s\"\nhealthy_within = \"25h\""),
            deploy("batch = []\nmin_healthy = 0.5"),
            deploy("strategy = \"Rolling\"\nbatch = \"1,5,20%\""),
        ]
        .join("\n"),
        @r#"
    cutover.toml:8:9: deploy[0].batch: has no meaning beside strategy = "all_at_once"; remove it, or write strategy = "rolling"
    cutover.toml:7:15: deploy[0].healthy_for: can never be reached within healthy_within (1m); write a shorter healthy_for, or a longer healthy_within
    cutover.toml:7:19: deploy[0].progress_within: is shorter than healthy_within (2m), so that a slow start would look like a standstill; write a longer progress_within, or a shorter healthy_within
    cutover.toml:7:19: deploy[0].progress_within: "0s" is too short; write a duration from "1ms" to "24h"
    cutover.toml:8:18: deploy[0].healthy_within: "25h" is too long; write a duration from "1ms" to "24h"
    cutover.toml:7:9: deploy[0].batch: the list has no sizes; write at least one, such as [1, 5, "20%"]
    cutover.toml:8:15: deploy[0].min_healthy: float 0.5 is no number of hosts; write a number of hosts such as 3, or a percentage such as "25%"
    cutover.toml:7:12: deploy[0].strategy: "Rolling" is no strategy; write "rolling"
    cutover.toml:8:9: deploy[0].batch: "1,5,20%" is neither a whole number nor a whole percentage; write a number of hosts such as 3, or a percentage such as "25%"
    "#
    );
}

#[test]
fn what_clients_cannot_meet_is_refused() {
    let service = |lines: &str| refused_with(&format!("[service]\nport = 80\n{lines}\n"));

    insta::assert_snapshot!(
        [
            service("tls = true"),
            service("tls = { cert = \"/c.pem\", key = \"web.key\" }"),
            service("tls = { certificate = \"/etc/ssl/\", key = \"/k\\u0000\" }"),
            service("sticky = \"cookie\""),
            service("sticky = {}"),
            service("sticky = { cookie = \"a\", header = \"b\" }"),
            service("sticky = { cookie = \"a;b\" }"),
            service("sticky = { header = \"Host\" }"),
            service("sticky = { heder = \"X\" }"),
            service("proxy_protocol = \"v2\""),
            service("proxy_protocol = true"),
            service("proxy_protocol = true\ntrusted_peers = []"),
            service("trusted_peers = \"10.0.0.1\""),
            service("trusted_peers = [\"10.0.0.1/8\", 7, \"lb.example\"]"),
            service("limits = { body = 100, head = \"1KiB\", connections = 0, idle = \"1s\" }"),
            service("limits = { body = \"5TiB\", stall_within = \"0s\", answer_within = 30 }"),
            service(
                "protocol = \"tcp\"\nsticky = { cookie = \"a\" }\ntrusted_peers = [\"10.0.0.1\"]\n\
                 limits = { body = \"1MiB\", head_within = \"1s\", idle_within = \"1s\" }",
            ),
        ]
        .join("\n"),
        @r#"
    cutover.toml:7:7: service.tls: boolean true is not a table; write the [service.tls] table with certificate, key
    cutover.toml:7:7: service.tls.certificate: is missing; write certificate = "/etc/ssl/web.pem"
    cutover.toml:7:9: service.tls.cert: unknown name; write "certificate"
    cutover.toml:7:32: service.tls.key: "web.key" is no absolute path of a file; write where it is on every host, such as "/etc/ssl/web.key"
    cutover.toml:7:23: service.tls.certificate: "/etc/ssl/" is no absolute path of a file; write where it is on every host, such as "/etc/ssl/web.pem"
    cutover.toml:7:42: service.tls.key: is a path with control characters; write a path such as "/etc/ssl/web.key"
    cutover.toml:7:10: service.sticky: string "cookie" is not a table; write the [service.sticky] table with cookie, header
    cutover.toml:7:10: service.sticky: names nothing; write { cookie = "route" } or { header = "X-Session" }
    cutover.toml:7:35: service.sticky.header: clients are kept by cookie already; keep one of them
    cutover.toml:7:21: service.sticky.cookie: "a;b" is no name; write 1 to 64 letters, digits, hyphens or underscores
    cutover.toml:7:21: service.sticky.header: "Host" belongs to the connection or to the gate; write a header that your clients send
    cutover.toml:7:12: service.sticky.heder: unknown name; write "header"
    cutover.toml:7:18: service.proxy_protocol: string "v2" is neither true nor false; write true or false, without quotes
    cutover.toml:5:1: service.trusted_peers: is missing; write trusted_peers = ["10.0.0.1"] with the addresses of the load balancers
    cutover.toml:8:17: service.trusted_peers: trusts nobody to speak the PROXY protocol, so nobody could connect; write trusted_peers = ["10.0.0.1"] with the addresses of the load balancers
    cutover.toml:7:17: service.trusted_peers: string "10.0.0.1" is not a list of addresses; write a list of addresses or networks, such as ["10.0.0.1", "fd00::/8"]
    cutover.toml:7:18: service.trusted_peers[0]: "10.0.0.1/8" names one address of the network 10.0.0.0/8, and not the network; write "10.0.0.0/8" for all of it, or the address alone
    cutover.toml:7:32: service.trusted_peers[1]: integer 7 is not a string; write "10.0.0.1"
    cutover.toml:7:35: service.trusted_peers[2]: "lb.example" is neither an address nor a network; write an address such as "10.0.0.1", or a network such as "10.0.0.0/8"; names are not looked up
    cutover.toml:7:19: service.limits.body: integer 100 is no size; write "100B" for bytes, or another unit
    cutover.toml:7:31: service.limits.head: "1KiB" is too small; write a size from "8KiB" to "1MiB"
    cutover.toml:7:53: service.limits.connections: 0 is out of range; write a whole number from 1 to 1000000
    cutover.toml:7:56: service.limits.idle: unknown name; write "idle_within"
    cutover.toml:7:19: service.limits.body: "5TiB" is no size; write a whole number with a unit, such as "32KiB", "10MiB" or "1GiB"
    cutover.toml:7:42: service.limits.stall_within: "0s" is too short; write a duration from "1ms" to "24h"
    cutover.toml:7:64: service.limits.answer_within: integer 30 is no duration; write "30s" for seconds, or another unit
    cutover.toml:8:10: service.sticky: is only for HTTP: plain TCP has no requests to look into; remove it, or write protocol = "http"
    cutover.toml:9:17: service.trusted_peers: has no meaning for protocol "tcp" without proxy_protocol; write proxy_protocol = true, or remove it
    cutover.toml:10:19: service.limits.body: is only for HTTP: plain TCP has no requests to look into; remove it, or write protocol = "http"
    cutover.toml:10:61: service.limits.idle_within: is only for HTTP: plain TCP has no requests to look into; remove it, or write protocol = "http"
    "#
    );
}
