//! A named connection: a bridge that receives single messages, and whose subscriptions at the
//! other broker change while it runs.
//!
//! A message for the other broker is published at this node to an internal topic that only the
//! bridge takes. So it waits in the queue of the bridge like any other. Incoming messages are
//! published at this node on the same topic, after the prefix.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use martlet_broker::TO_BRIDGES;
use martlet_codec::{QoS, TopicFilter, TopicName};
use tokio::sync::{mpsc, oneshot};

use super::ask::{Ask, Change, ConnectionError};
use crate::runner::own_name;

/// Maximum number of subscriptions of one connection.
const SUBSCRIPTIONS_MAX: usize = 1_000;
/// Longest filter of a subscription, bytes.
const FILTER_BYTES_MAX: usize = 1_024;

/// Topic level for messages that the other broker must retain, and for all others.
const RETAINED: &str = "r";
const NOT_RETAINED: &str = "m";

/// User Property of an incoming message: the name of the connection.
pub(super) const FROM: &str = "from";

/// A named connection, shared by all its users.
#[derive(Debug)]
pub struct NamedConnection {
    name: Box<str>,
    prefix: Box<str>,
    state: Mutex<State>,
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    subscriptions: BTreeMap<Box<str>, QoS>,
    /// Whether the subscriptions from before the start are loaded. Without them, messages that the
    /// other broker stored for this session would be dropped.
    is_restored: bool,
    is_used: bool,
    is_connected: bool,
    /// Sender to the task of the bridge; it does not keep the task running.
    asks: Option<mpsc::WeakUnboundedSender<Ask>>,
}

impl NamedConnection {
    /// Error when a subscription cannot be ended without a connection.
    pub const NOT_CONNECTED: &str = "MQTT client is not connected";

    /// A connection of this name. `prefix` is put before the topics of incoming messages.
    ///
    /// # Errors
    /// The prefix has a wildcard, or begins with `$`.
    pub(super) fn new(name: &str, prefix: &str) -> Result<Self, String> {
        let is_topic = prefix.is_empty() || TopicName::new(prefix).is_ok();
        if !is_topic || prefix.starts_with('$') {
            return Err(format!(
                "`prefix` is {prefix:?}, expected the beginning of a topic without wildcards, not \
                 $ first"
            ));
        }
        Ok(Self {
            name: name.into(),
            prefix: prefix.into(),
            state: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// Returns the connection's name in its tenant.
    pub fn name(&self) -> &str {
        own_name(&self.name)
    }

    /// The name of the bridge among all of the node.
    pub fn bridge(&self) -> &str {
        &self.name
    }

    /// Topic of this node through which the bridge gets a message for this topic of the other
    /// broker. `retain`: the other broker must retain it; at this node it is published without
    /// RETAIN.
    pub fn topic_of(&self, topic: &str, retain: bool) -> String {
        let level = if retain { RETAINED } else { NOT_RETAINED };
        format!("{TO_BRIDGES}{}/{level}/{topic}", self.name())
    }

    /// Topic Filter of all such topics.
    pub(super) fn filter(&self) -> Box<str> {
        format!("{TO_BRIDGES}{}/#", self.name()).into()
    }

    /// The topic at the other broker, and whether that retains the message; `None`: the message is
    /// not for this connection.
    pub(super) fn outward<'a>(&self, topic: &'a str) -> Option<(&'a str, bool)> {
        let rest = topic.strip_prefix(TO_BRIDGES)?.strip_prefix(self.name())?;
        let (level, topic) = rest.strip_prefix('/')?.split_once('/')?;
        match level {
            RETAINED => Some((topic, true)),
            NOT_RETAINED => Some((topic, false)),
            _ => None,
        }
    }

    /// The topic at this node of a message of the other broker, and its highest QoS; `None`: no
    /// subscription matches.
    pub(super) fn inward(&self, topic: &str) -> Option<(String, QoS)> {
        let name = TopicName::new(topic).ok()?;
        let state = self.lock();
        let matching = state.subscriptions.iter().filter(|(filter, _)| {
            TopicFilter::new(filter).is_ok_and(|filter| filter.matches(name))
        });
        let qos = matching.map(|(_, qos)| *qos).max()?;
        Some((format!("{}{topic}", self.prefix), qos))
    }

    /// Loads the saved subscriptions from before the start. The bridge connects after this.
    pub fn restore(&self, saved: impl IntoIterator<Item = (String, QoS)>) {
        let mut state = self.lock();
        if state.is_restored {
            return;
        }
        let saved = saved.into_iter().map(|(filter, qos)| (filter.into(), qos));
        state.subscriptions.extend(saved);
        state.is_used |= !state.subscriptions.is_empty();
        state.is_restored = true;
        if let Some(asks) = state.asks.as_ref().and_then(|asks| asks.upgrade()) {
            // A bridge that has ended does not connect.
            let _ = asks.send(Ask::Look);
        }
    }

    /// Topic Filters of its subscriptions, sorted.
    pub fn subscriptions(&self) -> Vec<String> {
        self.lock()
            .subscriptions
            .keys()
            .map(ToString::to_string)
            .collect()
    }

    /// Whether it is connected now.
    pub fn is_connected(&self) -> bool {
        self.lock().is_connected
    }

    /// Whether it was ever used since the start: by a message or a subscription.
    pub fn is_used(&self) -> bool {
        self.lock().is_used
    }

    /// Marks it as used.
    pub fn set_used(&self) {
        self.lock().is_used = true;
    }

    /// Locks its subscriptions and their saved copy against other changes until the guard is
    /// dropped.
    pub async fn changing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Subscribes at the other broker. Connects if there is no connection.
    ///
    /// # Errors
    /// There is no connection within this time, or the subscription is rejected. Nothing has
    /// changed in this case.
    pub async fn subscribe(
        &self,
        filter: &str,
        qos: QoS,
        within: Duration,
    ) -> Result<(), ConnectionError> {
        self.check(filter).map_err(ConnectionError::Refused)?;
        self.set_used();
        self.change(filter, Some(qos), within).await
    }

    /// Unsubscribes at the other broker.
    ///
    /// # Errors
    /// There is no connection, or the other broker does not answer within this time.
    pub async fn unsubscribe(&self, filter: &str, within: Duration) -> Result<(), ConnectionError> {
        if !self.is_connected() {
            let why = Self::NOT_CONNECTED.to_owned();
            return Err(ConnectionError::NotConnected(why));
        }
        TopicFilter::new(filter).map_err(|error| ConnectionError::Refused(error.to_string()))?;
        self.change(filter, None, within).await
    }

    async fn change(
        &self,
        filter: &str,
        qos: Option<QoS>,
        within: Duration,
    ) -> Result<(), ConnectionError> {
        let ended = || ConnectionError::NotConnected("the bridge has ended".to_owned());
        let asks = self.lock().asks.as_ref().and_then(|asks| asks.upgrade());
        let (answer, answered) = oneshot::channel();
        let change = Change {
            filter: filter.into(),
            qos,
            answer,
        };
        asks.ok_or_else(ended)?
            .send(Ask::Change(change))
            .map_err(|_| ended())?;
        match tokio::time::timeout(within, answered).await {
            Ok(answered) => answered.unwrap_or_else(|_| Err(ended())),
            Err(_) => Err(ConnectionError::NotConnected(format!(
                "the other broker has not answered in {} s",
                within.as_secs()
            ))),
        }
    }

    fn check(&self, filter: &str) -> Result<(), String> {
        if filter.len() > FILTER_BYTES_MAX {
            return Err(format!(
                "the filter has {} bytes, expected {FILTER_BYTES_MAX} at most",
                filter.len()
            ));
        }
        TopicFilter::new(filter)
            .map_err(|error| format!("it is not a valid Topic Filter: {error}"))?;
        if filter.starts_with("$share/") {
            return Err(
                "a named connection joins no share group: subscribe to the filter without $share \
                        and the group"
                    .to_owned(),
            );
        }
        if filter.starts_with('$') && self.prefix.is_empty() {
            return Err(
                "topics that begin with $ are the node's own here: give the connection a \
                        prefix (MQTT_<NAME>_PREFIX, or `prefix` of the bridge)"
                    .to_owned(),
            );
        }
        let state = self.lock();
        let is_new = !state.subscriptions.contains_key(filter);
        if is_new && state.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(format!(
                "the connection has {SUBSCRIPTIONS_MAX} subscriptions, which is the most: \
                 unsubscribe from one, or use wildcards"
            ));
        }
        Ok(())
    }

    /// Stores the sender to the running bridge.
    pub(super) fn started(&self, asks: &mpsc::UnboundedSender<Ask>) {
        self.lock().asks = Some(asks.downgrade());
    }

    pub(super) fn set_connected(&self, is_connected: bool) {
        self.lock().is_connected = is_connected;
    }

    /// Whether the bridge should be connected, once it may be.
    pub(super) fn wants(&self) -> bool {
        self.lock().is_used
    }

    /// Whether the subscriptions from before the start are loaded.
    pub(super) fn is_restored(&self) -> bool {
        self.lock().is_restored
    }

    /// All subscriptions.
    pub(super) fn all(&self) -> Vec<(String, QoS)> {
        let state = self.lock();
        let all = state.subscriptions.iter();
        all.map(|(filter, qos)| (filter.to_string(), *qos))
            .collect()
    }

    /// Sets or ends a subscription. Returns its previous QoS.
    pub(super) fn set(&self, filter: &str, qos: Option<QoS>) -> Option<QoS> {
        let subscriptions = &mut self.lock().subscriptions;
        match qos {
            Some(qos) => subscriptions.insert(filter.into(), qos),
            None => subscriptions.remove(filter),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(prefix: &str) -> NamedConnection {
        NamedConnection::new("hivemq", prefix).expect("a connection")
    }

    #[test]
    fn a_message_for_the_other_broker_keeps_its_topic_and_retain() {
        let one = connection("");
        for (topic, retain) in [("a/b", false), ("/", true), ("m/r", true)] {
            let here = one.topic_of(topic, retain);
            assert!(TopicName::new(&here).is_ok(), "{here}");
            assert_eq!(one.outward(&here), Some((topic, retain)));
        }
        let longer = NamedConnection::new("hivemq2", "").expect("a connection");
        assert_eq!(one.outward(&longer.topic_of("a", false)), None);
        assert_eq!(one.outward("a/b"), None);
    }

    #[test]
    fn what_comes_in_has_the_prefix_and_the_highest_qos() {
        let one = connection("hive/");
        one.restore([
            ("a/#".to_owned(), QoS::AtMostOnce),
            ("a/+".to_owned(), QoS::ExactlyOnce),
        ]);
        let named = |topic: &str, qos| Some((topic.to_owned(), qos));
        assert_eq!(one.inward("a/b"), named("hive/a/b", QoS::ExactlyOnce));
        assert_eq!(one.inward("a/b/c"), named("hive/a/b/c", QoS::AtMostOnce));
        assert_eq!(one.inward("b"), None);
        assert!(one.is_used() && one.wants());
        assert_eq!(one.subscriptions(), ["a/#", "a/+"]);
    }

    #[test]
    fn filters_that_cannot_be_served_are_rejected() {
        let (plain, prefixed) = (connection(""), connection("x/"));
        let long = "a".repeat(FILTER_BYTES_MAX + 1);
        for bad in ["", "a#", "$share/g/a", "$SYS/#", &long] {
            assert!(plain.check(bad).is_err(), "{bad}");
        }
        assert_eq!(prefixed.check("$SYS/#"), Ok(()));
        let many = (0..SUBSCRIPTIONS_MAX).map(|at| (format!("a/{at}"), QoS::AtMostOnce));
        plain.restore(many);
        assert!(plain.check("b").is_err());
        assert_eq!(plain.check("a/7"), Ok(()));
        for bad in ["a/#", "$x/", "+/"] {
            assert!(NamedConnection::new("x", bad).is_err(), "{bad}");
        }
    }
}
