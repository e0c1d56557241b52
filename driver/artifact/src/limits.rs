//! How much an artifact may be: the same for who packs one and for who takes one in, so that what was packed unpacks.

use std::fmt;

use crate::manifest::{File, Manifest};

/// The most an artifact may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files and empty directories. A release of Phoenix with OTP has 4 000 files; asset trees of tens of thousands exist.
    pub entries: u64,
    /// Bytes of one file. The largest that releases carry are compiled libraries for numerics, of half a gigabyte.
    pub entry_bytes: u64,
    /// Bytes of all files. A disk holds them twice while they are unpacked beside the release.
    pub total_bytes: u64,
    /// Bytes of the manifest, which is held in memory, some ten times over. Two thousand modules take two megabytes, a hundred
    /// thousand files fifteen.
    pub manifest_bytes: u64,
    /// Bytes unpacked for one byte packed, beyond the first [`RATIO_FREE`]. Beams have 3, text 5; zeros 1 000.
    pub ratio: u64,
}

/// Bytes unpacked before their ratio to the packed ones counts: as much as that fits in memory, and small artifacts may
/// hold what compresses well.
pub const RATIO_FREE: u64 = 64 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 100_000,
            entry_bytes: 2 << 30,
            total_bytes: 8 << 30,
            manifest_bytes: 32 << 20,
            ratio: 200,
        }
    }
}

/// Which limit is broken, and by how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitError {
    /// Too many files and directories.
    Entries {
        /// How many.
        found: u64,
        /// How many there may be.
        limit: u64,
    },
    /// A file is too large.
    Entry {
        /// Which.
        path: String,
        /// Its bytes.
        found: u64,
        /// How many it may have.
        limit: u64,
    },
    /// All files together are too large.
    Total {
        /// Their bytes.
        found: u64,
        /// How many there may be.
        limit: u64,
    },
    /// The manifest is too long.
    Manifest {
        /// Its bytes.
        found: u64,
        /// How many it may have.
        limit: u64,
    },
    /// It unpacks to too much for its size.
    Ratio {
        /// Bytes packed so far.
        packed: u64,
        /// Bytes unpacked from them.
        unpacked: u64,
        /// How many for one there may be.
        limit: u64,
    },
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries { found, limit } => {
                write!(
                    f,
                    "it has {found} files and directories, more than the {limit} that are taken"
                )
            }
            Self::Entry { path, found, limit } => {
                write!(
                    f,
                    "{path} has {found} bytes, more than the {limit} that one file may have"
                )
            }
            Self::Total { found, limit } => {
                write!(
                    f,
                    "its files have {found} bytes, more than the {limit} that all may have"
                )
            }
            Self::Manifest { found, limit } => {
                write!(
                    f,
                    "its manifest has {found} bytes, more than the {limit} that are read"
                )
            }
            Self::Ratio {
                packed,
                unpacked,
                limit,
            } => write!(
                f,
                "{packed} bytes of it unpack to {unpacked}, more than {limit} for one"
            ),
        }
    }
}

impl std::error::Error for LimitError {}

impl Limits {
    /// Whether the files of a manifest are within them.
    pub(crate) fn admit(&self, manifest: &Manifest) -> Result<(), LimitError> {
        self.admit_entries((manifest.files.len() + manifest.empty.len()) as u64)?;
        let mut total = 0_u64;
        for (path, File { size, .. }) in &manifest.files {
            self.admit_file(path.as_str(), *size)?;
            total = total.saturating_add(*size);
        }
        self.admit_total(total)
    }

    /// Whether so many bytes of all files are.
    ///
    /// # Errors
    /// [`LimitError::Total`].
    pub fn admit_total(&self, found: u64) -> Result<(), LimitError> {
        if found > self.total_bytes {
            return Err(LimitError::Total {
                found,
                limit: self.total_bytes,
            });
        }
        Ok(())
    }

    /// Whether so many files and directories are.
    ///
    /// # Errors
    /// [`LimitError::Entries`].
    pub fn admit_entries(&self, found: u64) -> Result<(), LimitError> {
        if found > self.entries {
            return Err(LimitError::Entries {
                found,
                limit: self.entries,
            });
        }
        Ok(())
    }

    /// Whether a file of so many bytes is.
    pub(crate) fn admit_file(&self, path: &str, found: u64) -> Result<(), LimitError> {
        if found > self.entry_bytes {
            return Err(LimitError::Entry {
                path: path.to_owned(),
                found,
                limit: self.entry_bytes,
            });
        }
        Ok(())
    }

    /// Whether a manifest of so many bytes is.
    pub(crate) fn admit_manifest(&self, found: u64) -> Result<(), LimitError> {
        if found > self.manifest_bytes {
            return Err(LimitError::Manifest {
                found,
                limit: self.manifest_bytes,
            });
        }
        Ok(())
    }

    /// Whether so many bytes out of so few are.
    pub(crate) fn admit_ratio(&self, packed: u64, unpacked: u64) -> Result<(), LimitError> {
        if unpacked > RATIO_FREE.saturating_add(packed.saturating_mul(self.ratio)) {
            return Err(LimitError::Ratio {
                packed,
                unpacked,
                limit: self.ratio,
            });
        }
        Ok(())
    }
}
