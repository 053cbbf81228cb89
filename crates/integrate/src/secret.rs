//! Secrets of other systems, and texts of settings that refer to them as `${secret:NAME}`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use martlet_settings::SecretValue;
use tokio::sync::watch;

/// The secrets that an integration uses, by name.
pub type SecretValues = BTreeMap<Box<str>, SecretValue>;

/// The current secrets of an integration, or why they cannot be used.
pub type Secrets = Result<Arc<SecretValues>, SecretTrouble>;

/// Checks the values of the secrets of an integration.
pub type SecretCheck = Arc<dyn Fn(&SecretValues) -> Result<(), SecretTrouble> + Send + Sync>;

/// Follows the secrets of an integration.
pub type SecretsReceiver = watch::Receiver<Secrets>;

/// Why the secrets of an integration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretTrouble {
    /// They are not read yet.
    NotRead,
    /// Secrets of these names do not exist.
    Missing {
        /// Their names, at least one.
        names: Vec<String>,
        /// Team that must own them, as configured; empty: the common tenant.
        team: String,
        /// Command-line options with which a command finds the node; empty: none needed.
        options: String,
    },
    /// There is no key file.
    NoKeyFile(PathBuf),
    /// Other users of the machine can read the key file.
    KeyFileExposed {
        /// The file.
        path: PathBuf,
        /// Mode of the file.
        mode: u32,
    },
    /// The key file cannot be read, or is invalid.
    KeyFileUnusable {
        /// The file.
        path: PathBuf,
        /// The error.
        why: String,
    },
    /// The secret is sealed with another key.
    OtherKey {
        /// Name of the secret.
        name: String,
        /// The key file.
        path: PathBuf,
    },
    /// The row of the secret is damaged.
    Damaged {
        /// Name of the secret.
        name: String,
        /// Command-line options with which a command finds the node; empty: none needed.
        options: String,
    },
    /// The value of the secret is not valid where the integration uses it.
    Unusable {
        /// Name of the secret.
        name: String,
        /// The reason.
        why: String,
        /// Team that owns it, as configured; empty: the common tenant.
        team: String,
        /// Command-line options with which a command finds the node; empty: none needed.
        options: String,
    },
    /// The tables cannot be read.
    Tables(String),
}

impl SecretTrouble {
    /// Machine-readable cause for the API and for scripts.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::NotRead => "secrets_not_read",
            Self::Missing { .. } => "secret_missing",
            Self::NoKeyFile(_) => "key_file_missing",
            Self::KeyFileExposed { .. } => "key_file_exposed",
            Self::KeyFileUnusable { .. } => "key_file_unusable",
            Self::OtherKey { .. } => "key_file_wrong",
            Self::Damaged { .. } => "secret_damaged",
            Self::Unusable { .. } => "secret_unusable",
            Self::Tables(_) => "tables_unavailable",
        }
    }
}

impl SecretTrouble {
    /// Sets the command-line options with which the suggested command finds the node.
    pub fn with_options(mut self, of_node: &str) -> Self {
        if let Self::Missing { options, .. }
        | Self::Damaged { options, .. }
        | Self::Unusable { options, .. } = &mut self
        {
            of_node.clone_into(options);
        }
        self
    }

    /// Sets the team that owns a secret whose value cannot be used.
    pub fn with_team(mut self, of_integration: &str) -> Self {
        if let Self::Unusable { team, .. } = &mut self {
            of_integration.clone_into(team);
        }
        self
    }
}

impl From<SecretTrouble> for String {
    fn from(trouble: SecretTrouble) -> Self {
        trouble.to_string()
    }
}

impl fmt::Display for SecretTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRead => f.write_str("its secrets have not been read yet"),
            Self::Missing {
                names,
                team,
                options,
            } => {
                let of = options_of(team, options);
                match &names[..] {
                    [name] => write!(
                        f,
                        "there is no secret {name:?}: set it with `martlet secret set {name}{of}`"
                    ),
                    names => write!(
                        f,
                        "there are no secrets {}: set each with `martlet secret set NAME{of}`",
                        names.join(", ")
                    ),
                }
            }
            Self::NoKeyFile(path) => write!(
                f,
                "the key file {} does not exist: put it back, or copy it from a node with the same \
                 tables",
                path.display()
            ),
            Self::KeyFileExposed { path, mode } => write!(
                f,
                "the key file {path} has mode {mode:04o}, so other users can read it: type `chmod \
                 600 {path}`",
                path = path.display()
            ),
            Self::KeyFileUnusable { path, why } => {
                write!(f, "the key file {} cannot be used: {why}", path.display())
            }
            Self::OtherKey { name, path } => write!(
                f,
                "the secret {name:?} is sealed with another key than that in {}: copy the key file \
                 of the node that wrote it, or set the secret again",
                path.display()
            ),
            Self::Damaged { name, options } => {
                let of = options_of("", options);
                write!(
                    f,
                    "the stored value of the secret {name:?} is damaged: set it again with \
                     `martlet secret set {name}{of}`"
                )
            }
            Self::Unusable {
                name,
                why,
                team,
                options,
            } => {
                let of = options_of(team, options);
                write!(
                    f,
                    "the secret {name:?} cannot be used: {why}: set it again with `martlet secret \
                     set {name}{of}`"
                )
            }
            Self::Tables(why) => write!(f, "its secrets cannot be read: {why}"),
        }
    }
}

/// The options of a command about a secret of this team, each after a space.
fn options_of(team: &str, options: &str) -> String {
    let mut text = String::new();
    if !team.is_empty() {
        text.push_str(&format!(" --team={team}"));
    }
    if !options.is_empty() {
        text.push_str(&format!(" {options}"));
    }
    text
}

impl std::error::Error for SecretTrouble {}

/// A text of settings, which may refer to secrets as `${secret:NAME}`. It is not secret itself,
/// but somebody may have written a secret into it, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Template(Vec<TemplatePiece>);

#[derive(Clone, PartialEq, Eq)]
enum TemplatePiece {
    Text(Box<str>),
    Secret(Box<str>),
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// A reference is not closed or names no secret; the reason does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, behind)) = after
                .strip_prefix("secret:")
                .and_then(|after| after.split_once('}'))
            else {
                return Err("`${` is not followed by `secret:NAME}`".to_owned());
            };
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if name.is_empty() || name.len() > 64 || !name.bytes().all(is_letter) {
                return Err(
                    "`${secret:NAME}` has no usable name, expected letters, digits, -, _ and ., 64 \
                     at most"
                        .to_owned(),
                );
            }
            if !before.is_empty() {
                parts.push(TemplatePiece::Text(before.into()));
            }
            parts.push(TemplatePiece::Secret(name.into()));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(TemplatePiece::Text(rest.into()));
        }
        Ok(Self(parts))
    }

    /// Names of the secrets that it refers to.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            TemplatePiece::Secret(name) => Some(&**name),
            TemplatePiece::Text(_) => None,
        })
    }

    /// The text with the values of its secrets.
    ///
    /// # Errors
    /// A secret is missing in the values.
    pub fn fill(&self, values: &SecretValues) -> Result<SecretValue, SecretTrouble> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                TemplatePiece::Text(part) => text.push_str(part),
                TemplatePiece::Secret(name) => {
                    let value = values.get(name).ok_or_else(|| SecretTrouble::Missing {
                        names: vec![name.to_string()],
                        team: String::new(),
                        options: String::new(),
                    })?;
                    text.push_str(value.expose());
                }
            }
        }
        Ok(SecretValue::new(text))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_filled_with_secrets_and_shows_none() {
        let template = Template::parse("Bearer ${secret:a.b}-${secret:c}").expect("it is one");
        assert_eq!(template.names().collect::<Vec<_>>(), ["a.b", "c"]);
        let mut values = SecretValues::new();
        values.insert("a.b".into(), SecretValue::new("known".to_owned()));
        let missing = template.fill(&values).expect_err("one is missing");
        assert_eq!(missing.cause(), "secret_missing");
        values.insert("c".into(), SecretValue::new("x".to_owned()));
        let filled = template.fill(&values).expect("both are there");
        assert_eq!(filled.expose(), "Bearer known-x");
        assert!(!format!("{filled:?} {template:?} {values:?}").contains("known"));
        let told = missing.with_options("--data-dir=/data").to_string();
        assert!(
            told.ends_with("`martlet secret set c --data-dir=/data`"),
            "{told}"
        );
        for bad in ["${secret:}", "${secret:a", "${env:a}", "${secret:a b}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
