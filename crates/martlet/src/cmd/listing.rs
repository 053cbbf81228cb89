//! Output of lists as JSON, in the form of the API's pages.
//!
//! Responsible for that form and for its times. The items are generic.

use martlet_api::time::Moment;
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

/// A time in RFC 3339; null if there is none.
pub(crate) fn time(ms: i64) -> Value {
    let moment = Moment::from_ms(ms).filter(|_| ms > 0);
    let value = moment.map(serde_json::to_value);
    value.and_then(Result::ok).unwrap_or_default()
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
        assert_eq!(time(0), Value::Null);
        assert_eq!(time(1_000), json!("1970-01-01T00:00:01.000000Z"));
    }
}
