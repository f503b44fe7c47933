//! The keys: one table from which they are read and from which the help is made.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Left,
    Right,
    Enter,
    OpenAll,
    CloseAll,
    Panel,
    LayerDown,
    LayerUp,
    View,
    Added,
    Changed,
    Removed,
    Sort,
    Search,
    Next,
    Previous,
    Preview,
    Hex,
    Waste,
    Help,
    Back,
    Quit,
}

use Action::*;

/// A row of the table: what it does, the keys, their name, a word for the line of keys (empty: it
/// is not there), a sentence for the help.
pub struct Row {
    /// What it does.
    pub action: Action,
    keys: &'static [KeyCode],
    /// How the keys are called.
    pub name: &'static str,
    /// One word, if it is shown at the bottom of the screen.
    pub word: &'static str,
    /// What the help says.
    pub help: &'static str,
}

#[cfg(test)]
impl Row {
    pub fn keys(&self) -> &'static [KeyCode] {
        self.keys
    }
}

const fn row(
    action: Action,
    keys: &'static [KeyCode],
    name: &'static str,
    word: &'static str,
    help: &'static str,
) -> Row {
    Row {
        action,
        keys,
        name,
        word,
        help,
    }
}

use KeyCode::Char;

/// All keys, in the order in which help shows them; those at the bottom of the screen are the ones
/// with a word.
pub const TABLE: [Row; 28] = [
    row(Quit, &[Char('q')], "q", "quit", "quit (also Ctrl-C)"),
    row(Help, &[Char('?'), KeyCode::F(1)], "?", "help", "these keys"),
    row(
        Panel,
        &[KeyCode::Tab, KeyCode::BackTab],
        "Tab",
        "panel",
        "the other panel",
    ),
    row(
        Search,
        &[Char('/')],
        "/",
        "search",
        "search paths; with a capital letter, case counts",
    ),
    row(
        Preview,
        &[Char('p'), Char(' ')],
        "p",
        "preview",
        "preview of a file (also Space, Enter)",
    ),
    row(
        View,
        &[Char('v')],
        "v",
        "view",
        "the whole tree, or only what the layer did",
    ),
    row(
        Waste,
        &[Char('w')],
        "w",
        "waste",
        "wasted bytes; Enter goes to the file",
    ),
    row(Sort, &[Char('s')], "s", "sort", "sort by name or by size"),
    row(Next, &[Char('n')], "n", "", "next match"),
    row(Previous, &[Char('N')], "N", "", "match before"),
    row(
        Added,
        &[Char('a')],
        "a",
        "",
        "show or hide what the layer added",
    ),
    row(
        Changed,
        &[Char('c')],
        "c",
        "",
        "show or hide what the layer changed",
    ),
    row(
        Removed,
        &[Char('d')],
        "d",
        "",
        "show or hide what the layer removed",
    ),
    row(LayerUp, &[Char(']')], "]", "", "the layer above"),
    row(LayerDown, &[Char('[')], "[", "", "the layer below"),
    row(Up, &[KeyCode::Up, Char('k')], "Up k", "", "up"),
    row(Down, &[KeyCode::Down, Char('j')], "Down j", "", "down"),
    row(
        Left,
        &[KeyCode::Left, Char('h')],
        "Left h",
        "",
        "close the directory, or go to the one above",
    ),
    row(
        Right,
        &[KeyCode::Right, Char('l')],
        "Right l",
        "",
        "open the directory",
    ),
    row(
        Enter,
        &[KeyCode::Enter],
        "Enter",
        "",
        "open or close the directory, preview the file",
    ),
    row(
        OpenAll,
        &[Char('*')],
        "*",
        "",
        "open all below the directory",
    ),
    row(CloseAll, &[Char('-')], "-", "", "close all directories"),
    row(
        PageUp,
        &[KeyCode::PageUp],
        "PgUp",
        "",
        "a page up (also Ctrl-B)",
    ),
    row(
        PageDown,
        &[KeyCode::PageDown],
        "PgDn",
        "",
        "a page down (also Ctrl-F)",
    ),
    row(
        First,
        &[KeyCode::Home, Char('g')],
        "Home g",
        "",
        "to the start",
    ),
    row(Last, &[KeyCode::End, Char('G')], "End G", "", "to the end"),
    row(Hex, &[Char('x')], "x", "", "in a preview: text or bytes"),
    row(Back, &[KeyCode::Esc], "Esc", "", "back; ends a search"),
];

/// What a key does, if anything.
pub fn action(key: &KeyEvent) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            Char('c') => Some(Quit),
            Char('b' | 'u') => Some(PageUp),
            Char('f' | 'd') => Some(PageDown),
            _ => None,
        };
    }
    let row = TABLE.iter().find(|row| row.keys.contains(&key.code));
    row.map(|row| row.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_does_one_thing() {
        let keys: Vec<KeyCode> = TABLE.iter().flat_map(|r| r.keys).copied().collect();
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key), "{key:?} is there twice");
            assert!(action(&KeyEvent::new(*key, KeyModifiers::NONE)).is_some());
        }
        let ctrl = |c| action(&KeyEvent::new(Char(c), KeyModifiers::CONTROL));
        assert_eq!(ctrl('c'), Some(Quit));
        assert_eq!(ctrl('q'), None);
    }
}
