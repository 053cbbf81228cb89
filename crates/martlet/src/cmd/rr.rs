//! `martlet rr`: sends a request and prints the first response.
//!
//! Responsible for the behaviour of mosquitto_rr's options: subscribe to the response topic,
//! publish the request with it as Response Topic, and wait. MQTT 5.0 §4.10.

use std::process::ExitCode;

use clap::{ArgAction, Args};
use martlet_client::{Acknowledgement, Event, Message, SubscribeRequest};
use martlet_codec::{ProtocolVersion, QoS, ReasonCode, TopicName};

use super::argv;
use super::client_run::{ClientRun, Connected, Next, block_on, timed_out};
use super::exit::{self, Failure};
use super::message_source::MessageOptions;
use super::mqtt_options::{self, MqttOptions, Target};
use super::sub::PrintOptions;

/// Arguments of `martlet rr`.
#[derive(Args)]
pub(crate) struct RrOptions {
    #[command(flatten)]
    mqtt: MqttOptions,
    #[command(flatten)]
    message: MessageOptions,
    #[command(flatten)]
    print: PrintOptions,
    /// Topic of the response
    #[arg(short = 'e', long = "response-topic", value_name = "response-topic")]
    response_topic: Option<String>,
    /// QoS of request and subscription
    #[arg(short = 'q', long, value_name = "QoS", default_value = "0",
          value_parser = mqtt_options::qos)]
    qos: QoS,
    /// Topic of the request
    #[arg(short = 't', long, value_name = "topic")]
    topic: Option<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// The request and the response topic.
struct Plan {
    debug: bool,
    print: PrintOptions,
    request: Message,
    response: SubscribeRequest,
}

/// Runs the command.
pub(crate) fn run(mut options: RrOptions) -> ExitCode {
    let quiet = options.mqtt.quiet;
    options.print.prepare();
    match prepare(options) {
        Ok((target, plan)) => block_on(quiet, ask(target, plan)),
        Err(failure) => exit::finish(Err(failure), false),
    }
}

fn prepare(options: RrOptions) -> Result<(Target, Plan), Failure> {
    let usage = |line: &str| Failure {
        code: exit::ERROR,
        text: argv::with_usage(line, "rr"),
    };
    let debug = options.mqtt.debug;
    let refused = |refusal: mqtt_options::OptionsRefusal| Failure {
        code: exit::ERROR,
        text: refusal.text("rr"),
    };
    let mut target = options.mqtt.target(ProtocolVersion::V5).map_err(refused)?;
    if options.message.count() > 1 {
        return Err(usage("Only one type of message can be sent at once."));
    }
    let topic = options.topic.or(target.topic.take());
    let (Some(topic), Some(response_topic), 1) =
        (topic, options.response_topic, options.message.count())
    else {
        return Err(usage(
            "All of topic, message, and response topic must be supplied.",
        ));
    };
    for (kind, topic) in [("publish", &topic), ("response", &response_topic)] {
        TopicName::new(topic).map_err(|_| {
            usage(&format!(
                "Invalid {kind} topic '{topic}', does it contain '+' or '#'?"
            ))
        })?;
    }
    let mut properties = target.properties.publish.clone();
    properties.response_topic = Some(response_topic.clone());
    let request = Message {
        topic,
        qos: options.qos,
        payload: options.message.read()?,
        properties,
        ..Message::default()
    };
    let mut response = SubscribeRequest::one(response_topic, options.qos);
    response.subscription_id = target.properties.subscription_id;
    response.user_properties = target.properties.subscribe_user.clone();
    Ok((
        target,
        Plan {
            debug,
            print: options.print,
            request,
            response,
        },
    ))
}

/// The failure for what the broker refused, with the command that shows why.
fn refused(run: &ClientRun, what: &str, reason: ReasonCode) -> Failure {
    let text = format!("{what}: {}", exit::reason_text(reason));
    with_advice(run, Failure::error(exit::ERROR, text))
}

fn with_advice(run: &ClientRun, failure: Failure) -> Failure {
    match run.advice_of_refusal() {
        Some(advice) => failure.with_line(&advice),
        None => failure,
    }
}

async fn ask(target: Target, plan: Plan) -> Result<u8, Failure> {
    let mut run = ClientRun::new(target, plan.debug, plan.print.timeout)?;
    let connected = run.connect().await;
    match connected.map_err(|error| run.not_connected(&error))? {
        Connected::Accepted => {}
        Connected::Refused(failure) => {
            run.output.flush();
            return Err(failure);
        }
        Connected::TimedOut => return Err(timed_out()),
        Connected::Stopped => return Ok(exit::ERROR),
    }
    let now = run.client.now();
    let request_error = |error| Failure::error(exit::ERROR, error);
    run.client
        .session()
        .subscribe(&plan.response, now)
        .map_err(request_error)?;
    loop {
        match run.next().await {
            Next::Event(Event::Completed {
                acknowledgement, ..
            }) => match acknowledgement {
                Acknowledgement::Subscribed(reasons) if reasons.iter().all(|r| r.is_error()) => {
                    run.finish().await;
                    let reason = reasons.first().copied();
                    let reason = reason.unwrap_or(ReasonCode::UnspecifiedError);
                    // mosquitto_rr exits with 0 here, although no request was sent.
                    return Err(refused(
                        &run,
                        "the response topic cannot be subscribed to",
                        reason,
                    ));
                }
                Acknowledgement::Published { reason, .. } if reason.is_error() => {
                    run.finish().await;
                    return Err(refused(&run, "the request was refused", reason));
                }
                Acknowledgement::Subscribed(_) => {
                    let now = run.client.now();
                    let request = plan.request.clone();
                    run.client
                        .session()
                        .publish(request, now)
                        .map_err(request_error)?;
                }
                _ => {}
            },
            Next::Event(Event::Message(message)) => {
                if message.retain && plan.print.no_retained {
                    continue;
                }
                plan.print.print(&message, run.output.buffer());
                run.finish().await;
                return Ok(0);
            }
            Next::Event(_) => {}
            Next::Lost(error) => return Err(Failure::from_net(&error)),
            Next::TimedOut => {
                run.finish().await;
                // With QoS 0 no acknowledgement says that the request was refused.
                return Err(with_advice(&run, timed_out()));
            }
            Next::Stopped => {
                run.finish().await;
                return Ok(0);
            }
        }
    }
}
