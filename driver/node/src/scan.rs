//! The linear look at a term before anybody decodes it.
//!
//! Nothing is decoded here. eetf allocates what a count announces, recurses as deep as a term nests and panics on
//! tags it does not know: six hostile bytes end the whole process. This scan refuses whatever is deeper, longer or
//! stranger than it may be, in one pass, without allocating, and says where a term ends.
//!
//! Source: External Term Format, ERTS user's guide.

/// Deepest nesting of lists, tuples, maps and funs. The agent's answers nest ten deep; an error reason that holds a
/// user's state nests further. 256 levels of eetf's recursion are far below the 2 MiB stack of a tokio thread.
pub(crate) const MAX_DEPTH: usize = 256;

/// The most terms in one. A decoded term has 56 bytes where one byte may announce it, so bytes alone do not bound
/// memory. A census of 100 000 processes with a dozen terms each is a quarter of this; 4 Mi terms are 235 MB.
pub(crate) const MAX_TERMS: usize = 4 * 1024 * 1024;

/// What a map counts for besides its keys and values: the least table of a HashMap has room for three pairs, 112 bytes each, and
/// is allocated for one.
const MAP_TERMS: usize = 8;

/// How deep terms may lie in keys of maps, that lie in keys of maps. eetf hashes the whole key for each, so that each level is
/// one more walk over all that is in it; none that flyhot reads has a map in a key.
const MAX_KEYS: u8 = 2;

/// The longest integer, in bytes. Erlang's own limit is 8 KB from OTP 27 on; none that flyhot reads has more
/// than 16, and eetf zeroes what a length announces.
const MAX_INTEGER: usize = 256;

/// Words of a reference: five since OTP 24 (`V4_NC`).
const MAX_REFERENCE: usize = 5;

/// Why bytes are no term that is decoded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    /// The bytes end inside the term.
    #[error("the term is cut off")]
    CutOff,
    /// Bytes follow the term.
    #[error("{0} bytes follow the term")]
    Surplus(usize),
    /// Nested deeper than the limit.
    #[error("the term nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Maps in keys of maps, deeper than the limit.
    #[error("the term has maps in keys of maps, more than {MAX_KEYS} deep")]
    Keys,
    /// More terms than the limit.
    #[error("the term holds more than {MAX_TERMS} terms")]
    TooMany,
    /// A tag that no pass-through message has, or that eetf cannot decode.
    #[error("the term has tag {0}")]
    Tag(u8),
    /// Longer than the limit.
    #[error("the term has an integer of {0} bytes")]
    LongInteger(usize),
    /// Not UTF-8 where it must be.
    #[error("an atom of the term is not UTF-8")]
    Text,
    /// The first byte is not the format's version.
    #[error("the term starts with {0}, not with 131")]
    Version(u8),
}

/// A big-endian number of at most eight bytes.
pub(crate) fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | usize::from(*byte))
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

    fn byte(&mut self) -> Result<u8, ScanError> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self, width: usize) -> Result<usize, ScanError> {
        self.take(width).map(number)
    }

    /// A length and as many bytes.
    fn skip(&mut self, width: usize) -> Result<(), ScanError> {
        let length = self.number(width)?;
        self.take(length).map(drop)
    }

    /// A count of terms: each is at least one byte.
    fn count(&mut self, width: usize) -> Result<usize, ScanError> {
        let count = self.number(width)?;
        if count > self.bytes.len() - self.at {
            Err(ScanError::CutOff)
        } else {
            Ok(count)
        }
    }

    fn atom(&mut self, tag: u8) -> Result<(), ScanError> {
        // ATOM and SMALL_ATOM are latin1 in the format; eetf reads them as UTF-8, and peers send the other two.
        let width = match tag {
            100 | 118 => 2,
            115 | 119 => 1,
            other => return Err(ScanError::Tag(other)),
        };
        let length = self.number(width)?;
        std::str::from_utf8(self.take(length)?)
            .map(drop)
            .map_err(|_| ScanError::Text)
    }

    /// A node's name and the numbers of a pid, port or reference on it.
    fn node(&mut self, rest: usize) -> Result<usize, ScanError> {
        let tag = self.byte()?;
        self.atom(tag)?;
        self.take(rest).map(|_| 0)
    }
}

/// Scans a term with its version byte; answers how many bytes it has.
///
/// # Errors
/// [`ScanError`]; the bytes must then not be decoded.
pub(crate) fn scan(bytes: &[u8]) -> Result<usize, ScanError> {
    match bytes.first() {
        None => Err(ScanError::CutOff),
        Some(131) => bare(&bytes[1..]).map(|length| length + 1),
        Some(other) => Err(ScanError::Version(*other)),
    }
}

/// Scans a term without version byte, an element of another term; answers how many bytes it has.
///
/// # Errors
/// [`ScanError`]; the bytes must then not be decoded.
pub(crate) fn bare(bytes: &[u8]) -> Result<usize, ScanError> {
    let mut cursor = Cursor { bytes, at: 0 };
    let mut levels = [Level::default(); MAX_DEPTH];
    levels[0].left = 1;
    let mut depth = 0;
    let mut terms = 0;
    loop {
        while levels[depth].left == 0 {
            if depth == 0 {
                return Ok(cursor.at);
            }
            depth -= 1;
        }
        let level = &mut levels[depth];
        let is_key = level.is_map && level.left % 2 == 0;
        let keys = level.keys + u8::from(is_key);
        level.left -= 1;
        let is_map = bytes.get(cursor.at) == Some(&MAP);
        let inner = one(&mut cursor)?;
        terms += if is_map && inner > 0 { MAP_TERMS } else { 1 };
        if terms > MAX_TERMS {
            return Err(ScanError::TooMany);
        }
        if inner > 0 {
            depth += 1;
            if depth == MAX_DEPTH {
                return Err(ScanError::TooDeep);
            }
            if keys > MAX_KEYS {
                return Err(ScanError::Keys);
            }
            levels[depth] = Level {
                left: inner,
                is_map,
                keys,
            };
        }
    }
}

/// The tag of a map.
const MAP: u8 = 116;

/// Terms that belong to one.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    /// How many are still to come.
    left: usize,
    /// Whether they are keys and values by turns.
    is_map: bool,
    /// In how many keys they lie.
    keys: u8,
}

/// One tag and its own bytes; answers how many terms belong to it.
fn one(cursor: &mut Cursor<'_>) -> Result<usize, ScanError> {
    let tag = cursor.byte()?;
    match tag {
        // SMALL_INTEGER, INTEGER, NEW_FLOAT, NIL
        97 => cursor.take(1).map(|_| 0),
        98 => cursor.take(4).map(|_| 0),
        70 => cursor.take(8).map(|_| 0),
        106 => Ok(0),
        // SMALL_BIG, LARGE_BIG
        110 | 111 => {
            let length = cursor.number(if tag == 110 { 1 } else { 4 })?;
            if length > MAX_INTEGER {
                return Err(ScanError::LongInteger(length));
            }
            cursor.take(1 + length).map(|_| 0)
        }
        // ATOM, ATOM_UTF8, SMALL_ATOM, SMALL_ATOM_UTF8
        100 | 118 | 115 | 119 => cursor.atom(tag).map(|()| 0),
        // BINARY, STRING, BIT_BINARY
        109 => cursor.skip(4).map(|()| 0),
        107 => cursor.skip(2).map(|()| 0),
        77 => {
            let length = cursor.number(4)?;
            let bits = cursor.byte()?;
            // eetf shifts by what the eight bits leave.
            if length == 0 || !(1..=8).contains(&bits) {
                return Err(ScanError::Tag(tag));
            }
            cursor.take(length).map(|_| 0)
        }
        // SMALL_TUPLE, LARGE_TUPLE, LIST with its tail, MAP
        104 => cursor.count(1),
        105 => cursor.count(4),
        108 => Ok(cursor.count(4)? + 1),
        MAP => Ok(cursor.count(4)? * 2),
        // NEW_PID, PID, NEW_PORT, V4_PORT, PORT
        88 | 120 => cursor.node(12),
        103 => cursor.node(9),
        89 => cursor.node(8),
        102 => cursor.node(5),
        // NEWER_REFERENCE, NEW_REFERENCE
        90 | 114 => {
            let words = cursor.number(2)?;
            if words > MAX_REFERENCE {
                return Err(ScanError::Tag(tag));
            }
            cursor.node(words * 4 + if tag == 90 { 4 } else { 1 })
        }
        // EXPORT: module, function, arity
        113 => Ok(3),
        // NEW_FUN: size, arity, uniq, index, a count; then module, old index, old uniq, pid, the free variables
        112 => {
            cursor.take(4 + 1 + 16 + 4)?;
            Ok(cursor.count(4)? + 4)
        }
        other => Err(ScanError::Tag(other)),
    }
}

#[cfg(test)]
mod tests {
    use erl_dist::term::Term;
    use proptest::prelude::*;

    use super::*;

    /// Tuples of one element, one in the other.
    fn nested(levels: usize) -> Vec<u8> {
        let mut bytes = vec![131];
        bytes.extend([104, 1].repeat(levels));
        bytes.push(106);
        bytes
    }

    #[test]
    fn hostile_terms_are_errors() {
        let lists = [&[131][..], &[108, 3, 208, 144, 0].repeat(8)].concat();
        let fun = [&[131, 112, 0, 0, 0, 29, 0][..], &[0; 20], &[255; 4]].concat();
        for (bytes, error) in [
            (&[131, 108, 255, 255, 255, 255][..], ScanError::CutOff),
            (&[131, 105, 255, 255, 255, 255], ScanError::CutOff),
            (&[131, 116, 255, 255, 255, 255], ScanError::CutOff),
            (&[131, 109, 255, 255, 255, 255], ScanError::CutOff),
            (&lists, ScanError::CutOff),
            (&fun, ScanError::CutOff),
            (&[131, 117, 255, 255, 255, 255], ScanError::Tag(117)),
            (
                &[131, 111, 255, 255, 255, 255, 0],
                ScanError::LongInteger(u32::MAX as usize),
            ),
            (&[131, 77, 0, 0, 0, 1, 0, 1], ScanError::Tag(77)),
            (&[131, 77, 0, 0, 0, 1, 9, 1], ScanError::Tag(77)),
            (&[131, 82, 0], ScanError::Tag(82)),
            (&[131, 80, 0, 0, 0, 9], ScanError::Tag(80)),
            (&[131, 68], ScanError::Tag(68)),
            (&[131, 99], ScanError::Tag(99)),
            (&[131, 121], ScanError::Tag(121)),
            (&[131, 119, 1, 255], ScanError::Text),
            (&[131, 88, 97, 1], ScanError::Tag(97)),
            (&[131, 90, 0, 6], ScanError::Tag(90)),
            (&[131], ScanError::CutOff),
            (&[], ScanError::CutOff),
            (&[1], ScanError::Version(1)),
            (&nested(20_000), ScanError::TooDeep),
            (&nested(MAX_DEPTH), ScanError::TooDeep),
        ] {
            assert_eq!(scan(bytes), Err(error), "{:?}", &bytes[..bytes.len().min(20)]);
        }
    }

    #[test]
    fn the_deepest_term_that_passes_can_be_decoded_and_dropped() {
        let bytes = nested(MAX_DEPTH - 1);
        assert_eq!(scan(&bytes), Ok(bytes.len()));
        // The stack of a tokio thread; an overflow would abort the test.
        std::thread::Builder::new()
            .stack_size(2 * 1024 * 1024)
            .spawn(move || drop(Term::decode(&bytes[..]).unwrap().clone()))
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn more_terms_than_memory_is_given_for_are_refused() {
        let list = |count: usize| {
            let mut bytes = vec![131, 108];
            bytes.extend(u32::try_from(count).unwrap().to_be_bytes());
            bytes.resize(bytes.len() + count + 1, 106);
            bytes
        };
        assert_eq!(scan(&list(MAX_TERMS)), Err(ScanError::TooMany));
        assert!(scan(&list(MAX_TERMS - 2)).is_ok());
    }

    /// Each is hashed as often as it lies in a key: a frame of them would hold the process up for minutes.
    #[test]
    fn maps_in_keys_of_maps_are_refused() {
        let keyed = |levels: usize| {
            let mut bytes = vec![131];
            bytes.extend([116, 0, 0, 0, 1].repeat(levels));
            bytes.push(106);
            bytes.extend([106].repeat(levels));
            bytes
        };
        let bytes = keyed(usize::from(MAX_KEYS) + 1);
        assert_eq!(scan(&bytes), Ok(bytes.len()));
        assert_eq!(scan(&keyed(usize::from(MAX_KEYS) + 2)), Err(ScanError::Keys));
        // In values they may lie as deep as any.
        let mut bytes = vec![131];
        bytes.extend([116, 0, 0, 0, 1, 106].repeat(MAX_DEPTH - 1));
        bytes.push(106);
        assert_eq!(scan(&bytes), Ok(bytes.len()));
    }

    #[test]
    fn a_map_counts_for_the_table_it_needs() {
        let maps = |count: usize| {
            let mut bytes = vec![131, 108];
            bytes.extend(u32::try_from(count).unwrap().to_be_bytes());
            bytes.extend([116, 0, 0, 0, 1, 106, 106].repeat(count));
            bytes.push(106);
            bytes
        };
        let most = MAX_TERMS / (MAP_TERMS + 2);
        assert!(scan(&maps(most - 1)).is_ok());
        assert_eq!(scan(&maps(most + 1)), Err(ScanError::TooMany));
    }

    /// Bytes that are nearly a term: tags that the format knows, small counts.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let tag = proptest::sample::select(vec![
            70u8, 77, 88, 89, 90, 97, 98, 100, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113,
            114, 115, 116, 118, 119, 120,
        ]);
        let byte = prop_oneof![3 => tag, 3 => 0u8..4, 1 => any::<u8>()];
        proptest::collection::vec(byte, 0..300)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn what_passes_can_be_decoded_or_is_refused_without_harm(bytes in nearly()) {
            let framed = [&[131][..], &bytes].concat();
            if let Ok(length) = scan(&framed) {
                prop_assert!(length <= framed.len());
                let mut rest = &framed[..length];
                if Term::decode(&mut rest).is_ok() {
                    prop_assert!(rest.is_empty(), "the scan and eetf disagree where the term ends");
                }
            }
        }
    }
}
