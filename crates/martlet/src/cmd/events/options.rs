//! Arguments of `martlet events`.

use clap::Args;

use crate::cmd::admin::AdminOptions;

/// Arguments of `martlet events`.
#[derive(Args, Debug)]
pub(crate) struct EventsOptions {
    #[command(flatten)]
    pub(super) admin: AdminOptions,
    /// Only events of this client
    #[arg(long, value_name = "CLIENT")]
    pub(super) client: Option<String>,
    /// Only events of this kind, repeatable: connected, refused, disconnected, subscribed,
    /// published, delivered, dropped, packet, … or all [default: events of clients, not of
    /// messages]
    #[arg(
        long = "type",
        visible_alias = "kind",
        alias = "kinds",
        short = 'k',
        value_name = "KIND",
        value_delimiter = ','
    )]
    pub(super) kinds: Vec<String>,
    /// Print an event for each message that was dropped because its session has ended, instead of
    /// one event with their number
    #[arg(long)]
    pub(super) each: bool,
    /// Also messages with a topic that this Topic Filter matches
    #[arg(long, value_name = "FILTER")]
    pub(super) topic: Option<String>,
    /// Only events of clients in the tenant of this team, by id or name [default: all teams]
    #[arg(long, value_name = "TEAM")]
    pub(super) team: Option<String>,
    /// Only refusals and losses
    #[arg(long, short = 't')]
    pub(super) trouble: bool,
    /// Begin at this time, or at the oldest event that is kept: 10m, 2h, 7d, or a time such as
    /// 2026-11-21T14:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Print archived events (events.archive_kinds), and exit. If no node runs, the files of the
    /// data directory are read [default for --since: 24h]
    #[arg(long, conflicts_with_all = ["trouble", "each"])]
    pub(super) archive: bool,
    /// End before this time, in the format of --since
    #[arg(long, value_name = "TIME", requires = "archive")]
    pub(super) until: Option<String>,
    /// Exit after this number of events
    #[arg(long, short = 'n', value_name = "N")]
    pub(super) count: Option<u64>,
}
