//! How results are shown: Docker's columns, units and ages, JSON, or a template.

mod table;
mod template;
mod units;

use serde_json::{Map, Value};

pub use template::Template;
pub use units::{age, exact_size, go_time, size};

use crate::error::Failure;

/// What `--format` asks for.
#[derive(Debug, Clone, Default)]
pub enum Format {
    /// The command's own columns, or whatever else it shows by default.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
    /// Columns that a template names, with headings.
    Columns(Template),
    /// A line for each row.
    Lines(Template),
}

/// A column: its heading, and the member of a row that it shows.
pub type Column = (&'static str, &'static str);

impl Format {
    /// What the text after `--format` means: `table`, `json`, `table TEMPLATE` or a template. `\t`
    /// and `\n` in it are a tab and a newline.
    ///
    /// # Errors
    /// `Invalid` for a template that can't be parsed.
    pub fn parse(text: &str) -> Result<Format, Failure> {
        let text = text.trim();
        match text {
            "" | "table" => return Ok(Format::Table),
            "json" => return Ok(Format::Json),
            _ => {}
        }
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        match text.strip_prefix("table") {
            Some(columns) if columns.starts_with([' ', '{', '\t']) => {
                Template::parse(columns.trim()).map(Format::Columns)
            }
            _ => Template::parse(&text).map(Format::Lines),
        }
    }

    /// As [`Format::parse`]; without a text, the default.
    ///
    /// # Errors
    /// As [`Format::parse`].
    pub fn of(text: Option<&str>) -> Result<Format, Failure> {
        text.map_or(Ok(Format::Table), Format::parse)
    }

    /// Whether a member that is not among the default columns may be shown: what is costly is found
    /// out only then.
    #[must_use]
    pub fn mentions(&self, member: &str) -> bool {
        match self {
            Format::Table => false,
            Format::Json => true,
            Format::Columns(template) | Format::Lines(template) => template.mentions(member),
        }
    }
}

/// A list of one kind of things.
#[derive(Debug, Clone, Copy)]
pub struct Listing<'a> {
    /// The columns of the default table.
    pub columns: &'a [Column],
    /// Members that only a template shows, and their headings.
    pub others: &'a [Column],
}

impl Listing<'_> {
    /// Shows rows, each a JSON object. A member `Label`, an object, is what `{{.Label "name"}}` looks
    /// into, and is shown nowhere else.
    ///
    /// # Errors
    /// `Invalid` when a template can't be applied.
    pub fn show(&self, format: &Format, rows: &[Value]) -> Result<String, Failure> {
        let mut out = String::new();
        match format {
            Format::Table => return Ok(self.table(rows)),
            Format::Json => {
                let all = Template::parse("{{json .}}")?;
                for row in rows {
                    out.push_str(&all.render_row(row)?);
                    out.push('\n');
                }
            }
            Format::Lines(template) => {
                for row in rows {
                    out.push_str(&template.render_row(row)?);
                    out.push('\n');
                }
            }
            Format::Columns(template) => {
                out.push_str(&template.render_headings(&self.headings())?);
                out.push('\n');
                for row in rows {
                    out.push_str(&template.render_row(&safe(row))?);
                    out.push('\n');
                }
                return Ok(table::align(&out));
            }
        }
        Ok(out)
    }

    fn headings(&self) -> Value {
        let all = self.columns.iter().chain(self.others);
        let heading = |(heading, member): &Column| ((*member).to_owned(), Value::from(*heading));
        Value::Object(all.map(heading).collect())
    }

    fn table(&self, rows: &[Value]) -> String {
        let heading: Vec<_> = self.columns.iter().map(|(heading, _)| *heading).collect();
        let mut out = heading.join("\t");
        out.push('\n');
        for row in rows {
            let cell = |(_, member): &Column| match row.get(member) {
                Some(Value::String(text)) => printable(text),
                Some(Value::Null) | None => String::new(),
                Some(other) => printable(&other.to_string()),
            };
            let cells: Vec<_> = self.columns.iter().map(cell).collect();
            out.push_str(&cells.join("\t"));
            out.push('\n');
        }
        table::align(&out)
    }
}

/// Shows rows whose members are all columns.
///
/// # Errors
/// As [`Listing::show`].
pub fn show(format: &Format, columns: &[Column], rows: &[Value]) -> Result<String, Failure> {
    let listing = Listing {
        columns,
        others: &[],
    };
    listing.show(format, rows)
}

/// The same data without what a terminal would act on.
fn safe(value: &Value) -> Value {
    match value {
        Value::String(text) => printable(text).into(),
        Value::Array(items) => items.iter().map(safe).collect(),
        Value::Object(members) => {
            let members = members.iter().map(|(k, v)| (printable(k), safe(v)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
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

/// As [`printable`], but lines and tabs stay: what a template made, on its way to a terminal.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(acts) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
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
            show(&Format::Table, &columns, &rows).unwrap(),
            "REPOSITORY           TAG           SIZE\n\
             localhost/node-app   latest        564MB\n\
             busybox              1\\u{1b}[31m   1.98MB\n"
        );
        let lines = show(&Format::Json, &columns, &[json!({"Tag": "<none>"})]).unwrap();
        assert_eq!(lines, "{\"Tag\":\"\\u003cnone\\u003e\"}\n");
    }

    #[test]
    fn templates_make_columns_and_lines() {
        let rows = [
            json!({"ID": "1", "Names": "web", "Labels": "a=b", "Label": {"a.b-c": "x"}}),
            json!({"ID": "2", "Names": "d\u{9b}b", "Labels": "", "Label": {}}),
        ];
        let listing = Listing {
            columns: &[("CONTAINER ID", "ID"), ("NAMES", "Names")],
            others: &[("LABELS", "Labels")],
        };
        let shown = |format: &str| {
            listing
                .show(&Format::parse(format).unwrap(), &rows)
                .unwrap()
        };
        assert_eq!(
            shown(r"table {{.ID}}\t{{upper .Names}}\t{{.Label `a.b-c`}}"),
            "CONTAINER ID   NAMES      b c\n1              WEB        x\n2              D\\U{9B}B   \n"
        );
        assert_eq!(shown("{{.Names}}: {{.Labels}}"), "web: a=b\nd\u{9b}b: \n");
        assert_eq!(
            shown("json"),
            "{\"ID\":\"1\",\"Labels\":\"a=b\",\"Names\":\"web\"}\n\
             {\"ID\":\"2\",\"Labels\":\"\",\"Names\":\"d\u{9b}b\"}\n"
        );
        assert_eq!(shown("json"), shown("{{json .}}"));
        assert_eq!(shown(""), shown("table"));
        assert_eq!(shown("table"), shown(r"table {{.ID}}\t{{.Names}}"));
        assert_eq!(shown("tablet"), "tablet\ntablet\n");
    }

    #[test]
    fn costly_members_are_found_out_when_asked_for() {
        let format = |text: &str| Format::parse(text).unwrap();
        for text in [
            "{{.Size}}",
            "table {{.ID}}\t{{.Size}}",
            "json",
            "{{json .}}",
            "{{with $}}x{{end}}",
        ] {
            assert!(format(text).mentions("Size"), "{text}");
        }
        for text in [
            "",
            "table",
            "{{.ID}}",
            "{{.Sizes}} {{$x := .ID}}{{$x}}",
            r#"{{join .Names ","}}"#,
        ] {
            assert!(!format(text).mentions("Size"), "{text}");
        }
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(ellipsis("abcdef", 6), "abcdef");
        assert_eq!(ellipsis("abcdefg", 6), "abcde…");
    }
}
