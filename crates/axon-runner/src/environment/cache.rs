//! Where Axon keeps what it can make again.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Why no cache folder could be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheDirError {
    /// None of the variables that name one is set.
    #[error("no folder for the cache: HOME is not set; set AXON_CACHE_DIR to a writable folder")]
    NoHome,
    /// `AXON_CACHE_DIR` is relative, and the current folder is not known.
    #[error("AXON_CACHE_DIR is a relative path, and the current folder cannot be told")]
    NoCurrentDir(#[source] io::Error),
}

/// Tells the cache folder from the environment that `lookup` reads.
///
/// `AXON_CACHE_DIR` as it is, else `axon` in `XDG_CACHE_HOME`, in `~/Library/Caches` on macOS, or in
/// `~/.cache`. An empty variable counts as unset, and so does a relative `XDG_CACHE_HOME` (its
/// specification says so).
///
/// ```
/// use axon_runner::environment::cache_dir;
///
/// let cache = cache_dir(|name| (name == "AXON_CACHE_DIR").then(|| "/var/cache/axon".into()))?;
/// assert_eq!(cache, std::path::Path::new("/var/cache/axon"));
/// # Ok::<(), axon_runner::environment::CacheDirError>(())
/// ```
///
/// # Errors
///
/// [`CacheDirError`] when no variable names a folder.
pub fn cache_dir(lookup: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, CacheDirError> {
    let folder = |name| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = folder("AXON_CACHE_DIR") {
        return std::path::absolute(path).map_err(CacheDirError::NoCurrentDir);
    }
    if let Some(path) = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        return Ok(path.join("axon"));
    }
    let home = folder("HOME").filter(|path| path.is_absolute()).ok_or(CacheDirError::NoHome)?;
    let caches = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    Ok(home.join(Path::new(caches)).join("axon"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Option<PathBuf> {
        cache_dir(|name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).into())
        })
        .ok()
    }

    #[test]
    fn own_variable_wins_then_xdg_then_home() {
        let all = [("AXON_CACHE_DIR", "/a"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(told(&all), Some("/a".into()));
        assert_eq!(told(&all[1..]), Some("/x/axon".into()));
        let home =
            if cfg!(target_os = "macos") { "/h/Library/Caches/axon" } else { "/h/.cache/axon" };
        assert_eq!(told(&all[2..]), Some(home.into()));
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn empty_and_relative_values_do_not_put_the_cache_into_the_current_folder() {
        assert_eq!(
            told(&[("AXON_CACHE_DIR", ""), ("XDG_CACHE_HOME", "/x")]),
            Some("/x/axon".into())
        );
        assert_eq!(told(&[("XDG_CACHE_HOME", "x"), ("HOME", "")]), None);
        assert!(told(&[("AXON_CACHE_DIR", "x")]).is_some_and(|path| path.is_absolute()));
    }
}
