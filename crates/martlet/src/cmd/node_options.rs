//! Which node a command is about: what `status`, `clients`, `stop`, `backup` and `store` share.
//!
//! Responsible for finding its data directory, as the node itself finds it. It does not know
//! whether the node runs.

use std::path::PathBuf;

use clap::Args;

use crate::cmd::admin::encoded;
use crate::config;
use crate::serve::ConfigOptions;

/// Which node.
#[derive(Args, Debug)]
pub(crate) struct NodeOptions {
    /// Data directory of the node
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file of the node
    #[arg(long, short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Among whose devices, clients and topics.
#[derive(Args, Debug)]
pub(crate) struct TeamOption {
    /// Look among what belongs to this team, by id or name: needed where it owns a tenant
    #[arg(long, value_name = "TEAM")]
    pub(crate) team: Option<String>,
}

impl TeamOption {
    /// As a parameter of what is asked of the API.
    pub(crate) fn filter(&self) -> Option<(&str, &str)> {
        self.team.as_deref().map(|team| ("team", team))
    }

    /// As the whole query.
    pub(crate) fn query(&self) -> String {
        let named = self.filter();
        named.map_or_else(String::new, |(name, team)| {
            format!("?{name}={}", encoded(team))
        })
    }
}

impl NodeOptions {
    /// The node's configuration.
    pub(crate) fn load(&self) -> anyhow::Result<config::Effective> {
        let options = ConfigOptions {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            ..ConfigOptions::default()
        };
        options.load_own()
    }

    /// The directory in which the node keeps everything.
    pub(crate) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        Ok(config::data_dir(&self.load()?)?)
    }
}
