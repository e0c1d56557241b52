//! What a beam file says of its module.
//!
//! Only what the file itself holds: nothing is guessed about state. A stripped file says less, and what is judged
//! from exports alone is marked so.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    application::Origin,
    beam::{Beam, BeamError},
    hex, terms,
};

/// A function and its arity, `name/arity` in text and JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Export {
    /// Its name.
    pub function: Box<str>,
    /// Its arity.
    pub arity: u32,
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.function, self.arity)
    }
}

impl From<Export> for String {
    fn from(export: Export) -> Self {
        export.to_string()
    }
}

/// A text that is not `name/arity`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a function and its arity")]
pub struct ExportError(String);

impl TryFrom<String> for Export {
    type Error = ExportError;

    fn try_from(text: String) -> Result<Self, ExportError> {
        text.parse()
    }
}

impl FromStr for Export {
    type Err = ExportError;

    fn from_str(text: &str) -> Result<Self, ExportError> {
        // From the right: an operator's name may hold a slash.
        let (function, arity) = text.rsplit_once('/').ok_or_else(|| ExportError(text.into()))?;
        let arity = arity.parse().map_err(|_| ExportError(text.into()))?;
        Ok(Export {
            function: function.into(),
            arity,
        })
    }
}

/// A behaviour that decides how processes of a module are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// OTP's or Elixir's generic server.
    GenServer,
    /// `gen_statem`.
    GenStatem,
    /// `gen_event`: a handler.
    GenEvent,
    /// OTP's, Elixir's or the dynamic supervisor.
    Supervisor,
    /// A process that answers system messages itself (`sys`, `proc_lib`).
    Special,
}

impl Behaviour {
    /// What a declared behaviour means; `None` for those that drive no process.
    fn declared(name: &str) -> Option<Self> {
        Some(match name {
            "gen_server" | "Elixir.GenServer" => Behaviour::GenServer,
            "gen_statem" => Behaviour::GenStatem,
            "gen_event" => Behaviour::GenEvent,
            "supervisor" | "Elixir.Supervisor" | "Elixir.DynamicSupervisor" => Behaviour::Supervisor,
            _ => return None,
        })
    }
}

/// What the file of a module says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleFacts {
    /// `code:module_md5/1`, 16 bytes: the same whether the file is stripped or compressed.
    #[serde(with = "hex")]
    pub md5: [u8; 16],
    /// What it exports, sorted.
    pub exports: Vec<Export>,
    /// `-vsn` as Erlang writes it; `None` where the file was stripped of its attributes.
    pub vsn: Option<String>,
    /// The behaviours it declares, as it names them; empty where the file was stripped of its attributes.
    pub declared: Vec<String>,
    /// The behaviours that drive processes: as declared, and as its exports show.
    pub behaviours: BTreeSet<Behaviour>,
    /// Whether a function runs when it is loaded (`-on_load`): such a module cannot be swapped with others.
    pub on_load: bool,
    /// Whether it calls `erlang:load_nif/2`.
    pub loads_nif: bool,
    /// The keys of the struct it defines, sorted, `__struct__` among them; `None` where it defines none, or the file
    /// does not say.
    pub struct_keys: Option<Vec<String>>,
    /// Whether it is a LiveComponent of Phoenix.
    #[serde(default)]
    pub live_component: bool,
}

impl ModuleFacts {
    /// Takes them from a beam file whose code is of this origin.
    ///
    /// # Errors
    /// The file's code or literals are damaged. The code of OTP and Elixir is not walked without need: it is never
    /// loaded from here.
    pub fn of(beam: &Beam, origin: Origin) -> Result<Self, BeamError> {
        let said = beam.attributes().map(terms::attributes).unwrap_or_default();
        let mut exports: Vec<Export> = beam
            .exports()
            .iter()
            .map(|export| Export {
                function: export.function.as_str().into(),
                arity: export.arity,
            })
            .collect();
        exports.sort_unstable();
        let mut behaviours = judged(beam);
        behaviours.extend(
            said.behaviours
                .iter()
                .filter_map(|name| Behaviour::declared(name)),
        );
        Ok(Self {
            md5: beam.md5(),
            exports,
            vsn: said.vsn,
            declared: said.behaviours,
            behaviours,
            // Walking the instructions is nine tenths of all the work on a file. Of what will be loaded it is done in
            // any case: it finds damage.
            on_load: (origin == Origin::Own || may_have_on_load(beam)) && beam.has_on_load()?,
            loads_nif: beam.loads_nif(),
            struct_keys: struct_keys(beam)?,
            live_component: live_component(beam)?,
        })
    }

    /// Whether it exports a function.
    pub fn is_exported(&self, function: &str, arity: u32) -> bool {
        self.exports
            .binary_search_by(|export| (&*export.function, export.arity).cmp(&(function, arity)))
            .is_ok()
    }

    /// `code_change/3`: gen_server and gen_event ask for it.
    pub fn code_change_3(&self) -> bool {
        self.is_exported("code_change", 3)
    }

    /// `code_change/4`: gen_statem asks for it.
    pub fn code_change_4(&self) -> bool {
        self.is_exported("code_change", 4)
    }

    /// `system_code_change/4`: asked of special processes.
    pub fn system_code_change(&self) -> bool {
        self.is_exported("system_code_change", 4)
    }

    /// Whether it is an Elixir protocol.
    pub fn is_protocol(&self) -> bool {
        self.is_exported("__protocol__", 1)
    }

    /// Whether it implements an Elixir protocol for one type.
    pub fn is_impl(&self) -> bool {
        self.is_exported("__impl__", 1)
    }

    /// The vsn that a code_change is told: `-vsn`, else the md5 as one big-endian number, which the compiler
    /// takes where none was written (`beam_asm:build_attributes/4`).
    pub fn vsn_or_md5(&self) -> String {
        self.vsn
            .clone()
            .unwrap_or_else(|| u128::from_be_bytes(self.md5).to_string())
    }
}

/// Whether the bytes of the on_load instruction occur where the compiler puts it: right behind a label
/// (`beam_asm:insert_on_load_instruction/2`).
fn may_have_on_load(beam: &Beam) -> bool {
    const LABEL: u8 = 1;
    const ON_LOAD: u8 = 149;
    let code = beam.chunk(b"Code").unwrap_or_default();
    code.iter()
        .enumerate()
        .filter(|(_, op)| **op == LABEL)
        .any(|(at, _)| {
            // A label's number takes one byte below 16, two below 2048, then three or four.
            let width = match code.get(at + 1) {
                Some(first) if first & 0x0f == 0 => 1,
                Some(first) if first & 0x1f == 0x08 => 2,
                Some(0x18) => 3,
                Some(0x38) => 4,
                _ => return false,
            };
            code.get(at + 1 + width) == Some(&ON_LOAD)
        })
}

/// The behaviours that exports show, for files stripped of their attributes: by the callbacks each behaviour
/// insists on. A supervisor insists on `init/1` alone, so a call of its `start_link` is asked for too.
fn judged(beam: &Beam) -> BTreeSet<Behaviour> {
    let has = |function, arity| beam.is_exported(function, arity);
    let mut behaviours = BTreeSet::new();
    if has("init", 1) {
        if has("handle_call", 3) && has("handle_cast", 2) {
            behaviours.insert(Behaviour::GenServer);
        }
        if has("callback_mode", 0) {
            behaviours.insert(Behaviour::GenStatem);
        }
        if has("handle_event", 2) && has("handle_call", 2) {
            behaviours.insert(Behaviour::GenEvent);
        }
        let starts_supervisor = |module: &str, function: &str| {
            function == "start_link" && Behaviour::declared(module) == Some(Behaviour::Supervisor)
        };
        if behaviours.is_empty()
            && beam
                .imports()
                .iter()
                .any(|import| starts_supervisor(&import.module, &import.function))
        {
            behaviours.insert(Behaviour::Supervisor);
        }
    }
    if has("system_continue", 3) && has("system_terminate", 4) {
        behaviours.insert(Behaviour::Special);
    }
    behaviours
}

/// The keys of the literal that `__struct__/0` returns: `defstruct` works the default values out when it compiles.
fn struct_keys(beam: &Beam) -> Result<Option<Vec<String>>, BeamError> {
    Ok(beam
        .constant("__struct__")?
        .and_then(|literal| terms::struct_keys(&literal, beam.module())))
}

/// As `use Phoenix.LiveComponent` makes it, by the literal that `__live__/0` returns (phoenix_live_view
/// lib/phoenix_live_component.ex), or by the callbacks that only such a module has together.
fn live_component(beam: &Beam) -> Result<bool, BeamError> {
    let says = beam
        .constant("__live__")?
        .is_some_and(|literal| terms::has_pair(&literal, "kind", "component"));
    Ok(says
        || (beam.is_exported("update", 2)
            && beam.is_exported("render", 1)
            && beam.is_exported("__live__", 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_a_function_too() {
        let export: Export = "//2".parse().unwrap();
        assert_eq!((&*export.function, export.arity), ("/", 2));
        assert_eq!(export.to_string(), "//2");
        for text in ["", "init", "init/", "init/x", "init/-1"] {
            assert_eq!(text.parse::<Export>(), Err(ExportError(text.into())));
        }
    }

    #[test]
    fn lookups_agree_with_the_order_of_the_list() {
        let mut exports: Vec<Export> = [
            "init/1",
            "a/10",
            "a/2",
            "aa/0",
            "a b/1",
            "code_change/3",
            "code_change/4",
        ]
        .map(|e| e.parse().unwrap())
        .into();
        exports.sort_unstable();
        let facts = ModuleFacts {
            md5: [1; 16],
            exports: exports.clone(),
            vsn: None,
            declared: vec![],
            behaviours: BTreeSet::new(),
            on_load: false,
            loads_nif: false,
            struct_keys: None,
            live_component: false,
        };
        for export in &exports {
            assert!(facts.is_exported(&export.function, export.arity), "{export}");
        }
        assert!(!facts.is_exported("a", 3) && !facts.is_exported("b", 1));
        assert_eq!(facts.vsn_or_md5(), "1334440654591915542993625911497130241");
    }
}
