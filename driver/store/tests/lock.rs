//! The lock and the pointer, in a directory: one at a time, whoever dies, waits or lies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use flyhot_artifact::{CodeId, FileDigest};
use flyhot_store::{
    Age, App, Directory, Generation, If, Key, LockError, Object, PointerError, Put, Rollout, RolloutError,
    Store, StoreError, Target, Terms, Who, keeps_conditions, let_go, pointer, standing, take,
};

/// Long beside what a disk takes.
const LEASE: Duration = Duration::from_millis(600);

const PATIENT: Terms = Terms {
    lease: LEASE,
    wait: Duration::from_secs(60),
    force: false,
};

const HASTY: Terms = Terms {
    wait: Duration::ZERO,
    ..PATIENT
};

struct Place {
    _root: tempfile::TempDir,
    store: Directory,
    app: App,
    path: PathBuf,
}

fn place() -> Place {
    let root = tempfile::tempdir().unwrap();
    Place {
        store: Directory::new(root.path()),
        app: "shop".parse().unwrap(),
        path: root.path().join("releases/shop"),
        _root: root,
    }
}

fn who(name: &str) -> Who {
    Who {
        who: name.to_owned(),
        machine: "laptop".to_owned(),
        purpose: "a test".to_owned(),
    }
}

fn target(number: u8) -> Target {
    Target {
        digest: FileDigest([number; 32]),
        code_id: CodeId([number; 32]),
        manifest_digest: FileDigest([number; 32]),
        signature: None,
        version: number.to_string(),
        source_image: None,
        created_at: 0,
    }
}

#[tokio::test]
async fn one_holds_it_and_another_is_told_whom_to_ask() {
    let Place { store, app, .. } = place();
    assert_eq!(standing(&store, &app).await.unwrap(), None);
    let alice = take(&store, &app, who("alice"), HASTY).await.unwrap();
    let error = take(&store, &app, who("bob"), HASTY).await.unwrap_err();
    let LockError::Held { held } = &error else {
        panic!("{error}")
    };
    assert_eq!(held.holder, Some(who("alice")));
    assert!(held.left() <= LEASE && held.left() > Duration::ZERO);
    assert!(
        error
            .to_string()
            .starts_with("alice on laptop (a test) holds the lock"),
        "{error}"
    );
    let number = alice.fencing();
    alice.release().await.unwrap();
    let free = standing(&store, &app).await.unwrap().unwrap();
    assert_eq!((free.holder, free.fencing), (None, number));
    let bob = take(&store, &app, who("bob"), HASTY).await.unwrap();
    assert!(bob.fencing() > number);
}

#[tokio::test]
async fn a_lease_that_is_renewed_lasts_and_one_that_is_not_goes_to_the_next() {
    let Place { store, app, .. } = place();
    let mut alice = take(&store, &app, who("alice"), HASTY).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < LEASE * 2 {
        tokio::time::sleep(alice.due()).await;
        alice.hold().await.unwrap();
        assert!(take(&store, &app, who("bob"), HASTY).await.is_err());
    }
    // Now she is not heard of any more.
    let silent = Instant::now();
    let bob = take(&store, &app, who("bob"), PATIENT).await.unwrap();
    assert!(silent.elapsed() < LEASE * 3, "{:?}", silent.elapsed());
    assert!(bob.fencing() > alice.fencing());
    assert_eq!(bob.displaced, None);
    let error = alice.hold().await.unwrap_err();
    assert!(matches!(error, LockError::Lost(_)), "{error}");
    assert!(matches!(alice.release().await, Err(LockError::Lost(_))));
    assert_eq!(
        standing(&store, &app).await.unwrap().unwrap().holder,
        Some(who("bob"))
    );
}

#[tokio::test]
async fn force_takes_it_at_once_and_names_whom_from() {
    let Place { store, app, .. } = place();
    let alice = take(&store, &app, who("alice"), HASTY).await.unwrap();
    let force = Terms { force: true, ..HASTY };
    let bob = take(&store, &app, who("bob"), force).await.unwrap();
    assert_eq!(bob.displaced, Some(who("alice")));
    assert!(matches!(alice.release().await, Err(LockError::Lost(_))));
    assert!(matches!(
        let_go(&store, &app, false).await,
        Err(LockError::Held { .. })
    ));
    let was = let_go(&store, &app, true).await.unwrap().unwrap();
    assert_eq!(was.holder, Some(who("bob")));
    assert_eq!(let_go(&store, &app, false).await.unwrap(), None);
    assert!(matches!(bob.release().await, Err(LockError::Lost(_))));
    let carol = take(&store, &app, who("carol"), HASTY).await.unwrap();
    assert_eq!(carol.displaced, None);
}

#[tokio::test]
async fn who_was_displaced_does_not_change_the_pointer_even_if_nobody_tells() {
    let Place { store, app, .. } = place();
    let lock = take(&store, &app, who("alice"), HASTY).await.unwrap();
    let mut alice = Rollout::new(&store, &app, lock, None, Generation::Same)
        .await
        .unwrap();
    alice.begin(target(1), false).await.unwrap();
    let force = Terms { force: true, ..HASTY };
    let lock = take(&store, &app, who("bob"), force).await.unwrap();
    // Her lease is not due: she does not look at the lock before she writes. Between his lock and his claim her put lands, and
    // he goes on from it.
    alice.commit().await.unwrap();
    let mut bob = Rollout::new(&store, &app, lock, None, Generation::Same)
        .await
        .unwrap();
    assert_eq!(bob.pointer().committed(), Some(&target(1)));
    let late = alice.begin(target(2), false).await.unwrap_err();
    assert!(
        matches!(late, RolloutError::Pointer(PointerError::Displaced { .. })),
        "{late}"
    );
    bob.begin(target(3), false).await.unwrap();
    assert!(alice.abandon().await.is_err());
    bob.commit().await.unwrap();
    bob.end().await.unwrap();
    let now = pointer(&store, &app).await.unwrap().unwrap();
    assert_eq!(
        (now.committed(), &now.previous[..]),
        (Some(&target(3)), &[target(1)][..])
    );
}

#[tokio::test]
async fn a_machine_of_another_image_does_not_get_at_the_pointer() {
    let Place { store, app, .. } = place();
    let image = |name: &str| Some(name.to_owned());
    let lock = take(&store, &app, who("alice"), HASTY).await.unwrap();
    let mut alice = Rollout::new(&store, &app, lock, image("b"), Generation::Same)
        .await
        .unwrap();
    alice.begin(target(1), false).await.unwrap();
    alice.commit().await.unwrap();
    alice.end().await.unwrap();
    let before = fs::read(place_of(&store)).unwrap();
    let lock = take(&store, &app, who("old"), HASTY).await.unwrap();
    let error = Rollout::new(&store, &app, lock, image("a"), Generation::Same)
        .await
        .unwrap_err();
    assert!(
        matches!(error, RolloutError::Pointer(PointerError::OtherImage { .. })),
        "{error}"
    );
    assert_eq!(fs::read(place_of(&store)).unwrap(), before);

    // One who says that the machines are others now begins anew, under a number that is greater still.
    let lock = take(&store, &app, who("bob"), HASTY).await.unwrap();
    let mut bob = Rollout::new(&store, &app, lock, image("a"), Generation::New)
        .await
        .unwrap();
    let now = bob.pointer().clone();
    assert_eq!((now.base_image.as_deref(), &now.target), (Some("a"), &None));
    assert!(now.previous.is_empty() && now.fencing >= 2, "{now:?}");
    // What was there is forgotten with the first that takes its place, and not before.
    let there = pointer(&store, &app).await.unwrap().unwrap();
    assert_eq!(
        (there.committed(), there.fencing),
        (Some(&target(1)), now.fencing)
    );
    bob.begin(target(2), false).await.unwrap();
    let there = pointer(&store, &app).await.unwrap().unwrap();
    assert_eq!(
        (there.base_image.as_deref(), there.committed()),
        (Some("a"), None)
    );
    bob.end().await.unwrap();
}

fn place_of(store: &Directory) -> PathBuf {
    PathBuf::from(store.name()).join("releases/shop/pointer.json")
}

#[tokio::test]
async fn what_is_no_record_is_named_and_stays() {
    let Place { store, app, path, .. } = place();
    fs::create_dir_all(&path).unwrap();
    let records: [&[u8]; 5] = [
        b"",
        b"{}",
        b"\xff",
        br#"{"put":"mine","sha256":"0000000000000000000000000000000000000000000000000000000000000000","record":{}}"#,
        // Whole, and of a format that is not known.
        &sealed(r#"{"format":2,"fencing":1,"lease_ms":1,"holder":null}"#),
    ];
    for bytes in records {
        for file in ["lock.json", "pointer.json"] {
            fs::write(path.join(file), bytes).unwrap();
        }
        let force = Terms { force: true, ..HASTY };
        let error = take(&store, &app, who("alice"), force).await.unwrap_err();
        assert!(matches!(error, LockError::Broken { .. }), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("releases/shop/lock.json is not a lock: "),
            "{error}"
        );
        assert!(pointer(&store, &app).await.is_err());
        for file in ["lock.json", "pointer.json"] {
            assert_eq!(fs::read(path.join(file)).unwrap(), bytes);
        }
    }
}

fn sealed(record: &str) -> Vec<u8> {
    let digest = FileDigest::of(format!("mine {record}").as_bytes());
    format!(r#"{{"put":"mine","sha256":"{digest}","record":{record}}}"#).into_bytes()
}

/// A directory that pays no heed to one of the conditions.
struct Careless<'a> {
    store: &'a Directory,
    ignores_match: bool,
    ignores_absence: bool,
}

impl Store for Careless<'_> {
    async fn get(&self, key: &Key, age: Age) -> Result<Option<Object>, StoreError> {
        self.store.get(key, age).await
    }

    async fn put(&self, key: &Key, when: If, bytes: Vec<u8>) -> Result<Put, StoreError> {
        let there = self.store.get(key, Age::NotWanted).await?;
        let when = match (&when, there) {
            (If::Absent, Some(there)) if self.ignores_absence => If::Unchanged(there.version),
            (If::Unchanged(_), Some(there)) if self.ignores_match => If::Unchanged(there.version),
            _ => when,
        };
        self.store.put(key, when, bytes).await
    }

    fn name(&self) -> String {
        self.store.name()
    }
}

#[tokio::test]
async fn a_store_without_conditions_is_found_out() {
    let Place { store, app, .. } = place();
    for _ in 0..2 {
        keeps_conditions(&store, &app).await.unwrap();
        for (ignores_match, ignores_absence) in [(true, false), (false, true), (true, true)] {
            let careless = Careless {
                store: &store,
                ignores_match,
                ignores_absence,
            };
            let error = keeps_conditions(&careless, &app).await.unwrap_err();
            assert!(matches!(error, StoreError::Unconditional { .. }), "{error}");
        }
    }
}

/// A directory whose next answer is lost: the put is done, and an error says that nobody knows.
struct Forgetful<'a> {
    store: &'a Directory,
    forgets: std::sync::atomic::AtomicBool,
}

impl Forgetful<'_> {
    fn forget(&self) {
        self.forgets.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Store for Forgetful<'_> {
    async fn get(&self, key: &Key, age: Age) -> Result<Option<Object>, StoreError> {
        self.store.get(key, age).await
    }

    async fn put(&self, key: &Key, when: If, bytes: Vec<u8>) -> Result<Put, StoreError> {
        let put = self.store.put(key, when, bytes).await?;
        if self.forgets.swap(false, std::sync::atomic::Ordering::Relaxed) {
            return Err(StoreError::Broken {
                store: self.name(),
                key: key.clone(),
                what: "nobody knows".to_owned(),
            });
        }
        Ok(put)
    }

    fn name(&self) -> String {
        self.store.name()
    }
}

#[tokio::test]
async fn a_put_that_was_done_without_an_answer_is_found_done() {
    let Place { store, app, .. } = place();
    let store = Forgetful {
        store: &store,
        forgets: false.into(),
    };
    let mut lock = take(&store, &app, who("alice"), HASTY).await.unwrap();
    store.forget();
    assert!(lock.renew().await.is_err());
    lock.renew().await.unwrap();
    let mut alice = Rollout::new(&store, &app, lock, None, Generation::Same)
        .await
        .unwrap();
    store.forget();
    alice.begin(target(1), false).await.unwrap();
    store.forget();
    alice.commit().await.unwrap();
    let now = pointer(&store, &app).await.unwrap().unwrap();
    assert_eq!(now.committed(), Some(&target(1)));
    alice.begin(target(2), false).await.unwrap();
    store.forget();
    alice.abandon().await.unwrap();
    alice.end().await.unwrap();
    assert_eq!(standing(&store, &app).await.unwrap().unwrap().holder, None);
}

#[tokio::test]
async fn a_lock_that_was_taken_away_by_hand_goes_on_from_the_pointers_number() {
    let Place { store, app, path, .. } = place();
    for _ in 0..3 {
        let lock = take(&store, &app, who("alice"), HASTY).await.unwrap();
        let alice = Rollout::new(&store, &app, lock, None, Generation::Same)
            .await
            .unwrap();
        alice.end().await.unwrap();
    }
    fs::remove_file(path.join("lock.json")).unwrap();
    let lock = take(&store, &app, who("bob"), HASTY).await.unwrap();
    let mut bob = Rollout::new(&store, &app, lock, None, Generation::Same)
        .await
        .unwrap();
    bob.begin(target(1), false).await.unwrap();
    // Whom a refusal ends leaves no lock behind.
    bob.end().await.unwrap();
    fs::write(path.join("pointer.json"), "{}").unwrap();
    let lock = take(&store, &app, who("carol"), HASTY).await.unwrap();
    assert!(
        Rollout::new(&store, &app, lock, None, Generation::Same)
            .await
            .is_err()
    );
    assert_eq!(standing(&store, &app).await.unwrap().unwrap().holder, None);
}
