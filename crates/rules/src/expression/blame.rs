//! Describes which value of a message has the wrong type for an expression. Authors of rules know
//! neither the types of CEL nor the message.

use cel::common::ast::{CallExpr, Expr};
use cel::{Context, IdedExpr, Value};

use crate::arithmetic::Operator;
use crate::functions::{PAY, PAY_LIST, PAY_TEXT};

/// Characters of a value that are shown.
const SHOWN_MAX: usize = 40;

/// Parts of names whose values are not shown.
const SECRET: [&str; 8] = [
    "pass", "pwd", "secret", "token", "key", "auth", "cred", "code",
];

/// Describes the value that an operation of the expression does not accept; `None` if unknown. The
/// search costs as much as the expression, which the caller charges.
pub(super) fn in_words(tree: &IdedExpr, scope: &Context<'_, '_>) -> Option<String> {
    let Expr::Call(call) = &tree.expr else {
        // The elements that a macro iterates over are unknown here.
        return match &tree.expr {
            Expr::Select(select) => in_words(&select.operand, scope),
            _ => None,
        };
    };
    let parts = call.target.iter().map(|target| &**target).chain(&call.args);
    parts
        .clone()
        .find_map(|part| in_words(part, scope))
        .or_else(|| of_operation(call, scope))
}

fn of_operation(call: &CallExpr, scope: &Context<'_, '_>) -> Option<String> {
    let ([left, right], None) = (&call.args[..], &call.target) else {
        return None;
    };
    let does = match &*call.func_name {
        "_>_" | "_<_" | "_>=_" | "_<=_" => "compared",
        name if Operator::ALL
            .iter()
            .any(|(_, own, other)| name == *own || name == *other) =>
        {
            "combined"
        }
        _ => return None,
    };
    let value = |part: &IdedExpr| -> Option<Value> {
        let value = Value::resolve_val(part, scope).ok()?;
        value.as_ref().try_into().ok()
    };
    let (of_left, of_right) = (value(left)?, value(right)?);
    let (what_left, what_right) = (kind(&of_left)?, kind(&of_right)?);
    if what_left == what_right {
        return None;
    }
    // A literal of the rule is assumed to be correct; of two other values, the one that is not a
    // number is at fault.
    let of_message = [(left, &of_left, what_right), (right, &of_right, what_left)];
    let named = of_message
        .into_iter()
        .filter_map(|(part, value, other)| Some((name(part)?, value, other)));
    let (name, value, other) = named.min_by_key(|(_, value, _)| kind(value) == Some(NUMBER))?;
    Some(format!(
        "{name} is {}, and is {does} with {other}",
        shown(&name, value)?
    ))
}

const NUMBER: &str = "a number";

fn kind(value: &Value) -> Option<&'static str> {
    Some(match value {
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => NUMBER,
        Value::String(_) => "a text",
        Value::Bool(_) => "true or false",
        Value::Null => "null",
        Value::List(_) => "a list",
        Value::Map(_) => "an object",
        _ => return None,
    })
}

fn shown(name: &str, value: &Value) -> Option<String> {
    let last = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
    let is_secret = SECRET.iter().any(|part| last.contains(part));
    Some(match value {
        Value::String(text) if !is_secret => {
            let mut part: String = text.chars().take(SHOWN_MAX).collect();
            if part.len() < text.len() {
                part.push('…');
            }
            format!("the text {part:?}")
        }
        Value::Bool(flag) => flag.to_string(),
        value => kind(value)?.to_owned(),
    })
}

/// The name of a message's value in the expression; `None`: it is not such a value.
fn name(part: &IdedExpr) -> Option<String> {
    match &part.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => {
            Some(format!("{}.{}", name(&select.operand)?, select.field))
        }
        Expr::Call(call) if [PAY, PAY_LIST, PAY_TEXT].contains(&&*call.func_name) => {
            name(call.args.first()?)
        }
        _ => None,
    }
}
