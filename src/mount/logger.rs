//! The daemon's log: lines in a file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use log::{LevelFilter, Log, Metadata, Record};

use crate::sync::Mutex;

struct FileLog(Mutex<File>);

impl Log for FileLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!(
            "{} {} {}: {}\n",
            jiff::Timestamp::now(),
            record.level(),
            record.target(),
            record.args()
        );
        // There is nowhere to say that the log can't be written.
        self.0.lock().write_all(line.as_bytes()).ok();
    }

    fn flush(&self) {}
}

/// Sends this process's log to the end of a file.
///
/// # Errors
/// What opening the file reports.
pub fn to_file(path: &Path, level: LevelFilter) -> std::io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    // A logger that is there already stays: a library user's.
    if log::set_boxed_logger(Box::new(FileLog(Mutex::new(file)))).is_ok() {
        log::set_max_level(level);
    }
    Ok(())
}
