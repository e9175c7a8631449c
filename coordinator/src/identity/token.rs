//! Tokens: 32 random bytes that are shown once and stored as a hash.

use std::fmt;

use cutover_common::Sha256;
use cutover_runtime::dice;

/// What a token is for. Its text says so, so that neither is taken for the other by mistake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenKind {
    /// Lets one agent join, once.
    Join,
    /// Says which operator calls.
    Operator,
}

/// A token that was just made. The only moment at which its text exists on this side.
pub struct NewToken {
    text: String,
}

/// How many random bytes a token has: guessing is hopeless, so a plain hash keeps it.
const RANDOM_BYTES: usize = 32;

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Join => "ctj_",
            Self::Operator => "cto_",
        }
    }
}

impl NewToken {
    /// Makes a token of 256 random bits.
    pub fn new(kind: TokenKind) -> Self {
        let random: String =
            dice::bytes::<RANDOM_BYTES>().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text: format!("{}{random}", kind.prefix()) }
    }

    /// Returns the text, for the one person who asked for it. Not for logs.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Returns what is stored.
    pub fn hash(&self) -> Sha256 {
        Sha256::of(self.text.as_bytes())
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewToken(..)")
    }
}

/// Returns the hash under which a presented token would be stored; none if it cannot be one of
/// ours of this kind.
///
/// Whoever looks it up must answer an unknown, a used and an expired token with one text. Looking
/// a hash up needs no constant time: what an attacker could learn is about the hash of a guess.
pub fn hash_of(presented: &str, kind: TokenKind) -> Option<Sha256> {
    let random = presented.strip_prefix(kind.prefix())?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_ours = random.len() == 2 * RANDOM_BYTES && random.bytes().all(is_hex);
    is_ours.then(|| Sha256::of(presented.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presented_token_has_the_hash_that_was_stored() {
        for kind in [TokenKind::Join, TokenKind::Operator] {
            let token = NewToken::new(kind);
            assert_eq!(hash_of(token.reveal(), kind), Some(token.hash()));
        }
    }

    #[test]
    fn a_token_of_one_kind_is_none_of_the_other() {
        let token = NewToken::new(TokenKind::Join);

        assert_eq!(hash_of(token.reveal(), TokenKind::Operator), None);
    }

    #[test]
    fn other_texts_are_no_tokens() {
        // promises.md §4 row 52: wrong length, unicode.
        let good = NewToken::new(TokenKind::Join).reveal().to_owned();
        let (short, long) = (&good[..good.len() - 1], format!("{good}0"));
        let upper = good.to_uppercase();
        let unicode = format!("ctj_{}", "é".repeat(32));
        for bad in
            ["", "ctj_", short, &long, &upper, &unicode, &format!(" {good}"), &format!("{good}\n")]
        {
            assert_eq!(hash_of(bad, TokenKind::Join), None, "{bad:?}");
        }
    }

    #[test]
    fn debug_output_hides_the_token_and_no_two_are_equal() {
        let token = NewToken::new(TokenKind::Join);

        assert_eq!(format!("{token:?}"), "NewToken(..)");
        assert_ne!(token.reveal(), NewToken::new(TokenKind::Join).reveal());
    }
}
