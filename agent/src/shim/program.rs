//! Which file an argv's first element means. No shell, and no PATH of whoever started us (T5.3).

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Where bare names are looked up: what Debian and systemd give to services.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a command names no program that can be run.
#[derive(Debug, thiserror::Error)]
pub enum NoProgram {
    #[error("the command is empty; name the program to run")]
    Empty,
    #[error("could not run {name:?}: there is no file {path}")]
    Missing { name: String, path: PathBuf },
    #[error(
        "could not run {name:?}: no such program in {PATH}; write ./{name} if the release has it"
    )]
    NotInPath { name: String },
    #[error("could not run {name:?}: {path} is not an executable file; set its x permission")]
    NotExecutable { name: String, path: PathBuf },
    #[error("could not run {name:?}: could not look at {path}")]
    Look {
        name: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Returns the file that `name` means for a process in `directory`.
///
/// # Errors
///
/// When there is none, or it cannot be run.
pub fn find_program(name: &str, directory: &Path) -> Result<PathBuf, NoProgram> {
    if name.is_empty() {
        return Err(NoProgram::Empty);
    }
    let name_owned = || name.to_owned();
    if !name.contains('/') {
        return PATH
            .split(':')
            .map(|folder| Path::new(folder).join(name))
            .find(|path| fs::metadata(path).is_ok_and(|metadata| is_program(&metadata)))
            .ok_or_else(|| NoProgram::NotInPath { name: name_owned() });
    }
    let path = directory.join(name);
    match fs::metadata(&path) {
        Ok(metadata) if is_program(&metadata) => Ok(path),
        Ok(_) => Err(NoProgram::NotExecutable { name: name_owned(), path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(NoProgram::Missing { name: name_owned(), path })
        }
        Err(source) => Err(NoProgram::Look { name: name_owned(), path, source }),
    }
}

fn is_program(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slash_is_in_the_release_and_a_bare_one_in_the_fixed_path() {
        let release = tempfile::tempdir().unwrap();
        let server = release.path().join("server");
        fs::write(&server, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();

        assert!(find_program("./server", release.path()).unwrap().ends_with("server"));
        assert!(find_program("sh", release.path()).unwrap().is_absolute());
        // A program of the release is never run by a bare name.
        let error = find_program("server", release.path()).unwrap_err();
        assert!(error.to_string().contains("write ./server"), "{error}");
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_its_path() {
        let release = tempfile::tempdir().unwrap();
        fs::write(release.path().join("data"), "x").unwrap();

        let refused = |name| find_program(name, release.path()).unwrap_err();
        assert!(matches!(refused(""), NoProgram::Empty));
        assert!(matches!(refused("./server"), NoProgram::Missing { .. }));
        assert!(matches!(refused("./data"), NoProgram::NotExecutable { .. }));
        assert!(matches!(refused("./"), NoProgram::NotExecutable { .. }));
        assert!(matches!(refused("./data/x"), NoProgram::Look { .. }));
    }
}
