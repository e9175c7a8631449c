//! The file that `cutover login` writes: which coordinator, its CA and the operator's token.
//!
//! Whoever reads it is the operator, so it is written 0600 and refused when others can read it.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    args::values::{CaHash, CoordinatorUrl, Secret},
    failure::Failure,
};

const HINT: &str = "cutover login https://HOST:7441 --token T --ca-hash sha256:H";

/// The largest file that is read, in bytes: far above a URL, a hash and a token.
const BYTES_MAX: u64 = 64 * 1024;

/// Which coordinator, and who we are to it.
#[derive(Debug)]
pub struct Login {
    pub coordinator: CoordinatorUrl,
    pub ca_hash: CaHash,
    pub token: Secret,
}

#[derive(Deserialize, Serialize)]
struct Stored {
    coordinator: String,
    ca_hash: String,
    token: String,
}

/// What the environment says about where the file is.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub xdg_config_home: Option<OsString>,
    pub home: Option<OsString>,
}

impl Surroundings {
    /// Reads the environment of this process.
    pub fn of_this_process() -> Self {
        Self {
            xdg_config_home: std::env::var_os("XDG_CONFIG_HOME"),
            home: std::env::var_os("HOME"),
        }
    }

    /// Returns where the file is.
    ///
    /// # Errors
    ///
    /// If nothing says where the user's files are.
    pub fn login_file(&self, chosen: Option<&Path>) -> Result<PathBuf, Failure> {
        if let Some(chosen) = chosen {
            return Ok(chosen.to_owned());
        }
        // The XDG base directory specification: a relative path counts as absent.
        let absolute = |value: &Option<OsString>| {
            value.as_ref().map(PathBuf::from).filter(|path| path.is_absolute())
        };
        absolute(&self.xdg_config_home)
            .or_else(|| absolute(&self.home).map(|home| home.join(".config")))
            .map(|folder| folder.join("cutover").join("login.json"))
            .ok_or_else(|| {
                Failure::wrong_use("neither XDG_CONFIG_HOME nor HOME says where your files are")
                    .with_hint("name the login file with --config FILE")
            })
    }
}

/// Reads the file.
///
/// # Errors
///
/// If there is none, others can read it, or it is broken.
pub fn read(path: &Path) -> Result<Login, Failure> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    // Asked of the open file, so that what is judged is what is read.
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(Failure::wrong_use(format!("{shown} is no file")).with_hint(HINT));
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let error = format!("{shown} holds your token and others can use it (mode {mode:04o})");
        return Err(Failure::refused(error).with_hint(format!("chmod 600 {shown}")));
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
    parse(&text).ok_or_else(|| {
        Failure::wrong_use(format!("{shown} is not what cutover login writes")).with_hint(HINT)
    })
}

fn parse(text: &str) -> Option<Login> {
    // What is wrong is not shown: the text holds the token.
    let stored: Stored = serde_json::from_str(text).ok()?;
    Some(Login {
        coordinator: stored.coordinator.parse().ok()?,
        ca_hash: stored.ca_hash.parse().ok()?,
        token: stored.token.parse().ok()?,
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    let error = if error.kind() == io::ErrorKind::NotFound {
        format!("you are not logged in: there is no {shown}")
    } else {
        format!("could not read {shown}: {error}")
    };
    Failure::wrong_use(error).with_hint(HINT)
}

/// Writes the file so that only its owner can read it, the whole of it or nothing.
///
/// # Errors
///
/// If the folder or the file cannot be written.
pub fn write(path: &Path, login: &Login) -> Result<(), Failure> {
    let stored = Stored {
        coordinator: login.coordinator.to_string(),
        ca_hash: format!("sha256:{}", login.ca_hash.0),
        token: login.token.reveal().to_owned(),
    };
    let text = serde_json::to_string_pretty(&stored)
        .map_err(|error| Failure::of(crate::failure::Kind::OurBug, &error))?;
    write_private(path, &text).map_err(|error| {
        Failure::wrong_use(format!("could not write {}: {error}", path.display()))
            .with_hint("name another file with --config FILE")
    })
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Made 0600 under a name of its own, then moved: nobody sees a wider or a half file.
    let mut file = tempfile::Builder::new()
        .prefix(".login-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn login() -> Login {
        Login {
            coordinator: "https://deploy.example.com:7441".parse().unwrap(),
            ca_hash: format!("sha256:{HASH}").parse().unwrap(),
            token: "t0p-secret".parse().unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_only_its_owner_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cutover/login.json");

        write(&path, &login()).unwrap();

        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let read = read(&path).unwrap();
        assert_eq!(read.coordinator, login().coordinator);
        assert_eq!(read.ca_hash, login().ca_hash);
        assert_eq!(read.token.reveal(), "t0p-secret");
    }

    #[test]
    fn a_second_login_takes_the_place_of_the_first_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("login.json");

        write(&path, &login()).unwrap();
        write(&path, &Login { token: "other".parse().unwrap(), ..login() }).unwrap();

        assert_eq!(read(&path).unwrap().token.reveal(), "other");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("login.json");
        write(&path, &login()).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();

            let failure = read(&path).unwrap_err();

            assert_eq!(failure.kind(), Kind::Refused, "{mode:o}");
            assert_eq!(failure.hint(), Some(format!("chmod 600 {}", path.display()).as_str()));
        }
    }

    #[test]
    fn a_missing_file_says_how_to_log_in() {
        let failure = read(Path::new("/nonexistent/login.json")).unwrap_err();

        insta::assert_snapshot!(failure, @r"
        error: you are not logged in: there is no /nonexistent/login.json
        hint: cutover login https://HOST:7441 --token T --ca-hash sha256:H
        ");
    }

    #[test]
    fn a_broken_file_is_refused_without_a_word_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("login.json");
        for broken in [
            "",
            "{",
            r#"{"token":"t0p-secret"}"#,
            r#"{"coordinator":"http://x","ca_hash":"","token":"t0p-secret"}"#,
        ] {
            fs::write(&path, broken).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

            let failure = read(&path).unwrap_err();

            assert_eq!(failure.kind(), Kind::WrongUse);
            assert!(!failure.to_string().contains("t0p-secret"));
        }
    }

    #[test]
    fn a_login_is_never_shown_with_its_token() {
        assert!(!format!("{:?}", login()).contains("t0p-secret"));
    }

    #[test]
    fn the_file_is_where_the_environment_says() {
        let file = |xdg: Option<&str>, home: Option<&str>, chosen: Option<&str>| {
            let surroundings = Surroundings {
                xdg_config_home: xdg.map(OsString::from),
                home: home.map(OsString::from),
            };
            surroundings.login_file(chosen.map(Path::new)).ok()
        };
        let at = |path: &str| Some(PathBuf::from(path));

        assert_eq!(file(Some("/x"), Some("/h"), None), at("/x/cutover/login.json"));
        assert_eq!(file(Some("x"), Some("/h"), None), at("/h/.config/cutover/login.json"));
        assert_eq!(file(None, Some("/h"), None), at("/h/.config/cutover/login.json"));
        assert_eq!(file(Some("/x"), Some("/h"), Some("f")), at("f"));
        assert_eq!(file(None, None, None), None);
    }
}
