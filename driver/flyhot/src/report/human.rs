//! Text for people: a line per step, the plan, errors with the next step, the closing table.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use flyhot_events::{
    Event, InventoryMachine, NodeCensus, NodeStatus, Reason, ReasonCode, Step, Unit, WaveWay,
};
use indicatif::{ProgressBar, ProgressStyle};

use super::artifact;
use super::boot::Boot;
use super::config;
use super::deploy::{self, Deploy};
use super::inventory;
use super::outcome;
use super::plan::Plan;
use super::status;
use super::stored;
use super::words::{self, BAD, DOUBTFUL, FAINT, GOOD, TITLE, count, number, paint, time};
use crate::options::Screen;

/// Often enough to look alive, seldom enough to cost nothing beside a window.
const SPIN: Duration = Duration::from_millis(100);

/// Writes events as text: errors to `err`, everything else to `out`.
pub struct Human<O, E> {
    out: O,
    err: E,
    screen: Screen,
    /// The node that the last line was about.
    node: Option<String>,
    /// The step that is under way, on a terminal.
    bar: Option<(Step, ProgressBar)>,
    /// Node, code and subject of each reason shown so far, so that the closing table repeats none.
    shown: HashSet<(String, ReasonCode, String)>,
    /// Nodes that told how they are, for the table of all of them.
    statuses: Vec<(String, NodeStatus)>,
    /// Whether nodes are asked how they are: then their machines stand in that table.
    asks: bool,
    /// Those machines.
    machines: Vec<InventoryMachine>,
    /// The node whose work is shown as it goes.
    front: Option<String>,
    /// What was said meanwhile of others that are worked on: theirs is shown when it is done, or the one in front is.
    behind: Vec<Behind>,
}

struct Behind {
    node: String,
    said: Vec<Event>,
    done: bool,
}

impl<O, E> fmt::Debug for Human<O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Human")
            .field("screen", &self.screen)
            .finish_non_exhaustive()
    }
}

impl<O: Write, E: Write> Human<O, E> {
    /// Writes to `out` and `err`, with what `screen` can show.
    pub fn new(out: O, err: E, screen: Screen) -> Self {
        Self {
            out,
            err,
            screen,
            node: None,
            bar: None,
            shown: HashSet::new(),
            statuses: Vec::new(),
            asks: false,
            machines: Vec::new(),
            front: None,
            behind: Vec::new(),
        }
    }

    /// Says one event.
    ///
    /// # Errors
    /// What `out` or `err` said.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Some(node) = work_on(event) {
            let front = self.front.get_or_insert_with(|| node.to_owned());
            if *front != node {
                self.keep(node, event);
                return Ok(());
            }
            self.say(event)?;
            return if ends(event) { self.step_back() } else { Ok(()) };
        }
        match event {
            Event::Error { node: Some(node), .. } => {
                if let Some(at) = self.behind.iter().position(|behind| behind.node == *node) {
                    let behind = self.behind.remove(at);
                    self.show(&behind)?;
                }
                self.say(event)?;
                if self.front.as_ref() == Some(node) {
                    self.step_back()?;
                }
                Ok(())
            }
            Event::Wave { .. } | Event::Bake { .. } | Event::Pointer { .. } | Event::Outcome(_) => {
                self.front = None;
                for behind in std::mem::take(&mut self.behind) {
                    self.show(&behind)?;
                }
                self.say(event)
            }
            _ => self.say(event),
        }
    }

    /// Keeps what is said of a node that is not in front.
    fn keep(&mut self, node: &str, event: &Event) {
        // How far it is nobody sees.
        if matches!(event, Event::Progress { .. }) {
            return;
        }
        let at = match self.behind.iter().position(|behind| behind.node == node) {
            Some(at) => at,
            None => {
                self.behind.push(Behind {
                    node: node.to_owned(),
                    said: Vec::new(),
                    done: false,
                });
                self.behind.len() - 1
            }
        };
        if let Some(behind) = self.behind.get_mut(at) {
            behind.said.push(event.clone());
            behind.done |= ends(event);
        }
    }

    /// The node in front is done: those that are so too are shown, and the first of the others comes to the front.
    fn step_back(&mut self) -> io::Result<()> {
        self.front = None;
        let (done, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.behind)
            .into_iter()
            .partition(|behind| behind.done);
        self.behind = others;
        for behind in done {
            self.show(&behind)?;
        }
        if !self.behind.is_empty() {
            let next = self.behind.remove(0);
            self.show(&next)?;
            self.front = Some(next.node);
        }
        Ok(())
    }

    fn show(&mut self, behind: &Behind) -> io::Result<()> {
        behind.said.iter().try_for_each(|event| self.say(event))
    }

    fn say(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::StepStarted { node, step } => return self.spin(node.as_deref(), *step),
            Event::Progress {
                step,
                done,
                total,
                unit,
                ..
            } => {
                self.progress(*step, *done, *total, *unit);
                return Ok(());
            }
            _ => {}
        }
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
        match event {
            Event::Started {
                command,
                nodes,
                release,
                policy,
                flyhot,
            } => {
                self.asks = command == "status";
                let nodes: Vec<_> = nodes.iter().map(|node| words::plain(node)).collect();
                let policy = policy.as_ref().map_or(String::new(), |file| {
                    format!(" by the policy {}", words::plain(file))
                });
                let release = release.as_ref().map_or(String::new(), |release| {
                    let to = if nodes.is_empty() { "" } else { "to " };
                    format!(" {to}{}", words::plain(release))
                });
                let nodes = match &nodes[..] {
                    [] => String::new(),
                    nodes => format!(" {}", nodes.join(", ")),
                };
                let line = format!("flyhot {flyhot}: {command}{nodes}{release}{policy}");
                writeln!(self.out, "{line}")?;
            }
            Event::Inventory { app, machines } if self.asks => {
                self.out.write_all(inventory::title(app, machines).as_bytes())?;
                self.machines.clone_from(machines);
            }
            Event::Inventory { app, machines } => {
                let text = inventory::text(self.screen, app, machines);
                self.out.write_all(text.as_bytes())?;
            }
            Event::Lease {
                node,
                machine,
                state,
                holder,
                until,
                why,
            } => {
                self.about(Some(node))?;
                let text = inventory::lease(
                    machine,
                    *state,
                    holder.as_deref(),
                    until.as_deref(),
                    why.as_deref(),
                );
                writeln!(self.out, "  {} {text}", paint(self.screen, DOUBTFUL, "lease"))?;
            }
            Event::LeftToBoot { node, machine, state } => {
                self.about(Some(node))?;
                let left = inventory::left(state);
                writeln!(self.out, "  its machine {} was {left}", words::plain(machine))?;
            }
            Event::StepDone {
                node,
                step,
                duration_us,
                count: of,
                unit,
            } => {
                self.about(node.as_deref())?;
                let (step, of, took) = (words::step(*step), count(*of, *unit), time(*duration_us));
                writeln!(self.out, "  {step:<14}{of:<20}{took:>10}")?;
            }
            Event::Census { node, census } => {
                self.about(Some(node))?;
                let NodeCensus {
                    otp,
                    erts,
                    elixir,
                    modules,
                    processes,
                } = census;
                let elixir = elixir
                    .as_ref()
                    .map_or(String::new(), |version| format!(", Elixir {version}"));
                let line = format!(
                    "OTP {otp} (ERTS {erts}){elixir}, {} modules, {} processes",
                    number(*modules),
                    number(*processes)
                );
                writeln!(self.out, "  {}", paint(self.screen, FAINT, &words::plain(&line)))?;
            }
            Event::Plan {
                node,
                verdict,
                modules,
                kinds,
                way_back,
                revert_us,
                freeze_us,
                calls,
                code_id,
                reasons,
            } => {
                let (verdict, way_back) = (*verdict, *way_back);
                let (revert_us, freeze_us) = (*revert_us, *freeze_us);
                let plan = Plan {
                    node,
                    verdict,
                    modules,
                    kinds,
                    way_back,
                    revert_us,
                    freeze_us,
                    calls,
                    code_id,
                    reasons,
                };
                self.out.write_all(plan.text(self.screen).as_bytes())?;
                self.node = None;
                self.remember(node, reasons);
            }
            Event::Status { node, status } => self.statuses.push((node.clone(), (**status).clone())),
            Event::Thaw {
                node,
                resumed,
                still,
                still_count,
            } => {
                self.about(Some(node))?;
                let text = status::thaw(self.screen, *resumed, still, *still_count);
                self.out.write_all(text.as_bytes())?;
            }
            Event::RestoreBase { node, files } => {
                self.about(Some(node))?;
                match files {
                    0 => writeln!(self.out, "  no upgrade has changed what it starts with")?,
                    files => writeln!(self.out, "  put back {}", count(*files, Unit::Files))?,
                }
            }
            Event::Check {
                node,
                check,
                well,
                found,
                fix,
            } => {
                self.about(Some(node))?;
                let (mark, style) = if *well {
                    ("\u{2713}", GOOD)
                } else {
                    ("\u{2717}", BAD)
                };
                writeln!(
                    self.out,
                    "  {} {:<12} {}",
                    paint(self.screen, style, mark),
                    words::plain(check),
                    words::plain(found)
                )?;
                if !fix.is_empty() {
                    writeln!(self.out, "      next: {}", words::plain(fix))?;
                }
            }
            Event::Artifact {
                artifact,
                directory,
                signature,
            } => {
                let text = artifact::text(artifact, directory.as_deref(), signature.as_deref());
                self.out.write_all(text.as_bytes())?;
            }
            Event::Key { file, public } => {
                writeln!(self.out, "  private key  {}", words::plain(file))?;
                writeln!(self.out, "  public key   {}", words::plain(public))?;
            }
            Event::Lock {
                app,
                store,
                holder,
                fencing: _,
                released,
            } => {
                let text = stored::lock(app, store, holder.as_ref(), released.as_ref());
                self.out.write_all(text.as_bytes())?;
            }
            Event::History {
                app,
                store,
                base_image,
                artifacts,
            } => {
                let text = stored::history(self.screen, app, store, base_image.as_deref(), artifacts);
                self.out.write_all(text.as_bytes())?;
            }
            Event::Build { line } => {
                writeln!(self.out, "  {}", words::plain(line))?;
            }
            Event::Deploy {
                app,
                config,
                image,
                region,
                command,
                env,
                dry_run,
            } => {
                let deploy = Deploy {
                    app,
                    config,
                    image: image.as_deref(),
                    region: region.as_deref(),
                    command,
                    env,
                    dry_run: *dry_run,
                };
                self.out.write_all(deploy.text().as_bytes())?;
            }
            Event::Orchestrator {
                app: _,
                machine,
                name,
                region,
                image,
            } => {
                let text = deploy::orchestrator(machine, name, region, image);
                self.out.write_all(text.as_bytes())?;
            }
            Event::Elsewhere {
                app: _,
                machine,
                region,
            } => {
                let text = deploy::elsewhere(machine, region);
                self.out.write_all(text.as_bytes())?;
            }
            Event::Stopping {
                signal,
                machine,
                hint,
            } => {
                let text = deploy::stopping(signal, machine, hint);
                self.out.write_all(text.as_bytes())?;
            }
            Event::ToSign { manifest_digest } => {
                writeln!(self.out, "  to sign      {}", words::short(Some(manifest_digest)))?;
            }
            Event::Config { settings } => {
                self.out.write_all(config::text(settings).as_bytes())?;
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
                self.out.write_all(text.as_bytes())?;
            }
            Event::Wave {
                wave,
                way,
                nodes,
                at_once,
            } => {
                self.node = None;
                let title = match way {
                    WaveWay::Forth => format!("wave {wave}"),
                    WaveWay::Back => "the way back".to_owned(),
                };
                let at_once = match (*at_once).min(nodes.len() as u64) {
                    0 | 1 => String::new(),
                    at_once => format!(", {at_once} at once"),
                };
                writeln!(self.out, "\n{}{at_once}", paint(self.screen, TITLE, &title))?;
                let mut text = String::from("  ");
                words::names(2, nodes.iter().map(String::as_str), &mut text);
                writeln!(self.out, "{text}")?;
            }
            Event::Bake { node, bake_us } => {
                self.about(Some(node))?;
                writeln!(self.out, "  stands alone for {}", time(*bake_us))?;
            }
            Event::Gc {
                app,
                store,
                kept,
                removed,
                removed_size,
                unfinished,
                dry_run,
            } => {
                let text = stored::gc(app, store, *kept, removed, *removed_size, *unfinished, *dry_run);
                self.out.write_all(text.as_bytes())?;
            }
            Event::Boot {
                what,
                why,
                version,
                digest,
                code_id,
                trust,
                signed_by,
                app: _,
                store,
                image,
                files: _,
            } => {
                let boot = Boot {
                    what: *what,
                    why: *why,
                    version: version.as_deref(),
                    digest: digest.as_deref(),
                    code_id: code_id.as_deref(),
                    trust: *trust,
                    signed_by: signed_by.as_deref(),
                    store: store.as_deref(),
                    image: image.as_deref(),
                };
                self.out.write_all(boot.text(self.screen).as_bytes())?;
            }
            Event::Attempt {
                node,
                attempt,
                of,
                reasons,
            } => {
                self.about(Some(node))?;
                let given_up = paint(self.screen, DOUBTFUL, "freeze given up");
                writeln!(
                    self.out,
                    "  {given_up}, everything thawed (attempt {attempt} of {of})"
                )?;
                let mut text = String::new();
                words::reasons(self.screen, reasons, &mut text);
                self.out.write_all(text.as_bytes())?;
                self.remember(node, reasons);
            }
            Event::Error {
                node,
                kind: _,
                message,
                hint,
            } => {
                // What was said before stands before it where both go to one terminal. A standard output that
                // is gone is noticed elsewhere; the error is said all the same.
                let _ = self.out.flush();
                // Most messages name the node themselves.
                let node = node.as_deref().filter(|node| !message.contains(node));
                let node = node.map_or(String::new(), |node| format!("{}: ", words::plain(node)));
                let error = paint(self.screen, BAD, "error");
                writeln!(self.err, "{error}: {node}{}", words::plain(message))?;
                if !hint.is_empty() {
                    writeln!(self.err, "  next: {}", words::plain(hint))?;
                }
                return self.err.flush();
            }
            Event::Outcome(outcome) => {
                if !self.machines.is_empty() || !self.statuses.is_empty() {
                    let mut text = match &self.machines[..] {
                        [] => status::table(self.screen, &self.statuses),
                        machines => status::fleet(self.screen, machines, &self.statuses),
                    };
                    for (node, status) in &self.statuses {
                        text.push_str(&status::details(self.screen, node, status));
                    }
                    self.out.write_all(text.as_bytes())?;
                }
                let text = outcome::text(outcome, &self.shown, self.screen);
                self.out.write_all(text.as_bytes())?;
            }
            Event::StepStarted { .. } | Event::Progress { .. } => {}
        }
        self.out.flush()
    }

    fn remember(&mut self, node: &str, reasons: &[Reason]) {
        let key = |reason: &Reason| (node.to_owned(), reason.code, reason.subject.clone());
        self.shown.extend(reasons.iter().map(key));
    }

    /// A title line wherever the talk turns to another node.
    fn about(&mut self, node: Option<&str>) -> io::Result<()> {
        if node != self.node.as_deref() {
            if let Some(node) = node {
                writeln!(self.out, "\n{}", paint(self.screen, TITLE, &words::plain(node)))?;
            }
            self.node = node.map(str::to_owned);
        }
        Ok(())
    }

    fn spin(&mut self, node: Option<&str>, step: Step) -> io::Result<()> {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
        if self.screen.bars {
            self.about(node)?;
            let bar = ProgressBar::new_spinner();
            bar.set_style(style("  {msg:14}{spinner}").tick_chars("-\\|/ "));
            let others = self.behind.iter().filter(|behind| !behind.done).count();
            bar.set_message(match others {
                0 => words::step(step).to_owned(),
                _ => format!(
                    "{} and {} more",
                    words::step(step),
                    words::counted(others as u64, "node", "nodes")
                ),
            });
            bar.enable_steady_tick(SPIN);
            self.bar = Some((step, bar));
        }
        self.out.flush()
    }

    fn progress(&mut self, step: Step, done: u64, total: u64, unit: Unit) {
        let Some((under_way, bar)) = &self.bar else { return };
        if *under_way != step {
            return;
        }
        if bar.length() != Some(total) {
            bar.set_style(style("  {prefix:14}[{bar:30}] {msg} {elapsed}").progress_chars("=> "));
            bar.set_length(total);
            bar.set_prefix(words::step(step));
        }
        bar.set_position(done);
        bar.set_message(format!("{} of {}", number(done), count(total, unit)));
    }
}

/// The node whose work an event is about, where several may be worked on.
fn work_on(event: &Event) -> Option<&str> {
    match event {
        Event::StepStarted { node, .. } | Event::Progress { node, .. } | Event::StepDone { node, .. } => {
            node.as_deref()
        }
        Event::Census { node, .. }
        | Event::Plan { node, .. }
        | Event::Attempt { node, .. }
        | Event::Lease { node, .. }
        | Event::LeftToBoot { node, .. } => Some(node),
        _ => None,
    }
}

/// Whether nothing more is to come of the work on its node.
fn ends(event: &Event) -> bool {
    matches!(
        event,
        Event::StepDone {
            step: Step::Cleanup | Step::CheckUrl | Step::MachineChecks,
            ..
        } | Event::LeftToBoot { .. }
    )
}

/// A template that indicatif does not understand is shown as its default bar: never worth a failed upgrade.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
