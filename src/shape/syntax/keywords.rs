//! The terms that begin with a keyword: `reduce` and `foreach`, `if`, `def`, and the patterns after
//! `as`.

use super::lexer::{Token, TokenKind};
use super::parser::{KEYWORDS, Parsed, Parser};
use super::term::{Definition, Fold, Pattern, Term};

impl<'s> Parser<'s, '_> {
    pub(super) fn fold(&mut self, name: &'s str) -> Parsed<Term<'s>> {
        let over = self.expression(0)?;
        self.require("as")?;
        let patterns = self.patterns()?;
        let args = self.arguments()?;
        Ok(Term::Fold(Box::new(Fold { name, over, patterns, args })))
    }

    /// After `if`.
    pub(super) fn conditional(&mut self) -> Parsed<Term<'s>> {
        let mut cases = Vec::new();
        loop {
            let case = self.query()?;
            self.require("then")?;
            cases.push((case, self.query()?));
            if self.eat("elif") {
                continue;
            }
            if self.eat("else") {
                let or = self.query()?;
                self.require("end")?;
                return Ok(Term::If(cases, Some(or.into())));
            }
            if self.eat("end") {
                return Ok(Term::If(cases, None));
            }
            return Err(self.expected("else or end"));
        }
    }

    /// After `def`: this definition, those that follow, and the body that they are for.
    pub(super) fn definitions(&mut self) -> Parsed<Term<'s>> {
        let mut definitions = vec![self.definition()?];
        while self.eat("def") {
            definitions.push(self.definition()?);
        }
        // As in jq, a program of definitions only is `.`; the prelude is such a program.
        let body = if self.peek().is_none() { Term::Id } else { self.query()? };
        Ok(Term::Define(definitions, body.into()))
    }

    fn definition(&mut self) -> Parsed<Definition<'s>> {
        let name = match self.peek() {
            Some(Token { kind: TokenKind::Word, text }) if is_name(text) => text,
            Some(Token { kind: TokenKind::Format, text }) if self.is_prelude => text,
            _ => return Err(self.expected("identifier")),
        };
        self.advance();
        let mut args = Vec::new();
        if self.eat_kind(TokenKind::Open('(')) {
            loop {
                match self.peek() {
                    Some(Token { kind: TokenKind::Word, text }) if is_name(text) => args.push(text),
                    Some(Token { kind: TokenKind::Variable, text }) if !text.contains("::") => {
                        args.push(text);
                    }
                    _ => return Err(self.expected("argument")),
                }
                self.advance();
                if !self.eat(";") {
                    break;
                }
            }
            self.close(')', "semicolon or right parenthesis")?;
        }
        self.require(":")?;
        let body = self.query()?;
        self.require(";")?;
        Ok(Definition { name, args, body })
    }

    /// `pattern ?// pattern`
    pub(super) fn patterns(&mut self) -> Parsed<Vec<Pattern<'s>>> {
        let mut patterns = vec![self.pattern()?];
        while self.eat_alternative() {
            patterns.push(self.pattern()?);
        }
        Ok(patterns)
    }

    pub(super) fn pattern(&mut self) -> Parsed<Pattern<'s>> {
        self.nested(|parser| match parser.kind() {
            Some(TokenKind::Variable) => Ok(Pattern::Variable(parser.variable()?)),
            Some(TokenKind::Open('[')) => {
                parser.advance();
                let mut items = vec![parser.pattern()?];
                while parser.eat(",") {
                    items.push(parser.pattern()?);
                }
                parser.close(']', "comma or right bracket")?;
                Ok(Pattern::Items(items))
            }
            Some(TokenKind::Open('{')) => {
                parser.advance();
                parser.members_pattern()
            }
            _ => Err(parser.expected("pattern")),
        })
    }
}

fn is_name(word: &str) -> bool {
    !word.contains("::") && !KEYWORDS.contains(&word)
}
