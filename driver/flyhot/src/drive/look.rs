//! What a node says of itself to one who loads nothing there: calls of OTP's own functions, in pieces.
//!
//! Nothing is judged here, nothing on the node is changed, and no process of it is sent anything but what process_info/2
//! and check_process_code/2 send. Whoever is at work there goes on, and may show in half.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flyhot_agent::MODULE;
use flyhot_agent::term::{
    as_atom, as_bytes, as_charlist, as_list, as_text, as_tuple, as_u64, atom, charlist, external_fun, list,
};
use flyhot_artifact::{Origin, Release};
use flyhot_events::{ErrorKind, LastOutcome, StatusApplication, StatusProcess, UnderWay};
use flyhot_node::term::{Term, display};
use flyhot_node::{CallError, NodeName, Session};

use super::NodeError;
use super::node::session;
use crate::boot::BOOTED;
use crate::errors;
use crate::options::Peer;

/// For one call: three times the default call timeout of OTP. A thousand processes take milliseconds.
const ASK: Duration = Duration::from_secs(15);

/// Processes, modules or files asked about in one call: the node has its turns between two, and none takes long.
const PIECE: usize = 1_000;

/// How long processes that run old code are looked for: check_process_code/2 takes 4 µs for each process and module, so
/// that is a hundred modules of a node with ten thousand processes.
const SOUGHT: Duration = Duration::from_secs(5);

/// So many processes are named with what they execute, each by two calls.
const NAMED: usize = 100;

/// A module may go between two calls about it, as it does when an upgrade ends.
const TRIES: u32 = 3;

/// What a node said.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) otp: String,
    pub(crate) erts: String,
    pub(crate) elixir: Option<String>,
    pub(crate) embedded: bool,
    pub(crate) processes: u64,
    pub(crate) memory_bytes: u64,
    /// Those that are neither of OTP nor of Elixir.
    pub(crate) applications: Vec<StatusApplication>,
    /// Modules of these applications, and consolidated protocols.
    pub(crate) modules: BTreeMap<String, LookedModule>,
    /// Any module that has old code.
    pub(crate) old_code: Vec<String>,
    pub(crate) lingerers: Vec<StatusProcess>,
    pub(crate) lingerers_sought: u64,
    pub(crate) suspended: Vec<StatusProcess>,
    pub(crate) suspended_count: u64,
    pub(crate) under_way: Option<UnderWay>,
    pub(crate) last: Option<LastOutcome>,
}

/// One module: md5s of what runs and of its file.
#[derive(Debug, Default)]
pub(crate) struct LookedModule {
    pub(crate) loaded: Option<[u8; 16]>,
    pub(crate) file: Option<[u8; 16]>,
}

/// Why a node said nothing that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error("the call of {what} failed")]
    Call { what: String, source: CallError },
    #[error("{what} answered {answer}")]
    Answer { what: String, answer: String },
}

/// Looks at one node.
///
/// # Errors
/// The node could not be reached, or ended before it had said everything.
pub(crate) async fn look(peer: &Peer) -> Result<Looked, NodeError> {
    let node = &peer.name;
    let looked = over(peer, async |looker| looker.all(node).await).await?;
    looked.map_err(|error| silent(node, &error))
}

/// What is to be known of a node that was taken over to a release.
#[derive(Debug)]
pub(crate) struct Kept {
    /// It runs it still: it was not started since, and of the release's own modules, none that is loaded is another build.
    pub(crate) runs: bool,
    /// `flyhot boot` started it.
    pub(crate) booted: bool,
}

/// Looks at a node that was taken over to a release; `start` is which start of it that was. Where the release brought modules or took some
/// away and changed none, nothing else tells that it was started anew.
///
/// # Errors
/// The node could not be reached, or ended before it had said so.
pub(crate) async fn kept(peer: &Peer, release: &Release, start: Option<&str>) -> Result<Kept, NodeError> {
    let kept = over(peer, async |looker| {
        Ok(Kept {
            runs: looker.is_start(start).await && looker.runs(release).await?,
            booted: looker.booted().await?,
        })
    });
    kept.await?.map_err(|error| silent(&peer.name, &error))
}

/// Which start of its node this is: a process that is started with the node, by its number, which comes again only behind another
/// start of the runtime, and then with another number of that (`creation`).
pub(super) async fn start(session: &Session) -> Option<String> {
    let name = vec![atom("application_controller")];
    match session.call("erlang", "whereis", name, ASK).await {
        Ok(Term::Pid(pid)) => Some(format!("{}.{}.{}", pid.id, pid.serial, pid.creation)),
        _ => None,
    }
}

/// Asks one node, over a session of its own.
///
/// # Errors
/// It could not be reached.
pub(super) async fn over<T>(peer: &Peer, ask: impl AsyncFnOnce(&Looker<'_>) -> T) -> Result<T, NodeError> {
    let session = session(peer).await?;
    let said = ask(&Looker { session: &session }).await;
    session.close().await;
    Ok(said)
}

/// What a node did not say, as its user meets it.
pub(super) fn silent(node: &NodeName, error: &LookError) -> NodeError {
    let (kind, hint) = match error {
        // While it shuts down, application_controller says so or says nothing.
        LookError::Call {
            source: CallError::BadRpc { reason },
            ..
        } if reason.contains("terminating") || reason.contains("[application_controller") => (
            ErrorKind::NotQuiesced,
            "The node, or an application of it, is shutting down: ask again when it has started.",
        ),
        LookError::Call { source, .. } => (
            errors::call(source).0,
            "Look at the load of the node and at the connection, and ask again.",
        ),
        LookError::Answer { .. } => (ErrorKind::Bug, "Report this with the text above."),
    };
    NodeError {
        kind,
        message: format!("{node}: {}", errors::chain(error)),
        hint: hint.into(),
        outcome: None,
    }
}

/// Asks one node.
pub(super) struct Looker<'a> {
    pub(super) session: &'a Session,
}

/// An application's directory, `code:lib_dir/1`.
pub(super) type Dirs = BTreeMap<String, String>;

impl Looker<'_> {
    async fn all(&self, node: &NodeName) -> Result<Looked, LookError> {
        let info = |item: &'static str| self.ask("erlang", "system_info", vec![atom(item)]);
        let otp = text(&info("otp_release").await?);
        let erts = text(&info("version").await?);
        let processes = as_u64(&info("process_count").await?).unwrap_or_default();
        let memory = self.ask("erlang", "memory", vec![atom("total")]).await?;
        let mode = self.ask("code", "get_mode", vec![]).await?;
        let (all, dirs) = self.applications().await?;
        let elixir = all
            .iter()
            .find(|app| app.name == "elixir")
            .map(|app| app.version.clone());
        let embedded = as_atom(&mode) == Some("embedded");
        let root = self.root(&dirs).await?;
        let mut tries = 1;
        let (modules, old_code) = loop {
            match self.modules(&dirs, &root, embedded).await {
                Err(LookError::Call {
                    source: CallError::BadRpc { .. },
                    ..
                }) if tries < TRIES => tries += 1,
                done => break done?,
            }
        };
        let pids = self.pids().await?;
        let found = self.suspended(&pids).await?;
        let suspended = self.named(&found).await?;
        let (lingerers, lingerers_sought) = self.lingerers(&pids, &old_code).await?;
        Ok(Looked {
            otp,
            erts,
            elixir,
            embedded,
            processes,
            memory_bytes: as_u64(&memory).unwrap_or_default(),
            applications: all
                .into_iter()
                .filter(|app| dirs.contains_key(&app.name))
                .collect(),
            modules,
            old_code,
            lingerers,
            lingerers_sought,
            suspended,
            suspended_count: found.len() as u64,
            under_way: self.under_way().await?,
            last: self.last(&root, node).await?,
        })
    }

    /// Every application that is loaded, and the directories of those that are neither of OTP nor of Elixir.
    pub(super) async fn applications(&self) -> Result<(Vec<StatusApplication>, Dirs), LookError> {
        let loaded = self.ask("application", "loaded_applications", vec![]).await?;
        let running = self.ask("application", "which_applications", vec![]).await?;
        let name = |term: &Term| as_tuple(term)?.first().and_then(as_atom).map(str::to_owned);
        let running: Vec<_> = as_list(&running)
            .unwrap_or_default()
            .iter()
            .filter_map(name)
            .collect();
        let mut all: Vec<_> = as_list(&loaded)
            .unwrap_or_default()
            .iter()
            .filter_map(|term| match as_tuple(term)? {
                [app, _, version] => {
                    let name = as_atom(app)?.to_owned();
                    Some(StatusApplication {
                        running: running.contains(&name),
                        version: text(version),
                        name,
                    })
                }
                _ => None,
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let own: Vec<_> = all
            .iter()
            .map(|app| app.name.clone())
            .filter(|app| Origin::of(app) == Origin::Own)
            .collect();
        let found = self
            .each("code", "lib_dir", [own.iter().map(|app| atom(app)).collect()])
            .await?;
        let dirs = own
            .into_iter()
            .zip(found)
            // An application that lies nowhere has none of its own to compare.
            .filter_map(|(app, dir)| Some((app, as_charlist(&dir)?)))
            .collect();
        Ok((all, dirs))
    }

    /// The release's directory, as the agent finds it.
    pub(super) async fn root(&self, dirs: &Dirs) -> Result<String, LookError> {
        for variable in ["RELEASE_ROOT", "RELEASE_ROOT_DIR"] {
            let root = self.ask("os", "getenv", vec![charlist(variable)]).await?;
            if let Some(root) = as_charlist(&root).filter(|root| !root.is_empty())
                && dirs.values().any(|dir| below(dir, &root).is_some())
            {
                let releases = charlist(&format!("{root}/releases"));
                if as_atom(&self.ask("filelib", "is_dir", vec![releases]).await?) == Some("true") {
                    return Ok(root);
                }
            }
        }
        Ok(text(&self.ask("code", "root_dir", vec![]).await?))
    }

    /// What runs and what lies on the disk, and every module with old code.
    async fn modules(
        &self,
        dirs: &Dirs,
        root: &str,
        embedded: bool,
    ) -> Result<(BTreeMap<String, LookedModule>, Vec<String>), LookError> {
        let loaded = self.ask("code", "all_loaded", vec![]).await?;
        let loaded: Vec<(String, Option<String>)> = as_list(&loaded)
            .unwrap_or_default()
            .iter()
            .filter_map(|term| match as_tuple(term)? {
                [module, file] => Some((as_atom(module)?.to_owned(), as_charlist(file))),
                _ => None,
            })
            // The agent and its copies are nobody's code.
            .filter(|(module, _)| !module.starts_with("flyhot$") && module != MODULE)
            .collect();
        let names = || loaded.iter().map(|(module, _)| atom(module)).collect::<Vec<_>>();
        let olds = self.each("erlang", "check_old_code", [names()]).await?;
        let mut old_code: Vec<String> = loaded
            .iter()
            .zip(&olds)
            .filter(|(_, old)| as_atom(old) == Some("true"))
            .map(|((module, _), _)| module.clone())
            .collect();
        old_code.sort();

        let ebins: Vec<_> = dirs
            .values()
            .map(|dir| charlist(&format!("{dir}/ebin")))
            .collect();
        let beams = vec![charlist("*.beam"); dirs.len()];
        let found = self.each("filelib", "wildcard", [beams, ebins]).await?;
        // Where each of their modules lies, wherever it was loaded from.
        let mut homes: BTreeMap<String, String> = BTreeMap::new();
        for (dir, beams) in dirs.values().zip(&found) {
            for beam in as_list(beams).unwrap_or_default().iter().filter_map(as_charlist) {
                homes.insert(
                    beam.trim_end_matches(".beam").to_owned(),
                    format!("{dir}/ebin/{beam}"),
                );
            }
        }
        let generations = format!("{}/flyhot/code", root.trim_end_matches('/'));
        let own = |file: &str| {
            file.rsplit_once('/').is_some_and(|(dir, _)| {
                dir.ends_with("/consolidated")
                    || dir
                        .strip_suffix("/ebin")
                        .is_some_and(|dir| dirs.values().any(|own| own == dir))
                    // What an upgrade loaded and could not write.
                    || below(dir, &generations).is_some()
            })
        };
        // An embedded node loads no more than it has loaded.
        let mut files = if embedded { BTreeMap::new() } else { homes.clone() };
        let mut modules: BTreeMap<String, LookedModule> = BTreeMap::new();
        let running: Vec<(&String, &String)> = loaded
            .iter()
            .filter_map(|(module, file)| {
                let file = file
                    .as_ref()
                    .filter(|file| own(file))
                    .or_else(|| homes.get(module))?;
                Some((module, file))
            })
            .collect();
        let md5s = vec![atom("md5"); running.len()];
        let of = running.iter().map(|(module, _)| atom(module)).collect();
        let digests = self.each("erlang", "get_module_info", [of, md5s]).await?;
        for ((module, file), md5) in running.iter().zip(&digests) {
            modules.entry((*module).clone()).or_default().loaded = digest(md5);
            files.insert((*module).clone(), (*file).clone());
        }
        let paths: Vec<(String, String)> = files.into_iter().collect();
        let of = paths.iter().map(|(_, path)| charlist(path)).collect();
        for ((module, _), answer) in paths.iter().zip(self.each("beam_lib", "md5", [of]).await?) {
            modules.entry(module.clone()).or_default().file = file_digest(&answer);
        }
        Ok((modules, old_code))
    }

    async fn is_start(&self, known: Option<&str>) -> bool {
        known.is_none() || start(self.session).await.as_deref() == known
    }

    async fn runs(&self, release: &Release) -> Result<bool, LookError> {
        let modules = release
            .modules
            .iter()
            .filter(|(_, module)| module.origin == Origin::Own);
        let own: BTreeMap<&str, [u8; 16]> = modules
            .map(|(name, module)| (name.as_str(), module.facts.md5))
            .collect();
        let loaded = self.ask("code", "all_loaded", vec![]).await?;
        let loaded = as_list(&loaded).unwrap_or_default().iter();
        let (names, wanted): (Vec<Term>, Vec<[u8; 16]>) = loaded
            .filter_map(|term| {
                let name = as_atom(as_tuple(term)?.first()?)?;
                Some((atom(name), *own.get(name)?))
            })
            .unzip();
        let md5s = vec![atom("md5"); names.len()];
        let found = self.each("erlang", "get_module_info", [names, md5s]).await?;
        Ok(!found.is_empty() && found.iter().map(digest).eq(wanted.into_iter().map(Some)))
    }

    pub(super) async fn booted(&self) -> Result<bool, LookError> {
        let booted = self.ask("os", "getenv", vec![charlist(BOOTED)]).await?;
        Ok(as_charlist(&booted).is_some_and(|what| !what.is_empty()))
    }

    pub(super) async fn pids(&self) -> Result<Vec<Term>, LookError> {
        match self.ask("erlang", "processes", vec![]).await? {
            Term::List(pids) => Ok(pids.elements),
            answer => Err(LookError::Answer {
                what: "erlang:processes/0".into(),
                answer: display(&answer).to_string(),
            }),
        }
    }

    /// Processes that wait in sys to be resumed, `sys`, or that a process of the node holds, `suspend_process`.
    pub(super) async fn suspended(&self, pids: &[Term]) -> Result<Vec<(Term, &'static str)>, LookError> {
        let items = list([atom("current_function"), atom("status")]);
        let mut found = Vec::new();
        for piece in pids.chunks(PIECE) {
            let infos = self
                .each(
                    "erlang",
                    "process_info",
                    [piece.to_vec(), vec![items.clone(); piece.len()]],
                )
                .await?;
            let how = |info: &Term| match as_list(info)? {
                [function, status] => {
                    let value = |pair: &Term| as_tuple(pair)?.get(1).cloned();
                    let function = value(function)?;
                    match as_tuple(&function)? {
                        [module, function, _]
                            if as_atom(module) == Some("sys")
                                && as_atom(function).is_some_and(|name| name.starts_with("suspend_loop")) =>
                        {
                            Some("sys")
                        }
                        _ => (as_atom(&value(status)?) == Some("suspended")).then_some("suspend_process"),
                    }
                }
                _ => None,
            };
            found.extend(
                piece
                    .iter()
                    .zip(&infos)
                    .filter_map(|(pid, info)| Some((pid.clone(), how(info)?))),
            );
        }
        Ok(found)
    }

    /// Some of these, with what they are.
    pub(super) async fn named(
        &self,
        found: &[(Term, &'static str)],
    ) -> Result<Vec<StatusProcess>, LookError> {
        let mut named = Vec::new();
        for (pid, how) in found.iter().take(NAMED) {
            named.extend(self.name(pid, None, how).await?);
        }
        Ok(named)
    }

    /// Processes that run old code of these modules, and in how many modules they were looked for.
    async fn lingerers(
        &self,
        pids: &[Term],
        modules: &[String],
    ) -> Result<(Vec<StatusProcess>, u64), LookError> {
        let begun = Instant::now();
        let (mut found, mut sought) = (Vec::new(), 0);
        for module in modules {
            if begun.elapsed() > SOUGHT {
                break;
            }
            for piece in pids.chunks(PIECE) {
                let runs = self
                    .each(
                        "erlang",
                        "check_process_code",
                        [piece.to_vec(), vec![atom(module); piece.len()]],
                    )
                    .await?;
                let those = piece
                    .iter()
                    .zip(&runs)
                    .filter(|(_, runs)| as_atom(runs) == Some("true"));
                found.extend(those.map(|(pid, _)| (pid.clone(), module.clone())));
            }
            sought += 1;
        }
        let mut named = Vec::new();
        for (pid, module) in found.into_iter().take(NAMED) {
            named.extend(self.name(&pid, Some(module), "old_code").await?);
        }
        Ok((named, sought))
    }

    /// A process with its name and what it executes; none when it has ended.
    async fn name(
        &self,
        pid: &Term,
        module: Option<String>,
        how: &str,
    ) -> Result<Option<StatusProcess>, LookError> {
        let items = list([
            atom("registered_name"),
            atom("current_stacktrace"),
            atom("initial_call"),
        ]);
        let info = self
            .ask("erlang", "process_info", vec![pid.clone(), items])
            .await?;
        let Some([name, stack, initial]) = as_list(&info) else {
            return Ok(None);
        };
        let value = |pair: &Term| as_tuple(pair).and_then(|pair| pair.get(1).cloned());
        let of = |mfa: &Term| as_tuple(mfa)?.first().and_then(as_atom).map(str::to_owned);
        let module = match module {
            Some(module) => module,
            None => {
                let started = self
                    .ask("proc_lib", "translate_initial_call", vec![pid.clone()])
                    .await?;
                // proc_lib says its own init_p/5 of whom it did not start.
                of(&started)
                    .filter(|module| module != "proc_lib")
                    .or_else(|| of(&value(initial)?))
                    .unwrap_or_else(|| "unknown".to_owned())
            }
        };
        let stack = value(stack).unwrap_or_else(|| list([]));
        Ok(Some(StatusProcess {
            pid: display(pid).to_string(),
            name: value(name).as_ref().and_then(as_atom).map(str::to_owned),
            module,
            stack: as_list(&stack)
                .unwrap_or_default()
                .iter()
                .filter_map(frame)
                .collect(),
            how: how.to_owned(),
        }))
    }

    /// Whose agent is there, in its own words.
    pub(super) async fn under_way(&self) -> Result<Option<UnderWay>, LookError> {
        let worker = self.ask("erlang", "whereis", vec![atom(MODULE)]).await?;
        if !matches!(worker, Term::Pid(_)) {
            return Ok(None);
        }
        let said = self
            .ask("erlang", "process_info", vec![worker, atom("dictionary")])
            .await?;
        let of = |key: &str| {
            let [_, dictionary] = as_tuple(&said)? else {
                return None;
            };
            let pair = as_list(dictionary)?
                .iter()
                .filter_map(as_tuple)
                .find(|pair| pair.first().and_then(as_atom) == Some(key))?;
            pair.get(1).cloned()
        };
        // It may have ended between the two.
        Ok(of("$flyhot_holder").map(|holder| UnderWay {
            holder: as_text(&holder).unwrap_or_default(),
            step: of("$flyhot_step")
                .as_ref()
                .and_then(as_atom)
                .unwrap_or("idle")
                .to_owned(),
        }))
    }

    async fn last(&self, root: &str, node: &NodeName) -> Result<Option<LastOutcome>, LookError> {
        let path = charlist(&super::persist::last_outcome(root, node));
        let read = self.ask("file", "read_file", vec![path]).await?;
        Ok(match as_tuple(&read) {
            Some([tag, bytes]) if as_atom(tag) == Some("ok") => {
                as_bytes(bytes).and_then(|bytes| serde_json::from_slice(bytes).ok())
            }
            _ => None,
        })
    }

    pub(super) async fn ask(&self, module: &str, function: &str, args: Vec<Term>) -> Result<Term, LookError> {
        let what = format!("{module}:{function}/{}", args.len());
        self.session
            .call(module, function, args, ASK)
            .await
            .map_err(|source| LookError::Call { what, source })
    }

    /// The answers of a function for each of some arguments, one call for [`PIECE`] of them.
    async fn each<const N: usize>(
        &self,
        module: &str,
        function: &str,
        args: [Vec<Term>; N],
    ) -> Result<Vec<Term>, LookError> {
        let count = args.first().map_or(0, Vec::len);
        if count == 0 {
            return Ok(Vec::new());
        }
        let (map, arity) = if N == 1 { ("map", 1) } else { ("zipwith", 2) };
        let mut rest = args.map(Vec::into_iter);
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let size = PIECE.min(count - all.len());
            let mut call = vec![external_fun(module, function, arity)];
            call.extend(rest.iter_mut().map(|args| list(args.by_ref().take(size))));
            match self.ask("lists", map, call).await? {
                Term::List(answers) if answers.elements.len() == size => all.extend(answers.elements),
                answer => {
                    return Err(LookError::Answer {
                        what: format!("{module}:{function}/{N}"),
                        answer: display(&answer).to_string(),
                    });
                }
            }
        }
        Ok(all)
    }
}

fn text(term: &Term) -> String {
    as_charlist(term).or_else(|| as_text(term)).unwrap_or_default()
}

fn digest(term: &Term) -> Option<[u8; 16]> {
    as_bytes(term)?.try_into().ok()
}

/// `{ok, {Module, Md5}}`
fn file_digest(term: &Term) -> Option<[u8; 16]> {
    match as_tuple(term)? {
        [ok, found] if as_atom(ok) == Some("ok") => digest(as_tuple(found)?.get(1)?),
        _ => None,
    }
}

/// `module:function/arity` of a frame.
fn frame(term: &Term) -> Option<String> {
    match as_tuple(term)? {
        [module, function, arity, _] => {
            let arity = as_u64(arity).or_else(|| as_list(arity).map(|args| args.len() as u64))?;
            Some(format!("{}:{}/{arity}", as_atom(module)?, as_atom(function)?))
        }
        _ => None,
    }
}

/// What comes behind a directory in a path.
fn below<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    path.strip_prefix(dir.trim_end_matches('/'))?.strip_prefix('/')
}
