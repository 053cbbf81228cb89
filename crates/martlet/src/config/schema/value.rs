//! Values for output.

use martlet_control::text::masked_target;
use martlet_settings::{Value, refers_alone};

/// A value for output: secrets in a URL are masked.
pub(crate) fn shown(value: &Value) -> Value {
    match value {
        Value::Text(text) => Value::Text(masked_target(text)),
        value => value.clone(),
    }
}

/// A value for output, of a key of a sink: potential secrets are masked, references to secrets are
/// not.
pub(crate) fn shown_of_sink(value: &Value) -> Value {
    match value {
        Value::Secret(text) if refers_alone(text.expose()) => Value::Text(text.expose().to_owned()),
        // The path of many webhooks is a secret; with a reference, the whole path is masked.
        value => shown(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_sink_references_to_secrets_are_shown_and_no_others() {
        let key = Value::Secret("known".to_owned().into());
        assert!(!shown_of_sink(&key).to_string().contains("known"));
        let key = Value::Secret("${secret:k}".to_owned().into());
        assert_eq!(shown_of_sink(&key), Value::Text("${secret:k}".to_owned()));
    }
}
