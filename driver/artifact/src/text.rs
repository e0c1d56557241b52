//! Erlang terms as text: what `.app` and `.rel` files are written in (`file:consult/1`).
//!
//! A reader of structure, not of values: numbers, binaries, maps and funs are checked and stepped over, because
//! nothing that names an application, a module or a version is ever one. It evaluates nothing, and nesting is
//! bounded, so no file can exhaust the stack.

use std::borrow::Cow;

/// The deepest nesting read. `.rel` files need five; an application's environment in an `.app` file holds
/// configuration that people write by hand, which stays far below.
const MAX_DEPTH: usize = 64;

/// A term, as far as release files need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Term {
    /// An atom, without its quotes.
    Atom(String),
    /// A string; neighbours are joined, as the Erlang parser does.
    Text(String),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A proper list.
    List(Vec<Term>),
    /// A number, a character, a binary, a map, a fun or an improper list.
    Other,
}

/// A text that is not one Erlang term with its full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TermError {
    /// Counted from one.
    pub line: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

impl Term {
    /// Reads the one term of a file. Bytes that are not UTF-8 are read as Latin-1, which older tools write.
    ///
    /// # Errors
    /// The text is not exactly one term with its full stop, or nests deeper than [`MAX_DEPTH`].
    pub(crate) fn read(bytes: &[u8]) -> Result<Term, TermError> {
        let text: Cow<'_, str> = match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => bytes.iter().copied().map(char::from).collect::<String>().into(),
        };
        let mut reader = Reader { text: &text, at: 0 };
        reader.file().map_err(|problem| TermError {
            line: 1 + text[..reader.at].matches('\n').count(),
            problem,
        })
    }

    /// The name of an atom.
    pub(crate) fn atom(&self) -> Option<&str> {
        match self {
            Term::Atom(name) => Some(name),
            _ => None,
        }
    }

    /// A string; the empty list is the empty string.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Term::Text(text) => Some(text),
            Term::List(elements) if elements.is_empty() => Some(""),
            _ => None,
        }
    }

    /// The elements of a tuple.
    pub(crate) fn tuple(&self) -> Option<&[Term]> {
        match self {
            Term::Tuple(elements) => Some(elements),
            _ => None,
        }
    }

    /// The elements of a list; the empty string is the empty list.
    pub(crate) fn list(&self) -> Option<&[Term]> {
        match self {
            Term::List(elements) => Some(elements),
            Term::Text(text) if text.is_empty() => Some(&[]),
            _ => None,
        }
    }

    /// The value of the first `{key, value}` of a property list.
    pub(crate) fn property(&self, key: &str) -> Option<&Term> {
        self.list()?.iter().find_map(|entry| match entry.tuple()? {
            [name, value] if name.atom() == Some(key) => Some(value),
            _ => None,
        })
    }
}

type Read<T> = Result<T, &'static str>;

/// Where reading stands; after an error `at` is where it happened.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn file(&mut self) -> Read<Term> {
        let term = self.term(0)?;
        self.expect(".", "a full stop must follow the term")?;
        if self.peek().is_some_and(|c| !is_space(c) && c != '%') {
            return Err("a full stop must be followed by white space");
        }
        self.space();
        if self.peek().is_some() {
            return Err("one term was expected and more follows");
        }
        Ok(term)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn starts(&self, with: &str) -> bool {
        self.text[self.at..].starts_with(with)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Takes the characters that satisfy `of`; answers how many bytes they were.
    fn take_while(&mut self, of: impl Fn(char) -> bool) -> usize {
        let rest = &self.text[self.at..];
        let length = rest.find(|c| !of(c)).unwrap_or(rest.len());
        self.at += length;
        length
    }

    fn space(&mut self) {
        loop {
            self.take_while(is_space);
            if self.peek() != Some('%') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    /// Takes `token` after any white space.
    fn accept(&mut self, token: &str) -> bool {
        self.space();
        let found = self.starts(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str, otherwise: &'static str) -> Read<()> {
        self.accept(token).then_some(()).ok_or(otherwise)
    }

    fn term(&mut self, depth: usize) -> Read<Term> {
        if depth == MAX_DEPTH {
            return Err("terms nest too deeply");
        }
        self.space();
        let Some(first) = self.peek() else {
            return Err("the text ends within a term");
        };
        match first {
            '{' => self.tuple(depth),
            '[' => self.list(depth),
            '"' => self.strings(),
            '\'' => Ok(Term::Atom(self.quoted()?)),
            '$' => {
                self.next();
                match self.next() {
                    Some('\\') => self.escape().map(drop)?,
                    Some(_) => (),
                    None => return Err("the text ends within a character"),
                }
                Ok(Term::Other)
            }
            '-' | '+' => {
                self.next();
                self.space();
                self.number()
            }
            '#' => self.map(depth),
            '<' => self.binary(),
            c if c.is_ascii_digit() => self.number(),
            c if c.is_lowercase() => {
                let name = self.word();
                if name == "fun" {
                    self.fun()
                } else {
                    Ok(Term::Atom(name))
                }
            }
            _ => Err("no term starts with this character"),
        }
    }

    /// What stands between brackets, the opening one taken: terms with commas between them, then `close`.
    /// A list may end in a bar and a tail, which is answered apart.
    fn elements(&mut self, close: &str, depth: usize) -> Read<(Vec<Term>, Option<Term>)> {
        let mut elements = Vec::new();
        if self.accept(close) {
            return Ok((elements, None));
        }
        loop {
            elements.push(self.term(depth + 1)?);
            if self.accept(close) {
                return Ok((elements, None));
            }
            if close == "]" && self.accept("|") {
                let tail = self.term(depth + 1)?;
                self.expect(close, "a closing bracket must follow the tail of a list")?;
                return Ok((elements, Some(tail)));
            }
            self.expect(",", "a comma or a closing bracket was expected")?;
        }
    }

    fn tuple(&mut self, depth: usize) -> Read<Term> {
        self.next();
        Ok(Term::Tuple(self.elements("}", depth)?.0))
    }

    fn list(&mut self, depth: usize) -> Read<Term> {
        self.next();
        Ok(match self.elements("]", depth)? {
            (elements, None) => Term::List(elements),
            (mut elements, Some(Term::List(tail))) => {
                elements.extend(tail);
                Term::List(elements)
            }
            // A string as a tail makes a list of terms and characters, and any other tail an improper list.
            (_, Some(_)) => Term::Other,
        })
    }

    fn map(&mut self, depth: usize) -> Read<Term> {
        self.next();
        self.expect("{", "a brace must follow the hash of a map")?;
        if self.accept("}") {
            return Ok(Term::Other);
        }
        loop {
            self.term(depth + 1)?;
            self.expect("=>", "an arrow must follow the key of a map")?;
            self.term(depth + 1)?;
            if self.accept("}") {
                return Ok(Term::Other);
            }
            self.expect(",", "a comma or a closing brace was expected")?;
        }
    }

    /// `<<Value:Size/type-type, …>>`
    fn binary(&mut self) -> Read<Term> {
        self.expect("<<", "a binary starts with two angles")?;
        if self.accept(">>") {
            return Ok(Term::Other);
        }
        loop {
            self.space();
            match self.peek() {
                Some('"' | '$' | '-' | '+' | '0'..='9') => drop(self.term(MAX_DEPTH - 1)?),
                _ => return Err("a binary holds numbers and strings"),
            }
            if self.accept(":") {
                self.space();
                self.number()?;
            }
            if self.accept("/") {
                self.space();
                self.take_while(|c| is_name(c) || matches!(c, '-' | ':'));
            }
            if self.accept(">>") {
                return Ok(Term::Other);
            }
            self.expect(",", "a comma or two closing angles were expected")?;
        }
    }

    /// `fun Module:Function/Arity`, its first word taken.
    fn fun(&mut self) -> Read<Term> {
        self.name()?;
        self.expect(":", "a fun in a file is fun Module:Function/Arity")?;
        self.name()?;
        self.expect("/", "a fun in a file is fun Module:Function/Arity")?;
        self.space();
        self.number()
    }

    fn name(&mut self) -> Read<String> {
        self.space();
        match self.peek() {
            Some('\'') => self.quoted(),
            Some(c) if c.is_lowercase() => Ok(self.word()),
            _ => Err("an atom was expected"),
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        self.take_while(is_name);
        self.text[start..self.at].into()
    }

    /// `1`, `1_000`, `16#ff`, `1.5`, `1.5e-3`, `$a`
    fn number(&mut self) -> Read<Term> {
        if self.take_while(is_digit) == 0 {
            return Err("a number was expected");
        }
        if self.starts("#") {
            self.next();
            if self.take_while(|c| c.is_ascii_alphanumeric() || c == '_') == 0 {
                return Err("digits must follow the hash of a number");
            }
        } else if self.text[self.at..]
            .strip_prefix('.')
            .is_some_and(|rest| rest.starts_with(is_digit))
        {
            self.next();
            self.take_while(is_digit);
            if self.starts("e") || self.starts("E") {
                self.next();
                if self.starts("-") || self.starts("+") {
                    self.next();
                }
                if self.take_while(is_digit) == 0 {
                    return Err("digits must follow the exponent of a number");
                }
            }
        }
        Ok(Term::Other)
    }

    /// One string or several in a row.
    fn strings(&mut self) -> Read<Term> {
        // From OTP 27 on this opens a triple-quoted string and before it closed an empty one: no tool writes it.
        if self.starts("\"\"\"") {
            return Err("triple-quoted strings are not read");
        }
        let mut text = String::new();
        loop {
            self.next();
            self.until('"', &mut text)?;
            self.space();
            if self.peek() != Some('"') {
                return Ok(Term::Text(text));
            }
        }
    }

    /// An atom in quotes.
    fn quoted(&mut self) -> Read<String> {
        self.next();
        let mut name = String::new();
        self.until('\'', &mut name)?;
        Ok(name)
    }

    /// The rest of what `quote` opened.
    fn until(&mut self, quote: char, into: &mut String) -> Read<()> {
        loop {
            match self.next() {
                None => return Err("the text ends within quotes"),
                Some(c) if c == quote => return Ok(()),
                Some('\\') => into.push(self.escape()?),
                Some(c) => into.push(c),
            }
        }
    }

    /// What a backslash stands for, itself taken (`erl_scan`).
    fn escape(&mut self) -> Read<char> {
        let not_a_character = "this escape is not a character";
        Ok(match self.next().ok_or("the text ends within an escape")? {
            'b' => '\u{8}',
            'd' => '\u{7f}',
            'e' => '\u{1b}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            's' => ' ',
            't' => '\t',
            'v' => '\u{b}',
            '^' => match self.next() {
                Some(c @ '@'..='_' | c @ 'a'..='z') => char::from(c as u8 & 31),
                _ => return Err(not_a_character),
            },
            'x' => {
                let braced = self.starts("{");
                if braced {
                    self.next();
                }
                let start = self.at;
                let length = self.take_while(|c| c.is_ascii_hexdigit());
                let length = if braced { length } else { length.min(2) };
                self.at = start + length;
                let digits = &self.text[start..self.at];
                let c = u32::from_str_radix(digits, 16)
                    .ok()
                    .and_then(char::from_u32)
                    .ok_or(not_a_character)?;
                if !braced && length != 2 || braced && self.next() != Some('}') {
                    return Err(not_a_character);
                }
                c
            }
            c @ '0'..='7' => {
                let mut value = u32::from(c) - u32::from('0');
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    self.next();
                    value = value * 8 + digit;
                }
                char::from_u32(value).ok_or(not_a_character)?
            }
            c => c,
        })
    }
}

/// White space to the Erlang scanner: control characters, space, and Latin-1's upper controls.
fn is_space(c: char) -> bool {
    c <= ' ' || ('\u{80}'..='\u{a0}').contains(&c)
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || c == '_'
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '@')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Term, TermError> {
        Term::read(text.as_bytes())
    }

    fn atom(name: &str) -> Term {
        Term::Atom(name.into())
    }

    /// Terms with one of their spellings: quotes, escapes, comments and white space as the dice fall.
    fn spelled() -> impl Strategy<Value = (Term, String)> {
        let quote = |text: &str, quote: char| {
            let mut spelled = String::from(quote);
            for (index, c) in text.chars().enumerate() {
                match c {
                    _ if c == quote || c == '\\' => spelled.extend(['\\', c]),
                    '\n' => spelled.push_str("\\n"),
                    c if index % 5 == 4 => spelled.push_str(&format!("\\x{{{:X}}}", u32::from(c))),
                    c => spelled.push(c),
                }
            }
            spelled.push(quote);
            spelled
        };
        let leaf = prop_oneof![
            "[a-eg-z][a-zA-Z0-9_@]{0,6}".prop_map(|name| (Term::Atom(name.clone()), name)),
            "\\PC{0,6}".prop_map(move |name| (Term::Atom(name.clone()), quote(&name, '\''))),
            "(\\PC|\n){1,8}".prop_map(move |text| (Term::Text(text.clone()), quote(&text, '"'))),
            ("[a-z]{1,3}", "[a-z]{0,3}")
                .prop_map(|(a, b)| (Term::Text(format!("{a}{b}")), format!("\"{a}\" %\"\n\"{b}\""))),
            any::<i64>().prop_map(|number| (Term::Other, number.to_string())),
            prop::sample::select(vec![
                "$a",
                "$\\n",
                "$ ",
                "$%",
                "16#fF",
                "1_000",
                "-  5",
                "<<>>",
                "<<\"a.}\">>",
                "<<1, 2:16/little-unit:8, \"é\"/utf8>>",
                "#{}",
                "#{a => [b], {c} => \"d\"}",
                "fun lists:map/2",
                "fun 'A':'b c'/0",
                "[a | b]",
                "[a|\"b\"]",
                "1.5e-3",
                "0.0",
                "-1_0.25E+10",
            ])
            .prop_map(|text| (Term::Other, text.into())),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            let space = prop::sample::select(vec!["", " ", "\n\t", " % a comment, with ] } \" '\n"]);
            (prop::collection::vec((inner, space), 0..6), any::<bool>()).prop_map(|(elements, tuple)| {
                let (open, close) = if tuple { ('{', '}') } else { ('[', ']') };
                let mut spelled = String::from(open);
                let mut terms = Vec::new();
                for (index, ((term, text), space)) in elements.into_iter().enumerate() {
                    if index > 0 {
                        spelled.push(',');
                    }
                    spelled.push_str(space);
                    spelled.push_str(&text);
                    spelled.push_str(space);
                    terms.push(term);
                }
                spelled.push(close);
                (
                    if tuple {
                        Term::Tuple(terms)
                    } else {
                        Term::List(terms)
                    },
                    spelled,
                )
            })
        })
    }

    proptest! {
        #[test]
        fn any_spelling_reads_as_its_term((term, text) in spelled()) {
            prop_assert_eq!(read(&format!("%% coding: utf-8\n{text}.\n")), Ok(term), "{}", text);
        }

        #[test]
        fn a_cut_spelling_is_an_error((_, text) in spelled(), cut: prop::sample::Index) {
            let text = format!("{{{text}}}");
            let mut at = cut.index(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            prop_assert!(read(&text[..at]).is_err());
        }

        #[test]
        fn any_bytes_are_a_term_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Term::read(&bytes);
        }

        #[test]
        fn any_tokens_are_a_term_or_an_error(
            tokens in prop::collection::vec(
                prop::sample::select(vec!["{", "}", "[", "]", "|", ",", "a", "\"", "'", "\\", "\\x{", "<<", ">>", "#", "#{", "=>", "$", "fun", ":", "/", "1", ".", " ", "%", "\n", "-", "^"]),
                0..24,
            ),
        ) {
            let _ = read(&tokens.concat());
        }
    }

    #[test]
    fn escapes_are_the_scanners() {
        assert_eq!(
            read(r#""\b\d\e\f\n\r\s\t\v\"\'\\\^A\^z\x41\x{1F600}\101\0\q". "#),
            Ok(Term::Text(
                "\u{8}\u{7f}\u{1b}\u{c}\n\r \t\u{b}\"'\\\u{1}\u{1a}A\u{1F600}A\0q".into()
            ))
        );
        for text in [
            r#""\x4""#,
            r#""\x{}""#,
            r#""\x{110000}""#,
            r#""\x{D800}""#,
            r#""\^!""#,
        ] {
            assert_eq!(
                read(&format!("{text}.")).unwrap_err().problem,
                "this escape is not a character",
                "{text}"
            );
        }
    }

    #[test]
    fn a_list_with_a_list_for_a_tail_is_one_list() {
        assert_eq!(
            read("[a|[b,c]]."),
            Ok(Term::List(vec![atom("a"), atom("b"), atom("c")]))
        );
    }

    #[test]
    fn latin_1_is_read_where_it_is_not_utf_8() {
        assert_eq!(Term::read(b"\"caf\xe9\"."), Ok(Term::Text("café".into())));
        assert_eq!(Term::read("\"café\".".as_bytes()), Ok(Term::Text("café".into())));
    }

    #[test]
    fn depth_is_bounded_and_a_million_brackets_are_no_stack() {
        let nested = |depth: usize| format!("{}{}.", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(MAX_DEPTH)).is_ok());
        for open in ["[", "{", "#{", "#{a=>", "[a|"] {
            assert_eq!(
                read(&open.repeat(1_000_000)).unwrap_err().problem,
                "terms nest too deeply",
                "{open}"
            );
        }
        assert!(read(&"<<".repeat(1_000_000)).is_err());
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line, problem) in [
            ("", 1, "the text ends within a term"),
            ("{a,\n\nb", 3, "a comma or a closing bracket was expected"),
            ("{a}", 1, "a full stop must follow the term"),
            ("{a}.b", 1, "a full stop must be followed by white space"),
            ("{a}.\n{b}.", 2, "one term was expected and more follows"),
            ("\n\"abc", 2, "the text ends within quotes"),
            ("{a,\nB}.", 2, "no term starts with this character"),
            ("[\"\"\"\na\n\"\"\"].", 1, "triple-quoted strings are not read"),
        ] {
            assert_eq!(read(text), Err(TermError { line, problem }), "{text:?}");
        }
    }

    #[test]
    fn properties_are_found_by_key() {
        let term = read("[a, {vsn, \"1\"}, {vsn, \"2\"}, {odd, 1, 2}].").unwrap();
        assert_eq!(term.property("vsn").and_then(Term::text), Some("1"));
        assert_eq!(term.property("odd"), None);
        assert_eq!(term.property("a"), None);
    }
}
