//! The releases of the demo: a small web application, good or broken.

use std::{fs, io, path::Path};

/// What a release is like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Good,
    /// Starts, and answers its health check with 503 for ever.
    NeverHealthy,
}

/// Writes a release into `dir`.
pub(super) fn write(
    dir: &Path,
    sample: &Path,
    version: &str,
    kind: Kind,
    port: u16,
) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::copy(sample, dir.join("server"))?;
    fs::write(dir.join("VERSION"), version)?;
    fs::write(dir.join("cutover.toml"), manifest(kind, port))
}

fn manifest(kind: Kind, port: u16) -> String {
    let broken = match kind {
        Kind::Good => "",
        Kind::NeverHealthy => ", \"--fail-health\"",
    };
    // The waits are short, so that the demo is; a real application keeps the defaults.
    format!(
        r#"[application]
name = "web"

[run]
command = ["./server", "--address", "$ADDRESS", "--port", "$PORT", "--version-file", "VERSION"{broken}]
stop_within = "5s"

[service]
port = {port}

[health]
http = "/healthz"
every = "200ms"
timeout = "200ms"
start_within = "3s"

[[deploy]]
environment = "demo"
healthy_for = "1s"
healthy_within = "5s"
progress_within = "30s"
"#
    )
}

#[cfg(test)]
mod tests {
    use cutover_common::manifest::Manifest;

    use super::*;

    #[test]
    fn the_manifests_of_the_demo_have_no_mistakes() {
        for kind in [Kind::Good, Kind::NeverHealthy] {
            assert!(Manifest::parse(&manifest(kind, 8080)).is_ok(), "{kind:?}");
        }
    }
}
