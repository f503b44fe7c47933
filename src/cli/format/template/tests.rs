//! Templates as people write them after Docker's `--format`, and as nobody should.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Template;

fn data() -> Value {
    json!({
        "Id": "sha256:0123456789abcdef",
        "Name": "/web",
        "RepoTags": ["a:1", "b:2"],
        "Size": 1_982_256,
        "Ratio": 0.5,
        "Running": true,
        "Nothing": null,
        "Empty": [],
        "Config": {
            "Env": ["PATH=/bin", "X=y"],
            "Cmd": ["sh", "-c"],
            "Entrypoint": null,
            "Labels": {"com.example.k": "<v>", "b": "2"},
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        },
        "Mounts": [{"Source": "/a", "RW": true}, {"Source": "/b", "RW": false}],
    })
}

fn render(template: &str) -> String {
    match Template::parse(template).and_then(|t| t.render(&data())) {
        Ok(text) => text,
        Err(e) => format!("ERROR {e}"),
    }
}

#[test]
fn what_people_write() {
    for (template, text) in [
        ("plain", "plain"),
        ("{{.Id}}", "sha256:0123456789abcdef"),
        ("{{ .Config.Cmd }}", "[sh -c]"),
        ("{{.Config.Labels}}", "map[b:2 com.example.k:<v>]"),
        ("{{json .RepoTags}}", r#"["a:1","b:2"]"#),
        (
            "{{.Config.Labels | json}}",
            r#"{"com.example.k":"<v>","b":"2"}"#,
        ),
        ("{{json .Nothing}}", "null"),
        ("{{.Nothing}}", "<no value>"),
        ("{{.Size}} {{.Ratio}} {{.Running}}", "1982256 0.5 true"),
        (r#"{{index .RepoTags 0}}"#, "a:1"),
        (r#"{{index .Config.Labels "com.example.k"}}"#, "<v>"),
        (r#"{{index .Config.Labels "none"}}"#, "<no value>"),
        (r#"{{(index .Mounts 1).Source}}"#, "/b"),
        (r#"{{index .Mounts 0 "Source"}}"#, "/a"),
        (r#"{{join .RepoTags ", "}}"#, "a:1, b:2"),
        (r#"{{join .Config.Entrypoint " "}}|"#, "|"),
        (r#"{{(split .Id ":")}}"#, "[sha256 0123456789abcdef]"),
        (r#"{{index (split .Id ":") 1 | printf "%.4s"}}"#, "0123"),
        (
            "{{upper .Name}} {{lower `ABC`}} {{title `a bc`}}",
            "/WEB abc A Bc",
        ),
        ("{{truncate .Id 9}}", "sha256:01"),
        ("[{{pad .Name 1 2}}]", "[ /web  ]"),
        ("{{len .RepoTags}} {{len .Name}} {{len .Nothing}}", "2 4 0"),
        ("{{slice .Id 7 11}} {{slice .RepoTags 1}}", "0123 [b:2]"),
        ("{{range .RepoTags}}<{{.}}>{{end}}", "<a:1><b:2>"),
        (
            "{{range $i, $t := .RepoTags}}{{if $i}}, {{end}}{{$i}}={{$t}}{{end}}",
            "0=a:1, 1=b:2",
        ),
        (
            "{{range $p, $c := .Config.ExposedPorts}}{{$p}} {{end}}",
            "53/udp 80/tcp ",
        ),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range .Mounts}}{{if .RW}}{{.Source}}{{end}}{{end}}", "/a"),
        (
            "{{range .Mounts}}{{.Source}} of {{$.Name}};{{end}}",
            "/a of /web;/b of /web;",
        ),
        ("{{range .RepoTags}}{{.}}{{break}}{{end}}", "a:1"),
        (
            "{{range .RepoTags}}{{if eq . `a:1`}}{{continue}}{{end}}{{.}}{{end}}",
            "b:2",
        ),
        ("{{if .Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Nothing}}a{{else if .Empty}}b{{else}}c{{end}}", "c"),
        ("{{if and .Running (gt .Size 1000)}}big{{end}}", "big"),
        ("{{if or .Nothing .Empty}}a{{else}}b{{end}}", "b"),
        ("{{or .Nothing `default`}} {{and .Running 1}}", "default 1"),
        ("{{not .Running}}", "false"),
        ("{{with .Config}}{{.Cmd}}{{end}}", "[sh -c]"),
        ("{{with $c := .Config}}{{$c.Cmd}}{{end}}", "[sh -c]"),
        ("{{with .Nothing}}x{{else}}nothing{{end}}", "nothing"),
        ("{{with .Nothing}}x{{else with .Name}}{{.}}{{end}}", "/web"),
        (
            "{{$x := 1}}{{range .RepoTags}}{{$x = .}}{{end}}{{$x}}",
            "b:2",
        ),
        (
            "{{eq .Name `/web`}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{ge 1 2}}",
            "true true true true false",
        ),
        ("{{eq 3 1 2 3}} {{eq .Nothing nil}}", "true true"),
        ("a {{- 1 -}} b {{/* no */}}c{{- /* no */ -}} d", "a1b cd"),
        ("a{{-1}}", "a-1"),
        (r#"{{"\t\"\u00e9\x41\101"}}{{`\t`}}{{'a'}}"#, "\t\"éAA\\t97"),
        (
            "{{0x10}} {{1_000}} {{-3}} {{1e3}} {{.5}}",
            "16 1000 -3 1000 0.5",
        ),
        ("{{print 1 2 `a` `b` 3}} {{println .Name}}", "1 2ab3 /web\n"),
        (
            "{{html `<a>`}} {{urlquery `a b&c`}} {{js `'`}}",
            "&lt;a&gt; a+b%26c \\'",
        ),
        ("{{.Config.Labels.nothing}}", "<no value>"),
        ("{{json .Config.Labels.b}}", r#""2""#),
        ("{{/* a comment */}}", ""),
        ("{{\n.Name\n}}", "/web"),
        (
            "{{.}}{{break}}",
            "ERROR template parsing error: template: :1: {{break}} outside {{range}}",
        ),
    ] {
        assert_eq!(render(template), text, "{template}");
    }
}

#[test]
fn printf_is_gos() {
    for (template, text) in [
        (r#"{{printf "%s-%s" .Name "x"}}"#, "/web-x"),
        (
            r#"{{printf "%-8s|%8s|" .Name .Name}}"#,
            "/web    |    /web|",
        ),
        (
            r#"{{printf "%05d %x %X %o %b %c %U" 42 255 255 8 5 65 65}}"#,
            "00042 ff FF 10 101 A U+0041",
        ),
        (
            r#"{{printf "%.2f %e %g" 1.5 1500.0 2.5}}"#,
            "1.50 1.500000e+03 2.5",
        ),
        (
            r#"{{printf "%q %v %t" "a\"b" .RepoTags true}}"#,
            r#""a\"b" [a:1 b:2] true"#,
        ),
        (r#"{{printf "%*d|%-*d|" 4 1 4 2}}"#, "   1|2   |"),
        (r#"{{printf "%d" "x"}}"#, "%!d(string=x)"),
        (r#"{{printf "%s" 5}}"#, "%!s(int=5)"),
        (r#"{{printf "%d"}}"#, "%!d(MISSING)"),
        (r#"{{printf "a" 1 "b"}}"#, "a%!(EXTRA int=1, string=b)"),
        (r#"{{printf "100%%"}}"#, "100%"),
        (r#"{{printf "%"}}"#, "%!(NOVERB)"),
        (r#"{{printf "%+d % d %#x" 1 1 255}}"#, "+1  1 0xff"),
        (r#"{{printf "%x" "hi"}}"#, "6869"),
        (r#"{{printf "%99999999999999999999d" 1}}"#, "%!(BADWIDTH)1"),
        (r#"{{.Size | printf "%d B"}}"#, "1982256 B"),
    ] {
        assert_eq!(render(template), text, "{template}");
    }
}

#[test]
fn errors_say_where_and_why_in_one_line() {
    for (template, why) in [
        ("{{.Id", ":1: unclosed action"),
        ("\n{{.Id}} {{", ":2: unclosed action"),
        ("{{if .Id}}", ":1: unexpected EOF"),
        ("{{if .Id}}x{{else}}", ":1: unexpected EOF"),
        ("{{end}}", ":1: unexpected {{end}}"),
        ("{{else}}", ":1: unexpected {{else}}"),
        (
            "{{if .Id}}{{else}}{{else}}{{end}}",
            ":1: expected end; found {{else}}",
        ),
        ("{{}}", ":1: missing value for command"),
        ("{{if}}{{end}}", ":1: missing value for if"),
        ("{{nosuch .Id}}", ":1: function \"nosuch\" not defined"),
        ("{{$x}}", ":1: undefined variable \"$x\""),
        ("{{$x = 1}}", ":1: undefined variable \"$x\""),
        (
            "{{if $x := 1}}{{end}}{{$x}}",
            ":1: undefined variable \"$x\"",
        ),
        ("{{\"a}}", ":1: unterminated quoted string"),
        ("{{`a}}", ":1: unterminated raw quoted string"),
        ("{{'ab'}}", ":1: malformed character constant"),
        ("{{1x}}", ":1: bad number syntax: \"1x\""),
        ("{{.Id}", ":1: unexpected \"}\" in operand"),
        ("{{.Id @}}", ":1: unrecognized character in action: U+0040"),
        ("{{(.Id}}", ":1: unexpected }} in parenthesized pipeline"),
        ("{{.Id)}}", ":1: unexpected \")\" in command"),
        (
            "{{.Id | 1}}",
            ":1: non executable command in pipeline stage 2",
        ),
        ("{{/* a", ":1: unclosed comment"),
        ("{{/* a */ b}}", ":1: comment ends before closing delimiter"),
        ("{{template `a`}}", ":1: {{template}} is not supported here"),
        (
            "{{.Foo}}",
            ":1:2: executing \"\" at <.Foo>: no entry for key \"Foo\"",
        ),
        (
            "{{.Config.Foo}}",
            ":1:2: executing \"\" at <.Config.Foo>: no entry for key \"Foo\"",
        ),
        (
            "a\n {{.Name.Foo}}",
            ":2:3: executing \"\" at <.Name.Foo>: can't evaluate field Foo in type string",
        ),
        (
            "{{index .RepoTags 9}}",
            ":1:2: executing \"\" at <index .RepoTags 9>: error calling index: index out of range: 9",
        ),
        (
            "{{index .RepoTags -1}}",
            ":1:2: executing \"\" at <index .RepoTags -1>: error calling index: index out of range: -1",
        ),
        (
            "{{.Name 1}}",
            ":1:2: executing \"\" at <.Name 1>: Name is not a method but has arguments",
        ),
        (
            "{{.Id | .Name}}",
            ":1:8: executing \"\" at <.Name>: Name is not a method but has arguments",
        ),
        (
            "{{1 2}}",
            ":1:2: executing \"\" at <1 2>: can't give argument to non-function",
        ),
        (
            "{{len}}",
            ":1:2: executing \"\" at <len>: wrong number of args for len: want 1 got 0",
        ),
        (
            "{{eq 1}}",
            ":1:2: executing \"\" at <eq 1>: wrong number of args for eq: want at least 2 got 1",
        ),
        (
            "{{eq 1 `a`}}",
            ":1:2: executing \"\" at <eq 1 `a`>: error calling eq: incompatible types for comparison",
        ),
        (
            "{{upper 1}}",
            ":1:2: executing \"\" at <upper 1>: error calling upper: wrong type for value; expected string; got int64",
        ),
        (
            "{{range .Name}}{{end}}",
            ":1:8: executing \"\" at <.Name>: range can't iterate over /web",
        ),
        (
            "{{slice .Name 3 1}}",
            ":1:2: executing \"\" at <slice .Name 3 1>: error calling slice: invalid slice index: 3 > 1",
        ),
        (
            "{{pad .Name 99999999 1}}",
            ":1:2: executing \"\" at <pad .Name 99999999 1>: error calling pad: pad by 99999999: not a number up to 100000",
        ),
    ] {
        assert_eq!(
            render(template),
            format!("ERROR template parsing error: template: {why}"),
            "{template}"
        );
    }
}

#[test]
fn depth_and_work_are_bounded() {
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(render(&deep).contains("nested too deeply"));
    let deep = "{{if 1}}".repeat(100_000);
    assert!(render(&deep).contains("nested too deeply"));
    let deep = format!("{}{}", "{{if 1}}{{else ".repeat(50_000), "{{end}}");
    assert!(render(&deep).starts_with("ERROR"));
    let chain = format!("{{{{if 0}}}}{}{{{{end}}}}", "{{else if 0}}".repeat(50_000));
    assert!(render(&chain).contains("nested too deeply"));
    let shallow = format!("{}x{}", "{{if 1}}".repeat(99), "{{end}}".repeat(99));
    assert_eq!(render(&shallow), "x");
    // 100 to the fifth steps.
    let list = json!({"L": vec![0; 100]});
    let ranges = format!("{}{}", "{{range $.L}}".repeat(5), "{{end}}".repeat(5));
    let template = Template::parse(&ranges).unwrap();
    let error = template.render(&list).unwrap_err().to_string();
    assert!(error.ends_with("the template does too much"), "{error}");
}

/// Pieces that templates are made of, right and wrong ones.
const PIECES: [&str; 60] = [
    "{{",
    "}}",
    "{{-",
    " -}}",
    "{{- ",
    ".",
    "$",
    ".Id",
    ".Config",
    ".Mounts",
    "$x",
    ":=",
    "=",
    "|",
    "(",
    ")",
    ",",
    " ",
    "if ",
    "else",
    "else if ",
    "end",
    "range ",
    "with ",
    "break",
    "continue",
    "{{end}}",
    "{{else}}",
    "{{range .Mounts}}",
    "{{if .Id}}",
    "{{range $i, $x := .RepoTags}}",
    "index ",
    "printf ",
    "len ",
    "slice ",
    "join ",
    "split ",
    "json ",
    "pad ",
    "truncate ",
    "eq ",
    "lt ",
    "and ",
    "not ",
    "nil",
    "true",
    "0",
    "-1",
    "1e9",
    "9223372036854775807",
    "18446744073709551615",
    "'a'",
    "\"%*.*v%d%s\"",
    "\"",
    "`",
    "`x`",
    "/*",
    "*/",
    "\u{e9}",
    "\\",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(template) = Template::parse(&text) {
            template.render(&data()).ok();
        }
    }

    #[test]
    fn arbitrary_pieces_never_panic(pieces in proptest::collection::vec(0..PIECES.len(), 0..40)) {
        let text: String = pieces.into_iter().map(|at| PIECES[at]).collect();
        match Template::parse(&text) {
            Ok(template) => for shown in [
                template.render(&data()), template.render_row(&data()), template.render_headings(&data()),
            ] {
                if let Err(e) = shown {
                    prop_assert!(!e.to_string().contains('\n'), "{}", e);
                }
            },
            Err(e) => prop_assert!(!e.to_string().contains('\n'), "{}", e),
        }
    }
}
