//! Names of the variables that set keys.

/// The variable of a key: `MARTLET_` and the key's path in capitals, with `__` between its parts.
/// For a secret, the same name with `_FILE` contains the path of a file with the secret.
pub(crate) fn environment_name(path: &str) -> String {
    format!("MARTLET_{}", path.replace('.', "__").to_uppercase())
}
