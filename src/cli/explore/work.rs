//! What takes longer than a keystroke: sums, searches, contents. Requests are plain values, each kind
//! has a thread of its own, and of one kind the newest counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::preview::LIMIT;
use crate::error::Failure;
use crate::inspect::levels::{Facts, Levels, Matches, Tally};
use crate::inspect::waste::{Waste, waste};
use crate::inspect::{Image, Part, Span};

/// How many matches a search gives at most.
const MATCHES: usize = 10_000;

/// A question.
#[derive(Debug, Clone)]
pub enum Request {
    /// What each level does, and then what the image wastes.
    Sums,
    /// How much is in the directories of a level.
    Facts(usize),
    /// Paths with a text in them.
    Search(Query),
    /// The beginning of a file.
    Preview(u64, Part),
}

/// What is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// In which level.
    pub level: usize,
    /// Only in what it did.
    pub changes: bool,
    /// The text; without capital letters, case doesn't count.
    pub pattern: String,
}

/// An answer.
pub enum Reply {
    /// What a level does.
    Tally(usize, Result<Tally, String>),
    /// What the image wastes.
    Waste(Result<Waste, String>),
    /// How much is in the directories of a level.
    Facts(usize, Result<Facts, String>),
    /// Where the text is.
    Search(Query, Result<Matches, String>),
    /// The beginning of a file.
    Preview(u64, Result<Vec<u8>, String>),
}

/// What the questions are asked about.
pub struct Subject {
    /// The image.
    pub image: Image,
    /// The same, level by level.
    pub levels: Arc<Levels>,
}

impl Subject {
    /// Answers a request. `go_on` says no when nobody waits for the answer any more.
    pub fn answer(&self, request: &Request, go_on: &dyn Fn() -> bool, tell: &mut dyn FnMut(Reply)) {
        match request {
            Request::Sums => {
                for level in (0..self.levels.len()).rev() {
                    tell(Reply::Tally(level, text(self.levels.tally(level))));
                }
                tell(Reply::Waste(text(self.waste())));
            }
            Request::Facts(level) => match text(self.levels.facts(*level, go_on)) {
                Ok(None) => {}
                Ok(Some(facts)) => tell(Reply::Facts(*level, Ok(facts))),
                Err(why) => tell(Reply::Facts(*level, Err(why))),
            },
            Request::Search(query) => {
                let found = text(self.search(query, go_on));
                if go_on() {
                    tell(Reply::Search(query.clone(), found));
                }
            }
            Request::Preview(token, part) => {
                tell(Reply::Preview(*token, text(self.beginning(part))));
            }
        }
    }

    fn search(&self, query: &Query, go_on: &dyn Fn() -> bool) -> Result<Matches, Failure> {
        let any_case = !query.pattern.bytes().any(|b| b.is_ascii_uppercase());
        let pattern = query.pattern.as_bytes();
        let wanted = |path: &[u8]| contains(path, pattern, any_case);
        let levels = &self.levels;
        levels.search(query.level, query.changes, MATCHES, &wanted, go_on)
    }

    fn beginning(&self, part: &Part) -> Result<Vec<u8>, Failure> {
        let contents = self.levels.open(part)?;
        let size = usize::try_from(part.object.stat.size).unwrap_or(LIMIT);
        let mut bytes = vec![0; size.min(LIMIT)];
        let mut filled = 0;
        while let Some(space) = bytes.get_mut(filled..).filter(|space| !space.is_empty()) {
            match contents.read_at(space, filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn waste(&self) -> Result<Waste, Failure> {
        let image = &self.image;
        let layers: Vec<_> = (0..image.layers.len())
            .filter_map(|level| self.levels.tree(level)?.index())
            .collect();
        let all = image.tree_of(Span::UpTo(image.layers.len()))?;
        let Some(chain) = all.index() else {
            return Ok(Waste::default());
        };
        waste(&layers, chain, |id| {
            let layer = image.layers.iter().find(|layer| layer.info.diff_id == *id);
            layer.map(|layer| layer.info.content_size)
        })
    }
}

fn text<T>(result: Result<T, Failure>) -> Result<T, String> {
    result.map_err(|failure| failure.to_string())
}

/// Whether a path has a text in it; the text has no capital letters when case doesn't count.
fn contains(path: &[u8], text: &[u8], any_case: bool) -> bool {
    let mut places = path.windows(text.len().max(1));
    text.is_empty()
        || places.any(|part| match any_case {
            true => part.eq_ignore_ascii_case(text),
            false => part == text,
        })
}

/// The threads that answer.
pub struct Workers {
    lanes: [Lane; 4],
}

struct Lane {
    newest: Arc<AtomicU64>,
    queue: Sender<(u64, Request)>,
}

impl Workers {
    /// Starts them. `tell` is called from each; `died` when one of them ends by a panic.
    pub fn start<T, D>(subject: &Arc<Subject>, tell: T, died: D) -> std::io::Result<Self>
    where
        T: Fn(Reply) + Clone + Send + 'static,
        D: Fn() + Clone + Send + 'static,
    {
        let lane = |name: &str| -> std::io::Result<Lane> {
            let (queue, requests) = channel();
            let newest = Arc::new(AtomicU64::new(0));
            let (subject, count) = (Arc::clone(subject), Arc::clone(&newest));
            let (tell, died) = (tell.clone(), died.clone());
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    let _guard = OnPanic(died);
                    work(&subject, &requests, &count, &tell);
                })?;
            Ok(Lane { newest, queue })
        };
        Ok(Self {
            lanes: [
                lane("sums")?,
                lane("facts")?,
                lane("search")?,
                lane("preview")?,
            ],
        })
    }

    /// Asks; what was asked of the same kind before is given up.
    pub fn ask(&self, request: Request) {
        let [sums, facts, search, preview] = &self.lanes;
        let lane = match &request {
            Request::Sums => sums,
            Request::Facts(_) => facts,
            Request::Search(_) => search,
            Request::Preview(..) => preview,
        };
        let number = lane.newest.fetch_add(1, Ordering::Relaxed) + 1;
        // The thread is gone only after a panic, of which `died` tells.
        drop(lane.queue.send((number, request)));
    }
}

fn work(
    subject: &Subject,
    requests: &Receiver<(u64, Request)>,
    newest: &AtomicU64,
    tell: &dyn Fn(Reply),
) {
    for (number, request) in requests {
        let go_on = || newest.load(Ordering::Relaxed) == number;
        if go_on() {
            subject.answer(&request, &go_on, &mut |reply| tell(reply));
        }
    }
}

/// Calls a function when its thread ends by a panic.
pub struct OnPanic<F: Fn()>(pub F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_counts_when_it_is_said() {
        assert!(contains(b"/etc/Hosts", b"hosts", true));
        assert!(!contains(b"/etc/hosts", b"Hosts", false));
        assert!(contains(b"/\xff/b", b"/b", true));
        assert!(contains(b"", b"", true));
        assert!(!contains(b"/a", b"longer", true));
    }
}
