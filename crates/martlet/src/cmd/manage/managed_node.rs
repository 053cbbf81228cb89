//! The node of the script.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cmd::argv;
use crate::cmd::node_options::NodeOptions;
use crate::config;

/// Data directory of the node, next to the link.
pub(super) const DATA: &str = "data";

/// Configuration file next to the link, if there is one.
pub(super) const CONFIGURATION: &str = "martlet.toml";

/// The node of the script.
#[derive(Debug)]
pub(super) struct ManagedNode {
    /// Absolute path of the link's directory; also the working directory.
    pub(super) directory: PathBuf,
}

impl ManagedNode {
    /// Changes the working directory to that of the link, so that `.env` and relative paths of the
    /// configuration are found.
    pub(super) fn enter() -> anyhow::Result<Self> {
        let directory = match argv::link_directory(argv::MANAGE_SCRIPT) {
            Some(directory) => directory,
            None => PathBuf::from("."),
        };
        let directory = std::path::absolute(&directory)?;
        std::env::set_current_dir(&directory)
            .with_context(|| format!("cannot enter {}", directory.display()))?;
        let managed = Self { directory };
        managed.node().note();
        Ok(managed)
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

    /// Waits until the database of the node answers, as its start does.
    ///
    /// # Errors
    /// It has not answered in time, or the configuration is invalid.
    pub(super) fn wait_for_database(&self) -> anyhow::Result<()> {
        config::wait_for_database(&self.node().load()?)?;
        Ok(())
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
