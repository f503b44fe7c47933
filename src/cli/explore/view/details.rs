//! Details of the selected layer or entry.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::layers::letters;
use super::{Pen, row_of};
use crate::cli::explore::details::{Details, LayerRow, did_words};
use crate::cli::explore::layout::below_title;
use crate::cli::explore::model::{Model, kind_name};
use crate::cli::explore::text::{fit_end, wrap};
use crate::cli::format::size;
use crate::cli::look::{device, mode_letters, time};
use crate::inspect::Entry;
use crate::inspect::usage::bytes_of;
use crate::stat::FileType;

pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, model: &Model) {
    if area.height == 0 {
        return;
    }
    let inner = below_title(area);
    match (
        model.on_layers,
        model.layers.get(model.level),
        &model.details,
    ) {
        (true, Some(layer), _) => {
            let title = match layer.bytes {
                Some(_) => format!("Layer {}", layer.title),
                None => "Container".to_owned(),
            };
            pen.heading(area, false, &title, "");
            draw_layer(pen, inner, layer);
        }
        (false, _, Some(details)) => {
            let room = usize::from(area.width).saturating_sub(8);
            let path = fit_end(&pen.text(&details.path), room, pen.look.more());
            pen.heading(area, false, &path, "");
            draw_entry(pen, inner, details, &model.layers);
        }
        _ => pen.heading(area, false, "", ""),
    }
}

fn draw_layer(pen: &mut Pen<'_>, area: Rect, layer: &LayerRow) {
    let columns = usize::from(area.width).saturating_sub(2);
    let instruction = pen.text(layer.instruction.as_bytes());
    let lines = wrap(&instruction, columns);
    // The rest has its place whatever the length of the instruction.
    let rest = layer.about.len() + 1;
    let most = usize::from(area.height).saturating_sub(rest).max(1);
    let mut at = 0;
    for (number, line) in lines.iter().take(most).enumerate() {
        let cut = number + 1 == most && lines.len() > most;
        let end = if cut { pen.look.more() } else { "" };
        pen.put(row_of(area, at), 1, &format!("{line}{end}"), Style::new());
        at += 1;
    }
    let row = row_of(area, at);
    match &layer.tally {
        None => drop(pen.put(row, 1, "counting what it changes", pen.look.quiet())),
        Some(tally) => {
            let words = ["added", "changed", "removed"];
            let mut column = 1;
            for ((letter, sum), word) in letters(tally).into_iter().zip(words) {
                let text = format!("{letter} {} {word}, {}", sum.entries, size(sum.bytes));
                column += pen.put(row, column, &text, pen.look.letter(Some(letter))) + 3;
            }
        }
    }
    for line in &layer.about {
        at += 1;
        let line = pen.text(line.as_bytes());
        pen.put(row_of(area, at), 1, &line, pen.look.quiet());
    }
}

fn draw_entry(pen: &mut Pen<'_>, area: Rect, details: &Details, layers: &[LayerRow]) {
    let stat = &details.object.stat;
    let mut facts = format!(
        "{} {}:{}",
        mode_letters(&Entry::Object(details.object)),
        stat.uid,
        stat.gid
    );
    match stat.kind {
        FileType::Regular => facts.push_str(&format!(" {} ({} bytes)", size(stat.size), stat.size)),
        _ => {
            if let Some((major, minor)) = device(stat) {
                facts.push_str(&format!(" {major}, {minor}"));
            }
        }
    }
    facts.push_str(&format!("  {}", time(stat.mtime, "%Y-%m-%d %H:%M:%S")));
    if stat.nlink > 1 && stat.kind != FileType::Directory {
        facts.push_str(&format!("  {} names", stat.nlink));
    }
    let mut lines = vec![facts];
    match &details.target {
        Some(target) => lines.push(format!("{} {}", pen.look.arrow(), pen.text(target))),
        None if stat.kind == FileType::Regular => {}
        None => lines.push(kind_name(stat.kind).to_owned()),
    }
    if !details.xattrs.is_empty() {
        let names: Vec<String> = details.xattrs.iter().map(|name| pen.text(name)).collect();
        lines.push(format!("xattrs {}", names.join(" ")));
    }
    for (at, line) in lines.iter().enumerate() {
        pen.put(row_of(area, at), 1, line, Style::new());
    }
    let rows = usize::from(area.height).saturating_sub(lines.len());
    for (at, (level, shown)) in details.which.iter().enumerate().take(rows) {
        let row = row_of(area, lines.len() + at);
        let more = details.which.len().saturating_sub(rows);
        if at + 1 == rows && more > 0 {
            let text = format!("and {} layers below", more + 1);
            pen.put(row, 1, &text, pen.look.quiet());
            break;
        }
        let layer = layers.get(*level);
        let title = layer.map_or("", |layer| &layer.title);
        let instruction = layer.map_or("", |layer| &layer.instruction);
        let bytes = match shown.part.object.is_file() {
            true => format!(" {}", size(bytes_of(&shown.part.object))),
            false => String::new(),
        };
        let text = format!("layer {title} {}{bytes}", did_words(shown));
        let used = pen.put(row, 1, &text, pen.look.letter(shown.letter()));
        let instruction = pen.text(instruction.as_bytes());
        pen.put(row, used + 3, &instruction, pen.look.quiet());
    }
}
