//! Where a verb runs that needs the keys of the bucket, or the private network of the machines: here where both are, else on a machine
//! that has them.
//!
//! Nothing of a verb is done or decided here. What it says there is said again here, and its outcome is the outcome. A laptop needs the
//! token of Fly.io and nothing else.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::num::NonZeroUsize;
use std::time::Duration;

use flyhot_events::{ErrorKind, Event, ExitCode, Line, Outcome};
use flyhot_fleet::{Exec, Fly, FlyError, Host, LONGEST_EXEC, Machine, Repeat, State, Token};

use crate::cli::lock::LockVerb;
use crate::cli::waves::WaveArgs;
use crate::cli::{HomeArgs, HowArgs, Inventory, ReachArgs, Verb};
use crate::deploy::{self, Errand, PROGRAM, heeding};
use crate::doctor;
use crate::drive::NodeError;
use crate::errors;
use crate::interrupt::Signals;
use crate::local;
use crate::options::{self, Environment, HomeError, Need, Said, Settings};
use crate::report::Reporter;
use crate::run::{self, apart};

/// Fly.io's own name server: whoever has a way to it is in the private network of an organization.
const NETWORK: Ipv6Addr = Ipv6Addr::new(0xFDAA, 0, 0, 0, 0, 0, 0, 3);

/// So many machines are asked before one is made: where the first has no flyhot, or is held, a second may be of another image or free;
/// each may take a minute.
const ASKED: usize = 3;

/// How long it is tried with a machine that somebody else holds: others are there.
const HELD: Duration = Duration::from_secs(10);

/// Runs a verb on a machine of the app: `$0` is the machine, `$1` this version, then the verb. The token comes by standard input, so that
/// it is in no argument. What commands of exec have in their environment is not documented: what tells the verb that it is on a machine
/// is said here.
const SCRIPT: &str = "IFS= read -r FLY_ACCESS_TOKEN
export FLY_ACCESS_TOKEN FLY_MACHINE_ID=\"${FLY_MACHINE_ID:-$0}\"
version=$1; shift
there=$(\"$1\" --version) || exit 127
[ \"$there\" = \"flyhot $version\" ] || exit 126
exec \"$@\"";

/// What it ends with where there is no flyhot, and where it is another: no exit codes of flyhot.
const ABSENT: i64 = 127;
const ANOTHER: i64 = 126;

/// What a verb needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needs {
    /// The keys of the bucket.
    keys: bool,
    /// The private network.
    network: bool,
    /// The release of an image that is not here.
    image: bool,
    /// It may take longer than a command on a machine may, or must not end with who asked for it.
    long: bool,
}

/// What is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Here {
    /// This is a machine of Fly.io.
    machine: bool,
    /// It is about an app on Fly.io.
    fly: bool,
    /// The store is a directory of this machine.
    directory: bool,
    /// The bucket and its keys are known.
    keys: bool,
    /// The private network can be reached.
    network: bool,
}

/// Where a verb runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Here,
    /// By a command on a machine of the app.
    Machine,
    /// On a machine of its own, which goes on when this one goes away.
    Orchestrator,
}

/// The rule.
fn place(needs: Needs, here: Here) -> Place {
    let lacks = needs.keys && !here.keys || needs.network && !here.network;
    if needs.image {
        Place::Orchestrator
    } else if here.machine || !here.fly || here.directory || !lacks {
        Place::Here
    } else if needs.long {
        Place::Orchestrator
    } else {
        Place::Machine
    }
}

/// A verb that may run elsewhere.
struct Asked<'a> {
    name: &'static str,
    needs: Needs,
    home: HomeArgs,
    /// Nodes are asked for, and not named.
    inventory: bool,
    image: Option<&'a str>,
    /// The first option that names a file of this machine.
    file: Option<&'static str>,
    /// Whether it may be done twice.
    repeat: Repeat,
    /// How nodes are worked on; one after the other where nobody says it.
    waves: Option<&'a WaveArgs>,
    /// The memory of an orchestrator, where somebody says it, MB.
    memory_mb: Option<u32>,
    /// Whether a part of it is about this machine.
    here_first: bool,
}

impl<'a> Asked<'a> {
    fn of(verb: &'a Verb) -> Option<Self> {
        let needs = |keys, network, long| Needs {
            keys,
            network,
            image: false,
            long,
        };
        let of_store = |name, home: &HomeArgs, repeat| Self {
            name,
            needs: needs(true, false, false),
            home: home.clone(),
            inventory: false,
            image: None,
            file: None,
            repeat,
            waves: None,
            memory_mb: None,
            here_first: false,
        };
        let of_nodes = |name, needs, home: HomeArgs, reach: &ReachArgs| Self {
            name,
            needs,
            home,
            inventory: reach.inventory == Some(Inventory::Fly),
            image: None,
            file: file_of(reach),
            repeat: Repeat::Harmless,
            waves: None,
            memory_mb: None,
            here_first: false,
        };
        Some(match verb {
            Verb::History(args) => of_store("history", &args.home, Repeat::Harmless),
            Verb::Gc(args) => {
                // What the first one removed is not there for the second; but whom that takes the lock from may be somebody else.
                let repeat = if args.lock.force {
                    Repeat::Never
                } else {
                    Repeat::Harmless
                };
                of_store("gc", &args.home, repeat)
            }
            Verb::Lock(args) => match &args.what {
                LockVerb::Status(args) => of_store("lock", &args.home, Repeat::Harmless),
                // Whoever has it by the second time may be somebody else.
                LockVerb::Release(args) => of_store("lock", &args.home, Repeat::Never),
            },
            Verb::Status(args) => of_nodes("status", needs(false, true, false), args.app.home(), &args.reach),
            Verb::Doctor(args) => Self {
                here_first: true,
                ..of_nodes(
                    "doctor",
                    needs(false, true, false),
                    args.home.clone(),
                    &args.reach,
                )
            },
            Verb::Rollback(args) => {
                let needs = needs(true, true, true);
                let asked = of_nodes("rollback", needs, args.fleet.home.clone(), &args.reach);
                Self {
                    waves: Some(&args.waves),
                    memory_mb: args.memory.mb,
                    ..asked.and_file(policy_of(&args.how))
                }
            }
            Verb::Plan(args) => {
                let needs = Needs {
                    image: args.image.is_some(),
                    ..needs(false, true, true)
                };
                let asked = of_nodes("plan", needs, args.app.home(), &args.reach);
                let release = args.release.as_ref().map(|_| "--release");
                let names = matches!(args.reach.inventory, Some(Inventory::File(_)));
                let names = (names && args.image.is_some()).then_some("--inventory");
                Self {
                    image: args.image.as_deref(),
                    ..asked
                        .and_file(policy_of(&args.how))
                        .and_file(release)
                        .and_file(names)
                }
            }
            _ => return None,
        })
    }

    fn and_file(self, file: Option<&'static str>) -> Self {
        Self {
            file: self.file.or(file),
            ..self
        }
    }
}

fn file_of(reach: &ReachArgs) -> Option<&'static str> {
    let files = [
        ("--cookie-file", &reach.cookie_file),
        ("--tls-ca-file", &reach.tls_ca_file),
        ("--tls-cert-file", &reach.tls_cert_file),
        ("--tls-key-file", &reach.tls_key_file),
    ];
    files
        .into_iter()
        .find_map(|(name, file)| file.is_some().then_some(name))
}

fn policy_of(how: &HowArgs) -> Option<&'static str> {
    how.work.policy.as_ref().map(|_| "--policy")
}

/// Performs a verb elsewhere, as it was typed; `None`: it is to be performed here.
pub(crate) fn elsewhere(
    verb: &Verb,
    typed: &[OsString],
    environment: &Environment,
    reporter: &mut Reporter,
) -> Option<ExitCode> {
    let asked = Asked::of(verb)?;
    let need = if asked.needs.keys { Need::Store } else { Need::App };
    let gathered = options::at_hand(&asked.home, environment, need);
    let (settings, place) = match gathered {
        Ok((settings, has_file)) => {
            let place = place(asked.needs, here(&asked, &settings, has_file, environment));
            (Ok(settings), place)
        }
        // Why there are none the verb says as well, if it is one that runs here.
        Err(_) if !asked.needs.image => return None,
        Err(error) => (Err(errors::options(&error)), Place::Orchestrator),
    };
    if place == Place::Here {
        return None;
    }
    let done = local::whole(asked.name, None, reporter, async |mut signals, reporter| {
        let away = Away {
            asked,
            settings: settings?,
            typed,
            environment,
        };
        away.perform(place, &mut signals, reporter).await
    });
    Some(match done {
        Ok(outcome) => {
            let exit_code = outcome.exit_code;
            reporter.event(&Event::Outcome(outcome));
            exit_code
        }
        Err(kind) => run::over(Some(kind), reporter),
    })
}

fn here(asked: &Asked<'_>, settings: &Settings, has_file: bool, environment: &Environment) -> Here {
    Here {
        machine: environment.machine.is_some(),
        fly: if asked.needs.network {
            asked.inventory
        } else {
            has_file
        },
        directory: settings.store.is_some(),
        keys: settings.bucket.is_some() && settings.access_key_id.is_some(),
        network: is_in_network(),
    }
}

/// Whether packets to Fly.io's private network would leave by an address of it; nothing is sent.
fn is_in_network() -> bool {
    let source = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((NETWORK, 53))?;
        socket.local_addr()
    });
    // A way to everywhere leaves by another one.
    matches!(source.map(|source| source.ip()), Ok(IpAddr::V6(ip)) if ip.segments()[0] == NETWORK.segments()[0])
}

/// A verb on its way.
struct Away<'a> {
    asked: Asked<'a>,
    settings: Settings,
    typed: &'a [OsString],
    environment: &'a Environment,
}

impl Away<'_> {
    async fn perform(
        &self,
        place: Place,
        signals: &mut Signals,
        reporter: &mut Reporter,
    ) -> Result<Outcome, NodeError> {
        let fly = |error: FlyError| errors::fly(&error);
        if let Some(file) = self.asked.file {
            return Err(errors::file_is_here(file, self.asked.name));
        }
        if self.asked.here_first {
            for event in heeding(signals, async {
                Ok(doctor::before_it_goes(self.environment).await)
            })
            .await?
            {
                reporter.event(&event);
            }
        }
        let app = self.settings.app.as_ref().map(|app| app.value.clone());
        let app = app.ok_or_else(|| errors::options(&HomeError::NoApp.into()))?;
        let is_known = self.asked.here_first && self.settings.bucket.as_ref().is_some_and(Said::is_by_mix);
        let names_store = self.asked.needs.keys || is_known;
        let words = words(self.typed, &app, &self.settings, names_store)
            .ok_or_else(|| errors::not_text(self.asked.name))?;
        let told = self.environment.clone();
        let token = heeding(
            signals,
            apart(move || options::token(&told).map_err(|error| errors::options(&error.into()))),
        )
        .await?;
        let address = self.environment.machines_api();
        let client = Fly::new(&address, app.parse().map_err(fly)?, token.clone()).map_err(fly)?;
        let machines = heeding(signals, async { client.inventory().await.map_err(fly) }).await?;
        if place == Place::Machine {
            let asked = tokio::select! {
                biased;
                signal = signals.next() => Err(errors::unheard_of(signal, self.asked.name)),
                asked = self.by_exec(&client, &app, &machines, &words, &token, reporter) => asked,
            };
            if let Some(outcome) = asked? {
                return Ok(outcome);
            }
        }
        let image = match self.asked.image {
            Some(image) => image.to_owned(),
            None => image(&machines).ok_or_else(|| errors::no_image(&app, self.asked.name))?,
        };
        let at_once = self.settings.max_concurrency.value;
        let at_once = self
            .asked
            .waves
            .map_or(NonZeroUsize::MIN, |waves| waves.at_once(at_once));
        let check_url = self.asked.waves.and_then(|waves| waves.check_url.as_deref());
        let check_url = self.environment.check_url(check_url);
        let mut command = deploy::orchestrate();
        command.push("--".to_owned());
        command.extend(words);
        let errand = Errand {
            region: self
                .settings
                .primary_region
                .as_ref()
                .map(|region| region.value.clone()),
            image,
            command,
            env: deploy::env(&self.settings, self.environment, check_url.as_deref()),
            memory_mb: deploy::memory_mb(self.asked.memory_mb, at_once),
            app,
        };
        deploy::send(&client, errand, None, &token, signals, reporter).await
    }

    /// On a machine that has what it needs; `None` where none has.
    async fn by_exec(
        &self,
        client: &Fly,
        app: &str,
        machines: &[Machine],
        words: &[String],
        token: &Token,
        reporter: &mut Reporter,
    ) -> Result<Option<Outcome>, NodeError> {
        let runs = |machine: &&Machine| machine.state == State::Started && machine.host == Host::Ok;
        for machine in machines.iter().filter(runs).take(ASKED) {
            reporter.event(&Event::Elsewhere {
                app: app.to_owned(),
                machine: machine.id.to_string(),
                region: machine.region.clone(),
            });
            let head = ["sh", "-c", SCRIPT, machine.id.as_str(), crate::VERSION, PROGRAM];
            let exec = Exec {
                command: head
                    .map(str::to_owned)
                    .into_iter()
                    .chain(words.iter().cloned())
                    .collect(),
                stdin: Some(format!("{}\n", token.expose())),
                timeout: LONGEST_EXEC,
                repeat: self.asked.repeat,
            };
            let ran = match client.exec(&machine.id, &exec, HELD).await {
                Ok(ran) => ran,
                // It may have been done, or was and what it said is lost: it is not done again elsewhere.
                Err(
                    error
                    @ (FlyError::Unsure { .. } | FlyError::TooLong { .. } | FlyError::Unreadable { .. }),
                ) if self.asked.repeat == Repeat::Never => {
                    return Err(errors::fly(&error));
                }
                Err(error @ (FlyError::NotKnown { .. } | FlyError::NotAllowed { .. })) => {
                    return Err(errors::fly(&error));
                }
                // What takes so long here takes as long there.
                Err(FlyError::TooLong { .. }) => return Ok(None),
                Err(_) => continue,
            };
            let (events, outcome) = read(&ran.stdout);
            match outcome {
                // What was typed is right: its environment names no store, which that of a machine's own program does.
                Some(outcome)
                    if self.asked.needs.keys && outcome.exit_code == ErrorKind::Usage.exit_code() =>
                {
                    return Ok(None);
                }
                Some(outcome) => {
                    for event in &events {
                        reporter.event(event);
                    }
                    return Ok(Some(outcome));
                }
                None if [ABSENT, ANOTHER].contains(&ran.exit_code) => {}
                None if self.asked.repeat == Repeat::Never => {
                    return Err(errors::no_answer(&machine.id, ran.exit_code));
                }
                None => {}
            }
        }
        Ok(None)
    }
}

/// What was said, and how it ended, if that was heard.
fn read(said: &str) -> (Vec<Event>, Option<Outcome>) {
    let mut events = Vec::new();
    for line in said.lines() {
        match serde_json::from_str(line) {
            Ok(Line {
                event: Event::Outcome(outcome),
                ..
            }) => return (events, Some(outcome)),
            Ok(Line { event, .. }) => events.push(event),
            Err(_) => {}
        }
    }
    (events, None)
}

/// The image of a machine that runs, else of any: the machines boot by the flyhot in it, and it is on hosts of the app already.
fn image(machines: &[Machine]) -> Option<String> {
    let runs = machines.iter().filter(|machine| machine.state == State::Started);
    let mut images = runs.chain(machines).filter_map(|machine| machine.config.as_ref());
    images.find_map(|config| (!config.image.is_empty()).then(|| config.image.clone()))
}

/// The verb as it was typed, but for what is said here alone and there by other words.
fn words(typed: &[OsString], app: &str, settings: &Settings, names_store: bool) -> Option<Vec<String>> {
    const HERE: [&str; 9] = [
        "--output",
        "--report",
        "--memory",
        "--config",
        "--app",
        "--bucket",
        "--endpoint",
        "--region",
        // It may hold a secret, and goes by the environment.
        "--check-url",
    ];
    let mut words = Vec::new();
    let mut typed = typed.iter().skip(1);
    while let Some(word) = typed.next() {
        let word = word.to_str()?;
        if HERE.contains(&word) {
            typed.next();
        } else if !HERE
            .iter()
            .any(|name| word.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
        {
            words.push(word.to_owned());
        }
    }
    words.extend(["--app", app, "--output", "json"].map(str::to_owned));
    if names_store {
        words.extend(deploy::store_words(settings));
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn verb(words: &str) -> Verb {
        let words = std::iter::once("flyhot").chain(words.split(' '));
        Cli::try_parse_from(words)
            .unwrap_or_else(|error| panic!("{error}"))
            .verb
    }

    const NOTHING: Here = Here {
        machine: false,
        fly: true,
        directory: false,
        keys: false,
        network: false,
    };

    #[test]
    fn a_verb_runs_where_what_it_needs_is() {
        let (keys, network) = (
            Here {
                keys: true,
                ..NOTHING
            },
            Here {
                network: true,
                ..NOTHING
            },
        );
        let both = Here {
            keys: true,
            ..network
        };
        let directory = Here {
            directory: true,
            ..NOTHING
        };
        let (machine, nobodys) = (
            Here {
                machine: true,
                ..NOTHING
            },
            Here {
                fly: false,
                ..NOTHING
            },
        );
        use Place::{Here as H, Machine as M, Orchestrator as O};
        for (
            words,
            [
                nothing,
                with_keys,
                with_network,
                with_both,
                of_directory,
                of_machine,
                of_nobody,
            ],
        ) in [
            ("history", [M, H, M, H, H, H, H]),
            ("gc --dry-run", [M, H, M, H, H, H, H]),
            ("lock status", [M, H, M, H, H, H, H]),
            ("lock release --force", [M, H, M, H, H, H, H]),
            ("status --inventory fly", [M, M, H, H, H, H, H]),
            ("doctor --inventory fly", [M, M, H, H, H, H, H]),
            ("rollback --inventory fly", [O, O, O, H, H, H, H]),
            ("plan --inventory fly --release r", [O, O, H, H, H, H, H]),
            ("plan --inventory fly --image i", [O; 7]),
        ] {
            let verb = verb(words);
            let needs = Asked::of(&verb).unwrap().needs;
            for (here, expected) in [
                (NOTHING, nothing),
                (keys, with_keys),
                (network, with_network),
                (both, with_both),
                (directory, of_directory),
                (machine, of_machine),
                (nobodys, of_nobody),
            ] {
                assert_eq!(place(needs, here), expected, "{words}: {here:?}");
            }
        }
        for words in ["upgrade --node a@h --release r", "events", "deploy"] {
            assert!(Asked::of(&verb(words)).is_none(), "{words}");
        }
    }

    #[test]
    fn what_takes_or_lets_go_a_lock_of_others_is_done_once() {
        for (words, once) in [
            ("history", false),
            ("lock status", false),
            ("lock release", true),
            ("gc", false),
            ("gc --force", true),
        ] {
            let verb = verb(words);
            let asked = Asked::of(&verb).unwrap();
            assert_eq!(asked.repeat == Repeat::Never, once, "{words}");
        }
    }

    #[test]
    fn nodes_that_are_named_are_asked_from_here() {
        for words in [
            "status --node a@h",
            "rollback --node a@h",
            "plan --node a@h --release r",
        ] {
            let verb = verb(words);
            let asked = Asked::of(&verb).unwrap();
            assert!(!asked.inventory, "{words}");
        }
    }

    #[test]
    fn a_file_of_this_machine_is_not_looked_for_on_another() {
        for (words, file) in [
            ("rollback --inventory fly --policy p", Some("--policy")),
            (
                "rollback --inventory fly --cookie-file c --policy p",
                Some("--cookie-file"),
            ),
            ("plan --inventory fly --release r", Some("--release")),
            ("plan --inventory fly --image i", None),
            ("plan --inventory names --image i", Some("--inventory")),
            ("plan --inventory names --release r", Some("--release")),
            ("status --inventory fly", None),
        ] {
            assert_eq!(Asked::of(&verb(words)).unwrap().file, file, "{words}");
        }
    }

    #[test]
    fn what_was_typed_is_said_there_but_for_what_is_of_here() {
        let typed = "flyhot rollback --inventory fly --config=here/fly.toml --to 1.4 --output human --app typed \
                     --bucket b --report page.html --memory 2048 --accept on_load_changed --check-url=http://u:pw@h --canary";
        let typed: Vec<OsString> = typed.split_whitespace().map(OsString::from).collect();
        let args = HomeArgs {
            bucket: Some("b".into()),
            app: Some("shop".into()),
            endpoint: Some("e".into()),
            region: Some("r".into()),
            ..HomeArgs::default()
        };
        let (settings, _) = options::at_hand(&args, &Environment::default(), Need::Store).unwrap();
        let said = words(&typed, "shop", &settings, true).unwrap().join(" ");
        assert_eq!(
            said,
            "rollback --inventory fly --to 1.4 --accept on_load_changed --canary --app shop --output json --bucket b \
             --endpoint e --region r"
        );
        let verb = verb(&said);
        let Verb::Rollback(args) = &verb else {
            panic!("{verb:?}")
        };
        assert_eq!(args.to.as_deref(), Some("1.4"));
        assert_eq!(
            words(&typed, "shop", &settings, false).unwrap().last().unwrap(),
            "json"
        );
    }

    #[test]
    fn the_outcome_is_the_last_that_is_read() {
        let outcome = r#"{"v":1,"event":"outcome","outcome":"done","exit_code":0,"nodes":[]}"#;
        let step = r#"{"v":1,"event":"step_started","node":null,"step":"read"}"#;
        for (said, events, ended) in [
            (String::new(), 0, false),
            (format!("{step}\nwarning: no JSON\n{outcome}\n"), 1, true),
            (format!("{step}\n{}", &outcome[..20]), 1, false),
            (format!("{outcome}\n{step}"), 0, true),
        ] {
            let (read, outcome) = read(&said);
            assert_eq!((read.len(), outcome.is_some()), (events, ended), "{said}");
        }
    }

    #[test]
    fn an_orchestrator_is_of_the_image_of_a_machine_that_runs() {
        // Machines are read by their room alone.
        assert_eq!(image(&[]), None);
    }
}
