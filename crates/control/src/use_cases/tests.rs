//! Tests of what a caller may do, by its rights and by the team that it sees.

use martlet_access::RuleLine;
use martlet_broker::TenantId;
use martlet_registry::{
    Actor, ApiRole, Expected, NO_ROLE, NewApiKey, NewTeam, NewUser, Owner, Registry, TypeSettings,
    USER_ROLE, UserChange, Visibility,
};

use super::*;
use crate::callers::{Caller, LackingScopes};
use crate::principal::{Principal, Role, Scope, Scopes};

fn caller(scopes: Scopes, team: Option<&str>, tenant: TenantId) -> Caller {
    let actor = Actor {
        who: "key:test".to_owned(),
        by: "api key".to_owned(),
        address: String::new(),
        request_id: String::new(),
        visibility: Visibility::of(team),
    };
    let principal = Principal {
        team: team.map(str::to_owned),
        tenant,
        ..Principal::anonymous(scopes)
    };
    Caller::new(actor, &principal)
}

fn add(user: NewUser) -> AddUser {
    let password = NewPassword::chosen("a long password".to_owned()).unwrap();
    AddUser { user, password }
}

fn of_role(name: &str, api_role: ApiRole) -> NewUser {
    NewUser {
        api_role,
        ..NewUser::new(name)
    }
}

#[tokio::test]
async fn a_caller_adds_users_with_no_more_rights_than_it_has() {
    let mut registry = Registry::empty().await.unwrap();
    let operator = Role::Operator.scopes().or([Scope::UsersWrite].into());
    let operator = caller(operator, None, TenantId::default());
    let administrator = add(of_role("ada", ApiRole::Administrator));
    let refused = administrator.run(&mut registry, &operator).await;
    let Err(UseCaseError::LackingScopes(LackingScopes(lacking))) = refused else {
        panic!("{refused:?}");
    };
    assert!(lacking.has(Scope::ConfigWrite) && !lacking.has(Scope::UsersWrite));

    let viewer = add(of_role("vic", ApiRole::Viewer));
    let added = viewer.run(&mut registry, &operator).await.unwrap();
    assert_eq!(added.role, NO_ROLE, "a viewer may not read messages");
    let user = add(NewUser::new("una"));
    let added = user.run(&mut registry, &operator).await.unwrap();
    assert_eq!(added.role, USER_ROLE);
    let administrator = add(of_role("ada", ApiRole::Administrator));
    let added = administrator.run(&mut registry, &Caller::local()).await;
    assert_eq!(added.unwrap().api_role, ApiRole::Administrator);
}

#[tokio::test]
async fn who_has_more_rights_is_not_changed_by_a_caller_with_fewer() {
    let mut registry = Registry::empty().await.unwrap();
    let local = Caller::local();
    let administrator = add(of_role("ada", ApiRole::Administrator));
    administrator.run(&mut registry, &local).await.unwrap();
    let operator = Role::Operator.scopes().or([Scope::UsersWrite].into());
    let operator = caller(operator, None, TenantId::default());
    let password = NewPassword::chosen("another password".to_owned()).unwrap();
    let name = "ada".to_owned();
    let set = SetPassword { name, password };
    let refused = set.run(&mut registry, &operator).await;
    assert!(matches!(refused, Err(UseCaseError::LackingScopes(_))));
    let change = ChangeUser {
        name: "ada".to_owned(),
        change: UserChange {
            enabled: Some(false),
            ..UserChange::default()
        },
        expected_revision: Expected::any(),
    };
    let refused = change.run(&mut registry, &operator).await;
    assert!(matches!(refused, Err(UseCaseError::LackingScopes(_))));
}

#[tokio::test]
async fn a_caller_of_one_team_names_no_other_team() {
    let mut registry = Registry::empty().await.unwrap();
    let local = Caller::local();
    let mut ids = Vec::new();
    for name in ["north", "south"] {
        let team = NewTeam {
            name: name.to_owned(),
            ..NewTeam::default()
        };
        let added = AddTeam { team }.run(&mut registry, &local).await.unwrap();
        ids.push(added.id);
    }
    let of_north = caller(Scopes::all(), Some(&ids[0]), TenantId::default());
    let find = |team: &str| FindTeamId {
        team: team.to_owned(),
    };
    let found = find("north").run(&mut registry, &of_north).await;
    assert_eq!(found.unwrap(), ids[0]);
    let found = find("south").run(&mut registry, &of_north).await;
    let Err(UseCaseError::OtherTeam(own)) = found else {
        panic!("{found:?}");
    };
    assert_eq!(own, ids[0]);
    let found = find("east").run(&mut registry, &local).await;
    assert!(matches!(
        found,
        Err(UseCaseError::Unknown(SelectorKind::Team, _))
    ));
}

#[tokio::test]
async fn a_key_has_known_scopes_that_its_caller_has() {
    let mut registry = Registry::empty().await.unwrap();
    let reader = caller([Scope::KeysWrite].into(), None, TenantId::default());
    let key = |scopes: &[&str]| AddApiKey {
        key: NewApiKey {
            name: "test".to_owned(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            ..NewApiKey::default()
        },
    };
    let added = key(&["keys:write", "keys:raed"]);
    let refused = added.run(&mut registry, &reader).await;
    let Err(UseCaseError::UnknownScope { index, name }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((index, &*name), (1, "keys:raed"));
    let refused = key(&["users:write"]).run(&mut registry, &reader).await;
    assert!(matches!(refused, Err(UseCaseError::LackingScopes(_))));
    let added = key(&["keys:write"]).run(&mut registry, &reader).await;
    assert_eq!(added.unwrap().0.scopes, ["keys:write"]);
}

#[tokio::test]
async fn a_user_is_added_with_a_role_in_a_team_or_not_at_all() {
    let mut registry = Registry::empty().await.unwrap();
    let local = Caller::local();
    let user = |name: &str| NewUser {
        team: "north".to_owned(),
        team_role: Some(ApiRole::Operator),
        ..NewUser::new(name)
    };
    let refused = add(user("ada")).run(&mut registry, &local).await;
    assert!(refused.is_err_and(|error| error.is_not_found()));
    let name = "ada".to_owned();
    let found = FindUser { name }.run(&mut registry, &local).await;
    assert!(found.is_err_and(|error| error.is_not_found()));

    let team = NewTeam {
        name: "north".to_owned(),
        ..NewTeam::default()
    };
    let team = AddTeam { team }.run(&mut registry, &local).await.unwrap();
    let few = caller([Scope::UsersWrite].into(), None, TenantId::default());
    let refused = add(user("ada")).run(&mut registry, &few).await;
    assert!(matches!(refused, Err(UseCaseError::LackingScopes(_))));
    add(user("ada")).run(&mut registry, &local).await.unwrap();
    let name = "ada".to_owned();
    let user = FindUser { name }.run(&mut registry, &local).await.unwrap();
    assert_eq!((&*user.name, &*user.team), ("ada", &*team.id));
    let names = vec!["ada".to_owned()];
    let found = TeamsOfUsers { names }.run(&mut registry, &local).await;
    let found = found.unwrap();
    let [teams] = &found[..] else {
        panic!("{found:?}");
    };
    let roles: Vec<_> = teams
        .iter()
        .map(|member| (&*member.team, member.role))
        .collect();
    assert_eq!(roles, [(&*team.id, ApiRole::Operator)]);
}

#[tokio::test]
async fn rules_and_settings_of_a_type_change_together_or_not_at_all() {
    let mut registry = Registry::empty().await.unwrap();
    let local = Caller::local();
    let (owner, name) = (Owner::DeviceType, "meter".to_owned());
    let rules = |line: &str| vec![RuleLine::parse(line).unwrap()];
    let inactive_after = |secs: u32| TypeSettings {
        client_ids: None,
        inactive_after_secs: Some(secs),
    };
    let adding = |secs: u32| AddRuleSet {
        owner,
        name: name.clone(),
        rules: rules("topic read a/#"),
        settings: inactive_after(secs),
    };
    let find = || FindRuleSet {
        owner,
        name: name.clone(),
    };
    // Too short a time.
    let refused = adding(1).run(&mut registry, &local).await;
    assert!(refused.is_err_and(|error| error.is_refused()));
    let found = find().run(&mut registry, &local).await;
    assert!(found.is_err_and(|error| error.is_not_found()));
    adding(60).run(&mut registry, &local).await.unwrap();
    let change = ChangeRuleSet {
        owner,
        name: name.clone(),
        rules: Some(rules("topic read b/#")),
        settings: inactive_after(1),
        expected_revision: Expected::any(),
    };
    let refused = change.run(&mut registry, &local).await;
    assert!(refused.is_err_and(|error| error.is_refused()));
    let found = find().run(&mut registry, &local).await.unwrap();
    assert_eq!(found.rules, rules("topic read a/#"));
    assert_eq!(found.inactive_after_secs, 60);
}

#[test]
fn a_chosen_password_is_neither_short_nor_endless() {
    for password in ["short", &"x".repeat(1_025)] {
        let refused = NewPassword::chosen(password.to_owned());
        assert!(matches!(refused, Err(UseCaseError::Password(_))));
    }
    let shown = format!("{:?}", NewPassword::given("a long password".to_owned()));
    assert!(!shown.contains("long"), "{shown}");
}
