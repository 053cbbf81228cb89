//! An external program that authenticates clients, asked by HTTP.
//!
//! Logins that it does not clearly permit are refused. If it does not answer or reports an error,
//! clients are refused and may try again; recently verified clients are accepted meanwhile.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, StatusCode};
use martlet_access::administrator_rules;
use martlet_broker::{
    Actions, Authentication, Identity, Password, PasswordSource, Proof, Realm, Refusal,
    RefusalCause, RevokedClients, Rule, Rules, Voucher,
};
use martlet_integrate::{AllowedNetworks, HttpRequest, HttpTarget, NoAnswer};
use martlet_text_file::without_bom;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{People, known, removed_vouchers, voucher_of, without_values};
use crate::authentication::policy::of_kind;
use crate::authentication::slots::Slots;
use crate::authentication::{
    CredentialSource, Knowledge, Looking, LookupResult, SlotRequest, SourceKind,
};

/// Form of what is sent and meaning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookForm {
    /// `{client_id, api_key, api_secret}`; status 200 permits if the body is a JSON object with at
    /// least one field and each value is a whole number, as in
    /// `{"team_id": 1, "api_token_id": 2, "mqtt_client_id": 3}`. Any other object refuses; a body
    /// that is no object comes from a proxy or a captive portal.
    Panel,
    /// `{username, password, clientid}`, as mosquitto-go-auth sends it; a status of 200 to 299
    /// permits by itself, whatever the body is.
    Status,
    /// Form of the same request; its answer may also be `{"Ok": false}` with a status of success,
    /// which refuses, as mosquitto-go-auth has it with `http_response_mode json`.
    GoAuth,
    /// `{username, password, clientid}`; the body `{"result": "allow"}` permits, as EMQX has it,
    /// with what the client may do (`acl`, `is_superuser`) and until when (`expire_at`).
    Result,
}

/// Settings of a hook.
#[derive(Clone, Debug)]
pub struct HookSettings {
    /// Where it listens: `https://panel.example/api/mqtt/auth`.
    pub url: String,
    /// The body of the answer.
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
    http: HttpTarget,
    slots: Slots,
    people: People,
    /// The server that lets clients in.
    voucher: Voucher,
}

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

impl Hook {
    /// A hook whose users may do what `people` may.
    ///
    /// # Errors
    /// The URL is none, or TLS cannot be used.
    pub fn new(settings: HookSettings, people: People) -> Result<Self, String> {
        // Credentials go to the operator's server, wherever it is. Redirects are not followed.
        let networks = AllowedNetworks::all();
        let http = HttpTarget::new(&settings.url, &networks, settings.timeout)?;
        Ok(Self {
            slots: Slots::new(settings.at_once),
            http,
            voucher: voucher_of("hook", &[settings.url.as_bytes()]),
            settings,
            people,
        })
    }

    async fn ask(&self, request: &Authentication, slot_request: &SlotRequest) -> LookupResult {
        let Some(name) = &request.user_name else {
            return LookupResult::Stranger;
        };
        let password = request.password.as_ref().map_or(&[][..], Password::bytes);
        if password.is_empty() {
            let detail = "it has no password, so the hook is not called";
            return LookupResult::Wrong(Refusal::operators_only(
                RefusalCause::NoCredentials,
                detail,
            ));
        }
        let Ok(password) = std::str::from_utf8(password) else {
            let detail = "its password is not text, so the hook is not called";
            let cause = RefusalCause::WrongPassword(PasswordSource::Other);
            return LookupResult::Wrong(Refusal::operators_only(cause, detail));
        };
        let body = match self.settings.form {
            HookForm::Panel => json!({
                "client_id": &*request.client_id, "api_key": &**name, "api_secret": password,
            }),
            HookForm::Status | HookForm::GoAuth | HookForm::Result => json!({
                "username": &**name, "password": password, "clientid": &*request.client_id,
            }),
        };
        // No longer than an answer may take: so a client is answered within twice that time,
        // however many others the hook leaves waiting.
        let turn = tokio::time::timeout(self.settings.timeout, self.slots.take(slot_request));
        let _turn = match turn.await {
            Ok(Some(turn)) => turn,
            Ok(None) => return hook_down("the client no longer waits for its answer"),
            Err(_) => {
                let (at_once, millis) = (self.settings.at_once, self.settings.timeout.as_millis());
                return hook_down(format!(
                    "{at_once} requests (auth.hook_concurrency) waited for its answer, and none \
                     of them ended within {millis} ms"
                ));
            }
        };
        let (head, body) = match self.http.fetch(self.request(&body), ANSWER_BYTES_MAX).await {
            Ok(answer) => answer,
            Err(NoAnswer::Late) => {
                let millis = self.settings.timeout.as_millis();
                return hook_down(format!(
                    "no answer within {millis} ms (auth.hook_timeout_ms)"
                ));
            }
            Err(error) => return hook_down(error.to_string()),
        };
        let (status, most) = (head.status, freshness(&head.headers));
        let found = self.found(request, name, status, self.permits(status, body));
        match most {
            Some(most) => LookupResult::Within(Box::new(found), most),
            None => found,
        }
    }

    fn request(&self, body: &Value) -> HttpRequest {
        let mut headers = self.http.headers();
        let json = HeaderValue::from_static("application/json");
        headers.insert(ACCEPT, json.clone());
        headers.insert(CONTENT_TYPE, json);
        let agent = concat!("martlet/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let body = body.to_string().into_bytes();
        self.http.request(Method::POST, headers, body)
    }

    /// The result of a verdict.
    fn found(
        &self,
        request: &Authentication,
        name: &Arc<str>,
        status: StatusCode,
        verdict: Result<HookDecision, String>,
    ) -> LookupResult {
        match verdict {
            Ok(HookDecision::Permits(terms)) => {
                let rules = || self.people.rules_of(Some(name));
                terms.of(known(request, Arc::clone(name), rules()), self.voucher)
            }
            Ok(HookDecision::Refuses) => hook_refused(format!("the hook answered {status}")),
            Ok(HookDecision::NamesNothing) => hook_refused(format!(
                "the hook answered {status} without the ids that the form panel expects: a JSON \
                 object of whole numbers such as {{\"team_id\": 1}}"
            )),
            Ok(HookDecision::KnowsNothing) => LookupResult::Stranger,
            Err(why) => hook_down(why),
        }
    }

    fn permits(&self, status: StatusCode, body: Option<Vec<u8>>) -> Result<HookDecision, String> {
        let whole = || {
            let no_body = "its answer is longer than 64 KiB, or is not complete";
            body.ok_or_else(|| no_body.to_owned())
        };
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(format!("it answered {status}"));
        }
        let permits = match self.settings.form {
            HookForm::Panel if status == StatusCode::OK => {
                let answer = json(&whole()?)?;
                let Value::Object(fields) = answer else {
                    return Err("it answered 200 without a JSON object".to_owned());
                };
                if fields.is_empty() || !fields.values().all(Value::is_u64) {
                    return Ok(HookDecision::NamesNothing);
                }
                true
            }
            HookForm::Status => status.is_success(),
            HookForm::GoAuth if status.is_success() => {
                let body = whole()?;
                match body.trim_ascii() {
                    // Without a body the status decides.
                    b"" | b"ok" => true,
                    body => json(body)?.get("Ok") == Some(&Value::Bool(true)),
                }
            }
            HookForm::Result if status == StatusCode::OK => {
                return HookDecision::of_result(&json(&whole()?)?);
            }
            HookForm::Panel | HookForm::GoAuth | HookForm::Result => false,
        };
        Ok(match permits {
            true => HookDecision::Permits(Terms::default()),
            false => HookDecision::Refuses,
        })
    }
}

/// How long an answer may be cached: `max-age` of `Cache-Control`; not at all with `no-store` or
/// `no-cache`. None: not limited.
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let directives = texts.flat_map(|text| text.split(',')).map(str::trim);
    let most = directives.filter_map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match &*name.trim().to_ascii_lowercase() {
            "no-store" | "no-cache" => Some(Duration::ZERO),
            // What is no number is stale, as RFC 9111 has it.
            "max-age" => {
                let secs = value.trim().trim_matches('"').parse().unwrap_or(0);
                Some(Duration::from_secs(secs))
            }
            _ => None,
        }
    });
    most.min()
}

/// The verdict of an answer.
enum HookDecision {
    Permits(Terms),
    Refuses,
    /// Status 200 with an object that is not the one of the form `panel`: it refuses.
    NamesNothing,
    /// Another source may know the client.
    KnowsNothing,
}

/// On which terms a client is accepted.
#[derive(Default)]
struct Terms {
    /// The rules of the client, if the answer has some.
    rules: Option<Arc<Rules>>,
    /// When that ends, milliseconds since the Unix epoch; 0 is never.
    expires_wall_ms: u64,
}

impl HookDecision {
    /// `{"result": "allow", "is_superuser": false, "acl": […], "expire_at": 1700000000}`
    fn of_result(answer: &Value) -> Result<Self, String> {
        match answer.get("result").and_then(Value::as_str) {
            Some("allow") => {}
            Some("deny") => return Ok(Self::Refuses),
            Some("ignore") => return Ok(Self::KnowsNothing),
            _ => return Err("it answered 200 without a result of allow, deny or ignore".to_owned()),
        }
        let rules = match (answer.get("is_superuser"), answer.get("acl")) {
            (Some(Value::Bool(true)), _) => Some(administrator_rules()),
            (None | Some(Value::Bool(false)), None) => None,
            (None | Some(Value::Bool(false)), Some(acl)) => Some(Arc::new(rules_of(acl)?)),
            _ => return Err("its is_superuser is neither true nor false".to_owned()),
        };
        let expires_wall_ms = match answer.get("expire_at") {
            None => 0,
            Some(at) => {
                let secs = at
                    .as_u64()
                    .ok_or("its expire_at is not a time in seconds")?;
                secs.saturating_mul(1000).max(1)
            }
        };
        Ok(Self::Permits(Terms {
            rules,
            expires_wall_ms,
        }))
    }
}

impl Terms {
    fn of(self, found: LookupResult, voucher: Voucher) -> LookupResult {
        let LookupResult::Known(identity) = found else {
            return found;
        };
        let identity = Identity {
            proof: Proof::Hook,
            expires_wall_ms: self.expires_wall_ms,
            voucher,
            ..identity
        };
        LookupResult::Known(match self.rules {
            None => identity,
            Some(rules) => Identity {
                realm: Realm::OWN_RULES,
                rules,
                ..identity
            },
        })
    }
}

/// One of the rules of an answer; the first that matches decides, and where none does nothing is
/// permitted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AclEntry {
    permission: Permission,
    action: Action,
    topic: String,
    // Looked at for their form: a rule that permits less than it seems must not permit more.
    #[serde(default)]
    qos: Option<Value>,
    #[serde(default)]
    retain: Option<Value>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Permission {
    Allow,
    Deny,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Publish,
    Subscribe,
    All,
}

/// Rules in one answer at most.
const RULES_MAX: usize = 1_000;

fn rules_of(acl: &Value) -> Result<Rules, String> {
    let wrong = |why: String| format!("its acl: {why}");
    let entries = Vec::<AclEntry>::deserialize(acl).map_err(|error| wrong(error.to_string()))?;
    if entries.len() > RULES_MAX {
        return Err(wrong(format!("more than {RULES_MAX} rules")));
    }
    let mut rules = Vec::new();
    for (number, entry) in entries.into_iter().enumerate() {
        let allows = entry.permission == Permission::Allow;
        if allows && (entry.qos.is_some() || entry.retain.is_some_and(|retain| retain != "all")) {
            let why = "rules by qos or retain are not known here".to_owned();
            return Err(wrong(format!("rule {}: {why}", number + 1)));
        }
        if entry.topic.starts_with("eq ") || of_placeholders(&entry.topic).contains("${") {
            let why = "`eq` and placeholders but ${clientid} and ${username} are not known here";
            return Err(wrong(format!("rule {}: {why}", number + 1)));
        }
        rules.push(Rule {
            actions: match entry.action {
                Action::Publish => Actions::PUBLISH,
                Action::Subscribe => Actions::READ,
                Action::All => Actions::ALL,
            },
            allows,
            filter: of_placeholders(&entry.topic).into(),
            source: format!("rule {} of the hook's answer", number + 1).into(),
        });
    }
    Rules::compile(rules, Actions::NONE).map_err(|error| wrong(error.to_string()))
}

/// `${clientid}` is our `%c`, `${username}` our `%u`.
fn of_placeholders(topic: &str) -> String {
    topic
        .replace("${clientid}", "%c")
        .replace("${username}", "%u")
}

fn json(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(without_bom(body))
        .map_err(|error| format!("its answer is not JSON: {}", without_values(&error)))
}

fn hook_refused(detail: String) -> LookupResult {
    LookupResult::Wrong(Refusal::operators_only(RefusalCause::HookRefused, detail))
}

fn hook_down(detail: impl Into<Cow<'static, str>>) -> LookupResult {
    LookupResult::Failed(Refusal::operators_only(RefusalCause::HookDown, detail))
}

impl CredentialSource for Hook {
    fn name(&self) -> String {
        "the hook (auth.hook_url)".to_owned()
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Proofs
    }

    fn look<'a>(
        &'a self,
        request: &'a Authentication,
        slot_request: &'a SlotRequest,
    ) -> Looking<'a> {
        Box::pin(self.ask(request, slot_request))
    }

    fn no_longer_valid(&self, next: &[Arc<dyn CredentialSource>]) -> Vec<RevokedClients> {
        let next = of_kind::<Self>(next).map(|next| next.voucher);
        removed_vouchers(&[self.voucher], next.as_slice())
    }

    /// Rules of a client, which may have any name.
    fn rules_of(&self, user_name: &str) -> Option<Arc<Rules>> {
        Some(self.people.rules_of(Some(user_name)))
    }

    fn knows(&self, _user_name: &str) -> Knowledge {
        Knowledge::ByProof
    }

    fn is_hook(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_long_it_may_be_remembered() {
        let fresh = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CACHE_CONTROL, value.parse().unwrap());
            }
            freshness(&headers).map(|most| most.as_secs())
        };
        assert_eq!(fresh(&[]), None);
        assert_eq!(fresh(&["private"]), None);
        assert_eq!(fresh(&["max-age=60"]), Some(60));
        assert_eq!(fresh(&["private, Max-Age=\"7\""]), Some(7));
        assert_eq!(fresh(&["max-age=60", "no-store"]), Some(0));
        assert_eq!(fresh(&["no-cache, private"]), Some(0));
        assert_eq!(fresh(&["max-age=soon"]), Some(0));
        assert_eq!(fresh(&["s-maxage=3"]), None);
    }
}
