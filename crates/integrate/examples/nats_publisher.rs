//! A bare publisher to JetStream, with which `bench/nats` compares the sink. Sends the given
//! number of messages in windows of 1,000, each acknowledged before the next. `headers` adds the
//! headers of the sink.
//!
//!     nats_publisher URL SUBJECT MESSAGES PAYLOAD_BYTES [headers]

use std::error::Error;
use std::time::Instant;

use async_nats::HeaderMap;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::message::PublishMessage;

const WINDOW: usize = 1_000;
/// As long as the headers of the sink.
const HEADERS: &[(&str, &str)] = &[
    ("Mqtt-Topic", "plant/1"),
    ("Mqtt-Qos", "1"),
    ("Mqtt-Retain", "false"),
    ("Mqtt-Received-At", "2026-01-01T00:00:00.000Z"),
    ("Mqtt-Client-Id", "mosqpub-0123456789"),
    ("Mqtt-Via", "0123456789abcdef"),
];

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, subject, messages, bytes, more @ ..] = &arguments[..] else {
        return Err("expected URL SUBJECT MESSAGES PAYLOAD_BYTES [headers]".into());
    };
    let more = if more.is_empty() { &[] } else { HEADERS };
    let (messages, bytes): (usize, usize) = (messages.parse()?, bytes.parse()?);
    let client = async_nats::connect(url).await?;
    let jetstream = ContextBuilder::new().max_ack_inflight(65_535).build(client);
    let payload = vec![b'x'; bytes];
    let begin = Instant::now();
    let mut sent = 0;
    while sent < messages {
        let mut acknowledgements = Vec::with_capacity(WINDOW);
        for _ in 0..WINDOW.min(messages - sent) {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", format!("bare-{sent}").as_str());
            for (name, value) in more {
                headers.insert(*name, *value);
            }
            let publish = PublishMessage::build()
                .headers(headers)
                .payload(payload.clone().into());
            acknowledgements.push(jetstream.send_publish(subject.clone(), publish).await?);
            sent += 1;
        }
        for one in acknowledgements {
            one.await?;
        }
    }
    println!("{:.0}", messages as f64 / begin.elapsed().as_secs_f64());
    Ok(())
}
