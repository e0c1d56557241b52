//! Fleets of a hundred to five thousand nodes, which are simulated: what the driver of a rollout takes for them.
//!
//! The nodes answer at once with what a real one said, so the time is the driver's own, and that of the store on a disk.

use std::time::{Duration, Instant};

use flyhot_tests::{Crowd, Otp, Release, Run, Scratch, Used, rounds, watched};
use serde_json::{Value, json};

use super::{carts, median, spread, told};

/// How many nodes, beside a real one that goes first.
const SIZES: [usize; 3] = [100, 1_000, 5_000];

/// How many of them at once: what a rollout does that is told nothing else.
const AT_ONCE: usize = 20;

/// The largest fleet has 250 waves; a second each, and fifteen times that on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(3_600);

/// The most that a fleet of a thousand may take of memory, and each node more.
const PEAK_KIB: f64 = 60.0 * 1024.0;
const EACH_BYTES: f64 = 30.0 * 1024.0;

/// How much longer a wave of the largest fleet may take than one of the smallest.
const GROWTH: f64 = 1.2;

/// A rollout to fleets of all sizes.
pub(super) fn crowd() -> Value {
    let releases = ["v1", "v2"].map(|code| Release::shop(Otp::v25(), code));
    let cells = SIZES.map(|nodes| cell(&releases, nodes));
    let [smallest, middle, largest] = &cells;
    let more = (largest.nodes - smallest.nodes) as f64;
    let each_bytes = (median(&largest.kib) - median(&smallest.kib)) * 1024.0 / more;
    let each_cpu = (median(&largest.cpu_us) - median(&smallest.cpu_us)) / more;
    let growth = largest.of_a_wave() / smallest.of_a_wave();
    let met = median(&middle.kib) <= PEAK_KIB && each_bytes <= EACH_BYTES && growth <= GROWTH;
    // Without optimization memory and time are larger than what users have.
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    told(json!({
        "build": build, "at_once": AT_ONCE, "sizes": cells.each_ref().map(Cell::shown),
        "each_more_bytes": each_bytes, "each_more_cpu_us": each_cpu, "largest_by_smallest_wave": growth,
        "target": format!("peak_kib of {} nodes <= {PEAK_KIB}, each_more_bytes <= {EACH_BYTES}, \
                           largest_by_smallest_wave <= {GROWTH}", middle.nodes),
        "met": met,
    }))
}

/// What a rollout to so many nodes took, in several rounds.
struct Cell {
    nodes: usize,
    total_us: Vec<u64>,
    /// From the first wave of simulated nodes on.
    waves_us: Vec<u64>,
    cpu_us: Vec<u64>,
    kib: Vec<u64>,
    descriptors: usize,
    /// How often all nodes were asked something.
    questions: usize,
}

impl Cell {
    fn waves(&self) -> usize {
        self.nodes.div_ceil(AT_ONCE)
    }

    fn of_a_wave(&self) -> f64 {
        median(&self.waves_us) / self.waves() as f64
    }

    fn shown(&self) -> Value {
        told(json!({
            "nodes": self.nodes, "waves": self.waves(), "questions_each": self.questions as f64 / self.nodes as f64,
            "total_us": spread(&self.total_us), "waves_us": spread(&self.waves_us), "wave_us": self.of_a_wave(),
            "cpu_us": spread(&self.cpu_us), "peak_kib": spread(&self.kib), "most_descriptors": self.descriptors,
        }))
    }
}

fn cell([from, to]: &[Release; 2], nodes: usize) -> Cell {
    let mut cell = Cell {
        nodes,
        total_us: Vec::new(),
        waves_us: Vec::new(),
        cpu_us: Vec::new(),
        kib: Vec::new(),
        descriptors: 0,
        questions: 0,
    };
    for _ in 0..rounds(3, 9) {
        let shop = carts(from, 100);
        let crowd = Crowd::of(&shop, nodes);
        let store = Scratch::new("crowd");
        let rollout = crowd.rollout(to, store.path(), AT_ONCE).patience(LIMIT);
        let running = rollout.spawn();
        let used = watched(running.pid());
        let run = running.wait();
        let Used {
            kib,
            cpu_us,
            descriptors,
        } = used();
        run.expect("upgraded", 0);
        assert_eq!(crowd.wrongs(), [""; 0]);
        let us = |duration: Duration| duration.as_micros() as u64;
        cell.total_us.push(us(run.took));
        cell.waves_us.push(us(of_waves(&run)));
        cell.cpu_us.push(cpu_us);
        cell.kib.push(kib);
        cell.descriptors = cell.descriptors.max(descriptors);
        cell.questions = crowd.questions();
    }
    cell
}

/// From the wave behind the first node to the outcome, as seen here.
fn of_waves(run: &Run) -> Duration {
    let second = run.events_named("wave").nth(1).expect("there are waves").at;
    let last = run.events.last().map_or(run.begun, |event| event.at);
    last.saturating_duration_since(Instant::min(second, last))
}
