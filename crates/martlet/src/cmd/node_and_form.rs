//! Selects the node of a command and the output format.

use clap::Args;

use crate::cmd::node_options::NodeOptions;

#[derive(Args, Debug)]
pub(crate) struct NodeAndForm {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
