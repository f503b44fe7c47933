//! Where the parts of the screen are.

use ratatui::layout::{Rect, Size};

/// Fewer columns or rows than these show nothing of use.
const MIN: Size = Size {
    width: 20,
    height: 4,
};
/// From so many columns on there are two panels side by side.
const TWO_PANELS: u16 = 66;
/// From so many rows on there are details.
const DETAILS: u16 = 16;

/// The parts of the screen. Panels have a title in their first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Areas {
    /// The line at the top.
    pub title: Rect,
    /// Title line and footer aside, everything: for a preview and for waste.
    pub body: Rect,
    /// The layers; empty where there is room for one panel and it is the tree's.
    pub layers: Rect,
    /// The line between the panels.
    pub divider: Rect,
    /// The tree.
    pub tree: Rect,
    /// Details of what is selected.
    pub details: Rect,
    /// The line at the bottom.
    pub footer: Rect,
}

/// The parts of a screen of this size; `None` when it is too small. `on_layers`: the layers' panel
/// has the keyboard.
pub fn areas(size: Size, on_layers: bool) -> Option<Areas> {
    if size.width < MIN.width || size.height < MIN.height {
        return None;
    }
    let width = size.width;
    let row = |y: u16, height: u16| Rect::new(0, y, width, height);
    let body = row(1, size.height - 2);
    let details = match size.height {
        h if h < DETAILS => 0,
        h if h < 30 => 6,
        _ => 8,
    };
    let panels = body.height - details;
    let left = match (width >= TWO_PANELS, on_layers) {
        (true, _) => (width * 2 / 5).clamp(30, 64),
        (false, true) => width,
        (false, false) => 0,
    };
    let line = u16::from(width >= TWO_PANELS);
    Some(Areas {
        title: row(0, 1),
        body,
        layers: Rect::new(0, 1, left, panels),
        divider: Rect::new(left, 1, line, panels),
        tree: Rect::new(left + line, 1, width - left - line, panels),
        details: row(1 + panels, details),
        footer: row(size.height - 1, 1),
    })
}

/// A panel without its title.
pub fn below_title(panel: Rect) -> Rect {
    let title = panel.height.min(1);
    Rect {
        y: panel.y + title,
        height: panel.height - title,
        ..panel
    }
}

/// The first row that is shown so that `selected` is, moving as little as can be.
pub fn scrolled(first: usize, selected: usize, rows: usize, height: usize) -> usize {
    let height = height.max(1);
    let lowest = rows.saturating_sub(height);
    let first = first.min(selected);
    let first = first.max((selected + 1).saturating_sub(height));
    first.min(lowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_never_overlap_and_stay_on_the_screen() {
        for width in 0..200 {
            for height in 0..60 {
                for on_layers in [false, true] {
                    let size = Size { width, height };
                    let Some(a) = areas(size, on_layers) else {
                        assert!(width < MIN.width || height < MIN.height);
                        continue;
                    };
                    let parts = [a.title, a.layers, a.divider, a.tree, a.details, a.footer];
                    let area: u32 = parts.iter().map(|r| r.area()).sum();
                    assert_eq!(area, u32::from(width) * u32::from(height), "{size:?}");
                    for (at, part) in parts.iter().enumerate() {
                        let screen = Rect::new(0, 0, width, height);
                        assert_eq!(part.intersection(screen), *part);
                        for other in &parts[..at] {
                            assert_eq!(part.intersection(*other).area(), 0, "{size:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_selected_is_shown() {
        for (first, selected, rows, height, expected) in [
            (0, 0, 100, 10, 0),
            (0, 10, 100, 10, 1),
            (50, 49, 100, 10, 49),
            (95, 99, 100, 10, 90),
            (5, 2, 3, 10, 0),
            (3, 0, 0, 0, 0),
        ] {
            assert_eq!(scrolled(first, selected, rows, height), expected);
        }
    }
}
