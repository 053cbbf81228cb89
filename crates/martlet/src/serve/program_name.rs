//! Name of the running program.

/// The name by which the program was called: printed command lines must work even if it is not in
/// the search path.
pub(crate) fn program_name() -> String {
    std::env::args()
        .next()
        .unwrap_or_else(|| "martlet".to_owned())
}
