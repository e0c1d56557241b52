//! Applications: whose they are, and what `.rel` and `.app` files say of them.
//!
//! Nothing here reads a file; bytes come in. Values of environments, start phases and registered names are not kept:
//! only a running node knows their present values.
//!
//! Source: app(4) and rel(4) of OTP.

use serde::{Deserialize, Serialize};

use crate::{
    name::{ModuleName, ReleasePath},
    text::{Term, TermError},
};

/// Whose an application or the build of a module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Erlang/OTP's: never upgraded hot.
    Otp,
    /// Elixir's: never upgraded hot.
    Elixir,
    /// Everything else: the project, its dependencies, and every consolidated protocol.
    Own,
}

/// The applications of OTP 25 to 29: the directories of `lib/` in its source tree, and erts.
const OTP: [&str; 37] = [
    "asn1",
    "common_test",
    "compiler",
    "crypto",
    "debugger",
    "dialyzer",
    "diameter",
    "edoc",
    "eldap",
    "erl_docgen",
    "erl_interface",
    "erts",
    "et",
    "eunit",
    "ftp",
    "inets",
    "jinterface",
    "kernel",
    "megaco",
    "mnesia",
    "observer",
    "odbc",
    "os_mon",
    "parsetools",
    "public_key",
    "reltool",
    "runtime_tools",
    "sasl",
    "snmp",
    "ssh",
    "ssl",
    "stdlib",
    "syntax_tools",
    "tftp",
    "tools",
    "wx",
    "xmerl",
];

/// The applications of Elixir 1.14 to 1.20: the directories of `lib/` in its source tree.
const ELIXIR: [&str; 6] = ["eex", "elixir", "ex_unit", "iex", "logger", "mix"];

impl Origin {
    /// Whose the application of this name is.
    pub fn of(application: &str) -> Self {
        if OTP.contains(&application) {
            Origin::Otp
        } else if ELIXIR.contains(&application) {
            Origin::Elixir
        } else {
            Origin::Own
        }
    }
}

/// How a release starts an application (rel(4)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartType {
    /// Started; the node goes down with it.
    Permanent,
    /// Started; the node goes down with it unless it ended normally.
    Transient,
    /// Started; its end is logged.
    Temporary,
    /// Loaded, not started.
    Load,
    /// Its modules are loaded and the application is not: a node does not list it.
    None,
}

/// One application of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Its `vsn`.
    pub version: String,
    /// Whose it is.
    pub origin: Origin,
    /// How the release starts it.
    pub start: StartType,
    /// `lib/NAME-VSN`; `None` for one that the release takes from the machine (`include_erts: false`).
    pub dir: Option<ReleasePath>,
    /// The callback module of `mod`; `None` for a library.
    pub start_module: Option<ModuleName>,
    /// `applications`, in their order: those that are started before it.
    pub applications: Vec<String>,
}

/// Why the text of a `.rel` or `.app` file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// It is not a term.
    #[error("it is not one Erlang term")]
    Term(#[source] TermError),
    /// It is a term of another shape.
    #[error("{0}")]
    Shape(&'static str),
}

fn shape<T>(what: Option<T>, otherwise: &'static str) -> Result<T, ResourceError> {
    what.ok_or(ResourceError::Shape(otherwise))
}

/// Whether a name or a version may be one part of a path.
pub(crate) fn is_plain(part: &str) -> bool {
    ReleasePath::new(part).is_ok() && !part.contains('/')
}

/// `{release, {Name, Vsn}, {erts, ErtsVsn}, Applications}.`
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rel {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Name, version and start type, in the file's order.
    pub(crate) apps: Vec<(String, String, StartType)>,
}

impl Rel {
    pub(crate) fn read(bytes: &[u8]) -> Result<Rel, ResourceError> {
        let term = Term::read(bytes).map_err(ResourceError::Term)?;
        let parts = match term.tuple() {
            Some([tag, name, erts, apps]) if tag.atom() == Some("release") => {
                name.tuple().zip(erts.tuple()).zip(apps.list())
            }
            _ => None,
        };
        let ((name, _), apps) = shape(
            parts,
            "it is not {release, {Name, Vsn}, {erts, Vsn}, [Application]}",
        )?;
        let (name, version) = match name {
            [name, version] => shape(
                name.text().zip(version.text()),
                "name and version must be strings",
            )?,
            _ => return Err(ResourceError::Shape("name and version must be strings")),
        };
        Ok(Rel {
            name: name.into(),
            version: version.into(),
            apps: apps.iter().map(Self::application).collect::<Result<_, _>>()?,
        })
    }

    /// `{Name, Vsn}`, then a start type, included applications, or both.
    fn application(term: &Term) -> Result<(String, String, StartType), ResourceError> {
        let (name, version, rest) = match term.tuple() {
            Some([name, version, rest @ ..]) if rest.len() <= 2 => (
                name.atom().filter(|n| is_plain(n)),
                version.text().filter(|v| is_plain(v)),
                rest,
            ),
            _ => (None, None, &[][..]),
        };
        let (name, version) = shape(name.zip(version), "an application is not {Name, Vsn}")?;
        let start = match rest.first().and_then(Term::atom) {
            None | Some("permanent") => StartType::Permanent,
            Some("transient") => StartType::Transient,
            Some("temporary") => StartType::Temporary,
            Some("load") => StartType::Load,
            Some("none") => StartType::None,
            Some(_) => {
                return Err(ResourceError::Shape(
                    "an application's start type is none of rel(4)",
                ));
            }
        };
        Ok((name.into(), version.into(), start))
    }
}

/// `{application, Name, Properties}.`
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) modules: Vec<ModuleName>,
    pub(crate) start_module: Option<ModuleName>,
    pub(crate) applications: Vec<String>,
    /// The keys of `env`; values are the node's.
    pub(crate) environment: Vec<String>,
    /// Whether it says what the code was compiled with (`compile_env`, which Mix writes).
    pub(crate) compile_env: bool,
}

impl Resource {
    pub(crate) fn read(bytes: &[u8]) -> Result<Resource, ResourceError> {
        let term = Term::read(bytes).map_err(ResourceError::Term)?;
        let parts = match term.tuple() {
            Some([tag, name, properties]) if tag.atom() == Some("application") => {
                name.atom().zip(Some(properties))
            }
            _ => None,
        };
        let (name, properties) = shape(parts, "it is not {application, Name, Properties}")?;
        let module = |term: &Term| term.atom().and_then(|name| ModuleName::new(name).ok());
        let start_module = match properties.property("mod") {
            None => None,
            Some(nothing) if nothing.list().is_some_and(<[_]>::is_empty) => None,
            Some(start) => Some(shape(
                start.tuple().and_then(<[_]>::first).and_then(module),
                "mod is not {Module, StartArgs}",
            )?),
        };
        let list = |key| properties.property(key).map_or(Some(&[][..]), Term::list);
        let modules = list("modules").and_then(|list| list.iter().map(module).collect());
        let atoms = |list: &[Term]| list.iter().map(|term| term.atom().map(String::from)).collect();
        Ok(Resource {
            name: name.into(),
            version: shape(
                properties.property("vsn").and_then(Term::text),
                "vsn is not a string",
            )?
            .into(),
            modules: shape(modules, "modules is not a list of atoms")?,
            start_module,
            applications: shape(
                list("applications").and_then(atoms),
                "applications is not a list of atoms",
            )?,
            environment: list("env")
                .unwrap_or_default()
                .iter()
                .filter_map(|pair| Some(pair.tuple()?.first()?.atom()?.to_owned()))
                .collect(),
            compile_env: properties
                .property("compile_env")
                .and_then(Term::list)
                .is_some_and(|list| !list.is_empty()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        assert_eq!(Origin::of("stdlib"), Origin::Otp);
        assert_eq!(Origin::of("logger"), Origin::Elixir);
        assert_eq!(Origin::of("phoenix"), Origin::Own);
    }

    #[test]
    fn a_rel_file_with_every_kind_of_entry() {
        let rel = Rel::read(
            br#"%% coding: utf-8
            {release,{"shop","1.2.0"},{erts,"13.1.5"},
             [{kernel,"8.5.3"},{a,"1",load},{b,"2",[c]},{c,"3",transient,[]},{d,"4",temporary},{e,"5",none}]}."#,
        )
        .unwrap();
        assert_eq!((&*rel.name, &*rel.version), ("shop", "1.2.0"));
        let apps: Vec<_> = rel
            .apps
            .iter()
            .map(|(name, version, start)| (&**name, &**version, *start))
            .collect();
        assert_eq!(
            apps,
            [
                ("kernel", "8.5.3", StartType::Permanent),
                ("a", "1", StartType::Load),
                ("b", "2", StartType::Permanent),
                ("c", "3", StartType::Transient),
                ("d", "4", StartType::Temporary),
                ("e", "5", StartType::None),
            ]
        );
    }

    #[test]
    fn rel_files_of_another_shape() {
        for (text, problem) in [
            (
                "{release,shop}.",
                "it is not {release, {Name, Vsn}, {erts, Vsn}, [Application]}",
            ),
            (
                "{release,{shop,\"1\"},{erts,\"1\"},[]}.",
                "name and version must be strings",
            ),
            (
                "{release,{\"s\",\"1\"},{erts,\"1\"},[kernel]}.",
                "an application is not {Name, Vsn}",
            ),
            (
                "{release,{\"s\",\"1\"},{erts,\"1\"},[{'../a',\"1\"}]}.",
                "an application is not {Name, Vsn}",
            ),
            (
                "{release,{\"s\",\"1\"},{erts,\"1\"},[{a,\"1/../..\"}]}.",
                "an application is not {Name, Vsn}",
            ),
            (
                "{release,{\"s\",\"1\"},{erts,\"1\"},[{a,\"1\",often}]}.",
                "an application's start type is none of rel(4)",
            ),
            ("{release", "it is not one Erlang term"),
        ] {
            assert_eq!(
                Rel::read(text.as_bytes()).unwrap_err().to_string(),
                problem,
                "{text}"
            );
        }
    }

    #[test]
    fn an_app_file() {
        let app = Resource::read(
            br#"{application,tiny,[{vsn,"0.1.0"},{modules,['Elixir.Tiny',tiny]},{applications,[kernel,stdlib]},
                {env,[{port,4000},{key,<<"a">>}]},{mod,{'Elixir.Tiny',[]}}]}."#,
        )
        .unwrap();
        let name = |name| ModuleName::new(name).unwrap();
        assert_eq!(
            app,
            Resource {
                name: "tiny".into(),
                version: "0.1.0".into(),
                modules: vec![name("Elixir.Tiny"), name("tiny")],
                start_module: Some(name("Elixir.Tiny")),
                applications: vec!["kernel".into(), "stdlib".into()],
                environment: vec!["port".into(), "key".into()],
                compile_env: false,
            }
        );
    }

    #[test]
    fn an_app_file_of_a_library_says_little() {
        for text in [
            "{application,a,[{vsn,\"1\"}]}.",
            "{application,a,[{vsn,\"1\"},{mod,[]},{modules,\"\"}]}.",
        ] {
            let app = Resource::read(text.as_bytes()).unwrap();
            assert_eq!(
                (app.start_module, app.modules, app.applications),
                (None, vec![], vec![])
            );
        }
    }

    #[test]
    fn app_files_of_another_shape() {
        for (text, problem) in [
            ("{app,a,[]}.", "it is not {application, Name, Properties}"),
            ("{application,a,[]}.", "vsn is not a string"),
            ("{application,a,[{vsn,1}]}.", "vsn is not a string"),
            (
                "{application,a,[{vsn,\"1\"},{modules,[1]}]}.",
                "modules is not a list of atoms",
            ),
            (
                "{application,a,[{vsn,\"1\"},{modules,['a/b']}]}.",
                "modules is not a list of atoms",
            ),
            (
                "{application,a,[{vsn,\"1\"},{mod,a}]}.",
                "mod is not {Module, StartArgs}",
            ),
            (
                "{application,a,[{vsn,\"1\"},{applications,b}]}.",
                "applications is not a list of atoms",
            ),
        ] {
            assert_eq!(
                Resource::read(text.as_bytes()).unwrap_err().to_string(),
                problem,
                "{text}"
            );
        }
    }
}
