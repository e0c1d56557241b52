//! What a fleet agrees on, in both homes: one changes it at a time, whoever dies, stops or lies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use flyhot_tests::{
    Chaos, Contender, Flyhot, Ills, Moto, Mover, Node, Otp, Random, Run, Said, Scratch, Step, rounds,
    wait_until,
};
use serde_json::Value;

/// Longer than all of them together need.
const LIMIT: Duration = Duration::from_secs(900);

/// Long beside what one change takes that fifty contend for.
const CHANGE: Duration = Duration::from_millis(700);

/// What is to be done with whoever takes the lock next.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Killed,
    Stopped,
}

struct Contest<'a> {
    home: &'a str,
    contenders: usize,
    rounds: usize,
    lease: Duration,
    fates: Vec<Fate>,
}

/// Lets them contend, and judges what they said; answers with the last number that was committed.
fn contend(contest: Contest<'_>) -> u64 {
    let Contest {
        home,
        contenders,
        rounds,
        lease,
        mut fates,
    } = contest;
    let lease_ms = u64::try_from(lease.as_millis()).unwrap();
    let (send, heard) = mpsc::channel::<Step>();
    let start = |who| Contender::start(home, who, rounds, lease_ms, send.clone());
    let mut running: BTreeMap<usize, Contender> = (0..contenders).map(|who| (who, start(who))).collect();
    let mut steps: Vec<Step> = Vec::new();
    let mut silent: Option<Instant> = None;
    let mut stopped: Option<(usize, Instant)> = None;
    let mut longest = Duration::ZERO;
    let mut struck = 0;
    let mut stops = 0;
    let mut next = contenders;
    let began = Instant::now();
    let changes = u32::try_from(contenders * rounds).unwrap();
    let limit = LIMIT.max(CHANGE * changes);
    let told = |steps: &[Step]| {
        let last = steps.len().saturating_sub(60);
        let lines = steps[last..].iter();
        lines
            .map(|step| format!("{:?} {}: {}", step.at.duration_since(began), step.who, step.words))
            .collect::<Vec<_>>()
            .join("\n")
    };
    while !running.is_empty() {
        assert!(
            began.elapsed() < limit,
            "they do not come to an end\n{}",
            told(&steps)
        );
        if let Some((who, since)) = stopped
            && since.elapsed() > lease * 2
        {
            // It may have come to its end before the signal came to it.
            if let Some(contender) = running.get(&who) {
                contender.signal("CONT");
            }
            stopped = None;
        }
        let step = match heard.recv_timeout(Duration::from_millis(100)) {
            Ok(step) => step,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => unreachable!("we hold one end"),
        };
        assert!(
            !step.words.starts_with("failed"),
            "{}\n{}",
            step.words,
            told(&steps)
        );
        if step.words == "ended" {
            running.remove(&step.who);
        }
        if step.words.starts_with("took") {
            if let Some(silent) = silent.take() {
                longest = longest.max(step.at.duration_since(silent));
            }
            if stopped.is_none()
                && let Some(fate) = fates.pop()
            {
                struck += 1;
                silent = Some(Instant::now());
                match fate {
                    Fate::Killed => {
                        running[&step.who].signal("KILL");
                        running.insert(next, start(next));
                        next += 1;
                    }
                    Fate::Stopped => {
                        stops += 1;
                        running[&step.who].signal("STOP");
                        stopped = Some((step.who, Instant::now()));
                    }
                }
            }
        }
        steps.push(step);
    }
    assert!(fates.is_empty(), "nobody was left for {fates:?}");
    // The lease is promised; the rest is the margin for a machine of two cores.
    assert!(longest <= lease * 3, "{longest:?} after a holder fell silent");

    // Nobody loses the lock but by being stopped for longer than the lease.
    let losses = steps.iter().enumerate();
    let lost: Vec<_> = losses
        .filter(|(_, step)| step.words.starts_with("lost"))
        .map(|(at, step)| {
            let before = steps[..at].iter().rfind(|before| before.who == step.who);
            let before = before.map(|before| &before.words);
            (step.at.duration_since(began), step.who, before, &step.words)
        })
        .collect();
    assert!(
        lost.len() <= stops,
        "{lost:?} lost it, {stops} were stopped\n{}",
        told(&steps)
    );

    let said = |word: &str| {
        let found = steps.iter().filter_map(move |step| {
            let mut words = step.words.strip_prefix(word)?.split_whitespace();
            let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
            Some((
                step.who,
                number(words.next())?,
                number(words.next()).unwrap_or_default(),
            ))
        });
        found.collect::<Vec<_>>()
    };
    let took: Vec<u64> = said("took").into_iter().map(|(_, fencing, _)| fencing).collect();
    assert_eq!(
        took.len(),
        took.iter().collect::<BTreeSet<_>>().len(),
        "a number was given twice"
    );
    // Each number was committed by one, in the order of the fencing numbers, and none is left out but by somebody who was killed
    // or stopped before it could say so.
    let mut committed: Vec<(u64, u64)> = said("committed")
        .into_iter()
        .map(|(_, fencing, number)| (number, fencing))
        .collect();
    committed.sort_unstable();
    for pair in committed.windows(2) {
        assert!(
            pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1,
            "{pair:?}\n{}",
            told(&steps)
        );
    }
    let last = committed.last().map_or(0, |(number, _)| *number);
    let unsaid = last - committed.len() as u64;
    assert!(unsaid <= struck, "{unsaid} unsaid, {struck} struck");
    assert!(
        committed.len() >= contenders * (rounds - 1),
        "{} committed",
        committed.len()
    );
    last
}

/// The pointer's target, read by nobody of flyhot.
fn target(pointer: &str) -> u64 {
    let json: Value = serde_json::from_str(pointer).unwrap();
    assert_eq!(json["record"]["state"], "committed", "{pointer}");
    json["record"]["target"]["created_at"].as_u64().unwrap()
}

fn fates(each: usize) -> Vec<Fate> {
    [Fate::Killed, Fate::Stopped].repeat(each)
}

#[test]
fn of_many_in_a_directory_one_changes_it_at_a_time() {
    let scratch = Scratch::new("store");
    let last = contend(Contest {
        home: scratch.path().to_str().unwrap(),
        contenders: rounds(20, 50),
        rounds: rounds(20, 200),
        lease: Duration::from_secs(1),
        fates: fates(rounds(3, 20)),
    });
    let pointer = fs::read_to_string(scratch.path().join("releases/shop/pointer.json")).unwrap();
    let now = target(&pointer);
    assert!(
        now >= last && now - last <= rounds(3, 20) as u64 * 2,
        "{now} {last}"
    );
}

#[test]
fn of_many_in_a_bucket_one_changes_it_at_a_time() {
    let moto = Moto::start();
    let random = Random::new("bucket");
    // Some for each change where there are 400 of them, and as many in all where there are thousands.
    let seldom = rounds(1, 10) as u64;
    let ills = Ills {
        server_errors: 20 / seldom,
        conflicts: 20 / seldom,
        resets: 10 / seldom,
        lost_answers: 60 / seldom,
        cut_bodies: 10 / seldom,
        stale: true,
        ..Ills::default()
    };
    let chaos = Chaos::before(moto.address(), ills, random);
    let last = contend(Contest {
        home: &format!("{}@{}", Moto::BUCKET, chaos.endpoint()),
        contenders: rounds(20, 50),
        rounds: rounds(20, 200),
        // Beside what a put takes where twenty ask at once of a server with one thread.
        lease: Duration::from_secs(15),
        fates: fates(rounds(1, 10)),
    });
    assert_eq!(chaos.asked("DELETE"), [""; 0]);
    let now = target(&moto.object("releases/shop/pointer.json").unwrap());
    assert!(
        now >= last && now - last <= rounds(1, 10) as u64 * 2,
        "{now} {last}"
    );
}

#[test]
fn a_store_that_cannot_be_relied_on_is_told_by_the_doctor() {
    let node = Node::erl(Otp::under_test()).start();
    let moto = Moto::start();
    let chaos = Chaos::before(moto.address(), Ills::default(), Random::new("doctor"));
    let doctor = || {
        let endpoint = chaos.endpoint();
        let store = ["--app", "shop", "--bucket", Moto::BUCKET, "--endpoint", &endpoint];
        let run = Flyhot::ask("doctor", &node)
            .args(store)
            .env("AWS_ACCESS_KEY_ID", "tid_test")
            .env("AWS_SECRET_ACCESS_KEY", "tsec_test")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .run();
        let check = run
            .events_named("check")
            .find(|event| event.json["check"] == "store");
        let check = check.unwrap_or_else(|| panic!("no store: {run}")).json.clone();
        (run, check)
    };
    let (run, check) = doctor();
    run.expect("done", 0);
    assert_eq!(
        (&check["well"], &check["node"]),
        (&true.into(), &"this machine".into()),
        "{run}"
    );
    for ills in [
        Ills {
            ignores_match: true,
            ..Ills::default()
        },
        Ills {
            ignores_absence: true,
            ..Ills::default()
        },
    ] {
        chaos.ail(ills);
        let (run, check) = doctor();
        run.expect("failed", 22);
        assert_eq!(check["well"], false, "{run}");
        assert!(
            check["found"]
                .as_str()
                .unwrap()
                .contains("does not keep conditions"),
            "{run}"
        );
    }
}

#[test]
fn whoever_holds_the_lock_is_named_and_lets_go_by_force() {
    let scratch = Scratch::new("store");
    let place = scratch.path().to_str().unwrap();
    let ask = |words: &[&str]| {
        let store = ["--store", place, "--app", "shop", "--output", "json"];
        Flyhot::new(words.iter().copied()).args(store).run()
    };
    let event = |run: &Run, name: &str| {
        run.expect("done", 0);
        run.events_named(name).next().unwrap().json.clone()
    };
    let free = event(&ask(&["lock", "status"]), "lock");
    assert_eq!((&free["holder"], &free["fencing"]), (&Value::Null, &0.into()));
    assert_eq!(
        event(&ask(&["history"]), "history")["artifacts"],
        Value::Array(vec![])
    );

    // One who commits once, and one who dies with the lock.
    let (send, heard) = mpsc::channel();
    let wait_for = |who: usize, word: &str| {
        let begun = Instant::now();
        while let Ok(step) = heard.recv_timeout(LIMIT.saturating_sub(begun.elapsed())) {
            let step: Step = step;
            if step.who == who && step.words.starts_with(word) {
                return;
            }
        }
        panic!("{who} never says {word}");
    };
    let _first = Contender::start(place, 0, 1, 60_000, send.clone());
    wait_for(0, "ended");
    let history = event(&ask(&["history"]), "history");
    let entry = &history["artifacts"][0];
    assert_eq!(
        (&entry["state"], &entry["version"]),
        (&"committed".into(), &"contender-0".into())
    );
    // It renews its lease in ten seconds, and is stopped before: who is stopped while it writes keeps the directory too.
    let second = Contender::holding(place, 1, 1, 30_000, 600_000, send);
    wait_for(1, "took");
    second.signal("STOP");
    let held = event(&ask(&["lock", "status"]), "lock");
    let holder = &held["holder"];
    assert_eq!(
        (&holder["who"], &holder["purpose"]),
        (&"contender-1".into(), &"contending".into())
    );
    assert!(holder["left_s"].as_u64().unwrap() <= 30);
    let refused = ask(&["lock", "release"]);
    refused.expect("refused", 20);
    assert!(
        refused
            .stdout
            .contains("contender-1 on here (contending) holds the lock"),
        "{refused}"
    );
    let released = event(&ask(&["lock", "release", "--force"]), "lock");
    assert_eq!(
        (&released["holder"], &released["released"]["who"]),
        (&Value::Null, &"contender-1".into())
    );
    second.signal("CONT");
    wait_for(1, "lost");
    drop(second);

    // What flyhot did not write is named and stays.
    let lock = scratch.path().join("releases/shop/lock.json");
    fs::write(&lock, "{}").unwrap();
    for words in [&["lock", "status"][..], &["lock", "release", "--force"]] {
        let run = ask(words);
        run.expect("failed", 22);
        assert!(
            run.stdout.contains("releases/shop/lock.json is not a lock"),
            "{run}"
        );
    }
    assert_eq!(fs::read_to_string(&lock).unwrap(), "{}");
    let nowhere = Flyhot::new(["lock", "status", "--app", "shop", "--output", "json"]).run();
    nowhere.expect("refused", 2);
}

#[test]
fn a_bucket_is_found_where_fly_io_says_and_errors_have_no_secret() {
    let moto = Moto::start();
    let chaos = Chaos::before(moto.address(), Ills::default(), Random::new("bucket"));
    let ask = |secret: bool| {
        let command = Flyhot::new(["history", "--output", "json"])
            .env("BUCKET_NAME", Moto::BUCKET)
            .env("AWS_ENDPOINT_URL_S3", &chaos.endpoint())
            .env("AWS_REGION", "auto")
            .env("FLY_APP_NAME", "shop")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        match secret {
            true => command
                .env("AWS_ACCESS_KEY_ID", "tid_test")
                .env("AWS_SECRET_ACCESS_KEY", "tsec_secret")
                .run(),
            false => command.run(),
        }
    };
    ask(true).expect("done", 0);
    // A mix task says all of it, and the environment nothing.
    let mix = |secret: &str| {
        let config = format!(
            r#"{{"v": 1, "config": {{"bucket": "{}", "aws_endpoint_url_s3": "{}", "aws_access_key_id": "tid_test",
                "aws_secret_access_key": {secret}, "otp_app": "shop"}}}}"#,
            Moto::BUCKET,
            chaos.endpoint()
        );
        let command = Flyhot::new(["history", "--output", "json"]).env("FLYHOT_MIX", &config);
        command.env("AWS_EC2_METADATA_DISABLED", "true").run()
    };
    mix(r#""tsec_secret""#).expect("done", 0);
    let half = mix("null");
    half.expect("refused", 2);
    assert!(
        half.stdout.contains("aws_secret_access_key is set nowhere"),
        "{half}"
    );
    let nobody = ask(false);
    nobody.expect("failed", 22);
    assert!(nobody.stdout.contains("AWS_ACCESS_KEY_ID"), "{nobody}");
    chaos.ail(Ills {
        refuses_time: true,
        ..Ills::default()
    });
    let refused = ask(true);
    refused.expect("failed", 22);
    assert!(refused.stdout.contains("this machine's clock"), "{refused}");
    assert!(
        !refused.stdout.contains("tsec_secret") && !refused.stderr.contains("tsec_secret"),
        "{refused}"
    );
}

/// One contender on its own, through a proxy with these ills: what it said.
fn alone(moto: &Moto, ills: Ills) -> (Vec<String>, u64) {
    let chaos = Chaos::before(moto.address(), ills, Random::new("alone"));
    let (send, heard) = mpsc::channel();
    let home = format!("{}@{}", Moto::BUCKET, chaos.endpoint());
    let _contender = Contender::start(&home, 0, 3, 60_000, send);
    let mut said = Vec::new();
    loop {
        let step: Step = heard.recv_timeout(LIMIT).expect("it ends");
        if step.words == "ended" {
            assert_eq!(chaos.inconsistent(), [""; 0]);
            return (said, chaos.requests());
        }
        said.push(step.words);
    }
}

#[test]
fn what_befalls_a_bucket_ends_in_success_or_in_one_clear_error() {
    let moto = Moto::start();
    let well = |ills| {
        let (said, requests) = alone(&moto, ills);
        // Nobody who is on its own loses to anybody but itself.
        for word in ["took", "committed", "released"] {
            let count = said.iter().filter(|words| words.starts_with(word)).count();
            assert_eq!(count, 3, "{ills:?}: {said:?}");
        }
        requests
    };
    let quiet = well(Ills::default());
    let befall = 300;
    for ills in [
        Ills {
            server_errors: befall,
            ..Ills::default()
        },
        Ills {
            conflicts: befall,
            ..Ills::default()
        },
        Ills {
            resets: befall,
            ..Ills::default()
        },
        Ills {
            // So many that letting go is among them.
            lost_answers: 500,
            ..Ills::default()
        },
        Ills {
            cut_bodies: befall,
            ..Ills::default()
        },
        Ills {
            slow_bodies: befall,
            ..Ills::default()
        },
    ] {
        let requests = well(ills);
        assert!(
            ills.slow_bodies > 0 || requests > quiet,
            "{ills:?} befell nobody: {requests} requests"
        );
    }
    for ills in [
        Ills {
            stale: true,
            ..Ills::default()
        },
        Ills {
            clock_ahead_s: 86_400,
            ..Ills::default()
        },
        Ills {
            clock_ahead_s: -86_400,
            ..Ills::default()
        },
    ] {
        well(ills);
    }
    let fails = |ills, sentence: &str| {
        let (said, _) = alone(&moto, ills);
        let last = said.last().unwrap();
        assert!(
            last.starts_with("failed") && last.contains(sentence),
            "{ills:?}: {said:?}"
        );
        assert!(
            !said.iter().any(|words| words.starts_with("took")),
            "{ills:?}: {said:?}"
        );
    };
    fails(
        Ills {
            ignores_match: true,
            ..Ills::default()
        },
        "does not keep conditions: it overwrote an object although that was another",
    );
    fails(
        Ills {
            ignores_absence: true,
            ..Ills::default()
        },
        "does not keep conditions: it overwrote an object although that was to be absent",
    );
    fails(
        Ills {
            refuses_time: true,
            ..Ills::default()
        },
        "RequestTimeTooSkewed",
    );
    fails(
        Ills {
            server_errors: 1000,
            ..Ills::default()
        },
        "tried",
    );
    // Bits that flip are found by the record's own digest, or by the checksum of the answer.
    let (said, _) = alone(
        &moto,
        Ills {
            bent_bits: 200,
            ..Ills::default()
        },
    );
    let committed = said.iter().filter(|words| words.starts_with("committed")).count();
    let failed = said.last().unwrap();
    assert!(
        committed == 3 || failed.contains("sha256") || failed.contains("is not a"),
        "{said:?}"
    );
    // In a bucket of its own, where nothing is there yet.
    let empty = Moto::start();
    let (said, _) = alone(
        &empty,
        Ills {
            forbidden_absence: true,
            ..Ills::default()
        },
    );
    let last = said.last().unwrap();
    assert!(last.contains("AccessDenied") || last == "released 3", "{said:?}");
}

/// A file of the test, of bytes that do not repeat, and its digest by a program that has nothing to do with flyhot.
struct Artifact {
    path: PathBuf,
    digest: String,
    size: u64,
}

impl Artifact {
    fn new(scratch: &Scratch, name: &str, size: usize) -> Self {
        let mut random = Random::new(name);
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            bytes.extend_from_slice(&random.below(u64::MAX).to_le_bytes());
        }
        bytes.truncate(size);
        let path = scratch.path().join(name);
        fs::write(&path, bytes).unwrap();
        Self {
            digest: sha256sum(&path),
            path,
            size: size as u64,
        }
    }

    fn key(&self) -> String {
        format!("releases/shop/artifacts/{}.tar.gz", self.digest)
    }

    fn is_in(&self, moto: &Moto) -> bool {
        moto.bytes(&self.key())
            .is_some_and(|bytes| bytes == fs::read(&self.path).unwrap())
    }
}

fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

fn same(one: &Path, other: &Path) -> bool {
    Command::new("cmp").args([one, other]).status().unwrap().success()
}

/// The names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn do_all(home: &str, words: &[&str]) -> Said {
    Mover::start(home, words).said()
}

/// More than one part of any upload, and no whole number of them.
const PARTS: usize = (20 << 20) + 1;

#[test]
fn an_artifact_is_moved_whole_or_not_at_all_whatever_befalls_the_way() {
    let scratch = Scratch::new("store");
    let artifacts = [
        Artifact::new(&scratch, "small", 1_000),
        Artifact::new(&scratch, "a-part", 8 << 20),
        Artifact::new(&scratch, "parts", PARTS),
    ];
    let out = scratch.path().join("out");
    fs::create_dir(&out).unwrap();
    let moto = Moto::start();
    let befall = 150;
    let ill = |set: fn(&mut Ills, u64), per_mille| {
        let mut ills = Ills::default();
        set(&mut ills, per_mille);
        ills
    };
    // Each by its own, and whether it always gets through.
    let all: [(Ills, bool); 14] = [
        (Ills::default(), true),
        (ill(|ills, much| ills.server_errors = much, befall), true),
        (ill(|ills, much| ills.conflicts = much, befall), true),
        (ill(|ills, much| ills.resets = much, befall), true),
        (ill(|ills, much| ills.lost_answers = much, befall), true),
        (ill(|ills, much| ills.cut_bodies = much, 550), true),
        (ill(|ills, much| ills.slow_bodies = much, 500), true),
        (ill(|ills, much| ills.late_errors = much, 500), true),
        (ill(|ills, much| ills.lost_completions = much, 1_000), true),
        (
            ill(|ills, _| (ills.ignores_range, ills.cut_bodies) = (true, 500), 0),
            false,
        ),
        (ill(|ills, _| ills.stale = true, 0), true),
        (ill(|ills, much| ills.bent_bits = much, 500), false),
        (ill(|ills, much| ills.bent_uploads = much, 500), false),
        (ill(|ills, much| ills.cut_uploads = much, 500), false),
    ];
    // Whether each was met at all, and gone on after: in one round it may hit nobody.
    let (mut met, mut resumed) = (all.map(|_| false), all.map(|_| false));
    for round in 0..rounds(1, 20) {
        let mut quiet = u64::MAX;
        for (number, (ills, certain)) in all.into_iter().enumerate() {
            let random = Random::new(&format!("moving {round} {number}"));
            let chaos = Chaos::before(moto.address(), ills, random);
            let home = format!("{}@{}", Moto::BUCKET, chaos.endpoint());
            for artifact in &artifacts {
                let Artifact { path, digest, size } = artifact;
                let told = |said: &Said| format!("{ills:?} {size}: {said:?}");
                let to = out.join("fetched");
                let said = do_all(&home, &["remove", digest]);
                assert_eq!(said.word, "removed", "{}", told(&said));
                let said = Mover::fetch(&home, digest, &to).said();
                assert_eq!(said.word, "absent", "{}", told(&said));
                let said = Mover::upload(&home, digest, path).said();
                let clear = |said: &Said| {
                    let mut whys = ["its sha256 is", "another each time", "and is not there"].iter();
                    let why = whys.any(|why| said.word.contains(why));
                    said.word.starts_with("failed") && !certain && why
                };
                assert!(said.word == "uploaded" || clear(&said), "{}", told(&said));
                assert!(
                    said.word != "uploaded" || artifact.is_in(&moto),
                    "{}",
                    told(&said)
                );
                let lies = said.word == "uploaded";
                let said = Mover::fetch(&home, digest, &to).said();
                let absent = !lies && said.word == "absent";
                assert!(
                    said.word == "fetched" || absent || clear(&said),
                    "{}",
                    told(&said)
                );
                // What came need not come again.
                assert!(!certain || said.moved.is_sorted(), "{}", told(&said));
                if said.word == "fetched" {
                    assert!(same(&to, path), "{}", told(&said));
                    fs::remove_file(&to).unwrap();
                }
                assert_eq!(names(&out), [""; 0], "{}", told(&said));
            }
            // Who does not come to the end of an upload takes it back, but for one that it never heard of.
            assert!(ills.lost_answers > 0 || moto.unfinished() == 0, "{ills:?}");
            assert_eq!(do_all(&home, &["list"]).word, "", "{ills:?}");
            do_all(&home, &["sweep", "0"]);
            assert_eq!(moto.unfinished(), 0, "{ills:?}");
            assert_eq!(chaos.inconsistent(), [""; 0], "{ills:?}");
            if number == 0 {
                quiet = chaos.requests();
                continue;
            }
            met[number] |= chaos.bent() > 0 || chaos.requests() > quiet;
            resumed[number] |= chaos.resumed() > 0;
        }
    }
    for (number, (ills, _)) in all.into_iter().enumerate().skip(1) {
        let resumes = ills.cut_bodies > 0 && !ills.ignores_range;
        assert!(!resumes || resumed[number], "{ills:?}: nothing is gone on with");
        let unseen = ills.slow_bodies > 0 || ills.stale;
        assert!(unseen || met[number], "{ills:?} befell nobody");
    }
}

/// A directory, and a bucket behind a proxy: what is true of artifacts is true in both.
struct Homes {
    scratch: Scratch,
    moto: Moto,
    chaos: Chaos,
}

impl Homes {
    fn new() -> Self {
        let moto = Moto::start();
        Self {
            scratch: Scratch::new("store"),
            chaos: Chaos::before(moto.address(), Ills::default(), Random::new("homes")),
            moto,
        }
    }

    fn bucket(&self) -> String {
        format!("{}@{}", Moto::BUCKET, self.chaos.endpoint())
    }

    fn directory(&self) -> PathBuf {
        self.scratch.path().join("home")
    }

    fn both(&self) -> [String; 2] {
        [self.directory().to_str().unwrap().to_owned(), self.bucket()]
    }

    /// Puts these bytes under a key of both, by nobody of flyhot.
    fn lay(&self, key: &str, bytes: &[u8]) {
        let path = self.directory().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self.moto.put(key, bytes);
    }

    /// What lies under a key of both.
    fn lies(&self, key: &str) -> [Option<Vec<u8>>; 2] {
        [fs::read(self.directory().join(key)).ok(), self.moto.bytes(key)]
    }
}

#[test]
fn what_is_killed_in_the_middle_leaves_nothing_under_a_name_and_is_swept() {
    let homes = Homes::new();
    let artifact = Artifact::new(&homes.scratch, "many-parts", 64 << 20);
    let Artifact { path, digest, size } = &artifact;
    let out = homes.scratch.path().join("out");
    fs::create_dir(&out).unwrap();
    for home in homes.both() {
        // In a bucket a part is done by then, and seven are not.
        Mover::upload(&home, digest, path).kill_after(1 << 20);
        let listed = do_all(&home, &["list"]);
        assert_eq!(listed.artifacts, [""; 0], "{home}");
    }
    assert_eq!(homes.lies(&artifact.key()), [None, None]);
    let left = names(homes.directory().join("releases/shop/artifacts").as_path());
    assert_eq!((left.len(), homes.moto.unfinished()), (1, 1), "{left:?}");
    for home in homes.both() {
        assert_eq!(do_all(&home, &["sweep", "3600"]).word, "swept 0", "{home}");
    }
    // It is the store's clock that tells how old they are.
    homes.chaos.ail(Ills {
        clock_ahead_s: 7_200,
        ..Ills::default()
    });
    assert_eq!(do_all(&homes.bucket(), &["sweep", "3600"]).word, "swept 1");
    homes.chaos.ail(Ills::default());
    let directory = &homes.both()[0];
    assert_eq!(do_all(directory, &["sweep", "0"]).word, "swept 1");
    assert_eq!(
        names(homes.directory().join("releases/shop/artifacts").as_path()),
        [""; 0]
    );
    assert_eq!(homes.moto.unfinished(), 0);

    for home in homes.both() {
        assert_eq!(
            Mover::upload(&home, digest, path).said().word,
            "uploaded",
            "{home}"
        );
        // There already: it is looked at, and not sent again.
        let puts = homes.chaos.asked("PUT").len();
        assert_eq!(
            Mover::upload(&home, digest, path).said().word,
            "uploaded",
            "{home}"
        );
        assert_eq!(homes.chaos.asked("PUT").len(), puts, "{home}");
    }
    let both = homes.lies(&artifact.key());
    assert!(
        both.iter()
            .all(|lies| lies.as_ref().unwrap().len() as u64 == *size)
    );
    let to = out.join("fetched");
    for home in homes.both() {
        Mover::fetch(&home, digest, &to).kill_after(1 << 20);
        assert!(!to.exists(), "{home}");
        assert_eq!(Mover::fetch(&home, digest, &to).said().word, "fetched", "{home}");
        assert!(same(&to, path), "{home}");
        fs::remove_file(&to).unwrap();
    }
}

#[test]
fn a_poisoned_artifact_is_refused_and_written_anew() {
    let homes = Homes::new();
    let to = homes.scratch.path().join("fetched");
    for (name, size) in [("small", 1_000), ("parts", PARTS)] {
        let artifact = Artifact::new(&homes.scratch, name, size);
        let Artifact { path, digest, .. } = &artifact;
        let right = fs::read(path).unwrap();
        let mut bent = right.clone();
        bent[size / 2] ^= 1;
        let longer = [&right[..], b"x"].concat();
        for poison in [&bent[..], &right[..size / 2], &longer, b""] {
            homes.lay(&artifact.key(), poison);
            for home in homes.both() {
                let said = Mover::fetch(&home, digest, &to).said();
                assert!(
                    said.word.starts_with("failed")
                        && said.word.contains("is another file than its name says"),
                    "{said:?}"
                );
                assert!(!to.exists(), "{home}");
                assert_eq!(
                    Mover::upload(&home, digest, path).said().word,
                    "uploaded",
                    "{home}"
                );
                assert_eq!(Mover::fetch(&home, digest, &to).said().word, "fetched", "{home}");
                fs::remove_file(&to).unwrap();
            }
            for lies in homes.lies(&artifact.key()) {
                assert!(lies.unwrap() == right);
            }
        }
        // What is put under a name must be what it says.
        let other = Artifact::new(&homes.scratch, &format!("other-{name}"), size);
        for home in homes.both() {
            let said = Mover::upload(&home, &other.digest, path).said();
            assert!(said.word.contains("changed while it was put"), "{said:?}");
        }
        assert_eq!(homes.lies(&other.key()), [None, None]);
    }
    assert_eq!(homes.moto.unfinished(), 0);
}

#[test]
fn a_list_has_every_artifact_and_nothing_else() {
    let homes = Homes::new();
    let artifacts: Vec<_> = (0..7)
        .map(|number| Artifact::new(&homes.scratch, &format!("artifact-{number}"), 10 + number))
        .collect();
    for name in ["notes.txt", "no-digest.tar.gz", "below/another", ".hidden"] {
        homes.lay(&format!("releases/shop/artifacts/{name}"), b"x");
    }
    homes.lay(
        &format!("releases/shop/artifacts/below/{}.tar.gz", artifacts[0].digest),
        b"x",
    );
    homes.lay(&artifacts[0].key().replace("shop", "shop-two"), b"x");
    for home in homes.both() {
        for Artifact { path, digest, .. } in &artifacts {
            assert_eq!(
                Mover::upload(&home, digest, path).said().word,
                "uploaded",
                "{home}"
            );
        }
        let listed = || do_all(&home, &["list"]).artifacts;
        let mut all: Vec<_> = artifacts
            .iter()
            .map(|artifact| format!("{} {}", artifact.digest, artifact.size))
            .collect();
        all.sort();
        assert_eq!(listed(), all, "{home}");
        // Twice: that it was not there is no error.
        let gone = all.remove(3);
        let digest = gone.split(' ').next().unwrap();
        for _ in 0..2 {
            assert_eq!(do_all(&home, &["remove", digest]).word, "removed", "{home}");
        }
        assert_eq!(listed(), all, "{home}");
        assert_eq!(do_all(&home, &["sweep", "0"]).word, "swept 0", "{home}");
    }
    // In pages of three, of which the last is found to be the last.
    let lists = homes
        .chaos
        .asked("GET")
        .into_iter()
        .filter(|path| path.contains("list-type"));
    assert_eq!(lists.count(), 2 * 4);
}

#[test]
fn memory_does_not_grow_with_the_artifact() {
    let homes = Homes::new();
    let artifact = Artifact::new(&homes.scratch, "large", 200 << 20);
    let Artifact { path, digest, .. } = &artifact;
    let to = homes.scratch.path().join("fetched");
    let within = |said: Said, word: &str| {
        assert_eq!(said.word, word, "{said:?}");
        assert!(said.peak < 100 << 20, "{} MiB", said.peak >> 20);
    };
    for home in homes.both() {
        within(Mover::upload(&home, digest, path).said(), "uploaded");
        within(Mover::fetch(&home, digest, &to).said(), "fetched");
        fs::remove_file(&to).unwrap();
    }
}

#[test]
fn whoever_holds_the_lock_of_a_bucket_keeps_it_over_many_leases() {
    let lease = Duration::from_secs(6);
    let hold = Duration::from_secs(20);
    let moto = Moto::start();
    // A burst that outlasts a lease loses it: what befalls them here is short.
    let ills = |clock_ahead_s| Ills {
        server_errors: 50,
        resets: 50,
        lost_answers: 50,
        cut_bodies: 50,
        stale: true,
        clock_ahead_s,
        ..Ills::default()
    };
    let held_over = |clock_ahead_s: i64, moto: &Moto| {
        let chaos = Chaos::before(moto.address(), ills(clock_ahead_s), Random::new("leases"));
        let home = format!("{}@{}", Moto::BUCKET, chaos.endpoint());
        let (send, heard) = mpsc::channel::<Step>();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap();
        let mut said = Vec::new();
        let mut wait_for = |who: usize, word: &str| loop {
            let step = heard.recv_timeout(LIMIT).expect("it says so");
            assert!(!step.words.starts_with("failed"), "{}", step.words);
            let found = step.who == who && step.words.starts_with(word);
            said.push(step);
            if found {
                break;
            }
        };
        let _holder = Contender::holding(&home, 0, 1, ms(lease), ms(hold), send.clone());
        wait_for(0, "took");
        let _waiter = Contender::start(&home, 1, 1, ms(lease), send);
        wait_for(1, "released");
        let at = |who: usize, word: &str| {
            let found = said
                .iter()
                .position(|step| step.who == who && step.words.starts_with(word));
            found.unwrap_or_else(|| panic!("{who} never says {word}: {said:?}"))
        };
        assert!(at(0, "committed") < at(1, "took"), "{said:?}");
        let held = said.iter().filter(|step| step.words.starts_with("held")).count();
        assert!(
            held as u32 >= hold.as_secs() as u32 / lease.as_secs() as u32,
            "{said:?}"
        );
        assert!(
            !said.iter().any(|step| step.words.starts_with("lost")),
            "{said:?}"
        );
        assert_eq!(chaos.asked("DELETE"), [""; 0]);
    };
    let later = Moto::start();
    let earlier = Moto::start();
    std::thread::scope(|scope| {
        let skewed = [(0, &moto), (86_400, &later), (-86_400, &earlier)];
        for (clock_ahead_s, moto) in skewed {
            scope.spawn(move || held_over(clock_ahead_s, moto));
        }
    });
}

#[test]
fn a_put_that_arrives_late_takes_nothing_back() {
    let moto = Moto::start();
    let ills = Ills {
        late_puts: 150,
        ..Ills::default()
    };
    let chaos = Chaos::before(moto.address(), ills, Random::new("late"));
    let last = contend(Contest {
        home: &format!("{}@{}", Moto::BUCKET, chaos.endpoint()),
        contenders: rounds(4, 20),
        rounds: rounds(4, 50),
        lease: Duration::from_secs(15),
        fates: vec![Fate::Killed],
    });
    // Until the last of them is there.
    wait_until("all that was held back arrived", LIMIT, || {
        chaos.late_under_way() == 0
    });
    assert!(chaos.late().contains(&false), "none was too late");
    let now = target(&moto.object("releases/shop/pointer.json").unwrap());
    assert!(now >= last && now - last <= 1, "{now} {last}");
    // Nothing that is raced for is ever deleted: a store that pays no heed to conditions of that changes nothing.
    assert_eq!(chaos.asked("DELETE"), [""; 0]);
}
