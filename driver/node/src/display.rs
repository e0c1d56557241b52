//! A term as Erlang writes it, of bounded length.
//!
//! For people, in messages and logs; nothing reads it back. The most that is printed of one term does not depend
//! on what a node sends.
//!
//! Source: Erlang Reference Manual, "Data Types"; `io_lib:write/1` for pids, references and funs.

use std::fmt::{self, Display, Formatter, Write};

use erl_dist::term::{InternalFun, Term};

/// The most bytes of one term: a few lines of a terminal.
const LIMIT: usize = 600;

/// Entries of a map that are put in order. One takes at least seven bytes, so a larger map is cut anyway.
const ORDERED: usize = LIMIT / 7;

/// What an unquoted atom may not be.
const RESERVED: [&str; 29] = [
    "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case", "catch", "cond",
    "div", "else", "end", "fun", "if", "let", "maybe", "not", "of", "or", "orelse", "receive", "rem", "try",
    "when", "xor",
];

/// Shows a term in Erlang syntax; a long one ends with `...`. Pids, ports and references are shown as on their
/// own node (`<0.1.0>`).
pub fn display(term: &Term) -> impl Display {
    Shown(term)
}

struct Shown<'a>(&'a Term);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut out = Bounded {
            text: String::new(),
            full: false,
        };
        // The only error is that it is full.
        let _ = write_term(self.0, &mut out);
        f.write_str(&out.text)?;
        if out.full { f.write_str("...") } else { Ok(()) }
    }
}

struct Bounded {
    text: String,
    full: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = LIMIT - self.text.len();
        if part.len() <= room {
            self.text.push_str(part);
            return Ok(());
        }
        let cut = part
            .char_indices()
            .map(|(at, _)| at)
            .take_while(|at| *at <= room)
            .last()
            .unwrap_or(0);
        self.text.push_str(&part[..cut]);
        self.full = true;
        Err(fmt::Error)
    }
}

fn write_term(term: &Term, out: &mut Bounded) -> fmt::Result {
    match term {
        Term::Atom(atom) => write_atom(&atom.name, out),
        Term::FixInteger(number) => write!(out, "{}", number.value),
        Term::BigInteger(number) => write!(out, "{}", number.value),
        Term::Float(float) => write_float(float.value, out),
        Term::Binary(binary) => match readable(&binary.bytes) {
            Some(text) => {
                out.write_str("<<")?;
                quoted('"', text.chars(), out)?;
                // Without it Erlang would read the characters as bytes.
                out.write_str(if text.is_ascii() { ">>" } else { "/utf8>>" })
            }
            None => {
                out.write_str("<<")?;
                separated(&binary.bytes, out, |byte, out| write!(out, "{byte}"))?;
                out.write_str(">>")
            }
        },
        Term::BitBinary(string) => {
            let last = string.bytes.len().saturating_sub(1);
            out.write_str("<<")?;
            separated(string.bytes.iter().enumerate(), out, |(index, byte), out| {
                if index == last && string.tail_bits_size < 8 {
                    write!(out, "{byte}:{}", string.tail_bits_size)
                } else {
                    write!(out, "{byte}")
                }
            })?;
            out.write_str(">>")
        }
        Term::ByteList(list) => {
            if !list.bytes.is_empty() && list.bytes.iter().all(|byte| printable(char::from(*byte))) {
                quoted('"', list.bytes.iter().map(|byte| char::from(*byte)), out)
            } else {
                out.write_char('[')?;
                separated(&list.bytes, out, |byte, out| write!(out, "{byte}"))?;
                out.write_char(']')
            }
        }
        Term::Tuple(tuple) => {
            out.write_char('{')?;
            separated(&tuple.elements, out, write_term)?;
            out.write_char('}')
        }
        Term::List(list) => {
            out.write_char('[')?;
            separated(&list.elements, out, write_term)?;
            out.write_char(']')
        }
        Term::ImproperList(list) if list.elements.is_empty() => write_term(&list.last, out),
        Term::ImproperList(list) => {
            out.write_char('[')?;
            separated(&list.elements, out, write_term)?;
            out.write_char('|')?;
            write_term(&list.last, out)?;
            out.write_char(']')
        }
        Term::Map(map) => {
            let mut entries: Vec<(&Term, &Term)> = map.map.iter().collect();
            if entries.len() <= ORDERED {
                // A hash map's order differs from run to run.
                entries.sort_by_cached_key(|(key, _)| display(key).to_string());
            }
            out.write_str("#{")?;
            separated(entries, out, |(key, value), out| {
                write_term(key, out)?;
                out.write_str(" => ")?;
                write_term(value, out)
            })?;
            out.write_char('}')
        }
        Term::Pid(pid) => write!(out, "<0.{}.{}>", pid.id, pid.serial),
        Term::Port(port) => write!(out, "#Port<0.{}>", port.id),
        Term::Reference(reference) => {
            out.write_str("#Ref<0")?;
            reference
                .id
                .iter()
                .rev()
                .try_for_each(|word| write!(out, ".{word}"))?;
            out.write_char('>')
        }
        Term::ExternalFun(fun) => {
            out.write_str("fun ")?;
            write_atom(&fun.module.name, out)?;
            out.write_char(':')?;
            write_atom(&fun.function.name, out)?;
            write!(out, "/{}", fun.arity)
        }
        Term::InternalFun(fun) => {
            let (module, index, uniq) = match &**fun {
                InternalFun::Old {
                    module, index, uniq, ..
                } => (module, index, uniq),
                InternalFun::New {
                    module,
                    old_index,
                    old_uniq,
                    ..
                } => (module, old_index, old_uniq),
            };
            out.write_str("#Fun<")?;
            write_atom(&module.name, out)?;
            write!(out, ".{index}.{uniq}>")
        }
    }
}

fn separated<T>(
    items: impl IntoIterator<Item = T>,
    out: &mut Bounded,
    write: impl Fn(T, &mut Bounded) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.write_char(',')?;
        }
        write(item, out)?;
    }
    Ok(())
}

fn write_atom(name: &str, out: &mut Bounded) -> fmt::Result {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '@')
        && !RESERVED.contains(&name);
    if plain {
        out.write_str(name)
    } else {
        quoted('\'', name.chars(), out)
    }
}

fn write_float(value: f64, out: &mut Bounded) -> fmt::Result {
    // Rust leaves the fraction out where Erlang needs it: 1e100 for 1.0e100.
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => write!(out, "{mantissa}.0e{exponent}"),
        _ => out.write_str(&text),
    }
}

/// The text of bytes that are one; long ones are looked at as far as they are shown.
fn readable(bytes: &[u8]) -> Option<&str> {
    let shown = &bytes[..bytes.len().min(LIMIT)];
    let text = match std::str::from_utf8(shown) {
        Ok(text) => text,
        // A character cut in two at the limit is no fault of the text's.
        Err(error) if shown.len() < bytes.len() && error.error_len().is_none() => {
            std::str::from_utf8(&shown[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    text.chars().all(printable).then_some(text)
}

fn printable(c: char) -> bool {
    !c.is_control() || matches!(c, '\n' | '\r' | '\t')
}

fn quoted(quote: char, text: impl Iterator<Item = char>, out: &mut Bounded) -> fmt::Result {
    out.write_char(quote)?;
    for c in text {
        match c {
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            c if c == quote || c == '\\' => write!(out, "\\{c}")?,
            c if c.is_control() => write!(out, "\\x{{{:X}}}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char(quote)
}

#[cfg(test)]
mod tests {
    use erl_dist::term::{
        Atom, BigInteger, Binary, BitBinary, ExternalFun, FixInteger, Float, ImproperList, List, Map, Pid,
        Port, Reference, Tuple,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::encode::tests::arbitrary_term;

    fn atom(name: &str) -> Term {
        Atom::from(name).into()
    }

    fn binary(bytes: &[u8]) -> Term {
        Binary {
            bytes: bytes.to_vec(),
        }
        .into()
    }

    fn string(bytes: &[u8]) -> Term {
        Term::ByteList(bytes.to_vec().into())
    }

    #[test]
    fn terms_read_as_erlang() {
        let float = |value| Term::from(Float { value });
        let list = |elements| Term::from(List { elements });
        for (term, text) in [
            (atom("ok"), "ok"),
            (atom("a@b_C1"), "a@b_C1"),
            (atom("Elixir.Shop"), "'Elixir.Shop'"),
            (atom("it's"), r"'it\'s'"),
            (atom("end"), "'end'"),
            (atom(""), "''"),
            (atom("a\nb\\"), r"'a\nb\\'"),
            (FixInteger { value: -7 }.into(), "-7"),
            (BigInteger::from(1u64 << 63).into(), "9223372036854775808"),
            (float(1.0), "1.0"),
            (float(-0.5), "-0.5"),
            (float(1e100), "1.0e100"),
            (float(1.5e-9), "1.5e-9"),
            (binary(b"x\"y"), r#"<<"x\"y">>"#),
            (binary(b""), r#"<<"">>"#),
            (binary("ä".as_bytes()), r#"<<"ä"/utf8>>"#),
            (binary(&[0, 255]), "<<0,255>>"),
            (
                BitBinary {
                    bytes: vec![1, 5],
                    tail_bits_size: 3,
                }
                .into(),
                "<<1,5:3>>",
            ),
            (string(b"hello\n"), r#""hello\n""#),
            (string(&[1, 2]), "[1,2]"),
            (list(vec![]), "[]"),
            (list(vec![atom("a"), list(vec![])]), "[a,[]]"),
            (
                ImproperList {
                    elements: vec![atom("a")],
                    last: Box::new(atom("b")),
                }
                .into(),
                "[a|b]",
            ),
            (
                Tuple {
                    elements: vec![atom("error"), binary(b"x")],
                }
                .into(),
                r#"{error,<<"x">>}"#,
            ),
            (
                Map::from([
                    (atom("b"), FixInteger { value: 2 }.into()),
                    (atom("a"), atom("z")),
                ])
                .into(),
                "#{a => z,b => 2}",
            ),
            (Pid::new("shop@host", 123, 4, 99).into(), "<0.123.4>"),
            (
                Port {
                    node: Atom::from("shop@host"),
                    id: 7,
                    creation: 1,
                }
                .into(),
                "#Port<0.7>",
            ),
            (
                Reference {
                    node: Atom::from("a@b"),
                    id: vec![1, 2, 3],
                    creation: 1,
                }
                .into(),
                "#Ref<0.3.2.1>",
            ),
            (
                ExternalFun {
                    module: Atom::from("Elixir.A"),
                    function: Atom::from("f"),
                    arity: 2,
                }
                .into(),
                "fun 'Elixir.A':f/2",
            ),
            // Nobody writes these so; a peer may.
            (Term::ByteList(Vec::new().into()), "[]"),
            (
                ImproperList {
                    elements: Vec::new(),
                    last: Box::new(atom("b")),
                }
                .into(),
                "b",
            ),
        ] {
            assert_eq!(display(&term).to_string(), text);
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        for text in ["é".repeat(1000), format!("x{}", "é".repeat(1000))] {
            let shown = display(&binary(text.as_bytes())).to_string();
            assert!(shown.starts_with("<<\"") && shown.ends_with("é..."), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn no_term_is_longer_than_the_limit(term in arbitrary_term(), copies in 1usize..200) {
            let whole = display(&List { elements: vec![term; copies] }.into()).to_string();
            prop_assert!(whole.len() <= LIMIT + 3, "{}", whole.len());
            prop_assert!(whole.ends_with(']') || whole.ends_with("..."));
        }
    }
}
