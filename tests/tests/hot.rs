//! From `mix fly_deploy.hot` in a project to every machine of its app: each with a network of its own, under traffic, booted by flyhot.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;

use flyhot_tests::{Fly, FlyCli, Flyhot, Machines, Moto, Otp, Project, Release, Run, Traffic};
use serde_json::Value;

const COOKIE: &str = "cookie_of_every_build";

/// Machines in three regions.
const REGIONS: [&str; 6] = ["ams", "fra", "ams", "fra", "iad", "iad"];

/// On each of them: six share the processors of one machine here.
const PER_SECOND: u32 = 20;

fn release(code: &str) -> Release {
    Release::shop(Otp::under_test(), code)
}

/// An app on Fly, and a laptop with its project.
struct App {
    machines: Machines,
    bucket: Moto,
    project: Project,
    ids: Vec<String>,
}

impl App {
    fn start() -> Self {
        // Built before anybody waits for it.
        Flyhot::binary();
        let (machines, bucket) = (Machines::start("hot"), Moto::start());
        machines.offer_bucket(&bucket);
        let image = machines.image("01H3A", &release("v1"), COOKIE);
        let project = Project::kiosk(Otp::under_test());
        let toml = "app = \"shop\"\nprimary_region = \"ams\"\n[env]\nPOOL_SIZE = 10\n";
        fs::write(project.directory().join("fly.toml"), toml).unwrap();
        let ids: Vec<_> = REGIONS
            .iter()
            .map(|region| machines.shop(&image, "app", region, &[]))
            .collect();
        for id in &ids {
            machines.serves(id);
        }
        Self {
            machines,
            bucket,
            project,
            ids,
        }
    }

    /// What is built next.
    fn builds(&self, tag: &str, code: &str) -> FlyCli {
        let root = self.machines.unpushed(tag, &release(code), COOKIE);
        FlyCli::new(&self.machines.fly, &root, Fly::TOKEN)
    }

    /// `mix fly_deploy.hot` on the laptop, which has flyctl and nothing else of Fly.
    fn hot(&self, cli: &FlyCli, words: &[&str]) -> Flyhot {
        let path = cli.search_path(&[Otp::under_test().bin()]);
        self.project
            .mix(Flyhot::binary())
            .args(["fly_deploy.hot", "--output", "json"])
            .args(words.iter().copied())
            .env("PATH", &path)
            .env("FLY_FLAPS_BASE_URL", &self.machines.fly.url())
    }

    fn versions(&self) -> Vec<String> {
        self.ids.iter().map(|id| self.machines.version(id)).collect()
    }

    fn traffic(&self) -> Vec<Traffic> {
        let on = |id| {
            self.machines
                .traffic(id)
                .per_second(PER_SECOND)
                .connections(8)
                .start()
        };
        self.ids.iter().map(|id| on(id)).collect()
    }

    /// What is of the fleet, in the network of the machines.
    fn inside(&self, words: &[&str]) -> Flyhot {
        let endpoint = self.machines.bucket();
        self.machines
            .flyhot(words.iter().copied())
            .args(["--inventory", "fly", "--output", "json"])
            .env("BUCKET_NAME", Moto::BUCKET)
            .env("AWS_ENDPOINT_URL_S3", &endpoint)
            .env("AWS_ACCESS_KEY_ID", "tid_hidden")
            .env("AWS_SECRET_ACCESS_KEY", "tsec_hidden")
    }
}

/// How often a cart of each machine was visited.
fn visits(app: &App) -> Vec<u64> {
    app.ids.iter().map(|id| app.machines.visits(id)).collect()
}

/// No request failed.
fn well(traffic: Vec<Traffic>, run: &Run) {
    for (at, traffic) in traffic.into_iter().enumerate() {
        let tally = traffic.stop();
        assert!(tally.ok() > 0);
        assert_eq!(tally.failures(), [""; 0], "machine {at}\n{run}");
    }
}

#[test]
fn a_project_upgrades_six_machines_under_traffic_and_they_go_back() {
    let app = App::start();
    assert_eq!(app.versions(), ["v1"; 6]);
    let cli = app.builds("built", "v2");
    let traffic = app.traffic();
    let run = app.hot(&cli, &["--canary", "--max-concurrency", "3"]).run();
    well(traffic, &run);
    run.expect("upgraded", 0);
    assert_eq!(app.versions(), ["v2"; 6], "{run}");
    let nodes = run.outcome()["nodes"].as_array().unwrap();
    for (id, region) in app.ids.iter().zip(REGIONS) {
        let node = nodes.iter().find(|node| node["machine"] == **id).unwrap();
        assert_eq!(
            (&node["region"], &node["outcome"]),
            (&region.into(), &"upgraded".into())
        );
    }
    for hidden in ["hidden", "fm2_", COOKIE] {
        assert!(!run.to_string().contains(hidden), "{run}");
    }
    let pointer: Value =
        serde_json::from_str(&app.bucket.object("releases/shop/pointer.json").unwrap()).unwrap();
    assert_eq!(pointer["record"]["state"], "committed");
    assert_eq!(
        pointer["record"]["base_image"],
        "registry.fly.io/shop:deployment-01H3A"
    );

    // A machine that starts anew boots what the others run.
    app.machines.fly.stop(&app.ids[5]);
    app.machines.fly.start_again(&app.ids[5]);
    app.machines.serves(&app.ids[5]);
    assert_eq!(app.versions(), ["v2"; 6]);

    // Rebuilt, it is the same code.
    let again = app.hot(&app.builds("again", "v2"), &[]).run();
    again.expect("nothing_to_do", 0);

    // And back, with what the states have become.
    let before = visits(&app);
    let traffic = app.traffic();
    let back = app.inside(&["rollback"]).run();
    well(traffic, &back);
    back.expect("upgraded", 0);
    assert_eq!(app.versions(), ["v1"; 6], "{back}");
    for (now, before) in visits(&app).into_iter().zip(before) {
        assert!(now > before, "{now} {before}");
    }
    let shown = app.inside(&["status"]).run();
    shown.expect("done", 0);
    assert_eq!(shown.events_named("status").count(), 6);
}
