//! Commands on a machine: real processes, with the limits of the API.

use std::io::{Read, Write as _};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Shared;
use super::http::Reply;
use crate::process::{signal, spawn};

/// The most that an answer may have once it is JSON.
const LARGEST: usize = 10 * 1024 * 1024;

/// How long a command may take that says nothing of it.
const UNSAID: Duration = Duration::from_secs(5);

impl Shared {
    /// Runs a command; the machine is there, and not somebody else's.
    pub(super) fn exec(&self, id: &str, body: &Value) -> Result<Reply, Reply> {
        let (longest, has_env, omits, is_null) = {
            let world = self.world();
            let ills = &world.ills;
            (
                ills.longest_exec,
                ills.exec_has_env,
                ills.omits_zeros,
                ills.null_execs,
            )
        };
        let words: Vec<String> = match (&body["command"], &body["cmd"]) {
            (Value::Array(words), _) => words
                .iter()
                .filter_map(|word| word.as_str().map(str::to_owned))
                .collect(),
            (_, Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let Some((program, words)) = words.split_first() else {
            return Err(Reply::refused(400, "invalid_argument: no command"));
        };
        let timeout = match body["timeout"].as_u64() {
            None | Some(0) => UNSAID,
            Some(seconds) => Duration::from_secs(seconds),
        };
        if timeout > longest {
            return Err(Reply::refused(400, "invalid_argument: timeout is too long"));
        }
        let (spot, env) = {
            let world = self.world();
            let machine = world.machine(id)?;
            if machine.state != "started" {
                let state = machine.state;
                return Err(Reply::refused(
                    412,
                    &format!("failed_precondition: machine is not started, currently {state}"),
                ));
            }
            (self.spot(machine), world.env(machine))
        };
        if !spot.has(program) {
            return Err(Reply::refused(
                400,
                &format!("invalid_argument: exec: {program:?}: executable file not found in $PATH"),
            ));
        }
        let mut command = self.host.command(&spot, &spot.program(program));
        command
            .args(words)
            .env_clear()
            .env("PATH", spot.search_path())
            .current_dir(&spot.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if has_env {
            command.envs(env);
        }
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = spawn(command);
        let group = format!("-{}", child.id());
        let mut stdin = child.stdin.take().expect("a pipe");
        let given = body["stdin"].as_str().unwrap_or_default().to_owned();
        std::thread::spawn(move || {
            // Whoever does not read it need not.
            let _ = stdin.write_all(given.as_bytes());
        });
        let (mut out, mut err) = (
            child.stdout.take().expect("a pipe"),
            child.stderr.take().expect("a pipe"),
        );
        let (send, done) = mpsc::channel();
        std::thread::spawn(move || {
            let complaints = std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = err.read_to_end(&mut bytes);
                bytes
            });
            let mut bytes = Vec::new();
            let _ = out.read_to_end(&mut bytes);
            let complaints = complaints.join().unwrap_or_default();
            let _ = send.send((bytes, complaints));
        });
        let Ok((stdout, stderr)) = done.recv_timeout(timeout) else {
            signal("KILL", &group);
            let _ = child.wait();
            return Err(Reply::refused(
                408,
                "deadline_exceeded: context deadline exceeded",
            ));
        };
        let status = child.wait().expect("it is our child");
        if is_null {
            return Ok(Reply::json(200, &Value::Null));
        }
        let number = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut answer = json!({
            "stdout": text(&stdout), "stderr": text(&stderr),
            "exit_code": status.code().unwrap_or(0), "exit_signal": number,
        });
        if omits {
            let answer = answer.as_object_mut().expect("it is one");
            answer.retain(|_, value| *value != 0 && *value != "");
        }
        if answer.to_string().len() > LARGEST {
            return Err(Reply::refused(
                400,
                &format!(
                    "exec output exceeds the maximum allowed response size after JSON encoding ({LARGEST} byte limit)"
                ),
            ));
        }
        Ok(Reply::json(200, &answer))
    }
}
