//! Which reply a request gets.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::reply::Reply;

/// Replies in order of the requests' arrival, then the last one again and again or a function's.
///
/// # Examples
///
/// ```
/// use axon_test::scripted_model::{ChatRequest, Reply, Script};
///
/// // Fails once, then is well for ever.
/// let recovering = Script::from([Reply::error(503, "overloaded"), Reply::text("fine")]);
/// // Answers every one of many concurrent runs with its own prompt.
/// let echo = Script::function(|body| Reply::text(ChatRequest::new(body).user_prompt()));
/// # let _ = (recovering, echo);
/// ```
pub struct Script {
    replies: Vec<Reply>,
    next: AtomicUsize,
    after: After,
}

type ReplyFunction = Box<dyn Fn(&Value) -> Reply + Send + Sync>;

enum After {
    RepeatLast,
    Function(ReplyFunction),
}

impl Script {
    /// Answers each request with what `reply` makes of its body.
    ///
    /// A panic in `reply` closes that request's connection, which then counts as a disconnect.
    pub fn function(reply: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Self {
        Self::from(Vec::new()).then(reply)
    }

    /// Answers by function once the replies are used up, instead of repeating the last one.
    #[must_use]
    pub fn then(mut self, reply: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Self {
        self.after = After::Function(Box::new(reply));
        self
    }

    /// The reply to the next request, whose body is `request`.
    pub(super) fn reply(&self, request: &Value) -> Cow<'_, Reply> {
        if let Some(reply) = self.replies.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            return Cow::Borrowed(reply);
        }
        match (&self.after, self.replies.last()) {
            (After::Function(reply), _) => Cow::Owned(reply(request)),
            (After::RepeatLast, Some(last)) => Cow::Borrowed(last),
            (After::RepeatLast, None) => Cow::Owned(Reply::error(500, "script_is_empty")),
        }
    }
}

impl From<Vec<Reply>> for Script {
    fn from(replies: Vec<Reply>) -> Self {
        Self { replies, next: AtomicUsize::new(0), after: After::RepeatLast }
    }
}

impl<const N: usize> From<[Reply; N]> for Script {
    fn from(replies: [Reply; N]) -> Self {
        Self::from(Vec::from(replies))
    }
}

impl From<Reply> for Script {
    fn from(reply: Reply) -> Self {
        Self::from(vec![reply])
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = match self.after {
            After::RepeatLast => "repeat last",
            After::Function(_) => "function",
        };
        formatter
            .debug_struct("Script")
            .field("replies", &self.replies)
            .field("next", &self.next)
            .field("after", &after)
            .finish()
    }
}
