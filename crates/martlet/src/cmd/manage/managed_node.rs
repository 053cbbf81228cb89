//! The node of the script.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cmd::argv;
use crate::cmd::node_options::NodeOptions;

/// Directory of the node's data, beside the link.
pub(super) const DATA: &str = "data";

/// Configuration file beside the link, if there is one.
pub(super) const CONFIGURATION: &str = "martlet.toml";

/// The node of the script.
#[derive(Debug)]
pub(super) struct ManagedNode {
    /// Directory of the link, from the root; it is the working directory too.
    pub(super) directory: PathBuf,
}

impl ManagedNode {
    /// The directory of the link becomes the working directory, so that `.env` and relative paths
    /// of the configuration are found.
    pub(super) fn enter() -> anyhow::Result<Self> {
        let directory = match argv::link_directory(argv::MANAGE_SCRIPT) {
            Some(directory) => directory,
            None => PathBuf::from("."),
        };
        let directory = std::path::absolute(&directory)?;
        std::env::set_current_dir(&directory)
            .with_context(|| format!("cannot enter {}", directory.display()))?;
        Ok(Self { directory })
    }

    pub(super) fn data(&self) -> PathBuf {
        self.directory.join(DATA)
    }

    pub(super) fn configuration(&self) -> Option<PathBuf> {
        let path = self.directory.join(CONFIGURATION);
        path.is_file().then_some(path)
    }

    pub(super) fn node(&self) -> NodeOptions {
        NodeOptions::of_script(self.data(), self.configuration())
    }

    /// Runs a command of Martlet for this node.
    pub(super) fn run(&self, words: &[&str]) -> ExitCode {
        let mut all: Vec<OsString> = words.iter().map(OsString::from).collect();
        all.extend(["--data-dir".into(), self.data().into()]);
        if let Some(path) = self.configuration() {
            all.extend(["-c".into(), path.into()]);
        }
        crate::run_words(all)
    }
}
