//! Who is kept out, whatever they show: Client Identifiers, user names, addresses and networks.

use std::net::IpAddr;

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::rule_sets::check_name;
use crate::secret;
use crate::sql::{Fault, clean};
use crate::teams::team_seen;
use crate::{Actor, Registry, RegistryError, Scope, check_text};

/// By what somebody is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BanKind {
    /// A Client Identifier.
    ClientId,
    /// A user name.
    UserName,
    /// An address, or a network: `10.0.0.0/8`.
    Address,
}

impl BanKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ClientId, Self::UserName, Self::Address];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::ClientId => "client_id",
            Self::UserName => "user_name",
            Self::Address => "address",
        }
    }

    /// From how it is written.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Somebody who is kept out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Its id.
    pub id: String,
    /// In this tenant; of addresses it is 0, and means all.
    pub tenant: u32,
    /// By what.
    pub kind: BanKind,
    /// Whom.
    pub value: String,
    /// For people.
    pub why: String,
    /// Who has done it.
    pub made_by: String,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it ends; 0: never.
    pub until_ms: i64,
}

impl Ban {
    /// It holds at this time.
    pub fn holds(&self, now_ms: i64) -> bool {
        self.until_ms == 0 || self.until_ms > now_ms
    }
}

/// Somebody to be kept out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBan {
    /// By what.
    pub kind: BanKind,
    /// Whom.
    pub value: String,
    /// For people.
    pub why: String,
    /// When it ends; 0: never.
    pub until_ms: i64,
}

/// An address and how many bits of it count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        let keep = |bits: u32, width: u32| match bits {
            0 => 0,
            bits => u128::MAX << (width - bits),
        };
        let bits = u32::from(self.bits);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = u128::from(own.to_bits() ^ other.to_bits());
                differing & keep(bits, 32) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()) & keep(bits, 128) == 0
            }
            _ => false,
        }
    }
}

impl Registry {
    /// Keeps somebody out. Who sees one team only does so in its own tenant, and by name alone;
    /// what was said of the same value before is no more.
    ///
    /// # Errors
    /// The value is none, or the team has no tenant of its own.
    pub async fn add_ban(&mut self, actor: &Actor, ban: NewBan) -> Result<Ban, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = insert(&mut work, ban).await;
        work.end(done).await
    }

    /// Lets somebody in again.
    ///
    /// # Errors
    /// There is no such ban.
    pub async fn remove_ban(&mut self, actor: &Actor, id: &str) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = remove(&mut work, id).await;
        work.end(done).await
    }

    /// Who is kept out, newest first; those that have ended too.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn bans(&mut self, scope: &Scope) -> Result<Vec<Ban>, RegistryError> {
        let on = self.connected().await?;
        let read = async {
            let tenant = tenant_of(&mut *on, scope).await?;
            let mut bans = all_bans(on).await?;
            bans.retain(|ban| tenant.is_none_or(|own| own != 0 && own == i64::from(ban.tenant)));
            Ok(bans)
        };
        let read: Result<_, Fault> = read.await;
        read.map_err(|fault| fault.at(self.place()))
    }

    /// Forgets those that ended before this time.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn forget_bans_before(&mut self, before_ms: i64) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "DELETE FROM bans WHERE until_ms > 0 AND until_ms < $1";
            let done = sqlx::query(sql).bind(before_ms).execute(&mut *work.all);
            Ok(done.await?.rows_affected())
        };
        let done = done.await;
        work.end(done).await
    }
}

/// All of them, newest first.
pub(crate) async fn all_bans(on: &mut AnyConnection) -> Result<Vec<Ban>, Fault> {
    let sql = "SELECT * FROM bans ORDER BY created_ms DESC, id";
    let rows = sqlx::query(sql).fetch_all(on).await?;
    rows.iter().map(read_ban).collect()
}

/// The tenant of a team; none: all.
async fn tenant_of(on: &mut AnyConnection, scope: &Scope) -> Result<Option<i64>, Fault> {
    match scope.team() {
        None => Ok(None),
        Some(team) => team_seen(on, scope, team).await.map(Some),
    }
}

fn read_ban(row: &AnyRow) -> Result<Ban, Fault> {
    let (tenant, kind): (i64, String) = (row.try_get("tenant")?, row.try_get("kind")?);
    Ok(Ban {
        id: row.try_get("id")?,
        tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
        kind: BanKind::from_word(&kind).unwrap_or(BanKind::ClientId),
        value: row.try_get("value")?,
        why: row.try_get("why")?,
        made_by: row.try_get("made_by")?,
        created_ms: row.try_get("created_ms")?,
        until_ms: row.try_get("until_ms")?,
    })
}

async fn insert(work: &mut Work<'_>, new: NewBan) -> Result<Ban, Fault> {
    let refused = |why: String| Fault::Told(RegistryError::Refused(why));
    check_text("reason", &new.why)?;
    match new.kind {
        BanKind::Address if Network::parse(&new.value).is_none() => {
            return Err(refused(format!("{:?} is no address or network", new.value)));
        }
        BanKind::Address => {}
        BanKind::ClientId | BanKind::UserName => check_name("client", &new.value)?,
    }
    let tenant = match tenant_of(&mut work.all, &work.actor.scope).await? {
        None => 0,
        Some(0) => return Err(refused("the team has no tenant of its own".to_owned())),
        Some(_) if new.kind == BanKind::Address => {
            return Err(refused("addresses are for all tenants".to_owned()));
        }
        Some(tenant) => tenant,
    };
    let ban = Ban {
        id: secret::new_id()?,
        tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
        kind: new.kind,
        value: new.value,
        why: new.why,
        made_by: work.actor.who.clone(),
        created_ms: work.now_ms,
        until_ms: new.until_ms,
    };
    let old = sqlx::query("DELETE FROM bans WHERE tenant = $1 AND kind = $2 AND value = $3");
    let old = old
        .bind(tenant)
        .bind(ban.kind.word())
        .bind(ban.value.clone());
    old.execute(&mut *work.all).await?;
    let sql = "INSERT INTO bans (id, tenant, kind, value, why, made_by, created_ms, until_ms) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let query = sqlx::query(sql)
        .bind(ban.id.clone())
        .bind(tenant)
        .bind(ban.kind.word());
    let query = query.bind(ban.value.clone()).bind(ban.why.clone());
    let query = query.bind(ban.made_by.clone()).bind(ban.created_ms);
    query.bind(ban.until_ms).execute(&mut *work.all).await?;
    let changed = json!({
        "kind": ban.kind.word(), "value": ban.value, "why": ban.why, "until_ms": ban.until_ms,
    });
    let team = work.actor.scope.team().unwrap_or_default().to_owned();
    work.audit("ban.add", ("ban", &ban.id), &team, changed)
        .await?;
    Ok(ban)
}

async fn remove(work: &mut Work<'_>, id: &str) -> Result<(), Fault> {
    let missing = || RegistryError::NotFound(format!("there is no ban {id}"));
    let tenant = tenant_of(&mut work.all, &work.actor.scope).await?;
    let query = sqlx::query("SELECT * FROM bans WHERE id = $1").bind(clean(id));
    let row = query
        .fetch_optional(&mut *work.all)
        .await?
        .ok_or_else(missing)?;
    let ban = read_ban(&row)?;
    if tenant.is_some_and(|own| own == 0 || own != i64::from(ban.tenant)) {
        return Err(missing().into());
    }
    let gone = sqlx::query("DELETE FROM bans WHERE id = $1").bind(id.to_owned());
    gone.execute(&mut *work.all).await?;
    let changed = json!({ "kind": ban.kind.word(), "value": ban.value });
    let team = work.actor.scope.team().unwrap_or_default().to_owned();
    work.audit("ban.remove", ("ban", id), &team, changed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses() {
        let holds = |network: &str, address: &str| {
            let network = Network::parse(network).expect("it is one");
            network.holds(address.parse().expect("it is one"))
        };
        assert!(holds("10.1.0.0/16", "10.1.255.3") && !holds("10.1.0.0/16", "10.2.0.1"));
        assert!(holds("10.1.2.3", "::ffff:10.1.2.3") && !holds("10.1.2.3", "10.1.2.4"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("2001:db8::/32", "2001:db8:ffff::1") && holds("::1", "::1"));
        for text in ["10.0.0.0/33", "x", "10.0.0.0/x", "::/129", ""] {
            assert!(Network::parse(text).is_none(), "{text}");
        }
    }
}
