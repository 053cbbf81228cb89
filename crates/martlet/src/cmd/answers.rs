//! Output of commands in the requested format.

use std::num::NonZeroUsize;

use clap::Args;
use martlet_control::text::printable;
use serde_json::Value;

use crate::cmd::columns::{columns, left_out};
use crate::cmd::door::Door;
use crate::cmd::listing;
use crate::cmd::node_options::NodeAndForm;

/// Options of commands that list objects: the number of objects, the node and the form.
#[derive(Args, Debug)]
pub(crate) struct ListForm {
    /// List the first N
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    #[command(flatten)]
    pub(super) on: NodeAndForm,
}

/// Items of a list of the API, and how many it has.
pub(super) struct Listed {
    pub(super) items: Vec<Value>,
    total: u64,
}

impl ListForm {
    /// Reads the items of a list.
    pub(super) fn read(
        &self,
        door: &Door<'_>,
        path: &str,
        filters: &[(&str, &str)],
    ) -> anyhow::Result<Listed> {
        let limit = self.limit.map_or(usize::MAX, NonZeroUsize::get);
        let (items, total) = door.items(path, filters, limit)?;
        Ok(Listed { items, total })
    }

    /// The items, as JSON or in columns.
    pub(super) fn show<const N: usize>(
        &self,
        list: Listed,
        headers: [&str; N],
        row: impl Fn(&Value) -> [String; N],
        none: &str,
    ) -> anyhow::Result<String> {
        if self.on.json && self.limit.is_some() {
            return listing::first_of(&list.items, list.total);
        }
        let count = list.items.len();
        let text = listed(&self.on, headers, list.items, row, none);
        Ok(match self.on.json {
            true => text,
            false => text + &left_out(count, list.total),
        })
    }
}

/// Items of a list, as JSON or in columns.
pub(super) fn listed<const N: usize>(
    on: &NodeAndForm,
    headers: [&str; N],
    items: Vec<Value>,
    row: impl Fn(&Value) -> [String; N],
    none: &str,
) -> String {
    match on.json {
        true => listing::items(items),
        false => columns(headers, items.iter().map(row), none),
    }
}

/// The result as JSON or as a line, followed by the note about the reload.
pub(super) fn done(on: &NodeAndForm, view: &Value, line: &str, reload_note: &str) -> String {
    match on.json {
        true => format!("{view}\n"),
        false => format!("{}\n{reload_note}", printable(line)),
    }
}
