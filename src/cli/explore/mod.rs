//! `strata explore`
//!
//! ```text
//!   terminal ── events ──> model ── requests ──> work (threads)
//!      ^                    │  ^                    │
//!      └────── view <───────┘  └────── replies ─────┘
//! ```
//!
//! Before there is a model, [`opening`] shows what is known of an archive that is being read.
//!
//! The model is plain state: it does no I/O but asks [`crate::inspect::Levels`] for the directories
//! that are opened. The view draws it.

mod details;
mod keys;
mod layout;
mod model;
mod opening;
mod preview;
mod search;
mod style;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod view;
mod work;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::Event;
use ratatui::layout::Size;

use super::Context;
use super::look;
use crate::error::{Context as _, Failure};
use crate::inspect::{Image, Levels, Span, Target};
use crate::store::Store;
use crate::sys::process::{block_ending_signals, wait_for_end};

use model::{Model, Start};
use opening::{News, Opening, Told, is_end};
use style::Look;
pub use terminal::keep_for_later;

use terminal::Screen;
use work::{OnPanic, Reply, Subject, Workers};

/// Look into an image in the terminal: its layers, what each changed, what it wastes, its files.
#[derive(Debug, clap::Args)]
#[command(
    after_help = format!(
        "Keys: ? shows them, q quits. Colours are not used when NO_COLOR is set.\n\n{}\n\n\
         Examples:\n  strata explore nginx\n  strata explore nginx:/etc\n  \
         strata explore docker-archive:image.tar@3",
        look::NAMES_HELP
    )
)]
pub struct Args {
    /// What to look into.
    #[arg(value_name = "IMAGE[:PATH]")]
    image: OsString,
}

/// What wakes the main loop.
enum Wake {
    Terminal(Event),
    /// How far opening the image is.
    Opening(News),
    /// The image is open, or can't be opened.
    Opened(Box<Result<Opened, Failure>>),
    Reply(Reply),
    /// A signal that ends the process.
    Signal(i32),
    /// Something that can't be gone on without failed.
    Gone(String),
}

/// What is looked at, and where to begin.
struct Opened {
    subject: Subject,
    start: Start,
}

/// What is known at once needs no screen for the time until then.
const AT_ONCE: Duration = Duration::from_millis(150);

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        terminal::check()?;
        let target = Target::parse(&self.image)?;
        let (tell, wakes) = channel();
        // Before the threads are started, which are not to take the signals either.
        block_ending_signals().context(|| "explore: signals")?;
        let mut opening = Opening::new(&target.name);
        open(context.store.clone(), target, &tell).context(|| "explore: start a thread")?;
        let mut opened = soon(&mut opening, &wakes)?;
        let mut screen = Screen::open()?;
        listen(&tell).context(|| "explore: start a thread")?;
        let look = Look::of(|name| std::env::var_os(name));
        while opened.is_none() {
            let drawn = screen.terminal().draw(|frame| {
                view::opening(&opening, look, frame.buffer_mut());
            });
            drawn.context(|| "explore: the terminal")?;
            let Ok(first) = wakes.recv() else {
                return Ok(ExitCode::SUCCESS);
            };
            for wake in std::iter::once(first).chain(wakes.try_iter()) {
                match wake {
                    Wake::Terminal(event) if is_end(&event) => return Ok(ExitCode::SUCCESS),
                    Wake::Signal(signal) => return Ok(status_of(signal)),
                    other => opened = opening.wake(other)?.or(opened),
                }
            }
        }
        let Some(Opened { subject, start }) = opened else {
            return Ok(ExitCode::SUCCESS);
        };
        let subject = Arc::new(subject);
        let size = ratatui::crossterm::terminal::size().context(|| "explore: the terminal")?;
        let mut model = Model::new(&subject, &start, Size::from(size))?;
        let workers = workers(&subject, &tell).context(|| "explore: start a thread")?;
        show(&mut screen, &mut model, look, &workers, &wakes)
    }
}

impl Opening {
    /// Takes what comes while the image is opened.
    fn wake(&mut self, wake: Wake) -> Result<Option<Opened>, Failure> {
        match wake {
            Wake::Opening(news) => self.news(news),
            Wake::Opened(opened) => return (*opened).map(Some),
            Wake::Gone(why) => return Err(Failure::system(format!("explore: {why}"))),
            Wake::Terminal(_) | Wake::Reply(_) | Wake::Signal(_) => {}
        }
        Ok(None)
    }
}

/// Opens the image in a thread of its own.
fn open(store: Store, target: Target, tell: &Sender<Wake>) -> std::io::Result<()> {
    let (tell, died) = (tell.clone(), tell.clone());
    let thread = std::thread::Builder::new().name("open".to_owned());
    thread.spawn(move || {
        let _guard = OnPanic(move || drop(died.send(Wake::Gone("a thread has failed".to_owned()))));
        // Nobody listens any more only when the session has ended.
        let news = |news| drop(tell.send(Wake::Opening(news)));
        let opened = Image::open_watched(&store, &target, &Told::new(&news), &|found| {
            news(News::Found(found));
        });
        let opened = opened.and_then(|image| {
            let levels = Arc::new(Levels::of(&image)?);
            let start = start(&target, &image, &levels);
            let subject = Subject { image, levels };
            Ok(Opened { subject, start })
        });
        drop(tell.send(Wake::Opened(Box::new(opened))));
    })?;
    Ok(())
}

/// Waits a moment for the image: what is in the store, or was looked at before, is open by then.
fn soon(opening: &mut Opening, wakes: &Receiver<Wake>) -> Result<Option<Opened>, Failure> {
    let end = Instant::now() + AT_ONCE;
    loop {
        match wakes.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(wake) => match opening.wake(wake)? {
                None => {}
                opened => return Ok(opened),
            },
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}

/// The exit status of what a signal has ended.
fn status_of(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
}

/// What the argument says of where to begin.
fn start(target: &Target, image: &Image, levels: &Levels) -> Start {
    let top = levels.len().saturating_sub(1);
    let (level, changes) = match (target.span, image.layers.len()) {
        (Span::All, _) => (top, false),
        (Span::Layer(number), _) => (number.saturating_sub(1), true),
        (Span::UpTo(number), _) => (number.saturating_sub(1), false),
    };
    Start {
        level,
        changes,
        path: target.path.clone(),
    }
}

/// Shows the model until the user, or a signal, ends it.
fn show(
    screen: &mut Screen,
    model: &mut Model,
    look: Look,
    workers: &Workers,
    wakes: &Receiver<Wake>,
) -> Result<ExitCode, Failure> {
    while !model.done {
        for request in model.take_requests() {
            workers.ask(request);
        }
        let drawn = screen.terminal().draw(|frame| {
            view::draw(model, look, frame.buffer_mut());
        });
        drawn.context(|| "explore: the terminal")?;
        // All that has come meanwhile is shown at once.
        let Ok(first) = wakes.recv() else {
            break;
        };
        for wake in std::iter::once(first).chain(wakes.try_iter()) {
            match wake {
                Wake::Terminal(event) => model.event(&event),
                Wake::Reply(reply) => model.reply(reply),
                Wake::Opening(_) | Wake::Opened(_) => {}
                Wake::Signal(signal) => return Ok(status_of(signal)),
                Wake::Gone(why) => return Err(Failure::system(format!("explore: {why}"))),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn workers(subject: &Arc<Subject>, tell: &Sender<Wake>) -> std::io::Result<Workers> {
    let (reply, died) = (tell.clone(), tell.clone());
    // Nobody listens any more only when the session has ended.
    Workers::start(
        subject,
        move |answer| drop(reply.send(Wake::Reply(answer))),
        move || drop(died.send(Wake::Gone("a thread has failed".to_owned()))),
    )
}

/// Listens to the terminal and to signals.
fn listen(tell: &Sender<Wake>) -> std::io::Result<()> {
    let keys = tell.clone();
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    thread("keys").spawn(move || {
        loop {
            let wake = match ratatui::crossterm::event::read() {
                Ok(event) => Wake::Terminal(event),
                Err(e) => Wake::Gone(format!("the terminal: {e}")),
            };
            let last = matches!(wake, Wake::Gone(_));
            if keys.send(wake).is_err() || last {
                return;
            }
        }
    })?;
    let signals = tell.clone();
    thread("signals").spawn(move || {
        let wake = match wait_for_end() {
            Ok(signal) => Wake::Signal(signal),
            Err(e) => Wake::Gone(format!("signals: {e}")),
        };
        drop(signals.send(wake));
    })?;
    Ok(())
}
