//! The judge: what a node looks like, asked over a connection that flyhot knows nothing of.
//!
//! A probe is a hidden Erlang node (`fixtures/probe/probe.erl`) that evaluates expressions on the node under test
//! through erpc and erl_eval, so it leaves no module, no name and no process there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::fly::within;
use crate::otp::Otp;
use crate::process::Process;
use crate::release::build_erlang;
use crate::scratch::Scratch;
use crate::wait::holds_within;

/// How long one expression may take on the node: the states of 100 000 processes take some seconds there.
const EVAL_LIMIT: Duration = Duration::from_secs(60);

/// What the probe's own node may need on top before its answer arrives.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// An Erlang node starts within a second; a loaded machine has needed forty.
const START_LIMIT: Duration = Duration::from_secs(90);

/// Where epmd listens, if nobody says otherwise.
const EPMD: u16 = 4369;

/// A connection of its own to one node.
#[derive(Debug)]
pub struct Probe {
    node: String,
    stream: Mutex<UnixStream>,
    _process: Process,
    _scratch: Scratch,
}

/// What may grow on a node when an upgrade leaves something behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// `erlang:system_info(atom_count)`
    pub atoms: u64,
    /// `erlang:system_info(process_count)`
    pub processes: u64,
    /// Keys of persistent_term.
    pub persistent_terms: u64,
    /// `erlang:memory(code)` in bytes, after a garbage collection of every process.
    pub code_bytes: u64,
}

impl Probe {
    /// Connects to `node` with `cookie`, through the epmd on `epmd_port`, with an Erlang of version `otp` that is given
    /// `flags` more.
    pub fn connect(
        otp: Otp,
        node: &str,
        cookie: &str,
        epmd_port: u16,
        flags: impl IntoIterator<Item = String>,
    ) -> Self {
        let scratch = Scratch::new("probe");
        let command = otp.command("erl", scratch.path());
        Self::by(command, scratch, otp, node, cookie, epmd_port, flags)
    }

    /// Connects to `node` in the namespace `network`, where its epmd listens at the usual port.
    pub(crate) fn within(
        network: &str,
        otp: Otp,
        node: &str,
        cookie: &str,
        flags: impl IntoIterator<Item = String>,
    ) -> Self {
        let scratch = Scratch::new("probe");
        let mut command = within(network, &otp.bin().join("erl"));
        otp.surround(&mut command, scratch.path());
        Self::by(command, scratch, otp, node, cookie, EPMD, flags)
    }

    fn by(
        mut command: Command,
        scratch: Scratch,
        otp: Otp,
        node: &str,
        cookie: &str,
        epmd_port: u16,
        flags: impl IntoIterator<Item = String>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let beams = build_erlang(otp, "probe");
        // A socket in the file system is the same one in every network.
        let socket = scratch.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("the scratch directory can be written");
        let host = node.split_once('@').expect("a node name has a host").1;
        let own = format!(
            "probe_{}_{}@{host}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let names = if host.contains('.') || host.contains(':') {
            "-name"
        } else {
            "-sname"
        };
        command
            .args([
                "-noinput",
                "-hidden",
                names,
                &own,
                "-setcookie",
                cookie,
                "-start_epmd",
                "false",
            ])
            .args(["-kernel", "logger_level", "error", "-pa"])
            .arg(&beams)
            .args(flags)
            .args(["-run", "probe", "main"])
            .arg(&socket)
            .arg(node)
            .env("ERL_EPMD_PORT", epmd_port.to_string());
        if host.contains(':') {
            command.args(["-proto_dist", "inet6_tcp"]);
        }
        let mut process = Process::start(&own, command, scratch.path().join("log"));
        listener.set_nonblocking(true).expect("a socket can be told so");
        let mut accepted = None;
        holds_within(START_LIMIT, || {
            accepted = listener.accept().ok();
            accepted.is_some() || !process.is_alive()
        });
        let (stream, _) = accepted.unwrap_or_else(|| panic!("{own} did not start"));
        stream.set_nonblocking(false).expect("a socket can be told so");
        Self {
            node: node.to_owned(),
            stream: Mutex::new(stream),
            _process: process,
            _scratch: scratch,
        }
    }

    /// The value of Erlang expressions (the final dot included) evaluated on the node, as text in Erlang's syntax.
    ///
    /// # Panics
    /// If they raise, or the node cannot be reached.
    pub fn eval(&self, expressions: &str) -> String {
        self.try_eval(expressions)
            .unwrap_or_else(|error| panic!("{expressions}\non {}: {error}", self.node))
    }

    /// Like [`Probe::eval`]; the error is the text of what was raised.
    pub fn try_eval(&self, expressions: &str) -> Result<String, String> {
        self.ask(b't', expressions)
    }

    /// The value of Erlang expressions as JSON: tuples are arrays, atoms and binaries strings, `undefined` is
    /// null, pids and the like text.
    ///
    /// # Panics
    /// If they raise, or the node cannot be reached.
    pub fn json(&self, expressions: &str) -> Value {
        let text = self
            .ask(b'j', expressions)
            .unwrap_or_else(|error| panic!("{expressions}\non {}: {error}", self.node));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    fn ask(&self, form: u8, expressions: &str) -> Result<String, String> {
        let mut stream = self
            .stream
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut question = vec![form];
        question.extend((EVAL_LIMIT.as_millis() as u32).to_be_bytes());
        question.extend(expressions.as_bytes());
        let answered = write_packet(&mut stream, &question).and_then(|()| {
            stream.set_read_timeout(Some(EVAL_LIMIT + ANSWER_MARGIN))?;
            read_packet(&mut stream)
        });
        let answer = answered.unwrap_or_else(|error| panic!("the probe of {} is gone: {error}", self.node));
        let (kind, text) = answer.split_first().expect("an answer has a kind");
        let text = String::from_utf8(text.to_vec()).expect("the probe speaks UTF-8");
        if *kind == b'e' { Err(text) } else { Ok(text) }
    }

    /// The md5 of each module as it is loaded (`module_info(md5)`), 32 lower-case hex digits by module name.
    /// Modules of flyhot's own are not among them: see [`Probe::traces`].
    pub fn md5s(&self) -> BTreeMap<String, String> {
        texts(&self.json(&format!(
            "maps:from_list([{{M, {HEX}}} || M <- erlang:loaded(), erlang:module_loaded(M),
                             not lists:prefix(\"flyhot\", atom_to_list(M)), D <- [M:module_info(md5)]]).",
        )))
    }

    /// The md5 of each beam below `directory`, computed on the node by `beam_lib:md5/1`; for a release directory
    /// consolidated protocols take the place of the ones in `lib`.
    pub fn beam_md5s(&self, directory: &Path) -> BTreeMap<String, String> {
        texts(&self.json(&format!(
            "Beams = lists:append([filelib:wildcard(filename:join({directory:?}, Below)) ||
                 Below <- [\"*.beam\", \"lib/*/ebin/*.beam\", \"releases/*/consolidated/*.beam\"]]),
             maps:from_list([{{M, {HEX}}} || F <- Beams, {{ok, {{M, D}}}} <- [beam_lib:md5(F)]]).",
        )))
    }

    /// Every process, as text `<0.1.0>`.
    pub fn pids(&self) -> BTreeSet<String> {
        strings(&self.json("[list_to_binary(pid_to_list(P)) || P <- processes()]."))
            .into_iter()
            .collect()
    }

    /// The state of each process (a pid as text or a registered name), by `sys:get_state/1`, as text.
    pub fn states<'a>(&self, processes: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
        let names: Vec<String> = processes
            .into_iter()
            .map(|name| format!("<<{name:?}>>"))
            .collect();
        texts(&self.json(&format!(
            "maps:from_list([begin
                 P = case N of <<$<, _/binary>> -> list_to_pid(binary_to_list(N)); _ -> binary_to_atom(N) end,
                 {{N, unicode:characters_to_binary(io_lib:format(\"~0tp\", [sys:get_state(P)]))}}
             end || N <- [{}]]).",
            names.join(",")
        )))
    }

    /// Every process that is suspended in the sense of `sys:suspend/1`, as `<0.1.0> registered_name`.
    ///
    /// A suspended process waits in `sys:suspend_loop`. A hibernated one cannot be told by where it is, so it is
    /// asked by `sys:get_status/2` if it is one that proc_lib started.
    pub fn suspended(&self) -> Vec<String> {
        strings(&self.json(
            "Asleep = fun(P) ->
                 {dictionary, D} = process_info(P, dictionary),
                 case lists:keymember('$initial_call', 1, D) of
                     false -> false;
                     true -> try sys:get_status(P, 1000) of
                                 {status, _, _, [_, suspended | _]} -> true;
                                 _ -> false
                             catch exit:_ -> false end
                 end
             end,
             [iolist_to_binary([pid_to_list(P), case process_info(P, registered_name) of
                                                    {registered_name, N} -> [$ , atom_to_list(N)];
                                                    _ -> [] end])
              || P <- processes(),
                 case process_info(P, current_function) of
                     {current_function, {sys, F, _}} -> lists:prefix(\"suspend_loop\", atom_to_list(F));
                     {current_function, {_, hibernate, _}} -> Asleep(P);
                     _ -> false
                 end].",
        ))
    }

    /// The md5 of each beam that a start of the node would find, by the boot file that it was started with.
    pub fn start_md5s(&self) -> BTreeMap<String, String> {
        texts(&self.json(&format!(
            "{{ok, [[Boot] | _]}} = init:get_argument(boot),
             {{ok, Bin}} = file:read_file(Boot ++ \".boot\"),
             {{script, _, Commands}} = binary_to_term(Bin),
             Vars = case init:get_argument(boot_var) of {{ok, Given}} -> Given; error -> [] end,
             Real = fun(P) -> lists:foldl(fun([V, To], Q) -> string:replace(Q, [$$ | V], To) end, P, [[\"ROOT\", code:root_dir()] | Vars]) end,
             maps:from_list(lists:reverse([{{M, {HEX}}} || P <- lists:last([Ps || {{path, Ps}} <- Commands]),
                 F <- filelib:wildcard(unicode:characters_to_list([Real(P), \"/*.beam\"])), {{ok, {{M, D}}}} <- [beam_lib:md5(F)]])).",
        )))
    }

    /// Everything of flyhot that is left on the node, one sentence each: modules whose name starts with `flyhot`
    /// (current or old code), registered names, names of ETS tables, keys of persistent_term, and keys of process
    /// dictionaries that mention it.
    pub fn traces(&self) -> Vec<String> {
        strings(&self.json(
            "Ours = fun(T) -> string:find(io_lib:format(\"~0tp\", [T]), \"flyhot\") =/= nomatch end,
             Starts = fun(M) -> lists:prefix(\"flyhot\", atom_to_list(M)) end,
             Say = fun(Format, Args) -> unicode:characters_to_binary(io_lib:format(Format, Args)) end,
             [Say(\"module ~tp is loaded\", [M]) || M <- lists:usort(erlang:loaded() ++ [N || {N, _} <- code:all_loaded()]), Starts(M)]
             ++ [Say(\"old code of flyhot_agent is loaded\", []) || erlang:check_old_code(flyhot_agent)]
             ++ [Say(\"name ~tp is registered\", [N]) || N <- registered(), Ours(N)]
             ++ [Say(\"~tp is among the filters of the logger\", [Id]) || {Id, _} <- maps:get(filters, logger:get_primary_config()), Ours(Id)]
             ++ [Say(\"~tp is a handler of the logger\", [Id]) || Id <- logger:get_handler_ids(), Ours(Id)]
             ++ [Say(\"table ~tp exists\", [N]) || T <- ets:all(), N <- [ets:info(T, name)], Ours(N)]
             ++ [Say(\"persistent_term has ~tp\", [K]) || {K, _} <- persistent_term:get(), Ours(K)]
             ++ [Say(\"~tp has ~tp in its dictionary\", [P, K]) || P <- processes(), P =/= self(),
                    {dictionary, D} <- [process_info(P, dictionary)], {K, _} <- D, Ours(K)].",
        ))
    }

    /// What may grow; every process is garbage collected before.
    pub fn counts(&self) -> Counts {
        let counts = self.json(
            "[garbage_collect(P) || P <- processes()],
             {erlang:system_info(atom_count), erlang:system_info(process_count),
              maps:get(count, persistent_term:info()), erlang:memory(code)}.",
        );
        let count = |at: usize| counts[at].as_u64().expect("a count");
        Counts {
            atoms: count(0),
            processes: count(1),
            persistent_terms: count(2),
            code_bytes: count(3),
        }
    }
}

/// Turns the md5 `D` into lower-case hex digits, in Erlang.
const HEX: &str = "string:lowercase(binary:encode_hex(D))";

fn texts(value: &Value) -> BTreeMap<String, String> {
    let object = value.as_object().expect("an object");
    object
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().expect("a text").to_owned()))
        .collect()
}

fn strings(value: &Value) -> Vec<String> {
    let array = value.as_array().expect("an array");
    array
        .iter()
        .map(|text| text.as_str().expect("a text").to_owned())
        .collect()
}

fn write_packet(stream: &mut UnixStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut packet = (bytes.len() as u32).to_be_bytes().to_vec();
    packet.extend(bytes);
    stream.write_all(&packet)
}

fn read_packet(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
