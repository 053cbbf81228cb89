//! A connection to the other broker: permitted addresses, and the fields of CONNECT.

use std::io::ErrorKind;
use std::num::NonZeroU16;
use std::time::Duration;

use martlet_broker::{IS_NODE, NODES_WITH_BRIDGES};
use martlet_certificates::{ClientFiles, client_config};
use martlet_client::{
    Client, ConnAckInfo, ConnectOptions, Endpoint, Event, Message, NetError, Password,
    UserPropertyList, Will,
};
use martlet_codec::{QoS, ReasonCode, RetainHandling, SubscriptionOptions};
use tokio::time::timeout;

use super::address::Address;
use super::incoming::RECEIVE_MAXIMUM;
use super::settings::BridgeSettings;
use crate::masking::SecretTexts;
use crate::runner::Backoff;
use crate::secret::SecretValues;

/// Time limit of a network connection to one address, with its handshake.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Number of consecutive connections that failed or were lost at once, from which on a second
/// client with the same Client Identifier is suspected.
const CLOSED_AGAIN: u32 = 2;
/// Session Expiry Interval: never.
const FOR_EVER: u32 = u32::MAX;

/// Connects to an address, and waits for CONNACK.
///
/// # Errors
/// Why there is no connection.
pub(super) async fn open(
    client: &mut Client,
    address: &Address,
    settings: &BridgeSettings,
    options: &ConnectOptions,
) -> Result<ConnAckInfo, String> {
    let Address { host, port, .. } = address;
    let reaching = async {
        let endpoint = endpoint(address, settings).await?;
        let connected = client.connect(&endpoint, options).await;
        connected.map_err(|error| not_connected(&error, address.tls))
    };
    let reached = timeout(CONNECT_WITHIN, reaching).await;
    let late = || format!("no answer within {} s", CONNECT_WITHIN.as_secs());
    let reached = reached.unwrap_or_else(|_| Err(late()));
    reached.map_err(|why| format!("{why} ({host}:{port})"))?;
    loop {
        match client.next_event().await {
            Ok(Event::Connected(info)) => return Ok(*info),
            Ok(Event::Refused {
                code,
                reason,
                reason_string,
            }) => {
                let text = reason_string.as_deref();
                if reason == ReasonCode::UnsupportedProtocolVersion && settings.protocol.fall_back()
                {
                    return Err("it does not speak MQTT 5.0".to_owned());
                }
                return Err(rejected(code, reason, text, options.version.is_v5()));
            }
            // Results of requests of an earlier connection.
            Ok(_) => {}
            Err(error) => return Err(format!("{} ({host}:{port})", ended(&error))),
        }
    }
}

/// The endpoint to connect to, after the name is resolved and the addresses are checked.
///
/// # Errors
/// The name has no address, none is permitted, or the TLS files are unusable.
async fn endpoint(address: &Address, settings: &BridgeSettings) -> Result<Endpoint, String> {
    let mut endpoint = Endpoint::tcp(&*address.host, address.port);
    let resolved = settings.allowed.resolve(&address.host, address.port);
    let resolved = resolved.await?;
    settings.broker.has(&resolved);
    endpoint.resolved = Some(resolved);
    if address.tls {
        let files = files(settings);
        let config = tokio::task::spawn_blocking(move || client_config(&files)).await;
        let config = config.map_err(|_| "the files of TLS were not read".to_owned())?;
        endpoint.tls = Some(config.map_err(|error| error.to_string())?);
    }
    Ok(endpoint)
}

fn files(settings: &BridgeSettings) -> ClientFiles {
    let tls = &settings.tls;
    let (certificate, key) = tls.certificate.clone().unzip();
    ClientFiles {
        system_cas: tls.ca_file.is_none() && tls.ca_directory.is_none(),
        ca_file: tls.ca_file.clone(),
        ca_directory: tls.ca_directory.clone(),
        certificate,
        key,
        check: tls.check,
        ..ClientFiles::default()
    }
}

/// The fields of CONNECT.
///
/// # Errors
/// A secret is missing.
pub(super) fn options(
    settings: &BridgeSettings,
    values: &SecretValues,
) -> Result<ConnectOptions, String> {
    let password = settings.password.as_ref().map(|one| one.fill(values));
    let password = password.transpose()?;
    let version = settings.protocol.version();
    let is_v5 = version.is_v5();
    let notifications = settings.notifications.as_ref();
    let notifications = notifications.filter(|one| one.remote);
    let mut asks = UserPropertyList::default();
    if is_v5 {
        asks.push(IS_NODE, "");
    }
    Ok(ConnectOptions {
        version,
        bridge: settings.try_private && !is_v5,
        client_id: settings.client_id.to_string(),
        clean_start: settings.clean_session,
        keep_alive_secs: settings.keep_alive_secs,
        username: settings.user.as_deref().map(str::to_owned),
        password: password.map(|one| Password(one.expose().as_bytes().to_vec())),
        will: notifications.map(|one| Will {
            message: state(&one.topic, false),
            delay_secs: None,
        }),
        session_expiry_secs: (is_v5 && !settings.clean_session).then_some(FOR_EVER),
        receive_maximum: NonZeroU16::new(RECEIVE_MAXIMUM),
        tolerates_more: true,
        user_properties: asks,
        ..ConnectOptions::default()
    })
}

/// Secrets that the other broker receives and may repeat.
pub(super) fn secret_texts(values: &SecretValues, options: &ConnectOptions) -> SecretTexts {
    let mut texts = SecretTexts::of(values);
    if let Some(Password(password)) = &options.password {
        texts.add(password);
    }
    texts
}

/// Options of a subscription to a filter. `wants_own`: includes messages that the bridge itself
/// sends.
pub(super) fn subscription(
    filter: &str,
    qos: QoS,
    is_v5: bool,
    wants_own: bool,
) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        no_local: is_v5 && !wants_own,
        retain_as_published: is_v5,
        retain_handling: match is_v5 && filter != NODES_WITH_BRIDGES {
            true => RetainHandling::SendIfNew,
            false => RetainHandling::SendAtSubscribe,
        },
    }
}

/// A notification: whether the bridge is connected.
pub(super) fn state(topic: &str, is_connected: bool) -> Message {
    Message {
        topic: topic.to_owned(),
        payload: if is_connected { b"1" } else { b"0" }.to_vec(),
        qos: QoS::AtLeastOnce,
        retain: true,
        ..Message::default()
    }
}

/// Why the other broker has rejected the connection, and what to do.
fn rejected(code: u8, reason: ReasonCode, text: Option<&str>, is_v5: bool) -> String {
    let more = match (reason, is_v5) {
        (ReasonCode::UnsupportedProtocolVersion, true) => {
            ": it does not speak MQTT 5.0; set `protocol` to \"3.1.1\""
        }
        (ReasonCode::UnsupportedProtocolVersion, false) => {
            ": it rejects the bit of a bridge; set `try_private` to false"
        }
        (ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized, _) => {
            ": look at `user` and `password`, and at its rules for the notification topic"
        }
        _ => "",
    };
    let text = text.map(|text| format!(" ({text})")).unwrap_or_default();
    format!(
        "the other broker rejects the connection, code {code}, {}{text}{more}",
        reason.name()
    )
}

/// Why the connection failed.
fn not_connected(error: &NetError, tls: bool) -> String {
    let is_cut = match error {
        NetError::Closed => true,
        NetError::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe
        ),
        _ => false,
    };
    match is_cut && tls {
        true => "the other broker closed the connection in the TLS handshake: check that this is \
                 its TLS port"
            .to_owned(),
        false => ended(error),
    }
}

/// Why a connection was lost. `failures`: number of preceding connections in a row that failed or
/// were lost at once.
pub(super) fn lost(error: &NetError, failures: u32, client_id: &str) -> String {
    match error {
        NetError::Closed if failures >= CLOSED_AGAIN => format!(
            "the other broker accepts the connection and closes it after a moment, {failures} \
             times in a row: perhaps another client connects with the Client Identifier of this \
             bridge, {client_id}; give each bridge a `client_id` of its own"
        ),
        error => ended(error),
    }
}

/// Why a connection failed or ended.
pub(super) fn ended(error: &NetError) -> String {
    match error {
        NetError::Tls(error) => format!(
            "no TLS with the other broker: {}",
            martlet_certificates::handshake_failure(error)
        ),
        NetError::Closed => "the other broker closed the connection".to_owned(),
        NetError::Session(error) => format!("the connection was ended: {error}"),
        error => format!("the other broker cannot be reached: {error}"),
    }
}

/// Why the other broker has closed the connection.
pub(super) fn ended_by_broker(reason: ReasonCode, client_id: &str) -> String {
    match reason {
        ReasonCode::SessionTakenOver => format!(
            "another client connected to the other broker with the Client Identifier of this \
             bridge, {client_id}, and took its session over: give each bridge a `client_id` of \
             its own"
        ),
        reason => format!("the other broker ended the connection: {}", reason.name()),
    }
}

/// A random pause before the next attempt, after this number of consecutive failures, from 1;
/// never shorter than the first pause.
pub(super) fn pause(first: Duration, longest: Duration, failures: u32, random: u64) -> Duration {
    let backoff = Backoff {
        first: first.saturating_mul(2),
        longest,
    };
    backoff.with_jitter(failures, random).max(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_from_one_second_to_two_minutes() {
        let second = Duration::from_secs(1);
        let longest = Duration::from_secs(120);
        let secs = |failures, random| pause(second, longest, failures, random).as_secs_f64();
        assert_eq!([secs(1, 0), secs(2, 0), secs(3, 0)], [1.0, 2.0, 4.0]);
        assert!((1.9..2.0).contains(&secs(1, 999)));
        assert_eq!(secs(20, 0), 60.0);
        assert!((119.0..120.0).contains(&secs(u32::MAX, 999)));
        // Bridges with narrow bounds must not all reconnect at once either.
        let secs = |random| pause(second, 2 * second, 1, random).as_secs_f64();
        assert!(secs(0) == 1.0 && (1.9..2.0).contains(&secs(999)));
    }
}
