//! What is shown while an archive is read.

use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::style::Style;

use super::{Pen, row_of};
use crate::cli::explore::layout::{areas, below_title};
use crate::cli::explore::opening::{Opening, Work};
use crate::cli::explore::style::Look;
use crate::cli::format::size;

/// Columns of a layer's number, and of its size.
const NUMBER: usize = 4;
const SIZE: usize = 7;

/// Draws what is known so far.
pub fn draw(opening: &Opening, look: Look, buffer: &mut Buffer) {
    let area = buffer.area;
    let mut pen = Pen { buffer, look };
    let Some(areas) = areas(Size::new(area.width, area.height), true) else {
        pen.put(area, 0, "too small", Style::new());
        return;
    };
    let name = pen.text(opening.name.as_bytes());
    let room = usize::from(area.width).saturating_sub(2);
    let name = super::super::text::fit_end(&name, room, look.more());
    pen.put(areas.title, 1, &name, look.title(true));
    let read = opening.layers.iter().filter(|row| row.indexed).count();
    let place = match opening.layers.len() {
        0 => String::new(),
        count => format!("{read} of {count} read"),
    };
    pen.heading(areas.body, true, "Layers", &place);
    layers(&mut pen, below_title(areas.body), opening);
    let used = match opening.work.last() {
        Some(work) => pen.put(areas.footer, 1, &said(work), Style::new()),
        None => pen.put(areas.footer, 1, "Opening", Style::new()),
    };
    let used = used + 3;
    let key = pen.put(areas.footer, used, "q", look.key());
    pen.put(areas.footer, used + key + 1, "quit", Style::new());
}

/// The layers, scrolled to the first that is not read yet.
fn layers(pen: &mut Pen<'_>, area: Rect, opening: &Opening) {
    let height = usize::from(area.height);
    let read = opening.layers.iter().filter(|row| row.indexed).count();
    let top = (read + 1).saturating_sub(height);
    let rows = opening.layers.iter().enumerate().skip(top).take(height);
    for (at, (number, layer)) in rows.enumerate() {
        let row = row_of(area, at);
        let style = match layer.indexed {
            true => Style::new(),
            false => pen.look.quiet(),
        };
        pen.put_right(row, 0, NUMBER - 1, &(number + 1).to_string(), style);
        let bytes = layer.bytes.map_or_else(|| "-".to_owned(), size);
        pen.put_right(row, NUMBER, SIZE, &bytes, style);
        let instruction = pen.text(layer.instruction.as_bytes());
        pen.put(row, NUMBER + SIZE + 1, &instruction, style);
    }
}

/// How far the work is, in words.
fn said(work: &Work) -> String {
    let Work { name, done, total } = work;
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let done = total.min(*done);
            let percent = u128::from(done) * 100 / u128::from(total);
            format!("{name}: {} of {}, {percent}%", size(done), size(total))
        }
        None => format!("{name}: {}", size(*done)),
    }
}
