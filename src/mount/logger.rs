//! This process's log: lines on standard error for a command, in a file for a daemon.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use log::{LevelFilter, Log, Metadata, Record};

use crate::sync::Mutex;

/// The daemon's file, once there is one.
static FILE: Mutex<Option<File>> = Mutex::new(None);

/// Shows a record to whoever runs a command.
type Show = fn(&Record<'_>);

struct Logger {
    show: Show,
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        match FILE.lock().as_mut() {
            None => (self.show)(record),
            Some(file) => {
                let (time, level) = (jiff::Timestamp::now(), record.level());
                let line = format!("{time} {level} {}: {}\n", record.target(), record.args());
                // There is nowhere to say that the log can't be written.
                file.write_all(line.as_bytes()).ok();
            }
        }
    }

    fn flush(&self) {}
}

/// Shows warnings and errors by `show`, until [`to_file`]. A logger that is there already stays: a
/// library user's.
pub fn install(show: Show) {
    if log::set_boxed_logger(Box::new(Logger { show })).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// Sends the log to the end of a file from now on.
///
/// # Errors
/// What opening the file reports.
pub fn to_file(path: &Path) -> std::io::Result<()> {
    *FILE.lock() = Some(OpenOptions::new().create(true).append(true).open(path)?);
    log::set_max_level(LevelFilter::Info);
    Ok(())
}
