use std::path::Path;
use std::sync::Arc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;
use ratatui::style::Color;

use super::model::{Model, Screen, Start};
use super::opening::{News, Opening};
use super::style::Look;
use super::work::{Reply, Request, Subject};
use super::{start, view};
use crate::image::{DiffId, Digest};
use crate::inspect::levels::sample::{LayerTar, Sample, eventful};
use crate::inspect::source::Found;
use crate::inspect::{Levels, Target};
use crate::store::layers::LayerInfo;

const PLAIN: Look = Look {
    colour: false,
    unicode: true,
};
const ASCII: Look = Look {
    colour: false,
    unicode: false,
};
const COLOURS: Look = Look {
    colour: true,
    unicode: true,
};

/// A session without a terminal and without threads.
struct Session {
    subject: Subject,
    model: Model,
    _sample: Arc<Sample>,
}

impl Session {
    fn new(sample: &Arc<Sample>, end: &str, width: u16, height: u16) -> Self {
        let mut image = sample.open(end);
        let target = Target::parse(format!("x{end}").as_ref()).unwrap();
        // Where the archive is differs from run to run.
        image.name = "sample:1".to_owned();
        Self::of(sample, image, &target, width, height)
    }

    fn of(
        sample: &Arc<Sample>,
        image: crate::inspect::Image,
        target: &Target,
        width: u16,
        height: u16,
    ) -> Self {
        let levels = Arc::new(Levels::of(&image).unwrap());
        let start: Start = start(target, &image, &levels);
        let subject = Subject { image, levels };
        let model = Model::new(&subject, &start, Size { width, height }).unwrap();
        let mut session = Self {
            subject,
            model,
            _sample: Arc::clone(sample),
        };
        session.answer();
        session
    }

    /// Answers all that is asked.
    fn answer(&mut self) {
        loop {
            let requests = self.model.take_requests();
            if requests.is_empty() {
                return;
            }
            let replies = requests.iter().map(|request| self.answers(request));
            for reply in replies.collect::<Vec<_>>().into_iter().flatten() {
                self.model.reply(reply);
            }
        }
    }

    fn answers(&self, request: &Request) -> Vec<Reply> {
        let mut replies = Vec::new();
        self.subject
            .answer(request, &|| true, &mut |reply| replies.push(reply));
        replies
    }

    fn press(&mut self, code: KeyCode) {
        self.model
            .event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
        self.answer();
    }

    /// Presses a key for each character; a newline is Enter, `<` and `>` are the arrows.
    fn keys(&mut self, keys: &str) -> &mut Self {
        for key in keys.chars() {
            self.press(match key {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\x1b' => KeyCode::Esc,
                '<' => KeyCode::Left,
                '>' => KeyCode::Right,
                c => KeyCode::Char(c),
            });
        }
        self
    }

    fn screen(&self, look: Look) -> Terminal<TestBackend> {
        let size = self.model.size;
        let mut terminal = Terminal::new(TestBackend::new(size.width, size.height)).unwrap();
        terminal
            .draw(|frame| view::draw(&self.model, look, frame.buffer_mut()))
            .unwrap();
        terminal
    }

    /// The screen as text.
    fn text(&self, look: Look) -> String {
        let terminal = self.screen(look);
        let buffer = terminal.backend().buffer();
        let mut text = String::new();
        for y in 0..buffer.area.height {
            let mut line = String::new();
            let mut x = 0;
            while x < buffer.area.width {
                let symbol = buffer[(x, y)].symbol();
                line.push_str(symbol);
                x += u16::try_from(super::text::width(symbol).max(1)).unwrap();
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Compares the screen with the one that is kept; `STRATA_KEEP_SCREENS` keeps this one instead.
    fn is_as_kept(&self, name: &str, look: Look) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/explore/screens");
        let path = dir.join(format!("{name}.txt"));
        let now = self.text(look);
        if std::env::var_os("STRATA_KEEP_SCREENS").is_some() {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&path, &now).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(now == kept, "{name}\n--- kept\n{kept}--- now\n{now}");
    }
}

fn odd_names() -> Arc<Sample> {
    let long = format!("{}.txt", "long-name-".repeat(24));
    let first = LayerTar::new()
        .file(b"\x1b[31mred\x1b[0m", "escape")
        .file(b"not-utf-8-\xff\xfe", "bytes")
        .file("two\nlines", "newline")
        .file("日本語のファイル名はとても長いことがあります.txt", "wide")
        .file("cafe\u{301}-e\u{301}\u{301}\u{301}", "combining")
        .file("txt.\u{202e}exe", "turns round")
        .file("👩\u{200d}👩\u{200d}👧 family", "joined")
        .file(&long, "long")
        .symlink("to", b"\x1b]0;title\x07")
        .file("text", "one\n\ttwo\x1b[2Jthree\n日本語\nlast \u{7}")
        .file("data", (0..=255).collect::<Vec<u8>>());
    let deep = "d/".repeat(60);
    let second = LayerTar::new().file(format!("{deep}leaf"), "leaf");
    Arc::new(Sample::new(vec![
        ("COPY \x1b[31mred / # with\ttabs", first),
        ("RUN true", second),
    ]))
}

#[test]
fn the_panels_at_usual_sizes() {
    let sample = Arc::new(eventful());
    Session::new(&sample, "", 80, 24).is_as_kept("tree-80x24", PLAIN);
    Session::new(&sample, "@2", 120, 40)
        .keys("*j")
        .is_as_kept("changes-120x40", PLAIN);
    Session::new(&sample, "", 40, 10).is_as_kept("tree-40x10", PLAIN);
    Session::new(&sample, "", 40, 10)
        .keys("\t")
        .is_as_kept("layers-40x10", PLAIN);
    Session::new(&sample, "@..2", 80, 24)
        .keys("\t")
        .is_as_kept("layers-80x24", PLAIN);
    Session::new(&sample, "@..2", 80, 24)
        .keys("*")
        .is_as_kept("ascii-80x24", ASCII);
}

#[test]
fn what_takes_the_place_of_the_panels() {
    let sample = Arc::new(eventful());
    Session::new(&sample, "", 80, 24)
        .keys("w")
        .is_as_kept("waste-80x24", PLAIN);
    Session::new(&sample, "", 80, 24)
        .keys("?")
        .is_as_kept("help-80x24", PLAIN);
    Session::new(&sample, "", 40, 10)
        .keys("?jj")
        .is_as_kept("help-40x10", PLAIN);
    let odd = odd_names();
    Session::new(&odd, ":/text", 80, 24)
        .keys("p")
        .is_as_kept("text-80x24", PLAIN);
    Session::new(&odd, ":/data", 80, 24)
        .keys("p")
        .is_as_kept("bytes-80x24", PLAIN);
}

#[test]
fn names_do_nothing_to_the_screen() {
    let odd = odd_names();
    Session::new(&odd, "", 80, 24).is_as_kept("odd-names-80x24", PLAIN);
    Session::new(&odd, "", 120, 40)
        .keys("\t[")
        .is_as_kept("odd-names-120x40", PLAIN);
    let mut deep = Session::new(&odd, "@2", 40, 10);
    deep.keys("*G").is_as_kept("deep-40x10", PLAIN);
    for (width, height) in [(80, 24), (40, 10), (200, 50)] {
        let mut session = Session::new(&odd, "", width, height);
        for key in ["", "\t[", "\t*", "p", "x", "\x1b?"] {
            let text = session.keys(key).text(COLOURS);
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
            assert!(!text.contains('\u{202e}'));
        }
    }
}

#[test]
fn colours_are_not_needed() {
    let sample = Arc::new(eventful());
    let mut session = Session::new(&sample, "@2", 80, 24);
    session.keys("*");
    let painted = |look| {
        let terminal = session.screen(look);
        let buffer = terminal.backend().buffer();
        let cells = buffer.content().iter();
        cells
            .filter(|c| (c.fg, c.bg) != (Color::Reset, Color::Reset))
            .count()
    };
    assert_eq!(painted(PLAIN), 0);
    assert!(painted(COLOURS) > 0);
    assert_eq!(session.text(PLAIN), session.text(COLOURS));
}

#[test]
fn directories_open_and_close() {
    let sample = Arc::new(eventful());
    let mut session = Session::new(&sample, "@..2", 80, 24);
    let selected = |s: &Session| s.model.tree.selected_path().unwrap_or_default();
    assert_eq!(selected(&session), b"/etc");
    let closed = session.model.tree.len();
    session.keys("\n");
    assert_eq!(session.model.tree.len(), closed + 4);
    session.keys("jj<");
    assert_eq!(selected(&session), b"/etc");
    session.keys("<");
    assert_eq!(session.model.tree.len(), closed);
    // What is open and selected stays so in another layer.
    session.keys(">jj");
    assert_eq!(selected(&session), b"/etc/motd");
    session.keys("[");
    assert_eq!(
        (session.model.level, selected(&session)),
        (0, b"/etc/motd".to_vec())
    );
    session.keys("-");
    assert_eq!(selected(&session), b"/etc");
}

#[test]
fn changes_are_filtered_and_sorted() {
    let sample = Arc::new(eventful());
    let mut session = Session::new(&sample, "@2", 100, 40);
    let rows = |s: &Session| -> Vec<String> {
        let nodes = (0..s.model.tree.len()).filter_map(|at| s.model.tree.row(at));
        nodes
            .map(|node| node.name().escape_ascii().to_string())
            .collect()
    };
    let open = |s: &mut Session| {
        for path in ["usr", "usr/share", "var", "var/cache", "etc", "thing"] {
            let levels = Arc::clone(&s.subject.levels);
            s.model
                .tree
                .reveal(&levels, format!("/{path}/x").as_bytes())
                .unwrap();
            s.model.tree.open(&levels).unwrap();
        }
    };
    open(&mut session);
    // Only what was removed: added and changed are switched off.
    session.keys("ac");
    assert_eq!(
        rows(&session),
        ["usr", "share", "doc", "var", "cache", "one"]
    );
    session.keys("d");
    assert!(
        rows(&session).len() > 10,
        "the last kind that is shown stays"
    );
    session.keys("cd");
    assert!(rows(&session).contains(&"three".to_owned()));
    assert!(!rows(&session).contains(&"moded".to_owned()));
    session.keys("cd").keys("v").keys("-s");
    // A file with two names counts for the first one.
    assert_eq!(rows(&session)[0], "hard", "the largest first");
    session.keys("s");
    assert_eq!(rows(&session)[0], "etc");
}

#[test]
fn searches_go_round_and_into_closed_directories() {
    let sample = Arc::new(eventful());
    let mut session = Session::new(&sample, "@..2", 80, 24);
    let selected = |s: &Session| s.model.tree.selected_path().unwrap_or_default();
    session.keys("/TWO\n");
    let said = session.model.message.as_ref().unwrap();
    assert!(said.trouble && said.text.contains("TWO"), "{}", said.text);
    session.keys("/mo\n");
    assert_eq!(selected(&session), b"/etc/moded");
    session.keys("n");
    assert_eq!(selected(&session), b"/etc/motd");
    assert_eq!(
        session.model.message.as_ref().unwrap().text,
        "match 2 of 2 for \"mo\""
    );
    session.keys("n");
    assert_eq!(selected(&session), b"/etc/moded");
    session.keys("N");
    assert_eq!(selected(&session), b"/etc/motd");
    // In another layer it is searched again.
    session.keys("/big\n");
    assert_eq!(selected(&session), b"/usr/big");
    session.keys("]n");
    assert_eq!(selected(&session), b"/usr/big", "shown as removed");
    session.keys("/abc\x1b");
    assert!(session.model.prompt.is_none() && !session.model.done);
}

#[test]
fn files_are_previewed_wherever_they_are() {
    let sample = Arc::new(eventful());
    let mut session = Session::new(&sample, "@3:/usr/big", 80, 24);
    assert_eq!(session.subject.image.blob_opens(), 0);
    session.keys("p");
    assert_eq!(session.subject.image.blob_opens(), 1);
    let Screen::Preview(preview) = &session.model.screen else {
        panic!("no preview");
    };
    assert_eq!(
        (preview.size, preview.hex, preview.len()),
        (20_000, false, 1)
    );
    assert!(preview.line(0, 80, true).starts_with("xxxx"));
    session.keys("x");
    assert!(session.text(PLAIN).contains("00000010  78 78"));
    session.keys("q");
    assert!(matches!(session.model.screen, Screen::Panels) && !session.model.done);
    let mut pipe = Session::new(&sample, ":/pipe", 80, 24);
    pipe.keys("p");
    assert_eq!(
        pipe.model.message.as_ref().unwrap().text,
        "a pipe has no contents to show"
    );
    assert_eq!(pipe.subject.image.blob_opens(), 0);
}

#[test]
fn waste_leads_to_the_file() {
    let sample = Arc::new(eventful());
    let mut session = Session::new(&sample, "", 80, 24);
    session.keys("w");
    let text = session.text(PLAIN);
    assert!(text.contains("31B 1         /thing  overwritten"), "{text}");
    session.keys("\n");
    assert_eq!(session.model.level, 0);
    assert_eq!(session.model.tree.selected_path().unwrap(), b"/thing");
}

#[test]
fn a_containers_changes_are_shown() {
    let sample = Arc::new(eventful());
    let container = sample.container("web");
    std::fs::write(container.upper(&sample.store).join("new-file"), "new").unwrap();
    let target = Target::parse("web".as_ref()).unwrap();
    let mut session = Session::of(&sample, sample.stored("web"), &target, 80, 24);
    let text = session.keys("v").text(PLAIN);
    assert!(text.contains("Container: changes"), "{text}");
    assert!(text.contains("A      3B   new-file"), "{text}");
    assert!(text.contains("changes of container"), "{text}");
}

/// A generator that gives the same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn size(&mut self, n: u64) -> u16 {
        u16::try_from(self.below(n)).unwrap()
    }
}

/// Presses random keys, with resizes and with answers that come late, in another order or never.
fn hammer(sample: &Arc<Sample>, seed: u64, count: usize) {
    let mut random = Random(seed);
    let mut session = Session::new(sample, "", 80, 24);
    let mut waiting = Vec::new();
    let codes: Vec<KeyCode> = super::keys::TABLE
        .iter()
        .flat_map(|row| row.keys())
        .copied()
        .collect();
    for _ in 0..count {
        let event = match random.below(20) {
            0 => Event::Resize(random.size(160), random.size(60)),
            1 => Event::Key(KeyEvent::new(
                KeyCode::Char(char::from(b' ' + random.size(95) as u8)),
                KeyModifiers::NONE,
            )),
            2 => Event::Key(KeyEvent::new(KeyCode::Backspace, KeyModifiers::SHIFT)),
            _ => {
                let at = usize::try_from(random.below(codes.len() as u64)).unwrap();
                Event::Key(KeyEvent::new(codes[at], KeyModifiers::NONE))
            }
        };
        session.model.event(&event);
        session.model.done = false;
        waiting.extend(session.model.take_requests());
        if !waiting.is_empty() && random.below(3) > 0 {
            let at = usize::try_from(random.below(waiting.len() as u64)).unwrap();
            let request = waiting.swap_remove(at);
            if random.below(8) > 0 {
                for reply in session.answers(&request) {
                    session.model.reply(reply);
                }
            }
        }
        let rows = session.model.tree.len();
        assert!(session.model.tree.cursor < rows.max(1));
        if random.below(4) == 0 {
            // A size that the terminal has and the model does not know of yet.
            session.model.size.width = session.model.size.width.saturating_add(random.size(3));
        }
        session.screen([PLAIN, ASCII, COLOURS][usize::try_from(random.below(3)).unwrap()]);
    }
}

#[test]
fn no_key_and_no_size_is_too_much() {
    hammer(&Arc::new(eventful()), 1, 3000);
    hammer(&odd_names(), 2, 2000);
}

#[test]
fn a_directory_of_100_000_entries() {
    let mut first = LayerTar::new().dir("many/");
    for number in 0..100_000 {
        first = first.file(format!("many/{number:06}"), b"");
    }
    let second = LayerTar::new()
        .file("many/050000", "changed")
        .gone("many/", "099999");
    let sample = Arc::new(Sample::new(vec![
        ("ADD many /", first),
        ("RUN change", second),
    ]));
    let mut session = Session::new(&sample, "", 80, 24);
    session.keys("\nG");
    assert_eq!(session.model.tree.len(), 100_001);
    assert!(
        session.text(PLAIN).contains("D      0B     099999"),
        "{}",
        session.text(PLAIN)
    );
    session.keys("/50000\n");
    assert_eq!(session.model.tree.selected_path().unwrap(), b"/many/050000");
    let opened = session.model.tree_top;
    session.press(KeyCode::PageDown);
    assert!(session.model.tree_top > opened);
    hammer(&sample, 3, 150);
}

#[test]
fn an_image_without_layers_is_refused() {
    let sample = Arc::new(Sample::new(Vec::new()));
    let image = sample.open("");
    let levels = Arc::new(Levels::of(&image).unwrap());
    let start = Start {
        level: 0,
        changes: false,
        path: None,
    };
    let subject = Subject { image, levels };
    let failure = Model::new(&subject, &start, Size::new(80, 24))
        .err()
        .unwrap();
    assert!(
        failure.to_string().contains("it has no layers"),
        "{failure}"
    );
}

/// The lines of what is shown while an archive is read.
fn opening_lines(opening: &Opening, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let draw = |frame: &mut ratatui::Frame<'_>| view::opening(opening, PLAIN, frame.buffer_mut());
    terminal.draw(draw).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let rows = buffer.content().chunks(usize::from(width));
    rows.map(|row| row.iter().map(|cell| cell.symbol()).collect())
        .map(|row: String| row.trim_end().to_owned())
        .collect()
}

#[test]
fn an_archive_is_shown_while_it_is_read() {
    let mut opening = Opening::new("docker-archive:a\x1b.tar");
    let lines = opening_lines(&opening, 40, 6);
    assert_eq!(lines[0], " docker-archive:a\\x1b.tar");
    assert_eq!(lines[5], " Opening  q quit");
    let ids = "\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"";
    let config = format!(
        "{{\"architecture\": \"amd64\", \"os\": \"linux\", \"rootfs\": {{\"type\": \"layers\", \
         \"diff_ids\": [{ids}, {ids}]}}, \"history\": [{{\"created_by\": \"RUN \\u001b one\"}}]}}"
    );
    let found = Found::Image {
        config: serde_json::from_str(&config).unwrap(),
        sizes: vec![Some(2000), None],
    };
    opening.news(News::Found(found));
    opening.news(News::Begun("Indexing layers".to_owned(), Some(2000)));
    opening.news(News::Done(500));
    let lines = opening_lines(&opening, 50, 6);
    assert!(lines[1].contains("0 of 2 read"), "{lines:?}");
    assert_eq!(lines[2], "  1     2kB RUN \\x1b one");
    assert_eq!(lines[3], "  2       - (no instruction is known)");
    assert_eq!(lines[5], " Indexing layers: 500B of 2kB, 25%  q quit");
    let info = LayerInfo {
        diff_id: DiffId(Digest::of(b"")),
        digest: Digest::of(b""),
        media_type: String::new(),
        size: 2000,
        uncompressed_size: 2000,
        entries: 1,
        content_size: 7,
    };
    opening.news(News::Found(Found::Layer(Box::new(info))));
    opening.news(News::Ended);
    let lines = opening_lines(&opening, 50, 6);
    assert!(lines[1].contains("1 of 2 read"), "{lines:?}");
    assert_eq!(lines[2], "  1      7B RUN \\x1b one");
    for (width, height) in [(1, 1), (20, 4), (21, 4), (200, 3)] {
        opening_lines(&opening, width, height);
    }
}
