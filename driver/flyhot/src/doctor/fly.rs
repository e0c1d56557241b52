//! What a deploy needs of Fly.io: a token that may, secrets, flyhot in the image, a clock that agrees.
//!
//! Nothing that is asked for here changes anything but a lease, which is let go at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flyhot_events::{Event, MachineRole};
use flyhot_fleet::{Fly, FlyError, Machine, MachineId, SHORTEST_TTL, State};
use futures::future::join_all;

use super::{Check, HERE, not_well, time, well};
use crate::VERSION;
use crate::clock::{self, Beside};
use crate::deploy::PROGRAM;
use crate::inventory::{Found, look_at};
use crate::options::{Origin, Place, Settings, plain_image};

/// So many machines are tried to be leased while others hold them: a rollout or a `fly deploy` that is under way has many at once,
/// and nothing more is learned from the next.
const TRIED: usize = 3;

/// How long a deploy waits for the names of secrets, which are asked for a warning alone: they are there within a second.
const BRIEFLY: Duration = Duration::from_secs(5);

/// Which of its words are the names of variables that are set where a command runs, one a line.
const SET: &str = r#"for name; do
    eval "[ -n \"\${$name}\" ]" && echo "$name"
done
exit 0"#;

/// A variable that every machine has: a command that does not see it sees none.
const OF_FLY: &str = "FLY_APP_NAME";

/// Variables that a machine finds the store by. Of several names one is enough; the first is the one that `fly storage create` sets.
const NEEDED: [&[&str]; 3] = [
    &["BUCKET_NAME", "AWS_BUCKET"],
    &["AWS_ACCESS_KEY_ID"],
    &["AWS_SECRET_ACCESS_KEY"],
];

/// Others, and what is done without them.
const WELCOME: [(&str, &str); 2] = [
    ("AWS_ENDPOINT_URL_S3", "the bucket is looked for at Tigris"),
    ("FLY_API_TOKEN", "whoever deploys hands a token over"),
];

/// Everything that is of no node.
pub(super) async fn checks(found: &Found, told: Told) -> Vec<Check> {
    let fly = &*found.fly;
    let machines = in_order(found);
    let of_machines = async {
        // A command is refused on a machine that is leased.
        let lease = lease(fly, &machines).await;
        let secrets = secrets(fly, &machines, told).await;
        (lease, secrets, images(fly, &machines).await)
    };
    let (token, (lease, secrets, images), clock) = tokio::join!(token(fly), of_machines, clock(fly));
    let mut checks = vec![token];
    checks.extend(lease);
    checks.push(secrets);
    checks.extend(images);
    checks.push(clock);
    checks
}

/// Machines that are started and have a node, then those that are started, then the others.
fn in_order(found: &Found) -> Vec<&Machine> {
    let mut machines: Vec<_> = found.each().collect();
    machines.sort_by_key(|(machine, role)| (machine.state != State::Started, *role != MachineRole::Node));
    machines.into_iter().map(|(machine, _)| machine).collect()
}

fn failed(check: &'static str, error: &FlyError) -> Check {
    not_well(check, error.to_string(), error.hint())
}

/// Whom the token speaks for. It listed the machines of the app.
async fn token(fly: &Fly) -> Check {
    match fly.identity().await {
        Ok(identities) => {
            let said = identities.iter().map(|identity| {
                let user = identity.user.as_deref().unwrap_or("nobody in person");
                let apps = match &identity.apps[..] {
                    [] => "all its apps".to_owned(),
                    apps => format!("its apps {}", apps.join(", ")),
                };
                format!(
                    "{user}, in the organization {}, for {apps}",
                    identity.organization
                )
            });
            well("token", format!("of {}", said.collect::<Vec<_>>().join("; ")))
        }
        Err(error) => failed("token", &error),
    }
}

/// Whether the token may lease: one machine is leased for a moment. `None`: there is none.
async fn lease(fly: &Fly, machines: &[&Machine]) -> Option<Check> {
    let mut held = None;
    for machine in machines.iter().take(TRIED) {
        let id = &machine.id;
        match fly
            .lease(id, SHORTEST_TTL, "flyhot: doctor", Duration::ZERO)
            .await
        {
            Ok(lease) => {
                // Else it ends with its time.
                let _ = fly.release(lease).await;
                let found = format!("the token may: the machine {id} was leased for a moment");
                return Some(well("lease", found));
            }
            Err(error @ FlyError::Held { .. }) => held = Some(error),
            Err(error) => return Some(failed("lease", &error)),
        }
    }
    held.map(|error| well("lease", format!("not known: {error}")))
}

/// What is said of the store otherwise than by variables of the machines: by arguments, or `config :fly_deploy` of the project or of
/// the release, which a machine asks for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    is_directory: bool,
    bucket: bool,
    pub(super) keys: bool,
}

impl Told {
    /// An argument counts on a machine alone: there it is what a laptop has from `config :fly_deploy`, or hands to an orchestrator.
    pub(crate) fn of(settings: Option<&Settings>, place: Option<&Place>, on_machine: bool) -> Self {
        let said = |origin: &Origin| match origin {
            Origin::Mix(_) => true,
            Origin::Argument(_) => on_machine,
            _ => false,
        };
        let (mut bucket, mut keys) = (false, false);
        if let Some(settings) = settings {
            bucket = settings
                .bucket
                .as_ref()
                .map_or(place.is_some(), |bucket| said(&bucket.origin));
            keys = settings.access_key_id.as_ref().is_some_and(|id| said(&id.origin));
        }
        Self {
            is_directory: place.is_some_and(|place| place.directory().is_some()),
            bucket,
            keys: keys || place.is_some_and(Place::has_keys),
        }
    }
}

/// What a deploy says before anything is built: that neither a secret of the app nor the environment of its machines names a bucket or
/// its keys, where it could be found out.
pub(crate) async fn no_store<'a>(
    fly: &Fly,
    told: Told,
    env: impl Iterator<Item = &'a String>,
) -> Option<Event> {
    if told.bucket && told.keys {
        return None;
    }
    let asking = tokio::time::timeout(BRIEFLY, fly.secrets()).await;
    let mut set = asking.ok()?.ok()?;
    set.extend(env.cloned());
    let check = judged(&set, [told.bucket, told.keys, told.keys]);
    (!check.well).then(|| check.event(HERE))
}

/// Whether machines find the store.
async fn secrets(fly: &Fly, machines: &[&Machine], told: Told) -> Check {
    if told.is_directory {
        return well("secrets", "none is needed: the store is a directory");
    }
    match set(fly, machines).await {
        Ok(set) => judged(&set, [told.bucket, told.keys, told.keys]),
        Err(why) => well("secrets", format!("not known: {why}")),
    }
}

fn judged(set: &BTreeSet<String>, told: [bool; 3]) -> Check {
    let lacking: Vec<&str> = NEEDED
        .iter()
        .zip(told)
        .filter(|(names, told)| !told && !names.iter().any(|name| set.contains(*name)))
        .filter_map(|(names, _)| names.first().copied())
        .collect();
    if !lacking.is_empty() {
        return not_well(
            "secrets",
            format!(
                "neither a secret of the app nor a variable of its machines: {}",
                lacking.join(", ")
            ),
            "`fly storage create` makes a bucket and sets them, `fly secrets set NAME=VALUE` one of them; it is well where the \
             release says them by `config :fly_deploy`.",
        );
    }
    let mut found = "the bucket and its keys are there".to_owned();
    for (name, without) in WELCOME {
        if !set.contains(name) {
            found.push_str(&format!("; {name} is not set: {without}"));
        }
    }
    well("secrets", found)
}

/// The names of what is set on the machines: secrets and `[env]`; where Fly does not list secrets, what a command on a machine sees.
async fn set(fly: &Fly, machines: &[&Machine]) -> Result<BTreeSet<String>, String> {
    let error = match fly.secrets().await {
        Ok(mut names) => {
            let mut env = machines
                .iter()
                .filter_map(|machine| Some(machine.config.as_ref()?.env.clone()));
            let first = env.next().unwrap_or_default();
            // What one of them lacks is not there.
            names.extend(env.fold(first, |all, one| &all & &one));
            return Ok(names);
        }
        Err(error) => error.to_string(),
    };
    let Some(machine) = machines.iter().find(|machine| machine.state == State::Started) else {
        return Err(error);
    };
    let wanted = NEEDED.iter().flat_map(|names| names.iter().copied());
    let wanted = wanted.chain(WELCOME.map(|(name, _)| name)).chain([OF_FLY]);
    let words: Vec<&str> = ["sh", "-c", SET, "sh"].into_iter().chain(wanted).collect();
    match look_at(fly, &machine.id, &words).await {
        Ok(ran) if ran.stdout.lines().any(|name| name == OF_FLY) => {
            Ok(ran.stdout.lines().map(str::to_owned).collect())
        }
        Ok(_) => Err(format!(
            "{error}; and a command on a machine does not see the app's environment"
        )),
        Err(other) => Err(format!("{error}; {other}")),
    }
}

/// Whether each image has flyhot: one machine of it is asked.
async fn images(fly: &Fly, machines: &[&Machine]) -> Vec<Check> {
    let mut of: BTreeMap<&str, &Machine> = BTreeMap::new();
    for machine in machines {
        if let Some(config) = &machine.config {
            of.entry(plain_image(&config.image)).or_insert(machine);
        }
    }
    let each = of.into_iter().map(async |(image, machine)| {
        if machine.state == State::Started {
            return in_image(fly, image, &machine.id).await;
        }
        let found = format!("not known of {image}: no machine of it is started");
        well("flyhot", found)
    });
    join_all(each).await
}

async fn in_image(fly: &Fly, image: &str, machine: &MachineId) -> Check {
    let lacks = |why: String| {
        not_well(
            "flyhot",
            format!("not in {image}: {why}"),
            "Put it there by the lines for the Dockerfile that `mix fly_deploy.install` shows, and `fly deploy` once.",
        )
    };
    let ran = match look_at(fly, machine, &[PROGRAM, "--version"]).await {
        Ok(ran) => ran,
        // Nothing else of that request could be a mistake.
        Err(error @ FlyError::Refused { .. }) => return lacks(error.to_string()),
        Err(error) => return failed("flyhot", &error),
    };
    match ran.stdout.trim().strip_prefix("flyhot ") {
        Some(version) if ran.exit_code == 0 && version == VERSION => {
            well("flyhot", format!("{version} in {image}, as here"))
        }
        Some(version) if ran.exit_code == 0 => not_well(
            "flyhot",
            format!("{version} in {image}, and {VERSION} here"),
            "Have the same in both: the package copied anew and `fly deploy` once, or run the other one here.",
        ),
        _ => lacks(format!(
            "`{PROGRAM} --version` ends there with exit code {}",
            ran.exit_code
        )),
    }
}

/// Fly's clock beside this machine's.
async fn clock(fly: &Fly) -> Check {
    let asked = clock::now();
    match fly.time().await {
        Ok(Some(theirs)) => {
            let beside = Beside {
                asked,
                theirs: clock::since_1970(theirs),
                answered: clock::now(),
            };
            time::of_service("that of Fly.io", &beside)
        }
        Ok(None) => well("clock", "not known: Fly.io does not say what time it is"),
        Err(error) => failed("clock", &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::HomeArgs;
    use crate::options::{self, Environment, Secret, StoreSaid, Variable};
    use flyhot_store::Keys;

    /// Whether bucket and keys are told, and whether the store is a directory.
    fn told(args: &HomeArgs, environment: &Environment, said: &StoreSaid) -> [bool; 3] {
        let settings = options::settings(args, environment).ok();
        let place = Place::of(args, environment, Some("shop"), said).ok();
        let told = Told::of(settings.as_ref(), place.as_ref(), environment.machine.is_some());
        [told.bucket, told.keys, told.is_directory]
    }

    #[test]
    fn who_says_where_the_store_is() {
        let bucket = |args: &str| HomeArgs {
            bucket: Some(args.into()),
            ..HomeArgs::default()
        };
        let (nobody, nothing) = (HomeArgs::default(), StoreSaid::default());
        let keys = || Some(Keys::new("tid".to_owned(), "tsec".to_owned()));
        let machine = Environment {
            machine: Some("148e4d55f74d89".into()),
            ..Environment::default()
        };
        let set = |environment: &Environment| Environment {
            bucket: Some(Variable {
                name: "BUCKET_NAME",
                value: "b".into(),
            }),
            ..environment.clone()
        };
        let mix = |config: &str| Environment {
            mix: Some(Secret(format!(r#"{{"v": 1, "config": {config}}}"#).into())),
            ..Environment::default()
        };
        let by_release = StoreSaid {
            bucket: Some("b".into()),
            keys: keys(),
            ..StoreSaid::default()
        };
        let lent = StoreSaid {
            keys: keys(),
            ..StoreSaid::default()
        };
        let laptop = Environment::default();
        let of_mix = mix(r#"{"bucket": "b", "aws_access_key_id": "i", "aws_secret_access_key": "s"}"#);
        let half = mix(r#"{"aws_access_key_id": "i", "aws_secret_access_key": "s"}"#);
        let directory = HomeArgs {
            store: Some("/srv/store".into()),
            ..HomeArgs::default()
        };
        for (args, environment, said, expected) in [
            (&nobody, &laptop, &nothing, [false; 3]),
            (&directory, &laptop, &nothing, [true, false, true]),
            (&nobody, &of_mix, &nothing, [true, true, false]),
            // The bucket is a secret of the app, and nobody here knows it.
            (&nobody, &half, &nothing, [false, true, false]),
            (&nobody, &machine, &by_release, [true, true, false]),
            (&nobody, &set(&machine), &lent, [false, true, false]),
            (&nobody, &set(&machine), &nothing, [false; 3]),
            // What was typed here helps no machine; there it is what a laptop knows by `config :fly_deploy`.
            (&bucket("b"), &laptop, &nothing, [false; 3]),
            (&bucket("b"), &machine, &nothing, [true, false, false]),
            // What the release says of another bucket is none of this one.
            (&bucket("c"), &machine, &by_release, [true, false, false]),
        ] {
            assert_eq!(told(args, environment, said), expected, "{args:?} {said:?}");
        }
    }

    #[test]
    fn what_a_machine_needs_is_set_by_somebody() {
        let all = ["BUCKET_NAME", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let sound = judged(&set(&all), [false; 3]);
        assert!(
            sound.well && sound.found.contains("FLY_API_TOKEN is not set"),
            "{}",
            sound.found
        );
        assert!(judged(&set(&["AWS_BUCKET", all[1], all[2]]), [false; 3]).well);
        for (at, name) in all.into_iter().enumerate() {
            let others: Vec<&str> = all.into_iter().filter(|other| *other != name).collect();
            let ill = judged(&set(&others), [false; 3]);
            assert!(
                !ill.well && ill.found.ends_with(&format!(": {name}")),
                "{}",
                ill.found
            );
            let mut told = [false; 3];
            told[at] = true;
            assert!(judged(&set(&others), told).well, "{name}");
        }
    }
}
