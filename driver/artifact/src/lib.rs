//! What a release is: its applications, its modules, the facts of each beam file, what differs between two sets of code;
//! and what an artifact is: packing, unpacking, digests and signatures.
//!
//! A pure room: no clock, no environment, no network, nothing kept between calls; files only at paths handed in.
//! Nothing in a file is trusted: a broken one is an error that names it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod beam;

mod application;
mod archive;
pub mod boot;
mod chain;
mod code_id;
mod facts;
mod hex;
mod limits;
mod manifest;
mod name;
mod pack;
mod release;
mod terms;
mod text;
mod trust;

pub use application::{App, Origin, ResourceError, StartType};
pub use archive::{ArchiveError, Examined, unpack, verify};
pub use chain::chain;
pub use code_id::{CodeId, CodeIdError, code_id};
pub use facts::{Behaviour, Export, ExportError, ModuleFacts};
pub use limits::{LimitError, Limits, RATIO_FREE};
pub use manifest::{
    Contents, FORMAT, File, FileDigest, FileDigestError, Format, MANIFEST_FILE, Manifest, ManifestError,
    Module, Toolchain,
};
pub use name::{ModuleName, ModuleNameError, ReleasePath, ReleasePathError};
pub use pack::{PackError, Packed, Told, pack};
pub use release::{Naming, ReadModuleError, ReadReleaseError, Release};
pub use text::TermError;
pub use trust::{KeyError, PrivateKey, PublicKey, Signature, Trust, TrustError, Trusted};

/// What the fuzz targets call of this room's own parsers.
#[cfg(fuzzing)]
pub mod fuzzing {
    use std::{io::Write as _, ops::ControlFlow};

    use flate2::{Compression, write::GzEncoder};

    use crate::{
        Limits, Trust,
        application::{Rel, Resource},
    };

    /// A tar, put into the gzip that no fuzzer would get right.
    pub fn artifact(tar: &[u8]) {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
        let packed = gzip.write_all(tar).and_then(|()| gzip.finish());
        let told = &mut |_, _| ControlFlow::Continue(());
        if let Ok(packed) = packed
            && let Ok(taken) = crate::verify(&*packed, &Trust::default(), None, &Limits::default(), told)
        {
            assert_eq!(taken.size, packed.len() as u64);
            assert!(taken.manifest.check_files().is_ok());
        }
    }

    /// The text of a `.rel` and of an `.app` file.
    pub fn resource(bytes: &[u8]) {
        let _ = (Rel::read(bytes), Resource::read(bytes));
    }
}
