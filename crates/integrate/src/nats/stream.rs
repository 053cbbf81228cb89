//! The stream for messages: created if no stream has the subjects. An existing one is never
//! changed.

use async_nats::jetstream::Context;
use async_nats::jetstream::context::GetStreamByNameErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};

use super::settings::NewStream;
use crate::words::error_words;

/// Checks the name of a stream or consumer, from the key `key`.
///
/// # Errors
/// It is invalid; the reason.
pub(super) fn check_name(key: &str, name: &str) -> Result<(), String> {
    match name.is_empty() || name.contains(|c: char| c.is_whitespace() || ".*>/\\".contains(c)) {
        true => Err(format!(
            "`{key}` is {name:?}, expected a name without blanks, dots, *, > and slashes"
        )),
        false => Ok(()),
    }
}

/// Creates the stream if no stream has a subject that matches the filter.
///
/// # Errors
/// JetStream does not answer, or does not create it; the reason.
pub(super) async fn create_if_none(
    jetstream: &Context,
    new: &NewStream,
    filter: Result<String, String>,
) -> Result<(), String> {
    // A subject that begins with a field has no usable filter.
    let Ok(filter) = filter else {
        return Ok(());
    };
    if is_taken(jetstream, &filter).await? {
        return Ok(());
    }
    let config = Config {
        name: new.name.to_string(),
        subjects: vec![filter.clone()],
        max_age: new.max_age,
        max_bytes: new.max_bytes,
        duplicate_window: new.duplicates,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        ..Config::default()
    };
    match jetstream.create_stream(config).await {
        Ok(_) => {
            tracing::info!(
                stream = &*new.name,
                subjects = filter,
                "created a stream of NATS"
            );
            Ok(())
        }
        Err(error) => Err(format!(
            "no stream contains {filter:?}, and the stream {:?} cannot be created: {}",
            new.name,
            error_words(&error)
        )),
    }
}

/// Tests whether JetStream answers.
///
/// # Errors
/// It does not; the reason.
pub(super) async fn reach(jetstream: &Context) -> Result<(), String> {
    is_taken(jetstream, "martlet").await.map(drop)
}

/// Checks that a stream has a subject that matches the filter; an empty filter is not checked.
///
/// # Errors
/// No stream has one, or JetStream does not answer; the reason.
pub(super) async fn expect(jetstream: &Context, filter: &str) -> Result<(), String> {
    match filter.is_empty() || is_taken(jetstream, filter).await? {
        true => Ok(()),
        false => Err(format!(
            "no stream contains the subject {filter:?}: add it to the subjects of a stream"
        )),
    }
}

/// Whether a stream has a subject that matches the filter.
async fn is_taken(jetstream: &Context, filter: &str) -> Result<bool, String> {
    match jetstream.stream_by_subject(filter).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!(
            "JetStream does not answer; is it enabled? {}",
            error_words(&error)
        )),
    }
}
