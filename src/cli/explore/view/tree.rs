//! The panel of the tree.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Pen, row_of};
use crate::cli::explore::layout::below_title;
use crate::cli::explore::model::Model;
use crate::cli::explore::text::{fit, width};
use crate::cli::explore::tree::Node;
use crate::cli::format::size;
use crate::cli::look::mode_letters;
use crate::inspect::Entry;
use crate::stat::FileType;

/// Columns of each part of a row, with the space after it.
const MARK: usize = 2;
const MODE: usize = 11;
const OWNER: usize = 10;
const SIZE: usize = 8;
/// From so many columns on modes are shown, and from so many owners.
const WITH_MODE: u16 = 54;
const WITH_OWNER: u16 = 66;

pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, model: &Model) {
    if area.width == 0 {
        return;
    }
    let rows = model.tree.len();
    let place = match rows {
        0 => String::new(),
        _ => format!("{}/{rows}", model.tree.cursor + 1),
    };
    pen.heading(area, !model.on_layers, &heading(model), &place);
    let inner = below_title(area);
    for at in 0..usize::from(inner.height) {
        let number = model.tree_top + at;
        let Some(node) = model.tree.row(number) else {
            break;
        };
        let row = row_of(inner, at);
        draw_row(pen, row, node, model.showing.changes);
        if number == model.tree.cursor {
            pen.select(row, !model.on_layers);
        }
    }
    if rows == 0 {
        let why = match model.showing.changes {
            true => "nothing of this kind was changed (v shows the tree)",
            false => "nothing",
        };
        pen.put(inner, 1, why, pen.look.quiet());
    }
}

fn heading(model: &Model) -> String {
    let layer = match model.layers.get(model.level) {
        Some(row) if row.bytes.is_none() => "Container".to_owned(),
        Some(row) => format!("Layer {}", row.title),
        None => String::new(),
    };
    let order = if model.showing.by_size {
        ", by size"
    } else {
        ""
    };
    let total = model.tree.total();
    if !model.showing.changes {
        let total = total.map_or(String::new(), |all| format!(", {}", size(all.bytes)));
        return format!("{layer}: tree{total}{order}");
    }
    let kinds = model.showing.kinds;
    let shown = [
        (kinds.added, 'A'),
        (kinds.changed, 'C'),
        (kinds.removed, 'D'),
    ];
    let shown: String = shown
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, c)| *c)
        .collect();
    format!("{layer}: changes {shown}{order}")
}

fn draw_row(pen: &mut Pen<'_>, row: Rect, node: &Node, changes: bool) {
    let stat = node.shown.part.object.stat;
    let letter = node.shown.letter();
    let style = pen.look.letter(letter);
    if let Some(letter) = letter {
        pen.put(row, 0, letter.encode_utf8(&mut [0; 4]), style);
    }
    let mut column = MARK;
    if row.width >= WITH_MODE {
        pen.put(
            row,
            column,
            &mode_letters(&Entry::Object(node.shown.part.object)),
            pen.look.quiet(),
        );
        column += MODE;
    }
    if row.width >= WITH_OWNER {
        let owner = fit(
            &format!("{}:{}", stat.uid, stat.gid),
            OWNER - 1,
            pen.look.more(),
        );
        pen.put(row, column, &owner, pen.look.quiet());
        column += OWNER;
    }
    let bytes = match (node.bytes(changes), stat.kind) {
        (Some(bytes), FileType::Regular | FileType::Directory) => size(bytes),
        (None, _) => pen.look.more().to_owned(),
        _ => String::new(),
    };
    pen.put_right(row, column, SIZE - 1, &bytes, Style::new());
    column += SIZE;
    draw_name(pen, row, column, node);
}

fn draw_name(pen: &mut Pen<'_>, row: Rect, column: usize, node: &Node) {
    let room = usize::from(row.width).saturating_sub(column);
    // A deep place doesn't push its name off the screen.
    let indent = (node.depth * 2).min(room / 2);
    let mut column = column + indent;
    let is_dir = node.shown.dir.is_some();
    let sign = match (is_dir, node.open) {
        (true, true) => pen.look.open(),
        (true, false) => pen.look.closed(),
        _ => "  ",
    };
    column += pen
        .put(row, column, sign, pen.look.quiet())
        .max(width(sign));
    let style = match (node.shown.letter(), is_dir) {
        (None, true) => pen.look.directory(),
        (letter, _) => pen.look.letter(letter),
    };
    let mut name = pen.text(node.name());
    name.push_str(suffix(node));
    pen.put(row, column, &name, style);
}

/// What ls -F puts behind a name.
fn suffix(node: &Node) -> &'static str {
    let stat = node.shown.part.object.stat;
    match stat.kind {
        FileType::Directory => "/",
        FileType::Symlink => "@",
        FileType::Fifo => "|",
        FileType::Socket => "=",
        FileType::Regular if stat.perm & 0o111 != 0 => "*",
        _ => "",
    }
}
