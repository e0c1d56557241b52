//! The manifest: what an artifact says of the code in it.
//!
//! Bytes that are signed: the same manifest always gives the same bytes. It is read by older and newer builds of
//! flyhot, so unknown fields are skipped; a format that is not known is refused as a whole. Signing and checking
//! signatures is not done here.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use sha2::{Digest, Sha256};

use crate::{
    application::{App, Origin},
    code_id::{CodeId, code_id},
    facts::ModuleFacts,
    hex,
    name::{ModuleName, ReleasePath},
};

/// The format written, and the only one read.
pub const FORMAT: u32 = 1;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileDigest(#[serde(with = "hex")] pub [u8; 32]);

impl FileDigest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
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
    /// The signature over the bytes that the manifest has without this field.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signature: Option<String>,
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
        Ok(manifest)
    }
}
