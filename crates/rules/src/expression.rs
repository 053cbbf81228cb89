//! A checked and bounded CEL expression. Macros iterate over lists of limited length, only once
//! and never nested; inside a macro only the element is accessible, so that costs do not multiply.
//! The cost is counted (`fuel`): evaluation ends when it is too high.

mod blame;
mod check;

use std::sync::Arc;
use std::{fmt, thread};

use cel::common::types::CelBool;
use cel::common::value::CowVal;
use cel::{Context, ExecutionError, IdedExpr, ParseError, Program, Value};

use crate::pattern::{PatternHandle, Patterns};
use crate::problem::Problem;
use crate::{fuel, functions};

pub use crate::problem::ExpressionError;
pub use check::ELEMENTS_MAX;
pub(crate) use check::Variables;

/// Maximum bytes of an expression.
pub const EXPRESSION_BYTES_MAX: usize = 4 * 1024;
/// Maximum nesting of brackets, and of conditions `? :`.
const NESTED_MAX: usize = 24;
/// Stack of the parser.
const PARSER_STACK_BYTES: usize = 16 << 20;
/// Maximum number of names, numbers, texts and operators of an expression.
const TOKENS_MAX: usize = 512;
/// Maximum number of operators in the whole text of an expression, including quoted texts.
const SIGNS_MAX: usize = 1_000;
/// Bytes of an error that are shown.
const SHOWN_MAX: usize = 300;

/// Begin of the parser's errors about the syntax.
const SYNTAX_ERROR: &str = "Syntax error: ";
/// Error of an expression without better words.
const NOT_VALID: &str = "it is not a valid expression from here on";
/// Error of an expression with a value of the wrong type.
const OTHER_TYPE: &str = "a value has another type than the expression expects";

/// A checked expression.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    tree: IdedExpr,
    variables: Variables,
    /// Units of its parts, independent of values.
    units: u64,
    /// Handles that keep its patterns alive.
    _patterns: Arc<[PatternHandle]>,
}

impl Expression {
    /// The variables that it uses.
    pub(crate) fn variables(&self) -> Variables {
        self.variables
    }
}

/// Checks and evaluates expressions.
pub struct Evaluator {
    root: Context<'static, 'static>,
    patterns: Patterns,
}

impl Default for Evaluator {
    fn default() -> Self {
        let patterns = Patterns::default();
        let mut root = Context::default();
        let added = functions::add_to(&mut root, &patterns);
        let added = added.and_then(|()| check::add_bound(&mut root));
        // Without them, rules that need them are not accepted; tests call all of them.
        debug_assert!(added.is_ok(), "{added:?}");
        Self { root, patterns }
    }
}

impl fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluator").finish_non_exhaustive()
    }
}

impl Evaluator {
    /// Parses an expression.
    ///
    /// # Errors
    /// It is too long, not valid CEL, or uses something undefined or unbounded.
    pub(crate) fn parse(&self, text: &str) -> Result<Expression, ExpressionError> {
        check_text(text)?;
        let program = compiled(text)?;
        let mut tree = program.expression().clone();
        let checked = check::check(&mut tree, &self.patterns)?;
        Ok(Expression {
            tree,
            variables: checked.variables,
            units: checked.units,
            _patterns: checked.patterns.into(),
        })
    }

    /// A scope for the values of a message.
    pub(crate) fn scope(&self) -> Context<'_, '_> {
        self.root.new_inner_scope()
    }
}

/// Compiles a text. For each bracket the parser makes eighteen nested calls, which take 150 KB of
/// stack in a build without optimisation. So it runs on a thread whose stack has room for
/// [`NESTED_MAX`] brackets.
fn compiled(text: &str) -> Result<Program, ExpressionError> {
    let compile = || {
        Program::compile(text).map_err(|errors| {
            let mut all = errors.errors.iter();
            // What follows from an error of the syntax is named by types of the parser.
            let is_syntax = |error: &&ParseError| error.msg.starts_with(SYNTAX_ERROR);
            let first = all.clone().find(is_syntax).or_else(|| all.next());
            ExpressionError(first.map_or_else(
                || NOT_VALID.to_owned(),
                |error| {
                    let (line, column) = error.pos;
                    let words = in_words(&error.msg);
                    let words = shortened(&format!("line:column {line}:{column}: {words}"));
                    words + mistake(text)
                },
            ))
        })
    };
    let parser = thread::Builder::new().stack_size(PARSER_STACK_BYTES);
    thread::scope(|scope| {
        let started = parser.spawn_scoped(scope, compile);
        let started = started.map_err(|error| {
            ExpressionError(format!("the node has no thread to parse it: {error}"))
        })?;
        let ended = started.join();
        ended.unwrap_or_else(|_| Err(ExpressionError("the parser panicked".to_owned())))
    })
}

/// The parser's error without the names of its tokens, rules and types: `unexpected '>'`.
fn in_words(error: &str) -> String {
    const UNEXPECTED: [&str; 4] = [
        "mismatched input ",
        "extraneous input ",
        "no viable alternative at input ",
        "token recognition error at: ",
    ];
    let error = match error.strip_prefix(SYNTAX_ERROR) {
        Some(error) => error,
        None if is_of_parser(error) => return NOT_VALID.to_owned(),
        // Behind a literal is an error of the parser as Rust has it.
        None => {
            return match error.split_once(" literal: ") {
                Some((invalid, _)) => format!("{invalid} literal"),
                None => error.to_owned(),
            };
        }
    };
    let named = |text: &str| match text {
        "'<EOF>'" | "<EOF>" => "end of the expression".to_owned(),
        text => text.to_owned(),
    };
    if let Some((missing, at)) = error
        .strip_prefix("missing ")
        .and_then(|missing| missing.split_once(" at "))
    {
        // Of several tokens that could be there, or of a kind of token, there is no sign.
        return match missing.starts_with('\'') {
            true => format!("missing {} before {}", named(missing), named(at)),
            false => format!("unexpected {}", named(at)),
        };
    }
    let unexpected = UNEXPECTED
        .iter()
        .find_map(|words| error.strip_prefix(words));
    let Some(unexpected) = unexpected else {
        return NOT_VALID.to_owned();
    };
    let (found, _) = unexpected
        .split_once(" expecting ")
        .unwrap_or((unexpected, ""));
    format!("unexpected {}", named(found))
}

/// A mistake of those who know other languages, as the end of an error.
fn mistake(text: &str) -> &'static str {
    let code = without_texts(text);
    let mut ends = code.match_indices('=').map(|(at, _)| code.split_at(at));
    let single = ends
        .find(|(before, rest)| !before.ends_with(['=', '!', '<', '>']) && !rest.starts_with("=="));
    match single {
        Some((_, rest)) if rest.starts_with("=>") => "; write >= to compare",
        Some((_, rest)) if rest.starts_with("=<") => "; write <= to compare",
        Some(_) => "; write == to compare",
        None => "",
    }
}

/// Whether an error names types of the parser, such as "Incomplete `IndexContext`!".
fn is_of_parser(error: &str) -> bool {
    let begins = ["Incomplete ", "No `", "Unknown `", "UNKNOWN"];
    begins.iter().any(|begin| error.starts_with(begin))
}

/// The value of an expression in a scope, without a copy.
fn resolve<'e, 'v>(
    expression: &'e Expression,
    scope: &'e Context<'e, 'v>,
) -> Result<CowVal<'e, 'v>, Problem> {
    let charged = fuel::charge(expression.units);
    let value = charged.and_then(|()| Value::resolve_val(&expression.tree, scope));
    // `x || true` has a value even if `x` costs too much.
    fuel::check()?;
    value.map_err(|error| match problem_of(error) {
        Problem::Failed(why) if why == OTHER_TYPE => of_other_type(expression, scope),
        problem => problem,
    })
}

/// The error for a wrong type, with the value at fault if it can be found.
fn of_other_type(expression: &Expression, scope: &Context<'_, '_>) -> Problem {
    let paid = fuel::charge(expression.units).is_ok();
    let found = paid.then(|| blame::in_words(&expression.tree, scope));
    // A result that cost too much is not used.
    let found = found.flatten().filter(|_| fuel::check().is_ok());
    Problem::Failed(match found {
        Some(words) => shortened(&format!("{OTHER_TYPE}: {words}")),
        None => OTHER_TYPE.to_owned(),
    })
}

fn copied(value: &CowVal<'_, '_>) -> Result<Value, Problem> {
    let charged = fuel::charge_value(value.as_ref());
    fuel::check()?;
    let copied = charged.and_then(|()| value.as_ref().try_into());
    copied.map_err(problem_of)
}

/// The value of an expression in a scope.
pub(crate) fn evaluate(expression: &Expression, scope: &Context<'_, '_>) -> Result<Value, Problem> {
    copied(&resolve(expression, scope)?)
}

/// Whether a condition is true in a scope.
pub(crate) fn is_true(expression: &Expression, scope: &Context<'_, '_>) -> Result<bool, Problem> {
    let value = resolve(expression, scope)?;
    match value.downcast_ref::<CelBool>() {
        Some(flag) => Ok(*flag.inner()),
        None => Err(Problem::Failed(format!(
            "the condition is {}, expected true or false",
            copied(&value)?.type_of()
        ))),
    }
}

fn problem_of(error: ExecutionError) -> Problem {
    let failed = |why: &str| Problem::Failed(why.to_owned());
    match error {
        ExecutionError::NoSuchKey(name) | ExecutionError::UndeclaredReference(name) => {
            Problem::Missing(shortened(&name))
        }
        ExecutionError::IndexOutOfBounds(_) => Problem::Missing("an element of a list".to_owned()),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            failed("division by zero")
        }
        ExecutionError::Overflow(..) => failed("a number is too large"),
        ExecutionError::FunctionError { function, message } => {
            Problem::Failed(shortened(&format!("{function}: {message}")))
        }
        // These errors show values, which may be long.
        ExecutionError::NoSuchOverload(_)
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::ValuesNotComparable(..)
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::UnsupportedTargetType { .. }
        | ExecutionError::NotSupportedAsMethod { .. }
        | ExecutionError::UnsupportedIndex(..)
        | ExecutionError::UnsupportedKeyType(..) => failed(OTHER_TYPE),
        other => Problem::Failed(shortened(&other.to_string())),
    }
}

/// A text shortened for display.
fn shortened(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The parser is recursive: the nesting is bounded before it runs.
fn check_text(text: &str) -> Result<(), ExpressionError> {
    let refused = |why: String| Err(ExpressionError(why));
    if text.trim().is_empty() {
        return refused("it is empty".to_owned());
    }
    if text.len() > EXPRESSION_BYTES_MAX {
        return refused(format!(
            "it has {} bytes, expected {EXPRESSION_BYTES_MAX} at most",
            text.len()
        ));
    }
    if signs(text) > SIGNS_MAX {
        return refused(format!(
            "it has more than {SIGNS_MAX} signs, those in texts and comments among them"
        ));
    }
    let (mut depth, mut deepest, mut conditions, mut tokens) = (0_usize, 0, 0, 0);
    let mut is_word = false;
    for sign in without_texts(text).chars() {
        let belongs_to_word = sign.is_alphanumeric() || sign == '_';
        if !(sign.is_whitespace() || is_word && belongs_to_word) {
            tokens += 1;
        }
        is_word = belongs_to_word;
        match sign {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '?' => conditions += 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > NESTED_MAX || conditions > NESTED_MAX {
        return refused(format!(
            "it has more than {NESTED_MAX} brackets inside each other, or conditions `? :`"
        ));
    }
    if tokens > TOKENS_MAX {
        return refused(format!(
            "it has more than {TOKENS_MAX} names, numbers and signs"
        ));
    }
    Ok(())
}

/// Number of characters that may add a level to the syntax tree, anywhere in the text. Even if the
/// parser takes a text for code, its depth is bounded.
fn signs(text: &str) -> usize {
    let all = text.as_bytes();
    let is_sign = |(at, byte): (usize, &u8)| match byte {
        // Not the decimal point of a number.
        b'.' => !all.get(at + 1).is_some_and(u8::is_ascii_digit),
        byte => b"+-*/%<>=!&|?:([{".contains(byte),
    };
    all.iter()
        .enumerate()
        .filter(|found| is_sign(*found))
        .count()
}

/// An expression without comments, with `"` in place of each text.
fn without_texts(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find(['\n', '\r']).map_or("", |end| &rest[end..]);
        } else if sign == '"' || sign == '\'' {
            let word = code.trim_end_matches(|sign: char| sign.is_alphanumeric() || sign == '_');
            let prefix = &code[word.len()..];
            let is_prefix = prefix.len() <= 2 && prefix.chars().all(|sign| "rRbB".contains(sign));
            let is_raw = is_prefix && prefix.contains(['r', 'R']);
            code.push('"');
            rest = behind_text(rest, sign, is_raw);
        } else {
            code.push(sign);
            rest = &rest[sign.len_utf8()..];
        }
    }
    code
}

/// The rest after the quoted text at the beginning of `text`.
fn behind_text(text: &str, quote: char, is_raw: bool) -> &str {
    let long = quote.to_string().repeat(3);
    let end = match text.starts_with(&long) {
        true => long.as_str(),
        false => &long[..1],
    };
    let mut rest = &text[end.len()..];
    while let Some(sign) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix(end) {
            return behind;
        }
        let is_escape = sign == '\\' && !is_raw;
        rest = &rest[sign.len_utf8()..];
        if is_escape && let Some(escaped) = rest.chars().next() {
            rest = &rest[escaped.len_utf8()..];
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_comments_hide_no_signs() {
        let cases = [
            (r#"a == "b(c" && d"#, r#"a == " && d"#),
            ("a // it's\n+ b", "a \n+ b"),
            (r"r'\' == '' + b", r#"r" == " + b"#),
            ("'''a'b''' + c", r#"" + c"#),
            (r#"'a\'b' + "c\\" + d"#, r#"" + " + d"#),
        ];
        for (text, code) in cases {
            assert_eq!(without_texts(text), code, "{text}");
        }
        let deep = "+1".repeat(1_900);
        for hidden in ["// '\n1", r"r'\' == '' ||1", "'''a'b''' + 1", "'"] {
            assert!(check_text(&format!("{hidden}{deep}")).is_err(), "{hidden}");
        }
        assert!(check_text(&format!("a{}", ".b".repeat(2_000))).is_err());
    }
}
