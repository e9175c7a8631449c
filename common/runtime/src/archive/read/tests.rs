//! What the reader refuses, what it accepts, and that it stops in time.

use std::{
    cell::Cell,
    io::{self, Read, Write as _},
};

use cutover_common::ErrorChain;
use proptest::prelude::*;

use super::*;
use crate::archive::{
    hostile::{self, TarBytes},
    pack::pack,
    path::LinkTarget,
};

/// Remembers what it was given, one line each.
#[derive(Default)]
struct Lines(Vec<String>);

impl Sink for Lines {
    fn folder(&mut self, path: &EntryPath) -> io::Result<()> {
        self.0.push(format!("{path}/"));
        Ok(())
    }

    fn file(
        &mut self,
        path: &EntryPath,
        file: FileEntry,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let mut text = String::new();
        content.read_to_string(&mut text)?;
        let mark = if file.is_executable { "*" } else { "" };
        self.0.push(format!("{path}{mark} {} {text:?}", file.size_bytes));
        Ok(())
    }

    fn symlink(&mut self, path: &EntryPath, target: &LinkTarget) -> io::Result<()> {
        self.0.push(format!("{path} -> {}", target.as_str()));
        Ok(())
    }
}

/// The paths alone: what else is said of an entry cannot be told from a path with a space in it.
#[derive(Default)]
struct Paths(Vec<String>);

impl Sink for Paths {
    fn folder(&mut self, path: &EntryPath) -> io::Result<()> {
        self.0.push(path.to_string());
        Ok(())
    }

    fn file(&mut self, path: &EntryPath, _: FileEntry, content: &mut dyn Read) -> io::Result<()> {
        io::copy(content, &mut io::sink())?;
        self.0.push(path.to_string());
        Ok(())
    }

    fn symlink(&mut self, path: &EntryPath, _: &LinkTarget) -> io::Result<()> {
        self.0.push(path.to_string());
        Ok(())
    }
}

fn compress(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 3).unwrap()
}

/// Declares just what is there, so that nothing but the content can be refused.
fn honest(tar: &[u8], archive: &[u8]) -> Declared {
    Declared {
        digest: Sha256::of(tar),
        size_bytes: tar.len() as u64,
        archive_digest: Sha256::of(archive),
        archive_size_bytes: archive.len() as u64,
    }
}

fn read_tar(tar: &[u8]) -> Result<(ReadArchive, Vec<String>), ReadError> {
    let archive = compress(tar);
    let mut lines = Lines::default();
    let read = read(&*archive, &honest(tar, &archive), &Limits::default(), &mut lines)?;
    Ok((read, lines.0))
}

#[test]
fn every_hostile_archive_is_refused_with_its_code() {
    // promises.md §4 rows 26 to 38.
    let corpus = hostile::corpus();
    assert!(corpus.len() >= 60, "{}", corpus.len());
    for hostile in corpus {
        let error = read_tar(&hostile.tar).map(|(_, lines)| lines).expect_err(hostile.name);

        let chain = ErrorChain(&error).to_string();
        assert_eq!(error.code(), hostile.code, "{}: {chain}", hostile.name);
        assert!(chain.len() < 600, "{}: {chain}", hostile.name);
        assert!(!chain.contains(|c: char| c.is_control()), "{}: {chain:?}", hostile.name);
    }
}

#[test]
fn plain_archives_are_accepted() {
    let long = "n".repeat(200);
    let tar = TarBytes::default()
        .folder("bin/")
        .file("bin/web")
        .folder("no-slash")
        .link("bin/next", "../no-slash/./x//y")
        .pax("path", long.as_bytes())
        .file("cut")
        .pax("linkpath", long.as_bytes())
        .link("to-long", "cut")
        .end();

    let (read, lines) = read_tar(&tar).unwrap();

    assert_eq!(read.entries, 6);
    assert_eq!(read.digest, Sha256::of(&tar));
    assert_eq!(
        lines,
        [
            "bin/".to_owned(),
            "bin/web 4 \"evil\"".to_owned(),
            "no-slash/".to_owned(),
            "bin/next -> ../no-slash/./x//y".to_owned(),
            format!("{long} 4 \"evil\""),
            format!("to-long -> {long}"),
        ]
    );
}

#[test]
fn other_permission_bits_are_masked_and_counted() {
    // promises.md §4 row 32.
    let mut tar = TarBytes::default();
    for (name, mode) in [(b"a", 0o777), (b"b", 0o600), (b"c", 0o644), (b"d", 0o711)] {
        let mut header = hostile::header(b'0', name, b"", 0);
        header.set_mode(mode);
        header.set_cksum();
        tar.header(&header);
    }

    let (read, lines) = read_tar(&tar.end()).unwrap();

    assert_eq!(lines, ["a* 0 \"\"", "b 0 \"\"", "c 0 \"\"", "d* 0 \"\""]);
    assert_eq!(read.modes_masked, 3);
}

#[test]
fn one_entry_too_many_is_refused() {
    // promises.md §4 row 37.
    let tar = TarBytes::default().file("a").file("b").file("c").end();
    let archive = compress(&tar);
    let read_with = |entries_max| {
        let limits = Limits { entries_max, ..Limits::default() };
        read(&*archive, &honest(&tar, &archive), &limits, &mut Lines::default())
    };

    assert_eq!(read_with(3).unwrap().entries, 3);
    assert_eq!(read_with(2).unwrap_err().code(), "ARCHIVE_LIMIT");
}

/// Counts what is taken from it.
struct Counted<'a> {
    bytes: &'a [u8],
    taken: &'a Cell<usize>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.taken.set(self.taken.get() + count);
        Ok(count)
    }
}

/// An archive whose end marker is followed by a GiB of zeros.
fn bomb() -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.write_all(&TarBytes::default().file("a").end()).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..1024 {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap()
}

#[test]
fn a_bomb_is_refused_without_being_unpacked() {
    // promises.md §4 row 37: declared truly by its ratio, declared falsely at its declared size.
    let archive = bomb();
    assert!(archive.len() < 200_000, "{}", archive.len());
    let small = TarBytes::default().file("a").end();
    for (size_bytes, bound) in
        [((1 << 30) + small.len() as u64, Bound::Ratio), (small.len() as u64, Bound::SizeBytes)]
    {
        let declared = Declared { size_bytes, ..honest(&small, &archive) };
        let mut lines = Lines::default();
        let error = read(&*archive, &declared, &Limits::default(), &mut lines).unwrap_err();

        assert!(
            matches!(error, ReadError::Refused(Refusal::Limit { bound: found, .. }) if found == bound),
            "{error:?}"
        );
    }
}

#[test]
fn the_reader_takes_no_more_than_was_declared() {
    // promises.md §4 row 37: an endless source.
    let tar = TarBytes::default().file("a").end();
    let archive = compress(&tar);
    let declared = honest(&tar, &archive);
    let longer = [archive, vec![0; 10 << 20]].concat();
    let taken = Cell::new(0);
    let source = Counted { bytes: &longer, taken: &taken };

    let error = read(source, &declared, &Limits::default(), &mut Lines::default()).unwrap_err();

    assert_eq!(error.code(), "ARCHIVE_LIMIT");
    assert!(taken.get() < 1 << 20, "{}", taken.get());
}

#[test]
fn a_frame_that_wants_more_memory_than_ours_is_refused() {
    let noise: Vec<u8> = (0_u64..5 << 20)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[4..].to_vec())
        .collect();
    let tar = TarBytes::default().entry(b'0', b"a", &noise).end();
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&tar).unwrap();
    let archive = encoder.finish().unwrap();

    let error = read(&*archive, &honest(&tar, &archive), &Limits::default(), &mut Lines::default())
        .unwrap_err();

    assert_eq!(error.code(), "ARCHIVE_CORRUPT", "{error:?}");
}

#[test]
fn what_follows_the_frame_is_refused() {
    // promises.md §4 row 35.
    let tar = TarBytes::default().file("a").end();
    for tail in [b"x".to_vec(), compress(b""), b"\x50\x2a\x4d\x18\x01\0\0\0x".to_vec()] {
        let archive = [compress(&tar), tail].concat();

        let error =
            read(&*archive, &honest(&tar, &archive), &Limits::default(), &mut Lines::default())
                .unwrap_err();

        assert_eq!(error.code(), "ARCHIVE_CORRUPT", "{error:?}");
    }
}

#[test]
fn a_wrong_digest_or_size_is_an_error_at_the_end() {
    // promises.md §4 row 40.
    let tar = TarBytes::default().file("a").end();
    let archive = compress(&tar);
    let honest = honest(&tar, &archive);
    let other = Sha256::of(b"other");
    let cases = [
        (Declared { digest: other, ..honest }, "DIGEST_MISMATCH"),
        (Declared { archive_digest: other, ..honest }, "DIGEST_MISMATCH"),
        (Declared { size_bytes: honest.size_bytes + 1, ..honest }, "ARCHIVE_CORRUPT"),
        (Declared { size_bytes: honest.size_bytes - 1, ..honest }, "ARCHIVE_LIMIT"),
        (
            Declared { archive_size_bytes: honest.archive_size_bytes + 1, ..honest },
            "ARCHIVE_CORRUPT",
        ),
        (Declared { archive_size_bytes: honest.archive_size_bytes - 1, ..honest }, "ARCHIVE_LIMIT"),
    ];
    for (declared, code) in cases {
        let error =
            read(&*archive, &declared, &Limits::default(), &mut Lines::default()).expect_err(code);

        assert_eq!(error.code(), code, "{error:?}");
    }
}

#[test]
fn an_error_of_the_sink_is_told_from_one_of_the_archive() {
    struct Full;
    impl Sink for Full {
        fn folder(&mut self, _: &EntryPath) -> io::Result<()> {
            Ok(())
        }
        fn file(&mut self, _: &EntryPath, _: FileEntry, content: &mut dyn Read) -> io::Result<()> {
            content.read_exact(&mut [0; 2])?;
            Err(io::ErrorKind::StorageFull.into())
        }
        fn symlink(&mut self, _: &EntryPath, _: &LinkTarget) -> io::Result<()> {
            Ok(())
        }
    }
    let tar = TarBytes::default().folder("d/").file("d/a").end();
    let archive = compress(&tar);

    let error =
        read(&*archive, &honest(&tar, &archive), &Limits::default(), &mut Full).unwrap_err();

    let ReadError::Sink { entry, cause } = error else { panic!("{error:?}") };
    assert_eq!((&*entry, cause.kind()), ("d/a", io::ErrorKind::StorageFull));
}

fn small_archive() -> (Vec<u8>, Declared) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::fs::write(folder.path().join("bin/web"), "#!/bin/sh\nexec true\n").unwrap();
    std::os::unix::fs::symlink("bin/web", folder.path().join("web")).unwrap();
    let mut archive = Vec::new();
    let packed = pack(folder.path(), &mut archive).unwrap();
    (archive, Declared::from(&packed))
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let (archive, declared) = small_archive();
    for bit in 0..archive.len() * 8 {
        let mut flipped = archive.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);

        read(&*flipped, &declared, &Limits::default(), &mut Lines::default())
            .expect_err(&format!("bit {bit}"));
    }
    read(&*archive, &declared, &Limits::default(), &mut Lines::default()).unwrap();
}

#[test]
fn an_archive_cut_off_anywhere_is_refused() {
    // promises.md §4 row 35; also where whoever cut it off declares what is left.
    let (archive, declared) = small_archive();
    for end in 0..archive.len() {
        let cut = &archive[..end];
        let honest = Declared {
            archive_digest: Sha256::of(cut),
            archive_size_bytes: end as u64,
            ..declared
        };

        for declared in [declared, honest] {
            let error = read(cut, &declared, &Limits::default(), &mut Lines::default())
                .expect_err(&format!("cut at {end}"));
            assert_ne!(error.code(), "INTERNAL", "cut at {end}: {error:?}");
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_are_never_an_archive(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(read_tar(&bytes).is_err());
        prop_assert!(
            read(&*bytes, &honest(&bytes, &bytes), &Limits::default(), &mut Lines::default())
                .is_err()
        );
    }

    /// Fuzz: whatever a few changed bytes of a stream make the reader do, the sink only sees
    /// paths that stay inside, and no path twice.
    #[test]
    fn the_sink_sees_only_safe_paths(
        changes in proptest::collection::vec((0_usize..4096, any::<u8>()), 1..6),
    ) {
        let mut tar = TarBytes::default()
            .folder("a/").file("a/b").link("a/c", "../d").pax("path", b"e").file("f").end();
        let length = tar.len();
        for (at, value) in changes {
            tar[at % length] = value;
        }
        // The checksums fit again, or hardly any change would get past them.
        for block in tar.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
            let mut header = Header::new_ustar();
            header.as_mut_bytes().copy_from_slice(block);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        let archive = compress(&tar);
        let mut seen = Paths::default();
        let outcome = read(&*archive, &honest(&tar, &archive), &Limits::default(), &mut seen);
        let is_honest = !matches!(outcome, Err(ReadError::Digest { .. } | ReadError::Size { .. }));
        prop_assert!(is_honest, "{:?}", outcome);
        let mut paths: Vec<_> = seen.0.iter().map(|path| path.to_lowercase()).collect();
        prop_assert!(paths.iter().all(|path| !path.starts_with('/') && !path.contains("..")));
        let count = paths.len();
        paths.sort();
        paths.dedup();
        prop_assert_eq!(paths.len(), count);
    }
}
