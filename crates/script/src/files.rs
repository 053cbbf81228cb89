//! The files of scripts, and updating them with the behaviour of a broker (`UPDATE=1`).

use std::path::PathBuf;

use crate::play::Mismatch;
use crate::script::Script;

/// The folder of this crate's scripts.
pub fn scripts_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// All scripts, by name.
///
/// # Errors
/// A file that cannot be read or parsed.
pub fn load_all() -> Result<Vec<Script>, String> {
    let mut scripts = Vec::new();
    let folders = std::fs::read_dir(scripts_dir()).map_err(|error| error.to_string())?;
    for folder in folders.flatten().filter(|entry| entry.path().is_dir()) {
        let files = std::fs::read_dir(folder.path()).map_err(|error| error.to_string())?;
        for file in files.flatten().map(|entry| entry.path()) {
            let Some(stem) = file.file_stem().and_then(|stem| stem.to_str()) else {
                continue;
            };
            if file.extension().is_none_or(|ending| ending != "mqtt") {
                continue;
            }
            let chapter = folder.file_name().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            scripts.push(Script::parse(&format!("{chapter}/{stem}"), &text)?);
        }
    }
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scripts)
}

/// A script whose expectations are being updated to the behaviour of a broker.
#[derive(Clone, Debug)]
pub struct Update {
    /// The current script.
    pub script: Script,
}

impl Update {
    /// Replaces the line that differs by what was received, or appends it.
    ///
    /// # Errors
    /// The line cannot be replaced: it is no expectation, or the script would become invalid.
    pub fn apply(&mut self, mismatch: &Mismatch) -> Result<(), String> {
        let got = mismatch.got.clone().ok_or_else(|| mismatch.to_string())?;
        let mut lines = self.script.lines.clone();
        match lines.get_mut(mismatch.line) {
            Some(line)
                if line
                    .split(':')
                    .next()
                    .is_some_and(|head| head.contains('>')) =>
            {
                *line = got;
            }
            Some(_) => lines.insert(mismatch.line + 1, got),
            None => lines.push(got),
        }
        let text = lines.join("\n") + "\n";
        self.script = Script::parse(&self.script.name, &text)?;
        Ok(())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self) -> Result<(), String> {
        let path = scripts_dir().join(format!("{}.mqtt", self.script.name));
        let text = self.script.lines.join("\n") + "\n";
        std::fs::write(path, text).map_err(|error| error.to_string())
    }
}
