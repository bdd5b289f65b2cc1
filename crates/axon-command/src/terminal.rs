//! What is written to the terminal: one place that knows whether a line is still open on stderr.

mod outlet;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};
use tracing::Level;

use crate::logging::Record;
use outlet::Outlet;

pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const RED: Style = AnsiColor::Red.on_default();
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Whether stderr stands in the middle of a line: then whoever writes next begins a new one.
/// Stderr belongs to the whole process, and so does this.
static OPEN_LINE: AtomicBool = AtomicBool::new(false);

/// Whether everything that is said on stderr is a line of JSON, as the log is.
static JSON: AtomicBool = AtomicBool::new(false);

/// Takes what is written to stderr where nobody may wait for whoever reads there.
static OUTLET: OnceLock<Arc<Outlet>> = OnceLock::new();

/// Waits for no reader of stderr from now on: what one who has stopped does not read is dropped, and
/// then told in the line that `tell_dropped` makes.
pub(crate) fn wait_for_nobody(tell_dropped: impl Fn(u64) -> String + Send + Sync + 'static) {
    // Without a thread for it everything is written as it is anywhere else.
    if let Ok(outlet) = Outlet::start(Box::new(tell_dropped)) {
        let _first = OUTLET.set(outlet);
    }
}

/// Sees to it, when it is dropped, that what was said is written before the process ends.
#[derive(Debug)]
#[must_use = "what was said is written when this is dropped"]
pub(crate) struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        flush();
    }
}

/// Waits until what was said is written; not for long.
pub(crate) fn flush() {
    if let Some(outlet) = OUTLET.get() {
        outlet.flush();
    }
}

/// Writes to stderr. Nobody may listen there, which is no reason to stop.
fn write(text: Cow<'_, str>) {
    if let Some(outlet) = OUTLET.get() {
        return outlet.push(text.into_owned());
    }
    let mut stderr = io::stderr().lock();
    let _unheard = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Returns a text with its styles, where they can be seen.
fn in_style(text: &str) -> Cow<'_, str> {
    match AutoStream::choice(&io::stderr()) {
        ColorChoice::Never => anstream::adapter::strip_str(text).to_string().into(),
        ColorChoice::Auto | ColorChoice::AlwaysAnsi | ColorChoice::Always => text.into(),
    }
}

/// Says everything in lines of JSON from now on: who reads stderr is a program.
pub(crate) fn speak_json() {
    JSON.store(true, Ordering::SeqCst);
}

/// Returns whether everything is said in lines of JSON.
pub(crate) fn speaks_json() -> bool {
    JSON.load(Ordering::SeqCst)
}

/// Returns whether stderr is a terminal on which a line can be written over.
pub(crate) fn can_redraw() -> bool {
    let choice = AutoStream::choice(&io::stderr());
    io::stderr().is_terminal() && choice != ColorChoice::Never
}

/// Returns whether whoever reads stdout also sees stderr.
pub(crate) fn is_one_screen() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// Writes a line to stderr.
pub(crate) fn say(text: &str) {
    if speaks_json() {
        return log(&Record::new(Level::INFO, text).json_line());
    }
    close_line();
    write(format!("{}\n", in_style(text)).into());
}

/// Writes a line of the log, with its end, to stderr.
pub(crate) fn log(line: &str) {
    close_line();
    write(line.into());
}

/// Writes a part of a line to stderr.
pub(crate) fn say_part(text: &str) {
    write(in_style(text));
    OPEN_LINE.store(!text.ends_with('\n'), Ordering::SeqCst);
}

/// Writes a line to stderr that the next one takes the place of.
pub(crate) fn say_over(text: &str) {
    // Without automatic margins a long line is cut and does not begin a second one.
    say_part(&format!("\r\x1b[2K\x1b[?7l{text}\x1b[?7h"));
}

/// Takes back a line that was written with [`say_over`].
pub(crate) fn wipe() {
    say_part("\r\x1b[2K");
    OPEN_LINE.store(false, Ordering::SeqCst);
}

/// Ends the line that is open on stderr, if one is.
pub(crate) fn close_line() {
    if OPEN_LINE.swap(false, Ordering::SeqCst) {
        write("\n".into());
    }
}

/// Notes that the open line was ended by what the user typed.
pub(crate) fn line_was_ended(ended: bool) {
    if ended {
        OPEN_LINE.store(false, Ordering::SeqCst);
    }
}

/// Writes `text` and a line break to stdout.
pub(crate) fn answer(text: &str) -> io::Result<()> {
    close_line();
    let safe = if io::stdout().is_terminal() { printable(text) } else { text.to_owned() };
    let mut stdout = io::stdout().lock();
    stdout.write_all(safe.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}

/// Writes a line to stdout, with styles where they can be seen.
pub(crate) fn answer_in_style(text: &str) -> io::Result<()> {
    close_line();
    writeln!(anstream::stdout().lock(), "{text}")
}

/// Returns `text` as it may be shown: models and tools do not get to control the terminal.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// Returns `text` in `style`.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shown_controls_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\u{9b}c\n\td"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\n\td");
    }
}
