//! From tokens to a tree.

use serde_json::Number;

use super::functions::{self, Function};
use super::lexer::{Kind, Token, Wrong, tokens};

/// How deep parentheses and blocks may nest.
const DEPTH: usize = 100;

#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    Branch(Branch),
    Break,
    Continue,
}

#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub kind: BranchKind,
    pub pipe: Pipe,
    pub body: Vec<Node>,
    pub otherwise: Vec<Node>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BranchKind {
    If,
    With,
    Range,
}

/// Commands that hand their results on, and the variables that get the last one.
#[derive(Debug, Clone)]
pub(super) struct Pipe {
    pub variables: Vec<String>,
    /// `=`, not `:=`.
    pub assigns: bool,
    pub commands: Vec<Command>,
}

/// A function or field and its arguments.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub head: Word,
    pub arguments: Vec<Word>,
}

#[derive(Debug, Clone)]
pub(super) struct Word {
    pub at: usize,
    pub end: usize,
    pub kind: WordKind,
}

#[derive(Debug, Clone)]
pub(super) enum WordKind {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    Text(String),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`
    Variable(String, Vec<String>),
    Function(&'static Function),
    /// `(…).A.B`
    Group(Box<Pipe>, Vec<String>),
}

/// How a block ended.
enum End {
    End,
    Else,
    Eof,
}

/// The tree of a template.
pub(super) fn parse(source: &str) -> Result<Vec<Node>, Wrong> {
    let mut parser = Parser {
        tokens: tokens(source)?,
        at: 0,
        eof: source.len(),
        variables: vec!["$".into()],
        depth: 0,
        loops: 0,
    };
    let (nodes, end, at) = parser.block()?;
    match end {
        End::Eof => Ok(nodes),
        End::End => Err((at, "unexpected {{end}}".into())),
        End::Else => Err((at, "unexpected {{else}}".into())),
    }
}

struct Parser {
    tokens: Vec<Token>,
    /// The next token's place among them.
    at: usize,
    eof: usize,
    /// The variables that are known here.
    variables: Vec<String>,
    depth: usize,
    loops: usize,
}

impl Parser {
    fn next(&mut self) -> Result<Token, Wrong> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token.ok_or((self.eof, "unexpected EOF".into()))
    }

    fn peek_token(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn peek(&self) -> Option<&Kind> {
        self.peek_token().map(|t| &t.kind)
    }

    fn deeper(&mut self, at: usize) -> Result<(), Wrong> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err((at, "nested too deeply".into()));
        }
        Ok(())
    }

    /// Nodes until `{{end}}`, `{{else` or the end of the text.
    fn block(&mut self) -> Result<(Vec<Node>, End, usize), Wrong> {
        let mut nodes = Vec::new();
        let known = self.variables.len();
        while self.peek().is_some() {
            match self.next()?.kind {
                Kind::Text(text) => nodes.push(Node::Text(text)),
                _ => match self.keyword() {
                    Some(word) => {
                        let at = self.next()?.at;
                        let end = match word.as_str() {
                            "end" => {
                                self.close("end")?;
                                End::End
                            }
                            "else" => End::Else,
                            _ => {
                                nodes.push(self.statement(&word, at)?);
                                continue;
                            }
                        };
                        self.variables.truncate(known);
                        return Ok((nodes, end, at));
                    }
                    None => {
                        let pipe = self.pipe("command", &Kind::Close)?;
                        nodes.push(Node::Action(pipe));
                    }
                },
            }
        }
        self.variables.truncate(known);
        Ok((nodes, End::Eof, self.eof))
    }

    fn keyword(&self) -> Option<String> {
        const KEYWORDS: [&str; 10] = [
            "if", "with", "range", "end", "else", "break", "continue", "define", "template",
            "block",
        ];
        match self.peek() {
            Some(Kind::Word(word)) if KEYWORDS.contains(&word.as_str()) => Some(word.clone()),
            _ => None,
        }
    }

    fn statement(&mut self, word: &str, at: usize) -> Result<Node, Wrong> {
        let kind = match word {
            "if" => BranchKind::If,
            "with" => BranchKind::With,
            "range" => BranchKind::Range,
            "break" | "continue" => {
                if self.loops == 0 {
                    return Err((at, format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                self.close(word)?;
                return Ok(if word == "break" {
                    Node::Break
                } else {
                    Node::Continue
                });
            }
            _ => return Err((at, format!("{{{{{word}}}}} is not supported here"))),
        };
        self.branch(kind, at)
    }

    /// `if`, `with` or `range`, up to its `{{end}}`.
    fn branch(&mut self, kind: BranchKind, at: usize) -> Result<Node, Wrong> {
        self.deeper(at)?;
        let known = self.variables.len();
        let name = match kind {
            BranchKind::If => "if",
            BranchKind::With => "with",
            BranchKind::Range => "range",
        };
        let pipe = self.pipe(name, &Kind::Close)?;
        if pipe.variables.len() > 1 && kind != BranchKind::Range {
            return Err((at, format!("too many declarations in {name}")));
        }
        self.loops += usize::from(kind == BranchKind::Range);
        let (body, end, _) = self.block()?;
        self.loops -= usize::from(kind == BranchKind::Range);
        let otherwise = match end {
            End::End => Vec::new(),
            End::Eof => return Err((self.eof, "unexpected EOF".into())),
            End::Else => self.otherwise(kind)?,
        };
        self.variables.truncate(known);
        self.depth -= 1;
        Ok(Node::Branch(Branch {
            kind,
            pipe,
            body,
            otherwise,
        }))
    }

    /// What follows the word `else`.
    fn otherwise(&mut self, kind: BranchKind) -> Result<Vec<Node>, Wrong> {
        if let Some(word) = self.keyword() {
            let at = self.next()?.at;
            let chained = match (word.as_str(), kind) {
                ("if", BranchKind::If) => BranchKind::If,
                ("with", BranchKind::With) => BranchKind::With,
                _ => return Err((at, format!("unexpected <{word}> in else"))),
            };
            return Ok(vec![self.branch(chained, at)?]);
        }
        self.close("else")?;
        match self.block()? {
            (nodes, End::End, _) => Ok(nodes),
            (_, End::Else, at) => Err((at, "expected end; found {{else}}".into())),
            (_, End::Eof, at) => Err((at, "unexpected EOF".into())),
        }
    }

    fn close(&mut self, context: &str) -> Result<(), Wrong> {
        let token = self.next()?;
        match token.kind {
            Kind::Close => Ok(()),
            kind => Err(unexpected(token.at, &kind, context)),
        }
    }

    /// Commands up to a closing token.
    fn pipe(&mut self, context: &str, closing: &Kind) -> Result<Pipe, Wrong> {
        let mut pipe = Pipe {
            variables: Vec::new(),
            assigns: false,
            commands: Vec::new(),
        };
        self.declaration(&mut pipe, context)?;
        loop {
            let command = self.command(context)?;
            let constant = matches!(
                command.head.kind,
                WordKind::Nil
                    | WordKind::Bool(_)
                    | WordKind::Number(_)
                    | WordKind::Text(_)
                    | WordKind::Dot
            );
            if constant && !pipe.commands.is_empty() {
                let n = pipe.commands.len() + 1;
                let why = format!("non executable command in pipeline stage {n}");
                return Err((command.head.at, why));
            }
            pipe.commands.push(command);
            let token = self.next()?;
            match token.kind {
                Kind::Pipe => {}
                kind if kind == *closing => break,
                kind => return Err(unexpected(token.at, &kind, context)),
            }
        }
        if !pipe.assigns {
            self.variables.extend(pipe.variables.iter().cloned());
        }
        Ok(pipe)
    }

    /// `$x :=`, `$x =` or, after `range`, `$i, $x :=`.
    fn declaration(&mut self, pipe: &mut Pipe, context: &str) -> Result<(), Wrong> {
        let mut ahead = self.tokens.iter().skip(self.at);
        let mut names = Vec::new();
        loop {
            let Some(Kind::Variable(name)) = ahead.next().map(|t| &t.kind) else {
                return Ok(());
            };
            names.push(name.clone());
            match ahead.next().map(|t| &t.kind) {
                Some(Kind::Comma) if context == "range" && names.len() == 1 => {}
                Some(kind @ (Kind::Declare | Kind::Assign)) => {
                    pipe.assigns = *kind == Kind::Assign;
                    break;
                }
                _ => return Ok(()),
            }
        }
        if pipe.assigns
            && let Some(name) = names.iter().find(|n| !self.variables.contains(n))
        {
            let at = self.peek_token().map_or(self.eof, |t| t.at);
            return Err((at, format!("undefined variable {name:?}")));
        }
        self.at += names.len() * 2;
        pipe.variables = names;
        Ok(())
    }

    fn command(&mut self, context: &str) -> Result<Command, Wrong> {
        let mut words: Vec<Word> = Vec::new();
        while !matches!(
            self.peek(),
            None | Some(Kind::Pipe | Kind::Close | Kind::CloseGroup)
        ) {
            let spaced = self.peek_token().is_some_and(|t| t.spaced);
            let word = self.word(context)?;
            if !words.is_empty() && !spaced && !matches!(word.kind, WordKind::Group(..)) {
                return Err((
                    word.at,
                    format!("unexpected operand without a space in {context}"),
                ));
            }
            words.push(word);
        }
        let mut words = words.into_iter();
        match words.next() {
            Some(head) => Ok(Command {
                head,
                arguments: words.collect(),
            }),
            None => {
                let at = self.peek_token().map_or(self.eof, |t| t.at);
                Err((at, format!("missing value for {context}")))
            }
        }
    }

    fn word(&mut self, context: &str) -> Result<Word, Wrong> {
        let token = self.next()?;
        let at = token.at;
        let kind = match token.kind {
            Kind::Dot => WordKind::Dot,
            Kind::Number(number) => WordKind::Number(number),
            Kind::Quoted(text) => WordKind::Text(text),
            Kind::Field(name) => {
                let mut path = vec![name];
                path.extend(self.fields());
                WordKind::Field(path)
            }
            Kind::Variable(name) => {
                if !self.variables.contains(&name) {
                    return Err((at, format!("undefined variable {name:?}")));
                }
                WordKind::Variable(name, self.fields())
            }
            Kind::Word(word) => match word.as_str() {
                "nil" => WordKind::Nil,
                "true" => WordKind::Bool(true),
                "false" => WordKind::Bool(false),
                name => WordKind::Function(
                    functions::find(name)
                        .ok_or_else(|| (at, format!("function {name:?} not defined")))?,
                ),
            },
            Kind::OpenGroup => {
                self.deeper(at)?;
                let pipe = self.pipe("parenthesized pipeline", &Kind::CloseGroup)?;
                self.depth -= 1;
                WordKind::Group(Box::new(pipe), self.fields())
            }
            kind => return Err(unexpected(at, &kind, context)),
        };
        let last = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        let end = last.map_or(at, |t| t.end);
        Ok(Word { at, end, kind })
    }

    /// The fields that follow without a space.
    fn fields(&mut self) -> Vec<String> {
        let mut path = Vec::new();
        while let Some(Token {
            spaced: false,
            kind: Kind::Field(name),
            ..
        }) = self.tokens.get(self.at)
        {
            path.push(name.clone());
            self.at += 1;
        }
        path
    }
}

fn unexpected(at: usize, kind: &Kind, context: &str) -> Wrong {
    let what = match kind {
        Kind::Text(_) => "text".to_owned(),
        Kind::Open => "{{".into(),
        Kind::Close => "}}".into(),
        Kind::Dot => "<.>".into(),
        Kind::Field(name) => format!("<.{name}>"),
        Kind::Variable(name) | Kind::Word(name) => format!("<{name}>"),
        Kind::Quoted(text) => format!("{text:?}"),
        Kind::Number(number) => format!("{:?}", number.to_string()),
        Kind::Declare => "\":=\"".into(),
        Kind::Assign => "\"=\"".into(),
        Kind::Pipe => "\"|\"".into(),
        Kind::Comma => "\",\"".into(),
        Kind::OpenGroup => "\"(\"".into(),
        Kind::CloseGroup => "\")\"".into(),
    };
    (at, format!("unexpected {what} in {context}"))
}
