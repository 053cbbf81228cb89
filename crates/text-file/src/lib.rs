//! Files that others have written or named. Editors of Windows begin a text with a byte order mark,
//! which does not belong to it; a device such as `/dev/zero` has no end; and another user may have
//! left a link ([`owned`]).
#![forbid(unsafe_code)]

pub mod owned;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

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

/// Reads a file to its end.
///
/// # Errors
/// The file cannot be read, or is larger.
pub fn read_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    read_to_end(File::open(path)?, bytes_max)
}

/// Reads to the end.
///
/// # Errors
/// It cannot be read, or there are more bytes.
pub fn read_to_end(from: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let why = format!("it is larger than {} MiB", bytes_max >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// The bytes as text.
///
/// # Errors
/// They are not UTF-8.
pub fn utf8(bytes: Vec<u8>) -> io::Result<String> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text");
    String::from_utf8(bytes).map_err(invalid)
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

    #[test]
    fn what_is_larger_than_the_limit_is_refused() {
        let zero = Path::new("/dev/zero");
        let found = read_file(zero, 1 << 20).map_err(|error| error.to_string());
        assert_eq!(found, Err("it is larger than 1 MiB".to_owned()));
        assert_eq!(read_to_end(&b"abc"[..], 3).unwrap(), b"abc");
        assert!(read_to_end(&b"abcd"[..], 3).is_err());
    }
}
