//! The linear look at a term before anybody decodes it.
//!
//! eetf allocates what a count announces and recurses as deep as a term nests: six hostile bytes end the whole
//! process. This scan refuses whatever is deeper, longer or stranger than it may be, in one pass, without
//! allocating, and says where a term ends.
//!
//! Source: External Term Format, ERTS user's guide.

/// Deepest nesting of lists, tuples, maps and funs. The agent's answers nest ten deep; an error reason that
/// holds a user's state may nest further. 256 levels of eetf's recursion are far below any stack.
const DEPTH: usize = 256;

/// Why bytes are no term that is decoded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    /// The bytes end inside the term.
    #[error("the term is cut off")]
    CutOff,
    /// Nested deeper than the limit.
    #[error("the term nests deeper than 256 levels")]
    TooDeep,
    /// A tag that no pass-through message has, or that eetf cannot decode.
    #[error("the term has tag {0}")]
    Tag(u8),
    /// A big integer of more than 256 digits to the base of 256.
    #[error("the term has an integer of {0} bytes")]
    LongInteger(usize),
    /// Text that is not UTF-8 where it must be.
    #[error("an atom of the term is not UTF-8")]
    Text,
    /// The first byte is not the format's version.
    #[error("the term starts with {0}, not with 131")]
    Version(u8),
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ScanError> {
        let end = self.at.checked_add(count).ok_or(ScanError::CutOff)?;
        let taken = self.bytes.get(self.at..end).ok_or(ScanError::CutOff)?;
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self, width: usize) -> Result<usize, ScanError> {
        Ok(self.take(width)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// A count of terms: each is at least one byte.
    fn count(&mut self, width: usize) -> Result<usize, ScanError> {
        let count = self.number(width)?;
        if count > self.bytes.len() - self.at { Err(ScanError::CutOff) } else { Ok(count) }
    }

    fn utf8(&mut self, length: usize) -> Result<(), ScanError> {
        std::str::from_utf8(self.take(length)?).map(drop).map_err(|_| ScanError::Text)
    }
}

/// Scans one term with its version byte; answers how many bytes it has.
///
/// # Errors
/// [`ScanError`]; the bytes must then not be decoded.
pub(crate) fn scan(bytes: &[u8]) -> Result<usize, ScanError> {
    let mut cursor = Cursor { bytes, at: 0 };
    match cursor.number(1)? {
        131 => {}
        #[expect(clippy::cast_possible_truncation, reason = "one byte was read")]
        other => return Err(ScanError::Version(other as u8)),
    }
    // How many terms are still to come at each level.
    let mut levels = [0usize; DEPTH];
    levels[0] = 1;
    let mut depth = 0;
    loop {
        while levels[depth] == 0 {
            if depth == 0 {
                return Ok(cursor.at);
            }
            depth -= 1;
        }
        levels[depth] -= 1;
        let inner = one(&mut cursor)?;
        if inner > 0 {
            depth += 1;
            if depth == DEPTH {
                return Err(ScanError::TooDeep);
            }
            levels[depth] = inner;
        }
    }
}

/// One tag and its own bytes; answers how many terms belong to it.
fn one(cursor: &mut Cursor<'_>) -> Result<usize, ScanError> {
    let tag = cursor.take(1)?[0];
    match tag {
        // SMALL_INTEGER, INTEGER, NEW_FLOAT, NIL
        97 => cursor.take(1).map(|_| 0),
        98 => cursor.take(4).map(|_| 0),
        70 => cursor.take(8).map(|_| 0),
        106 => Ok(0),
        // SMALL_BIG, LARGE_BIG
        110 | 111 => {
            let length = cursor.number(if tag == 110 { 1 } else { 4 })?;
            if length > 256 {
                return Err(ScanError::LongInteger(length));
            }
            cursor.take(length + 1).map(|_| 0)
        }
        // ATOM (latin1), ATOM_UTF8, SMALL_ATOM (latin1), SMALL_ATOM_UTF8
        100 | 118 | 115 | 119 => {
            let length = cursor.number(if matches!(tag, 100 | 118) { 2 } else { 1 })?;
            cursor.utf8(length).map(|()| 0)
        }
        // BINARY, STRING, BIT_BINARY
        109 => {
            let length = cursor.number(4)?;
            cursor.take(length).map(|_| 0)
        }
        107 => {
            let length = cursor.number(2)?;
            cursor.take(length).map(|_| 0)
        }
        77 => {
            let length = cursor.number(4)?;
            let bits = cursor.number(1)?;
            if length == 0 || !(1..=8).contains(&bits) {
                return Err(ScanError::Tag(tag));
            }
            cursor.take(length).map(|_| 0)
        }
        // SMALL_TUPLE, LARGE_TUPLE, LIST (with its tail), MAP
        104 => cursor.count(1),
        105 => cursor.count(4),
        108 => Ok(cursor.count(4)? + 1),
        116 => Ok(cursor.count(4)? * 2),
        // NEW_PID, PID, NEW_PORT, V4_PORT, PORT: a node atom first
        88 => node(cursor, 12),
        103 => node(cursor, 9),
        89 => node(cursor, 8),
        120 => node(cursor, 12),
        102 => node(cursor, 5),
        // NEWER_REFERENCE, NEW_REFERENCE
        90 | 114 => {
            let words = cursor.number(2)?;
            if words > 5 {
                return Err(ScanError::Tag(tag));
            }
            node(cursor, words * 4 + if tag == 90 { 4 } else { 1 })
        }
        // EXPORT: module, function, arity
        113 => Ok(3),
        // NEW_FUN: the size counts itself; inside are atoms, integers, a pid and the free variables
        112 => {
            let size = cursor.number(4)?;
            cursor.take(1 + 16 + 4)?;
            let free = cursor.count(4)?;
            if size < 29 {
                return Err(ScanError::CutOff);
            }
            Ok(free + 4)
        }
        other => Err(ScanError::Tag(other)),
    }
}

fn node(cursor: &mut Cursor<'_>, rest: usize) -> Result<usize, ScanError> {
    match cursor.take(1)?[0] {
        tag @ (100 | 118 | 115 | 119) => {
            let length = cursor.number(if matches!(tag, 100 | 118) { 2 } else { 1 })?;
            cursor.utf8(length)?;
            cursor.take(rest).map(|_| 0)
        }
        other => Err(ScanError::Tag(other)),
    }
}

#[cfg(test)]
mod tests {
    use erl_dist::term::Term;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_terms_are_errors() {
        let mut deep = vec![131];
        for _ in 0..20_000 {
            deep.extend([108, 0, 0, 0, 1]);
        }
        for (bytes, error) in [
            (&[131, 108, 255, 255, 255, 255][..], ScanError::CutOff),
            (&[131, 105, 255, 255, 255, 255], ScanError::CutOff),
            (&[131, 116, 255, 255, 255, 255], ScanError::CutOff),
            (&[131, 109, 255, 255, 255, 255], ScanError::CutOff),
            (&[131, 111, 255, 255, 255, 255, 0], ScanError::LongInteger(u32::MAX as usize)),
            (&[131, 82, 0], ScanError::Tag(82)),
            (&[131, 80, 0, 0, 0, 9], ScanError::Tag(80)),
            (&[131, 68], ScanError::Tag(68)),
            (&[131], ScanError::CutOff),
            (&[], ScanError::CutOff),
            (&[1], ScanError::Version(1)),
        ] {
            assert_eq!(scan(bytes), Err(error), "{bytes:?}");
        }
        deep.resize(deep.len() + 40_000, 106);
        assert_eq!(scan(&deep), Err(ScanError::TooDeep));
    }

    proptest! {
        #[test]
        fn what_passes_can_be_decoded_or_is_refused_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut framed = vec![131];
            framed.extend(bytes);
            if let Ok(length) = scan(&framed) {
                let _ = Term::decode(&framed[..length]);
            }
        }
    }
}
