//! A key-value bucket with the retained messages: a key for each topic, and a delete marker for
//! each removed one.

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};

use super::subject::SUBJECT_BYTES_MAX;
use crate::words::error_words;

/// Header with the operation on a key.
pub(super) const OPERATION: &str = "KV-Operation";
/// Value of that header for a removed key.
pub(super) const REMOVED: &str = "DEL";

/// Whether a bucket may have this name.
pub(super) fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !name.is_empty() && name.bytes().all(is_letter)
}

/// The subject of a topic in a bucket.
///
/// # Errors
/// It is too long.
pub(super) fn subject(bucket: &str, topic: &str) -> Result<String, String> {
    let subject = format!("$KV.{bucket}.{}", key(topic));
    match subject.len() {
        0..=SUBJECT_BYTES_MAX => Ok(subject),
        bytes => Err(format!(
            "its key would have {bytes} bytes with its bucket, at most {SUBJECT_BYTES_MAX} are \
             accepted"
        )),
    }
}

/// The topic of a subject in a bucket; `None`: [`subject`] does not produce this subject.
pub(super) fn topic(bucket: &str, subject: &str) -> Option<String> {
    let key = subject.strip_prefix("$KV.")?.strip_prefix(bucket)?;
    let key = key.strip_prefix('.')?;
    let mut topic = Vec::new();
    for (at, level) in key.split('.').enumerate() {
        if at > 0 {
            topic.push(b'/');
        }
        let mut bytes = level.bytes();
        while level != "="
            && let Some(byte) = bytes.next()
        {
            topic.push(match byte {
                b'=' => {
                    let digits = [bytes.next()?, bytes.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                byte => byte,
            });
        }
    }
    String::from_utf8(topic).ok()
}

/// All subjects of a bucket.
pub(super) fn subjects(bucket: &str) -> String {
    format!("$KV.{bucket}.>")
}

/// Name of the stream of a bucket.
pub(super) fn stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The key of a topic: one token per level. Keys may contain only letters, digits, `-`, `_`, `/`,
/// `=` and `.`, so other bytes are escaped as `=XX`, and an empty level is `=`.
fn key(topic: &str) -> String {
    let mut key = String::new();
    for (at, level) in topic.split('/').enumerate() {
        if at > 0 {
            key.push('.');
        }
        if level.is_empty() {
            key.push('=');
        }
        for byte in level.bytes() {
            // Keys that begin with _kv are reserved by NATS.
            let is_reserved = key.is_empty() && byte == b'_';
            match byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
                true if !is_reserved => key.push(char::from(byte)),
                _ => key.push_str(&format!("={byte:02X}")),
            }
        }
    }
    key
}

/// Creates the bucket if it does not exist. An existing one is never changed.
///
/// # Errors
/// JetStream does not answer, or does not create it; the reason.
pub(super) async fn create_if_none(
    jetstream: &Context,
    bucket: &str,
    max_bytes: Option<i64>,
) -> Result<(), String> {
    let cannot = |error: &dyn std::error::Error| {
        format!(
            "the bucket {bucket:?} cannot be used: {}",
            error_words(error)
        )
    };
    // The stream of a bucket. The function of the client library does not parse the answers of
    // servers before 2.10.
    let name = stream(bucket);
    match jetstream.get_stream(&name).await {
        Ok(_) => return Ok(()),
        Err(error) if is_missing(&error.kind()) => {}
        Err(error) => return Err(cannot(&error)),
    }
    let config = Config {
        name,
        subjects: vec![subjects(bucket)],
        max_messages_per_subject: 1,
        max_bytes: max_bytes.unwrap_or(-1),
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    };
    let made = jetstream.create_stream(config).await;
    made.map_err(|error| cannot(&error))?;
    tracing::info!(bucket, "created a key-value bucket of NATS");
    Ok(())
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    let code = match kind {
        GetStreamErrorKind::JetStream(error) => error.error_code(),
        _ => return false,
    };
    code == ErrorCode::STREAM_NOT_FOUND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_has_a_key_of_its_own() {
        for (topic, expected) in [
            ("plant/1/t", "plant.1.t"),
            ("a.b/c d", "a=2Eb.c=20d"),
            ("/a//", "=.a.=.="),
            ("a=b", "a=3Db"),
            ("ü/*", "=C3=BC.=2A"),
            ("_kv/_x", "=5Fkv._x"),
        ] {
            assert_eq!(key(topic), expected, "{topic}");
            let subject = subject("b", topic).expect("a subject");
            assert_eq!(super::topic("b", &subject).as_deref(), Some(topic));
        }
        assert!(subject("b", &"ü".repeat(500)).is_err());
        assert!(is_name("retained-1") && !is_name("a.b") && !is_name(""));
    }
}
