//! Rules about messages, and alarms: what they say, and what follows from a message.
//!
//! The crate is pure: time and messages come in, actions and changes of alarms go out. Who calls it
//! carries them out.
//!
//! * `expression`: an expression of CEL that is checked and bounded
//! * `problem`: why it has no value for a message
//! * `fuel`: what expressions may cost
//! * `pattern`: patterns of `matches`
//! * `functions`: the functions that expressions have
//! * `arithmetic`: numbers of both kinds, which mix
//! * `value`: JSON to values of expressions, and back to text
//! * `template`: text with expressions in it
//! * `definition`: a rule as it is written
//! * `rule`: a rule that is checked
//! * `facts`: what a rule is told of a message
//! * `filter`: Topic Filters that are split into their levels
//! * `hops`: how far a message is from its cause, so that loops end
//! * `guard`: who catches panics of the library for expressions
//! * `memory`: what rules remember between messages
//! * `set`: all rules of a node, and what they make of a message
//! * `alarm`: states of alarms
//! * `alarm_input`: what they are told
#![forbid(unsafe_code)]

pub mod alarm;
mod alarm_input;
mod arithmetic;
mod definition;
mod expression;
mod facts;
mod filter;
mod fuel;
#[cfg(test)]
mod fuel_tests;
mod functions;
mod guard;
mod hops;
mod memory;
mod pattern;
mod problem;
mod rule;
mod set;
mod template;
#[cfg(test)]
mod tests;
mod value;

pub use alarm::{
    Alarm, AlarmChange, AlarmError, AlarmKey, AlarmMachine, AlarmState, ChangeKind, InhibitedAlarm,
    WaitingAlarm, WatchState,
};
pub use alarm_input::AlarmInput;
pub use definition::{
    ActionDefinition, AlarmAction, AlarmDefinition, AlarmKind, CommandAction, Definition,
    DefinitionError, PublishAction, Severity, TelemetryAction, WebhookAction,
};
pub use expression::{ELEMENTS_MAX, EXPRESSION_BYTES_MAX, Evaluator, ExpressionError};
pub use facts::{DeviceFacts, Facts, PAYLOAD_BYTES_MAX, RuleInput};
pub use fuel::UNITS_MAX;
pub use guard::Guard;
pub use hops::{HOPS_MAX, hops_after, hops_of_siblings};
pub use memory::Memory;
pub use pattern::PATTERN_BYTES_MAX;
pub use problem::Problem;
pub use rule::{MessageRule, RuleSource, own_webhook};
pub use set::{Action, MessageRules, Outcome, RuleResult, TaggedRule};
pub use value::{json_text, text_of};
