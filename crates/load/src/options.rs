//! Options of a measurement.
//!
//! Responsible for the options, each scenario's defaults, and valid combinations. Measures nothing.

use std::net::IpAddr;

use clap::{Args, ValueEnum};
use martlet_codec::{ProtocolVersion, QoS};

use super::fairness::names as names_of_loads;
use super::target::Target;

/// Bytes at the beginning of each payload that the load generator uses.
pub(super) const STAMP_BYTES: usize = 20;

/// Most addresses in one range of `--local-address`.
const LOCAL_ADDRESSES_MAX: usize = 4096;

/// A scenario and its amounts, as options of a command line.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[arg(skip)]
    pub(super) target: Target,
    /// What to measure
    #[arg(value_enum)]
    pub(super) scenario: Scenario,
    /// Local address to connect from, or a range such as 127.0.0.2-127.0.0.9; repeatable,
    /// connections use them in turn. One address has about 28,000 ports; for 127.0.0.1 more
    /// addresses are used automatically
    #[arg(long = "local-address", value_name = "ADDRESS", value_parser = local_addresses)]
    pub(super) local: Vec<LocalAddresses>,
    /// Protocol version: 3.1.1 or 5
    #[arg(long, default_value = "3.1.1", value_parser = version)]
    pub(super) version: ProtocolVersion,
    /// Number of clients: publishers and subscribers each (pipes), subscribers (fan-out, wildcards,
    /// filters), publishers (fan-in), members (share), sessions (offline), new subscribers
    /// (retained), connections (connects, idle) [default: 50, 500, 1000, 1000, 50, 10, 1, 1, 10000,
    /// 10000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) clients: Option<u32>,
    /// Publishers of wildcards, filters, share, retained and offline [default: 4, 4, 1, 1, 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) publishers: Option<u32>,
    /// Topics of wildcards, filters of filters [default: 10000, 100000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(super) topics: Option<u32>,
    /// Number of messages of retained (each on its own topic) and offline (distributed over the
    /// sessions)
    #[arg(long, default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(super) messages: u32,
    /// QoS of publishers and subscribers [default: 0; share, retained, offline: 1]
    #[arg(long, value_parser = qos)]
    pub(super) qos: Option<QoS>,
    /// Messages in flight per publisher; the next is sent when the oldest is delivered (retained,
    /// offline: acknowledged) [default: 20; wildcards, filters: 250; share, retained, offline:
    /// 1000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) window: Option<u32>,
    /// Messages per second of all publishers, sent on schedule whether delivered or not; latency is
    /// measured from the scheduled time [default: as fast as --window allows]
    #[arg(long, value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Payload in bytes
    #[arg(long, default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=16_777_216))]
    pub(super) payload: u32,
    /// Use persistent sessions, so that the broker queues their messages; the sessions remain in
    /// the broker (MQTT 5: for a minute)
    #[arg(long)]
    pub(super) persistent: bool,
    /// Number of additional idle connections
    #[arg(long, default_value_t = 0, value_name = "N",
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(super) idle: u32,
    /// Leave the retained messages and the emptied sessions of retained and offline in the broker
    #[arg(long)]
    pub(super) keep: bool,
    /// Number of connections that are opened at the same time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) concurrency: u32,
    /// Seconds before the measurement
    #[arg(long, default_value_t = 0.4, value_parser = secs)]
    pub(super) warmup: f64,
    /// Seconds of the measurement; for idle, time for which the connections are kept open
    #[arg(long, default_value_t = 2.0, value_parser = secs)]
    pub(super) duration: f64,
    /// Scale of the amounts of fairness, such as 0.1 for a tenth
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    pub(super) scale: f64,
    /// Only this load of fairness; repeatable
    #[arg(long = "load", value_name = "LOAD", value_parser = names_of_loads())]
    pub(super) loads: Vec<String>,
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
    /// N subscribers with a `+` filter each, many topics, one match each
    Wildcards,
    /// Many filters of all kinds spread over N subscribers, one match each
    Filters,
    /// One share group of N members
    Share,
    /// Many retained messages: stored, then sent to N new subscribers
    Retained,
    /// Messages for N disconnected sessions: queued, then delivered
    Offline,
    /// N connections as fast as they are accepted
    Connects,
    /// N connections that do nothing
    Idle,
    /// Effect of heavy clients on quiet ones, with several loads in turn; exit code 1 if a p99 is
    /// above 5 ms
    Fairness,
}

/// Source addresses from one `--local-address`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalAddresses(Vec<IpAddr>);

impl Options {
    /// Returns the same options for this broker.
    #[must_use]
    pub fn at(self, target: Target) -> Self {
        Self { target, ..self }
    }

    /// `--clients`, or the scenario's default.
    pub(super) fn clients(&self) -> usize {
        let default = match self.scenario {
            Scenario::Pipes | Scenario::FanIn => 50,
            Scenario::FanOut => 500,
            Scenario::Wildcards | Scenario::Filters => 1000,
            Scenario::Share => 10,
            Scenario::Retained | Scenario::Offline => 1,
            Scenario::Connects | Scenario::Idle | Scenario::Fairness => 10_000,
        };
        self.clients.unwrap_or(default) as usize
    }

    /// Number of publishers of the scenario.
    pub(super) fn publishers(&self) -> usize {
        let default = match self.scenario {
            Scenario::Pipes | Scenario::FanIn => return self.clients(),
            Scenario::Wildcards | Scenario::Filters => 4,
            _ => 1,
        };
        self.publishers.unwrap_or(default) as usize
    }

    /// Number of topics that are published to.
    pub(super) fn topics(&self) -> usize {
        let topics = |default| self.topics.unwrap_or(default) as usize;
        match self.scenario {
            Scenario::Wildcards => topics(10_000),
            Scenario::Filters => topics(100_000),
            Scenario::Retained => self.messages as usize,
            Scenario::Offline => self.clients(),
            _ => self.publishers(),
        }
    }

    /// QoS of publishers and subscribers.
    pub(super) fn qos(&self) -> QoS {
        let default = match self.scenario {
            Scenario::Share | Scenario::Retained | Scenario::Offline => QoS::AtLeastOnce,
            _ => QoS::AtMostOnce,
        };
        self.qos.unwrap_or(default)
    }

    /// Messages in flight per publisher.
    pub(super) fn window(&self) -> u32 {
        self.window.unwrap_or(match self.scenario {
            Scenario::Wildcards | Scenario::Filters => 250,
            Scenario::Share | Scenario::Retained | Scenario::Offline => 1000,
            _ => 20,
        })
    }

    /// Source addresses; empty if the system chooses them.
    pub(super) fn local_addresses(&self) -> Vec<IpAddr> {
        self.local
            .iter()
            .flat_map(|range| range.0.clone())
            .collect()
    }

    /// Checks the combination of options.
    ///
    /// # Errors
    /// The options conflict; the text names them.
    pub fn check(&self) -> Result<(), String> {
        use Scenario::{Fairness, Filters, Offline, Retained, Share, Wildcards};
        let scenario = self.scenario;
        let only = |option, given, scenarios: &[Scenario]| match given {
            true if !scenarios.contains(&scenario) => {
                Err(format!("{option} does not go with {}", scenario.name()))
            }
            _ => Ok(()),
        };
        let many = [Wildcards, Filters, Share, Retained, Offline];
        only("--publishers", self.publishers.is_some(), &many)?;
        only("--topics", self.topics.is_some(), &[Wildcards, Filters])?;
        let paced = scenario.moves_messages() && !scenario.has_phases();
        if self.rate.is_some() && !paced {
            return Err(format!("--rate does not go with {}", scenario.name()));
        }
        only("--keep", self.keep, &[Retained, Offline])?;
        only("--load", !self.loads.is_empty(), &[Fairness])?;
        only("--scale", self.scale < 1.0, &[Fairness])?;
        if self.idle > 0 && !scenario.moves_messages() {
            return Err(format!("--idle does not go with {}", scenario.name()));
        }
        if scenario == Offline && self.qos() == QoS::AtMostOnce {
            return Err("offline needs --qos 1 or 2: QoS 0 is not queued".into());
        }
        if self.topics() < self.publishers() {
            return Err("there must be at least as many topics as publishers".into());
        }
        if matches!(scenario, Wildcards | Filters) && self.topics() < self.clients() {
            return Err("there must be at least as many topics as clients".into());
        }
        Ok(())
    }
}

impl Scenario {
    /// The name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pipes => "pipes",
            Self::FanOut => "fan-out",
            Self::FanIn => "fan-in",
            Self::Wildcards => "wildcards",
            Self::Filters => "filters",
            Self::Share => "share",
            Self::Retained => "retained",
            Self::Offline => "offline",
            Self::Connects => "connects",
            Self::Idle => "idle",
            Self::Fairness => "fairness",
        }
    }

    /// Whether messages are published.
    pub(super) fn moves_messages(self) -> bool {
        !matches!(self, Self::Connects | Self::Idle | Self::Fairness)
    }

    /// Whether a given number of messages is first stored and then fetched.
    pub(super) fn has_phases(self) -> bool {
        matches!(self, Self::Retained | Self::Offline)
    }
}

fn scale(text: &str) -> Result<f64, String> {
    let scale = text.parse::<f64>().ok();
    let scale = scale.filter(|scale| (0.001..=1.0).contains(scale));
    scale.ok_or_else(|| "expected a number from 0.001 to 1".to_owned())
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

fn local_addresses(text: &str) -> Result<LocalAddresses, String> {
    let address = |text: &str| -> Result<IpAddr, String> {
        text.parse()
            .map_err(|_| format!("{text} is not a valid IP address"))
    };
    let Some((first, last)) = text.split_once('-') else {
        return Ok(LocalAddresses(vec![address(text)?]));
    };
    let (IpAddr::V4(first), IpAddr::V4(last)) = (address(first)?, address(last)?) else {
        return Err("a range must be of IPv4 addresses".into());
    };
    let range = u32::from(first)..=u32::from(last);
    match range.clone().count() {
        0 => Err("the range is empty".into()),
        count if count > LOCAL_ADDRESSES_MAX => Err(format!(
            "at most {LOCAL_ADDRESSES_MAX} addresses in a range"
        )),
        _ => {
            let addresses = range.map(|bits| IpAddr::V4(bits.into()));
            Ok(LocalAddresses(addresses.collect()))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[derive(clap::Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    /// Parses the options of a command line.
    pub(crate) fn options(line: &str) -> Options {
        let words = ["bench"].into_iter().chain(line.split(' '));
        let line: Line = clap::Parser::parse_from(words);
        line.options
    }

    #[test]
    fn each_scenario_has_the_defaults_that_the_documentation_names() {
        let sizes = |line| {
            let options = options(line);
            let qos = options.qos().bits();
            let clients = (options.publishers(), options.clients());
            (clients, options.topics(), qos, options.window())
        };
        assert_eq!(sizes("pipes"), ((50, 50), 50, 0, 20));
        assert_eq!(sizes("fan-out"), ((1, 500), 1, 0, 20));
        assert_eq!(sizes("wildcards"), ((4, 1000), 10_000, 0, 250));
        assert_eq!(sizes("filters"), ((4, 1000), 100_000, 0, 250));
        assert_eq!(sizes("share --qos 2"), ((1, 10), 1, 2, 1000));
        assert_eq!(sizes("retained --messages 7"), ((1, 1), 7, 1, 1000));
        assert_eq!(sizes("offline --clients 3"), ((1, 3), 3, 1, 1000));
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        for line in [
            "pipes --publishers 3",
            "retained --rate 10",
            "idle --rate 10",
            "offline --qos 0",
            "wildcards --topics 10",
            "share --topics 10",
            "retained --messages 2 --publishers 3",
            "pipes --keep",
            "connects --idle 3",
        ] {
            assert!(options(line).check().is_err(), "{line}");
        }
        for line in [
            "share --publishers 3",
            "wildcards --rate 10",
            "pipes --rate 10",
        ] {
            assert_eq!(options(line).check(), Ok(()), "{line}");
        }
    }

    #[test]
    fn local_addresses_are_single_or_a_range() {
        let line = "idle --local-address 127.0.0.9 --local-address 127.0.1.254-127.0.2.1";
        let addresses = options(line).local_addresses();
        let text: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let range = ["127.0.1.254", "127.0.1.255", "127.0.2.0", "127.0.2.1"];
        assert_eq!(text[0], "127.0.0.9");
        assert_eq!(text[1..], range);
        for text in ["x", "127.0.0.9-127.0.0.8", "::1-::2", "10.0.0.0-11.0.0.0"] {
            assert!(local_addresses(text).is_err(), "{text}");
        }
    }
}
