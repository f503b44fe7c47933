//! This process's log: lines on standard error for a command; in a file, as records of JSON (time,
//! level, message, fields), for a daemon. [`super::logs`] reads them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use log::kv::{Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use serde_json::Map;

use super::logs::LogEntry;
use crate::sync::Mutex;

/// The daemon's file, once there is one.
static FILE: Mutex<Option<File>> = Mutex::new(None);
/// How much is wanted, where that was said.
static LEVEL: Mutex<Option<LevelFilter>> = Mutex::new(None);

/// A log that is longer than this, in bytes, is put aside when the next mount begins.
const LONG: u64 = 4 << 20;

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
                if let Ok(mut line) = serde_json::to_vec(&entry_of(record)) {
                    line.push(b'\n');
                    // There is nowhere to say that the log can't be written.
                    file.write_all(&line).ok();
                }
            }
        }
    }

    fn flush(&self) {}
}

fn entry_of(record: &Record<'_>) -> LogEntry {
    let mut fields = Fields(Map::new());
    // The visitor never fails.
    record.key_values().visit(&mut fields).ok();
    LogEntry {
        time: crate::image::time::format(jiff::Timestamp::now()),
        level: record.level().to_string(),
        target: record.target().to_owned(),
        message: record.args().to_string(),
        fields: fields.0,
    }
}

struct Fields(Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let value = match value.to_i64() {
            Some(number) => number.into(),
            None => value.to_string().into(),
        };
        self.0.insert(key.to_string(), value);
        Ok(())
    }
}

/// Shows warnings and errors by `show`, until [`to_file`]. A logger that is there already stays: a
/// library user's.
pub fn install(show: Show) {
    if log::set_boxed_logger(Box::new(Logger { show })).is_ok() {
        log::set_max_level(LEVEL.lock().unwrap_or(LevelFilter::Warn));
    }
}

/// Says how much is wanted: of a command (by default warnings) and of a daemon that it starts (by
/// default what happens to the mount).
pub fn set_level(level: LevelFilter) {
    *LEVEL.lock() = Some(level);
    log::set_max_level(level);
}

/// Sends the log to the end of a file from now on.
///
/// # Errors
/// What opening the file reports.
pub fn to_file(path: &Path) -> std::io::Result<()> {
    if path.metadata().is_ok_and(|meta| meta.len() > LONG) {
        std::fs::rename(path, path.with_extension("old"))?;
    }
    *FILE.lock() = Some(OpenOptions::new().create(true).append(true).open(path)?);
    log::set_max_level(LEVEL.lock().unwrap_or(LevelFilter::Info));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_their_fields() {
        let source = [("pid", Value::from(12)), ("at", Value::from("/mnt"))];
        let source: &dyn log::kv::Source = &source;
        let record = Record::builder()
            .args(format_args!("mounted"))
            .level(log::Level::Info)
            .target("t")
            .key_values(&source)
            .build();
        let entry = entry_of(&record);
        assert_eq!(
            (entry.message.as_str(), entry.level.as_str()),
            ("mounted", "INFO")
        );
        assert_eq!(entry.fields["pid"], 12);
        assert_eq!(entry.fields["at"], "/mnt");
    }
}
