//! How references are read, and what each command says of itself.

use super::*;

#[test]
fn references_are_read_by_dockers_grammar() {
    let digest = format!("a/b@sha256:{HEX}");
    let tagged = format!("host.example:5000/a:t@sha256:{HEX}");
    let longest = "a".repeat(255 - "docker.io/library/".len());
    let longest_tag = format!("a:{}", "t".repeat(128));
    let too_long_tag = format!("a:{}", "t".repeat(129));
    let short_digest = "a@sha256:fffff".to_owned();
    let no_algorithm = format!("a@{HEX}");
    let upper_digest = format!("a@sha256:{}", HEX.to_uppercase());
    // reference := name [":" tag] ["@" digest]: distribution/reference, regexp.go
    let good: [(&str, String); 22] = [
        ("test_com", "docker.io/library/test_com:latest".into()),
        ("test.com:tag", "docker.io/library/test.com:tag".into()),
        ("test.com:5000", "docker.io/library/test.com:5000".into()),
        ("test.com/name:tag", "test.com/name:tag".into()),
        ("test:5000/repo", "test:5000/repo:latest".into()),
        ("test:5000/repo:tag", "test:5000/repo:tag".into()),
        (
            "lowercase:Uppercase",
            "docker.io/library/lowercase:Uppercase".into(),
        ),
        (
            "a/a/a/a/a/a/a/a/a",
            "docker.io/a/a/a/a/a/a/a/a/a:latest".into(),
        ),
        (
            "sub-dom1.foo.com/bar/baz/quux",
            "sub-dom1.foo.com/bar/baz/quux:latest".into(),
        ),
        (
            "sub-dom1.foo.com/bar/baz/quux:some-long-tag",
            "sub-dom1.foo.com/bar/baz/quux:some-long-tag".into(),
        ),
        (
            "b.gcr.io/test.example.com/my-app:test.example.com",
            "b.gcr.io/test.example.com/my-app:test.example.com".into(),
        ),
        (
            "xn--n3h.com/myimage:xn--n3h.com",
            "xn--n3h.com/myimage:xn--n3h.com".into(),
        ),
        (
            "foo_bar.com:8080",
            "docker.io/library/foo_bar.com:8080".into(),
        ),
        (
            "foo/foo_bar.com:8080",
            "docker.io/foo/foo_bar.com:8080".into(),
        ),
        ("foo--bar/b__z", "docker.io/foo--bar/b__z:latest".into()),
        ("192.168.1.1:75050/x", "192.168.1.1:75050/x:latest".into()),
        ("[2001:db8::1]/x", "[2001:db8::1]/x:latest".into()),
        ("LocalHost.Example/x", "LocalHost.Example/x:latest".into()),
        (&digest, format!("docker.io/{digest}")),
        (&tagged, tagged.clone()),
        (&longest, format!("docker.io/library/{longest}:latest")),
        (&longest_tag, format!("docker.io/library/{longest_tag}")),
    ];
    for (text, canonical) in good {
        assert_eq!(
            Reference::parse(text)
                .unwrap_or_else(|e| panic!("{text}: {e}"))
                .to_string(),
            canonical
        );
    }
    let strata = some_images();
    let bad: [&str; 22] = [
        ":justtag",
        "@sha256:ffff",
        &short_digest,
        &no_algorithm,
        &upper_digest,
        &too_long_tag,
        "a:b:c",
        "aa/asdf$$^/aa",
        "-foo/bar",
        "foo-/bar",
        "foo/bar-",
        "foo..bar",
        "foo___bar",
        "foo._bar",
        "a//b",
        "/a",
        "a/",
        "a b",
        "a:",
        "[2001:db8::1]",
        "[fe80::1%eth0]/x",
        "https://host/x",
    ];
    for text in bad {
        let said = strata.run(&["tag", "--", "nginx", text]);
        let wanted = format!(
            "strata: Error parsing reference: \"{text}\" is not a valid repository/tag: invalid reference format\n"
        );
        assert_eq!((said.err, said.code), (wanted, 1), "{text}");
    }
    for text in ["Uppercase:tag", "test.com/Up/x", "a/B"] {
        let said = strata.run(&["tag", "nginx", text]);
        assert!(
            said.err
                .ends_with("invalid reference format: repository name must be lowercase\n"),
            "{}",
            said.err
        );
    }
}

#[test]
fn every_command_has_examples_and_says_what_it_ends_with() {
    let strata = Strata::new();
    assert!(
        strata
            .ok(&["--help"])
            .contains("Exit status: 0 done, 1 failed")
    );
    for command in [
        &["images"][..],
        &["history"],
        &["inspect"],
        &["tag"],
        &["rmi"],
        &["image"],
        &["image", "prune"],
        &["image", "inspect"],
        &["system", "df"],
        &["system", "prune"],
        &["info"],
        &["version"],
    ] {
        let help = strata.ok(&[command, &["--help"]].concat());
        assert!(help.contains("Example"), "{command:?}: {help}");
    }
    assert_eq!(strata.run(&["images", "--nosuch"]).code, 2);
}
