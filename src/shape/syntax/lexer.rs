//! Tokens: jq's words, numbers, operators and strings, without recursion.
//!
//! Brackets and strings nest within one another (`"\([1])"`); the open ones stand on a list, whose
//! length is bounded, so that the parser's input nests no deeper.

use super::super::CompileError;
use super::errors::{error, expected_error};

const MAX_BRACKETS: usize = 200;

/// One token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'s> {
    pub(super) kind: TokenKind,
    /// Its text; of an opening token, all up to its end.
    pub(super) text: &'s str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A name or a keyword.
    Word,
    /// `$name`
    Variable,
    /// `@name`
    Format,
    Number,
    /// `.name`
    Field,
    Symbol,
    /// A bracket that opens; `\(` within a string is one as well.
    Open(char),
    Close(char),
    /// The quote at the beginning of a string.
    Text,
    /// Text of a string as it is.
    Plain,
    /// An escape in a string.
    Char(char),
    TextEnd,
}

/// An open bracket or quote: its character, its place, and its token.
struct OpenBracket {
    with: char,
    at: usize,
    token: usize,
}

struct Lexer<'s> {
    text: &'s str,
    at: usize,
    tokens: Vec<Token<'s>>,
    open: Vec<OpenBracket>,
}

type Lexed<T = ()> = Result<T, CompileError>;

/// The longest come first.
const SYMBOLS: [&str; 27] = [
    "//=", "..", "|=", "+=", "-=", "*=", "/=", "%=", "==", "!=", "<=", ">=", "//", ".", "?", ",",
    ";", ":", "|", "+", "-", "*", "/", "%", "=", "<", ">",
];

/// The tokens of a program.
pub(super) fn tokens(text: &str) -> Lexed<Vec<Token<'_>>> {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new(), open: Vec::new() };
    while lexer.at < text.len() {
        match lexer.open.last() {
            Some(OpenBracket { with: '"', .. }) => lexer.in_text()?,
            _ => lexer.token()?,
        }
    }
    match lexer.open.last() {
        Some(opened) => Err(expected_error(text, closing_name(opened.with), "")),
        None => Ok(lexer.tokens),
    }
}

/// The closing token of an open one, in words.
fn closing_name(open: char) -> &'static str {
    match open {
        '(' => "closing parenthesis",
        '[' => "closing bracket",
        '{' => "closing brace",
        _ => "closing quote",
    }
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.text[self.at..]
    }

    fn push(&mut self, kind: TokenKind, bytes: usize) {
        let text = &self.text[self.at..self.at + bytes];
        self.tokens.push(Token { kind, text });
        self.at += bytes;
    }

    fn expected<T>(&self, what: &str) -> Lexed<T> {
        let rest = self.rest();
        let found = rest.chars().next().map_or(rest, |c| &rest[..c.len_utf8()]);
        Err(expected_error(self.text, what, found))
    }

    fn open(&mut self, with: char, kind: TokenKind, bytes: usize) -> Lexed {
        if self.open.len() >= MAX_BRACKETS {
            let message = format!("more than {MAX_BRACKETS} brackets are open here");
            let hint = "close some before this one, or name what is in them with `def`";
            let at = self.at..self.at + bytes;
            return Err(error(at, message, format!("at most {MAX_BRACKETS} open brackets"), hint));
        }
        self.open.push(OpenBracket { with, at: self.at, token: self.tokens.len() });
        self.push(kind, bytes);
        Ok(())
    }

    fn close(&mut self, kind: TokenKind) {
        self.push(kind, 1);
        if let Some(opened) = self.open.pop() {
            self.tokens[opened.token].text = &self.text[opened.at..self.at];
        }
    }

    /// Whitespace and comments; a comment's line that ends in a backslash goes on.
    fn skip_space(&mut self) {
        loop {
            self.at = self.text.len() - self.rest().trim_start().len();
            if !self.rest().starts_with('#') {
                return;
            }
            loop {
                let line = self.rest().split_inclusive('\n').next().unwrap_or_default();
                self.at += line.len();
                let line = line.trim_end_matches('\n').trim_end_matches('\r');
                let backslashes = line.len() - line.trim_end_matches('\\').len();
                if backslashes.is_multiple_of(2) || self.at == self.text.len() {
                    break;
                }
            }
        }
    }

    fn token(&mut self) -> Lexed {
        self.skip_space();
        let rest = self.rest();
        let mut chars = rest.chars();
        let Some(first) = chars.next() else { return Ok(()) };
        let second = chars.next().unwrap_or(' ');
        match first {
            'a'..='z' | 'A'..='Z' | '_' => self.push(TokenKind::Word, module_name_len(rest)),
            '$' | '@' => {
                let kind = if first == '$' { TokenKind::Variable } else { TokenKind::Format };
                if name_len(&rest[1..]) == 0 {
                    self.at += 1;
                    return self.expected("identifier");
                }
                self.push(kind, 1 + module_name_len(&rest[1..]));
            }
            '.' if second.is_ascii_alphabetic() || second == '_' => {
                self.push(TokenKind::Field, 1 + name_len(&rest[1..]));
            }
            '.' if second.is_ascii_digit() => self.number()?,
            '0'..='9' => self.number()?,
            '"' => self.open('"', TokenKind::Text, 1)?,
            '(' | '[' | '{' => self.open(first, TokenKind::Open(first), 1)?,
            ')' | ']' | '}' => match self.open.last() {
                Some(opened) if closing_char(opened.with) == first => {
                    self.close(TokenKind::Close(first));
                }
                Some(opened) => return self.expected(closing_name(opened.with)),
                None => return self.expected("token"),
            },
            _ => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                Some(symbol) => self.push(TokenKind::Symbol, symbol.len()),
                None => return self.expected("token"),
            },
        }
        Ok(())
    }

    fn number(&mut self) -> Lexed {
        let rest = self.rest();
        let mut len = digits(rest);
        if rest[len..].starts_with('.') {
            len += 1 + digits(&rest[len + 1..]);
        }
        if rest[len..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[len + 1..].starts_with(['+', '-']));
            let exponent = digits(&rest[len + 1 + sign..]);
            len += 1 + sign + exponent;
            if exponent == 0 {
                self.at += len;
                return self.expected("digit");
            }
        }
        self.push(TokenKind::Number, len);
        Ok(())
    }

    /// The next part of a string.
    fn in_text(&mut self) -> Lexed {
        let rest = self.rest();
        match rest.find(['"', '\\']) {
            Some(0) if rest.starts_with('"') => {
                self.close(TokenKind::TextEnd);
                Ok(())
            }
            Some(0) => self.escape(),
            plain => {
                self.push(TokenKind::Plain, plain.unwrap_or(rest.len()));
                Ok(())
            }
        }
    }

    fn escape(&mut self) -> Lexed {
        let letter = self.rest()[1..].chars().next();
        let char = match letter {
            Some('(') => {
                self.at += 1;
                return self.open('(', TokenKind::Open('('), 1);
            }
            Some('u') => return self.unicode(),
            Some(c @ ('\\' | '/' | '"')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            _ => {
                self.at += 1;
                return self.expected("string escape sequence");
            }
        };
        self.push(TokenKind::Char(char), 2);
        Ok(())
    }

    /// `\u00e9`, or two of them for a character beyond U+FFFF.
    fn unicode(&mut self) -> Lexed {
        let high = self.code_unit(0)?;
        if !(0xD800..0xDC00).contains(&high) {
            // As in jq, the second of a pair without its first is a replacement character.
            self.push(TokenKind::Char(char::from_u32(high).unwrap_or('\u{fffd}')), 6);
            return Ok(());
        }
        let low = if self.rest()[6..].starts_with("\\u") { self.code_unit(6)? } else { 0 };
        if !(0xDC00..0xE000).contains(&low) {
            let message = "the first half of a pair of surrogates without its second";
            let hint = "write both, as in `\"\\ud83d\\ude04\"`, or the character itself";
            return Err(error(
                self.at..self.at + 6,
                message,
                "another `\\u` escape, of dc00 to dfff",
                hint,
            ));
        }
        let char = char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00));
        self.push(TokenKind::Char(char.unwrap_or('\u{fffd}')), 12);
        Ok(())
    }

    /// The four digits of the escape that begins so many bytes from here.
    fn code_unit(&mut self, from: usize) -> Lexed<u32> {
        let digits = &self.rest()[from + 2..];
        let valid = digits.bytes().take(4).take_while(u8::is_ascii_hexdigit).count();
        if valid < 4 {
            self.at += from + 2 + valid;
            return self.expected("4-digit hexadecimal UTF-8 code point");
        }
        Ok(u32::from_str_radix(&digits[..4], 16).unwrap_or_default())
    }
}

fn closing_char(open: char) -> char {
    match open {
        '(' => ')',
        '[' => ']',
        _ => '}',
    }
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// How many bytes of a name `text` begins with.
fn name_len(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

/// The same of a name that may be one of a module's: `a::b`.
fn module_name_len(text: &str) -> usize {
    let mut len = name_len(text);
    while let Some(inner) = text[len..].strip_prefix("::") {
        let more = name_len(inner);
        if more == 0 {
            break;
        }
        len += 2 + more;
    }
    len
}
