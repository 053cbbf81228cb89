//! How many requests came by HTTP, how they were answered, and how long that took: for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds in seconds.
const BUCKETS: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// Requests since the start.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    requests: Family<AnswerLabel, Counter>,
    durations: Family<MethodLabel, Histogram>,
    /// All requests, and those that were answered with 400 or more.
    totals: Arc<[AtomicU64; 2]>,
    /// Messages that requests published, and those that could not be published.
    messages: Arc<[AtomicU64; 2]>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabel {
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            totals: Arc::default(),
            messages: Arc::default(),
        }
    }
}

impl Counts {
    /// A request was answered; of a stream, its beginning.
    pub(crate) fn note(&self, method: &Method, status: StatusCode, took: Duration) {
        let method = name_of(method);
        let is_error = status.is_client_error() || status.is_server_error();
        let [requests, errors] = &*self.totals;
        requests.fetch_add(1, Ordering::Relaxed);
        errors.fetch_add(u64::from(is_error), Ordering::Relaxed);
        let status = status.as_u16();
        self.requests
            .get_or_create(&AnswerLabel { method, status })
            .inc();
        let durations = self.durations.get_or_create(&MethodLabel { method });
        durations.observe(took.as_secs_f64());
    }

    /// All requests, and those that were answered with an error.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let [requests, errors] = &*self.totals;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(requests), count(errors))
    }

    /// Counts messages that requests published, and those that they failed to publish.
    pub(crate) fn note_messages(&self, published: usize, failed: usize) {
        for (count, more) in self.messages.iter().zip([published, failed]) {
            count.fetch_add(u64::try_from(more).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Messages that requests published, and those that could not be published.
    pub(crate) fn messages(&self) -> (u64, u64) {
        let [published, failed] = &*self.messages;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(published), count(failed))
    }

    /// Puts them on a page.
    pub(crate) fn register(&self, page: &mut Registry) {
        let help = "HTTP requests that were answered, by method and status";
        page.register("http_requests", help, self.requests.clone());
        let help = "Time to the answer of an HTTP request, or to the beginning of a stream";
        let (name, durations) = ("http_request_duration", self.durations.clone());
        page.register_with_unit(name, help, Unit::Seconds, durations);
    }
}

/// A caller cannot make up a label.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
