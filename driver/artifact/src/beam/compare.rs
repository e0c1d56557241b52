//! What two builds of one module differ in, as far as their code alone shows it: stripped files say as much as others.
//!
//! What is called equal is equal instruction by instruction, in everything that the function reaches within its
//! module, by the module's own name too. What lies in other modules is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{Instruction, Operand, fun_entries, instructions};
use super::literal::{atom_list, exported_funs, tagged_tuples};
use super::ops;
use super::{Beam, BeamError};
use crate::facts::Export;

/// The differences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Functions of both whose code is the same, with all that it reaches within the module: of [`ENTRIES`].
    pub same: BTreeSet<Export>,
    /// Tagged tuples that init/1 makes, of one size in the old build and of another in the new one.
    pub records: Vec<RecordChange>,
    /// Whether the old build's handle_info/2 knows the message `timeout`.
    pub timeouts: bool,
}

/// A record whose size changed, its tag counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    /// Its tag.
    pub tag: String,
    /// Elements in the old build.
    pub before: usize,
    /// Elements in the new build.
    pub after: usize,
}

/// The functions that are compared: those by which a behaviour starts, is set up and takes its state over.
pub const ENTRIES: [(&str, u32); 6] = [
    ("callback_mode", 0),
    ("code_change", 3),
    ("code_change", 4),
    ("init", 1),
    ("start", 2),
    ("system_code_change", 4),
];

/// What init/1 answers with, which is no state.
const ANSWERS: [&str; 6] = ["ok", "error", "stop", "continue", "ignore", "hibernate"];

/// The message of a gen_server's timeout.
const TIMEOUT: &str = "timeout";

impl Differences {
    /// Compares two builds of a module.
    ///
    /// # Errors
    /// The code of one is damaged.
    pub fn between(old: &Beam, new: &Beam) -> Result<Self, BeamError> {
        let (old, new) = (Code::read(old)?, Code::read(new)?);
        let same = ENTRIES
            .into_iter()
            .filter(|(function, arity)| old.same(&new, function, *arity))
            .map(|(function, arity)| exported(function, arity))
            .collect();
        Ok(Self {
            same,
            records: records(&old, &new),
            timeouts: old.timeouts(),
        })
    }

    /// Whether a function is in both and the same.
    pub fn is_same(&self, function: &str, arity: u32) -> bool {
        self.same.contains(&exported(function, arity))
    }
}

/// Whether the handle_info/2 of a module knows the message `timeout`: its gen_servers may wait for one.
///
/// # Errors
/// The code is damaged.
pub fn handles_timeout(beam: &Beam) -> Result<bool, BeamError> {
    Ok(Code::read(beam)?.timeouts())
}

/// What the callback_mode/0 of a module answers, as Erlang writes it; `None` where it has none, or one that does more
/// than answer a constant.
///
/// # Errors
/// The code is damaged.
pub fn callback_mode(beam: &Beam) -> Result<Option<String>, BeamError> {
    let code = Code::read(beam)?;
    let Some(body) = code.functions.get(&("callback_mode".to_owned(), 0)) else {
        return Ok(None);
    };
    let does: Vec<_> = body
        .iter()
        .filter(|(op, _)| !matches!(*op, ops::LABEL | ops::FUNC_INFO))
        .map(|(op, parts)| (*op, &parts[..]))
        .collect();
    Ok(match does[..] {
        [(ops::MOVE, [Part::Atom(mode), _]), (ops::RETURN, _)] => Some(mode.clone()),
        [(ops::MOVE, [Part::Literal(literal), _]), (ops::RETURN, _)] => {
            atom_list(literal).map(|modes| format!("[{}]", modes.join(",")))
        }
        _ => None,
    })
}

fn exported(function: &str, arity: u32) -> Export {
    Export {
        function: function.into(),
        arity,
    }
}

type Name = (String, u32);

/// An operand, free of everything that its place in the file decides.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Number(u64),
    Atom(String),
    /// A label of the same function, counted from its first.
    Label(usize),
    /// A function of the module.
    Function(Name),
    /// A function by its module's name, the own one among them.
    Import(String, Name),
    /// A literal in the External Term Format.
    Literal(Vec<u8>),
    List(Vec<Part>),
    /// A register or an integer, as it is encoded.
    Bytes(Vec<u8>),
}

/// A module's functions, each operand made free of its place.
struct Code {
    module: String,
    functions: BTreeMap<Name, Vec<(u8, Vec<Part>)>>,
    /// The strings that instructions refer to by their place.
    strings: Vec<u8>,
}

impl Code {
    fn read(beam: &Beam) -> Result<Self, BeamError> {
        let all = instructions(beam)?;
        let names = Names::read(beam, &all)?;
        let functions = names
            .ranges
            .iter()
            .map(|(name, from, to)| Ok((name.clone(), names.body(beam, &all[*from..*to])?)))
            .collect::<Result<_, BeamError>>()?;
        Ok(Self {
            module: beam.module().to_owned(),
            functions,
            strings: beam.chunk(b"StrT").unwrap_or_default().to_vec(),
        })
    }

    /// The functions that one reaches within the module, itself among them.
    fn reach(&self, function: &str, arity: u32) -> BTreeSet<&Name> {
        let mut reached = BTreeSet::new();
        let mut todo: Vec<&Name> = self.named(&(function.to_owned(), arity)).into_iter().collect();
        while let Some(name) = todo.pop() {
            if reached.insert(name) {
                let parts = self.functions.get(name).into_iter().flatten();
                for part in parts.flat_map(|(_, parts)| parts) {
                    self.follow(part, &mut todo);
                }
            }
        }
        reached
    }

    fn named(&self, name: &Name) -> Option<&Name> {
        self.functions.get_key_value(name).map(|(name, _)| name)
    }

    /// Functions of the module that an operand leads to. A call through the module's own name runs the same code.
    fn follow<'a>(&'a self, part: &Part, todo: &mut Vec<&'a Name>) {
        match part {
            Part::Function(callee) => todo.extend(self.named(callee)),
            Part::Import(module, callee) if *module == self.module => todo.extend(self.named(callee)),
            Part::Literal(literal) => todo.extend(
                exported_funs(literal)
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|fun| fun.module == self.module)
                    .filter_map(|fun| self.named(&(fun.function.to_owned(), fun.arity))),
            ),
            Part::List(parts) => parts.iter().for_each(|part| self.follow(part, todo)),
            _ => {}
        }
    }

    /// Whether a function is the same in another build, with everything that it reaches.
    fn same(&self, other: &Code, function: &str, arity: u32) -> bool {
        let (here, there) = (self.reach(function, arity), other.reach(function, arity));
        !here.is_empty()
            && here == there
            && here.iter().all(|name| {
                let (body, others) = (&self.functions[*name], &other.functions[*name]);
                // Where strings lie elsewhere the places do not tell whether they are the same.
                body == others
                    && (self.strings == other.strings || !body.iter().any(|(op, _)| uses_strings(*op)))
            })
    }

    fn timeouts(&self) -> bool {
        fn names(part: &Part) -> bool {
            match part {
                Part::Atom(name) => name == TIMEOUT,
                Part::List(parts) => parts.iter().any(names),
                _ => false,
            }
        }
        self.functions
            .get(&("handle_info".to_owned(), 2))
            .is_some_and(|body| body.iter().any(|(_, parts)| parts.iter().any(names)))
    }

    /// Tagged tuples that init/1 makes, by tag.
    fn made_by_init(&self) -> BTreeMap<String, BTreeSet<usize>> {
        let mut made: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for name in self.reach("init", 1) {
            for (op, parts) in &self.functions[name] {
                if let (ops::PUT_TUPLE2, [_, Part::List(elements)]) = (*op, &parts[..])
                    && let Some(Part::Atom(tag)) = elements.first()
                {
                    made.entry(tag.clone()).or_default().insert(elements.len());
                }
                let literals = parts.iter().flat_map(|part| match part {
                    Part::List(parts) => &parts[..],
                    part => std::slice::from_ref(part),
                });
                for part in literals {
                    if let Part::Literal(literal) = part {
                        for (tag, size) in tagged_tuples(literal) {
                            made.entry(tag).or_default().insert(size);
                        }
                    }
                }
            }
        }
        made.retain(|tag, _| !ANSWERS.contains(&tag.as_str()));
        made
    }
}

fn records(old: &Code, new: &Code) -> Vec<RecordChange> {
    let only = |sizes: &BTreeSet<usize>| match sizes.len() {
        1 => sizes.first().copied(),
        _ => None,
    };
    let after = new.made_by_init();
    old.made_by_init()
        .into_iter()
        .filter_map(|(tag, sizes)| {
            let (before, after) = (only(&sizes)?, only(after.get(&tag)?)?);
            (before != after).then_some(RecordChange { tag, before, after })
        })
        .collect()
}

fn uses_strings(op: u8) -> bool {
    matches!(
        op,
        ops::BS_PUT_STRING | ops::BS_MATCH_STRING | ops::BS_CREATE_BIN | ops::BS_MATCH
    )
}

/// Who owns which label, and what else operands refer to by number.
struct Names {
    /// Each function with its first and its last instruction, the latter excluded.
    ranges: Vec<(Name, usize, usize)>,
    entries: BTreeMap<u64, Name>,
    /// Entry labels of funs.
    funs: Vec<u64>,
    literals: Vec<Vec<u8>>,
}

impl Names {
    fn read(beam: &Beam, all: &[Instruction]) -> Result<Self, BeamError> {
        let mut ranges: Vec<(Name, usize, usize)> = Vec::new();
        let mut entries = BTreeMap::new();
        let mut last_label = 0;
        for (at, instruction) in all.iter().enumerate() {
            match (instruction.op, &instruction.operands[..]) {
                (ops::LABEL, _) => last_label = at,
                (ops::FUNC_INFO, [_, Operand::Atom(name), Operand::Number(arity)]) => {
                    let name = beam.atom(u32::try_from(*name).unwrap_or(0), "Code")?;
                    let name = (name, u32::try_from(*arity).unwrap_or(u32::MAX));
                    // The label before it is where its failed matches go.
                    if let Some((_, _, to)) = ranges.last_mut() {
                        *to = last_label;
                    }
                    if let Some(Operand::Number(entry)) =
                        all.get(at + 1).and_then(|label| label.operands.first())
                    {
                        entries.insert(*entry, name.clone());
                    }
                    ranges.push((name, last_label, all.len()));
                }
                _ => {}
            }
        }
        Ok(Self {
            ranges,
            entries,
            funs: fun_entries(beam)?,
            literals: beam.literals()?,
        })
    }

    fn body(&self, beam: &Beam, instructions: &[Instruction]) -> Result<Vec<(u8, Vec<Part>)>, BeamError> {
        let mut labels = BTreeMap::new();
        for instruction in instructions {
            if let (ops::LABEL, [Operand::Number(label)]) = (instruction.op, &instruction.operands[..]) {
                let number = labels.len();
                labels.entry(*label).or_insert(number);
            }
        }
        instructions
            .iter()
            // Where it stands in the source is told by these, and behind the last function is the end.
            .filter(|one| {
                !matches!(
                    one.op,
                    ops::LINE | ops::EXECUTABLE_LINE | ops::DEBUG_LINE | ops::INT_CODE_END
                )
            })
            .map(|one| {
                let parts = one
                    .operands
                    .iter()
                    .enumerate()
                    .map(|(at, operand)| match (one.op, at, operand) {
                        (ops::LABEL, 0, Operand::Number(label)) => Ok(self.label(*label, &labels)),
                        (op, at, Operand::Number(index)) if import_at(op) == Some(at) => {
                            let import = usize::try_from(*index)
                                .ok()
                                .and_then(|index| beam.imports().get(index));
                            Ok(import.map_or(Part::Number(*index), |import| {
                                Part::Import(import.module.clone(), (import.function.clone(), import.arity))
                            }))
                        }
                        (ops::MAKE_FUN2 | ops::MAKE_FUN3, 0, Operand::Number(index)) => {
                            let entry = usize::try_from(*index)
                                .ok()
                                .and_then(|index| self.funs.get(index));
                            Ok(entry.map_or(Part::Number(*index), |label| self.label(*label, &labels)))
                        }
                        (_, _, operand) => self.part(beam, operand, &labels),
                    })
                    .collect::<Result<_, BeamError>>()?;
                Ok((one.op, parts))
            })
            .collect()
    }

    /// A function by its entry, the one that is asked about among them: it may call itself.
    fn label(&self, label: u64, own: &BTreeMap<u64, usize>) -> Part {
        match (self.entries.get(&label), own.get(&label)) {
            (Some(function), _) => Part::Function(function.clone()),
            (None, Some(number)) => Part::Label(*number),
            (None, None) => Part::Number(label),
        }
    }

    fn part(&self, beam: &Beam, operand: &Operand, labels: &BTreeMap<u64, usize>) -> Result<Part, BeamError> {
        Ok(match operand {
            Operand::Number(number) => Part::Number(*number),
            Operand::Atom(0) => Part::Number(0),
            Operand::Atom(index) => Part::Atom(beam.atom(u32::try_from(*index).unwrap_or(0), "Code")?),
            Operand::Label(label) => self.label(*label, labels),
            Operand::Literal(index) => {
                let literal = usize::try_from(*index)
                    .ok()
                    .and_then(|index| self.literals.get(index));
                literal.map_or(Part::Number(*index), |literal| Part::Literal(literal.clone()))
            }
            Operand::List(list) => Part::List(
                list.iter()
                    .map(|operand| self.part(beam, operand, labels))
                    .collect::<Result<_, BeamError>>()?,
            ),
            Operand::Other { from, to } => {
                let code = beam.chunk(b"Code").unwrap_or_default();
                Part::Bytes(code.get(*from..*to).unwrap_or_default().to_vec())
            }
        })
    }
}

/// Which operand of an instruction is the number of an import.
fn import_at(op: u8) -> Option<usize> {
    match op {
        ops::CALL_EXT | ops::CALL_EXT_LAST | ops::CALL_EXT_ONLY => Some(1),
        ops::BIF0 => Some(0),
        ops::BIF1 | ops::BIF2 | ops::BIF3 => Some(1),
        ops::GC_BIF1 | ops::GC_BIF2 | ops::GC_BIF3 => Some(2),
        _ => None,
    }
}
