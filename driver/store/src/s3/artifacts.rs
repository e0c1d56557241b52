//! Artifacts in a bucket: small ones by one put, larger ones in parts, and each read back before it is said to be there.
//!
//! Nobody races for an artifact, so that every request may be made twice: one without an answer is made again, and what lies there
//! in the end is looked at.
//!
//! Source: S3 API reference, multipart uploads: a completed upload is answered with 404 NoSuchUpload when it is completed again,
//! and one that could not be completed with an error in an answer that began with 200.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_sdk_s3::{
    primitives::{ByteStream, SdkBody},
    types::{CompletedMultipartUpload, CompletedPart},
};
use aws_smithy_types::base64;
use flyhot_artifact::FileDigest;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::{
    Clock, Fault, Patience, REREAD, S3, TRY, fault,
    parts::{PART, parts},
    read::{Found, Sink},
    within,
};
use crate::{
    files::{apart, appear, beside, failed},
    key::{App, Key},
    store::{Artifacts, Moved, Store as _, StoreError, Stored},
};

/// How often an artifact is written that is another when it is read back. Once is a bit that flipped on the way there or back; a
/// third time is a store that cannot be trusted.
const WRITES: u32 = 3;

/// How long one try at a part may take: 8 MiB beside three others on a link of 1 Mbit/s. S3 takes some minutes to put many parts
/// together too.
const SEND: Duration = Duration::from_secs(300);

/// The most answers that one list comes in. Each names a thousand: ten million artifacts.
const PAGES: usize = 10_000;

/// A request that may be made again.
struct Ask<'a> {
    doing: &'static str,
    key: &'a Key,
    /// How long one try may take.
    limit: Duration,
}

/// A file that is read once from the first byte to the last.
struct Local {
    file: File,
    path: PathBuf,
    digest: Sha256,
}

impl Local {
    fn open(path: &Path) -> Result<(Self, u64), StoreError> {
        let file = File::open(path).map_err(failed("cannot read", path))?;
        let size = file.metadata().map_err(failed("cannot read", path))?.len();
        let local = Self {
            file,
            path: path.to_owned(),
            digest: Sha256::new(),
        };
        Ok((local, size))
    }

    /// As many bytes as there are, of so many.
    fn read(&mut self, most: u64) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::with_capacity(usize::try_from(most).unwrap_or_default());
        (&mut self.file)
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(failed("cannot read", &self.path))?;
        self.digest.update(&bytes);
        Ok(bytes)
    }

    /// Whether what was read is what it should be.
    fn is(self, digest: FileDigest) -> Result<(), StoreError> {
        let was = FileDigest(self.digest.finalize().into());
        if was == digest {
            return Ok(());
        }
        Err(StoreError::Changed { path: self.path, was })
    }
}

/// A body that is sent as often as it takes, and its checksum, which every store knows.
fn body(bytes: Vec<u8>) -> (SdkBody, String) {
    let md5 = base64::encode(md5::Md5::digest(&bytes));
    (SdkBody::from(bytes), md5)
}

/// The same bytes once more.
fn again(body: &SdkBody) -> ByteStream {
    // Of what lies in memory there is always another.
    ByteStream::new(body.try_clone().unwrap_or_else(SdkBody::taken))
}

impl S3 {
    /// Asks until there is an answer; `None` where what it is about is not there.
    async fn ask<T, F>(&self, ask: Ask<'_>, once: impl Fn() -> F) -> Result<Option<T>, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut patience = Patience::new(self.give_up);
        loop {
            match Box::pin(within(ask.limit, once())).await {
                Ok(done) => return Ok(Some(done)),
                Err(Fault::Absent) => return Ok(None),
                Err(Fault::Again(_) | Fault::Conflict) if patience.wait().await => {}
                Err(Fault::Conflict) => {
                    let why = "it says that somebody else writes at the same moment".to_owned();
                    return Err(self.failed(ask.doing, ask.key, patience.tries, Fault::Again(why)));
                }
                Err(fault) => return Err(self.failed(ask.doing, ask.key, patience.tries, fault)),
            }
        }
    }

    /// Writes it, once; whether it is there then is seen by reading it.
    async fn write(
        &self,
        key: &Key,
        digest: FileDigest,
        from: &Path,
        moved: &Arc<Moved>,
    ) -> Result<(), StoreError> {
        let path = from.to_owned();
        let (local, size) = apart(move || Local::open(&path)).await?;
        moved.set(0, size);
        if size <= PART {
            return self.write_whole(key, digest, local, moved).await;
        }
        let ask = Ask {
            doing: "writing",
            key,
            limit: TRY,
        };
        let begun = self.ask(ask, || async {
            let create = self.client.create_multipart_upload();
            let create = create.bucket(&self.bucket).key(key.as_str());
            let begun = create.send().await.map_err(fault)?;
            let id = begun.upload_id().filter(|id| !id.is_empty()).map(str::to_owned);
            id.ok_or_else(|| Fault::Again("it begins an upload without a name".to_owned()))
        });
        let Some(id) = begun.await? else {
            return Ok(());
        };
        let written = self.write_parts(key, digest, &id, (local, size), moved).await;
        if !matches!(written, Ok(Some(()))) {
            // What stays all the same is swept; why it was not written is the error to tell.
            let _ = Box::pin(within(TRY, self.abort(key.as_str(), &id))).await;
        }
        written.map(|_| ())
    }

    async fn write_whole(
        &self,
        key: &Key,
        digest: FileDigest,
        mut local: Local,
        moved: &Moved,
    ) -> Result<(), StoreError> {
        let bytes = apart(move || {
            // One byte more than there may be is another file.
            let bytes = local.read(PART + 1)?;
            local.is(digest).map(|()| bytes)
        })
        .await?;
        let size = bytes.len() as u64;
        let (body, md5) = body(bytes);
        let ask = Ask {
            doing: "writing",
            key,
            limit: SEND,
        };
        let put = self.ask(ask, || async {
            let put = self.client.put_object().bucket(&self.bucket).key(key.as_str());
            let put = put.content_md5(&md5).body(again(&body));
            put.send().await.map_err(fault)
        });
        put.await?;
        moved.set(size, size);
        Ok(())
    }

    /// `None` where there is no such upload any more: what is there then is seen by reading.
    async fn write_parts(
        &self,
        key: &Key,
        digest: FileDigest,
        id: &str,
        (mut local, size): (Local, u64),
        moved: &Arc<Moved>,
    ) -> Result<Option<()>, StoreError> {
        let cut = parts(size);
        let mut sending = JoinSet::new();
        let mut sent = Vec::new();
        let mut done = 0;
        let mut number = 0;
        let mut more = true;
        while more || !sending.is_empty() {
            if more && sending.len() < cut.at_once {
                let (bytes, read_on) = apart(move || Ok((local.read(cut.bytes)?, local))).await?;
                local = read_on;
                more = bytes.len() as u64 == cut.bytes;
                if !bytes.is_empty() {
                    number += 1;
                    let (store, key, id) = (self.clone(), key.clone(), id.to_owned());
                    sending.spawn(async move { store.send_part(&key, &id, number, bytes).await });
                }
                continue;
            }
            match sending.join_next().await {
                None => {}
                Some(Err(join)) => match join.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Nobody ends one but by dropping all of them.
                    Err(_) => return Ok(None),
                },
                Some(Ok(part)) => match part? {
                    None => return Ok(None),
                    Some((part, bytes)) => {
                        sent.push(part);
                        done += bytes;
                        moved.set(done, size);
                    }
                },
            }
        }
        // Before it has a name.
        local.is(digest)?;
        sent.sort_unstable_by_key(CompletedPart::part_number);
        let ask = Ask {
            doing: "writing",
            key,
            limit: SEND,
        };
        let all = CompletedMultipartUpload::builder().set_parts(Some(sent)).build();
        let complete = self.ask(ask, || async {
            let complete = self.client.complete_multipart_upload().bucket(&self.bucket);
            let complete = complete.key(key.as_str()).upload_id(id);
            complete.multipart_upload(all.clone()).send().await.map_err(fault)
        });
        // That there is no such upload is what a second try hears after the first was done.
        Ok(complete.await?.map(|_| ()))
    }

    /// The part, and its bytes; `None` where there is no such upload any more.
    async fn send_part(
        &self,
        key: &Key,
        id: &str,
        number: i32,
        bytes: Vec<u8>,
    ) -> Result<Option<(CompletedPart, u64)>, StoreError> {
        let size = bytes.len() as u64;
        let (body, md5) = body(bytes);
        let ask = Ask {
            doing: "writing",
            key,
            limit: SEND,
        };
        let part = self.ask(ask, || async {
            let part = self.client.upload_part().bucket(&self.bucket).key(key.as_str());
            let part = part.upload_id(id).part_number(number).content_md5(&md5);
            let sent = part.body(again(&body)).send().await.map_err(fault)?;
            let e_tag = super::version(sent.e_tag())?.0;
            let part = CompletedPart::builder().part_number(number).e_tag(e_tag);
            Ok((part.build(), size))
        });
        part.await
    }

    async fn abort(&self, key: &str, id: &str) -> Result<(), Fault> {
        let abort = self.client.abort_multipart_upload().bucket(&self.bucket);
        let abort = abort.key(key).upload_id(id);
        abort.send().await.map_err(fault).map(|_| ())
    }

    /// A list that goes on where the answer before ended: `page` asks for one, and says where the next begins.
    async fn pages<T, At, F>(&self, key: &Key, page: impl Fn(Option<At>) -> F) -> Result<Vec<T>, StoreError>
    where
        At: Clone + PartialEq,
        F: Future<Output = Result<(Vec<T>, Option<At>), Fault>>,
    {
        let mut all = Vec::new();
        let mut at = None;
        for _ in 0..PAGES {
            let ask = Ask {
                doing: "listing",
                key,
                limit: TRY,
            };
            // That there is nothing of the kind.
            let Some((some, next)) = self.ask(ask, || page(at.clone())).await? else {
                return Ok(all);
            };
            all.extend(some);
            if next.is_none() {
                return Ok(all);
            }
            if next == at {
                break;
            }
            at = next;
        }
        let why = "its list does not come to an end".to_owned();
        Err(self.failed("listing", key, 1, Fault::Hopeless(why)))
    }
}

/// An upload that did not come to its end.
struct Upload {
    key: String,
    id: String,
    age: Option<Duration>,
}

impl S3 {
    async fn page_of_objects(
        &self,
        below: &Key,
        at: Option<String>,
    ) -> Result<(Vec<Stored>, Option<String>), Fault> {
        let list = self.client.list_objects_v2().bucket(&self.bucket);
        let list = list.prefix(below.as_str()).set_continuation_token(at);
        let got = list.send().await.map_err(fault)?;
        let named = got.contents().iter().filter_map(|object| {
            let digest = Key::digest(object.key()?.strip_prefix(below.as_str())?)?;
            let size = u64::try_from(object.size()?).ok()?;
            Some(Stored { digest, size })
        });
        let next = match got.is_truncated() {
            Some(true) => got.next_continuation_token().map(str::to_owned),
            _ => None,
        };
        Ok((named.collect(), next))
    }

    async fn page_of_uploads(
        &self,
        below: &Key,
        at: Option<(String, String)>,
    ) -> Result<(Vec<Upload>, Option<(String, String)>), Fault> {
        let (key, id) = at.unzip();
        let clock = Clock::default();
        let list = self.client.list_multipart_uploads().bucket(&self.bucket);
        let list = list
            .prefix(below.as_str())
            .set_key_marker(key)
            .set_upload_id_marker(id);
        let list = list.customize().interceptor(clock.clone());
        let got = list.send().await.map_err(fault)?;
        let named = got.uploads().iter().filter_map(|upload| {
            // A store that pays no heed to the prefix shows others' too.
            let key = upload.key().filter(|key| key.starts_with(below.as_str()))?;
            Some(Upload {
                key: key.to_owned(),
                id: upload.upload_id()?.to_owned(),
                age: clock.age(upload.initiated()),
            })
        });
        let next = match (got.is_truncated(), got.next_key_marker()) {
            (Some(true), Some(key)) => {
                let id = got.next_upload_id_marker().unwrap_or_default();
                Some((key.to_owned(), id.to_owned()))
            }
            _ => None,
        };
        Ok((named.collect(), next))
    }
}

impl Artifacts for S3 {
    async fn fetch(
        &self,
        app: &App,
        digest: FileDigest,
        to: &Path,
        moved: &Arc<Moved>,
    ) -> Result<bool, StoreError> {
        let key = Key::artifact(app, digest);
        let path = to.to_owned();
        let (new, file) = apart(move || {
            let new = beside(path.parent().unwrap_or(Path::new(".")))?;
            let file = new.as_file().try_clone();
            file.map(|file| (new, file))
                .map_err(failed("cannot write", &path))
        })
        .await?;
        let sink = Sink::new(Some((file, to)));
        let mut reads = 0;
        loop {
            reads += 1;
            match self.read_through(&key, None, &sink, moved).await? {
                Found::Whole(found) if found == digest => {
                    let path = to.to_owned();
                    return apart(move || appear(new, &path)).await.map(|()| true);
                }
                // A bit that flips on the way does not flip again; one that lies there so is not worth waiting for.
                Found::Whole(_) if reads < REREAD => {}
                Found::Whole(found) => {
                    return Err(StoreError::Bent {
                        store: self.name(),
                        key,
                        found,
                    });
                }
                Found::Nothing | Found::OtherSize => return Ok(false),
            }
        }
    }

    async fn upload(
        &self,
        app: &App,
        digest: FileDigest,
        from: &Path,
        moved: &Arc<Moved>,
    ) -> Result<(), StoreError> {
        let key = Key::artifact(app, digest);
        let path = from.to_owned();
        let (_, size) = apart(move || Local::open(&path)).await?;
        let mut writes = 0;
        loop {
            // What was written is looked at to its end, whatever its size is: the error tells what it is.
            let size = (writes == 0).then_some(size);
            let found = self.read_through(&key, size, &Sink::new(None), moved).await?;
            match found {
                Found::Whole(found) if found == digest => return Ok(()),
                _ if writes < WRITES => {}
                Found::Whole(found) => {
                    return Err(StoreError::Bent {
                        store: self.name(),
                        key,
                        found,
                    });
                }
                Found::Nothing | Found::OtherSize => {
                    let why = format!("it was written {writes} times, and is not there");
                    return Err(self.failed("writing", &key, writes, Fault::Hopeless(why)));
                }
            }
            self.write(&key, digest, from, moved).await?;
            writes += 1;
        }
    }

    async fn artifacts(&self, app: &App) -> Result<Vec<Stored>, StoreError> {
        let key = Key::artifacts(app);
        let mut stored = self.pages(&key, |at| self.page_of_objects(&key, at)).await?;
        stored.sort_unstable();
        stored.dedup();
        Ok(stored)
    }

    async fn remove(&self, app: &App, digest: FileDigest) -> Result<(), StoreError> {
        let key = Key::artifact(app, digest);
        let ask = Ask {
            doing: "removing",
            key: &key,
            limit: TRY,
        };
        let removed = self.ask(ask, || async {
            let delete = self.client.delete_object().bucket(&self.bucket);
            delete.key(key.as_str()).send().await.map_err(fault)
        });
        removed.await.map(|_| ())
    }

    async fn sweep(&self, app: &App, age: Duration) -> Result<u64, StoreError> {
        let key = Key::artifacts(app);
        let uploads = self.pages(&key, |at| self.page_of_uploads(&key, at)).await?;
        let mut count = 0;
        for upload in uploads {
            // One whose age is not known stays.
            if upload.age.is_none_or(|since| since < age) {
                continue;
            }
            let ask = Ask {
                doing: "removing parts below",
                key: &key,
                limit: TRY,
            };
            self.ask(ask, || self.abort(&upload.key, &upload.id)).await?;
            count += 1;
        }
        Ok(count)
    }
}
