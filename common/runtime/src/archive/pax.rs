//! PAX records: the two that a release archive may hold, written and strictly parsed.
//!
//! Lenient PAX parsing is how two readers come to see two archives in one file (CVE-2025-62518),
//! so anything unclear is an error.

/// How large a PAX header may be, in bytes: both records at their longest, twice.
pub(super) const PAX_BYTES_MAX: u64 = 16 << 10;

/// What a PAX header overrides in the header that follows it.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Overrides {
    pub path: Option<Vec<u8>>,
    pub linkpath: Option<Vec<u8>>,
}

/// Appends the record `key=value` to `records`.
pub(super) fn append_record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    // The length counts its own digits.
    let rest = key.len() + value.len() + " =\n".len();
    let mut length = rest + 1;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// Parses the records of a PAX header.
///
/// # Errors
///
/// Says what is wrong, as the end of "the archive uses".
pub(super) fn parse(mut records: &[u8]) -> Result<Overrides, &'static str> {
    const MALFORMED: &str = "a malformed PAX header";
    let mut overrides = Overrides::default();
    if records.is_empty() {
        return Err(MALFORMED);
    }
    while !records.is_empty() {
        let space = records.iter().position(|b| *b == b' ').ok_or(MALFORMED)?;
        let length = std::str::from_utf8(&records[..space]).ok().ok_or(MALFORMED)?;
        let is_number = length.bytes().all(|b| b.is_ascii_digit()) && !length.starts_with('0');
        let length: usize = length.parse().ok().filter(|_| is_number).ok_or(MALFORMED)?;
        let record = records.get(space + 1..length).ok_or(MALFORMED)?;
        records = &records[length..];
        let record = record.strip_suffix(b"\n").ok_or(MALFORMED)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or(MALFORMED)?;
        let slot = match &record[..equals] {
            b"path" => &mut overrides.path,
            b"linkpath" => &mut overrides.linkpath,
            b"size" => return Err("a PAX size"),
            _ => return Err("a PAX record other than path and linkpath"),
        };
        if slot.replace(record[equals + 1..].to_vec()).is_some() {
            return Err("a PAX record twice");
        }
    }
    Ok(overrides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        // The value lengths around which the length gains a digit.
        for length in (0..200).chain(980..1010) {
            let value = vec![b'v'; length];
            let mut records = Vec::new();
            append_record(&mut records, "path", &value);

            let written: usize =
                std::str::from_utf8(&records).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(written, records.len());
            assert_eq!(parse(&records).unwrap().path, Some(value));
        }
    }

    #[test]
    fn whatever_differs_from_what_we_write_is_refused() {
        // promises.md §4 row 36.
        for bad in [
            "",
            "x",
            "8 path=a",
            "9 path=ab",
            "09 path=a\n",
            "+9 path=a\n",
            " 9 path=a\n",
            "8 path=a\n",
            "11 path=a\n",
            "99999999999999999999 path=a\n",
            "0 ",
            "2 ",
            "9 path a\n",
            "9 size=1\n",
            "10 mtime=1\n",
            "22 SCHILY.xattr.a=b\n\n",
            "18 GNU.sparse.a=1\n",
            "9 path=a\n9 path=b\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse(b"9 path=a\n14 linkpath=b\n").is_ok());
    }
}
