//! Replaces secrets of a sink in texts of its target before they are shown or stored.
//!
//! A target may repeat what it received, unchanged or encoded: within JSON or HTML,
//! percent-encoded, or in base64. So each secret, and the base64 of the secret, is searched in the
//! text and in the text with its escapes decoded. The time is linear in the length of the text:
//! callers read no more than they can show.

mod decoded;

use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use zeroize::Zeroizing;

use crate::secret::SecretValues;
use decoded::Decoded;

/// Minimum length of a secret that is replaced, bytes. A shorter one would match in ordinary
/// words.
const SECRET_BYTES_MIN: usize = 4;
/// Replacement of a secret.
const MASK: &[u8] = b"***";

/// All secret texts of a sink.
#[derive(Clone, Default)]
pub struct SecretTexts(Vec<SecretText>);

#[derive(Clone, PartialEq, Eq)]
struct SecretText {
    bytes: Zeroizing<Vec<u8>>,
    is_base64: bool,
}

impl fmt::Debug for SecretTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl SecretTexts {
    /// All stored secrets of a sink.
    pub fn of(values: &SecretValues) -> Self {
        let mut texts = Self::default();
        for value in values.values() {
            texts.add(value.expose().as_bytes());
        }
        texts
    }

    /// Adds a secret, unless it is too short.
    pub fn add(&mut self, secret: &[u8]) {
        if secret.len() < SECRET_BYTES_MIN {
            return;
        }
        self.add_text(secret.to_vec(), false);
        for offset in 0..3 {
            let [standard, url_safe] = base64_within(secret, offset);
            self.add_text(standard, true);
            self.add_text(url_safe, true);
        }
    }

    fn add_text(&mut self, bytes: Vec<u8>, is_base64: bool) {
        let bytes = Zeroizing::new(bytes);
        let text = SecretText { bytes, is_base64 };
        if !self.0.contains(&text) {
            self.0.push(text);
        }
    }

    /// Masks the secrets in a complete text.
    pub fn mask_text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.mask(text.as_bytes(), false)).into_owned()
    }

    /// Masks the secrets in the text. `is_cut`: the text was truncated, so a secret may be cut off
    /// at its end.
    pub fn mask(&self, text: &[u8], is_cut: bool) -> Vec<u8> {
        let mut found = Vec::new();
        for decoded in Decoded::all(text, is_cut) {
            for secret in &self.0 {
                for mut range in matches(&secret.bytes, decoded.bytes(), is_cut) {
                    if secret.is_base64 {
                        // The adjacent base64 characters encode the rest of the secret.
                        range = base64_around(decoded.bytes(), range);
                    }
                    found.push(decoded.source(range));
                }
            }
        }
        replaced(text, found)
    }
}

/// The base64 characters that depend only on the secret, if `offset` bytes (modulo 3) precede it,
/// in both alphabets.
fn base64_within(secret: &[u8], offset: usize) -> [Vec<u8>; 2] {
    let padded = Zeroizing::new([&[0; 3][..offset], secret].concat());
    let letters = (offset * 8).div_ceil(6)..padded.len() * 8 / 6;
    [STANDARD, URL_SAFE].map(|alphabet| {
        let encoded = Zeroizing::new(alphabet.encode(&*padded));
        encoded.as_bytes()[letters.clone()].to_vec()
    })
}

/// The complete base64 text that contains a range.
fn base64_around(text: &[u8], range: Range<usize>) -> Range<usize> {
    let is_letter = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte);
    let before = text[..range.start].iter().rev().take_while(is_letter);
    let after = text[range.end..].iter().take_while(is_letter);
    range.start - before.count()..range.end + after.count()
}

/// Positions of a secret in a text (Knuth-Morris-Pratt search). If the text is cut, a prefix of
/// the secret at the end of the text counts too.
fn matches(secret: &[u8], text: &[u8], is_cut: bool) -> Vec<Range<usize>> {
    // The text cannot contain more of a long secret.
    let within = &secret[..secret.len().min(text.len())];
    if within.is_empty() {
        return Vec::new();
    }
    let borders = borders(within);
    let (mut found, mut length) = (Vec::new(), 0);
    for (at, byte) in text.iter().enumerate() {
        if length == within.len() {
            length = borders[length - 1];
        }
        length = continued(within, &borders, length, *byte);
        if length == secret.len() {
            found.push(at + 1 - length..at + 1);
        }
    }
    let is_open = length > 0 && length < secret.len();
    if is_cut && is_open {
        found.push(text.len() - length..text.len());
    }
    found
}

/// For each prefix of a text, the length of its longest proper border.
fn borders(text: &[u8]) -> Vec<usize> {
    let mut borders = vec![0; text.len()];
    for at in 1..text.len() {
        borders[at] = continued(text, &borders, borders[at - 1], text[at]);
    }
    borders
}

/// Matched length after a byte, if `length` bytes matched before it.
fn continued(text: &[u8], borders: &[usize], mut length: usize, byte: u8) -> usize {
    while length > 0 && text[length] != byte {
        length = borders[length - 1];
    }
    length + usize::from(text[length] == byte)
}

/// The text with these ranges replaced by a mask.
fn replaced(text: &[u8], mut ranges: Vec<Range<usize>>) -> Vec<u8> {
    ranges.sort_by_key(|range| range.start);
    let (mut masked, mut end) = (Vec::with_capacity(text.len()), None);
    for range in ranges {
        match end {
            Some(before) if range.start <= before => end = Some(range.end.max(before)),
            before => {
                masked.extend_from_slice(&text[before.unwrap_or(0)..range.start]);
                masked.extend_from_slice(MASK);
                end = Some(range.end);
            }
        }
    }
    masked.extend_from_slice(&text[end.unwrap_or(0)..]);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3/cr\"et+&\\ö <x%41>";

    fn masked_of(secrets: &[&str], text: &str, is_cut: bool) -> String {
        let mut texts = SecretTexts::default();
        for secret in secrets {
            texts.add(secret.as_bytes());
        }
        String::from_utf8_lossy(&texts.mask(text.as_bytes(), is_cut)).into_owned()
    }

    fn json(text: &str) -> String {
        let quoted = serde_json::to_string(text).unwrap();
        quoted[1..quoted.len() - 1].to_owned()
    }

    fn ascii_json(text: &str) -> String {
        let units = text.encode_utf16();
        units.map(|unit| format!("\\u{unit:04X}")).collect()
    }

    fn percent(text: &str) -> String {
        let bytes = text.bytes().map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02x}"),
        });
        bytes.collect()
    }

    fn html(text: &str) -> String {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        text.replace('>', "&gt;").replace('"', "&#34;")
    }

    #[test]
    fn a_secret_is_masked_in_whatever_form_it_is_repeated() {
        let form = percent(SECRET).replace("%20", "+");
        for form in [
            SECRET.to_owned(),
            json(SECRET),
            json(&json(SECRET)),
            json(SECRET).replace('/', "\\/"),
            ascii_json(SECRET),
            percent(SECRET),
            percent(&percent(SECRET)),
            percent(&json(SECRET)),
            json(&percent(SECRET)),
            html(SECRET),
            html(&json(SECRET)),
            json(&html(SECRET)),
            form,
        ] {
            let shown = masked_of(&[SECRET], &format!("no {form} here"), false);
            assert_eq!(shown, "no *** here", "{form}");
        }
        for (before, after) in [
            ("", ""),
            ("u:", "\n"),
            ("me:", "!"),
            ("long user:", "?????"),
        ] {
            let whole = format!("{before}{SECRET}{after}");
            for alphabet in [STANDARD, URL_SAFE] {
                let encoded = alphabet.encode(&whole);
                for form in [encoded.clone(), percent(&encoded), json(&encoded)] {
                    let shown = masked_of(&[SECRET], &format!("Basic {form}."), false);
                    assert_eq!(shown, "Basic ***.", "{whole:?}");
                }
            }
        }
    }

    #[test]
    fn a_secret_that_is_cut_off_is_masked_up_to_the_end() {
        let long = "k".repeat(5_000) + "end";
        for form in [
            long.clone(),
            format!("\\u006B{long}"),
            SECRET.to_owned(),
            json(SECRET),
            ascii_json(SECRET),
            percent(SECRET),
            STANDARD.encode(format!("u:{SECRET}")),
        ] {
            let whole: Vec<char> = form.chars().collect();
            for length in (6..whole.len().min(300)).rev() {
                let cut: String = whole[..length].iter().collect();
                let shown = masked_of(&[SECRET, &long], &format!("no {cut}"), true);
                assert_eq!(shown, "no ***", "{cut}");
            }
        }
        let shown = masked_of(&["known"], "a kno", false);
        assert_eq!(shown, "a kno", "a whole text has no secret that is cut off");
    }

    #[test]
    fn secrets_that_overlap_repeat_or_are_short_are_masked_once_or_not() {
        assert_eq!(masked_of(&["abab"], "xababababy", false), "x***y");
        assert_eq!(masked_of(&["known", "unknown"], "unknown", false), "***");
        assert_eq!(
            masked_of(&["known1", "1more"], "known1more!", false),
            "***!"
        );
        assert_eq!(masked_of(&["abc", ""], "abc", true), "abc");
        assert_eq!(masked_of(&["known"], "", true), "");
        assert_eq!(masked_of(&["known"], "known", false), "***");
        let plain = "the field \"a\\b\" of 100% &c is wrong \\";
        assert_eq!(masked_of(&["known"], plain, true), plain);
        assert_eq!(masked_of(&["known"], "\\", true), "\\");
    }
}
