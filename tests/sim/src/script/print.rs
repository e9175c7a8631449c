//! Scripts as text: what happens is one line each, and so is every release.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Application, Script};

/// Prints `value` on one line, as TOML does within a table.
fn inline(value: &impl Serialize) -> String {
    let mut text = String::new();
    let serializer = toml::ser::ValueSerializer::new(&mut text);
    value.serialize(serializer).expect("a script has string keys only");
    text
}

fn row(text: &mut String, name: &str, value: &impl Serialize) {
    writeln!(text, "{name} = {}", inline(value)).expect("a string takes every write");
}

fn rows<T: Serialize>(text: &mut String, name: &str, values: &[T]) {
    writeln!(text, "{name} = [").expect("a string takes every write");
    for value in values {
        writeln!(text, "    {},", inline(value)).expect("a string takes every write");
    }
    text.push_str("]\n");
}

pub(super) fn script(script: &Script) -> String {
    let Script { seed, mode, ends_ms, hosts, network, disks, settings, applications, entries } =
        script;
    let mut text = String::new();
    row(&mut text, "seed", seed);
    row(&mut text, "mode", mode);
    row(&mut text, "ends_ms", ends_ms);
    row(&mut text, "hosts", hosts);
    row(&mut text, "network", network);
    row(&mut text, "disks", disks);
    row(&mut text, "settings", settings);
    rows(&mut text, "entries", entries);
    for application in applications {
        text.push_str("\n[[applications]]\n");
        print_application(&mut text, application);
    }
    text
}

fn print_application(text: &mut String, application: &Application) {
    let Application {
        name,
        hosts,
        probe,
        has_stop_hook,
        hooks,
        once,
        stop_within_ms,
        gate,
        checks,
        requests_per_s,
        releases,
    } = application;
    row(text, "name", name);
    row(text, "hosts", hosts);
    if let Some(probe) = probe {
        row(text, "probe", probe);
    }
    row(text, "has_stop_hook", has_stop_hook);
    if !hooks.is_empty() {
        row(text, "hooks", hooks);
    }
    if *once {
        row(text, "once", once);
    }
    row(text, "stop_within_ms", stop_within_ms);
    if let Some(gate) = gate {
        row(text, "gate", gate);
    }
    if let Some(checks) = checks {
        row(text, "checks", checks);
    }
    if let Some(requests_per_s) = requests_per_s {
        row(text, "requests_per_s", requests_per_s);
    }
    rows(text, "releases", releases);
}
