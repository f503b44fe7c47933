//! `strata explore` in a real terminal: tmux draws, types and tells what is on the screen.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::build::{Docker, Tar, config};
use crate::common::cli::{Strata, have, said};

/// How long something may take to show.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal with a shell in it.
struct Terminal {
    strata: Strata,
    socket: String,
}

impl Terminal {
    fn open(strata: Strata, environment: &[&str]) -> Self {
        let socket = strata.path("tmux").display().to_string();
        let terminal = Self { strata, socket };
        let mut shell = vec!["new-session", "-d", "-x", "80", "-y", "24", "env", "PS1=$ "];
        shell.extend(environment);
        shell.push("sh");
        terminal.tmux(&shell);
        terminal.wait("a prompt", |text| text.contains('$'));
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.args(["-u", "-f", "/dev/null", "-S", &self.socket]);
        tmux.env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        said(tmux.args(arguments)).success()
    }

    fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn wait(&self, what: &str, shows: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if shows(&text) {
                return text;
            }
            assert!(Instant::now() < end, "{what} did not show:\n{text}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn waits_for(&self, text: &str) -> String {
        self.wait(text, |shown| shown.contains(text))
    }

    /// Types text as it is.
    fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses a key by its name.
    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Types a command line that ends by telling its exit status.
    fn command(&self, arguments: &str) {
        let binary = env!("CARGO_BIN_EXE_strata");
        let root = self.strata.root.display();
        self.types(&format!(
            "clear; {binary} --root {root} {arguments}; echo status=$?"
        ));
        self.press("Enter");
    }

    /// The program has ended with this status, and the terminal is as it was.
    fn is_restored(&self, status: u8) {
        self.waits_for(&format!("status={status}"));
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1", "alternate screen, cursor");
        self.types("clear; stty -a; echo done=$?");
        self.press("Enter");
        let modes = self.waits_for("done=0");
        for mode in ["icanon", "echo", "isig"] {
            let on = modes.split_whitespace().any(|word| word == mode);
            assert!(on, "{mode} is off:\n{modes}");
        }
    }

    /// The process that the shell is running.
    fn child(&self) -> i32 {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        let children = std::fs::read_to_string(children).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut tmux = Command::new("tmux");
        said(tmux.args(["-S", &self.socket, "kill-server"]));
    }
}

/// Whether there is an escape sequence that sets a colour: 30 to 38, 40 to 48, 90 and more.
fn has_colour(text: &str) -> bool {
    let sequences = text
        .split("\x1b[")
        .skip(1)
        .filter_map(|rest| rest.split_once('m'));
    let mut numbers = sequences.flat_map(|(numbers, _)| numbers.split(';'));
    numbers.any(|number| matches!(number.parse(), Ok(30..=38 | 40..=48 | 90..=107)))
}

fn archive(strata: &Strata) -> String {
    let first = Tar::new()
        .dir("etc/")
        .file("etc/motd", b"hello from the first layer\n")
        .file("etc/\x1b[31mred", b"x")
        .file("etc/gone", b"gone")
        .end();
    let second = Tar::new()
        .file("etc/.wh.gone", b"")
        .file("new", b"new\n")
        .end();
    let path = strata.path("image.tar");
    let docker = Docker::new("sample:1", &[&first, &second]);
    std::fs::write(&path, docker.pack()).unwrap();
    path.display().to_string()
}

#[test]
fn explore_in_a_terminal() {
    if !have("explore_in_a_terminal", &["tmux"]) {
        return;
    }
    let strata = Strata::new();
    let archive = archive(&strata);
    let terminal = Terminal::open(strata, &["LC_ALL=C.UTF-8", "NO_COLOR=1"]);
    terminal.command(&format!("explore docker-archive:{archive}"));
    terminal.waits_for("Layer 2: tree");
    terminal.waits_for("2 layers");
    terminal.waits_for("wasted");
    // Into the directory, whose names come escaped.
    terminal.press("Right");
    let text = terminal.waits_for("motd");
    assert!(
        text.contains("\\x1b[31mred") && text.contains("D      4B     gone"),
        "{text}"
    );
    terminal.types("/motd");
    terminal.press("Enter");
    terminal.waits_for("match 1 of 1");
    terminal.types("p");
    terminal.waits_for("hello from the first layer");
    terminal.types("x");
    terminal.waits_for("00000000  68 65 6c 6c");
    terminal.press("Escape");
    terminal.waits_for("Layer 2: tree");
    terminal.types("?");
    terminal.waits_for("Keys");
    // So fast that the program reads both at once, as if Alt were held.
    terminal.tmux(&["send-keys", "Escape", "v"]);
    terminal.wait("the changes", |text| {
        text.contains("Layer 2: changes") && !text.contains("motd  ")
    });
    // Another size, and one that is too small.
    terminal.tmux(&["resize-window", "-x", "40", "-y", "10"]);
    terminal.wait("one panel", |text| {
        text.contains("Layer 2: changes") && !text.contains("Layers")
    });
    terminal.tmux(&["resize-window", "-x", "12", "-y", "3"]);
    terminal.waits_for("too small");
    terminal.tmux(&["resize-window", "-x", "100", "-y", "30"]);
    terminal.waits_for("Layers");
    let styled = terminal.tmux(&["capture-pane", "-p", "-e"]);
    assert!(!has_colour(&styled), "NO_COLOR is set: {styled:?}");
    assert!(has_colour("\x1b[1;32mA"));
    terminal.types("q");
    terminal.is_restored(0);
    // A signal is an end, too.
    for (signal, status) in [("TERM", 143), ("HUP", 129)] {
        terminal.command(&format!("explore docker-archive:{archive}"));
        terminal.waits_for("Layers");
        let pid = terminal.child().to_string();
        let mut kill = Command::new("kill");
        said(kill.args(["-s", signal, &pid])).success();
        terminal.is_restored(status);
    }
    terminal.command(&format!("explore docker-archive:{archive}"));
    terminal.waits_for("Layers");
    terminal.press("C-c");
    terminal.is_restored(0);
}

/// An archive whose only layer is a file of 4 GiB of nothing, which takes a while to read.
fn slow_archive(strata: &Strata) -> String {
    const SIZE: u64 = 4 << 30;
    let sized = |tar: Tar, name: &str, size: u64| {
        tar.with(name.as_bytes(), b'0', b"", |block| {
            block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        })
    };
    let manifest = r#"[{"Config":"config.json","RepoTags":["slow:1"],"Layers":["layer.tar"]}]"#;
    let outer = Tar::new().file("manifest.json", manifest.as_bytes());
    let outer = outer.file("config.json", &config(&[b"another layer"]));
    let outer = sized(outer, "layer.tar", SIZE + 512 + 1024).end();
    let inner = sized(Tar::new(), "big", SIZE).end();
    let headers = [outer, inner].map(|tar| tar[..tar.len() - 1024].to_vec());
    let path = strata.path("slow.tar");
    std::fs::write(&path, headers.concat()).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let headers: usize = headers.iter().map(Vec::len).sum();
    file.set_len(headers as u64 + SIZE + 2048).unwrap();
    path.display().to_string()
}

#[test]
fn explore_shows_an_archive_while_it_is_read() {
    if !have("explore_shows_an_archive_while_it_is_read", &["tmux"]) {
        return;
    }
    let strata = Strata::new();
    let archive = slow_archive(&strata);
    let terminal = Terminal::open(strata, &["LC_ALL=C.UTF-8"]);
    for key in ["q", "Escape", "C-c"] {
        let start = Instant::now();
        terminal.command(&format!("explore docker-archive:{archive}"));
        let text = terminal.wait("progress", |text| text.contains("% "));
        assert!(start.elapsed() < Duration::from_secs(2), "{text}");
        assert!(
            text.contains("0 of 1 read") && text.contains("Indexing layers"),
            "{text}"
        );
        terminal.tmux(&["resize-window", "-x", "60", "-y", "12"]);
        terminal.waits_for("quit");
        terminal.press(key);
        terminal.is_restored(0);
        terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    }
    // Ended by a signal.
    terminal.command(&format!("explore docker-archive:{archive}"));
    terminal.waits_for("Indexing layers");
    let pid = terminal.child().to_string();
    let mut kill = Command::new("kill");
    said(kill.args(["-s", "TERM", &pid])).success();
    terminal.is_restored(143);
}

#[test]
fn reading_contents_shows_progress_beside_what_is_found() {
    let test = "reading_contents_shows_progress_beside_what_is_found";
    if !have(test, &["tmux"]) {
        return;
    }
    let strata = Strata::new();
    // Big enough to be seen: what is found comes first in it.
    let big = [b"needle\n".to_vec(), vec![b'x'; 400 << 20]].concat();
    let path = strata.path("image.tar");
    let docker = Docker::new("big:1", &[&Tar::new().file("big", &big).end()]);
    std::fs::write(&path, docker.pack()).unwrap();
    strata.load(&path);
    let terminal = Terminal::open(strata, &["LC_ALL=C.UTF-8"]);
    for (command, bar, line) in [
        ("grep needle big:1", "Searching", "/big:needle"),
        ("sum big:1", "Hashing", "  /big"),
    ] {
        terminal.command(command);
        terminal.waits_for(bar);
        let text = terminal.waits_for("status=0");
        assert!(text.contains(line) && !text.contains(bar), "{text}");
        terminal.types("clear");
        terminal.press("Enter");
    }
}

#[test]
fn names_of_users_do_not_act_on_the_terminal() {
    let test = "names_of_users_do_not_act_on_the_terminal";
    if !have(test, &["tmux"]) {
        return;
    }
    let strata = Strata::new();
    let layer = Tar::new().file("etc/passwd", b"\x1b[2J\x1b]0;x\x07:x:0:0::/:\n");
    let path = strata.path("image.tar");
    std::fs::write(&path, Docker::new("bad:1", &[&layer.end()]).pack()).unwrap();
    strata.load(&path);
    let terminal = Terminal::open(strata, &["LC_ALL=C.UTF-8"]);
    for command in [
        "ls -l bad:1:/etc",
        "find bad:1 -ls",
        "stat bad:1:/etc/passwd",
    ] {
        terminal.command(command);
        let text = terminal.waits_for("status=0");
        assert!(text.contains(r"$'\033''[2J'$'\033'']0;x'$'\007'"), "{text}");
    }
}

#[test]
fn explore_says_what_it_needs() {
    let strata = Strata::new();
    let archive = archive(&strata);
    let argument = format!("docker-archive:{archive}");
    let said = strata.run(&["explore", &argument]);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(said.failure().contains("not a terminal"));
    if !have("explore_says_what_it_needs", &["tmux"]) {
        return;
    }
    let terminal = Terminal::open(strata, &["TERM=dumb", "LC_ALL=C"]);
    terminal.command(&format!("explore {argument}"));
    let text = terminal.waits_for("status=2");
    assert!(text.contains("TERM=dumb"), "{text}");
    terminal.types("export TERM=xterm");
    terminal.press("Enter");
    terminal.command("explore no-such-image");
    let text = terminal.waits_for("status=1");
    assert!(text.contains("no-such-image"), "{text}");
}
