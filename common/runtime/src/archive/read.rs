//! The strict reader: streams an archive into a sink, and refuses what is not listed here.

use std::io::{self, BufRead as _, Read};

use cutover_common::Sha256;
use tar::{Entry as TarEntry, Header};

use super::{
    Declared, Limits,
    header::{BLOCK_BYTES, MODE_EXECUTABLE, MODE_PLAIN},
    meter::Metered,
    path::{EntryPath, LinkTarget},
    pax,
    refusal::{Bound, Refusal, echo},
    tree::{Entry, Tree},
};

/// How much memory a zstd frame may ask for, as a power of two: 8 MiB. Ours ask for 2 MiB.
const WINDOW_LOG_MAX: u32 = 23;

/// Takes what an archive holds, in its order. Every folder comes before what is in it.
///
/// What a sink has taken counts for nothing until [`read`] returns without an error.
pub trait Sink {
    /// Takes a folder.
    ///
    /// # Errors
    ///
    /// An error ends the reading, here and below.
    fn folder(&mut self, path: &EntryPath) -> io::Result<()>;

    /// Takes a file. What is left unread of `content` is skipped.
    fn file(&mut self, path: &EntryPath, file: FileEntry, content: &mut dyn Read)
    -> io::Result<()>;

    /// Takes a symlink.
    fn symlink(&mut self, path: &EntryPath, target: &LinkTarget) -> io::Result<()>;
}

/// What an archive says of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileEntry {
    pub size_bytes: u64,
    /// Anybody may execute it. All else in the archive's mode is masked away.
    pub is_executable: bool,
}

/// What was read, all of it verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadArchive {
    /// Of the uncompressed archive; equals what was declared.
    pub digest: Sha256,
    pub size_bytes: u64,
    /// Files, folders and symlinks.
    pub entries: u64,
    /// How many had another mode than 0755 or 0644, and were given one of these.
    pub modes_masked: u64,
}

/// Why an archive is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the archive is refused")]
    Refused(#[from] Refusal),
    #[error("the archive is corrupt after entry {after:?}: {what}")]
    Corrupt {
        after: String,
        what: &'static str,
        #[source]
        cause: Option<io::Error>,
    },
    #[error("the archive's {part} sha256 is {found}, declared was {declared}")]
    Digest { part: &'static str, declared: Sha256, found: Sha256 },
    #[error("the archive has {found} {bound}, declared were {declared}")]
    Size { bound: Bound, declared: u64, found: u64 },
    #[error("could not take entry {entry:?}")]
    Sink {
        entry: String,
        #[source]
        cause: io::Error,
    },
}

impl ReadError {
    /// Returns the stable code (promises.md §4 rows 26 to 40).
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Corrupt { .. } | Self::Size { .. } => "ARCHIVE_CORRUPT",
            Self::Digest { .. } => "DIGEST_MISMATCH",
            Self::Sink { .. } => "INTERNAL",
        }
    }
}

/// Reads an archive to its very end and gives what is in it to `sink`.
///
/// # Errors
///
/// Any error means that nothing the sink has taken may be used.
pub fn read<S: Sink + ?Sized>(
    archive: impl Read,
    declared: &Declared,
    limits: &Limits,
    sink: &mut S,
) -> Result<ReadArchive, ReadError> {
    limits.admit(declared.size_bytes, declared.archive_size_bytes)?;
    let frame = Metered::new(archive, declared.archive_size_bytes);
    let mut decoder = zstd::Decoder::new(frame)
        .map_err(|cause| corrupt("", "it is no zstd frame", Some(cause)))?
        .single_frame();
    decoder
        .window_log_max(WINDOW_LOG_MAX)
        .map_err(|cause| corrupt("", "it is no zstd frame", Some(cause)))?;
    let mut stream = Metered::new(decoder, declared.size_bytes);

    let outcome = Walk::new(declared.size_bytes, limits).run(&mut stream, sink);

    // Being too long is what matters, whatever the walk made of being cut off.
    if stream.inner().get_ref().get_ref().has_overrun() {
        return Err(Refusal::whole(Bound::ArchiveBytes, declared.archive_size_bytes).into());
    }
    if stream.has_overrun() {
        return Err(Refusal::whole(Bound::SizeBytes, declared.size_bytes).into());
    }
    let walk = outcome?;
    finish(stream, declared, walk)
}

/// What reads the uncompressed stream.
type Stream<R> = Metered<zstd::Decoder<'static, io::BufReader<Metered<R>>>>;

/// Judges what can only be known at the end: that this is the end, and both digests.
fn finish<R: Read>(
    stream: Stream<R>,
    declared: &Declared,
    walk: Walk,
) -> Result<ReadArchive, ReadError> {
    let size_bytes = stream.seen();
    let (digest, decoder) = stream.finish();
    let mut rest = decoder.finish();
    let is_at_end = rest.fill_buf().map(<[u8]>::is_empty);
    let frame = rest.into_inner();
    if frame.has_overrun() {
        return Err(Refusal::whole(Bound::ArchiveBytes, declared.archive_size_bytes).into());
    }
    match is_at_end {
        Ok(true) => {}
        Ok(false) => return Err(corrupt(&walk.last, "bytes follow the zstd frame", None)),
        Err(cause) => return Err(corrupt(&walk.last, "it could not be read", Some(cause))),
    }
    let archive_size_bytes = frame.seen();
    let (archive_digest, _) = frame.finish();
    for (bound, declared, found) in [
        (Bound::ArchiveBytes, declared.archive_size_bytes, archive_size_bytes),
        (Bound::SizeBytes, declared.size_bytes, size_bytes),
    ] {
        if found != declared {
            return Err(ReadError::Size { bound, declared, found });
        }
    }
    for (part, declared, found) in [
        ("compressed", declared.archive_digest, archive_digest),
        ("uncompressed", declared.digest, digest),
    ] {
        if found != declared {
            return Err(ReadError::Digest { part, declared, found });
        }
    }
    let Walk { entries, modes_masked, .. } = walk;
    Ok(ReadArchive { digest, size_bytes, entries, modes_masked })
}

fn corrupt(after: &str, what: &'static str, cause: Option<io::Error>) -> ReadError {
    ReadError::Corrupt { after: after.to_owned(), what, cause }
}

/// Where the reader stands in the uncompressed stream.
struct Walk {
    tree: Tree,
    /// A PAX header that waits for its entry.
    pending: Option<pax::Overrides>,
    /// The last entry that began, for errors that cannot name one.
    last: String,
    entries: u64,
    entries_max: u64,
    modes_masked: u64,
    /// Where the next header begins.
    offset: u64,
    size_bytes: u64,
}

impl Walk {
    fn new(size_bytes: u64, limits: &Limits) -> Self {
        Self {
            tree: Tree::new(),
            pending: None,
            last: String::new(),
            entries: 0,
            entries_max: limits.entries_max,
            modes_masked: 0,
            offset: 0,
            size_bytes,
        }
    }

    fn run<R: Read, S: Sink + ?Sized>(
        mut self,
        stream: &mut Metered<R>,
        sink: &mut S,
    ) -> Result<Self, ReadError> {
        let mut archive = tar::Archive::new(&mut *stream);
        let broken = |last: &str, cause| corrupt(last, "its next header is broken", Some(cause));
        // Raw: the tar crate then interprets nothing, neither long names nor PAX.
        for entry in archive.entries().map_err(|cause| broken("", cause))?.raw(true) {
            let entry = entry.map_err(|cause| broken(&self.last, cause))?;
            self.step(entry, sink)?;
        }
        if self.pending.is_some() {
            return Err(corrupt(&self.last, "a PAX header has no entry", None));
        }
        self.end(stream)?;
        self.tree.follow_links()?;
        Ok(self)
    }

    /// Reads the end marker: two blocks of zeros, of which the tar crate has taken the first, and
    /// nothing after them.
    fn end<R: Read>(&self, stream: &mut Metered<R>) -> Result<(), ReadError> {
        const MISSING: &str = "its end marker is missing";
        if stream.seen() != self.offset + BLOCK_BYTES as u64 {
            return Err(corrupt(&self.last, MISSING, None));
        }
        let mut block = [0; BLOCK_BYTES];
        stream.read_exact(&mut block).map_err(|cause| corrupt(&self.last, MISSING, Some(cause)))?;
        if block != [0; BLOCK_BYTES] {
            return Err(corrupt(&self.last, MISSING, None));
        }
        match stream.read(&mut block) {
            Ok(0) => Ok(()),
            Ok(_) => Err(corrupt(&self.last, "bytes follow its end marker", None)),
            Err(cause) => Err(corrupt(&self.last, "its zstd frame does not end", Some(cause))),
        }
    }

    fn step<R: Read, S: Sink + ?Sized>(
        &mut self,
        mut tar_entry: TarEntry<'_, R>,
        sink: &mut S,
    ) -> Result<(), ReadError> {
        let header = tar_entry.header().clone();
        let overrides = self.pending.take();
        let raw_path = match &overrides {
            Some(pax::Overrides { path: Some(path), .. }) => path.clone(),
            Some(_) | None => header.path_bytes().into_owned(),
        };
        self.last = echo(&raw_path);
        let size_bytes = self.advance(&header)?;

        match type_of(&header, &self.last)? {
            Type::Pax => {
                if overrides.is_some() {
                    return Err(self.extension("two PAX headers in a row"));
                }
                self.pending = Some(self.read_pax(&mut tar_entry, size_bytes)?);
                Ok(())
            }
            Type::Folder => {
                let raw_path = raw_path.strip_suffix(b"/").unwrap_or(&raw_path);
                let path = self.begin(raw_path, size_bytes, &overrides, &header)?;
                self.tree.add(&path, Entry::Folder)?;
                sink.folder(&path).map_err(|cause| self.sink_error(cause))
            }
            Type::Link => {
                let link_name = overrides.and_then(|overrides| overrides.linkpath);
                let path = self.begin(&raw_path, size_bytes, &None, &header)?;
                let raw_target =
                    link_name.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
                let target = LinkTarget::parse(&path, &raw_target.unwrap_or_default())?;
                self.tree.add(&path, Entry::Link(target.clone()))?;
                sink.symlink(&path, &target).map_err(|cause| self.sink_error(cause))
            }
            Type::File => {
                // Its content follows, so that only its own size may be other than zero.
                let path = self.begin(&raw_path, 0, &overrides, &header)?;
                self.tree.add(&path, Entry::File)?;
                let is_executable = self.mode(&header)? & 0o111 != 0;
                let file = FileEntry { size_bytes, is_executable };
                self.read_file(&path, file, &mut tar_entry, sink)
            }
        }
    }

    /// Moves past an entry's header and content, which must end within the declared size.
    fn advance(&mut self, header: &Header) -> Result<u64, ReadError> {
        if header.as_ustar().is_none() {
            return Err(self.extension("a header other than ustar"));
        }
        // GNU's binary numbers set the first bit.
        if header.as_old().size[0] & 0x80 != 0 {
            return Err(self.extension("a binary size"));
        }
        let size_bytes = header
            .entry_size()
            .map_err(|cause| corrupt(&self.last, "its size is no number", Some(cause)))?;
        let content = size_bytes.checked_next_multiple_of(BLOCK_BYTES as u64);
        let next = content
            .and_then(|content| self.offset.checked_add(content + BLOCK_BYTES as u64))
            .filter(|next| *next <= self.size_bytes);
        self.offset = next.ok_or_else(|| Refusal::EntryLimit {
            entry: self.last.clone(),
            bound: Bound::SizeBytes,
            max: self.size_bytes,
        })?;
        Ok(size_bytes)
    }

    /// Judges what all entries have in common. `size_bytes` is what it may not have.
    fn begin(
        &mut self,
        raw_path: &[u8],
        size_bytes: u64,
        overrides: &Option<pax::Overrides>,
        header: &Header,
    ) -> Result<EntryPath, ReadError> {
        if self.entries >= self.entries_max {
            return Err(Refusal::whole(Bound::Entries, self.entries_max).into());
        }
        self.entries += 1;
        if overrides.as_ref().is_some_and(|overrides| overrides.linkpath.is_some()) {
            return Err(self.extension("a PAX linkpath without a symlink"));
        }
        if size_bytes != 0 {
            return Err(corrupt(&self.last, "it has content but is no file", None));
        }
        let path = EntryPath::parse(raw_path)?;
        let mode = self.mode(header)?;
        // A symlink's mode means nothing; writers put 0777 there.
        let is_link = header.entry_type().is_symlink();
        if !is_link && mode != MODE_EXECUTABLE && mode != MODE_PLAIN {
            self.modes_masked += 1;
        }
        Ok(path)
    }

    fn mode(&self, header: &Header) -> Result<u32, ReadError> {
        let mode = header
            .mode()
            .map_err(|cause| corrupt(&self.last, "its mode is no number", Some(cause)))?;
        if mode & !0o777 != 0 {
            return Err(Refusal::Privileged { entry: self.last.clone(), mode }.into());
        }
        Ok(mode)
    }

    fn read_pax(&self, content: &mut impl Read, size: u64) -> Result<pax::Overrides, ReadError> {
        if size > pax::PAX_BYTES_MAX {
            return Err(self.extension("a PAX header of more than 16 KiB"));
        }
        let mut records = Vec::new();
        content
            .take(size)
            .read_to_end(&mut records)
            .map_err(|cause| corrupt(&self.last, "it ends in a PAX header", Some(cause)))?;
        pax::parse(&records).map_err(|what| self.extension(what))
    }

    fn read_file<S: Sink + ?Sized>(
        &self,
        path: &EntryPath,
        file: FileEntry,
        from: &mut dyn Read,
        sink: &mut S,
    ) -> Result<(), ReadError> {
        let mut content = Content { from, left: file.size_bytes, has_failed: false };
        let taken = sink
            .file(path, file, &mut content)
            // What the sink did not want is read all the same, to notice its early end.
            .and_then(|()| io::copy(&mut content, &mut io::sink()));
        match taken {
            Ok(_) => Ok(()),
            Err(cause) if content.has_failed => {
                Err(corrupt(&self.last, "it ends in this entry", Some(cause)))
            }
            Err(cause) => Err(self.sink_error(cause)),
        }
    }

    fn extension(&self, what: &'static str) -> ReadError {
        Refusal::Extension { entry: self.last.clone(), what }.into()
    }

    fn sink_error(&self, cause: io::Error) -> ReadError {
        ReadError::Sink { entry: self.last.clone(), cause }
    }
}

/// The types of header that a release archive has.
enum Type {
    File,
    Folder,
    Link,
    Pax,
}

/// Returns the type of a header, by the byte itself: the list is what we accept, the rest only
/// gives a refusal its name.
fn type_of(header: &Header, entry: &str) -> Result<Type, ReadError> {
    let entry = || entry.to_owned();
    let refused = |kind| Refusal::EntryType { entry: entry(), kind };
    let extension = |what| Refusal::Extension { entry: entry(), what };
    Err(match header.as_old().linkflag[0] {
        b'0' => return Ok(Type::File),
        b'5' => return Ok(Type::Folder),
        b'2' => return Ok(Type::Link),
        b'x' => return Ok(Type::Pax),
        b'1' => Refusal::HardLink { entry: entry() },
        b'3' => refused("a character device"),
        b'4' => refused("a block device"),
        b'6' => refused("a fifo"),
        b's' => refused("a socket"),
        b'g' => extension("a global PAX header"),
        b'L' | b'K' => extension("a GNU long name"),
        b'S' => extension("a GNU sparse file"),
        b'0'..=b'9' | 0 => refused("of an old or reserved type"),
        _ => extension("an extension of tar"),
    }
    .into())
}

/// The content of one file: ends after as many bytes as its header says, and not before.
struct Content<'a> {
    from: &'a mut dyn Read,
    left: u64,
    /// The archive failed, not the sink.
    has_failed: bool,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer).inspect_err(|_| self.has_failed = true)?;
        self.left = self.left.saturating_sub(count as u64);
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            self.has_failed = true;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
