//! `martlet pub`: publishes one message, the same one several times, or each line of standard
//! input.
//!
//! Responsible for the behaviour of mosquitto_pub's options. A single message uses one connection;
//! with more messages, a lost connection is reopened.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use martlet_client::{Acknowledgement, Event, Message, NetError};
use martlet_codec::{ProtocolVersion, QoS, TopicName};
use tokio::io::AsyncReadExt;

use super::client_run::{ClientRun, Connected, Next, block_on};
use super::exit::{self, Failure};
use super::message_source::MessageOptions;
use super::mqtt_options::{self, MqttOptions};
use super::{argv, client_run};

use crate::cmd::print::errln;

/// Most unacknowledged lines before reading of standard input pauses.
const UNACKNOWLEDGED_MAX: usize = 10_000;

/// Arguments of `martlet pub`.
#[derive(Args)]
pub(crate) struct PubOptions {
    #[command(flatten)]
    mqtt: MqttOptions,
    #[command(flatten)]
    message: MessageOptions,
    /// Each line of standard input is a message
    #[arg(short = 'l', long)]
    stdin_line: bool,
    /// QoS of the messages. With MQTT 3.1.1 a broker cannot report that it refuses a message: it
    /// acknowledges a message to a forbidden topic, and drops it. Use -V 5 to see the refusal
    #[arg(short = 'q', long, value_name = "QoS", default_value = "0",
          value_parser = mqtt_options::qos)]
    qos: QoS,
    /// Retain the messages
    #[arg(short = 'r', long)]
    retain: bool,
    /// Publish the message this number of times
    #[arg(long, value_name = "count", default_value = "1", value_parser = repeat)]
    repeat: u64,
    /// Seconds between a delivery and the next message of --repeat
    #[arg(long, value_name = "seconds", default_value = "0", value_parser = repeat_delay)]
    repeat_delay: Duration,
    /// Topic to publish to
    #[arg(short = 't', long, value_name = "topic")]
    topic: Option<String>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// Message to publish, and how.
struct Plan {
    message: Message,
    count: u64,
    delay: Duration,
}

/// Runs the command.
pub(crate) fn run(options: PubOptions) -> ExitCode {
    let quiet = options.mqtt.quiet;
    match prepare(options) {
        Ok((run_options, plan)) => block_on(quiet, publish_all(run_options, plan)),
        Err(failure) => exit::finish(Err(failure), false),
    }
}

/// Arguments of `ClientRun`.
struct RunOptions {
    target: mqtt_options::Target,
    debug: bool,
    max_inflight: u16,
    quiet: bool,
}

fn prepare(options: PubOptions) -> Result<(RunOptions, Plan), Failure> {
    let usage = |line: &str| Failure {
        code: exit::ERROR,
        text: argv::with_usage(line, "pub"),
    };
    let debug = options.mqtt.debug;
    let max_inflight = options.mqtt.max_inflight;
    let quiet = options.mqtt.quiet;
    let refused = |refusal: mqtt_options::OptionsRefusal| Failure {
        code: exit::ERROR,
        text: refusal.text("pub"),
    };
    let mut target = options
        .mqtt
        .target(ProtocolVersion::V311)
        .map_err(refused)?;
    let source_count = options.message.count() + usize::from(options.stdin_line);
    if source_count > 1 {
        return Err(usage("Only one type of message can be sent at once."));
    }
    let topic = options.topic.or(target.topic.take());
    let has_alias = target.properties.publish.topic_alias.is_some();
    let topic = match topic {
        Some(topic) if source_count == 1 && (!topic.is_empty() || has_alias) => topic,
        Some(topic) if source_count == 1 && topic.is_empty() => {
            return Err(usage("Invalid publish topic '', it is empty."));
        }
        _ => return Err(usage("Both topic and message must be supplied.")),
    };
    if !topic.is_empty() && TopicName::new(&topic).is_err() {
        let line = format!("Invalid publish topic '{topic}', does it contain '+' or '#'?");
        return Err(usage(&line));
    }
    let message = Message {
        topic,
        qos: options.qos,
        retain: options.retain,
        payload: options.message.read()?,
        properties: target.properties.publish.clone(),
        ..Message::default()
    };
    let count = if options.stdin_line {
        0
    } else {
        options.repeat
    };
    let plan = Plan {
        message,
        count,
        delay: options.repeat_delay,
    };
    Ok((
        RunOptions {
            target,
            debug,
            max_inflight,
            quiet,
        },
        plan,
    ))
}

async fn publish_all(options: RunOptions, plan: Plan) -> Result<u8, Failure> {
    let mut run = ClientRun::new(options.target, options.debug, None)?;
    run.client.session().set_send_maximum(options.max_inflight);
    let connected = run.connect().await;
    match connected.map_err(|error| run.not_connected(&error))? {
        Connected::Accepted => {}
        Connected::Refused(failure) => return Err(refused(&mut run, failure)),
        Connected::TimedOut => return Err(client_run::timed_out()),
        Connected::Stopped => return Ok(0),
    }
    let mut publisher = Publisher {
        run,
        plan,
        under_way: 0,
        has_advised: false,
        alias_known: false,
        quiet: options.quiet,
    };
    match publisher.plan.count {
        0 => publisher.publish_lines().await?,
        _ => publisher.publish_repeatedly().await?,
    }
    publisher.run.finish().await;
    Ok(0)
}

/// mosquitto_pub adds a second line to a refusal.
fn refused(run: &mut ClientRun, failure: Failure) -> Failure {
    run.output.flush();
    let second = match run.target.connect.version.is_v5() {
        true => "A network protocol error occurred when communicating with the broker.",
        false => "The connection was refused.",
    };
    Failure {
        text: format!("{}\nError: {second}", failure.text),
        ..failure
    }
}

struct Publisher {
    run: ClientRun,
    plan: Plan,
    /// Number of messages passed to the session that are not completed.
    under_way: usize,
    /// The command that shows why a message was refused has been printed.
    has_advised: bool,
    /// Whether the server has the Topic Alias on this connection.
    alias_known: bool,
    quiet: bool,
}

impl Publisher {
    /// Publishes one after another: each waits for the completion of the previous one, then for the
    /// delay.
    async fn publish_repeatedly(&mut self) -> Result<(), Failure> {
        for left in (0..self.plan.count).rev() {
            if !self.connected().await? {
                return Ok(());
            }
            let mut message = self.plan.message.clone();
            if self.alias_known && message.qos == QoS::AtMostOnce {
                // At higher QoS it may be resent on a connection without the alias.
                message.topic.clear();
            }
            self.publish(message)?;
            self.alias_known = self.plan.message.properties.topic_alias.is_some();
            while self.under_way > 0 {
                if !self.next().await? {
                    return Ok(());
                }
            }
            if left > 0 && !self.plan.delay.is_zero() && !self.pause().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits for the delay of `--repeat`; the connection is kept alive meanwhile.
    async fn pause(&mut self) -> Result<bool, Failure> {
        let end = tokio::time::Instant::now() + self.plan.delay;
        loop {
            match tokio::time::timeout_at(end, self.run.next()).await {
                Err(_) => return Ok(true),
                Ok(next) => {
                    if !self.act_on(next).await? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    async fn publish_lines(&mut self) -> Result<(), Failure> {
        let mut stdin = tokio::io::stdin();
        let mut pending = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        let mut open = true;
        while open {
            if self.under_way >= UNACKNOWLEDGED_MAX {
                if !self.next().await? {
                    return Ok(());
                }
                continue;
            }
            tokio::select! {
                next = self.run.next() => if !self.act_on(next).await? { return Ok(()) },
                read = stdin.read(&mut chunk) => match read {
                    Ok(count) if count > 0 => {
                        pending.extend_from_slice(&chunk[..count]);
                        if !self.publish_complete_lines(&mut pending).await? {
                            return Ok(());
                        }
                        // The next event reports a connection that is lost here.
                        let _ = self.run.client.flush().await;
                    }
                    _ => open = false,
                },
            }
        }
        if !pending.is_empty() {
            if !self.connected().await? {
                return Ok(());
            }
            self.publish_line(pending)?;
        }
        while self.under_way > 0 {
            if !self.next().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Publishes the complete lines. Returns false if the command must end.
    async fn publish_complete_lines(&mut self, pending: &mut Vec<u8>) -> Result<bool, Failure> {
        let mut start = 0;
        while let Some(len) = pending[start..].iter().position(|byte| *byte == b'\n') {
            if !self.connected().await? {
                return Ok(false);
            }
            self.publish_line(pending[start..start + len].to_vec())?;
            start += len + 1;
        }
        pending.drain(..start);
        Ok(true)
    }

    fn publish_line(&mut self, payload: Vec<u8>) -> Result<(), Failure> {
        let message = Message {
            payload,
            ..self.plan.message.clone()
        };
        self.publish(message)
    }

    fn publish(&mut self, message: Message) -> Result<(), Failure> {
        let now = self.run.client.now();
        let result = self.run.client.session().publish(message, now);
        result.map_err(|error| Failure::error(exit::ERROR, error))?;
        self.under_way += 1;
        Ok(())
    }

    /// Waits until there is a connection. Returns false if the command must end.
    async fn connected(&mut self) -> Result<bool, Failure> {
        while !self.run.client.session().is_connected() {
            if !self.next().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for one event and handles it. Returns false if the command must end.
    async fn next(&mut self) -> Result<bool, Failure> {
        let next = self.run.next().await;
        self.act_on(next).await
    }

    async fn act_on(&mut self, next: Next) -> Result<bool, Failure> {
        match next {
            Next::Event(event) => self.receive(event),
            Next::Lost(error) => return self.lost(&error).await,
            Next::TimedOut | Next::Stopped => return Ok(false),
        }
        Ok(true)
    }

    /// Reconnects if more than one message is to be sent; the session resends unacknowledged
    /// messages.
    async fn lost(&mut self, error: &NetError) -> Result<bool, Failure> {
        if self.plan.count == 1 {
            return Err(Failure::from_net(error));
        }
        self.alias_known = false;
        match self.run.reconnect().await {
            Connected::Accepted => Ok(true),
            Connected::Refused(failure) => Err(refused(&mut self.run, failure)),
            // The command must end while messages are unsent.
            Connected::TimedOut | Connected::Stopped if self.under_way > 0 => {
                Err(Failure::from_net(error))
            }
            Connected::TimedOut | Connected::Stopped => Ok(false),
        }
    }

    fn receive(&mut self, event: Event) {
        let Event::Completed {
            request,
            acknowledgement,
        } = event
        else {
            return;
        };
        let Acknowledgement::Published { reason, .. } = acknowledgement else {
            return;
        };
        self.under_way = self.under_way.saturating_sub(1);
        if reason.is_error() && !self.quiet {
            let why = exit::reason_text(reason);
            errln!("Warning: Publish {request} failed: {why}.");
            // Once: each of many messages may be refused for the same reason.
            if !std::mem::replace(&mut self.has_advised, true)
                && let Some(advice) = self.run.advice_of_refusal()
            {
                errln!("{advice}");
            }
        }
    }
}

fn repeat(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "--repeat argument must be >0.".to_owned())
}

fn repeat_delay(text: &str) -> Result<Duration, String> {
    let secs: f64 = text.parse().unwrap_or(-1.0);
    let delay = Duration::try_from_secs_f64(secs);
    delay.map_err(|_| "--repeat-delay argument must be >=0.0.".to_owned())
}
