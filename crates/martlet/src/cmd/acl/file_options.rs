//! Selects the ACL file of a command.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use martlet_access::{AclFile, Subscribing};

use crate::cmd::node_options::NodeOptions;
use crate::config::{self, regular_file};

/// Which ACL file.
#[derive(Args, Debug)]
pub(super) struct FileOptions {
    /// Check only this ACL file
    #[arg(long, value_name = "FILE")]
    pub(super) acl_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) node: NodeOptions,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl FileOptions {
    /// Reads the given file, or else the configured one, if any.
    pub(super) fn read(&self, named: Option<&Path>) -> anyhow::Result<Option<AclFile>> {
        let (path, subscribing) = match named.or(self.acl_file.as_deref()) {
            // A given file can be checked without a valid configuration.
            Some(path) => {
                let effective = self.node.load();
                let subscribing = effective.map_or_else(
                    |_| Subscribing::default(),
                    |found| config::subscribing(&found),
                );
                (path.display().to_string(), subscribing)
            }
            None => {
                let effective = self.node.load()?;
                (
                    effective.settings().auth.acl_file.clone(),
                    config::subscribing(&effective),
                )
            }
        };
        if path.is_empty() {
            return Ok(None);
        }
        let text = regular_file::read_named_text(Path::new(&path))
            .with_context(|| format!("cannot read {path}"))?;
        Ok(Some(AclFile::parse(&path, &text, subscribing)?))
    }
}
