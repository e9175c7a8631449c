//! The header of an entry as we write it: plain ustar, with PAX only where a name does not fit.

use tar::{EntryType, Header};

use super::pax;

/// Of a tar stream: everything comes in blocks of it.
pub(super) const BLOCK_BYTES: usize = 512;

/// What ustar can say in eleven octal digits; a larger file would need a PAX size.
pub(super) const FILE_BYTES_MAX: u64 = (8 << 30) - 1;

/// The mode of folders and programs, and of other files (promises.md §4 row 32).
pub(super) const MODE_EXECUTABLE: u32 = 0o755;
pub(super) const MODE_PLAIN: u32 = 0o644;

/// What is packed under a path.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    Folder,
    File { size_bytes: u64, mode: u32 },
    Link { target: &'a str },
}

/// Returns the header blocks of an entry.
pub(super) fn encode(path: &str, kind: Kind<'_>) -> Vec<u8> {
    let mut header = Header::new_ustar();
    let mut path = path.to_owned();
    let mut records = Vec::new();
    match kind {
        Kind::Folder => {
            path.push('/');
            fill(&mut header, EntryType::Directory, MODE_EXECUTABLE, 0);
        }
        Kind::File { size_bytes, mode } => fill(&mut header, EntryType::Regular, mode, size_bytes),
        Kind::Link { target } => {
            fill(&mut header, EntryType::Symlink, 0o777, 0);
            if !put_link_name(&mut header, target) {
                pax::append_record(&mut records, "linkpath", target.as_bytes());
            }
        }
    }
    if !put_path(&mut header, &path) {
        pax::append_record(&mut records, "path", path.as_bytes());
    }
    header.set_cksum();

    let mut blocks = Vec::new();
    if !records.is_empty() {
        let mut pax_header = Header::new_ustar();
        fill(&mut pax_header, EntryType::XHeader, MODE_PLAIN, records.len() as u64);
        put_path(&mut pax_header, "PaxHeader");
        pax_header.set_cksum();
        blocks.extend_from_slice(pax_header.as_bytes());
        blocks.extend_from_slice(&records);
        blocks.resize(blocks.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    blocks.extend_from_slice(header.as_bytes());
    blocks
}

fn fill(header: &mut Header, entry_type: EntryType, mode: u32, size_bytes: u64) {
    header.set_entry_type(entry_type);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size_bytes);
}

/// Writes `path` into the name and prefix fields. Returns whether it fits; if not, its beginning
/// is there for people.
fn put_path(header: &mut Header, path: &str) -> bool {
    let Some(ustar) = header.as_ustar_mut() else {
        return false;
    };
    if put(&mut ustar.name, path) {
        return true;
    }
    // Always the first slash that leaves a short enough name, so that one path has one spelling.
    let slash = path.match_indices('/').map(|(at, _)| at).find(|at| {
        let name = path.len() - at - 1;
        (1..=ustar.name.len()).contains(&name)
    });
    let Some((prefix, name)) = slash.map(|at| (&path[..at], &path[at + 1..])) else {
        return false;
    };
    if prefix.is_empty() || prefix.len() > ustar.prefix.len() {
        return false;
    }
    ustar.name.fill(0);
    put(&mut ustar.prefix, prefix) && put(&mut ustar.name, name)
}

fn put_link_name(header: &mut Header, target: &str) -> bool {
    header.as_ustar_mut().is_some_and(|ustar| put(&mut ustar.linkname, target))
}

/// Copies as much of `text` as fits, in whole characters. Returns whether all of it did.
fn put(field: &mut [u8], text: &str) -> bool {
    let end = text.floor_char_boundary(field.len());
    field[..end].copy_from_slice(&text.as_bytes()[..end]);
    end == text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_is_used_only_where_ustar_cannot_hold_the_name() {
        let blocks = |path: &str| encode(path, Kind::Folder).len() / BLOCK_BYTES;

        assert_eq!(blocks(&"a".repeat(99)), 1);
        assert_eq!(blocks(&format!("{}/{}", "p".repeat(155), "n".repeat(99))), 1);
        assert_eq!(blocks(&format!("{}/{}", "p".repeat(156), "n".repeat(99))), 3);
        assert_eq!(blocks(&"a".repeat(120)), 3);
    }
}
