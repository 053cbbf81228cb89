//! The stage in virtual time: scripts on shards in this thread.
//!
//! Waiting takes no real time. Expected packets are available as soon as the node is idle, or after
//! some milliseconds of its time if its store takes that long.

use std::time::Duration;

use martlet_broker::{ListenerPolicy, QueueFull, Settings, TransportEnd};
use martlet_codec::QoS;

use crate::harness::{Harness, Link, Wiring};
use crate::play::{Incoming, Stage};
use crate::script::Script;
use crate::users::Users;
use crate::value::number;

/// A harness as a stage.
#[derive(Debug)]
pub struct VirtualStage {
    harness: Harness,
    links: Vec<Link>,
    users: Users,
}

impl VirtualStage {
    /// Creates a new node with the script's settings.
    ///
    /// # Errors
    /// An unknown setting.
    pub fn new(script: &Script, wiring: Wiring) -> Result<Self, String> {
        let (settings, mut listener) = configure(&script.settings)?;
        listener.authenticate = !script.users.is_empty();
        Ok(Self {
            harness: Harness::new(settings, listener, wiring),
            links: Vec::new(),
            users: Users::new(&script.users),
        })
    }

    /// Answers the node's authentication requests.
    fn answer(&mut self) {
        loop {
            let all = self.harness.take_authentications();
            if all.is_empty() {
                return;
            }
            for (shard, asked) in all {
                let answer = self.users.answer(&asked);
                self.harness.authenticated(shard, asked.connection, answer);
            }
        }
    }
}

impl Stage for VirtualStage {
    fn open(&mut self) -> Result<usize, String> {
        self.links.push(self.harness.open());
        Ok(self.links.len() - 1)
    }

    fn send(&mut self, link: usize, bytes: &[u8]) -> Result<(), String> {
        self.harness.send(self.links[link], bytes);
        self.answer();
        Ok(())
    }

    fn end(&mut self, link: usize) {
        self.harness
            .end(self.links[link], TransportEnd::EndOfStream);
    }

    fn set_reading(&mut self, link: usize, reading: bool) {
        self.harness.set_reading(self.links[link], reading);
    }

    fn read(&mut self, link: usize, patience: Duration) -> Incoming {
        let link = self.links[link];
        for _ in 0..=patience.as_millis() {
            let bytes = self.harness.take(link);
            if !bytes.is_empty() {
                return Incoming::Bytes(bytes);
            }
            if self.harness.is_closed(link) {
                return Incoming::Closed;
            }
            if !patience.is_zero() {
                self.harness.elapse(1);
                self.answer();
            }
        }
        Incoming::Nothing
    }

    fn wait(&mut self, time: Duration) {
        self.harness
            .elapse(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    fn settle(&mut self) {}

    fn patience(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(20)
    }
}

/// Converts a script's `settings` line to settings and listener of a node: any limit by its key,
/// `queue_full`, `response_information`, `refuse_control_characters`, and the listener's options.
///
/// # Errors
/// An unknown key or an invalid value.
pub fn configure(pairs: &[(String, String)]) -> Result<(Settings, ListenerPolicy), String> {
    let mut settings = Settings::default();
    let mut listener = ListenerPolicy::default();
    for (key, value) in pairs {
        let on = value == "true";
        let wrong = || format!("setting {key}={value} does not fit");
        match key.as_str() {
            "maximum_qos" => {
                let bits = number(value)? as u8;
                listener.maximum_qos = QoS::from_bits(bits).ok_or_else(wrong)?;
            }
            "retain_available" => listener.retain_available = on,
            "wildcard_subscription_available" => listener.wildcard_subscription_available = on,
            "subscription_ids_available" => listener.subscription_ids_available = on,
            "shared_subscription_available" => listener.shared_subscription_available = on,
            "allow_empty_client_id" => listener.allow_empty_client_id = on,
            "allow_anonymous" => listener.allow_anonymous = on,
            "refuse_control_characters" => settings.refuse_control_characters = on,
            "queue_full" => settings.queue_full = QueueFull::from_name(value).ok_or_else(wrong)?,
            "response_information" => {
                settings.response_information = (value != "-").then(|| value.clone());
            }
            _ if settings.limits.set(key, number(value)?) => {}
            _ => return Err(format!("no setting {key}={value}")),
        }
    }
    Ok((settings, listener))
}
