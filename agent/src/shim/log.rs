//! An application's output on disk: capped, rotated, and never a reason for the application to
//! wait. A full disk loses lines, not service.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, PipeReader, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{error_lines::ErrorLines, record::LogSpec};

/// A quarter of a pipe's 64 KiB (pipe(7)), so that the application seldom waits for us.
const CHUNK_BYTES: usize = 16 * 1024;

/// A file smaller than this would be rotated at every chunk.
const FILE_SIZE_BYTES_MIN: u64 = 4 * 1024;

/// How long to lose output before trying the disk again: often enough for people, seldom enough
/// to cost nothing.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// The files of one log.
#[derive(Debug)]
pub(super) struct RotatingLog {
    spec: LogSpec,
    file: Option<OpenLog>,
    failed_at: Option<Instant>,
    lost_bytes: u64,
}

#[derive(Debug)]
struct OpenLog {
    file: File,
    size_bytes: u64,
}

impl RotatingLog {
    /// Makes a log that opens its file at the first write.
    pub(super) const fn new(spec: LogSpec) -> Self {
        Self { spec, file: None, failed_at: None, lost_bytes: 0 }
    }

    /// Copies all that comes out of `pipe` until its last writer is gone, and counts the lines of
    /// it that say error.
    pub(super) fn copy_from(mut self, mut pipe: PipeReader, mut lines: ErrorLines) {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match pipe.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => {
                    self.write(&chunk[..length]);
                    lines.take(&chunk[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        lines.finish();
    }

    /// Appends `bytes`, and loses them when the disk refuses.
    fn write(&mut self, bytes: &[u8]) {
        if self.failed_at.is_some_and(|at| at.elapsed() < REOPEN_AFTER) {
            self.lost_bytes = self.lost_bytes.saturating_add(bytes.len() as u64);
            return;
        }
        if self.try_write(bytes).is_ok() {
            self.failed_at = None;
        } else {
            self.lost_bytes = self.lost_bytes.saturating_add(bytes.len() as u64);
            self.failed_at = Some(Instant::now());
            self.file = None;
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.lost_bytes > 0 {
            let marker = format!("\n[cutover: {} bytes of output were lost]\n", self.lost_bytes);
            self.append(marker.as_bytes())?;
            self.lost_bytes = 0;
        }
        let size_bytes_max = self.spec.file_size_bytes_max.max(FILE_SIZE_BYTES_MIN);
        let room = usize::try_from(size_bytes_max.saturating_sub(self.opened()?.size_bytes))
            .unwrap_or(usize::MAX);
        if bytes.len() <= room {
            return self.append(bytes);
        }
        // The last whole line that fits ends this file; a line is cut only if it is longer than
        // a chunk.
        let kept = bytes[..room].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let (before, after) = bytes.split_at(kept);
        self.append(before)?;
        self.rotate()?;
        for part in after.chunks(usize::try_from(size_bytes_max).unwrap_or(usize::MAX)) {
            if self.opened()?.size_bytes.saturating_add(part.len() as u64) > size_bytes_max {
                self.rotate()?;
            }
            self.append(part)?;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let open = self.opened()?;
        open.file.write_all(bytes)?;
        open.size_bytes = open.size_bytes.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn opened(&mut self) -> io::Result<&mut OpenLog> {
        let open = match self.file.take() {
            Some(open) => open,
            None => self.open()?,
        };
        Ok(self.file.insert(open))
    }

    fn open(&self) -> io::Result<OpenLog> {
        if let Some(folder) = self.spec.path.parent() {
            DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        }
        let file =
            OpenOptions::new().append(true).create(true).mode(0o640).open(&self.spec.path)?;
        let size_bytes = file.metadata()?.len();
        Ok(OpenLog { file, size_bytes })
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        if self.spec.old_files_max == 0 {
            return fs::remove_file(&self.spec.path);
        }
        for number in (1..self.spec.old_files_max).rev() {
            match fs::rename(self.old_path(number), self.old_path(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(&self.spec.path, self.old_path(1))
    }

    fn old_path(&self, number: u32) -> PathBuf {
        let mut path = OsString::from(&self.spec.path);
        path.push(format!(".{number}"));
        PathBuf::from(path)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn log_in(dir: &Path, file_size_bytes_max: u64, old_files_max: u32) -> RotatingLog {
        let path = dir.join("deep/web.log");
        RotatingLog::new(LogSpec { path, file_size_bytes_max, old_files_max })
    }

    fn sizes(dir: &Path) -> Vec<(String, u64)> {
        let mut sizes: Vec<_> = fs::read_dir(dir.join("deep"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().len()))
            .collect();
        sizes.sort();
        sizes
    }

    #[test]
    fn a_flood_never_takes_more_than_the_cap_and_keeps_the_last_lines_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log_in(dir.path(), 8192, 2);

        let lines: Vec<u8> =
            (0..20_000).flat_map(|n| format!("line {n:06}\n").into_bytes()).collect();
        for chunk in lines.chunks(5000) {
            log.write(chunk);
        }

        let sizes = sizes(dir.path());
        let names: Vec<&str> = sizes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["web.log", "web.log.1", "web.log.2"]);
        assert!(sizes.iter().all(|(_, size)| *size <= 8192), "{sizes:?}");
        let kept: String = ["web.log.2", "web.log.1", "web.log"]
            .iter()
            .map(|name| fs::read_to_string(dir.path().join("deep").join(name)).unwrap())
            .collect();
        assert!(kept.ends_with("line 019999\n"), "{}", &kept[kept.len() - 30..]);
        // Together they are the end of what was written, without a gap.
        assert!(String::from_utf8(lines).unwrap().ends_with(&kept));
        assert!(kept.len() > 2 * 8192 - 5000, "{}", kept.len());
    }

    #[test]
    fn a_chunk_longer_than_a_file_is_cut_into_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log_in(dir.path(), 4096, 1);

        log.write(&[b'x'; 20_000]);

        let sizes = sizes(dir.path());
        assert!(sizes.len() == 2 && sizes.iter().all(|(_, size)| *size <= 4096), "{sizes:?}");
    }

    #[test]
    fn without_old_files_only_the_current_one_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log_in(dir.path(), 4096, 0);

        for _ in 0..10 {
            log.write(&[b'x'; 3000]);
        }

        assert_eq!(sizes(dir.path()), [("web.log".to_owned(), 3000)]);
    }

    #[test]
    fn an_instance_goes_on_with_the_log_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        log_in(dir.path(), 4096, 1).write(b"first\n");
        log_in(dir.path(), 4096, 1).write(b"second\n");

        let text = fs::read_to_string(dir.path().join("deep/web.log")).unwrap();
        assert_eq!(text, "first\nsecond\n");
    }

    #[test]
    fn a_full_disk_loses_output_but_never_stops_the_application() {
        let spec = LogSpec {
            path: PathBuf::from("/dev/full"),
            file_size_bytes_max: 1 << 20,
            old_files_max: 1,
        };
        let (reader, mut writer) = io::pipe().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let lines = ErrorLines::begin(dir.path());
        let copier = std::thread::spawn(move || RotatingLog::new(spec).copy_from(reader, lines));

        // Many times what the pipe holds: blocks for ever if nobody reads.
        writer.write_all(&vec![b'x'; 1 << 20]).unwrap();
        drop(writer);

        copier.join().unwrap();
    }

    #[test]
    fn what_was_lost_is_told_once_the_disk_takes_bytes_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log_in(dir.path(), 1 << 20, 1);
        // A file where the folder should be.
        fs::write(dir.path().join("deep"), "").unwrap();
        log.write(b"lost\n");
        fs::remove_file(dir.path().join("deep")).unwrap();
        log.failed_at = None;

        log.write(b"kept\n");

        let text = fs::read_to_string(dir.path().join("deep/web.log")).unwrap();
        assert_eq!(text, "\n[cutover: 5 bytes of output were lost]\nkept\n");
    }
}
