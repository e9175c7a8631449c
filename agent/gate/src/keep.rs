//! The last program, on disk: what a gate follows after a crash until somebody tells it anew.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cutover_runtime::tls::files::{self, Access, WriteFile};

use crate::program::{InvalidProgram, Program};

const PROGRAM_FILE: &str = "program.json";

/// Why the kept program is not followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadProgram {
    #[error("{} cannot be read", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds no program", path.display())]
    Broken {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{} holds a program that is refused", path.display())]
    Invalid {
        path: PathBuf,
        #[source]
        source: InvalidProgram,
    },
}

/// Why a program is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteProgram {
    #[error("the program cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    #[error("the program cannot be kept")]
    File(#[from] WriteFile),
}

/// Keeps `program` in the place of the one before.
pub(crate) fn write(data: &Path, program: &Program) -> Result<(), WriteProgram> {
    Ok(files::write(&data.join(PROGRAM_FILE), &serde_json::to_vec(program)?, Access::Owner)?)
}

/// Returns the kept program, if there is one.
pub(crate) fn read(data: &Path) -> Result<Option<Program>, ReadProgram> {
    let path = data.join(PROGRAM_FILE);
    let json = match fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ReadProgram::Io { path, source }),
    };
    let program: Program = serde_json::from_slice(&json)
        .map_err(|source| ReadProgram::Broken { path: path.clone(), source })?;
    program.check().map_err(|source| ReadProgram::Invalid { path, source })?;
    Ok(Some(program))
}
