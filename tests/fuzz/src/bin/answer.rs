//! A term that should be an answer of the agent.
#![no_main]

use flyhot_agent as agent;
use flyhot_node::term::Term;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(term) = flyhot_node::fuzzing::decoded(bytes) {
        every_reader(&term);
    }
});

fn every_reader(term: &Term) {
    let _ = agent::started(term);
    let _ = agent::facts(term);
    let _ = agent::census(term);
    let _ = agent::copies_loaded(term);
    let _ = agent::rehearsal(term);
    let _ = agent::held(term, true);
    let _ = agent::drain(term);
    let _ = agent::prepare(term);
    let _ = agent::way_back(term);
    let _ = agent::knock(term);
    let _ = agent::entry(term);
    let _ = agent::finished(term);
    let _ = agent::disk(term);
    let _ = agent::lacking(term);
    let _ = agent::modules(term);
    let _ = agent::private(term);
    let _ = agent::environment(term);
    let _ = agent::persist(term);
    let _ = agent::removed(term);
    let _ = agent::window(term);
}
