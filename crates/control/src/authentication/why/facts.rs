//! Facts about the admission of a client.

use crate::journal::{Entry, Run, WordedRemedy, host};
use crate::presence::AbsentWill;
use crate::remedy::Command;
use crate::shared_registry::Account;
use crate::text::is_loopback;

/// Facts about the admission of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdmissionFacts {
    /// Entries of the tables about it.
    pub(crate) account: Account,
    /// Entries of the tables about the name while no login is checked against them, as `device` or
    /// `user`, and why none is.
    pub(crate) idle: Option<(&'static str, String)>,
    /// A password file has the name too.
    pub(crate) in_file: Option<InFile>,
    /// The name is unknown: which known name may be meant.
    pub(crate) namesakes: Namesakes,
    /// Whether it shows the key of a team token, or that key was asked about.
    pub(crate) by_team_token: bool,
    /// A certificate that names it would do instead.
    pub(crate) by_certificate: bool,
    /// The node was started without a configuration file, in which rules and integrations may be.
    pub(crate) has_no_configuration: bool,
    /// Remedy for that standing.
    pub(crate) standing_remedy: Option<WordedRemedy>,
    /// Words for what is banned, why, and until when; and the command that lifts it.
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
    /// The Will, if it left with one.
    pub(crate) will: Option<AbsentWill>,
}

impl AdmissionFacts {
    /// All listeners are on loopback, or are Unix sockets: only the machine of the node reaches
    /// them.
    pub(super) fn is_for_this_machine(&self) -> bool {
        let is_local = |url: &String| {
            let address = url
                .split_once("://")
                .map(|(_, rest)| rest.split('/').next());
            let host = address.flatten().and_then(host);
            host.is_some_and(|host| host.is_empty() || is_loopback(host))
        };
        !self.listeners.is_empty() && self.listeners.iter().all(is_local)
    }
}

/// A password file that has the name of a user whom the tables have too, or had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InFile {
    pub(crate) path: String,
    /// The tables are asked first.
    pub(crate) is_behind: bool,
    /// The command that removes the name from the tables for good.
    pub(crate) purge: Option<Command>,
}

/// A lockout of a name or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lockout {
    /// For how long, and why.
    pub(crate) why: String,
    /// How many seconds the client is accepted nevertheless, with the credentials that were right
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_for_this_machine_listens_on_loopback_alone() {
        for (listeners, expected) in [
            (
                &["mqtt://127.0.0.1:1883", "wss://[::1]:9001/mqtt"][..],
                true,
            ),
            (&["mqtt://localhost:1883", "unix:///run/m.sock"], true),
            (&["mqtt://127.0.0.1:1883", "mqtt://0.0.0.0:1884"], false),
            (&["mqtt://[::]:1883"], false),
            (&[], false),
        ] {
            let facts = AdmissionFacts {
                listeners: listeners.iter().map(|url| (*url).to_owned()).collect(),
                ..AdmissionFacts::default()
            };
            assert_eq!(facts.is_for_this_machine(), expected, "{listeners:?}");
        }
    }
}
