//! Keys and certificates on disk: written atomically, read only if nobody else could have.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// The largest file that is read, in bytes. A key with its chain has about 2 KiB.
const FILE_MAX_BYTES: u64 = 64 * 1024;

/// Who may read a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// 0600: keys and tokens.
    Owner,
    /// 0644: certificates.
    Everybody,
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not write {path}", path = path.display())]
pub struct WriteFile {
    path: PathBuf,
    source: io::Error,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadFile {
    #[error("could not read {path}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} has {size_bytes} bytes; keys and certificates have at most {FILE_MAX_BYTES}", path = path.display())]
    TooLarge { path: PathBuf, size_bytes: u64 },
    /// `KEY_PERMISSIONS`.
    #[error(
        "the private key {path} has mode {mode:04o}: others than its owner may reach it, so it \
         may be known to them; to go on with it anyway type: chmod 600 {path}",
        path = path.display()
    )]
    Mode { path: PathBuf, mode: u32 },
    /// `KEY_PERMISSIONS`.
    #[error(
        "the private key {path} belongs to user {owner} and this program runs as user {user}; \
         run it as the owner, or type: chown {user} {path}",
        path = path.display()
    )]
    Owner { path: PathBuf, owner: u32, user: u32 },
    #[error("{path} holds no {wanted} in PEM form", path = path.display())]
    Pem { path: PathBuf, wanted: &'static str },
}

/// Makes a directory that only its owner may enter, with its parents. An existing one is left
/// as it is.
///
/// # Errors
///
/// If it cannot be made.
pub fn create_private_dir(path: &Path) -> Result<(), WriteFile> {
    let failed = |source| WriteFile { path: path.to_owned(), source };
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    path.parent().map_or(Ok(()), sync_dir).map_err(failed)
}

/// Writes a whole file so that after a crash there is either the old one or this one.
///
/// # Errors
///
/// If it could not be written and synced; the old one is untouched then.
pub fn write(path: &Path, contents: &[u8], access: Access) -> Result<(), WriteFile> {
    write_atomically(path, contents, access)
        .map_err(|source| WriteFile { path: path.to_owned(), source })
}

fn write_atomically(path: &Path, contents: &[u8], access: Access) -> io::Result<()> {
    let mode = match access {
        Access::Owner => 0o600,
        Access::Everybody => 0o644,
    };
    let no_file = || io::Error::from(io::ErrorKind::InvalidInput);
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(no_file)?;
    let dir = path.parent().ok_or_else(no_file)?;
    let temporary = dir.join(format!(".{name}.{}", crate::dice::uuid().simple()));
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            // The umask may have taken bits away; keys are opened with the tighter mode first.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(contents)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the first failure is the one to report.
        drop(fs::remove_file(&temporary));
    }
    written?;
    remove_left(dir, name);
    sync_dir(dir)
}

/// Removes what writers of this file left beside it that were killed in the middle: half a key, maybe.
///
/// Best effort, as the file itself is written. Whoever writes the same file just now fails and says so.
fn remove_left(dir: &Path, name: &str) {
    let prefix = format!(".{name}.");
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_left =
            entry.file_name().to_str().and_then(|it| it.strip_prefix(&prefix)).is_some_and(|end| {
                end.len() == 32 && end.bytes().all(|byte| byte.is_ascii_hexdigit())
            });
        if is_left {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// Makes what was created, renamed or removed in a directory survive a power cut.
fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

/// Removes a file; fine if there is none.
///
/// # Errors
///
/// If it is still there.
pub fn remove(path: &Path) -> Result<(), WriteFile> {
    let failed = |source| WriteFile { path: path.to_owned(), source };
    match fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_dir).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Reads a private key.
///
/// # Errors
///
/// If anybody but this program's user may reach the file, or it holds no key.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, ReadFile> {
    let pem = read_secret(path)?;
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| ReadFile::Pem { path: path.to_owned(), wanted: "private key" })
}

/// Reads the text of a file that only this program's user may reach.
///
/// # Errors
///
/// If anybody else may, or it is too large or no text.
pub fn read_secret(path: &Path) -> Result<String, ReadFile> {
    read_checked(path, |metadata| {
        let user = rustix::process::geteuid().as_raw();
        if metadata.uid() != user {
            return Err(ReadFile::Owner { path: path.to_owned(), owner: metadata.uid(), user });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(ReadFile::Mode { path: path.to_owned(), mode });
        }
        Ok(())
    })
}

/// Reads the text of a file that everybody may read.
///
/// # Errors
///
/// If it is missing, too large or no text.
pub fn read_public(path: &Path) -> Result<String, ReadFile> {
    read_checked(path, |_| Ok(()))
}

/// Reads the certificates in a file, in their order.
///
/// # Errors
///
/// If there is none, or one cannot be parsed.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ReadFile> {
    certificates_in(&read_public(path)?)
        .ok_or_else(|| ReadFile::Pem { path: path.to_owned(), wanted: "certificate" })
}

/// Returns the certificates in a PEM text; none if there is none or one is broken.
pub fn certificates_in(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    if certificates.is_empty() { None } else { Some(certificates) }
}

fn read_checked(
    path: &Path,
    refuse: impl FnOnce(&fs::Metadata) -> Result<(), ReadFile>,
) -> Result<String, ReadFile> {
    let failed = |source| ReadFile::Io { path: path.to_owned(), source };
    // The opened file is judged, not its name, and a symbolic link is no key: whoever may write
    // to the directory could otherwise swap one for the other between look and use. Nor is a pipe,
    // which would be waited for until somebody writes to it.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = flags.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    refuse(&metadata)?;
    let mut text = String::new();
    file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    let size_bytes = metadata.len().max(u64::try_from(text.len()).unwrap_or(u64::MAX));
    if size_bytes > FILE_MAX_BYTES {
        return Err(ReadFile::TooLarge { path: path.to_owned(), size_bytes });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_key_is_written_for_its_owner_alone_and_leaves_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");

        write(&path, b"one", Access::Owner).unwrap();
        write(&path, b"two", Access::Owner).unwrap();

        assert_eq!(mode_of(&path), 0o600);
        assert_eq!(read_secret(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn nobody_waits_for_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();

        assert!(read_certificates(&path).is_err());
        assert!(read_key(&path).is_err());
    }

    #[test]
    fn what_a_killed_writer_left_goes_with_the_next_write() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(".key.pem.58805aa490d747fea85c1a3efbda9680");
        let foreign = dir.path().join(".key.pem.old");
        fs::write(&left, "half a k").unwrap();
        fs::write(&foreign, "whatever").unwrap();

        write(&dir.path().join("key.pem"), b"one", Access::Owner).unwrap();

        assert!(!left.exists());
        assert!(foreign.exists(), "what has another name is not ours");
    }

    #[test]
    fn a_key_that_others_may_reach_is_refused_with_what_to_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write(&path, b"secret", Access::Owner).unwrap();

        for mode in [0o644, 0o640, 0o604, 0o660, 0o601, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_secret(&path).unwrap_err();
            assert!(matches!(error, ReadFile::Mode { mode: found, .. } if found == mode));
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())));
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn a_key_behind_a_symbolic_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write(&path, b"secret", Access::Owner).unwrap();
        let link = dir.path().join("link.pem");
        std::os::unix::fs::symlink(&path, &link).unwrap();

        assert!(matches!(read_secret(&link), Err(ReadFile::Io { .. })));
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();

        assert!(matches!(read_public(&path), Err(ReadFile::TooLarge { .. })));
    }

    #[test]
    fn a_file_without_a_key_or_certificate_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pem");
        write(&path, b"nothing", Access::Owner).unwrap();

        assert!(read_key(&path).unwrap_err().to_string().ends_with("no private key in PEM form"));
        let error = read_certificates(&path).unwrap_err();
        assert!(error.to_string().ends_with("no certificate in PEM form"));
    }
}
