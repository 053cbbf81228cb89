//! Values as they are stored, as server-sent events.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use martlet_control::callers::Caller;
use martlet_control::principal::Scope;
use martlet_control::shared_slots::SharedSlot;
use martlet_control::telemetry::{Point, Tail, TailEnd, time_text};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use utoipa::IntoParams;

use super::device::keys_of;
use super::of_node::telemetry_of;
use super::query::{Devices, selected};
use super::view::{DeviceReadingView, id_of, json_of};
use crate::api::{Api, TAILS_MAX};
use crate::connection::HttpConnection;
use crate::extract::QueryOf;
use crate::guard;
use crate::problem::Problem;
use crate::registry::{CalledBy, within};

/// Interval of heartbeats, at which the rights of the reader are checked, too.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// After a change of the tables the rights are read again at most once in this interval.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which values.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TailParams {
    /// Ids of devices with commas between them.
    device: Option<String>,
    /// Devices of this group, by id or name.
    group: Option<String>,
    /// Devices with this tag.
    tag: Option<String>,
    /// Devices of this type.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    device_type: Option<String>,
    /// Keys with commas between them. Default: all.
    keys: Option<String>,
    /// Only devices of this team, by id or name.
    team: Option<String>,
}

/// Telemetry as it is stored
///
/// The values of devices as they are stored, as server-sent events: each is
/// `data: {"device": …, "time": …, "key": …, "value": …}`. A reader that is too slow gets an event
/// `gone`, and values are missing there. The stream ends when the reader loses the right, or when
/// one of the devices is removed.
#[utoipa::path(get, path = "/api/v1/telemetry/tail", tag = "telemetry", params(TailParams),
    responses((status = 200, description = "The values", body = DeviceReadingView,
        content_type = "text/event-stream")))]
pub(crate) async fn tail(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(wanted): QueryOf<TailParams>,
    request: Request,
) -> Result<Response, Problem> {
    let telemetry = telemetry_of(&api)?;
    let slot = api.telemetry_tails.try_take(&caller.visibility());
    let slot = slot.map_err(|taken| {
        let whose = if taken < TAILS_MAX {
            " of this team"
        } else {
            ""
        };
        let detail = format!("{taken} readers{whose} follow telemetry already: try again later");
        Problem::unavailable(detail)
    })?;
    let caller = within(&api, caller, wanted.team.as_deref()).await?;
    let devices = wanted.devices();
    let ids = selected(&api, &caller, &devices).await?;
    let keys = keys_of(wanted.keys.as_deref())?;
    let keys = keys.map(|keys| keys.iter().map(|key| key.as_str().into()).collect());
    let numbers: HashSet<i64> = ids.keys().copied().collect();
    let (parts, _) = request.into_parts();
    let changes = api.tables()?.changes();
    let source = TailState {
        tail: telemetry.follow(numbers, keys),
        ids,
        caller,
        devices,
        changes,
        beats: heartbeats(),
        looked: Instant::now(),
        parts,
        api,
        is_over: false,
        _slot: slot,
    };
    let first = futures_util::stream::iter([Ok(Bytes::from_static(b"retry: 1000\n\n"))]);
    let chunks = futures_util::stream::unfold(source, |mut source| async move {
        let chunk = source.next().await?;
        Some((Ok::<Bytes, Infallible>(chunk), source))
    });
    let chunks = futures_util::StreamExt::chain(first, chunks);
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        ),
        // Proxies pass it on as it comes.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

impl TailParams {
    fn devices(&self) -> Devices {
        Devices {
            number: None,
            device: self.device.clone(),
            group: self.group.clone(),
            tag: self.tag.clone(),
            device_type: self.device_type.clone(),
        }
    }
}

fn heartbeats() -> Interval {
    let mut beats = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// Parts that a stream is made from.
struct TailState {
    tail: Tail,
    ids: HashMap<i64, String>,
    api: Api,
    caller: Caller,
    devices: Devices,
    parts: Parts,
    changes: watch::Receiver<()>,
    beats: Interval,
    looked: Instant,
    is_over: bool,
    _slot: SharedSlot,
}

impl TailState {
    /// The next chunk; none: the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        loop {
            tokio::select! {
                // What has changed may take the right to the next values.
                biased;
                changed = self.changes.changed() => {
                    changed.ok()?;
                    tokio::time::sleep_until(self.looked + LOOK_EVERY).await;
                    if let Some(end) = self.end_if_changed().await {
                        return Some(end);
                    }
                }
                _ = self.beats.tick() => {
                    return Some(match self.end_if_changed().await {
                        Some(end) => end,
                        None => Bytes::from_static(b":\n\n"),
                    });
                }
                points = self.tail.next() => match points {
                    Ok(points) => return Some(self.events(&points)),
                    Err(TailEnd::Behind) => {
                        return Some(gap_line("too slow: values are missing here"));
                    }
                    Err(TailEnd::Stopped) => return None,
                }
            }
        }
    }

    /// The last chunk, if the reader may not read the devices any more, or they are others.
    async fn end_if_changed(&mut self) -> Option<Bytes> {
        self.looked = Instant::now();
        self.changes.mark_unchanged();
        let connection = self.parts.extensions.get::<HttpConnection>().copied();
        let connection = connection.unwrap_or(HttpConnection::UNKNOWN);
        let now = guard::still(&self.api, Scope::TelemetryRead, connection, &self.parts).await;
        let why = match now {
            None => "the right to read telemetry has ended",
            Some(_) => match selected(&self.api, &self.caller, &self.devices).await {
                Ok(ids) if ids == self.ids => return None,
                _ => "the devices have changed: send the request again",
            },
        };
        self.is_over = true;
        Some(gap_line(why))
    }

    fn events(&self, points: &[Point]) -> Bytes {
        let mut text = String::new();
        for point in points {
            let view = DeviceReadingView {
                device: id_of(point.device, &self.ids),
                time: time_text(point.time),
                key: point.key.to_string(),
                value: json_of(&point.value),
            };
            // Texts and numbers always become JSON.
            let json = serde_json::to_string(&view).unwrap_or_default();
            text.push_str(&format!("data: {json}\n\n"));
        }
        text.into()
    }
}

fn gap_line(why: &str) -> Bytes {
    let json = serde_json::json!({ "why": why });
    format!("event: gone\ndata: {json}\n\n").into()
}
