//! Rules about messages, and alarms: definitions, and their consequences for a message.
//!
//! The crate is pure: the input is time and messages, the output is actions and changes of alarms.
//! The caller executes them.
//!
//! * `expression`: a checked and bounded CEL expression
//! * `problem`: why an expression has no value for a message
//! * `fuel`: cost limits of expressions
//! * `pattern`: patterns of `matches`
//! * `functions`: the functions of expressions
//! * `arithmetic`: arithmetic with mixed numbers
//! * `value`: converts JSON to values of expressions, and back to text
//! * `template`: texts with embedded expressions
//! * `definition`: the definition of a rule
//! * `rule`: a validated rule
//! * `facts`: the input of a rule
//! * `filter`: Topic Filters, split into levels
//! * `hops`: loop prevention by counting hops
//! * `guard`: catches panics of the expression library
//! * `memory`: state of rules between messages
//! * `set`: all rules of a node, and their results for a message
//! * `alarm`: states of alarms
//! * `alarm_input`: observations for alarms
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
pub use memory::{Memory, PREVIOUS_MAX, Previous};
pub use pattern::PATTERN_BYTES_MAX;
pub use problem::Problem;
pub use rule::{MessageRule, RuleSource, own_webhook};
pub use set::{Action, MessageRules, Outcome, RuleResult, TaggedRule};
pub use value::{json_text, text_of};
