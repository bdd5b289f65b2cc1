use std::time::Duration;

use super::super::{ChildId, Delays, Flags, Machine, Moment, Strategy, Window};
use super::driver::{Driver, terms};
use crate::spec::{Backoff, Intensity};
use crate::supervision::{Call, Effect, Ending, Event, Incarnation, Restart};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_window_slides() {
    let mut window = Window::new(Intensity { max_restarts: 2, within: SECOND * 5 });
    let at = |seconds| Moment(SECOND * seconds);
    assert!(window.count(at(0)));
    assert!(window.count(at(3)));
    assert_eq!(window.left(at(5)), 0);
    assert!(!window.count(at(5)), "a restart at the window's edge still counts");
    assert_eq!(window.left(at(6)), 1);
    assert!(window.count(at(6)));
    assert!(!window.count(at(7)));
}

#[test]
fn no_restart_is_allowed_by_an_intensity_of_zero() {
    let mut window = Window::new(Intensity { max_restarts: 0, within: SECOND });
    assert!(!window.count(Moment::default()));
}

#[test]
fn waits_double_up_to_their_maximum_and_are_jittered() {
    let bounds = Backoff { min: SECOND, max: SECOND * 30 };
    let mut delays = Delays::new(Some(bounds), 7);
    for (failures, whole) in [(0, 1), (1, 2), (2, 4), (4, 16), (5, 30), (31, 30), (u32::MAX, 30)] {
        let waits: Vec<Duration> = (0..50).map(|_| delays.next(failures)).collect();
        assert!(waits.iter().all(|&wait| wait >= SECOND * whole / 2 && wait <= SECOND * whole));
        assert!(waits.windows(2).any(|pair| pair[0] != pair[1]));
    }
    assert_eq!(Delays::new(None, 7).next(3), Duration::ZERO);
}

#[test]
fn a_late_event_of_an_old_incarnation_changes_nothing() {
    let mut driver = Driver::new(Strategy::OneForOne, 5);
    driver.call(Call::Start(ChildId::from("a"), terms(Restart::Permanent)));
    driver.exit(&ChildId::from("a"), Ending::Abnormal { hopeless: false });
    let before: Vec<_> = driver.machine.children().collect();
    assert_eq!(before[0].incarnation, Some(Incarnation(2)));
    let id = ChildId::from("a");
    for event in [
        Event::Exited { id: id.clone(), incarnation: Incarnation(1), ending: Ending::Normal },
        Event::Leaked { id: id.clone(), incarnation: Incarnation(1) },
        Event::Started { id: id.clone(), incarnation: Incarnation(1) },
        Event::StartFailed { id, incarnation: Incarnation(1), hopeless: true },
    ] {
        assert_eq!(driver.machine.handle(Moment::default(), event), []);
    }
    assert_eq!(driver.machine.children().collect::<Vec<_>>(), before);
}

#[test]
fn a_wait_that_was_cancelled_starts_nothing() {
    let mut machine = Machine::new(Flags::new(Strategy::OneForOne), 1);
    let id = ChildId::from("a");
    let now = Moment::default();
    let mut ticket = None;
    let mut handle = |event| {
        let effects = machine.handle(now, event);
        for effect in &effects {
            if let Effect::WaitUntil { ticket: new, .. } = effect {
                ticket = Some(*new);
            }
        }
        effects
    };
    let incarnation = Incarnation(1);
    let ending = Ending::Abnormal { hopeless: false };
    handle(Event::Begin(vec![(id.clone(), terms(Restart::Permanent))]));
    handle(Event::Started { id: id.clone(), incarnation });
    handle(Event::Exited { id: id.clone(), incarnation, ending });
    handle(Event::Called { caller: crate::supervision::CallerId(1), call: Call::Terminate(id) });
    let due = Event::Due(ticket.unwrap());
    assert_eq!(machine.handle(Moment(SECOND * 60), due), []);
}
