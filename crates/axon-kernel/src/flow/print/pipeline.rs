//! A pipeline as its file.

use super::{name, no_form, on_failure};
use crate::flow::expression::Given;
use crate::flow::file::{
    ArmFile, BalancedFile, ConditionFile, DoesFile, OnFailureFile, PipelineFile, RepeatFile,
    RestFile, SchemaTable, ScriptFile, StepFile,
};
use crate::flow::plan::{Arm, Ask, Does, Flow, Join, OnFailure, Repeat, Step, StepName, Target};
use crate::spec::{AgentSpec, PrintError};

pub(super) fn file(spec: &AgentSpec, flow: &Flow) -> Result<PipelineFile, PrintError> {
    let output = spec.output.as_ref().and_then(|output| output.schema.as_ref());
    Ok(PipelineFile {
        description: spec.description.clone(),
        tags: spec.tags.clone(),
        on_failure: on_failure(&flow.on_failure, "/on_failure")?,
        input: flow.input.as_ref().map(SchemaTable::from),
        deps: spec.deps.schema.as_ref().map(SchemaTable::from),
        output: output.map(SchemaTable::from),
        steps: steps(&flow.steps, "/steps")?,
        limits: spec.limits.clone(),
        approvals: spec.approvals,
        conversation: spec.conversation,
        metadata: spec.metadata.clone(),
    })
}

/// Prints steps that wait for each other.
fn steps(steps: &[Step], at: &str) -> Result<Vec<StepFile>, PrintError> {
    let mut files = Vec::new();
    let mut names: Vec<&StepName> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let at = format!("{at}/{index}");
        if !step.after.iter().all(|name| names.contains(&name)) {
            return Err(no_form(&at, "a step that waits for none of those before it"));
        }
        let usual = step.after.iter().collect::<Vec<_>>() == names.last().copied().as_slice();
        let after = (!usual).then(|| step.after.clone());
        files.push(self::step(step, &at, after)?);
        names.push(&step.name);
    }
    Ok(files)
}

fn step(step: &Step, at: &str, after: Option<Vec<StepName>>) -> Result<StepFile, PrintError> {
    let mut does = self::does(&step.does, at)?;
    match (&step.does, &step.on_failure) {
        (_, OnFailure::Fail) => {}
        (Does::Ask(_), OnFailure::Skip | OnFailure::Ask(_)) => {
            return Err(no_form(at, "a step that asks somebody, and fails in a way of its own"));
        }
        (_, own) => does.on_failure = Some(on_failure(own, &format!("{at}/on_failure"))?),
    }
    let repeat = |repeat: &Repeat| RepeatFile {
        until: ConditionFile::from(&repeat.until),
        at_most: repeat.at_most,
    };
    let over = step.over.as_ref();
    let rest = RestFile {
        name: step.name.clone(),
        after,
        when: step.when.as_ref().map(ConditionFile::from),
        map: over.map(|over| ScriptFile::from(&over.list)),
        max_concurrency: over.map(|over| over.max_concurrency).filter(|most| most.get() != 8),
        need: over.map(|over| over.need).filter(|need| *need != 1),
        repeat: step.repeat.as_ref().map(repeat),
    };
    Ok(StepFile::of(rest, does))
}

fn does(does: &Does, at: &str) -> Result<DoesFile, PrintError> {
    let mut file = DoesFile::default();
    match does {
        Does::Ask(ask) => return self::ask(ask, at),
        Does::Code(name) => file.rust = Some(name.clone()),
        Does::Steps(inner) => file.steps = Some(steps(inner, &format!("{at}/steps"))?),
        Does::Choose(arms) => file.choose = Some(self::arms(arms, &format!("{at}/choose"))?),
        Does::Parallel { branches, join } => {
            file.join = Some(*join).filter(|join| *join != Join::All);
            file.parallel = Some(self::branches(branches, &format!("{at}/parallel"))?);
        }
        Does::Route(_) => return Err(no_form(at, "a choice that an agent makes in a pipeline")),
        Does::Fail(_) => return Err(no_form(at, "a failure on purpose")),
    }
    Ok(file)
}

fn branches(branches: &[Step], at: &str) -> Result<Vec<StepFile>, PrintError> {
    let branches = branches.iter().enumerate();
    branches
        .map(|(index, branch)| {
            let at = format!("{at}/{index}");
            if !branch.after.is_empty() {
                return Err(no_form(&at, "a branch that waits for something"));
            }
            step(branch, &at, None)
        })
        .collect()
}

fn arms(arms: &[Arm], at: &str) -> Result<Vec<ArmFile>, PrintError> {
    let arms = arms.iter().enumerate();
    arms.map(|(index, arm)| {
        let does = does(&arm.does, &format!("{at}/{index}"))?;
        Ok(ArmFile::of(arm.when.as_ref().map(ConditionFile::from), does))
    })
    .collect()
}

fn ask(ask: &Ask, at: &str) -> Result<DoesFile, PrintError> {
    let edge = &ask.edge;
    let mut file = DoesFile {
        prompt: ask.prompt.as_ref().map(ScriptFile::from),
        timeout: edge.timeout,
        retry: Some(edge.retry).filter(|retry| *retry != 0),
        breaker: edge.breaker,
        on_failure: Some(on_failure(&edge.on_failure, &format!("{at}/on_failure"))?)
            .filter(|on_failure| *on_failure != OnFailureFile::Fail),
        ..DoesFile::default()
    };
    if let Some(given) = &ask.deps {
        let written = given.written();
        if Given::new(written.clone()).as_ref() != Ok(given) {
            return Err(no_form(&format!("{at}/deps"), "a value with a Rust function in it"));
        }
        file.deps = Some(written);
    }
    match &ask.target {
        Target::Balanced { by, of } => {
            file.balance = Some(BalancedFile { by: *by, of: of.clone() });
        }
        Target::Human if file.prompt.is_some() => file.human = file.prompt.take(),
        target @ (Target::Agent(_) | Target::Human) => file.agent = Some(name(target, at)?),
    }
    Ok(file)
}
