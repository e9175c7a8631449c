//! The kept scripts: each once broke a promise, and breaks none for ever after.

use std::{fs, path::PathBuf};

use cutover_sim::{run, script::Script};

/// Reads the kept scripts: each with its file's name and its text.
fn scripts() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut scripts: Vec<(String, String)> = fs::read_dir(&folder)
        .expect("the folder of kept scripts is there")
        .map(|entry| entry.expect("a name in it can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a kept script can be read");
            (path.file_name().expect("it has a name").to_string_lossy().into_owned(), text)
        })
        .collect();
    scripts.sort();
    scripts
}

#[test]
fn no_bug_that_was_found_comes_back() {
    let scripts = scripts();
    assert!(!scripts.is_empty(), "there are kept scripts");
    let mut broken = Vec::new();
    for (name, text) in scripts {
        let script = Script::parse(&text).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        if let Some(violation) = run::run(&script, false).violation {
            broken.push(format!("tests/sim/scripts/{name} breaks {violation}"));
        }
    }

    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_kept_script_says_which_bug_it_found() {
    for (name, text) in scripts() {
        let first = text.lines().next().unwrap_or_default();

        assert!(first.starts_with("# ") && first.len() > 20, "{name} begins with: {first:?}");
    }
}

#[test]
fn a_kept_script_is_read_as_it_was_written() {
    for (name, text) in scripts() {
        let script = Script::parse(&text).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let again = Script::parse(&script.print()).expect("what is printed can be read");

        assert_eq!(script, again, "{name}");
    }
}
