//! Renamed copies: a module's beam under another name, loadable beside the running one.
//!
//! A copy treats every name as data exactly as the original does; only its own name and the modules it calls
//! differ, those of `fun M:F/A` in its literals among them. Whatever else its literals hold stays as it is.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::code::{arity, operand, start};
use super::ops::{FUNC_INFO, INT_CODE_END};
use super::{Beam, BeamError, FUN_ENTRY, damaged, length, literal, word, write_atoms};

/// Chunks that only tools read.
const TOOLS: [&[u8; 4]; 4] = [b"Dbgi", b"Docs", b"ExCk", b"Abst"];

/// Modules that hold BIFs: a second module with the same BIFs cannot be loaded (`erts/emulator/beam/bif.tab`).
const HOLD_BIFS: [&str; 32] = [
    "atomics",
    "binary",
    "code",
    "counters",
    "crypto",
    "ets",
    "erl_ddll",
    "erl_debugger",
    "erl_prim_loader",
    "error_logger",
    "erlang",
    "erts_code_purger",
    "erts_debug",
    "erts_internal",
    "erts_literal_area_collector",
    "erts_trace_cleaner",
    "file",
    "io",
    "init",
    "lists",
    "maps",
    "math",
    "net_kernel",
    "os",
    "persistent_term",
    "prim_eval",
    "prim_file",
    "re",
    "records",
    "string",
    "unicode",
    "zlib",
];

/// Why a module has no copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenameError {
    /// Its on_load function would run again.
    #[error("it has an on_load function")]
    OnLoad,
    /// Its NIFs are bound to its name.
    #[error("it loads a NIF")]
    Nif,
    /// It holds BIFs.
    #[error("it holds functions of the runtime system")]
    HoldsBifs,
    /// It defines native records (OTP 29): a record belongs to the module that defines it, so that what the copy
    /// makes and matches would not be the state's.
    #[error("it defines native records")]
    NativeRecords,
    /// The new name does not fit.
    #[error("the name {0} is longer than 255 bytes")]
    NameTooLong(String),
    /// The file is damaged.
    #[error(transparent)]
    Beam(#[from] BeamError),
}

/// A copy of `beam` under `aliases[its name]`, calling the aliases of the other modules in `aliases`.
///
/// # Errors
/// [`RenameError`]: the module cannot be copied, or is damaged.
pub fn rename(beam: &Beam, aliases: &BTreeMap<String, String>) -> Result<Vec<u8>, RenameError> {
    let own = beam.module().to_owned();
    let Some(alias) = aliases.get(&own) else {
        return Err(damaged("AtU8", format!("no other name for {own}")).into());
    };
    if let Some(long) = aliases.values().find(|alias| alias.len() > 255) {
        return Err(RenameError::NameTooLong(long.clone()));
    }
    if HOLD_BIFS.contains(&own.as_str()) {
        return Err(RenameError::HoldsBifs);
    }
    if beam.loads_nif() {
        return Err(RenameError::Nif);
    }
    if beam.chunk(b"Recs").is_some() {
        return Err(RenameError::NativeRecords);
    }
    if beam.has_on_load()? {
        return Err(RenameError::OnLoad);
    }

    let mut atoms = beam.atoms.clone();
    atoms[0].clone_from(alias);
    atoms.push(own);
    let data = atoms.len() as u64;
    let mut moved = BTreeMap::new();
    for (index, atom) in beam.atoms.iter().enumerate().skip(1) {
        if let Some(alias) = aliases.get(atom) {
            atoms.push(alias.clone());
            moved.insert(index as u64 + 1, atoms.len() as u64);
        }
    }

    let mut copy = beam.clone();
    copy.chunks.retain(|(id, _)| !TOOLS.contains(&id));
    copy.replace(b"AtU8", write_atoms(&atoms, beam.long_atoms));
    let name = |index: u32| if index == 1 { narrow(data) } else { index };
    let module = |index: u32| moved.get(&u64::from(index)).map_or(index, |alias| narrow(*alias));
    copy.table(b"ImpT", 12, &mut |row| {
        patch(row, 0, module);
        patch(row, 4, name);
    })?;
    for (id, width) in [(b"ExpT", 12), (b"LocT", 12), (b"FunT", FUN_ENTRY)] {
        copy.table(id, width, &mut |row| patch(row, 0, name))?;
    }
    copy.replace(b"Code", code(beam, data)?);
    if let Some(literals) = literals(beam, aliases)? {
        copy.replace(b"LitT", literals);
    }
    Ok(copy.to_bytes())
}

fn narrow(index: u64) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn patch(row: &mut [u8], at: usize, change: impl Fn(u32) -> u32) {
    if let Ok(old) = word(row, at, "a table") {
        row[at..at + 4].copy_from_slice(&change(old).to_be_bytes());
    }
}

impl Beam {
    fn table(
        &mut self,
        id: &[u8; 4],
        width: usize,
        change: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), BeamError> {
        let Some(mut table) = self.chunk(id).map(<[u8]>::to_vec) else {
            return Ok(());
        };
        let count = word(&table, 0, "a table")? as usize;
        let rows = table[4..].chunks_exact_mut(width);
        if rows.len() < count {
            return Err(BeamError::Truncated("a table"));
        }
        rows.take(count).for_each(change);
        self.replace(id, table);
        Ok(())
    }
}

/// The literals with their funs pointing at the copies; `None` where nothing changes. One that cannot be read stays: the
/// call graph does not let it be run.
fn literals(beam: &Beam, aliases: &BTreeMap<String, String>) -> Result<Option<Vec<u8>>, BeamError> {
    let mut literals = beam.literals()?;
    let mut changed = false;
    for literal in &mut literals {
        if let Some(renamed) = literal::renamed(literal, aliases) {
            *literal = renamed;
            changed = true;
        }
    }
    if !changed {
        return Ok(None);
    }
    let mut table = length(literals.len()).to_vec();
    for literal in &literals {
        table.extend(length(literal.len()));
        table.extend(literal);
    }
    let plain = word(beam.chunk(b"LitT").unwrap_or_default(), 0, "LitT")? == 0;
    let (size, table) = if plain {
        (length(0), table)
    } else {
        (length(table.len()), deflate(&table)?)
    };
    Ok(Some([size.as_slice(), &table].concat()))
}

fn deflate(table: &[u8]) -> Result<Vec<u8>, BeamError> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(table)
        .and_then(|()| encoder.finish())
        .map_err(|_| damaged("LitT", "it cannot be written"))
}

/// Every atom operand that is the module's own name becomes the atom of the original name: it is data there. The
/// module of func_info stays: it names the function.
fn code(beam: &Beam, data: u64) -> Result<Vec<u8>, BeamError> {
    let chunk = beam.chunk(b"Code").ok_or(BeamError::Missing("Code"))?;
    let mut at = start(chunk)?;
    let mut out = chunk[..at].to_vec();
    out.reserve(chunk.len());
    while at < chunk.len() {
        let op = chunk[at];
        out.push(op);
        at += 1;
        if op == INT_CODE_END {
            out.extend(&chunk[at..]);
            return Ok(out);
        }
        for index in 0..arity(op)? {
            let keep = op == FUNC_INFO && index == 0;
            let (_, next) = operand(
                chunk,
                at,
                0,
                &mut |atom, depth| (atom == 1 && !(keep && depth == 0)).then_some(data),
                &mut out,
            )?;
            at = next;
        }
    }
    Err(BeamError::Truncated("Code"))
}
