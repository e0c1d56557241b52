//! An artifact on its way here: read once from its first byte to its last, whatever breaks off in between.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flyhot_artifact::FileDigest;
use sha2::{Digest as _, Sha256};

use super::{Fault, Patience, REREAD, S3, TRY, fault, version, within};
use crate::{
    files::{PIECE, apart, failed},
    key::Key,
    store::{Moved, StoreError, Version},
};

/// What was found under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A file of this digest, every byte of which was looked at.
    Whole(FileDigest),
    /// A file of another size; not a byte of it was looked at.
    OtherSize,
}

/// Where the bytes go: through a digest, and to a file where there is one.
#[derive(Debug)]
pub(super) struct Sink {
    file: Option<(File, PathBuf)>,
    digest: Sha256,
    len: u64,
}

impl Sink {
    /// Bytes that are looked at, and go to `file`, which is beside what is named `path`.
    pub(super) fn new(file: Option<(File, &Path)>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            file: file.map(|(file, path)| (file, path.to_owned())),
            digest: Sha256::new(),
            len: 0,
        }))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.digest.update(bytes);
        if let Some((file, path)) = &mut self.file {
            file.write_all(bytes).map_err(failed("cannot write", path))?;
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn begin_again(&mut self) -> Result<(), StoreError> {
        self.digest = Sha256::new();
        self.len = 0;
        if let Some((file, path)) = &mut self.file {
            let begun = file.set_len(0).and_then(|()| file.seek(io::SeekFrom::Start(0)));
            begun.map_err(failed("cannot write", path))?;
        }
        Ok(())
    }
}

fn held(sink: &Mutex<Sink>) -> MutexGuard<'_, Sink> {
    sink.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A disk may keep one waiting, and whoever renews the lock meanwhile must not wait.
async fn take(sink: &Arc<Mutex<Sink>>, bytes: Vec<u8>) -> Result<(), Fault> {
    let sink = Arc::clone(sink);
    apart(move || held(&sink).take(&bytes)).await.map_err(Fault::here)
}

async fn begin_again(sink: &Arc<Mutex<Sink>>) -> Result<(), StoreError> {
    let sink = Arc::clone(sink);
    apart(move || held(&sink).begin_again()).await
}

/// Where the next try goes on.
#[derive(Default)]
struct Begun {
    /// What the object was when its first byte was read.
    version: Option<Version>,
    /// Its bytes.
    total: u64,
}

impl S3 {
    /// Reads what lies at `key` to its end; not where `size` is given and it has another.
    pub(super) async fn read_through(
        &self,
        key: &Key,
        size: Option<u64>,
        sink: &Arc<Mutex<Sink>>,
        moved: &Moved,
    ) -> Result<Found, StoreError> {
        let mut begun = Begun::default();
        let mut patience = Patience::new(self.give_up);
        let mut again = 0;
        begin_again(sink).await?;
        loop {
            let before = held(sink).len;
            match self.read_on(key, size, &mut begun, sink, moved).await {
                Ok(Some(())) => {
                    let digest = held(sink).digest.clone();
                    return Ok(Found::Whole(FileDigest(digest.finalize().into())));
                }
                Ok(None) => return Ok(Found::OtherSize),
                Err(Fault::Absent) => return Ok(Found::Nothing),
                // It became another meanwhile, or what is there cannot be gone on with.
                Err(Fault::Lost) if again < REREAD => {
                    again += 1;
                    begun = Begun::default();
                    begin_again(sink).await?;
                }
                Err(Fault::Lost) => {
                    let why = "it is another each time it is read".to_owned();
                    return Err(self.failed("reading", key, patience.tries, Fault::Again(why)));
                }
                // However often it breaks off, what goes on will come to its end.
                Err(Fault::Again(_)) if held(sink).len > before => {
                    patience = Patience::new(self.give_up);
                    // One that gives a byte and hangs up is not asked as often as it has bytes.
                    tokio::time::sleep(super::FIRST_WAIT).await;
                }
                Err(Fault::Again(_)) if patience.wait().await => {}
                Err(fault) => return Err(self.failed("reading", key, patience.tries, fault)),
            }
        }
    }

    /// One try; from where the one before broke off. `None` where it has another size.
    async fn read_on(
        &self,
        key: &Key,
        size: Option<u64>,
        begun: &mut Begun,
        sink: &Arc<Mutex<Sink>>,
        moved: &Moved,
    ) -> Result<Option<()>, Fault> {
        let from = held(sink).len;
        let get = self.client.get_object().bucket(&self.bucket).key(key.as_str());
        let get = match &begun.version {
            Some(version) if from > 0 => get.range(format!("bytes={from}-")).if_match(&version.0),
            _ => get,
        };
        let got = Box::pin(within(TRY, async { get.send().await.map_err(fault) })).await?;
        let length = got.content_length().and_then(|length| u64::try_from(length).ok());
        let Some(length) = length else {
            return Err(Fault::Again("it answers without a length".to_owned()));
        };
        let version = version(got.e_tag())?;
        if from == 0 {
            if size.is_some_and(|size| size != length) {
                return Ok(None);
            }
            *begun = Begun {
                version: Some(version),
                total: length,
            };
        } else {
            let goes_on = format!("bytes {from}-{}/{}", begun.total.saturating_sub(1), begun.total);
            if got.content_range() != Some(&*goes_on) || begun.version != Some(version) {
                return Err(Fault::Lost);
            }
        }
        moved.set(from, begun.total);
        let mut body = got.body;
        let mut bytes = Vec::with_capacity(PIECE);
        let mut left = length;
        let broken = loop {
            if left == 0 {
                break None;
            }
            let silent = || Fault::Again(format!("not a byte within {} s", TRY.as_secs()));
            let piece = match tokio::time::timeout(TRY, body.next()).await {
                Err(_) => break Some(silent()),
                Ok(None) => break Some(Fault::Again("it ends before its end".to_owned())),
                Ok(Some(Err(error))) => break Some(Fault::Again(flyhot_artifact::chain(&error))),
                Ok(Some(Ok(piece))) => piece,
            };
            // No more than was announced, whatever comes.
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            left -= taken as u64;
            bytes.extend_from_slice(&piece[..taken]);
            if bytes.len() >= PIECE {
                take(sink, std::mem::replace(&mut bytes, Vec::with_capacity(PIECE))).await?;
                moved.set(held(sink).len, begun.total);
            }
        };
        // What came before it broke off need not come again.
        take(sink, bytes).await?;
        moved.set(held(sink).len, begun.total);
        broken.map_or(Ok(Some(())), Err)
    }
}
