//! The files of the repository: those that git tracks, and untracked ones that it does not ignore.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file of the repository.
#[derive(Debug)]
pub struct SourceFile {
    /// Path from the repository's root, with `/`.
    pub path: String,
    /// Text of the file.
    pub text: String,
}

/// The repository's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Every text file, sorted by path.
///
/// # Errors
/// Git failed, or a file cannot be read.
pub fn source_files() -> Result<Vec<SourceFile>> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()?;
    if !listing.status.success() {
        return Err(Error::other("git ls-files failed"));
    }
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    let mut paths: Vec<&str> = listing.lines().collect();
    paths.sort_unstable();
    paths.dedup();
    let mut files = Vec::new();
    for path in paths {
        // Deleted files, and files that are not text, are skipped.
        if let Ok(text) = std::fs::read_to_string(root().join(path)) {
            let path = path.to_owned();
            files.push(SourceFile { path, text });
        }
    }
    Ok(files)
}
