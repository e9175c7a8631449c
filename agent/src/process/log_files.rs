//! Where what instances and hooks say is kept, and how that is opened.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use cutover_common::{ApplicationName, HookKind, Slot};
use rustix::fs::OFlags;

use crate::shim::record::OLD_FILES_MAX;

/// The folder of logs in an agent's data directory.
#[derive(Clone, Debug)]
pub struct LogFiles(PathBuf);

impl LogFiles {
    /// Names the folder in `data_dir`.
    pub fn in_data(data_dir: &Path) -> Self {
        Self(data_dir.join("logs"))
    }

    /// Returns where the instances of a slot write. They follow each other in it.
    pub fn instance(&self, application: &ApplicationName, slot: Slot) -> PathBuf {
        self.0.join(application.as_str()).join(format!("{slot}.log"))
    }

    /// Returns where the output of the latest run of a hook is kept.
    pub fn hook(&self, application: &ApplicationName, slot: Slot, kind: HookKind) -> PathBuf {
        self.0.join(application.as_str()).join(format!("{slot}.{kind}.log"))
    }
}

/// Returns the names of a log's files: the one that is written, and the older the later. Each is
/// renamed to the next, so that whoever opens them in this order may see one twice, and skips none.
pub fn with_old_files(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let path = path.to_owned();
    (0..=OLD_FILES_MAX).map(move |number| {
        let mut name = OsString::from(&path);
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name.into()
    })
}

/// Opens a log for reading. Applications can write to this folder where they run as the agent's
/// user: a link would show any file of the agent's, and a pipe would hold whoever opens it.
///
/// # Errors
///
/// When it cannot be opened, or is no regular file.
pub fn open_log(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other(format!("{} is no regular file", path.display())))
    }
}
