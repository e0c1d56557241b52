//! What a release says of its store, where bucket and keys are set in its `config :fly_deploy`.
//!
//! It is asked once, by its own script and over a pipe. What it answers is in no argument, no variable and no output; what it says
//! besides is not shown either: it may hold the same.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use flyhot_store::Keys;
use ring::rand::{SecureRandom as _, SystemRandom};
use thiserror::Error;

use crate::child::{self, Group};
use crate::options::{StoreSaid, plain};

/// How long it may take: a runtime with its configuration is there after one to two seconds, on a machine with a share of a core
/// after ten; three times that.
const LIMIT: Duration = Duration::from_secs(30);

/// What a release is configured by: `config.exs` as it was when it was built, and what runs at each start.
const CONFIGURATION: [&str; 2] = ["sys.config", "runtime.exs"];

/// The most bytes of such a file that are looked through: they have some thousands; a hundred times that.
const MAX_CONFIGURATION: u64 = 1024 * 1024;

/// The application whose environment says it.
const APPLICATION: &[u8] = b"fly_deploy";

/// Between two looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);

/// The most bytes of what it says that are kept: a line has some hundreds, and what a `runtime.exs` prints before it is passed over.
const SAID: usize = 64 * 1024;

/// The keys of `config :fly_deploy`, in the order in which their values are told.
const FIELDS: [&str; 5] = [
    "bucket",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_endpoint_url_s3",
    "aws_region",
];

/// Why a release does not say where its store is.
#[derive(Debug, Error)]
pub(crate) enum AskError {
    /// It has no such script, as a release without Elixir.
    #[error("{} cannot be asked: the release is none of Elixir", .0.display())]
    NoScript(PathBuf),
    /// It cannot be started.
    #[error("cannot run {}", path.display())]
    Start {
        /// The script.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// It took too long, and was ended.
    #[error("`{} eval` did not end within {} s", .0.display(), LIMIT.as_secs())]
    Late(PathBuf),
    /// It ended without an answer.
    #[error("`{} eval` gave no answer", .0.display())]
    Silent(PathBuf),
    /// A signal came meanwhile.
    #[error("stopped")]
    Stopped,
}

/// Asks the release `name` in `root`.
pub(super) fn ask(
    root: &Path,
    name: &str,
    version: &str,
    stopped: &dyn Fn() -> bool,
) -> Result<StoreSaid, AskError> {
    let script = root.join("bin").join(name);
    if !script.is_file() || !root.join("releases").join(version).join("elixir").is_file() {
        return Err(AskError::NoScript(script));
    }
    let mark = mark().ok_or(AskError::Random)?;
    let mut command = child::command(&script);
    command
        .arg("eval")
        .arg(expression(&mark))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut group = Group::start(command).map_err(|source| AskError::Start {
        path: script.clone(),
        source,
    })?;
    let Some(out) = group.child.stdout.take() else {
        return Err(AskError::Silent(script));
    };
    let (send, answer) = mpsc::channel();
    let between = mark.clone();
    // It ends with the pipe, which ends with the group.
    std::thread::spawn(move || send.send(between_marks(out, &between)));
    let began = Instant::now();
    loop {
        if stopped() {
            return Err(AskError::Stopped);
        }
        match answer.recv_timeout(LOOK) {
            Ok(Some(text)) => return read(&text).ok_or(AskError::Silent(script)),
            Ok(None) | Err(RecvTimeoutError::Disconnected) => return Err(AskError::Silent(script)),
            Err(RecvTimeoutError::Timeout) if began.elapsed() > LIMIT => return Err(AskError::Late(script)),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Whether the configuration of this version has anything to say of its store. Providers may read it from elsewhere: nobody knows that
/// before they run.
pub(super) fn has_words(root: &Path, version: &str) -> bool {
    let directory = root.join("releases").join(version);
    CONFIGURATION.iter().any(|name| {
        let Ok(text) = plain::read(&directory.join(name), MAX_CONFIGURATION) else {
            return false;
        };
        text.windows(APPLICATION.len()).any(|word| word == APPLICATION)
    })
}

/// What nobody can guess: a `runtime.exs` that prints things does not print this.
fn mark() -> Option<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// One line: the values between two marks, each in hex, `-` where there is none.
fn expression(mark: &str) -> String {
    let fields = FIELDS.map(|field| format!(":{field}")).join(", ");
    // In two parts, so that no list of processes shows the mark whole.
    let (first, second) = mark.split_at(mark.len() / 2);
    format!(
        "_ = Application.load(:fly_deploy); mark = \"{first}\" <> \"{second}\"; \
         values = Enum.map_join([{fields}], \",\", fn key -> \
         case Application.get_env(:fly_deploy, key) do text when is_binary(text) -> Base.encode16(text); _ -> \"-\" end end); \
         IO.puts([mark, values, mark])"
    )
}

/// Reads until both marks were there.
fn between_marks(mut out: ChildStdout, mark: &str) -> Option<String> {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = match out.read(&mut piece) {
            Ok(0) => return None,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return None,
        };
        said.extend_from_slice(piece.get(..read).unwrap_or_default());
        let text = String::from_utf8_lossy(&said);
        if let Some((_, behind)) = text.split_once(mark)
            && let Some((values, _)) = behind.split_once(mark)
        {
            return Some(values.to_owned());
        }
        if said.len() > SAID {
            said.drain(..said.len() - SAID);
        }
    }
}

fn read(text: &str) -> Option<StoreSaid> {
    let values: Vec<Option<String>> = text
        .split(',')
        .map(|value| match value {
            "-" => Some(None),
            hex => decoded(hex).map(Some),
        })
        .collect::<Option<_>>()?;
    let values: [Option<String>; FIELDS.len()] = values.try_into().ok()?;
    let [bucket, id, secret, endpoint, region] = values.map(|value| value.filter(|value| !value.is_empty()));
    Some(StoreSaid {
        bucket,
        endpoint,
        region,
        keys: id.zip(secret).map(|(id, secret)| Keys::new(id, secret)),
    })
}

fn decoded(hex: &str) -> Option<String> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(high << 4 | low),
        _ => None,
    });
    String::from_utf8(pairs.collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_read_and_nothing_else() {
        let said = read("62,69,73,-,").unwrap();
        assert_eq!(said.bucket.as_deref(), Some("b"));
        assert!(said.keys.is_some() && said.endpoint.is_none() && said.region.is_none());
        assert!(read("62,69,-,-,-").unwrap().keys.is_none());
        for text in [
            "",
            "62",
            "62,69,73,-,-,-",
            "6,-,-,-,-",
            "zz,-,-,-,-",
            "ff,-,-,-,-",
        ] {
            assert!(read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_mark_is_not_whole_in_the_words_of_the_command() {
        let mark = mark().unwrap();
        assert!(!expression(&mark).contains(&mark));
    }
}
