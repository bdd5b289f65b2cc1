//! What the surroundings give to a runtime: folders, and the variables it may hand on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use axon_runner::environment::Search;

/// The variables that every runner's process gets: locale, proxies, certificates.
const ALLOWED: [&str; 17] = [
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_NUMERIC",
    "LC_TIME",
    "TZ",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
];

/// More of the same, for the certificate variables of other clients.
const ALLOWED_CERTIFICATES: [&str; 3] = ["SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// The variables by which libraries for numbers are told how many threads to start. Each would
/// start one for every core, in every runner; an agent's own `env` decides otherwise.
const THREADS: [&str; 6] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
];

/// What the surroundings give to a runtime. The library reads them here and nowhere else.
#[derive(Clone)]
pub struct Host {
    /// The project's folder: the working directory of runners, and where `.venv` is looked for.
    pub directory: PathBuf,
    /// Where the folders of sockets are made.
    pub sockets: PathBuf,
    /// Where the runner's sources and the managed Python environment are kept.
    pub cache: PathBuf,
    /// The variables of the environment, `.env` included where the caller read one.
    pub variables: BTreeMap<String, String>,
    /// Whether the managed Python environment is taken as it is, and never built.
    pub frozen: bool,
}

impl Host {
    /// Reads the surroundings of this process.
    ///
    /// # Errors
    ///
    /// [`std::io::Error`] if there is no working directory.
    pub fn from_process() -> std::io::Result<Self> {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
            .collect();
        Ok(Self::new(std::env::current_dir()?, variables))
    }

    /// Makes the surroundings of a project in `directory` out of `variables`.
    #[must_use]
    pub fn new(directory: PathBuf, variables: BTreeMap<String, String>) -> Self {
        let lookup = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
        let cache = axon_runner::environment::cache_dir(|name| lookup(name).map(Into::into))
            .unwrap_or_else(|_| directory.join(".axon").join("cache"));
        let sockets = lookup("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        Self { directory, sockets, cache, variables, frozen: false }
    }

    /// Returns the value of a variable, unless it is empty.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// Returns where Python is looked for, for an agent with this folder.
    #[must_use]
    pub fn search(&self, agent_dir: Option<PathBuf>) -> Search {
        Search {
            configured: None,
            axon_python: self.variable("AXON_PYTHON").map(PathBuf::from),
            agent_dir,
            project_dir: self.directory.clone(),
            cache_dir: self.cache.clone(),
            path_var: self.variables.get("PATH").map(Into::into),
            frozen: self.frozen,
        }
    }

    /// Returns what every runner's process gets.
    pub(crate) fn for_runners(&self) -> BTreeMap<String, String> {
        let mut variables = self.allowed();
        variables.extend(THREADS.map(|name| (name.to_owned(), "1".to_owned())));
        variables
    }

    /// Returns what every process of ours may see.
    pub(crate) fn allowed(&self) -> BTreeMap<String, String> {
        ALLOWED
            .iter()
            .chain(&ALLOWED_CERTIFICATES)
            .filter_map(|name| Some(((*name).to_owned(), self.variable(name)?)))
            .collect()
    }
}

/// Shows the variables' names only.
impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("directory", &self.directory)
            .field("sockets", &self.sockets)
            .field("cache", &self.cache)
            .field("variables", &self.variables.keys())
            .field("frozen", &self.frozen)
            .finish()
    }
}
