//! Small releases and small beam files, made by hand: no Erlang is needed to break them.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use flyhot_artifact::{ReadReleaseError, Release};

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A beam file of these atoms (the first names the module) and exports of the second atom on, by arity.
pub(crate) fn beam(module: &str, exports: &[(&str, u32)]) -> Vec<u8> {
    let mut atoms = vec![module];
    atoms.extend(exports.iter().map(|(function, _)| *function));
    let mut table = (atoms.len() as u32).to_be_bytes().to_vec();
    for atom in &atoms {
        table.push(atom.len() as u8);
        table.extend(atom.as_bytes());
    }
    let mut exported = (exports.len() as u32).to_be_bytes().to_vec();
    for (index, (_, arity)) in exports.iter().enumerate() {
        for word in [index as u32 + 2, *arity, 1] {
            exported.extend(word.to_be_bytes());
        }
    }
    // Header of 16 bytes: instruction set 0, highest opcode, labels, functions; then int_code_end.
    let code = [16_u32, 0, 172, 1, 1]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .chain([3])
        .collect();
    container(&[
        (b"AtU8", table),
        (b"Code", code),
        (b"StrT", vec![]),
        (b"ImpT", vec![0; 4]),
        (b"ExpT", exported),
    ])
}

fn container(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut body = b"BEAM".to_vec();
    for (id, data) in chunks {
        body.extend(*id);
        body.extend((data.len() as u32).to_be_bytes());
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    [b"FOR1".as_slice(), &(body.len() as u32).to_be_bytes(), &body].concat()
}

/// A release directory with the applications `kernel`, `shop` (modules `shop` and `shop_app`) and a consolidated
/// protocol, all sound. A test breaks one thing.
pub(crate) struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let tree = Tree {
            dir: tempfile::tempdir().unwrap(),
        };
        tree.put("releases/start_erl.data", "13.1.5 1.0.0\n");
        tree.rel(r#"{kernel,"8.5"},{shop,"1.0.0"}"#);
        tree.put("releases/1.0.0/sys.config", "[].\n");
        tree.app("kernel", "8.5", "[kernel_mod]", "");
        tree.put(
            "lib/kernel-8.5/ebin/kernel_mod.beam",
            beam("kernel_mod", &[("a", 0)]),
        );
        tree.app("shop", "1.0.0", "[shop,shop_app]", ",{mod,{shop_app,[]}}");
        for module in ["shop", "shop_app"] {
            tree.put(
                &format!("lib/shop-1.0.0/ebin/{module}.beam"),
                beam(module, &[("start", 2)]),
            );
        }
        tree.put(
            "releases/1.0.0/consolidated/Elixir.P.beam",
            beam("Elixir.P", &[("__protocol__", 1)]),
        );
        tree
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub(crate) fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn rel(&self, apps: &str) {
        self.put(
            "releases/1.0.0/shop.rel",
            format!("{{release,{{\"shop\",\"1.0.0\"}},{{erts,\"13.1.5\"}},[{apps}]}}.\n"),
        );
    }

    pub(crate) fn app(&self, name: &str, version: &str, modules: &str, more: &str) {
        self.put(
            &format!("lib/{name}-{version}/ebin/{name}.app"),
            format!("{{application,{name},[{{vsn,\"{version}\"}},{{modules,{modules}}},{{applications,[kernel]}}{more}]}}.\n"),
        );
    }

    pub(crate) fn read(&self) -> Result<Release, ReadReleaseError> {
        Release::read(self.root())
    }
}
