//! A beam file: its chunks, and the facts that follow from them.
//!
//! This room executes nothing and trusts no length, count or index of a file: bytes that are not what they should
//! be are errors, never panics, and nothing is allocated on a file's word.
//!
//! Source: `beam_lib.erl` (chunks, md5), `beam_asm.erl` and `beam_file.c` (their contents) of OTP 25 to 29.

mod allow;
mod code;
pub mod compare;
mod funs;
pub mod graph;
mod literal;
mod ops;
mod registers;
pub mod rename;

use std::io::Read;

use flate2::read::{GzDecoder, ZlibDecoder};
use md5::{Digest, Md5};

use self::code::Operand;

/// The most bytes one beam file, or its literals, may inflate to. The largest of OTP and Elixir (`Unicode` tables)
/// has 2 MB; generated modules of users reach tens of megabytes.
const MAX_INFLATED: u64 = 256 * 1024 * 1024;

/// The most bytes an atom has: 255 characters (`MAX_ATOM_CHARACTERS` in ERTS's `atom.h`) of UTF-8.
const MAX_ATOM: usize = 255 * 4;

/// The most functions a module exports or calls. Generated modules have some thousands; each is held with its names.
const MAX_FUNCTIONS: usize = 1 << 16;

/// Why bytes are no beam file that is understood here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeamError {
    /// Not the container of a beam file.
    #[error("it is not a beam file")]
    NotBeam,
    /// Ends inside a chunk, or a chunk inside a value.
    #[error("it is cut off in {0}")]
    Truncated(&'static str),
    /// A chunk that every module has is missing.
    #[error("it has no {0} chunk")]
    Missing(&'static str),
    /// A chunk holds what it may not.
    #[error("its {chunk} chunk is damaged: {what}")]
    Damaged {
        /// The chunk.
        chunk: &'static str,
        /// What is wrong.
        what: String,
    },
    /// Compressed data that is none, or too much.
    #[error("its compressed {0} cannot be inflated")]
    Inflate(&'static str),
    /// An instruction of a later OTP than is known here.
    #[error("it has the instruction {0}, which is not known")]
    UnknownInstruction(u8),
}

/// An exported function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Name.
    pub function: String,
    /// Arity.
    pub arity: u32,
    /// Entry label.
    pub label: u32,
}

/// A function of another module that is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Module.
    pub module: String,
    /// Name.
    pub function: String,
    /// Arity.
    pub arity: u32,
}

/// A beam file, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beam {
    chunks: Vec<([u8; 4], Vec<u8>)>,
    atoms: Vec<String>,
    /// OTP 28 and later count atoms by a negative number and their lengths in compact form.
    long_atoms: bool,
    exports: Vec<Export>,
    imports: Vec<Import>,
}

/// Chunks that make the md5, in this order (`beam_lib:md5_chunks/0`).
const MD5_CHUNKS: [&[u8; 4]; 11] = [
    b"Atom", b"AtU8", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT", b"Meta", b"Recs", b"DbgB",
];

impl Beam {
    /// Takes a file apart; one compressed by gzip is inflated first.
    ///
    /// # Errors
    /// [`BeamError`]: the bytes are no beam file, or a damaged one.
    pub fn parse(bytes: &[u8]) -> Result<Self, BeamError> {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let inflated = inflate(GzDecoder::new(bytes), "file")?;
            return Self::parse_plain(&inflated);
        }
        Self::parse_plain(bytes)
    }

    fn parse_plain(bytes: &[u8]) -> Result<Self, BeamError> {
        if bytes.len() < 12 || &bytes[..4] != b"FOR1" || &bytes[8..12] != b"BEAM" {
            return Err(BeamError::NotBeam);
        }
        let announced = word(bytes, 4, "its header")? as usize;
        let end = announced
            .checked_add(8)
            .filter(|end| *end <= bytes.len())
            .ok_or(BeamError::Truncated("its chunks"))?;
        let mut chunks: Vec<([u8; 4], Vec<u8>)> = Vec::new();
        let mut at = 12;
        while at < end {
            let header = bytes
                .get(at..at + 8)
                .ok_or(BeamError::Truncated("a chunk's header"))?;
            let size = word(header, 4, "a chunk's header")? as usize;
            let data = at
                .checked_add(8 + size)
                .and_then(|stop| bytes.get(at + 8..stop))
                .ok_or(BeamError::Truncated("a chunk"))?;
            chunks.push(([header[0], header[1], header[2], header[3]], data.to_vec()));
            at += 8 + size.next_multiple_of(4);
        }
        let mut beam = Self {
            chunks,
            atoms: vec![],
            long_atoms: false,
            exports: vec![],
            imports: vec![],
        };
        (beam.atoms, beam.long_atoms) = read_atoms(&beam.needed(b"AtU8", "AtU8")?)?;
        if beam.atoms.is_empty() {
            return Err(damaged("AtU8", "it names no module"));
        }
        beam.needed(b"Code", "Code")?;
        beam.exports = beam
            .triples(b"ExpT", "ExpT")?
            .into_iter()
            .map(|[function, arity, label]| {
                Ok(Export {
                    function: beam.atom(function, "ExpT")?,
                    arity,
                    label,
                })
            })
            .collect::<Result<_, BeamError>>()?;
        beam.imports = beam
            .triples(b"ImpT", "ImpT")?
            .into_iter()
            .map(|[module, function, arity]| {
                Ok(Import {
                    module: beam.atom(module, "ImpT")?,
                    function: beam.atom(function, "ImpT")?,
                    arity,
                })
            })
            .collect::<Result<_, BeamError>>()?;
        Ok(beam)
    }

    /// The module's name.
    pub fn module(&self) -> &str {
        &self.atoms[0]
    }

    /// `code:module_md5/1`: over the chunks that make the code, without the old uniq of funs.
    pub fn md5(&self) -> [u8; 16] {
        let mut md5 = Md5::new();
        for id in MD5_CHUNKS {
            let Some(chunk) = self.chunk(id) else { continue };
            if id == b"FunT" && chunk.len() >= 4 {
                md5.update(&chunk[..4]);
                let mut entries = chunk[4..].chunks_exact(FUN_ENTRY);
                for entry in &mut entries {
                    md5.update(&entry[..FUN_ENTRY - 4]);
                    md5.update([0; 4]);
                }
                md5.update(entries.remainder());
            } else {
                md5.update(chunk);
            }
        }
        md5.finalize().into()
    }

    /// A chunk by its id.
    pub fn chunk(&self, id: &[u8; 4]) -> Option<&[u8]> {
        self.chunks
            .iter()
            .find(|(name, _)| name == id)
            .map(|(_, data)| data.as_slice())
    }

    /// What it exports.
    pub fn exports(&self) -> &[Export] {
        &self.exports
    }

    /// Whether it exports a function.
    pub fn is_exported(&self, function: &str, arity: u32) -> bool {
        self.exports
            .iter()
            .any(|export| export.function == function && export.arity == arity)
    }

    /// What it calls of other modules.
    pub fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// Its atoms; the first is its name.
    pub fn atoms(&self) -> &[String] {
        &self.atoms
    }

    /// The attributes as a term (External Term Format); `None` in a stripped file.
    pub fn attributes(&self) -> Option<&[u8]> {
        self.chunk(b"Attr")
    }

    /// Each literal as a term (External Term Format).
    ///
    /// # Errors
    /// The chunk is damaged.
    pub fn literals(&self) -> Result<Vec<Vec<u8>>, BeamError> {
        let Some(chunk) = self.chunk(b"LitT") else {
            return Ok(vec![]);
        };
        let size = word(chunk, 0, "LitT")?;
        // OTP 28 and later write 0 and leave the rest uncompressed.
        let table = if size == 0 {
            chunk[4..].to_vec()
        } else {
            inflate(ZlibDecoder::new(&chunk[4..]), "literals")?
        };
        let count = word(&table, 0, "LitT")?;
        let mut literals = Vec::new();
        let mut at = 4;
        for _ in 0..count {
            let length = word(&table, at, "LitT")? as usize;
            let literal = table
                .get(at + 4..at + 4 + length)
                .ok_or(BeamError::Truncated("LitT"))?;
            literals.push(literal.to_vec());
            at += 4 + length;
        }
        Ok(literals)
    }

    /// Whether it may name a module: as an atom, or anywhere in a literal (`&Mod.fun/1`, a list of modules). A name that
    /// is part of a longer one in a literal counts too.
    ///
    /// # Errors
    /// Its literals are damaged.
    pub fn names(&self, module: &str) -> Result<bool, BeamError> {
        Ok(self.atoms().iter().any(|atom| atom == module)
            || self.literals()?.iter().any(|literal| {
                literal
                    .windows(module.len())
                    .any(|part| part == module.as_bytes())
            }))
    }

    /// Whether it has an on_load function: the instruction that marks it.
    ///
    /// # Errors
    /// The code is damaged.
    pub fn has_on_load(&self) -> Result<bool, BeamError> {
        let mut found = false;
        code::walk(self, |op, _| found |= op == ops::ON_LOAD)?;
        Ok(found)
    }

    /// The literal that an exported function without arguments returns, as a term (External Term Format), where that
    /// is all it does.
    ///
    /// # Errors
    /// The code or the literals are damaged.
    pub fn constant(&self, function: &str) -> Result<Option<Vec<u8>>, BeamError> {
        let Some(export) = self
            .exports
            .iter()
            .find(|export| export.function == function && export.arity == 0)
        else {
            return Ok(None);
        };
        let entry = [Operand::Number(u64::from(export.label))];
        let instructions = code::instructions(self)?;
        let mut body = instructions
            .iter()
            .skip_while(|one| one.op != ops::LABEL || one.operands != entry)
            .skip(1);
        let (Some(first), Some(second)) = (body.next(), body.next()) else {
            return Ok(None);
        };
        let [Operand::Literal(index), _] = first.operands[..] else {
            return Ok(None);
        };
        if first.op != ops::MOVE || second.op != ops::RETURN {
            return Ok(None);
        }
        let literal = match usize::try_from(index) {
            Ok(index) => self.literals()?.into_iter().nth(index),
            Err(_) => None,
        };
        Ok(literal)
    }

    /// Whether it loads a NIF.
    pub fn loads_nif(&self) -> bool {
        self.imports
            .iter()
            .any(|import| import.module == "erlang" && import.function == "load_nif" && import.arity == 2)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = b"BEAM".to_vec();
        for (id, data) in &self.chunks {
            body.extend(id);
            body.extend(length(data.len()));
            body.extend(data);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut file = b"FOR1".to_vec();
        file.extend(length(body.len()));
        file.extend(body);
        file
    }

    fn needed(&self, id: &[u8; 4], name: &'static str) -> Result<Vec<u8>, BeamError> {
        self.chunk(id).map(<[u8]>::to_vec).ok_or(BeamError::Missing(name))
    }

    /// A table of three words each; absent counts as empty.
    fn triples(&self, id: &[u8; 4], name: &'static str) -> Result<Vec<[u32; 3]>, BeamError> {
        let Some(chunk) = self.chunk(id) else {
            return Ok(vec![]);
        };
        let count = word(chunk, 0, name)? as usize;
        let rows = chunk[4..].chunks_exact(12);
        if rows.len() < count {
            return Err(BeamError::Truncated(name));
        }
        if count > MAX_FUNCTIONS {
            return Err(damaged(name, format!("{count} functions")));
        }
        rows.take(count)
            .map(|row| Ok([word(row, 0, name)?, word(row, 4, name)?, word(row, 8, name)?]))
            .collect()
    }

    fn atom(&self, index: u32, chunk: &'static str) -> Result<String, BeamError> {
        (index as usize)
            .checked_sub(1)
            .and_then(|index| self.atoms.get(index))
            .cloned()
            .ok_or_else(|| damaged(chunk, format!("atom {index} does not exist")))
    }

    fn replace(&mut self, id: &[u8; 4], data: Vec<u8>) {
        if let Some(chunk) = self.chunks.iter_mut().find(|(name, _)| name == id) {
            chunk.1 = data;
        }
    }
}

/// Bytes of one entry of FunT: function, arity, label, index, free variables, old uniq.
const FUN_ENTRY: usize = 24;

fn damaged(chunk: &'static str, what: impl Into<String>) -> BeamError {
    BeamError::Damaged {
        chunk,
        what: what.into(),
    }
}

fn word(bytes: &[u8], at: usize, place: &'static str) -> Result<u32, BeamError> {
    bytes
        .get(at..at.saturating_add(4))
        .and_then(|four| four.try_into().ok())
        .map(u32::from_be_bytes)
        .ok_or(BeamError::Truncated(place))
}

fn length(size: usize) -> [u8; 4] {
    u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes()
}

fn inflate(from: impl Read, what: &'static str) -> Result<Vec<u8>, BeamError> {
    let mut out = Vec::new();
    from.take(MAX_INFLATED + 1)
        .read_to_end(&mut out)
        .map_err(|_| BeamError::Inflate(what))?;
    if out.len() as u64 > MAX_INFLATED {
        Err(BeamError::Inflate(what))
    } else {
        Ok(out)
    }
}

fn read_atoms(chunk: &[u8]) -> Result<(Vec<String>, bool), BeamError> {
    let count = i32::from_be_bytes(word(chunk, 0, "AtU8")?.to_be_bytes());
    let long = count < 0;
    let mut atoms = Vec::new();
    let mut at = 4;
    for _ in 0..count.unsigned_abs() {
        let length = if long {
            let (value, next) = code::compact(chunk, at)?;
            at = next;
            usize::try_from(value.number("AtU8")?).map_err(|_| damaged("AtU8", "a length"))?
        } else {
            at += 1;
            usize::from(*chunk.get(at - 1).ok_or(BeamError::Truncated("AtU8"))?)
        };
        if length > MAX_ATOM {
            return Err(damaged("AtU8", format!("an atom of {length} bytes")));
        }
        let text = at
            .checked_add(length)
            .and_then(|end| chunk.get(at..end))
            .ok_or(BeamError::Truncated("AtU8"))?;
        atoms.push(String::from_utf8(text.to_vec()).map_err(|_| damaged("AtU8", "an atom is not UTF-8"))?);
        at += length;
    }
    Ok((atoms, long))
}

fn write_atoms(atoms: &[String], long: bool) -> Vec<u8> {
    let count = i32::try_from(atoms.len()).unwrap_or(i32::MAX);
    let mut chunk = (if long { -count } else { count }).to_be_bytes().to_vec();
    for atom in atoms {
        if long {
            code::write_compact(0, atom.len() as u64, &mut chunk);
        } else {
            chunk.push(u8::try_from(atom.len()).unwrap_or(u8::MAX));
        }
        chunk.extend(atom.as_bytes());
    }
    chunk
}
