//! A policy file: text in, a checked struct out.
//!
//! Nothing is read from a disk here and nothing is asked of a node. Whatever a file says that is not known is
//! refused at its place, never skipped: a mistyped key would be a rule that nobody applies.
//!
//! The parser's own tree is walked, not derived structs: only the tree knows where every key stands, and a derived
//! reader cannot say which key was probably meant.

mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use flyhot_events::{ReasonCode, Severity, Signal};
use flyhot_upgrade::{Allowed, Hosts, NodeFunction};
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::duration::{self, DurationError, parse_duration};
use super::{DEFAULT_CALL_TIMEOUT, acceptable_codes, nearest, nearest_code};

/// How long one hook may take: six times what a call waits by default, so that a hook may call a few servers one
/// after the other, and short enough that a person still looks on.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the gate asks: caches fill and connections come back within seconds; who waits for more says so.
pub const GATE_WITHIN: Duration = Duration::from_secs(30);

/// Between an answer and the next question of the gate: nothing beside [`GATE_WITHIN`], and no load for the node.
pub const GATE_EVERY: Duration = Duration::from_secs(1);

/// How long a node is watched, before its window and after it: a call to somebody who answers no more fails after
/// [`DEFAULT_CALL_TIMEOUT`], and a second later that is in the log.
pub const WATCH: Duration = DEFAULT_CALL_TIMEOUT.saturating_add(Duration::from_secs(1));

/// Of a value that is not what it should be, so many characters are shown: enough to find it again.
const SHOWN: usize = 60;

/// What a policy file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyFile {
    /// `[hosts]`: of processes that show a module, the modules whose callbacks they run, the host first.
    pub hosts: Hosts,
    /// `[accept]`: reasons of severity cold, each with why it is accepted.
    pub accept: BTreeMap<ReasonCode, String>,
    /// `[hooks]`.
    pub hooks: Hooks,
    /// `[gate]`, where it asks a function.
    pub gate: Option<Gate>,
    /// `[gate]`, what is looked at in any case.
    pub watch: Watch,
}

/// How nodes of a fleet are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// How long, before the window and after it; above zero.
    pub span: Duration,
    /// What is let pass beyond twice what was before.
    pub allowed: Allowed,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            span: WATCH,
            allowed: Allowed::DEFAULT,
        }
    }
}

/// The user's own functions around the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Called on the running code, before the knock.
    pub before: Vec<NodeFunction>,
    /// Called on the new code, after everything else.
    pub after: Vec<NodeFunction>,
    /// How long each may take; above zero.
    pub timeout: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            before: Vec::new(),
            after: Vec::new(),
            timeout: HOOK_TIMEOUT,
        }
    }
}

/// The question whether a node is well on the new code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// The function that answers it.
    pub call: NodeFunction,
    /// How long it is asked; above zero.
    pub within: Duration,
    /// The pause between two questions; above zero, not longer than `within`.
    pub every: Duration,
}

/// One key that a policy file may have: what docs/policy.md is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its table.
    pub table: &'static str,
    /// Its name; `MODULE` and `CODE` stand for any.
    pub name: &'static str,
    /// What its value is.
    pub value: Value,
    /// Its value where it is left out; empty where nothing happens then.
    pub default: String,
}

/// What the value of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A table.
    Table,
    /// A module, or a list of them.
    Modules,
    /// Text that says why.
    Why,
    /// A list of functions.
    Functions,
    /// A function.
    Function,
    /// A time.
    Time,
    /// A whole number that is not negative.
    Number,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "a table",
            Self::Modules => "a module or a list of modules",
            Self::Why => "text",
            Self::Functions => "a list of functions",
            Self::Function => "a function",
            Self::Time => "a time",
            Self::Number => "a whole number",
        })
    }
}

impl Value {
    /// What it may look like.
    fn example(self) -> &'static str {
        match self {
            Self::Table => "[gate]",
            Self::Modules => r#"shop_prequeue = "shop_queue""#,
            Self::Why => r#"cover_compiled = "the staging node measures coverage""#,
            Self::Functions => r#"before = ["Shop.Upgrade.before"]"#,
            Self::Function => r#"call = "Shop.Health.ready?""#,
            Self::Time => r#""30s""#,
            Self::Number => "errors = 50",
        }
    }
}

/// Every key there is.
pub fn keys() -> Vec<Key> {
    let key = |table, name, value, default: &str| Key {
        table,
        name,
        value,
        default: default.to_owned(),
    };
    let mut keys = vec![
        key("hosts", "MODULE", Value::Modules, ""),
        key("accept", "CODE", Value::Why, ""),
        key("hooks", "before", Value::Functions, ""),
        key("hooks", "after", Value::Functions, ""),
        key("hooks", "timeout", Value::Time, &duration::show(HOOK_TIMEOUT)),
        key("gate", "call", Value::Function, ""),
        key("gate", "within", Value::Time, &duration::show(GATE_WITHIN)),
        key("gate", "every", Value::Time, &duration::show(GATE_EVERY)),
        key("gate", "watch", Value::Time, &duration::show(WATCH)),
    ];
    keys.extend(Signal::ALL.map(|signal| {
        let allowed = Allowed::DEFAULT.of(signal) / unit(signal);
        key("gate", signal.name(), Value::Number, &allowed.to_string())
    }));
    keys
}

/// What the number of a signal counts.
fn unit(signal: Signal) -> u64 {
    match signal {
        Signal::Memory => MB,
        _ => 1,
    }
}

/// A megabyte, as flyhot counts them everywhere.
const MB: u64 = 1_000_000;

const TABLES: [&str; 4] = ["hosts", "accept", "hooks", "gate"];

/// The keys of a table whose keys have names of their own.
fn names_in(table: &str) -> Vec<&'static str> {
    let of = keys().into_iter().filter(|key| key.table == table);
    of.map(|key| key.name).collect()
}

/// A policy file that is not one, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{fault}")]
pub struct PolicyError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong at one place of a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// No UTF-8.
    #[error("not text: the byte {0:#04x} is no UTF-8")]
    NoText(u8),
    /// No TOML; the parser's words.
    #[error("{0}")]
    Syntax(String),
    /// No such table.
    #[error("{found}: a policy file has no such table")]
    Table {
        /// As written.
        found: String,
        /// The one that was probably meant.
        nearest: Option<&'static str>,
    },
    /// No such key.
    #[error("{found}: [{table}] has no such key")]
    Key {
        /// The table it stands in.
        table: &'static str,
        /// As written.
        found: String,
        /// The one that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A key that must be there.
    #[error("[{table}] lacks the key {key}")]
    Lacks {
        /// The table.
        table: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A value of another type.
    #[error("{key} must be {wanted}, found {found}")]
    Type {
        /// The key.
        key: String,
        /// What it must be.
        wanted: Value,
        /// What it is.
        found: String,
    },
    /// Text that names no module.
    #[error("{found:?} is not the name of a module")]
    Module {
        /// As written.
        found: String,
    },
    /// One module with two rules.
    #[error("{found} stands in [hosts] twice")]
    Twice {
        /// As written.
        found: String,
    },
    /// A list without an entry.
    #[error("{key} is an empty list")]
    Empty {
        /// The key.
        key: String,
    },
    /// Text that names no function.
    #[error("{found:?} is not the name of a function")]
    Function {
        /// As written.
        found: String,
    },
    /// Text that is no time.
    #[error("{key} is {found:?}: {why}")]
    Time {
        /// The key.
        key: String,
        /// As written.
        found: String,
        /// What is wrong with it.
        why: DurationError,
    },
    /// No time at all.
    #[error("{key} must be above 0")]
    NoTime {
        /// The key.
        key: String,
    },
    /// A gate that could ask but once.
    #[error("every is {}, longer than within, {}", duration::show(*every), duration::show(*within))]
    Rare {
        /// The pause.
        every: Duration,
        /// All the time there is.
        within: Duration,
    },
    /// No such reason.
    #[error("{found}: no reason has this code")]
    Code {
        /// As written.
        found: String,
        /// The one that was probably meant.
        nearest: Option<ReasonCode>,
    },
    /// A reason that refuses nothing, or that nothing overrides.
    #[error("{0}: {why}", why = super::why_not_acceptable(*.0))]
    NotAcceptable(ReasonCode),
    /// Accepted without a word.
    #[error("{0} does not say why it is accepted")]
    NoWhy(ReasonCode),
}

impl Fault {
    /// What the user can do about it, one sentence.
    pub fn hint(&self) -> String {
        match self {
            Self::NoText(_) => "Write it as UTF-8 text.".into(),
            Self::Syntax(_) => "Write it as TOML; docs/policy.md has an example of each table.".into(),
            Self::Table { nearest: Some(table), .. } => format!("Did you mean [{table}]?"),
            Self::Table { found, nearest: None } => match keys().iter().find(|key| key.name == found) {
                Some(key) => format!("It is a key of [{}]: write it below that line.", key.table),
                None => format!("These tables are known: [{}].", TABLES.join("], [")),
            },
            Self::Key { nearest: Some(key), .. } => format!("Did you mean {key}?"),
            Self::Key { table, nearest: None, .. } => {
                format!("[{table}] has these keys: {}.", names_in(table).join(", "))
            }
            Self::Lacks { .. } => format!("Name the function, for example {}.", Value::Function.example()),
            Self::Type { key, wanted: Value::Table, .. } => format!("Write [{key}] and its keys below that line."),
            Self::Type { wanted, .. } => format!("Write it so: {}.", wanted.example()),
            Self::Module { .. } => {
                "Write Shop.Cart for a module of Elixir, shop_cart for one of Erlang.".into()
            }
            Self::Twice { .. } => "Write one line for it, with a list where several modules are meant.".into(),
            Self::Empty { .. } => "Name what is meant, or take the line out.".into(),
            Self::Function { .. } => {
                "Write Shop.Health.ready? for a function of Elixir, shop_health:ready for one of Erlang; it is called \
                 without arguments."
                    .into()
            }
            Self::Time { .. } | Self::NoTime { .. } => format!("Write it so: {}.", Value::Time.example()),
            Self::Rare { .. } => "Raise within, or lower every.".into(),
            Self::Code { nearest: Some(code), .. } if code.severity() == Severity::Cold => {
                format!("Did you mean {code}?")
            }
            Self::Code { .. } | Self::NotAcceptable(_) => {
                format!("These codes can be accepted: {}.", acceptable_codes())
            }
            Self::NoWhy(code) => format!("Say it to whoever reads the outcome: {code} = \"because …\"."),
        }
    }
}

/// A fault and the bytes it is about.
type Misfit = (Range<usize>, Fault);
type Read<T> = Result<T, Misfit>;
type Entry<'a, 'i> = (&'a str, Range<usize>, &'a Spanned<DeValue<'i>>);

impl PolicyFile {
    /// Reads the content of a policy file.
    ///
    /// # Errors
    /// The first thing in it that is not what it should be.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let (good, rest) = bytes.split_at(error.valid_up_to());
            let (line, column) = place(&String::from_utf8_lossy(good), good.len());
            let fault = Fault::NoText(rest.first().copied().unwrap_or_default());
            PolicyError { line, column, fault }
        })?;
        let read = DeTable::parse(text)
            .map_err(|error| syntax(text, &error))
            .and_then(|document| policy(document.get_ref()));
        read.map_err(|(span, fault)| {
            let (line, column) = place(text, span.start);
            PolicyError { line, column, fault }
        })
    }
}

/// The parser's words, and the text they are about where there is some.
fn syntax(text: &str, error: &toml::de::Error) -> Misfit {
    let span = error.span().unwrap_or_default();
    let about = text.get(span.clone()).unwrap_or_default().trim();
    let message = one_line(error.message());
    let said = if about.is_empty() {
        message
    } else {
        format!("{message}: {}", shown(&one_line(about)))
    };
    (span, Fault::Syntax(said))
}

/// Line and column of a byte, both from 1; columns in characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before: String = text
        .char_indices()
        .take_while(|(start, _)| *start < at)
        .map(|(_, char)| char)
        .collect();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The parser's words may go over several lines.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The entries of a table as they stand in the file, so that the first mistake is the one that is told.
fn entries<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Entry<'a, 'i>> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
        .collect();
    entries.sort_by_key(|(_, span, _)| span.start);
    entries
}

fn policy(document: &DeTable<'_>) -> Read<PolicyFile> {
    let mut policy = PolicyFile::default();
    for (name, span, value) in entries(document) {
        let Some(known) = TABLES.into_iter().find(|known| *known == name) else {
            let nearest = nearest(name, TABLES);
            return Err((
                span,
                Fault::Table {
                    found: shown(name),
                    nearest,
                },
            ));
        };
        let DeValue::Table(table) = value.get_ref() else {
            return Err(mistyped(known, Value::Table, value));
        };
        match known {
            "hosts" => hosts("", table, &mut policy.hosts)?,
            "accept" => policy.accept = accept(table)?,
            "hooks" => policy.hooks = hooks(table)?,
            _ => (policy.gate, policy.watch) = gate(span, table)?,
        }
    }
    Ok(policy)
}

/// `Shop.Cart = …` without quotes is a table `Cart` in a table `Shop` to TOML, and means what it looks like.
fn hosts(above: &str, table: &DeTable<'_>, into: &mut Hosts) -> Read<()> {
    for (key, span, value) in entries(table) {
        let name = if above.is_empty() {
            key.to_owned()
        } else {
            format!("{above}.{key}")
        };
        if let DeValue::Table(below) = value.get_ref() {
            hosts(&name, below, into)?;
            continue;
        }
        let Some(shows) = names::module(&name) else {
            return Err((span, Fault::Module { found: shown(&name) }));
        };
        let run = match value.get_ref() {
            DeValue::String(_) => vec![module(&name, value)?],
            DeValue::Array(list) if list.is_empty() => {
                return Err((value.span(), Fault::Empty { key: shown(&name) }));
            }
            DeValue::Array(list) => list.iter().map(|one| module(&name, one)).collect::<Read<_>>()?,
            _ => return Err(mistyped(&name, Value::Modules, value)),
        };
        if into.insert(shows, run).is_some() {
            return Err((span, Fault::Twice { found: shown(&name) }));
        }
    }
    Ok(())
}

fn module(key: &str, value: &Spanned<DeValue<'_>>) -> Read<String> {
    let found = text(key, Value::Modules, value)?;
    names::module(found).ok_or_else(|| (value.span(), Fault::Module { found: shown(found) }))
}

fn accept(table: &DeTable<'_>) -> Read<BTreeMap<ReasonCode, String>> {
    let mut accepted = BTreeMap::new();
    for (name, span, value) in entries(table) {
        let Some(code) = ReasonCode::ALL.iter().copied().find(|code| code.name() == name) else {
            let nearest = nearest_code(name);
            return Err((
                span,
                Fault::Code {
                    found: shown(name),
                    nearest,
                },
            ));
        };
        if code.severity() != Severity::Cold {
            return Err((span, Fault::NotAcceptable(code)));
        }
        let why = text(name, Value::Why, value)?.trim();
        if why.is_empty() {
            return Err((value.span(), Fault::NoWhy(code)));
        }
        accepted.insert(code, one_line(why));
    }
    Ok(accepted)
}

fn hooks(table: &DeTable<'_>) -> Read<Hooks> {
    let mut hooks = Hooks::default();
    for (key, span, value) in entries(table) {
        match key {
            "before" => hooks.before = functions(key, value)?,
            "after" => hooks.after = functions(key, value)?,
            "timeout" => hooks.timeout = time(key, value)?,
            _ => return Err(unknown("hooks", key, span)),
        }
    }
    Ok(hooks)
}

fn gate(header: Range<usize>, table: &DeTable<'_>) -> Read<(Option<Gate>, Watch)> {
    let (mut call, mut within, mut every) = (None, None, None);
    let mut watch = Watch::default();
    for (key, span, value) in entries(table) {
        match key {
            "call" => call = Some(function(key, Value::Function, value)?),
            "within" => within = Some((value.span(), time(key, value)?)),
            "every" => every = Some((value.span(), time(key, value)?)),
            "watch" => watch.span = time(key, value)?,
            _ => match Signal::ALL.into_iter().find(|signal| signal.name() == key) {
                Some(signal) => {
                    let number = number(key, value)?;
                    *watch.allowed.of_mut(signal) = number.saturating_mul(unit(signal));
                }
                None => return Err(unknown("gate", key, span)),
            },
        }
    }
    if call.is_none() && within.is_none() && every.is_none() {
        return Ok((None, watch));
    }
    let lacks = Fault::Lacks {
        table: "gate",
        key: "call",
    };
    let place = every
        .clone()
        .or(within.clone())
        .map_or(header.clone(), |(span, _)| span);
    let gate = Gate {
        call: call.ok_or((header, lacks))?,
        within: within.map_or(GATE_WITHIN, |(_, within)| within),
        every: every.map_or(GATE_EVERY, |(_, every)| every),
    };
    if gate.every > gate.within {
        let (every, within) = (gate.every, gate.within);
        return Err((place, Fault::Rare { every, within }));
    }
    Ok((Some(gate), watch))
}

fn number(key: &str, value: &Spanned<DeValue<'_>>) -> Read<u64> {
    let wrong = || mistyped(key, Value::Number, value);
    match value.get_ref() {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

fn unknown(table: &'static str, found: &str, span: Range<usize>) -> Misfit {
    let nearest = nearest(found, names_in(table));
    let found = shown(found);
    (
        span,
        Fault::Key {
            table,
            found,
            nearest,
        },
    )
}

fn functions(key: &str, value: &Spanned<DeValue<'_>>) -> Read<Vec<NodeFunction>> {
    let DeValue::Array(list) = value.get_ref() else {
        return Err(mistyped(key, Value::Functions, value));
    };
    list.iter()
        .map(|one| function(key, Value::Functions, one))
        .collect()
}

fn function(key: &str, wanted: Value, value: &Spanned<DeValue<'_>>) -> Read<NodeFunction> {
    let found = text(key, wanted, value)?;
    names::function(found).ok_or_else(|| (value.span(), Fault::Function { found: shown(found) }))
}

fn time(key: &str, value: &Spanned<DeValue<'_>>) -> Read<Duration> {
    let found = text(key, Value::Time, value)?;
    match parse_duration(found) {
        Ok(time) if time.is_zero() => Err((value.span(), Fault::NoTime { key: key.to_owned() })),
        Ok(time) => Ok(time),
        Err(why) => {
            let (key, found) = (key.to_owned(), shown(found));
            Err((value.span(), Fault::Time { key, found, why }))
        }
    }
}

fn text<'a>(key: &str, wanted: Value, value: &'a Spanned<DeValue<'_>>) -> Read<&'a str> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text),
        _ => Err(mistyped(key, wanted, value)),
    }
}

fn mistyped(key: &str, wanted: Value, value: &Spanned<DeValue<'_>>) -> Misfit {
    let found = match value.get_ref() {
        DeValue::String(text) => format!("the text {:?}", shown(text)),
        DeValue::Integer(number) => format!("the number {}", shown(number.as_str())),
        DeValue::Float(number) => format!("the number {}", shown(number.as_str())),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => format!("the date {time}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    let key = shown(key);
    (value.span(), Fault::Type { key, wanted, found })
}

/// The beginning of a text.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
