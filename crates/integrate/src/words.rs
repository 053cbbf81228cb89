//! Texts of errors of other crates.

use std::error::Error;

/// The text of an error and its causes, each only once.
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

/// A count with its noun in the right number.
pub fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// Error when the rules of a user or device forbid publishing a message.
pub fn not_permitted(name: &str, topic: &str) -> String {
    format!("the rules of {name:?} do not permit it to publish to {topic:?}")
}
