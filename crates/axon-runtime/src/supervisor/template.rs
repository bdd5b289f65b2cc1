use std::fmt;
use std::sync::Arc;

use axon_kernel::supervision::{ChildId, Strategy};
use tokio::sync::oneshot;

use super::actor::Call;
use super::{ChildError, ChildSpec, Supervisor, SupervisorHandle, SupervisorStartError};

type SpecOf<A> = Arc<dyn Fn(A) -> ChildSpec + Send + Sync>;

/// Builds a supervisor of anonymous children that differ in one argument only (OTP's
/// `simple_one_for_one`). They are stopped all at once, each within its own budget.
///
/// A child that ends cleanly or is terminated is forgotten, unless it is permanent and restarted;
/// one that was given up stays until somebody restarts or terminates it.
pub struct Template<A> {
    supervisor: Supervisor,
    spec: SpecOf<A>,
}

/// Speaks to a supervisor of anonymous children. Cheap to clone.
pub struct TemplateHandle<A> {
    handle: SupervisorHandle,
    spec: SpecOf<A>,
}

impl Supervisor {
    /// Makes a supervisor whose children are started at run time, each with an argument of which
    /// `spec` makes its spec. The ids in these specs are not used: each child gets a number.
    #[must_use]
    pub fn template<A>(spec: impl Fn(A) -> ChildSpec + Send + Sync + 'static) -> Template<A> {
        Template { supervisor: Self::with(Strategy::Template), spec: Arc::new(spec) }
    }
}

impl<A> Template<A> {
    /// Sets what all kinds of supervisors have: intensity, backoff, label and events.
    #[must_use]
    pub fn with(self, change: impl FnOnce(Supervisor) -> Supervisor) -> Self {
        Self { supervisor: change(self.supervisor), spec: self.spec }
    }

    /// Starts the supervisor, without children.
    ///
    /// # Errors
    ///
    /// [`SupervisorStartError`]: the children are fine, there are none.
    pub async fn start(self) -> Result<TemplateHandle<A>, SupervisorStartError> {
        Ok(TemplateHandle { handle: self.supervisor.start().await?, spec: self.spec })
    }
}

impl<A> TemplateHandle<A> {
    /// Starts one more child and returns its id. If the start fails nothing is kept of it.
    ///
    /// # Errors
    ///
    /// `Start` or `Stopped`.
    pub async fn start_child(&self, argument: A) -> Result<ChildId, ChildError> {
        let (id, known) = oneshot::channel();
        self.handle.call(Call::StartAnonymous((self.spec)(argument), id)).await?;
        known.await.map_err(|_ended| ChildError::Stopped)
    }

    /// Returns the handle for everything that is not special to anonymous children.
    #[must_use]
    pub fn supervisor(&self) -> &SupervisorHandle {
        &self.handle
    }
}

impl<A> Clone for TemplateHandle<A> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), spec: self.spec.clone() }
    }
}

impl<A> fmt::Debug for Template<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("supervisor", &self.supervisor).finish_non_exhaustive()
    }
}

impl<A> fmt::Debug for TemplateHandle<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateHandle").field("handle", &self.handle).finish_non_exhaustive()
    }
}
