//! The programs under test: those that were built beside this one.

use std::path::PathBuf;

/// Where they are.
#[derive(Clone, Debug)]
pub struct Programs {
    pub cutover: PathBuf,
    pub coordinator: PathBuf,
    pub agent: PathBuf,
    pub sample: PathBuf,
}

impl Programs {
    /// Finds them.
    ///
    /// # Panics
    ///
    /// When one was not built; `make test` builds them.
    pub fn find() -> Self {
        let own = std::env::current_exe().expect("a running program has a path");
        let mut dir = own.parent().expect("a program is in a folder").to_owned();
        // Test programs are in `deps`, below the others.
        if dir.ends_with("deps") {
            dir.pop();
        }
        let beside = |name: &str| {
            let path = dir.join(name);
            assert!(path.is_file(), "{} is not built; run: make test", path.display());
            path
        };
        Self {
            cutover: beside("cutover"),
            coordinator: beside("cutover-coordinator"),
            agent: beside("cutover-agent"),
            sample: beside("cutover-sample"),
        }
    }
}

/// Returns where a program of the system is.
pub fn program_on_path(name: &str) -> Option<PathBuf> {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|dir| PathBuf::from(dir).join(name))
        .find(|path| path.is_file())
}
