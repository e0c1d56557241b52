//! How much memory the machine of an orchestrator is given: by what is known before it is made.
//!
//! Of the image nothing is known here but its name. Where the project has a release of its own lying about, that says how much code there is.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

/// Where `mix release` puts releases.
const BUILT: &str = "_build/prod/rel";

/// The least: what fly_deploy's has. It is enough for 20 machines at once that are given 9 MB of changed code each.
const LEAST_MB: u64 = 1024;

/// What is there beside the code. Measured: packing takes 26 MB for an artifact of 120 KB and for one of 300 MB alike, which goes through piece by
/// piece, and 2.6 KB more for each module; the kernel, Fly's init and the answers of a large fleet have the rest.
const BESIDE_MB: u64 = 256;

/// What a node that is worked on may take, for each byte of changed code. Counted, not measured: the code as it is sent, its renamed copies as
/// they are made and as they are sent, and the terms that all of it is sent in.
const TIMES: u64 = 4;

/// In MB: as much as somebody says, else as much as is needed where all code of the project goes to so many machines at once.
pub(crate) fn memory_mb(said: Option<u32>, at_once: NonZeroUsize) -> u32 {
    said.unwrap_or_else(|| needed(at_once, code(Path::new(BUILT))))
}

fn needed(at_once: NonZeroUsize, code: u64) -> u32 {
    let each = code.div_ceil(1 << 20).saturating_mul(TIMES);
    let all = each
        .saturating_mul(at_once.get() as u64)
        .saturating_add(BESIDE_MB);
    u32::try_from(all.max(LEAST_MB)).unwrap_or(u32::MAX)
}

/// The bytes of beam files of the largest release there; 0 where there is none, or it cannot be read: then it is not known.
fn code(built: &Path) -> u64 {
    let below = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let beams = |application: &Path| -> u64 {
        let files = below(&application.join("ebin")).into_iter();
        let beams = files.filter(|file| file.extension().is_some_and(|extension| extension == "beam"));
        beams
            .filter_map(|beam| Some(fs::metadata(beam).ok()?.len()))
            .sum()
    };
    let releases = below(built).into_iter();
    let sizes = releases.map(|release| {
        below(&release.join("lib"))
            .iter()
            .map(|application| beams(application))
            .sum()
    });
    sizes.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_code_and_machines_and_is_never_less_than_the_least() {
        for (at_once, code_mb, expected) in [
            (20, 0, 1_024),
            (20, 9, 1_024),
            (20, 20, 1_856),
            (1, 192, 1_024),
            (100, 20, 8_256),
            (usize::MAX, 1, u32::MAX),
        ] {
            let at_once = NonZeroUsize::new(at_once).unwrap();
            assert_eq!(needed(at_once, code_mb << 20), expected, "{at_once} {code_mb}");
        }
    }

    #[test]
    fn the_code_is_that_of_the_largest_release() {
        let built = tempfile::tempdir().unwrap();
        assert_eq!(code(&built.path().join("nowhere")), 0);
        for (file, bytes) in [
            ("shop/lib/shop-1/ebin/a.beam", 10),
            ("shop/lib/dep-1/ebin/b.beam", 5),
            ("shop/lib/dep-1/priv/b.so", 100),
            ("shop/bin/shop", 100),
            ("till/lib/till-1/ebin/c.beam", 14),
        ] {
            let file = built.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, vec![0; bytes]).unwrap();
        }
        assert_eq!(code(built.path()), 15);
        let said = NonZeroUsize::MIN;
        assert_eq!(memory_mb(Some(2_048), said), 2_048);
    }
}
