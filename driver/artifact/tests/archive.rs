//! Artifacts that are sound: the same bytes from the same files, and the same files from the bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs
)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    ops::ControlFlow,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use flyhot_artifact::{
    ArchiveError, Contents, LimitError, Limits, MANIFEST_FILE, Manifest, PackError, Packed, Trust, Trusted,
    pack, unpack, verify,
};
use support::{Tree, chain};

fn go(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn packed_within(tree: &Tree, contents: Contents, limits: &Limits) -> Result<(Packed, Vec<u8>), PackError> {
    pack(&tree.read().unwrap(), contents, limits, Vec::new(), &mut go)
}

fn packed(tree: &Tree, contents: Contents) -> (Packed, Vec<u8>) {
    packed_within(tree, contents, &Limits::default()).unwrap()
}

/// A release that has everything an artifact may meet.
fn whole() -> Tree {
    let tree = Tree::new();
    tree.put("releases/1.0.0/start.boot", "boot");
    tree.put("releases/1.0.0/vm.args", "-name x");
    tree.put("releases/COOKIE", "secret");
    tree.put("lib/shop-1.0.0/priv/static/app.js", "let a;");
    tree.put("lib/shop-1.0.0/priv/native/real.so.1", [0x7f, b'E', b'L', b'F']);
    symlink("real.so.1", tree.path("lib/shop-1.0.0/priv/native/nif.so")).unwrap();
    tree.put("lib/shop-1.0.0/priv/bin/tool", "#!/bin/sh\n");
    fs::set_permissions(
        tree.path("lib/shop-1.0.0/priv/bin/tool"),
        fs::Permissions::from_mode(0o4755),
    )
    .unwrap();
    fs::create_dir_all(tree.path("lib/shop-1.0.0/priv/empty")).unwrap();
    let long = format!(
        "lib/shop-1.0.0/priv/{}/{}.txt",
        "directory".repeat(9),
        "name".repeat(40)
    );
    tree.put(&long, "long");
    tree.put("bin/shop", "#!/bin/sh\n");
    tree
}

/// What lies below a directory: bytes and whether it may be executed; directories end in a slash.
fn files(root: &Path) -> BTreeMap<String, (Vec<u8>, bool)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let about = fs::symlink_metadata(&path).unwrap();
            if about.is_dir() {
                if fs::read_dir(&path).unwrap().next().is_none() {
                    found.insert(format!("{name}/"), (vec![], true));
                }
                todo.push(path);
            } else {
                assert!(about.is_file(), "{name}");
                let executable = about.permissions().mode() & 0o111 != 0;
                assert_eq!(about.permissions().mode() & 0o7000, 0, "{name}");
                found.insert(name, (fs::read(&path).unwrap(), executable));
            }
        }
    }
    found
}

#[test]
fn a_whole_release_is_unpacked_as_it_was() {
    let tree = whole();
    let (packed, bytes) = packed(&tree, Contents::Full);
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("release");
    let examined = unpack(&*bytes, &to, &Trust::default(), None, &Limits::default(), &mut go).unwrap();
    assert_eq!(
        (
            examined.digest,
            examined.size,
            examined.manifest_digest,
            examined.trusted
        ),
        (
            packed.digest,
            bytes.len() as u64,
            packed.manifest_digest,
            Trusted::Anyway
        )
    );
    assert_eq!(examined.manifest, packed.manifest);
    let mut unpacked = files(&to);
    let manifest = unpacked.remove(MANIFEST_FILE).unwrap().0;
    assert_eq!(Manifest::from_bytes(&manifest).unwrap(), packed.manifest);
    // A link became what it leads to, and nothing runs as its owner.
    fs::remove_file(tree.path("lib/shop-1.0.0/priv/native/nif.so")).unwrap();
    tree.put("lib/shop-1.0.0/priv/native/nif.so", [0x7f, b'E', b'L', b'F']);
    fs::set_permissions(
        tree.path("lib/shop-1.0.0/priv/bin/tool"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    assert_eq!(unpacked, files(tree.root()));
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o700, 0o700);
    // It is a release, and packed again it is the same artifact.
    let again = flyhot_artifact::Release::read(&to).unwrap();
    let (again, _) = pack(&again, Contents::Full, &Limits::default(), Vec::new(), &mut go).unwrap();
    assert_eq!(again.digest, packed.digest);
}

#[test]
fn hot_is_what_the_release_adds_and_starts_by() {
    let (packed, _) = packed(&whole(), Contents::Hot);
    let long = format!(
        "lib/shop-1.0.0/priv/{}/{}.txt",
        "directory".repeat(9),
        "name".repeat(40)
    );
    let held: Vec<_> = packed.manifest.files.keys().map(|path| path.as_str()).collect();
    assert_eq!(
        held,
        [
            "lib/shop-1.0.0/ebin/shop.app",
            "lib/shop-1.0.0/ebin/shop.beam",
            "lib/shop-1.0.0/ebin/shop_app.beam",
            "lib/shop-1.0.0/priv/bin/tool",
            &*long,
            "lib/shop-1.0.0/priv/native/nif.so",
            "lib/shop-1.0.0/priv/native/real.so.1",
            "lib/shop-1.0.0/priv/static/app.js",
            "releases/1.0.0/consolidated/Elixir.P.beam",
            "releases/1.0.0/shop.rel",
            "releases/1.0.0/start.boot",
            "releases/start_erl.data",
        ]
    );
    let empty: Vec<_> = packed.manifest.empty.iter().map(|path| path.as_str()).collect();
    assert_eq!(empty, ["lib/shop-1.0.0/priv/empty"]);
}

#[test]
fn the_same_files_give_the_same_bytes_wherever_and_whenever() {
    let (one, other) = (whole(), whole());
    let old = fs::File::open(other.path("bin/shop")).unwrap();
    old.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    fs::set_permissions(
        other.path("lib/shop-1.0.0/ebin/shop.app"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    for contents in [Contents::Hot, Contents::Full] {
        assert_eq!(packed(&one, contents).1, packed(&other, contents).1);
    }
    other.put("lib/shop-1.0.0/priv/static/app.js", "let b;");
    assert_ne!(
        packed(&one, Contents::Hot).0.digest,
        packed(&other, Contents::Hot).0.digest
    );
}

/// On any machine and with any build of the same format: whoever has to change these two changes what every artifact is
/// named.
#[test]
fn the_bytes_of_an_artifact_are_these() {
    let digests =
        [Contents::Hot, Contents::Full].map(|contents| packed(&whole(), contents).0.digest.to_string());
    assert_eq!(
        digests,
        [
            "fdb585e68e3d966586d4eeeb893023f0e4f2690fc9de0670fb522e2b669d7a97",
            "0fa0919a3a1801b1d9f49c0280af4fa6367606c5b056f11714f37de75894f1fd"
        ]
    );
}

#[test]
fn what_cannot_be_packed_is_named() {
    let sin = |break_it: &dyn Fn(&Tree)| {
        let tree = Tree::new();
        break_it(&tree);
        let error = packed_within(&tree, Contents::Full, &Limits::default()).unwrap_err();
        chain(&error).replace(&format!("{}/", tree.root().display()), "")
    };
    assert_eq!(
        sin(&|tree| symlink("nowhere", tree.path("lib/dangling")).unwrap()),
        "cannot read lib/dangling: No such file or directory (os error 2)"
    );
    assert_eq!(
        sin(&|tree| {
            std::os::unix::net::UnixListener::bind(tree.path("lib/socket")).unwrap();
        }),
        "lib/socket is neither a file nor a directory"
    );
    assert_eq!(
        sin(&|tree| tree.put("lib/a\nb", "")),
        "\"lib/a\\nb\" has a name that is not plain text, is too long, or lies too deep"
    );
    assert!(
        sin(&|tree| symlink("..", tree.path("lib/up")).unwrap()).ends_with("is too long, or lies too deep")
    );
    assert_eq!(
        sin(&|tree| {
            tree.put("lib/Twin", "");
            tree.put("lib/twin", "");
        }),
        "it cannot be packed: lib/Twin and lib/twin cannot both be there"
    );
}

#[test]
fn a_file_that_changes_meanwhile_ends_the_packing() {
    for change in ["let aa;", "let b;", "let"] {
        let tree = whole();
        let release = tree.read().unwrap();
        let mut first = true;
        let result = pack(
            &release,
            Contents::Hot,
            &Limits::default(),
            Vec::new(),
            &mut |done, _| {
                // Something was packed: every digest is in the manifest by now.
                if done > 0 && std::mem::take(&mut first) {
                    tree.put("lib/shop-1.0.0/priv/static/app.js", change);
                }
                ControlFlow::Continue(())
            },
        );
        assert!(
            matches!(result, Err(PackError::Changed { .. })),
            "{change}: {result:?}"
        );
    }
}

#[test]
fn a_disk_that_takes_no_more_is_told_from_a_release_that_cannot_be_read() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let result = pack(
        &whole().read().unwrap(),
        Contents::Full,
        &Limits::default(),
        Full(100),
        &mut go,
    );
    assert!(matches!(result, Err(PackError::Write(_))));
}

#[test]
fn either_stops_when_it_is_told_and_leaves_nothing() {
    let tree = whole();
    let mut stop = |_, _| ControlFlow::Break(());
    let after_the_digests = &mut |done, _| match done {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let result = pack(
        &tree.read().unwrap(),
        Contents::Full,
        &Limits::default(),
        Vec::new(),
        after_the_digests,
    );
    assert!(matches!(result, Err(PackError::Stopped)));
    let result = pack(
        &tree.read().unwrap(),
        Contents::Full,
        &Limits::default(),
        Vec::new(),
        &mut stop,
    );
    assert!(matches!(result, Err(PackError::Stopped)));
    let (_, bytes) = packed(&tree, Contents::Full);
    let out = tempfile::tempdir().unwrap();
    let result = unpack(
        &*bytes,
        &out.path().join("release"),
        &Trust::default(),
        None,
        &Limits::default(),
        &mut stop,
    );
    assert!(matches!(result, Err(ArchiveError::Stopped)));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn what_would_not_be_unpacked_is_not_packed() {
    let tree = whole();
    let (whole, bytes) = packed(&tree, Contents::Full);
    let entries = (whole.manifest.files.len() + whole.manifest.empty.len()) as u64;
    let total = whole.manifest.files.values().map(|file| file.size).sum::<u64>();
    let largest = whole.manifest.files.values().map(|file| file.size).max().unwrap();
    let manifest = whole.manifest.to_bytes().unwrap().len() as u64;
    let fits = Limits {
        entries,
        entry_bytes: largest,
        total_bytes: total,
        manifest_bytes: manifest,
        ratio: 1,
    };
    assert_eq!(packed_within(&tree, Contents::Full, &fits).unwrap().1, bytes);
    let tight = [
        Limits {
            entries: entries - 1,
            ..fits
        },
        Limits {
            entry_bytes: largest - 1,
            ..fits
        },
        Limits {
            total_bytes: total - 1,
            ..fits
        },
        Limits {
            manifest_bytes: manifest - 1,
            ..fits
        },
    ];
    for limits in tight {
        let refused = packed_within(&tree, Contents::Full, &limits).unwrap_err();
        let PackError::Limit(refused) = refused else {
            panic!("{refused:?}")
        };
        let taken = verify(&*bytes, &Trust::default(), None, &limits, &mut go).unwrap_err();
        let ArchiveError::Limit(taken) = taken else {
            panic!("{taken:?}")
        };
        assert_eq!(refused, taken);
    }
    // Zeros pack a thousand to one. What follows them would make up for it, and whoever unpacks looks before.
    tree.put("lib/a", vec![0; 90 << 20]);
    let noise: Vec<u8> = (0..1_u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes())
        .collect();
    tree.put("lib/b", noise);
    let refused = packed_within(&tree, Contents::Full, &Limits::default()).unwrap_err();
    assert!(
        matches!(refused, PackError::Limit(LimitError::Ratio { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_directory_that_holds_something_is_left_alone() {
    let (_, bytes) = packed(&whole(), Contents::Hot);
    let out = tempfile::tempdir().unwrap();
    let take = |to: &Path| unpack(&*bytes, to, &Trust::default(), None, &Limits::default(), &mut go);
    let to = out.path().join("release");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("mine"), "mine").unwrap();
    assert!(matches!(take(&to), Err(ArchiveError::Occupied { .. })));
    assert!(matches!(
        take(&to.join("mine")),
        Err(ArchiveError::Occupied { .. })
    ));
    assert_eq!(
        files(out.path()).into_keys().collect::<Vec<_>>(),
        ["release/mine"]
    );
    fs::remove_file(to.join("mine")).unwrap();
    take(&to).unwrap();
    assert!(to.join(MANIFEST_FILE).is_file());
    assert!(matches!(
        take(Path::new("/proc/flyhot")),
        Err(ArchiveError::Write { .. })
    ));
}
