//! How the program was called.

/// As it was called: lines to be typed next must work even if it is not on the path.
pub(crate) fn program_name() -> String {
    std::env::args()
        .next()
        .unwrap_or_else(|| "martlet".to_owned())
}
