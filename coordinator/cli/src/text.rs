//! The one sanitizer: whatever a coordinator, an agent or a file says passes here before it can
//! reach a terminal (promises.md T3.2, §4 row 72).

use std::fmt;

use serde::Serialize;

/// One line of text that is safe on a terminal: nothing in it moves the cursor, changes colours,
/// begins a line or turns the reading direction.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Text(String);

/// The longest text that is shown, in characters. The coordinator's own limits are lower; this
/// one keeps a hostile one from filling the screen and the memory.
const LENGTH_MAX: usize = 4_000;

impl Text {
    /// Escapes what is not plain in `raw`, and cuts it after `LENGTH_MAX` characters.
    pub fn new(raw: &str) -> Self {
        let mut text = String::with_capacity(raw.len().min(LENGTH_MAX));
        for (index, c) in raw.chars().enumerate() {
            if index == LENGTH_MAX {
                text.push('…');
                break;
            }
            if is_plain(c) {
                text.push(c);
            } else {
                text.extend(c.escape_unicode());
            }
        }
        Self(text)
    }

    /// Makes one text of each line of `raw`, without the empty lines at its end.
    pub fn lines(raw: &str) -> Vec<Self> {
        raw.trim_end().lines().take(LENGTH_MAX).map(Self::new).collect()
    }

    /// Returns the safe text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the text, or None when it is empty: what "absent" is on the wire.
    pub fn or_none(self) -> Option<Self> {
        (!self.is_empty()).then_some(self)
    }
}

impl From<String> for Text {
    fn from(raw: String) -> Self {
        Self::new(&raw)
    }
}

impl From<&str> for Text {
    fn from(raw: &str) -> Self {
        Self::new(raw)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn is_plain(c: char) -> bool {
    // char::is_control is Cc: C0 with ESC, newline and tab, DEL, and C1 with the 8-bit CSI.
    if c.is_control() {
        return false;
    }
    !matches!(c,
        // Turn the reading direction (Unicode UAX 9), also by the Arabic letter mark.
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Break lines, or are invisible: two texts must not look like one.
        | '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{feff}'
        | '\u{00ad}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        let hostile = "ok\u{1b}[2J\u{1b}]0;owned\u{7}\r\n\u{9b}31m\u{7f}\u{202e}txt\u{200b}";

        let text = Text::new(hostile);

        assert_eq!(
            text.as_str(),
            r"ok\u{1b}[2J\u{1b}]0;owned\u{7}\u{d}\u{a}\u{9b}31m\u{7f}\u{202e}txt\u{200b}"
        );
        assert!(!text.as_str().chars().any(char::is_control));
    }

    #[test]
    fn plain_text_of_any_script_stays() {
        for plain in ["web-1", "größer als 5 °C", "部署", "GET /healthz → 503"] {
            assert_eq!(Text::new(plain).as_str(), plain);
        }
    }

    #[test]
    fn an_endless_text_is_cut() {
        assert_eq!(Text::new(&"x".repeat(1_000_000)).as_str().chars().count(), LENGTH_MAX + 1);
    }
}
