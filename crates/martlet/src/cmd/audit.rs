//! `martlet audit`: which caller changed what.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::cmd::answers::listed;
use crate::cmd::door::Door;
use crate::cmd::listing;
use crate::cmd::node_options::NodeAndForm;
use crate::cmd::role;
use crate::cmd::view::{text, time};

/// Arguments of `martlet audit`.
#[derive(Args, Debug)]
pub(crate) struct AuditCommand {
    /// Only actions of this caller: ada, or as in the output, user:ada, key:ID, device:ID, "uid 0"
    #[arg(long, value_name = "WHO")]
    who: Option<String>,
    /// Only this action; device. means all actions that begin with it
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only changes of objects of this kind, such as device
    #[arg(long, value_name = "KIND")]
    object_kind: Option<String>,
    /// Only changes of the object with this id
    #[arg(long, value_name = "ID")]
    object_id: Option<String>,
    /// Only changes at this time (RFC 3339) or later
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only changes before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// Show the newest N lines
    #[arg(long, short = 'n', value_name = "N", default_value = "100")]
    limit: NonZeroUsize,
    #[command(flatten)]
    on: NodeAndForm,
}

/// Runs `martlet audit`.
pub(crate) fn audit(options: &AuditCommand) -> ExitCode {
    role::finish(try_audit(options))
}

fn try_audit(options: &AuditCommand) -> anyhow::Result<String> {
    let AuditCommand { limit, on, .. } = options;
    let filters = [
        ("who", &options.who),
        ("action", &options.action),
        ("object_kind", &options.object_kind),
        ("object_id", &options.object_id),
        ("from", &options.from),
        ("before", &options.before),
    ];
    let filters = filters
        .iter()
        .filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    let filters: Vec<_> = filters.collect();
    let (found, total) = Door::of(&on.node)?.items("/api/v1/audit", &filters, limit.get())?;
    if on.json {
        return listing::first_of(&found, total);
    }
    let row = |line: &Value| {
        [
            time(line, "at"),
            text(line, "who"),
            text(line, "action"),
            text(line, "object_id"),
            text(line, "outcome"),
            text(line, "changed"),
        ]
    };
    let headers = ["TIME", "WHO", "ACTION", "OBJECT", "OUTCOME", "CHANGED"];
    Ok(listed(on, headers, found, row, "There are no entries."))
}
