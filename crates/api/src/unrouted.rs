//! Requests that no route took, because the Host, the path or the method is wrong, as events.

use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use martlet_broker::{EventHead, shortened};
use martlet_control::http_cause::HttpCause;

use crate::api::Api;
use crate::caller;
use crate::connection::HttpConnection;
use crate::keys;
use crate::refused_requests::{
    self, RequestName, device_of, head_of, is_within_limit, report_of_key,
};

/// Reports a request that no route took: its Host is not one of the node, or it shows a key of the
/// API or of a device, and its path or method is wrong. Other requests to wrong paths are from
/// anybody, and are many.
pub(crate) async fn report(api: &Api, request: &Parts, status: StatusCode) {
    let connection = request.extensions.get::<HttpConnection>();
    let connection = connection.copied().unwrap_or(HttpConnection::UNKNOWN);
    let name = RequestName::of(connection, request);
    let is_misdirected = status == StatusCode::MISDIRECTED_REQUEST;
    let key = keys::shown(&request.headers, &request.uri);
    if !(is_misdirected || key.is_some()) || !is_within_limit(api, &name) {
        return;
    }
    if is_misdirected {
        let host = request.headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        let why = format!("Host {:?} is not a name of this node", &*shortened(host));
        let why = (HttpCause::HostNotAllowed, why);
        return refused_requests::report(api, &name, EventHead::unknown(), why);
    }
    let why = match status {
        StatusCode::METHOD_NOT_ALLOWED => "the path exists with other methods",
        _ => "there is no such path",
    };
    let why = (HttpCause::RequestInvalid, why.to_owned());
    let called_by = caller::identify(api, connection, request, false).await;
    match called_by.map(|caller| caller.principal) {
        Ok(principal) => report_of_key(api, &name, &principal, why.0, &why.1),
        Err(_) => match device_of(api, key).await {
            Some(device) => refused_requests::report(api, &name, head_of(&device), why),
            None => refused_requests::report(api, &name, EventHead::unknown(), why),
        },
    }
}
