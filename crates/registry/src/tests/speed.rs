//! How long lists and imports take with 100,000 devices; printed, for a release build:
//! `cargo test --release -p martlet-registry -- --ignored --nocapture speed`.

use std::time::Instant;

use super::{all, new_device, postgres};
use crate::snapshot::tests::TemporaryDirectory;
use crate::{
    DeviceFilter, DeviceOrder, Import, Location, NewDevice, PageRequest, Registry, RegistryError,
    RowOutcome, Snapshot, Visibility, wait,
};

const DEVICES: usize = 100_000;

async fn measure(location: &Location) -> Result<(), RegistryError> {
    let mut registry = Registry::open(location).await?;
    let many = (0..DEVICES).map(|number| NewDevice {
        name: Some(format!("Meter {number}")),
        location: format!("hall {}", number % 97),
        tags: vec![format!("t{}", number % 10)],
        ..new_device(&format!("meter-{number:06}"))
    });
    let many: Vec<_> = many.collect();
    let start = Instant::now();
    let outcomes = registry
        .add_devices(&all(), many, Import::EachByItself)
        .await?;
    let took = start.elapsed();
    assert!(
        outcomes
            .iter()
            .all(|one| matches!(one, RowOutcome::Added(_)))
    );
    let rate = DEVICES as f64 / took.as_secs_f64();
    println!("{location}: {DEVICES} added in {took:?}, {rate:.0}/s");
    let start = Instant::now();
    let one = registry.create_device(&all(), new_device("single")).await;
    println!("one more in {:?}", start.elapsed());
    one?;
    let text = |text: &str| DeviceFilter {
        text: Some(text.to_owned()),
        ..DeviceFilter::default()
    };
    let tagged = DeviceFilter {
        tag: Some("t3".to_owned()),
        ..DeviceFilter::default()
    };
    for (what, filter, order) in [
        ("by id", DeviceFilter::default(), DeviceOrder::Id),
        ("newest", DeviceFilter::default(), DeviceOrder::Created),
        ("last seen", DeviceFilter::default(), DeviceOrder::LastSeen),
        ("tag", tagged, DeviceOrder::Id),
        ("text, often", text("hall 5"), DeviceOrder::Id),
        ("text, once", text("meter-099999"), DeviceOrder::Id),
        ("text, never", text("nothing like it"), DeviceOrder::Id),
    ] {
        for with_total in [false, true] {
            let mut page = PageRequest {
                with_total,
                ..PageRequest::first(50)
            };
            let mut longest = std::time::Duration::ZERO;
            for _ in 0..5 {
                let start = Instant::now();
                let found = registry
                    .list_devices(&Visibility::All, &filter, order, &page)
                    .await?;
                longest = longest.max(start.elapsed());
                page.cursor = found.next;
            }
            println!("page, {what}, total {with_total}: {longest:?} at most");
        }
    }
    let start = Instant::now();
    let snapshot = Snapshot::read(&mut registry).await?;
    println!("snapshot in {:?}", start.elapsed());
    drop(snapshot);
    registry.close().await
}

#[test]
#[ignore = "takes long, and is of use with a release build"]
fn speed_of_sqlite() {
    let place = TemporaryDirectory::new("speed");
    wait(measure(&Location::from(place.db()))).expect("it is measured");
}

#[test]
#[ignore = "takes long, and is of use with a release build"]
fn speed_of_postgres() {
    let location = Location::Url(postgres::new_database());
    wait(measure(&location)).expect("it is measured");
}
