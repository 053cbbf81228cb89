//! Against a plain `VecDeque`, and what it costs.

use super::*;
use proptest::prelude::*;

/// Operation on both queues.
#[derive(Clone, Debug)]
enum Step {
    Push([u64; 3]),
    PushFront(Vec<[u64; 2]>),
    Pop,
    Remove(prop::sample::Index),
    Replace(prop::sample::Index, [u64; 2]),
    Encode,
}

fn step() -> impl Strategy<Value = Step> {
    let row = (
        prop_oneof![0..200_u64, any::<u64>()],
        0..3_u64,
        any::<u64>(),
    );
    prop_oneof![
        8 => row.prop_map(|(a, b, c)| Step::Push([a, b, c])),
        1 => prop::collection::vec(any::<[u64; 2]>(), 0..150).prop_map(Step::PushFront),
        12 => Just(Step::Pop),
        3 => any::<prop::sample::Index>().prop_map(Step::Remove),
        2 => (any::<prop::sample::Index>(), any::<[u64; 2]>())
            .prop_map(|(index, row)| Step::Replace(index, row)),
        1 => Just(Step::Encode),
    ]
}

fn find(rows: &Rows<3>, row: &[u64; 3]) -> RowPosition {
    let (place, found) = rows.find(row[0], |other| other == row).expect("there");
    assert_eq!(found, *row);
    place
}

proptest! {
    #[test]
    fn it_is_a_queue_like_any_other(steps in prop::collection::vec(step(), 1..600)) {
        let mut model: VecDeque<[u64; 3]> = VecDeque::new();
        let mut rows = Rows::<3>::new();
        let mut snapshot = (rows.clone(), model.clone());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                // The number makes each row the only one of its kind.
                Step::Push([a, b, _]) => {
                    let row = [a, b, number as u64];
                    model.push_back(row);
                    rows.push_back(row);
                }
                Step::PushFront(new) => {
                    let number = (number as u64) << 32;
                    let new: Vec<_> = new
                        .into_iter()
                        .zip(number..)
                        .map(|([a, b], number)| [a, b, number])
                        .collect();
                    rows.push_front_all(&new);
                    new.into_iter().rev().for_each(|row| model.push_front(row));
                }
                Step::Pop => prop_assert_eq!(rows.pop_front(), model.pop_front()),
                Step::Remove(index) if !model.is_empty() => {
                    let row = model.remove(index.index(model.len())).expect("in range");
                    if number % 2 == 0 {
                        rows.remove(find(&rows, &row));
                    } else {
                        prop_assert_eq!(rows.take(row[0], |other| *other == row), Some(row));
                    }
                    prop_assert_eq!(rows.take(row[0], |other| *other == row), None);
                }
                Step::Replace(index, [a, b]) if !model.is_empty() => {
                    let old = &mut model[index.index(rows.len())];
                    let place = find(&rows, old);
                    *old = [a, b, old[2]];
                    rows.replace(place, *old);
                }
                Step::Encode => {
                    let mut bytes = Vec::new();
                    rows.encode(&mut bytes);
                    let mut again = Rows::new();
                    let mut input = &bytes[..];
                    prop_assert_eq!(again.decode(&mut input), Some(()));
                    prop_assert!(input.is_empty());
                    snapshot = (rows.clone(), model.clone());
                    rows = again;
                }
                Step::Remove(_) | Step::Replace(..) => {}
            }
            prop_assert_eq!(rows.len(), model.len());
            prop_assert_eq!(rows.is_empty(), model.is_empty());
            prop_assert_eq!(rows.front(), model.front().copied());
            prop_assert_eq!(rows.back(), model.back().copied());
        }
        prop_assert!(rows.iter().eq(model.iter().copied()));
        prop_assert!(snapshot.0.iter().eq(snapshot.1.iter().copied()), "a clone changed");
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut rows = Rows::<4>::new();
        let _ = rows.decode(&mut &bytes[..]);
        prop_assert_eq!(rows.iter().count(), rows.len());
    }
}

#[test]
fn a_long_queue_of_growing_keys_costs_at_most_four_bytes_a_row() {
    let mut rows = Rows::<4>::new();
    for number in 0..100_000 {
        rows.push_back([(1 << 50) + number * 1000, 0, 7, 1]);
    }
    assert!(rows.bytes() <= 400_000, "{}", rows.bytes());
}

#[test]
fn an_empty_queue_holds_no_memory_again() {
    let mut rows = Rows::<2>::new();
    for number in 0..1000 {
        rows.push_back([number, 0]);
    }
    while rows.pop_front().is_some() {}
    assert_eq!(rows.bytes(), 0);
}

#[test]
fn scattered_survivors_do_not_hold_whole_blocks() {
    let mut rows = Rows::<2>::new();
    for number in 0..64_000 {
        rows.push_back([number, number * number]);
    }
    let before = rows.bytes();
    for number in (0..64_000).filter(|number| number % 32 != 0) {
        let (place, _) = rows.find(number, |_| true).expect("there");
        rows.remove(place);
    }
    assert_eq!(rows.len(), 2000);
    assert!(rows.iter().map(|row| row[0]).eq((0..64_000).step_by(32)));
    assert!(rows.bytes() < before / 6, "{} of {before}", rows.bytes());
}

#[test]
fn a_short_queue_costs_little_more_than_its_rows() {
    let mut rows = Rows::<3>::new();
    for (number, bytes) in [
        (1, 2 * 24),
        (2, 2 * 24),
        (3, 4 * 24),
        (4, 4 * 24),
        (5, 8 * 24),
    ] {
        rows.push_back([number; 3]);
        assert_eq!(rows.bytes(), bytes, "{number}");
    }
}

#[test]
fn a_place_whose_row_is_gone_already_changes_nothing() {
    let mut rows = Rows::<2>::new();
    for number in 1..4 {
        rows.push_back([number, 0]);
    }
    let place = |rows: &Rows<2>, key| rows.find(key, |_| true).expect("there").0;
    let (first, last) = (place(&rows, 1), place(&rows, 3));
    rows.remove(last);
    rows.remove(last);
    assert!(rows.iter().eq([[1, 0], [2, 0]]));
    rows.remove(first);
    rows.remove(first);
    assert!(rows.iter().eq([[2, 0]]));
    assert_eq!(rows.len(), 1);
    let second = place(&rows, 2);
    rows.remove(second);
    rows.remove(second);
    assert!(rows.is_empty());
}

#[test]
fn blocks_that_are_worked_off_from_the_middle_stay_packed() {
    let mut rows = Rows::<2>::new();
    for number in 0..6400 {
        rows.push_back([number, number]);
    }
    let packed = rows.bytes();
    // One block at a time may lie open, and the first.
    for number in (1000..6000).step_by(100) {
        let (place, _) = rows.find(number, |_| true).expect("there");
        rows.remove(place);
    }
    assert!(rows.bytes() < 2 * packed, "{} of {packed}", rows.bytes());
}

#[test]
fn a_value_that_rows_have_alike_is_kept_once_and_as_long_as_one_has_it() {
    let mut alike = Alike::default();
    assert_eq!(alike.keep(&[3, 4]), (1, true));
    assert_eq!(
        alike.keep(&[4, 3]),
        (2, true),
        "another order is another value"
    );
    let one_each = alike.bytes();
    for _ in 0..1_000 {
        assert_eq!(alike.keep(&[3, 4]), (1, false));
    }
    assert_eq!(alike.bytes(), one_each);
    assert_eq!((alike.get(1), alike.get(2)), (&[3, 4][..], &[4, 3][..]));
    assert!(alike.let_go(2));
    assert_eq!(alike.get(2), &[] as &[i32]);
    assert_eq!(alike.keep(&[7]), (2, true), "its number is used again");
    for _ in 0..1_000 {
        assert!(!alike.let_go(1));
    }
    assert!(alike.let_go(1) && alike.let_go(2) && alike.is_empty());
}

#[test]
fn a_number_whose_value_did_not_come_back_stands_for_no_other() {
    let mut alike = Alike::default();
    alike.restore(2, &[5_u8, 6]);
    alike.count(2);
    alike.count(1);
    let (number, is_new) = alike.keep(&[9]);
    assert!(is_new && number > 2, "{number}");
    assert_eq!((alike.get(1), alike.get(2)), (&[][..], &[5, 6][..]));
    assert!(alike.let_go(1) && alike.let_go(2));
    assert_eq!(alike.iter().collect::<Vec<_>>(), [(number, &[9][..])]);
}
