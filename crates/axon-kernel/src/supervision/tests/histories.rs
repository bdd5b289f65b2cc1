//! Whatever happens, the machine does step by step what the model of OTP does.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::Strategy as AnyOf;

use super::driver::{Driver, Luck, terms};
use super::model::Model;
use crate::supervision::{Call, ChildId, Ending, Event, Restart, Strategy};

/// What happens next. A child is named by a number that is taken modulo how many there are.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Exit(usize, Ending),
    Start(u8, Restart),
    Terminate(u8),
    Restart(u8),
    Delete(u8),
    Later(u64),
    Stop,
}

pub(super) fn id(number: u8) -> ChildId {
    ChildId::new(format!("child{number}"))
}

pub(super) fn strategy() -> impl AnyOf<Value = Strategy> {
    prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)]
}

pub(super) fn restart() -> impl AnyOf<Value = Restart> {
    prop_oneof![
        3 => Just(Restart::Permanent),
        2 => Just(Restart::Transient),
        1 => Just(Restart::Temporary),
    ]
}

fn op() -> impl AnyOf<Value = Op> {
    let ending = prop_oneof![
        1 => Just(Ending::Normal),
        1 => Just(Ending::Shutdown),
        4 => Just(Ending::Abnormal { hopeless: false }),
    ];
    let child = 0_u8..7;
    prop_oneof![
        12 => (any::<usize>(), ending).prop_map(|(child, ending)| Op::Exit(child, ending)),
        4 => (child.clone(), restart()).prop_map(|(child, restart)| Op::Start(child, restart)),
        3 => child.clone().prop_map(Op::Terminate),
        3 => child.clone().prop_map(Op::Restart),
        2 => child.prop_map(Op::Delete),
        8 => (0_u64..7000).prop_map(Op::Later),
        1 => Just(Op::Stop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_otp_does(
        strategy in strategy(),
        max_restarts in 0_u32..5,
        specs in prop::collection::vec(restart(), 0..6),
        fails in prop::collection::vec(prop::bool::weighted(0.15), 0..60),
        ops in prop::collection::vec(op(), 0..60),
    ) {
        let luck = Luck::new(fails);
        let mut model = Model::new(strategy, max_restarts, luck.clone());
        let mut driver = Driver::new(strategy, max_restarts);
        driver.luck = luck;
        let specs: Vec<_> = (0..).zip(specs).map(|(number, restart)| (id(number), restart)).collect();
        model.init(specs.clone());
        let begin = specs.into_iter().map(|(id, restart)| (id, terms(restart))).collect();
        driver.feed(Event::Begin(begin));
        prop_assert_eq!(&driver.steps, &model.steps);
        for op in ops {
            driver.steps.clear();
            model.steps.clear();
            perform(&mut driver, &mut model, op);
            prop_assert_eq!(&driver.steps, &model.steps);
            if model.ended {
                break;
            }
            prop_assert_eq!(driver.children(), model.children());
        }
    }
}

fn perform(driver: &mut Driver, model: &mut Model, op: Op) {
    let call = match op {
        Op::Exit(child, ending) => {
            let running = model.running();
            if !running.is_empty() {
                let id = &running[child % running.len()];
                model.exit(id, ending);
                driver.exit(id, ending);
            }
            return;
        }
        Op::Later(millis) => {
            let passed = Duration::from_millis(millis);
            model.now += passed;
            driver.now = driver.now.after(passed);
            return;
        }
        Op::Stop => {
            model.stop();
            driver.feed(Event::Stop);
            return;
        }
        Op::Start(child, restart) => Call::Start(id(child), terms(restart)),
        Op::Terminate(child) => Call::Terminate(id(child)),
        Op::Restart(child) => Call::Restart(id(child)),
        Op::Delete(child) => Call::Delete(id(child)),
    };
    model.call(call.clone());
    driver.call(call);
}
