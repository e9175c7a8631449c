//! EntryPath and LinkTarget: names in an archive, checked.

use std::{fmt, path::Path};

use super::refusal::{Bound, Refusal, echo};

/// How deep folders may be nested (promises.md §4 row 37).
pub const DEPTH_MAX: usize = 64;

/// How long one name may be, in bytes: NAME_MAX of every file system that Linux hosts run on.
pub const NAME_BYTES_MAX: usize = 255;

/// How long a path may be, in bytes. PATH_MAX is 4096; the rest is left for the agent's folder.
pub const PATH_BYTES_MAX: usize = 3072;

/// How long a symlink's target may be, in bytes.
///
/// No build makes longer ones, and [`ENTRIES_MAX`](super::ENTRIES_MAX) of them must fit into the
/// memory of whoever reads.
pub const TARGET_BYTES_MAX: usize = 1024;

/// A path in a release: relative, without `.` and `..`, of printable names.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryPath(String);

impl EntryPath {
    /// Parses a path as an archive or a disk gives it.
    ///
    /// # Errors
    ///
    /// Refuses whatever is no plain relative path, and names the entry.
    pub fn parse(raw: &[u8]) -> Result<Self, Refusal> {
        let text = printable(raw)?;
        if text.starts_with('/') {
            return Err(Refusal::PathAbsolute { entry: echo(raw) });
        }
        let limit = |bound, max: usize| {
            Err(Refusal::EntryLimit { entry: echo(raw), bound, max: max as u64 })
        };
        let bad = |why| Err(Refusal::BadName { entry: echo(raw), why });
        let mut depth = 0;
        for name in text.split('/') {
            depth += 1;
            match name {
                "" => return bad("has an empty part"),
                "." => return bad("has a part `.`"),
                ".." => return Err(Refusal::PathEscape { entry: echo(raw) }),
                name if name.len() > NAME_BYTES_MAX => {
                    return limit(Bound::NameBytes, NAME_BYTES_MAX);
                }
                _ => {}
            }
        }
        if depth > DEPTH_MAX {
            return limit(Bound::Depth, DEPTH_MAX);
        }
        if text.len() > PATH_BYTES_MAX {
            return limit(Bound::PathBytes, PATH_BYTES_MAX);
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the checked text, with `/` between names.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the names from the top down. There is at least one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Returns the path of the folder this is in, or `None` at the top, and the last name.
    pub fn split(&self) -> (Option<&str>, &str) {
        match self.0.rsplit_once('/') {
            Some((folder, name)) => (Some(folder), name),
            None => (None, &self.0),
        }
    }
}

impl AsRef<Path> for EntryPath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a symlink says: a relative path that stays in the release, read literally.
///
/// That it also stays inside when it passes through other symlinks is judged when all of them
/// are known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkTarget(String);

impl LinkTarget {
    /// Parses the target of the symlink at `link`.
    ///
    /// # Errors
    ///
    /// Refuses a target that is absolute, leaves the release or is no printable text.
    pub fn parse(link: &EntryPath, raw: &[u8]) -> Result<Self, Refusal> {
        let entry = || echo(link.as_str().as_bytes());
        if raw.len() > TARGET_BYTES_MAX {
            let max = TARGET_BYTES_MAX as u64;
            return Err(Refusal::EntryLimit { entry: entry(), bound: Bound::TargetBytes, max });
        }
        let bad = |_| Refusal::BadName { entry: entry(), why: "points to unprintable text" };
        let text = printable(raw).map_err(bad)?;
        let escape = || Refusal::LinkEscape { entry: entry(), target: echo(raw) };
        if text.starts_with('/') {
            return Err(escape());
        }
        let mut depth = link.names().count() - 1;
        for name in text.split('/') {
            depth = match name {
                "" | "." => depth,
                ".." => depth.checked_sub(1).ok_or_else(escape)?,
                _ => depth + 1,
            };
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the checked text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns `raw` as text, if it is not empty, UTF-8 and free of control characters.
fn printable(raw: &[u8]) -> Result<&str, Refusal> {
    let bad = |why| Refusal::BadName { entry: echo(raw), why };
    if raw.is_empty() {
        return Err(bad("is empty"));
    }
    let text = std::str::from_utf8(raw).map_err(|_| bad("is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(bad("has a control character"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(raw: &[u8]) -> &'static str {
        EntryPath::parse(raw).map_or_else(|refusal| refusal.code(), |_| "accepted")
    }

    #[test]
    fn plain_relative_paths_are_accepted() {
        for good in ["a", "a/b", "bin/web-1.2", "..a", "a..", "ä/ß", "x y", "a\\b", "-rf"] {
            assert_eq!(code(good.as_bytes()), "accepted", "{good:?}");
        }
    }

    #[test]
    fn what_is_no_plain_relative_path_is_refused() {
        // promises.md §4 rows 26, 27, 37 and 38.
        let deep = "d/".repeat(1000) + "f";
        let cases: [(&[u8], &str); 14] = [
            (b"..", "PATH_ESCAPE"),
            (b"../x", "PATH_ESCAPE"),
            (b"a/../../x", "PATH_ESCAPE"),
            (b"/etc/passwd", "PATH_ABSOLUTE"),
            (b"//x", "PATH_ABSOLUTE"),
            (b"", "BAD_NAME"),
            (b"./x", "BAD_NAME"),
            (b"a//b", "BAD_NAME"),
            (b"a/", "BAD_NAME"),
            (b"a\nb", "BAD_NAME"),
            (b"a\x1b[31m", "BAD_NAME"),
            (b"a\xff", "BAD_NAME"),
            (&[b'n'; 300], "ARCHIVE_LIMIT"),
            (deep.as_bytes(), "ARCHIVE_LIMIT"),
        ];
        for (raw, expected) in cases {
            assert_eq!(code(raw), expected, "{:?}", echo(raw));
        }
    }

    #[test]
    fn a_refusal_repeats_only_the_beginning_of_a_name_and_no_escape_sequence() {
        let mut name = vec![b'n'; 1_000_000];
        name[3] = 0x1b;

        let text = EntryPath::parse(&name).unwrap_err().to_string();

        assert!(text.len() < 300, "{text}");
        assert!(!text.contains('\x1b'));
    }
}
