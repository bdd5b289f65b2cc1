//! A page of the operator's own, served beside the routes: from the same origin it may ask them.
//!
//! It is read once, at the start, and kept: what is asked for is looked up by name, so no path of a
//! request ever reaches the disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

/// What all files of a page may have together, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The file that is the page itself.
const INDEX: &str = "index.html";

/// What a page may load, and from where: from here only, and no script that stands in the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The kinds of files that a page is made of, by the end of their names.
const KINDS: [(&str, &str); 9] = [
    ("css", "text/css; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("woff2", "font/woff2"),
];

/// A page: the files of a folder, as they were when it was read.
///
/// Everybody who reaches the server by one of its names gets them, also without a token: a browser
/// that opens a page can send none. So nothing secret belongs into that folder.
#[derive(Clone, Debug)]
pub struct Page {
    /// By path, from the page's address on.
    files: BTreeMap<String, File>,
}

#[derive(Clone, Debug)]
struct File {
    kind: &'static str,
    bytes: Bytes,
}

/// Why a folder is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is nothing to begin with.
    #[error("{} has no {INDEX}", .0.display())]
    NoIndex(PathBuf),
    /// It is something else.
    #[error("{} has more than the {} MiB that a page may have", .0.display(), MAX_BYTES >> 20)]
    TooLarge(PathBuf),
}

impl Page {
    /// Reads the files of a folder and those below it. Hidden ones, links, and files of a kind that
    /// no page is made of are left out.
    ///
    /// # Errors
    ///
    /// [`PageError`] if it cannot be read, has no `index.html`, or is too large.
    pub fn read(folder: &Path) -> Result<Self, PageError> {
        let mut page = Self { files: BTreeMap::new() };
        let mut left = MAX_BYTES;
        page.add(folder, "", &mut left)?;
        if page.files.contains_key(INDEX) {
            Ok(page)
        } else {
            Err(PageError::NoIndex(folder.to_owned()))
        }
    }

    fn add(&mut self, folder: &Path, below: &str, left: &mut u64) -> Result<(), PageError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| PageError::Read { path, source }
        };
        for entry in std::fs::read_dir(folder).map_err(at(folder))? {
            let entry = entry.map_err(at(folder))?;
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else { continue };
            // A link may lead anywhere, and is not followed.
            let kind = entry.file_type().map_err(at(&path))?;
            if name.starts_with('.') {
                continue;
            }
            if kind.is_dir() {
                self.add(&path, &format!("{below}{name}/"), left)?;
            } else if let Some(kind) = kind_of(&name).filter(|_| kind.is_file()) {
                let size = entry.metadata().map_err(at(&path))?.len();
                *left = left.checked_sub(size).ok_or_else(|| PageError::TooLarge(folder.into()))?;
                let bytes = std::fs::read(&path).map_err(at(&path))?.into();
                self.files.insert(format!("{below}{name}"), File { kind, bytes });
            }
        }
        Ok(())
    }

    /// Returns the answer to a request for one of the files.
    pub(crate) fn answer(&self, method: &Method, path: &str) -> Option<Response> {
        if ![Method::GET, Method::HEAD].contains(method) {
            return None;
        }
        let File { kind, bytes } = self.files.get(match path.strip_prefix('/')? {
            "" => INDEX,
            name => name,
        })?;
        let mut response = bytes.clone().into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        Some(response)
    }
}

fn kind_of(name: &str) -> Option<&'static str> {
    let (_, end) = name.rsplit_once('.')?;
    KINDS.iter().find_map(|(known, kind)| end.eq_ignore_ascii_case(known).then_some(*kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_stands_in_its_folder_and_nothing_else() {
        let room = tempfile::tempdir().unwrap();
        let folder = room.path().join("page");
        std::fs::create_dir_all(folder.join("parts")).unwrap();
        std::fs::create_dir(folder.join(".git")).unwrap();
        std::fs::write(room.path().join("secret.txt"), "secret").unwrap();
        for name in ["app.js", "parts/a.css", ".env.txt", ".git/b.js", "notes.md", "token"] {
            std::fs::write(folder.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("../secret.txt", folder.join("link.txt")).unwrap();
        assert!(matches!(Page::read(&folder), Err(PageError::NoIndex(_))));
        std::fs::write(folder.join(INDEX), "hello").unwrap();
        let page = Page::read(&folder).unwrap();
        assert_eq!(page.files.keys().collect::<Vec<_>>(), ["app.js", "index.html", "parts/a.css"]);

        let kind = |path: &str| {
            let answer = page.answer(&Method::GET, path)?;
            Some(answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned())
        };
        assert_eq!(kind("/").as_deref(), Some("text/html; charset=utf-8"));
        assert_eq!(kind("/app.js").as_deref(), Some("text/javascript; charset=utf-8"));
        for other in ["/../secret.txt", "/%2e%2e/secret.txt", "/link.txt", "//app.js", "/parts"] {
            assert_eq!(kind(other), None, "{other}");
        }
        assert!(page.answer(&Method::POST, "/").is_none());
    }

    #[test]
    fn a_folder_that_is_too_large_is_no_page() {
        let folder = tempfile::tempdir().unwrap();
        let large = std::fs::File::create(folder.path().join("large.png")).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        assert!(matches!(Page::read(folder.path()), Err(PageError::TooLarge(_))));
    }
}
