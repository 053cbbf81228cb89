//! Whether a client is admitted, and why not.
//!
//! * `account`: what the tables and files have of its name, and how it went
//! * `credential`: its credentials, and those that others show
//! * `names`: names that may be meant by an unknown one
//! * `nameless`: refusals of clients that sent no name, and of an address
//! * `part`: words for parts of the program
//! * `refusal`: what it was refused for, and whether that is over

mod account;
mod credential;
mod gather;
mod nameless;
mod names;
mod part;
mod refusal;

use crate::control::{Control, ControlError};
use crate::examined::ExaminedParts;
use crate::journal::{Entry, Run, WordedRemedy};
use crate::presence::AbsentWill;
use crate::remedy::Command;
use crate::shared_registry::Account;
use crate::why::{Asked, Examine, Findings};
pub(crate) use part::NamedParts;
pub(crate) use refusal::{is_one_too_many, was_there_then};

/// Who is admitted.
pub(crate) struct Admission<'a>(pub(crate) &'a ExaminedParts<'a>);

/// What is known of the admission of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdmissionFacts {
    /// What the tables have of it.
    pub(crate) account: Account,
    /// What the tables have of the name while no login is checked against them, as `device` or
    /// `user`, and why none is.
    pub(crate) idle: Option<(&'static str, String)>,
    /// The name is unknown: which known name may be meant.
    pub(crate) namesakes: Namesakes,
    /// It shows the key of a team token, or that key was asked about.
    pub(crate) by_team_token: bool,
    /// A certificate that names it would do instead.
    pub(crate) by_certificate: bool,
    /// The node was started without a configuration file, in which rules and integrations may be.
    pub(crate) has_no_configuration: bool,
    /// What to do about what would become of it.
    pub(crate) standing_remedy: Option<WordedRemedy>,
    /// What is banned, why, and until when; and the command that lifts it.
    pub(crate) banned: Option<(String, Option<Command>)>,
    /// Wrong credentials were tried too often, for that name or from where it was last.
    pub(crate) locked_out: Option<Lockout>,
    /// URLs of the listeners that use the tables, if the client logs in at another listener, which
    /// has a password file of its own.
    pub(crate) listeners_of_tables: Option<Vec<String>>,
    /// Clients that were refused because their token names this one, the latest last.
    pub(crate) token_shown_by: Vec<Entry>,
    /// A device was asked about, and a client with nearly its id was refused for its Client
    /// Identifier.
    pub(crate) near_refused: Option<Entry>,
    /// Refusals without a name, from the address that it came from last, or from any if that is not
    /// known; the latest last.
    pub(crate) nameless: Vec<Entry>,
    /// An address was asked about: refusals of connections from there, the latest last.
    pub(crate) from_address: Option<Vec<Entry>>,
    /// By the number of such a refusal of an unknown name: devices of that id in other tenants, as
    /// the User Names that they come with.
    pub(crate) of_other_tenants: Vec<(u64, Vec<String>)>,
    /// Numbers of those refusals that were for a ban that is over.
    pub(crate) lifted: Vec<u64>,
    /// Where the node listens, as URLs.
    pub(crate) listeners: Vec<String>,
    /// Files with certificates of listeners, and when they end.
    pub(crate) server_certificates: Vec<(String, u64)>,
    /// Bytes that a Client Identifier may have; 0: not known.
    pub(crate) client_id_bytes: u16,
    /// Its Will, if it left with one.
    pub(crate) will: Option<AbsentWill>,
}

/// A lockout of a name or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lockout {
    /// For how long, and why.
    pub(crate) why: String,
    /// How many seconds the client is let in nevertheless, with the credentials that were right
    /// before. None: it is kept out.
    pub(crate) accepted_secs: Option<u64>,
    /// How it is lifted.
    pub(crate) worded: WordedRemedy,
}

/// Names that may be meant by an unknown name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Namesakes {
    /// Devices of that id in other tenants, as the User Names that they come with.
    pub(crate) elsewhere: Vec<String>,
    /// Names of the same tenant that are spelt nearly so.
    pub(crate) near: Vec<String>,
    /// The command that asks about a client of another tenant with that Client Identifier.
    pub(crate) client_elsewhere: Option<Command>,
    /// A client with that Client Identifier was refused in another tenant.
    pub(crate) refused_elsewhere: Option<RefusedElsewhere>,
}

/// A client that was refused in another tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedElsewhere {
    pub(crate) run: Run,
    pub(crate) tenant: String,
    /// Names of that tenant that are spelt nearly so.
    pub(crate) near: Vec<String>,
}

impl Examine for Admission<'_> {
    type Facts = AdmissionFacts;

    async fn gather(
        &self,
        control: &Control,
        asked: &Asked,
    ) -> Result<AdmissionFacts, ControlError> {
        gather::gathered(control, self.0, asked).await
    }

    fn judge(facts: &AdmissionFacts, asked: &Asked, findings: &mut Findings) {
        if !asked.is_connected {
            findings.well = Some(names::unknown(asked, facts));
        }
        findings.evidence.extend(nameless::seen(asked, facts));
        let found = &mut findings.found;
        nameless::from_address(facts, found);
        found.extend(credential::no_api_role(asked, facts));
        refusal::admission(asked, facts, found);
    }
}

impl AdmissionFacts {
    /// Adds what other parts are told of it.
    pub(crate) fn settle(&self, asked: &mut Asked) {
        asked.is_deleted = self.account.deleted.is_some();
        asked.refused = refusal::is_refused_now(asked, self).cloned();
        asked.is_refused = asked.refused.is_some()
            || asked.not_added().is_some()
            || self
                .from_address
                .as_ref()
                .is_some_and(|all| !all.is_empty());
        asked.was_cut_off = refusal::was_cut_off(asked, self);
    }
}
