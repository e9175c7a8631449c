//! Releases that tests push.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A release of the sample web application.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    pub version: &'a str,
    pub port: u16,
    /// More arguments of the program, such as `--fail-health`.
    pub args: &'a [&'a str],
    /// More lines of `[service]`.
    pub service: &'a str,
    /// How many checks of its health in a row may fail.
    pub failures: u8,
    pub start_within: &'a str,
    pub stop_within: &'a str,
    /// More lines of `cutover.toml`.
    pub toml: &'a str,
    /// Bytes of ballast, to make it as large as wanted.
    pub ballast: usize,
}

impl<'a> Sample<'a> {
    /// A small release that works.
    pub const fn good(version: &'a str) -> Self {
        Self {
            version,
            port: 8080,
            args: &[],
            service: "",
            failures: 50,
            start_within: "3s",
            stop_within: "5s",
            toml: "",
            ballast: 0,
        }
    }

    /// Writes it below `folder`. It is probed often, so that tests are quick, and may miss many
    /// answers in a row, so that none fails because the machine is busy.
    ///
    /// # Panics
    ///
    /// When the disk does not take it.
    pub fn write(&self, folder: &Path, program: &Path) -> PathBuf {
        let args: String = self.args.iter().map(|arg| format!(", {arg:?}")).collect();
        let Self { port, service, failures, start_within, stop_within, toml, .. } = *self;
        let manifest = format!(
            r#"[application]
name = "web"

[run]
command = ["./server", "--address", "$ADDRESS", "--port", "$PORT", "--version-file", "VERSION"{args}]
stop_within = "{stop_within}"

[service]
port = {port}
{service}

[health]
http = "/healthz"
every = "100ms"
timeout = "100ms"
failures = {failures}
start_within = "{start_within}"
{toml}
"#
        );
        let files = [("cutover.toml", manifest.as_str()), ("VERSION", self.version)];
        let dir = release_dir(folder, self.version, &files);
        fs::copy(program, dir.join("server")).expect("the disk takes the sample program");
        if self.ballast > 0 {
            // Not compressible: what travels is as large as what is asked for.
            let mut state = 0x9e37_79b9_7f4a_7c15_u64;
            let ballast: Vec<u8> = (0..self.ballast)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state.to_le_bytes()[0]
                })
                .collect();
            fs::write(dir.join("ballast"), ballast).expect("the disk takes the ballast");
        }
        dir
    }
}

/// Writes `files` into a folder of a release below `folder`, and returns it.
///
/// # Panics
///
/// When the disk does not take it.
pub fn release_dir(folder: &Path, version: &str, files: &[(&str, &str)]) -> PathBuf {
    let dir = folder.join("releases").join(version);
    fs::create_dir_all(&dir).expect("the disk takes a folder");
    for (name, text) in files {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("the disk takes a folder");
        }
        fs::write(path, text).expect("the disk takes a file");
    }
    dir
}
