//! `martlet sub`: subscribe and print what arrives.
//!
//! Responsible for the behaviour of mosquitto_sub's options, across any number of connections:
//! after a lost connection, it reconnects after a second.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args};
use jiff::Zoned;
use martlet_client::{
    Acknowledgement, Event, Message, NetError, RequestId, SubscribeRequest, UnsubscribeRequest,
};
use martlet_codec::{
    ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscriptionFilter, SubscriptionOptions,
    TopicFilter, TopicName,
};
use martlet_control::text::{harmless, typed};

use super::client_run::{ClientRun, Connected, Next, block_on, timed_out};
use super::exit::{self, Failure, reason_text};
use super::format::Format;
use super::mqtt_options::{self, MqttOptions, OptionsRefusal, Target};
use super::random;

use crate::cmd::print::errln;

/// Arguments of `martlet sub`.
#[derive(Args)]
pub(crate) struct SubOptions {
    #[command(flatten)]
    mqtt: MqttOptions,
    #[command(flatten)]
    print: PrintOptions,
    /// Exit after this number of messages
    #[arg(short = 'C', long = "count", value_name = "count", value_parser = count)]
    count: Option<u64>,
    /// Exit when all subscriptions are acknowledged
    #[arg(short = 'E', long = "exit-after-subscribe")]
    exit_after_subscribe: bool,
    /// QoS of the subscriptions
    #[arg(short = 'q', long, value_name = "QoS", default_value = "0",
          value_parser = mqtt_options::qos)]
    qos: QoS,
    /// Print this percentage of the messages, chosen at random
    #[arg(long, value_name = "percentage", default_value = "100", value_parser = random_filter)]
    random_filter: f64,
    /// Clear each retained message that is received
    #[arg(long)]
    remove_retained: bool,
    /// Receive the RETAIN flag as it was published (MQTT 5.0)
    #[arg(long)]
    retain_as_published: bool,
    /// When to receive retained messages: always, new or never (MQTT 5.0)
    #[arg(long, value_name = "handling", default_value = "always", value_parser = retain_handling)]
    retain_handling: RetainHandling,
    /// Print retained messages only, and exit at the first other one
    #[arg(long)]
    retained_only: bool,
    /// Topic filter to subscribe to. May be repeated
    #[arg(short = 't', long = "topic", value_name = "topic", action = ArgAction::Append)]
    topics: Vec<String>,
    /// Do not print messages that match this filter. May be repeated
    #[arg(short = 'T', long = "filter-out", value_name = "topic-filter",
          action = ArgAction::Append)]
    filter_out: Vec<String>,
    /// Topic filter to unsubscribe from. May be repeated
    #[arg(short = 'U', long = "unsubscribe", value_name = "unsubscribe-topic",
          action = ArgAction::Append)]
    unsubscribe: Vec<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Options of printing, shared with `martlet rr`.
#[derive(Args, Debug)]
pub(crate) struct PrintOptions {
    /// Output format, see mosquitto_sub(1)
    #[arg(short = 'F', long = "format", value_name = "format", value_parser = Format::parse)]
    format: Option<Format>,
    /// Print no newline after a message
    #[arg(short = 'N', long = "no-eol")]
    no_eol: bool,
    /// Print JSON on several lines
    #[arg(long)]
    pretty: bool,
    /// Whether messages are shown on a terminal, which nothing in them may control
    #[arg(skip)]
    is_shown: bool,
    /// Do not print retained messages
    #[arg(short = 'R', long = "no-retained")]
    pub(crate) no_retained: bool,
    /// Print topic and payload
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Exit after this number of seconds
    #[arg(short = 'W', long = "timeout", value_name = "timeout", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,
}

impl PrintOptions {
    /// Appends the message in the selected format. Reports a payload that the format cannot print
    /// on standard error.
    pub(crate) fn print(&self, message: &Message, out: &mut Vec<u8>) {
        let Some(format) = &self.format else {
            return self.print_plain(message, out);
        };
        if let Err(error) = format.apply(message, &Zoned::now(), out) {
            errln!("Error: {}", error.0);
        }
        self.end_line(out);
    }

    /// Makes the options of `--pretty` part of the format.
    pub(crate) fn prepare(&mut self) {
        self.is_shown = std::io::stdout().is_terminal();
        if let Some(format) = &mut self.format {
            format.pretty = self.pretty;
            format.is_shown = self.is_shown;
        }
    }

    /// An empty payload is not printed; with `-v` it is marked as such, like in mosquitto_sub.
    fn print_plain(&self, message: &Message, out: &mut Vec<u8>) {
        let shown = |bytes: &[u8], out: &mut Vec<u8>| match self.is_shown {
            true => out.extend_from_slice(harmless(&String::from_utf8_lossy(bytes)).as_bytes()),
            false => out.extend_from_slice(bytes),
        };
        if self.verbose {
            shown(message.topic.as_bytes(), out);
            out.push(b' ');
        }
        if !message.payload.is_empty() {
            shown(&message.payload, out);
        } else if self.verbose && !self.no_eol {
            out.extend_from_slice(b"(null)");
        } else {
            return;
        }
        self.end_line(out);
    }

    fn end_line(&self, out: &mut Vec<u8>) {
        if !self.no_eol {
            out.push(b'\n');
        }
    }
}

/// Runs the command.
pub(crate) fn run(mut options: SubOptions) -> ExitCode {
    let quiet = options.mqtt.quiet;
    options.print.prepare();
    match prepare(options) {
        Ok((target, plan)) => block_on(quiet, subscribe_and_print(target, plan)),
        Err(refusal) => exit::usage(&refusal.text("sub")),
    }
}

/// The options that are used after connecting.
struct Plan {
    debug: bool,
    quiet: bool,
    print: PrintOptions,
    count: Option<u64>,
    exit_after_subscribe: bool,
    random_filter: f64,
    remove_retained: bool,
    retained_only: bool,
    filter_out: Vec<String>,
    subscribe: SubscribeRequest,
    unsubscribe: Vec<UnsubscribeRequest>,
}

fn prepare(options: SubOptions) -> Result<(Target, Plan), OptionsRefusal> {
    let (debug, quiet) = (options.mqtt.debug, options.mqtt.quiet);
    let mut target = options.mqtt.target(ProtocolVersion::V311)?;
    let mut topics = options.topics;
    topics.extend(target.topic.take());
    if topics.is_empty() {
        return Err("You must specify a topic to subscribe to.".into());
    }
    check_filters("subscription", &topics)?;
    check_filters("unsubscribe", &options.unsubscribe)?;
    check_filters("filter", &options.filter_out)?;
    if options.print.no_retained && options.retained_only {
        return Err("Combining '-R' and '--retained-only' makes no sense.".into());
    }
    let subscription = SubscriptionOptions {
        qos: options.qos,
        no_local: false,
        retain_as_published: options.retain_as_published,
        retain_handling: options.retain_handling,
    };
    let subscribe = SubscribeRequest {
        filters: topics
            .into_iter()
            .map(|topic| (topic, subscription))
            .collect(),
        subscription_id: target.properties.subscription_id,
        user_properties: target.properties.subscribe_user.clone(),
    };
    let unsubscribe = options
        .unsubscribe
        .into_iter()
        .map(|filter| UnsubscribeRequest {
            filters: vec![filter],
            user_properties: target.properties.unsubscribe_user.clone(),
        });
    let plan = Plan {
        debug,
        quiet,
        print: options.print,
        count: options.count,
        exit_after_subscribe: options.exit_after_subscribe,
        random_filter: options.random_filter,
        remove_retained: options.remove_retained,
        retained_only: options.retained_only,
        filter_out: options.filter_out,
        subscribe,
        unsubscribe: unsubscribe.collect(),
    };
    Ok((target, plan))
}

fn check_filters(kind: &str, filters: &[String]) -> Result<(), String> {
    match filters
        .iter()
        .find(|filter| SubscriptionFilter::parse(filter).is_err())
    {
        Some(filter) => Err(format!(
            "Invalid {kind} topic '{filter}', are all '+' and '#' wildcards correct?"
        )),
        None => Ok(()),
    }
}

async fn subscribe_and_print(target: Target, plan: Plan) -> Result<u8, Failure> {
    let run = ClientRun::new(target, plan.debug, plan.print.timeout)?;
    let mut subscriber = Subscriber {
        run,
        plan,
        printed: 0,
        subscribing: None,
        clearing: Vec::new(),
        done: false,
    };
    let result = subscriber.run_until_done().await;
    subscriber.run.finish().await;
    result
}

struct Subscriber {
    run: ClientRun,
    plan: Plan,
    /// Number of printed messages, for `-C`.
    printed: u64,
    subscribing: Option<RequestId>,
    /// Outstanding publishes of `--remove-retained` that clear retained messages.
    clearing: Vec<RequestId>,
    /// Whether no further messages are needed.
    done: bool,
}

impl Subscriber {
    /// Returns the exit code or the error.
    async fn run_until_done(&mut self) -> Result<u8, Failure> {
        // If the first connection fails, the command ends; later connections are retried.
        let connected = self.run.connect().await;
        let connected = connected.map_err(|error| self.run.not_connected(&error))?;
        if let Some(code) = self.begin(connected)? {
            return Ok(code);
        }
        loop {
            let code = match self.run.next().await {
                Next::Event(event) => self.receive(event),
                Next::Lost(error) => {
                    let (connected, attempts) = self.run.reconnect_counted().await;
                    if attempts == 1 && matches!(connected, Connected::Accepted) {
                        self.warn_of_end(&error);
                    }
                    self.begin(connected)?
                }
                Next::TimedOut => return Err(timed_out()),
                Next::Stopped => Some(0),
            };
            if let Some(code) = code {
                return Ok(code);
            }
        }
    }

    /// Subscribes if the connection was accepted. Returns the exit code when the command must end.
    fn begin(&mut self, connected: Connected) -> Result<Option<u8>, Failure> {
        match connected {
            Connected::Accepted => self.subscribe().map(|()| None),
            Connected::Refused(failure) => Err(failure),
            Connected::TimedOut => Err(timed_out()),
            Connected::Stopped => Ok(Some(0)),
        }
    }

    /// Before MQTT 5.0 a broker closes a connection without a reason. If it accepts the next one at
    /// once, another client with the same Client Identifier is the usual cause.
    fn warn_of_end(&self, error: &NetError) {
        let target = &self.run.target;
        let is_silent = !target.connect.version.is_v5() && matches!(error, NetError::Closed);
        if is_silent && !target.has_generated_id {
            self.warn(&format!(
                "The broker has ended the connection, and has accepted a new one. If it was not \
                 restarted, another client may have connected with the Client Identifier {} (with \
                 Martlet: martlet why {0}).",
                typed(&target.connect.client_id)
            ));
        }
    }

    fn warn(&self, text: &str) {
        if !self.plan.quiet {
            errln!("Warning: {text}");
        }
    }

    fn subscribe(&mut self) -> Result<(), Failure> {
        let now = self.run.client.now();
        let session = self.run.client.session();
        let refused = |error| Failure::error(exit::ERROR, error);
        self.subscribing = Some(
            session
                .subscribe(&self.plan.subscribe, now)
                .map_err(refused)?,
        );
        for unsubscribe in &self.plan.unsubscribe {
            session.unsubscribe(unsubscribe, now).map_err(refused)?;
        }
        Ok(())
    }

    /// Handles an event. Returns the exit code when the command must end.
    fn receive(&mut self, event: Event) -> Option<u8> {
        match event {
            Event::Message(message) if !self.done => {
                self.receive_message(&message);
                self.done |= self.plan.count.is_some_and(|count| self.printed >= count);
            }
            Event::Completed {
                request,
                acknowledgement,
            } => match acknowledgement {
                Acknowledgement::Subscribed(reasons) if self.subscribing == Some(request) => {
                    return self.subscribed(&reasons);
                }
                Acknowledgement::Published { .. } => self.clearing.retain(|id| *id != request),
                _ => {}
            },
            Event::Disconnected {
                reason: ReasonCode::SessionTakenOver,
                ..
            } => self.warn(&format!(
                "Another client has connected with the Client Identifier {}, and the broker has \
                 ended this connection. Connecting again.",
                typed(&self.run.target.connect.client_id)
            )),
            _ => {}
        }
        (self.done && self.clearing.is_empty()).then_some(0)
    }

    fn subscribed(&mut self, reasons: &[ReasonCode]) -> Option<u8> {
        if self.plan.debug {
            let codes: Vec<_> = reasons
                .iter()
                .map(|reason| reason.code().to_string())
                .collect();
            self.run
                .output
                .line(&format!("Subscribed (mid: 1): {}", codes.join(", ")));
        }
        if reasons.iter().all(|reason| reason.is_error()) {
            if !self.plan.quiet {
                errln!("All subscription requests were denied.");
                if let Some(advice) = self.run.advice_of_refusal() {
                    errln!("{advice}");
                }
            }
            return Some(0);
        }
        self.warn_of_refused(reasons);
        self.plan.exit_after_subscribe.then_some(0)
    }

    /// Warns of the subscriptions that the broker has refused, beside others that it has accepted.
    fn warn_of_refused(&self, reasons: &[ReasonCode]) {
        let filters = self.plan.subscribe.filters.iter().zip(reasons);
        let refused: Vec<_> = filters.filter(|(_, reason)| reason.is_error()).collect();
        for ((filter, _), reason) in &refused {
            self.warn(&format!(
                "The subscription to {} was refused: {} (0x{:02x}).",
                typed(filter),
                reason_text(**reason),
                reason.code()
            ));
        }
        let advice = self.run.advice_of_refusal();
        if let Some(advice) = advice.filter(|_| !refused.is_empty() && !self.plan.quiet) {
            errln!("{advice}");
        }
    }

    fn receive_message(&mut self, message: &Message) {
        if self.plan.retained_only && !message.retain {
            self.done = true;
            return;
        }
        if self
            .plan
            .filter_out
            .iter()
            .any(|filter| matches(filter, &message.topic))
        {
            return;
        }
        if self.plan.remove_retained && message.retain {
            self.clear_retained(message);
        }
        if self.plan.print.no_retained && message.retain {
            return;
        }
        if self.is_chosen() {
            self.plan.print.print(message, self.run.output.buffer());
        }
        self.printed += 1;
    }

    fn is_chosen(&self) -> bool {
        let share = self.plan.random_filter / 100.0;
        share >= 1.0 || (random::number() as f64 / u64::MAX as f64) < share
    }

    fn clear_retained(&mut self, message: &Message) {
        let clearing = Message {
            topic: message.topic.clone(),
            qos: QoS::AtLeastOnce,
            retain: true,
            ..Message::default()
        };
        let now = self.run.client.now();
        self.clearing
            .extend(self.run.client.session().publish(clearing, now));
    }
}

fn matches(filter: &str, topic: &str) -> bool {
    match (TopicFilter::new(filter), TopicName::new(topic)) {
        (Ok(filter), Ok(topic)) => filter.matches(topic),
        _ => false,
    }
}

fn count(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("Invalid message count \"{text}\"."))
}

fn timeout(text: &str) -> Result<Duration, String> {
    let secs = text.parse().ok().filter(|secs| *secs > 0);
    secs.map(Duration::from_secs)
        .ok_or_else(|| format!("Invalid timeout \"{text}\"."))
}

fn random_filter(text: &str) -> Result<f64, String> {
    let percentage = text
        .parse()
        .ok()
        .filter(|value| (0.1..=100.0).contains(value));
    percentage.ok_or_else(|| "--random-filter chance must be between 0.1-100.0".to_owned())
}

fn retain_handling(text: &str) -> Result<RetainHandling, String> {
    match text {
        "always" => Ok(RetainHandling::SendAtSubscribe),
        "new" => Ok(RetainHandling::SendIfNew),
        "never" => Ok(RetainHandling::DoNotSend),
        _ => Err(format!(
            "Unknown value '{text}' for --retain-handling: always, new or never."
        )),
    }
}
