//! Verdicts on facts.

mod admission;
mod more;
mod parts;
mod session;
mod sessions;
mod several;
mod silence;
mod topic;

use martlet_broker::{DropReason, Event, PasswordSource, Refusal, RefusalCause, UserSources};
use martlet_codec::ReasonCode;

use crate::authentication::Standing;
use crate::authentication::{Admission, AdmissionFacts};
use crate::cause::Cause;
use crate::cause::tests::WORDS_OF_OLD;
use crate::event_kind::EventKind;
use crate::explain::{Explained, Outcome};
use crate::journal::{Entry, Run, WordedRemedy};
use crate::operate::{PublishAs, SessionFacts, Sessions};
use crate::presence::{Silence, SilenceFacts};
use crate::why::gather::permits::TopicRules;
use crate::why::node::NodeFacts;
use crate::why::topic::{TopicFacts, Topics};
use crate::why::{Asked, Diagnosis, Examine, Inquiry, OwnNameRule, Question, Session, State};

/// Facts of a client, of all parts that are examined for each.
#[derive(Clone, Default)]
pub(crate) struct Facts {
    pub(crate) asked: Asked,
    pub(crate) node: NodeFacts,
    pub(crate) admission: AdmissionFacts,
    pub(crate) sessions: SessionFacts,
    pub(crate) topic: TopicFacts,
    pub(crate) silence: SilenceFacts,
    pub(crate) publish_as: Vec<(u64, OwnNameRule)>,
    /// The clients of a user that has several.
    pub(crate) clients: Vec<Facts>,
}

impl std::ops::Deref for Facts {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.asked
    }
}

impl std::ops::DerefMut for Facts {
    fn deref_mut(&mut self) -> &mut Asked {
        &mut self.asked
    }
}

/// Facts for the diagnoses of tests.
pub(crate) struct Case(Inquiry);

impl Case {
    /// Of these facts of the client, or of the clients of a user.
    pub(crate) fn of(facts: Facts) -> Self {
        let each = match &*facts.clients {
            [] => std::slice::from_ref(&facts),
            several => several,
        };
        let derived = |one: &Facts| one.asked.clone().derived();
        let clients = each.iter().map(derived).collect();
        let mut inquiry = Inquiry::new(derived(&facts), clients, facts.node.clone());
        for (index, one) in each.iter().enumerate() {
            let client = inquiry.client(index);
            if !one.asked.is_integration {
                client.add::<Admission<'_>>(one.admission.clone());
                client.add::<Sessions>(one.sessions.clone());
                client.add::<Topics<'_>>(one.topic.clone());
                client.add::<Silence<'_>>(one.silence.clone());
            }
        }
        inquiry.told();
        Self(inquiry).with::<PublishAs>(facts.publish_as)
    }

    /// Adds the facts of a part of the node.
    pub(crate) fn with<P: Examine>(mut self, facts: P::Facts) -> Self {
        self.0.add::<P>(facts);
        self
    }

    /// Adds the facts of a part that is examined for each client. The test has one client.
    pub(crate) fn with_client<P: Examine>(mut self, facts: P::Facts) -> Self {
        self.0.client(0).add::<P>(facts);
        self
    }

    /// The diagnosis on them.
    pub(crate) fn diagnosis(self) -> Diagnosis {
        self.0.diagnosis()
    }
}

/// Returns the diagnosis on facts of a client alone.
fn judge(facts: &Facts) -> Diagnosis {
    Case::of(facts.clone()).diagnosis()
}

pub(crate) const NOW: u64 = 1_000_000_000;

pub(crate) fn facts(topic: Option<&str>) -> Facts {
    {
        let mut of = Facts::default();
        of.asked.question = Question {
            name: "d1".to_owned(),
            topic: topic.map(str::to_owned),
            sees_node: true,
            ..Question::default()
        };
        of.asked.now_ms = NOW;
        of.admission.listeners = vec!["mqtt://0.0.0.0:1883".to_owned()];
        of
    }
}

/// Why something was refused or ended.
pub(crate) struct Said(Refusal);

impl From<&str> for Said {
    /// Words alone: no cause can be read from them.
    fn from(words: &str) -> Self {
        (RefusalCause::ByReasonCode, words).into()
    }
}

impl From<(RefusalCause, &str)> for Said {
    fn from((cause, words): (RefusalCause, &str)) -> Self {
        Self(Refusal::operators_only(cause, words.to_owned()))
    }
}

pub(crate) fn run(
    what: EventKind,
    reason: &str,
    why: impl Into<Said>,
    count: u64,
    ago_ms: u64,
) -> Run {
    let Said(why) = why.into();
    let last = Entry {
        at_ms: NOW - ago_ms,
        client_id: "d1".to_owned(),
        reason: Some(reason.to_owned()),
        why: Some(why.detail().to_owned()),
        remedy: Some("do this".to_owned()),
        ..Entry::new(what)
    };
    Run {
        cause: cause_of(what, reason, why),
        since_ms: NOW - ago_ms - 60_000,
        count,
        sent_disconnect: false,
        is_unknown_beside_tables: false,
        taken_from: Vec::new(),
        last,
    }
}

/// As the journal has it.
fn cause_of(what: EventKind, reason: &str, why: Refusal) -> Option<Cause> {
    let codes = (0..=u8::MAX).filter_map(ReasonCode::from_u8);
    let mut codes = codes.filter(|code| code.name() == reason || format!("{code:?}") == reason);
    let reason_code = codes.next().unwrap_or(ReasonCode::UnspecifiedError);
    let event = match what {
        EventKind::Refused => Event::Refused {
            will_topic: None,
            reason: reason_code,
            why,
        },
        EventKind::Disconnected => Event::Disconnected {
            reason: reason_code,
            why,
            will: None,
        },
        EventKind::PublishRefused => Event::PublishRefused {
            topic: String::new(),
            reason: reason_code,
            why,
        },
        EventKind::Dropped => Event::Dropped {
            topic: String::new(),
            stored: None,
            reason: *DropReason::ALL.iter().find(|one| one.name() == reason)?,
            limit: None,
            refused: None,
        },
        _ => return None,
    };
    Cause::of(&event.into())
}

pub(crate) fn connected() -> Session {
    Session {
        client_id: "d1".to_owned(),
        connected: true,
        since_ms: Some(NOW - 5_000),
        keep_alive_secs: 5,
        ..Session::default()
    }
}

fn explained(outcome: Outcome) -> Explained {
    Explained {
        outcome,
        place: None,
        rule: None,
        why: "no rule permits it".to_owned(),
        asked: String::new(),
        notes: Vec::new(),
    }
}

fn rules(publish: Outcome, receive: Outcome) -> Option<TopicRules> {
    let worded = |access| WordedRemedy {
        text: "permit it in the rules of the device type sensor".to_owned(),
        command: Some(format!("martlet device type allow sensor 'topic {access} a'").into()),
    };
    Some(TopicRules {
        publish: explained(publish),
        receive: explained(receive),
        own_name_publish: None,
        own_name_receive: None,
        permitted: vec!["d/d1/telemetry".to_owned()],
        readable: vec!["d/d1/set".to_owned()],
        remedy_publish: worded("write"),
        remedy_receive: worded("read"),
    })
}

const WRONG_PASSWORD: RefusalCause = RefusalCause::WrongPassword(PasswordSource::Registry);

const NOBODY: RefusalCause = RefusalCause::UnknownUser(UserSources {
    registry: true,
    proofs: false,
});

fn barred(cause: RefusalCause, words: &'static str) -> Standing {
    Standing::Barred(Refusal::operators_only(cause, words))
}

#[track_caller]
pub(crate) fn expect(diagnosis: &Diagnosis, cause: Cause, state: State, expected: &str) {
    assert_eq!(
        (diagnosis.finding.cause, diagnosis.state),
        (cause, state),
        "{diagnosis:#?}"
    );
    assert!(
        diagnosis.finding.sentence.contains(expected),
        "{diagnosis:#?}"
    );
}

fn of_client(name: &str, mut facts: Facts) -> Facts {
    facts.asked.question.name = "ann".to_owned();
    facts.asked.client_id = name.to_owned();
    for run in &mut facts.asked.runs {
        run.last.client_id = name.to_owned();
    }
    facts
}

#[test]
fn all_clients_of_a_user_are_looked_at() {
    let topic = Some("d/d1/telemetry");
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        "no rule",
        3,
        60_000,
    );
    refused.last.topic = topic.map(str::to_owned);
    let publisher = {
        let mut of = facts(topic);
        of.asked.runs = vec![
            refused,
            run(
                EventKind::Disconnected,
                "Success",
                "the client sent DISCONNECT",
                1,
                50_000,
            ),
        ];
        of
    };
    let other = {
        let mut of = facts(topic);
        of.asked.session = Some(connected());
        of.asked.runs = vec![run(EventKind::Connected, "", "", 1, 5_000)];
        of
    };
    let mut both = of_client("ann", facts(topic));
    both.clients = vec![of_client("c1", publisher), of_client("c2", other)];
    let diagnosis = judge(&both);
    let expected = "client c1 (not connected): its publish to d/d1/telemetry was refused: no rule";
    expect(&diagnosis, Cause::NotPermitted, State::Connected, expected);
    // Without the refusal she is well: one of her clients is connected.
    both.clients[0].asked.runs.remove(0);
    let diagnosis = judge(&both);
    let expected = "1 of its 2 clients is connected (c2)";
    expect(&diagnosis, Cause::NothingWrong, State::Connected, expected);
    let is_reported =
        |one: &super::Finding| one.sentence.starts_with("client c1: it is not connected");
    assert!(diagnosis.also.iter().any(is_reported), "{diagnosis:#?}");
    // None of them is.
    both.clients[1].asked.session = None;
    both.clients[1].asked.runs[0] = run(
        EventKind::Disconnected,
        "Success",
        "the client sent DISCONNECT",
        1,
        10,
    );
    let expected = "it is not connected: the client sent DISCONNECT";
    expect(&judge(&both), Cause::Away, State::Away, expected);
}

/// A client chooses its Client Identifier, its user name and its topics.
#[test]
fn names_that_clients_choose_are_not_diagnosed() {
    for name in WORDS_OF_OLD {
        let forbidden = format!("the Will on {name:?} is refused: no rule permits it");
        let will = (RefusalCause::WillForbidden, &*forbidden);
        let mut facts = facts(Some(name));
        (facts.asked.question.name, facts.asked.client_id) =
            ((*name).to_owned(), (*name).to_owned());
        facts.asked.user = Some((*name).to_owned());
        facts.asked.standing = Some(Standing::Known);
        facts.asked.runs = vec![run(EventKind::Refused, "NotAuthorized", will, 1, 1_000)];
        let diagnosis = judge(&facts);
        expect(&diagnosis, Cause::NotPermitted, State::Refused, name);
        let goodbye = (RefusalCause::Goodbye, *name);
        facts.asked.runs = vec![run(EventKind::Disconnected, "Success", goodbye, 1, 1_000)];
        let diagnosis = judge(&facts);
        expect(&diagnosis, Cause::Away, State::Away, "it is not connected");
    }
}
