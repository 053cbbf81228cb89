//! A request and its response (MQTT 5 section 4.10): a message is published, and the first that
//! answers it is waited for, by a part of the node.
//!
//! The request is published like every message of an operator, so it is known whether it had a
//! receiver.

pub(crate) mod slots;

pub use slots::REQUESTS_MAX;

use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use martlet_broker::{
    Delivery, NewMessage, PartEvent, PartId, PartOutcome, PartQueueLimits, PartReach, PartSpec,
    PartSubscription, Published, TenantId,
};
use martlet_codec::{PublishProperties, QoS, ReasonCode, RetainHandling};
use martlet_integrate::Part;

use crate::control::{Control, ControlError};
use crate::journal::Entry;
use slots::RequestSlot;

/// How long the part may take until it is attached: it is this process, so beyond that the node is
/// stalled.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(5);
/// Messages that may come before the response and are not looked at.
const CREDIT: u16 = 64;
/// The topic of responses where none was chosen.
const RESPONSES: &str = "response/api";

/// The response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Topic Name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS that it came with.
    pub qos: QoS,
    /// Payload Format Indicator: the payload is UTF-8 text.
    pub payload_is_utf8: Option<bool>,
    /// Content Type.
    pub content_type: Option<String>,
    /// Correlation Data.
    pub correlation_data: Option<Vec<u8>>,
    /// User Properties, in order.
    pub user_properties: Vec<(Box<str>, Box<str>)>,
    /// From the request's acknowledgement until it came.
    pub after: Duration,
}

/// The outcome of a request.
#[derive(Clone, Debug)]
pub enum Requested {
    /// The request is answered.
    Answered(Published, Box<Response>),
    /// The request is published, and no response came in time.
    Silent(Published, Silence),
    /// The request is published, and had no receiver: no response was waited for.
    NoSubscriber(Published),
    /// The request is not published.
    Refused(ReasonCode),
}

/// A request without a response.
#[derive(Clone, Debug)]
pub struct Silence {
    /// The response topic.
    pub topic: Box<str>,
    /// The last message to there that was refused meanwhile, which may have been one.
    pub refused: Option<Box<Entry>>,
}

/// Why a request could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Too many wait.
    #[error(
        "too many requests wait for their responses already: {REQUESTS_MAX}, or the team's share of them (limits.team_percent)"
    )]
    TooMany,
    /// The shards do not answer.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Random bytes are not available.
    #[error("this machine has no source of randomness")]
    Randomness,
    /// The node cannot take part in it itself.
    #[error("the node cannot listen for a response: {0}")]
    NotListening(String),
    /// Nothing can be subscribed to there.
    #[error("the node cannot listen for a response: {}", .0.name())]
    NotSubscribed(ReasonCode),
}

impl Control {
    /// Publishes a message as [`Control::publish`] does and waits for its response for a given
    /// time. A message without a Response Topic gets one that the node chooses, one without
    /// Correlation Data gets random data. The response is the first message on the Response Topic
    /// that has the same Correlation Data or, as from clients before MQTT 5, none.
    ///
    /// # Errors
    /// The message was not published; or, if a shard does not answer, it is unknown whether it was.
    pub async fn request(
        &self,
        caller: &str,
        tenant: TenantId,
        mut message: NewMessage,
        timeout: Duration,
    ) -> Result<Requested, RequestError> {
        let slot = self.requests.take(tenant).ok_or(RequestError::TooMany)?;
        let mut random = [0; 16];
        rand::fill(&mut random).map_err(|_| RequestError::Randomness)?;
        let topic = message.response_topic.get_or_insert_with(|| {
            format!("{RESPONSES}/{:032x}", u128::from_ne_bytes(random)).into()
        });
        let topic = topic.clone();
        let correlation = message.correlation_data.get_or_insert(random.into());
        let correlation = correlation.clone();
        let listening = self.listen(tenant, &slot, &topic);
        let mut part = tokio::time::timeout(SUBSCRIBED_WITHIN, listening)
            .await
            .map_err(|_| RequestError::NotListening("a shard does not answer".to_owned()))??;
        let last_seq = self.journal.last();
        let outcomes = self.publish(caller, tenant, vec![message]).await?;
        let Some(published) = outcomes.into_iter().next() else {
            return Ok(Requested::Refused(ReasonCode::UnspecifiedError));
        };
        if published.reason.is_error() {
            return Ok(Requested::Refused(published.reason));
        }
        if published.subscribers() == 0 {
            return Ok(Requested::NoSubscriber(published));
        }
        let since = Instant::now();
        let waiting = response(&mut part, &correlation, since);
        let requested = match tokio::time::timeout(timeout, waiting).await {
            Ok(Some(response)) => Requested::Answered(published, Box::new(response)),
            // Its time is over, or the session was ended.
            Ok(None) | Err(_) => {
                self.settle_events().await;
                let refused = self.journal.publish_refused(last_seq, tenant, &topic);
                let refused = refused.map(Box::new);
                Requested::Silent(published, Silence { topic, refused })
            }
        };
        Ok(requested)
    }

    /// A part that is subscribed to this topic.
    async fn listen(
        &self,
        tenant: TenantId,
        slot: &RequestSlot<'_>,
        topic: &str,
    ) -> Result<Part, RequestError> {
        let mut part = self.attach(PartSpec {
            id: PartId::default(),
            tenant,
            client_id: format!("$api/request/{}", slot.number()).into(),
            subscriptions: vec![PartSubscription {
                filter: topic.into(),
                identifier: 0,
                // What was there before the request is no response to it.
                retain_handling: RetainHandling::DoNotSend,
            }],
            credit: CREDIT,
            session_expiry_secs: 0,
            keeps_qos0: false,
            queue: PartQueueLimits::default(),
            identity: None,
            reach: PartReach::Node,
        });
        loop {
            match part.next().await {
                Some(PartEvent::Attached { granted, .. }) => match granted.first() {
                    Some(reason) if reason.is_error() => {
                        return Err(RequestError::NotSubscribed(*reason));
                    }
                    _ => return Ok(part),
                },
                Some(PartEvent::Ended { why, .. }) => {
                    return Err(RequestError::NotListening(why.to_owned()));
                }
                Some(
                    PartEvent::Delivery(_)
                    | PartEvent::Queue(_)
                    | PartEvent::Run { .. }
                    | PartEvent::Published { .. }
                    | PartEvent::Receipt(_)
                    | PartEvent::Receivers { .. },
                ) => {}
                None => return Err(RequestError::NotListening("the node stops".to_owned())),
            }
        }
    }
}

/// The first message that answers; none if the part is ended before it comes.
async fn response(part: &mut Part, correlation: &[u8], since: Instant) -> Option<Response> {
    loop {
        let delivery = match part.next().await? {
            PartEvent::Delivery(delivery) => delivery,
            PartEvent::Ended { .. } => return None,
            _ => continue,
        };
        part.settle(delivery.token, PartOutcome::Done);
        let forwarded = delivery.message.forwarded();
        // What was accepted was well formed.
        let properties = PublishProperties::from_forwarded(forwarded).ok()?;
        if properties
            .correlation_data
            .is_none_or(|data| data == correlation)
        {
            return Some(Response::of(&delivery, &properties, since.elapsed()));
        }
    }
}

impl Response {
    fn of(delivery: &Delivery, properties: &PublishProperties<'_>, after: Duration) -> Self {
        let message = &delivery.message;
        let pairs = properties.user_properties.iter();
        Self {
            user_properties: pairs
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            topic: message.topic().to_owned(),
            payload: message.payload().to_owned(),
            qos: message.qos(),
            payload_is_utf8: properties.payload_format_utf8,
            content_type: properties.content_type.map(str::to_owned),
            correlation_data: properties.correlation_data.map(<[u8]>::to_owned),
            after,
        }
    }
}
