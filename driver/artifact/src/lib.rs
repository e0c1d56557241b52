//! What a release is: its applications, its modules, the facts of each beam file, and what differs between two
//! sets of code.
//!
//! A pure room: no clock, no environment, no network, nothing kept between calls; files only at paths handed in.
//! Nothing in a file is trusted: a broken one is an error that names it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod beam;

mod application;
mod code_id;
mod facts;
mod hex;
mod manifest;
mod name;
mod release;
mod terms;
mod text;

pub use application::{App, Origin, ResourceError, StartType};
pub use code_id::{CodeId, CodeIdError, code_id};
pub use facts::{Behaviour, Export, ExportError, ModuleFacts};
pub use manifest::{FORMAT, FileDigest, Format, Manifest, ManifestError, Module, Toolchain};
pub use name::{ModuleName, ModuleNameError, ReleasePath, ReleasePathError};
pub use release::{Naming, ReadModuleError, ReadReleaseError, Release};
pub use text::TermError;

/// What the fuzz targets call of this room's own parsers.
#[cfg(fuzzing)]
pub mod fuzzing {
    use crate::application::{Rel, Resource};

    /// The text of a `.rel` and of an `.app` file.
    pub fn resource(bytes: &[u8]) {
        let _ = (Rel::read(bytes), Resource::read(bytes));
    }
}
