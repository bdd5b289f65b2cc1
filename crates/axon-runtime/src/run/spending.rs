//! What a run takes out of its budgets, and when it may ask its model.

use axon_kernel::breaker::Answer;
use axon_kernel::budget::{self, Cost, Level, Usage};
use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::json::RawJson;
use axon_kernel::spec::Usd;
use serde::Deserialize;
use tokio::time::Instant;

use super::driver::Driver;
use super::spent::Spent;
use crate::agent::Lease;
use crate::models::ModelKey;

/// What pydantic-ai counts, as far as budgets know it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counted {
    requests: u64,
    input_tokens: u64,
    output_tokens: u64,
    /// A decimal as text, with as many digits as its price list has; nothing where it knows none.
    cost: Option<String>,
}

impl Counted {
    fn usage(&self) -> Usage {
        let cost = self.cost.as_deref().and_then(usd).unwrap_or_default();
        Usage { input_tokens: self.input_tokens, output_tokens: self.output_tokens, cost }
    }
}

/// Reads an amount of any precision, rounded up to a millionth.
fn usd(text: &str) -> Option<Usd> {
    let micros = (text.parse::<f64>().ok()? * 1e6).ceil();
    // Beyond this a float is no exact count any more, and no run costs that much.
    let sane = (0.0..9e15).contains(&micros);
    sane.then(|| format!("{micros:.0}").parse().ok().map(Usd::from_micros)).flatten()
}

/// What pydantic-ai calls the output tool of an agent that names none.
const DEFAULT_OUTPUT: &str = "final_result";

#[derive(Deserialize)]
struct Message {
    kind: String,
    #[serde(default)]
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    part_kind: String,
    #[serde(default)]
    tool_name: Option<String>,
}

/// What a run has taken out of its budgets.
#[derive(Debug, Default)]
pub(super) struct Spending {
    /// The model that the live attempt was let through to.
    asked: Option<ModelKey>,
    /// Since when a request to it is under way.
    asked_at: Option<Instant>,
    /// Whether that model has answered in this attempt.
    answered: bool,
    /// What is reserved and not answered yet.
    under_way: Cost,
    /// What the budgets know of already.
    charged: Usage,
    /// Whether the pending tool calls are taken out of the budget.
    tools_paid: bool,
}

impl Spending {
    /// Counts from what is recorded on: from nothing, as a runner does that begins with the prompt.
    pub(super) fn begin(&mut self, recorded: Option<&RawJson>) {
        self.begin_attempt(recorded);
        self.tools_paid = false;
    }

    /// Counts from what is recorded on, as the runner of an attempt does: what others have used
    /// since then it is told again.
    fn begin_attempt(&mut self, recorded: Option<&RawJson>) {
        let counted: Option<Counted> = recorded.and_then(|usage| usage.decode().ok());
        self.charged = counted.unwrap_or_default().usage();
    }

    /// Counts what a run has used that answered a tool call, and has paid for out of the same
    /// budget: the runner is about to count it as this run's own.
    pub(super) fn spent_elsewhere(&mut self, usage: &RawJson) {
        let counted: Counted = usage.decode().unwrap_or_default();
        let spent = counted.usage();
        self.charged.input_tokens += spent.input_tokens;
        self.charged.output_tokens += spent.output_tokens;
        self.charged.cost = Usd::from_micros(self.charged.cost.micros() + spent.cost.micros());
    }
}

impl Driver {
    /// Takes out of the budget what a run below has used that ended before this process.
    pub(super) fn spend_again(&self, spent: Option<&Spent>) {
        let Some(spent) = spent else { return };
        let counted: Counted = spent.usage.decode().unwrap_or_default();
        self.request.budget.charge(&counted.usage());
        for _ in 0..counted.requests {
            // What is spent is spent: a budget that has less is used up.
            if self.request.budget.reserve(&Cost::REQUEST).is_err() {
                return;
            }
        }
    }

    /// Returns which model the next request goes to, and with which credential.
    pub(super) fn model_key(&self, lease: &Lease) -> ModelKey {
        let named = self.request.model.as_ref().or(self.launcher.spec.model.as_ref());
        let model = named.map_or_else(|| lease.tenancy.model.clone(), ToString::to_string);
        let credential = self.launcher.credential(&model);
        ModelKey { model, credential }
    }

    /// Sees to it that the attempt may begin with a model request: nothing is wrong with the model,
    /// its rate limits allow it, and it is paid for.
    pub(super) async fn before_attempt(&mut self, lease: &Lease) -> Result<(), Failure> {
        let key = self.model_key(lease);
        self.services().models.admit(&key)?;
        self.spending.asked = Some(key.clone());
        self.spending.answered = false;
        self.spending.under_way = Cost::default();
        self.spending.begin_attempt(self.transcript.usage.as_ref());
        // Resumed in the middle of its tool calls, the attempt asks for a permit before it asks
        // the model.
        if !self.resumes_with_tools() {
            self.before_request(&key.model).await?;
        } else if !self.spending.tools_paid {
            self.before_tools()?;
        }
        Ok(())
    }

    /// Waits for the rate limits of `model` and takes one request out of the budget. It is waited
    /// for other runs here, not for this one's runner: that goes on with its pings meanwhile.
    pub(super) async fn before_request(&mut self, model: &str) -> Result<(), Failure> {
        let services = self.agent.services.clone();
        self.awaits = Some("the rate limit of its model held it back");
        services.models.wait(model).await;
        self.awaits = None;
        self.spending.tools_paid = false;
        self.request.budget.reserve(&Cost::REQUEST).map_err(spent)?;
        self.spending.under_way = Cost::REQUEST;
        self.spending.asked_at = Some(Instant::now());
        Ok(())
    }

    /// Takes the tool calls of the last recorded response out of the budget.
    pub(super) fn before_tools(&mut self) -> Result<(), Failure> {
        let tool_calls = self.pending_tool_calls();
        self.request.budget.reserve(&Cost { requests: 0, tool_calls }).map_err(spent)?;
        self.spending.tools_paid = true;
        Ok(())
    }

    /// Charges what was used since the last time: to the budgets, and to the model's rate limits.
    pub(super) fn charge(&mut self, usage: &RawJson) {
        let counted: Counted = match usage.decode() {
            Ok(counted) => counted,
            Err(error) => {
                tracing::warn!(run = %self.log().run_id(), %error, "a runner's usage cannot be read");
                return;
            }
        };
        let now = counted.usage();
        let before = std::mem::replace(&mut self.spending.charged, now);
        let more = Usage {
            input_tokens: now.input_tokens.saturating_sub(before.input_tokens),
            output_tokens: now.output_tokens.saturating_sub(before.output_tokens),
            cost: Usd::from_micros(now.cost.micros().saturating_sub(before.cost.micros())),
        };
        self.request.budget.charge(&more);
        let Some(key) = &self.spending.asked else { return };
        let tokens = (more.input_tokens, more.output_tokens);
        self.services().models.owe(&key.model, tokens.0 + tokens.1);
        if tokens != (0, 0) {
            self.agent.agent.meters.used(&key.model, tokens, more.cost.micros());
        }
    }

    /// Takes out of the budgets what an attempt has used that left no checkpoint behind it.
    pub(super) fn spent(&mut self, usage: Option<&RawJson>) {
        if let Some(usage) = usage {
            self.charge(usage);
        }
    }

    /// Tells the model's breaker, once per attempt, that the model answers: the rest of the attempt
    /// may take long, and others may wait for this.
    pub(super) fn model_answered(&mut self) {
        self.request_answered();
        self.spending.under_way = Cost::default();
        if let (Some(key), false) = (&self.spending.asked, self.spending.answered) {
            self.services().models.record(key, Answer::Success);
            self.spending.answered = true;
        }
    }

    /// Counts the request under way as answered.
    pub(super) fn request_answered(&mut self) {
        let since = self.spending.asked_at.take();
        if let Some(key) = &self.spending.asked {
            self.request_ended((&key.model, since), None);
        }
    }

    /// Tells the model's breaker what came of the attempt. A request that the provider turned away
    /// is given back to the budget.
    pub(super) fn report(&mut self, answer: Answer<'_>) {
        let Some(key) = self.spending.asked.take() else { return };
        let failure = match answer {
            Answer::Success => None,
            Answer::Failure(failure) => Some(failure),
        };
        let since = self.spending.asked_at.take();
        self.request_ended((&key.model, since), failure);
        self.services().models.record(&key, answer);
        if let Some(failure) = failure
            && failure.was_turned_away()
        {
            self.request.budget.refund(&std::mem::take(&mut self.spending.under_way));
        }
    }

    /// Tells the model's breaker that nobody will hear what came of the request under way, if there
    /// is one: it may have been the probe that all others wait for.
    pub(super) fn nothing_came_of_it(&mut self) {
        self.report(Answer::Failure(&Failure::new(FailureKind::Cancelled, "the run was stopped")));
    }

    /// Gives back what an attempt took that no runner has executed.
    pub(super) fn not_asked(&mut self) {
        self.spending.asked_at = None;
        self.request.budget.refund(&std::mem::take(&mut self.spending.under_way));
        self.nothing_came_of_it();
    }

    fn resumes_with_tools(&self) -> bool {
        self.transcript.resumable && self.pending_tool_calls() > 0
    }

    /// Counts the calls of function tools in the last recorded message; an output is no such call.
    fn pending_tool_calls(&self) -> u64 {
        let last = self.transcript.messages.last();
        let read = last.and_then(|last| last.decode::<Message>().ok());
        let Some(message) = read.filter(|message| message.kind == "response") else { return 0 };
        let output = self.launcher.spec.output.as_ref();
        let output = output.and_then(|output| output.name.as_ref());
        let output = output.map_or(DEFAULT_OUTPUT, |name| name.as_str());
        let calls = message.parts.iter().filter(|part| {
            part.part_kind == "tool-call" && part.tool_name.as_deref() != Some(output)
        });
        calls.count() as u64
    }
}

fn spent(spent: budget::Spent) -> Failure {
    let help = match spent {
        budget::Spent::Limit { level: Level::Own, .. } => {
            "raise [limits] in agent.toml, or the usage limits of the run"
        }
        budget::Spent::Limit { .. } | budget::Spent::Ended => {
            "give the runs a larger budget, or fewer of them the same one"
        }
    };
    Failure::new(FailureKind::UsageLimit, spent.to_string()).with_help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_any_precision_count_and_odd_ones_lose_no_tokens() {
        for (text, micros) in
            [("0.00060375", 604), ("1E-7", 1), ("0", 0), ("2.5", 2_500_000), ("12", 12_000_000)]
        {
            assert_eq!(usd(text), Some(Usd::from_micros(micros)), "{text}");
        }
        for odd in ["-1", "NaN", "inf", "1e300", "much"] {
            assert_eq!(usd(odd), None, "{odd}");
            let counted =
                Counted { input_tokens: 3, cost: Some(odd.to_owned()), ..Counted::default() };
            assert_eq!(counted.usage().input_tokens, 3);
        }
    }
}
