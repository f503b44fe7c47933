//! [`TreePane`]: the directories of one level that have been looked into, and the rows that follow
//! from which of them are open. Nothing is read of a directory before it is opened.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::error::Result;
use crate::inspect::levels::{DirFacts, Facts, Kinds, Levels, Shown};
use crate::name::NameBuf;

/// How many rows are opened at once at most.
const OPEN_ALL: usize = 20_000;
/// The root directory.
const ROOT: usize = 0;

/// What is shown, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Showing {
    /// Only what the level did.
    pub changes: bool,
    /// Which kinds of that.
    pub kinds: Kinds,
    /// The largest first, not in the order of names.
    pub by_size: bool,
}

/// One entry of a directory that has been listed.
pub struct Node {
    parent: usize,
    /// How many directories are above it, but for the root.
    pub depth: usize,
    name: Option<NameBuf>,
    /// What it is.
    pub shown: Shown,
    /// Whether it is a directory that is open.
    pub open: bool,
    /// In the order in which they are shown; their numbers are a run, in the order of their names.
    children: Option<Vec<usize>>,
    first_child: usize,
    facts: Option<DirFacts>,
}

impl Node {
    /// Its name; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.name.as_ref().map_or(&[], |name| name.as_bytes())
    }

    /// Its bytes as the view has them; `None` while those of a directory are not known.
    pub fn bytes(&self, changes: bool) -> Option<u64> {
        if self.shown.dir.is_none() {
            return Some(crate::inspect::usage::bytes_of(&self.shown.part.object));
        }
        self.facts
            .map(|facts| match (changes, self.shown.letter()) {
                (_, Some('D')) => facts.removed,
                (true, _) => facts.written,
                (false, _) => facts.bytes,
            })
    }

    fn is_dir(&self) -> bool {
        self.shown.dir.is_some()
    }
}

/// The tree of one level.
pub struct TreePane {
    level: usize,
    nodes: Vec<Node>,
    rows: Vec<usize>,
    /// The selected row.
    pub cursor: usize,
    showing: Showing,
    facts: Option<Arc<Facts>>,
}

impl TreePane {
    /// The tree of a level, its root open.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn new(levels: &Levels, level: usize, showing: Showing) -> Result<Self> {
        let root = levels.root(level)?;
        let mut pane = Self {
            level,
            nodes: Vec::new(),
            rows: Vec::new(),
            cursor: 0,
            showing,
            facts: None,
        };
        if let Some(shown) = root {
            pane.nodes.push(Node {
                parent: ROOT,
                depth: 0,
                name: None,
                shown,
                open: true,
                children: None,
                first_child: 0,
                facts: None,
            });
            pane.read(levels, ROOT)?;
        }
        pane.arrange(None);
        Ok(pane)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The entry of a row.
    pub fn row(&self, row: usize) -> Option<&Node> {
        self.nodes.get(*self.rows.get(row)?)
    }

    /// The selected entry.
    pub fn selected(&self) -> Option<&Node> {
        self.row(self.cursor)
    }

    /// The root's facts, once they are known.
    pub fn total(&self) -> Option<DirFacts> {
        self.nodes.first().and_then(|root| root.facts)
    }

    /// The selected entry's path, with a leading slash.
    pub fn selected_path(&self) -> Option<Vec<u8>> {
        self.rows.get(self.cursor).map(|id| self.path(*id))
    }

    /// The path of an entry: empty for the root.
    fn path(&self, mut id: usize) -> Vec<u8> {
        let mut names = Vec::new();
        while id != ROOT
            && let Some(node) = self.nodes.get(id)
        {
            names.push(node.name());
            id = node.parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }

    /// Lists a directory, once.
    fn read(&mut self, levels: &Levels, id: usize) -> Result<()> {
        let Some(node) = self.nodes.get(id) else {
            return Ok(());
        };
        let (Some(dir), None) = (&node.shown.dir, &node.children) else {
            return Ok(());
        };
        let listed = levels.list(self.level, dir)?;
        let depth = if id == ROOT { 0 } else { node.depth + 1 };
        let path = self.path(id);
        let first = self.nodes.len();
        for (name, shown) in listed {
            let facts = self.facts_of(&path, &name, &shown);
            self.nodes.push(Node {
                parent: id,
                depth,
                name: Some(name),
                shown,
                open: false,
                children: None,
                first_child: 0,
                facts,
            });
        }
        let mut children: Vec<usize> = (first..self.nodes.len()).collect();
        self.sort(&mut children);
        if let Some(node) = self.nodes.get_mut(id) {
            node.children = Some(children);
            node.first_child = first;
        }
        Ok(())
    }

    fn facts_of(&self, dir: &[u8], name: &NameBuf, shown: &Shown) -> Option<DirFacts> {
        let facts = self.facts.as_ref().filter(|_| shown.dir.is_some())?;
        let path = [dir, b"/", name.as_bytes()].concat();
        facts.dirs.get(&path).copied()
    }

    fn sort(&self, children: &mut [usize]) {
        match self.showing.by_size {
            // They were made in the order of their names.
            false => children.sort_unstable(),
            true => children.sort_by_key(|id| {
                let node = self.nodes.get(*id);
                let bytes = node.and_then(|node| node.bytes(self.showing.changes));
                (Reverse(bytes.unwrap_or(0)), *id)
            }),
        }
    }

    fn is_visible(&self, node: &Node) -> bool {
        if !self.showing.changes {
            return true;
        }
        let kinds = self.showing.kinds;
        if Kinds::of(&node.shown).meet(kinds) {
            return true;
        }
        match &node.facts {
            Some(facts) => facts.kinds.meet(kinds),
            None => node.is_dir() && node.shown.touched && self.facts.is_none(),
        }
    }

    /// Makes the rows; `keep` stays selected, or the directory that it is in.
    fn arrange(&mut self, keep: Option<usize>) {
        self.rows.clear();
        let mut left = vec![ROOT];
        while let Some(id) = left.pop() {
            let Some(node) = self.nodes.get(id) else {
                break;
            };
            if id != ROOT {
                if !self.is_visible(node) {
                    continue;
                }
                self.rows.push(id);
            }
            if let (true, Some(children)) = (node.open, &node.children) {
                left.extend(children.iter().rev());
            }
        }
        if let Some(id) = keep {
            self.select(id);
        }
        self.cursor = self.cursor.min(self.rows.len().saturating_sub(1));
    }

    fn select(&mut self, mut id: usize) {
        while id != ROOT {
            if let Some(row) = self.rows.iter().position(|shown| *shown == id) {
                self.cursor = row;
                return;
            }
            id = self.nodes.get(id).map_or(ROOT, |node| node.parent);
        }
    }

    fn kept(&self) -> Option<usize> {
        self.rows.get(self.cursor).copied()
    }

    /// Shows other things, or in another order.
    pub fn show(&mut self, showing: Showing) {
        let resort =
            (showing.by_size, showing.changes) != (self.showing.by_size, self.showing.changes);
        self.showing = showing;
        if resort {
            self.sort_all();
        }
        self.arrange(self.kept());
    }

    fn sort_all(&mut self) {
        for id in 0..self.nodes.len() {
            let taken = self.nodes.get_mut(id).and_then(|node| node.children.take());
            if let Some(mut children) = taken {
                self.sort(&mut children);
                if let Some(node) = self.nodes.get_mut(id) {
                    node.children = Some(children);
                }
            }
        }
    }

    /// Takes the facts of its level.
    pub fn know(&mut self, facts: Arc<Facts>) {
        self.facts = Some(facts);
        let dirs = (0..self.nodes.len()).filter(|id| self.nodes.get(*id).is_some_and(Node::is_dir));
        for id in dirs.collect::<Vec<_>>() {
            let path = self.path(id);
            let known = self.facts.as_ref().and_then(|f| f.dirs.get(&path).copied());
            if let Some(node) = self.nodes.get_mut(id) {
                node.facts = known;
            }
        }
        if self.showing.by_size {
            self.sort_all();
        }
        self.arrange(self.kept());
    }

    /// Opens the selected directory, or closes it; whether it is one.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn toggle(&mut self, levels: &Levels) -> Result<bool> {
        match self.selected() {
            Some(node) if node.is_dir() => self.set_open(levels, !node.open).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Opens the selected directory.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn open(&mut self, levels: &Levels) -> Result<()> {
        match self.selected() {
            Some(node) if node.is_dir() => self.set_open(levels, true),
            _ => Ok(()),
        }
    }

    fn set_open(&mut self, levels: &Levels, open: bool) -> Result<()> {
        let Some(id) = self.kept() else {
            return Ok(());
        };
        self.read(levels, id)?;
        if let Some(node) = self.nodes.get_mut(id) {
            node.open = open;
        }
        self.arrange(Some(id));
        Ok(())
    }

    /// Closes the selected directory; on anything else, goes to the directory that it is in.
    pub fn close(&mut self) {
        let Some(id) = self.kept() else {
            return;
        };
        match self.nodes.get_mut(id) {
            Some(node) if node.open => node.open = false,
            Some(node) => {
                let parent = node.parent;
                self.select(parent);
                return;
            }
            None => return,
        }
        self.arrange(Some(id));
    }

    /// Closes all directories.
    pub fn close_all(&mut self) {
        let keep = self.kept();
        for node in self.nodes.iter_mut().skip(1) {
            node.open = false;
        }
        self.arrange(keep);
    }

    /// Opens the selected directory and all below it, as long as the rows are not too many; whether
    /// that was all.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn open_all(&mut self, levels: &Levels) -> Result<bool> {
        let Some(id) = self.kept() else {
            return Ok(true);
        };
        let mut left = vec![id];
        let mut opened = 0;
        while let Some(id) = left.pop() {
            if !self.nodes.get(id).is_some_and(Node::is_dir) {
                continue;
            }
            if opened > OPEN_ALL {
                self.arrange(self.kept());
                return Ok(false);
            }
            self.read(levels, id)?;
            if let Some(node) = self.nodes.get_mut(id) {
                node.open = true;
                let children = node.children.as_deref().unwrap_or_default();
                opened += children.len();
                left.extend(children.iter().rev());
            }
        }
        self.arrange(Some(id));
        Ok(true)
    }

    /// Opens what is above a path and selects it, or the last directory on the way that is there;
    /// whether it is there.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn reveal(&mut self, levels: &Levels, path: &[u8]) -> Result<bool> {
        let found = self.descend(levels, path, true)?;
        self.arrange(found.last);
        Ok(found.all && self.kept() == found.last)
    }

    /// Opens the directories at these paths, as far as they are there, and selects one.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn restore(
        &mut self,
        levels: &Levels,
        open: &[Vec<u8>],
        selected: Option<&[u8]>,
    ) -> Result<()> {
        for path in open {
            let found = self.descend(levels, path, false)?;
            let (true, Some(id)) = (found.all, found.last) else {
                continue;
            };
            self.read(levels, id)?;
            if let Some(node) = self.nodes.get_mut(id) {
                node.open = node.is_dir();
            }
        }
        let found = self.descend(levels, selected.unwrap_or_default(), false)?;
        self.arrange(found.last);
        Ok(())
    }

    fn descend(&mut self, levels: &Levels, path: &[u8], open: bool) -> Result<Found> {
        let mut found = Found {
            last: None,
            all: true,
        };
        let mut here = ROOT;
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            self.read(levels, here)?;
            let Some(next) = self.child(here, name) else {
                found.all = false;
                break;
            };
            if let Some(node) = self.nodes.get_mut(here).filter(|_| open) {
                node.open = true;
            }
            here = next;
            found.last = Some(next);
        }
        Ok(found)
    }

    /// The entry of a listed directory that has a name.
    fn child(&self, dir: usize, name: &[u8]) -> Option<usize> {
        let dir = self.nodes.get(dir)?;
        let count = dir.children.as_ref()?.len();
        let children = self.nodes.get(dir.first_child..dir.first_child + count)?;
        let found = children
            .binary_search_by(|node| node.name().cmp(name))
            .ok()?;
        Some(dir.first_child + found)
    }

    /// The paths of the open directories, parents first.
    pub fn open_paths(&self) -> Vec<Vec<u8>> {
        let open = (1..self.nodes.len()).filter(|id| self.nodes.get(*id).is_some_and(|n| n.open));
        open.map(|id| self.path(id)).collect()
    }
}

struct Found {
    last: Option<usize>,
    all: bool,
}
