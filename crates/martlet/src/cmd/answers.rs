//! Output of commands in the requested format.

use martlet_control::text::printable;
use serde_json::Value;

use crate::cmd::columns::columns;
use crate::cmd::listing;
use crate::cmd::node_and_form::NodeAndForm;

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
