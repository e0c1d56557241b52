//! The call graph of a code_change: whether it only computes, whether it ends, and which modules it runs.
//!
//! Judged from the instructions alone; what cannot be seen counts against it. A fun that the data holds is not seen,
//! whoever calls it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::allow::is_allowed;
use super::code::{Instruction, Operand, fun_entries, instructions};
use super::literal::{atoms, exported_funs};
use super::registers::{Naming, Registers};
use super::{Beam, BeamError, funs, ops};

/// What the graph shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The first thing found that a rehearsal must not do, with the calls that lead to it.
    pub effect: Option<String>,
    /// Whether it ends soon, whatever the state is: no function calls itself, but for comprehensions, and none waits.
    pub ends: bool,
    /// Whether it asks which process it runs in: it answers alike only there.
    pub own_process: bool,
    /// Modules of the set that it runs, its own among them.
    pub modules: BTreeSet<String>,
}

type Function = (String, String, u32);

/// Functions that do nothing but take time, by module and name.
const WAITS: [(&str, &str); 2] = [("timer", "sleep"), ("Elixir.Process", "sleep")];

/// The function that answers which process runs it.
const OWN_PROCESS: (&str, &str) = ("erlang", "self");

const BY_DATA: &str = "a call of a module that the data names";
const FUN_OF_DATA: &str = "a call of a fun that the data holds";

/// Judges `module:function/arity` within a set of modules: those for which `beam` answers one.
///
/// # Errors
/// A module of the set is damaged.
pub fn judge(
    beam: &mut dyn FnMut(&str) -> Option<Beam>,
    module: &str,
    function: &str,
    arity: u32,
) -> Result<Judgement, BeamError> {
    let mut walk = Walk {
        beam,
        modules: BTreeMap::new(),
        effect: None,
        waits: false,
        own_process: false,
        edges: BTreeMap::new(),
    };
    let root = (module.to_owned(), function.to_owned(), arity);
    let mut todo = vec![(root.clone(), shown(&root))];
    while let Some((function, path)) = todo.pop() {
        if walk.edges.contains_key(&function) {
            continue;
        }
        let called = walk.calls(&function, &path)?;
        todo.extend(
            called
                .iter()
                .map(|next| (next.clone(), format!("{path} -> {}", shown(next)))),
        );
        walk.edges.insert(function, called);
    }
    let ends = !walk.waits && !has_cycle(&walk.edges);
    let modules = walk.edges.keys().map(|(module, _, _)| module.clone()).collect();
    Ok(Judgement {
        effect: walk.effect,
        ends,
        own_process: walk.own_process,
        modules,
    })
}

fn shown((module, function, arity): &Function) -> String {
    format!(
        "{}.{function}/{arity}",
        module.strip_prefix("Elixir.").unwrap_or(module)
    )
}

struct Walk<'a> {
    beam: &'a mut dyn FnMut(&str) -> Option<Beam>,
    /// What was read so far; `None` for a module outside the set.
    modules: BTreeMap<String, Option<Rc<Code>>>,
    effect: Option<String>,
    waits: bool,
    own_process: bool,
    edges: BTreeMap<Function, Vec<Function>>,
}

/// A module's instructions, by function.
struct Code {
    beam: Beam,
    functions: BTreeMap<(String, u32), Vec<Instruction>>,
    /// Which function a label belongs to.
    labels: BTreeMap<u64, (String, u32)>,
    /// Entry labels of funs.
    funs: Vec<u64>,
    literals: Vec<Vec<u8>>,
}

impl Code {
    fn read(beam: Beam) -> Result<Self, BeamError> {
        let mut functions: BTreeMap<(String, u32), Vec<Instruction>> = BTreeMap::new();
        let mut labels = BTreeMap::new();
        let mut current: Option<(String, u32)> = None;
        for instruction in instructions(&beam)? {
            match (instruction.op, &instruction.operands[..]) {
                (ops::FUNC_INFO, [_, Operand::Atom(name), Operand::Number(arity)]) => {
                    let name = beam.atom(u32::try_from(*name).unwrap_or(0), "Code")?;
                    current = Some((name, u32::try_from(*arity).unwrap_or(u32::MAX)));
                }
                (ops::LABEL, [Operand::Number(label)]) => {
                    // The label before a func_info is only jumped to on a failed match: whose it is does not matter.
                    if let Some(function) = &current {
                        labels.insert(*label, function.clone());
                        functions.entry(function.clone()).or_default().push(instruction);
                    }
                }
                _ => {
                    if let Some(function) = &current {
                        functions.entry(function.clone()).or_default().push(instruction);
                    }
                }
            }
        }
        let funs = fun_entries(&beam)?;
        let literals = beam.literals()?;
        Ok(Self {
            beam,
            functions,
            labels,
            funs,
            literals,
        })
    }

    fn literal(&self, index: u64) -> Option<&[u8]> {
        let literal = self.literals.get(usize::try_from(index).ok()?)?;
        Some(literal)
    }
}

impl Walk<'_> {
    fn found(&mut self, path: &str, what: &str) {
        self.effect.get_or_insert_with(|| format!("{path} -> {what}"));
    }

    /// The functions of the set that a function calls; effects are noted.
    fn calls(&mut self, function: &Function, path: &str) -> Result<Vec<Function>, BeamError> {
        let (module, name, arity) = function;
        let Some(code) = self.read(module)? else {
            return Ok(vec![]);
        };
        let mut called = Vec::new();
        match code.functions.get(&(name.clone(), *arity)) {
            Some(body) => {
                let registers = self.registers(&code, body, *arity)?;
                for (at, instruction) in body.iter().enumerate() {
                    let registers = registers.as_ref();
                    if is_apply_without_arguments(instruction)
                        && registers.is_some_and(|registers| registers.is_field_read(at))
                    {
                        continue;
                    }
                    self.instruction(&code, instruction, module, path, &mut called)?;
                    let given = called_import(&code, instruction);
                    if let Some(what) = given.and_then(|function| runs_data(function, at, registers)) {
                        self.found(path, what);
                    }
                }
            }
            None => self.found(path, "a function that does not exist"),
        }
        Ok(called)
    }

    fn read(&mut self, module: &str) -> Result<Option<Rc<Code>>, BeamError> {
        if let Some(known) = self.modules.get(module) {
            return Ok(known.clone());
        }
        let code = (self.beam)(module).map(Code::read).transpose()?.map(Rc::new);
        self.modules.insert(module.to_owned(), code.clone());
        Ok(code)
    }

    /// The registers of a function, where it depends on them what a call runs.
    fn registers<'code>(
        &mut self,
        code: &'code Code,
        body: &[Instruction],
        arity: u32,
    ) -> Result<Option<Registers<'code>>, BeamError> {
        let matters = body.iter().any(|instruction| {
            is_apply_without_arguments(instruction)
                || called_import(code, instruction).is_some_and(takes_code)
        });
        if !matters {
            return Ok(None);
        }
        let mut naming = Naming::default();
        for instruction in body {
            for operand in &instruction.operands {
                self.naming(code, operand, &mut naming)?;
            }
        }
        Ok(Some(Registers::of(&code.beam, body, arity, naming)))
    }

    /// Notes an operand that names modules of the set.
    fn naming(&mut self, code: &Code, operand: &Operand, naming: &mut Naming) -> Result<(), BeamError> {
        match operand {
            Operand::Atom(index) => {
                let name = usize::try_from(*index)
                    .ok()
                    .and_then(|index| code.beam.atoms().get(index.checked_sub(1)?));
                if let Some(name) = name
                    && self.read(name)?.is_some()
                {
                    naming.atoms.insert(*index);
                }
            }
            Operand::Literal(index) => {
                for name in code.literal(*index).and_then(atoms).unwrap_or_default() {
                    if self.read(name)?.is_some() {
                        naming.literals.insert(*index);
                    }
                }
            }
            Operand::List(list) => {
                for operand in list {
                    self.naming(code, operand, naming)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn instruction(
        &mut self,
        code: &Code,
        instruction: &Instruction,
        module: &str,
        path: &str,
        called: &mut Vec<Function>,
    ) -> Result<(), BeamError> {
        let operands = &instruction.operands;
        for operand in operands {
            self.literal(code, operand, path, called)?;
        }
        let number = |index: usize| match operands.get(index) {
            Some(Operand::Number(number)) => Some(*number),
            _ => None,
        };
        match instruction.op {
            ops::CALL | ops::CALL_LAST | ops::CALL_ONLY => {
                let label = match operands.get(1) {
                    Some(Operand::Label(label)) => Some(*label),
                    _ => None,
                };
                self.local(code, label, module, path, called);
            }
            ops::CALL_EXT | ops::CALL_EXT_LAST | ops::CALL_EXT_ONLY => {
                self.import(code, number(1), path, called)?;
            }
            ops::BIF0 => self.import(code, number(0), path, called)?,
            ops::BIF1 | ops::BIF2 | ops::BIF3 => self.import(code, number(1), path, called)?,
            ops::GC_BIF1 | ops::GC_BIF2 | ops::GC_BIF3 => self.import(code, number(2), path, called)?,
            ops::MAKE_FUN2 | ops::MAKE_FUN3 => {
                let label = number(0)
                    .and_then(|index| code.funs.get(usize::try_from(index).ok()?))
                    .copied();
                self.local(code, label, module, path, called);
            }
            ops::APPLY | ops::APPLY_LAST => self.found(path, BY_DATA),
            ops::CALL_FUN | ops::CALL_FUN2 => self.found(path, FUN_OF_DATA),
            ops::SEND => self.found(path, "a send"),
            ops::REMOVE_MESSAGE | ops::LOOP_REC | ops::LOOP_REC_END => self.found(path, "a receive"),
            // A receive that looks at no message only takes time.
            ops::WAIT | ops::WAIT_TIMEOUT => self.waits = true,
            _ => {}
        }
        Ok(())
    }

    fn literal(
        &mut self,
        code: &Code,
        operand: &Operand,
        path: &str,
        called: &mut Vec<Function>,
    ) -> Result<(), BeamError> {
        match operand {
            Operand::Literal(index) => {
                let Some(literal) = code.literal(*index) else {
                    self.found(path, "a literal that does not exist");
                    return Ok(());
                };
                // One that is not read to its end is not renamed either: a fun in it would be the running module's.
                let Some(funs) = exported_funs(literal) else {
                    self.found(path, "a literal that cannot be read");
                    return Ok(());
                };
                for fun in funs {
                    let (module, function) = (fun.module.to_owned(), fun.function.to_owned());
                    if takes_code((fun.module, fun.function, fun.arity)) {
                        self.found(path, FUN_OF_DATA);
                    }
                    self.external((module, function, fun.arity), path, called)?;
                }
            }
            Operand::List(list) => {
                for operand in list {
                    self.literal(code, operand, path, called)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn local(
        &mut self,
        code: &Code,
        label: Option<u64>,
        module: &str,
        path: &str,
        called: &mut Vec<Function>,
    ) {
        match label.and_then(|label| code.labels.get(&label)) {
            Some((name, arity)) => called.push((module.to_owned(), name.clone(), *arity)),
            None => self.found(path, "a label that does not exist"),
        }
    }

    fn import(
        &mut self,
        code: &Code,
        index: Option<u64>,
        path: &str,
        called: &mut Vec<Function>,
    ) -> Result<(), BeamError> {
        match index.and_then(|index| code.beam.imports().get(usize::try_from(index).ok()?)) {
            Some(import) => {
                let function = (import.module.clone(), import.function.clone(), import.arity);
                self.external(function, path, called)?;
            }
            None => self.found(path, "an import that does not exist"),
        }
        Ok(())
    }

    fn external(
        &mut self,
        function: Function,
        path: &str,
        called: &mut Vec<Function>,
    ) -> Result<(), BeamError> {
        if self.read(&function.0)?.is_some() {
            called.push(function);
        } else if WAITS.contains(&(&function.0, &function.1)) {
            self.waits = true;
        } else if is_allowed(&function.0, &function.1, function.2) {
            self.own_process |= (&*function.0, &*function.1) == OWN_PROCESS;
        } else {
            let what = shown(&function);
            self.found(path, &what);
        }
        Ok(())
    }
}

fn is_apply_without_arguments(instruction: &Instruction) -> bool {
    matches!(
        (instruction.op, instruction.operands.first()),
        (ops::APPLY | ops::APPLY_LAST, Some(Operand::Number(0)))
    )
}

/// The function of another module that an instruction calls.
fn called_import<'code>(
    code: &'code Code,
    instruction: &Instruction,
) -> Option<(&'code str, &'code str, u32)> {
    let (ops::CALL_EXT | ops::CALL_EXT_LAST | ops::CALL_EXT_ONLY, Some(Operand::Number(index))) =
        (instruction.op, instruction.operands.get(1))
    else {
        return None;
    };
    let import = code.beam.imports().get(usize::try_from(*index).ok()?)?;
    Some((&import.module, &import.function, import.arity))
}

/// Whether a function runs what it is given.
fn takes_code((module, function, arity): (&str, &str, u32)) -> bool {
    let mut given = funs::called(module, function, arity).chain(funs::looked_into(module, function, arity));
    given.next().is_some()
}

/// What a call of a function runs that is not seen.
fn runs_data(
    (module, function, arity): (&str, &str, u32),
    at: usize,
    registers: Option<&Registers<'_>>,
) -> Option<&'static str> {
    let fun = funs::called(module, function, arity)
        .all(|argument| registers.is_some_and(|registers| registers.is_fun_seen(at, argument)));
    let inside = funs::looked_into(module, function, arity)
        .all(|argument| registers.is_some_and(|registers| registers.is_seen(at, argument)));
    (!fun || !inside).then_some(FUN_OF_DATA)
}

/// Whether a call is a step of the loops that one comprehension was compiled to: they end with its list. A generator
/// inside another is two loops that call each other, `-f/1-lc$^0/1-0-` and `-f/1-lc$^1/1-1-`.
fn is_comprehension_step(caller: &Function, callee: &Function) -> bool {
    let parent = |function: &Function| {
        ["-lc$^", "-blc$^", "-lbc$^", "-bbc$^", "-mc$^", "-bc$^"]
            .iter()
            .find_map(|mark| function.1.split_once(mark).map(|(parent, _)| parent.to_owned()))
    };
    caller.0 == callee.0 && parent(caller).is_some() && parent(caller) == parent(callee)
}

fn has_cycle(edges: &BTreeMap<Function, Vec<Function>>) -> bool {
    // Depth first, without recursion: white is absent, grey is open, black is done.
    let mut done: BTreeSet<&Function> = BTreeSet::new();
    for start in edges.keys() {
        let mut open: Vec<(&Function, usize)> = vec![(start, 0)];
        let mut grey: BTreeSet<&Function> = BTreeSet::from([start]);
        while let Some((function, next)) = open.pop() {
            if done.contains(function) {
                grey.remove(function);
                continue;
            }
            let called = edges.get(function).map_or(&[][..], Vec::as_slice);
            match called.get(next) {
                Some(callee) => {
                    open.push((function, next + 1));
                    if is_comprehension_step(function, callee) {
                        continue;
                    }
                    if grey.contains(callee) {
                        return true;
                    }
                    if !done.contains(callee) && edges.contains_key(callee) {
                        grey.insert(callee);
                        open.push((callee, 0));
                    }
                }
                None => {
                    grey.remove(function);
                    done.insert(function);
                }
            }
        }
    }
    false
}
