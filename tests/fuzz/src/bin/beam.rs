//! A beam file, and everything that is asked of one.
#![no_main]

use std::collections::BTreeMap;

use flyhot_artifact::beam::Beam;
use flyhot_artifact::beam::compare::{Differences, callback_mode, handles_timeout};
use flyhot_artifact::beam::graph::judge;
use flyhot_artifact::beam::rename::rename;
use flyhot_artifact::{ModuleFacts, Origin};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(beam) = Beam::parse(bytes) else { return };
    let _ = (
        beam.md5(),
        beam.loads_nif(),
        beam.has_on_load(),
        beam.names("lists"),
    );
    let _ = (beam.literals(), beam.constant("module_info"));
    let _ = (callback_mode(&beam), handles_timeout(&beam));
    let _ = ModuleFacts::of(&beam, Origin::Own);
    let _ = Differences::between(&beam, &beam);
    if let Ok(copy) = rename(
        &beam,
        &BTreeMap::from([(beam.module().to_owned(), "copy".to_owned())]),
    ) {
        assert!(Beam::parse(&copy).is_ok_and(|copy| copy.module() == "copy"));
    }
    for export in beam.exports() {
        let mut again = |_: &str| Beam::parse(bytes).ok();
        let _ = judge(&mut again, beam.module(), &export.function, export.arity);
    }
});
