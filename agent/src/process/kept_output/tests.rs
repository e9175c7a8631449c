//! What is in the file at each moment: while a hook runs, after it, and after it was cut off.

use std::{fs, io::Read as _, os::unix::fs::symlink, path::PathBuf};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use tempfile::TempDir;

use super::*;

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs/web/green.smoke.log");
    (dir, path)
}

fn take_all(output: &mut KeptOutput, said: &[u8], chunk: usize) {
    for part in said.chunks(chunk) {
        output.take(part).unwrap();
    }
}

/// Bytes that are easily told apart.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

#[test]
fn up_to_a_mebibyte_all_is_written_while_it_comes() {
    for length in [0, 1, END, BEGINNING - 1, BEGINNING] {
        let (_dir, path) = place();
        let said = bytes(length);
        let mut output = KeptOutput::create(&path).unwrap();
        take_all(&mut output, &said, 4096);
        assert_eq!(fs::read(&path).unwrap(), said, "{length}, before its end");

        output.finish().unwrap();

        assert_eq!(fs::read(&path).unwrap(), said, "{length}");
    }
}

#[test]
fn of_more_the_beginning_and_the_end_are_kept_with_a_mark_between() {
    let said = bytes(3 * BEGINNING);
    let (_dir, path) = place();
    let mut output = KeptOutput::create(&path).unwrap();
    take_all(&mut output, &said, 5000);
    // An agent that dies here leaves this.
    let so_far = [&said[..BEGINNING], MORE.as_bytes()].concat();
    assert!(fs::read(&path).unwrap() == so_far);

    output.finish().unwrap();

    let left_out = said.len() - KEPT_BYTES_MAX;
    let mark = format!("\n[... {left_out} bytes are left out here ...]\n");
    let all = [&so_far, mark.as_bytes(), &said[said.len() - END..]].concat();
    assert!(fs::read(&path).unwrap() == all);
}

#[test]
fn what_is_just_more_is_kept_whole() {
    let said = bytes(BEGINNING + 10);
    let (_dir, path) = place();
    let mut output = KeptOutput::create(&path).unwrap();
    take_all(&mut output, &said, 4096);

    output.finish().unwrap();

    let all = [&said[..BEGINNING], MORE.as_bytes(), &said[BEGINNING..]].concat();
    assert!(fs::read(&path).unwrap() == all);
}

#[test]
fn an_interrupted_output_has_its_end_and_says_so() {
    let (_dir, path) = place();
    let mut output = KeptOutput::create(&path).unwrap();
    output.take(b"half a li").unwrap();
    drop(output);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("half a li{INTERRUPTED}"));

    let said = bytes(BEGINNING + 10);
    let mut output = KeptOutput::create(&path).unwrap();
    take_all(&mut output, &said, 4096);
    drop(output);
    let end = [&said[BEGINNING..], INTERRUPTED.as_bytes()].concat();
    assert!(fs::read(&path).unwrap().ends_with(&end));
}

/// An output whose disk is full, and its file as far as it came.
fn with_full_disk(said: &[u8]) -> (KeptOutput, TempDir, PathBuf) {
    let (dir, path) = place();
    let mut output = KeptOutput::create(&path).unwrap();
    output.take(said).unwrap();
    output.file = File::options().write(true).open("/dev/full").unwrap();
    (output, dir, path)
}

fn open_at_end(path: &Path) -> File {
    File::options().append(true).open(path).unwrap()
}

#[test]
fn what_a_full_disk_refused_is_written_once_it_has_room() {
    let (mut output, _dir, path) = with_full_disk(b"first\n");

    output.take(b"refused\n").unwrap_err();
    output.take(b"later\n").unwrap();
    output.file = open_at_end(&path);
    output.finish().unwrap();

    assert_eq!(fs::read_to_string(&path).unwrap(), "first\nrefused\nlater\n");
}

#[test]
fn what_a_full_disk_has_cost_is_marked() {
    let said = bytes(END + 10);
    let (mut output, _dir, path) = with_full_disk(b"first\n");
    output.take(&said).unwrap_err();
    output.file = open_at_end(&path);
    output.finish().unwrap();
    let kept = fs::read(&path).unwrap();
    assert!(kept.starts_with(b"first\n\n[... 10 bytes are left out here ...]\n"));
    assert!(kept.ends_with(&said[10..]));
}

#[test]
fn a_disk_that_stays_full_leaves_a_mark_in_place_of_the_last_that_was_written() {
    let (_dir, path) = place();
    let mut output = KeptOutput::create(&path).unwrap();
    let disk = memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap();
    output.file = File::from(disk.try_clone().unwrap());
    output.take(&[b'x'; 100]).unwrap();
    fcntl_add_seals(&disk, SealFlags::GROW).unwrap();

    output.take(b"refused").unwrap_err();
    output.finish().unwrap_err();

    let mut kept = vec![0; 200];
    let length = File::from(disk).read_at(&mut kept, 0).unwrap();
    let expected = format!("{}{CUT}", "x".repeat(100 - CUT.len()));
    assert_eq!(String::from_utf8_lossy(&kept[..length]), expected);
}

#[test]
fn what_has_the_name_is_replaced_and_not_written_to() {
    let (dir, path) = place();
    let other = dir.path().join("other");
    fs::write(&other, "of somebody else").unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(&other, &path).unwrap();
    KeptOutput::create(&path).unwrap().finish().unwrap();
    assert_eq!(fs::read_to_string(&other).unwrap(), "of somebody else");

    // Whoever reads an earlier output is not disturbed by the next one.
    fs::write(&path, "earlier").unwrap();
    let mut earlier = File::open(&path).unwrap();
    let mut output = KeptOutput::create(&path).unwrap();
    output.take(b"next").unwrap();
    output.finish().unwrap();
    let mut text = String::new();
    earlier.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), fs::read_to_string(&path).unwrap().as_str()), ("earlier", "next"));
}
