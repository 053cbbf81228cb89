//! Changes of JSON objects by merge patch (RFC 7396), and what is different between two of them.

use serde_json::{Map, Value};

/// Members of an object by name.
pub type Values = Map<String, Value>;

/// Applies a merge patch: members of the patch replace those of the same name, `null` removes a
/// member, and objects are merged in turn.
pub(super) fn merge(values: &mut Values, patch: &Values) {
    for (name, change) in patch {
        match change {
            Value::Null => {
                values.remove(name);
            }
            Value::Object(change) => {
                let member = values.entry(name.clone()).or_insert(Value::Null);
                if !member.is_object() {
                    *member = Value::Object(Values::new());
                }
                if let Value::Object(member) = member {
                    merge(member, change);
                }
            }
            other => {
                values.insert(name.clone(), other.clone());
            }
        }
    }
}

/// The desired values that the reported values do not have. Members that only the reported values
/// have are no difference: a device may report more than it gets.
pub(super) fn difference(desired: &Values, reported: &Values) -> Values {
    let mut found = Values::new();
    for (name, wanted) in desired {
        match (wanted, reported.get(name)) {
            (Value::Object(wanted), Some(Value::Object(has))) => {
                let inner = difference(wanted, has);
                if !inner.is_empty() {
                    found.insert(name.clone(), Value::Object(inner));
                }
            }
            (wanted, Some(has)) if is_same(wanted, has) => {}
            (wanted, _) => {
                found.insert(name.clone(), wanted.clone());
            }
        }
    }
    found
}

/// Equal values. Numbers are compared by what they are: a device may write 30 as 30.0.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || (one.is_f64() || other.is_f64()) && one.as_f64() == other.as_f64()
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, one)| other.get(name).is_some_and(|other| is_same(one, other)))
        }
        (one, other) => one == other,
    }
}

/// Number of levels of objects and arrays; 0 for an object without members.
pub(super) fn depth(values: &Values) -> usize {
    values.values().map(depth_of).max().unwrap_or(0)
}

fn depth_of(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => depth(members),
        Value::Array(items) => items.iter().map(depth_of).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values(value: Value) -> Values {
        match value {
            Value::Object(values) => values,
            other => panic!("{other} is not an object"),
        }
    }

    fn merged(target: Value, patch: Value) -> Value {
        let mut target = values(target);
        merge(&mut target, &values(patch));
        Value::Object(target)
    }

    /// The cases of appendix A of RFC 7396 whose target and patch are objects.
    #[test]
    fn a_merge_patch_is_applied_as_its_document_says() {
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b"}),
                json!({"b": "c"}),
                json!({"a": "b", "b": "c"}),
            ),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (
                json!({"a": "b", "b": "c"}),
                json!({"a": null}),
                json!({"b": "c"}),
            ),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (
                json!({"a": [{"b": "c"}]}),
                json!({"a": [1]}),
                json!({"a": [1]}),
            ),
            (
                json!({"e": null}),
                json!({"a": 1}),
                json!({"e": null, "a": 1}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            assert_eq!(
                merged(target.clone(), patch.clone()),
                expected,
                "{target} {patch}"
            );
        }
    }

    #[test]
    fn a_difference_is_what_the_device_lacks() {
        let of = |desired, reported| Value::Object(difference(&values(desired), &values(reported)));
        assert_eq!(of(json!({"a": 1}), json!({})), json!({"a": 1}));
        assert_eq!(of(json!({"a": 30}), json!({"a": 30.0, "b": 2})), json!({}));
        assert_eq!(
            of(
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"b": 1, "c": 3}})
            ),
            json!({"a": {"c": 2}})
        );
        assert_eq!(
            of(json!({"a": {"b": 1}}), json!({"a": 7})),
            json!({"a": {"b": 1}})
        );
        assert_eq!(
            of(json!({"a": [1, 2]}), json!({"a": [2, 1]})),
            json!({"a": [1, 2]})
        );
        assert_eq!(of(json!({"a": {}}), json!({})), json!({"a": {}}));
    }

    #[test]
    fn a_device_that_applies_a_difference_has_none() {
        let desired = values(json!({"a": {"b": [1], "c": {"d": "x"}}, "e": 2.5}));
        for reported in [
            json!({}),
            json!({"a": 1}),
            json!({"a": {"c": {"z": 1}}, "e": 2}),
        ] {
            let mut reported = values(reported);
            let delta = difference(&desired, &reported);
            merge(&mut reported, &delta);
            assert_eq!(difference(&desired, &reported), Values::new());
        }
    }

    #[test]
    fn levels_are_counted() {
        assert_eq!(depth(&values(json!({}))), 0);
        assert_eq!(depth(&values(json!({"a": 1}))), 1);
        assert_eq!(depth(&values(json!({"a": [{"b": []}], "c": 1}))), 3);
    }
}
