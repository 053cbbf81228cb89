//! Texts with embedded expressions: `alerts/{{ levels[1] }}`.

use cel::Context;

use crate::expression::{Evaluator, Expression, ExpressionError, Variables, evaluate};
use crate::fuel;
use crate::problem::Problem;
use crate::value::text_of;

/// Maximum bytes of a template.
const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Maximum number of expressions of a template.
const EXPRESSIONS_MAX: usize = 32;
/// Maximum bytes of the resulting text.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// A text with embedded expressions.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    parts: Vec<TemplatePiece>,
}

#[derive(Clone, Debug)]
enum TemplatePiece {
    Text(String),
    Expression(Expression),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// It is too long, a `{{` is not closed, or an expression is rejected.
    pub(crate) fn parse(evaluator: &Evaluator, text: &str) -> Result<Self, ExpressionError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(ExpressionError(format!(
                "it has {} bytes, expected {TEMPLATE_BYTES_MAX} at most",
                text.len()
            )));
        }
        let (mut parts, mut rest, mut expressions) = (Vec::new(), text, 0);
        while let Some((before, behind)) = rest.split_once("{{") {
            let Some((inner, after)) = behind.split_once("}}") else {
                return Err(ExpressionError("`{{` is not followed by `}}`".to_owned()));
            };
            expressions += 1;
            if expressions > EXPRESSIONS_MAX {
                let why = format!("it has more than {EXPRESSIONS_MAX} expressions");
                return Err(ExpressionError(why));
            }
            if !before.is_empty() {
                parts.push(TemplatePiece::Text(before.to_owned()));
            }
            let expression = evaluator.parse(inner.trim());
            let expression =
                expression.map_err(|error| ExpressionError(format!("{{{{{inner}}}}}: {error}")))?;
            parts.push(TemplatePiece::Expression(expression));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(TemplatePiece::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The variables that its expressions use.
    pub(crate) fn variables(&self) -> Variables {
        let parts = self.parts.iter().filter_map(|part| match part {
            TemplatePiece::Expression(expression) => Some(expression.variables()),
            TemplatePiece::Text(_) => None,
        });
        parts.fold(Variables::default(), Variables::or)
    }

    /// The text for a message.
    ///
    /// # Errors
    /// An expression has no value, or the text is too long.
    pub(crate) fn text(&self, scope: &Context<'_, '_>) -> Result<String, Problem> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                TemplatePiece::Text(part) => text.push_str(part),
                TemplatePiece::Expression(expression) => {
                    let part = text_of(&evaluate(expression, scope)?);
                    // Exceeding the limit is reported by the check.
                    let _ = fuel::charge(fuel::of_size(part.len()));
                    fuel::check()?;
                    text.push_str(&part);
                }
            }
            if text.len() > TEXT_BYTES_MAX {
                return Err(Problem::Failed(format!(
                    "a text becomes longer than {TEXT_BYTES_MAX} bytes"
                )));
            }
        }
        Ok(text)
    }
}
