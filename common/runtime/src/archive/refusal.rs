//! Refusal: why an entry or a whole archive is not accepted, for the packer and the reader alike.

use std::fmt;

/// How much of an entry's name a refusal repeats, in characters: enough to find it.
const ECHO_MAX: usize = 120;

/// Why an archive, or a tree that should become one, is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("entry {entry:?} leaves the release's folder through `..`")]
    PathEscape { entry: String },
    #[error("entry {entry:?} has an absolute path")]
    PathAbsolute { entry: String },
    #[error("entry {entry:?} has a name that {why}")]
    BadName { entry: String, why: &'static str },
    #[error("symlink {entry:?} points out of the release's folder, to {target:?}")]
    LinkEscape { entry: String, target: String },
    #[error("symlink {entry:?} passes through more than 40 other symlinks, or through itself")]
    LinkLoop { entry: String },
    #[error("entry {entry:?} would be written through the symlink {link:?}")]
    ThroughLink { entry: String, link: String },
    #[error(
        "entry {entry:?} is there twice, the first time as {first:?} (case and Unicode form do not count)"
    )]
    Duplicate { entry: String, first: String },
    #[error("entry {entry:?} comes before its folder, or its folder is a file")]
    NoFolder { entry: String },
    #[error("entry {entry:?} is a hard link")]
    HardLink { entry: String },
    #[error("entry {entry:?} is {kind}, not a file, folder or symlink")]
    EntryType { entry: String, kind: &'static str },
    #[error("entry {entry:?} has mode {mode:04o}, which has more than permission bits")]
    Privileged { entry: String, mode: u32 },
    #[error("entry {entry:?} uses {what}, which is no part of a release archive")]
    Extension { entry: String, what: &'static str },
    #[error("entry {entry:?} exceeds the limit of {max} {bound}")]
    EntryLimit { entry: String, bound: Bound, max: u64 },
    #[error("the archive exceeds the limit of {max} {bound}")]
    Limit { bound: Bound, max: u64 },
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bound {
    Entries,
    Depth,
    NameBytes,
    PathBytes,
    TargetBytes,
    FileBytes,
    SizeBytes,
    ArchiveBytes,
    Ratio,
    LinkSteps,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entries => "entries",
            Self::Depth => "folders deep",
            Self::NameBytes => "bytes in one name",
            Self::PathBytes => "bytes in a path",
            Self::TargetBytes => "bytes in a symlink's target",
            Self::FileBytes => "bytes in one file",
            Self::SizeBytes => "bytes uncompressed",
            Self::ArchiveBytes => "bytes compressed",
            Self::Ratio => "uncompressed bytes for each compressed one",
            Self::LinkSteps => "steps to follow all symlinks",
        })
    }
}

impl Refusal {
    /// Makes the refusal of a whole archive.
    pub(super) const fn whole(bound: Bound, max: u64) -> Self {
        Self::Limit { bound, max }
    }

    /// Returns the stable code (promises.md §4 rows 26 to 38).
    pub const fn code(&self) -> &'static str {
        match self {
            Self::PathEscape { .. } => "PATH_ESCAPE",
            Self::PathAbsolute { .. } => "PATH_ABSOLUTE",
            Self::BadName { .. } => "BAD_NAME",
            Self::LinkEscape { .. } | Self::LinkLoop { .. } | Self::ThroughLink { .. } => {
                "LINK_ESCAPE"
            }
            Self::Duplicate { .. } => "DUPLICATE_ENTRY",
            Self::NoFolder { .. } => "ARCHIVE_CORRUPT",
            Self::HardLink { .. } => "HARDLINK_UNSUPPORTED",
            Self::EntryType { .. } => "ENTRY_TYPE",
            Self::Privileged { .. } => "BAD_MODE",
            Self::Extension { .. } => "TAR_EXT",
            Self::EntryLimit { .. } | Self::Limit { .. } => "ARCHIVE_LIMIT",
        }
    }

    /// Returns what the owner of the tree can do about it.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::PathEscape { .. } | Self::PathAbsolute { .. } | Self::BadName { .. } => {
                "rename the entry"
            }
            Self::LinkEscape { .. } | Self::LinkLoop { .. } | Self::ThroughLink { .. } => {
                "make the symlink point to a file in the release, by a relative path, or copy the file"
            }
            Self::Duplicate { .. } => "rename or remove one of the two",
            Self::NoFolder { .. } | Self::HardLink { .. } | Self::Extension { .. } => {
                "make the archive with `cutover push`"
            }
            Self::EntryType { .. } => "remove the entry from the folder",
            Self::Privileged { .. } => {
                "remove the setuid, setgid and sticky bits with `chmod ug-s,-t`"
            }
            Self::EntryLimit { .. } | Self::Limit { .. } => {
                "leave out what the release does not need to run"
            }
        }
    }
}

/// Returns the beginning of a name that an archive or a disk gave us, as text for people.
pub(super) fn echo(name: &[u8]) -> String {
    // Four bytes at most make a character, so the rest need not be looked at.
    let head = name.get(..4 * ECHO_MAX).unwrap_or(name);
    let text = String::from_utf8_lossy(head);
    let mut echo: String = text.chars().take(ECHO_MAX).collect();
    if echo.len() < name.len() && text.chars().nth(ECHO_MAX).is_some() {
        echo.push('…');
    }
    echo
}
