//! Artifacts that nobody packed, one folder each under `hostile`, named for the sin: none is taken, nothing of it becomes
//! visible, and each has its own sentence. `FLYHOT_BLESS=1` makes the folders anew.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs
)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use flyhot_artifact::{Contents, FileDigest, Limits, MANIFEST_FILE, Trust, pack, unpack, verify};
use serde_json::{Value, json};
use support::{Tree, chain};
use tar::{EntryType, Header};

fn go(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// One tar entry, sound or not.
#[derive(Clone)]
struct Piece {
    name: String,
    kind: EntryType,
    link: &'static str,
    bytes: Vec<u8>,
    /// What the header says of their number.
    size: u64,
    mode: u32,
}

impl Piece {
    fn file(name: &str, bytes: &[u8]) -> Self {
        Piece {
            name: name.to_owned(),
            kind: EntryType::Regular,
            link: "",
            bytes: bytes.to_vec(),
            size: bytes.len() as u64,
            mode: 0o644,
        }
    }

    fn other(name: &str, kind: EntryType, link: &'static str) -> Self {
        Piece {
            kind,
            link,
            ..Piece::file(name, b"")
        }
    }
}

/// An artifact in parts.
struct Craft {
    manifest: Value,
    pieces: Vec<Piece>,
}

impl Craft {
    /// A sound one, of a release of four files.
    fn sound() -> Self {
        let tree = Tree::new();
        tree.put("lib/shop-1.0.0/priv/static/a.txt", "a");
        let (packed, _) = pack(
            &tree.read().unwrap(),
            Contents::Hot,
            &Limits::default(),
            Vec::new(),
            &mut go,
        )
        .unwrap();
        let manifest = serde_json::from_slice(&packed.manifest.to_bytes().unwrap()).unwrap();
        let pieces = packed.manifest.files.keys();
        let pieces = pieces
            .map(|path| Piece::file(path.as_str(), &fs::read(tree.path(path.as_str())).unwrap()))
            .collect();
        Craft { manifest, pieces }
    }

    fn at(&self, name: &str) -> usize {
        self.pieces.iter().position(|piece| piece.name == name).unwrap()
    }

    /// Puts a file in, in its place and as the manifest lists it.
    fn with(mut self, path: &str, bytes: &[u8]) -> Self {
        self.list(path, bytes.len() as u64, bytes);
        let at = self.pieces.partition_point(|piece| *piece.name < *path);
        self.pieces.insert(at, Piece::file(path, bytes));
        self
    }

    fn list(&mut self, path: &str, size: u64, bytes: &[u8]) {
        self.manifest["files"][path] =
            json!({"size": size, "sha256": FileDigest::of(bytes).to_string(), "executable": false});
    }

    fn tar(&self) -> Vec<u8> {
        let manifest = Piece::file(MANIFEST_FILE, &serde_json::to_vec(&self.manifest).unwrap());
        tar(std::iter::once(&manifest).chain(&self.pieces))
    }

    fn artifact(&self) -> Vec<u8> {
        gzip(&self.tar())
    }
}

fn tar<'a>(pieces: impl IntoIterator<Item = &'a Piece>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        let mut header = Header::new_gnu();
        // The library refuses names that lead away; a hostile one writes them all the same.
        let name = piece.name.as_bytes();
        let length = name.len().min(100);
        header.as_old_mut().name[..length].copy_from_slice(&name[..length]);
        header.as_old_mut().linkname[..piece.link.len()].copy_from_slice(piece.link.as_bytes());
        header.set_size(piece.size);
        header.set_mode(piece.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(piece.kind);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&piece.bytes);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

const APP: &str = "lib/shop-1.0.0/ebin/shop.app";
const BEAM: &str = "lib/shop-1.0.0/ebin/shop.beam";
const TEXT: &str = "lib/shop-1.0.0/priv/static/a.txt";

/// A sound artifact with one entry in another's place.
fn instead(of: &str, piece: Piece) -> Vec<u8> {
    let mut craft = Craft::sound();
    let at = craft.at(of);
    craft.pieces[at] = piece;
    craft.artifact()
}

/// A sound artifact whose manifest says something else.
fn saying(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut craft = Craft::sound();
    change(&mut craft.manifest);
    craft.artifact()
}

fn sins() -> BTreeMap<&'static str, Vec<u8>> {
    let sound = || Craft::sound().artifact();
    let mut sins = BTreeMap::new();
    let mut sin = |name, bytes| assert!(sins.insert(name, bytes).is_none(), "{name}");

    sin("absolute_path", instead(APP, Piece::file("/etc/flyhot", b"x")));
    sin("way_up", instead(APP, Piece::file("lib/../../flyhot", b"x")));
    sin("way_up_in_the_manifest", {
        let mut craft = Craft::sound();
        craft.list("../flyhot", 1, b"x");
        craft.pieces.insert(0, Piece::file("../flyhot", b"x"));
        craft.artifact()
    });
    sin(
        "link_out",
        instead(TEXT, Piece::other(TEXT, EntryType::Symlink, "/etc/passwd")),
    );
    sin(
        "hard_link",
        instead(TEXT, Piece::other(TEXT, EntryType::Link, APP)),
    );
    sin("directory_that_is_a_link", {
        let mut craft = Craft::sound();
        let at = craft.at(TEXT);
        craft.pieces.insert(
            at,
            Piece::other("lib/shop-1.0.0/priv/static", EntryType::Symlink, "/tmp"),
        );
        craft.artifact()
    });
    sin("device", instead(TEXT, Piece::other(TEXT, EntryType::Char, "")));
    sin("pipe", instead(TEXT, Piece::other(TEXT, EntryType::Fifo, "")));
    sin("twice", {
        let mut craft = Craft::sound();
        let at = craft.at(TEXT);
        let again = craft.pieces[at].clone();
        craft.pieces.insert(at, again);
        craft.artifact()
    });
    sin("twice_at_the_end", {
        let mut craft = Craft::sound();
        let again = craft.pieces[0].clone();
        craft.pieces.push(again);
        craft.artifact()
    });
    sin("differs_by_case_alone", {
        Craft::sound()
            .with("lib/shop-1.0.0/priv/static/A.txt", b"A")
            .artifact()
    });
    sin(
        "file_below_a_file",
        Craft::sound().with(&format!("{TEXT}/b"), b"b").artifact(),
    );
    sin(
        "manifest_that_lists_itself",
        Craft::sound().with(MANIFEST_FILE, b"{}").artifact(),
    );
    sin("unlisted", {
        let mut craft = Craft::sound();
        craft.pieces.push(Piece::file("releases/z", b"z"));
        craft.artifact()
    });
    sin("missing", {
        let mut craft = Craft::sound();
        let at = craft.at(TEXT);
        craft.pieces.remove(at);
        craft.artifact()
    });
    sin("missing_at_the_end", {
        let mut craft = Craft::sound();
        craft.pieces.pop();
        craft.artifact()
    });
    sin("other_bytes", instead(TEXT, Piece::file(TEXT, b"b")));
    sin("more_bytes", instead(TEXT, Piece::file(TEXT, b"aa")));
    sin("other_module", {
        // The file is what the manifest says, and the module in it is not.
        let mut craft = Craft::sound();
        let bytes = support::beam("other", &[("start", 2)]);
        craft.list(BEAM, bytes.len() as u64, &bytes);
        let listed = craft.manifest["files"][BEAM].clone();
        craft.manifest["modules"]["shop"]["size"] = listed["size"].clone();
        craft.manifest["modules"]["shop"]["sha256"] = listed["sha256"].clone();
        let at = craft.at(BEAM);
        craft.pieces[at] = Piece::file(BEAM, &bytes);
        craft.artifact()
    });
    sin(
        "other_code_id",
        saying(|manifest| manifest["code_id"] = "0".repeat(64).into()),
    );
    sin(
        "module_without_a_file",
        saying(|manifest| {
            manifest["files"].as_object_mut().unwrap().remove(BEAM);
        }),
    );
    sin(
        "format_of_tomorrow",
        saying(|manifest| manifest["format"] = 2.into()),
    );
    sin("no_manifest", gzip(&tar(&[Piece::file("README", b"hello")])));
    sin("nothing_in_it", gzip(&tar(&[])));
    sin(
        "manifest_of_noise",
        gzip(&tar(&[Piece::file(MANIFEST_FILE, b"\x00\xff{")])),
    );
    sin("manifest_that_is_a_link", {
        gzip(&tar(&[Piece::other(
            MANIFEST_FILE,
            EntryType::Symlink,
            "/etc/passwd",
        )]))
    });
    sin("cut_off", {
        let mut bytes = sound();
        bytes.truncate(bytes.len() / 2);
        bytes
    });
    sin("without_the_end_of_the_tar", {
        let tar = Craft::sound().tar();
        gzip(&tar[..tar.len() - 1024])
    });
    sin("without_the_end_of_the_gzip", {
        let mut bytes = sound();
        bytes.truncate(bytes.len() - 4);
        bytes
    });
    sin("bytes_behind", [&sound()[..], b"more"].concat());
    sin("another_gzip_behind", [sound(), sound()].concat());
    sin("zeros_behind_the_tar", {
        let mut tar = Craft::sound().tar();
        tar.resize(tar.len() + 4096, 0);
        gzip(&tar)
    });
    sin("another_tar_behind", {
        let craft = Craft::sound();
        gzip(&[craft.tar(), craft.tar()].concat())
    });
    sin("bent_bit", {
        let mut bytes = sound();
        let at = bytes.len() / 2;
        bytes[at] ^= 8;
        bytes
    });
    sin("bent_checksum", {
        let mut bytes = sound();
        let at = bytes.len() - 8;
        bytes[at] ^= 1;
        bytes
    });
    sin("text", b"<html>404 Not Found</html>".to_vec());
    sin("empty", Vec::new());
    sin("bomb", {
        let zeros = vec![0; 80 << 20];
        Craft::sound().with("lib/zeros", &zeros).artifact()
    });
    sin("file_that_is_too_large", {
        let mut craft = Craft::sound();
        craft.list("lib/large", 3 << 30, b"");
        craft.artifact()
    });
    sin("all_too_large_together", {
        let mut craft = Craft::sound();
        for part in 0..5 {
            craft.list(&format!("lib/{part}"), 2 << 30, b"");
        }
        craft.artifact()
    });
    sin("sizes_that_overflow", {
        let mut craft = Craft::sound();
        craft.list("lib/a", u64::MAX, b"");
        craft.list("lib/b", u64::MAX, b"");
        craft.artifact()
    });
    sin("manifest_that_is_too_long", {
        let manifest = Piece {
            size: 65 << 20,
            ..Piece::file(MANIFEST_FILE, b"{")
        };
        gzip(&tar(&[manifest]))
    });
    sin("header_of_pax", {
        let mut craft = Craft::sound();
        let record = b"20 path=/etc/flyhot\n";
        let pax = Piece {
            kind: EntryType::XHeader,
            ..Piece::file("pax", record)
        };
        let at = craft.at(TEXT);
        craft.pieces.insert(at, pax);
        craft.artifact()
    });
    sin("long_name_for_a_short_one", {
        let mut craft = Craft::sound();
        let long = Piece {
            kind: EntryType::GNULongName,
            ..Piece::file("././@LongLink", b"/etc/flyhot\0")
        };
        let at = craft.at(TEXT);
        craft.pieces.insert(at, long);
        craft.artifact()
    });
    sin("long_name_without_end", {
        let path = format!("lib/{}", "x".repeat(120));
        let mut craft = Craft::sound();
        craft.list(&path, 1, b"x");
        let long = Piece {
            kind: EntryType::GNULongName,
            size: 1 << 30,
            ..Piece::file("././@LongLink", &b"x".repeat(4096))
        };
        let at = craft.pieces.partition_point(|piece| *piece.name < *path);
        craft.pieces.insert(at, Piece::file(&path, b"x"));
        craft.pieces.insert(at, long);
        craft.artifact()
    });
    sin("sparse_file", {
        let sparse = Piece {
            kind: EntryType::GNUSparse,
            ..Piece::file(TEXT, b"a")
        };
        instead(TEXT, sparse)
    });
    sin("set_uid", {
        let owner = Piece {
            mode: 0o4755,
            ..Piece::file(TEXT, b"a")
        };
        instead(TEXT, owner)
    });
    sin("beam_that_is_no_module", {
        Craft::sound()
            .with(
                "lib/shop-1.0.0/ebin/evil.beam",
                &support::beam("evil", &[("start", 2)]),
            )
            .artifact()
    });
    sin("path_without_end", {
        Craft::sound()
            .with(&format!("lib/{}x", "d/".repeat(100)), b"x")
            .artifact()
    });
    sin("directory_with_bytes", {
        let mut craft = Craft::sound();
        craft.manifest["empty"] = json!(["lib/empty"]);
        let directory = Piece {
            kind: EntryType::Directory,
            ..Piece::file("lib/empty/", b"x")
        };
        craft.pieces.insert(0, directory);
        craft.artifact()
    });
    sins
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile")
}

#[test]
fn none_is_taken_and_nothing_of_it_is_seen() {
    let bless = std::env::var_os("FLYHOT_BLESS").is_some();
    let sins = sins();
    if bless {
        let _ = fs::remove_dir_all(folder());
        for (name, bytes) in &sins {
            fs::create_dir_all(folder().join(name)).unwrap();
            fs::write(folder().join(name).join("artifact.tar.gz"), bytes).unwrap();
        }
    }
    let kept: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(kept, sins.keys().map(|name| (*name).to_owned()).collect());
    let out = tempfile::tempdir().unwrap();
    let (trust, limits) = (Trust::default(), Limits::default());
    for name in &kept {
        let folder = folder().join(name);
        let artifact = || fs::File::open(folder.join("artifact.tar.gz")).unwrap();
        let verified = verify(artifact(), &trust, None, &limits, &mut go);
        let said = chain(&verified.expect_err(name));
        let unpacked = unpack(
            artifact(),
            &out.path().join("release"),
            &trust,
            None,
            &limits,
            &mut go,
        );
        assert_eq!(chain(&unpacked.expect_err(name)), said, "{name}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "{name}");
        let file = folder.join("said");
        if bless {
            fs::write(&file, format!("{said}\n")).unwrap();
        }
        assert_eq!(fs::read_to_string(file).unwrap(), format!("{said}\n"), "{name}");
    }
}

#[test]
fn what_they_are_made_of_is_sound() {
    let sound = Craft::sound().with("lib/a", b"a").artifact();
    verify(&*sound, &Trust::default(), None, &Limits::default(), &mut go).unwrap();
}

/// Whatever is done to one byte of an artifact, it is not taken, or it holds the same under another name: gzip's header has
/// bits that mean nothing, and what is repeated may be said to repeat from several places.
#[test]
fn no_byte_can_be_another() {
    let sound = Craft::sound().artifact();
    let whole = verify(&*sound, &Trust::default(), None, &Limits::default(), &mut go).unwrap();
    for at in 0..sound.len() {
        for bit in [0, 3, 7] {
            let mut bent = sound.clone();
            bent[at] ^= 1 << bit;
            if let Ok(taken) = verify(&*bent, &Trust::default(), None, &Limits::default(), &mut go) {
                assert_eq!(taken.manifest, whole.manifest);
            }
        }
    }
}
