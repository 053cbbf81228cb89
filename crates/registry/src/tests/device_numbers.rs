use super::{all, both, new_device};
use crate::{Expected, NewTeam, Visibility};

both!(devices_are_found_by_tenant_and_id_many_at_once, registry, {
    let team = NewTeam {
        name: "north".to_owned(),
        owns_tenant: true,
        ..NewTeam::default()
    };
    let team = registry.add_team(&all(), team).await?;
    registry.add_device("a").await?;
    registry.add_device("b").await?;
    let mut of_team = new_device("a");
    of_team.team = Some(team.id.clone());
    let of_team = registry.create_device(&all(), of_team).await?;
    registry
        .delete_device(&all(), "b".into(), Expected::any())
        .await?;

    let name = |tenant: u32, id: &str| (tenant, id.to_owned());
    let names = [
        name(0, "a"),
        name(0, "b"),
        name(0, "c"),
        name(team.tenant, "a"),
    ];
    let mut found = registry.numbered_devices(&names).await?;
    found.sort_by_key(|device| device.tenant);
    let common = registry.device(&Visibility::All, "a".into()).await?.number;
    let seen: Vec<(u32, i64)> = found.iter().map(|one| (one.tenant, one.number)).collect();
    assert_eq!(seen, [(0, common), (team.tenant, of_team.number)]);

    // One that is deleted can be restored, so its number is known.
    let numbers: Vec<i64> = (common..common + 10).collect();
    let existing = registry.existing_numbers(&numbers).await?;
    assert_eq!(existing.len(), 3);
    registry.purge_device(&all(), "b".into(), false).await?;
    assert_eq!(registry.existing_numbers(&numbers).await?.len(), 2);
    // The telemetry of one that is removed for good may stay.
    registry.add_device("c").await?;
    registry.purge_device(&all(), "c".into(), true).await?;
    assert_eq!(registry.existing_numbers(&numbers).await?.len(), 3);
    let of_type = registry.numbers_of_types(&["device".to_owned()]).await?;
    assert_eq!(of_type.len(), 2);
});
