//! What the registers of a function hold at its calls, as far as its instructions show.
//!
//! Nothing is guessed: what an instruction may have written is another value from then on, and where ways meet, a
//! register holds what all of them agree on.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{Instruction, Operand, compact};
use super::{Beam, allow, ops};

const X: u8 = 3;
const Y: u8 = 4;

/// Its kind, x or y, and its number.
type Register = (u8, u64);

const X0: Register = (X, 0);
const X1: Register = (X, 1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    /// A fun that was made here, text, a number, or a term whose parts are all such.
    Seen,
    /// A list, tuple or map that was made here: no fun itself, whatever is in it.
    Built,
    Atom(u64),
    /// What the instruction there left in that register; 0 is the caller.
    Left(usize, Register),
    /// What came to a label in that register, by ways that differ.
    Joined(u64, Register),
}

/// What a test that failed, or one that did not, has shown of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    NoMap,
    /// No map with this key.
    Lacks(u64),
    /// Neither false nor nil nor true.
    Name,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    held: BTreeMap<Register, Value>,
    facts: BTreeSet<(Value, Fact)>,
}

impl State {
    fn set(&mut self, register: Option<Register>, value: Option<Value>) {
        match (register, value) {
            (Some(register), Some(value)) => _ = self.held.insert(register, value),
            (Some(register), None) => _ = self.held.remove(&register),
            (None, _) => {}
        }
    }

    fn forget(&mut self, kind: u8) {
        self.held.retain(|(other, _), _| *other != kind);
    }

    fn implies(&self, (value, fact): &(Value, Fact)) -> bool {
        self.facts.contains(&(*value, *fact))
            || (matches!(fact, Fact::Lacks(_)) && self.facts.contains(&(*value, Fact::NoMap)))
    }

    /// The same, with what a test has shown of a value.
    fn knowing(&self, value: Option<Value>, fact: Option<Fact>) -> Self {
        let mut state = self.clone();
        state.facts.extend(value.zip(fact));
        state
    }
}

/// How often a function is gone through: each loop inside another takes one more. Of one that needs more nothing is known.
const PASSES: usize = 64;

/// A function, gone through.
pub(super) struct Registers<'a> {
    beam: &'a Beam,
    chunk: &'a [u8],
    /// Atoms and literals that name a module of the set: a function that takes a module's name would call it.
    naming: Naming,
    labels: BTreeMap<u64, State>,
    before: BTreeMap<usize, State>,
    changed: bool,
}

/// Operands of a function that name modules of the set.
#[derive(Default)]
pub(super) struct Naming {
    /// Atoms, by their index.
    pub(super) atoms: BTreeSet<u64>,
    /// Literals, by their index.
    pub(super) literals: BTreeSet<u64>,
}

impl<'a> Registers<'a> {
    pub(super) fn of(beam: &'a Beam, body: &[Instruction], arity: u32, naming: Naming) -> Self {
        let mut registers = Self {
            beam,
            chunk: beam.chunk(b"Code").unwrap_or_default(),
            naming,
            labels: BTreeMap::new(),
            before: BTreeMap::new(),
            changed: true,
        };
        let mut passes = 0;
        while registers.changed && passes < PASSES {
            registers.changed = false;
            registers.pass(body, arity);
            passes += 1;
        }
        if registers.changed {
            registers.before.clear();
        }
        registers
    }

    /// Whether what a call is given there is no fun, or one that was made in this function or named in it.
    pub(super) fn is_fun_seen(&self, at: usize, argument: u32) -> bool {
        matches!(
            self.argument(at, argument),
            Some(Value::Seen | Value::Built | Value::Atom(_))
        )
    }

    /// Whether the same holds of all that is inside it, names of modules included.
    pub(super) fn is_seen(&self, at: usize, argument: u32) -> bool {
        self.argument(at, argument)
            .is_some_and(|value| self.is_all_seen(value))
    }

    /// Whether an apply is the second half of Elixir's `map.field`: the compiler reads the key where the value is a map
    /// and calls the function of that name where it is a module. A state that holds a module there would have been
    /// called by the old code as well. `value.field()` is a call on purpose: it does not leave false, nil and true out.
    pub(super) fn is_field_read(&self, at: usize) -> bool {
        let Some(state) = self.before.get(&at) else {
            return false;
        };
        match (state.held.get(&X0), state.held.get(&X1)) {
            // Of the others, two that are alike need not be the same.
            (Some(value @ (Value::Left(..) | Value::Joined(..))), Some(Value::Atom(key))) => {
                state.implies(&(*value, Fact::Lacks(*key))) && state.implies(&(*value, Fact::Name))
            }
            _ => false,
        }
    }

    fn argument(&self, at: usize, argument: u32) -> Option<Value> {
        let held = &self.before.get(&at)?.held;
        held.get(&(X, u64::from(argument))).copied()
    }

    fn is_all_seen(&self, value: Value) -> bool {
        match value {
            Value::Seen => true,
            Value::Atom(atom) => !self.naming.atoms.contains(&atom),
            Value::Built | Value::Left(..) | Value::Joined(..) => false,
        }
    }

    fn pass(&mut self, body: &[Instruction], arity: u32) {
        let arguments = (0..u64::from(arity.min(255))).map(|x| ((X, x), Value::Left(0, (X, x))));
        let mut state = Some(State {
            held: arguments.collect(),
            facts: BTreeSet::new(),
        });
        for (at, instruction) in body.iter().enumerate() {
            if let (ops::LABEL, [Operand::Number(label)]) = (instruction.op, &instruction.operands[..]) {
                if let Some(state) = state {
                    self.reach(*label, state);
                }
                state = self.labels.get(label).cloned();
            } else if let Some(before) = state {
                if is_call(instruction.op) {
                    self.before.insert(at, before.clone());
                }
                state = self.step(at + 1, instruction, before);
            }
        }
    }

    /// What holds at a label, now that one more way leads to it.
    fn reach(&mut self, label: u64, state: State) {
        let Some(known) = self.labels.get(&label) else {
            self.labels.insert(label, state);
            self.changed = true;
            return;
        };
        let held = known.held.iter().filter_map(|(register, value)| {
            let other = state.held.get(register)?;
            Some((*register, self.joined(label, *register, *value, *other)))
        });
        let joined = State {
            held: held.collect(),
            facts: (known.facts.union(&state.facts))
                .filter(|fact| known.implies(fact) && state.implies(fact))
                .copied()
                .collect(),
        };
        if joined != *known {
            self.labels.insert(label, joined);
            self.changed = true;
        }
    }

    fn joined(&self, label: u64, register: Register, one: Value, other: Value) -> Value {
        let is_built = |value| value == Value::Built || self.is_all_seen(value);
        if one == other {
            one
        } else if self.is_all_seen(one) && self.is_all_seen(other) {
            Value::Seen
        } else if is_built(one) && is_built(other) {
            Value::Built
        } else {
            Value::Joined(label, register)
        }
    }

    fn jump(&mut self, label: Option<&Operand>, state: State) {
        if let Some(Operand::Label(label)) = label
            && *label != 0
        {
            self.reach(*label, state);
        }
    }

    /// What holds behind an instruction; `None` where nothing comes behind it.
    fn step(&mut self, at: usize, instruction: &Instruction, mut state: State) -> Option<State> {
        let operands = &instruction.operands[..];
        match (instruction.op, operands) {
            (ops::MOVE, [from, to]) => {
                let value = self.value(&state, from);
                state.set(self.register(to), value);
            }
            (ops::SWAP, [one, other]) => {
                let (first, second) = (self.value(&state, one), self.value(&state, other));
                state.set(self.register(one), second);
                state.set(self.register(other), first);
            }
            (ops::MAKE_FUN2, _) => state.set(Some(X0), Some(Value::Seen)),
            (ops::MAKE_FUN3, [_, to, _]) => state.set(self.register(to), Some(Value::Seen)),
            (ops::PUT_LIST, [head, tail, to]) => self.build(&mut state, &[head, tail], to),
            (ops::PUT_TUPLE2, [to, parts]) => self.build(&mut state, &[parts], to),
            (ops::PUT_MAP_ASSOC | ops::PUT_MAP_EXACT, [fail, from, to, _, parts]) => {
                self.jump(Some(fail), state.clone());
                self.build(&mut state, &[from, parts], to);
            }
            (ops::BS_CREATE_BIN, [fail, _, _, _, to, _]) => {
                self.jump(Some(fail), state.clone());
                state.set(self.register(to), Some(Value::Seen));
            }
            // They answer numbers and binaries.
            (ops::GC_BIF1 | ops::GC_BIF2 | ops::GC_BIF3, [fail, .., to]) => {
                self.jump(Some(fail), state.clone());
                state.set(self.register(to), Some(Value::Seen));
            }
            (ops::BIF0 | ops::BIF1 | ops::BIF2 | ops::BIF3, [fail, .., to]) => {
                self.jump(Some(fail), state.clone());
                self.leave(&mut state, at, to);
            }
            (ops::GET_TUPLE_ELEMENT, [_, _, to]) | (ops::GET_HD | ops::GET_TL, [_, to]) => {
                self.leave(&mut state, at, to);
            }
            (ops::GET_LIST, [_, head, tail]) => {
                self.leave(&mut state, at, head);
                self.leave(&mut state, at, tail);
            }
            (ops::GET_MAP_ELEMENTS, [fail, from, Operand::List(pairs)]) => {
                // Of several keys, nobody knows which is missing.
                let lacks = match pairs[..] {
                    [Operand::Atom(key), _] => Some(Fact::Lacks(key)),
                    _ => None,
                };
                self.jump(Some(fail), state.knowing(self.value(&state, from), lacks));
                for to in pairs.iter().skip(1).step_by(2) {
                    self.leave(&mut state, at, to);
                }
            }
            (ops::IS_MAP, [fail, from]) => {
                let no_map = state.knowing(self.value(&state, from), Some(Fact::NoMap));
                self.jump(Some(fail), no_map);
            }
            (ops::SELECT_VAL | ops::SELECT_TUPLE_ARITY, [from, fail, Operand::List(cases)]) => {
                for case in cases {
                    self.jump(Some(case), state.clone());
                }
                let name = self.leaves_names(cases).then_some(Fact::Name);
                self.jump(Some(fail), state.knowing(self.value(&state, from), name));
                return None;
            }
            (op, [fail, ..]) if ops::is_test(op) => self.jump(Some(fail), state.clone()),
            (ops::TRY | ops::CATCH, [tag, handler]) => {
                // Whatever was done before it failed.
                self.jump(Some(handler), State::default());
                self.leave(&mut state, at, tag);
            }
            (ops::TRIM, [Operand::Number(count), _]) => trim(&mut state, *count),
            (op, _) if ops::is_frame(op) => state.forget(Y),
            (op, _) if is_call(op) => {
                if self.is_last(instruction) {
                    return None;
                }
                state.forget(X);
                let seen = self.called(instruction).is_some_and(allow::answers_seen);
                let answer = if seen { Value::Seen } else { Value::Left(at, X0) };
                state.set(Some(X0), Some(answer));
            }
            _ => {
                self.other(at, operands, &mut state);
                if ops::forgets_x(instruction.op) {
                    state.forget(X);
                }
                for label in operands {
                    self.jump(Some(label), state.clone());
                }
                return (!ops::is_end(instruction.op)).then_some(state);
            }
        }
        Some(state)
    }

    /// An instruction that is not known any closer may write what it mentions.
    fn other(&self, at: usize, operands: &[Operand], state: &mut State) {
        for operand in operands {
            match operand {
                Operand::List(list) => self.other(at, list, state),
                _ => self.leave(state, at, operand),
            }
        }
    }

    fn leave(&self, state: &mut State, at: usize, to: &Operand) {
        if let Some(register) = self.register(to) {
            state.held.insert(register, Value::Left(at, register));
        }
    }

    fn build(&self, state: &mut State, parts: &[&Operand], to: &Operand) {
        let seen = parts.iter().all(|part| match part {
            Operand::List(list) => list.iter().all(|part| self.is_part_seen(state, part)),
            part => self.is_part_seen(state, part),
        });
        let value = if seen { Value::Seen } else { Value::Built };
        state.set(self.register(to), Some(value));
    }

    fn is_part_seen(&self, state: &State, part: &Operand) -> bool {
        self.value(state, part)
            .is_some_and(|value| self.is_all_seen(value))
    }

    fn value(&self, state: &State, operand: &Operand) -> Option<Value> {
        match operand {
            Operand::Atom(atom) => Some(Value::Atom(*atom)),
            // The funs in it are followed where it stands.
            Operand::Literal(literal) if self.naming.literals.contains(literal) => Some(Value::Built),
            Operand::Literal(_) => Some(Value::Seen),
            _ => match self.register(operand) {
                Some(register) => state.held.get(&register).copied(),
                None => self.is_integer(operand).then_some(Value::Seen),
            },
        }
    }

    fn register(&self, operand: &Operand) -> Option<Register> {
        let Operand::Other { from, .. } = operand else {
            return None;
        };
        let (term, _) = compact(self.chunk, *from).ok()?;
        let number = term.number("Code").ok()?;
        matches!(term.tag, X | Y).then_some((term.tag, number))
    }

    fn is_integer(&self, operand: &Operand) -> bool {
        matches!(operand, Operand::Other { from, .. }
            if compact(self.chunk, *from).is_ok_and(|(term, _)| term.tag == 1))
    }

    /// Whether what is none of these cases is neither false nor nil nor true.
    fn leaves_names(&self, cases: &[Operand]) -> bool {
        let atoms: BTreeSet<&str> = (cases.iter().step_by(2))
            .filter_map(|case| match case {
                Operand::Atom(index) => {
                    let index = usize::try_from(*index).ok()?.checked_sub(1)?;
                    self.beam.atoms().get(index).map(String::as_str)
                }
                _ => None,
            })
            .collect();
        ["false", "nil", "true"].iter().all(|atom| atoms.contains(atom))
    }

    fn called(&self, instruction: &Instruction) -> Option<(&str, &str, u32)> {
        let (ops::CALL_EXT, Some(Operand::Number(index))) = (instruction.op, instruction.operands.get(1))
        else {
            return None;
        };
        let import = self.beam.imports().get(usize::try_from(*index).ok()?)?;
        Some((&import.module, &import.function, import.arity))
    }

    fn is_last(&self, instruction: &Instruction) -> bool {
        let raises = matches!(
            self.called(instruction),
            Some(("erlang", "error", 1 | 2) | ("erlang", "exit" | "throw", 1))
        );
        raises || ops::is_end(instruction.op)
    }
}

fn is_call(op: u8) -> bool {
    matches!(
        op,
        ops::CALL
            | ops::CALL_LAST
            | ops::CALL_ONLY
            | ops::CALL_EXT
            | ops::CALL_EXT_LAST
            | ops::CALL_EXT_ONLY
            | ops::CALL_FUN
            | ops::CALL_FUN2
            | ops::APPLY
            | ops::APPLY_LAST
            | ops::SEND
    )
}

/// The y registers lose their first ones.
fn trim(state: &mut State, count: u64) {
    let held = std::mem::take(&mut state.held);
    state.held = (held.into_iter())
        .filter_map(|((kind, number), value)| match kind {
            Y => Some(((kind, number.checked_sub(count)?), value)),
            _ => Some(((kind, number), value)),
        })
        .collect();
}
