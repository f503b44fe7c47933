//! The shell's comfort: completions, manual pages, help.

use std::collections::BTreeSet;
use std::fs;

use crate::common::cli::{Strata, said};
use crate::containers::with_base;

/// The commands that the help lists, groups' own included.
fn commands(strata: &Strata, group: &[&str]) -> Vec<Vec<String>> {
    let help = strata.ok(&[group, &["--help"]].concat());
    let mut found = Vec::new();
    let lines = help.lines().skip_while(|l| *l != "Commands:").skip(1);
    for line in lines.take_while(|l| !l.is_empty()) {
        let indented = line.strip_prefix("  ").filter(|l| !l.starts_with(' '));
        let Some(name) = indented.and_then(|l| l.split_whitespace().next()) else {
            continue;
        };
        if name == "help" {
            continue;
        }
        let mut words: Vec<String> = group.iter().map(|w| (*w).to_owned()).collect();
        words.push(name.to_owned());
        found.push(words.clone());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let below = strata.ok(&[&words[..], &["--help"]].concat());
        if below.lines().any(|l| l == "Commands:") {
            found.extend(commands(strata, &words));
        }
    }
    found
}

#[test]
fn every_command_has_a_manual_page_and_help() {
    let strata = Strata::new();
    let all = commands(&strata, &[]);
    assert!(all.len() > 30, "{all:?}");
    let dir = strata.path("man");
    strata.ok(&["man", dir.to_str().unwrap()]);
    let pages: BTreeSet<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut expected: BTreeSet<String> = all
        .iter()
        .map(|words| format!("strata-{}.1", words.join("-")))
        .collect();
    expected.insert("strata.1".into());
    assert_eq!(pages, expected);
    let page = fs::read_to_string(dir.join("strata-cp.1")).unwrap();
    assert!(
        page.contains("strata cp web:/etc/nginx"),
        "examples: {page}"
    );
    // Nothing was made of a store.
    assert!(!strata.root.exists());
}

#[test]
fn commands_for_containers_have_examples() {
    let strata = Strata::new();
    for command in [
        "create",
        "ps",
        "rm",
        "rename",
        "stop",
        "diff",
        "export",
        "import",
        "cp",
        "commit",
        "save",
        "load",
        "logs",
        "completion",
        "container",
    ] {
        let help = strata.ok(&[command, "--help"]);
        let example = help
            .split("Example")
            .nth(1)
            .unwrap_or_else(|| panic!("{command}"));
        assert!(example.contains("strata"), "{command}: {help}");
    }
}

/// What a shell is offered after these words.
fn offered(strata: &Strata, words: &[&str]) -> Vec<String> {
    let mut command = strata.command();
    // The engine's protocol for fish: the words, the last one being typed.
    command
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap());
    let mut command = std::process::Command::new(command.get_program());
    command
        .env("COMPLETE", "fish")
        .env("STRATA_ROOT", &strata.root);
    command.args(["--", "strata"]).args(words);
    let text = said(command.current_dir(&strata.scratch)).success();
    text.lines()
        .map(|l| l.split('\t').next().unwrap().to_owned())
        .collect()
}

#[test]
fn names_of_images_and_containers_are_completed() {
    let strata = with_base();
    strata.ok(&["tag", "base:1", "localhost/other:2"]);
    strata.ok(&["create", "--name", "web", "base:1"]);
    strata.ok(&["create", "--name", "db", "base:1"]);
    let offers = |words: &[&str], wanted: &[&str]| {
        let found = offered(&strata, words);
        for word in wanted {
            assert!(
                found.iter().any(|f| f == word),
                "{words:?}: {word} not in {found:?}"
            );
        }
        found
    };
    offers(&["cont"], &["container"]);
    offers(&["container", "re"], &["rename"]);
    offers(&["rm", ""], &["web", "db"]);
    assert_eq!(offered(&strata, &["commit", "w"]), ["web"]);
    offers(&["save", ""], &["base:1", "localhost/other:2"]);
    assert_eq!(offered(&strata, &["save", "loc"]), ["localhost/other:2"]);
    offers(&["save", "--since", ""], &["base:1"]);
    offers(&["mount", ""], &["web", "base:1"]);
    offers(&["cp", "w"], &["web:"]);
    offers(&["save", "--format", ""], &["oci-dir"]);
    // A store that isn't there is not made, and completes nothing.
    let empty = Strata::new();
    assert!(offered(&empty, &["rm", "w"]).is_empty());
    assert!(!empty.root.exists());
}

#[test]
fn scripts_for_shells_ask_strata() {
    let strata = Strata::new();
    for (shell, word) in [
        ("bash", "complete -o"),
        ("zsh", "#compdef strata"),
        ("fish", "complete"),
    ] {
        let script = strata.ok(&["completion", shell]);
        assert!(
            script.contains(word) && script.contains("COMPLETE"),
            "{shell}: {script}"
        );
    }
    strata.run(&["completion", "cmd.exe"]).failure();
    assert!(!strata.root.exists());
}
