//! What takes the place of the panels: a preview, wasted bytes, the keys.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Pen, row_of};
use crate::cli::explore::keys::TABLE;
use crate::cli::explore::layout::below_title;
use crate::cli::explore::model::Model;
use crate::cli::explore::preview::{LIMIT, Preview};
use crate::cli::explore::text::fit_end;
use crate::cli::format::size;
use crate::inspect::waste::{Waste, WastedPath};

/// Columns of the bytes and of the layers in the list of wasted bytes.
const BYTES: usize = 8;
const LAYERS: usize = 10;
/// Columns of the keys' names in the help.
const KEYS: usize = 9;

pub(super) fn preview(pen: &mut Pen<'_>, area: Rect, preview: &Preview) {
    let inner = below_title(area);
    let rows = usize::from(inner.height);
    let end = (preview.top + rows).min(preview.len());
    let first = (preview.top + 1).min(end);
    let mut place = format!("{first}-{end} of {}", preview.len());
    if preview.is_cut() {
        place = format!(
            "{place}, first {} KiB of {}",
            LIMIT >> 10,
            size(preview.size)
        );
    }
    let room = usize::from(area.width).saturating_sub(place.len() + 10);
    let path = fit_end(&pen.text(&preview.path), room, pen.look.more());
    pen.heading(area, true, &path, &place);
    if let Some(note) = preview.note() {
        let style = match preview.failed() {
            true => pen.look.trouble(),
            false => pen.look.quiet(),
        };
        let note = pen.text(note.as_bytes());
        pen.put(inner, 1, &note, style);
    }
    let columns = usize::from(inner.width);
    for at in 0..end.saturating_sub(preview.top) {
        let line = preview.line(preview.top + at, columns, pen.look.unicode);
        pen.put(row_of(inner, at), 0, &line, Style::new());
    }
}

pub(super) fn waste(pen: &mut Pen<'_>, area: Rect, model: &Model) {
    let rows = match &model.waste {
        Some(Ok(waste)) => waste.paths.len(),
        _ => 0,
    };
    let place = match rows {
        0 => String::new(),
        _ => format!("{}/{rows}", model.waste_cursor.at + 1),
    };
    pen.heading(area, true, "Waste", &place);
    let inner = below_title(area);
    match &model.waste {
        None => drop(pen.put(inner, 1, "counting", pen.look.quiet())),
        Some(Err(why)) => {
            let why = pen.text(why.as_bytes());
            pen.put(inner, 1, &why, pen.look.trouble());
        }
        Some(Ok(waste)) => waste_rows(pen, inner, waste, model),
    }
}

fn waste_rows(pen: &mut Pen<'_>, area: Rect, waste: &Waste, model: &Model) {
    let causes = waste.causes.iter();
    let causes: Vec<String> = causes
        .map(|(cause, bytes)| format!("{} {}", cause.word(), size(*bytes)))
        .collect();
    let sum = format!(
        "{:.1}% efficient: {} of {} wasted  {}",
        waste.efficiency() * 100.0,
        size(waste.wasted_bytes),
        size(waste.stored_bytes),
        causes.join(", ")
    );
    pen.put(row_of(area, 0), 1, &sum, Style::new());
    let header = row_of(area, 1);
    pen.put_right(header, 0, BYTES, "WASTED", pen.look.quiet());
    pen.put(header, BYTES + 1, "LAYERS", pen.look.quiet());
    pen.put(
        header,
        BYTES + 1 + LAYERS,
        "WHERE AND WHY",
        pen.look.quiet(),
    );
    let rows = usize::from(area.height).saturating_sub(2);
    let shown = waste.paths.iter().enumerate().skip(model.waste_cursor.top);
    for (at, (number, path)) in shown.take(rows).enumerate() {
        let row = row_of(area, at + 2);
        waste_row(pen, row, path, model);
        if number == model.waste_cursor.at {
            pen.select(row, true);
        }
    }
}

fn waste_row(pen: &mut Pen<'_>, row: Rect, path: &WastedPath, model: &Model) {
    pen.put_right(row, 0, BYTES, &size(path.wasted_bytes), Style::new());
    let titles = path
        .layers
        .iter()
        .filter_map(|level| model.layers.get(*level));
    let titles: Vec<&str> = titles.map(|layer| &layer.title[..]).collect();
    let column = BYTES + 1;
    let layers = Rect {
        width: row.width.min((column + LAYERS - 1) as u16),
        ..row
    };
    pen.put(layers, column, &titles.join(","), Style::new());
    let words: Vec<&str> = path.causes.keys().map(|cause| cause.word()).collect();
    let words = format!("  {}", words.join(", "));
    let column = column + LAYERS;
    let room = usize::from(row.width).saturating_sub(column + words.len());
    let name = format!("/{}", pen.text(&path.path));
    let name = fit_end(&name, room, pen.look.more());
    let used = pen.put(row, column, &name, Style::new());
    pen.put(row, column + used, &words, pen.look.quiet());
}

pub(super) fn help(pen: &mut Pen<'_>, area: Rect, top: usize) {
    pen.clear(area);
    let inner = below_title(area);
    let rows = usize::from(inner.height);
    let end = (top + rows).min(TABLE.len());
    let place = match rows < TABLE.len() {
        true => format!("{}-{end} of {}", (top + 1).min(end), TABLE.len()),
        false => String::new(),
    };
    pen.heading(area, true, "Keys", &place);
    for (at, row) in TABLE.iter().skip(top).take(rows).enumerate() {
        let line = row_of(inner, at);
        pen.put(line, 1, row.name, pen.look.key());
        pen.put(line, 1 + KEYS, row.help, Style::new());
    }
}
