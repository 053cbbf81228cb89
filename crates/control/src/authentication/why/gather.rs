//! Where the facts about the admission of a client come from.

use std::net::SocketAddr;

use martlet_broker::{ClientQuery, Realm, Search, TenantId};

use super::facts::{AdmissionFacts, InFile, Lockout, Namesakes, RefusedElsewhere};
use crate::authentication::{Policy, Standing};
use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::event_kind::EventKind;
use crate::journal::{Entry, host};
use crate::remedy::{Command, form};
use crate::shared_registry::SharedRegistry;
use crate::wall_clock::now_signed_ms;
use crate::why::{Asked, Question, nearest_names, was_there_then};

/// Sessions whose Client Identifiers begin with the name that are looked at, at most.
const LOOKED_AT: usize = 64;

/// Devices of other tenants that are named, at most.
const TOLD: usize = 3;

/// Gathers them.
pub(super) async fn gathered(
    control: &Control,
    tables: Option<&SharedRegistry>,
    asked: &Asked,
) -> Result<AdmissionFacts, ControlError> {
    let question = &asked.question;
    let (tenant, client_id, proved) = (question.tenant, &*asked.client_id, &*asked.proved);
    let policy = control.policy();
    let policy = policy.as_deref();
    let names = policy.and_then(|policy| policy.tables());
    let token =
        |name: &str| names.is_some_and(|all| all.team_token_named(tenant.0, name).is_some());
    let seen_from = address_of(asked);
    let at = seen_from.and_then(|address| address.parse::<SocketAddr>().ok());
    // An address that was asked about may be one that nobody has connected from.
    let at = at
        .map(|address| address.ip())
        .or_else(|| question.name.parse().ok());
    let from_address = asked
        .is_address
        .then(|| control.journal.refused_from(&host_of(&question.name)));
    let facts = AdmissionFacts {
        in_file: policy.and_then(|policy| {
            let found = policy.file_beside_tables(asked.realm, proved);
            let (path, is_behind) = found.filter(|_| question.sees_node)?;
            Some(InFile {
                path,
                is_behind,
                purge: control.command(form::USER_PURGE, &[proved]),
            })
        }),
        namesakes: control.namesakes(asked).await?,
        by_team_token: token(proved),
        by_certificate: policy.is_some_and(|policy| {
            policy.takes_certificate_of(Realm::of_tenant(tenant), &question.name)
        }),
        has_no_configuration: question.sees_node && !control.has_configuration(),
        standing_remedy: match &asked.standing {
            Some(Standing::Barred(why)) => control
                .journal
                .commands()
                .way_in(tenant, client_id, proved, why),
            _ => None,
        },
        banned: policy.and_then(|policy| {
            let all = policy.tables_even_idle()?;
            let ban = all.ban_of(tenant.0, client_id, proved, at, now_signed_ms())?;
            let why = policy.banned(tenant, client_id, Some(proved), at)?;
            let command = control.command(form::BAN_RM, &[&ban.id]);
            Some((why.into_detail().into_owned(), command))
        }),
        locked_out: control
            .locked_out(tenant, proved, client_id, at)
            .map(|locked| {
                let user = Some(proved).filter(|_| locked.is_of_name);
                Lockout {
                    why: locked.why,
                    accepted_secs: locked.accepted_for.map(|left| left.as_secs() + 1),
                    worded: control.journal.commands().lifting(tenant, user, at),
                }
            }),
        listeners_of_tables: (asked.realm != Realm::of_tenant(tenant))
            .then(|| control.listeners_of_tables()),
        token_shown_by: control.journal.token_shown_by(tenant, client_id),
        near_refused: control.near_refused(asked),
        nameless: match seen_from.and_then(host) {
            host if question.sees_node => control.journal.nameless_from(host),
            _ => Vec::new(),
        },
        of_other_tenants: policy.map_or_else(Vec::new, |policy| {
            of_other_tenants(policy, from_address.iter().flatten())
        }),
        lifted: policy.map_or_else(Vec::new, |policy| {
            lifted(policy, from_address.iter().flatten())
        }),
        from_address,
        listeners: control.info.listeners.clone(),
        server_certificates: control.server_certificates(),
        client_id_bytes: control.info.limits.client_id_bytes,
        will: control.will_of(tenant, client_id).await?,
        ..AdmissionFacts::default()
    };
    let Some(tables) = tables else {
        return Ok(facts);
    };
    let unasked = control.user_configuration().tables_unasked;
    let unasked = unasked.filter(|_| !asked.is_registered);
    Ok(AdmissionFacts {
        account: tables.account(asked).await,
        idle: match unasked {
            Some(why) => {
                let what = tables.has_idle(asked).await;
                what.map(|what| (what, why))
            }
            None => None,
        },
        ..facts
    })
}

impl Control {
    /// Names that may be meant by that in the question, as far as the caller may know about them.
    async fn namesakes(&self, asked: &Asked) -> Result<Namesakes, ControlError> {
        let question = &asked.question;
        let (tenant, name) = (question.tenant.0, &*question.name);
        let mut found = Namesakes::default();
        if asked.is_registered {
            return Ok(found);
        }
        if !asked.is_connected {
            found.client_elsewhere = self.client_elsewhere(question).await?;
            if asked.runs.is_empty() && asked.runs_of_parts.is_empty() {
                found.refused_elsewhere = self.refused_elsewhere(question);
            }
        }
        if let Some(tables) = self.tables()
            && tables.account_kind(tenant, name).is_none()
        {
            if question.sees_node {
                found.elsewhere = tables.devices_elsewhere(tenant, name).take(TOLD).collect();
            }
            // In the common tenant are names of other teams.
            if question.sees_node || tenant != 0 {
                found.near = nearest_names(name, tables.names(tenant));
            }
        }
        Ok(found)
    }

    /// The last client with this Client Identifier that was refused in another tenant; none where
    /// there is none, or the caller sees one team alone.
    fn refused_elsewhere(&self, question: &Question) -> Option<RefusedElsewhere> {
        if !question.sees_node {
            return None;
        }
        let tables = self.tables()?;
        let name = &*question.name;
        let refused = self.other_tenants(question.tenant).into_iter();
        let refused = refused.filter_map(|tenant| {
            let runs = self.journal.runs_of(tenant, name, &self.presence);
            let last = runs.into_iter().next_back()?;
            (last.last.what == EventKind::Refused).then_some((tenant, last))
        });
        let (tenant, run) = refused.max_by_key(|(_, run)| run.last.at_ms)?;
        let of_team_token = run.cause == Some(Cause::WrongClientId);
        Some(RefusedElsewhere {
            tenant: self.tenant_in_words(tenant),
            near: match of_team_token {
                true => nearest_names(name, tables.names(tenant.0)),
                false => Vec::new(),
            },
            run,
        })
    }

    /// The last client of the tenant that was refused for its Client Identifier, which is spelt
    /// nearly like that of the device that was asked about.
    fn near_refused(&self, asked: &Asked) -> Option<Entry> {
        let question = &asked.question;
        // In the common tenant are clients of other teams.
        let is_seen = question.sees_node || question.tenant != TenantId::default();
        if !asked.is_device || !is_seen {
            return None;
        }
        let name = &*question.name;
        self.journal
            .client_id_refused(question.tenant, |client_id| {
                client_id != name && !nearest_names(name, std::iter::once(client_id)).is_empty()
            })
    }

    /// The command that asks about a connected client of another tenant with this Client
    /// Identifier; none where there is none, or the caller sees one team alone.
    async fn client_elsewhere(&self, question: &Question) -> Result<Option<Command>, ControlError> {
        if !question.sees_node {
            return Ok(None);
        }
        let query = ClientQuery {
            search: Some(Search {
                text: question.name.as_str().into(),
                anywhere: false,
            }),
            connected: Some(true),
            limit: LOOKED_AT,
            ..ClientQuery::default()
        };
        let found = self.clients(&query).await?.clients;
        let mut others = found
            .iter()
            .filter(|one| *one.client_id == *question.name && one.tenant != question.tenant);
        Ok(others.find_map(|one| self.command_of_tenant(form::WHY, one.tenant, &[&question.name])))
    }

    /// Where clients connect whose logins are checked against the tables, as URLs.
    fn listeners_of_tables(&self) -> Vec<String> {
        let facts = self.node_facts();
        let mqtt = facts.listeners.iter().filter(|one| one.protocol == "mqtt");
        let usual = mqtt.filter(|one| one.realm == Realm::COMMON);
        usual.map(|one| one.url.clone()).collect()
    }

    /// Files with certificates of listeners, and when they end.
    fn server_certificates(&self) -> Vec<(String, u64)> {
        let facts = self.node_facts();
        let own = facts.certificates.iter();
        let own = own.filter(|one| one.used_as == "server");
        let ends_ms = |secs: i64| u64::try_from(secs.saturating_mul(1_000)).unwrap_or(0);
        own.map(|one| (one.file.clone(), ends_ms(one.not_after_secs)))
            .collect()
    }
}

/// Numbers of the entries about a name that is unknown in its tenant, with the User Names of the
/// devices of that id in other tenants.
fn of_other_tenants<'a>(
    policy: &Policy,
    refused: impl Iterator<Item = &'a Entry>,
) -> Vec<(u64, Vec<String>)> {
    let Some(tables) = policy.tables() else {
        return Vec::new();
    };
    let unknown = refused.filter(|entry| entry.cause == Some(Cause::UnknownName));
    let names = unknown.filter_map(|entry| {
        let name = entry.user_name.as_deref()?;
        let names: Vec<String> = tables.devices_elsewhere(entry.tenant, name).collect();
        (!names.is_empty()).then_some((entry.seq, names))
    });
    names.collect()
}

/// Numbers of the entries that are for a ban that is over.
fn lifted<'a>(policy: &Policy, refused: impl Iterator<Item = &'a Entry>) -> Vec<u64> {
    let is_banned = |entry: &Entry| {
        let address = entry.address.as_deref().and_then(|at| at.parse().ok());
        let address = address.map(|address: SocketAddr| address.ip());
        let user = entry.user_name.as_deref();
        let tenant = TenantId(entry.tenant);
        policy
            .banned(tenant, &entry.client_id, user, address)
            .is_some()
    };
    let over = refused.filter(|entry| entry.cause == Some(Cause::Banned) && !is_banned(entry));
    over.map(|entry| entry.seq).collect()
}

/// Where a client comes from, as far as known: where it was refused last, if that was after it was
/// accepted, else where it was connected. Others may have been refused with its name meanwhile.
fn address_of(asked: &Asked) -> Option<&str> {
    let mut latest = asked.runs.iter().rev();
    let came = latest.clone().find(|run| match run.last.what {
        EventKind::Connected => true,
        EventKind::Refused => !was_there_then(&asked.runs, run),
        _ => false,
    });
    let address = came.and_then(|run| run.last.address.as_deref());
    let presence = asked.presence.as_ref();
    let address = address.or_else(|| presence.map(|of| &*of.address).filter(|of| !of.is_empty()));
    address.or_else(|| latest.find_map(|run| run.last.address.as_deref()))
}

/// An address as it stands before its port.
fn host_of(address: &str) -> String {
    match address.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => address.to_owned(),
    }
}
