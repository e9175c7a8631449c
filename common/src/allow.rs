//! Allow: what a request carries to reach a slot on purpose, whatever the shares are.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    DeploySetting,
    service::{InvalidSticky, check_header},
};

/// What a request carries to reach a slot whatever the shares are. Only for HTTP.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "AllowWords", into = "AllowWords")]
pub enum Allow {
    Header(AllowHeader),
    Cookie(AllowCookie),
    /// One of them is enough.
    Either(AllowHeader, AllowCookie),
}

impl Allow {
    /// Returns what lets a request through that carries `header` or `cookie`, if there is either.
    pub fn of(header: Option<AllowHeader>, cookie: Option<AllowCookie>) -> Option<Self> {
        match (header, cookie) {
            (Some(header), Some(cookie)) => Some(Self::Either(header, cookie)),
            (Some(header), None) => Some(Self::Header(header)),
            (None, Some(cookie)) => Some(Self::Cookie(cookie)),
            (None, None) => None,
        }
    }

    pub const fn header(&self) -> Option<&AllowHeader> {
        match self {
            Self::Header(header) | Self::Either(header, _) => Some(header),
            Self::Cookie(_) => None,
        }
    }

    pub const fn cookie(&self) -> Option<&AllowCookie> {
        match self {
            Self::Cookie(cookie) | Self::Either(_, cookie) => Some(cookie),
            Self::Header(_) => None,
        }
    }

    /// Returns the settings that say this, as they are typed.
    pub fn settings(&self) -> impl Iterator<Item = (DeploySetting, String)> {
        let header = self.header().map(|it| (DeploySetting::CanaryHeader, it.to_string()));
        let cookie = self.cookie().map(|it| (DeploySetting::CanaryCookie, it.to_string()));
        header.into_iter().chain(cookie)
    }
}

/// A header with its whole value.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "HeaderWords", into = "HeaderWords")]
pub struct AllowHeader {
    name: String,
    value: String,
}

/// A cookie with its whole value, without the quotes that may stand around it (RFC 6265, 4.1.1).
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "CookieWords", into = "CookieWords")]
pub struct AllowCookie {
    name: String,
    value: String,
}

/// Why nobody is let through.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidAllow {
    #[error("the gate cannot look at it")]
    Header(#[source] InvalidSticky),
    #[error("its value is no text of 1 to {VALUE_MAX} visible characters")]
    Value,
    #[error(
        "{0:?} is no cookie's name of 1 to {COOKIE_NAME_MAX} letters, digits and !#$%&'*+-.^_`|~"
    )]
    CookieName(String),
    #[error(
        "its value is no text of 1 to {VALUE_MAX} visible characters without quotes, commas, \
         semicolons and backslashes"
    )]
    CookieValue,
    #[error("it names neither a header nor a cookie")]
    Nothing,
}

/// The longest value: a long random text has room.
const VALUE_MAX: usize = 128;

/// The longest name of a cookie: as long as that of a header.
const COOKIE_NAME_MAX: usize = 64;

impl AllowHeader {
    /// Judges a name and the whole value that it must have.
    ///
    /// # Errors
    ///
    /// Refuses what no gate can look for.
    pub fn new(name: &str, value: &str) -> Result<Self, InvalidAllow> {
        check_header(name).map_err(InvalidAllow::Header)?;
        let is_visible = value.bytes().all(|byte| byte.is_ascii_graphic());
        if is_visible && (1..=VALUE_MAX).contains(&value.len()) {
            Ok(Self { name: name.to_owned(), value: value.to_owned() })
        } else {
            Err(InvalidAllow::Value)
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether a header of this name lets through with this value.
    pub fn is(&self, value: &[u8]) -> bool {
        self.value.as_bytes() == value
    }
}

impl AllowCookie {
    /// Judges a name and the whole value that it must have.
    ///
    /// # Errors
    ///
    /// Refuses what is no cookie (RFC 6265, 4.1.1), and quotes around the value: with and without
    /// them it is the same one.
    pub fn new(name: &str, value: &str) -> Result<Self, InvalidAllow> {
        if !(1..=COOKIE_NAME_MAX).contains(&name.len()) || !name.bytes().all(is_of_token) {
            return Err(InvalidAllow::CookieName(name.chars().take(COOKIE_NAME_MAX).collect()));
        }
        if !(1..=VALUE_MAX).contains(&value.len()) || !value.bytes().all(is_of_cookie) {
            return Err(InvalidAllow::CookieValue);
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether a cookie of this name lets through with this value, which may be in quotes.
    pub fn is(&self, value: &[u8]) -> bool {
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        self.value.as_bytes() == unquoted.unwrap_or(value)
    }
}

/// What RFC 9110 (5.6.2) calls `tchar`.
const fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'"' | b'(' | b')' | b',' | b'/' | b':'..=b'@' | b'['..=b']' | b'{' | b'}')
}

/// What RFC 6265 (4.1.1) calls `cookie-octet`.
const fn is_of_cookie(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

impl fmt::Display for AllowHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl fmt::Display for AllowCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// What lets through, in the words in which it is stored and sent. Judged by [`Allow::try_from`].
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AllowWords {
    /// The header's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The header's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<CookieWords>,
}

/// A header, in the same words.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct HeaderWords {
    header: String,
    value: String,
}

/// A cookie, in the same words.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CookieWords {
    pub name: String,
    pub value: String,
}

impl TryFrom<AllowWords> for Allow {
    type Error = InvalidAllow;

    fn try_from(words: AllowWords) -> Result<Self, InvalidAllow> {
        let AllowWords { header, value, cookie } = words;
        let header = match (header, value) {
            (None, None) => None,
            // What is missing is as good as empty, which neither may be.
            (name, value) => {
                Some(AllowHeader::new(&name.unwrap_or_default(), &value.unwrap_or_default())?)
            }
        };
        let cookie = cookie.map(AllowCookie::try_from).transpose()?;
        Self::of(header, cookie).ok_or(InvalidAllow::Nothing)
    }
}

impl From<Allow> for AllowWords {
    fn from(allow: Allow) -> Self {
        let (header, cookie) = match allow {
            Allow::Header(header) => (Some(header), None),
            Allow::Cookie(cookie) => (None, Some(cookie)),
            Allow::Either(header, cookie) => (Some(header), Some(cookie)),
        };
        let (header, value) = header.map(|AllowHeader { name, value }| (name, value)).unzip();
        Self { header, value, cookie: cookie.map(Into::into) }
    }
}

impl TryFrom<HeaderWords> for AllowHeader {
    type Error = InvalidAllow;

    fn try_from(HeaderWords { header, value }: HeaderWords) -> Result<Self, InvalidAllow> {
        Self::new(&header, &value)
    }
}

impl From<AllowHeader> for HeaderWords {
    fn from(AllowHeader { name, value }: AllowHeader) -> Self {
        Self { header: name, value }
    }
}

impl TryFrom<CookieWords> for AllowCookie {
    type Error = InvalidAllow;

    fn try_from(CookieWords { name, value }: CookieWords) -> Result<Self, InvalidAllow> {
        Self::new(&name, &value)
    }
}

impl From<AllowCookie> for CookieWords {
    fn from(AllowCookie { name, value }: AllowCookie) -> Self {
        Self { name, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorChain;

    fn cookie(name: &str, value: &str) -> String {
        match AllowCookie::new(name, value) {
            Ok(cookie) => cookie.to_string(),
            Err(error) => ErrorChain(&error).to_string(),
        }
    }

    #[test]
    fn a_cookie_has_the_form_of_the_rfc() {
        let token = "!#$%&'*+-.^_`|~azAZ09";
        assert_eq!(cookie(token, "1"), format!("{token}=1"));
        assert_eq!(cookie("__Host-canary", "a=b/c:d"), "__Host-canary=a=b/c:d");
        let (longest_name, longest_value) = ("n".repeat(64), "v".repeat(128));
        assert_eq!(
            cookie(&longest_name, &longest_value),
            format!("{longest_name}={longest_value}")
        );

        for byte in (0..=u8::MAX).filter(|byte| !token.as_bytes().contains(byte)) {
            let name = format!("a{}", char::from(byte));
            let is_allowed = byte.is_ascii_alphanumeric();
            assert_eq!(AllowCookie::new(&name, "1").is_ok(), is_allowed, "{name:?}");
        }
        for name in ["", &"n".repeat(65)] {
            assert!(cookie(name, "1").contains("is no cookie's name"), "{name:?}");
        }
        for value in
            ["", "\"1\"", "a\"b", "a b", "a,b", "a;b", "a\\b", "a\r\nb", "\u{e4}", &"v".repeat(129)]
        {
            assert!(cookie("canary", value).contains("its value is no text"), "{value:?}");
        }
    }

    #[test]
    fn quotes_around_a_cookies_value_are_no_part_of_it() {
        let cookie = AllowCookie::new("canary", "1").unwrap();

        let values: [&[u8]; 8] =
            [b"1", b"\"1\"", b"\"1", b"1\"", b"\"\"1\"\"", b"\"", b"", b"\xff1"];
        assert_eq!(
            values.map(|value| cookie.is(value)),
            [true, true, false, false, false, false, false, false]
        );
    }

    #[test]
    fn what_was_stored_before_there_were_cookies_is_read_and_written_as_then() {
        let stored = r#"{"header":"X-Canary","value":"yes"}"#;

        let read: Allow = serde_json::from_str(stored).unwrap();

        assert_eq!(read, Allow::Header(AllowHeader::new("X-Canary", "yes").unwrap()));
        assert_eq!(serde_json::to_string(&read).unwrap(), stored);
    }

    #[test]
    fn what_is_stored_is_read_again_and_nothing_else() {
        for stored in [
            r#"{"cookie":{"name":"canary","value":"1"}}"#,
            r#"{"header":"X-Canary","value":"yes","cookie":{"name":"canary","value":"1"}}"#,
        ] {
            let read: Allow = serde_json::from_str(stored).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), stored);
        }
        for stored in [
            "{}",
            r#"{"header":"X-Canary"}"#,
            r#"{"value":"yes"}"#,
            r#"{"header":"Host","value":"yes"}"#,
            r#"{"cookie":{"name":"a;b","value":"1"}}"#,
            r#"{"cookie":{"name":"canary"}}"#,
            r#"{"header":"X-Canary","value":"yes","cookies":{"name":"canary","value":"1"}}"#,
        ] {
            assert!(serde_json::from_str::<Allow>(stored).is_err(), "{stored}");
        }
    }
}
