//! What the driver asks: the one argument of `flyhot_agent:call/1`, and that of `start/1`.

use erl_dist::term::{Pid, Term};
use flyhot_upgrade::{Fate, Hosts, NodeFunction, Rehearsal, Script, WayBack};

use crate::term::{
    as_atom, as_text, as_tuple, atom, binary, boolean, charlist, list, number, properties, tuple,
};

/// Asks for the node's toolchain, modules and applications.
pub const FACTS: &str = "facts";
/// Ends the worker and the guard and takes the renamed copies off the node.
pub const FINISH: &str = "finish";

/// What a staged binary is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StagedKey {
    /// A module of the swap.
    Beam(String),
    /// A renamed copy, by the copy's name.
    Copy(String),
    /// A file to be written.
    File(String),
}

impl StagedKey {
    fn term(&self) -> Term {
        match self {
            StagedKey::Beam(module) => tuple([atom("beam"), atom(module)]),
            StagedKey::Copy(module) => tuple([atom("copy"), atom(module)]),
            StagedKey::File(path) => tuple([atom("file"), binary(path.as_bytes())]),
        }
    }
}

/// A piece of something staged; pieces of one thing arrive in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<'a> {
    /// What it belongs to.
    pub key: StagedKey,
    /// Where in it this piece starts, bytes.
    pub offset: u64,
    /// How long the whole is, bytes.
    pub total: u64,
    /// sha256 of the whole.
    pub sha256: [u8; 32],
    /// The piece.
    pub bytes: &'a [u8],
}

/// How one kind is rehearsed: for each module the loaded copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsalJob {
    /// The agent's number of the kind.
    pub kind: u64,
    /// In place or apart; `No` is not sent.
    pub how: Rehearsal,
    /// `(module, copy)`.
    pub copies: Vec<(String, String)>,
}

/// A module to be prepared from its staged beam.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareModule {
    /// Name.
    pub name: String,
    /// The file the code server is told.
    pub file: String,
    /// Loaded already: its running code is looked for as the way back.
    pub changed: bool,
}

/// The code that a start of the node should load: what the release adds to OTP and Elixir.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartCode {
    /// Name, version, modules with their md5, and the md5 of the `.app` file.
    pub applications: Vec<StartApplication>,
    /// Consolidated protocols with their md5.
    pub protocols: Vec<(String, [u8; 16])>,
    /// What a directory for it is named by.
    pub name: String,
}

/// One application of [`StartCode`]; its `.app` file is staged as [`StagedKey::File`] `app/NAME`, what lies below the `priv` of one
/// that the node does not have as `priv/NAME/MODE/PATH`, the mode in octal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartApplication {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its modules, but for consolidated protocols, with their md5.
    pub modules: Vec<(String, [u8; 16])>,
    /// `erlang:md5/1` of its `.app` file.
    pub resource_md5: [u8; 16],
}

impl StartCode {
    fn terms(&self) -> [Term; 3] {
        let modules = |of: &[(String, [u8; 16])]| {
            list(of.iter().map(|(module, md5)| tuple([atom(module), binary(md5)])))
        };
        let application = |app: &StartApplication| {
            tuple([
                atom(&app.name),
                binary(app.version.as_bytes()),
                modules(&app.modules),
                binary(&app.resource_md5),
            ])
        };
        [
            list(self.applications.iter().map(application)),
            modules(&self.protocols),
            binary(self.name.as_bytes()),
        ]
    }
}

/// One command to the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command<'a> {
    /// [`FACTS`].
    Facts,
    /// Asks for the kinds of processes; processes that show one of these modules run callbacks of others.
    Census(&'a Hosts),
    /// Asks which of some functions without arguments the node could not call.
    Lacking(Vec<NodeFunction>),
    /// Hands over pieces.
    Stage(Vec<Piece<'a>>),
    /// Loads staged copies.
    Copies(Vec<String>),
    /// Rehearses on the live processes of some kinds.
    Rehearse {
        /// The kinds.
        jobs: Vec<RehearsalJob>,
        /// Whether code_change is told `{down, Vsn}`.
        down: bool,
        /// Unanswered messages at any time.
        in_flight: u64,
        /// Deadline, milliseconds.
        timeout_ms: u64,
    },
    /// Looks for funs of older builds of changed modules, and for whoever holds removed ones.
    Closures {
        /// The changed modules.
        changed: Vec<String>,
        /// The removed modules.
        removed: Vec<String>,
        /// Loaded modules that the release does not have, but for the removed ones.
        others: Vec<String>,
        /// Whether processes are asked what funs their states hold.
        ask: bool,
        /// Unanswered messages at any time.
        in_flight: u64,
        /// How long to look, milliseconds.
        timeout_ms: u64,
    },
    /// Looks how the node is for a while. What is counted of its log is since the first of these, or since the last thaw.
    Watch {
        /// How long, milliseconds.
        for_ms: u64,
    },
    /// soft_purges what has old code.
    Drain {
        /// The changed modules.
        modules: Vec<String>,
        /// How long to wait for lingerers, milliseconds.
        timeout_ms: u64,
        /// Whether to end those that are left.
        kill: bool,
    },
    /// Prepares new and old code.
    Prepare(Vec<PrepareModule>),
    /// Samples who executes changed modules.
    WayBack {
        /// The affected kinds.
        kinds: Vec<u64>,
        /// The changed modules.
        modules: Vec<String>,
    },
    /// Knocks at every process of some kinds that does not hibernate.
    Knock {
        /// The kinds.
        kinds: Vec<u64>,
        /// Deadline, milliseconds.
        timeout_ms: u64,
        /// Unanswered messages at any time.
        in_flight: u64,
    },
    /// The window.
    Window(&'a Script),
    /// Asks which listeners run and could be paused.
    Entry,
    /// Pauses them.
    Pause,
    /// Asks which code lies on the node's disk for some modules.
    Disk(Vec<String>),
    /// Asks for what only some loaded modules are asked: `(module, whether its running code is wanted too)`.
    Modules(Vec<(String, bool)>),
    /// Asks for the digests of the files below `priv` of some applications.
    Private(Vec<String>),
    /// Asks where the node's configuration is not what applications were compiled with: their names, and the text of
    /// their `.app` files.
    Environment(Vec<(String, String)>),
    /// Writes files, in this order.
    Persist {
        /// The code.
        code: &'a StartCode,
        /// The release's version.
        version: String,
        /// Files of the release's own directory of that version: their names, and what they are staged as.
        files: Vec<(String, StagedKey)>,
    },
    /// Asks what a start would lack of some code, and where that would be written.
    Layout(&'a StartCode),
    /// Has the next start load what it loaded before any upgrade.
    RestoreBase,
    /// Writes something staged to a file that no start looks at.
    Note(String, StagedKey),
    /// Deletes removed modules that nobody needs.
    Remove {
        /// The removed modules.
        removed: Vec<String>,
        /// The modules that were swapped.
        swapped: Vec<String>,
        /// `(module, a removed one that its code of before names)`.
        names: Vec<(String, String)>,
        /// The md5 of before of those that were swapped and name one.
        builds: Vec<(String, [u8; 16])>,
        /// Unanswered messages at any time.
        in_flight: u64,
        /// How long to look, milliseconds.
        timeout_ms: u64,
    },
    /// [`FINISH`].
    Finish,
}

impl Command<'_> {
    /// The argument of `flyhot_agent:call/1`.
    pub fn term(&self) -> Term {
        match self {
            Command::Facts => atom(FACTS),
            Command::Census(hosts) => tuple([
                atom("census"),
                list(hosts.iter().map(|(shows, run)| tuple([atom(shows), atoms(run)]))),
            ]),
            Command::Lacking(functions) => tuple([
                atom("lacking"),
                list(
                    functions
                        .iter()
                        .map(|of| tuple([atom(&of.module), atom(&of.function)])),
                ),
            ]),
            Command::Finish => atom(FINISH),
            Command::Entry => atom("entry"),
            Command::Pause => atom("pause"),
            Command::Stage(pieces) => tuple([atom("stage"), list(pieces.iter().map(piece))]),
            Command::Copies(copies) => tuple([
                atom("copies"),
                list(
                    copies
                        .iter()
                        .map(|copy| tuple([atom(copy), StagedKey::Copy(copy.clone()).term()])),
                ),
            ]),
            Command::Rehearse {
                jobs,
                down,
                in_flight,
                timeout_ms,
            } => tuple([
                atom("rehearse"),
                list(jobs.iter().map(|job| {
                    let copies = job
                        .copies
                        .iter()
                        .map(|(module, copy)| tuple([atom(module), atom(copy)]));
                    tuple([number(job.kind), rehearsal(job.how), list(copies)])
                })),
                boolean(*down),
                number(*in_flight),
                number(*timeout_ms),
            ]),
            Command::Closures {
                changed,
                removed,
                others,
                ask,
                in_flight,
                timeout_ms,
            } => tuple([
                atom("closures"),
                atoms(changed),
                atoms(removed),
                atoms(others),
                boolean(*ask),
                number(*in_flight),
                number(*timeout_ms),
            ]),
            Command::Watch { for_ms } => tuple([atom("watch"), number(*for_ms)]),
            Command::Drain {
                modules,
                timeout_ms,
                kill,
            } => tuple([atom("drain"), atoms(modules), number(*timeout_ms), boolean(*kill)]),
            Command::Prepare(modules) => tuple([
                atom("prepare"),
                list(modules.iter().map(|module| {
                    tuple([
                        atom(&module.name),
                        binary(module.file.as_bytes()),
                        StagedKey::Beam(module.name.clone()).term(),
                        boolean(module.changed),
                    ])
                })),
            ]),
            Command::WayBack { kinds, modules } => tuple([atom("way_back"), numbers(kinds), atoms(modules)]),
            Command::Knock {
                kinds,
                timeout_ms,
                in_flight,
            } => tuple([
                atom("knock"),
                numbers(kinds),
                number(*timeout_ms),
                number(*in_flight),
            ]),
            Command::Window(script) => tuple([atom("window"), script_term(script)]),
            Command::Disk(modules) => tuple([atom("disk"), atoms(modules)]),
            Command::Modules(modules) => tuple([
                atom("modules"),
                list(
                    modules
                        .iter()
                        .map(|(module, code)| tuple([atom(module), boolean(*code)])),
                ),
            ]),
            Command::Private(applications) => tuple([atom("private"), atoms(applications)]),
            Command::Environment(applications) => tuple([
                atom("environment"),
                list(
                    applications
                        .iter()
                        .map(|(name, text)| tuple([atom(name), binary(text.as_bytes())])),
                ),
            ]),
            Command::Remove {
                removed,
                swapped,
                names,
                builds,
                in_flight,
                timeout_ms,
            } => tuple([
                atom("remove"),
                atoms(removed),
                atoms(swapped),
                list(
                    names
                        .iter()
                        .map(|(module, named)| tuple([atom(module), atom(named)])),
                ),
                list(
                    builds
                        .iter()
                        .map(|(module, md5)| tuple([atom(module), binary(md5)])),
                ),
                number(*in_flight),
                number(*timeout_ms),
            ]),
            Command::Persist { code, version, files } => {
                let [applications, protocols, name] = code.terms();
                tuple([
                    atom("persist"),
                    applications,
                    protocols,
                    name,
                    binary(version.as_bytes()),
                    list(
                        files
                            .iter()
                            .map(|(name, key)| tuple([charlist(name), key.term()])),
                    ),
                ])
            }
            Command::Layout(code) => {
                let [applications, protocols, name] = code.terms();
                tuple([atom("layout"), applications, protocols, name])
            }
            Command::RestoreBase => atom("restore_base"),
            Command::Note(path, key) => tuple([atom("note"), binary(path.as_bytes()), key.term()]),
        }
    }
}

fn atoms(names: &[String]) -> Term {
    list(names.iter().map(|name| atom(name)))
}

fn numbers(values: &[u64]) -> Term {
    list(values.iter().map(|value| number(*value)))
}

fn rehearsal(how: Rehearsal) -> Term {
    atom(match how {
        Rehearsal::InPlace => "in_place",
        Rehearsal::Apart => "apart",
        Rehearsal::No => "no",
    })
}

fn piece(piece: &Piece<'_>) -> Term {
    tuple([
        piece.key.term(),
        number(piece.offset),
        number(piece.total),
        binary(&piece.sha256),
        binary(piece.bytes),
    ])
}

fn script_term(script: &Script) -> Term {
    let modules = script.modules.iter().map(|module| {
        let loaded = module.loaded_md5.map_or_else(|| atom("none"), |md5| binary(&md5));
        tuple([atom(&module.name), loaded, binary(&module.target_md5)])
    });
    let kinds = script.kinds.iter().map(|kind| {
        let fate = match &kind.fate {
            Fate::Keep => atom("keep"),
            Fate::Migrate { modules } => tuple([atom("migrate"), atoms(modules)]),
        };
        let how = atom(if kind.apart { "apart" } else { "inside" });
        tuple([number(kind.id), fate, how])
    });
    properties([
        ("modules", list(modules)),
        ("kinds", list(kinds)),
        ("budget_us", number(script.window_budget_us)),
        ("revert_us", number(script.revert_budget_us)),
        ("in_flight", number(script.in_flight)),
        ("down", boolean(script.down)),
        (
            "way_back",
            atom(match script.way_back {
                WayBack::Exact => "exact",
                WayBack::AfterDrain => "after_drain",
                WayBack::None => "none",
            }),
        ),
    ])
}

/// The argument of `flyhot_agent:start/1`.
///
/// `driver` is the driver's own node name, `pid` a pid there, `holder` what another flyhot is told.
pub fn start_options(driver: &str, pid: &Pid, holder: &str) -> Term {
    properties([
        ("driver", atom(driver)),
        ("pid", pid.clone().into()),
        ("holder", binary(holder.as_bytes())),
    ])
}

/// Who works on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its own words.
    pub words: String,
    /// Whether its driver is gone: the agent then leaves behind what it does.
    pub left: bool,
}

/// The answer of `flyhot_agent:evict/1`: `Ok` when nobody works on the node, else who does.
///
/// # Errors
/// [`Holder`].
pub fn evict_answer(term: &Term) -> Result<(), Holder> {
    let Some([tag, holder]) = as_tuple(term) else {
        return Ok(());
    };
    let left = match as_atom(tag) {
        Some("busy") => false,
        Some("left") => true,
        _ => return Ok(()),
    };
    Err(Holder {
        words: as_text(holder).unwrap_or_default(),
        left,
    })
}
