//! The terminal: taken over for the time of a session, and given back however that ends.

use std::io::{self, IsTerminal as _, Stdout, Write as _};
use std::sync::Once;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use crate::error::{Context as _, Failure};
use crate::sync::Mutex;

/// Lines that wait for the end of a session; none when there is no session.
static LATER: Mutex<Option<Vec<String>>> = Mutex::new(None);
/// How many lines wait at most.
const LATER_MAX: usize = 100;

/// Keeps a line for standard error until the terminal is free; whether that was needed.
pub fn keep_for_later(line: &str) -> bool {
    match &mut *LATER.lock() {
        None => false,
        Some(lines) => {
            if lines.len() < LATER_MAX {
                lines.push(line.to_owned());
            }
            true
        }
    }
}

/// Whether there is a terminal that can be drawn on.
///
/// # Errors
/// `Usage` that says what is missing.
pub fn check() -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::usage(
            "explore: standard output is not a terminal: `strata tree` and `strata ls` write lists",
        ));
    }
    let term = std::env::var_os("TERM").unwrap_or_default();
    if term.is_empty() || term == "dumb" {
        return Err(Failure::usage(format!(
            "explore: the terminal (TERM={}) can't place text: `strata tree` and `strata ls` write lists",
            term.display()
        )));
    }
    Ok(())
}

/// A terminal that is drawn on; given back when this is dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// `System`
    pub fn open() -> Result<Self, Failure> {
        restore_on_panic();
        let about = || "explore: the terminal";
        enable_raw_mode().context(about)?;
        *LATER.lock() = Some(Vec::new());
        // From here on, dropping this undoes what was done.
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        let terminal = terminal.inspect_err(|_| restore()).context(about)?;
        let screen = Self { terminal };
        execute!(io::stdout(), EnterAlternateScreen, Hide).context(about)?;
        Ok(screen)
    }

    /// The terminal.
    pub fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<Stdout>> {
        &mut self.terminal
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back. A terminal that is gone needs nothing.
fn restore() {
    drop(disable_raw_mode());
    drop(execute!(io::stdout(), LeaveAlternateScreen, Show));
    drop(io::stdout().flush());
    for line in LATER.lock().take().unwrap_or_default() {
        eprintln!("{line}");
    }
}

/// A panic's message is printed to a terminal that is the user's again.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            others(info);
        }));
    });
}
