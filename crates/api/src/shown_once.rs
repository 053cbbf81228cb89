//! Generated secrets, which an answer shows once. They are not logged, and only [`JsonWithSecrets`]
//! sends them. It also makes a second form of the answer, with `null` in place of each secret. The
//! node keeps that form for repeated requests.

use std::cell::Cell;
use std::fmt;

use axum::body::Bytes;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use martlet_registry::Secret;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::problem::{Problem, ProblemKind};

/// A secret in an answer. No other type of answer than [`JsonWithSecrets`] can be made of it.
pub(crate) struct ShownOnce<T>(T);

impl<T> ShownOnce<T> {
    /// Marks a part of an answer as a secret.
    pub(crate) fn new(secret: T) -> Self {
        Self(secret)
    }
}

impl From<Secret> for ShownOnce<String> {
    fn from(secret: Secret) -> Self {
        Self(secret.text().to_owned())
    }
}

impl<T> fmt::Debug for ShownOnce<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// In which form secrets are being written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// In none: the code that writes them does not treat them as secrets.
    Refused,
    /// As they are, for the caller.
    Shown { is_any: bool },
    /// As [`MARK`].
    Marked,
}

thread_local! {
    /// Serializers pass nothing to the values that they write, and write on one thread.
    static FORM: Cell<Form> = const { Cell::new(Form::Refused) };
}

/// Stands for a secret until [`hide`] has found it. Texts from outside have no NUL in them.
const MARK: &str = "\0shown once\0";

impl<T: Serialize> Serialize for ShownOnce<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match FORM.get() {
            Form::Refused => Err(S::Error::custom(
                "a secret is sent only by a handler that answers with JsonWithSecrets",
            )),
            Form::Shown { .. } => {
                FORM.set(Form::Shown { is_any: true });
                self.0.serialize(to)
            }
            Form::Marked => to.serialize_str(MARK),
        }
    }
}

/// Sets the form until it is dropped.
struct Writing;

impl Writing {
    fn in_form(form: Form) -> Self {
        FORM.set(form);
        Self
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        FORM.set(Form::Refused);
    }
}

/// A JSON answer that may have secrets in it.
pub(crate) struct JsonWithSecrets<T>(pub(crate) T);

/// Answer without its secrets, to keep.
#[derive(Clone, Debug)]
pub(crate) struct WithoutSecrets {
    /// JSON, with `null` instead of each secret.
    pub(crate) body: Bytes,
    /// Names of the members that are `null`, with `, ` between them.
    pub(crate) left_out: String,
}

impl<T: Serialize> JsonWithSecrets<T> {
    fn written(&self) -> Result<(Vec<u8>, Option<WithoutSecrets>), serde_json::Error> {
        let writing = Writing::in_form(Form::Shown { is_any: false });
        let shown = serde_json::to_vec(&self.0)?;
        let is_any = FORM.get() == Form::Shown { is_any: true };
        drop(writing);
        if !is_any {
            return Ok((shown, None));
        }
        let _writing = Writing::in_form(Form::Marked);
        let mut marked = serde_json::to_value(&self.0)?;
        let mut names = Vec::new();
        hide(&mut marked, "", &mut names);
        let without = WithoutSecrets {
            body: marked.to_string().into(),
            left_out: names.join(", "),
        };
        Ok((shown, Some(without)))
    }
}

/// Replaces each [`MARK`] by null, and collects the names of the members, each once.
fn hide(value: &mut Value, name: &str, names: &mut Vec<String>) {
    match value {
        Value::String(text) if text == MARK => {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
            *value = Value::Null;
        }
        Value::Array(all) => all.iter_mut().for_each(|one| hide(one, name, names)),
        Value::Object(all) => {
            for (name, one) in all.iter_mut() {
                hide(one, name, names);
            }
        }
        _ => {}
    }
}

impl<T: Serialize> IntoResponse for JsonWithSecrets<T> {
    fn into_response(self) -> Response {
        let (shown, without) = match self.written() {
            Ok(written) => written,
            Err(error) => {
                let detail = format!("the answer cannot be written: {error}");
                return Problem::new(ProblemKind::Internal, detail).into_response();
            }
        };
        let json = HeaderValue::from_static("application/json");
        let mut answer = ([(header::CONTENT_TYPE, json)], shown).into_response();
        if let Some(without) = without {
            answer.extensions_mut().insert(without);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Serialize)]
    struct Row {
        id: &'static str,
        secret: Option<ShownOnce<&'static str>>,
    }

    fn rows() -> Vec<Row> {
        let secret = Some(ShownOnce::new("s3cr3t"));
        let none = Row {
            id: "b",
            secret: None,
        };
        vec![Row { id: "a", secret }, none]
    }

    #[tokio::test]
    async fn an_answer_has_a_form_without_its_secrets() {
        let answer = JsonWithSecrets(json_of(rows())).into_response();
        let without: &WithoutSecrets = answer.extensions().get().unwrap();
        assert_eq!(without.left_out, "secret");
        let kept: Value = serde_json::from_slice(&without.body).unwrap();
        let expected = [
            json!({ "id": "a", "secret": null }),
            json!({ "id": "b", "secret": null }),
        ];
        assert_eq!(kept["rows"], json!(expected));
        let given = answer.into_body().collect().await.unwrap().to_bytes();
        let given: Value = serde_json::from_slice(&given).unwrap();
        assert_eq!(given["rows"][0]["secret"], "s3cr3t");
    }

    fn json_of(rows: Vec<Row>) -> impl Serialize {
        std::collections::BTreeMap::from([("rows", rows)])
    }

    #[test]
    fn an_answer_without_secrets_has_one_form() {
        let answer = JsonWithSecrets(json_of(rows().split_off(1))).into_response();
        assert!(answer.extensions().get::<WithoutSecrets>().is_none());
    }

    #[test]
    fn nothing_else_sends_or_logs_a_secret() {
        assert!(serde_json::to_string(&rows()).is_err());
        let answer = axum::Json(rows()).into_response();
        assert!(answer.status().is_server_error());
        // Neither does it after an answer that had one.
        let _ = JsonWithSecrets(rows()).into_response();
        assert!(serde_json::to_string(&rows()).is_err());
        assert!(!format!("{:?}", rows()).contains("s3cr3t"));
    }
}
