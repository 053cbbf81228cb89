//! A random sequence of calls gives the same answers on both engines.

use martlet_access::RuleLine;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{all, new_device, of_team, postgres};
use crate::snapshot::tests::TemporaryDirectory;
use crate::{
    Actor, ApiRole, DeviceChange, DeviceFilter, DeviceOrder, Expected, GroupChange, Import,
    Location, NewDevice, NewGroup, NewTeam, NewUser, Owner, PageRequest, Registry, RegistryError,
    Renewed, RowOutcome, Snapshot, Status, Visibility, wait,
};

/// A call: what it does, to which of a few names, and by whom.
#[derive(Clone, Debug)]
struct Call {
    kind: u8,
    name: u8,
    other: u8,
    in_team: bool,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = (0_u8..20, 0_u8..4, 0_u8..4, any::<bool>());
    let call = call.prop_map(|(kind, name, other, in_team)| Call {
        kind,
        name,
        other,
        in_team,
    });
    prop::collection::vec(call, 1..40)
}

/// Returns what a call has answered, without what was made up or is a time.
fn outcome_text<T>(answer: Result<T, RegistryError>, describe: impl FnOnce(T) -> String) -> String {
    match answer {
        Ok(answer) => describe(answer),
        Err(RegistryError::Database { error, .. }) => panic!("{error}"),
        Err(error) => error.to_string(),
    }
}

struct Run {
    registry: Registry,
    team: String,
    tenant: u32,
    group: String,
    other_group: String,
    answers: Vec<String>,
    held: Option<std::sync::Arc<Snapshot>>,
}

impl Run {
    async fn start(location: &Location) -> Result<Self, RegistryError> {
        let mut registry = Registry::open(location).await?;
        let team = NewTeam {
            name: "team".to_owned(),
            owns_tenant: true,
            ..NewTeam::default()
        };
        let team = registry.add_team(&all(), team).await?;
        let (tenant, team) = (team.tenant, team.id);
        let group = NewGroup {
            name: "group".to_owned(),
            ..NewGroup::default()
        };
        let group = registry.add_group(&all(), group).await?.id;
        let other = NewGroup {
            name: "middle".to_owned(),
            ..NewGroup::default()
        };
        let other_group = registry.add_group(&all(), other).await?.id;
        Ok(Self {
            registry,
            team,
            tenant,
            group,
            other_group,
            answers: Vec::new(),
            held: None,
        })
    }

    /// Ids that were made up have names.
    fn note(&mut self, text: String) {
        let text = text
            .replace(&self.team, "TEAM")
            .replace(&self.tenant.to_string(), "TENANT")
            .replace(&self.group, "GROUP")
            .replace(&self.other_group, "OTHER");
        self.answers.push(text);
    }

    async fn run(&mut self, call: &Call) -> Result<(), RegistryError> {
        let actor = if call.in_team {
            of_team(&self.team)
        } else {
            all()
        };
        // Ordered otherwise by most collations than by bytes.
        let name = ["b", "B", "ä", "a b"][usize::from(call.name)];
        let text = match call.kind {
            0..=5 => self.run_device(call, &actor, name).await,
            6 => {
                let user = NewUser {
                    team: if call.in_team {
                        self.team.clone()
                    } else {
                        String::new()
                    },
                    api_role: ApiRole::Viewer,
                    ..NewUser::new(name)
                };
                let created = self.registry.create_user(&actor, user, "x").await;
                outcome_text(created, |user| format!("{} {}", user.name, user.tenant))
            }
            7 => outcome_text(
                self.registry
                    .delete_user(&actor, name, Expected::any())
                    .await,
                |()| "gone".into(),
            ),
            8 => outcome_text(self.registry.restore_user(&actor, name).await, |user| {
                user.name
            }),
            9 => {
                let devices = [name.into()];
                let group = [&self.group, &self.other_group][usize::from(call.other / 2)];
                let registry = &mut self.registry;
                let placed = match call.other % 2 {
                    0 => registry.add_to_group(&actor, group, &devices).await,
                    _ => registry.remove_from_group(&actor, group, &devices).await,
                };
                outcome_text(placed, |many| many.to_string())
            }
            10 => {
                let both = vec![new_device(name), new_device("other")];
                let added = self
                    .registry
                    .add_devices(&actor, both, Import::EachByItself)
                    .await;
                outcome_text(added, |all| {
                    let one = |outcome: &RowOutcome| match outcome {
                        RowOutcome::Added(added) => format!("{} {}", added.number, added.tenant),
                        other => format!("{other:?}"),
                    };
                    all.iter().map(one).collect()
                })
            }
            14..=19 => self.run_rules(call, name).await,
            11 => outcome_text(
                self.registry
                    .delete_team(&actor, &self.team, Expected::any())
                    .await,
                |()| "gone".into(),
            ),
            12 => outcome_text(
                self.registry.restore_team(&actor, &self.team).await,
                |team| team.name,
            ),
            _ => outcome_text(
                self.registry.rotate(name, std::time::Duration::ZERO).await,
                |_| "rotated".into(),
            ),
        };
        self.note(text);
        self.look().await
    }

    /// Changes what many depend on, or who depends on it.
    async fn run_rules(&mut self, call: &Call, name: &str) -> String {
        let (registry, actor) = (&mut self.registry, all());
        let rule = RuleLine::parse(&format!("topic read {}/{name}", call.kind));
        let rules = vec![rule.expect("it is a rule"); usize::from(call.other % 3)];
        let owner = match call.kind {
            14 => Owner::Role,
            15 => Owner::DeviceType,
            16 => Owner::Group,
            _ => {
                let changed = match call.kind {
                    17 => {
                        let change = GroupChange {
                            name: Some(["a", "group", "z"][rules.len()].to_owned()),
                            ..GroupChange::default()
                        };
                        let changed =
                            registry.change_group(&actor, &self.group, change, Expected::any());
                        changed.await.map(|_| ())
                    }
                    18 => registry.set_user(name, Some("own"), None).await,
                    _ => {
                        let change = DeviceChange {
                            device_type: Some("own".to_owned()),
                            ..DeviceChange::default()
                        };
                        let changed =
                            registry.change_device(&actor, name.into(), change, Expected::any());
                        changed.await.map(|_| ())
                    }
                };
                return outcome_text(changed, |()| "changed".into());
            }
        };
        let whose = match (owner, call.in_team) {
            (Owner::Group, true) => self.group.clone(),
            (Owner::Group, false) => self.other_group.clone(),
            _ => "own".to_owned(),
        };
        let mut done = registry.set_rules(owner, &whose, &rules).await;
        if matches!(done, Err(RegistryError::NotFound(_))) {
            done = registry.add_rule_set(owner, &whose, &rules).await;
        }
        outcome_text(done.map(|_| ()), |()| "ruled".into())
    }

    async fn run_device(&mut self, call: &Call, actor: &Actor, name: &str) -> String {
        let registry = &mut self.registry;
        match call.kind {
            0 | 1 => {
                let device = NewDevice {
                    tags: vec!["t".to_owned(), name.to_owned()],
                    ..new_device(name)
                };
                let created = registry.create_device(actor, device).await;
                outcome_text(created, |created| {
                    format!("{} {}", created.number, created.tenant)
                })
            }
            2 => {
                let change = DeviceChange {
                    status: Some(Status::ALL[usize::from(call.other % 3)]),
                    name: Some(format!("N{}", call.other)),
                    team: (call.other == 3).then(|| self.team.clone()),
                    ..DeviceChange::default()
                };
                let expected = match call.other {
                    0 => Expected::from(1),
                    _ => Expected::any(),
                };
                let changed = registry.change_device(actor, name.into(), change, expected);
                outcome_text(changed.await, |device| {
                    format!("{} {}", device.number, device.revision)
                })
            }
            3 => outcome_text(
                registry
                    .delete_device(actor, name.into(), Expected::any())
                    .await,
                |()| "gone".into(),
            ),
            4 => {
                let back = registry.restore_device(actor, name.into()).await;
                outcome_text(back, |device| device.number.to_string())
            }
            _ => outcome_text(
                registry.purge_device(actor, name.into(), false).await,
                |()| "purged".into(),
            ),
        }
    }

    /// Notes what lists and the gate say, and checks that what is read of changes is what is read
    /// of everything.
    async fn look(&mut self) -> Result<(), RegistryError> {
        let mut text = String::new();
        for visibility in [Visibility::All, Visibility::Team(self.team.clone())] {
            for deleted in [false, true] {
                let filter = DeviceFilter {
                    deleted,
                    ..DeviceFilter::default()
                };
                let page = PageRequest::first(100);
                let order = DeviceOrder::Id;
                let found = self
                    .registry
                    .list_devices(&visibility, &filter, order, &page)
                    .await?;
                for one in found.items {
                    text += &format!(
                        "{} {} {} {} {} {:?} {:?} {} {}; ",
                        one.number,
                        one.tenant,
                        one.id,
                        one.name,
                        one.status,
                        one.tags,
                        one.groups,
                        one.revision,
                        one.credentials
                    );
                }
                for user in self.registry.list_users(&visibility, deleted).await? {
                    text += &format!("{} {} {}; ", user.name, user.tenant, user.revision);
                }
            }
        }
        let whole = Snapshot::read(&mut self.registry).await?;
        let gate = gate(&whole, self.tenant);
        let whole = std::sync::Arc::new(whole);
        // What was renewed often is renewed again.
        let held = match &self.held {
            None => whole,
            Some(held) => match held.renew_from(&mut self.registry).await? {
                Renewed::Changed(crate::Changed { tables: newer, .. }) => newer,
                Renewed::Same => std::sync::Arc::clone(held),
                Renewed::Everything => panic!("nothing has happened that is not known"),
            },
        };
        assert_eq!(self::gate(&held, self.tenant), gate);
        self.held = Some(held);
        self.note(format!("{text}| {gate}"));
        Ok(())
    }
}

fn gate(snapshot: &Snapshot, tenant: u32) -> String {
    let mut lines = Vec::new();
    for tenant in [0, tenant] {
        for name in snapshot.names(tenant) {
            let is_in = snapshot.admits(tenant, name, name).is_ok();
            let rules = snapshot.rules_of(tenant, name);
            let rules = rules.map(|rules| {
                let rules = rules.rules().iter();
                let lines = rules.map(|rule| format!("{} {}", rule.source, rule.filter));
                lines.collect::<Vec<_>>()
            });
            lines.push(format!("{tenant} {name} {is_in} {rules:?}"));
        }
    }
    for (tenant, name, known) in snapshot.all_deleted().all() {
        let is_in = snapshot.admits(tenant, &name, &name).is_ok();
        lines.push(format!("{tenant} {name} was {} {is_in}", known.word()));
    }
    lines.sort_unstable();
    lines.join("; ")
}

fn answers(location: &Location, calls: &[Call]) -> Vec<String> {
    let done = wait(async {
        let mut run = Run::start(location).await?;
        for call in calls {
            run.run(call).await?;
        }
        run.registry.close().await?;
        Ok(run.answers)
    });
    done.expect("the tables can be used")
}

#[test]
fn both_engines_answer_alike() {
    let config = Config {
        cases: 10,
        failure_persistence: None,
        max_shrink_iters: 40,
        ..Config::default()
    };
    let compare = |calls: Vec<Call>| {
        let place = TemporaryDirectory::new("model");
        let sqlite = answers(&Location::from(place.db()), &calls);
        let postgres = answers(&Location::Url(postgres::new_database()), &calls);
        prop_assert_eq!(sqlite, postgres);
        Ok(())
    };
    let ran = TestRunner::new(config).run(&calls(), compare);
    ran.unwrap_or_else(|error| panic!("{error}"));
}
