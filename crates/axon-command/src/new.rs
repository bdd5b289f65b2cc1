//! `axon new`: writes a new agent.

mod from_python;

use std::fs;
use std::io;
use std::path::Path;

use axon_kernel::spec::{AgentName, PythonTarget};

use crate::args::NewArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::session::{Session, name_of};
use crate::terminal;

/// The files of an agent that answers without a key; `NAME` stands for its name.
const TEMPLATE: [(&str, &str); 4] = [
    ("agent.toml", include_str!("../templates/agent.toml")),
    ("__init__.py", include_str!("../templates/__init__.py")),
    ("tools.py", include_str!("../templates/tools.py")),
    ("offline.py", include_str!("../templates/offline.py")),
];

/// What stands for the agent's name in the template.
const PLACEHOLDER: &str = "NAME.";

pub(crate) async fn run(args: NewArgs, mut session: Session) -> Result<Exit, Report> {
    let module = args.from.as_deref().map(PythonTarget::try_from).transpose()?;
    let name = match (&args.name, &module) {
        (Some(name), _) => AgentName::try_from(name.as_str())?,
        (None, Some(module)) => name_of(module)?,
        (None, None) => return Err(Report::usage("the new agent has no name")),
    };
    let folder = session.folder().join(name.as_str());
    if folder.exists() {
        return Err(taken(&folder));
    }
    let (files, example) = match module {
        None => (template(&name), "What day is it?"),
        Some(module) => {
            let text = from_python::describe(&name, module, &mut session).await?;
            (vec![("agent.toml", text)], "Hello")
        }
    };
    write(&folder, &files).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return taken(&folder);
        }
        let what = format!("{} cannot be written", folder.display());
        Report::failed(what).because(error.to_string())
    })?;
    for (file, _) in &files {
        terminal::answer(&folder.join(file).display().to_string())?;
    }
    terminal::say(&format!("ask it: axon run {name} \"{example}\""));
    Ok(Exit::OK)
}

fn taken(folder: &Path) -> Report {
    Report::usage(format!("{} is there already", folder.display()))
        .todo("choose another name; nothing was changed")
}

fn template(name: &AgentName) -> Vec<(&'static str, String)> {
    let fill =
        |(file, text): (&'static str, &str)| (file, text.replace(PLACEHOLDER, &format!("{name}.")));
    TEMPLATE.into_iter().map(fill).collect()
}

/// Writes the files into a folder that is new.
fn write(folder: &Path, files: &[(&str, String)]) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::create_dir(folder)?;
    files.iter().try_for_each(|(file, text)| fs::write(folder.join(file), text))
}

#[cfg(test)]
mod tests {
    use axon_runtime::{Host, load_agent};

    use super::*;

    #[test]
    fn the_template_is_an_agent() {
        let home = tempfile::tempdir().unwrap();
        let name = AgentName::try_from("hello").unwrap();
        write(&home.path().join("hello"), &template(&name)).unwrap();
        let host = Host::new(home.path().to_owned(), Default::default());
        let agent = load_agent(home.path(), "hello", &host).unwrap();
        assert_eq!(agent.check(&host), Ok(()));
        assert_eq!(agent.spec.tools[0].name.as_str(), "today");
    }

    #[test]
    fn a_folder_that_is_there_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let error = write(home.path(), &[("agent.toml", String::new())]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!home.path().join("agent.toml").exists());
    }
}
