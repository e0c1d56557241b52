//! All that became of a command on one page of HTML, for whoever was not there.
//!
//! Events and the time come in, text goes out: it knows no file and no clock. What stands in an event was written by others, a node or
//! a release, and is shown as text wherever it stands: maud escapes it, control characters go, and what would turn the direction of
//! writing turns its own alone. The page asks nothing of anybody: it has no script and no link, and its browser is told to take none.
//! What builds said is not in it, nor with which options, because pages are passed on.

use std::collections::BTreeMap;
use std::time::Duration;

use anstyle::Style;
use flyhot_events::{
    CodeIds, ErrorKind, Event, Measured, NodeOutcome, Outcome, PhaseTimes, Predicted, Reason, Signal, Step,
    Unit, Verdict, Watched, WaveWay,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::inventory;
use super::outcome::row;
use super::stored;
use super::words::{self, BAD, DOUBTFUL, FAINT, GOOD, SHOWN, number};

/// What a browser takes for this page: its own style and nothing else.
const TAKES: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = include_str!("page.css");

/// Of a name like `shop@fdaa:0:1::2`, in a list of them: more are counted.
const NAMES: usize = SHOWN;

/// What was heard of a command so far.
#[derive(Debug)]
pub struct Page {
    /// Seconds since 1970.
    begun_s: u64,
    command: Option<String>,
    /// What else there is to say of it as a whole: a word, and what is said.
    facts: Vec<(&'static str, String)>,
    moments: Vec<Moment>,
    errors: Vec<Failure>,
    /// What was done on each node, and what was done on none.
    works: BTreeMap<Option<String>, Work>,
}

/// Something worth a line of its own.
#[derive(Debug)]
struct Moment {
    at: Duration,
    node: Option<String>,
    what: String,
}

#[derive(Debug)]
struct Failure {
    node: Option<String>,
    message: String,
    hint: String,
}

#[derive(Debug, Default)]
struct Work {
    verdict: Option<Verdict>,
    steps: Vec<Done>,
}

/// A step.
#[derive(Debug, Clone, Copy)]
struct Done {
    at: Duration,
    step: Step,
    took_us: u64,
    count: u64,
    unit: Unit,
}

impl Page {
    /// A page about what begins at that time, seconds since 1970.
    pub fn new(begun_s: u64) -> Self {
        Self {
            begun_s,
            command: None,
            facts: Vec::new(),
            moments: Vec::new(),
            errors: Vec::new(),
            works: BTreeMap::new(),
        }
    }

    /// Hears an event, so long after the beginning.
    pub fn event(&mut self, at: Duration, event: &Event) {
        match event {
            Event::Started {
                command,
                nodes: _,
                release,
                policy,
                flyhot,
            } => {
                // An orchestrator that is followed says so again.
                if self.command.is_none() {
                    self.command = Some(command.clone());
                    self.fact("release", release.as_deref());
                    self.fact("policy", policy.as_deref());
                    self.fact("flyhot", Some(flyhot));
                }
            }
            Event::Deploy {
                app,
                config,
                image: _,
                region: _,
                command: _,
                env: _,
                dry_run,
            } => {
                self.fact("app", Some(app));
                self.fact("configuration", Some(config));
                self.fact("dry run", dry_run.then_some("nothing of it was done"));
            }
            Event::Orchestrator {
                app: _,
                machine,
                name,
                region,
                image,
            } => {
                self.fact("image", Some(image));
                let machine = format!("{name}, machine {machine} in {region}");
                self.fact("orchestrator", Some(&machine));
                self.moment(at, None, "the orchestrator is made".to_owned());
            }
            Event::StepDone {
                node,
                step,
                duration_us,
                count,
                unit,
            } => {
                let (step, took_us) = (*step, *duration_us);
                if step == Step::Window {
                    let took = words::time(took_us);
                    self.moment(at, node.as_deref(), format!("its window is over after {took}"));
                }
                let work = self.works.entry(node.clone()).or_default();
                work.steps.push(Done {
                    at,
                    step,
                    took_us,
                    count: *count,
                    unit: *unit,
                });
            }
            Event::Plan { node, verdict, .. } => {
                self.works.entry(Some(node.clone())).or_default().verdict = Some(*verdict);
            }
            Event::Wave {
                wave,
                way,
                nodes,
                at_once,
            } => {
                let title = match way {
                    WaveWay::Forth => format!("wave {wave}"),
                    WaveWay::Back => "the way back".to_owned(),
                };
                let mut names = nodes.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
                if nodes.len() > NAMES {
                    names.push_str(&format!(" and {} more", number((nodes.len() - NAMES) as u64)));
                }
                let at_once = (*at_once).min(nodes.len() as u64);
                self.moment(at, None, format!("{title} begins, {at_once} at once: {names}"));
            }
            Event::Bake { node, bake_us } => {
                let alone = format!("stands alone for {}", words::time(*bake_us));
                self.moment(at, Some(node), alone);
            }
            Event::LeftToBoot { node, machine, state } => {
                let left = inventory::left(state);
                self.moment(at, Some(node), format!("its machine {machine} was {left}"));
            }
            Event::Attempt {
                node, attempt, of, ..
            } => {
                let given_up = format!("freeze given up, everything thawed: attempt {attempt} of {of}");
                self.moment(at, Some(node), given_up);
            }
            Event::Pointer {
                app,
                store,
                state,
                artifact,
                fencing: _,
                displaced,
            } => {
                let text = stored::pointer(app, store, state, artifact, displaced.as_deref());
                for line in text.lines() {
                    self.moment(at, None, line.trim().to_owned());
                }
            }
            Event::Error {
                node,
                kind: _,
                message,
                hint,
            } => {
                self.moment(at, node.as_deref(), message.clone());
                self.errors.push(Failure {
                    node: node.clone(),
                    message: message.clone(),
                    hint: hint.clone(),
                });
            }
            // What is between, what the outcome says as well, and what other commands say.
            Event::StepStarted { .. }
            | Event::Progress { .. }
            | Event::Build { .. }
            | Event::Elsewhere { .. }
            | Event::Stopping { .. }
            | Event::ToSign { .. }
            | Event::Inventory { .. }
            | Event::Lease { .. }
            | Event::Census { .. }
            | Event::Outcome(_)
            | Event::Status { .. }
            | Event::Thaw { .. }
            | Event::RestoreBase { .. }
            | Event::Check { .. }
            | Event::Artifact { .. }
            | Event::Key { .. }
            | Event::Lock { .. }
            | Event::History { .. }
            | Event::Config { .. }
            | Event::Gc { .. }
            | Event::Boot { .. } => {}
        }
    }

    fn fact(&mut self, word: &'static str, said: Option<&str>) {
        self.facts.extend(said.map(|said| (word, said.to_owned())));
    }

    fn moment(&mut self, at: Duration, node: Option<&str>, what: String) {
        let node = node.map(str::to_owned);
        self.moments.push(Moment { at, node, what });
    }

    /// The page, of what ended so after this time.
    pub fn html(&self, took: Duration, outcome: &Outcome) -> String {
        let command = words::plain(self.command.as_deref().unwrap_or("flyhot"));
        let (word, style) = words::outcome(outcome.outcome);
        let code = outcome.exit_code;
        let kind = ErrorKind::ALL.into_iter().find(|kind| kind.exit_code() == code);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(TAKES);
                    meta name="viewport" content="width=device-width";
                    title { "flyhot " (command) ": " (word) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { "flyhot " (command) ": " span class=(tone(style)) { (word) } }
                    p { "Exit code " b { (code.0) } @if let Some(kind) = kind { ": " (words::exit_sentence(kind)) } }
                    dl {
                        dt { "begun" } dd { (stored::moment(self.begun_s)) }
                        dt { "took" } dd { (words::time(micros(took))) }
                        @for (word, fact) in &self.facts { dt { (word) } dd { (said(fact)) } }
                    }
                    @if !self.errors.is_empty() { (self.failures()) }
                    @if !outcome.nodes.is_empty() { (self.table(&outcome.nodes)) }
                    (self.timeline(took))
                    @if !outcome.nodes.is_empty() {
                        h2 { "Each node" }
                        @for node in outcome.nodes.iter().filter(|node| self.tells(node)) { (self.node(node)) }
                    }
                }
            }
        };
        page.into_string()
    }

    fn failures(&self) -> Markup {
        html! {
            h2 { "What went wrong" }
            ul {
                @for error in &self.errors {
                    li {
                        // Most messages name the node themselves.
                        @if let Some(node) = error.node.as_ref().filter(|node| !error.message.contains(*node)) {
                            b { (said(node)) } ": "
                        }
                        (said(&error.message))
                        @if !error.hint.is_empty() { p.next { "next: " (said(&error.hint)) } }
                    }
                }
            }
        }
    }

    fn table(&self, nodes: &[NodeOutcome]) -> Markup {
        let machines = nodes.iter().any(|node| node.machine.is_some());
        html! {
            h2 { "Nodes" }
            div.wide {
                table {
                    thead {
                        tr {
                            @if machines { th { "machine" } th { "region" } }
                            th { "node" } th { "outcome" } th { "code before" } th { "code after" } th { "modules" }
                            th { "processes" } th { "window" } th { "longest freeze" } th { "way back" } th { "gate" }
                        }
                    }
                    tbody {
                        @for node in nodes { (self.line(node, machines)) }
                    }
                }
            }
        }
    }

    fn line(&self, node: &NodeOutcome, machines: bool) -> Markup {
        let [name, word, modules, processes, window, freeze] = row(node);
        let CodeIds { before, after } = &node.code_id;
        let (gate, gate_style) = words::gate(node);
        html! {
            tr {
                @if machines {
                    @for of in [&node.machine, &node.region] { td { (said(of.as_deref().unwrap_or_default())) } }
                }
                td { bdi { (name) } }
                td class=(tone(words::outcome(node.outcome).1)) { (word) }
                @for code in [before, after] {
                    td { @if let Some(code) = code { code title=(words::plain(code)) { (words::short(Some(code))) } } }
                }
                td { (modules) }
                td { (processes) }
                td.number { (window) }
                td.number { (freeze) }
                td { @if let Some(predicted) = node.predicted { (words::way_back(predicted.way_back)) } }
                td class=(tone(gate_style)) { (gate) }
            }
        }
    }

    fn timeline(&self, took: Duration) -> Markup {
        html! {
            h2 { "Timeline" }
            p { "When it was heard here, from the beginning on." }
            @if !self.works.is_empty() {
                div.wide {
                    table.spans {
                        @for (node, work) in &self.works {
                            tr {
                                th { @match node { Some(node) => (said(node)), None => "as a whole" } }
                                td { div.span { @for segment in segments(&work.steps, took) { (segment) } } }
                            }
                        }
                    }
                }
                p.legend { span.window {} " window " span.gate {} " gate " span.step {} " other steps" }
            }
            table {
                tbody {
                    @for moment in &self.moments {
                        tr {
                            td.number { (words::time(micros(moment.at))) }
                            td { @if let Some(node) = &moment.node { (said(node)) } }
                            td { (said(&moment.what)) }
                        }
                    }
                }
            }
        }
    }

    /// Whether there is more to say of a node than stands in the table.
    fn tells(&self, node: &NodeOutcome) -> bool {
        node.code_id.before.is_some()
            || !node.reasons.is_empty()
            || self.works.contains_key(&Some(node.node.clone()))
    }

    fn node(&self, node: &NodeOutcome) -> Markup {
        let (word, style) = words::outcome(node.outcome);
        let work = self.works.get(&Some(node.node.clone()));
        let CodeIds { before, after } = &node.code_id;
        html! {
            details open[style != GOOD && style != FAINT] {
                summary { (said(&node.node)) ": " span class=(tone(style)) { (word) } }
                dl {
                    @for (word, code) in [("code before", before), ("code after", after)] {
                        dt { (word) } dd { code { (words::plain(code.as_deref().unwrap_or("unknown"))) } }
                    }
                    @if let Some(verdict) = work.and_then(|work| work.verdict) {
                        @let (word, style) = words::verdict(verdict);
                        dt { "verdict" } dd { span class=(tone(style)) { (word) } }
                    }
                    @if node.window_us > 0 { (window(node)) }
                }
                @if !node.reasons.is_empty() { (reasons(&node.reasons)) }
                @if let Some(watched) = &node.watched { (signals(watched)) }
                @if let Some(work) = work.filter(|work| !work.steps.is_empty()) { (steps(&work.steps)) }
            }
        }
    }
}

/// Text that somebody else wrote.
fn said(text: &str) -> Markup {
    html! { bdi { (words::plain(text)) } }
}

/// The name of a style in the page's own.
fn tone(style: Style) -> &'static str {
    match style {
        GOOD => "good",
        DOUBTFUL => "doubtful",
        BAD => "bad",
        _ => "faint",
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The steps of a node on a line as long as all of it. They come one after the other, but may be heard of all at once: each ends when it
/// was heard of, or where the next one begins.
fn segments(steps: &[Done], took: Duration) -> Vec<Markup> {
    let share = |time: Duration| 100.0 * time.as_secs_f64() / took.as_secs_f64().max(f64::MIN_POSITIVE);
    let mut next = took;
    let segment = |done: &Done| {
        let end = done.at.min(next);
        let begin = end.saturating_sub(Duration::from_micros(done.took_us));
        next = begin;
        let class = match done.step {
            Step::Window => "window",
            Step::Baseline | Step::Watch | Step::Gate | Step::CheckUrl | Step::MachineChecks => "gate",
            _ => "step",
        };
        let place = format!("left:{:.2}%;width:{:.2}%", share(begin), share(end - begin));
        let title = format!("{} {}", words::step(done.step), words::time(done.took_us));
        html! { span class=(class) style=(place) title=(title) {} }
    };
    let mut segments: Vec<_> = steps.iter().rev().map(segment).collect();
    segments.reverse();
    segments
}

fn window(node: &NodeOutcome) -> Markup {
    let PhaseTimes {
        freeze,
        swap,
        migrate,
        prove,
        undo,
        thaw,
    } = node.phases_us;
    let phases = [
        ("freeze", freeze),
        ("swap", swap),
        ("migrate", migrate),
        ("prove", prove),
        ("undo", undo),
        ("thaw", thaw),
    ];
    let phases = phases.iter().filter(|(name, us)| *name != "undo" || *us > 0);
    let phases: Vec<_> = phases
        .map(|(name, us)| format!("{name} {}", words::time(*us)))
        .collect();
    html! {
        dt { "window" } dd { (words::time(node.window_us)) ": " (phases.join(", ")) }
        dt { "longest freeze" }
        dd {
            (words::time(node.longest_freeze_us))
            @if let Some(Predicted { freeze_us, .. }) = node.predicted {
                ", expected about " (words::time(freeze_us)) " on an idle node"
            }
        }
        @if let Some(Predicted { way_back, revert_us, .. }) = node.predicted {
            dt { "way back" } dd { (words::way_back(way_back)) ", in about " (words::time(revert_us)) }
        }
    }
}

/// Reasons, heaviest first, those of one code together.
fn reasons(reasons: &[Reason]) -> Markup {
    let mut sorted: Vec<_> = reasons.iter().collect();
    sorted.sort_by_key(|reason| (std::cmp::Reverse(reason.severity), reason.code));
    html! {
        ul {
            @for group in sorted.chunk_by(|a, b| (a.severity, a.code) == (b.severity, b.code)) {
                @for reason in group.iter().take(SHOWN) {
                    @let (word, style) = words::severity(reason.severity);
                    li {
                        span class=(tone(style)) { (word) } " " code { (reason.code.name()) } " " b { (said(&reason.subject)) }
                        p { (said(&reason.sentence)) }
                        @if !reason.hint.is_empty() { p.next { "next: " (said(&reason.hint)) } }
                    }
                }
                @if let Some(more @ 1..) = group.len().checked_sub(SHOWN) {
                    li { "and " (number(more as u64)) " more of them (--output json lists all)" }
                }
            }
        }
    }
}

fn signals(watched: &Watched) -> Markup {
    let shown = |signal: Signal, of: Option<u64>| match (signal, of) {
        (_, None) => "no data".to_owned(),
        (Signal::Memory, Some(bytes)) => words::bytes(bytes),
        (_, Some(of)) => number(of),
    };
    html! {
        table {
            thead {
                tr {
                    th { "gate" }
                    th { "in " (words::time(watched.before_us)) " before" }
                    th { "in " (words::time(watched.after_us)) " after" }
                    th { "at most" }
                }
            }
            tbody {
                @for Measured { signal, before, after, limit } in &watched.signals {
                    @let over = after.zip(*limit).is_none_or(|(after, limit)| after > limit);
                    tr class=(if over { "bad" } else { "plain" }) {
                        td { (signal.name()) }
                        @for of in [before, after, limit] { td.number { (shown(*signal, *of)) } }
                    }
                }
            }
        }
    }
}

fn steps(steps: &[Done]) -> Markup {
    html! {
        table {
            thead { tr { th { "step" } th { "of" } th { "took" } } }
            tbody {
                @for done in steps {
                    tr {
                        td { (words::step(done.step)) }
                        td { (words::count(done.count, done.unit)) }
                        td.number { (words::time(done.took_us)) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flyhot_events::{
        ExitCode, GateAnswer, HistoryEntry, ModuleCounts, OutcomeKind, ProcessCounts, ReasonCode, WayBack,
    };
    use html5ever::tendril::TendrilSink as _;
    use html5ever::{ParseOpts, parse_document, tokenizer::TokenizerOpts, tree_builder::TreeBuilderOpts};
    use markup5ever_rcdom::{Handle, NodeData, RcDom};
    use proptest::prelude::*;

    use super::*;

    const CODE: &str = "3f2a9100c4d23f2a9100c4d23f2a9100c4d23f2a9100c4d23f2a9100c4d2c4d2";

    /// What a browser makes of a page.
    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        /// Every element with the names of its attributes, in order.
        elements: Vec<(String, Vec<String>)>,
        /// What their values are.
        values: Vec<String>,
        /// What stands between the tags, besides the style.
        text: String,
    }

    impl Seen {
        fn of(page: &str) -> Self {
            let opts = ParseOpts {
                tokenizer: TokenizerOpts {
                    exact_errors: true,
                    ..TokenizerOpts::default()
                },
                tree_builder: TreeBuilderOpts {
                    exact_errors: true,
                    ..TreeBuilderOpts::default()
                },
            };
            let dom = parse_document(RcDom::default(), opts).one(page);
            assert!(
                dom.errors.borrow().is_empty(),
                "{:?}\n{page}",
                dom.errors.borrow()
            );
            let mut seen = Self::default();
            seen.look(&dom.document);
            seen
        }

        fn look(&mut self, at: &Handle) {
            match &at.data {
                NodeData::Element { name, attrs, .. } => {
                    let attrs = attrs.borrow();
                    let names = attrs.iter().map(|attr| attr.name.local.to_string()).collect();
                    self.values
                        .extend(attrs.iter().map(|attr| attr.value.to_string()));
                    self.elements.push((name.local.to_string(), names));
                    if &*name.local == "style" {
                        return;
                    }
                }
                NodeData::Text { contents } => self.text.push_str(&contents.borrow()),
                NodeData::Document | NodeData::Doctype { .. } => {}
                other => panic!("{other:?}"),
            }
            for child in at.children.borrow().iter() {
                self.look(child);
            }
        }
    }

    /// A rollout that went back, with this text in everything that others write.
    fn page(text: &str) -> String {
        let of = |what: &str| format!("{what}{text}");
        let node = of("n");
        let mut page = Page::new(1_795_799_156);
        let mut at = Duration::ZERO;
        let mut hear = |event: Event| {
            at += Duration::from_secs(1);
            page.event(at, &event);
        };
        hear(Event::Started {
            command: of("rollout"),
            nodes: vec![node.clone()],
            release: Some(of("release")),
            policy: Some(of("policy")),
            flyhot: of("0.1.0"),
        });
        hear(Event::Deploy {
            app: of("app"),
            config: of("fly.toml"),
            image: None,
            region: None,
            command: vec!["--check-url=http://user:hidden@host".to_owned()],
            env: vec!["hidden".to_owned()],
            dry_run: true,
        });
        hear(Event::Build {
            line: "TOKEN=hidden".to_owned(),
        });
        hear(Event::Orchestrator {
            app: of("app"),
            machine: of("machine"),
            name: of("name"),
            region: of("region"),
            image: of("image"),
        });
        let step = |node: Option<&String>, step, duration_us| Event::StepDone {
            node: node.cloned(),
            step,
            duration_us,
            count: 2,
            unit: Unit::Modules,
        };
        hear(step(None, Step::Upload, 300_000));
        hear(Event::Pointer {
            app: of("app"),
            store: of("store"),
            state: of("trial"),
            artifact: HistoryEntry {
                version: of("version"),
                code_id: of("code"),
                digest: of("digest"),
                created_at: 0,
                state: of("trial"),
            },
            fencing: 1,
            displaced: Some(of("alice")),
        });
        for way in [WaveWay::Forth, WaveWay::Back] {
            let nodes = vec![node.clone(); NAMES + 1];
            hear(Event::Wave {
                wave: 1,
                way,
                nodes,
                at_once: 2,
            });
        }
        hear(step(Some(&node), Step::Window, 182_400));
        hear(step(Some(&node), Step::Watch, 3_000_000));
        hear(Event::Bake {
            node: node.clone(),
            bake_us: 5_000_000,
        });
        hear(Event::LeftToBoot {
            node: node.clone(),
            machine: of("machine"),
            state: of("state"),
        });
        hear(Event::Attempt {
            node: node.clone(),
            attempt: 1,
            of: 3,
            reasons: vec![],
        });
        hear(Event::Error {
            node: Some(node.clone()),
            kind: ErrorKind::Reverted,
            message: of("message"),
            hint: of("do"),
        });
        let reason = |code| Reason::new(code, of("errors"), of("Sentence"), of("Mend"));
        let ran = NodeOutcome {
            machine: Some(of("machine")),
            region: Some(of("region")),
            code_id: CodeIds {
                before: Some(CODE.to_owned()),
                after: Some(of(CODE)),
            },
            modules: ModuleCounts {
                changed: 2,
                added: 1,
                removed: 0,
            },
            processes: ProcessCounts {
                affected: 1_001,
                migrated: 1_001,
                ..ProcessCounts::default()
            },
            window_us: 182_400,
            longest_freeze_us: 171_020,
            phases_us: PhaseTimes {
                freeze: 61_000,
                ..PhaseTimes::default()
            },
            predicted: Some(Predicted {
                way_back: WayBack::AfterDrain,
                revert_us: 82_000,
                freeze_us: 165_000,
            }),
            watched: Some(Watched {
                before_us: 6_000_000,
                after_us: 7_000_000,
                signals: vec![
                    Measured {
                        signal: Signal::Errors,
                        before: Some(0),
                        after: Some(140),
                        limit: Some(20),
                    },
                    Measured {
                        signal: Signal::Memory,
                        before: Some(3 << 20),
                        after: None,
                        limit: None,
                    },
                ],
            }),
            gate: Some(GateAnswer::NotPassed),
            reasons: std::iter::repeat_n(reason(ReasonCode::GateFailed), SHOWN + 1)
                .chain([reason(ReasonCode::PersistOff)])
                .collect(),
            ..NodeOutcome::untouched(&node, OutcomeKind::TakenBack)
        };
        let outcome = Outcome {
            outcome: OutcomeKind::Reverted,
            exit_code: ErrorKind::Reverted.exit_code(),
            nodes: vec![ran, NodeOutcome::untouched("other", OutcomeKind::NotBegun)],
        };
        page.html(Duration::from_secs(20), &outcome)
    }

    #[test]
    fn all_of_it_is_there() {
        let Seen {
            text,
            values,
            elements,
        } = Seen::of(&page(""));
        for part in [
            "flyhot rollout: reverted",
            "Exit code 11: everything runs the old code",
            "2026-11-27T",
            "20.00 s",
            "machine",
            "taken back",
            "not begun",
            "2 changed, 1 added",
            "1 001 migrated",
            "182 ms",
            "171 ms",
            "after drain",
            "not passed: errors",
            "not asked",
            "3f2a9100c4d2",
            "wave 1 begins, 2 at once: n, n,",
            "and 1 more",
            "the way back begins",
            "stands alone for 5.00 s",
            "app in store: version (code code) is on trial",
            "the lock was taken from alice",
            "freeze given up",
            "nothing of it was done",
            "name, machine machine in region",
            "next: do",
            "next: Mend",
            "gate_failed",
            "persist_off",
            "140",
            "3.0 MiB",
            "no data",
            "freeze 61.0 ms",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Whole code ids can be had, and the bars of the timeline have their place.
        assert!(text.contains(CODE) && values.iter().any(|value| value == CODE));
        assert!(
            values.iter().any(|value| value == "left:34.09%;width:0.91%"),
            "{values:?}"
        );
        // It asks nobody for anything, and tells nobody what builds were told.
        assert!(!text.contains("hidden") && values.iter().any(|value| value == TAKES));
        for (element, attributes) in elements {
            let asks = ["script", "link", "img", "iframe", "object", "a", "form"];
            assert!(!asks.contains(&&*element), "{element}");
            for attribute in attributes {
                assert!(!["src", "href"].contains(&&*attribute) && !attribute.starts_with("on"));
            }
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains("</"));
    }

    #[test]
    fn nothing_heard_is_a_page_as_well() {
        let outcome = Outcome {
            outcome: OutcomeKind::Done,
            exit_code: ExitCode::SUCCESS,
            nodes: Vec::new(),
        };
        let seen = Seen::of(&Page::new(u64::MAX).html(Duration::ZERO, &outcome));
        assert!(
            seen.text.contains("flyhot flyhot: done") && seen.text.contains("unknown"),
            "{seen:?}"
        );
    }

    /// The elements are those of a page of harmless texts, and what was written stands there as text.
    fn harmless(hostile: &str) {
        let (plain, seen) = (Seen::of(&page("x")), Seen::of(&page(hostile)));
        assert_eq!(plain.elements, seen.elements, "{hostile:?}");
        let shown = words::plain(hostile);
        for word in [
            "rollout", "release", "image", "message", "Sentence", "Mend", "errors", "version",
        ] {
            assert!(seen.text.contains(&format!("{word}{shown}")), "{word}{hostile:?}");
        }
        assert!(seen.values.contains(&format!("{CODE}{shown}")), "{hostile:?}");
        assert!(!seen.text.chars().any(char::is_control), "{hostile:?}");
    }

    #[test]
    fn what_others_write_is_text() {
        for hostile in [
            "<script>alert(1)</script>",
            "\"><img src=x onerror=alert(1)>",
            "' onmouseover='alert(1)",
            "</style></title></bdi></td></table><h1>upgraded</h1>",
            "<!-- ",
            "]]>",
            "&lt;b&gt; &amp; &#60; &",
            "\0\u{1}\u{1b}[2J\u{9b}\r\n\t\u{7f}",
            "\u{202e}dedargpu\u{2066}",
            "javascript:alert(1)",
            "ü€😀",
        ] {
            harmless(hostile);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn whatever_others_write_is_text(
            hostile in proptest::collection::vec(
                prop_oneof![
                    proptest::sample::select("<>&\"'=/-!;#x \0\n".chars().collect::<Vec<_>>()),
                    // What is no character HTML would rather not have at all.
                    any::<char>().prop_filter("a character", |c| {
                        !matches!(*c as u32, 0xFDD0..=0xFDEF) && *c as u32 & 0xFFFE != 0xFFFE
                    }),
                ],
                1..20,
            )
        ) {
            harmless(&hostile.into_iter().collect::<String>());
        }
    }
}
