//! Limits hold over the whole tree, in any order of calls.

use proptest::prelude::*;

use super::*;

fn requests(count: u64) -> Allowance {
    Allowance { requests: Some(count), ..Allowance::default() }
}

fn tokens(input: u64, output: u64) -> Usage {
    Usage { input_tokens: input, output_tokens: output, cost: Usd::default() }
}

fn spent(limit: Limit, level: Level) -> Result<(), Spent> {
    Err(Spent::Limit { limit, level })
}

#[test]
fn requests_and_tool_calls_stop_exactly_at_their_limit() {
    let allowance = Allowance { tool_calls: Some(1), ..requests(2) };
    let mut ledger = Ledger::new(Allowance::default());
    let run = ledger.child(ledger.root(), allowance);
    assert_eq!(ledger.reserve(run, &Cost { requests: 2, tool_calls: 1 }), Ok(()));
    assert_eq!(ledger.reserve(run, &Cost::REQUEST), spent(Limit::Requests(2), Level::Own));
    assert_eq!(ledger.reserve(run, &Cost::TOOL_CALL), spent(Limit::ToolCalls(1), Level::Own));
    assert_eq!(ledger.reserve(run, &Cost::default()), Ok(()));
}

#[test]
fn the_error_says_which_limit_of_how_much_and_whose() {
    let mut ledger =
        Ledger::new(Allowance { cost: Some(Usd::from_micros(500_000)), ..Allowance::default() });
    let run = ledger.child(ledger.root(), requests(1));
    let handed_on = ledger.child(run, requests(9));
    let again = ledger.child(handed_on, Allowance::default());
    assert_eq!(ledger.reserve(run, &Cost::REQUEST), Ok(()));
    let told =
        |ledger: &mut Ledger, node| ledger.reserve(node, &Cost::REQUEST).unwrap_err().to_string();
    assert_eq!(
        [run, handed_on, again].map(|node| told(&mut ledger, node)),
        [
            "the limit of 1 model request for this run is reached",
            "the limit of 1 model request for the runs that share its budget is reached",
            "the limit of 1 model request for the runs that share the budget 2 levels above is reached",
        ]
    );
    let other = ledger.child(ledger.root(), Allowance::default());
    let cost = Usd::from_micros(600_000);
    ledger.charge(other, &Usage { cost, ..Usage::default() });
    assert_eq!(
        told(&mut ledger, other),
        "the limit of 0.5 US dollars for all runs together is reached"
    );
}

#[test]
fn tokens_are_refused_once_they_are_used_up() {
    let limits = [
        (Limit::InputTokens(10), Allowance { input_tokens: Some(10), ..Allowance::default() }),
        (Limit::OutputTokens(10), Allowance { output_tokens: Some(10), ..Allowance::default() }),
        (Limit::TotalTokens(10), Allowance { total_tokens: Some(10), ..Allowance::default() }),
    ];
    for (limit, allowance) in limits {
        let mut ledger = Ledger::new(Allowance::default());
        let run = ledger.child(ledger.root(), allowance);
        ledger.charge(run, &tokens(5, 4));
        assert_eq!(ledger.reserve(run, &Cost::REQUEST), Ok(()), "{limit}");
        ledger.charge(run, &tokens(90, 90));
        assert_eq!(ledger.reserve(run, &Cost::REQUEST), spent(limit, Level::Own));
    }
}

#[test]
fn what_is_handed_on_is_never_more_than_what_is_there() {
    let hour = Duration::from_secs(3_600);
    let whole = Allowance { wall: Some(Duration::from_secs(60)), ..requests(10) };
    let mut ledger = Ledger::new(whole);
    let run = ledger.child(ledger.root(), Allowance { wall: Some(hour), ..requests(100) });
    assert_eq!(ledger.remaining(run), whole);
    ledger.reserve(ledger.root(), &Cost { requests: 7, tool_calls: 0 }).unwrap();
    let handed_on = ledger.child(run, requests(5));
    assert_eq!(ledger.remaining(handed_on).requests, Some(3));
}

#[test]
fn a_budget_that_has_ended_gives_nothing_and_keeps_what_was_spent_above() {
    let mut ledger = Ledger::new(requests(3));
    let run = ledger.child(ledger.root(), Allowance::default());
    let handed_on = ledger.child(run, Allowance::default());
    ledger.reserve(handed_on, &Cost::REQUEST).unwrap();
    ledger.end(run);
    assert_eq!(ledger.size(), 3, "a run that handed on is kept for those below it");
    assert_eq!(ledger.reserve(run, &Cost::REQUEST), Err(Spent::Ended));
    let late = ledger.child(run, Allowance::default());
    assert_eq!(ledger.reserve(late, &Cost::REQUEST), Err(Spent::Ended));
    assert_eq!(ledger.remaining(late).requests, Some(0));
    assert_eq!(ledger.reserve(handed_on, &Cost::REQUEST), Ok(()));
    ledger.end(handed_on);
    ledger.end(handed_on);
    ledger.end(ledger.root());
    assert_eq!(ledger.size(), 1);
    assert_eq!(ledger.remaining(ledger.root()).requests, Some(1));
    ledger.charge(handed_on, &tokens(1, 1));
    assert_eq!(ledger.size(), 1);
}

#[test]
fn the_limits_of_an_agent_are_the_budget_of_its_run() {
    let limits =
        crate::spec::Limits { cost: Some(Usd::from_micros(500_000)), ..Default::default() };
    let allowance = Allowance::of_usage_limits(&limits.usage_limits());
    assert_eq!(allowance.requests, Some(50));
    assert_eq!(allowance.cost, Some(Usd::from_micros(500_000)));
    assert_eq!((allowance.tool_calls, allowance.wall), (None, None));
}

#[test]
fn what_was_not_done_is_given_back_at_every_level() {
    let two = Allowance { requests: Some(2), ..Allowance::default() };
    let mut ledger = Ledger::new(two);
    let run = ledger.child(ledger.root(), two);
    ledger.reserve(run, &Cost { requests: 2, tool_calls: 0 }).unwrap();
    ledger.refund(run, &Cost::REQUEST);
    assert_eq!(ledger.remaining(ledger.root()).requests, Some(1));
    assert_eq!(ledger.remaining(run).requests, Some(1));
}

/// One call: which node, by its place among those made so far, and what.
#[derive(Clone, Debug)]
enum Step {
    Child(usize, Allowance),
    Reserve(usize, Cost),
    Charge(usize, Usage),
    End(usize),
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0..8_u64, 1 => Just(u64::MAX)]
}

fn allowance() -> impl Strategy<Value = Allowance> {
    let limit = || prop::option::of(0..12_u64);
    (limit(), limit(), limit(), limit(), limit(), limit()).prop_map(|limits| {
        let (requests, tool_calls, input_tokens, output_tokens, total_tokens, cost) = limits;
        Allowance {
            requests,
            tool_calls,
            input_tokens,
            output_tokens,
            total_tokens,
            cost: cost.map(Usd::from_micros),
            wall: None,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<usize>;
    prop_oneof![
        (at(), allowance()).prop_map(|(at, allowance)| Step::Child(at, allowance)),
        (at(), count(), count()).prop_map(|(at, requests, tool_calls)| Step::Reserve(
            at,
            Cost { requests, tool_calls }
        )),
        (at(), count(), count(), count()).prop_map(|(at, input_tokens, output_tokens, cost)| {
            let cost = Usd::from_micros(cost);
            Step::Charge(at, Usage { input_tokens, output_tokens, cost })
        }),
        at().prop_map(Step::End),
    ]
}

/// What the test itself remembers of a node.
struct Known {
    node: Node,
    parent: Option<usize>,
    allowance: Allowance,
    reserved: Cost,
    ended: bool,
}

impl Known {
    fn new(node: Node, parent: Option<usize>, allowance: Allowance) -> Self {
        Self { node, parent, allowance, reserved: Cost::default(), ended: false }
    }
}

/// Returns the places of a node and those above it.
fn path(known: &[Known], at: usize) -> Vec<usize> {
    std::iter::successors(Some(at), |at| known[*at].parent).collect()
}

proptest! {
    #[test]
    fn no_order_of_calls_exceeds_a_limit_or_leaves_a_trace_of_a_refusal(
        whole in allowance(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut ledger = Ledger::new(whole);
        let mut known = vec![Known::new(ledger.root(), None, whole)];
        for step in steps {
            match step {
                Step::Child(at, allowance) => {
                    let at = at % known.len();
                    let node = ledger.child(known[at].node, allowance);
                    let ended = known[at].ended;
                    known.push(Known { ended, ..Known::new(node, Some(at), allowance) });
                }
                Step::Reserve(at, cost) => {
                    let at = at % known.len();
                    let before = ledger.clone();
                    let left = ledger.remaining(known[at].node);
                    match ledger.reserve(known[at].node, &cost) {
                        Err(Spent::Ended) => prop_assert!(known[at].ended),
                        Err(Spent::Limit { .. }) => prop_assert_eq!(&ledger, &before),
                        Ok(()) => {
                            prop_assert!(!known[at].ended);
                            prop_assert!(left.requests.is_none_or(|left| left >= cost.requests));
                            prop_assert!(left.total_tokens != Some(0));
                            for at in path(&known, at) {
                                let sum = &mut known[at].reserved;
                                sum.requests = sum.requests.saturating_add(cost.requests);
                                sum.tool_calls = sum.tool_calls.saturating_add(cost.tool_calls);
                            }
                        }
                    }
                }
                Step::Charge(at, usage) => ledger.charge(known[at % known.len()].node, &usage),
                Step::End(at) => {
                    let at = at % known.len();
                    ledger.end(known[at].node);
                    known[at].ended |= at != 0;
                }
            }
            for Known { allowance, reserved, .. } in &known {
                prop_assert!(allowance.requests.is_none_or(|limit| reserved.requests <= limit));
                prop_assert!(allowance.tool_calls.is_none_or(|limit| reserved.tool_calls <= limit));
            }
        }
        // What has ended is held only for the sake of what has not.
        let mut held: Vec<usize> = (0..known.len())
            .filter(|at| !known[*at].ended)
            .flat_map(|at| path(&known, at))
            .collect();
        held.sort_unstable();
        held.dedup();
        prop_assert_eq!(ledger.size(), held.len());
        known.iter().for_each(|known| ledger.end(known.node));
        prop_assert_eq!(ledger.size(), 1);
        let left = whole.requests.map(|limit| limit - known[0].reserved.requests);
        prop_assert_eq!(ledger.remaining(ledger.root()).requests, left);
    }
}
