//! A release directory, read once.
//!
//! Nothing is written, and no file outside the directory handed in is opened (links inside it are followed: relx
//! links applications in development). The bytes of modules are not kept: a module is read again when it is
//! needed, and refused if it changed meanwhile.
//!
//! Source: release structure of OTP design principles, `mix release`, relx.

mod architecture;
mod modules;
mod private;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use md5::{Digest as _, Md5};

use crate::{
    application::{App, Origin, Rel, Resource, ResourceError, StartType, is_plain},
    beam::{Beam, BeamError, Import},
    code_id::{CodeId, code_id},
    manifest::{Contents, File, FileDigest, Format, Manifest, Module, Toolchain},
    name::{ModuleName, ReleasePath},
};

/// Who in a release may call some modules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    /// Of each that is named: one module that does.
    pub by: BTreeMap<String, String>,
    /// A module that asks applications for their modules, and so may find one that none names.
    pub listing: Option<String>,
}

fn lists_modules(import: &Import) -> bool {
    match &*import.module {
        "application" => matches!(&*import.function, "get_key" | "get_all_key"),
        "Elixir.Application" => import.function == "spec",
        _ => false,
    }
}

/// The most bytes a file of Erlang terms or a configuration may have. The longest `.app` of OTP and Elixir has
/// 30 kB; one with a hundred thousand modules would have 5 MB.
const MAX_TEXT: u64 = 16 * 1024 * 1024;

/// The most bytes a beam file may have on disk. The largest of OTP and Elixir have 1 MB, generated ones of users
/// some tens.
pub(crate) const MAX_BEAM: u64 = 256 * 1024 * 1024;

/// The files of `releases/VSN` that configure a node when it boots.
const CONFIGURATION: [&str; 3] = ["runtime.exs", "sys.config", "vm.args"];

/// `.rel` files that relx writes beside the release's own.
const NOT_THE_RELEASE: [&str; 2] = ["no_dot_erlang.rel", "start_clean.rel"];

/// What a release directory holds, in the version that `releases/start_erl.data` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The directory.
    pub root: PathBuf,
    /// The release's name.
    pub name: String,
    /// The release's version.
    pub version: String,
    /// What it was built with and runs on.
    pub toolchain: Toolchain,
    /// Its applications, by name.
    pub apps: BTreeMap<String, App>,
    /// Its modules, by name, as the code path would find them: a consolidated protocol before its source.
    pub modules: BTreeMap<ModuleName, Module>,
    /// sha256 of each configuration file it has: `runtime.exs`, `sys.config`, `vm.args`.
    pub configuration: BTreeMap<String, FileDigest>,
    /// md5 of the same files: what a node without crypto can tell of its own (`erlang:md5/1`).
    pub configuration_md5: BTreeMap<String, [u8; 16]>,
    /// Of its own applications: a digest of each file below `priv`, by its path there.
    pub private: BTreeMap<String, BTreeMap<String, [u8; 16]>>,
    /// Of its own applications: the keys that the `env` of their `.app` files sets.
    pub environment: BTreeMap<String, Vec<String>>,
    /// Modules that the `.app` file of their application names: those that an embedded node loads when it boots.
    pub listed: BTreeSet<ModuleName>,
    /// Of its own applications that say what they were compiled with: the text of their `.app` files.
    pub compile_env: BTreeMap<String, String>,
    /// Those of its own applications that have an `.appup` file.
    pub appups: BTreeSet<String>,
}

/// Why a release cannot be read. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum ReadReleaseError {
    /// A directory cannot be listed.
    #[error("cannot list the directory {path}")]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than any of its kind should be.
    #[error("{path} has {bytes} bytes, more than the {limit} that are read")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// There is no `releases/start_erl.data`.
    #[error("{path} is missing, the file that names the version to start: is this a release directory?")]
    NoStartErl {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// `start_erl.data` is not two words.
    #[error("{path} does not hold the versions of ERTS and of the release, but {found:?}")]
    StartErl {
        /// The file.
        path: PathBuf,
        /// The first of what it holds.
        found: String,
    },
    /// There is no `.rel` file for the version, or there are several.
    #[error("{path} must hold one .rel file and holds {found}")]
    RelFiles {
        /// The directory of the version.
        path: PathBuf,
        /// How many it holds.
        found: usize,
    },
    /// A `.rel` or `.app` file is not what it should be.
    #[error("{path} is not a resource file of a release")]
    Resource {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ResourceError,
    },
    /// A file says another name or version than the place it was found in.
    #[error("{path} is of {found}, not of {expected}")]
    Mislabelled {
        /// The file.
        path: PathBuf,
        /// What the place says.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// The `.rel` file names an application twice.
    #[error("{path} names the application {app} twice")]
    AppTwice {
        /// The `.rel` file.
        path: PathBuf,
        /// The application.
        app: String,
    },
    /// The directory of an application is missing.
    #[error("{path}, the directory of the application {app}, is missing")]
    NoApp {
        /// The directory.
        path: PathBuf,
        /// The application.
        app: String,
    },
    /// A `.beam` file is broken.
    #[error("{path} is not a usable beam file")]
    Beam {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BeamError,
    },
    /// Two applications have a module of the same name.
    #[error("the module {module} is in two places: {first} and {second}")]
    ModuleTwice {
        /// The module.
        module: String,
        /// The first file.
        first: PathBuf,
        /// The second file.
        second: PathBuf,
    },
    /// A module that an application lists has no file.
    #[error("{path} is missing: the application {app} lists the module {module}")]
    NoModule {
        /// Where it should be.
        path: PathBuf,
        /// The application.
        app: String,
        /// The module.
        module: ModuleName,
    },
}

/// Why a module cannot be read again.
#[derive(Debug, thiserror::Error)]
pub enum ReadModuleError {
    /// The release has no such module.
    #[error("the release has no module {0}")]
    Unknown(String),
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no longer the one the release was read from.
    #[error("{path} has changed since the release was read")]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

impl Release {
    /// Reads a release made by Mix or relx.
    ///
    /// # Errors
    /// [`ReadReleaseError`]: something is missing, broken or contradictory; the file is named.
    pub fn read(root: &Path) -> Result<Self, ReadReleaseError> {
        let (erts, version) = start_erl(root)?;
        let version_dir = root.join("releases").join(&version);
        let (rel_path, rel) = rel_file(&version_dir)?;
        if rel.version != version {
            return Err(ReadReleaseError::Mislabelled {
                path: rel_path,
                expected: format!("version {version}"),
                found: format!("version {}", rel.version),
            });
        }
        let mut apps = BTreeMap::new();
        let mut listed = BTreeMap::new();
        let mut own_private = BTreeMap::new();
        let mut environment = BTreeMap::new();
        let mut compile_env = BTreeMap::new();
        let mut appups = BTreeSet::new();
        for (name, version, start) in rel.apps {
            let (app, resource) = application(root, &name, &version, start)?;
            if let (Some(dir), Some((resource, text))) = (&app.dir, resource) {
                listed.insert(name.clone(), resource.modules);
                if app.origin == Origin::Own {
                    own_private.insert(
                        name.clone(),
                        private::read(&root.join(dir.as_str()).join("priv"))?,
                    );
                    environment.insert(name.clone(), resource.environment);
                    if resource.compile_env {
                        compile_env.insert(name.clone(), text);
                    }
                    if root
                        .join(dir.as_str())
                        .join(format!("ebin/{name}.appup"))
                        .is_file()
                    {
                        appups.insert(name.clone());
                    }
                }
            }
            if apps.insert(name.clone(), app).is_some() {
                return Err(ReadReleaseError::AppTwice {
                    path: rel_path,
                    app: name,
                });
            }
        }
        let modules = modules::read(root, &version, &apps, &listed)?;
        let architecture = architecture::of(&root.join(format!("erts-{erts}/bin/beam.smp")));
        let mut configuration = BTreeMap::new();
        let mut configuration_md5 = BTreeMap::new();
        for file in CONFIGURATION {
            if let Some(bytes) = read_if_there(&version_dir.join(file), MAX_TEXT)? {
                configuration.insert(file.to_owned(), FileDigest::of(&bytes));
                configuration_md5.insert(file.to_owned(), Md5::digest(&bytes).into());
            }
        }
        Ok(Self {
            root: root.to_owned(),
            name: rel.name,
            version,
            toolchain: Toolchain {
                erts,
                elixir: apps.get("elixir").map(|app: &App| app.version.clone()),
                architecture,
            },
            apps,
            modules,
            configuration,
            configuration_md5,
            private: own_private,
            environment,
            listed: listed.into_values().flatten().collect(),
            compile_env,
            appups,
        })
    }

    /// The bytes of a module's file, as they were when the release was read.
    ///
    /// # Errors
    /// [`ReadModuleError`]: there is no such module, or its file cannot be read or has changed.
    pub fn read_module(&self, name: &str) -> Result<Vec<u8>, ReadModuleError> {
        let module = self
            .modules
            .get(name)
            .ok_or_else(|| ReadModuleError::Unknown(name.into()))?;
        let path = self.root.join(module.path.as_str());
        // A file that grew is not read to its end.
        let bytes = match read(&path, module.size) {
            Ok(bytes) => bytes,
            Err(ReadReleaseError::Read { path, source }) => {
                return Err(ReadModuleError::Read { path, source });
            }
            Err(_) => return Err(ReadModuleError::Changed { path }),
        };
        if FileDigest::of(&bytes) != module.sha256 {
            return Err(ReadModuleError::Changed { path });
        }
        Ok(bytes)
    }

    /// The `.app` file of one of its applications.
    ///
    /// # Errors
    /// [`ReadModuleError`]: there is no such application, or its file cannot be read.
    pub fn read_resource(&self, app: &str) -> Result<Vec<u8>, ReadModuleError> {
        read_again(&self.directory_of(app)?.join(format!("ebin/{app}.app")))
    }

    /// What lies below the `priv` of one of its applications: path there, mode and bytes of each; paths of directories end in a
    /// slash.
    ///
    /// # Errors
    /// [`ReadModuleError`]: one cannot be read.
    pub fn read_private(&self, app: &str) -> Result<Vec<(String, u32, Vec<u8>)>, ReadModuleError> {
        let directory = self.directory_of(app)?.join("priv");
        let paths = private::whole(&directory).map_err(|error| unread(directory.clone(), error))?;
        paths
            .into_iter()
            .map(|below| {
                let path = directory.join(&below);
                let bytes = match below.ends_with('/') {
                    true => Vec::new(),
                    false => read(&path, MAX_BEAM).map_err(|error| unread(path.clone(), error))?,
                };
                let about = fs::metadata(&path).map_err(|source| ReadModuleError::Read { path, source })?;
                Ok((below, about.permissions().mode() & 0o777, bytes))
            })
            .collect()
    }

    fn directory_of(&self, app: &str) -> Result<PathBuf, ReadModuleError> {
        let dir = self.apps.get(app).and_then(|app| app.dir.as_ref());
        let dir = dir.ok_or_else(|| ReadModuleError::Unknown(app.into()))?;
        Ok(self.root.join(dir.as_str()))
    }

    /// The boot files and the `.rel` file of its version, by name: what a node starts with.
    ///
    /// # Errors
    /// [`ReadModuleError`]: one cannot be read.
    pub fn read_start(&self) -> Result<Vec<(String, Vec<u8>)>, ReadModuleError> {
        let named = |path: PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Ok((name.into_owned(), read_again(&path)?))
        };
        self.start_files()?.into_iter().map(named).collect()
    }

    /// Those files.
    pub(crate) fn start_files(&self) -> Result<Vec<PathBuf>, ReadModuleError> {
        let dir = self.root.join("releases").join(&self.version);
        let mut paths = list(&dir).map_err(|error| unread(dir.clone(), error))?;
        paths.retain(|path| {
            path.extension()
                .is_some_and(|kind| kind == "boot" || kind == "rel")
        });
        Ok(paths)
    }

    /// Which of these modules the release's own code may call; nothing is read where there are none.
    ///
    /// # Errors
    /// [`ReadModuleError`]: a file cannot be read or has changed.
    pub fn naming(&self, modules: &[String]) -> Result<Naming, ReadModuleError> {
        let mut naming = Naming::default();
        let own = self
            .modules
            .iter()
            .filter(|(_, module)| module.origin == Origin::Own);
        for (name, module) in own.take_while(|_| !modules.is_empty()) {
            // What could be read once and has not changed can be read again.
            let Ok(beam) = Beam::parse(&self.read_module(name.as_str())?) else {
                return Err(ReadModuleError::Changed {
                    path: self.root.join(module.path.as_str()),
                });
            };
            for looked_for in modules {
                if beam.names(looked_for).unwrap_or(true) {
                    naming
                        .by
                        .entry(looked_for.clone())
                        .or_insert_with(|| name.as_str().to_owned());
                }
            }
            if naming.listing.is_none() && beam.imports().iter().any(lists_modules) {
                naming.listing = Some(name.as_str().to_owned());
            }
        }
        Ok(naming)
    }

    /// The code id of what the release adds to OTP and Elixir.
    pub fn code_id(&self) -> CodeId {
        code_id(
            self.modules
                .iter()
                .filter(|(_, module)| module.origin == Origin::Own)
                .map(|(name, module)| (name, module.facts.md5)),
        )
    }

    /// The manifest of an artifact that holds these files of it and these directories with nothing in them.
    pub(crate) fn manifest(
        &self,
        contents: Contents,
        files: BTreeMap<ReleasePath, File>,
        empty: BTreeSet<ReleasePath>,
    ) -> Manifest {
        Manifest {
            format: Format,
            name: self.name.clone(),
            version: self.version.clone(),
            toolchain: self.toolchain.clone(),
            apps: self.apps.clone(),
            modules: self.modules.clone(),
            configuration: self.configuration.clone(),
            code_id: self.code_id(),
            contents,
            files,
            empty,
        }
    }
}

fn read_again(path: &Path) -> Result<Vec<u8>, ReadModuleError> {
    read(path, MAX_TEXT).map_err(|error| unread(path.to_owned(), error))
}

fn unread(path: PathBuf, error: ReadReleaseError) -> ReadModuleError {
    match error {
        ReadReleaseError::Read { path, source } | ReadReleaseError::List { path, source } => {
            ReadModuleError::Read { path, source }
        }
        _ => ReadModuleError::Changed { path },
    }
}

/// The versions of ERTS and of the release that `releases/start_erl.data` names.
fn start_erl(root: &Path) -> Result<(String, String), ReadReleaseError> {
    let path = root.join("releases/start_erl.data");
    let Some(bytes) = read_if_there(&path, MAX_TEXT)? else {
        return Err(ReadReleaseError::NoStartErl { path });
    };
    let text = String::from_utf8_lossy(&bytes);
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        [erts, version] if is_plain(erts) && is_plain(version) => Ok((erts.into(), version.into())),
        _ => Err(ReadReleaseError::StartErl {
            path,
            found: text.chars().take(80).collect(),
        }),
    }
}

fn rel_file(version_dir: &Path) -> Result<(PathBuf, Rel), ReadReleaseError> {
    let mut paths = list(version_dir)?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default();
        path.extension().is_some_and(|extension| extension == "rel")
            && !NOT_THE_RELEASE.iter().any(|not| name == *not)
    });
    let [path] = &*paths else {
        return Err(ReadReleaseError::RelFiles {
            path: version_dir.into(),
            found: paths.len(),
        });
    };
    let rel = Rel::read(&read(path, MAX_TEXT)?).map_err(|source| ReadReleaseError::Resource {
        path: path.clone(),
        source,
    })?;
    Ok((path.clone(), rel))
}

/// An application of the `.rel` file, and its `.app` file, read and as text.
fn application(
    root: &Path,
    name: &str,
    version: &str,
    start: StartType,
) -> Result<(App, Option<(Resource, String)>), ReadReleaseError> {
    let origin = Origin::of(name);
    let mut app = App {
        name: name.into(),
        version: version.into(),
        origin,
        start,
        dir: None,
        start_module: None,
        applications: vec![],
    };
    let dir = format!("lib/{name}-{version}");
    if !root.join(&dir).is_dir() {
        // A release without ERTS takes OTP and Elixir from the machine.
        return match origin {
            Origin::Own => Err(ReadReleaseError::NoApp {
                path: root.join(dir),
                app: name.into(),
            }),
            Origin::Otp | Origin::Elixir => Ok((app, None)),
        };
    }
    let path = root.join(&dir).join(format!("ebin/{name}.app"));
    let bytes = read(&path, MAX_TEXT)?;
    let mut resource = Resource::read(&bytes).map_err(|source| ReadReleaseError::Resource {
        path: path.clone(),
        source,
    })?;
    if (&*resource.name, &*resource.version) != (name, version) {
        return Err(ReadReleaseError::Mislabelled {
            path,
            expected: format!("{name} {version}"),
            found: format!("{} {}", resource.name, resource.version),
        });
    }
    app.dir = ReleasePath::new(&dir).ok();
    app.start_module = resource.start_module.take();
    app.applications = std::mem::take(&mut resource.applications);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok((app, Some((resource, text))))
}

/// The entries of a directory, sorted.
fn list(path: &Path) -> Result<Vec<PathBuf>, ReadReleaseError> {
    let entries = fs::read_dir(path).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
    });
    let mut paths = entries.map_err(|source| ReadReleaseError::List {
        path: path.into(),
        source,
    })?;
    paths.sort_unstable();
    Ok(paths)
}

/// A file's bytes; no more than `limit` are read.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadReleaseError> {
    use io::Read as _;

    let failed = |source| ReadReleaseError::Read {
        path: path.into(),
        source,
    };
    let metadata = fs::metadata(path).map_err(failed)?;
    // A pipe would be waited for and a device read for ever.
    if !metadata.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a file",
        )));
    }
    let size = metadata.len();
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(limit)).unwrap_or(0));
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(ReadReleaseError::TooLarge {
            path: path.into(),
            bytes: size.max(limit + 1),
            limit,
        });
    }
    Ok(bytes)
}

fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ReadReleaseError> {
    match read(path, limit) {
        Err(ReadReleaseError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}
