//! Asks a Machines API, for the tests: each line that it reads is a request in JSON, each that it writes an answer, as they come.
//!
//! `asker APP PATIENCE_MS`; address and token are in `FLY_FLAPS_BASE_URL` and `FLY_API_TOKEN`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the tests"
)]

use std::collections::HashMap;
use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use flyhot_fleet::{
    Created, Ephemeral, Exec, Fly, FlyError, Lease, Machine, MachineId, PUBLIC, Reach, Repeat, Token,
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

/// The leases that are held, by their machines.
type Leases = Arc<Mutex<HashMap<String, Lease>>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let client = client(&args);
    let fly = match client {
        Ok(fly) => Arc::new(fly),
        Err(error) => {
            println!("{}", failed(&error));
            return ExitCode::from(1);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(1);
        }
    };
    let (send, mut requests) = mpsc::unbounded_channel::<Value>();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines();
        for line in lines.map_while(Result::ok) {
            let Ok(request) = serde_json::from_str(&line) else {
                break;
            };
            if send.send(request).is_err() {
                break;
            }
        }
    });
    runtime.block_on(async {
        let leases = Leases::default();
        while let Some(request) = requests.recv().await {
            let (fly, leases) = (Arc::clone(&fly), Arc::clone(&leases));
            tokio::spawn(async move {
                let mut answer = match Box::pin(answer(&fly, &leases, &request)).await {
                    Ok(answer) => json!({ "done": answer }),
                    Err(error) => failed(&error),
                };
                answer["id"] = request["id"].clone();
                answer["client"] = json!(format!("{fly:?}"));
                println!("{answer}");
            });
        }
    });
    ExitCode::SUCCESS
}

fn client(args: &[String]) -> Result<Fly, FlyError> {
    let variable = |name: &str| std::env::var(name).ok();
    let address = variable("FLY_FLAPS_BASE_URL").unwrap_or_else(|| PUBLIC.to_owned());
    let token = Token::new(&variable("FLY_API_TOKEN").unwrap_or_default())?;
    let app = args.first().map(String::as_str).unwrap_or_default().parse()?;
    let patience = args
        .get(1)
        .and_then(|millis| millis.parse().ok())
        .unwrap_or(60_000);
    Ok(Fly::new(&address, app, token)?.patient(Duration::from_millis(patience)))
}

fn failed(error: &FlyError) -> Value {
    let debug = format!("{error:?}");
    let kind: String = debug.chars().take_while(char::is_ascii_alphanumeric).collect();
    json!({"failed": error.to_string(), "kind": kind, "hint": error.hint(), "debug": debug})
}

async fn answer(fly: &Fly, leases: &Leases, request: &Value) -> Result<Value, FlyError> {
    let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
    let millis = |name: &str| Duration::from_millis(request[name].as_u64().unwrap_or(10_000));
    let id: Option<MachineId> = text("machine").parse().ok();
    let verb = text("do");
    match (&*verb, id) {
        ("app", _) => fly.app().await.map(|()| Value::Null),
        ("identity", _) => Ok(json!(format!("{:?}", fly.identity().await?))),
        ("inventory", _) => {
            let machines = fly.inventory().await?;
            Ok(machines.iter().map(machine).collect())
        }
        ("create", _) => {
            let Created { machine: made, lease } = fly.create(&ephemeral(request)).await?;
            let mut shown = machine(&made);
            shown["leased"] = json!(lease.is_some());
            if let Some(lease) = lease {
                leases.lock().await.insert(made.id.to_string(), lease);
            }
            Ok(shown)
        }
        ("dead", _) => {
            let removed = fly
                .remove_dead(&text("key"), &text("ours"), millis("age_ms"))
                .await?;
            let shown = removed.iter().map(|one| {
                let failed = one.failed.as_ref().map(FlyError::to_string);
                json!({"id": one.machine.as_str(), "name": one.name, "failed": failed})
            });
            Ok(shown.collect())
        }
        ("machine", Some(id)) => Ok(machine(&fly.machine(&id).await?)),
        ("start", Some(id)) => {
            let leases = leases.lock().await;
            let lease = leases.get(id.as_str());
            fly.start(&id, lease, millis("within_ms"))
                .await
                .map(|()| Value::Null)
        }
        ("destroy", Some(id)) => {
            let leases = leases.lock().await;
            fly.destroy(&id, leases.get(id.as_str()))
                .await
                .map(|()| Value::Null)
        }
        ("wait", Some(id)) => {
            let reach = match &*text("state") {
                "started" => Reach::Started,
                "stopped" => Reach::Stopped,
                _ => Reach::Destroyed,
            };
            fly.wait(&id, reach, millis("within_ms"))
                .await
                .map(|()| Value::Null)
        }
        ("lease", Some(id)) => {
            let lease = fly
                .lease(&id, millis("ttl_ms"), &text("description"), millis("wait_ms"))
                .await?;
            let shown = json!({"due_ms": lease.due().as_millis() as u64, "debug": format!("{lease:?}")});
            leases.lock().await.insert(id.to_string(), lease);
            Ok(shown)
        }
        ("renew", Some(id)) => match leases.lock().await.get_mut(id.as_str()) {
            Some(lease) => fly.renew(lease).await.map(|()| Value::Null),
            None => Ok(json!("no lease")),
        },
        ("release", Some(id)) => match leases.lock().await.remove(id.as_str()) {
            Some(lease) => fly.release(lease).await.map(|()| Value::Null),
            None => Ok(json!("no lease")),
        },
        ("exec", Some(id)) => {
            let words = request["command"].as_array().into_iter().flatten();
            let exec = Exec {
                command: words
                    .filter_map(|word| word.as_str().map(str::to_owned))
                    .collect(),
                stdin: request["stdin"].as_str().map(str::to_owned),
                timeout: millis("timeout_ms"),
                repeat: if request["once"] == true {
                    Repeat::Never
                } else {
                    Repeat::Harmless
                },
            };
            let ran = fly.exec(&id, &exec, millis("within_ms")).await?;
            Ok(
                json!({"exit_code": ran.exit_code, "stdout": ran.stdout, "stderr": ran.stderr, "debug": format!("{ran:?}")}),
            )
        }
        ("metadata", Some(id)) => Ok(json!(fly.metadata(&id).await?)),
        ("label", Some(id)) => fly
            .set_metadata(&id, &text("key"), &text("value"))
            .await
            .map(|()| Value::Null),
        _ => Ok(json!("no such request")),
    }
}

fn ephemeral(request: &Value) -> Ephemeral {
    let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
    let words = request["command"].as_array().into_iter().flatten();
    let env = request["env"].as_object().into_iter().flatten();
    Ephemeral {
        name: text("name"),
        region: request["region"].as_str().map(str::to_owned),
        image: text("image"),
        command: words
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect(),
        env: env
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
        label: ("flyhot_rollout".to_owned(), text("rollout")),
        memory_mb: 512,
        lease: Duration::from_millis(request["lease_ms"].as_u64().unwrap_or(10_000)),
    }
}

fn machine(machine: &Machine) -> Value {
    let made = machine
        .created_at
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    json!({
        "id": machine.id.as_str(), "name": machine.name, "state": machine.state.to_string(), "region": machine.region,
        "group": machine.group(), "host": format!("{:?}", machine.host), "config": machine.config.is_some(),
        "address": machine.private_ip, "version": machine.version, "made_s": made.map(|at| at.as_secs()),
        "exit_code": machine.exit.map(|exit| exit.code),
    })
}
