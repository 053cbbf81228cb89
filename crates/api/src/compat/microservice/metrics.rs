//! `/metrics` as the microservice has it: JSON.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use martlet_control::Latencies;
use serde_json::json;

use crate::api::Api;
use crate::compat::CompatApi;
use crate::compat::time::Moment;
use crate::problem::Problem;

/// Whether a request gets this page: the microservice's routes are served, and the request or the
/// listener asks for JSON.
pub(crate) fn are_requested(api: &Api, headers: &HeaderMap) -> bool {
    let is_served = api.routes.compat.contains(&CompatApi::Microservice);
    let accepts = |kinds: &[&str]| {
        let values = headers.get_all(header::ACCEPT).iter();
        let values = values.filter_map(|value| value.to_str().ok());
        let mut ranges = values.flat_map(|value| value.split(','));
        ranges.any(|range| {
            let kind = range.split(';').next().unwrap_or_default().trim();
            kinds.iter().any(|known| kind.eq_ignore_ascii_case(known))
        })
    };
    let is_prometheus = || accepts(&["application/openmetrics-text", "text/plain"]);
    is_served
        && (accepts(&["application/json"]) || (api.routes.metrics_are_json && !is_prometheus()))
}

/// The page. Messages and connections are those of the node: `published` came in, by MQTT or by
/// HTTP, `received` went out to subscribers, `failed` were lost or refused.
///
/// # Errors
/// A shard does not answer in time.
pub(crate) async fn metrics(api: &Api) -> Result<Response, Problem> {
    let counters = api.control.snapshot().await?;
    let (requests, errors) = api.counts.totals();
    let (published, failed) = api.counts.messages();
    let page = json!({
        "messages": {
            "published": counters.publishes_received + published,
            "received": counters.publishes_sent,
            "failed": counters.lost_total() + counters.publishes_refused + failed,
        },
        "subscriptions": counters.subscriptions,
        "connections": {
            "attempts": counters.connects_accepted + counters.connects_refused,
            "failures": counters.connects_refused,
            "successes": counters.connects_accepted,
            "disconnections": counters.connects_accepted.saturating_sub(counters.connections),
        },
        "api": { "requests": requests, "errors": errors },
        "latency": {
            "publish": go_duration(mean(&api.control.latencies())),
            // A subscription is in force when its SUBACK is sent: there is no wait for another
            // broker.
            "subscribe": go_duration(Duration::ZERO),
        },
        "last_updated": Moment::now(),
    });
    Ok(([(header::VARY, "Accept")], Json(page)).into_response())
}

/// Mean time that messages were under way inside the node.
fn mean(shards: &[Latencies]) -> Duration {
    let count: u64 = { shards.iter() }
        .flat_map(|shard| &shard.buckets)
        .map(|(_, count)| count)
        .sum();
    let secs: f64 = shards.iter().map(|shard| shard.sum_secs).sum();
    match count {
        0 => Duration::ZERO,
        count => Duration::try_from_secs_f64(secs / count as f64).unwrap_or_default(),
    }
}

/// As Go writes durations below a minute: `15.2ms`.
fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos() as f64;
    let (number, unit) = match nanos {
        0.0 => return "0s".to_owned(),
        nanos if nanos < 1e3 => (nanos, "ns"),
        nanos if nanos < 1e6 => (nanos / 1e3, "µs"),
        nanos if nanos < 1e9 => (nanos / 1e6, "ms"),
        nanos => (nanos / 1e9, "s"),
    };
    let text = format!("{number:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let text = |nanos: u64| go_duration(Duration::from_nanos(nanos));
        assert_eq!(text(0), "0s");
        assert_eq!(text(15_200_000), "15.2ms");
        assert_eq!(text(250_000), "250µs");
        assert_eq!(text(999), "999ns");
        assert_eq!(text(1_500_000_000), "1.5s");
    }

    #[test]
    fn the_mean_is_that_of_all_shards() {
        let shard = |count: u64, sum_secs: f64| Latencies {
            buckets: vec![(0.001, count), (f64::INFINITY, 0)],
            sum_secs,
        };
        let shards = [shard(1, 0.003), shard(3, 0.001)];
        assert_eq!(mean(&shards), Duration::from_millis(1));
        assert_eq!(mean(&[]), Duration::ZERO);
    }
}
