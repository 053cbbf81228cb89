//! Settings of a NATS sink.

use std::time::Duration;

use super::server::ServerSettings;
use super::subject::SubjectTemplate;

/// Settings of a NATS sink.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// Name of the sink.
    pub name: Box<str>,
    /// Settings of the connection.
    pub server: ServerSettings,
    /// The stream to create if no stream has the subjects.
    pub stream: Option<NewStream>,
    /// Subjects of messages.
    pub subject: SubjectTemplate,
    /// Key-value bucket with the retained messages; `None`: messages have subjects.
    pub bucket: Option<Bucket>,
    /// Whether JetStream acknowledges messages.
    pub uses_jetstream: bool,
    /// Content Type of messages that have none.
    pub content_type: Option<Box<str>>,
    /// Whether each message is logged.
    pub logs_messages: bool,
    /// Whether nothing is sent after a refused message: `on_reject` is `stop`.
    pub stops_at_refusal: bool,
}

/// A key-value bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Name of the bucket.
    pub name: Box<str>,
    /// Maximum size of the bucket, if it is created; `None`: no limit.
    pub max_bytes: Option<i64>,
}

/// Settings of a stream to create.
#[derive(Clone, Debug)]
pub struct NewStream {
    /// Name of the stream.
    pub name: Box<str>,
    /// Age at which messages are dropped.
    pub max_age: Duration,
    /// Size at which the oldest messages are dropped.
    pub max_bytes: i64,
    /// Window for detecting duplicates.
    pub duplicates: Duration,
}
