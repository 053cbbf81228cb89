//! Limits of requests: all of a device, its heartbeats and telemetry, registrations of an address.
//! Administrators have none.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;

use crate::api::Api;
use crate::compat::time::MomentUs;
use crate::connection::HttpConnection;
use crate::extensions::OwnDevice;
use crate::rate::{RateAnswer, name_of};

/// Requests that are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Requests of a device, which each of the others counts too.
    Requests,
    /// Registrations from an address: 10 in 5 minutes.
    Registrations,
    /// Heartbeats of a device: 30 in a minute.
    Heartbeats,
    /// Telemetry of a device: 100 in a minute.
    Telemetry,
}

/// Handlers behind their limit, after the caller is known.
pub(super) fn limited(api: &Api, limit: Limit, methods: MethodRouter<Api>) -> MethodRouter<Api> {
    methods.route_layer(from_fn_with_state((api.clone(), limit), check))
}

async fn check(State((api, limit)): State<(Api, Limit)>, request: Request, next: Next) -> Response {
    let limits = &api.route_limits;
    let now = Instant::now();
    let own = request.extensions().get::<OwnDevice>();
    let own = own.map(|own| own.0.number.to_string());
    let of_all = own.as_ref().and_then(|own| limits.requests.take(own, now));
    let is_beyond = of_all.is_some_and(|of_all| of_all.wait.is_some());
    let taken = match limit {
        _ if is_beyond => of_all,
        Limit::Requests => of_all,
        Limit::Registrations => {
            let connection = request.extensions().get::<HttpConnection>();
            let address = connection.and_then(|connection| connection.peer);
            limits.registrations.take(&name_of(address), now)
        }
        Limit::Heartbeats | Limit::Telemetry => {
            let rates = match limit {
                Limit::Telemetry => &limits.telemetry,
                _ => &limits.heartbeats,
            };
            own.as_ref().and_then(|own| rates.take(own, now))
        }
    };
    let Some(taken) = taken else {
        return next.run(request).await;
    };
    let mut answer = match taken.refusal() {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    write(&taken, answer.headers_mut());
    answer
}

/// As the system has it: the end of the window is a time, in seconds since the Unix epoch.
fn write(taken: &RateAnswer, headers: &mut HeaderMap) {
    let now_secs = u64::try_from(MomentUs::now().as_ms() / 1000).unwrap_or(0);
    for (name, value) in [
        ("x-ratelimit-limit", taken.limit),
        ("x-ratelimit-remaining", taken.remaining),
        ("x-ratelimit-reset", now_secs + taken.reset.as_secs()),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
}
