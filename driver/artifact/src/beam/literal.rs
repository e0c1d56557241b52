//! What a literal hides: functions of other modules, tuples with a tag, and lists of atoms.
//!
//! Source: External Term Format, ERTS user's guide.

use std::collections::BTreeMap;
use std::ops::Range;

/// Tag of a list, and of the empty one that ends it.
const LIST: usize = 108;
const NIL: usize = 106;

/// One step through a term.
enum Step<'a> {
    /// An atom.
    Atom(&'a str),
    /// A tuple with this many elements.
    Tuple(usize),
    /// A map with this many pairs.
    Map(usize),
    /// `fun M:F/A`: three terms follow.
    Export,
    /// Something with this many terms inside.
    Inside(usize),
    /// A small integer.
    Number(u32),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn number(&mut self, width: usize) -> Option<usize> {
        Some(
            self.take(width)?
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte)),
        )
    }

    fn atom(&mut self, length: usize) -> Option<&'a str> {
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// The next tag; `None` ends the walk: the literals of a compiler hold nothing else.
    fn step(&mut self) -> Option<Step<'a>> {
        Some(match self.number(1)? {
            97 => Step::Number(u32::try_from(self.number(1)?).ok()?),
            98 => Step::Number(u32::try_from(self.number(4)?).ok()?),
            70 => {
                self.take(8)?;
                Step::Inside(0)
            }
            NIL => Step::Inside(0),
            tag @ (110 | 111) => {
                let length = self.number(if tag == 110 { 1 } else { 4 })?;
                self.take(length.checked_add(1)?)?;
                Step::Inside(0)
            }
            tag @ (100 | 118 | 115 | 119) => {
                let length = self.number(if matches!(tag, 100 | 118) { 2 } else { 1 })?;
                Step::Atom(self.atom(length)?)
            }
            109 => {
                let length = self.number(4)?;
                self.take(length)?;
                Step::Inside(0)
            }
            107 => {
                let length = self.number(2)?;
                self.take(length)?;
                Step::Inside(0)
            }
            77 => {
                let length = self.number(4)?;
                self.take(length.checked_add(1)?)?;
                Step::Inside(0)
            }
            104 => Step::Tuple(self.number(1)?),
            105 => Step::Tuple(self.number(4)?),
            LIST => Step::Inside(self.number(4)?.checked_add(1)?),
            116 => Step::Map(self.number(4)?),
            113 => Step::Export,
            _ => return None,
        })
    }
}

/// A `fun M:F/A` in a literal.
pub(super) struct Exported<'a> {
    pub(super) module: &'a str,
    pub(super) function: &'a str,
    pub(super) arity: u32,
    /// Where the name of its module is, its tag and length with it.
    at: Range<usize>,
}

/// Every `fun M:F/A` in a literal; `None` where it cannot be read to its end.
pub(super) fn exported_funs(literal: &[u8]) -> Option<Vec<Exported<'_>>> {
    let mut funs = Vec::new();
    walk(literal, &mut |step, reader| {
        if let Step::Export = step {
            let from = reader.at;
            let Step::Atom(module) = reader.step()? else {
                return None;
            };
            let at = from..reader.at;
            let (Step::Atom(function), Step::Number(arity)) = (reader.step()?, reader.step()?) else {
                return None;
            };
            funs.push(Exported {
                module,
                function,
                arity,
                at,
            });
        }
        Some(())
    })?;
    Some(funs)
}

/// Every atom in a literal, but for those of funs; `None` where it cannot be read to its end.
pub(super) fn atoms(literal: &[u8]) -> Option<Vec<&str>> {
    let mut atoms = Vec::new();
    walk(literal, &mut |step, reader| {
        match step {
            Step::Atom(atom) => atoms.push(*atom),
            Step::Export => {
                for _ in 0..3 {
                    reader.step()?;
                }
            }
            _ => {}
        }
        Some(())
    })?;
    Some(atoms)
}

/// The literal with its funs of modules that have another name pointing at that name; `None` where there are none, or
/// it cannot be read to its end.
pub(super) fn renamed(literal: &[u8], aliases: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(literal.len());
    let mut from = 0;
    for fun in exported_funs(literal)? {
        let Some(alias) = aliases.get(fun.module) else {
            continue;
        };
        out.extend(&literal[from..fun.at.start]);
        // A small atom in UTF-8.
        out.extend([119, u8::try_from(alias.len()).ok()?]);
        out.extend(alias.as_bytes());
        from = fun.at.end;
    }
    out.extend(&literal[from..]);
    (from > 0).then_some(out)
}

/// Goes through a term, what is inside it included; `None` where it cannot be read to its end.
fn walk<'a>(literal: &'a [u8], seen: &mut dyn FnMut(&Step<'a>, &mut Reader<'a>) -> Option<()>) -> Option<()> {
    let mut reader = Reader {
        bytes: literal,
        at: 1,
    };
    let mut left = 1usize;
    while left > 0 {
        left -= 1;
        let step = reader.step()?;
        seen(&step, &mut reader)?;
        left = left.saturating_add(match step {
            Step::Inside(count) | Step::Tuple(count) => count,
            Step::Map(pairs) => pairs.saturating_mul(2),
            Step::Export | Step::Atom(_) | Step::Number(_) => 0,
        });
    }
    Some(())
}

/// The atoms of a literal that is a proper list of atoms, and nothing else.
pub(super) fn atom_list(literal: &[u8]) -> Option<Vec<&str>> {
    let mut reader = Reader {
        bytes: literal,
        at: 1,
    };
    // `Inside` does not tell a list from other containers.
    if literal.get(1).copied().map(usize::from) != Some(LIST) {
        return None;
    }
    let Step::Inside(with_tail) = reader.step()? else {
        return None;
    };
    let atoms = (1..with_tail)
        .map(|_| match reader.step()? {
            Step::Atom(name) => Some(name),
            _ => None,
        })
        .collect::<Option<_>>()?;
    matches!(reader.step()?, Step::Inside(0)).then_some(atoms)
}

/// Every tuple in a literal whose first element is an atom, with its size. What follows a fun of another module is not
/// looked at.
pub(super) fn tagged_tuples(literal: &[u8]) -> Vec<(String, usize)> {
    let mut tuples = Vec::new();
    let mut reader = Reader {
        bytes: literal,
        at: 1,
    };
    let mut left = 1usize;
    let mut opened = None;
    while left > 0 {
        left -= 1;
        let size = opened.take();
        match reader.step() {
            Some(Step::Atom(tag)) => tuples.extend(size.map(|size| (tag.to_owned(), size))),
            Some(Step::Tuple(count)) => {
                left = left.saturating_add(count);
                opened = (count > 0).then_some(count);
            }
            Some(Step::Inside(count)) => left = left.saturating_add(count),
            Some(Step::Map(pairs)) => left = left.saturating_add(pairs.saturating_mul(2)),
            Some(Step::Number(_)) => {}
            Some(Step::Export) | None => return tuples,
        }
    }
    tuples
}
