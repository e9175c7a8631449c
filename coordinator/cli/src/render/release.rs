//! Releases.

use super::{
    Paint, bytes, moment,
    table::{Cell, table},
};
use crate::view::{Pushed, Release};

/// How many hex digits of a digest are shown: enough to compare by eye.
const DIGEST_SHOWN: usize = 12;

/// Prints a list of releases.
pub fn releases(releases: &[Release], paint: Paint) -> String {
    if releases.is_empty() {
        return "no releases: cutover release push DIR\n".to_owned();
    }
    let rows: Vec<[Cell; 6]> = releases
        .iter()
        .map(|release| {
            [
                (&release.application).into(),
                (&release.version).into(),
                short_digest(release.digest.as_str()).into(),
                bytes(release.size_bytes).into(),
                moment(release.pushed_unix_ms).into(),
                (&release.pushed_by).into(),
            ]
        })
        .collect();
    table(["APPLICATION", "VERSION", "DIGEST", "SIZE", "PUSHED", "BY"], &rows, paint)
}

/// Prints what became of a push.
pub fn pushed(pushed: &Pushed) -> String {
    let Pushed { application, version, digest, size_bytes, archive_size_bytes, already_there } =
        pushed;
    let digest = short_digest(digest.as_str());
    if *already_there {
        return format!("{application}@{version} is already there ({digest})\n");
    }
    format!(
        "{application}@{version} pushed ({digest}, {}, {} packed)\n",
        bytes(*size_bytes),
        bytes(*archive_size_bytes),
    )
}

fn short_digest(digest: &str) -> &str {
    digest.get(..DIGEST_SHOWN).unwrap_or(digest)
}
