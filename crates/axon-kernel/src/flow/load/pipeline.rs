//! From a `pipeline.toml` to a flow.

use std::num::NonZeroU32;
use std::sync::OnceLock;

use serde_json::Value;

use super::order::sorted;
use super::{Common, Load, does_nothing, on_failure};
use crate::flow::file::{
    ArmFile, BalancedFile, DoesFile, OnFailureFile, PipelineFile, RestFile, StepFile,
};
use crate::flow::plan::{
    Arm, Ask, Does, Edge, Flow, FlowKind, OnFailure, Over, Repeat, Step, StepName, Target,
};
use crate::flow::rule::MAX_STEPS;
use crate::spec::{AgentName, AgentSpec, What};

/// What a step can do.
const DOES: [&str; 7] = ["agent", "human", "rust", "balance", "choose", "parallel", "steps"];

/// How many items are under way at the same time where nothing is said.
const MAX_CONCURRENCY: u32 = 8;

pub(super) fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(PipelineFile::schema)
}

/// The lists in which steps stand.
#[derive(Clone, Copy, PartialEq)]
enum List {
    /// Each waits for the one before it.
    InOrder,
    /// None waits for another.
    AtOnce,
}

impl Load<'_, '_> {
    /// Puts the pipeline together, adding a problem for each part that cannot be.
    pub(super) fn pipeline(mut self, name: AgentName, file: PipelineFile) -> AgentSpec {
        let common = Common {
            description: file.description,
            tags: file.tags,
            deps: file.deps,
            output: file.output,
            limits: file.limits,
            approvals: file.approvals,
            conversation: file.conversation,
            metadata: file.metadata,
        };
        let mut spec = self.common(name, common);
        spec.flow = Some(Flow {
            kind: FlowKind::Pipeline,
            input: self.table("/input", file.input),
            steps: self.steps("/steps", file.steps, List::InOrder),
            on_failure: on_failure(file.on_failure),
        });
        self.source.add_broken(spec.check());
        spec
    }

    /// Reads the steps at `pointer`, and puts them in order.
    fn steps(&mut self, pointer: &str, files: Vec<StepFile>, list: List) -> Vec<Step> {
        let names: Vec<StepName> = files.iter().map(|file| file.name.clone()).collect();
        let before = |index: usize| match list {
            List::InOrder => index.checked_sub(1).map(|before| names[before].clone()),
            List::AtOnce => None,
        };
        let after: Vec<Vec<StepName>> = files
            .iter()
            .enumerate()
            .map(|(index, file)| {
                file.after.clone().unwrap_or_else(|| before(index).into_iter().collect())
            })
            .collect();
        // A list that is far too long is refused, in whatever order.
        let order = match files.len() {
            0..=MAX_STEPS => sorted(&names, &after),
            more => (0..more).collect(),
        };
        let steps = files.into_iter().zip(after).enumerate();
        let mut steps: Vec<Option<Step>> = steps
            .map(|(index, (file, after))| {
                Some(Step { after, ..self.step(&format!("{pointer}/{index}"), file) })
            })
            .collect();
        let moved = order.iter().filter_map(|index| steps[*index].take()).collect();
        if !order.is_sorted() {
            self.source.moves.lists.insert(pointer.to_owned(), order);
        }
        moved
    }

    fn step(&mut self, pointer: &str, file: StepFile) -> Step {
        let (mut rest, does) = file.split();
        let asks = does.asks();
        let whole = if asks { None } else { does.on_failure.clone() };
        let skips = asks && does.on_failure == Some(OnFailureFile::Skip);
        let over = self.over(pointer, &mut rest, skips);
        let repeat = rest.repeat.map(|repeat| Repeat {
            until: self.condition(&format!("{pointer}/repeat/until"), repeat.until),
            at_most: repeat.at_most,
        });
        Step {
            after: Vec::new(),
            when: rest.when.map(|when| self.condition(&format!("{pointer}/when"), when)),
            over,
            repeat,
            does: self.does(pointer, does),
            on_failure: whole.map(on_failure).unwrap_or_default(),
            name: rest.name,
        }
    }

    fn over(&mut self, pointer: &str, rest: &mut RestFile, skips: bool) -> Option<Over> {
        let (need, at_once) = (rest.need, rest.max_concurrency);
        let Some(list) = rest.map.take() else {
            for (key, _) in [("need", need), ("max_concurrency", at_once.map(NonZeroU32::get))]
                .into_iter()
                .filter(|(_, given)| given.is_some())
            {
                self.needless(pointer, key, "is about the items of a `map`");
            }
            return None;
        };
        if need.is_some() && !skips {
            let why = "counts only where somebody is asked with on_failure = \"skip\"";
            self.needless(pointer, "need", why);
        }
        Some(Over {
            list: self.expression(&format!("{pointer}/map"), list),
            max_concurrency: at_once.unwrap_or(NonZeroU32::MIN.saturating_add(MAX_CONCURRENCY - 1)),
            need: need.filter(|_| skips).unwrap_or(1),
        })
    }

    fn does(&mut self, pointer: &str, mut file: DoesFile) -> Does {
        let given = file.given();
        if given.len() != 1 {
            let what = What::OneOf { nothing: "it does nothing", given, valid: &DOES };
            self.source.add_at(pointer, what);
            return does_nothing();
        }
        if !file.asks() {
            self.refuse_asked(pointer, &file);
        }
        if file.join.is_some() && file.parallel.is_none() {
            self.needless(pointer, "join", "is about the branches of `parallel`");
        }
        if let Some(name) = file.rust {
            return Does::Code(name);
        }
        if let Some(steps) = file.steps {
            return Does::Steps(self.steps(&format!("{pointer}/steps"), steps, List::InOrder));
        }
        if let Some(branches) = file.parallel {
            let at = format!("{pointer}/parallel");
            let branches = self.steps(&at, branches, List::AtOnce);
            return Does::Parallel { branches, join: file.join.unwrap_or_default() };
        }
        if let Some(arms) = file.choose {
            let arms = arms.into_iter().enumerate();
            return Does::Choose(
                arms.map(|(index, arm)| self.arm(&format!("{pointer}/choose/{index}"), arm))
                    .collect(),
            );
        }
        let target = match (file.agent.take(), file.balance.take()) {
            (Some(name), _) => Target::named(name),
            (None, Some(BalancedFile { by, of })) => Target::Balanced { by, of },
            (None, None) => Target::Human,
        };
        Does::Ask(self.ask(pointer, target, file))
    }

    fn arm(&mut self, pointer: &str, file: ArmFile) -> Arm {
        let (when, does) = file.split();
        if !does.asks() && does.on_failure.is_some() {
            let why = "is about somebody who is asked, or the whole step";
            self.needless(pointer, "on_failure", why);
        }
        Arm {
            when: when.map(|when| self.condition(&format!("{pointer}/when"), when)),
            does: self.does(pointer, does),
        }
    }

    fn ask(&mut self, pointer: &str, target: Target, file: DoesFile) -> Ask {
        let mut prompt = file.prompt.map(|prompt| (format!("{pointer}/prompt"), prompt));
        if let Some(human) = file.human {
            if prompt.is_some() {
                self.needless(pointer, "prompt", "is what `human` says already");
            }
            prompt = Some((format!("{pointer}/human"), human));
        }
        if target == Target::Human {
            let said = [
                ("timeout", file.timeout.is_some()),
                ("retry", file.retry.is_some()),
                ("breaker", file.breaker.is_some()),
                ("deps", file.deps.is_some()),
            ];
            for (key, _) in said.into_iter().filter(|(_, said)| *said) {
                let why = "is nothing to a person: how long one may take, [approvals] says";
                self.needless(pointer, key, why);
            }
        }
        Ask {
            target,
            prompt: prompt.map(|(pointer, prompt)| self.template(&pointer, prompt)),
            deps: file.deps.map(|deps| self.given(&format!("{pointer}/deps"), deps)),
            edge: Edge {
                timeout: file.timeout,
                retry: file.retry.unwrap_or_default(),
                breaker: file.breaker,
                on_failure: file.on_failure.map_or(OnFailure::Fail, on_failure),
            },
        }
    }

    /// Refuses what says how somebody is asked, where nobody is.
    fn refuse_asked(&mut self, pointer: &str, file: &DoesFile) {
        let said = [
            ("prompt", file.prompt.is_some()),
            ("deps", file.deps.is_some()),
            ("timeout", file.timeout.is_some()),
            ("retry", file.retry.is_some()),
            ("breaker", file.breaker.is_some()),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            self.needless(pointer, key, "is about somebody who is asked, and here nobody is");
        }
    }
}

impl DoesFile {
    /// Returns whether somebody is asked.
    fn asks(&self) -> bool {
        self.agent.is_some() || self.human.is_some() || self.balance.is_some()
    }

    /// Returns what it is said to do, in the words of the file.
    fn given(&self) -> Vec<&'static str> {
        let given = [
            self.agent.is_some(),
            self.human.is_some(),
            self.rust.is_some(),
            self.balance.is_some(),
            self.choose.is_some(),
            self.parallel.is_some(),
            self.steps.is_some(),
        ];
        DOES.into_iter().zip(given).filter(|(_, given)| *given).map(|(key, _)| key).collect()
    }
}
