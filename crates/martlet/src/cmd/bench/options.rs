//! The command line of `martlet bench`.
//!
//! Responsible for the options, their defaults and ranges. It measures nothing.

use clap::{Args, ValueEnum};
use martlet_codec::{ProtocolVersion, QoS};

/// Bytes at the front of each payload that the load generator uses itself.
pub(super) const STAMP_BYTES: usize = 20;

/// Arguments of `martlet bench`.
#[derive(Args, Clone)]
pub(crate) struct BenchOptions {
    /// What to measure
    #[arg(value_enum)]
    pub(super) scenario: Scenario,
    /// Broker's host
    #[arg(long, default_value = "localhost")]
    pub(super) host: String,
    /// Broker's port
    #[arg(long, default_value_t = 1883)]
    pub(super) port: u16,
    /// Protocol version: 3.1.1 or 5
    #[arg(long, default_value = "3.1.1", value_parser = version)]
    pub(super) version: ProtocolVersion,
    /// User name
    #[arg(long)]
    pub(super) username: Option<String>,
    /// Password
    #[arg(long, requires = "username")]
    pub(super) password: Option<String>,
    /// How many: publishers and subscribers each (pipes), subscribers (fan-out), publishers
    /// (fan-in), connections (connects, idle) [default: 50, 500, 50, 10000, 10000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) clients: Option<u32>,
    /// QoS of publishers and subscribers
    #[arg(long, default_value = "0", value_parser = qos)]
    pub(super) qos: QoS,
    /// Messages under way per publisher; the next is sent when the oldest is delivered
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) window: u32,
    /// Messages per second of all publishers, on schedule whether delivered or not; latency counts
    /// from the scheduled time [default: as fast as --window allows]
    #[arg(long, value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Payload in bytes
    #[arg(long, default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=16_777_216))]
    pub(super) payload: u32,
    /// Sessions that outlive their connections, so that a broker keeps what they are owed; they
    /// stay in the broker (MQTT 5: for a minute)
    #[arg(long)]
    pub(super) persistent: bool,
    /// Connections being made at the same time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) concurrency: u32,
    /// Seconds before the measurement
    #[arg(long, default_value_t = 0.4, value_parser = secs)]
    pub(super) warmup: f64,
    /// Seconds of the measurement; how long idle holds its connections
    #[arg(long, default_value_t = 2.0, value_parser = secs)]
    pub(super) duration: f64,
    /// Process id of the broker, to measure its CPU time and memory
    #[arg(long)]
    pub(super) pid: Option<u32>,
    /// Print one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A kind of load.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scenario {
    /// N publishers, N subscribers, a topic for each pair
    Pipes,
    /// One publisher, N subscribers of its topic
    FanOut,
    /// N publishers, one subscriber of all their topics
    FanIn,
    /// N connections as fast as they are accepted
    Connects,
    /// N connections that do nothing
    Idle,
}

impl BenchOptions {
    /// `--clients`, or the scenario's default.
    pub(super) fn clients(&self) -> usize {
        let default = match self.scenario {
            Scenario::Pipes | Scenario::FanIn => 50,
            Scenario::FanOut => 500,
            Scenario::Connects | Scenario::Idle => 10_000,
        };
        self.clients.unwrap_or(default) as usize
    }
}

impl Scenario {
    /// The name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pipes => "pipes",
            Self::FanOut => "fan-out",
            Self::FanIn => "fan-in",
            Self::Connects => "connects",
            Self::Idle => "idle",
        }
    }
}

fn version(text: &str) -> Result<ProtocolVersion, String> {
    match text {
        "3.1.1" | "311" | "4" => Ok(ProtocolVersion::V311),
        "5" | "5.0" => Ok(ProtocolVersion::V5),
        _ => Err("must be 3.1.1 or 5".into()),
    }
}

fn qos(text: &str) -> Result<QoS, String> {
    let qos = text.parse().ok().and_then(QoS::from_bits);
    qos.ok_or_else(|| "must be 0, 1 or 2".into())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| (0.1..=1e8).contains(rate))
        .ok_or_else(|| "must be 0.1 to 1e8".into())
}

fn secs(text: &str) -> Result<f64, String> {
    let secs: Option<f64> = text.parse().ok();
    secs.filter(|secs| (0.0..=86_400.0).contains(secs))
        .ok_or_else(|| "must be 0 to 86400".into())
}
