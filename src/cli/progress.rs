//! Progress bars, on standard error when it is a terminal.

use std::io::{IsTerminal, StdoutLock, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::archive::progress::{Progress, Silent};
use crate::sync::Mutex;

/// Bars for work in bytes.
pub struct Bars {
    all: MultiProgress,
    open: Mutex<Vec<ProgressBar>>,
}

/// Bars if somebody can see them and hasn't asked for quiet.
#[must_use]
pub fn bars(quiet: bool) -> Box<dyn Progress> {
    match quiet || !std::io::stderr().is_terminal() {
        true => Box::new(Silent),
        false => Box::new(Bars::new()),
    }
}

impl Bars {
    /// Bars that nobody sees but on a terminal.
    #[must_use]
    pub fn new() -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        Self {
            all: MultiProgress::with_draw_target(target),
            open: Mutex::new(Vec::new()),
        }
    }

    /// Does something with the bars out of the way: output to the same terminal.
    pub fn pausing<T>(&self, act: impl FnOnce() -> T) -> T {
        self.all.suspend(act)
    }
}

/// Fewer bytes are done before a bar could be seen.
const TOO_LITTLE: u64 = 8 << 20;
/// So much output waits at most, in bytes.
const WAITING: usize = 64 << 10;
/// So long output waits for more, on a terminal.
const PAUSE: Duration = Duration::from_millis(100);

/// Standard output beside bars, which may be on the same terminal.
pub struct Output<'b> {
    bars: &'b Bars,
    out: StdoutLock<'static>,
    waiting: Vec<u8>,
    terminal: bool,
    last: Instant,
}

impl<'b> Output<'b> {
    /// Takes standard output.
    pub fn new(bars: &'b Bars) -> Self {
        Self {
            bars,
            out: std::io::stdout().lock(),
            waiting: Vec::new(),
            terminal: std::io::stdout().is_terminal(),
            last: Instant::now(),
        }
    }

    /// Writes something else to a terminal on which the bars may be.
    pub fn beside<T>(&self, act: impl FnOnce() -> T) -> T {
        self.bars.pausing(act)
    }

    /// Says that the lines up to here may be shown.
    ///
    /// # Errors
    /// What writing reports.
    pub fn pace(&mut self) -> std::io::Result<()> {
        let due = self.terminal && self.last.elapsed() >= PAUSE;
        match due || self.waiting.len() >= WAITING {
            true => self.flush(),
            false => Ok(()),
        }
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.last = Instant::now();
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        let out = &mut self.out;
        let mut write = || out.write_all(&waiting).and_then(|()| out.flush());
        match self.terminal {
            true => self.bars.pausing(write),
            false => write(),
        }
    }
}

impl Progress for Bars {
    fn begin(&self, what: &str, total: Option<u64>) {
        if total.is_some_and(|total| total < TOO_LITTLE) {
            return self.open.lock().push(ProgressBar::hidden());
        }
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        let template = match total {
            Some(_) => {
                "{msg:24!} {wide_bar} {bytes:>10}/{total_bytes:10} {binary_bytes_per_sec:>12} {eta:>4}"
            }
            None => "{msg:24!} {spinner} {bytes:>10} {binary_bytes_per_sec:>12}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let bar = self.all.add(bar);
        bar.set_message(super::format::printable(what));
        bar.enable_steady_tick(Duration::from_millis(100));
        self.open.lock().push(bar);
    }

    fn advance(&self, n: u64) {
        if let Some(bar) = self.open.lock().last() {
            bar.inc(n);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.open.lock().pop() {
            bar.finish_and_clear();
        }
    }
}
