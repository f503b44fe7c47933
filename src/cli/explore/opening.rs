//! [`Opening`]: an image that is not open yet. An archive that was never looked at is read for that,
//! and meanwhile there is to be seen what is in it and how far the reading is.

use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};

use super::details::{instructions, shown_instruction};
use crate::archive::Progress;
use crate::inspect::source::Found;
use crate::sync::Mutex;

/// So many bytes are read between two reports.
const STEP: u64 = 4 << 20;

/// Something new of an image that is being opened.
pub enum News {
    /// A piece of work has begun: its name, and its length in bytes where that is known.
    Begun(String, Option<u64>),
    /// So many more bytes are done.
    Done(u64),
    /// The piece of work that began last has ended.
    Ended,
    /// Something is known of the archive.
    Found(Found),
}

/// A layer of an archive.
pub struct Row {
    /// The instruction that made it.
    pub instruction: String,
    /// Bytes that it takes in the archive, if it is there; of its files, once it is indexed.
    pub bytes: Option<u64>,
    /// Whether it has been read.
    pub indexed: bool,
}

/// A piece of work.
pub struct Work {
    /// Its name.
    pub name: String,
    /// Bytes that are done.
    pub done: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
}

/// What is known so far.
pub struct Opening {
    /// The image, as it was named.
    pub name: String,
    /// Its layers, bottom first.
    pub layers: Vec<Row>,
    /// What is being done, the newest last.
    pub work: Vec<Work>,
}

impl Opening {
    /// Nothing is known of an image of this name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            layers: Vec::new(),
            work: Vec::new(),
        }
    }

    /// Takes what is new.
    pub fn news(&mut self, news: News) {
        match news {
            News::Begun(name, total) => {
                let done = 0;
                self.work.push(Work { name, done, total });
            }
            News::Done(bytes) => {
                if let Some(work) = self.work.last_mut() {
                    work.done += bytes;
                }
            }
            News::Ended => drop(self.work.pop()),
            News::Found(Found::Image { config, sizes }) => {
                let mut known = instructions(&config).into_iter();
                let row = |bytes| Row {
                    instruction: shown_instruction(known.next()),
                    bytes,
                    indexed: false,
                };
                self.layers = sizes.into_iter().map(row).collect();
            }
            News::Found(Found::Layer(info)) => {
                if let Some(row) = self.layers.iter_mut().find(|row| !row.indexed) {
                    row.indexed = true;
                    row.bytes = Some(info.content_size);
                }
            }
        }
    }
}

/// Whether the user has seen enough.
pub fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else {
        return false;
    };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
            KeyCode::Char('c') => control,
            _ => false,
        }
}

/// Progress as news.
pub struct Told<'n> {
    tell: &'n (dyn Fn(News) + Sync),
    untold: Mutex<u64>,
}

impl<'n> Told<'n> {
    /// Progress that is told to `tell`, in steps that can be seen.
    pub fn new(tell: &'n (dyn Fn(News) + Sync)) -> Self {
        let untold = Mutex::new(0);
        Self { tell, untold }
    }
}

impl Progress for Told<'_> {
    fn begin(&self, what: &str, total: Option<u64>) {
        *self.untold.lock() = 0;
        (self.tell)(News::Begun(what.to_owned(), total));
    }

    fn advance(&self, n: u64) {
        let mut untold = self.untold.lock();
        *untold += n;
        if *untold >= STEP {
            (self.tell)(News::Done(std::mem::take(&mut *untold)));
        }
    }

    fn end(&self) {
        (self.tell)(News::Ended);
    }
}
