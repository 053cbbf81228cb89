//! Payloads in answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A payload or its beginning, and how it stands there: `text` or `base64`.
/// As text where it is UTF-8, a letter that is cut at the end left out.
pub(crate) fn shown(payload: &[u8], is_whole: bool) -> (String, String) {
    let text = match std::str::from_utf8(payload) {
        Ok(text) => Some(text),
        Err(error) if !is_whole && error.error_len().is_none() => {
            std::str::from_utf8(&payload[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match text {
        Some(text) => (text.to_owned(), "text".to_owned()),
        None => (STANDARD.encode(payload), "base64".to_owned()),
    }
}
