//! The manifest: what an artifact says of the code in it.
//!
//! The same manifest always gives the same bytes. It is read by older and newer builds of flyhot, so unknown fields are
//! skipped; a format that is not known is refused as a whole. What is signed are the bytes as they lie in the artifact,
//! so there is no signature in them, and signing is not done here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, Read},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use sha2::{Digest, Sha256};

use crate::{
    application::{App, Origin},
    code_id::{CodeId, code_id},
    facts::ModuleFacts,
    hex,
    name::{ModuleName, ReleasePath},
    pack::PIECE,
};

/// The format written, and the only one read.
pub const FORMAT: u32 = 1;

/// The manifest's place in an artifact and in what it was unpacked to.
pub const MANIFEST_FILE: &str = "flyhot.manifest.json";

/// [`FORMAT`]: a value of this type can be no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Format;

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(FORMAT)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match u32::deserialize(from)? {
            FORMAT => Ok(Format),
            other => Err(D::Error::custom(format_args!("format {other}"))),
        }
    }
}

/// The sha256 of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(transparent)]
pub struct FileDigest(#[serde(with = "hex")] pub [u8; 32]);

impl FileDigest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of what is read to its end, and how many bytes that are.
    ///
    /// # Errors
    /// Those of `from`.
    pub fn read(mut from: impl Read) -> io::Result<(Self, u64)> {
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut piece = vec![0; PIECE];
        loop {
            match from.read(&mut piece) {
                Ok(0) => return Ok((Self(hash.finalize().into()), size)),
                Ok(read) => {
                    size += read as u64;
                    hash.update(piece.get(..read).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// A text that is not 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a sha256: 64 lower-case hex digits")]
pub struct FileDigestError(String);

impl FromStr for FileDigest {
    type Err = FileDigestError;

    fn from_str(text: &str) -> Result<Self, FileDigestError> {
        hex::decode(text)
            .map(Self)
            .ok_or_else(|| FileDigestError(text.into()))
    }
}

/// What code was built with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// ERTS version, `"13.1.5"`; it implies the OTP release.
    pub erts: String,
    /// Elixir version; `None` for a release without Elixir.
    pub elixir: Option<String>,
    /// The processor its ERTS is for, as `system_architecture` begins: `"x86_64"`; `None` for a release without ERTS,
    /// or for a processor that is not known here.
    #[serde(default)]
    pub architecture: Option<String>,
}

/// One module of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its application; empty for a consolidated protocol whose application is not in the release.
    pub app: String,
    /// Whose this build of it is: a consolidated protocol is the release's own, whosever protocol it is.
    pub origin: Origin,
    /// Whether it is a consolidated protocol.
    pub consolidated: bool,
    /// Its file.
    pub path: ReleasePath,
    /// The file's size in bytes.
    pub size: u64,
    /// The file's sha256.
    pub sha256: FileDigest,
    /// What the file says.
    pub facts: ModuleFacts,
}

/// What of a release an artifact holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contents {
    /// What it adds to OTP and Elixir: beams, `.app` files and `priv` of its own applications, its consolidated protocols,
    /// and what a node starts by, without the configuration.
    Hot,
    /// Everything in its directory.
    Full,
}

/// One file of an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its size in bytes.
    pub size: u64,
    /// Its sha256.
    pub sha256: FileDigest,
    /// Whether its owner may execute it; of its mode nothing else is kept.
    pub executable: bool,
}

/// A release's code, described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: Format,
    /// The release's name.
    pub name: String,
    /// The release's version.
    pub version: String,
    /// What it was built with.
    pub toolchain: Toolchain,
    /// Its applications, by name.
    pub apps: BTreeMap<String, App>,
    /// Its modules, by name; OTP's and Elixir's are there to be compared with a node's.
    pub modules: BTreeMap<ModuleName, Module>,
    /// sha256 of each configuration file it has: `runtime.exs`, `sys.config`, `vm.args`.
    pub configuration: BTreeMap<String, FileDigest>,
    /// The code id of the modules that are its own.
    pub code_id: CodeId,
    /// What of the release the artifact holds.
    pub contents: Contents,
    /// The files of the artifact, all of them, by path.
    pub files: BTreeMap<ReleasePath, File>,
    /// The directories of the artifact that have nothing in them.
    pub empty: BTreeSet<ReleasePath>,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or JSON of another shape.
    #[error("it is not a manifest")]
    Json(#[source] serde_json::Error),
    /// Written by a build of flyhot with another format.
    #[error("it has format {found}; this build of flyhot reads format {FORMAT}")]
    Format {
        /// The format it has.
        found: u32,
    },
    /// The code id is not the one of its modules.
    #[error("its code id is {said}, the one of its modules {computed}")]
    CodeId {
        /// What it says.
        said: CodeId,
        /// What its modules give.
        computed: CodeId,
    },
    /// A module that is its own is not among its files, or another file stands there.
    #[error("it lists the module {module} in {path}, and no such file")]
    Module {
        /// The module.
        module: ModuleName,
        /// Where it should be.
        path: ReleasePath,
    },
    /// A beam file that a node would load is none of its modules.
    #[error("{path} is none of the modules that it lists")]
    Beam {
        /// The file.
        path: ReleasePath,
    },
    /// Two paths are one on a disk that does not tell upper from lower case, or a file lies below a file.
    #[error("{first} and {second} cannot both be there")]
    Collision {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
}

impl Manifest {
    /// The bytes to store and to sign: JSON, fields in a fixed order, names sorted, no white space.
    ///
    /// # Errors
    /// None that a value of these types causes; JSON's own.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads what [`Manifest::to_bytes`] wrote, here or in another build.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        /// Read first: a later format may differ in anything else.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if head.format != FORMAT {
            return Err(ManifestError::Format { found: head.format });
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        let own = manifest
            .modules
            .iter()
            .filter(|(_, module)| module.origin == Origin::Own);
        let computed = code_id(own.map(|(name, module)| (name, module.facts.md5)));
        if computed != manifest.code_id {
            return Err(ManifestError::CodeId {
                said: manifest.code_id,
                computed,
            });
        }
        manifest.check_files()?;
        Ok(manifest)
    }

    /// What an artifact of it holds behind the manifest, in order; a directory that has nothing in it is no file.
    pub(crate) fn entries(&self) -> Vec<(&ReleasePath, Option<&File>)> {
        let files = self.files.iter().map(|(path, file)| (path, Some(file)));
        let mut entries: Vec<_> = files.chain(self.empty.iter().map(|path| (path, None))).collect();
        entries.sort_unstable_by_key(|(path, _)| *path);
        entries
    }

    /// Whether its paths can lie beside each other, and its own modules are among them.
    ///
    /// # Errors
    /// [`ManifestError::Collision`], [`ManifestError::Module`].
    pub(crate) fn check_files(&self) -> Result<(), ManifestError> {
        collisions(self.files.keys().chain(&self.empty))?;
        for (name, module) in &self.modules {
            let file = self.files.get(&module.path);
            let same = match file {
                Some(file) => (file.size, file.sha256) == (module.size, module.sha256),
                None => module.origin != Origin::Own,
            };
            if !same {
                return Err(ManifestError::Module {
                    module: name.clone(),
                    path: module.path.clone(),
                });
            }
        }
        for path in self.files.keys() {
            // A protocol is listed where it is consolidated, and has a file of the same name that is not.
            let listed = loadable(path).is_none_or(|module| self.modules.contains_key(module));
            if !listed {
                return Err(ManifestError::Beam { path: path.clone() });
            }
        }
        Ok(())
    }
}

/// The module whose file this is, if it lies where a node looks for modules.
fn loadable(path: &ReleasePath) -> Option<&str> {
    let parts: Vec<_> = path.as_str().split('/').collect();
    match parts[..] {
        ["lib", _, "ebin", file] | ["releases", _, "consolidated", file] => file.strip_suffix(".beam"),
        _ => None,
    }
}

/// Each path and each directory above it, once, however they are spelled.
fn collisions<'a>(paths: impl Iterator<Item = &'a ReleasePath>) -> Result<(), ManifestError> {
    /// A directory may be met again, a file or an empty directory may not.
    struct Met<'a> {
        path: &'a str,
        leaf: bool,
    }
    let manifest = Met {
        path: MANIFEST_FILE,
        leaf: true,
    };
    let mut met: BTreeMap<String, Met<'_>> = BTreeMap::from([(MANIFEST_FILE.to_owned(), manifest)]);
    for path in paths {
        let path = path.as_str();
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let part = path.get(..end).unwrap_or(path);
            let leaf = end == path.len();
            let Some(before) = met.insert(part.to_lowercase(), Met { path: part, leaf }) else {
                continue;
            };
            if before.path != part || before.leaf || leaf {
                return Err(ManifestError::Collision {
                    first: before.path.to_owned(),
                    second: path.to_owned(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collide(paths: &[&str]) -> bool {
        let paths: Vec<_> = paths.iter().map(|path| ReleasePath::new(path).unwrap()).collect();
        collisions(paths.iter()).is_err()
    }

    #[test]
    fn paths_that_cannot_lie_beside_each_other() {
        assert!(!collide(&[
            "lib/a/ebin/a.beam",
            "lib/a/ebin/b.beam",
            "lib/a/priv",
            "lib/ab"
        ]));
        for paths in [
            ["lib/a", "lib/A"],
            ["lib/a/x", "LIB/b/y"],
            ["lib/a", "lib/a/b"],
            ["lib/a/b", "lib/a"],
            ["priv/É", "priv/é"],
            ["lib/a", "Flyhot.manifest.json"],
        ] {
            assert!(collide(&paths), "{paths:?}");
        }
    }
}
