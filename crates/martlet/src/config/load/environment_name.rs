//! Names of the variables that set keys.

/// `MARTLET_` + the key's path with `__` between its parts, in capitals. Of a secret, the same with
/// `_FILE` names the file that holds it.
pub(crate) fn environment_name(path: &str) -> String {
    format!("MARTLET_{}", path.replace('.', "__").to_uppercase())
}
