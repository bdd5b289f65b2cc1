//! What is too rare in random histories: groups that wait for a child that was given up, and calls
//! in the middle of a restart.

use std::time::Duration;

use super::driver::{flags, terms};
use super::histories::id;
use super::world::World;
use crate::spec::Backoff;
use crate::supervision::{Call, ChildState, Ending, Event, Flags, Moment, Restart, Strategy};

const HOPELESS: Ending = Ending::Abnormal { hopeless: true };
const ERROR: Ending = Ending::Abnormal { hopeless: false };
const SECOND: Duration = Duration::from_secs(1);

/// Starts a supervisor with three permanent children that run.
fn started(strategy: Strategy) -> World {
    let backoff = Some(Backoff { min: SECOND, max: SECOND });
    let mut world = World::new(Flags { backoff, ..flags(strategy, 3) });
    let specs = (0..3).map(|number| (id(number), terms(Restart::Permanent)));
    world.feed(Event::Begin(specs.collect()));
    world.settle();
    world
}

fn states(world: &World) -> Vec<ChildState> {
    world.machine.children().map(|child| child.state).collect()
}

use ChildState::{GivenUp, Restarting, Running, Starting, Stopped};

#[test]
fn a_hopeless_temporary_child_is_dropped() {
    let mut world = started(Strategy::OneForAll);
    world.call(Call::Start(id(3), terms(Restart::Temporary)));
    world.settle();
    world.exits(id(3), HOPELESS);
    assert_eq!(states(&world), [Running; 3]);
}

#[test]
fn a_child_started_by_hand_in_a_waiting_group_fails_back_into_waiting() {
    let mut world = started(Strategy::OneForAll);
    world.exits(id(0), HOPELESS);
    world.settle();
    assert_eq!(states(&world), [GivenUp, Stopped, Stopped]);
    world.call(Call::Restart(id(1)));
    world.settle();
    assert_eq!(states(&world), [GivenUp, Running, Stopped]);
    world.exits(id(1), ERROR);
    world.settle();
    assert_eq!(states(&world), [GivenUp, Stopped, Stopped]);
    assert_eq!(world.machine.restarts_left(world.now), 3, "no restart, so none is counted");
    world.call(Call::Restart(id(0)));
    world.settle();
    assert_eq!(states(&world), [Running; 3], "it waits again for the one that was given up");
}

#[test]
fn those_let_go_do_not_come_back_with_a_later_revival() {
    let mut world = started(Strategy::RestForOne);
    world.exits(id(1), HOPELESS);
    world.settle();
    world.call(Call::Terminate(id(1)));
    world.call(Call::Restart(id(1)));
    world.settle();
    assert_eq!(states(&world), [Running, Running, Stopped]);
    world.exits(id(1), HOPELESS);
    world.call(Call::Restart(id(1)));
    world.settle();
    assert_eq!(states(&world), [Running, Running, Stopped]);
}

#[test]
fn those_behind_a_second_hopeless_child_go_on_waiting_for_it() {
    let mut world = started(Strategy::RestForOne);
    world.exits(id(1), HOPELESS);
    world.settle();
    world.exits(id(0), HOPELESS);
    world.settle();
    world.call(Call::Restart(id(0)));
    world.settle();
    assert_eq!(states(&world), [Running, GivenUp, Stopped]);
    world.call(Call::Restart(id(1)));
    world.settle();
    assert_eq!(states(&world), [Running; 3]);
}

#[test]
fn terminating_the_target_of_a_revival_answers_its_caller() {
    let mut world = started(Strategy::OneForAll);
    world.exits(id(1), HOPELESS);
    world.settle();
    let revives = world.call(Call::Restart(id(1)));
    assert_eq!(states(&world)[0], Starting);
    world.call(Call::Terminate(id(1)));
    assert!(!world.callers.contains(&revives));
    world.settle();
    assert_eq!(states(&world), [Running, Stopped, Running]);
}

#[test]
fn a_member_given_up_before_the_target_of_a_revival_runs_answers_its_caller() {
    let mut world = started(Strategy::OneForAll);
    world.exits(id(1), HOPELESS);
    world.settle();
    let revives = world.call(Call::Restart(id(1)));
    world.start_ends(id(0), Ending::Normal);
    assert_eq!(states(&world), [Running, Starting, Restarting { due: None }]);
    world.exits(id(0), HOPELESS);
    assert!(!world.callers.contains(&revives), "at once, with the cause just reported");
    world.settle();
    assert_eq!(states(&world), [GivenUp, Stopped, Stopped]);
    world.call(Call::Restart(id(0)));
    world.settle();
    assert_eq!(states(&world), [Running; 3], "the target waits with the others");
}

#[test]
fn a_restart_that_the_target_of_a_revival_cannot_join_answers_its_caller() {
    let mut world = started(Strategy::RestForOne);
    world.exits(id(2), HOPELESS);
    world.exits(id(1), HOPELESS);
    world.settle();
    let revives = world.call(Call::Restart(id(2)));
    world.exits(id(0), ERROR);
    assert!(!world.callers.contains(&revives), "it has to wait for the one before it");
    world.settle();
    assert_eq!(states(&world), [Running, GivenUp, Stopped]);
    world.call(Call::Restart(id(1)));
    world.settle();
    assert_eq!(states(&world), [Running; 3]);
}

#[test]
fn stopping_a_supervisor_answers_whoever_revives() {
    let mut world = started(Strategy::OneForAll);
    world.exits(id(1), HOPELESS);
    world.settle();
    let revives = world.call(Call::Restart(id(1)));
    world.feed(Event::Stop);
    assert!(!world.callers.contains(&revives));
    world.settle();
    assert!(world.ended);
}

#[test]
fn a_child_added_while_its_group_waits_is_started_again_with_it() {
    let mut world = started(Strategy::OneForAll);
    world.exits(id(0), ERROR);
    while let Some(child) = world.stopping.keys().next().cloned() {
        world.stop_ends(child);
    }
    let adds = world.call(Call::Start(id(3), terms(Restart::Permanent)));
    world.start_ends(id(3), Ending::Normal);
    assert!(!world.callers.contains(&adds), "it has started: its caller need not wait");
    assert!(world.stopping.contains_key(&id(3)));
    world.settle();
    assert_eq!(states(&world), [Running; 4]);
    let last = world.running.values().max().copied();
    assert_eq!(world.running.get(&id(3)).copied(), last, "in its place, the last one");
}

#[test]
fn exits_while_a_group_is_being_stopped_are_not_counted() {
    let mut world = started(Strategy::OneForAll);
    world.exits(id(0), ERROR);
    world.exits(id(1), ERROR);
    world.settle();
    assert_eq!(states(&world), [Running; 3]);
    assert_eq!(world.machine.restarts_left(Moment::default()), 2);
}
