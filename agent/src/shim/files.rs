//! Small files that must be whole or absent, and reads that have an end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
///
/// When the file cannot be read, and with `FileTooLarge` when it is longer.
pub fn read_capped(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{} is longer than {bytes_max} bytes", path.display()),
        ));
    }
    Ok(bytes)
}

/// Writes a file, readable by its owner only, so that after a crash at any moment it has either
/// its old content or the new one, and the new one once this returned.
///
/// # Errors
///
/// When the disk refuses; the old content is then untouched.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    // The writer's pid keeps a shim and an agent out of each other's temporary file.
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // It is swept with its folder if even this fails.
        fs::remove_file(&temporary).ok();
        return Err(error);
    }
    File::open(parent)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_durable_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");

        write_durably(&path, b"first, and longer").unwrap();
        write_durably(&path, b"second").unwrap();

        assert_eq!(read_capped(&path, 100).unwrap(), b"second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_read_ends_at_its_cap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        fs::write(&path, [b'x'; 101]).unwrap();

        assert_eq!(read_capped(&path, 101).unwrap().len(), 101);
        let error = read_capped(&path, 100).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        // A file without an end.
        assert!(read_capped(Path::new("/dev/zero"), 1000).is_err());
    }
}
