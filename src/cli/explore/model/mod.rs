//! [`Model`]: everything that the screen shows, and how keys and answers change it. It asks the
//! levels for directories, a directory when it is opened; what takes longer it leaves as requests.

mod input;

use std::collections::BTreeMap;
use std::sync::Arc;

use ratatui::crossterm::event::{Event, KeyEventKind};
use ratatui::layout::Size;

use super::details::{Details, LayerRow, rows};
use super::layout::{areas, below_title, scrolled};
use super::preview::Preview;
use super::search::Search;
use super::tree::{Showing, TreePane};
use super::work::{Query, Reply, Request, Subject};
use crate::error::{Failure, Result};
use crate::inspect::levels::{Facts, Kinds, Levels};
use crate::inspect::waste::Waste;
use crate::stat::FileType;

/// The facts of so many levels are kept.
const FACTS: usize = 8;
/// So many open directories stay open when another layer is looked at.
const KEEP_OPEN: usize = 2000;

/// What takes the place of the panels.
pub enum Screen {
    /// Nothing.
    Panels,
    /// A file's contents.
    Preview(Preview),
    /// Wasted bytes.
    Waste,
}

/// A line at the bottom, until the next key.
pub struct Message {
    /// What it says.
    pub text: String,
    /// Whether something went wrong.
    pub trouble: bool,
}

/// A list with a selected row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    /// The selected row.
    pub at: usize,
    /// The first row that is shown.
    pub top: usize,
}

/// Where to begin.
pub struct Start {
    /// At which level.
    pub level: usize,
    /// With what it did, not with the whole tree.
    pub changes: bool,
    /// At which path.
    pub path: Option<Vec<u8>>,
}

/// The state.
pub struct Model {
    levels: Arc<Levels>,
    /// The image's name.
    pub name: String,
    /// The layers, and the container's changes.
    pub layers: Vec<LayerRow>,
    /// The selected level.
    pub level: usize,
    /// The first layer that is shown.
    pub layers_top: usize,
    /// The layers' panel has the keyboard.
    pub on_layers: bool,
    /// What is shown of the tree.
    pub showing: Showing,
    /// The tree.
    pub tree: TreePane,
    /// The tree's first row that is shown.
    pub tree_top: usize,
    /// What is known of the selected entry.
    pub details: Option<Details>,
    /// What takes the place of the panels.
    pub screen: Screen,
    /// The first line of the help that is shown, when it is.
    pub help: Option<usize>,
    /// What is being typed.
    pub prompt: Option<String>,
    /// The last search.
    pub search: Option<Search>,
    /// What the image wastes, once that is known.
    pub waste: Option<Result<Waste, String>>,
    /// The place in the list of wasted bytes.
    pub waste_cursor: Cursor,
    /// A line at the bottom.
    pub message: Option<Message>,
    /// The user has seen enough.
    pub done: bool,
    /// The screen's size.
    pub size: Size,
    facts: BTreeMap<usize, Arc<Facts>>,
    requests: Vec<Request>,
    token: u64,
}

impl Model {
    /// A model of an image.
    ///
    /// # Errors
    /// `NotFound` for an image without layers; `System` when an index is damaged.
    pub fn new(subject: &Subject, start: &Start, size: Size) -> Result<Self, Failure> {
        let levels = Arc::clone(&subject.levels);
        if levels.is_empty() {
            let name = subject.image.name.escape_debug();
            return Err(Failure::not_found(format!("{name}: it has no layers")));
        }
        let level = start.level.min(levels.len() - 1);
        let showing = Showing {
            changes: start.changes,
            kinds: Kinds::ALL,
            by_size: false,
        };
        let tree = TreePane::new(&levels, level, showing)?;
        let mut model = Self {
            name: subject.image.name.clone(),
            layers: rows(&subject.image, levels.len()),
            levels,
            level,
            layers_top: 0,
            on_layers: false,
            showing,
            tree,
            tree_top: 0,
            details: None,
            screen: Screen::Panels,
            help: None,
            prompt: None,
            search: None,
            waste: None,
            waste_cursor: Cursor::default(),
            message: None,
            done: false,
            size,
            facts: BTreeMap::new(),
            requests: vec![Request::Sums, Request::Facts(level)],
            token: 0,
        };
        if let Some(path) = &start.path {
            model.go_to(path);
        }
        model.settle();
        Ok(model)
    }

    /// What is to be asked, once.
    pub fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// Something happened at the terminal.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(key),
            Event::Resize(width, height) => self.size = Size::new(*width, *height),
            _ => return,
        }
        self.settle();
    }

    /// An answer has come.
    pub fn reply(&mut self, reply: Reply) {
        match reply {
            Reply::Tally(level, Ok(tally)) => {
                if let Some(row) = self.layers.get_mut(level) {
                    row.tally = Some(tally);
                }
            }
            Reply::Tally(_, Err(why)) | Reply::Facts(_, Err(why)) => self.trouble(why),
            Reply::Facts(level, Ok(facts)) => self.know(level, Arc::new(facts)),
            Reply::Waste(waste) => self.waste = Some(waste),
            Reply::Search(query, found) => self.found(&query, found),
            Reply::Preview(token, contents) => {
                if let Screen::Preview(preview) = &mut self.screen
                    && preview.token == token
                {
                    preview.read(contents);
                }
            }
        }
        self.settle();
    }

    fn know(&mut self, level: usize, facts: Arc<Facts>) {
        if level == self.level {
            self.tree.know(Arc::clone(&facts));
        }
        self.facts.insert(level, facts);
        let far = |known: &usize| (known.abs_diff(self.level), *known);
        while self.facts.len() > FACTS
            && let Some(farthest) = self.facts.keys().copied().max_by_key(far)
        {
            self.facts.remove(&farthest);
        }
    }

    fn say(&mut self, text: impl Into<String>) {
        self.message = Some(Message {
            text: text.into(),
            trouble: false,
        });
    }

    fn trouble(&mut self, why: impl std::fmt::Display) {
        self.message = Some(Message {
            text: why.to_string(),
            trouble: true,
        });
    }

    fn waste_rows(&self) -> usize {
        match &self.waste {
            Some(Ok(waste)) => waste.paths.len(),
            _ => 0,
        }
    }

    /// Leaves the list of wasted bytes for the place of the selected ones.
    fn go_to_waste(&mut self) {
        let Some(Ok(waste)) = &self.waste else {
            return;
        };
        let Some(row) = waste.paths.get(self.waste_cursor.at) else {
            return;
        };
        let (path, level) = (row.path.clone(), row.layers.last().copied());
        self.screen = Screen::Panels;
        self.on_layers = false;
        if let Some(level) = level {
            self.set_level(level);
        }
        self.go_to(&path);
    }

    /// Selects a path, in the whole tree if it does not show otherwise.
    fn go_to(&mut self, path: &[u8]) {
        let levels = Arc::clone(&self.levels);
        let mut found = self.tree.reveal(&levels, path);
        if matches!(found, Ok(false)) && self.showing.changes {
            self.show(Showing {
                changes: false,
                ..self.showing
            });
            found = self.tree.reveal(&levels, path);
        }
        match found {
            Ok(true) => self.on_layers = false,
            Ok(false) if path.iter().any(|b| *b != b'/') => {
                self.trouble(format!("{}: not in this layer", path.escape_ascii()));
            }
            Ok(false) => {}
            Err(e) => self.trouble(e),
        }
    }

    fn set_level(&mut self, level: usize) {
        let level = level.min(self.layers.len().saturating_sub(1));
        if level == self.level {
            return;
        }
        let (open, selected) = (self.tree.open_paths(), self.tree.selected_path());
        let levels = Arc::clone(&self.levels);
        let made = TreePane::new(&levels, level, self.showing).and_then(|mut tree| {
            let open = if open.len() > KEEP_OPEN {
                &[]
            } else {
                &open[..]
            };
            tree.restore(&levels, open, selected.as_deref())?;
            Ok(tree)
        });
        match made {
            Ok(tree) => self.tree = tree,
            Err(e) => return self.trouble(e),
        }
        self.level = level;
        match self.facts.get(&level) {
            Some(facts) => self.tree.know(Arc::clone(facts)),
            None => self.requests.push(Request::Facts(level)),
        }
    }

    fn show(&mut self, showing: Showing) {
        self.showing = showing;
        self.tree.show(showing);
    }

    fn preview(&mut self) {
        let (Some(node), Some(path)) = (self.tree.selected(), self.tree.selected_path()) else {
            return;
        };
        let part = node.shown.part;
        if !part.object.is_file() {
            let what = kind_name(part.object.stat.kind);
            return self.say(format!("{what} has no contents to show"));
        }
        self.token += 1;
        let preview = Preview::new(path, part.object.stat.size, self.token);
        self.screen = Screen::Preview(preview);
        self.requests.push(Request::Preview(self.token, part));
    }

    fn query(&self, pattern: String) -> Query {
        Query {
            level: self.level,
            changes: self.showing.changes,
            pattern,
        }
    }

    fn start_search(&mut self, pattern: String, forward: bool) {
        let query = self.query(pattern);
        self.requests.push(Request::Search(query.clone()));
        self.search = Some(Search::new(query, forward));
    }

    fn found(&mut self, query: &Query, found: Result<crate::inspect::levels::Matches, String>) {
        let Some(search) = self.search.as_mut().filter(|s| s.query == *query) else {
            return;
        };
        match found {
            Ok(matches) => {
                let forward = search.take(matches);
                self.next_match(forward);
            }
            Err(why) => {
                self.search = None;
                self.trouble(why);
            }
        }
    }

    fn next_match(&mut self, forward: bool) {
        let Some(search) = &self.search else {
            return self.say("nothing was searched for: press /");
        };
        let pattern = search.query.pattern.clone();
        if search.query != self.query(pattern.clone()) {
            return self.start_search(pattern, forward);
        }
        let here = self.tree.selected_path().unwrap_or_default();
        match search.step(&here, forward) {
            None if search.is_running() => {}
            None => self.trouble(format!("no path has \"{}\" in it", pattern.escape_debug())),
            Some((place, path)) => {
                let said = search.place(place);
                self.go_to(&path);
                if self.message.is_none() {
                    self.say(said);
                }
            }
        }
    }

    /// Rows of the tree's panel.
    fn tree_page(&self) -> usize {
        let areas = areas(self.size, self.on_layers);
        areas.map_or(1, |a| usize::from(below_title(a.tree).height).max(1))
    }

    /// Layers that the layers' panel shows.
    fn layers_page(&self) -> usize {
        let areas = areas(self.size, self.on_layers);
        let height = areas.map_or(1, |a| usize::from(below_title(a.layers).height));
        (height / layer_height(height)).max(1)
    }

    /// Rows of a preview or list in place of the panels.
    fn body_page(&self) -> usize {
        let areas = areas(self.size, self.on_layers);
        areas.map_or(1, |a| usize::from(below_title(a.body).height).max(1))
    }

    /// Brings what follows from the rest up to date.
    fn settle(&mut self) {
        let page = self.tree_page();
        self.tree_top = scrolled(self.tree_top, self.tree.cursor, self.tree.len(), page);
        let page = self.layers_page();
        self.layers_top = scrolled(self.layers_top, self.level, self.layers.len(), page);
        // Its headings take two rows.
        let page = self.body_page().saturating_sub(2);
        let rows = self.waste_rows();
        let cursor = &mut self.waste_cursor;
        cursor.at = cursor.at.min(rows.saturating_sub(1));
        cursor.top = scrolled(cursor.top, cursor.at, rows, page);
        let path = self.tree.selected_path();
        let known = self.details.as_ref();
        if path.as_deref() == known.map(|d| &d.path[..])
            && known.is_some_and(|d| d.level == self.level)
        {
            return;
        }
        let selected = self.tree.selected().zip(path);
        let details =
            selected.map(|(node, path)| Details::of(&self.levels, self.level, &node.shown, path));
        match details.transpose() {
            Ok(details) => self.details = details,
            Err(e) => {
                self.details = None;
                self.trouble(e);
            }
        }
    }
}

/// Rows that a layer takes in a panel of so many.
pub fn layer_height(rows: usize) -> usize {
    if rows >= 8 { 2 } else { 1 }
}

/// What a type of file is called.
pub fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Regular => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::CharDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
    }
}
