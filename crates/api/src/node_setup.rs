//! Setup of the node: listeners, certificates, the configuration.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use martlet_control::Control;
use martlet_control::facts::{CertificateFacts, Configuration, ListenerFacts};
use serde::Serialize;
use utoipa::ToSchema;

use crate::page::Items;
use crate::time::Moment;

/// Listeners
///
/// The listeners of the node, for MQTT and HTTP, and how many clients have connected to each.
#[utoipa::path(get, path = "/api/v1/listeners", tag = "node",
    responses((status = 200, description = "The whole list", body = Items<ListenerFacts>)))]
pub(crate) async fn listeners(State(control): State<Arc<Control>>) -> Json<Items<ListenerFacts>> {
    let mut all = control.node_facts().listeners.clone();
    let mut counts = control.clients_by_listener().into_iter();
    // Those for clients are in the order of the node's.
    for listener in all.iter_mut().filter(|found| found.protocol == "mqtt") {
        listener.connections = counts.next();
    }
    Json(Items { items: all })
}

/// A certificate in use.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CertificateView {
    /// The file that it was read from.
    file: String,
    /// Use of the certificate: `server`, or `client_ca`, which verifies certificates of clients.
    used_as: &'static str,
    /// Subject of the certificate.
    subject: String,
    /// Issuer of the certificate.
    issuer: String,
    /// DNS names, addresses, URIs and mail addresses that it is for.
    names: Vec<String>,
    /// Serial number, hexadecimal.
    serial: String,
    /// SHA-256 over all of it, hexadecimal with colons.
    fingerprint: String,
    /// Valid from.
    #[schema(value_type = Option<String>, format = DateTime)]
    not_before: Option<Moment>,
    /// Valid until.
    #[schema(value_type = Option<String>, format = DateTime)]
    not_after: Option<Moment>,
    /// Days until then; negative if it is over.
    days_left: i64,
}

const DAY_SECS: i64 = 24 * 60 * 60;

impl CertificateView {
    fn new(found: &CertificateFacts, now: Moment) -> Self {
        let at = |secs: i64| Moment::from_ms(secs.checked_mul(1000)?);
        let left = found.not_after_secs.saturating_sub(now.as_ms() / 1000);
        Self {
            file: found.file.clone(),
            used_as: found.used_as,
            subject: found.subject.clone(),
            issuer: found.issuer.clone(),
            names: found.names.clone(),
            serial: found.serial.clone(),
            fingerprint: found.fingerprint.clone(),
            not_before: at(found.not_before_secs),
            not_after: at(found.not_after_secs),
            days_left: left.div_euclid(DAY_SECS),
        }
    }
}

/// Certificates
///
/// Those that the node shows, and the authorities by which clients' are good. Of a file with
/// several, the first.
#[utoipa::path(get, path = "/api/v1/certificates", tag = "node",
    responses((status = 200, description = "The whole list", body = Items<CertificateView>)))]
pub(crate) async fn certificates(
    State(control): State<Arc<Control>>,
) -> Json<Items<CertificateView>> {
    let (facts, now) = (control.node_facts(), Moment::now());
    let all = facts.certificates.iter();
    Json(all.map(|found| CertificateView::new(found, now)).collect())
}

/// Configuration
///
/// Every value that was last read without an error, and its source, as `martlet config show --json`
/// prints it. Secrets are not shown. Changes that wait for a restart are in the warnings of the
/// state.
#[utoipa::path(get, path = "/api/v1/config", tag = "node",
    responses((status = 200, description = "The whole configuration", body = Configuration)))]
pub(crate) async fn configuration(State(control): State<Arc<Control>>) -> Json<Configuration> {
    Json(control.node_facts().configuration.clone())
}
