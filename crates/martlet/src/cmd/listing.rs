//! Output of lists as JSON, in the form of the API's pages.
//!
//! Responsible for that form. The items are generic.

use serde::Serialize;
use serde_json::Value;

/// A list, and the total number of items if it was truncated.
#[derive(Serialize)]
struct List<T> {
    items: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

/// All items of a list, as one line of JSON.
pub(crate) fn items(items: impl IntoIterator<Item = Value>) -> String {
    let items: Vec<Value> = items.into_iter().collect();
    let list = List { items, total: None };
    // Contains only texts and numbers, so this cannot fail.
    let text = serde_json::to_string(&list).unwrap_or_default();
    format!("{text}\n")
}

/// The first items of a list of `total` items, as one line of JSON.
///
/// # Errors
/// An item cannot be serialized.
pub(crate) fn first_of<T: Serialize>(items: &[T], total: u64) -> anyhow::Result<String> {
    let total = Some(total);
    let text = serde_json::to_string(&List { items, total })?;
    Ok(format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_has_the_form_of_a_page() {
        assert_eq!(items([]), "{\"items\":[]}\n");
        assert_eq!(items([json!({"a": 1})]), "{\"items\":[{\"a\":1}]}\n");
        let found = first_of(&[1, 2], 7).unwrap();
        assert_eq!(found, "{\"items\":[1,2],\"total\":7}\n");
    }
}
