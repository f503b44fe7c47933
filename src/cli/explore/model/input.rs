//! What keys do.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Model, Screen};
use crate::cli::explore::keys::{Action, TABLE, action};
use crate::cli::explore::preview::LIMIT;
use crate::cli::explore::tree::Showing;
use crate::inspect::levels::Kinds;

/// The longest text that is searched for.
const PATTERN: usize = 200;
/// Columns by which a preview moves sideways.
const SIDEWAYS: usize = 8;

impl Model {
    /// A key was pressed. Terminals send the same bytes for Alt with a key as for Esc and then the key;
    /// no key here has Alt, so it was that.
    pub(super) fn key(&mut self, key: &KeyEvent) {
        if key.modifiers.contains(KeyModifiers::ALT) {
            self.key(&KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
            let modifiers = key.modifiers - KeyModifiers::ALT;
            return self.key(&KeyEvent::new(key.code, modifiers));
        }
        self.message = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            self.done = true;
            return;
        }
        if self.prompt.is_some() {
            return self.type_key(key);
        }
        let action = action(key);
        if let Some(top) = self.help {
            let height = usize::from(self.size.height);
            self.help = action.and_then(|action| help_key(action, top, height));
            return;
        }
        let Some(action) = action else {
            return;
        };
        match self.screen {
            Screen::Preview(_) => self.preview_key(action),
            Screen::Waste => self.waste_key(action),
            Screen::Panels if self.on_layers => self.layers_key(action),
            Screen::Panels => self.tree_key(action),
        }
    }

    fn type_key(&mut self, key: &KeyEvent) {
        let Some(prompt) = &mut self.prompt else {
            return;
        };
        match key.code {
            KeyCode::Char(c) if prompt.len() < PATTERN && !c.is_control() => prompt.push(c),
            KeyCode::Backspace if prompt.pop().is_some() => {}
            KeyCode::Backspace | KeyCode::Esc => self.prompt = None,
            KeyCode::Enter => {
                let pattern = self.prompt.take().unwrap_or_default();
                match pattern.is_empty() {
                    true => self.next_match(true),
                    false => self.start_search(pattern, true),
                }
            }
            _ => {}
        }
    }

    /// What keys do wherever the panels are.
    fn common_key(&mut self, action: Action) {
        match action {
            Action::Quit => self.done = true,
            Action::Help => self.help = Some(0),
            Action::Panel => self.on_layers = !self.on_layers,
            Action::LayerUp => self.set_level(self.level + 1),
            Action::LayerDown => self.set_level(self.level.saturating_sub(1)),
            Action::View => self.show(Showing {
                changes: !self.showing.changes,
                ..self.showing
            }),
            Action::Added | Action::Changed | Action::Removed => self.filter(action),
            Action::Sort => self.show(Showing {
                by_size: !self.showing.by_size,
                ..self.showing
            }),
            Action::Search => self.prompt = Some(String::new()),
            Action::Next => self.next_match(true),
            Action::Previous => self.next_match(false),
            Action::Waste => self.screen = Screen::Waste,
            Action::Back => self.search = None,
            _ => {}
        }
    }

    fn layers_key(&mut self, action: Action) {
        let page = self.layers_page();
        let last = self.layers.len().saturating_sub(1);
        match action {
            Action::Up => self.set_level(self.level.saturating_sub(1)),
            Action::Down => self.set_level(self.level + 1),
            Action::PageUp => self.set_level(self.level.saturating_sub(page)),
            Action::PageDown => self.set_level((self.level + page).min(last)),
            Action::First => self.set_level(0),
            Action::Last => self.set_level(last),
            Action::Enter | Action::Right => self.on_layers = false,
            _ => self.common_key(action),
        }
    }

    fn tree_key(&mut self, action: Action) {
        let page = self.tree_page();
        let last = self.tree.len().saturating_sub(1);
        let at = self.tree.cursor;
        let levels = Arc::clone(&self.levels);
        let done = match action {
            Action::Enter => match self.tree.toggle(&levels) {
                Ok(false) => {
                    self.preview();
                    Ok(())
                }
                other => other.map(drop),
            },
            Action::Right => self.tree.open(&levels),
            Action::OpenAll => match self.tree.open_all(&levels) {
                Ok(false) => {
                    self.say("there is more: not all directories were opened");
                    Ok(())
                }
                other => other.map(drop),
            },
            _ => Ok(()),
        };
        if let Err(e) = done {
            self.trouble(e);
        }
        match action {
            Action::Up => self.tree.cursor = at.saturating_sub(1),
            Action::Down => self.tree.cursor = (at + 1).min(last),
            Action::PageUp => self.tree.cursor = at.saturating_sub(page),
            Action::PageDown => self.tree.cursor = (at + page).min(last),
            Action::First => self.tree.cursor = 0,
            Action::Last => self.tree.cursor = last,
            Action::Left => self.tree.close(),
            Action::CloseAll => self.tree.close_all(),
            Action::Preview => self.preview(),
            Action::Enter | Action::Right | Action::OpenAll => {}
            _ => self.common_key(action),
        }
    }

    fn preview_key(&mut self, action: Action) {
        let page = self.body_page();
        let Screen::Preview(preview) = &mut self.screen else {
            return;
        };
        let last = preview.len().saturating_sub(page);
        match action {
            Action::Up => preview.top = preview.top.saturating_sub(1),
            Action::Down => preview.top += 1,
            Action::PageUp => preview.top = preview.top.saturating_sub(page),
            Action::PageDown => preview.top += page,
            Action::First => (preview.top, preview.left) = (0, 0),
            Action::Last => preview.top = last,
            Action::Left => preview.left = preview.left.saturating_sub(SIDEWAYS),
            Action::Right => preview.left = (preview.left + SIDEWAYS).min(LIMIT),
            Action::Hex => preview.switch(),
            Action::Help => self.help = Some(0),
            Action::Back | Action::Quit | Action::Preview | Action::Enter => {
                self.screen = Screen::Panels;
                return;
            }
            _ => return,
        }
        preview.top = preview.top.min(preview.len().saturating_sub(page));
    }

    fn waste_key(&mut self, action: Action) {
        let page = self.body_page();
        let last = self.waste_rows().saturating_sub(1);
        let at = &mut self.waste_cursor.at;
        match action {
            Action::Up => *at = at.saturating_sub(1),
            Action::Down => *at = (*at + 1).min(last),
            Action::PageUp => *at = at.saturating_sub(page),
            Action::PageDown => *at = (*at + page).min(last),
            Action::First => *at = 0,
            Action::Last => *at = last,
            Action::Enter | Action::Right => self.go_to_waste(),
            Action::Help => self.help = Some(0),
            Action::Back | Action::Quit | Action::Waste | Action::Left => {
                self.screen = Screen::Panels;
            }
            _ => {}
        }
    }

    /// Shows one kind of changes or not; the last one that is shown stays.
    fn filter(&mut self, action: Action) {
        let mut kinds = self.showing.kinds;
        match action {
            Action::Added => kinds.added = !kinds.added,
            Action::Changed => kinds.changed = !kinds.changed,
            _ => kinds.removed = !kinds.removed,
        }
        if kinds == Kinds::default() {
            kinds = Kinds::ALL;
        }
        self.show(Showing {
            changes: true,
            kinds,
            ..self.showing
        });
    }
}

/// What a key does to the help: its first line, or none when it is closed.
fn help_key(action: Action, top: usize, height: usize) -> Option<usize> {
    let page = height.saturating_sub(4).max(1);
    let last = TABLE.len().saturating_sub(page);
    let top = match action {
        Action::Up => top.saturating_sub(1),
        Action::Down => top + 1,
        Action::PageUp => top.saturating_sub(page),
        Action::PageDown => top + page,
        Action::First => 0,
        Action::Last => last,
        _ => return None,
    };
    Some(top.min(last))
}
