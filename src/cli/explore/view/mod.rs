//! Draws the model. Nothing here changes it, and only the rows that can be seen are made.

mod details;
mod layers;
mod opening;
mod overlay;
mod tree;

use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::style::Style;

use super::keys::TABLE;
use super::layout::areas;
use super::model::{Model, Screen};
use super::style::Look;
use super::text::{fit, shown, width};
use crate::cli::format::size;

pub use opening::draw as opening;

/// Draws everything.
pub fn draw(model: &Model, look: Look, buffer: &mut Buffer) {
    let area = buffer.area;
    let mut pen = Pen { buffer, look };
    let screen = Size::new(area.width, area.height);
    let Some(areas) = areas(screen, model.on_layers) else {
        pen.put(area, 0, "too small", Style::new());
        return;
    };
    title(&mut pen, areas.title, model);
    match &model.screen {
        Screen::Panels => {
            layers::draw(&mut pen, areas.layers, model);
            pen.rule_down(areas.divider);
            tree::draw(&mut pen, areas.tree, model);
            details::draw(&mut pen, areas.details, model);
        }
        Screen::Preview(preview) => overlay::preview(&mut pen, areas.body, preview),
        Screen::Waste => overlay::waste(&mut pen, areas.body, model),
    }
    if let Some(top) = model.help {
        overlay::help(&mut pen, areas.body, top);
    }
    footer(&mut pen, areas.footer, model);
}

/// Writes on the screen, inside it.
struct Pen<'b> {
    buffer: &'b mut Buffer,
    look: Look,
}

impl Pen<'_> {
    /// Writes into the first row of an area, from a column of it on; the columns that were used.
    fn put(&mut self, area: Rect, column: usize, text: &str, style: Style) -> usize {
        let area = area.intersection(self.buffer.area);
        let Ok(column) = u16::try_from(column) else {
            return 0;
        };
        if area.height == 0 || column >= area.width {
            return 0;
        }
        let (x, room) = (area.x + column, usize::from(area.width - column));
        let text = fit(text, room, self.look.more());
        let (end, _) = self.buffer.set_stringn(x, area.y, &text, room, style);
        usize::from(end - x)
    }

    /// Writes at the right end of `columns` columns.
    fn put_right(&mut self, area: Rect, column: usize, columns: usize, text: &str, style: Style) {
        let pad = columns.saturating_sub(width(text));
        let room = u16::try_from(column + columns).unwrap_or(area.width);
        let area = Rect {
            width: area.width.min(room),
            ..area
        };
        self.put(area, column + pad, text, style);
    }

    /// A panel's title, on a line.
    fn heading(&mut self, panel: Rect, focus: bool, left: &str, right: &str) {
        let row = row_of(panel, 0);
        let line = self.look.horizontal().repeat(usize::from(row.width));
        self.put(row, 0, &line, self.look.quiet());
        let mark = if focus {
            self.look.focus()
        } else {
            self.look.horizontal()
        };
        let room = usize::from(row.width).saturating_sub(width(right) + 4);
        let left = fit(&format!("{mark} {left} "), room, self.look.more());
        self.put(row, 0, &left, self.look.title(focus));
        if !right.is_empty() && width(&left) > 4 {
            let start = usize::from(row.width).saturating_sub(width(right) + 3);
            self.put(row, start, &format!(" {right} "), self.look.title(focus));
        }
    }

    fn rule_down(&mut self, area: Rect) {
        for at in 0..area.height {
            self.put(
                row_of(area, usize::from(at)),
                0,
                self.look.vertical(),
                self.look.quiet(),
            );
        }
    }

    /// Marks a row as the selected one.
    fn select(&mut self, row: Rect, focus: bool) {
        let row = row.intersection(self.buffer.area);
        self.buffer.set_style(row, self.look.selected(focus));
    }

    fn clear(&mut self, area: Rect) {
        let blank = " ".repeat(usize::from(area.width));
        for at in 0..area.height {
            let row = row_of(area, usize::from(at));
            self.buffer.set_style(row, Style::reset());
            self.put(row, 0, &blank, Style::reset());
        }
    }

    fn text(&self, bytes: &[u8]) -> String {
        shown(bytes, self.look.unicode)
    }
}

/// A row of an area; one without height when it has not so many.
fn row_of(area: Rect, row: usize) -> Rect {
    match u16::try_from(row) {
        Ok(row) if row < area.height => Rect {
            y: area.y + row,
            height: 1,
            ..area
        },
        _ => Rect { height: 0, ..area },
    }
}

fn title(pen: &mut Pen<'_>, area: Rect, model: &Model) {
    let bytes: u64 = model.layers.iter().filter_map(|layer| layer.bytes).sum();
    let count = model
        .layers
        .iter()
        .filter(|layer| layer.bytes.is_some())
        .count();
    let plural = if count == 1 { "" } else { "s" };
    let mut facts = format!("{count} layer{plural}, {}", size(bytes));
    match &model.waste {
        Some(Ok(waste)) => facts.push_str(&format!(
            ", {} wasted ({:.1}% efficient)",
            size(waste.wasted_bytes),
            waste.efficiency() * 100.0
        )),
        Some(Err(_)) => {}
        None => facts.push_str(", waste: counting"),
    }
    let room = usize::from(area.width).saturating_sub(width(&facts) + 3);
    let name = pen.text(model.name.as_bytes());
    let name = super::text::fit_end(&name, room.max(8), pen.look.more());
    let used = pen.put(area, 1, &name, pen.look.title(true));
    pen.put(area, used + 3, &facts, Style::new());
}

fn footer(pen: &mut Pen<'_>, area: Rect, model: &Model) {
    if let Some(prompt) = &model.prompt {
        let typed = format!("/{}", pen.text(prompt.as_bytes()));
        let room = usize::from(area.width).saturating_sub(1);
        let typed = super::text::fit_end(&typed, room, pen.look.more());
        let used = pen.put(area, 0, &typed, Style::new());
        pen.put(area, used, " ", pen.look.selected(true));
        return;
    }
    if let Some(message) = &model.message {
        let style = match message.trouble {
            true => pen.look.trouble(),
            false => Style::new(),
        };
        let text = pen.text(message.text.as_bytes());
        pen.put(area, 1, &text, style);
        return;
    }
    let searching = model
        .search
        .as_ref()
        .is_some_and(|search| search.is_running());
    if searching {
        pen.put(area, 1, "searching (Esc ends it)", Style::new());
        return;
    }
    let words: Vec<(&str, &str)> = match model.screen {
        _ if model.help.is_some() => vec![("any key", "back")],
        Screen::Panels => TABLE
            .iter()
            .filter(|row| !row.word.is_empty())
            .map(|row| (row.name, row.word))
            .collect(),
        Screen::Preview(_) => vec![("Esc", "back"), ("x", "text or bytes"), ("?", "help")],
        Screen::Waste => vec![("Esc", "back"), ("Enter", "go to the file"), ("?", "help")],
    };
    let mut column = 1;
    for (key, word) in words {
        if column + width(key) + 1 + width(word) > usize::from(area.width) {
            break;
        }
        column += pen.put(area, column, key, pen.look.key()) + 1;
        column += pen.put(area, column, word, Style::new()) + 2;
    }
}
