//! Whether a client's HTTP/1.1 can be read in one way only.
//!
//! The parser that does the work forgives what two servers may take for two different requests: a
//! length beside chunks, lines without a carriage return. Here it is not forgiven. Bytes are looked
//! at before that parser sees them, heads by their lines, bodies only by their lengths.

/// The longest line of a chunk's size, with its extension, which nobody uses.
const CHUNK_LINE_MAX: usize = 256;

/// A client's bytes can be read in two ways, or in none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Dubious {
    #[error("a line does not end with a carriage return and a line feed")]
    LineEnd,
    #[error("a line of a head is continued, has no name, or has space around its name")]
    Name,
    #[error("the length of a body is said twice, or is no number")]
    Length,
    #[error("the transfer coding is not chunked alone, or stands beside a length")]
    Coding,
    #[error("the size of a chunk is no number, or its line is too long, or its end is missing")]
    Chunk,
    #[error("something follows a request for an upgrade before its answer")]
    Early,
}

/// Where a client's bytes are among its requests.
#[derive(Debug)]
pub(super) struct Strict {
    at: At,
    /// A line of which some came before.
    line: Vec<u8>,
    line_max: usize,
    head: Head,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    RequestLine,
    HeaderLine,
    /// So many bytes of a body of known length.
    Body(u64),
    ChunkLine,
    /// So many bytes of a chunk, and the end of its line.
    Chunk(u64),
    TrailerLine,
    /// An upgrade was asked for.
    Upgrade,
    /// A line is so long that the parser refuses it.
    TooLong,
}

/// What the head of this moment says of its body.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    length: Option<u64>,
    is_chunked: bool,
    asks_for_upgrade: bool,
}

impl Strict {
    pub(super) const fn new(line_max: usize) -> Self {
        let head = Head { length: None, is_chunked: false, asks_for_upgrade: false };
        Self { at: At::RequestLine, line: Vec::new(), line_max, head }
    }

    /// The request that asked for an upgrade is over, and there was none.
    pub(super) fn was_answered(&mut self) {
        if self.at == At::Upgrade {
            self.at = At::RequestLine;
        }
    }

    /// Looks at what came next.
    ///
    /// # Errors
    ///
    /// When it is dubious. Nothing that follows is to be believed then.
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> Result<(), Dubious> {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Body(left) => self.skip(bytes, left),
                At::Chunk(left) => self.chunk(bytes, left)?,
                At::Upgrade => return Err(Dubious::Early),
                At::TooLong => return Ok(()),
                At::RequestLine | At::HeaderLine | At::ChunkLine | At::TrailerLine => {
                    self.line(bytes)?
                }
            };
        }
        Ok(())
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64) -> &'a [u8] {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - taken as u64;
        self.at = if left == 0 { At::RequestLine } else { At::Body(left) };
        &bytes[taken..]
    }

    /// A chunk is followed by the end of a line, which `left` counts.
    fn chunk<'a>(&mut self, bytes: &'a [u8], left: u64) -> Result<&'a [u8], Dubious> {
        if left > 2 {
            let taken = usize::try_from(left - 2).unwrap_or(usize::MAX).min(bytes.len());
            self.at = At::Chunk(left - taken as u64);
            return Ok(&bytes[taken..]);
        }
        let wanted = if left == 2 { b'\r' } else { b'\n' };
        if bytes.first() != Some(&wanted) {
            return Err(Dubious::Chunk);
        }
        self.at = if left == 2 { At::Chunk(1) } else { At::ChunkLine };
        Ok(&bytes[1..])
    }

    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Dubious> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.line.extend_from_slice(bytes);
            return self.unfinished();
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if self.line.is_empty() {
            self.whole(line)?;
        } else {
            let mut whole = std::mem::take(&mut self.line);
            whole.extend_from_slice(line);
            self.whole(&whole)?;
        }
        Ok(rest)
    }

    fn unfinished(&mut self) -> Result<&'static [u8], Dubious> {
        if self.at == At::ChunkLine && self.line.len() > CHUNK_LINE_MAX {
            return Err(Dubious::Chunk);
        }
        if self.line.len() > self.line_max {
            self.at = At::TooLong;
            self.line = Vec::new();
        }
        Ok(&[])
    }

    /// `line` is without its line feed.
    fn whole(&mut self, line: &[u8]) -> Result<(), Dubious> {
        let line = line.strip_suffix(b"\r").ok_or(Dubious::LineEnd)?;
        if line.contains(&b'\r') {
            return Err(Dubious::LineEnd);
        }
        match self.at {
            // Before a request there may be empty lines.
            At::RequestLine if line.is_empty() => {}
            At::RequestLine => {
                self.head = Head::default();
                self.at = At::HeaderLine;
            }
            At::HeaderLine if line.is_empty() => self.at = self.head.body()?,
            At::HeaderLine => self.head.line(line)?,
            At::ChunkLine => self.at = chunk_line(line)?,
            At::TrailerLine if line.is_empty() => self.at = At::RequestLine,
            At::TrailerLine => {
                if !matches!(field(line)?, Field::Other) {
                    return Err(Dubious::Coding);
                }
            }
            At::Body(_) | At::Chunk(_) | At::Upgrade | At::TooLong => {}
        }
        Ok(())
    }
}

impl Head {
    fn line(&mut self, line: &[u8]) -> Result<(), Dubious> {
        match field(line)? {
            Field::Length(value) => {
                let length = number(value, 10).ok_or(Dubious::Length)?;
                if self.length.replace(length).is_some() {
                    return Err(Dubious::Length);
                }
            }
            Field::Coding(value) => {
                if !value.eq_ignore_ascii_case(b"chunked") || self.is_chunked {
                    return Err(Dubious::Coding);
                }
                self.is_chunked = true;
            }
            Field::Upgrade => self.asks_for_upgrade = true,
            Field::Other => {}
        }
        Ok(())
    }

    /// Returns what follows the head.
    fn body(&self) -> Result<At, Dubious> {
        match (self.is_chunked, self.length) {
            (true, Some(_)) => Err(Dubious::Coding),
            (true, None) => Ok(At::ChunkLine),
            (false, Some(length @ 1..)) => Ok(At::Body(length)),
            (false, Some(0) | None) if self.asks_for_upgrade => Ok(At::Upgrade),
            (false, Some(0) | None) => Ok(At::RequestLine),
        }
    }
}

/// One line of a head, as far as it says where the head's body ends.
enum Field<'a> {
    Length(&'a [u8]),
    Coding(&'a [u8]),
    Upgrade,
    Other,
}

fn field(line: &[u8]) -> Result<Field<'_>, Dubious> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Dubious::Name)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || name.iter().any(|byte| byte.is_ascii_whitespace() || *byte == 0) {
        return Err(Dubious::Name);
    }
    // Lengths first: they tell most names apart.
    Ok(match name.len() {
        7 if name.eq_ignore_ascii_case(b"upgrade") => Field::Upgrade,
        14 if name.eq_ignore_ascii_case(b"content-length") => Field::Length(value.trim_ascii()),
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => Field::Coding(value.trim_ascii()),
        _ => Field::Other,
    })
}

/// Returns what follows the line of a chunk's size.
fn chunk_line(line: &[u8]) -> Result<At, Dubious> {
    if line.len() > CHUNK_LINE_MAX {
        return Err(Dubious::Chunk);
    }
    let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
    match number(size.trim_ascii_end(), 16).ok_or(Dubious::Chunk)? {
        0 => Ok(At::TrailerLine),
        size => Ok(At::Chunk(size.checked_add(2).ok_or(Dubious::Chunk)?)),
    }
}

/// Returns the number that stands there, and nothing but digits.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let is_digit = |byte: &u8| char::from(*byte).is_digit(radix);
    let text = std::str::from_utf8(digits).ok()?;
    (!digits.is_empty() && digits.iter().all(is_digit))
        .then(|| u64::from_str_radix(text, radix).ok())?
}

#[cfg(test)]
mod tests;
