//! Errors of other crates in words.

use std::error::Error;

/// An error with its causes, each of which is named once.
pub fn error_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Why the rules of a user or device keep a message from being published.
pub fn not_permitted(name: &str, topic: &str) -> String {
    format!("the rules of {name:?} do not permit it to publish to {topic:?}")
}
