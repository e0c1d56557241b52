//! A store that is a bucket: S3, Tigris, or what speaks like them.
//!
//! Every request asks for strong consistency where a store makes a difference (`X-Tigris-Consistent`). The library's own tries
//! are switched off: a put that is sent twice would take its own first success for somebody else's. Whether a put without an
//! answer was done is found out by reading, and so is whether one that lost has lost to itself.
//!
//! Source: S3 API reference (conditional writes: 412 lost, 409 try again), fly.io and Tigris documentation.

mod artifacts;
mod parts;
mod read;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::{
    Client,
    config::{
        ConfigBag, Intercept, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
        interceptors::{BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut},
        retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    error::{BoxError, ProvideErrorMetadata, SdkError},
    primitives::{ByteStream, DateTime, DateTimeFormat},
};
use aws_smithy_http_client::{
    Builder as Http,
    tls::{Provider, rustls_provider::CryptoMode},
};
use flyhot_artifact::chain;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::{
    key::{App, Key},
    keys::Keys,
    sealed,
    store::{Age, If, MAX_OBJECT, Object, Put, Store, StoreError, Version},
};

/// Where Tigris is reached, from anywhere; what Fly.io's own address leads to as well.
pub const ENDPOINT: &str = "https://t3.storage.dev";

/// Tigris knows no other.
pub const REGION: &str = "auto";

/// A store that does not take a connection for so long will not take it: a TCP SYN is sent three times by then.
const CONNECT: Duration = Duration::from_secs(7);

/// How long one try may take that moves no artifact: the largest object that is read whole has a megabyte. And how long an artifact
/// may stand still on its way here.
const TRY: Duration = Duration::from_secs(20);

/// How long one verb is tried for. Bursts of 503 last seconds; a lease of five minutes is renewed three times, and must not be
/// lost to one that lasts longer.
const GIVE_UP: Duration = Duration::from_secs(40);

/// How often it is tried at the least: one try at a large part alone may take longer than [`GIVE_UP`], and break off at its end.
const LEAST_TRIES: u32 = 2;

/// The first wait between two tries; each is twice the one before, up to [`LONGEST_WAIT`], and a random part of it.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How often an object is read that is not whole: a bit that flips on the way does not flip in the same place again, and one that
/// lies there so is not worth waiting for.
const REREAD: u32 = 4;

/// Which bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Where it is reached; [`ENDPOINT`] where nothing else is said.
    pub endpoint: Option<String>,
    /// Its region; [`REGION`] where nothing else is said.
    pub region: Option<String>,
}

/// A bucket as a home of artifacts.
#[derive(Clone)]
pub struct S3 {
    client: Client,
    bucket: String,
    give_up: Duration,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// Why one try failed.
enum Fault {
    /// There is no such object.
    Absent,
    /// The condition did not hold (412).
    Lost,
    /// Somebody else wrote at the same moment (409).
    Conflict,
    /// It may go better the next time.
    Again(String),
    /// It may not be read or written (403).
    Denied(String),
    /// It will not go better.
    Hopeless(String),
    /// It is not the store: a file of this machine.
    Here(Box<StoreError>),
}

impl Fault {
    fn here(error: StoreError) -> Self {
        Self::Here(Box::new(error))
    }
}

impl S3 {
    /// A bucket, with the credentials that AWS's own tools would find: environment, profiles, the machine's own.
    pub async fn new(bucket: &Bucket) -> Self {
        Self::with(bucket, None).await
    }

    /// A bucket, with these credentials where some are handed over.
    pub async fn with(bucket: &Bucket, keys: Option<&Keys>) -> Self {
        let http = Http::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let region = bucket.region.clone().unwrap_or_else(|| REGION.to_owned());
        let endpoint = bucket.endpoint.clone().unwrap_or_else(|| ENDPOINT.to_owned());
        let defaults = aws_config::defaults(BehaviorVersion::latest());
        let defaults = match keys {
            Some(keys) => defaults.credentials_provider(keys.credentials()),
            None => defaults,
        };
        let shared = defaults
            .http_client(http)
            .region(Region::new(region))
            .endpoint_url(endpoint)
            .retry_config(RetryConfig::disabled())
            // How long an answer may take depends on the request, and is looked after where that is made.
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
            .load()
            .await;
        let config = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(true)
            // Some stores refuse the headers. What is put is signed with its sha256, and what is read has one in it.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .interceptor(Consistent)
            .build();
        Self {
            client: Client::from_conf(config),
            bucket: bucket.name.clone(),
            give_up: GIVE_UP,
        }
    }

    /// The same, whose verbs are tried for so long.
    pub fn patient(self, give_up: Duration) -> Self {
        Self { give_up, ..self }
    }

    /// The store's own clock, cut to a whole second; `None` where it does not answer, or does not say. It is asked once.
    pub async fn time(&self, app: &App) -> Option<SystemTime> {
        let clock = Clock::default();
        let asked = async {
            let head = self.client.head_object().bucket(&self.bucket);
            let head = head.key(Key::trial(app).as_str()).customize();
            head.interceptor(clock.clone()).send().await.map_err(fault)
        };
        // Whatever it answers, it says when.
        let _ = Box::pin(within(TRY, asked)).await;
        clock.now().and_then(|now| SystemTime::try_from(now).ok())
    }

    async fn get_once(&self, key: &Key, age: Age) -> Result<Object, Fault> {
        let clock = Clock::default();
        let got = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .customize()
            .interceptor(clock.clone())
            .send()
            .await
            .map_err(fault)?;
        let version = version(got.e_tag())?;
        let age = match age {
            Age::NotWanted => None,
            Age::Wanted => clock.age(got.last_modified()),
        };
        let mut body = got.body;
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| Fault::Again(error.to_string()))?;
            bytes.extend_from_slice(&piece);
            // One byte more than there may be tells that there are too many.
            if bytes.len() as u64 > MAX_OBJECT {
                break;
            }
        }
        Ok(Object { bytes, version, age })
    }

    async fn put_once(&self, key: &Key, when: &If, bytes: &[u8]) -> Result<Version, Fault> {
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .body(ByteStream::from(bytes.to_vec()));
        let put = match when {
            If::Absent => put.if_none_match("*"),
            If::Unchanged(version) => put.if_match(&version.0),
        };
        let done = put.send().await.map_err(fault)?;
        version(done.e_tag())
    }

    fn failed(&self, doing: &'static str, key: &Key, tries: u32, fault: Fault) -> StoreError {
        let (store, key) = (self.name(), key.clone());
        match fault {
            Fault::Again(why) => StoreError::Silent {
                store,
                doing,
                key,
                tries,
                why,
            },
            Fault::Denied(why) => StoreError::Denied {
                store,
                doing,
                key,
                why,
            },
            Fault::Hopeless(why) => StoreError::Refused {
                store,
                doing,
                key,
                why,
            },
            Fault::Here(error) => *error,
            Fault::Absent | Fault::Lost | Fault::Conflict => StoreError::Refused {
                store,
                doing,
                key,
                why: "an answer that does not belong to this request".to_owned(),
            },
        }
    }
}

impl Store for S3 {
    async fn get(&self, key: &Key, age: Age) -> Result<Option<Object>, StoreError> {
        let mut patience = Patience::new(self.give_up);
        loop {
            match within(TRY, self.get_once(key, age)).await {
                Ok(object) if object.bytes.len() as u64 > MAX_OBJECT => {
                    return Err(StoreError::TooLarge {
                        store: self.name(),
                        key: key.clone(),
                    });
                }
                // A record that is not whole may be on the way here only.
                Ok(object) if sealed::is_whole(&object.bytes) => return Ok(Some(object)),
                Ok(object) if patience.tries >= REREAD => return Ok(Some(object)),
                Ok(_) if patience.wait().await => {}
                Ok(object) => return Ok(Some(object)),
                Err(Fault::Absent) => return Ok(None),
                Err(Fault::Again(_)) if patience.wait().await => {}
                Err(fault) => return Err(self.failed("reading", key, patience.tries, fault)),
            }
        }
    }

    async fn put(&self, key: &Key, when: If, bytes: Vec<u8>) -> Result<Put, StoreError> {
        let mut patience = Patience::new(self.give_up);
        loop {
            let fault = match Box::pin(within(TRY, self.put_once(key, &when, &bytes))).await {
                Ok(version) => return Ok(Put::Done(version)),
                Err(fault @ (Fault::Denied(_) | Fault::Hopeless(_))) => {
                    return Err(self.failed("writing", key, patience.tries, fault));
                }
                Err(fault) => fault,
            };
            // What is there says whether this one was done: nobody else writes these bytes.
            let there = self.get(key, Age::NotWanted).await?;
            if there
                .as_ref()
                .is_some_and(|there| !sealed::is_whole(&there.bytes))
            {
                let why =
                    "what is there cannot be read, so that it is not known whether it was done".to_owned();
                return Err(self.failed("writing", key, patience.tries, Fault::Again(why)));
            }
            let holds = match (&when, &there) {
                (_, Some(there)) if there.bytes == bytes => return Ok(Put::Done(there.version.clone())),
                (If::Absent, there) => there.is_none(),
                (If::Unchanged(version), Some(there)) => there.version == *version,
                (If::Unchanged(_), None) => false,
            };
            if !holds {
                return Ok(Put::Lost);
            }
            let why = match fault {
                Fault::Again(why) => why,
                Fault::Lost => "it says that the object is another, and it is not".to_owned(),
                _ => "it says that somebody else writes at the same moment".to_owned(),
            };
            if !patience.wait().await {
                return Err(self.failed("writing", key, patience.tries, Fault::Again(why)));
            }
        }
    }

    fn name(&self) -> String {
        format!("the bucket {}", self.bucket)
    }
}

/// A store without ETags has nothing to compare by.
fn version(e_tag: Option<&str>) -> Result<Version, Fault> {
    match e_tag {
        Some(e_tag) if !e_tag.is_empty() => Ok(Version(e_tag.to_owned())),
        _ => Err(Fault::Hopeless("it answers without an ETag".to_owned())),
    }
}

fn fault<E>(error: SdkError<E>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(|error| error.code());
    let code = code.map(str::to_owned).unwrap_or_default();
    let said = error.as_service_error().and_then(|error| error.message());
    let said = match (status, said) {
        (Some(status), Some(said)) => format!("{status} {code}: {said}"),
        (Some(status), None) => format!("{status} {code}").trim_end().to_owned(),
        (None, _) => chain(&error),
    };
    match (&error, status, &*code) {
        (SdkError::ConstructionFailure(_), ..) => Fault::Hopeless(said),
        // No credentials, or ones that cannot be read, are found out before anything is sent.
        (SdkError::DispatchFailure(_), ..) if is_of_credentials(&error) => Fault::Hopeless(said),
        // Parts that are not there, or not whole, are an upload that is not there.
        (_, Some(404), "NoSuchKey" | "NoSuchUpload") | (_, Some(400), "InvalidPart" | "EntityTooSmall") => {
            Fault::Absent
        }
        (_, Some(404), "NoSuchBucket") | (_, Some(501), _) => Fault::Hopeless(said),
        // Of something in between that knows no buckets.
        (_, Some(404), _) => Fault::Again(said),
        // That there are not so many bytes (416): it was another that had them.
        (_, Some(412 | 416), _) => Fault::Lost,
        (_, Some(409), _) => Fault::Conflict,
        (_, Some(401 | 403), _) => Fault::Denied(said),
        (_, Some(400), "RequestTimeout" | "BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody") => {
            Fault::Again(said)
        }
        // An answer that began well and ended as an error (200).
        (SdkError::ServiceError(_), Some(200..=299), _) => Fault::Again(said),
        (_, Some(408 | 429 | 500..=599), _) | (_, None, _) => Fault::Again(said),
        // An answer that is not understood, from something in between.
        (SdkError::ResponseError(_), ..) => Fault::Again(said),
        _ => Fault::Hopeless(said),
    }
}

fn is_of_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|error| {
        matches!(
            error.downcast_ref(),
            Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_))
        )
    })
}

/// One try.
async fn within<T>(limit: Duration, once: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late = || Fault::Again(format!("no whole answer within {} s", limit.as_secs()));
    tokio::time::timeout(limit, once)
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// How long a verb is tried.
struct Patience {
    began: Instant,
    tries: u32,
    give_up: Duration,
}

impl Patience {
    fn new(give_up: Duration) -> Self {
        Self {
            give_up,
            began: Instant::now(),
            tries: 1,
        }
    }

    /// Waits before the next try; false where there is none.
    async fn wait(&mut self) -> bool {
        let full = FIRST_WAIT
            .saturating_mul(1 << self.tries.min(10))
            .min(LONGEST_WAIT);
        let mut byte = [128];
        // Without random bytes everybody waits the same time; that is worse and no harm.
        let _ = SystemRandom::new().fill(&mut byte);
        let wait = full / 2 + full * u32::from(byte[0]) / 512;
        if self.tries >= LEAST_TRIES && self.began.elapsed() + wait >= self.give_up {
            return false;
        }
        tokio::time::sleep(wait).await;
        self.tries += 1;
        true
    }
}

/// Has every request answered by whoever decides.
#[derive(Debug)]
struct Consistent;

impl Intercept for Consistent {
    fn name(&self) -> &'static str {
        "Consistent"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context
            .request_mut()
            .headers_mut()
            .insert("x-tigris-consistent", "true");
        Ok(())
    }
}

/// The store's own time of an answer.
#[derive(Debug, Clone, Default)]
struct Clock(Arc<Mutex<Option<DateTime>>>);

impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "Clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

impl Clock {
    fn now(&self) -> Option<DateTime> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long ago an object was written. Both times are cut to whole seconds: one is taken off.
    fn age(&self, written: Option<&DateTime>) -> Option<Duration> {
        let now = self.now()?;
        let seconds = now.secs().saturating_sub(written?.secs()).saturating_sub(1);
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
    }
}
