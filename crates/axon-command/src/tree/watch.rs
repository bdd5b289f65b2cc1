//! `axon tree --watch`: the tree of a service as it changes, until a signal.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use axon_runtime::Tree;
use rustix::termios::tcgetwinsize;

use super::{as_json, render};
use crate::exit::Exit;
use crate::report::Report;
use crate::service::{Service, ServiceError};
use crate::session::Session;
use crate::signals::Signals;
use crate::terminal::{self, RED, styled};

/// How often it is looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// The height of a terminal that does not tell its own.
const ROWS: usize = 24;

/// Shows the tree until a signal ends it. That nobody answers at first is an error; later it is
/// shown, and the service is awaited.
pub(super) async fn watch(
    service: &Service,
    session: &mut Session,
    json: bool,
) -> Result<Exit, Report> {
    // One that moves no cursor is written to as a file is.
    let is_dumb =
        session.host.variable("TERM").is_none_or(|name| name.is_empty() || name == "dumb");
    let signals = &mut session.signals;
    let first = tokio::select! {
        tree = service.tree() => tree?,
        signal = signals.next() => return Ok(signal.exit()),
    };
    if json || is_dumb || !io::stdout().is_terminal() {
        return again_and_again(service, first, signals, json).await;
    }
    let screen = Screen::open()?;
    let ended = in_place(service, first, signals).await;
    drop(screen);
    let (exit, last) = ended?;
    // What was seen last stays behind.
    terminal::answer_in_style(&last)?;
    Ok(exit)
}

/// Prints the tree whenever it is another one than before.
async fn again_and_again(
    service: &Service,
    first: Tree,
    signals: &mut Signals,
    json: bool,
) -> Result<Exit, Report> {
    let mut shown = String::new();
    let mut seen = Ok(first);
    let mut is_away = false;
    loop {
        match seen {
            Ok(tree) => {
                is_away = false;
                let text = if json { as_json(&tree)? } else { format!("{}\n", render(&tree)) };
                if text != shown {
                    terminal::answer_in_style(&text)?;
                    shown = text;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    away(error)?;
                }
            }
        }
        tokio::select! {
            next = next(service) => seen = next,
            signal = signals.next() => return Ok(signal.exit()),
        }
    }
}

/// Says that the service is away; what does not pass ends the watch.
fn away(error: ServiceError) -> Result<(), Report> {
    let may_pass = error.may_pass();
    let report = Report::from(error);
    if !may_pass {
        return Err(report);
    }
    terminal::say(&styled(RED, &report.in_a_line()));
    Ok(())
}

async fn next(service: &Service) -> Result<Tree, ServiceError> {
    tokio::time::sleep(PERIOD).await;
    service.tree().await
}

/// Draws the tree over what it was before, and returns how it was last.
async fn in_place(
    service: &Service,
    first: Tree,
    signals: &mut Signals,
) -> Result<(Exit, String), Report> {
    let mut last = render(&first).trim_end().to_owned();
    let mut note = None;
    loop {
        draw(&last, note.as_deref())?;
        let seen = tokio::select! {
            next = next(service) => next,
            signal = signals.next() => return Ok((signal.exit(), last)),
        };
        match seen {
            Ok(tree) => {
                last = render(&tree).trim_end().to_owned();
                note = None;
            }
            Err(error) if error.may_pass() => note = Some(Report::from(error).in_a_line()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes the lines that there is room for, and a note below them.
fn draw(text: &str, note: Option<&str>) -> io::Result<()> {
    let rows = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_row));
    let rows = if rows == 0 { ROWS } else { rows };
    let room = rows.saturating_sub(2).max(1);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let below = note.map(|note| styled(RED, note));
    if lines.len() > room {
        let more = lines.len() - room;
        lines.truncate(room);
        lines.push(format!("… {more} more"));
    }
    lines.extend(below);
    let is_plain = AutoStream::choice(&io::stdout()) == ColorChoice::Never;
    let mut frame = "\x1b[H".to_owned();
    for line in &lines {
        match is_plain {
            true => frame.extend(strip_str(line)),
            false => frame.push_str(line),
        }
        frame.push_str("\x1b[K\r\n");
    }
    frame.push_str("\x1b[J");
    // Where styles are not wanted, the cursor has to be moved all the same.
    let mut stdout = io::stdout().lock();
    stdout.write_all(frame.as_bytes())?;
    stdout.flush()
}

/// The terminal's other screen, with neither cursor nor line breaks of its own. Dropped, the one
/// before is there again.
struct Screen;

impl Screen {
    fn open() -> io::Result<Self> {
        let screen = Self;
        let mut stdout = io::stdout().lock();
        stdout.write_all(b"\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        stdout.flush()?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = io::stdout().lock();
        // A terminal that is gone needs no mending.
        let _gone = stdout.write_all(b"\x1b[?7h\x1b[?25h\x1b[?1049l").and_then(|()| stdout.flush());
    }
}
