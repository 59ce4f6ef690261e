//! jq's grammar: precedence climbing over tokens, with a bound on how deep it nests.

use super::super::CompileError;
use super::errors::{self, error, expected_error, modules_error, span};
use super::lexer::{Token, TokenKind};
use super::term::{Associativity, BinaryOp, Term, TextPart, TextTerm};

/// So many calls of the parser stand within one another; a level of a program takes a few of them.
const MAX_CALLS: usize = 2048;
/// So many operators of one rank stand in a row.
const MAX_CHAIN: usize = 256;

/// Words that cannot be the names of functions.
pub(super) const KEYWORDS: [&str; 19] = [
    "def", "if", "then", "elif", "else", "end", "as", "reduce", "foreach", "try", "catch", "label",
    "import", "include", "module", "and", "or", "__loc__", "break",
];

pub(super) type Parsed<T> = Result<T, CompileError>;

pub(super) struct Parser<'s, 't> {
    pub(super) text: &'s str,
    tokens: &'t [Token<'s>],
    at: usize,
    calls: usize,
    /// While the prelude is read, which defines formats.
    pub(super) is_prelude: bool,
}

impl<'s, 't> Parser<'s, 't> {
    pub(super) fn new(text: &'s str, tokens: &'t [Token<'s>], is_prelude: bool) -> Self {
        Self { text, tokens, at: 0, calls: 0, is_prelude }
    }

    /// The whole program.
    pub(super) fn program(&mut self) -> Parsed<Term<'s>> {
        let term = self.query()?;
        match self.peek() {
            None => Ok(term),
            Some(_) => Err(self.expected("nothing")),
        }
    }

    pub(super) fn peek(&self) -> Option<Token<'s>> {
        self.tokens.get(self.at).copied()
    }

    pub(super) fn kind(&self) -> Option<TokenKind> {
        self.peek().map(|token| token.kind)
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    /// Whether the next token is the symbol or keyword that is written so.
    pub(super) fn is_next(&self, text: &str) -> bool {
        let is_word = |kind| matches!(kind, TokenKind::Symbol | TokenKind::Word);
        self.peek().is_some_and(|token| is_word(token.kind) && token.text == text)
    }

    /// Takes the next token if it is written so.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        let is = self.is_next(text);
        self.at += usize::from(is);
        is
    }

    /// Takes `?//`, which is two tokens.
    pub(super) fn eat_alternative(&mut self) -> bool {
        let next = self.tokens.get(self.at + 1);
        let is = self.is_next("?")
            && next.is_some_and(|token| token.kind == TokenKind::Symbol && token.text == "//");
        self.at += if is { 2 } else { 0 };
        is
    }

    pub(super) fn require(&mut self, text: &str) -> Parsed<()> {
        if self.eat(text) { Ok(()) } else { Err(self.expected(text)) }
    }

    pub(super) fn eat_kind(&mut self, kind: TokenKind) -> bool {
        let is = self.kind() == Some(kind);
        self.at += usize::from(is);
        is
    }

    /// Takes the token that closes a bracket.
    pub(super) fn close(&mut self, bracket: char, otherwise: &str) -> Parsed<()> {
        if self.eat_kind(TokenKind::Close(bracket)) {
            Ok(())
        } else {
            Err(self.expected(otherwise))
        }
    }

    /// The error that another token was expected than the next one.
    pub(super) fn expected(&self, what: &str) -> CompileError {
        expected_error(self.text, what, self.peek().map_or("", |token| token.text))
    }

    /// Runs `f` one call deeper.
    pub(super) fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.calls += 1;
        if self.calls > MAX_CALLS {
            return Err(errors::too_deep(self.text));
        }
        let parsed = f(self);
        self.calls -= 1;
        parsed
    }

    /// `a | b, c as $x | d`
    pub(super) fn query(&mut self) -> Parsed<Term<'s>> {
        self.stages(true)
    }

    /// The value of a member: a comma ends it.
    pub(super) fn member_value(&mut self) -> Parsed<Term<'s>> {
        self.stages(false)
    }

    fn stages(&mut self, with_commas: bool) -> Parsed<Term<'s>> {
        self.nested(|parser| {
            let mut stages = Vec::new();
            loop {
                let mut items = Vec::new();
                loop {
                    let item = parser.expression(0)?;
                    items.push(if parser.is_next("as") {
                        parser.binding(item, with_commas)?
                    } else {
                        item
                    });
                    if !(with_commas && parser.eat(",")) {
                        break;
                    }
                }
                stages.push(single_or(items, Term::Comma));
                if !parser.eat("|") {
                    break;
                }
            }
            Ok(single_or(stages, Term::Pipe))
        })
    }

    fn binding(&mut self, of: Term<'s>, with_commas: bool) -> Parsed<Term<'s>> {
        self.require("as")?;
        let patterns = self.patterns()?;
        self.require("|")?;
        let body = self.stages(with_commas)?;
        Ok(Term::Bind(of.into(), patterns, body.into()))
    }

    /// Operators of that rank and above.
    pub(super) fn expression(&mut self, lowest: u8) -> Parsed<Term<'s>> {
        self.nested(|parser| {
            let mut left = parser.postfix()?;
            let mut before = None;
            let mut operators = 0;
            while let Some(op) = parser.peek().and_then(operator) {
                let (rank, chain) = op.precedence();
                if rank < lowest {
                    break;
                }
                if chain == Associativity::Never && before == Some(rank) {
                    return Err(parser.chain_error());
                }
                operators += 1;
                if operators > MAX_CHAIN {
                    return Err(errors::too_deep(parser.text));
                }
                before = Some(rank);
                parser.advance();
                let right = parser.expression(if chain == Associativity::Right {
                    rank
                } else {
                    rank + 1
                })?;
                left = Term::Binary(left.into(), op, right.into());
            }
            Ok(left)
        })
    }

    fn chain_error(&self) -> CompileError {
        let symbol = self.peek().map_or("", |token| token.text);
        let message = format!("a second `{symbol}` or operator of its kind needs brackets");
        error(
            span(self.text, symbol),
            message,
            "an expression in brackets",
            "write `(a == b) == c`, `a = (b = c)`",
        )
    }

    /// A term with the path, and the `?`, after it.
    pub(super) fn postfix(&mut self) -> Parsed<Term<'s>> {
        self.nested(|parser| {
            let term = parser.term()?;
            let term = if parser.optional() { Term::Try(term.into(), None) } else { term };
            let parts = parser.path()?;
            Ok(match term {
                term if parts.is_empty() => term,
                Term::Path(of, mut before) => {
                    before.extend(parts);
                    Term::Path(of, before)
                }
                term => Term::Path(term.into(), parts),
            })
        })
    }

    /// Takes every `?`.
    pub(super) fn optional(&mut self) -> bool {
        let mut optional = false;
        while self.is_next("?") {
            optional = true;
            self.advance();
        }
        optional
    }

    fn term(&mut self) -> Parsed<Term<'s>> {
        let Some(token) = self.peek() else { return Err(self.expected("term")) };
        match token.kind {
            TokenKind::Word => self.word(token.text),
            TokenKind::Variable if token.text == "$__loc__" => {
                self.advance();
                Ok(Term::Location(self.line(token.text)))
            }
            TokenKind::Variable => {
                self.advance();
                Ok(Term::Variable(token.text))
            }
            TokenKind::Format => {
                self.advance();
                match self.kind() {
                    Some(TokenKind::Text) => Ok(Term::Text(self.text_term(Some(token.text))?)),
                    _ => Ok(Term::Call(token.text, self.arguments()?)),
                }
            }
            TokenKind::Number => {
                self.advance();
                Ok(Term::Number(token.text))
            }
            TokenKind::Text => Ok(Term::Text(self.text_term(None)?)),
            TokenKind::Field => Ok(Term::Path(Term::Id.into(), self.path()?)),
            TokenKind::Open(bracket) => {
                self.advance();
                self.bracket(bracket)
            }
            TokenKind::Symbol => self.symbol(token.text),
            _ => Err(self.expected("term")),
        }
    }

    fn symbol(&mut self, symbol: &'s str) -> Parsed<Term<'s>> {
        match symbol {
            "-" => {
                self.advance();
                Ok(Term::Negation(self.postfix()?.into()))
            }
            ".." => {
                self.advance();
                Ok(Term::Recurse)
            }
            "." => {
                self.advance();
                match self.kind() {
                    Some(TokenKind::Text | TokenKind::Format) => {
                        let key = self.text_key("key")?;
                        let part = (super::term::PathPart::Index(key), self.optional());
                        Ok(Term::Path(Term::Id.into(), vec![part]))
                    }
                    _ => Ok(Term::Id),
                }
            }
            _ => Err(self.expected("term")),
        }
    }

    fn bracket(&mut self, bracket: char) -> Parsed<Term<'s>> {
        match bracket {
            '(' => {
                let term = self.query()?;
                self.close(')', ")")?;
                Ok(term)
            }
            '[' if self.eat_kind(TokenKind::Close(']')) => Ok(Term::Array(None)),
            '[' => {
                let term = self.query()?;
                self.close(']', "]")?;
                Ok(Term::Array(Some(term.into())))
            }
            _ => self.object(),
        }
    }

    fn word(&mut self, word: &'s str) -> Parsed<Term<'s>> {
        match word {
            "import" | "include" | "module" => return Err(modules_error(span(self.text, word))),
            "def" | "if" | "try" | "label" | "break" | "reduce" | "foreach" => (),
            _ if KEYWORDS.contains(&word) => return Err(self.expected("term")),
            _ => (),
        }
        self.advance();
        match word {
            "null" => Ok(Term::Null),
            "true" => Ok(Term::Bool(true)),
            "false" => Ok(Term::Bool(false)),
            "def" => self.definitions(),
            "if" => self.conditional(),
            "try" => {
                let body = self.postfix()?;
                let handler = if self.eat("catch") { Some(self.postfix()?.into()) } else { None };
                Ok(Term::Try(body.into(), handler))
            }
            "label" => {
                let name = self.variable()?;
                self.require("|")?;
                Ok(Term::Label(name, self.query()?.into()))
            }
            "break" => Ok(Term::Break(self.variable()?)),
            "reduce" | "foreach" => self.fold(word),
            _ => Ok(Term::Call(word, self.arguments()?)),
        }
    }

    pub(super) fn variable(&mut self) -> Parsed<&'s str> {
        match self.peek() {
            Some(Token { kind: TokenKind::Variable, text }) => {
                self.advance();
                Ok(text)
            }
            _ => Err(self.expected("variable")),
        }
    }

    /// `(a; b)`, or nothing.
    pub(super) fn arguments(&mut self) -> Parsed<Vec<Term<'s>>> {
        let mut args = Vec::new();
        if !self.eat_kind(TokenKind::Open('(')) {
            return Ok(args);
        }
        loop {
            args.push(self.query()?);
            if !self.eat(";") {
                break;
            }
        }
        self.close(')', "semicolon or right parenthesis")?;
        Ok(args)
    }

    /// The string whose opening quote is the next token.
    pub(super) fn text_term(&mut self, format: Option<&'s str>) -> Parsed<TextTerm<'s>> {
        let written = self.peek().map_or("", |token| token.text);
        Ok(TextTerm { source_text: written, format, parts: self.text_parts()? })
    }

    fn text_parts(&mut self) -> Parsed<Vec<TextPart<'s>>> {
        self.advance();
        let mut parts = Vec::new();
        loop {
            let Some(token) = self.peek() else { return Err(self.expected("closing quote")) };
            self.advance();
            match token.kind {
                TokenKind::TextEnd => return Ok(parts),
                TokenKind::Char(c) => parts.push(TextPart::Char(c)),
                TokenKind::Open(_) => {
                    parts.push(TextPart::Value(self.query()?));
                    self.close(')', ")")?;
                }
                _ => parts.push(TextPart::Plain(token.text)),
            }
        }
    }

    /// The line on which `part` of the text stands.
    pub(super) fn line(&self, part: &str) -> usize {
        1 + self.text[..span(self.text, part).start].matches('\n').count()
    }
}

fn operator(token: Token<'_>) -> Option<BinaryOp> {
    match token.kind {
        TokenKind::Symbol | TokenKind::Word => BinaryOp::from_symbol(token.text),
        _ => None,
    }
}

/// The only item, or the result of `all` for several.
fn single_or<'s>(
    mut items: Vec<Term<'s>>,
    all: impl FnOnce(Vec<Term<'s>>) -> Term<'s>,
) -> Term<'s> {
    match items.pop() {
        Some(only) if items.is_empty() => only,
        Some(last) => {
            items.push(last);
            all(items)
        }
        None => Term::Id,
    }
}
