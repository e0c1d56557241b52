//! Instructions and their operands.
//!
//! Source: `beam_asm.erl` (`encode_arg`), `beam_disasm.erl`.

use super::ops::{ARITY, INT_CODE_END};
use super::{Beam, BeamError, FUN_ENTRY, damaged, word};

/// A compact term: three bits of tag and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compact {
    /// 0 u, 1 i, 2 a, 3 x, 4 y, 5 f, 6 h, 7 extended.
    pub(super) tag: u8,
    /// `None` for an integer that does not fit; it stays the bytes it was.
    value: Option<u64>,
}

impl Compact {
    pub(super) fn number(self, chunk: &'static str) -> Result<u64, BeamError> {
        self.value
            .ok_or_else(|| damaged(chunk, "a number is negative or too large"))
    }
}

/// Longest number in bytes: the largest literal integers of a module are a few hundred digits; longer ones are literals.
const LONGEST: u64 = 4096;

/// Reads one compact term; answers it and where the next starts.
pub(super) fn compact(code: &[u8], at: usize) -> Result<(Compact, usize), BeamError> {
    let cut = BeamError::Truncated("Code");
    let byte = *code.get(at).ok_or_else(|| cut.clone())?;
    let tag = byte & 7;
    if byte & 8 == 0 {
        return Ok((
            Compact {
                tag,
                value: Some(u64::from(byte >> 4)),
            },
            at + 1,
        ));
    }
    if byte & 16 == 0 {
        let low = *code.get(at + 1).ok_or(cut)?;
        return Ok((
            Compact {
                tag,
                value: Some(u64::from(byte & 0xe0) << 3 | u64::from(low)),
            },
            at + 2,
        ));
    }
    let (length, start) = if byte >> 5 == 7 {
        // A length that is itself told by a length would recurse as deep as the file is long.
        if code.get(at + 1).is_some_and(|byte| byte >> 3 == 0b1_1111) {
            return Err(damaged("Code", "a number is too long"));
        }
        let (more, start) = compact(code, at + 1)?;
        (
            more.number("Code")?
                .checked_add(9)
                .filter(|length| *length <= LONGEST)
                .ok_or_else(|| damaged("Code", "a number is too long"))?,
            start,
        )
    } else {
        (u64::from(byte >> 5) + 2, at + 1)
    };
    let end = start + usize::try_from(length).map_err(|_| damaged("Code", "a number is too long"))?;
    let bytes = code.get(start..end).ok_or(cut)?;
    let negative = bytes[0] & 0x80 != 0;
    let significant = bytes
        .iter()
        .position(|byte| *byte != 0)
        .map_or(&[][..], |first| &bytes[first..]);
    let value = (!negative && significant.len() <= 8).then(|| {
        significant
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    });
    Ok((Compact { tag, value }, end))
}

/// Writes a number that is not negative, as the compiler would.
pub(super) fn write_compact(tag: u8, value: u64, out: &mut Vec<u8>) {
    #[expect(clippy::cast_possible_truncation, reason = "the ranges are checked")]
    if value < 16 {
        out.push((value as u8) << 4 | tag);
    } else if value < 0x800 {
        out.push((value >> 3) as u8 & 0xe0 | 8 | tag);
        out.push(value as u8);
    } else {
        let bytes = value.to_be_bytes();
        let mut first = bytes.iter().position(|byte| *byte != 0).unwrap_or(7);
        // A leading one bit would read as negative.
        let extra = bytes[first] & 0x80 != 0 && first == 0;
        if bytes[first] & 0x80 != 0 && first > 0 {
            first -= 1;
        }
        let length = (8 - first + usize::from(extra)).max(2);
        if length <= 8 {
            out.push(((length - 2) as u8) << 5 | 0x18 | tag);
            out.extend(&bytes[8 - length..]);
        } else {
            out.push(7 << 5 | 0x18 | tag);
            out.push(0);
            out.push(0);
            out.extend(bytes);
        }
    }
}

/// One operand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    /// A plain number: arity, index, count.
    Number(u64),
    /// An atom by its index; 0 is `[]`.
    Atom(u64),
    /// A label.
    Label(u64),
    /// A literal by its index.
    Literal(u64),
    /// A list of operands.
    List(Vec<Operand>),
    /// A register, an integer, a float register, an allocation list: where it stands in the chunk. Of a typed register
    /// the register alone.
    Other {
        /// Its first byte.
        from: usize,
        /// Behind its last byte.
        to: usize,
    },
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instruction {
    /// Its number.
    pub(super) op: u8,
    /// Its operands.
    pub(super) operands: Vec<Operand>,
}

/// The deepest nesting of operand lists; the compiler makes one level.
const DEPTH: usize = 8;

/// Where the instructions start in the Code chunk.
pub(super) fn start(chunk: &[u8]) -> Result<usize, BeamError> {
    let header = word(chunk, 0, "Code")? as usize;
    header
        .checked_add(4)
        .filter(|start| *start <= chunk.len())
        .ok_or(BeamError::Truncated("Code"))
}

/// Every instruction, up to the end mark.
pub(super) fn instructions(beam: &Beam) -> Result<Vec<Instruction>, BeamError> {
    let mut all = Vec::new();
    walk(beam, |op, operands| {
        all.push(Instruction {
            op,
            operands: std::mem::take(operands),
        });
    })?;
    Ok(all)
}

/// Tells each instruction, up to the end mark; whoever wants to keep the operands takes them.
pub(super) fn walk(beam: &Beam, mut seen: impl FnMut(u8, &mut Vec<Operand>)) -> Result<(), BeamError> {
    let chunk = beam.chunk(b"Code").ok_or(BeamError::Missing("Code"))?;
    let mut at = start(chunk)?;
    // Both are used again: to allocate for each operand is most of the work.
    let (mut operands, mut written) = (Vec::new(), Vec::new());
    while at < chunk.len() {
        let op = chunk[at];
        at += 1;
        operands.clear();
        for _ in 0..arity(op)? {
            written.clear();
            let (operand, next) = operand(chunk, at, 0, &mut |_, _| None, &mut written)?;
            operands.push(operand);
            at = next;
        }
        seen(op, &mut operands);
        if op == INT_CODE_END {
            return Ok(());
        }
    }
    Err(BeamError::Truncated("Code"))
}

/// The entry label of each fun.
pub(super) fn fun_entries(beam: &Beam) -> Result<Vec<u64>, BeamError> {
    let Some(table) = beam.chunk(b"FunT") else {
        return Ok(vec![]);
    };
    let count = word(table, 0, "FunT")? as usize;
    table[4..]
        .chunks_exact(FUN_ENTRY)
        .take(count)
        .map(|entry| word(entry, 8, "FunT").map(u64::from))
        .collect()
}

/// How many operands an instruction has.
pub(super) fn arity(op: u8) -> Result<usize, BeamError> {
    ARITY
        .get(usize::from(op))
        .copied()
        .filter(|arity| *arity != u8::MAX)
        .map(usize::from)
        .ok_or(BeamError::UnknownInstruction(op))
}

/// Reads one operand and writes it to `out`, each atom in it changed by `atom(index, depth)` where that answers
/// another index. Answers the operand and where the next starts.
pub(super) fn operand(
    code: &[u8],
    at: usize,
    depth: usize,
    atom: &mut dyn FnMut(u64, usize) -> Option<u64>,
    out: &mut Vec<u8>,
) -> Result<(Operand, usize), BeamError> {
    let (head, next) = compact(code, at)?;
    if head.tag != 7 {
        let other = Operand::Other { from: at, to: next };
        let operand = match head.tag {
            0 => head.value.map_or(other, Operand::Number),
            2 => Operand::Atom(head.number("Code")?),
            5 => Operand::Label(head.number("Code")?),
            _ => other,
        };
        match operand {
            Operand::Atom(index) => match atom(index, depth) {
                Some(other) => write_compact(2, other, out),
                None => out.extend(&code[at..next]),
            },
            _ => out.extend(&code[at..next]),
        }
        return Ok((operand, next));
    }
    let copy = |end: usize, out: &mut Vec<u8>| out.extend(&code[at..end]);
    match head.number("Code")? {
        1 => {
            if depth == DEPTH {
                return Err(damaged("Code", "operands nest too deep"));
            }
            let (count, mut next) = compact(code, next)?;
            copy(next, out);
            let mut list = Vec::new();
            for _ in 0..count.number("Code")? {
                let (element, after) = operand(code, next, depth + 1, atom, out)?;
                list.push(element);
                next = after;
            }
            Ok((Operand::List(list), next))
        }
        2 => {
            let (_, next) = compact(code, next)?;
            copy(next, out);
            Ok((Operand::Other { from: at, to: next }, next))
        }
        3 => {
            let (count, mut next) = compact(code, next)?;
            for _ in 0..count.number("Code")?.saturating_mul(2) {
                next = compact(code, next)?.1;
            }
            copy(next, out);
            Ok((Operand::Other { from: at, to: next }, next))
        }
        4 => {
            let (index, next) = compact(code, next)?;
            copy(next, out);
            Ok((Operand::Literal(index.number("Code")?), next))
        }
        5 => {
            let (_, register) = compact(code, next)?;
            let other = Operand::Other {
                from: next,
                to: register,
            };
            let (_, next) = compact(code, register)?;
            copy(next, out);
            Ok((other, next))
        }
        other => Err(damaged("Code", format!("an operand of kind {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            write_compact(2, value, &mut bytes);
            let (read, end) = compact(&bytes, 0).unwrap();
            prop_assert_eq!((read.tag, read.value, end), (2, Some(value), bytes.len()));
        }

        #[test]
        fn any_bytes_are_an_operand_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut out = Vec::new();
            if let Ok((_, end)) = operand(&bytes, 0, 0, &mut |_, _| None, &mut out) {
                prop_assert_eq!(&out[..], &bytes[..end]);
            }
        }
    }
}
