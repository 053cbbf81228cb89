//! Names and texts from outside, cut for events, the journal and the log.
//!
//! A User Name and a Topic Name may have 64 KiB, and events are kept by the thousand: a name longer
//! than [`NAME_BYTES_MAX`] is shown as its beginning, its end, its length and a digest, `abcd…wxyz
//! (31,000 bytes, sha256 0123456789abcdef)`. So two long names that differ in the middle alone are
//! told apart. A short name that itself ends like that is cut too, so that it shows its own digest:
//! no client can take a name that is shown as another client's. Each name is therefore cut once:
//! where an event is made, or by [`Event::shown`](crate::Event::shown). Decisions about
//! a client are made with the whole name.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Longest name that is kept and shown whole, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// Longest text of the reason of a refusal, in bytes.
pub const WHY_BYTES_MAX: usize = 1024;

/// Bytes of the end of a name that are shown: names often differ there.
const END_BYTES: usize = 32;
/// Bytes of the SHA-256 of the whole name that are shown, in hexadecimal digits.
const DIGEST_BYTES: usize = 8;
/// Bytes that go into a digest in one unit of work.
const DIGESTED_PER_UNIT: usize = 64;
/// Text between the length and the digest.
const BEFORE_DIGEST: &str = " bytes, sha256 ";
/// Room for the end, the length and the digest.
const BEHIND_BYTES: usize = END_BYTES + 32 + BEFORE_DIGEST.len() + 2 * DIGEST_BYTES;

/// A name as it is kept and shown: whole up to [`NAME_BYTES_MAX`] bytes, else its beginning, its
/// end, its length and a digest, together no longer than that. A short name that looks as if it was
/// cut is, too. Not for a name that was cut before: that has become another one.
pub fn shortened(name: &str) -> Cow<'_, str> {
    match is_cut(name) {
        true => cut_to(name, NAME_BYTES_MAX).into(),
        false => name.into(),
    }
}

pub(crate) fn cut_to(text: &str, most: usize) -> String {
    let beginning = text.floor_char_boundary(most.saturating_sub(BEHIND_BYTES));
    // A short one stands there once.
    let end = text.len().saturating_sub(END_BYTES).max(beginning);
    let end = &text[text.ceil_char_boundary(end)..];
    let beginning = &text[..beginning];
    let mut short = format!("{beginning}…{end} ({}{BEFORE_DIGEST}", grouped(text.len()));
    for byte in &Sha256::digest(text)[..DIGEST_BYTES] {
        // Writing to a text does not fail.
        let _ = write!(short, "{byte:02x}");
    }
    short.push(')');
    short
}

/// Units of work of the digest of a name, where it is cut for each receiver of a message.
pub(crate) fn digest_work(name: &str) -> u64 {
    match is_long(name) {
        true => (name.len() / DIGESTED_PER_UNIT) as u64,
        false => 0,
    }
}

/// Whether a kept name was cut by [`shortened`]: then it is not the name itself. No name that is
/// kept whole is like that.
pub fn is_shortened(kept: &str) -> bool {
    let digest = || {
        let (_, behind) = kept.strip_suffix(')')?.rsplit_once(" (")?;
        let (length, digest) = behind.split_once(BEFORE_DIGEST)?;
        let is_length = |byte: u8| byte.is_ascii_digit() || byte == b',';
        length.bytes().all(is_length).then_some(digest)
    };
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digest().is_some_and(|digest| digest.len() == 2 * DIGEST_BYTES && digest.bytes().all(is_hex))
}

/// Whether a name that is kept as [`shortened`] made it is this one.
pub fn is_of_name(kept: &str, name: &str) -> bool {
    *kept == *shortened(name)
}

/// Whether a name in what is shown is the one that a reader asks for: by the whole name, or by what
/// was shown of it.
pub fn matches_shown(shown: &str, name: &str) -> bool {
    shown == name || is_of_name(shown, name)
}

/// Digits in groups of three.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn is_long(name: &str) -> bool {
    name.len() > NAME_BYTES_MAX
}

/// Whether a name was cut. For a usual name only the last byte is looked at.
pub(crate) fn is_cut(name: &str) -> bool {
    is_long(name) || is_shortened(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_its_beginning_and_its_length() {
        let name = format!("{}-7", "é".repeat(15_499));
        let short = shortened(&name);
        assert!(short.starts_with("ééé") && short.contains("é-7 (31,000 bytes, sha256 "));
        assert!(short.contains("é…é") && short.len() <= NAME_BYTES_MAX);
        assert_ne!(shortened(&short), short, "as a name it is another one");
        let whole = "a".repeat(NAME_BYTES_MAX);
        assert_eq!(shortened(&whole), whole);
        assert!(
            is_shortened(&short) && !is_shortened(&whole) && !is_shortened("a…b (31,000 bytes)")
        );
        assert!(is_of_name(&short, &name) && is_of_name("a", "a") && !is_of_name(&short, "a"));
        assert!(matches_shown(&short, &name) && matches_shown(&short, &short));
        assert_eq!(
            [1, 999, 1_000, 1_234_567].map(grouped),
            ["1", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn names_that_differ_in_the_middle_alone_are_told_apart() {
        let name = |middle: &str| format!("{}{middle}{}", "a".repeat(200), "b".repeat(100));
        let (one, other) = (name("X"), name("Y"));
        let short = shortened(&one);
        assert_ne!(short, shortened(&other));
        assert!(is_of_name(&short, &one) && !is_of_name(&short, &other));
        // Computed by `sha256sum`.
        let abc = cut_to("abc", 2);
        assert!(
            abc.ends_with(" (3 bytes, sha256 ba7816bf8f01cfea)"),
            "{abc}"
        );
    }

    /// A client may choose as its name what another client's long name is shown as.
    #[test]
    fn no_name_is_shown_as_another_one_is() {
        let long = "v".repeat(300);
        let shown = shortened(&long);
        for forged in [&*shown, "a (1 bytes, sha256 0123456789abcdef)"] {
            let own = shortened(forged);
            assert!(
                own != forged && own != shown && own.len() <= NAME_BYTES_MAX,
                "{own}"
            );
            assert!(is_shortened(&own) && is_of_name(&own, forged));
            assert!(!is_of_name(&shown, forged) && !is_of_name(forged, forged));
        }
        let whole = "a (1 bytes, sha256 0123456789abcdef";
        assert_eq!(shortened(whole), whole);
        let short = shortened("a (1 bytes, sha256 0123456789abcdef)");
        let expected = "a (1 bytes, sha256 0123456789abcdef)… (36 bytes, sha256 ";
        assert!(
            short.starts_with(expected),
            "a short one stands there once: {short}"
        );
    }
}
