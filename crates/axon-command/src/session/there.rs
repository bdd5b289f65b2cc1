//! What a session has of elsewhere: the service that is asked, tokens, and definitions for a service
//! of its own.

use std::path::Path;
use std::sync::Arc;

use axon_runtime::{AgentDefinition, FolderError, Secret, load_agent, nearest};

use super::Session;
use crate::report::Report;
use crate::serve::LISTEN;
use crate::service::{RemoteStore, Service};

/// What helps whoever has no token in their file.
const WRITE_TOKEN: &str = "a client needs the token of its service; a service of your own gets one with: \
                           openssl rand -hex 32 > FILE";

impl Session {
    /// Asks a service from now on, if one was named: then its store is the store.
    pub(crate) fn connect(&mut self) -> Result<(), Report> {
        let Some(url) = self.named_service.clone() else { return Ok(()) };
        let service = self.service_at(&url)?;
        self.store = Some(Arc::new(RemoteStore(service.clone())));
        self.service = Some(service);
        Ok(())
    }

    /// Returns the service that is asked, if one was named.
    pub(crate) fn service(&self) -> Option<&Service> {
        self.service.as_ref()
    }

    /// Returns the service that is asked: the one that was named, or the one at the usual place.
    pub(crate) fn service_or_usual(&self) -> Result<Service, Report> {
        match &self.named_service {
            Some(url) => self.service_at(url),
            None => self.service_at(&format!("http://{LISTEN}")),
        }
    }

    fn service_at(&self, url: &str) -> Result<Service, Report> {
        let token = self.token(self.token_file.as_deref(), "AXON_TOKEN_FILE", None)?;
        Service::new(url, token)
    }

    /// Refuses what can be done where the store is, and not through a service.
    pub(crate) fn check_own_store(&self, what: &str) -> Result<(), Report> {
        let Some(service) = self.service() else { return Ok(()) };
        Err(Report::usage(format!("{what} through the service at {}", service.url()))
            .because("it works on the store itself")
            .todo("do it where the store is: name it with --store, or leave out AXON_URL"))
    }

    /// Returns where runs are looked for, for a person.
    pub(crate) fn shown_place(&self) -> Result<String, Report> {
        match self.service() {
            Some(service) => Ok(format!("the service at {}", service.url())),
            None => Ok(self.place()?.to_string()),
        }
    }

    /// Reads a token: from the file that was typed, else that of the variable, else the configured
    /// one. The last is taken from the folder that holds the folder of agents.
    pub(crate) fn token(
        &self,
        typed: Option<&Path>,
        variable: &str,
        configured: Option<&str>,
    ) -> Result<Option<Secret>, Report> {
        let directory = &self.host.directory;
        let named = self.host.variable(variable).filter(|file| !file.is_empty());
        let file = match (typed, named, configured) {
            (Some(file), _, _) => directory.join(file),
            (None, Some(file), _) => directory.join(file),
            (None, None, Some(file)) => {
                let agents = directory.join(self.folder());
                agents.parent().unwrap_or(directory).join(file)
            }
            (None, None, None) => return Ok(None),
        };
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Report::config(format!("cannot read the token from {}", file.display()))
                .because(error.to_string())
                .todo(WRITE_TOKEN)
        })?;
        let token = text.trim_end();
        // Anything else cannot be sent, and would be told with the header that it breaks.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Report::config(format!("{} holds no token", file.display()))
                .because("a token is one line of letters, digits and signs")
                .todo(WRITE_TOKEN));
        }
        Ok(Some(token.into()))
    }

    /// Returns what finds the definitions of agents, for a service that starts them by their names.
    pub(crate) fn definitions(
        &self,
    ) -> impl Fn(&str) -> Result<AgentDefinition, FolderError> + Send + Sync + use<> {
        let (folders, host, built_in) =
            (self.folders.clone(), self.host.clone(), self.built_in.clone());
        move |name| {
            if let Some(agent) = built_in.iter().find(|agent| agent.spec.name.as_str() == name) {
                return Ok(agent.clone());
            }
            let mut missing: Option<FolderError> = None;
            for folder in &folders {
                match load_agent(folder, name, &host) {
                    Err(error @ FolderError::NotFound { .. }) => missing = missing.or(Some(error)),
                    found => return found,
                }
            }
            Err(missing.unwrap_or_else(|| FolderError::NotFound {
                name: name.to_owned(),
                folder: host.directory.clone(),
                nearest: nearest(name, built_in.iter().map(|agent| agent.spec.name.as_str()))
                    .map(str::to_owned),
            }))
        }
    }
}
