//! Releases that are broken on purpose, each test named for its sin: every one is an error that names the file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs
)]

mod support;

use std::{fs, io::Write, os::unix::fs::symlink, process::Command};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use flyhot_artifact::{Origin, ReadModuleError, StartType};
use support::{Tree, beam, chain};

impl Tree {
    fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
    }

    /// The error of reading it, causes included, with paths below the release.
    fn sin(&self) -> String {
        let error = self.read().expect_err("a broken release was read");
        chain(&error).replace(&format!("{}/", self.root().display()), "")
    }
}

#[test]
fn nothing() {
    let tree = Tree::new();
    let release = tree.read().unwrap();
    assert_eq!(
        (&*release.name, &*release.version, &*release.toolchain.erts),
        ("shop", "1.0.0", "13.1.5")
    );
    let modules: Vec<_> = release
        .modules
        .iter()
        .map(|(name, m)| (name.as_str(), &*m.app, m.origin, m.consolidated))
        .collect();
    assert_eq!(
        modules,
        [
            ("Elixir.P", "", Origin::Own, true),
            ("kernel_mod", "kernel", Origin::Otp, false),
            ("shop", "shop", Origin::Own, false),
            ("shop_app", "shop", Origin::Own, false),
        ]
    );
    let shop = &release.apps["shop"];
    assert_eq!((shop.origin, shop.start), (Origin::Own, StartType::Permanent));
    assert_eq!(shop.start_module.as_ref().unwrap().as_str(), "shop_app");
    assert_eq!(shop.dir.as_ref().unwrap().as_str(), "lib/shop-1.0.0");
    assert_eq!(release.configuration.keys().collect::<Vec<_>>(), ["sys.config"]);
}

#[test]
fn missing_start_erl_data() {
    let tree = Tree::new();
    tree.remove("releases/start_erl.data");
    assert_eq!(
        tree.sin(),
        "releases/start_erl.data is missing, the file that names the version to start: is this a release directory?"
    );
}

#[test]
fn garbled_start_erl_data() {
    for text in [
        "",
        "13.1.5",
        "13.1.5 1.0.0 more",
        "13.1.5 ../1.0.0",
        "13.1.5 ..",
        "\u{1}\u{2} \u{0}",
    ] {
        let tree = Tree::new();
        tree.put("releases/start_erl.data", text);
        assert_eq!(
            tree.sin(),
            format!(
                "releases/start_erl.data does not hold the versions of ERTS and of the release, but {text:?}"
            )
        );
    }
}

#[test]
fn version_that_is_not_there() {
    let tree = Tree::new();
    tree.put("releases/start_erl.data", "13.1.5 2.0.0");
    assert!(
        tree.sin()
            .starts_with("cannot list the directory releases/2.0.0: "),
        "{}",
        tree.sin()
    );
}

#[test]
fn no_rel_file_and_two() {
    let tree = Tree::new();
    tree.put(
        "releases/1.0.0/start_clean.rel",
        "relx writes these beside the release's own",
    );
    tree.put("releases/1.0.0/no_dot_erlang.rel", "");
    assert!(tree.read().is_ok());
    tree.put("releases/1.0.0/other.rel", "");
    assert_eq!(tree.sin(), "releases/1.0.0 must hold one .rel file and holds 2");
    tree.remove("releases/1.0.0/other.rel");
    tree.remove("releases/1.0.0/shop.rel");
    assert_eq!(tree.sin(), "releases/1.0.0 must hold one .rel file and holds 0");
}

#[test]
fn rel_file_of_another_version() {
    let tree = Tree::new();
    tree.put(
        "releases/1.0.0/shop.rel",
        r#"{release,{"shop","1.0.1"},{erts,"13"},[]}."#,
    );
    assert_eq!(
        tree.sin(),
        "releases/1.0.0/shop.rel is of version 1.0.1, not of version 1.0.0"
    );
}

#[test]
fn rel_file_cut_short() {
    let tree = Tree::new();
    tree.put("releases/1.0.0/shop.rel", "{release,{\"shop\",\n\"1.0");
    assert_eq!(
        tree.sin(),
        "releases/1.0.0/shop.rel is not a resource file of a release: it is not one Erlang term: line 2: the text ends \
         within quotes"
    );
}

#[test]
fn application_named_twice() {
    let tree = Tree::new();
    tree.rel(r#"{kernel,"8.5"},{shop,"1.0.0"},{kernel,"8.5",load}"#);
    assert_eq!(
        tree.sin(),
        "releases/1.0.0/shop.rel names the application kernel twice"
    );
}

#[test]
fn application_without_its_directory() {
    let tree = Tree::new();
    tree.rel(r#"{kernel,"8.5"},{shop,"1.0.1"}"#);
    assert_eq!(
        tree.sin(),
        "lib/shop-1.0.1, the directory of the application shop, is missing"
    );
    // OTP may come from the machine; what is the release's own may not.
    tree.rel(r#"{kernel,"9.0"},{shop,"1.0.0"}"#);
    let release = tree.read().unwrap();
    assert_eq!(
        (
            release.apps["kernel"].dir.as_ref(),
            release.modules.contains_key("kernel_mod")
        ),
        (None, false)
    );
}

#[test]
fn app_file_that_is_missing_broken_or_of_another() {
    let file = "lib/shop-1.0.0/ebin/shop.app";
    let tree = Tree::new();
    tree.put(file, "{application,shop,[{vsn,\"1.0.1\"}]}.");
    assert_eq!(tree.sin(), format!("{file} is of shop 1.0.1, not of shop 1.0.0"));
    tree.put(file, "{application,shopping,[{vsn,\"1.0.0\"}]}.");
    assert_eq!(
        tree.sin(),
        format!("{file} is of shopping 1.0.0, not of shop 1.0.0")
    );
    tree.put(file, "{application,shop,[]}.");
    assert_eq!(
        tree.sin(),
        format!("{file} is not a resource file of a release: vsn is not a string")
    );
    tree.remove(file);
    assert!(tree.sin().starts_with(&format!("cannot read {file}: ")));
}

#[test]
fn listed_module_that_has_no_file() {
    let tree = Tree::new();
    tree.remove("lib/shop-1.0.0/ebin/shop.beam");
    assert_eq!(
        tree.sin(),
        "lib/shop-1.0.0/ebin/shop.beam is missing: the application shop lists the module shop"
    );
}

const SHOP: &str = "lib/shop-1.0.0/ebin/shop.beam";

#[test]
fn text_named_beam() {
    let tree = Tree::new();
    tree.put(SHOP, "-module(shop).\n");
    assert_eq!(
        tree.sin(),
        format!("{SHOP} is not a usable beam file: it is not a beam file")
    );
}

#[test]
fn empty_beam() {
    let tree = Tree::new();
    tree.put(SHOP, "");
    assert_eq!(
        tree.sin(),
        format!("{SHOP} is not a usable beam file: it is not a beam file")
    );
}

#[test]
fn truncated_beam() {
    let whole = beam("shop", &[("start", 2)]);
    for length in 0..whole.len() {
        let tree = Tree::new();
        tree.put(SHOP, &whole[..length]);
        assert!(
            tree.sin()
                .starts_with(&format!("{SHOP} is not a usable beam file: ")),
            "{length}: {}",
            tree.sin()
        );
    }
}

#[test]
fn truncated_beam_of_an_otp_application() {
    let tree = Tree::new();
    let whole = beam("kernel_mod", &[]);
    tree.put("lib/kernel-8.5/ebin/kernel_mod.beam", &whole[..whole.len() - 1]);
    assert!(
        tree.sin()
            .starts_with("lib/kernel-8.5/ebin/kernel_mod.beam is not a usable beam file: "),
        "{}",
        tree.sin()
    );
}

#[test]
fn compressed_beam_is_no_sin_and_cut_short_is() {
    let tree = Tree::new();
    let plain = beam("shop", &[("start", 2)]);
    let mut gzip = GzEncoder::new(vec![], Compression::best());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let before = tree.read().unwrap();
    tree.put(SHOP, &gzip);
    let after = tree.read().unwrap();
    assert_eq!(before.modules["shop"].facts, after.modules["shop"].facts);
    assert_eq!(before.code_id(), after.code_id());
    assert_ne!(before.modules["shop"].sha256, after.modules["shop"].sha256);
    assert_eq!(after.read_module("shop").unwrap(), gzip);
    tree.put(SHOP, &gzip[..gzip.len() / 2]);
    assert_eq!(
        tree.sin(),
        format!("{SHOP} is not a usable beam file: its compressed file cannot be inflated")
    );
}

#[test]
fn gzip_bomb() {
    // One megabyte of zeros as deflate writes it, over and over: each block refers only to the zeros before it.
    let mut block = GzBuilder::new().write(vec![], Compression::best());
    block.write_all(&vec![0; 1 << 20]).unwrap();
    block.flush().unwrap();
    let first = block.get_ref().len();
    block.write_all(&vec![0; 1 << 20]).unwrap();
    block.flush().unwrap();
    let stream = block.get_ref();
    let mut bomb = stream.clone();
    for _ in 0..300 {
        bomb.extend(&stream[first..]);
    }
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let tree = Tree::new();
    tree.put(SHOP, bomb);
    assert_eq!(
        tree.sin(),
        format!("{SHOP} is not a usable beam file: its compressed file cannot be inflated")
    );
}

#[test]
fn wrong_module_name() {
    let tree = Tree::new();
    tree.put(SHOP, beam("stop", &[]));
    assert_eq!(
        tree.sin(),
        format!("{SHOP} is of the module stop, not of the module shop")
    );
}

#[test]
fn unprintable_module_name() {
    let tree = Tree::new();
    tree.put("lib/shop-1.0.0/ebin/a\nb.beam", beam("a\nb", &[]));
    assert_eq!(
        tree.sin(),
        "lib/shop-1.0.0/ebin/a\nb.beam is of the module a\nb, not of the module a\nb"
    );
}

#[test]
fn damaged_instructions() {
    let tree = Tree::new();
    let mut bytes = beam("shop", &[]);
    let end = bytes.windows(5).position(|at| at == [0, 0, 0, 1, 3]).unwrap() + 4;
    bytes[end] = 250;
    tree.put(SHOP, bytes);
    assert_eq!(
        tree.sin(),
        format!("{SHOP} is not a usable beam file: it has the instruction 250, which is not known")
    );
}

#[test]
fn two_applications_with_one_module() {
    let tree = Tree::new();
    tree.rel(r#"{kernel,"8.5"},{shop,"1.0.0"},{mart,"2.0"}"#);
    tree.app("mart", "2.0", "[shop]", "");
    tree.put("lib/mart-2.0/ebin/shop.beam", beam("shop", &[]));
    assert_eq!(
        tree.sin(),
        format!("the module shop is in two places: lib/mart-2.0/ebin/shop.beam and {SHOP}")
    );
    // A directory that the .rel file does not name is not on the code path.
    tree.rel(r#"{kernel,"8.5"},{shop,"1.0.0"}"#);
    assert!(tree.read().is_ok());
}

#[test]
fn consolidated_protocol_hides_the_module_of_its_application() {
    let tree = Tree::new();
    tree.put(
        "lib/shop-1.0.0/ebin/Elixir.P.beam",
        beam("Elixir.P", &[("hidden", 0)]),
    );
    let release = tree.read().unwrap();
    let protocol = &release.modules["Elixir.P"];
    assert_eq!((&*protocol.app, protocol.consolidated), ("shop", true));
    assert_eq!(
        protocol.path.as_str(),
        "releases/1.0.0/consolidated/Elixir.P.beam"
    );
    assert!(protocol.facts.is_protocol() && !protocol.facts.is_exported("hidden", 0));
    assert_eq!(
        release.read_module("Elixir.P").unwrap(),
        beam("Elixir.P", &[("__protocol__", 1)])
    );
}

#[test]
fn symlink_loop() {
    for path in [
        SHOP,
        "lib/shop-1.0.0/ebin/shop.app",
        "releases/start_erl.data",
        "releases/1.0.0/sys.config",
    ] {
        let tree = Tree::new();
        tree.remove(path);
        symlink(tree.path(path), tree.path(path)).unwrap();
        assert!(
            tree.sin().starts_with(&format!("cannot read {path}: ")),
            "{}",
            tree.sin()
        );
    }
    let tree = Tree::new();
    tree.remove("releases/1.0.0/consolidated");
    symlink("consolidated", tree.path("releases/1.0.0/consolidated")).unwrap();
    assert!(
        tree.sin()
            .starts_with("cannot list the directory releases/1.0.0/consolidated: "),
        "{}",
        tree.sin()
    );
}

#[test]
fn directory_named_beam() {
    let tree = Tree::new();
    tree.remove(SHOP);
    fs::create_dir(tree.path(SHOP)).unwrap();
    assert_eq!(tree.sin(), format!("cannot read {SHOP}: it is not a file"));
}

#[test]
fn pipe_named_beam() {
    let tree = Tree::new();
    tree.remove(SHOP);
    assert!(
        Command::new("mkfifo")
            .arg(tree.path(SHOP))
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(tree.sin(), format!("cannot read {SHOP}: it is not a file"));
}

#[test]
fn file_where_a_directory_should_be() {
    let tree = Tree::new();
    tree.remove("releases/1.0.0/consolidated");
    tree.put("releases/1.0.0/consolidated", "");
    assert!(
        tree.sin()
            .starts_with("cannot list the directory releases/1.0.0/consolidated: "),
        "{}",
        tree.sin()
    );
}

#[test]
fn oversized_app_file() {
    let tree = Tree::new();
    let path = "lib/shop-1.0.0/ebin/shop.app";
    fs::File::create(tree.path(path))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    assert_eq!(
        tree.sin(),
        format!("{path} has 1099511627776 bytes, more than the 16777216 that are read")
    );
}

#[test]
fn of_many_broken_files_the_same_one_is_named() {
    let tree = Tree::new();
    for index in 0..50 {
        tree.put(&format!("lib/shop-1.0.0/ebin/m{index:02}.beam"), "");
    }
    for _ in 0..20 {
        assert_eq!(
            tree.sin(),
            "lib/shop-1.0.0/ebin/m00.beam is not a usable beam file: it is not a beam file"
        );
    }
}

#[test]
fn module_that_changes_after_it_was_read() {
    let tree = Tree::new();
    let release = tree.read().unwrap();
    assert_eq!(
        release.read_module("shop").unwrap(),
        beam("shop", &[("start", 2)])
    );
    assert_eq!(
        release.read_module("stop").unwrap_err().to_string(),
        "the release has no module stop"
    );
    let mut other = beam("shop", &[("start", 2)]);
    *other.last_mut().unwrap() ^= 1;
    let longer = [&*other, &[0; 4]].concat();
    for bytes in [&*other, &longer, &other[..8]] {
        tree.put(SHOP, bytes);
        let error = release.read_module("shop").unwrap_err();
        assert!(
            matches!(error, ReadModuleError::Changed { .. }),
            "{}",
            chain(&error)
        );
    }
    tree.remove(SHOP);
    let error = release.read_module("shop").unwrap_err();
    assert!(matches!(error, ReadModuleError::Read { .. }), "{}", chain(&error));
}
