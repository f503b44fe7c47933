//! The words of a history: Go's lists and quoted strings in, Dockerfile words out.

/// Takes Go's quoted strings and characters apart.
struct Scanner<'t> {
    rest: &'t str,
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = self.rest.get(c.len_utf8()..)?;
        Some(c)
    }

    fn skip(&mut self, unwanted: &[char]) {
        self.rest = self.rest.trim_start_matches(unwanted);
    }

    fn take(&mut self, wanted: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(wanted)?;
        Some(())
    }

    /// A number of `digits` digits.
    fn number(&mut self, digits: usize, radix: u32) -> Option<u32> {
        let (number, rest) = self.rest.split_at_checked(digits)?;
        self.rest = rest;
        u32::from_str_radix(number, radix).ok()
    }

    /// What is between two `quote`s, Go's escapes resolved; `None` when it is not well-formed.
    fn quoted(&mut self, quote: char) -> Option<String> {
        self.take(quote)?;
        let mut bytes = Vec::new();
        loop {
            let c = match self.next()? {
                c if c == quote => return String::from_utf8(bytes).ok(),
                '\\' => match self.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'v' => '\u{b}',
                    'x' => {
                        bytes.push(u8::try_from(self.number(2, 16)?).ok()?);
                        continue;
                    }
                    'u' => char::from_u32(self.number(4, 16)?)?,
                    'U' => char::from_u32(self.number(8, 16)?)?,
                    other => other,
                },
                plain => plain,
            };
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    /// A list of quoted strings, with commas or without.
    fn list(&mut self) -> Option<Vec<String>> {
        self.take('[')?;
        let mut words = Vec::new();
        loop {
            self.skip(&[' ', ',']);
            if self.take(']').is_some() {
                return Some(words);
            }
            words.push(self.quoted('"')?);
        }
    }
}

/// A list as JSON has it, or as Go's `%q` prints it; `None` for anything else.
pub fn quoted_list(text: &str) -> Option<Vec<String>> {
    let mut scanner = Scanner { rest: text.trim() };
    let list = scanner.list()?;
    scanner.rest.is_empty().then_some(list)
}

/// A list of words as Go's `%v` prints slices (`[a b]`), maps of ports (`map[80/tcp:{}]`) and plain
/// words.
pub fn plain_list(text: &str) -> Vec<String> {
    let text = text.trim();
    let inner = text.strip_prefix("map").unwrap_or(text);
    let inner = inner.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let words = inner.unwrap_or(text).split_whitespace();
    words
        .map(|w| w.trim_end_matches(":{}").to_owned())
        .collect()
}

/// A health check as Go prints it: the test, the durations, and the number of retries.
pub struct Health {
    /// `CMD`, `CMD-SHELL` or `NONE`, and its arguments.
    pub test: Vec<String>,
    /// Interval, timeout, start period and, in newer ones, start interval.
    pub durations: Vec<String>,
    /// Retries, 0 when not said.
    pub retries: u32,
}

/// Reads `&{["CMD-SHELL" "x"] "30s" "3s" "0s" '\x03'}`.
pub fn health(text: &str) -> Option<Health> {
    let mut scanner = Scanner {
        rest: text.trim().strip_prefix("&{")?,
    };
    let test = scanner.list()?;
    let mut durations = Vec::new();
    loop {
        scanner.skip(&[' ']);
        if !scanner.rest.starts_with('"') {
            break;
        }
        durations.push(scanner.quoted('"')?);
    }
    let retries = scanner.quoted('\'')?.chars().next().map_or(0, u32::from);
    (scanner.rest == "}").then_some(Health {
        test,
        durations,
        retries,
    })
}

/// A list in a Dockerfile's JSON form.
pub fn json_list(words: &[String]) -> String {
    let quoted = words.iter().map(|w| serde_json::Value::from(w.as_str()));
    format!(
        "[{}]",
        quoted.map(|w| w.to_string()).collect::<Vec<_>>().join(", ")
    )
}

/// A value as one word of an instruction that takes variables and quotes.
pub fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@+=%~^".contains(c) || !c.is_ascii();
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let mut out = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A text that stays what it is where variables are replaced.
pub fn unexpanded(text: &str) -> String {
    text.replace('\\', "\\\\").replace('$', "\\$")
}

/// Takes `NAME=VALUE NAME=VALUE …` apart. Histories print values without the quotes they had;
/// `known` says of a name and a value whether the configuration has exactly these.
pub fn pairs(text: &str, known: impl Fn(&str, &str) -> bool) -> Option<Vec<(String, String)>> {
    let quoted = words(text).and_then(|words| {
        let pair = |w: &String| {
            w.split_once('=')
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .filter(|(n, v)| known(n, v))
        };
        words.iter().map(pair).collect::<Option<Vec<_>>>()
    });
    if let Some(quoted) = quoted.filter(|q| !q.is_empty()) {
        return Some(quoted);
    }
    let starts = starts(text);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = starts.get(at) {
        let until = |next: usize| {
            let end = starts.get(next).copied().unwrap_or(text.len());
            let piece = text.get(*begin..end)?.trim_end();
            let (name, value) = piece.split_once('=')?;
            Some((unquoted(name).to_owned(), value.to_owned()))
        };
        // A value may hold what looks like the next pair: the configuration decides.
        let fits = |next: &usize| until(*next).is_some_and(|(n, v)| known(&n, &v));
        let next = (at + 1..=starts.len()).find(fits).unwrap_or(at + 1);
        let (name, value) = until(next)?;
        found.push((name, value));
        at = next;
    }
    (!found.is_empty()).then_some(found)
}

fn unquoted(name: &str) -> &str {
    name.trim_matches('"')
}

/// Where `NAME=` begins, at the start and after spaces.
fn starts(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        if before == ' ' && c != ' ' {
            let word = text.get(at..).unwrap_or_default();
            let name = word.split(['=', ' ']).next().unwrap_or_default();
            let sound =
                !name.is_empty() && word.get(name.len()..).is_some_and(|r| r.starts_with('='));
            if sound {
                starts.push(at);
            }
        }
        before = c;
    }
    if starts.first() != Some(&0) {
        return Vec::new();
    }
    starts
}

/// Words with quotes resolved; `None` when a quote doesn't end.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut scanner = Scanner { rest: text };
    let mut word = String::new();
    loop {
        if scanner.rest.starts_with('"') {
            word.push_str(&scanner.quoted('"')?);
            continue;
        }
        match scanner.next() {
            Some(' ') if word.is_empty() => {}
            Some(' ') => words.push(std::mem::take(&mut word)),
            Some(c) => word.push(c),
            None => break,
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_lists_are_read() {
        let words = |t| quoted_list(t).unwrap_or_default();
        assert_eq!(words(r#"["node" "server.js"]"#), ["node", "server.js"]);
        assert_eq!(words(r#"["a", "b c"]"#), ["a", "b c"]);
        assert_eq!(words(r#"["\u00e4\x41\n\"" ""]"#), ["äA\n\"", ""]);
        assert_eq!(quoted_list("[a b]"), None);
        assert_eq!(quoted_list(r#"["a"] x"#), None);
        assert_eq!(quoted_list(r#"["a"#), None);
        assert_eq!(plain_list("[/data /x]"), ["/data", "/x"]);
        assert_eq!(
            plain_list("map[443/tcp:{} 80/tcp:{}]"),
            ["443/tcp", "80/tcp"]
        );
        assert_eq!(plain_list("80/tcp"), ["80/tcp"]);
    }

    #[test]
    fn values_that_look_like_pairs_are_told_apart_by_the_configuration() {
        let known = |n: &str, v: &str| (n, v) == ("A", "x B=y") || (n, v) == ("C", "two words");
        let split = |t| pairs(t, known).unwrap_or_default();
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(
            split("A=x B=y C=two words"),
            [pair("A", "x B=y"), pair("C", "two words")]
        );
        assert_eq!(split("C=\"two words\""), [pair("C", "two words")]);
        assert_eq!(split("X=1 Y=2"), [pair("X", "1"), pair("Y", "2")]);
        assert_eq!(pairs("nothing", known), None);
    }

    #[test]
    fn health_checks_are_read() {
        let check =
            health(r#"&{["CMD-SHELL" "curl -f http://x/ || exit 1"] "30s" "3s" "0s" "0s" '\x03'}"#);
        let check = check.unwrap();
        assert_eq!(check.test, ["CMD-SHELL", "curl -f http://x/ || exit 1"]);
        assert_eq!((check.durations.len(), check.retries), (4, 3));
        assert!(health("&{[] 'x}").is_none());
    }
}
