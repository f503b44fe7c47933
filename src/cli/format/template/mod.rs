//! Go's text templates, as far as people use them with Docker's `--format`: actions, pipelines,
//! `if`, `with`, `range`, variables, comments, trim markers, Go's functions and Docker's.
//!
//! The data is JSON. A member whose name begins like a field of a Go struct must be there; a key
//! of a map (a label, a port) may be missing.

mod execute;
mod functions;
mod lexer;
mod parser;
mod printf;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::error::Failure;
use execute::Mode;

/// A parsed template.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    nodes: Vec<parser::Node>,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// `Invalid`, one line: where it is wrong, and how.
    pub fn parse(source: &str) -> Result<Template, Failure> {
        let nodes = parser::parse(source).map_err(|(at, why)| {
            let line = line_and_column(source, at).0;
            Failure::invalid(format!("template parsing error: template: :{line}: {why}"))
        })?;
        Ok(Template {
            source: source.to_owned(),
            nodes,
        })
    }

    /// The template applied to data that is what it is: `json` shows members in their order.
    ///
    /// # Errors
    /// `Invalid`, one line: which word of the template failed, and why.
    pub fn render(&self, data: &Value) -> Result<String, Failure> {
        self.execute(data, Mode::Data)
    }

    /// The template applied to a row of a list. `Label`, an object, is there as a function.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_row(&self, row: &Value) -> Result<String, Failure> {
        self.execute(row, Mode::Row)
    }

    /// The template applied to headings: each member is its column's heading.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_headings(&self, headings: &Value) -> Result<String, Failure> {
        self.execute(headings, Mode::Headings)
    }

    /// Whether the template may use a member: what is costly is found out only for those that do.
    #[must_use]
    pub fn mentions(&self, member: &str) -> bool {
        let field = format!(".{member}");
        let whole = |at: usize| {
            let after = self.source.get(at + field.len()..).unwrap_or_default();
            !after.starts_with(|c: char| c == '_' || c.is_alphanumeric())
        };
        self.source.match_indices(&field).any(|(at, _)| whole(at)) || self.shows_everything()
    }

    /// Whether the data as a whole is used somewhere, as in `{{json .}}`.
    fn shows_everything(&self) -> bool {
        let alone = |before: Option<char>, after: Option<char>| {
            !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ')' | '"'))
                && !after.is_some_and(|c| c == '_' || c.is_alphanumeric())
        };
        let source = &self.source;
        source.match_indices(['.', '$']).any(|(at, _)| {
            let before = source.get(..at).and_then(|t| t.chars().next_back());
            let after = source.get(at + 1..).and_then(|t| t.chars().next());
            alone(before, after)
        })
    }

    fn execute(&self, data: &Value, mode: Mode) -> Result<String, Failure> {
        execute::execute(&self.source, &self.nodes, data, mode).map_err(|(at, end, why)| {
            let (line, column) = line_and_column(&self.source, at);
            let what = self.source.get(at..end).unwrap_or_default();
            let what = what.replace(['\n', '\r', '\t'], " ");
            Failure::invalid(format!(
                "template parsing error: template: :{line}:{column}: executing \"\" at <{what}>: {why}"
            ))
        })
    }
}

fn line_and_column(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..at).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rfind('\n').map_or(at, |newline| at - newline - 1);
    (line, column)
}
