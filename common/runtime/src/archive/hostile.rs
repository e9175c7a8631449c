//! Archives that must be refused, made by hand, one case for each trick (promises.md §4 rows 26
//! to 38). The agent's unpacker reads this same file and is given the same archives.

use tar::Header;

/// An archive that must be refused, and the code of the refusal.
pub(crate) struct Hostile {
    /// The row of promises.md §4, and the trick.
    pub name: &'static str,
    pub code: &'static str,
    /// The uncompressed stream.
    pub tar: Vec<u8>,
}

/// What PAX records are made of in these cases: right length, wrong meaning.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..).find(|n: &usize| *n == rest + n.to_string().len()).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Writes a tar stream without asking whether it makes sense.
#[derive(Default)]
pub(crate) struct TarBytes(Vec<u8>);

impl TarBytes {
    pub(crate) fn header(&mut self, header: &Header) -> &mut Self {
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    pub(crate) fn content(&mut self, content: &[u8]) -> &mut Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn entry(&mut self, kind: u8, name: &[u8], content: &[u8]) -> &mut Self {
        let header = header(kind, name, b"", content.len() as u64);
        self.header(&header).content(content)
    }

    pub(crate) fn file(&mut self, name: &str) -> &mut Self {
        self.entry(b'0', name.as_bytes(), b"evil")
    }

    pub(crate) fn folder(&mut self, name: &str) -> &mut Self {
        self.entry(b'5', name.as_bytes(), b"")
    }

    pub(crate) fn link(&mut self, name: &str, target: &str) -> &mut Self {
        let header = header(b'2', name.as_bytes(), target.as_bytes(), 0);
        self.header(&header)
    }

    pub(crate) fn pax(&mut self, key: &str, value: &[u8]) -> &mut Self {
        self.entry(b'x', b"PaxHeader", &record(key, value))
    }

    pub(crate) fn end(&mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        std::mem::take(&mut self.0)
    }

    pub(crate) fn cut(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Makes a header with these fields, cut to their lengths.
pub(crate) fn header(kind: u8, name: &[u8], link: &[u8], size_bytes: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_size(size_bytes);
    header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let old = header.as_old_mut();
    old.linkflag = [kind];
    let (name, link) = (&name[..name.len().min(100)], &link[..link.len().min(100)]);
    old.name[..name.len()].copy_from_slice(name);
    old.linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    header
}

fn changed(kind: u8, change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = header(kind, b"x", b"", 0);
    change(&mut header);
    header.set_cksum();
    tar().header(&header).end()
}

fn tar() -> TarBytes {
    TarBytes::default()
}

/// Returns all cases.
pub(crate) fn corpus() -> Vec<Hostile> {
    let mut all = Vec::new();
    let groups = [
        paths,
        links,
        written_through,
        types,
        duplicates,
        corruptions,
        pax_headers,
        extensions,
        limits,
    ];
    for cases in groups.map(|group: fn() -> Cases| group()) {
        all.extend(cases.into_iter().map(|(name, code, tar)| Hostile { name, code, tar }));
    }
    all
}

type Cases = Vec<(&'static str, &'static str, Vec<u8>)>;

fn paths() -> Cases {
    let file = |name: &[u8]| tar().entry(b'0', name, b"evil").end();
    vec![
        ("row 26: file ../x", "PATH_ESCAPE", file(b"../x")),
        ("row 26: file ..", "PATH_ESCAPE", file(b"..")),
        ("row 26: file a/../../x", "PATH_ESCAPE", file(b"a/../../x")),
        ("row 26: file a/..", "PATH_ESCAPE", file(b"a/..")),
        ("row 26: folder ../x", "PATH_ESCAPE", tar().folder("../x/").end()),
        ("row 26: symlink ../x", "PATH_ESCAPE", tar().link("../x", "y").end()),
        ("row 26: PAX path ../x", "PATH_ESCAPE", tar().pax("path", b"../x").file("ok").end()),
        (
            "row 26: the prefix field has the dots",
            "PATH_ESCAPE",
            changed(b'0', |header| {
                header.as_ustar_mut().unwrap().prefix[..2].copy_from_slice(b"..");
            }),
        ),
        ("row 27: absolute file", "PATH_ABSOLUTE", file(b"/tmp/cutover-canary")),
        ("row 27: two slashes", "PATH_ABSOLUTE", file(b"//tmp/cutover-canary")),
        ("row 27: the root folder", "BAD_NAME", tar().folder("/").end()),
        ("row 27: absolute folder", "PATH_ABSOLUTE", tar().folder("/tmp/cutover-canary/").end()),
        ("row 27: PAX path absolute", "PATH_ABSOLUTE", tar().pax("path", b"/x").file("ok").end()),
        ("row 38: newline", "BAD_NAME", file(b"a\nb")),
        ("row 38: ESC", "BAD_NAME", file(b"a\x1b[2Jb")),
        ("row 38: DEL", "BAD_NAME", file(b"a\x7f")),
        ("row 38: C1 control", "BAD_NAME", file("a\u{9b}2J".as_bytes())),
        ("row 38: invalid UTF-8", "BAD_NAME", file(b"a\xff\xfe")),
        ("row 38: overlong UTF-8 of ../", "BAD_NAME", file(b"\xc0\xae\xc0\xae/x")),
        ("row 38: NUL in a PAX path", "BAD_NAME", tar().pax("path", b"a\0b").file("ok").end()),
        ("row 38: empty name", "BAD_NAME", file(b"")),
        ("row 38: ./x", "BAD_NAME", file(b"./x")),
        ("row 38: a//b", "BAD_NAME", tar().folder("a/").file("a//b").end()),
        ("row 38: a file that ends as a folder", "BAD_NAME", file(b"a/")),
    ]
}

fn links() -> Cases {
    let through = || {
        let mut tar = tar();
        tar.folder("d/").link("d/up", "..");
        tar
    };
    let pax_link = |target: &[u8]| tar().pax("linkpath", target).link("l", "harmless").end();
    vec![
        ("row 28: symlink to /etc/shadow", "LINK_ESCAPE", tar().link("l", "/etc/shadow").end()),
        (
            "row 28: symlink to ../../../../etc",
            "LINK_ESCAPE",
            tar().link("l", "../../../../etc").end(),
        ),
        ("row 28: symlink to ..", "LINK_ESCAPE", tar().link("l", "..").end()),
        ("row 28: symlink down and out", "LINK_ESCAPE", tar().link("l", "a/b/../../../x").end()),
        (
            "row 28: symlink in a folder",
            "LINK_ESCAPE",
            tar().folder("d/").link("d/l", "../../x").end(),
        ),
        ("row 28: PAX linkpath absolute", "LINK_ESCAPE", pax_link(b"/etc/shadow")),
        ("row 28: PAX linkpath above", "LINK_ESCAPE", pax_link(b"../x")),
        (
            "row 28: out through another symlink",
            "LINK_ESCAPE",
            through().link("l", "d/up/../x").end(),
        ),
        (
            "row 28: out through a symlink that comes later",
            "LINK_ESCAPE",
            tar().link("a", "d/up/../x").folder("d/").link("d/up", "..").end(),
        ),
        (
            "row 28: out through a symlink of a symlink",
            "LINK_ESCAPE",
            through().link("m", "d/up").link("n", "d/../m/../x").end(),
        ),
        ("row 28: circle", "LINK_ESCAPE", tar().link("a", "b").link("b", "a").end()),
        ("row 28: symlink to itself", "LINK_ESCAPE", tar().link("a", "a/b").end()),
        ("row 28: empty target", "BAD_NAME", tar().link("l", "").end()),
        ("row 28: ESC in the target", "BAD_NAME", tar().link("l", "a\x1b[2J").end()),
        ("row 28: invalid UTF-8 in the target", "BAD_NAME", pax_link(b"a\xff")),
    ]
}

fn written_through() -> Cases {
    vec![
        (
            "row 29: write through a symlink",
            "LINK_ESCAPE",
            tar().folder("d/").link("l", "d").file("l/x").end(),
        ),
        (
            "row 29: write through a symlink to here",
            "LINK_ESCAPE",
            tar().link("l", ".").file("l/x").end(),
        ),
        (
            "row 29: folder through a symlink",
            "LINK_ESCAPE",
            tar().folder("d/").link("l", "d").folder("l/x/").end(),
        ),
        (
            "row 29: through a dangling symlink",
            "LINK_ESCAPE",
            tar().link("l", "none").file("l/x").end(),
        ),
        (
            "row 30: symlink, then folder of its name",
            "DUPLICATE_ENTRY",
            tar().link("d", ".").folder("d/").end(),
        ),
        (
            "row 30: folder, then symlink of its name",
            "DUPLICATE_ENTRY",
            tar().folder("d/").link("d", ".").end(),
        ),
        (
            "row 30: symlink, then file of its name",
            "DUPLICATE_ENTRY",
            tar().link("d", "e").file("d").end(),
        ),
    ]
}

fn types() -> Cases {
    let hard = |target: &[u8]| tar().file("a").header(&header(b'1', b"h", target, 0)).end();
    let of = |kind| changed(kind, |_| {});
    let mode = |kind, mode| changed(kind, |header| header.set_mode(mode));
    vec![
        ("row 31: hard link in the tree", "HARDLINK_UNSUPPORTED", hard(b"a")),
        ("row 31: hard link out", "HARDLINK_UNSUPPORTED", hard(b"../x")),
        ("row 31: hard link to /etc/passwd", "HARDLINK_UNSUPPORTED", hard(b"/etc/passwd")),
        ("row 32: setuid", "BAD_MODE", mode(b'0', 0o4755)),
        ("row 32: setgid", "BAD_MODE", mode(b'0', 0o2755)),
        ("row 32: sticky folder", "BAD_MODE", mode(b'5', 0o1777)),
        (
            "row 32: setuid symlink",
            "BAD_MODE",
            changed(b'2', |header| {
                header.set_mode(0o4777);
                header.as_old_mut().linkname[0] = b'y';
            }),
        ),
        ("row 33: character device", "ENTRY_TYPE", of(b'3')),
        ("row 33: block device", "ENTRY_TYPE", of(b'4')),
        ("row 33: fifo", "ENTRY_TYPE", of(b'6')),
        ("row 33: socket", "ENTRY_TYPE", of(b's')),
        ("row 33: contiguous file", "ENTRY_TYPE", of(b'7')),
        ("row 33: file of the old type", "ENTRY_TYPE", of(0)),
    ]
}

fn duplicates() -> Cases {
    let two = |a: &str, b: &str| tar().file(a).file(b).end();
    vec![
        ("row 34: the same path", "DUPLICATE_ENTRY", two("a", "a")),
        ("row 34: file and folder", "DUPLICATE_ENTRY", tar().file("a").folder("a/").end()),
        ("row 34: folder twice", "DUPLICATE_ENTRY", tar().folder("a/").folder("a/").end()),
        ("row 34: case", "DUPLICATE_ENTRY", two("README", "readme")),
        (
            "row 34: case of folders",
            "DUPLICATE_ENTRY",
            tar().folder("A/").file("A/x").folder("a/").end(),
        ),
        (
            "row 34: case in a folder",
            "DUPLICATE_ENTRY",
            tar().folder("d/").file("d/x").file("d/X").end(),
        ),
        ("row 34: case fold of more letters", "DUPLICATE_ENTRY", two("straße", "STRASSE")),
        ("row 34: Unicode forms", "DUPLICATE_ENTRY", two("\u{e9}", "e\u{301}")),
        ("row 34: Unicode forms and case", "DUPLICATE_ENTRY", two("\u{c9}", "e\u{301}")),
        (
            "row 34: ustar and PAX path",
            "DUPLICATE_ENTRY",
            tar().file("a").pax("path", b"a").file("b").end(),
        ),
    ]
}

fn corruptions() -> Cases {
    let garbage = [0x5a; 512];
    let mut wrong_sum = header(b'0', b"x", b"", 0);
    wrong_sum.as_old_mut().name[0] = b'y';
    vec![
        ("row 35: empty", "ARCHIVE_CORRUPT", Vec::new()),
        ("row 35: no end marker", "ARCHIVE_CORRUPT", tar().file("a").cut()),
        ("row 35: half an end marker", "ARCHIVE_CORRUPT", tar().file("a").content(&[0; 512]).cut()),
        (
            "row 35: half, then garbage",
            "ARCHIVE_CORRUPT",
            tar().content(&[0; 512]).content(&garbage).cut(),
        ),
        (
            "row 35: half, then an entry",
            "ARCHIVE_CORRUPT",
            tar().content(&[0; 512]).file("a").end(),
        ),
        ("row 35: ends in a header", "ARCHIVE_CORRUPT", tar().file("a").cut()[..300].to_vec()),
        // What the header announces must already fit into the declared size.
        ("row 35: ends in content", "ARCHIVE_LIMIT", tar().file("a").cut()[..514].to_vec()),
        ("row 35: ends in padding", "ARCHIVE_LIMIT", tar().file("a").cut()[..1000].to_vec()),
        (
            "row 35: garbage after an entry",
            "ARCHIVE_CORRUPT",
            tar().file("a").content(&garbage).end(),
        ),
        (
            "row 35: garbage after the end",
            "ARCHIVE_CORRUPT",
            [tar().end(), garbage.to_vec()].concat(),
        ),
        (
            "row 35: an archive after the end",
            "ARCHIVE_CORRUPT",
            [tar().end(), tar().file("a").end()].concat(),
        ),
        ("row 35: zeros after the end", "ARCHIVE_CORRUPT", [tar().end(), vec![0; 9216]].concat()),
        ("row 35: wrong checksum", "ARCHIVE_CORRUPT", tar().header(&wrong_sum).end()),
        (
            "row 35: size is no number",
            "ARCHIVE_CORRUPT",
            changed(b'0', |header| header.as_old_mut().size = *b"9x\0\0\0\0\0\0\0\0\0\0"),
        ),
        (
            "row 35: mode is no number",
            "ARCHIVE_CORRUPT",
            changed(b'0', |header| header.as_old_mut().mode = *b"rwxr-x\0\0"),
        ),
        ("row 35: folder with content", "ARCHIVE_CORRUPT", tar().entry(b'5', b"d/", b"x").end()),
        (
            "row 35: symlink with content",
            "ARCHIVE_CORRUPT",
            tar().header(&header(b'2', b"l", b"a", 1)).content(b"x").end(),
        ),
        ("row 35: a file as a folder", "ARCHIVE_CORRUPT", tar().file("a").file("a/b").end()),
        ("row 35: no folder", "ARCHIVE_CORRUPT", tar().file("a/b").end()),
        ("row 35: the folder comes later", "ARCHIVE_CORRUPT", tar().file("a/b").folder("a/").end()),
        (
            "row 35: the folder is written otherwise",
            "ARCHIVE_CORRUPT",
            tar().folder("A/").file("a/b").end(),
        ),
    ]
}

fn pax_headers() -> Cases {
    let pax = |key: &str, value: &[u8]| tar().pax(key, value).file("a").end();
    let malformed = |records: &[u8]| tar().entry(b'x', b"PaxHeader", records).file("a").end();
    vec![
        ("row 36: PAX size", "TAR_EXT", pax("size", b"512")),
        ("row 36: PAX mtime", "TAR_EXT", pax("mtime", b"1")),
        ("row 36: PAX uid", "TAR_EXT", pax("uid", b"0")),
        (
            "row 36: PAX extended attribute",
            "TAR_EXT",
            pax("SCHILY.xattr.security.capability", b"x"),
        ),
        ("row 36: PAX sparse file", "TAR_EXT", pax("GNU.sparse.name", b"x")),
        ("row 36: PAX without a record", "TAR_EXT", malformed(b"")),
        ("row 36: PAX too short a length", "TAR_EXT", malformed(b"8 path=a\n")),
        ("row 36: PAX too long a length", "TAR_EXT", malformed(b"99 path=a\n")),
        ("row 36: PAX length zero", "TAR_EXT", malformed(b"0 path=a\n")),
        (
            "row 36: PAX length beyond numbers",
            "TAR_EXT",
            malformed(b"99999999999999999999999 path=a\n"),
        ),
        ("row 36: PAX no line end", "TAR_EXT", malformed(b"8 path=a")),
        ("row 36: PAX no equals sign", "TAR_EXT", malformed(b"8 path a\n")),
        ("row 36: PAX the same twice", "TAR_EXT", malformed(b"9 path=a\n9 path=b\n")),
        ("row 36: PAX bytes after the records", "TAR_EXT", malformed(b"9 path=a\n\0\0\0")),
        ("row 36: PAX of 20 KiB", "TAR_EXT", pax("path", &[b'a'; 20 << 10])),
        (
            "row 36: two PAX headers",
            "TAR_EXT",
            tar().pax("path", b"a").pax("path", b"b").file("c").end(),
        ),
        (
            "row 36: a PAX header at the end",
            "ARCHIVE_CORRUPT",
            tar().file("a").pax("path", b"b").end(),
        ),
        ("row 36: PAX linkpath on a file", "TAR_EXT", pax("linkpath", b"b")),
        (
            "row 36: PAX linkpath on a folder",
            "TAR_EXT",
            tar().pax("linkpath", b"b").folder("a/").end(),
        ),
        (
            "row 36: global PAX",
            "TAR_EXT",
            tar().entry(b'g', b"g", &record("path", b"b")).file("a").end(),
        ),
    ]
}

fn extensions() -> Cases {
    let of = |kind| tar().entry(kind, b"x", b"../y\0").file("a").end();
    vec![
        ("row 36: GNU long name", "TAR_EXT", of(b'L')),
        ("row 36: GNU long link", "TAR_EXT", of(b'K')),
        ("row 36: GNU folder dump", "TAR_EXT", of(b'D')),
        ("row 36: GNU volume", "TAR_EXT", of(b'V')),
        ("row 36: GNU continued file", "TAR_EXT", of(b'M')),
        ("row 36: Solaris PAX", "TAR_EXT", of(b'X')),
        ("row 36: an unknown type", "TAR_EXT", of(b'?')),
        (
            "row 36: binary size",
            "TAR_EXT",
            changed(b'0', |header| {
                header.as_old_mut().size = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            }),
        ),
        (
            "row 36: negative binary size",
            "ARCHIVE_CORRUPT",
            changed(b'0', |header| {
                header.as_old_mut().size = [0xff; 12];
            }),
        ),
        (
            "row 36: GNU header",
            "TAR_EXT",
            changed(b'0', |header| {
                header.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
            }),
        ),
        (
            "row 36: header of 1979",
            "TAR_EXT",
            changed(b'0', |header| {
                header.as_mut_bytes()[257..265].fill(0);
            }),
        ),
    ]
}

fn limits() -> Cases {
    let path = |path: &str| tar().pax("path", path.as_bytes()).file("a").end();
    let long_target = "t".repeat(2000);
    vec![
        (
            "row 37: sparse file of 1 EB",
            "TAR_EXT",
            changed(b'S', |header| {
                header.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
                header.as_gnu_mut().unwrap().realsize = *b"\x80\0\0\0\x10\0\0\0\0\0\0\0";
            }),
        ),
        (
            "row 37: file of 8 GiB that is not there",
            "ARCHIVE_LIMIT",
            tar().header(&header(b'0', b"x", b"", (8 << 30) - 1)).end(),
        ),
        (
            "row 37: 1000 folders deep",
            "ARCHIVE_LIMIT",
            path("d/".repeat(1000).trim_end_matches('/')),
        ),
        ("row 37: name of 300 bytes", "ARCHIVE_LIMIT", path(&"n".repeat(300))),
        ("row 37: path of 4096 bytes", "ARCHIVE_LIMIT", path(&vec!["n".repeat(250); 17].join("/"))),
        (
            "row 37: target of 2000 bytes",
            "ARCHIVE_LIMIT",
            tar().pax("linkpath", long_target.as_bytes()).link("l", "a").end(),
        ),
    ]
}
