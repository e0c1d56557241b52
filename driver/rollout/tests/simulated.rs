//! Thousands of fleets that nobody has: every node ends as it likes and when it likes, gates say what they like, locks are lost and
//! signals come in between. After each command and at the end, what must hold is asked by name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use flyhot_events::ErrorKind;
use flyhot_rollout::{Command, End, Fleet, Happened, Machine, OnFailure, Settings, Stands, Verdict, Way};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

/// No run has so many commands: each node has six at most.
const COMMANDS: usize = 2_000;

/// How a node behaves.
#[derive(Debug, Clone)]
struct Script {
    forth: (Duration, Ending),
    gates: [(Duration, bool); 2],
    back: (Duration, Ending),
}

/// How the work on a node ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    With(End),
    /// Not by itself: only once it is given up.
    Hangs,
    /// It is not begun: the lock is lost.
    Barred,
    /// Its machine is not started any more: it is left to boot.
    Left,
}

/// How long a look takes, how many are there by then, who was started anew or is gone, and whether it comes to its end.
type Found = (Duration, usize, Option<(usize, bool)>, bool);

#[derive(Debug, Clone)]
struct Story {
    settings: Settings,
    nodes: Vec<Script>,
    /// A signal, say, at this time.
    stop: Option<(Duration, ErrorKind)>,
    /// How long it takes to have at hand what nodes go back to, and whether it is to be had.
    turn: (Duration, bool),
    /// How many of the nodes are there from the beginning.
    first: usize,
    /// What each look finds.
    looks: Vec<Found>,
}

/// What was seen from outside.
#[derive(Debug, Default)]
struct Seen {
    /// Commands with their times.
    commands: Vec<(Duration, Command)>,
    under_way: BTreeMap<usize, Way>,
    most: usize,
    /// What went wrong first, and when.
    failed: Option<Duration>,
    barred: Option<Duration>,
    /// Nodes whose first and second gate passed, since they were started last.
    passed: Vec<usize>,
    /// The first who was neither left to boot nor ran the target already, and whether it was started anew since.
    canary: Option<(usize, bool)>,
    /// How often it was asked who else is there.
    looks: usize,
    /// Whether the last time found somebody.
    found: bool,
    /// Nodes that were started anew, each as often as it was.
    restarted: Vec<usize>,
    stands: Vec<Stands>,
    ended_back: BTreeMap<usize, End>,
    /// Whether somebody came to run the target, or may have.
    upgraded: bool,
    against: Vec<ErrorKind>,
}

impl Seen {
    /// Those who are not left to boot.
    fn there(&self) -> impl Iterator<Item = (usize, Stands)> {
        let nodes = self.stands.iter().copied().enumerate();
        nodes.filter(|(_, stands)| *stands != Stands::Left)
    }

    fn begun(&self, way: Way) -> impl Iterator<Item = (Duration, usize)> {
        self.commands
            .iter()
            .filter_map(move |(at, command)| match command {
                Command::Begin { node, way: this } if *this == way => Some((*at, *node)),
                _ => None,
            })
    }
}

/// Plays a story to its end.
fn play(story: &Story) -> (Seen, Verdict) {
    let mut machine = Machine::new(story.settings.clone(), story.first);
    let mut seen = Seen {
        stands: vec![story.settings.from; story.first],
        ..Seen::default()
    };
    let mut to_come: BTreeMap<(Duration, usize), Happened> = BTreeMap::new();
    let mut now = Duration::ZERO;
    let mut hanging: BTreeMap<usize, End> = BTreeMap::new();
    let mut asked: BTreeMap<usize, usize> = BTreeMap::new();
    let mut number = 0;
    let mut later = |to_come: &mut BTreeMap<_, _>, at: Duration, happened| {
        number += 1;
        to_come.insert((at, number), happened);
    };
    if let Some((at, why)) = story.stop {
        later(&mut to_come, at, Happened::Stop(why));
    }
    loop {
        assert!(
            seen.commands.len() < COMMANDS,
            "it does not end: {:?}",
            seen.commands
        );
        let command = machine.next(now);
        invariant_a_command_may_be_given(story, &seen, now, command);
        invariant_nothing_is_a_success_before_it_is_over(&machine, command);
        if !matches!(command, Command::Wait { .. }) {
            seen.commands.push((now, command));
        }
        match command {
            Command::Begin { node, way } => {
                seen.under_way.insert(node, way);
                seen.most = seen.most.max(seen.under_way.len());
                let script = &story.nodes[node];
                let (takes, ending) = match way {
                    Way::Forth => script.forth,
                    Way::Back => script.back,
                };
                match ending {
                    Ending::With(end) => later(&mut to_come, now + takes, Happened::Ended { node, end }),
                    Ending::Hangs => {
                        let end = End {
                            stands: seen.stands[node],
                            against: Some(ErrorKind::NotQuiesced),
                            already: false,
                        };
                        hanging.insert(node, end);
                    }
                    Ending::Barred => {
                        let why = ErrorKind::Locked;
                        later(&mut to_come, now + takes, Happened::Barred { node, why });
                    }
                    Ending::Left => later(&mut to_come, now + takes, Happened::Left { node }),
                }
            }
            Command::Gate { node } => {
                invariant_who_is_left_is_left_alone(&seen, node);
                seen.under_way.insert(node, Way::Forth);
                seen.most = seen.most.max(seen.under_way.len());
                let times = asked.entry(node).or_default();
                let (takes, well) = story.nodes[node].gates[(*times).min(1)];
                *times += 1;
                later(&mut to_come, now + takes, Happened::Gate { node, well });
            }
            Command::GiveUp { node } => {
                let limit = story.settings.limit.expect("nobody is given up without a limit");
                assert_eq!(seen.under_way[&node], Way::Forth, "given up on its way back");
                let begun = seen.begun(seen.under_way[&node]).filter(|(_, at)| *at == node);
                assert!(now >= begun.last().unwrap().0 + limit, "given up too early");
                if let Some(end) = hanging.remove(&node) {
                    later(&mut to_come, now + MS, Happened::Ended { node, end });
                }
            }
            Command::GoBack => {
                let (takes, there) = story.turn;
                let happened = if there {
                    Happened::Ready
                } else {
                    Happened::Stop(ErrorKind::Store)
                };
                later(&mut to_come, now + takes, happened);
            }
            Command::Bake { .. } => {}
            Command::Look => {
                invariant_it_is_looked_only_once_all_are_well(&seen);
                seen.looks += 1;
                seen.found = false;
                assert!(seen.looks <= story.settings.looks as usize, "looked too often");
                let (takes, more, restarted, ends) = story
                    .looks
                    .get(seen.looks - 1)
                    .copied()
                    .unwrap_or((MS, 0, None, true));
                let known = seen.stands.len();
                for _ in 0..more.min(story.nodes.len() - known) {
                    later(&mut to_come, now + takes, Happened::Joined);
                }
                if let Some((node, gone)) = restarted {
                    let node = node % known;
                    let why = ErrorKind::NodeUnreachable;
                    let happened = match gone {
                        true => Happened::Lost { node, why },
                        false => Happened::Restarted { node },
                    };
                    later(&mut to_come, now + takes, happened);
                }
                let end = if ends {
                    Happened::Looked
                } else {
                    Happened::Stop(ErrorKind::FlyApi)
                };
                later(&mut to_come, now + takes, end);
            }
            Command::Wait { until } => {
                let next = to_come.keys().next().map(|(at, _)| *at);
                now = match (next, until) {
                    (Some(next), Some(until)) => next.min(until),
                    (Some(at), None) | (None, Some(at)) => at,
                    (None, None) => panic!("it waits for nothing: {seen:?}"),
                }
                .max(now);
                while let Some(entry) = to_come.first_entry()
                    && entry.key().0 <= now
                {
                    let happened = entry.remove();
                    note(story, &mut seen, now, happened);
                    machine.handle(happened);
                }
            }
            Command::Finished => return (seen, machine.verdict()),
        }
    }
}

fn note(story: &Story, seen: &mut Seen, now: Duration, happened: Happened) {
    let failed = |seen: &mut Seen, kind| {
        seen.failed.get_or_insert(now);
        seen.against.push(kind);
    };
    match happened {
        Happened::Ended { node, end } => {
            let way = seen.under_way.remove(&node).unwrap();
            if !end.already {
                seen.canary.get_or_insert((node, false));
            }
            seen.stands[node] = end.stands;
            match way {
                Way::Forth => seen.upgraded |= matches!(end.stands, Stands::Target | Stands::Unknown),
                Way::Back => drop(seen.ended_back.insert(node, end)),
            }
            match end.against {
                Some(kind) => failed(seen, kind),
                // Well, and elsewhere: the teller is mistaken.
                None if way == Way::Forth && end.stands != Stands::Target => failed(seen, ErrorKind::Bug),
                None => {}
            }
        }
        Happened::Left { node } => {
            assert_eq!(seen.under_way.remove(&node), Some(Way::Forth));
            seen.stands[node] = Stands::Left;
        }
        Happened::Barred { node, why } => {
            seen.under_way.remove(&node);
            failed(seen, why);
            seen.barred.get_or_insert(now);
        }
        Happened::Gate { node, well } => {
            seen.under_way.remove(&node);
            if well {
                seen.passed.push(node);
            } else {
                failed(seen, ErrorKind::Degraded);
            }
        }
        // What comes when nobody asked any more is no news.
        Happened::Joined if seen.barred.is_none() => {
            seen.stands.push(story.settings.from);
            seen.found = true;
        }
        Happened::Restarted { node } if seen.barred.is_none() => {
            seen.found = true;
            seen.stands[node] = story.settings.from;
            seen.canary = seen.canary.map(|(canary, anew)| (canary, anew || canary == node));
            seen.passed.retain(|at| *at != node);
            seen.restarted.push(node);
        }
        Happened::Lost { node, why } if seen.barred.is_none() && seen.stands[node] != Stands::Left => {
            seen.stands[node] = Stands::Unknown;
            failed(seen, why);
        }
        // Whom the last look finds is taken over no more.
        Happened::Looked
            if seen.barred.is_none() && seen.found && seen.looks == story.settings.looks as usize =>
        {
            failed(seen, ErrorKind::NotQuiesced);
        }
        Happened::Joined | Happened::Restarted { .. } | Happened::Lost { .. } | Happened::Looked => {}
        Happened::Ready => assert_eq!(story.settings.on_failure, OnFailure::GoBack),
        Happened::Stop(kind) => {
            failed(seen, kind);
            seen.barred.get_or_insert(now);
        }
    }
}

/// Whether a command may be given at this moment: after each command.
fn invariant_a_command_may_be_given(story: &Story, seen: &Seen, now: Duration, command: Command) {
    if let Command::Begin { node, way } = command {
        invariant_a_node_is_begun_once_each_way(seen, node, way);
        invariant_nothing_is_begun_after_a_lost_lock_or_a_signal(seen);
        invariant_who_is_left_is_left_alone(seen, node);
        match way {
            Way::Forth => {
                invariant_nothing_goes_forth_after_a_failure(seen);
                invariant_the_canary_was_well_and_has_baked(story, seen, now);
                invariant_every_gate_of_the_wave_before_has_passed(story, seen, node);
            }
            Way::Back => invariant_only_after_a_failure_and_once_nothing_goes_forth(story, seen),
        }
    }
}

fn invariant_nothing_is_a_success_before_it_is_over(machine: &Machine, command: Command) {
    assert!(
        command == Command::Finished || machine.verdict().against.is_some(),
        "a success before it is over"
    );
}

fn invariant_a_node_is_begun_once_each_way(seen: &Seen, node: usize, way: Way) {
    let anew = seen.restarted.iter().filter(|at| **at == node).count();
    let anew = if way == Way::Forth { anew } else { 0 };
    assert!(
        seen.begun(way).filter(|(_, at)| *at == node).count() <= anew,
        "node {node} is begun twice {way:?}"
    );
}

fn invariant_it_is_looked_only_once_all_are_well(seen: &Seen) {
    assert_eq!(seen.failed, None, "looked after a failure");
    assert!(seen.under_way.is_empty(), "looked while somebody is under way");
    let well = seen.there().all(|(node, _)| seen.passed.contains(&node));
    assert!(well, "looked before everybody is well: {seen:?}");
}

/// Whoever is left to boot is neither begun, nor asked, nor taken back, unless it was started since.
fn invariant_who_is_left_is_left_alone(seen: &Seen, node: usize) {
    assert_ne!(seen.stands[node], Stands::Left, "{node} is left to boot");
}

/// Behind whoever was begun last it was looked once more.
fn invariant_before_a_success_it_was_looked(story: &Story, seen: &Seen, verdict: Verdict) {
    if verdict.against.is_some() || story.settings.looks == 0 {
        return;
    }
    let last = seen
        .commands
        .iter()
        .rposition(|(_, command)| *command == Command::Look);
    let begun = seen
        .commands
        .iter()
        .rposition(|(_, command)| matches!(command, Command::Begin { .. }));
    assert!(last > begun, "{seen:?}");
}

fn invariant_nothing_is_begun_after_a_lost_lock_or_a_signal(seen: &Seen) {
    assert_eq!(seen.barred, None, "begun after nothing may be begun");
}

fn invariant_nothing_goes_forth_after_a_failure(seen: &Seen) {
    assert_eq!(seen.failed, None, "begun forth after a failure");
}

fn invariant_the_canary_was_well_and_has_baked(story: &Story, seen: &Seen, now: Duration) {
    let Some(bake) = story.settings.canary else {
        return;
    };
    let Some((canary, anew)) = seen.canary else {
        assert!(seen.under_way.is_empty(), "begun beside the canary");
        return;
    };
    let gates = if bake.is_zero() { 1 } else { 2 };
    let passed = seen.passed.iter().filter(|at| **at == canary).count();
    // One that was started anew is none any more.
    assert!(passed == gates || anew, "begun before the canary's gate passed");
    let first = seen
        .commands
        .iter()
        .find(|(_, command)| *command == Command::Gate { node: canary });
    let asked = first.unwrap().0;
    assert!(now >= asked + bake, "begun before the canary has baked");
}

fn invariant_every_gate_of_the_wave_before_has_passed(story: &Story, seen: &Seen, node: usize) {
    let at_once = story.settings.at_once.get();
    let before = match (story.settings.canary, seen.canary) {
        (Some(_), Some((canary, _))) if canary < node => canary + 1 + (node - canary - 1) / at_once * at_once,
        (Some(_), _) => node,
        (None, _) => node / at_once * at_once,
    };
    // Who is there later comes behind everybody, and who was started anew beside them.
    let before = if node < story.first { before } else { story.first };
    let left = |at: &usize| seen.stands[*at] == Stands::Left;
    for at in (0..before).filter(|at| !seen.restarted.contains(at) && !left(at)) {
        assert!(
            seen.passed.contains(&at),
            "node {node} is begun before {at} is well"
        );
    }
}

fn invariant_only_after_a_failure_and_once_nothing_goes_forth(story: &Story, seen: &Seen) {
    assert!(seen.failed.is_some(), "back without a failure");
    assert_eq!(story.settings.on_failure, OnFailure::GoBack);
    assert!(
        seen.under_way.values().all(|way| *way == Way::Back),
        "back while somebody goes forth"
    );
}

fn invariant_never_more_at_once_than_may_be(story: &Story, seen: &Seen) {
    assert!(seen.most <= story.settings.at_once.get(), "{} at once", seen.most);
}

fn invariant_nothing_is_under_way_at_the_end(seen: &Seen) {
    assert!(
        seen.under_way.is_empty(),
        "{:?} are still under way",
        seen.under_way
    );
}

/// Of those who are not left to boot, of whom there is one at least: what nobody runs was tried by nobody.
fn invariant_success_is_every_node_well_on_the_target(seen: &Seen, verdict: Verdict) {
    let any = seen.there().next().is_some();
    let all = seen.there().all(|(_, stands)| stands == Stands::Target);
    let well = seen.there().all(|(node, _)| seen.passed.contains(&node));
    assert_eq!(
        verdict.against.is_none(),
        any && all && well && seen.failed.is_none(),
        "{verdict:?} of {seen:?}"
    );
}

fn invariant_the_verdict_says_what_the_fleet_runs(seen: &Seen, verdict: Verdict) {
    let all = |of: &[Stands]| seen.there().all(|(_, stands)| of.contains(&stands));
    let fleet = if seen.there().next().is_none() {
        Fleet::Before
    } else if all(&[Stands::Target]) {
        Fleet::Target
    } else if all(&[Stands::Old]) {
        Fleet::Old
    } else if all(&[Stands::Old, Stands::Before]) {
        Fleet::Before
    } else {
        Fleet::Mixed
    };
    assert_eq!(verdict.fleet, fleet, "{seen:?}");
    // An exit code that says what nodes run is said of no other fleet.
    match verdict.against {
        Some(ErrorKind::Reverted) => assert!(all(&[Stands::Old]), "{verdict:?} of {seen:?}"),
        Some(ErrorKind::ColdDeployNeeded | ErrorKind::NotQuiesced) => {
            assert!(all(&[Stands::Old, Stands::Before]), "{verdict:?} of {seen:?}");
        }
        // Some of those that are as before may run what a rollout before this one left.
        Some(ErrorKind::Mixed) => assert!(matches!(fleet, Fleet::Mixed | Fleet::Before), "{seen:?}"),
        Some(ErrorKind::Degraded) => {
            let untouched = all(&[Stands::Old, Stands::Before]);
            assert!(!untouched, "{verdict:?} of {seen:?}");
        }
        _ => {}
    }
}

fn invariant_somebody_suspended_outweighs_all(seen: &Seen, verdict: Verdict) {
    let suspended = ErrorKind::MaybeSuspended;
    assert_eq!(
        verdict.against == Some(suspended),
        seen.against.contains(&suspended),
        "{seen:?}"
    );
}

/// With a way back, a fleet ends on one code, unless one of its ways back failed or none could be begun.
fn invariant_a_fleet_ends_on_one_code(story: &Story, seen: &Seen, verdict: Verdict) {
    if story.settings.on_failure == OnFailure::Stay || seen.barred.is_some() {
        return;
    }
    let failed = seen.ended_back.values().any(|end| end.stands != Stands::Old);
    assert!(verdict.fleet != Fleet::Mixed || failed, "{verdict:?} of {seen:?}");
}

/// Whoever runs the target, or may, was to go back, unless that was not wanted or could not be begun.
fn invariant_whoever_was_upgraded_is_taken_back(story: &Story, seen: &Seen) {
    if seen.failed.is_none() || story.settings.on_failure == OnFailure::Stay || seen.barred.is_some() {
        return;
    }
    for (node, stands) in seen.stands.iter().enumerate() {
        if matches!(stands, Stands::Target | Stands::Unknown) {
            assert!(seen.ended_back.contains_key(&node), "nobody took {node} back");
        }
    }
}

/// A first node that was not touched has nobody else touched, and its own exit code.
fn invariant_who_is_refused_first_ends_it(story: &Story, seen: &Seen, verdict: Verdict) {
    let alone = story.settings.canary.is_some() || story.settings.at_once.get() == 1;
    let (_, Ending::With(end)) = story.nodes[0].forth else {
        return;
    };
    let untouched = matches!(end.stands, Stands::Old | Stands::Before);
    if alone && untouched && end.against == Some(ErrorKind::ColdDeployNeeded) && seen.against.len() == 1 {
        assert_eq!(verdict.against, Some(ErrorKind::ColdDeployNeeded));
        assert_eq!(seen.begun(Way::Forth).count(), 1);
        assert_eq!(seen.begun(Way::Back).count(), 0);
    }
}

/// What is refused does nothing to a fleet, wherever it is refused, as long as nobody was upgraded.
fn invariant_nobody_goes_back_when_nobody_was_upgraded(seen: &Seen) {
    let torn = seen.against.contains(&ErrorKind::Reverted);
    assert!(
        seen.begun(Way::Back).next().is_none() || seen.upgraded || torn,
        "{seen:?}"
    );
}

fn any_kind() -> impl Strategy<Value = ErrorKind> {
    proptest::sample::select(ErrorKind::ALL.to_vec())
}

/// Why nothing may be begun any more.
fn any_cause() -> impl Strategy<Value = ErrorKind> {
    use ErrorKind::*;
    proptest::sample::select(vec![Locked, Store, Interrupted, Bug])
}

fn any_time(longest: u64) -> impl Strategy<Value = Duration> {
    (0..longest).prop_map(Duration::from_millis)
}

/// `well` stands for the end that is hoped for.
fn any_ending(well: Stands, from: Stands) -> impl Strategy<Value = Ending> {
    let against = |stands| {
        any_kind().prop_map(move |kind| End {
            stands,
            against: Some(kind),
            already: false,
        })
    };
    let hoped = End {
        stands: well,
        against: None,
        already: false,
    };
    let already = End {
        already: true,
        ..hoped
    };
    prop_oneof![
        30 => Just(Ending::With(hoped)),
        6 => Just(Ending::With(already)),
        2 => against(from).prop_map(Ending::With),
        1 => against(Stands::Target).prop_map(Ending::With),
        1 => against(Stands::Unknown).prop_map(Ending::With),
        1 => Just(Ending::With(End { stands: from, against: Some(ErrorKind::ColdDeployNeeded), ..hoped })),
        // Well, and elsewhere: whoever tells that is mistaken.
        1 => Just(Ending::With(End { stands: from, ..hoped })),
        1 => Just(Ending::Hangs),
        1 => Just(Ending::Barred),
        3 => Just(Ending::Left),
    ]
}

fn any_script(from: Stands) -> impl Strategy<Value = Script> {
    let gate = || (any_time(40), proptest::bool::weighted(0.97));
    (
        (any_time(50), any_ending(Stands::Target, from)),
        [gate(), gate()],
        (any_time(50), any_ending(Stands::Old, Stands::Target)),
    )
        .prop_map(|(forth, gates, (takes, back))| {
            // Nobody is given up on the way back, so that none hangs for ever.
            let given_up = End {
                stands: Stands::Target,
                against: Some(ErrorKind::NotQuiesced),
                already: false,
            };
            let back = match back {
                // Nor is anybody left to boot who is to go back.
                Ending::Hangs | Ending::Left => Ending::With(given_up),
                ends => ends,
            };
            Script {
                forth,
                gates,
                back: (takes, back),
            }
        })
}

fn any_look() -> impl Strategy<Value = Found> {
    (
        any_time(30),
        0..4_usize,
        proptest::option::weighted(0.3, (0..25_usize, proptest::bool::weighted(0.3))),
        proptest::bool::weighted(0.95),
    )
}

fn any_story() -> impl Strategy<Value = Story> {
    let from = prop_oneof![4 => Just(Stands::Old), 1 => Just(Stands::Before)];
    from.prop_flat_map(|from| {
        let on_failure = prop_oneof![4 => Just(OnFailure::GoBack), 1 => Just(OnFailure::Stay)];
        let settings = (
            proptest::option::of(prop_oneof![Just(Duration::ZERO), any_time(100)]),
            1..8_usize,
            on_failure,
            // Without a limit nothing would end what hangs.
            (1..60_u64).prop_map(Duration::from_millis),
            0..4_u32,
        )
            .prop_map(move |(canary, at_once, on_failure, limit, looks)| Settings {
                canary,
                at_once: NonZeroUsize::new(at_once).unwrap(),
                on_failure,
                limit: Some(limit),
                from,
                looks,
            });
        (
            settings,
            proptest::collection::vec(any_script(from), 1..25),
            proptest::option::weighted(0.15, (any_time(300), any_cause())),
            (any_time(30), proptest::bool::weighted(0.95)),
            (1..25_usize, proptest::collection::vec(any_look(), 0..4)),
        )
            .prop_map(|(settings, nodes, stop, turn, (first, looks))| Story {
                first: first.min(nodes.len()),
                settings,
                nodes,
                stop,
                turn,
                looks,
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn every_fleet_comes_to_an_end_that_is_told_as_it_is(story in any_story()) {
        let (seen, verdict) = play(&story);
        invariant_never_more_at_once_than_may_be(&story, &seen);
        invariant_nothing_is_under_way_at_the_end(&seen);
        invariant_success_is_every_node_well_on_the_target(&seen, verdict);
        invariant_the_verdict_says_what_the_fleet_runs(&seen, verdict);
        invariant_somebody_suspended_outweighs_all(&seen, verdict);
        invariant_a_fleet_ends_on_one_code(&story, &seen, verdict);
        invariant_whoever_was_upgraded_is_taken_back(&story, &seen);
        invariant_before_a_success_it_was_looked(&story, &seen, verdict);
        invariant_who_is_refused_first_ends_it(&story, &seen, verdict);
        invariant_nobody_goes_back_when_nobody_was_upgraded(&seen);
    }
}

const WELL: (Duration, Ending) = with(Stands::Target, None, false);

/// It runs the target already.
const THERE: (Duration, Ending) = with(Stands::Target, None, true);

const fn with(stands: Stands, against: Option<ErrorKind>, already: bool) -> (Duration, Ending) {
    let end = End {
        stands,
        against,
        already,
    };
    (MS, Ending::With(end))
}

fn ends(stands: Stands, kind: ErrorKind) -> (Duration, Ending) {
    with(stands, Some(kind), false)
}

/// A fleet of nodes that go forth so, and all go back.
fn fleet(forth: &[(Duration, Ending)], at_once: usize) -> Story {
    let node = |forth: &(Duration, Ending)| Script {
        forth: *forth,
        gates: [(MS, true); 2],
        back: with(Stands::Old, None, false),
    };
    Story {
        settings: Settings {
            canary: None,
            at_once: NonZeroUsize::new(at_once).unwrap(),
            on_failure: OnFailure::GoBack,
            limit: None,
            from: Stands::Old,
            looks: 0,
        },
        first: forth.len(),
        nodes: forth.iter().map(node).collect(),
        stop: None,
        turn: (MS, true),
        looks: Vec::new(),
    }
}

fn told(story: &Story) -> (Fleet, Option<ErrorKind>, Vec<usize>) {
    let (seen, verdict) = play(story);
    let back = seen.begun(Way::Back).map(|(_, node)| node).collect();
    (verdict.fleet, verdict.against, back)
}

/// How nodes go forth, how many at once; what the fleet runs, what is against it, who went back.
type Row<'a> = (
    &'a [(Duration, Ending)],
    usize,
    Fleet,
    Option<ErrorKind>,
    &'a [usize],
);

#[test]
fn what_a_failure_makes_of_a_fleet() {
    use ErrorKind::*;
    let refused = ends(Stands::Old, ColdDeployNeeded);
    let reverted = ends(Stands::Old, Reverted);
    let degraded = ends(Stands::Target, Degraded);
    let lost = ends(Stands::Unknown, NodeUnreachable);
    let table: [Row<'_>; 9] = [
        (&[WELL, WELL, WELL], 2, Fleet::Target, None, &[]),
        (&[refused, WELL], 1, Fleet::Old, Some(ColdDeployNeeded), &[]),
        (&[reverted, WELL], 1, Fleet::Old, Some(Reverted), &[]),
        (&[WELL, WELL, refused], 1, Fleet::Old, Some(Reverted), &[0, 1]),
        // The others of its wave come to their end first, and nobody of the next is begun.
        (&[refused, WELL, WELL], 2, Fleet::Old, Some(Reverted), &[1]),
        (&[degraded, WELL], 1, Fleet::Old, Some(Reverted), &[0]),
        (&[lost, WELL], 1, Fleet::Old, Some(Reverted), &[0]),
        (&[ends(Stands::Old, Locked)], 1, Fleet::Old, Some(Locked), &[]),
        (
            &[WELL, ends(Stands::Old, MaybeSuspended)],
            1,
            Fleet::Old,
            Some(MaybeSuspended),
            &[0],
        ),
    ];
    for (forth, at_once, fleet_runs, against, back) in table {
        let story = fleet(forth, at_once);
        assert_eq!(told(&story), (fleet_runs, against, back.to_vec()), "{story:?}");
    }
}

#[test]
fn what_it_makes_of_one_that_stays() {
    use ErrorKind::*;
    let stays = |forth: &[_]| Story {
        settings: Settings {
            on_failure: OnFailure::Stay,
            ..fleet(forth, 1).settings
        },
        ..fleet(forth, 1)
    };
    let refused = ends(Stands::Old, ColdDeployNeeded);
    let degraded = ends(Stands::Target, Degraded);
    let table: [(&[_], Fleet, Option<ErrorKind>); 5] = [
        (&[WELL, refused], Fleet::Mixed, Some(Mixed)),
        (&[degraded, WELL], Fleet::Mixed, Some(Mixed)),
        (&[WELL, degraded], Fleet::Target, Some(Degraded)),
        (
            &[ends(Stands::Unknown, NodeUnreachable), WELL],
            Fleet::Mixed,
            Some(NodeUnreachable),
        ),
        (&[WELL, ends(Stands::Old, Interrupted)], Fleet::Mixed, Some(Mixed)),
    ];
    for (forth, fleet_runs, against) in table {
        assert_eq!(told(&stays(forth)), (fleet_runs, against, vec![]), "{forth:?}");
    }
}

#[test]
fn behind_a_rollout_without_an_end_everybody_is_looked_at_on_the_way_back() {
    use ErrorKind::*;
    let refused = ends(Stands::Before, ColdDeployNeeded);
    let behind = |forth: &[_]| Story {
        settings: Settings {
            from: Stands::Before,
            ..fleet(forth, 1).settings
        },
        ..fleet(forth, 1)
    };
    // The last one was not begun this time, and may run the target since the last.
    let story = behind(&[WELL, refused, WELL]);
    assert_eq!(told(&story), (Fleet::Old, Some(Reverted), vec![0, 1, 2]));
    // Nobody runs it because of this one: everybody is left alone.
    let story = behind(&[refused, WELL]);
    assert_eq!(told(&story), (Fleet::Before, Some(ColdDeployNeeded), vec![]));
    // The target went ill, and the other one may run it: that all run the old code is said only once they do.
    let reverted = ends(Stands::Before, Reverted);
    let mut story = behind(&[reverted, WELL]);
    assert_eq!(told(&story), (Fleet::Old, Some(Reverted), vec![0, 1]));
    story.nodes[1].back = ends(Stands::Before, NodeUnreachable);
    assert_eq!(told(&story), (Fleet::Before, Some(Mixed), vec![0, 1]));
    story.settings.on_failure = OnFailure::Stay;
    assert_eq!(told(&story), (Fleet::Before, Some(Mixed), vec![]));
}

#[test]
fn what_bakes_badly_is_seen_before_the_next_wave() {
    let mut story = fleet(&[WELL; 4], 2);
    story.settings.canary = Some(Duration::from_secs(60));
    story.nodes[0].gates = [(MS, true), (MS, false)];
    let (seen, verdict) = play(&story);
    assert_eq!(seen.begun(Way::Forth).count(), 1);
    assert_eq!(verdict.against, Some(ErrorKind::Reverted));
    story.nodes[0].gates = [(MS, true); 2];
    let (seen, verdict) = play(&story);
    assert_eq!(verdict.against, None);
    let times: Vec<_> = seen.begun(Way::Forth).map(|(at, _)| at.as_secs()).collect();
    assert_eq!(times, [0, 60, 60, 60]);
}

/// As behind a rollout that was killed when its canary had gone ill: the first to be taken over now is the canary.
#[test]
fn who_runs_the_target_already_is_no_canary() {
    let mut story = fleet(&[THERE, WELL, WELL, WELL], 2);
    story.settings.canary = Some(Duration::from_secs(60));
    let times = |story: &Story| -> Vec<_> {
        let (seen, verdict) = play(story);
        assert_eq!(verdict.against, None);
        seen.begun(Way::Forth).map(|(at, _)| at.as_secs()).collect()
    };
    assert_eq!(times(&story), [0, 0, 60, 60]);
    story.nodes[1].gates = [(MS, true), (MS, false)];
    let (seen, verdict) = play(&story);
    assert_eq!(seen.begun(Way::Forth).count(), 2);
    assert_eq!(
        (verdict.fleet, verdict.against),
        (Fleet::Old, Some(ErrorKind::Reverted))
    );
    // Where all of them do, nobody is waited for.
    let mut there = fleet(&[THERE; 3], 2);
    there.settings.canary = Some(Duration::from_secs(60));
    assert_eq!(times(&there), [0, 0, 0]);
}

#[test]
fn who_is_left_to_boot_is_none_of_the_fleet_until_it_is_there_again() {
    let left = (MS, Ending::Left);
    let table: [Row<'_>; 4] = [
        (&[left, WELL, left], 2, Fleet::Target, None, &[]),
        (
            &[WELL, left, ends(Stands::Old, ErrorKind::Reverted)],
            1,
            Fleet::Old,
            Some(ErrorKind::Reverted),
            &[0],
        ),
        // What nobody runs was tried by nobody.
        (
            &[left, left],
            2,
            Fleet::Before,
            Some(ErrorKind::NodeUnreachable),
            &[],
        ),
        (&[], 2, Fleet::Before, Some(ErrorKind::NodeUnreachable), &[]),
    ];
    for (forth, at_once, fleet_runs, against, back) in table {
        let story = fleet(forth, at_once);
        assert_eq!(told(&story), (fleet_runs, against, back.to_vec()), "{story:?}");
    }
    // The next one is the canary instead.
    for (bake, times) in [(0, [0, 0, 0, 0, 0]), (60, [0, 0, 0, 60, 60])] {
        let mut story = fleet(&[left, left, WELL, WELL, WELL], 2);
        story.settings.canary = Some(Duration::from_secs(bake));
        let (seen, verdict) = play(&story);
        assert_eq!(verdict.against, None);
        let begun: Vec<_> = seen.begun(Way::Forth).map(|(at, _)| at.as_secs()).collect();
        assert_eq!(begun, times);
    }
    // One that is started again is taken over.
    let mut story = fleet(&[WELL, left], 2);
    story.settings.looks = 3;
    story.looks = vec![(MS, 0, Some((1, false)), true)];
    let (seen, verdict) = play(&story);
    let begun: Vec<_> = seen.begun(Way::Forth).map(|(_, node)| node).collect();
    assert_eq!((begun, verdict.against, seen.looks), (vec![0, 1, 1], None, 2));
}

#[test]
fn who_hangs_is_given_up_and_ends_it() {
    let mut story = fleet(&[WELL, (MS, Ending::Hangs), WELL], 1);
    story.settings.limit = Some(Duration::from_secs(60));
    let (seen, verdict) = play(&story);
    let given_up: Vec<_> = seen
        .commands
        .iter()
        .filter(|(_, command)| matches!(command, Command::GiveUp { .. }))
        .collect();
    assert_eq!(given_up.len(), 1, "{seen:?}");
    assert_eq!(verdict.against, Some(ErrorKind::Reverted));
}

#[test]
fn who_starts_meanwhile_is_taken_over_before_the_end() {
    let mut story = fleet(&[WELL; 5], 2);
    story.first = 2;
    story.settings.looks = 3;
    // Two are there by the first look, one more by the second, and one that was taken over was started anew.
    story.looks = vec![(MS, 2, None, true), (MS, 1, Some((0, false)), true)];
    let (seen, verdict) = play(&story);
    let begun: Vec<_> = seen.begun(Way::Forth).map(|(_, node)| node).collect();
    assert_eq!(begun, [0, 1, 2, 3, 0, 4]);
    assert_eq!(
        (verdict.fleet, verdict.against, seen.looks),
        (Fleet::Target, None, 3)
    );
    // Whoever is found again and again is begun no more in the end, and that is no success.
    let mut restless = fleet(&[WELL; 2], 2);
    restless.settings.looks = 3;
    restless.looks = vec![(MS, 0, Some((0, false)), true); 3];
    let (seen, verdict) = play(&restless);
    let begun: Vec<_> = seen.begun(Way::Forth).map(|(_, node)| node).collect();
    assert_eq!((begun, seen.looks), (vec![0, 1, 0, 0], 3));
    assert_eq!(
        (verdict.fleet, verdict.against),
        (Fleet::Old, Some(ErrorKind::Reverted))
    );
    // One that fails takes those before it back as any other does.
    story.nodes[3].forth = ends(Stands::Old, ErrorKind::Reverted);
    let (seen, verdict) = play(&story);
    let back: Vec<_> = seen.begun(Way::Back).map(|(_, node)| node).collect();
    assert_eq!((back, verdict.fleet), (vec![0, 1, 2], Fleet::Old));
    // One that is gone is one that failed.
    story.nodes[3].forth = WELL;
    story.looks = vec![(MS, 0, Some((1, true)), true)];
    let (seen, verdict) = play(&story);
    let back: Vec<_> = seen.begun(Way::Back).map(|(_, node)| node).collect();
    assert_eq!((back, verdict.fleet), (vec![0, 1], Fleet::Old));
    story.nodes[1].back = ends(Stands::Unknown, ErrorKind::NodeUnreachable);
    let (_, verdict) = play(&story);
    assert_eq!(
        (verdict.fleet, verdict.against),
        (Fleet::Mixed, Some(ErrorKind::Mixed))
    );
    // Where nobody can say who is there, it is no success, and nobody goes back.
    story.looks = vec![(MS, 0, None, false)];
    let (seen, verdict) = play(&story);
    assert_eq!(
        (verdict.fleet, verdict.against),
        (Fleet::Target, Some(ErrorKind::FlyApi))
    );
    assert_eq!(seen.begun(Way::Back).count(), 0);
}
