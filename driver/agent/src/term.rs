//! Small constructors and readers over `erl_dist::term`.

use erl_dist::term::{Atom, BigInteger, Binary, ExternalFun, FixInteger, List, Term, Tuple};

/// An atom.
pub fn atom(name: &str) -> Term {
    Atom::from(name).into()
}

/// A binary.
pub fn binary(bytes: &[u8]) -> Term {
    Binary {
        bytes: bytes.to_vec(),
    }
    .into()
}

/// A tuple.
pub fn tuple(elements: impl Into<Vec<Term>>) -> Term {
    Tuple {
        elements: elements.into(),
    }
    .into()
}

/// A proper list.
pub fn list(elements: impl IntoIterator<Item = Term>) -> Term {
    List {
        elements: elements.into_iter().collect(),
    }
    .into()
}

/// A list of `{key, value}`: unlike a map its bytes are always the same.
pub fn properties<const N: usize>(entries: [(&str, Term); N]) -> Term {
    list(entries.into_iter().map(|(key, value)| tuple([atom(key), value])))
}

/// A number.
pub fn number(value: u64) -> Term {
    match i32::try_from(value) {
        Ok(value) => FixInteger { value }.into(),
        Err(_) => BigInteger::from(value).into(),
    }
}

/// `true` or `false`.
pub fn boolean(value: bool) -> Term {
    atom(if value { "true" } else { "false" })
}

/// A string as Erlang has it, a list of code points.
pub fn charlist(text: &str) -> Term {
    list(text.chars().map(|char| number(u64::from(u32::from(char)))))
}

/// `fun Module:Function/Arity`.
pub fn external_fun(module: &str, function: &str, arity: u8) -> Term {
    ExternalFun {
        module: Atom::from(module),
        function: Atom::from(function),
        arity,
    }
    .into()
}

/// The name of an atom.
pub fn as_atom(term: &Term) -> Option<&str> {
    match term {
        Term::Atom(atom) => Some(&atom.name),
        _ => None,
    }
}

/// The elements of a tuple.
pub fn as_tuple(term: &Term) -> Option<&[Term]> {
    match term {
        Term::Tuple(tuple) => Some(&tuple.elements),
        _ => None,
    }
}

/// The elements of a proper list.
pub fn as_list(term: &Term) -> Option<&[Term]> {
    match term {
        Term::List(list) => Some(&list.elements),
        _ => None,
    }
}

/// The bytes of a binary.
pub fn as_bytes(term: &Term) -> Option<&[u8]> {
    match term {
        Term::Binary(binary) => Some(&binary.bytes),
        _ => None,
    }
}

/// A binary as text; bytes that are not UTF-8 are replaced.
pub fn as_text(term: &Term) -> Option<String> {
    as_bytes(term).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A number that is not negative.
pub fn as_u64(term: &Term) -> Option<u64> {
    match term {
        Term::FixInteger(number) => u64::try_from(number.value).ok(),
        Term::BigInteger(number) => u64::try_from(&number.value).ok(),
        _ => None,
    }
}

/// `true` or `false`.
pub fn as_bool(term: &Term) -> Option<bool> {
    match as_atom(term)? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// The value of an atom key of a map.
pub fn get<'a>(term: &'a Term, key: &str) -> Option<&'a Term> {
    match term {
        Term::Map(map) => map.map.get(&atom(key)),
        _ => None,
    }
}

/// A string as Erlang has it.
pub fn as_charlist(term: &Term) -> Option<String> {
    match term {
        Term::ByteList(list) => Some(list.bytes.iter().map(|byte| char::from(*byte)).collect()),
        Term::List(list) => list
            .elements
            .iter()
            .map(|code| char::from_u32(u32::try_from(as_u64(code)?).ok()?))
            .collect(),
        _ => None,
    }
}
