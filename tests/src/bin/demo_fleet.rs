//! `make demo-fleet`: six machines in three regions, each with a network of its own, under constant traffic. One command in a project
//! builds it and upgrades all of them; then comes a version that is ill: the canary fails, goes back, and nobody else ever ran it.
//!
//! It decides nothing by itself: flyhot speaks for itself on the terminal, and the traffic says which version answered where.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a demonstration speaks to its audience, and ends where it fails"
)]

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flyhot_tests::{
    App, FlyCli, Flyhot, Namespaces, Otp, Project, Release, Tally, Traffic, leave_nothing,
    leave_nothing_on_signal, wait_until, workspace,
};

const REGIONS: [&str; 6] = ["ams", "ams", "fra", "fra", "iad", "iad"];

/// On each machine: six share the processors of one here, and a person should see no difference to one that is idle.
const PER_SECOND: u32 = 20;

/// How long the traffic is shown flowing before and after each deploy.
const LOOK: Duration = Duration::from_secs(3);

/// v3 serves as well as ever, and logs an error with each request.
const ILL: &str = r#"
defmodule Shop.Tax do
  def with_tax(cents) do
    :logger.error("no rate of tax is known")
    cents + div(cents * 5, 100)
  end

  def version, do: "v3"
end
"#;

fn main() -> ExitCode {
    if let Err(missing) = Namespaces::possible() {
        eprintln!("demo-fleet: {missing}");
        return ExitCode::FAILURE;
    }
    leave_nothing_on_signal();
    let shown = catch_unwind(show);
    leave_nothing();
    println!("  every process and network of it is gone");
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn show() {
    let otp = Otp::v25();
    let begun = Instant::now();
    title("Building flyhot and v1 of the shop, a project with the package fly_deploy");
    Flyhot::binary();
    let project = Project::shop(otp);
    fs::write(project.directory().join("v3/shop/tax.ex"), ILL).expect("our own directory");
    let v1 = project.release("v1");
    took(begun);

    let begun = Instant::now();
    title("Starting six machines of v1 in three regions, by `flyhot boot`");
    let fleet = Fleet::start(project, &v1);
    took(begun);

    let begun = Instant::now();
    title("Deploying v2 to all of them: one command on the laptop, which builds it too");
    let seen = fleet.under_traffic(|| {
        assert_eq!(fleet.deploy(otp, "v2"), 0, "v2 is to be everywhere");
    });
    fleet.tell(&seen);
    for one in &seen {
        assert!(one.by("v1") > 0 && one.by("v2") > 0, "{:?}", one.answered);
    }
    assert_eq!(fleet.app.versions(), ["v2"; 6]);
    println!("  the judge: all six answer with v2, and no request failed");
    took(begun);

    let begun = Instant::now();
    title("Deploying v3, which is ill: it answers, and logs an error with each request");
    let seen = fleet.under_traffic(|| {
        assert_eq!(fleet.deploy(otp, "v3"), 11, "v3 is to be taken back");
    });
    fleet.tell(&seen);
    let canaries = seen.iter().filter(|one| one.by("v3") > 0).count();
    assert_eq!(canaries, 1, "v3 is to run on the canary alone");
    assert_eq!(fleet.app.versions(), ["v2"; 6]);
    println!(
        "  the judge: v3 answered on the canary alone, all six answer with v2 again, and no request failed"
    );
    took(begun);
    title("Done");
}

/// The app, and the laptop that deploys it.
struct Fleet {
    app: App,
    project: Project,
    /// Builds with `mix release`.
    cli: FlyCli,
}

/// What the traffic of one machine saw.
struct Seen {
    tally: Tally,
    /// How many requests were answered by each version.
    answered: BTreeMap<String, u64>,
}

impl Seen {
    fn by(&self, version: &str) -> u64 {
        self.answered.get(version).copied().unwrap_or(0)
    }
}

impl Fleet {
    fn start(project: Project, release: &Release) -> Self {
        let app = App::start("demo", release, &REGIONS, None);
        for ((id, region), version) in app.ids.iter().zip(REGIONS).zip(app.versions()) {
            println!("  {id} in {region} serves {version}");
        }
        let cli = app.builds_project();
        Self { app, project, cli }
    }

    /// `mix fly_deploy.hot` with its own words on this terminal; the exit code.
    fn deploy(&self, otp: Otp, code: &str) -> i32 {
        let page = workspace().join(format!("target/demo-fleet-{code}.html"));
        let page = page.to_str().expect("a text");
        let code = format!("SHOP_CODE={code}");
        let words = [
            "fly_deploy.hot",
            "--build-arg",
            &code,
            "--canary",
            "--report",
            page,
        ];
        println!("\n  $ mix {}\n", words.join(" "));
        let code = self.app.mix(otp, &self.project, &self.cli, &words).shown();
        println!("  exit code {code}\n");
        code
    }

    fn under_traffic(&self, act: impl FnOnce()) -> Vec<Seen> {
        let flowing: Vec<_> = self.app.ids.iter().map(|id| self.traffic(id)).collect();
        let total = PER_SECOND as usize * self.app.ids.len();
        println!("  {total} requests a second flow, {PER_SECOND} to each machine");
        let begun = Instant::now();
        wait_until("the traffic flows", LOOK * 10, || begun.elapsed() >= LOOK);
        act();
        let done = Instant::now();
        wait_until("the traffic flows on", LOOK * 10, || done.elapsed() >= LOOK);
        let seen = |(traffic, answered): (Traffic, Arc<Mutex<BTreeMap<_, _>>>)| {
            let tally = traffic.stop();
            let answered = std::mem::take(&mut *answered.lock().unwrap_or_else(PoisonError::into_inner));
            Seen { tally, answered }
        };
        flowing.into_iter().map(seen).collect()
    }

    /// Visits of the carts of a machine, and which version answers them.
    fn traffic(&self, id: &str) -> (Traffic, Arc<Mutex<BTreeMap<String, u64>>>) {
        let answered = Arc::new(Mutex::new(BTreeMap::new()));
        let counted = Arc::clone(&answered);
        let check = move |body: &str| {
            let version = body.split('"').nth(3).unwrap_or_default().to_owned();
            *counted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(version)
                .or_insert(0) += 1;
            body.starts_with("{\"version\":\"v")
        };
        let traffic = self
            .app
            .machines
            .traffic(id)
            .per_second(PER_SECOND)
            .connections(8);
        (traffic.check(check).start(), answered)
    }

    /// A line for each machine and one for all of them.
    fn tell(&self, seen: &[Seen]) {
        println!("  machine         region  served  failed     slowest  answered by");
        for ((id, region), Seen { tally, answered }) in self.app.ids.iter().zip(REGIONS).zip(seen) {
            let by: Vec<_> = answered
                .iter()
                .map(|(version, of)| format!("{version} {of} times"))
                .collect();
            println!(
                "  {id:<16}{region:<8}{:>6}{:>8}{:>12}  {}",
                tally.ok(),
                tally.failures().len(),
                milliseconds(tally.slowest()),
                by.join(", ")
            );
        }
        let failures: Vec<_> = seen.iter().flat_map(|one| one.tally.failures()).collect();
        println!(
            "  requests: {} served, {} failed, slowest {}",
            seen.iter().map(|one| one.tally.ok()).sum::<usize>(),
            failures.len(),
            milliseconds(
                seen.iter()
                    .map(|one| one.tally.slowest())
                    .max()
                    .unwrap_or_default()
            )
        );
        assert!(failures.is_empty(), "{failures:?}");
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn took(begun: Instant) {
    println!("  took {:.0} s", begun.elapsed().as_secs_f64());
}
