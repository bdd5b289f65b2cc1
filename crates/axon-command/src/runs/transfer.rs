//! `axon runs export` and `import`: the whole record of a run as lines of JSON.

use std::io::{self, Read};

use axon_kernel::event::Sequenced;
use axon_runtime::RunRecords;

use super::{find, store_with};
use crate::args::RunArg;
use crate::exit::Exit;
use crate::report::Report;
use crate::service::{ID_LENGTH, is_plain_id};
use crate::session::Session;
use crate::show;
use crate::terminal;

/// The largest record that is read. The largest runs have some ten thousand events.
const MAX_BYTES: u64 = 1 << 30;

pub(super) async fn export(args: &RunArg, session: &mut Session) -> Result<Exit, Report> {
    let store = store_with(&args.run, session).await?;
    let run = find(store.as_ref(), &args.run).await?;
    for event in RunRecords::new(store).events(&run.run_id, 0).await? {
        show::line(&event)?;
    }
    Ok(Exit::OK)
}

pub(super) async fn import(mut session: Session) -> Result<Exit, Report> {
    let reading = tokio::task::spawn_blocking(read);
    let text = tokio::select! {
        text = reading => text.map_err(|error| Report::failed(error.to_string()))??,
        signal = session.signals.next() => return Err(Report::cancelled(signal)),
    };
    let records = records(&text)?;
    check_id(&records)?;
    let run = session.store().await?.import(&records).await?;
    terminal::say(&format!("{} events of run {} are taken in", records.len(), run.run_id));
    Ok(Exit::OK)
}

/// Refuses an identity that no run of ours can have: it is shown, and typed again.
fn check_id(records: &[Sequenced]) -> Result<(), Report> {
    let Some(first) = records.first() else { return Ok(()) };
    if is_plain_id(&first.run_id) {
        return Ok(());
    }
    let (min, max) = ID_LENGTH;
    Err(Report::usage("the run's id is none")
        .because(format!("it has {min} to {max} letters, digits, `-` and `_`"))
        .todo("give what `axon runs export ID` prints, all of it"))
}

fn read() -> Result<String, Report> {
    let mut text = String::new();
    let read = io::stdin().lock().take(MAX_BYTES).read_to_string(&mut text);
    read.map_err(|error| Report::usage("stdin cannot be read").because(error.to_string()))?;
    Ok(text)
}

/// Reads the lines of a record, which are all of the same run.
fn records(text: &str) -> Result<Vec<Sequenced>, Report> {
    let wrong = |line: usize, why: String| {
        Report::usage(format!("line {line} is no event of the run"))
            .because(why)
            .todo("give what `axon runs export ID` prints, all of it")
    };
    let mut records: Vec<Sequenced> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let event: Sequenced =
            serde_json::from_str(line).map_err(|error| wrong(index + 1, error.to_string()))?;
        if let Some(first) = records.first().filter(|first| first.run_id != event.run_id) {
            let why = format!("it is of {}, and the first line of {}", event.run_id, first.run_id);
            return Err(wrong(index + 1, why));
        }
        records.push(event);
    }
    if records.is_empty() {
        return Err(Report::usage("there is nothing to take in")
            .todo("give what `axon runs export ID` prints"));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str =
        r#"{"run_id":"r1","seq":1,"attempt":0,"at":5,"event":"cancelled","reason":"x"}"#;

    #[test]
    fn a_record_is_the_lines_of_one_run() {
        let again = FIRST.replace("\"seq\":1", "\"seq\":2");
        let read = records(&format!("{FIRST}\n\n{again}\n")).unwrap();
        assert_eq!(read.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2]);
        let other = FIRST.replace("r1", "r2");
        let mixed = records(&format!("{FIRST}\n{other}\n")).unwrap_err().in_a_line();
        assert!(mixed.contains("line 2") && mixed.contains("r2"), "{mixed}");
        assert!(records("").is_err() && records("{}").is_err());
    }
}
