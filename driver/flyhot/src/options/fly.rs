//! An app's configuration on Fly.io, fly.toml: bytes in, a checked struct out.
//!
//! Nothing is read from a disk here. What flyctl does not look at is passed over as flyctl does, and so is all that flyhot has no
//! use for; of what it has, a value of another type is refused by the name of its field. No value is in any error.
//!
//! Source: superfly/flyctl, internal/appconfig: `config.go`, `service.go`, `patches.go`, `processgroups.go`.

use std::collections::BTreeMap;
use std::path::Path;

use thiserror::Error;

use super::environment::Secret;
use super::tree::{Format, SyntaxError, Tree};

/// The group of machines that there is where a file names none, and that whatever names no group belongs to.
const APP: &str = "app";

/// Of a name that somebody wrote, so many characters are shown: enough to find it again.
const SHOWN: usize = 60;

/// What of a fly.toml flyhot has a use for.
#[derive(Debug, Clone, Default)]
pub struct FlyFile {
    /// `app`.
    pub app: Option<String>,
    /// `primary_region`.
    pub primary_region: Option<String>,
    /// `[env]`, as the machines have it.
    pub env: BTreeMap<String, Secret>,
    /// `[build]`.
    pub build: Build,
    /// `[processes]`: what each group of machines runs; empty: what its image does.
    processes: BTreeMap<String, String>,
    /// `[http_service]` and `[[services]]`.
    services: Vec<Service>,
    /// `[checks]`, each with its groups.
    checks: BTreeMap<String, Vec<String>>,
    /// `[[vm]]`.
    sizes: Vec<Size>,
}

/// How the image comes to be.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// An image that is not built but taken.
    pub image: Option<String>,
    /// The Dockerfile, from the directory of the file on.
    pub dockerfile: Option<String>,
    /// What is not sent to the builder.
    pub ignorefile: Option<String>,
    /// The stage that is built.
    pub target: Option<String>,
    /// Variables of the build.
    pub args: BTreeMap<String, Secret>,
}

#[derive(Debug, Clone)]
struct Service {
    port: Option<u16>,
    groups: Vec<String>,
}

#[derive(Debug, Clone)]
struct Size {
    text: String,
    groups: Vec<String>,
}

/// Machines that run the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<'a> {
    /// Its name.
    pub name: &'a str,
    /// What they run; absent: what their image does.
    pub command: Option<&'a str>,
    /// The ports that requests reach them by, one for each service that names a port.
    pub ports: Vec<u16>,
    /// The checks of their own, by name.
    pub checks: Vec<&'a str>,
    /// How large they are, as written; absent: as large as Fly.io makes them.
    pub size: Option<&'a str>,
}

/// A file that is none of flyctl's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FlyError {
    /// It cannot be parsed.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A field holds something else than it should.
    #[error("{field} must be {wanted}, found {found}")]
    Type {
        /// From the top on.
        field: String,
        /// What it must be.
        wanted: &'static str,
        /// What it is.
        found: String,
    },
}

impl Format {
    /// By the name of a file, as flyctl tells them apart.
    pub(super) fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Self::Json,
            Some("yaml" | "yml") => Self::Yaml,
            _ => Self::Toml,
        }
    }
}

impl FlyFile {
    /// Reads the content of a file.
    ///
    /// # Errors
    /// The first thing in it that is not what it should be.
    pub fn parse(bytes: &[u8], format: Format) -> Result<Self, FlyError> {
        let tree = Tree::read(bytes, format)?;
        if tree == Tree::Nothing {
            // Nothing but remarks, in YAML.
            return Ok(Self::default());
        }
        let top = Field {
            at: String::new(),
            value: &tree,
        };
        let mut services = Vec::new();
        if let Some(service) = top.get("http_service")? {
            services.push(Service::read(&service)?);
        }
        for service in top.tables("services")? {
            // An empty one is none to flyctl.
            if service.table()?.is_empty() {
                continue;
            }
            services.push(Service::read(&service)?);
        }
        let mut sizes = Vec::new();
        for name in ["vm", "compute"] {
            for size in top.tables(name)? {
                sizes.push(Size::read(&size)?);
            }
        }
        Ok(Self {
            app: top.text("app")?,
            primary_region: top.text("primary_region")?,
            env: top
                .get("env")?
                .map_or_else(|| Ok(BTreeMap::new()), |env| env.env())?,
            build: top
                .get("build")?
                .map_or_else(|| Ok(Build::default()), |build| Build::read(&build))?,
            processes: processes(&top)?,
            services,
            checks: checks(&top)?,
            sizes,
        })
    }

    /// The variable `name` of `[env]`; absent when empty.
    pub fn variable(&self, name: &str) -> Option<String> {
        let value = self.env.get(name)?;
        Some(value.text()).filter(|value| !value.is_empty())
    }

    /// Which machines run what. Whatever names no group is the default group's: `app`, or the first by name; a size that names
    /// none is everybody's (flyctl `Flatten`).
    pub fn groups(&self) -> Vec<Group<'_>> {
        let names: Vec<&str> = match self.processes.is_empty() {
            true => vec![APP],
            false => self.processes.keys().map(String::as_str).collect(),
        };
        let default = names
            .iter()
            .copied()
            .find(|name| *name == APP)
            .or_else(|| names.first().copied())
            .unwrap_or(APP);
        let group = |name| {
            let is_its = |groups: &[String]| match groups {
                [] => name == default,
                groups => groups
                    .iter()
                    .any(|group| group == name || group.is_empty() && name == default),
            };
            let command = self.processes.get(name).map(String::as_str);
            let services = self.services.iter().filter(|service| is_its(&service.groups));
            let checks = self.checks.iter().filter(|(_, groups)| is_its(groups));
            // The last that names the group, else the first for all of them.
            let own = self
                .sizes
                .iter()
                .rev()
                .find(|size| size.groups.iter().any(|group| group == name));
            let of_all = || self.sizes.iter().find(|size| size.groups.is_empty());
            Group {
                name,
                command: command.filter(|command| !command.is_empty()),
                ports: services.filter_map(|service| service.port).collect(),
                checks: checks.map(|(name, _)| name.as_str()).collect(),
                size: own.or_else(of_all).map(|size| size.text.as_str()),
            }
        };
        names.iter().copied().map(group).collect()
    }
}

impl Build {
    fn read(build: &Field<'_>) -> Result<Self, FlyError> {
        let target = match build.text("build-target")? {
            Some(target) => Some(target),
            None => build.text("build_target")?,
        };
        Ok(Self {
            image: build.text("image")?,
            dockerfile: build.text("dockerfile")?,
            ignorefile: build.text("ignorefile")?,
            target,
            args: build
                .get("args")?
                .map_or_else(|| Ok(BTreeMap::new()), |args| args.variables())?,
        })
    }
}

impl Service {
    fn read(service: &Field<'_>) -> Result<Self, FlyError> {
        let port = service.get("internal_port")?;
        Ok(Self {
            port: port.map(|port| port.port()).transpose()?,
            groups: service.groups()?,
        })
    }
}

impl Size {
    fn read(size: &Field<'_>) -> Result<Self, FlyError> {
        let memory = size
            .get("memory")?
            .map(|memory| memory.printed(TEXT_OR_NUMBER))
            .transpose()?;
        let megabytes = size
            .get("memory_mb")?
            .map(|memory| memory.printed(TEXT_OR_NUMBER))
            .transpose()?;
        let memory = memory.or_else(|| megabytes.map(|megabytes| format!("{megabytes}mb")));
        let words: Vec<_> = size.text("size")?.into_iter().chain(memory).collect();
        Ok(Self {
            text: words.join(" "),
            groups: size.groups()?,
        })
    }
}

/// `[processes]`; a list, as files of years ago have it, names and runs what its entries say.
fn processes(top: &Field<'_>) -> Result<BTreeMap<String, String>, FlyError> {
    let Some(processes) = top.get("processes")? else {
        return Ok(BTreeMap::new());
    };
    let mut commands = BTreeMap::new();
    if matches!(processes.value, Tree::List(_)) {
        for process in top.tables("processes")? {
            if let Some(name) = process.text("name")? {
                commands.insert(name, process.text("command")?.unwrap_or_default());
            }
        }
        return Ok(commands);
    }
    for name in processes.table()?.keys() {
        commands.insert(name.clone(), processes.text(name)?.unwrap_or_default());
    }
    Ok(commands)
}

/// `[checks]`, or a list of them with their names.
fn checks(top: &Field<'_>) -> Result<BTreeMap<String, Vec<String>>, FlyError> {
    let Some(checks) = top.get("checks")? else {
        return Ok(BTreeMap::new());
    };
    let mut groups = BTreeMap::new();
    if matches!(checks.value, Tree::List(_)) {
        for check in top.tables("checks")? {
            let name = check.text("name")?.ok_or_else(|| FlyError::Type {
                field: format!("{}.name", check.at),
                wanted: TEXT,
                found: Tree::Nothing.kind().to_owned(),
            })?;
            groups.insert(name, check.groups()?);
        }
        return Ok(groups);
    }
    for name in checks.table()?.keys() {
        if let Some(check) = checks.get(name)? {
            check.table()?;
            groups.insert(name.clone(), check.groups()?);
        }
    }
    Ok(groups)
}

const TEXT: &str = "text";
const TEXT_OR_NUMBER: &str = "text or a number";
const TABLE: &str = "a table";

/// A value, and where it stands.
struct Field<'a> {
    at: String,
    value: &'a Tree,
}

impl<'a> Field<'a> {
    fn below(&self, name: &str, value: &'a Tree) -> Self {
        let name = shown(name);
        let at = match &*self.at {
            "" => name,
            above => format!("{above}.{name}"),
        };
        Self { at, value }
    }

    fn mistyped(&self, wanted: &'static str) -> FlyError {
        self.other(wanted, self.value.kind().to_owned())
    }

    fn other(&self, wanted: &'static str, found: String) -> FlyError {
        let field = match &*self.at {
            "" => "the file".to_owned(),
            at => at.to_owned(),
        };
        FlyError::Type { field, wanted, found }
    }

    fn table(&self) -> Result<&'a BTreeMap<String, Tree>, FlyError> {
        match self.value {
            Tree::Table(table) => Ok(table),
            _ => Err(self.mistyped(TABLE)),
        }
    }

    /// A field of a table; nothing is not there.
    fn get(&self, name: &str) -> Result<Option<Self>, FlyError> {
        let value = self.table()?.get(name).filter(|value| **value != Tree::Nothing);
        Ok(value.map(|value| self.below(name, value)))
    }

    /// Text; absent when empty, as in Go.
    fn text(&self, name: &str) -> Result<Option<String>, FlyError> {
        let Some(field) = self.get(name)? else {
            return Ok(None);
        };
        match field.value {
            Tree::Text(text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            _ => Err(field.mistyped(TEXT)),
        }
    }

    /// A list of tables, or the only one of them.
    fn tables(&self, name: &str) -> Result<Vec<Self>, FlyError> {
        let Some(field) = self.get(name)? else {
            return Ok(Vec::new());
        };
        field.each()
    }

    fn each(self) -> Result<Vec<Self>, FlyError> {
        match self.value {
            Tree::List(list) => {
                let entry = |(number, value)| Self {
                    at: format!("{}[{number}]", self.at),
                    value,
                };
                let entries: Vec<_> = list.iter().enumerate().map(entry).collect();
                for entry in &entries {
                    entry.table()?;
                }
                Ok(entries)
            }
            Tree::Table(_) => Ok(vec![self]),
            _ => Err(self.mistyped("a table or a list of tables")),
        }
    }

    /// The groups that something is limited to.
    fn groups(&self) -> Result<Vec<String>, FlyError> {
        let Some(field) = self.get("processes")? else {
            return Ok(Vec::new());
        };
        let wrong = || field.mistyped("a list of text");
        let Tree::List(list) = field.value else {
            return Err(wrong());
        };
        let group = |value: &Tree| match value {
            Tree::Text(text) => Some(text.clone()),
            _ => None,
        };
        list.iter().map(group).collect::<Option<_>>().ok_or_else(wrong)
    }

    fn port(&self) -> Result<u16, FlyError> {
        let number = match self.value {
            Tree::Text(text) => text.parse().ok(),
            other => other.whole(),
        };
        match number.map(u16::try_from) {
            Some(Ok(port)) if port != 0 => Ok(port),
            // A number is no secret, and says more than that it is one.
            _ => Err(self.other(
                "a port, 1 to 65535",
                number.map_or_else(|| self.value.kind().to_owned(), |number: i64| number.to_string()),
            )),
        }
    }

    fn printed(&self, wanted: &'static str) -> Result<String, FlyError> {
        self.value.as_go_prints().ok_or_else(|| self.mistyped(wanted))
    }

    /// `[env]`: a table, or a list of them, of which a later one goes first.
    fn env(self) -> Result<BTreeMap<String, Secret>, FlyError> {
        let mut variables = BTreeMap::new();
        for table in self.each()? {
            variables.append(&mut table.variables()?);
        }
        Ok(variables)
    }

    fn variables(&self) -> Result<BTreeMap<String, Secret>, FlyError> {
        let variable = |(name, value): (&String, &'a Tree)| {
            let value = self.below(name, value).printed("text, a number, true or false")?;
            Ok((name.clone(), Secret(value.into())))
        };
        self.table()?.iter().map(variable).collect()
    }
}

/// The beginning of a name that somebody wrote, in one line.
pub(super) fn shown(name: &str) -> String {
    let plain = name
        .chars()
        .map(|char| if char.is_control() { '?' } else { char });
    match name.chars().count() {
        ..=SHOWN => plain.collect(),
        _ => plain.take(SHOWN).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests;
