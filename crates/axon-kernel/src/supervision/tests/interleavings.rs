//! Starts, stops and waits that take their time, in any order, with hopeless errors among them:
//! what must hold whatever the order is.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::Strategy as AnyOf;

use super::driver::{flags, terms};
use super::histories::{id, restart, strategy};
use super::world::World;
use crate::spec::Backoff;
use crate::supervision::{
    Call, CallerId, ChildId, ChildState, Effect, Ending, Event, Flags, Incarnation, Refusal,
    Strategy,
};

/// What happens next; an index picks one of what is possible.
#[derive(Clone, Debug)]
enum Op {
    /// One start comes to its end.
    StartEnds(Index, Ending),
    /// One stop comes to its end.
    StopEnds(Index),
    /// A wait is over.
    Due(Index),
    Exits(Index, Ending),
    Calls(Call),
    Stop,
}

fn op() -> impl AnyOf<Value = Op> {
    let ending = prop_oneof![
        2 => Just(Ending::Normal),
        1 => Just(Ending::Shutdown),
        2 => Just(Ending::Abnormal { hopeless: false }),
        1 => Just(Ending::Abnormal { hopeless: true }),
    ];
    let call = (0_u8..6, 0_u8..4, restart()).prop_map(|(child, kind, restart)| match kind {
        0 => Call::Start(id(child), terms(restart)),
        1 => Call::Terminate(id(child)),
        2 => Call::Restart(id(child)),
        _ => Call::Delete(id(child)),
    });
    prop_oneof![
        10 => (any::<Index>(), ending.clone()).prop_map(|(of, ending)| Op::StartEnds(of, ending)),
        8 => any::<Index>().prop_map(Op::StopEnds),
        6 => any::<Index>().prop_map(Op::Due),
        8 => (any::<Index>(), ending).prop_map(|(of, ending)| Op::Exits(of, ending)),
        6 => call.prop_map(Op::Calls),
        1 => Just(Op::Stop),
    ]
}

impl World {
    fn perform(&mut self, op: Op) {
        match op {
            Op::StartEnds(of, ending) => {
                if let Some(id) = pick(&self.starting, of) {
                    self.start_ends(id, ending);
                }
            }
            Op::StopEnds(of) => {
                if let Some(id) = pick(&self.stopping, of) {
                    self.stop_ends(id);
                }
            }
            Op::Due(of) => {
                self.now = self.now.after(Duration::from_secs(1));
                if !self.waits.is_empty() {
                    let ticket = *of.get(&self.waits.iter().copied().collect::<Vec<_>>());
                    self.waits.remove(&ticket);
                    self.feed(Event::Due(ticket));
                }
            }
            Op::Exits(of, ending) => {
                if let Some(id) = pick(&self.running, of) {
                    self.exits(id, ending);
                }
            }
            Op::Calls(call) => {
                self.call(call);
            }
            Op::Stop => self.feed(Event::Stop),
        }
    }
}

fn pick(children: &BTreeMap<ChildId, Incarnation>, of: Index) -> Option<ChildId> {
    let ids: Vec<_> = children.keys().cloned().collect();
    (!ids.is_empty()).then(|| of.get(&ids).clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_whatever_the_order(
        strategy in prop_oneof![3 => strategy(), 1 => Just(Strategy::Template)],
        max_restarts in 0_u32..20,
        specs in prop::collection::vec(restart(), 0..6),
        starts in prop::bool::weighted(0.8),
        ops in prop::collection::vec(op(), 0..80),
    ) {
        let backoff = Some(Backoff { min: Duration::from_secs(1), max: Duration::from_secs(8) });
        let mut world = World::new(Flags { backoff, ..flags(strategy, max_restarts) });
        let specs = (0..).zip(specs).map(|(number, restart)| (id(number), terms(restart)));
        world.feed(Event::Begin(specs.collect()));
        if starts {
            world.settle();
        }
        for op in ops {
            world.perform(op);
        }
        world.settle();
        prop_assert!(world.callers.is_empty(), "a caller waits for ever");
        for child in world.machine.children() {
            let running = world.running.contains_key(&child.id);
            match child.state {
                ChildState::Running => prop_assert!(running),
                ChildState::Stopped | ChildState::GivenUp => prop_assert!(!running),
                between @ (ChildState::Starting
                | ChildState::Restarting { .. }
                | ChildState::Stopping) => {
                    prop_assert!(false, "{} is {:?} for ever", child.id, between);
                }
            }
        }
        stops_in_reverse(&mut world, strategy);
    }
}

/// Stops a settled supervisor and checks the order.
fn stops_in_reverse(world: &mut World, strategy: Strategy) {
    if world.ended {
        return;
    }
    let order: Vec<ChildId> = world.machine.children().map(|child| child.id).collect();
    let running: Vec<ChildId> =
        order.into_iter().rev().filter(|id| world.running.contains_key(id)).collect();
    world.feed(Event::Stop);
    if strategy == Strategy::Template {
        assert_eq!(world.stopping.len(), running.len(), "all at once");
    }
    for id in running {
        if strategy != Strategy::Template {
            assert_eq!(world.stopping.keys().collect::<Vec<_>>(), [&id]);
        }
        world.stop_ends(id);
    }
    assert!(world.ended);
    let caller = CallerId(u64::MAX);
    let call = Call::Restart(id(0));
    let effects = world.machine.handle(world.now, Event::Called { caller, call });
    assert_eq!(effects, [Effect::Reply { caller, answer: Err(Refusal::Stopped) }]);
}
