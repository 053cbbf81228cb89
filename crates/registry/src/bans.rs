//! Bans: Client Identifiers, user names, addresses and networks that are refused, whatever
//! credentials they show.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::audit::DAY_MS;
use crate::database::Work;
use crate::names::check_name;
use crate::object::{
    details_of_new, object, read_all, read_first, select_short, unchecked, word_type,
};
use crate::page::Listed;
use crate::secret;
use crate::shared_map::SharedMap;
use crate::sql::{Fault, Sql, clean};
use crate::teams::{name_of, named as named_team, team_seen};
use crate::{
    Actor, COMMON_TENANT, NotFound, ObjectKind, Page, PageRequest, Refused, Registry,
    RegistryError, Visibility, check_text,
};

/// Kind of a ban.
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

word_type!(
    BanKind as "BanKind",
    "Kind of a ban: a Client Identifier, a user name, or an address or network.",
    unknown |_: &AnyRow, _: &str| Ok(BanKind::ClientId)
);

object! {
    /// A ban.
    Ban in "bans";
    /// A ban to be added.
    new NewBan {
        /// In the tenant of this team, by id or name; also as the query's `team`. Without it in
        /// that of the team that asks, else among the clients of all teams that have none, and
        /// addresses for all.
        team: Option<String>;
    }
    kept {
        /// Id of the ban.
        id ("id"): String, [];
        /// In this tenant; of addresses 0 means all.
        @[serde(skip)]
        tenant ("tenant"): u32, [];
        /// Caller that has added it.
        made_by ("made_by"): String, [];
    }
    times {
        /// When it was added.
        created_ms as "created_at", [];
    }
    derived {
        /// Id of the team in whose tenant; null: in the common one, and of an address in all.
        team: Option<String> = "SELECT teams.id FROM teams WHERE bans.tenant > 0 AND \
                                teams.tenant = bans.tenant";
    }
    given {
        /// Kind of name that is banned: a Client Identifier, a user name, or an address or network.
        kind ("kind"): BanKind, new BanKind,
            check unchecked, [Audited];
        /// The banned name or address. A caller that sees all teams, and names none, means a device
        /// or user of a team that has a tenant of its own by `NAME@TEAM`, as it connects.
        @[schema(example = "pump-7")]
        value ("value"): String, new String,
            check unchecked, [Audited];
        /// Text for people; clients get it too.
        why ("why"): String, new #[serde(default)] String,
            check check_why, [Audited];
        /// When it ends; null: never.
        @[serde(rename = "until", with = "crate::object::time")]
        @[schema(value_type = Option<String>, format = DateTime)]
        until_ms ("until_ms"): i64, new #[serde(default)] i64,
            check unchecked, [Audited];
    }
}

fn check_why(why: &str) -> Result<(), RegistryError> {
    check_text("reason", why)
}

impl Ban {
    /// Whether it holds at this time.
    pub fn holds(&self, now_ms: i64) -> bool {
        self.until_ms == 0 || self.until_ms > now_ms
    }
}

/// A ban that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedBan {
    /// The ban.
    pub ban: Ban,
    /// The id of the ban of the same value that it has replaced, which still held.
    pub replaced: Option<String>,
}

/// The tenant of a ban of an address that holds wherever it comes to.
const ALL_TENANTS: i64 = COMMON_TENANT as i64;

/// An address and how many bits of it count; the others are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if self.address.is_ipv4() { 32 } else { 128 };
        match self.bits == most {
            true => self.address.fmt(f),
            false => write!(f, "{}/{}", self.address, self.bits),
        }
    }
}

/// The value of a ban as it is kept. A network has one form only.
fn written(kind: BanKind, value: &str) -> Cow<'_, str> {
    let network = Network::parse(value).filter(|_| kind == BanKind::Address);
    network.map_or(value.into(), |network| network.to_string().into())
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        };
        let address: IpAddr = address.parse().ok()?;
        // A connection from such an address is known by its other form.
        let own = address.to_canonical();
        let bits: Option<u8> = match (address.is_ipv6() && own.is_ipv4(), bits) {
            (true, Some(bits)) => Some(u8::checked_sub(bits, 96)?),
            (_, bits) => bits,
        };
        let address = own;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self::around(address, bits))
    }

    /// The network of this address with a prefix of `bits` bits.
    fn around(address: IpAddr, bits: u8) -> Self {
        let rest = |width: u8| u32::from(width.saturating_sub(bits));
        let address = match address {
            IpAddr::V4(own) => {
                let kept = u32::MAX.checked_shl(rest(32)).unwrap_or(0);
                IpAddr::V4((own.to_bits() & kept).into())
            }
            IpAddr::V6(own) => {
                let kept = u128::MAX.checked_shl(rest(128)).unwrap_or(0);
                IpAddr::V6((own.to_bits() & kept).into())
            }
        };
        Self { address, bits }
    }
}

/// All bans in memory, by what they ban. A copy is fast, and so is the change of one ban, whatever
/// their number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bans {
    by_id: SharedMap<Arc<str>, Arc<Ban>>,
    clients: SharedMap<Arc<str>, Vec<Arc<Ban>>>,
    users: SharedMap<Arc<str>, Vec<Arc<Ban>>>,
    networks: SharedMap<Network, Vec<Arc<Ban>>>,
    /// Number of networks of each prefix length, by whether they are of IPv4.
    lengths: BTreeMap<(bool, u8), usize>,
}

impl Bans {
    pub(crate) async fn read(on: &mut AnyConnection) -> Result<Self, Fault> {
        let mut bans = Self::default();
        for ban in all_bans(on).await? {
            bans.put(ban);
        }
        Ok(bans)
    }

    /// Reads one anew; the answer is it, if it was not there before.
    pub(crate) async fn read_one(
        &mut self,
        on: &mut AnyConnection,
        id: &str,
    ) -> Result<Option<Ban>, Fault> {
        let was_there = self.take(id);
        let Some(ban) = ban_of_id(on, id).await? else {
            return Ok(None);
        };
        self.put(ban.clone());
        Ok((!was_there).then_some(ban))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.by_id.get(id).is_some()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Ban> {
        self.by_id.values().map(|ban| &**ban)
    }

    /// The one that keeps a client out at this time.
    pub(crate) fn find(
        &self,
        tenant: u32,
        client_id: &str,
        user_name: &str,
        address: Option<IpAddr>,
        now_ms: i64,
    ) -> Option<&Ban> {
        let comes_here = |ban: &&Arc<Ban>| {
            ban.holds(now_ms) && (ban.tenant == tenant || i64::from(ban.tenant) == ALL_TENANTS)
        };
        let of_tenant = |ban: &&Arc<Ban>| ban.tenant == tenant && ban.holds(now_ms);
        let named = self.clients.get(client_id).into_iter().flatten();
        let named = named.chain(self.users.get(user_name).into_iter().flatten());
        if let Some(ban) = named.into_iter().find(of_tenant) {
            return Some(ban);
        }
        let address = address?.to_canonical();
        // The narrowest first.
        let lengths = self.lengths.keys().rev();
        let lengths = lengths.filter(|(is_v4, _)| *is_v4 == address.is_ipv4());
        let mut networks = lengths.map(|(_, bits)| Network::around(address, *bits));
        let of = |network| self.networks.get(&network)?.iter().find(comes_here);
        let found = networks.find_map(of);
        found.map(|ban| &**ban)
    }

    fn put(&mut self, ban: Ban) {
        let (ban, value) = (Arc::new(ban.clone()), Arc::<str>::from(ban.value));
        match (ban.kind, Network::parse(&value)) {
            (BanKind::ClientId, _) => put(&mut self.clients, value, &ban),
            (BanKind::UserName, _) => put(&mut self.users, value, &ban),
            (BanKind::Address, Some(network)) => {
                let length = (network.address.is_ipv4(), network.bits);
                *self.lengths.entry(length).or_default() += 1;
                put(&mut self.networks, network, &ban);
            }
            // Not a banned client.
            (BanKind::Address, None) => {}
        }
        self.by_id.insert(ban.id.as_str().into(), ban);
    }

    fn take(&mut self, id: &str) -> bool {
        let Some(ban) = self.by_id.remove(id) else {
            return false;
        };
        match (ban.kind, Network::parse(&ban.value)) {
            (BanKind::ClientId, _) => take(&mut self.clients, ban.value.as_str(), id),
            (BanKind::UserName, _) => take(&mut self.users, ban.value.as_str(), id),
            (BanKind::Address, Some(network)) => {
                let length = (network.address.is_ipv4(), network.bits);
                if let Some(count) = self.lengths.get_mut(&length) {
                    *count -= 1;
                }
                self.lengths.retain(|_, count| *count > 0);
                take(&mut self.networks, &network, id);
            }
            (BanKind::Address, None) => {}
        }
        true
    }
}

fn put<K: Clone + Eq + Hash>(map: &mut SharedMap<K, Vec<Arc<Ban>>>, key: K, ban: &Arc<Ban>) {
    let mut all = map.get(&key).cloned().unwrap_or_default();
    all.push(Arc::clone(ban));
    map.insert(key, all);
}

fn take<K, Q>(map: &mut SharedMap<K, Vec<Arc<Ban>>>, key: &Q, id: &str)
where
    K: Clone + Eq + Hash + Borrow<Q>,
    Q: Eq + Hash + ToOwned<Owned: Into<K>> + ?Sized,
{
    let Some(mut all) = map.remove(key) else {
        return;
    };
    all.retain(|ban| ban.id != id);
    if !all.is_empty() {
        map.insert(key.to_owned().into(), all);
    }
}

impl Registry {
    /// Adds a ban. A caller that sees one team only adds it in its own tenant; a ban of the same
    /// value there is replaced.
    ///
    /// # Errors
    /// The value is none, there is no such team, or it has no tenant of its own.
    pub async fn add_ban(&mut self, actor: &Actor, ban: NewBan) -> Result<AddedBan, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = insert(&mut work, ban).await;
        work.end(done).await
    }

    /// Finds a ban by what it was added with: the kind, the value, and a team by id or name.
    ///
    /// # Errors
    /// There is no such ban, or only teams have one that were not named.
    pub async fn ban_named(
        &mut self,
        visibility: &Visibility,
        kind: BanKind,
        value: &str,
        team: Option<&str>,
    ) -> Result<Ban, RegistryError> {
        let mut reading = self.reading().await?;
        let found = find_named(reading.connection(), visibility, kind, value, team).await;
        reading.end(found).await
    }

    /// Removes a ban.
    ///
    /// # Errors
    /// There is no such ban.
    pub async fn remove_ban(&mut self, actor: &Actor, id: &str) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = remove(&mut work, id).await;
        work.end(done).await
    }

    /// A page of the bans, by id; with a time only those that have not ended then.
    ///
    /// # Errors
    /// The database cannot be read, or the cursor is none.
    pub async fn bans_page(
        &mut self,
        visibility: &Visibility,
        lasting_at_ms: Option<i64>,
        page: &PageRequest,
    ) -> Result<Page<Ban>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let tenant = tenant_of(&mut *on, visibility).await?;
            let from = |sql: &mut Sql| {
                sql.push(" FROM bans");
                match tenant {
                    None => sql.push(" WHERE 1 = 1"),
                    // Those of the common tenant are not of a team that has none.
                    Some(0) => sql.push(" WHERE 1 = 0"),
                    Some(own) => sql.push(" WHERE bans.tenant = ").bind(own),
                };
                if let Some(at_ms) = lasting_at_ms {
                    sql.push(" AND (bans.until_ms = 0 OR bans.until_ms > ");
                    sql.bind(at_ms).push(")");
                }
            };
            let listed = Listed {
                key: "bans.id",
                name: |ban: &Ban| &ban.id,
            };
            listed.page(on, engine, from, page).await
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Removes bans that have ended more than a day ago. Returns their number.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn remove_ended_bans(&mut self) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let before_ms = work.now_ms.saturating_sub(DAY_MS);
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
async fn all_bans(on: &mut AnyConnection) -> Result<Vec<Ban>, Fault> {
    let mut sql = select_short::<Ban>();
    sql.push(" ORDER BY created_ms DESC, id");
    read_all(sql, on).await
}

async fn ban_of_id(on: &mut AnyConnection, id: &str) -> Result<Option<Ban>, Fault> {
    let mut sql = select_short::<Ban>();
    sql.push(" WHERE id = ").bind(clean(id));
    read_first(sql, on).await
}

/// The tenant of a team; none: all.
async fn tenant_of(on: &mut AnyConnection, visibility: &Visibility) -> Result<Option<i64>, Fault> {
    match visibility.team() {
        None => Ok(None),
        Some(team) => team_seen(on, visibility, team).await.map(Some),
    }
}

/// The ban of this kind and value, in the tenant where it would be added.
async fn find_named(
    on: &mut AnyConnection,
    visibility: &Visibility,
    kind: BanKind,
    value: &str,
    team: Option<&str>,
) -> Result<Ban, Fault> {
    let target = target(on, visibility, kind, value, team).await?;
    let own = tenant_of(on, visibility).await?;
    let mut bans = all_bans(on).await?;
    bans.retain(|ban| {
        let is_seen = own.is_none_or(|own| own != 0 && own == i64::from(ban.tenant));
        is_seen && ban.kind == kind && written(kind, &ban.value) == target.value
    });
    let of = |tenant: i64| bans.iter().position(|ban| i64::from(ban.tenant) == tenant);
    // A user of this name may have been added to a team later.
    let meant = of(target.tenant).or_else(|| of(ALL_TENANTS).filter(|_| team.is_none()));
    match meant {
        Some(at) => Ok(bans.swap_remove(at)),
        None => {
            let mut teams = Vec::new();
            for team in bans.iter().filter_map(|ban| ban.team.as_deref()) {
                teams.push(name_of(on, team).await?);
            }
            teams.sort_unstable();
            let value = value.to_owned();
            Err(match teams.is_empty() {
                true => NotFound::BanOf(value),
                false => NotFound::BanOfTeams(value, teams),
            }
            .into())
        }
    }
}

async fn insert(work: &mut Work<'_>, new: NewBan) -> Result<AddedBan, Fault> {
    if new.until_ms != 0 && new.until_ms <= work.now_ms {
        return Err(Refused::BanOver.into());
    }
    if new.kind == BanKind::Address && Network::parse(&new.value).is_none() {
        return Err(Refused::BanAddress(new.value).into());
    }
    let BanTarget {
        tenant,
        team,
        value,
    } = whom(work, &new).await?;
    if new.kind != BanKind::Address {
        check_name("client", &value)?;
    }
    let replaced = replace(work, tenant, new.kind, &value).await?;
    let ban = Ban {
        id: secret::new_id()?,
        tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
        team: Some(team.clone()).filter(|team| !team.is_empty()),
        value,
        made_by: work.actor.who.clone(),
        created_ms: work.now_ms,
        ..Ban::begun(new)
    };
    ban.check_values()?;
    work.insert(&ban, &[]).await?;
    let details = details_of_new(&ban).into();
    work.audit("ban.add", ("ban", &ban.id), &team, details)
        .await?;
    Ok(AddedBan { ban, replaced })
}

/// Removes the ban of a value. Returns its id if it still held.
async fn replace(
    work: &mut Work<'_>,
    tenant: i64,
    kind: BanKind,
    value: &str,
) -> Result<Option<String>, Fault> {
    let sql = "SELECT id, until_ms FROM bans WHERE tenant = $1 AND kind = $2 AND value = $3";
    let old = sqlx::query_as::<_, (String, i64)>(sql).bind(tenant);
    let old = old.bind(kind.word()).bind(value.to_owned());
    let Some((id, until_ms)) = old.fetch_optional(&mut *work.all).await? else {
        return Ok(None);
    };
    let deleted = sqlx::query("DELETE FROM bans WHERE tenant = $1 AND kind = $2 AND value = $3");
    let deleted = deleted.bind(tenant).bind(kind.word());
    deleted
        .bind(value.to_owned())
        .execute(&mut *work.all)
        .await?;
    Ok(Some(id).filter(|_| until_ms == 0 || until_ms > work.now_ms))
}

/// Target of a ban: a name, or an address, in a tenant.
struct BanTarget {
    tenant: i64,
    /// The id of the team that owns it.
    team: String,
    value: String,
}

/// Whom a new ban names.
async fn whom(work: &mut Work<'_>, new: &NewBan) -> Result<BanTarget, Fault> {
    let (visibility, team) = (work.actor.visibility.clone(), new.team.as_deref());
    let target = target(&mut work.all, &visibility, new.kind, &new.value, team).await?;
    let is_of_nobody = target.tenant == ALL_TENANTS && new.kind == BanKind::UserName;
    if is_of_nobody && let Some((_, team)) = new.value.rsplit_once('@') {
        expect_user(&mut work.all, &new.value, team).await?;
    }
    Ok(target)
}

/// Checks that a name with an `@` is that of somebody, where there are teams. It may be an address
/// of e-mail, whose domain has a dot, of a user whom another system knows.
async fn expect_user(on: &mut AnyConnection, name: &str, team: &str) -> Result<(), Fault> {
    if team.contains('.') {
        return Ok(());
    }
    let teams = sqlx::query("SELECT id FROM teams LIMIT 1").fetch_optional(&mut *on);
    let has_teams = teams.await?.is_some();
    let sql = "SELECT name FROM users WHERE name = $1 UNION ALL SELECT id FROM devices WHERE \
               tenant = 0 AND id = $1";
    let known = sqlx::query(sql).bind(clean(name)).fetch_optional(on);
    match has_teams && known.await?.is_none() {
        true => Err(Refused::NoTeamOfUser(name.to_owned(), team.to_owned()).into()),
        false => Ok(()),
    }
}

/// Whom a ban of this kind and value names, in a team by id or name.
async fn target(
    on: &mut AnyConnection,
    visibility: &Visibility,
    kind: BanKind,
    value: &str,
    team: Option<&str>,
) -> Result<BanTarget, Fault> {
    let is_name = kind != BanKind::Address;
    let value = &*written(kind, value);
    // `NAME@TEAM` is a name of that team's tenant, as in a login.
    let qualified = value.rsplit_once('@').filter(|_| is_name);
    let Some(named) = team.or(visibility.team()) else {
        if let Some((name, team)) = qualified
            && let Some(team) = named_team(&mut *on, visibility, team, false).await?
            && team.tenant != COMMON_TENANT
        {
            return Ok(BanTarget {
                tenant: i64::from(team.tenant),
                team: team.id,
                value: name.to_owned(),
            });
        }
        return of_no_team(on, kind, value).await;
    };
    let missing = || Refused::from(NotFound::Object(ObjectKind::Team, named.to_owned()));
    let team = named_team(on, visibility, named, false).await?;
    let team = team.ok_or_else(missing)?;
    if team.tenant == COMMON_TENANT {
        return Err(Refused::NoTenant(team.name).into());
    }
    let own = qualified.filter(|(_, of)| *of == team.name);
    Ok(BanTarget {
        tenant: i64::from(team.tenant),
        team: team.id,
        value: own.map_or(value, |(own, _)| own).to_owned(),
    })
}

/// A user has a name that no other tenant has, and logs in with it alone.
async fn of_no_team(
    on: &mut AnyConnection,
    kind: BanKind,
    value: &str,
) -> Result<BanTarget, Fault> {
    let mut whom = BanTarget {
        tenant: ALL_TENANTS,
        team: String::new(),
        value: value.to_owned(),
    };
    if kind == BanKind::UserName {
        let sql = "SELECT teams.tenant, teams.id FROM users JOIN teams ON teams.tenant = \
                   users.tenant WHERE users.tenant > 0 AND users.name = $1 AND \
                   users.deleted_ms = 0 AND NOT EXISTS (SELECT 1 FROM devices WHERE \
                   devices.tenant = 0 AND devices.id = $1 AND devices.deleted_ms = 0)";
        let query = sqlx::query(sql).bind(clean(value));
        if let Some(row) = query.fetch_optional(on).await? {
            (whom.tenant, whom.team) = (row.try_get("tenant")?, row.try_get("id")?);
        }
    }
    Ok(whom)
}

async fn remove(work: &mut Work<'_>, id: &str) -> Result<(), Fault> {
    let missing = || NotFound::Object(ObjectKind::Ban, id.to_owned());
    let tenant = tenant_of(&mut work.all, &work.actor.visibility).await?;
    let ban = ban_of_id(&mut work.all, id).await?.ok_or_else(missing)?;
    if tenant.is_some_and(|own| own == 0 || own != i64::from(ban.tenant)) {
        return Err(missing().into());
    }
    let deleted = sqlx::query("DELETE FROM bans WHERE id = $1").bind(id.to_owned());
    deleted.execute(&mut *work.all).await?;
    let changed = json!({ "kind": ban.kind.word(), "value": ban.value });
    let team = ban.team.unwrap_or_default();
    work.audit("ban.remove", ("ban", id), &team, changed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(id: &str, tenant: u32, kind: BanKind, value: &str) -> Ban {
        Ban {
            id: id.to_owned(),
            tenant,
            team: None,
            kind,
            value: value.to_owned(),
            why: String::new(),
            made_by: String::new(),
            created_ms: 1,
            until_ms: 0,
        }
    }

    #[test]
    fn a_network_has_one_form() {
        for (given, kept) in [
            ("10.0.0.9/8", "10.0.0.0/8"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("no address", "no address"),
        ] {
            assert_eq!(written(BanKind::Address, given), kept);
            assert_eq!(written(BanKind::UserName, given), given);
        }
    }

    #[test]
    fn a_network_holds_its_addresses() {
        let holds = |network: &str, address: &str| {
            assert!(Network::parse(network).is_some(), "{network}");
            let mut bans = Bans::default();
            bans.put(ban("n", 0, BanKind::Address, network));
            let address = address.parse().expect("it is one");
            bans.find(0, "c", "u", Some(address), 5).is_some()
        };
        assert!(holds("10.1.0.0/16", "10.1.255.3") && !holds("10.1.0.0/16", "10.2.0.1"));
        assert!(holds("10.1.2.3/16", "10.1.255.3") && !holds("10.1.2.3", "10.1.2.2"));
        assert!(holds("10.1.2.3", "::ffff:10.1.2.3") && !holds("10.1.2.3", "10.1.2.4"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("2001:db8::/32", "2001:db8:ffff::1") && holds("::1", "::1"));
        assert!(holds("::/0", "2001:db8::1") && !holds("::/0", "1.2.3.4"));
        for text in ["10.0.0.0/33", "x", "10.0.0.0/x", "::/129", ""] {
            assert!(Network::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn bans_are_found_by_whom_they_keep_out_until_they_are_taken_back() {
        let mut bans = Bans::default();
        let mut ended = ban("ended", 0, BanKind::Address, "10.0.0.1");
        ended.until_ms = 2;
        for one in [
            ban("client", 0, BanKind::ClientId, "x"),
            ban("other tenant", 7, BanKind::ClientId, "x"),
            ban("user", 0, BanKind::UserName, "x"),
            ban("wide", 0, BanKind::Address, "10.0.0.0/8"),
            ban("wide too", 0, BanKind::Address, "10.9.0.0/8"),
            ban("of one tenant", 7, BanKind::Address, "10.0.0.1"),
            ended,
        ] {
            bans.put(one);
        }
        let before = bans.clone();
        let found = |bans: &Bans, tenant, client_id: &str, user: &str, address: &str| {
            let address = address.parse().ok();
            let found = bans.find(tenant, client_id, user, address, 5);
            found.map(|ban| ban.id.clone()).unwrap_or_default()
        };
        assert_eq!(found(&bans, 0, "x", "", ""), "client");
        assert_eq!(found(&bans, 7, "x", "x", ""), "other tenant");
        assert_eq!(found(&bans, 8, "x", "x", ""), "");
        assert_eq!(found(&bans, 0, "c", "x", "10.0.0.1"), "user");
        assert_eq!(found(&bans, 0, "c", "u", "10.0.0.1"), "wide");
        assert_eq!(found(&bans, 7, "c", "u", "10.0.0.1"), "of one tenant");
        assert_eq!(found(&bans, 8, "c", "u", "10.0.0.1"), "wide");
        assert!(bans.take("wide") && bans.take("client") && !bans.take("client"));
        assert_eq!(found(&bans, 0, "c", "u", "10.0.0.1"), "wide too");
        assert_eq!(found(&bans, 0, "x", "", ""), "");
        assert_eq!(found(&bans, 7, "x", "x", ""), "other tenant");
        assert!(bans.take("wide too"));
        assert_eq!(found(&bans, 0, "c", "u", "10.0.0.1"), "");
        assert_eq!((bans.all().count(), before.all().count()), (4, 7));
        assert_eq!(found(&before, 0, "c", "u", "10.0.0.1"), "wide");
    }
}
