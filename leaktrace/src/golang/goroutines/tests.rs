//! Tests of what several looks tell.

use super::{Blocked, Goroutine, Snapshot, State};

/// A goroutine that waits at a place.
fn waiting(id: u64, pc: u64, turns: u8) -> Goroutine {
    Goroutine {
        id,
        state: State::Waiting,
        wait_reason: Some("chan send"),
        created_pc: 0x100,
        start_pc: 0x200,
        pc,
        sp: 0x7000 + id * 0x1000,
        bp: 0,
        stack_end: 0,
        turns,
    }
}

fn snapshot(goroutines: Vec<Goroutine>) -> Snapshot {
    Snapshot {
        goroutines,
        unread: 0,
    }
}

/// Looks at goroutines one after the other; gives count, those that are long there, and since when.
#[track_caller]
fn check(looks: &[(u64, Vec<Goroutine>)], expected: &[(u64, u64, u64)]) {
    let mut blocked = Blocked::default();
    let mut last = Vec::new();
    for (now_ns, goroutines) in looks {
        let census = blocked.take_in(
            &snapshot(goroutines.clone()),
            *now_ns,
            10,
            |_| true,
            |goroutine| vec![goroutine.pc],
        );
        let told = census.blocked.iter();
        last = told
            .map(|it| (it.count, it.long_count, it.since_ns))
            .collect();
    }
    assert_eq!(last, expected);
}

/// One look alone tells no age, whatever the minimum is.
#[test]
fn one_look_tells_no_age() {
    check(
        &[(5, vec![waiting(1, 0x10, 0), waiting(2, 0x10, 9)])],
        &[(2, 0, 5)],
    );
}

/// Who is found unchanged has been there since the first look, and long once the age is reached.
#[test]
fn two_looks_tell_who_stayed() {
    let (one, two) = (waiting(1, 0x10, 0), waiting(2, 0x10, 0));
    check(&[(5, vec![one]), (14, vec![one, two])], &[(2, 0, 5)]);
    check(&[(5, vec![one]), (15, vec![one, two])], &[(2, 1, 5)]);
}

/// A loop that waits at one place again and again does not stay there.
#[test]
fn who_ran_between_looks_did_not_stay() {
    let looks = [
        (5, vec![waiting(1, 0x10, 0)]),
        (50, vec![waiting(1, 0x10, 1)]),
    ];
    check(&looks, &[(1, 0, 50)]);
}

/// A number that another goroutine had before means nothing when the place is another.
#[test]
fn who_moved_on_did_not_stay() {
    let looks = [
        (5, vec![waiting(1, 0x10, 0)]),
        (50, vec![waiting(1, 0x20, 0)]),
    ];
    check(&looks, &[(1, 0, 50)]);
}

/// Groups are by place, the largest first; those that run are counted and not grouped.
#[test]
fn groups_are_by_place() {
    let running = Goroutine {
        state: State::Running,
        ..waiting(9, 0x30, 0)
    };
    let all = vec![
        waiting(1, 0x10, 0),
        waiting(2, 0x20, 0),
        waiting(3, 0x20, 0),
        running,
    ];
    check(&[(5, all.clone())], &[(2, 0, 5), (1, 0, 5)]);
    let mut blocked = Blocked::default();
    let census = blocked.take_in(&snapshot(all), 5, 10, |it| it.id != 3, |it| vec![it.pc]);
    let states: Vec<_> = census.states.into_iter().collect();
    assert_eq!(states, [(State::Running, 1), (State::Waiting, 2)]);
    assert_eq!(census.created[0].count, 3);
}
