use super::*;
use crate::image::{Digest, History};

fn layer(n: &str) -> DiffId {
    DiffId(Digest::of(n.as_bytes()))
}

fn image(steps: &[(&str, bool)]) -> ImageConfig {
    let mut config = ImageConfig::default();
    for (at, (by, empty_layer)) in steps.iter().enumerate() {
        config.history.push(History {
            created_by: Some((*by).into()),
            empty_layer: *empty_layer,
            ..History::default()
        });
        if !empty_layer {
            config.rootfs.diff_ids.push(layer(&at.to_string()));
        }
    }
    config
}

/// The logical lines of a Dockerfile, as builders read them: comments and empty lines dropped,
/// continued lines joined, here-documents after the line that begins them.
fn parse(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let mut whole = line.to_owned();
        while let Some(open) = whole.strip_suffix('\\') {
            let next = lines.next().expect("a line after the last backslash");
            assert!(!next.trim_start().starts_with('#'), "{next}");
            whole = format!("{open}{next}");
        }
        let mut documents = Vec::new();
        for word in whole.split_whitespace() {
            let Some(end) = word.strip_prefix("<<") else {
                continue;
            };
            let body: Vec<_> = lines.by_ref().take_while(|l| *l != end).collect();
            documents.push(body.join("\n"));
        }
        let word = whole.split(' ').next().unwrap();
        let known = [
            "FROM",
            "RUN",
            "ADD",
            "COPY",
            "ENV",
            "LABEL",
            "ARG",
            "CMD",
            "ENTRYPOINT",
            "EXPOSE",
            "VOLUME",
            "USER",
            "WORKDIR",
            "STOPSIGNAL",
            "ONBUILD",
            "HEALTHCHECK",
            "SHELL",
            "MAINTAINER",
        ];
        assert!(known.contains(&word), "no instruction: {whole}");
        assert!(whole.len() > word.len() + 1, "without arguments: {whole}");
        found.push((whole, documents));
    }
    found
}

fn lines(image: &ImageConfig) -> Vec<String> {
    let text = reconstruct(image, None).text(|_| None);
    parse(&text).into_iter().map(|(l, _)| l).collect()
}

#[test]
fn classic_histories() {
    let mut config = image(&[
        ("/bin/sh -c #(nop) ADD file:3761aa5d in / ", false),
        ("/bin/sh -c #(nop)  CMD [\"bash\"]", true),
        ("/bin/sh -c #(nop)  ARG VERSION=1", true),
        (
            "|1 VERSION=2 three /bin/sh -c apt-get update \t&& apt-get install  -y x",
            false,
        ),
        ("|1 OTHER=5 /bin/sh -c make", false),
        (
            "/bin/sh -c #(nop) COPY --chown=1:1 multi:ab12 in /app dir/ ",
            false,
        ),
        ("/bin/sh -c #(nop)  ENV A=two words B=$HOME", true),
        (
            "/bin/sh -c #(nop)  ENTRYPOINT [\"/bin/sh\" \"-c\" \"run \\\"it\\\"\"]",
            true,
        ),
        ("/bin/sh -c #(nop)  EXPOSE 80/tcp 443", true),
        ("/bin/sh -c #(nop)  VOLUME [/data /x]", true),
        ("/bin/sh -c #(nop)  ONBUILD RUN make", true),
        (
            "/bin/sh -c #(nop)  HEALTHCHECK &{[\"CMD-SHELL\" \"curl x\"] \"30s\" \"0s\" \"0s\" '\\x03'}",
            true,
        ),
    ]);
    config.config.env = vec!["A=two words".into(), "B=$HOME".into()];
    let expected = [
        "FROM scratch",
        "ADD file:3761aa5d /",
        "CMD [\"bash\"]",
        "ARG VERSION=1",
        "RUN apt-get update \t&& apt-get install  -y x",
        "ARG OTHER=5",
        "RUN make",
        "COPY [\"--chown=1:1 multi:ab12\", \"/app dir/\"]",
        "ENV A=\"two words\" B=\"\\$HOME\"",
        "ENTRYPOINT [\"/bin/sh\", \"-c\", \"run \\\"it\\\"\"]",
        "EXPOSE 80/tcp 443",
        "VOLUME [\"/data\", \"/x\"]",
        "ONBUILD RUN make",
        "HEALTHCHECK --interval=30s --retries=3 CMD curl x",
    ];
    assert_eq!(lines(&config), expected);
    let text = reconstruct(&config, None).text(|_| Some("12 kB".into()));
    assert!(
        text.contains("# layer 2: 12 kB\n# built with VERSION=2 three\nRUN"),
        "{text}"
    );
}

#[test]
fn buildkits_histories() {
    let mut config = image(&[
        ("# debian.sh --arch 'amd64' out/ 'bookworm'", false),
        ("CMD [\"bash\"]", true),
        ("SHELL [/bin/bash -o pipefail -c]", true),
        (
            "RUN /bin/bash -o pipefail -c set -e\necho a\nEOF\n # buildkit",
            false,
        ),
        (
            "RUN |1 V=1 /bin/bash -o pipefail -c cat <<X # buildkit",
            false,
        ),
        ("RUN /bin/true --flag # buildkit", false),
        ("COPY . /app # buildkit", false),
        ("COPY <<eot /x # buildkit", false),
        ("EXPOSE map[80/tcp:{}]", true),
        ("EXPOSE [81/tcp]", true),
        ("LABEL a=b c", true),
        ("CMD [\"/bin/sh\" \"-c\" \"npm start\"]", true),
    ]);
    config.config.labels.insert("a".into(), "b c".into());
    let text = reconstruct(&config, None).text(|_| None);
    assert!(
        text.starts_with("# syntax=docker/dockerfile:1\n# A reconstruction"),
        "{text}"
    );
    assert!(
        text.contains("no instruction made (a commit, or an import): # debian.sh"),
        "{text}"
    );
    let parsed = parse(&text);
    let said: Vec<_> = parsed.iter().map(|(l, _)| l.as_str()).collect();
    let expected = [
        "FROM scratch",
        "CMD [\"bash\"]",
        "SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]",
        "RUN <<EOFF",
        "ARG V=1",
        "RUN <<EOF",
        "RUN [\"/bin/true\", \"--flag\"]",
        "COPY . /app",
        "COPY <<eot /x",
        "EXPOSE 80/tcp",
        "EXPOSE 81/tcp",
        "LABEL a=\"b c\"",
        "CMD [\"/bin/sh\", \"-c\", \"npm start\"]",
    ];
    assert_eq!(said, expected);
    assert_eq!(parsed[3].1, ["set -e\necho a\nEOF"]);
    assert_eq!(parsed[5].1, ["cat <<X"]);
}

#[test]
fn what_only_the_configuration_says_is_added() {
    let mut config = image(&[("/bin/sh", false), ("/bin/sh -c #(nop) CMD [\"a\"]", true)]);
    config.config.cmd = Some(vec!["b".into()]);
    config.config.env = vec!["PATH=/bin".into(), "X=a\nb".into()];
    config.config.user = "www".into();
    let said = lines(&config);
    let expected = [
        "FROM scratch",
        "CMD [\"a\"]",
        "ENV PATH=/bin",
        "USER www",
        "CMD [\"b\"]",
    ];
    assert_eq!(said, expected);
}

#[test]
fn bases_are_recognised() {
    let base = image(&[
        ("/bin/sh -c #(nop) ADD file:1 in /", false),
        ("CMD [\"x\"]", true),
    ]);
    let mut child = image(&[
        ("/bin/sh -c #(nop) ADD file:1 in /", false),
        ("CMD [\"x\"]", true),
        ("RUN /bin/sh -c make # buildkit", false),
    ]);
    let other = image(&[("something else", false), ("x", false)]);
    let mut renamed = base.clone();
    renamed.history.clear();
    let stored = [
        ("other:1".to_owned(), &other),
        ("base:1".to_owned(), &base),
        ("self:1".to_owned(), &child),
        ("renamed:1".to_owned(), &renamed),
    ];
    let found = find_base(&child, stored).unwrap();
    assert_eq!(
        (found.name.as_str(), found.layers, found.steps),
        ("base:1", 1, 2)
    );
    let text = reconstruct(&child, Some(found)).text(|_| None);
    assert!(
        text.contains("FROM base:1\n\n# layer 2\nRUN make\n"),
        "{text}"
    );
    // buildah says it in a comment.
    child.history[2].comment = Some("FROM localhost/base:7".into());
    assert_eq!(lines(&child), ["FROM localhost/base:7", "RUN make"]);
}

#[test]
fn hostile_histories_stay_in_their_lines() {
    for by in [
        "x\nRUN rm -rf /",
        "/bin/sh -c #(nop) ENV A=b\nRUN evil",
        "/bin/sh -c #(nop) USER x\\",
        "RUN /bin/sh -c # buildkit",
        "|99999999999999999999 A=b /bin/sh -c x",
        "|3 /bin/sh -c x",
        "HEALTHCHECK &{[",
        "COPY <<\nevil /x",
        "COPY <<. # buildkit",
        "ENV",
        "ENV =",
        "\u{1b}[31mred",
        "/bin/sh -c echo [ --x",
        "/bin/sh -c --flag x",
        "/bin/sh -c [\"a\"]",
        "/bin/sh -c # buildkit",
        "/bin/sh -c a \\",
        "ONBUILD x\\",
        "ADD a b\r\nRUN evil",
    ] {
        let mut config = image(&[(by, false)]);
        config.history[0].comment = Some("FROM a\nRUN evil".into());
        let text = reconstruct(&config, None).text(|_| Some("1\nRUN evil".into()));
        for (line, _) in parse(&text) {
            assert!(
                !line.contains("evil") && !line.starts_with("RUN rm"),
                "{by:?}: {text}"
            );
        }
    }
}
