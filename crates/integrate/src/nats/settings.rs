//! Settings of a NATS sink.

use std::time::Duration;

use super::server::ServerSettings;
use super::subject::SubjectTemplate;

/// Settings of a NATS sink.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// Name of the sink.
    pub name: Box<str>,
    /// How it connects.
    pub server: ServerSettings,
    /// The stream that is created if none takes the subjects.
    pub stream: Option<NewStream>,
    /// Subjects of messages.
    pub subject: SubjectTemplate,
    /// Key-value bucket that has the retained messages; none: messages have subjects.
    pub bucket: Option<Bucket>,
    /// Whether JetStream acknowledges messages.
    pub uses_jetstream: bool,
    /// Content Type of messages that have none.
    pub content_type: Option<Box<str>>,
    /// Whether each message has a line in the log.
    pub logs_messages: bool,
    /// Whether nothing is sent after a message that was refused: `on_reject` is `stop`.
    pub stops_at_refusal: bool,
}

/// A key-value bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Its name.
    pub name: Box<str>,
    /// Its size, if it is created; none: no limit.
    pub max_bytes: Option<i64>,
}

/// A stream to be created.
#[derive(Clone, Debug)]
pub struct NewStream {
    /// Its name.
    pub name: Box<str>,
    /// Age at which it drops messages.
    pub max_age: Duration,
    /// Size at which it drops the oldest.
    pub max_bytes: i64,
    /// Time in which it recognises duplicates.
    pub duplicates: Duration,
}
