//! The image of a deploy: built by flyctl on Fly.io's builders, or taken as somebody named it.
//!
//! What a build is, flyctl knows; here it is called, heard, and believed by its exit status alone. The image gets a label of this
//! run's own, so that its name is known beforehand and is not read out of what is said to people; where flyctl says another one, that
//! is an error. Silence is none: a builder that starts, or an upload from a slow line, says nothing for minutes.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use flyhot_events::Event;
use ring::rand::{SecureRandom as _, SystemRandom};
use thiserror::Error;
use ulid::Ulid;

use crate::child::{self, Group};
use crate::clock;
use crate::local::Talk;
use crate::options::fly::FlyFile;
use crate::options::{FLYCTL, Secret, flyctl};

/// Between two looks whether it is over, or should be.
const LOOK: Duration = Duration::from_millis(50);

/// After flyctl has ended, what it left behind may hold the pipe: its last words are there within one look or two.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The longest line that is told, bytes; BuildKit's have some hundreds. What stands behind it is not.
const LINE: usize = 16 * 1024;

/// So many of the last lines go into an error: a compiler's last message with what it is about.
const TOLD: usize = 20;

/// What begins a token of Fly.io's, wherever it stands.
const TOKENS: [&str; 4] = ["fm1r_", "fm1a_", "fm2_", "fo1_"];

/// How an image is built.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// Where programs are looked for, as a shell does.
    pub path: OsString,
    /// The app whose image it is.
    pub app: String,
    /// The app's configuration; flyctl takes the directory of the call as what is sent to the builder.
    pub config: PathBuf,
    /// Who keeps images.
    pub registry: String,
    /// Variables of the build, `NAME=VALUE`, in order.
    pub args: Vec<String>,
    /// Whether what earlier builds left may be used.
    pub cache: Cache,
    /// Who builds.
    pub builder: Builder,
    /// What must not be told, whoever says it.
    pub secrets: Vec<Secret>,
}

/// What earlier builds left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    /// Is used.
    Used,
    /// Is not.
    Ignored,
}

/// Who builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builder {
    /// Whoever flyctl takes.
    Default,
    /// BuildKit.
    BuildKit,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// It is there.
    Taken(String),
    /// It is built.
    Built,
}

impl Source {
    /// An image that is named is taken, by an argument before `[build] image`.
    pub(crate) fn of(image: Option<&str>, file: &FlyFile) -> Self {
        let image = image.map(str::to_owned).or_else(|| file.build.image.clone());
        image.map_or(Self::Built, Self::Taken)
    }
}

/// An image that was not built.
#[derive(Debug, Error)]
pub(crate) enum BuildError {
    #[error("there is neither {} in PATH", FLYCTL.join(" nor "))]
    NoProgram,
    #[error("the system gives no random bytes")]
    Random,
    #[error("cannot run {}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("{program} {how}{}", said(last))]
    Failed {
        program: String,
        how: String,
        last: Vec<String>,
    },
    #[error("{program} says that it built {built}, and should have built {wanted}")]
    Another {
        program: String,
        built: String,
        wanted: String,
    },
    #[error("stopped")]
    Stopped,
}

fn said(last: &[String]) -> String {
    match last {
        [] => " without a word".to_owned(),
        last => format!("; its last words: {}", last.join(" | ")),
    }
}

/// Has the image built, and tells what is said meanwhile. The answer is its name.
pub(crate) fn build(order: &Order, talk: &Talk) -> Result<String, BuildError> {
    let label = label()?;
    let mut tell = |line| talk.event(Event::Build { line });
    run(order, &label, &mut tell, &|| talk.is_stopped())
}

/// No other build has it.
fn label() -> Result<String, BuildError> {
    Ok(format!("flyhot-{}", unique()?))
}

/// What nobody else has.
pub(crate) fn unique() -> Result<Ulid, BuildError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| BuildError::Random)?;
    let milliseconds = clock::now_s().saturating_mul(1_000);
    Ok(Ulid::from_parts(milliseconds, u128::from_be_bytes(bytes)))
}

fn run(
    order: &Order,
    label: &str,
    tell: &mut dyn FnMut(String),
    stopped: &dyn Fn() -> bool,
) -> Result<String, BuildError> {
    let program = flyctl(Some(&order.path)).ok_or(BuildError::NoProgram)?;
    let name = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut command = child::command(&program);
    command
        .args(words(order, label))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut group = Group::start(command).map_err(|source| BuildError::Start {
        program: program.clone(),
        source,
    })?;
    let (send, heard) = mpsc::channel();
    let (out, err) = (group.child.stdout.take(), group.child.stderr.take());
    if let Some(out) = out {
        listen(out, send.clone());
    }
    if let Some(err) = err {
        listen(err, send);
    }
    let wanted = format!("{}/{}:{label}", order.registry, order.app);
    let mut last = VecDeque::new();
    let mut other = None;
    let mut ended: Option<(ExitStatus, Instant)> = None;
    loop {
        if stopped() {
            return Err(BuildError::Stopped);
        }
        match heard.recv_timeout(LOOK) {
            Ok(line) => {
                // As it was said: a label may have a short secret in it by chance.
                if let Some(built) = line.strip_prefix("image: ")
                    && built.split('@').next() != Some(&wanted)
                {
                    other = Some(redacted(built, &order.secrets));
                }
                let line = redacted(&line, &order.secrets);
                if last.len() == TOLD {
                    last.pop_front();
                }
                last.push_back(line.clone());
                tell(line);
            }
            Err(RecvTimeoutError::Timeout) => {
                if ended.is_none() {
                    ended = group.ended().map(|status| (status, Instant::now()));
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                // Both ends of it are closed: it ends, or has ended.
                while ended.is_none() && !stopped() {
                    ended = group.ended().map(|status| (status, Instant::now()));
                    thread::sleep(LOOK);
                }
                break;
            }
        }
        if ended.is_some_and(|(_, at)| at.elapsed() > LAST_WORDS) {
            break;
        }
    }
    let Some((status, _)) = ended else {
        return Err(BuildError::Stopped);
    };
    if !status.success() {
        return Err(BuildError::Failed {
            program: name,
            how: ending(status),
            last: last.into(),
        });
    }
    match other {
        Some(built) => Err(BuildError::Another {
            program: name,
            built,
            wanted,
        }),
        None => Ok(wanted),
    }
}

fn words(order: &Order, label: &str) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["deploy", "--build-only", "--push", "--remote-only", "-c"]
        .map(OsString::from)
        .into();
    words.push(order.config.clone().into());
    // The name of the image has this app in it, whatever the file says.
    words.extend(["-a".into(), order.app.clone().into()]);
    for arg in &order.args {
        words.extend(["--build-arg".into(), arg.into()]);
    }
    if order.cache == Cache::Ignored {
        words.push("--no-cache".into());
    }
    if order.builder == Builder::BuildKit {
        words.push("--buildkit".into());
    }
    words.extend(["--image-label".into(), label.into()]);
    words
}

/// Sends what is said, line by line, until its end.
fn listen(from: impl Read + Send + 'static, send: Sender<String>) {
    // It ends with the pipe.
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = u64::try_from(LINE).unwrap_or(u64::MAX);
            match (&mut from).take(limit).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(read) if read == LINE && line.last() != Some(&b'\n') => {
                    // What begins behind the limit may be the end of a secret.
                    if skip_line(&mut from).is_err() {
                        return;
                    }
                }
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line);
            // A bar that redraws itself is the same line again.
            let text = text.trim_end().rsplit('\r').next().unwrap_or_default();
            if !text.is_empty() && send.send(text.to_owned()).is_err() {
                return;
            }
        }
    });
}

fn skip_line(from: &mut impl io::BufRead) -> io::Result<()> {
    loop {
        let piece = from.fill_buf()?;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let (used, done) = match end {
            Some(end) => (end + 1, true),
            None => (piece.len(), piece.is_empty()),
        };
        from.consume(used);
        if done {
            return Ok(());
        }
    }
}

/// What is shorter is no secret: most are ports, numbers and names of environments, which stand everywhere in a line by chance.
const SHORTEST_SECRET: usize = 8;

/// A line without the secrets that are known, and without what looks like a token.
fn redacted(line: &str, secrets: &[Secret]) -> String {
    const INSTEAD: &str = "(not shown)";
    let mut line = line.to_owned();
    for secret in secrets {
        let secret = secret.text();
        if secret.len() >= SHORTEST_SECRET {
            line = line.replace(&secret, INSTEAD);
        }
    }
    while let Some(start) = TOKENS.iter().filter_map(|token| line.find(token)).min() {
        let of_token = |char: char| char.is_ascii_alphanumeric() || "_-+/=,.".contains(char);
        let rest = line.get(start..).unwrap_or_default();
        let end = rest
            .find(|char| !of_token(char))
            .map_or(line.len(), |length| start + length);
        line.replace_range(start..end, INSTEAD);
    }
    line
}

fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(126) => "ran out of its own time (exit code 126)".to_owned(),
        Some(127) => "was interrupted (exit code 127)".to_owned(),
        Some(code) => format!("failed (exit code {code})"),
        None => "was ended by a signal".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use flyhot_events::ErrorKind;

    use super::*;
    use crate::errors;

    /// A directory with a program of this name that does what this script says.
    fn tools(name: &str, script: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        add(directory.path(), name, script);
        directory
    }

    fn add(directory: &Path, name: &str, script: &str) {
        let (written, path) = (directory.join("written"), directory.join(name));
        fs::write(&written, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&written, fs::Permissions::from_mode(0o755)).unwrap();
        // By another process: a program that a test beside this one starts just then would hold it open for writing.
        let copied = child::command("cp").arg("-p").args([&written, &path]).status();
        assert!(copied.unwrap().success());
    }

    fn order(tools: &Path) -> Order {
        Order {
            path: tools.into(),
            app: "shop".into(),
            config: "fly.toml".into(),
            registry: "registry.fly.io".into(),
            args: Vec::new(),
            cache: Cache::Used,
            builder: Builder::Default,
            secrets: vec![Secret("token_hidden".into())],
        }
    }

    fn built(order: &Order) -> (Result<String, BuildError>, Vec<String>) {
        let mut told = Vec::new();
        let image = run(order, "flyhot-1", &mut |line| told.push(line), &|| false);
        (image, told)
    }

    #[test]
    fn flyctl_is_called_as_it_is_documented_and_the_name_is_known_beforehand() {
        let directory = tools(
            "flyctl",
            r#"echo "0: $0"; for word; do echo "$word"; done; exit 0"#,
        );
        let mut order = order(directory.path());
        order.args = vec!["OTP=27".into(), "B=x y".into()];
        let (image, told) = built(&order);
        assert_eq!(image.unwrap(), "registry.fly.io/shop:flyhot-1");
        let plain = [
            "deploy",
            "--build-only",
            "--push",
            "--remote-only",
            "-c",
            "fly.toml",
            "-a",
            "shop",
            "--build-arg",
            "OTP=27",
            "--build-arg",
            "B=x y",
        ];
        let label = ["--image-label", "flyhot-1"];
        assert_eq!(told[1..], [&plain[..], &label].concat());
        // `fly` goes before `flyctl`.
        add(directory.path(), "fly", r#"for word; do echo "$word"; done"#);
        order.cache = Cache::Ignored;
        order.builder = Builder::BuildKit;
        let (_, told) = built(&order);
        assert_eq!(told, [&plain[..], &["--no-cache", "--buildkit"], &label].concat());
    }

    #[test]
    fn what_is_named_is_taken_and_nothing_is_built() {
        let file = |text: &str| FlyFile::parse(text.as_bytes(), crate::options::Format::Toml).unwrap();
        let named = file("[build]\nimage = 'of-file'");
        assert_eq!(Source::of(None, &named), Source::Taken("of-file".into()));
        assert_eq!(Source::of(Some("x"), &named), Source::Taken("x".into()));
        assert_eq!(Source::of(None, &file("")), Source::Built);
    }

    #[test]
    fn silence_is_no_failure_and_a_failure_has_its_last_lines() {
        let silent = tools("fly", "exec sleep 0.3");
        assert!(built(&order(silent.path())).0.is_ok());
        let failing = tools(
            "fly",
            "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i >&2; done; echo Error: no space >&2; exit 1",
        );
        let (error, told) = built(&order(failing.path()));
        assert_eq!(told.len(), 51);
        let error = errors::build(&error.unwrap_err());
        assert_eq!(
            (error.kind, error.kind.exit_code().0),
            (ErrorKind::BuildFailed, 21)
        );
        assert!(
            error
                .message
                .starts_with("fly failed (exit code 1); its last words: line 32 | line 33")
                && error.message.ends_with("| line 50 | Error: no space"),
            "{}",
            error.message
        );
        for (script, how) in [
            ("exit 126", "126"),
            ("exit 127", "127"),
            ("kill -9 $$", "by a signal"),
        ] {
            let (error, _) = built(&order(tools("fly", script).path()));
            assert!(error.unwrap_err().to_string().contains(how));
        }
        let nobody = tempfile::tempdir().unwrap();
        fs::write(nobody.path().join("fly"), "not to be run").unwrap();
        let error = errors::build(&built(&order(nobody.path())).0.unwrap_err());
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(
            error.message.contains("neither fly nor flyctl"),
            "{}",
            error.message
        );
    }

    #[test]
    fn another_image_than_was_asked_for_is_an_error() {
        let built_as = |image: &str| {
            let script = format!("echo 'image: {image}' >&2; echo 'image size: 169 MB' >&2");
            built(&order(tools("fly", &script).path())).0
        };
        assert!(built_as("registry.fly.io/shop:flyhot-1").is_ok());
        assert!(built_as("registry.fly.io/shop:flyhot-1@sha256:00").is_ok());
        for other in [
            "registry.fly.io/shop:flyhot-2",
            "registry.fly.io/other:flyhot-1",
            "registry.fly.io/shop:flyhot-11",
        ] {
            let error = errors::build(&built_as(other).unwrap_err());
            assert_eq!(error.kind, ErrorKind::BuildFailed);
            assert!(error.message.contains(other), "{}", error.message);
        }
        let tools = tools("fly", "echo 'image: registry.fly.io/shop:flyhot-1' >&2");
        let mut order = order(tools.path());
        order.secrets.push(Secret("1".into()));
        assert_eq!(built(&order).0.unwrap(), "registry.fly.io/shop:flyhot-1");
    }

    #[test]
    fn no_token_is_told() {
        let script =
            "echo a token_hidden b; echo 'FlyV1 fm2_lJPE/x+y=,fm2_zz done'; echo x=fo1_hidden; exit 1";
        let (error, told) = built(&order(tools("fly", script).path()));
        assert_eq!(
            told,
            ["a (not shown) b", "FlyV1 (not shown) done", "x=(not shown)"]
        );
        let error = error.unwrap_err().to_string();
        assert!(!error.contains("hidden") && !error.contains("fm2_"), "{error}");
        // Of a port nobody is to be protected.
        let tool = tools("fly", "echo listens on 8080");
        let mut short = order(tool.path());
        short.secrets.push(Secret("8080".into()));
        assert_eq!(built(&short).1, ["listens on 8080"]);
        // What is cut off is not told in a line of its own.
        let long = format!("printf '%0{LINE}d' 0; echo token_hidden; echo end");
        let (_, told) = built(&order(tools("fly", &long).path()));
        assert_eq!((told.len(), told[0].len(), told[1].as_str()), (2, LINE, "end"));
    }

    #[test]
    fn what_is_stopped_ends_with_all_that_it_started() {
        let directory = tools("fly", "sleep 1000 & echo $! > \"$0.pid\"; echo begun; wait");
        let order = order(directory.path());
        let begun = std::cell::Cell::new(false);
        let stopped = run(&order, "flyhot-1", &mut |_| begun.set(true), &|| begun.get());
        assert!(matches!(stopped, Err(BuildError::Stopped)));
        let pid = fs::read_to_string(directory.path().join("fly.pid")).unwrap();
        let state = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        let lives = || fs::read_to_string(&state).is_ok_and(|stat| !stat.contains(") Z "));
        while lives() {
            thread::yield_now();
        }
    }

    #[test]
    fn labels_differ_and_can_be_one() {
        let (first, second) = (label().unwrap(), label().unwrap());
        assert_ne!(first, second);
        let of_label = |char: char| char.is_ascii_alphanumeric() || "_.-".contains(char);
        assert!(first.len() == 33 && first.chars().all(of_label), "{first}");
    }
}
