//! The document, as it is sent.

use crate::etag::Version;

/// The document, as it is sent.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) text: String,
    pub(crate) version: Version,
}

impl Document {
    pub(crate) fn new(document: &utoipa::openapi::OpenApi) -> Self {
        // It was made of texts: that cannot fail.
        let text = document.to_json().unwrap_or_default();
        let version = Version::of_bytes(text.as_bytes());
        Self { text, version }
    }
}
