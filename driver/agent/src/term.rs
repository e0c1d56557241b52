//! Small constructors and readers over `erl_dist::term`.

use erl_dist::term::{Atom, BigInteger, Binary, FixInteger, List, Term, Tuple};

/// An atom.
pub(crate) fn atom(name: &str) -> Term {
    Atom::from(name).into()
}

/// A binary.
pub(crate) fn binary(bytes: &[u8]) -> Term {
    Binary {
        bytes: bytes.to_vec(),
    }
    .into()
}

/// A tuple.
pub(crate) fn tuple(elements: impl Into<Vec<Term>>) -> Term {
    Tuple {
        elements: elements.into(),
    }
    .into()
}

/// A proper list.
pub(crate) fn list(elements: impl IntoIterator<Item = Term>) -> Term {
    List {
        elements: elements.into_iter().collect(),
    }
    .into()
}

/// A list of `{key, value}`: unlike a map its bytes are always the same.
pub(crate) fn properties<const N: usize>(entries: [(&str, Term); N]) -> Term {
    list(entries.into_iter().map(|(key, value)| tuple([atom(key), value])))
}

/// A number.
pub(crate) fn number(value: u64) -> Term {
    match i32::try_from(value) {
        Ok(value) => FixInteger { value }.into(),
        Err(_) => BigInteger::from(value).into(),
    }
}

/// `true` or `false`.
pub(crate) fn boolean(value: bool) -> Term {
    atom(if value { "true" } else { "false" })
}

/// The name of an atom.
pub(crate) fn as_atom(term: &Term) -> Option<&str> {
    match term {
        Term::Atom(atom) => Some(&atom.name),
        _ => None,
    }
}

/// The elements of a tuple.
pub(crate) fn as_tuple(term: &Term) -> Option<&[Term]> {
    match term {
        Term::Tuple(tuple) => Some(&tuple.elements),
        _ => None,
    }
}

/// The elements of a proper list.
pub(crate) fn as_list(term: &Term) -> Option<&[Term]> {
    match term {
        Term::List(list) => Some(&list.elements),
        _ => None,
    }
}

/// The bytes of a binary.
pub(crate) fn as_bytes(term: &Term) -> Option<&[u8]> {
    match term {
        Term::Binary(binary) => Some(&binary.bytes),
        _ => None,
    }
}

/// A binary as text; bytes that are not UTF-8 are replaced.
pub(crate) fn as_text(term: &Term) -> Option<String> {
    as_bytes(term).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A number that is not negative.
pub(crate) fn as_u64(term: &Term) -> Option<u64> {
    match term {
        Term::FixInteger(number) => u64::try_from(number.value).ok(),
        Term::BigInteger(number) => u64::try_from(&number.value).ok(),
        _ => None,
    }
}

/// `true` or `false`.
pub(crate) fn as_bool(term: &Term) -> Option<bool> {
    match as_atom(term)? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// The value of an atom key of a map.
pub(crate) fn get<'a>(term: &'a Term, key: &str) -> Option<&'a Term> {
    match term {
        Term::Map(map) => map.map.get(&atom(key)),
        _ => None,
    }
}
