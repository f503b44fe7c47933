//! The panel of the layers.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Pen, row_of};
use crate::cli::explore::details::LayerRow;
use crate::cli::explore::layout::below_title;
use crate::cli::explore::model::{Model, layer_height};
use crate::cli::format::size;
use crate::inspect::levels::{Sum, Tally};

/// Columns of a layer's number, and of its size.
const NUMBER: usize = 4;
const SIZE: usize = 7;

pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, model: &Model) {
    if area.width == 0 {
        return;
    }
    let place = format!("{}/{}", model.level + 1, model.layers.len());
    pen.heading(area, model.on_layers, "Layers", &place);
    let inner = below_title(area);
    let height = layer_height(usize::from(inner.height));
    let layers = model.layers.iter().enumerate().skip(model.layers_top);
    for (at, (level, layer)) in layers.enumerate() {
        let first = row_of(inner, at * height);
        if first.height == 0 {
            break;
        }
        headline(pen, first, layer);
        let second = if height > 1 {
            row_of(inner, at * height + 1)
        } else {
            row_of(inner, usize::MAX)
        };
        if let Some(tally) = &layer.tally {
            tallies(pen, second, tally);
        }
        if level == model.level {
            pen.select(first, model.on_layers);
            pen.select(second, model.on_layers);
        }
    }
}

fn headline(pen: &mut Pen<'_>, row: Rect, layer: &LayerRow) {
    pen.put_right(row, 0, NUMBER - 1, &layer.title, Style::new());
    if let Some(bytes) = layer.bytes {
        pen.put_right(row, NUMBER, SIZE, &size(bytes), Style::new());
    }
    let instruction = pen.text(layer.instruction.as_bytes());
    pen.put(row, NUMBER + SIZE + 1, &instruction, Style::new());
}

/// Bytes that were added, changed and removed; nothing where nothing was.
fn tallies(pen: &mut Pen<'_>, row: Rect, tally: &Tally) {
    let mut column = NUMBER;
    for (letter, sum) in letters(tally) {
        if sum.entries > 0 {
            let style = pen.look.letter(Some(letter));
            let text = format!("{letter} {}", size(sum.bytes));
            column += pen.put(row, column, &text, style) + 2;
        }
    }
}

/// The three kinds with their letters.
pub(super) fn letters(tally: &Tally) -> [(char, Sum); 3] {
    [
        ('A', tally.added),
        ('C', tally.changed),
        ('D', tally.removed),
    ]
}
