//! The command line.

use std::{fs, io::Read as _, net::IpAddr, path::PathBuf, time::Duration};

use crate::{Failure, connection::Health};

const USAGE: &str = "usage: cutover-sample --port PORT --address IP [--version-file FILE] \
                     [--fail-health] [--crash-after SECONDS]";

/// The longest version that a release can have.
const VERSION_BYTES_MAX: usize = 64;

/// What was asked for.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Args {
    pub(crate) port: u16,
    pub(crate) address: IpAddr,
    version_file: Option<PathBuf>,
    pub(crate) health: Health,
    pub(crate) crash_after: Option<Duration>,
}

impl Args {
    /// Parses the arguments behind the program's name.
    ///
    /// # Errors
    ///
    /// Refuses unknown and missing ones, and says how the program is used.
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut args = args;
        let (mut port, mut address, mut version_file) = (None, None, None);
        let mut health = Health::Good;
        let mut crash_after = None;
        while let Some(arg) = args.next() {
            let mut value = || {
                let missing = || Failure::wrong_use(format!("{arg} has no value\n{USAGE}"));
                args.next().ok_or_else(missing)
            };
            let invalid =
                |value: &str| Failure::wrong_use(format!("{arg} cannot be {value:?}\n{USAGE}"));
            match arg.as_str() {
                "--port" => {
                    let value = value()?;
                    port = Some(value.parse().map_err(|_| invalid(&value))?);
                }
                "--address" => {
                    let value = value()?;
                    address = Some(value.parse().map_err(|_| invalid(&value))?);
                }
                "--version-file" => version_file = Some(PathBuf::from(value()?)),
                "--fail-health" => health = Health::Bad,
                "--crash-after" => {
                    let value = value()?;
                    let seconds = value.parse().map_err(|_| invalid(&value))?;
                    crash_after = Some(Duration::from_secs(seconds));
                }
                _ => return Err(Failure::wrong_use(format!("{arg:?} is unknown\n{USAGE}"))),
            }
        }
        let missing = |name| Failure::wrong_use(format!("{name} is missing\n{USAGE}"));
        Ok(Self {
            port: port.ok_or_else(|| missing("--port"))?,
            address: address.ok_or_else(|| missing("--address"))?,
            version_file,
            health,
            crash_after,
        })
    }

    /// Reads the version, which is the first line of the version file; "unknown" without one.
    ///
    /// # Errors
    ///
    /// Refuses a file that cannot be read, and text that would not fit into an answer's line.
    pub(crate) fn version(&self) -> Result<String, Failure> {
        let Some(path) = &self.version_file else {
            return Ok("unknown".to_owned());
        };
        let reading = format!("read the version from {}", path.display());
        let mut text = String::new();
        fs::File::open(path)
            .and_then(|file| file.take(4 * 1024).read_to_string(&mut text))
            .map_err(|cause| Failure::of_system(&reading, &cause))?;
        let version = text.lines().next().unwrap_or_default().trim();
        let is_version = !version.is_empty()
            && version.len() <= VERSION_BYTES_MAX
            && version.bytes().all(|b| b.is_ascii_graphic());
        if is_version {
            return Ok(version.to_owned());
        }
        let message = format!("{} holds no version: write 1 to 64 letters", path.display());
        Err(Failure::wrong_use(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, Failure> {
        Args::parse(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn all_arguments_are_read() {
        let args = parse(&[
            "--port",
            "0",
            "--address",
            "127.0.0.1",
            "--fail-health",
            "--crash-after",
            "3",
        ])
        .unwrap();

        assert_eq!(args.port, 0);
        assert_eq!(args.health, Health::Bad);
        assert_eq!(args.crash_after, Some(Duration::from_secs(3)));
        assert_eq!(args.version().unwrap(), "unknown");
    }

    #[test]
    fn a_wrong_command_line_says_what_is_wrong() {
        for (args, wrong) in [
            (vec!["--port", "1"], "--address is missing"),
            (vec!["--address", "127.0.0.1"], "--port is missing"),
            (vec!["--port"], "--port has no value"),
            (vec!["--port", "70000"], "--port cannot be \"70000\""),
            (vec!["--address", "localhost"], "--address cannot be"),
            (vec!["--crash-after", "soon"], "--crash-after cannot be"),
            (vec!["--prot", "1"], "\"--prot\" is unknown"),
        ] {
            let message = parse(&args).unwrap_err().message;
            assert!(message.starts_with(wrong), "{message}");
        }
    }
}
