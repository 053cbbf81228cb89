//! Text that others have written: files and bodies. Editors of Windows begin it with a byte order
//! mark, which does not belong to the text.
#![forbid(unsafe_code)]

/// U+FEFF in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes of a text after a byte order mark, if it begins with one.
#[must_use]
pub fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(MARK).unwrap_or(bytes)
}

/// Returns the text after a byte order mark, likewise, for text that is known to be UTF-8.
#[must_use]
pub fn text_without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_mark_at_the_beginning_is_skipped() {
        assert_eq!(without_bom(b"\xef\xbb\xbfa"), b"a");
        assert_eq!(without_bom(b"a\xef\xbb\xbf"), b"a\xef\xbb\xbf");
        assert_eq!(without_bom(b"\xef\xbb"), b"\xef\xbb");
        assert_eq!(text_without_bom("\u{feff}\u{feff}a"), "\u{feff}a");
    }
}
