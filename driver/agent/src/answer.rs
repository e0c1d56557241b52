//! What the agent answers.

use std::collections::BTreeMap;

use erl_dist::term::Term;
use flyhot_upgrade::{
    AbandonCause, Behaviour, Boots, CallbackMode, Census, DrainReport, Ended, EntryReport, Fault, Held,
    HeldCode, HeldReport, Kind, KnockReport, Lingerer, LoadedModule, LogCounts, NodeApplication, NodeFacts,
    NodeFunction, PersistReport, PhaseTimes, PrepareReport, ProcessRef, Readings, RehearsalReport,
    RemoveReport, StillPaused, Straggler, Unrendered, WayBackReport, WindowEnd, WindowReport,
};

use crate::term::{as_atom, as_bool, as_bytes, as_list, as_text, as_tuple, as_u64, get};

/// Why an answer is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The agent could not do it; its own words.
    #[error("the agent answered: {0}")]
    Refused(String),
    /// The worker and its guard are gone.
    #[error("the agent's worker is gone from the node")]
    WorkerGone,
    /// The node's application controller stops everything, or one application for longer than it may.
    #[error("the node is shutting down, or an application of it is")]
    Stopping,
    /// A shape this side does not know.
    #[error("the agent's answer lacks {0}")]
    Malformed(&'static str),
}

/// What `start/1` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// The worker runs.
    Ok,
    /// Somebody else's does; its own words.
    Busy(String),
}

/// A module as it lies on the node's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskModule {
    /// Name.
    pub name: String,
    /// `code:module_md5/1` of the file.
    pub md5: [u8; 16],
    /// Whether the file that it was loaded from holds the running code: the way back to it.
    pub running: bool,
}

/// What a start of the node would lack, and where it would be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Modules whose beam lies nowhere on the node's disk where a start would find it.
    pub lacks: Vec<String>,
    /// Where the beams of each application lie or will, and those of `consolidated`.
    pub places: BTreeMap<String, String>,
    /// Modules of which a start loads another build, from a directory that `-pa` names.
    pub shadowed: Vec<String>,
}

/// What a loaded module says when it is asked for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedAt {
    /// Name.
    pub name: String,
    /// Whether any of its functions is traced, in whatever session.
    pub traced: bool,
    /// Whether it has NIFs.
    pub nifs: bool,
    /// What it exports, `name/arity`.
    pub exports: Vec<String>,
    /// What its callback_mode/0 answers; `None` where it has none.
    pub mode: Option<CallbackMode>,
    /// Whether its system_replace_state/2 hands out less than the whole of what its processes keep.
    pub partial: bool,
    /// Its running code, where that was asked for and lies on the node's disk.
    pub code: Option<Vec<u8>>,
}

type Read<T> = Result<T, AnswerError>;

trait OrMalformed<T> {
    fn or_malformed(self, what: &'static str) -> Read<T>;
}

impl<T> OrMalformed<T> for Option<T> {
    fn or_malformed(self, what: &'static str) -> Read<T> {
        self.ok_or(AnswerError::Malformed(what))
    }
}

/// Reads the answer of `start/1`.
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn started(term: &Term) -> Read<Started> {
    if as_atom(term) == Some("ok") {
        return Ok(Started::Ok);
    }
    match as_tuple(term) {
        Some([tag, holder]) if as_atom(tag) == Some("busy") => {
            Ok(Started::Busy(as_text(holder).unwrap_or_default()))
        }
        _ => Err(agent_error(term)),
    }
}

/// The refusal in an answer that is not `{ok, _}`.
pub fn agent_error(term: &Term) -> AnswerError {
    match as_tuple(term) {
        Some([tag, reason]) if as_atom(tag) == Some("error") => match as_atom(reason) {
            Some("no_worker") => AnswerError::WorkerGone,
            Some("stopping") => AnswerError::Stopping,
            _ => AnswerError::Refused(reason_text(reason)),
        },
        _ => AnswerError::Malformed("ok or error"),
    }
}

fn reason_text(term: &Term) -> String {
    match term {
        Term::Atom(atom) => atom.name.clone(),
        Term::Binary(binary) => String::from_utf8_lossy(&binary.bytes).into_owned(),
        Term::Tuple(tuple) => tuple
            .elements
            .iter()
            .map(reason_text)
            .collect::<Vec<_>>()
            .join(": "),
        other => format!("{other}"),
    }
}

fn ok(term: &Term) -> Read<&Term> {
    match as_tuple(term) {
        Some([tag, value]) if as_atom(tag) == Some("ok") => Ok(value),
        _ => Err(agent_error(term)),
    }
}

fn field<'a>(term: &'a Term, key: &'static str) -> Read<&'a Term> {
    get(term, key).or_malformed(key)
}

fn text(term: &Term, key: &'static str) -> Read<String> {
    as_text(field(term, key)?).or_malformed(key)
}

fn count(term: &Term, key: &'static str) -> Read<u64> {
    as_u64(field(term, key)?).or_malformed(key)
}

fn items<'a>(term: &'a Term, key: &'static str) -> Read<&'a [Term]> {
    as_list(field(term, key)?).or_malformed(key)
}

fn optional_text(term: &Term) -> Option<String> {
    as_text(term)
}

fn name(term: &Term) -> Read<String> {
    as_atom(term).map(str::to_owned).or_malformed("a module name")
}

fn names(term: &Term, key: &'static str) -> Read<Vec<String>> {
    items(term, key)?.iter().map(name).collect()
}

fn md5(term: &Term) -> Read<[u8; 16]> {
    as_bytes(term)
        .and_then(|bytes| bytes.try_into().ok())
        .or_malformed("an md5")
}

fn process(term: &Term) -> Read<ProcessRef> {
    match as_tuple(term) {
        Some([pid, name]) => Ok(ProcessRef {
            pid: as_text(pid).or_malformed("a pid")?,
            name: as_atom(name).filter(|name| *name != "none").map(str::to_owned),
        }),
        _ => Err(AnswerError::Malformed("a process")),
    }
}

fn processes(term: &Term, key: &'static str) -> Read<Vec<ProcessRef>> {
    items(term, key)?.iter().map(process).collect()
}

fn fault(term: &Term) -> Read<Fault> {
    match as_tuple(term) {
        Some([who, module, error]) => Ok(Fault {
            process: process(who)?,
            module: name(module)?,
            error: as_text(error).or_malformed("an error text")?,
        }),
        _ => Err(AnswerError::Malformed("a fault")),
    }
}

fn straggler(term: &Term) -> Read<Straggler> {
    match as_tuple(term) {
        Some([who, module, stack, queue, waited]) => Ok(Straggler {
            process: process(who)?,
            module: name(module)?,
            stack: as_list(stack)
                .or_malformed("a stack")?
                .iter()
                .filter_map(as_text)
                .collect(),
            queue: as_u64(queue).or_malformed("a queue length")?,
            waited_us: as_u64(waited).unwrap_or(0),
        }),
        _ => Err(AnswerError::Malformed("a straggler")),
    }
}

fn stragglers(term: &Term, key: &'static str) -> Read<Vec<Straggler>> {
    items(term, key)?.iter().map(straggler).collect()
}

/// Reads the answer to [`Command::Facts`](crate::Command::Facts).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn facts(term: &Term) -> Read<NodeFacts> {
    let facts = ok(term)?;
    let mut modules = BTreeMap::new();
    for module in items(facts, "modules")? {
        let Some([module, digest, file, has_old, sticky, cover, struct_keys]) = as_tuple(module) else {
            return Err(AnswerError::Malformed("a module"));
        };
        modules.insert(
            name(module)?,
            LoadedModule {
                md5: md5(digest)?,
                file: as_text(file).or_malformed("a module's file")?,
                has_old: as_bool(has_old).or_malformed("has_old")?,
                sticky: as_bool(sticky).or_malformed("sticky")?,
                cover: as_bool(cover).or_malformed("cover")?,
                struct_keys: as_list(struct_keys)
                    .map(|keys| {
                        keys.iter()
                            .map(|key| as_text(key).or_malformed("a struct's key"))
                            .collect::<Read<_>>()
                    })
                    .transpose()?,
            },
        );
    }
    let mut applications = BTreeMap::new();
    for application in items(facts, "applications")? {
        let Some([app, version, dir, running, start_module, environment]) = as_tuple(application) else {
            return Err(AnswerError::Malformed("an application"));
        };
        applications.insert(
            name(app)?,
            NodeApplication {
                version: as_text(version).or_malformed("a version")?,
                dir: as_text(dir).or_malformed("an application's directory")?,
                running: as_bool(running).or_malformed("running")?,
                start_module: Some(name(start_module)?).filter(|module| module != "undefined"),
                environment: as_list(environment)
                    .or_malformed("an environment")?
                    .iter()
                    .map(|key| as_text(key).or_malformed("a key of an environment"))
                    .collect::<Read<_>>()?,
            },
        );
    }
    let mut configuration = BTreeMap::new();
    for file in items(facts, "configuration")? {
        let Some([name, digest]) = as_tuple(file) else {
            return Err(AnswerError::Malformed("a configuration file"));
        };
        configuration.insert(as_text(name).or_malformed("a file's name")?, md5(digest)?);
    }
    Ok(NodeFacts {
        otp: text(facts, "otp")?,
        erts: text(facts, "erts")?,
        elixir: optional_text(field(facts, "elixir")?),
        architecture: text(facts, "architecture")?,
        root_dir: text(facts, "root_dir")?,
        embedded: as_bool(field(facts, "embedded")?).or_malformed("embedded")?,
        configuration,
        modules,
        applications,
        processes: count(facts, "processes")?,
        memory_bytes: count(facts, "memory_bytes")?,
        free_bytes: as_u64(field(facts, "free_bytes")?),
    })
}

/// Reads the answer to [`Command::Census`](crate::Command::Census).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn census(term: &Term) -> Read<Census> {
    let census = ok(term)?;
    let kinds = items(census, "kinds")?
        .iter()
        .map(|kind| {
            let behaviour = as_atom(field(kind, "behaviour")?).or_malformed("behaviour")?;
            Ok(Kind {
                id: count(kind, "id")?,
                behaviour: Behaviour::ALL
                    .into_iter()
                    .find(|known| known.name() == behaviour)
                    .or_malformed("a known behaviour")?,
                host: name(field(kind, "host")?)?,
                shows: match as_atom(field(kind, "shows")?) {
                    Some("none") => None,
                    shows => Some(shows.or_malformed("a module name")?.to_owned()),
                },
                modules: names(kind, "modules")?,
                processes: count(kind, "processes")?,
                hibernated: count(kind, "hibernated")?,
                memory_bytes: count(kind, "memory_bytes")?,
                supervisors: count(kind, "supervisors")?,
                sample: processes(kind, "sample")?,
            })
        })
        .collect::<Read<_>>()?;
    Ok(Census {
        kinds,
        silent: processes(census, "silent")?,
    })
}

/// Reads the answer to [`Command::Copies`](crate::Command::Copies) or
/// [`Command::Stage`](crate::Command::Stage): how many there are.
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn copies_loaded(term: &Term) -> Read<u64> {
    as_u64(ok(term)?).or_malformed("a count")
}

/// Reads the answer to [`Command::Rehearse`](crate::Command::Rehearse).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn rehearsal(term: &Term) -> Read<RehearsalReport> {
    let report = ok(term)?;
    Ok(RehearsalReport {
        passed: count(report, "passed")?,
        faults: items(report, "faults")?.iter().map(fault).collect::<Read<_>>()?,
        failed: count(report, "failed")?,
        died: count(report, "died")?,
        silent: stragglers(report, "silent")?,
        took_us: count(report, "took_us")?,
    })
}

/// Reads the answer to [`Command::Closures`](crate::Command::Closures), in which processes were `asked` or not.
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn held(term: &Term, asked: bool) -> Read<HeldReport> {
    let report = ok(term)?;
    let (processes, of_processes) = pair(report, "processes")?;
    let (tables, of_tables) = pair(report, "tables")?;
    Ok(HeldReport {
        held: items(report, "held")?
            .iter()
            .map(|held| match as_tuple(held) {
                Some([code, module, function, place, number, sample]) => Ok(Held {
                    code: match as_atom(code) {
                        Some("old") => HeldCode::Old,
                        Some("running") => HeldCode::Running,
                        Some("removed") => HeldCode::Removed,
                        _ => return Err(AnswerError::Malformed("what is held")),
                    },
                    module: name(module)?,
                    function: as_atom(function)
                        .filter(|name| *name != "none")
                        .map(str::to_owned),
                    place: as_text(place).or_malformed("a place")?,
                    count: as_u64(number).or_malformed("a count")?,
                    sample: as_text(sample).or_malformed("a sample")?,
                }),
                _ => Err(AnswerError::Malformed("held code")),
            })
            .collect::<Read<_>>()?,
        asked,
        processes,
        of_processes,
        tables,
        of_tables,
        whole: as_bool(field(report, "whole")?).or_malformed("whole")?,
        names: items(report, "names")?
            .iter()
            .map(|pair| match as_tuple(pair) {
                Some([namer, named]) => Ok((name(namer)?, name(named)?)),
                _ => Err(AnswerError::Malformed("who names it")),
            })
            .collect::<Read<_>>()?,
        unread: names(report, "unread")?,
    })
}

fn pair(term: &Term, key: &'static str) -> Read<(u64, u64)> {
    match as_tuple(field(term, key)?) {
        Some([looked, of]) => Ok((as_u64(looked).or_malformed(key)?, as_u64(of).or_malformed(key)?)),
        _ => Err(AnswerError::Malformed(key)),
    }
}

/// `[{Module, Text}]`.
fn said_of_modules(term: &Term, key: &'static str) -> Read<Vec<(String, String)>> {
    items(term, key)?
        .iter()
        .map(|said| match as_tuple(said) {
            Some([module, text]) => Ok((name(module)?, as_text(text).or_malformed(key)?)),
            _ => Err(AnswerError::Malformed(key)),
        })
        .collect()
}

/// Reads the answer to [`Command::Drain`](crate::Command::Drain).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn drain(term: &Term) -> Read<DrainReport> {
    let report = ok(term)?;
    let lingerers = |key| {
        items(report, key)?
            .iter()
            .map(|lingerer| match as_tuple(lingerer) {
                Some([who, age]) => Ok(Lingerer {
                    straggler: straggler(who)?,
                    age_s: as_u64(age),
                }),
                _ => Err(AnswerError::Malformed("a lingerer")),
            })
            .collect::<Read<Vec<_>>>()
    };
    Ok(DrainReport {
        modules: names(report, "modules")?,
        lingerers: lingerers("lingerers")?,
        killed: lingerers("killed")?,
        unnamed: count(report, "unnamed")?,
    })
}

/// Reads the answer to [`Command::Prepare`](crate::Command::Prepare).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn prepare(term: &Term) -> Read<PrepareReport> {
    let report = ok(term)?;
    Ok(PrepareReport {
        refused: said_of_modules(report, "refused")?,
        old_missing: names(report, "old_missing")?,
    })
}

/// Reads the answer to [`Command::WayBack`](crate::Command::WayBack).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn way_back(term: &Term) -> Read<WayBackReport> {
    let report = ok(term)?;
    Ok(WayBackReport {
        sampled: count(report, "sampled")?,
        inside: count(report, "inside")?,
        purge_us: count(report, "purge_us")?,
    })
}

/// Reads the answer to [`Command::Knock`](crate::Command::Knock).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn knock(term: &Term) -> Read<KnockReport> {
    let report = ok(term)?;
    Ok(KnockReport {
        answered: count(report, "answered")?,
        stragglers: stragglers(report, "stragglers")?,
    })
}

/// Reads the answer to [`Command::Watch`](crate::Command::Watch).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn watched(term: &Term) -> Read<Readings> {
    let report = ok(term)?;
    // A tuple: a list of small numbers would come as a string.
    let counts = get(report, "counts").and_then(as_tuple).or_malformed("counts")?;
    let counts: Vec<u64> = counts
        .iter()
        .map(|one| as_u64(one).or_malformed("a count"))
        .collect::<Read<_>>()?;
    let &[errors, crashes, restarts, undef, badfun, function_clause] = &counts[..] else {
        return Err(AnswerError::Malformed("six counts"));
    };
    let uncounted = get(report, "uncounted").or_malformed("uncounted")?;
    let log = match as_text(uncounted) {
        Some(why) => Err(why),
        None => Ok(LogCounts {
            errors,
            crashes,
            restarts,
            undef,
            badfun,
            function_clause,
        }),
    };
    Ok(Readings {
        span_us: count(report, "us")?,
        log,
        run_queue: count(report, "run_queue")?,
        schedulers: count(report, "schedulers")?,
        memory_most: count(report, "memory_most")?,
        memory_last: count(report, "memory_last")?,
    })
}

/// Reads the answer to [`Command::Entry`](crate::Command::Entry) or [`Command::Pause`](crate::Command::Pause).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn entry(term: &Term) -> Read<EntryReport> {
    let report = ok(term)?;
    Ok(EntryReport {
        listeners: items(report, "listeners")?
            .iter()
            .map(|listener| as_text(listener).or_malformed("a listener"))
            .collect::<Read<_>>()?,
        not_paused: items(report, "not_paused")?
            .iter()
            .map(|one| text_pair(one, "a listener"))
            .collect::<Read<_>>()?,
    })
}

/// Reads the answer to [`Command::Finish`](crate::Command::Finish): listeners that did not come back.
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn finished(term: &Term) -> Read<Vec<StillPaused>> {
    still_paused(ok(term)?)
}

fn still_paused(report: &Term) -> Read<Vec<StillPaused>> {
    items(report, "entry")?
        .iter()
        .map(|one| {
            let (listener, command) = text_pair(one, "a listener")?;
            Ok(StillPaused { listener, command })
        })
        .collect()
}

fn text_pair(term: &Term, what: &'static str) -> Read<(String, String)> {
    match as_tuple(term) {
        Some([first, second]) => Ok((
            as_text(first).or_malformed(what)?,
            as_text(second).or_malformed(what)?,
        )),
        _ => Err(AnswerError::Malformed(what)),
    }
}

/// Reads the answer to [`Command::Disk`](crate::Command::Disk).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn disk(term: &Term) -> Read<Vec<DiskModule>> {
    as_list(ok(term)?)
        .or_malformed("modules")?
        .iter()
        .map(|module| match as_tuple(module) {
            Some([module, digest, running]) => Ok(DiskModule {
                name: name(module)?,
                md5: md5(digest)?,
                running: as_bool(running).or_malformed("whether the running code is to be had")?,
            }),
            _ => Err(AnswerError::Malformed("a module on disk")),
        })
        .collect()
}

/// Reads the answer to [`Command::Lacking`](crate::Command::Lacking): those that it could not call.
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn lacking(term: &Term) -> Read<Vec<NodeFunction>> {
    as_list(ok(term)?)
        .or_malformed("functions")?
        .iter()
        .map(|function| match as_tuple(function) {
            Some([module, function]) => Ok(NodeFunction {
                module: name(module)?,
                function: as_atom(function).or_malformed("a function name")?.to_owned(),
            }),
            _ => Err(AnswerError::Malformed("a function")),
        })
        .collect()
}

/// Reads the answer to [`Command::Modules`](crate::Command::Modules).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn modules(term: &Term) -> Read<Vec<LookedAt>> {
    as_list(ok(term)?)
        .or_malformed("modules")?
        .iter()
        .map(|module| match as_tuple(module) {
            Some([module, traced, nifs, exports, mode, states, code]) => Ok(LookedAt {
                name: name(module)?,
                traced: as_bool(traced).or_malformed("traced")?,
                nifs: as_bool(nifs).or_malformed("nifs")?,
                exports: as_list(exports)
                    .or_malformed("exports")?
                    .iter()
                    .map(|export| match as_tuple(export) {
                        Some([function, arity]) => Ok(format!(
                            "{}/{}",
                            as_atom(function).or_malformed("a function")?,
                            as_u64(arity).or_malformed("an arity")?
                        )),
                        _ => Err(AnswerError::Malformed("an export")),
                    })
                    .collect::<Read<_>>()?,
                mode: callback_mode(mode)?,
                partial: match as_atom(states) {
                    Some("part") => true,
                    Some("whole") => false,
                    _ => return Err(AnswerError::Malformed("states")),
                },
                code: as_bytes(code).map(<[u8]>::to_vec),
            }),
            _ => Err(AnswerError::Malformed("a module")),
        })
        .collect()
}

fn callback_mode(term: &Term) -> Read<Option<CallbackMode>> {
    Ok(match as_atom(term) {
        Some("none") => None,
        Some("unknown") => Some(CallbackMode::Unknown),
        _ => Some(CallbackMode::Is(as_text(term).or_malformed("a callback_mode")?)),
    })
}

/// Reads the answer to [`Command::Private`](crate::Command::Private): by application, a digest of each file
/// by its path below `priv`.
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn private(term: &Term) -> Read<BTreeMap<String, BTreeMap<String, [u8; 16]>>> {
    as_list(ok(term)?)
        .or_malformed("applications")?
        .iter()
        .map(|application| match as_tuple(application) {
            Some([application, files]) => {
                let files =
                    as_list(files)
                        .or_malformed("files below priv")?
                        .iter()
                        .map(|file| match as_tuple(file) {
                            Some([path, digest]) => {
                                Ok((as_text(path).or_malformed("a file's path")?, md5(digest)?))
                            }
                            _ => Err(AnswerError::Malformed("a file below priv")),
                        });
                Ok((name(application)?, files.collect::<Read<_>>()?))
            }
            _ => Err(AnswerError::Malformed("an application's files below priv")),
        })
        .collect()
}

/// Reads the answer to [`Command::Environment`](crate::Command::Environment): by application, where the node's
/// configuration is another.
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn environment(term: &Term) -> Read<BTreeMap<String, String>> {
    as_list(ok(term)?)
        .or_malformed("applications")?
        .iter()
        .map(|application| match as_tuple(application) {
            Some([application, places]) => Ok((
                name(application)?,
                as_text(places).or_malformed("places of a configuration")?,
            )),
            _ => Err(AnswerError::Malformed("an application's configuration")),
        })
        .collect()
}

/// Reads the answer to [`Command::Layout`](crate::Command::Layout).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn layout(term: &Term) -> Read<Layout> {
    let layout = ok(term)?;
    let place = |place: &Term| match as_tuple(place) {
        Some([app, dir]) => Ok((name(app)?, as_text(dir).or_malformed("a directory")?)),
        _ => Err(AnswerError::Malformed("a place")),
    };
    Ok(Layout {
        lacks: names(layout, "lacks")?,
        places: items(layout, "places")?.iter().map(place).collect::<Read<_>>()?,
        shadowed: names(layout, "shadowed")?,
    })
}

/// Reads the answer to [`Command::Persist`](crate::Command::Persist), [`Command::Note`](crate::Command::Note) or
/// [`Command::RestoreBase`](crate::Command::RestoreBase).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn persist(term: &Term) -> Read<PersistReport> {
    let report = ok(term)?;
    Ok(PersistReport {
        written: count(report, "written")?,
        failed: match as_tuple(field(report, "failed")?) {
            Some([path, why]) => Some((
                as_text(path).or_malformed("a path")?,
                as_text(why).or_malformed("a reason")?,
            )),
            _ => None,
        },
        nowhere: optional_text(field(report, "nowhere")?),
        boots: match as_atom(field(report, "boots")?) {
            Some("old") => Boots::Old,
            Some("new") => Boots::New,
            Some("either") => Boots::Either,
            _ => return Err(AnswerError::Malformed("boots")),
        },
    })
}

/// Reads the answer to [`Command::Remove`](crate::Command::Remove).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn removed(term: &Term) -> Read<RemoveReport> {
    let report = ok(term)?;
    Ok(RemoveReport {
        deleted: names(report, "deleted")?,
        kept: said_of_modules(report, "kept")?,
    })
}

/// Reads the answer to [`Command::Window`](crate::Command::Window).
///
/// # Errors
/// The agent's refusal, or a shape unknown here.
pub fn window(term: &Term) -> Read<WindowReport> {
    let report = ok(term)?;
    let end = field(report, "end")?;
    let end = match (as_atom(end), as_tuple(end)) {
        (Some("upgraded"), _) => WindowEnd::Upgraded,
        (Some("reverted"), _) => WindowEnd::Reverted,
        (Some("degraded"), _) => WindowEnd::Degraded,
        (_, Some([_, cause])) => WindowEnd::Abandoned(match as_atom(cause) {
            Some("budget") => AbandonCause::Budget,
            Some("newborn") => AbandonCause::Newborn,
            Some("rehearsal") => AbandonCause::Rehearsal,
            Some("code_moved") => AbandonCause::CodeMoved,
            Some("swap_refused") => AbandonCause::SwapRefused,
            Some("code_server") => AbandonCause::CodeServer,
            Some("driver_gone") => AbandonCause::DriverGone,
            Some("worker_died") => AbandonCause::WorkerDied,
            Some("guard_died") => AbandonCause::GuardDied,
            _ => return Err(AnswerError::Malformed("a known cause")),
        }),
        _ => return Err(AnswerError::Malformed("how the window ended")),
    };
    let phases = match as_tuple(field(report, "phases")?) {
        Some([freeze, swap, migrate, prove, undo, thaw]) => PhaseTimes {
            freeze: as_u64(freeze).unwrap_or(0),
            swap: as_u64(swap).unwrap_or(0),
            migrate: as_u64(migrate).unwrap_or(0),
            prove: as_u64(prove).unwrap_or(0),
            undo: as_u64(undo).unwrap_or(0),
            thaw: as_u64(thaw).unwrap_or(0),
        },
        _ => return Err(AnswerError::Malformed("phases")),
    };
    Ok(WindowReport {
        end,
        by_guard: as_bool(field(report, "by_guard")?).or_malformed("by_guard")?,
        affected: count(report, "affected")?,
        migrated: count(report, "migrated")?,
        kept: count(report, "kept")?,
        failed: count(report, "failed")?,
        died: count(report, "died")?,
        held: count(report, "held")?,
        faults: items(report, "faults")?.iter().map(fault).collect::<Read<_>>()?,
        ended: items(report, "ended")?
            .iter()
            .map(|ended| match as_tuple(ended) {
                Some([who, tables]) => Ok(Ended {
                    process: process(who)?,
                    tables: as_list(tables)
                        .or_malformed("tables")?
                        .iter()
                        .filter_map(as_text)
                        .collect(),
                }),
                _ => Err(AnswerError::Malformed("who was ended")),
            })
            .collect::<Read<_>>()?,
        stragglers: stragglers(report, "stragglers")?,
        unresumed: processes(report, "unresumed")?,
        late: processes(report, "late")?,
        unproved: as_bool(field(report, "unproved")?).or_malformed("unproved")?,
        unrendered: items(report, "unrendered")?
            .iter()
            .map(|view| match as_tuple(view) {
                Some([who, view, key, error]) => Ok(Unrendered {
                    process: process(who)?,
                    view: name(view)?,
                    key: optional_text(key),
                    error: as_text(error).or_malformed("an error text")?,
                }),
                _ => Err(AnswerError::Malformed("a view")),
            })
            .collect::<Read<_>>()?,
        not_rendered: items(report, "not_rendered")?
            .iter()
            .map(|one| match as_tuple(one) {
                Some([view, why]) => Ok((name(view)?, as_text(why).or_malformed("a reason")?)),
                _ => Err(AnswerError::Malformed("a view")),
            })
            .collect::<Read<_>>()?,
        not_proven: names(report, "not_proven")?,
        entry: still_paused(report)?,
        detail: text(report, "detail")?,
        window_us: count(report, "window_us")?,
        longest_freeze_us: count(report, "longest_us")?,
        phases,
    })
}
