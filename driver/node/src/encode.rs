//! Terms to bytes.
//!
//! Nothing that this side could not mean is written: a term the peer would reject ends the connection, so it is an
//! error here. eetf is not used for this way: it writes `[-1]` as `[255]`, and cuts the length of more than 65535
//! bytes of a byte list.
//!
//! Source: External Term Format, ERTS user's guide.

use erl_dist::term::{Atom, Pid, Reference, Term};

use crate::scan::MAX_DEPTH;

/// Characters of an atom (`MAX_ATOM_CHARACTERS` of the emulator); a longer one ends the connection.
const MAX_ATOM: usize = 255;

/// Why a term cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodeError {
    /// A local fun can be made only by the node it belongs to.
    #[error("a local fun is not sent by this side")]
    Fun,
    /// Longer than an atom may be.
    #[error("an atom has more than {MAX_ATOM} characters")]
    Atom,
    /// Infinite, or not a number.
    #[error("Erlang has no such float")]
    Float,
    /// Its last byte has no bits, or more than eight.
    #[error("a bit string says nothing true about its last byte")]
    Bits,
    /// More elements or bytes than the format can count.
    #[error("a part of the term is too long")]
    Long,
    /// What this side would not take back.
    #[error("the term nests deeper than {MAX_DEPTH} levels")]
    Deep,
}

/// Writes a term with its version byte.
///
/// # Errors
/// [`EncodeError`]; `out` then holds a part of the term.
pub(crate) fn encode(term: &Term, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.push(131);
    write(term, MAX_DEPTH, out)
}

fn length(count: usize) -> Result<[u8; 4], EncodeError> {
    u32::try_from(count)
        .map(u32::to_be_bytes)
        .map_err(|_| EncodeError::Long)
}

/// SMALL_ATOM_UTF8, ATOM_UTF8
fn atom(atom: &Atom, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if atom.name.chars().count() > MAX_ATOM {
        return Err(EncodeError::Atom);
    }
    if let Ok(length) = u8::try_from(atom.name.len()) {
        out.extend([119, length]);
    } else {
        let length = u16::try_from(atom.name.len()).map_err(|_| EncodeError::Atom)?;
        out.push(118);
        out.extend(length.to_be_bytes());
    }
    out.extend(atom.name.as_bytes());
    Ok(())
}

/// NEW_PID
fn pid(pid: &Pid, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.push(88);
    atom(&pid.node, out)?;
    [pid.id, pid.serial, pid.creation]
        .iter()
        .for_each(|word| out.extend(word.to_be_bytes()));
    Ok(())
}

/// NEWER_REFERENCE
fn reference(reference: &Reference, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let words = u16::try_from(reference.id.len()).map_err(|_| EncodeError::Long)?;
    out.push(90);
    out.extend(words.to_be_bytes());
    atom(&reference.node, out)?;
    out.extend(reference.creation.to_be_bytes());
    reference
        .id
        .iter()
        .for_each(|word| out.extend(word.to_be_bytes()));
    Ok(())
}

/// SMALL_INTEGER, INTEGER
fn integer(value: i32, out: &mut Vec<u8>) {
    match u8::try_from(value) {
        Ok(small) => out.extend([97, small]),
        Err(_) => {
            out.push(98);
            out.extend(value.to_be_bytes());
        }
    }
}

fn counted(tag: u8, elements: &[Term], levels: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.push(tag);
    out.extend(length(elements.len())?);
    elements
        .iter()
        .try_for_each(|element| write(element, levels, out))
}

fn write(term: &Term, levels: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let inner = levels.checked_sub(1).ok_or(EncodeError::Deep)?;
    match term {
        Term::Atom(name) => atom(name, out)?,
        Term::FixInteger(number) => integer(number.value, out),
        Term::BigInteger(number) => {
            let negative = u8::from(number.value < 0.into());
            let bytes = number.value.magnitude().to_bytes_le();
            match u8::try_from(bytes.len()) {
                Ok(small) => out.extend([110, small]),
                Err(_) => {
                    out.push(111);
                    out.extend(length(bytes.len())?);
                }
            }
            out.push(negative);
            out.extend(bytes);
        }
        Term::Float(float) => {
            if !float.value.is_finite() {
                return Err(EncodeError::Float);
            }
            out.push(70);
            out.extend(float.value.to_be_bytes());
        }
        Term::Binary(binary) => {
            out.push(109);
            out.extend(length(binary.bytes.len())?);
            out.extend(&binary.bytes);
        }
        Term::BitBinary(string) => {
            // eetf keeps the bits of the last byte at its low end, the format at its high end.
            let Some((last, whole)) = string.bytes.split_last() else {
                return Err(EncodeError::Bits);
            };
            if !(1..=8).contains(&string.tail_bits_size) {
                return Err(EncodeError::Bits);
            }
            out.push(77);
            out.extend(length(string.bytes.len())?);
            out.push(string.tail_bits_size);
            out.extend(whole);
            out.push(last << (8 - string.tail_bits_size));
        }
        Term::Tuple(tuple) => match u8::try_from(tuple.elements.len()) {
            Ok(small) => {
                out.extend([104, small]);
                tuple
                    .elements
                    .iter()
                    .try_for_each(|element| write(element, inner, out))?;
            }
            Err(_) => counted(105, &tuple.elements, inner, out)?,
        },
        Term::List(list) => {
            if !list.elements.is_empty() {
                counted(108, &list.elements, inner, out)?;
            }
            out.push(106);
        }
        Term::ImproperList(list) => {
            if !list.elements.is_empty() {
                counted(108, &list.elements, inner, out)?;
            }
            write(&list.last, inner, out)?;
        }
        Term::ByteList(list) => match u16::try_from(list.bytes.len()) {
            Ok(0) => out.push(106),
            Ok(short) => {
                out.push(107);
                out.extend(short.to_be_bytes());
                out.extend(&list.bytes);
            }
            Err(_) => {
                out.push(108);
                out.extend(length(list.bytes.len())?);
                list.bytes.iter().for_each(|byte| out.extend([97, *byte]));
                out.push(106);
            }
        },
        Term::Map(map) => {
            out.push(116);
            out.extend(length(map.map.len())?);
            for (key, value) in &map.map {
                write(key, inner, out)?;
                write(value, inner, out)?;
            }
        }
        Term::Pid(id) => pid(id, out)?,
        Term::Port(port) => {
            // V4_PORT
            out.push(120);
            atom(&port.node, out)?;
            out.extend(port.id.to_be_bytes());
            out.extend(port.creation.to_be_bytes());
        }
        Term::Reference(id) => reference(id, out)?,
        Term::ExternalFun(fun) => {
            out.push(113);
            atom(&fun.module, out)?;
            atom(&fun.function, out)?;
            integer(fun.arity.into(), out);
        }
        Term::InternalFun(_) => return Err(EncodeError::Fun),
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use erl_dist::term::{
        BigInteger, Binary, BitBinary, ExternalFun, FixInteger, Float, ImproperList, List, Map, Port, Tuple,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::scan::scan;

    fn bytes(term: &Term) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(term, &mut bytes).unwrap();
        bytes
    }

    fn back(term: &Term) -> Term {
        Term::decode(&bytes(term)[..]).unwrap()
    }

    fn small(value: i32) -> Term {
        FixInteger { value }.into()
    }

    fn arbitrary_atom() -> impl Strategy<Value = Atom> {
        prop_oneof!["[a-zA-Z_@ ']{0,20}", "\\PC{0,255}"].prop_map(|name| Atom { name })
    }

    /// Any term but a local fun, as eetf would hold it after decoding.
    pub(crate) fn arbitrary_term() -> impl Strategy<Value = Term> {
        let big =
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 5..200)).prop_map(|(negative, bytes)| {
                let mut value = BigInteger::from(u64::MAX);
                bytes
                    .iter()
                    .for_each(|byte| value.value = &value.value * 256 + *byte);
                if negative {
                    value.value = -value.value;
                }
                Term::from(value)
            });
        let pid = (arbitrary_atom(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
            |(node, id, serial, creation)| {
                Pid {
                    node,
                    id,
                    serial,
                    creation,
                }
                .into()
            },
        );
        let reference = (
            arbitrary_atom(),
            proptest::collection::vec(any::<u32>(), 1..=5),
            any::<u32>(),
        )
            .prop_map(|(node, id, creation)| Reference { node, id, creation }.into());
        let port = (arbitrary_atom(), any::<u64>(), any::<u32>())
            .prop_map(|(node, id, creation)| Port { node, id, creation }.into());
        let fun = (arbitrary_atom(), arbitrary_atom(), any::<u8>()).prop_map(|(module, function, arity)| {
            ExternalFun {
                module,
                function,
                arity,
            }
            .into()
        });
        let bits = (proptest::collection::vec(any::<u8>(), 1..20), 1u8..=8).prop_map(|(mut bytes, tail)| {
            *bytes.last_mut().unwrap() >>= 8 - tail;
            BitBinary {
                bytes,
                tail_bits_size: tail,
            }
            .into()
        });
        let string =
            proptest::collection::vec(any::<u8>(), 1..40).prop_map(|bytes| Term::ByteList(bytes.into()));
        let leaf = prop_oneof![
            arbitrary_atom().prop_map(Term::from),
            any::<i32>().prop_map(small),
            (-1..260).prop_map(small),
            big,
            any::<f64>()
                .prop_filter("finite", |value| value.is_finite())
                .prop_map(|value| Float { value }.into()),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Binary { bytes }.into()),
            Just(List::nil().into()),
            pid,
            reference,
            port,
            fun,
            bits,
            string,
        ];
        leaf.prop_recursive(4, 64, 8, |term| {
            let terms = proptest::collection::vec(term.clone(), 0..8);
            // A map as a key would not be found again: eetf's hash of a map depends on its random order.
            let key = prop_oneof![
                any::<i32>().prop_map(small),
                arbitrary_atom().prop_map(Term::from)
            ];
            let tail = term
                .clone()
                .prop_filter("no list", |term| !matches!(term, Term::List(_)));
            prop_oneof![
                terms.clone().prop_map(|elements| Tuple { elements }.into()),
                terms.prop_map(|elements| List { elements }.into()),
                (proptest::collection::vec(term.clone(), 1..4), tail).prop_map(|(elements, last)| {
                    ImproperList {
                        elements,
                        last: Box::new(last),
                    }
                    .into()
                }),
                proptest::collection::hash_map(key, term, 0..6).prop_map(|map| Map { map }.into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_passes_the_scan_and_comes_back_as_it_was(term in arbitrary_term()) {
            let bytes = bytes(&term);
            prop_assert_eq!(scan(&bytes), Ok(bytes.len()));
            prop_assert_eq!(Term::decode(&bytes[..]).unwrap(), term);
        }
    }

    #[test]
    fn lists_that_eetf_would_spoil_come_back_as_they_were() {
        for list in [vec![-1, 2], vec![-1], vec![7; 70_000], vec![0; 65_536]] {
            let term: Term = List {
                elements: list.into_iter().map(small).collect(),
            }
            .into();
            assert_eq!(back(&term), term);
        }
        let elements: Vec<Term> = vec![small(7); 70_000];
        assert_eq!(
            back(&Term::ByteList(vec![7; 70_000].into())),
            List { elements }.into()
        );
        assert_eq!(
            back(&Term::ByteList(vec![7; 65_535].into())),
            Term::ByteList(vec![7; 65_535].into())
        );
        assert_eq!(back(&Term::ByteList(vec![].into())), List::nil().into());
    }

    #[test]
    fn a_large_tuple_comes_back() {
        let term: Term = Tuple {
            elements: vec![small(1); 256],
        }
        .into();
        assert_eq!(back(&term), term);
    }

    #[test]
    fn big_integers_keep_their_sign() {
        for value in [i64::MIN, -1 << 40, 1 << 40, i64::MAX] {
            let term: Term = BigInteger::from(value).into();
            assert_eq!(back(&term), term);
        }
    }

    #[test]
    fn what_a_node_would_reject_is_an_error() {
        let mut deep = small(1);
        for _ in 1..MAX_DEPTH {
            deep = Tuple { elements: vec![deep] }.into();
        }
        assert_eq!(
            scan(&bytes(&deep)),
            Ok(bytes(&deep).len()),
            "both directions have one limit"
        );
        for (term, error) in [
            (Tuple { elements: vec![deep] }.into(), EncodeError::Deep),
            (
                Atom {
                    name: "é".repeat(256),
                }
                .into(),
                EncodeError::Atom,
            ),
            (Float { value: f64::INFINITY }.into(), EncodeError::Float),
            (
                BitBinary {
                    bytes: vec![],
                    tail_bits_size: 8,
                }
                .into(),
                EncodeError::Bits,
            ),
            (
                BitBinary {
                    bytes: vec![1],
                    tail_bits_size: 0,
                }
                .into(),
                EncodeError::Bits,
            ),
            (
                BitBinary {
                    bytes: vec![1],
                    tail_bits_size: 9,
                }
                .into(),
                EncodeError::Bits,
            ),
        ] {
            assert_eq!(encode(&term, &mut Vec::new()), Err(error));
        }
        assert_eq!(
            back(
                &Atom {
                    name: "é".repeat(255)
                }
                .into()
            ),
            Atom {
                name: "é".repeat(255)
            }
            .into()
        );
    }
}
