//! A `.env` file, and the sources of variables.

use std::path::PathBuf;

/// A `.env` file that was read.
#[derive(Clone, Debug)]
pub(crate) struct EnvironmentFile {
    /// Its absolute path.
    pub(crate) path: PathBuf,
    /// Variables that it sets, with their lines, in order.
    pub(crate) lines: Vec<(usize, String)>,
    /// Variables among them that the process also has; the values of the process apply.
    pub(crate) overridden: Vec<String>,
    /// Variables whose value begins with an unclosed quote, with their lines.
    pub(crate) unclosed: Vec<(usize, String)>,
}

impl EnvironmentFile {
    /// Whether it sets this variable, even if the process also has it.
    pub(crate) fn sets(&self, name: &str) -> bool {
        self.lines.iter().any(|(_, known)| known == name)
    }
}

/// The source of a variable's value: `PATH/.env line 3 NAME` or `environment NAME`.
pub(crate) fn place_of(file: Option<&EnvironmentFile>, name: &str) -> String {
    format!("{} {name}", origin_of(file, name))
}

/// The same without the name.
pub(crate) fn origin_of(file: Option<&EnvironmentFile>, name: &str) -> String {
    let found = file.and_then(|file| {
        let is_overridden = file.overridden.iter().any(|known| known == name);
        // The last line applies.
        let mut lines = file.lines.iter().rev();
        let (line, _) = lines.find(|(_, known)| known == name && !is_overridden)?;
        Some(format!("{} line {line}", file.path.display()))
    });
    found.unwrap_or_else(|| "environment".to_owned())
}
