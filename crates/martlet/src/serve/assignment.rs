//! Values that result from options of other systems.

/// A key, its value, and the option that sets it.
pub(super) type Assignment = (String, String, &'static str);
