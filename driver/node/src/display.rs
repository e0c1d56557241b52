//! A term as Erlang writes it, of bounded length.

use std::fmt::{self, Display, Write};

use erl_dist::term::Term;

/// The most characters of one term: a few lines of a terminal.
const LIMIT: usize = 600;

/// Shows a term in Erlang syntax; a long one ends with `...`.
pub fn display(term: &Term) -> impl Display {
    let mut out = Bounded { text: String::new(), full: false };
    // The only error is that it is full.
    let _ = write_term(term, &mut out);
    if out.full {
        out.text.push_str("...");
    }
    out.text
}

struct Bounded {
    text: String,
    full: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.text.len() + part.len() > LIMIT {
            self.full = true;
            return Err(fmt::Error);
        }
        self.text.push_str(part);
        Ok(())
    }
}

fn write_term(term: &Term, out: &mut Bounded) -> fmt::Result {
    match term {
        Term::Atom(atom) => write_atom(&atom.name, out),
        Term::Binary(binary) => match std::str::from_utf8(&binary.bytes) {
            Ok(text) => write!(out, "<<{text:?}>>"),
            Err(_) => write!(out, "<<{} bytes>>", binary.bytes.len()),
        },
        Term::ByteList(list) => match std::str::from_utf8(&list.bytes) {
            Ok(text) if !text.contains(|c: char| c.is_control()) => write!(out, "{text:?}"),
            _ => write!(out, "{:?}", list.bytes),
        },
        Term::Tuple(tuple) => elements("{", &tuple.elements, "}", out),
        Term::List(list) => elements("[", &list.elements, "]", out),
        Term::Map(map) => {
            out.write_str("#{")?;
            for (index, (key, value)) in map.map.iter().enumerate() {
                if index > 0 {
                    out.write_char(',')?;
                }
                write_term(key, out)?;
                out.write_str(" => ")?;
                write_term(value, out)?;
            }
            out.write_char('}')
        }
        other => write!(out, "{other}"),
    }
}

fn elements(open: &str, terms: &[Term], close: &str, out: &mut Bounded) -> fmt::Result {
    out.write_str(open)?;
    for (index, term) in terms.iter().enumerate() {
        if index > 0 {
            out.write_char(',')?;
        }
        write_term(term, out)?;
    }
    out.write_str(close)
}

fn write_atom(name: &str, out: &mut Bounded) -> fmt::Result {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '@');
    if plain { out.write_str(name) } else { write!(out, "'{}'", name.replace('\'', "\\'")) }
}

#[cfg(test)]
mod tests {
    use erl_dist::term::{Atom, Binary, List, Tuple};

    use super::*;

    #[test]
    fn terms_read_as_erlang() {
        let term: Term = Tuple::from(vec![
            Atom::from("error").into(),
            Atom::from("Elixir.Shop").into(),
            List::from(vec![Binary { bytes: b"x".to_vec() }.into()]).into(),
        ])
        .into();
        assert_eq!(display(&term).to_string(), r#"{error,'Elixir.Shop',[<<"x">>]}"#);
    }

    #[test]
    fn a_long_term_is_cut() {
        let term: Term = List::from(vec![Atom::from("abcdefgh").into(); 1000]).into();
        let text = display(&term).to_string();
        assert!(text.len() <= LIMIT + 3 && text.ends_with("..."), "{}", text.len());
    }
}
