//! How the API behaves, by the configuration.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use martlet_control::iotflow::Catalogue;
use martlet_control::topic_memory::TopicMemory;

use crate::compat::system::CompatApi;
use crate::keys::ApiKey;

/// How the API behaves, by the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// API keys of the configuration.
    pub keys: Vec<ApiKey>,
    /// Routes of listeners that have no settings of their own, and of the Unix socket.
    pub routes: RouteSettings,
    /// Origins whose pages may ask; `*` is all, without cookies.
    pub origins: Vec<String>,
    /// Names of the node besides those of loopback, for listeners on loopback.
    pub hosts: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Longest body, bytes.
    pub body_bytes: usize,
    /// Requests per second of one caller, and of one address; 0 is no limit.
    pub rate: u32,
    /// Requests at once before that counts.
    pub burst: u32,
    /// Requests per minute of a device of IoTFlow to the routes of that system; 0 is no limit.
    pub device_requests_per_minute: u32,
    /// How many of these at once; 0 is as many as in a minute.
    pub device_requests_burst: u32,
    /// The log file; none: the log is in memory alone.
    pub log_file: Option<PathBuf>,
    /// Named connection that requests mean which name no broker; empty: the node itself.
    pub default_connection: String,
    /// Seconds after a heartbeat or telemetry for which a device counts as online.
    pub online_secs: u32,
    /// The catalogue of IoTFlow's topics.
    pub iotflow: Arc<Catalogue>,
    /// Messages that were published last, by topic; none: nothing is remembered.
    pub topic_memory: Option<Arc<TopicMemory>>,
}

/// Settings of routes that listeners may have in different ways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSettings {
    /// Routes that need no credentials: `POST /devices`.
    pub open_routes: Vec<String>,
    /// Other systems whose routes are served; where two have a path, the first one's.
    pub compat: Vec<CompatApi>,
    /// `/metrics` is JSON, unless the request asks for a form of Prometheus.
    pub metrics_are_json: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            routes: RouteSettings::default(),
            origins: Vec::new(),
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            body_bytes: 1024 * 1024,
            rate: 0,
            burst: 1,
            device_requests_per_minute: 0,
            device_requests_burst: 0,
            log_file: None,
            default_connection: String::new(),
            online_secs: 300,
            iotflow: Arc::default(),
            topic_memory: None,
        }
    }
}
