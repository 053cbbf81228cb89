//! What an option of another system stands for.

/// A key, its value, and the option that it comes from.
pub(super) type Assignment = (String, String, &'static str);
