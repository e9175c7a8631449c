//! The few rules that hold the design up, checked in the source itself.
//!
//! Each failure names every place, and says what to do instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The crates that decide and do nothing else.
const CORES: [&str; 4] = ["common", "coordinator/core", "coordinator/judge", "agent/core"];

/// What would let a core see the world: async, the wire's transport, a disk, keys, luck.
const NOT_IN_A_CORE: [&str; 12] = [
    "cutover-runtime",
    "getrandom",
    "hyper",
    "object_store",
    "rand",
    "rustix",
    "rustls",
    "sled",
    "tokio",
    "tonic",
    "tower",
    "tracing",
];

/// What `deny.toml` bans, for those who have no cargo-deny.
const BANNED: [&str; 4] = ["aws-lc-rs", "aws-lc-sys", "cmake", "openssl-sys"];

/// Tests that are no tests: another test starts them as a process of its own, to kill it.
const CHILDREN: [&str; 3] = [
    "agent/src/artifact/prepare/tests.rs",
    "agent/tests/process_runtime/adopt.rs",
    "coordinator/src/store/crash_tests.rs",
];

#[test]
fn no_core_can_see_a_clock_a_disk_a_network_or_luck() {
    let mut wrong = Vec::new();
    for core in CORES {
        let manifest = read(&format!("{core}/Cargo.toml"));
        for name in dependencies(&manifest) {
            if NOT_IN_A_CORE.contains(&name.as_str()) {
                wrong.push(format!("{core}/Cargo.toml depends on {name}"));
            }
        }
        // A manifest cannot keep the standard library out.
        for source in sources().into_iter().filter(|source| source.starts_with(core)) {
            if source.starts_with("common/runtime") || is_test(&source) {
                continue;
            }
            let text = code_of(&read(&source));
            let banned = ["std::fs", "std::env", "std::thread", "std::process"];
            // An address is a value, and a socket is not.
            let sockets = ["TcpStream", "TcpListener", "UdpSocket", "ToSocketAddrs"];
            let banned = banned.into_iter().chain(sockets);
            let banned = banned.chain(["SystemTime", "Instant::now", "HashMap"]);
            wrong.extend(
                banned.filter(|word| text.contains(word)).map(|word| format!("{source}: {word}")),
            );
        }
    }

    assert_none(&wrong, "a core takes time, luck and facts as arguments, and returns actions");
}

#[test]
fn the_journal_touches_files_in_one_place_and_needs_no_runtime() {
    let crate_path = "agent/journal";
    let manifest = dependencies(&read(&format!("{crate_path}/Cargo.toml")));
    // It may warn of a tail that it cuts off.
    let banned = manifest.into_iter().filter(|name| name != "tracing");
    let mut wrong: Vec<String> =
        banned.filter(|name| NOT_IN_A_CORE.contains(&name.as_str())).collect();
    let sources = sources().into_iter().filter(|path| path.starts_with(crate_path));
    wrong.extend(
        sources
            .filter(|path| !path.ends_with("/real_disk.rs") && !is_test(path))
            .filter(|path| code_of(&read(path)).contains("fs::")),
    );

    assert_none(&wrong, "use the Disk trait, so that a simulator sees every call");
}

#[test]
fn a_simulated_run_sees_no_clock_no_file_no_thread_and_no_luck_but_its_own() {
    let crate_path = "tests/sim/";
    let manifest = dependencies(&read("tests/sim/Cargo.toml"));
    let mut wrong: Vec<String> =
        manifest.into_iter().filter(|name| NOT_IN_A_CORE.contains(&name.as_str())).collect();
    let in_a_run = |path: &String| {
        path.starts_with("tests/sim/src/")
            && !path.starts_with("tests/sim/src/command/")
            && !path.starts_with("tests/sim/src/bin/")
    };
    let banned = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant::",
        // Their order differs from process to process.
        "HashMap",
        "HashSet",
        "RandomState",
        "from_entropy",
        "fastrand::Rng::new",
        "new_v4",
    ];
    for source in sources().into_iter().filter(in_a_run) {
        let text = code_of(&read(&source));
        let found = banned.iter().filter(|word| text.contains(**word));
        wrong.extend(found.map(|word| format!("{source}: {word}")));
    }
    assert!(sources().iter().any(|path| path.starts_with(crate_path)), "the simulator has moved");

    assert_none(&wrong, "a script decides a run to the last bit: use dice.rs, moment.rs, BTreeMap");
}

#[test]
fn every_promise_that_an_oracle_judges_is_published_and_the_reverse() {
    const ORACLES: &str = "tests/sim/src/oracle/";
    let mut judged: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in sources() {
        let Some(name) = path.strip_prefix(ORACLES).filter(|name| !name.contains("tests")) else {
            continue;
        };
        for word in code_of(&read(&path)).split('"').skip(1).step_by(2) {
            if promise_id(&format!("{}_", word.to_lowercase())).as_deref() == Some(word) {
                let files = judged.entry(word.to_owned()).or_default();
                if files.last().is_none_or(|last| last != name) {
                    files.push(name.to_owned());
                }
            }
        }
    }

    assert_eq!(
        promises("## Checked in simulation"),
        judged,
        "docs/promises.md and the oracles differ"
    );
}

#[test]
fn messages_of_the_wire_stop_at_the_border() {
    let border = |path: &str| {
        path.starts_with("common/src/wire/")
            || path.starts_with("agent/src/join/")
            || path.starts_with("agent/src/perform")
            || path.contains("/grpc/")
            || path.contains("/session/")
            || ["coordinator/src/app.rs", "coordinator/src/outlets.rs"].contains(&path)
            || is_test(path)
    };
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|path| !border(path) && code_of(&read(path)).contains("cutover_proto"))
        .collect();

    assert_none(&wrong, "convert to a domain type in common/src/wire, and use that");
}

#[test]
fn the_engine_of_the_store_is_named_in_one_place() {
    // Beside it there is the module of the same name, which its neighbours may name.
    let items = ["Batch", "Config", "Db", "Error", "IVec", "Mode", "Tree", "open", "transaction"];
    let names = |path: &str| {
        let code = code_of(&read(path));
        if path.starts_with("coordinator/src/store/") {
            items.iter().any(|item| code.contains(&format!("sled::{item}")))
        } else {
            code.contains("sled::")
        }
    };
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|path| !path.starts_with("coordinator/src/store/sled"))
        .filter(|path| path != "tests/tests/tidy.rs" && names(path))
        .collect();

    assert_none(&wrong, "use the EventStore trait; only store/sled.rs knows the engine");
}

#[test]
fn every_crate_has_the_workspace_s_lints() {
    let wrong: Vec<String> = manifests()
        .into_iter()
        .filter(|path| path != "Cargo.toml")
        .filter(|path| !read(path).contains("[lints]\nworkspace = true\n"))
        .collect();

    assert_none(&wrong, "add [lints] workspace = true");
}

#[test]
fn every_crate_is_a_member_of_the_workspace() {
    let root = read("Cargo.toml");
    let wrong: Vec<String> = manifests()
        .into_iter()
        .filter_map(|path| path.strip_suffix("/Cargo.toml").map(str::to_owned))
        .filter(|member| !root.contains(&format!("\n    \"{member}\",\n")))
        .collect();

    assert_none(&wrong, "name it in the root's Cargo.toml, or nothing checks it");
}

#[test]
fn no_program_that_is_shipped_can_have_a_planted_bug() {
    const FEATURE: &str = "planted-bugs";
    let mut wrong = Vec::new();
    for path in manifests() {
        let text = read(&path);
        let (mut is_defined, mut section) = (false, "");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with('[') {
                section = line;
            }
            if !line.contains(FEATURE) {
                continue;
            }
            let defines = section == "[features]" && line.starts_with("planted-bugs = ");
            is_defined |= defines;
            // A program that needs it to be built does not bring it.
            if !defines && !line.starts_with("required-features = ") {
                wrong.push(format!("{path} has it for everybody: {line}"));
            }
        }
        let is_shipped = !path.starts_with("tests/") || path.starts_with("tests/sample/");
        if is_defined && is_shipped && path != "common/Cargo.toml" {
            wrong.push(format!("{path} defines it"));
        }
        if is_shipped && text.contains("cutover-sim") && path != "Cargo.toml" {
            wrong.push(format!("{path} depends on the simulator"));
        }
    }
    let makefile = read("Makefile");
    for rule in makefile.split("\n\n").filter(|rule| !rule.starts_with("sim-mutants:")) {
        if rule.contains(FEATURE) || rule.contains("--all-features") {
            wrong.push(format!("Makefile: {}", rule.lines().next().unwrap_or_default()));
        }
    }
    // What is compiled with it is the list and the choice of bugs; all sites are the one macro's.
    let asks = format!("feature = \"{FEATURE}\"");
    let sources = sources()
        .into_iter()
        .filter(|path| !path.starts_with("common/src/planted") && !path.starts_with("tests/"));
    wrong.extend(sources.filter(|path| read(path).contains(&asks)));

    assert_none(&wrong, "only `make sim-mutants` builds with the feature planted-bugs");
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let wrong: Vec<String> =
        sources().into_iter().filter(|path| !read(path).starts_with("//! ")).collect();

    assert_none(&wrong, "begin with //! and one sentence");
}

#[test]
fn the_house_has_these_rooms_and_no_others() {
    let rooms: BTreeSet<String> = fs::read_dir(root())
        .expect("the repository can be listed")
        .map(|entry| entry.expect("the repository can be listed"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();

    let expected = ["agent", "common", "coordinator", "deploy", "docs", "proto", "tests"];
    assert_eq!(rooms, expected.map(str::to_owned).into(), "a new room is a change of the design");
}

#[test]
fn no_test_is_switched_off() {
    let mut wrong = Vec::new();
    for path in sources().into_iter().filter(|path| path != "tests/tests/tidy.rs") {
        let count = read(&path).lines().filter(|line| line.contains("#[ignore")).count();
        let children = usize::from(CHILDREN.contains(&path.as_str()));
        if count > children {
            wrong.push(path);
        }
    }

    assert_none(&wrong, "repair the test or delete it");
}

#[test]
fn no_test_s_name_begins_with_the_word_test() {
    let wrong = places(|line| line.trim_start().starts_with("fn test_"));

    assert_none(&wrong, "name the behaviour");
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    let marks = ["todo!(", "unimplemented!(", concat!("FIX", "ME"), concat!("X", "XX")];
    let wrong = places(|line| marks.iter().any(|mark| line.contains(mark)));

    assert_none(&wrong, "do it, or write an issue");
}

#[test]
fn every_lint_that_is_lifted_says_why() {
    let wrong = places(|line| {
        let line = line.trim_start();
        let lifts = line.starts_with("#[allow(") || line.starts_with("#![allow(");
        lifts && line.ends_with(")]") && !line.contains("reason")
    });

    assert_none(&wrong, "add reason = \"…\"");
}

#[test]
fn what_is_banned_is_not_in_the_lock_file() {
    let lock = read("Cargo.lock");
    let wrong: Vec<String> = BANNED
        .iter()
        .filter(|name| lock.contains(&format!("name = \"{name}\"\n")))
        .map(|name| (*name).to_owned())
        .collect();

    assert_none(&wrong, "see deny.toml for why it is banned; cargo tree -i NAME says who wants it");
}

#[test]
fn every_promise_with_a_predicate_is_published_and_the_reverse() {
    let mut predicates: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in sources().into_iter().filter(|path| path.ends_with("/invariants.rs")) {
        for name in read(&path).lines().filter_map(function_name) {
            if let Some(id) = promise_id(&name) {
                predicates.entry(id).or_default().push(name);
            }
        }
    }
    let published = promises("## Checked while running");

    let ids = |names: &BTreeMap<String, Vec<String>>| names.keys().cloned().collect::<Vec<_>>();
    assert_eq!(ids(&published), ids(&predicates), "docs/promises.md and */invariants.rs differ");
    for (id, names) in &published {
        for name in names {
            assert!(
                predicates[id].contains(name),
                "docs/promises.md: {id} names {name}: no predicate"
            );
        }
    }
}

#[test]
fn every_promise_without_a_predicate_names_tests_that_exist() {
    let functions: BTreeSet<String> = sources()
        .iter()
        .flat_map(|path| read(path).lines().filter_map(function_name).collect::<Vec<_>>())
        .collect();
    let published = promises("## Proven by tests");
    assert!(!published.is_empty(), "docs/promises.md has no promise that tests prove");

    let mut wrong = Vec::new();
    for (id, tests) in published {
        if tests.is_empty() {
            wrong.push(format!("{id} names no test"));
        }
        let gone = tests.iter().filter(|test| !functions.contains(*test));
        wrong.extend(gone.map(|test| format!("{id}: {test}")));
    }
    assert_none(&wrong, "name a test that proves it, or take the promise back");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for path in documents() {
        let folder = Path::new(&path).parent().unwrap_or(Path::new(""));
        for target in links(&read(&path)) {
            if !root().join(folder).join(&target).exists() {
                wrong.push(format!("{path}: {target}"));
            }
        }
    }

    assert_none(&wrong, "repair the link");
}

#[test]
fn commands_in_documents_exist() {
    let reference = read("docs/cli.md");
    let mut wrong = Vec::new();
    for path in documents().into_iter().filter(|path| path != "docs/cli.md") {
        for line in fenced(&read(&path)) {
            let words: Vec<&str> = line.trim_start_matches("$ ").split_whitespace().collect();
            let [program, command, rest @ ..] = words.as_slice() else { continue };
            if *program != "cutover" || *command == "demo" || command.starts_with('<') {
                continue;
            }
            let is_group = ["agents", "env", "release"].contains(command);
            let name = match rest.first() {
                Some(verb) if is_group => format!("cutover {command} {verb}"),
                Some(_) | None => format!("cutover {command}"),
            };
            let flags =
                rest.iter().filter(|word| word.starts_with("--")).map(|flag| (*flag).to_owned());
            let missing = flags.chain([name]).filter(|word| !reference.contains(word.as_str()));
            wrong.extend(missing.map(|word| format!("{path}: {word} in: {line}")));
        }
    }

    assert_none(&wrong, "docs/cli.md does not know it, so neither does the program");
}

#[test]
fn targets_in_documents_exist() {
    let makefile = read("Makefile");
    let mut wrong = Vec::new();
    for path in documents() {
        for line in fenced(&read(&path)) {
            let Some(target) = line.trim_start_matches("$ ").strip_prefix("make ") else {
                continue;
            };
            let target = target.split_whitespace().next().unwrap_or_default();
            if !makefile.contains(&format!("\n{target}:")) {
                wrong.push(format!("{path}: make {target}"));
            }
        }
    }

    assert_none(&wrong, "the Makefile has no such target");
}

fn assert_none(wrong: &[String], remedy: &str) {
    assert!(wrong.is_empty(), "{remedy}:\n  {}", wrong.join("\n  "));
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the crate is in a folder of the repository").to_owned()
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the paths of all files whose name ends in `ending`, sorted, without what is built.
fn files(ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository can be listed") {
            let path = entry.expect("a folder of the repository can be listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(ending) {
                let path = path.strip_prefix(root()).expect("it was found below the root");
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} file was found below {}", root().display());
    found
}

fn sources() -> Vec<String> {
    files(".rs")
}

fn manifests() -> Vec<String> {
    files("Cargo.toml")
}

fn documents() -> Vec<String> {
    files(".md")
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("tests.rs")
        || path.ends_with("/fake.rs")
}

/// Returns `FILE:LINE` of all lines that `wanted` says yes to, but for this file's own.
fn places(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for path in sources().into_iter().filter(|path| path != "tests/tests/tidy.rs") {
        let text = read(&path);
        let lines = text.lines().enumerate().filter(|(_, line)| wanted(line));
        found.extend(lines.map(|(at, _)| format!("{path}:{}", at + 1)));
    }
    found
}

/// Returns a source without its comments and its inline tests.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the names of a manifest's dependencies, of all kinds but for those of tests.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut is_inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            is_inside = section.ends_with("dependencies]") && !section.starts_with("dev-");
            continue;
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        if is_inside && !name.is_empty() {
            names.push(name.to_owned());
        }
    }
    names
}

fn function_name(line: &str) -> Option<String> {
    let (before, after) = line.split_once("fn ")?;
    let is_function = before
        .trim()
        .split(' ')
        .all(|word| ["", "pub", "pub(crate)", "pub(super)", "const", "async"].contains(&word));
    let name = after.split(['(', '<']).next()?;
    (is_function && !name.is_empty()).then(|| name.to_owned())
}

/// Returns `F1` for `f1_one_rollout`.
fn promise_id(name: &str) -> Option<String> {
    let (id, _) = name.split_once('_')?;
    let number = id.strip_prefix(['f', 'e', 'a', 'd', 'g', 's'])?;
    let is_number = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    is_number.then(|| id.to_uppercase())
}

/// Returns the ids of one table of docs/promises.md, each with the names in its last column.
fn promises(heading: &str) -> BTreeMap<String, Vec<String>> {
    let text = read("docs/promises.md");
    let (_, section) = text.split_once(heading).expect("docs/promises.md has the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut found = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [id, _, names] = cells.as_slice() else { panic!("three cells are wanted: {row}") };
        if *id == "id" || id.starts_with('-') {
            continue;
        }
        let names = names.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(found.insert((*id).to_owned(), names).is_none(), "{id} stands there twice");
    }
    found
}

/// Returns the targets of a document's links into this repository, without their anchors.
fn links(text: &str) -> Vec<String> {
    let mut is_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// Returns the lines of a document's code blocks, joined where they end with a backslash.
fn fenced(text: &str) -> Vec<String> {
    let mut is_code = false;
    let mut found = Vec::new();
    for line in text.replace("\\\n", " ").lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            found.push(line.trim().to_owned());
        }
    }
    found
}
