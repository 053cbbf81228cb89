//! A `.env` file, and the sources of variables.

use std::path::PathBuf;

use martlet_environment::{Assignment, warning_of_skipped};

/// A `.env` file that was read.
#[derive(Clone, Debug)]
pub(crate) struct EnvironmentFile {
    /// Absolute path of the file.
    pub(crate) path: PathBuf,
    /// Assignments of the file, in order.
    pub(crate) assignments: Vec<Assignment>,
    /// Lines that set nothing.
    pub(crate) skipped: Vec<usize>,
    /// Variables among them that the process also has; the values of the process apply.
    pub(crate) overridden: Vec<String>,
}

impl EnvironmentFile {
    /// Whether it sets this variable, even if the process also has it.
    pub(crate) fn sets(&self, name: &str) -> bool {
        self.assignments.iter().any(|known| known.name == name)
    }

    /// Lines that may have another effect than was meant.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let skipped = warning_of_skipped(&self.path, &self.skipped);
        let mut all: Vec<String> = skipped.into_iter().collect();
        for (at, found) in self.assignments.iter().enumerate() {
            let Assignment { line, name, .. } = found;
            let place = format!("{}, line {line}", self.path.display());
            if found.is_unclosed {
                all.push(format!(
                    "{place}: the value of {name} begins with a quote that is not closed, and the \
                     quote is treated as part of the value: close it"
                ));
            }
            for unset in &found.unset {
                all.push(format!(
                    "{place}: {name} refers to {unset}, which is not set and counts as empty"
                ));
            }
            let mut later = self.assignments[at + 1..].iter();
            if let Some(later) = later.find(|later| later.name == *name) {
                all.push(format!(
                    "{place}: {name} is set again in line {}, and the last line applies: remove one \
                     of them",
                    later.line
                ));
            }
        }
        all
    }
}

/// The source of a variable's value: `PATH/.env line 3 NAME` or `environment NAME`.
pub(crate) fn place_of(file: Option<&EnvironmentFile>, name: &str) -> String {
    format!("{} {name}", origin_of(file, name))
}

/// Returns the source of a variable's value without the name.
pub(crate) fn origin_of(file: Option<&EnvironmentFile>, name: &str) -> String {
    let found = file.and_then(|file| {
        let is_overridden = file.overridden.iter().any(|known| known == name);
        // The last line applies.
        let mut last = file.assignments.iter().rev();
        let last = last.find(|known| known.name == name && !is_overridden)?;
        Some(format!("{} line {}", file.path.display(), last.line))
    });
    found.unwrap_or_else(|| "environment".to_owned())
}
