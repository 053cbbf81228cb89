//! A `.env` that was read, and where the value of a variable comes from.

use std::path::PathBuf;

/// A `.env` that was read.
#[derive(Clone, Debug)]
pub(crate) struct EnvironmentFile {
    /// From the root.
    pub(crate) path: PathBuf,
    /// Variables that it sets, each with its line, in their order.
    pub(crate) lines: Vec<(usize, String)>,
    /// Those of them that the process has too: its values count.
    pub(crate) overridden: Vec<String>,
    /// Variables whose value begins with a quote that is not closed, each with its line.
    pub(crate) unclosed: Vec<(usize, String)>,
}

impl EnvironmentFile {
    /// Whether it sets this variable, whether or not the process has it too.
    pub(crate) fn sets(&self, name: &str) -> bool {
        self.lines.iter().any(|(_, known)| known == name)
    }
}

/// Where the value of a variable comes from: `PATH/.env line 3 NAME` or `environment NAME`.
pub(crate) fn place_of(file: Option<&EnvironmentFile>, name: &str) -> String {
    format!("{} {name}", origin_of(file, name))
}

/// The same without the name.
pub(crate) fn origin_of(file: Option<&EnvironmentFile>, name: &str) -> String {
    let found = file.and_then(|file| {
        let is_overridden = file.overridden.iter().any(|known| known == name);
        // The last line counts.
        let mut lines = file.lines.iter().rev();
        let (line, _) = lines.find(|(_, known)| known == name && !is_overridden)?;
        Some(format!("{} line {line}", file.path.display()))
    });
    found.unwrap_or_else(|| "environment".to_owned())
}
