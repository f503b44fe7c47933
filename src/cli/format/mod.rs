//! How results are shown: Docker's columns, units and ages, or JSON.

mod units;

use serde_json::Value;

pub use units::{age, size};

use crate::error::Failure;

/// What `--format` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Columns.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
}

/// A column: its heading, and the member of a row that it shows.
pub type Column = (&'static str, &'static str);

/// Shows rows, each a JSON object whose members are strings.
///
/// # Errors
/// `System` when a row can't be written as JSON.
pub fn show(format: Format, columns: &[Column], rows: &[Value]) -> Result<String, Failure> {
    match format {
        Format::Table => Ok(table(columns, rows)),
        Format::Json => json(rows),
    }
}

fn json(rows: &[Value]) -> Result<String, Failure> {
    let mut out = String::new();
    for row in rows {
        let line = serde_json::to_string(row).map_err(|e| Failure::system(e.to_string()))?;
        // As Go writes it, safe to be put into a page.
        let line = line
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026");
        out.push_str(&line);
        out.push('\n');
    }
    Ok(out)
}

/// Columns as Docker has them: as wide as the widest cell and three spaces, the last one not padded.
fn table(columns: &[Column], rows: &[Value]) -> String {
    let text = |row: &Value, field: &str| match row.get(field) {
        Some(Value::String(text)) => printable(text),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let mut lines = vec![
        columns
            .iter()
            .map(|(heading, _)| (*heading).to_owned())
            .collect::<Vec<_>>(),
    ];
    lines.extend(
        rows.iter()
            .map(|row| columns.iter().map(|(_, f)| text(row, f)).collect()),
    );
    let width = |at: usize| {
        lines
            .iter()
            .filter_map(|l| l.get(at))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            out.push_str(cell);
            if at + 1 < columns.len() {
                let gap = width + 3 - cell.chars().count();
                out.extend(std::iter::repeat_n(' ', gap));
            }
        }
        out.push('\n');
    }
    out
}

/// A text without what a terminal would act on.
#[must_use]
pub fn printable(text: &str) -> String {
    if text.chars().all(|c| !c.is_control()) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// A text of at most `max` characters; what is cut off is shown by an ellipsis.
#[must_use]
pub fn ellipsis(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars()
        .take(max.saturating_sub(1))
        .chain(['…'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_are_dockers() {
        let rows = [
            json!({"Repository": "localhost/node-app", "Tag": "latest", "Size": "564MB"}),
            json!({"Repository": "busybox", "Tag": "1\u{1b}[31m", "Size": "1.98MB"}),
        ];
        let columns = [
            ("REPOSITORY", "Repository"),
            ("TAG", "Tag"),
            ("SIZE", "Size"),
        ];
        assert_eq!(
            show(Format::Table, &columns, &rows).unwrap(),
            "REPOSITORY           TAG           SIZE\n\
             localhost/node-app   latest        564MB\n\
             busybox              1\\u{1b}[31m   1.98MB\n"
        );
        let lines = show(Format::Json, &columns, &[json!({"Tag": "<none>"})]).unwrap();
        assert_eq!(lines, "{\"Tag\":\"\\u003cnone\\u003e\"}\n");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(ellipsis("abcdef", 6), "abcdef");
        assert_eq!(ellipsis("abcdefg", 6), "abcde…");
    }
}
