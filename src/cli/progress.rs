//! Progress bars, on standard error when it is a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

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
    if quiet || !std::io::stderr().is_terminal() {
        return Box::new(Silent);
    }
    Box::new(Bars {
        all: MultiProgress::new(),
        open: Mutex::new(Vec::new()),
    })
}

impl Progress for Bars {
    fn begin(&self, what: &str, total: Option<u64>) {
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
