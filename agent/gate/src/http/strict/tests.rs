//! What is dubious, and what is not, however its bytes are cut.

use super::*;

/// Looks at `text` in pieces of one length, and at another request after it.
fn look(text: &str, piece: usize) -> Result<(), Dubious> {
    let mut strict = Strict::new(1_000);
    let next = format!("{text}GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    next.as_bytes().chunks(piece).try_for_each(|bytes| strict.look(bytes))?;
    assert_eq!(strict.at, At::RequestLine, "{text:?}");
    Ok(())
}

fn head(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")
}

#[test]
fn what_can_be_read_in_one_way_is_let_through() {
    let chunked = head("Transfer-Encoding: chunked");
    for text in [
        String::new(),
        "\r\n\r\n".to_owned(),
        head("Content-Length: 0"),
        head("content-length:5") + "hello",
        head("Content-Length: \t10 \t") + "GET / \n\n\r\n",
        head("Transfer-Encoding:\tCHUNKED ") + "0\r\n\r\n",
        chunked.clone() + "5\r\nhello\r\nA;name=\"value\"\r\n0123\r\n6789\r\n00\r\n\r\n",
        chunked + "5 \r\nhello\r\n0\r\nSum: 1\r\nName: value\r\n\r\n",
        head("X-Content-Length: no\r\nX: a:b\r\nEmpty:"),
    ] {
        for piece in [1, 2, 3, 5, 1_000] {
            assert_eq!(look(&text, piece), Ok(()), "{text:?} by {piece}");
        }
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_not() {
    let chunked = head("Transfer-Encoding: chunked");
    for (text, why) in [
        (head("Content-Length: 5\r\nContent-Length: 5") + "hello", Dubious::Length),
        (head("Content-Length: 5\r\nContent-Length: 6") + "hello", Dubious::Length),
        (head("Content-Length: 5, 5") + "hello", Dubious::Length),
        (head("Content-Length: +5") + "hello", Dubious::Length),
        (head("Content-Length: 0x5") + "hello", Dubious::Length),
        (head("Content-Length:"), Dubious::Length),
        (head("Content-Length: 18446744073709551616"), Dubious::Length),
        (head("Content-Length: 5\r\nTransfer-Encoding: chunked") + "0\r\n\r\n", Dubious::Coding),
        (head("Transfer-Encoding: chunked\r\nContent-Length: 5") + "0\r\n\r\n", Dubious::Coding),
        (head("Transfer-Encoding: chunked\r\nTransfer-Encoding: x"), Dubious::Coding),
        (head("Transfer-Encoding: gzip, chunked"), Dubious::Coding),
        (head("Transfer-Encoding: chunked, identity"), Dubious::Coding),
        (head("Transfer-Encoding: xchunked"), Dubious::Coding),
        (head("Transfer-Encoding:"), Dubious::Coding),
        (head("Transfer-Encoding: \x0bchunked"), Dubious::Coding),
        (head("Transfer-Encoding : chunked"), Dubious::Name),
        (head("X: a\r\n Transfer-Encoding: chunked"), Dubious::Name),
        (head("X: a\r\n\tb"), Dubious::Name),
        (head(": a"), Dubious::Name),
        (head("nothing"), Dubious::Name),
        (head("X: a\nTransfer-Encoding: chunked"), Dubious::LineEnd),
        (head("X: a\rTransfer-Encoding: chunked"), Dubious::LineEnd),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), Dubious::LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(), Dubious::LineEnd),
        (chunked.clone() + "5\nhello\r\n0\r\n\r\n", Dubious::LineEnd),
        (chunked.clone() + "5\r\nhello\n0\r\n\r\n", Dubious::Chunk),
        (chunked.clone() + "5\r\nhelloo\r\n0\r\n\r\n", Dubious::Chunk),
        (chunked.clone() + "\r\nhello\r\n0\r\n\r\n", Dubious::Chunk),
        (chunked.clone() + "-5\r\nhello\r\n0\r\n\r\n", Dubious::Chunk),
        (chunked.clone() + "0x5\r\nhello\r\n0\r\n\r\n", Dubious::Chunk),
        (chunked.clone() + "zz\r\nhello\r\n0\r\n\r\n", Dubious::Chunk),
        (chunked.clone() + "10000000000000005\r\nhello\r\n0\r\n\r\n", Dubious::Chunk),
        (chunked.clone() + "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", Dubious::Chunk),
        (chunked.clone() + &format!("5;{}\r\nhello\r\n", "a".repeat(300)), Dubious::Chunk),
        (chunked.clone() + "0\r\nContent-Length: 5\r\n\r\n", Dubious::Coding),
        (chunked + "0\r\nX : 5\r\n\r\n", Dubious::Name),
        (head("Upgrade: h2c"), Dubious::Early),
    ] {
        for piece in [1, 2, 3, 5, 1_000] {
            assert_eq!(look(&text, piece), Err(why), "{text:?} by {piece}");
        }
    }
}

#[test]
fn a_line_that_is_too_long_is_left_to_the_parser() {
    let mut strict = Strict::new(100);
    for _ in 0..10 {
        assert_eq!(strict.look(&[b'a'; 50]), Ok(()));
    }
    assert!(strict.line.is_empty());
}
