//! Fetches that are interrupted, lied to, or left waiting.

use std::{cell::RefCell, time::Instant};

use futures::stream;
use tempfile::TempDir;

use super::*;
use crate::artifact::sample::Luck;

#[derive(Debug, thiserror::Error)]
#[error("the link broke")]
struct LinkBroke;

type Piece = Result<Bytes, LinkBroke>;

struct Place {
    _folder: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("archive.part"), _folder: folder }
    }

    fn lock(&self) -> Part {
        Part::lock(self.path.clone()).unwrap()
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.path).unwrap().len()
    }
}

fn wanted(archive: &[u8]) -> Wanted {
    Wanted {
        archive_digest: Sha256::of(archive),
        archive_size_bytes: archive.len() as u64,
        stall_max: Duration::from_secs(20),
    }
}

/// Cuts bytes into pieces of random lengths, some empty.
fn pieces(mut bytes: &[u8], luck: &mut Luck) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(luck.below(9000).min(bytes.len()));
        pieces.push(Ok(Bytes::copy_from_slice(piece)));
        bytes = rest;
    }
    pieces
}

fn contents(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_fetch_goes_on_where_it_was_interrupted() {
    // promises.md §3 row 43: no byte is sent twice, and none is lost.
    let mut luck = Luck::new();
    let archive = luck.bytes(300_000);
    let place = Place::new();
    let mut asked = Vec::new();
    let served = RefCell::new(0);
    let luck = RefCell::new(luck);
    let file = loop {
        let outcome = fetch(place.lock(), wanted(&archive), |offset| {
            asked.push(offset);
            let from = usize::try_from(offset).unwrap();
            let to = (from + luck.borrow_mut().below(40_000)).min(archive.len());
            *served.borrow_mut() += to - from;
            let mut pieces = pieces(&archive[from..to], &mut luck.borrow_mut());
            if luck.borrow_mut().below(2) == 0 {
                pieces.push(Err(LinkBroke));
            }
            std::future::ready(match luck.borrow_mut().below(5) {
                0 => {
                    *served.borrow_mut() -= to - from;
                    Err(LinkBroke)
                }
                _ => Ok(stream::iter(pieces)),
            })
        })
        .await;
        match outcome {
            Ok(file) => break file,
            Err(FetchError::Open { offset, .. } | FetchError::Interrupted { offset, .. }) => {
                assert_eq!(offset, place.length());
            }
            Err(other) => panic!("{other:?}"),
        }
    };

    assert!(asked.len() > 5 && asked.is_sorted(), "{asked:?}");
    assert_eq!(served.into_inner(), archive.len());
    assert_eq!(contents(file), archive);
}

#[tokio::test]
async fn wrong_bytes_are_fetched_again_from_the_start_and_then_given_up() {
    // promises.md §3 row 83.
    let mut luck = Luck::new();
    let archive = luck.bytes(50_000);
    for wrong_times in 0..5 {
        let place = Place::new();
        let mut asked = 0;
        let outcome = fetch(place.lock(), wanted(&archive), |offset| {
            assert_eq!(offset, 0);
            asked += 1;
            let mut sent = archive.clone();
            if asked <= wrong_times {
                let at = luck.below(sent.len());
                sent[at] ^= 1;
            }
            std::future::ready(Ok::<_, LinkBroke>(stream::iter(pieces(&sent, &mut luck))))
        })
        .await;

        if wrong_times < ATTEMPTS_MAX {
            assert_eq!(contents(outcome.unwrap()), archive);
            assert_eq!(asked, wrong_times + 1);
        } else {
            assert!(matches!(outcome, Err(FetchError::DigestMismatch { .. })), "{outcome:?}");
            assert_eq!((asked, place.length()), (ATTEMPTS_MAX, 0));
        }
    }
}

#[tokio::test]
async fn more_bytes_than_declared_are_not_written() {
    // promises.md §3 row 84.
    let archive = vec![7; 10_000];
    let place = Place::new();
    let error = fetch(place.lock(), wanted(&archive), |_| {
        let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[7; 999])));
        std::future::ready(Ok::<_, LinkBroke>(endless))
    })
    .await
    .unwrap_err();

    assert!(matches!(error, FetchError::DigestMismatch { .. }), "{error:?}");
    assert_eq!(place.length(), 0);
}

#[tokio::test]
async fn what_was_kept_is_not_trusted() {
    // promises.md D5: the beginning on disk was changed, or is longer than the archive.
    let archive = Luck::new().bytes(10_000);
    let mut changed = archive[..5000].to_vec();
    changed[17] ^= 1;
    let too_long = [&archive[..], b"x"].concat();
    for (kept, expected_offsets) in
        [(changed, vec![5000, 0]), (too_long, vec![0]), (archive.clone(), vec![])]
    {
        let place = Place::new();
        fs::write(&place.path, &kept).unwrap();
        let mut asked = Vec::new();
        let file = fetch(place.lock(), wanted(&archive), |offset| {
            asked.push(offset);
            let rest = Bytes::copy_from_slice(&archive[usize::try_from(offset).unwrap()..]);
            std::future::ready(Ok::<_, LinkBroke>(stream::iter([Ok(rest)])))
        })
        .await
        .unwrap();

        assert_eq!(asked, expected_offsets);
        assert_eq!(contents(file), archive);
    }
}

#[tokio::test]
async fn a_fetch_that_brings_no_byte_is_given_up() {
    let archive = vec![7; 100];
    let stall_max = Duration::from_millis(100);
    let wanted = Wanted { stall_max, ..wanted(&archive) };
    let place = Place::new();
    let first = || stream::iter([Ok(Bytes::from_static(&[7; 10]))]);
    let empty = || {
        stream::unfold((), |()| async {
            tokio::task::yield_now().await;
            Some((Ok(Bytes::new()), ()))
        })
    };
    let streams = [
        first().chain(stream::pending()).boxed(),
        // Empty messages are no progress.
        empty().boxed(),
    ];
    for stream in streams {
        let mut stream = Some(stream);
        let began = Instant::now();
        let error = fetch(place.lock(), wanted, |_| {
            std::future::ready(Ok::<_, LinkBroke>(stream.take().unwrap()))
        })
        .await
        .unwrap_err();

        assert!(matches!(error, FetchError::Stalled { offset: 10, .. }), "{error:?}");
        assert!(began.elapsed() >= stall_max);
    }
    // The call itself may hang, too.
    let error = fetch(place.lock(), wanted, |_| {
        std::future::pending::<Result<stream::Empty<Piece>, LinkBroke>>()
    })
    .await
    .unwrap_err();
    assert!(matches!(error, FetchError::Stalled { offset: 10, .. }), "{error:?}");
}

#[test]
fn a_part_that_was_removed_while_it_was_waited_for_is_made_anew() {
    let place = Place::new();
    let first = place.lock();
    let path = place.path.clone();
    let waiting = std::thread::spawn(move || Part::lock(path).unwrap());
    // Whether the other waits already or opens later: it must end up with the file of this name.
    fs::remove_file(&place.path).unwrap();
    drop(first);

    let second = waiting.join().unwrap();

    let held = second.file.metadata().unwrap().ino();
    assert_eq!(held, fs::metadata(&place.path).unwrap().ino());
}
