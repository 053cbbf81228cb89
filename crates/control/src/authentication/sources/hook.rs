//! Somebody else's program, asked by HTTP: it knows the clients, we do not.
//!
//! What it does not clearly permit is refused. Where it does not answer, or says that it cannot,
//! nobody gets in, and clients may come again; who was verified of late is let in meanwhile.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{Authentication, Password, Rules};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{People, known};
use crate::authentication::{Finding, Looking, Source};

/// What is sent and what an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookForm {
    /// `{client_id, api_key, api_secret}`; status 200 alone permits.
    Panel,
    /// `{username, password, clientid}`, as mosquitto-go-auth sends it; a status of 200 to 299
    /// permits.
    Status,
    /// `{username, password, clientid}`; the body `{"result": "allow"}` permits, as EMQX has it.
    Result,
}

/// What a hook is configured with.
#[derive(Clone, Debug)]
pub struct HookSettings {
    /// Where it listens: `https://panel.example/api/mqtt/auth`.
    pub url: String,
    /// What is said.
    pub form: HookForm,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Questions under way at most; more wait.
    pub at_once: usize,
}

/// The hook.
#[derive(Debug)]
pub struct Hook {
    settings: HookSettings,
    client: Client,
    turns: Semaphore,
    people: People,
}

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

impl Hook {
    /// A hook whose users may do what `people` may.
    ///
    /// # Errors
    /// The URL is none, or TLS cannot be used.
    pub fn new(settings: HookSettings, people: People) -> Result<Self, String> {
        let url = reqwest::Url::parse(&settings.url).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("expected http:// or https://".to_owned());
        }
        let client = Client::builder()
            .timeout(settings.timeout)
            // Credentials go where they were sent, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("martlet/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            turns: Semaphore::new(settings.at_once.max(1)),
            client: client.map_err(|error| error.to_string())?,
            settings,
            people,
        })
    }

    async fn ask(&self, asked: &Authentication) -> Finding {
        let Some(name) = &asked.user_name else {
            return Finding::Stranger;
        };
        let password = asked.password.as_ref().map_or(&[][..], Password::bytes);
        if password.is_empty() {
            return Finding::Wrong("it has no password, so the hook is not asked".to_owned());
        }
        let Ok(password) = std::str::from_utf8(password) else {
            return Finding::Wrong("its password is no text, so the hook is not asked".to_owned());
        };
        let body = match self.settings.form {
            HookForm::Panel => json!({
                "client_id": &*asked.client_id, "api_key": &**name, "api_secret": password,
            }),
            HookForm::Status | HookForm::Result => json!({
                "username": &**name, "password": password, "clientid": &*asked.client_id,
            }),
        };
        // The semaphore is never closed.
        let Ok(_turn) = self.turns.acquire().await else {
            return Finding::Failed("the node is stopping".to_owned());
        };
        let request = self.client.post(&self.settings.url).json(&body);
        let request = request.header(reqwest::header::ACCEPT, "application/json");
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_timeout() => {
                let millis = self.settings.timeout.as_millis();
                return Finding::Failed(format!("no answer within {millis} ms"));
            }
            // Its text has the URL, which may have a secret.
            Err(error) => return Finding::Failed(error.without_url().to_string()),
        };
        let status = response.status();
        match self.permits(response).await {
            Ok(true) => known(asked, Arc::clone(name), self.people.rules_of(Some(name))),
            Ok(false) => Finding::Wrong(format!("the hook answered {status}")),
            Err(why) => Finding::Failed(why),
        }
    }

    async fn permits(&self, response: reqwest::Response) -> Result<bool, String> {
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(format!("it answered {status}"));
        }
        match self.settings.form {
            HookForm::Panel => Ok(status == StatusCode::OK),
            HookForm::Status => Ok(status.is_success()),
            HookForm::Result if status == StatusCode::OK => {
                let answer = limited(response).await?;
                let result = answer.get("result").and_then(Value::as_str);
                match result {
                    Some("allow") => Ok(true),
                    Some("deny" | "ignore") => Ok(false),
                    _ => {
                        Err("it answered 200 without a result of allow, deny or ignore".to_owned())
                    }
                }
            }
            HookForm::Result => Ok(false),
        }
    }
}

async fn limited(mut response: reqwest::Response) -> Result<Value, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| error.without_url().to_string())?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err("its answer is longer than 64 KiB".to_owned());
        }
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("its answer is no JSON: {error}"))
}

impl Source for Hook {
    fn name(&self) -> String {
        "the hook (auth.hook_url)".to_owned()
    }

    fn look<'a>(&'a self, asked: &'a Authentication) -> Looking<'a> {
        Box::pin(self.ask(asked))
    }

    /// It may know anybody.
    fn rules_of(&self, user_name: &str) -> Option<Arc<Rules>> {
        Some(self.people.rules_of(Some(user_name)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
