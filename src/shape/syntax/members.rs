//! Paths and members: the `[…]` after a term, and `{…}`.

use super::lexer::TokenKind;
use super::parser::{Parsed, Parser};
use super::term::{PathPart, Pattern, Term, TextPart, TextTerm};

impl<'s> Parser<'s, '_> {
    /// `.a[0].["b"]?`, as far as it goes.
    pub(super) fn path(&mut self) -> Parsed<Vec<(PathPart<'s>, bool)>> {
        let mut parts = Vec::new();
        loop {
            let Some(token) = self.peek() else { return Ok(parts) };
            let part = match token.kind {
                TokenKind::Field => {
                    self.advance();
                    PathPart::Index(literal(&token.text[1..]))
                }
                TokenKind::Open('[') => {
                    self.advance();
                    self.index()?
                }
                TokenKind::Symbol if token.text == "." => {
                    self.advance();
                    if self.eat_kind(TokenKind::Open('[')) {
                        self.index()?
                    } else {
                        PathPart::Index(self.text_key("key")?)
                    }
                }
                _ => return Ok(parts),
            };
            let optional = self.optional();
            parts.push((part, optional));
        }
    }

    /// The brackets after a term.
    fn index(&mut self) -> Parsed<PathPart<'s>> {
        if self.eat_kind(TokenKind::Close(']')) {
            return Ok(PathPart::Each);
        }
        let from = if self.is_next(":") { None } else { Some(self.query()?) };
        let part = if self.eat(":") {
            let has_end = self.kind() != Some(TokenKind::Close(']'));
            let to = if has_end || from.is_none() { Some(self.query()?) } else { None };
            PathPart::Slice(from, to)
        } else {
            PathPart::Index(from.unwrap_or(Term::Id))
        };
        self.close(']', "]")?;
        Ok(part)
    }

    /// A string, perhaps with a format before it.
    pub(super) fn text_key(&mut self, otherwise: &str) -> Parsed<Term<'s>> {
        let format = match self.peek() {
            Some(token) if token.kind == TokenKind::Format => {
                self.advance();
                Some(token.text)
            }
            _ => None,
        };
        match self.kind() {
            Some(TokenKind::Text) => Ok(Term::Text(self.text_term(format)?)),
            _ if format.is_some() => Err(self.expected("string")),
            _ => Err(self.expected(otherwise)),
        }
    }

    /// After `{`.
    pub(super) fn object(&mut self) -> Parsed<Term<'s>> {
        let mut members = Vec::new();
        while !self.eat_kind(TokenKind::Close('}')) {
            members.push(self.member()?);
            if !self.eat(",") {
                self.close('}', "comma or right brace")?;
                break;
            }
        }
        Ok(Term::Object(members))
    }

    /// `a: 1`, `a`, `$a`, `"a": 1`, `(.a): 1`
    fn member(&mut self) -> Parsed<(Term<'s>, Option<Term<'s>>)> {
        let Some(token) = self.peek() else { return Err(self.expected("key")) };
        let key = match token.kind {
            TokenKind::Open('(') => {
                self.advance();
                let key = self.query()?;
                self.close(')', ")")?;
                self.require(":")?;
                return Ok((key, Some(self.member_value()?)));
            }
            TokenKind::Variable if token.text == "$__loc__" => {
                self.advance();
                return Ok((
                    literal(&token.text[1..]),
                    Some(Term::Location(self.line(token.text))),
                ));
            }
            TokenKind::Variable => Term::Variable(self.variable()?),
            TokenKind::Word if !token.text.contains("::") => {
                self.advance();
                literal(token.text)
            }
            _ => self.text_key("key")?,
        };
        let value = if self.eat(":") { Some(self.member_value()?) } else { None };
        Ok((key, value))
    }

    /// After `{` in a pattern: `$a`, `a: $b`, `$a: [$b]`, `"a": $b`, `(.a): $b`.
    pub(super) fn members_pattern(&mut self) -> Parsed<Pattern<'s>> {
        let mut members = Vec::new();
        loop {
            let Some(token) = self.peek() else { return Err(self.expected("key")) };
            let key = match token.kind {
                TokenKind::Variable => {
                    let name = self.variable()?;
                    members.push((literal(&name[1..]), Pattern::Variable(name)));
                    self.is_next(":").then(|| literal(&name[1..]))
                }
                TokenKind::Open('(') => {
                    self.advance();
                    let key = self.query()?;
                    self.close(')', ")")?;
                    Some(key)
                }
                TokenKind::Word if !token.text.contains("::") => {
                    self.advance();
                    Some(literal(token.text))
                }
                _ => Some(self.text_key("key")?),
            };
            if let Some(key) = key {
                self.require(":")?;
                members.push((key, self.pattern()?));
            }
            if !self.eat(",") {
                self.close('}', "comma or right brace")?;
                return Ok(Pattern::Members(members));
            }
        }
    }
}

/// A name as a text.
fn literal(name: &str) -> Term<'_> {
    Term::Text(TextTerm { source_text: name, format: None, parts: vec![TextPart::Plain(name)] })
}
