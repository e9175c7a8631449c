//! The command line.

use std::{fs, io::Read as _, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use crate::{
    Failure,
    connection::{Faults, Health},
};

const USAGE: &str = "usage: cutover-sample --port PORT --address IP [--version-file FILE]\n\
    \x20   [--fail-health | --healthy-when FILE | --flap CHECKS | --crash-after-checks CHECKS]\n\
    \x20   [--crash-after SECONDS] [--listen-after SECONDS] [--held-until FILE]\n\
    \x20   [--request-log FILE] [--complain-every SECONDS] [--fail-each PAGES] [--slow-by MS]\n\
    \x20   [--ignore-term] [--leave-child]\n\
    \n\
    --fail-health          /healthz always fails\n\
    --healthy-when FILE    /healthz passes when the file is there\n\
    --flap CHECKS          /healthz passes so many times, fails so many times, and again\n\
    --crash-after-checks   /healthz passes so many times; the next time the process crashes\n\
    --crash-after          the process crashes after this time\n\
    --listen-after         it does not listen before this time\n\
    --held-until FILE      /held is answered when the file is there\n\
    --request-log FILE     when each request was begun and ended, by the machine's clock\n\
    --complain-every       it writes a line that says error, so often\n\
    --fail-each PAGES      of so many pages one is answered with 500\n\
    --slow-by MS           each page takes so many milliseconds longer\n\
    --ignore-term          it goes on at TERM; INT stops it\n\
    --leave-child          a child in a session of its own holds the port, and never accepts";

/// The longest version that a release can have.
const VERSION_BYTES_MAX: usize = 64;

/// What was asked for.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Args {
    pub(crate) port: u16,
    pub(crate) address: IpAddr,
    pub(crate) manners: Manners,
}

/// How the server behaves: well, unless it is told otherwise.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Manners {
    version_file: Option<PathBuf>,
    pub(crate) health: Health,
    pub(crate) crash_after: Option<Duration>,
    pub(crate) listen_after: Duration,
    pub(crate) held_until: Option<PathBuf>,
    pub(crate) request_log: Option<PathBuf>,
    pub(crate) complain_every: Option<Duration>,
    pub(crate) faults: Faults,
    pub(crate) ignores_term: bool,
    pub(crate) leaves_child: bool,
}

impl Args {
    /// Parses the arguments behind the program's name.
    ///
    /// # Errors
    ///
    /// Refuses unknown and missing ones, and says how the program is used.
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut args = args;
        let (mut port, mut address) = (None, None);
        let mut manners = Manners::default();
        while let Some(arg) = args.next() {
            let mut value = || {
                let missing = || Failure::wrong_use(format!("{arg} has no value\n{USAGE}"));
                args.next().ok_or_else(missing)
            };
            match arg.as_str() {
                "--port" => port = Some(read(&arg, &value()?)?),
                "--address" => address = Some(read(&arg, &value()?)?),
                "--version-file" => manners.version_file = Some(PathBuf::from(value()?)),
                "--fail-health" => manners.health = Health::Bad,
                "--healthy-when" => {
                    manners.health = Health::Waits { file: PathBuf::from(value()?) };
                }
                "--flap" => manners.health = Health::Flaps { each: read(&arg, &value()?)? },
                "--crash-after-checks" => {
                    manners.health = Health::Dies { after: read(&arg, &value()?)? };
                }
                "--crash-after" => {
                    manners.crash_after = Some(Duration::from_secs(read(&arg, &value()?)?));
                }
                "--listen-after" => {
                    manners.listen_after = Duration::from_secs(read(&arg, &value()?)?);
                }
                "--held-until" => manners.held_until = Some(PathBuf::from(value()?)),
                "--request-log" => manners.request_log = Some(PathBuf::from(value()?)),
                "--complain-every" => {
                    manners.complain_every = Some(Duration::from_secs(read(&arg, &value()?)?));
                }
                "--fail-each" => manners.faults.fails_each = Some(read(&arg, &value()?)?),
                "--slow-by" => {
                    manners.faults.slow_by = Duration::from_millis(read(&arg, &value()?)?);
                }
                "--ignore-term" => manners.ignores_term = true,
                "--leave-child" => manners.leaves_child = true,
                _ => return Err(Failure::wrong_use(format!("{arg:?} is unknown\n{USAGE}"))),
            }
        }
        let missing = |name| Failure::wrong_use(format!("{name} is missing\n{USAGE}"));
        Ok(Self {
            port: port.ok_or_else(|| missing("--port"))?,
            address: address.ok_or_else(|| missing("--address"))?,
            manners,
        })
    }

    /// Reads the version, which is the first line of the version file; "unknown" without one.
    ///
    /// # Errors
    ///
    /// Refuses a file that cannot be read, and text that would not fit into an answer's line.
    pub(crate) fn version(&self) -> Result<String, Failure> {
        let Some(path) = &self.manners.version_file else {
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

/// Reads the value of an argument.
fn read<T: FromStr>(arg: &str, value: &str) -> Result<T, Failure> {
    let invalid = |_| Failure::wrong_use(format!("{arg} cannot be {value:?}\n{USAGE}"));
    value.parse().map_err(invalid)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

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
            "--listen-after",
            "20",
            "--held-until",
            "file",
            "--request-log",
            "log",
            "--complain-every",
            "1",
            "--fail-each",
            "2",
            "--slow-by",
            "5",
            "--ignore-term",
            "--leave-child",
        ])
        .unwrap();

        assert_eq!(args.port, 0);
        let manners = Manners {
            version_file: None,
            health: Health::Bad,
            crash_after: Some(Duration::from_secs(3)),
            listen_after: Duration::from_secs(20),
            held_until: Some(PathBuf::from("file")),
            request_log: Some(PathBuf::from("log")),
            complain_every: Some(Duration::from_secs(1)),
            faults: Faults { fails_each: NonZeroU32::new(2), slow_by: Duration::from_millis(5) },
            ignores_term: true,
            leaves_child: true,
        };
        assert_eq!(args.manners, manners);
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
            (vec!["--flap", "0"], "--flap cannot be"),
            (vec!["--crash-after-checks"], "--crash-after-checks has no value"),
            (vec!["--prot", "1"], "\"--prot\" is unknown"),
        ] {
            let message = parse(&args).unwrap_err().message;
            assert!(message.starts_with(wrong), "{message}");
        }
    }
}
