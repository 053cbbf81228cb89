//! Checks the syntax tree of an expression, and rewrites it. Arithmetic accepts numbers of both
//! kinds, lists of macros are bounded, and patterns are compiled once. Operations whose cost
//! depends on the size of a value are wrapped in a function that charges for it.

use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue};
use cel::common::types::CelInt;
use cel::common::value::BuiltinRef;
use cel::{Context, DeclarationError, ExecutionError, IdedExpr};

use crate::arithmetic::Operator;
use crate::fuel;
use crate::functions::{ADD_NUMBERS, FUNCTIONS, Function, MATCHES, PAY, PAY_LIST, PAY_TEXT, first};
use crate::pattern::{PatternHandle, Patterns};
use crate::problem::ExpressionError;

/// Maximum number of list elements that a macro iterates over.
pub const ELEMENTS_MAX: usize = 1_000;
/// Name of the function that wraps the list of a macro.
const BOUNDED: &str = "@bounded";
/// Maximum depth of a syntax tree.
const DEPTH_MAX: usize = 96;
/// Maximum number of `+` in an expression: each may double a text.
const SUMS_MAX: usize = 16;
/// Maximum number of uses of variables: each may copy the payload.
const USES_MAX: usize = 64;
/// Maximum number of names, numbers, texts and operations inside a macro: they are evaluated for
/// each element.
const INSIDE_MAX: usize = 48;

/// Operators of CEL by their names in the syntax tree, except those of arithmetic.
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

/// The variables that an expression uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variables(u16);

/// Names of variables, by bit position.
const NAMES: [&str; 9] = [
    "topic", "levels", "payload", "device", "key", "value", "previous", "time", "event",
];

impl Variables {
    /// Whether the variable of this name is used.
    pub(crate) fn has(self, name: &str) -> bool {
        let at = NAMES.iter().position(|known| *known == name);
        at.is_some_and(|at| self.0 & (1 << at) != 0)
    }

    /// The variables used by either.
    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Adds the function that bounds the lists of macros, and charges for the iteration. Its arguments
/// are the list, and the units per element.
///
/// # Errors
/// CEL has a function of this name already.
pub(super) fn add_bound(context: &mut Context<'_, '_>) -> Result<(), DeclarationError> {
    let function: Function = Box::new(|called| {
        let units = called.args.get(1);
        let units = units.and_then(|one| Some(*one.downcast_ref::<CelInt>()?.inner()));
        let list = first(called)?;
        let elements = match list.as_builtin() {
            BuiltinRef::List(items) => items.inner().len(),
            BuiltinRef::Map(members) => members.inner().len(),
            _ => 0,
        };
        if elements > ELEMENTS_MAX {
            return Err(ExecutionError::function_error(
                "macro",
                format!("the list has {elements} elements, expected {ELEMENTS_MAX} at most"),
            ));
        }
        let units = u64::try_from(units.unwrap_or_default()).unwrap_or_default();
        fuel::charge(fuel::of_size(elements).saturating_mul(units))?;
        fuel::charge_value(list.as_ref())?;
        Ok(list)
    });
    context.add_function::<Function, Function>(BOUNDED, function)
}

/// Result of checking a syntax tree.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) variables: Variables,
    pub(super) patterns: Vec<PatternHandle>,
    /// Units of its parts, except those inside macros and those that depend on values.
    pub(super) units: u64,
}

/// Checks a syntax tree and rewrites it for evaluation.
pub(super) fn check(tree: &mut IdedExpr, patterns: &Patterns) -> Result<Checked, ExpressionError> {
    let mut check = Check {
        patterns,
        checked: Checked {
            variables: Variables::default(),
            patterns: Vec::new(),
            units: 0,
        },
        sums: 0,
        uses: 0,
        macros: 0,
        inside: 0,
        inside_units: 0,
        element: None,
    };
    check.expression(tree, 0)?;
    Ok(check.checked)
}

struct Check<'a> {
    patterns: &'a Patterns,
    checked: Checked,
    sums: usize,
    uses: usize,
    macros: usize,
    /// Number of parts inside a macro so far.
    inside: usize,
    /// Their units per element.
    inside_units: u64,
    /// Inside a macro: the names of the element and of the accumulator.
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
        self.count(&node.expr);
        match &mut node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.expression(&mut select.operand, depth + 1),
            Expr::List(list) => {
                let mut elements = list.elements.iter_mut();
                elements.try_for_each(|element| self.copied(element, depth))
            }
            Expr::Map(map) => map
                .entries
                .iter_mut()
                .try_for_each(|entry| match &mut entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        self.copied(&mut entry.key, depth)?;
                        self.copied(&mut entry.value, depth)
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

    /// Counts the units of a part, without its children.
    fn count(&mut self, part: &Expr) {
        let text = match part {
            Expr::Literal(LiteralValue::String(text)) => text.inner().len(),
            Expr::Literal(LiteralValue::Bytes(bytes)) => bytes.inner().len(),
            _ => 0,
        };
        let units = match self.element {
            Some(_) => &mut self.inside_units,
            None => &mut self.checked.units,
        };
        *units = units.saturating_add(fuel::OPERATION + fuel::of_size(text));
    }

    /// Checks a part whose value is copied into another value.
    fn copied(&mut self, part: &mut IdedExpr, depth: usize) -> Result<(), ExpressionError> {
        self.expression(part, depth + 1)?;
        let is_elsewhere = match &part.expr {
            Expr::Ident(_) | Expr::Select(_) => true,
            Expr::Call(call) => matches!(&*call.func_name, "_[_]" | "_?_:_"),
            _ => false,
        };
        if is_elsewhere {
            pay(part, PAY);
        }
        Ok(())
    }

    fn variable(&mut self, name: &str) -> Result<(), ExpressionError> {
        if let Some((element, collected)) = &self.element {
            if name == element || name == collected {
                return Ok(());
            }
            return refused(format!(
                "{name:?} is used inside of a macro, where only the element {element:?} is known: \
                 it would be evaluated once for each element"
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
        self.checked.variables.0 |= 1 << at;
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
            // The accumulator of a macro grows by one element at a time. The library detects that
            // by the operator's name, and then copies nothing.
            let is_collecting = match (&self.element, call.args.first().map(|first| &first.expr)) {
                (Some((_, collected)), Some(Expr::Ident(first))) => first == collected,
                _ => false,
            };
            if is_collecting && *operator == Operator::Add {
                return Ok(());
            }
            let mut name = *name;
            if *operator == Operator::Add {
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
        // Our own functions have no method form: `a.lower()` becomes `lower(a)`.
        if let Some(target) = call.target.take_if(|_| is_own(&call.func_name)) {
            call.args.insert(0, *target);
        }
        pay_for_arguments(call);
        Ok(())
    }

    /// `text.matches("pattern")`: compiles the pattern now.
    fn pattern(&mut self, node: &mut IdedExpr) -> Result<(), ExpressionError> {
        let Expr::Call(call) = &mut node.expr else {
            return Ok(());
        };
        let pattern = match call.args.last().map(|last| &last.expr) {
            Some(Expr::Literal(LiteralValue::String(text))) => text.inner().to_owned(),
            _ => return refused("the pattern of matches is a text in quotes, and no expression"),
        };
        let held = self.patterns.add(&pattern).map_err(ExpressionError)?;
        let number = held.number();
        self.checked.patterns.push(held);
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
        checked?;
        pay(&mut all.iter_range, BOUNDED);
        let units = i64::try_from(self.inside_units).unwrap_or(i64::MAX);
        if let Expr::Call(call) = &mut all.iter_range.expr {
            call.args.push(IdedExpr {
                id: 0,
                expr: Expr::Literal(LiteralValue::Int(units.into())),
            });
        }
        Ok(())
    }
}

/// Wraps a part in a function that charges for its value.
fn pay(part: &mut IdedExpr, function: &str) {
    let inner = std::mem::take(part);
    part.id = inner.id;
    part.expr = Expr::Call(CallExpr {
        func_name: function.to_owned(),
        target: None,
        args: vec![inner],
    });
}

/// Makes a call charge for its arguments. Our own functions and arithmetic do that themselves.
fn pay_for_arguments(call: &mut CallExpr) {
    match call.func_name.as_str() {
        // The cost is bounded by the smaller operand.
        "_==_" | "_!=_" | "_>=_" | "_<=_" | "_>_" | "_<_" => {
            if let [left, right] = &mut call.args[..]
                && !(is_small(left) || is_small(right))
            {
                pay(left, PAY);
            }
        }
        "@in" => {
            if let [element, list] = &mut call.args[..] {
                if !is_small(element) {
                    pay(element, PAY);
                }
                if !matches!(list.expr, Expr::List(_)) {
                    pay(list, PAY_LIST);
                }
            }
        }
        "_[_]" => {
            if let [_, index] = &mut call.args[..]
                && !is_small(index)
            {
                pay(index, PAY_TEXT);
            }
        }
        "contains" | "startsWith" | "endsWith" | "size" | "string" | "bytes" | "int" | "double" => {
            let target = call.target.iter_mut().map(|target| &mut **target);
            for part in target.chain(&mut call.args) {
                if !is_small(part) {
                    pay(part, PAY_TEXT);
                }
            }
        }
        _ => {}
    }
}

/// Whether a value is a number or a boolean, or is a literal of the expression, which is charged
/// already.
fn is_small(part: &IdedExpr) -> bool {
    match &part.expr {
        Expr::Literal(_) => true,
        Expr::Select(select) => select.test,
        Expr::Call(call) => matches!(
            call.func_name.as_str(),
            "!_" | "-_"
                | "_&&_"
                | "_||_"
                | "_==_"
                | "_!=_"
                | "_>=_"
                | "_<=_"
                | "_>_"
                | "_<_"
                | "@in"
                | "@subtract"
                | "@multiply"
                | "@divide"
                | "@remainder"
                | "@add_numbers"
                | "@matches"
                | "abs"
                | "contains"
                | "distance"
                | "double"
                | "endsWith"
                | "inside"
                | "int"
                | "number"
                | "round"
                | "size"
                | "startsWith"
        ),
        _ => false,
    }
}

/// Number of arguments of a function, including its receiver; `None`: CEL checks that.
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
