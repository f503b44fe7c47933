//! The logs of a container's daemons: one JSON object a line, in the container's directory.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Context, Failure};
use crate::store::Store;
use crate::store::containers::Container;

/// How often a log that is followed is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When (RFC 3339).
    pub time: String,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: String,
    /// The part of the program that says it.
    #[serde(default)]
    pub target: String,
    /// What.
    pub message: String,
    /// What it is about, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

impl LogEntry {
    /// A line of the file. One that is no record (a panic's last words) is a message.
    fn parse(line: &str) -> Self {
        serde_json::from_str(line).unwrap_or_else(|_| Self {
            time: String::new(),
            level: String::new(),
            target: String::new(),
            message: line.to_owned(),
            fields: Map::new(),
        })
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.time.is_empty() {
            write!(f, "{} {:5} ", self.time, self.level)?;
        }
        f.write_str(&self.message)?;
        for (name, value) in &self.fields {
            match value {
                Value::String(text) if !text.contains([' ', '"']) => write!(f, " {name}={text}")?,
                other => write!(f, " {name}={other}")?,
            }
        }
        Ok(())
    }
}

/// Which records.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Only so many, the last.
    pub last: Option<usize>,
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// Older than this.
    pub until: Option<Timestamp>,
}

impl LogQuery {
    fn takes(&self, entry: &LogEntry) -> bool {
        // What has no time belongs to what was before it; it is shown rather than lost.
        let Some(time) = crate::image::time::parse(&entry.time) else {
            return true;
        };
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

fn open(store: &Store, container: &Container) -> Result<Option<BufReader<File>>, Failure> {
    let path = container.dir(store).join("log");
    match File::open(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        other => other
            .map(|file| Some(BufReader::new(file)))
            .context(|| format!("open {}", path.display())),
    }
}

/// Reads what there is, up to the last whole line.
fn read_on(log: &mut BufReader<File>, rest: &mut String) -> Result<Vec<LogEntry>, Failure> {
    let mut entries = Vec::new();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if log.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(entries);
        }
        rest.push_str(&String::from_utf8_lossy(&bytes));
        if rest.ends_with('\n') {
            entries.push(LogEntry::parse(rest.trim_end()));
            rest.clear();
        }
    }
}

/// What the daemons of a container's mounts have logged, oldest first. One that was never mounted
/// has no log.
///
/// # Errors
/// `System`
pub fn read(
    store: &Store,
    container: &Container,
    query: &LogQuery,
) -> Result<Vec<LogEntry>, Failure> {
    let Some(mut log) = open(store, container)? else {
        return Ok(Vec::new());
    };
    let mut entries = read_on(&mut log, &mut String::new())?;
    keep(&mut entries, query);
    Ok(entries)
}

fn keep(entries: &mut Vec<LogEntry>, query: &LogQuery) {
    entries.retain(|entry| query.takes(entry));
    if let Some(last) = query.last {
        entries.drain(..entries.len().saturating_sub(last));
    }
}

/// As [`read`], then what comes, until the container is not mounted any more.
///
/// # Errors
/// What `each` reports; `System`.
pub fn follow(
    store: &Store,
    container: &Container,
    query: &LogQuery,
    each: &mut dyn FnMut(&LogEntry) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut rest = String::new();
    let mut log = open(store, container)?;
    let mut first = true;
    loop {
        // Asked before the log is read: what is said at the end is in it then.
        let gone = !container.dir(store).exists();
        let over = gone || container.mounted_at(store)?.is_none();
        if log.is_none() {
            log = open(store, container)?;
        }
        let mut entries = match &mut log {
            Some(log) => read_on(log, &mut rest)?,
            None => Vec::new(),
        };
        if std::mem::take(&mut first) {
            keep(&mut entries, query);
        } else {
            entries.retain(|entry| query.takes(entry));
        }
        entries.iter().try_for_each(&mut *each)?;
        if over {
            return Ok(());
        }
        std::thread::sleep(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_lines_and_other_lines_are_kept() {
        let line = r#"{"time":"2026-01-02T03:04:05Z","level":"INFO","target":"t","message":"mounted","fields":{"mountpoint":"/mnt","pid":12,"name":"a b"}}"#;
        let entry = LogEntry::parse(line);
        assert_eq!(
            entry.to_string(),
            "2026-01-02T03:04:05Z INFO  mounted mountpoint=/mnt pid=12 name=\"a b\""
        );
        let other = LogEntry::parse("thread 'main' panicked");
        assert_eq!(other.to_string(), "thread 'main' panicked");
        let query = LogQuery {
            since: crate::image::time::parse("2026-01-02T03:04:06Z"),
            ..LogQuery::default()
        };
        assert!(!query.takes(&entry) && query.takes(&other));
        let mut entries = vec![entry.clone(), other.clone(), entry];
        let last = LogQuery {
            last: Some(2),
            ..LogQuery::default()
        };
        keep(&mut entries, &last);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0], other);
    }
}
