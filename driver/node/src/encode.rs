//! Terms to bytes.
//!
//! eetf writes `[-1]` as `[255]` and cuts lists of more than 65535 small integers; this writes what it was given.
//!
//! Source: External Term Format, ERTS user's guide.

use erl_dist::term::{Atom, Term};

/// Why a term cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a term of kind {0} is not sent by this side")]
pub(crate) struct EncodeError(&'static str);

/// Writes a term with its version byte.
///
/// # Errors
/// A kind of term that flyhot never sends: funs, ports, bit strings, floats.
pub(crate) fn encode(term: &Term, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.push(131);
    write(term, out)
}

fn length(count: usize) -> Result<[u8; 4], EncodeError> {
    u32::try_from(count).map(u32::to_be_bytes).map_err(|_| EncodeError("more than 4 GiB"))
}

fn atom(atom: &Atom, out: &mut Vec<u8>) {
    // ATOM_UTF8: at most 255 characters of 4 bytes fit two bytes.
    out.push(118);
    out.extend(u16::try_from(atom.name.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(atom.name.as_bytes());
}

fn write(term: &Term, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match term {
        Term::Atom(name) => atom(name, out),
        Term::FixInteger(number) => {
            out.push(98);
            out.extend(number.value.to_be_bytes());
        }
        Term::BigInteger(number) => {
            let negative = u8::from(number.value < 0.into());
            let bytes = number.value.magnitude().to_bytes_le();
            out.push(111);
            out.extend(length(bytes.len())?);
            out.push(negative);
            out.extend(bytes);
        }
        Term::Binary(binary) => {
            out.push(109);
            out.extend(length(binary.bytes.len())?);
            out.extend(&binary.bytes);
        }
        Term::Tuple(tuple) => {
            out.push(105);
            out.extend(length(tuple.elements.len())?);
            tuple.elements.iter().try_for_each(|element| write(element, out))?;
        }
        Term::List(list) => {
            if !list.elements.is_empty() {
                out.push(108);
                out.extend(length(list.elements.len())?);
                list.elements.iter().try_for_each(|element| write(element, out))?;
            }
            out.push(106);
        }
        Term::Map(map) => {
            out.push(116);
            out.extend(length(map.map.len())?);
            for (key, value) in &map.map {
                write(key, out)?;
                write(value, out)?;
            }
        }
        Term::Pid(pid) => {
            out.push(88);
            atom(&pid.node, out);
            for word in [pid.id, pid.serial, pid.creation] {
                out.extend(word.to_be_bytes());
            }
        }
        Term::Reference(reference) => {
            out.push(90);
            out.extend(u16::try_from(reference.id.len()).map_err(|_| EncodeError("reference"))?.to_be_bytes());
            atom(&reference.node, out);
            out.extend(reference.creation.to_be_bytes());
            reference.id.iter().for_each(|word| out.extend(word.to_be_bytes()));
        }
        Term::ByteList(_) => return Err(EncodeError("byte list")),
        Term::ImproperList(_) => return Err(EncodeError("improper list")),
        Term::Float(_) => return Err(EncodeError("float")),
        Term::Port(_) => return Err(EncodeError("port")),
        Term::BitBinary(_) => return Err(EncodeError("bit string")),
        Term::ExternalFun(_) | Term::InternalFun(_) => return Err(EncodeError("fun")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use erl_dist::term::{BigInteger, FixInteger, List};

    use super::*;

    #[test]
    fn negative_and_long_lists_come_back_as_they_were() {
        for list in [vec![-1, 2], vec![7; 70_000]] {
            let term: Term =
                List::from(list.iter().map(|value| FixInteger { value: *value }.into()).collect::<Vec<Term>>()).into();
            let mut bytes = Vec::new();
            encode(&term, &mut bytes).unwrap();
            assert_eq!(Term::decode(&bytes[..]).unwrap(), term);
        }
    }

    #[test]
    fn big_integers_keep_their_sign() {
        for value in [i64::MIN, -1 << 40, 1 << 40, i64::MAX] {
            let term: Term = BigInteger::from(value).into();
            let mut bytes = Vec::new();
            encode(&term, &mut bytes).unwrap();
            assert_eq!(Term::decode(&bytes[..]).unwrap(), term);
        }
    }
}
