//! What an expression may have in it, and what becomes of it: arithmetic takes numbers of both
//! kinds, lists of macros are bounded, and patterns are compiled once.

use cel::common::ast::{EntryExpr, Expr, LiteralValue};
use cel::{Context, DeclarationError, ExecutionError, IdedExpr, Value};
use regex::{Regex, RegexBuilder};

use super::{ELEMENTS_MAX, ExpressionError, PATTERN_BYTES_MAX};
use crate::arithmetic::Operator;
use crate::functions::{ADD_NUMBERS, FUNCTIONS, MATCHES};

/// Name of the function around the list of a macro.
const BOUNDED: &str = "@bounded";
/// Levels of a syntax tree, at most.
const DEPTH_MAX: usize = 96;
/// `+` of an expression, at most: each may make a text twice as long.
const SUMS_MAX: usize = 16;
/// Uses of variables, at most: each may copy the payload.
const USES_MAX: usize = 64;
/// Names, numbers, texts and operations inside of a macro, at most: they are evaluated for each
/// element.
const INSIDE_MAX: usize = 48;
/// Patterns of all expressions of an evaluator, at most.
const PATTERNS_MAX: usize = 10_000;
/// Bytes that a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 1 << 18;

/// Signs of CEL, as the syntax tree names them, but those of arithmetic.
const SIGNS: &[&str] = &[
    "_?_:_",
    "_&&_",
    "_||_",
    "!_",
    "_==_",
    "_!=_",
    "_>=_",
    "_<=_",
    "_>_",
    "_<_",
    "-_",
    "_[_]",
    "@not_strictly_false",
    "@in",
];

/// Which variables an expression uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variables(u16);

/// Names of variables, by the places of their bits.
const NAMES: [&str; 9] = [
    "topic", "levels", "payload", "device", "key", "value", "previous", "time", "event",
];

impl Variables {
    /// Whether one of this name is used.
    pub(crate) fn has(self, name: &str) -> bool {
        let at = NAMES.iter().position(|known| *known == name);
        at.is_some_and(|at| self.0 & (1 << at) != 0)
    }

    /// Those that are used by one of both.
    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Adds the function that bounds the lists of macros.
///
/// # Errors
/// CEL has got its name.
pub(super) fn add_bound(context: &mut Context<'_, '_>) -> Result<(), DeclarationError> {
    context.add_function(BOUNDED, |list: Value| {
        let elements = match &list {
            Value::List(items) => items.len(),
            Value::Map(members) => members.map.len(),
            _ => 0,
        };
        match elements > ELEMENTS_MAX {
            true => Err(ExecutionError::function_error(
                "macro",
                format!("the list has {elements} elements, expected {ELEMENTS_MAX} at most"),
            )),
            false => Ok::<Value, ExecutionError>(list),
        }
    })
}

/// Checks a syntax tree and makes it what is evaluated.
pub(super) fn check(
    tree: &mut IdedExpr,
    patterns: &mut Vec<Regex>,
) -> Result<Variables, ExpressionError> {
    let mut check = Check {
        patterns,
        variables: Variables::default(),
        sums: 0,
        uses: 0,
        macros: 0,
        inside: 0,
        element: None,
    };
    check.expression(tree, 0)?;
    Ok(check.variables)
}

struct Check<'a> {
    patterns: &'a mut Vec<Regex>,
    variables: Variables,
    sums: usize,
    uses: usize,
    macros: usize,
    /// Parts inside of a macro so far.
    inside: usize,
    /// Inside of a macro: the names of the element and of what is collected.
    element: Option<(String, String)>,
}

fn refused<T>(why: impl Into<String>) -> Result<T, ExpressionError> {
    Err(ExpressionError(why.into()))
}

impl Check<'_> {
    fn expression(&mut self, node: &mut IdedExpr, depth: usize) -> Result<(), ExpressionError> {
        if depth > DEPTH_MAX {
            return refused(format!("it has more than {DEPTH_MAX} levels"));
        }
        self.inside += usize::from(self.element.is_some());
        if self.inside > INSIDE_MAX {
            return refused(format!(
                "it has more than {INSIDE_MAX} names, numbers and operations inside of a macro, which \
                 are evaluated for each element"
            ));
        }
        match &mut node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.expression(&mut select.operand, depth + 1),
            Expr::List(list) => {
                let mut elements = list.elements.iter_mut();
                elements.try_for_each(|element| self.expression(element, depth + 1))
            }
            Expr::Map(map) => map
                .entries
                .iter_mut()
                .try_for_each(|entry| match &mut entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        self.expression(&mut entry.key, depth + 1)?;
                        self.expression(&mut entry.value, depth + 1)
                    }
                    EntryExpr::StructField(_) => {
                        refused("it makes a message, which is not supported")
                    }
                }),
            Expr::Call(_) => self.call(node, depth),
            Expr::Comprehension(_) => self.comprehension(node, depth),
            _ => refused("it has a part that is not supported"),
        }
    }

    fn variable(&mut self, name: &str) -> Result<(), ExpressionError> {
        if let Some((element, collected)) = &self.element {
            if name == element || name == collected {
                return Ok(());
            }
            return refused(format!(
                "{name:?} is used inside of a macro, where only the element {element:?} is known: \
                 it would be looked at once for each element"
            ));
        }
        let Some(at) = NAMES.iter().position(|known| *known == name) else {
            let names = NAMES.join(", ");
            return refused(format!("there is no {name:?}: expected one of {names}"));
        };
        self.uses += 1;
        if self.uses > USES_MAX {
            return refused(format!("it uses variables more than {USES_MAX} times"));
        }
        self.variables.0 |= 1 << at;
        Ok(())
    }

    fn call(&mut self, node: &mut IdedExpr, depth: usize) -> Result<(), ExpressionError> {
        let Expr::Call(call) = &mut node.expr else {
            return Ok(());
        };
        let operator = Operator::ALL.iter().find(|known| known.1 == call.func_name);
        let is_known = operator.is_some()
            || SIGNS.contains(&call.func_name.as_str())
            || FUNCTIONS.contains(&call.func_name.as_str());
        if !is_known {
            let names = FUNCTIONS.join(", ");
            return refused(format!(
                "there is no function {:?}: expected one of {names}, or a macro: all, exists, \
                 exists_one, filter, map, has",
                call.func_name
            ));
        }
        let arguments = call.args.len() + usize::from(call.target.is_some());
        if let Some(expected) = arguments_of(&call.func_name)
            && arguments != expected
        {
            return refused(format!(
                "{} has {arguments} arguments, expected {expected}",
                call.func_name
            ));
        }
        if let Some(target) = &mut call.target {
            self.expression(target, depth + 1)?;
        }
        if call.func_name == "matches" {
            return self.pattern(node);
        }
        let mut arguments = call.args.iter_mut();
        arguments.try_for_each(|argument| self.expression(argument, depth + 1))?;
        if let Some((operator, _, name)) = operator {
            // What a macro collects grows by one element at a time.
            let is_collecting = match (&self.element, call.args.first().map(|first| &first.expr)) {
                (Some((_, collected)), Some(Expr::Ident(first))) => first == collected,
                _ => false,
            };
            let mut name = *name;
            if *operator == Operator::Add && !is_collecting {
                self.sums += 1;
                if self.sums > SUMS_MAX {
                    return refused(format!("it has more than {SUMS_MAX} signs +"));
                }
                if self.element.is_some() {
                    name = ADD_NUMBERS;
                }
            }
            call.func_name = name.to_owned();
        }
        // Functions of our own are no methods: `a.lower()` is `lower(a)`.
        if let Some(target) = call.target.take_if(|_| is_own(&call.func_name)) {
            call.args.insert(0, *target);
        }
        Ok(())
    }

    /// `text.matches("pattern")`: the pattern is compiled now.
    fn pattern(&mut self, node: &mut IdedExpr) -> Result<(), ExpressionError> {
        let Expr::Call(call) = &mut node.expr else {
            return Ok(());
        };
        let pattern = match call.args.last().map(|last| &last.expr) {
            Some(Expr::Literal(LiteralValue::String(text))) => text.inner().to_owned(),
            _ => return refused("the pattern of matches is a text in quotes, and no expression"),
        };
        if pattern.len() > PATTERN_BYTES_MAX {
            return refused(format!(
                "a pattern has {} bytes, expected {PATTERN_BYTES_MAX} at most",
                pattern.len()
            ));
        }
        if self.patterns.len() >= PATTERNS_MAX {
            return refused("all rules together have too many patterns");
        }
        let compiled = RegexBuilder::new(&pattern)
            .size_limit(COMPILED_BYTES_MAX)
            .build();
        let compiled = compiled.map_err(|error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().to_owned();
            ExpressionError(format!("the pattern {pattern:?} is none: {last}"))
        })?;
        let number = self.patterns.len() as i64;
        self.patterns.push(compiled);
        call.args.pop();
        let text = match call.target.take() {
            Some(target) => *target,
            None => {
                let mut text = call.args.remove(0);
                self.expression(&mut text, 0)?;
                text
            }
        };
        let number = Expr::Literal(LiteralValue::Int(number.into()));
        MATCHES.clone_into(&mut call.func_name);
        call.args = vec![
            text,
            IdedExpr {
                id: 0,
                expr: number,
            },
        ];
        Ok(())
    }

    fn comprehension(&mut self, node: &mut IdedExpr, depth: usize) -> Result<(), ExpressionError> {
        let Expr::Comprehension(all) = &mut node.expr else {
            return Ok(());
        };
        if self.element.is_some() || self.macros > 0 {
            return refused(
                "it has more than one of the macros all, exists, exists_one, filter and map: one \
                 is permitted",
            );
        }
        self.macros += 1;
        self.expression(&mut all.iter_range, depth + 1)?;
        let range = std::mem::take(&mut all.iter_range);
        all.iter_range = IdedExpr {
            id: range.id,
            expr: Expr::Call(cel::common::ast::CallExpr {
                func_name: BOUNDED.to_owned(),
                target: None,
                args: vec![range],
            }),
        };
        self.element = Some((all.iter_var.clone(), all.accu_var.clone()));
        let parts = [
            &mut all.accu_init,
            &mut all.loop_cond,
            &mut all.loop_step,
            &mut all.result,
        ];
        let checked = parts
            .into_iter()
            .try_for_each(|part| self.expression(part, depth + 1));
        self.element = None;
        checked
    }
}

/// Arguments of a function, what it is called on among them; none: CEL checks that.
fn arguments_of(name: &str) -> Option<usize> {
    match name {
        "abs" | "json" | "lower" | "number" | "round" | "bytes" | "double" | "int" | "size"
        | "string" => Some(1),
        "contains" | "endsWith" | "matches" | "startsWith" => Some(2),
        "inside" => Some(3),
        "distance" => Some(4),
        _ => None,
    }
}

fn is_own(name: &str) -> bool {
    matches!(
        name,
        "abs" | "distance" | "inside" | "json" | "lower" | "number" | "round"
    )
}
