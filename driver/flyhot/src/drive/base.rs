//! What a node's release brought before any upgrade, copied from the node's disk: the way back beyond the first one.
//!
//! It only reads, by the functions of OTP's own `file`, and nothing is loaded on the node. Configuration and cookie are left
//! where they are. What the node says is not believed: a name that would lead elsewhere is refused.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flyhot_agent::term::{as_atom, as_bytes, as_charlist, as_list, as_tuple, as_u64, binary};
use flyhot_artifact::{LimitError, Limits, Origin, ReleasePath};
use flyhot_node::term::Term;
use flyhot_store::Moved;
use futures::stream::{FuturesUnordered, StreamExt as _};

use super::NodeError;
use super::look::{LookError, Looker, over, silent};
use crate::errors;
use crate::options::Peer;

/// Files that are asked for at once: enough to hide the way to another continent behind each other, and few beside what a node's
/// disk does anyway.
const AT_ONCE: usize = 16;

/// The longest file that is brought: it comes in one answer, and a session takes none of more than 128 MiB.
const LONGEST: u64 = 100 << 20;

/// How long one of them may take: so many bytes over a line of 10 Mbit/s.
const BRING: Duration = Duration::from_secs(90);

/// What is brought of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Files whose names end so.
    Ending(&'static [&'static str]),
    /// Everything, and what is in its directories.
    All,
}

/// Something on the node's disk that is to be brought.
struct Job {
    /// Where it lies there.
    from: String,
    /// Where it comes to, below the directory here.
    to: String,
    what: What,
}

enum What {
    /// A file, or a directory of which everything is wanted.
    Entry,
    Directory(Wanted),
}

/// What came of it.
enum Brought {
    File {
        to: String,
        bytes: Vec<u8>,
        executable: bool,
    },
    Names {
        names: Vec<String>,
        wanted: Wanted,
        from: String,
        to: String,
    },
}

/// Why the base of a node could not be copied.
#[derive(Debug, thiserror::Error)]
enum BaseError {
    #[error(transparent)]
    Look(#[from] LookError),
    #[error("{path} on the node: {why}")]
    Read { path: String, why: String },
    #[error("{path} on the node has {bytes} bytes, and no file of more than {LONGEST} is copied")]
    Long { path: String, bytes: u64 },
    #[error("the node has a file of the name {0:?}, which leads elsewhere")]
    Name(String),
    #[error("{0} on the node is neither a file nor a directory")]
    Kind(String),
    #[error("the release of the node is more than an artifact may be")]
    Limit(#[from] LimitError),
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: std::io::Error },
}

/// Copies to `to` what of a node's release an artifact of it holds; `moved` tells how many bytes there are so far.
///
/// # Errors
/// [`NodeError`]: the node cannot be reached, was not started from a release, or a file of it cannot be read.
pub(crate) async fn base(peer: &Peer, to: &Path, moved: &Moved) -> Result<(), NodeError> {
    let node = &peer.name;
    let copied = over(peer, async |looker| copied(looker, to, moved).await).await?;
    copied.map_err(|error| match error {
        BaseError::Look(error) => silent(node, &error),
        error => errors::no_base(node, &errors::chain(&error)),
    })
}

async fn copied(looker: &Looker<'_>, to: &Path, moved: &Moved) -> Result<(), BaseError> {
    let (_, dirs) = looker.applications().await?;
    let root = looker.root(&dirs).await?;
    let first = first(looker, &root).await?;
    let version = String::from_utf8_lossy(&first);
    let version = version.split_whitespace().last().unwrap_or_default().to_owned();
    let start = format!("{root}/releases/{version}");
    put(to, "releases/start_erl.data", &first, false)?;
    // What an upgrade replaced lies there as it was.
    let kept = format!("{root}/flyhot/base/releases/{version}");
    let directory = |from: &str, to: String, wanted| Job {
        from: from.to_owned(),
        to,
        what: What::Directory(wanted),
    };
    let place = format!("releases/{version}");
    let mut jobs = vec![
        directory(&start, place.clone(), Wanted::Ending(&[".rel", ".boot"])),
        directory(
            &format!("{start}/consolidated"),
            format!("{place}/consolidated"),
            Wanted::Ending(&[".beam"]),
        ),
    ];
    let lib = format!("{root}/lib");
    for name in listed(looker, &lib).await?.unwrap_or_default() {
        let application = name
            .rsplit_once('-')
            .map_or(&*name, |(application, _)| application);
        if Origin::of(application) == Origin::Own {
            let from = format!("{root}/lib/{name}");
            jobs.push(directory(
                &format!("{from}/ebin"),
                format!("lib/{name}/ebin"),
                Wanted::Ending(&[".beam", ".app"]),
            ));
            jobs.push(directory(
                &format!("{from}/priv"),
                format!("lib/{name}/priv"),
                Wanted::All,
            ));
        }
    }
    all(looker, jobs, to, moved).await?;
    // Last, so that they stand where both are.
    let again = vec![directory(&kept, place, Wanted::Ending(&[".rel", ".boot"]))];
    all(looker, again, to, moved).await
}

/// `start_erl.data` as it was first.
async fn first(looker: &Looker<'_>, root: &str) -> Result<Vec<u8>, BaseError> {
    let now = format!("{root}/releases/start_erl.data");
    for path in [format!("{root}/flyhot/base/releases/start_erl.data"), now.clone()] {
        match content(looker, &path).await? {
            Ok(bytes) => return Ok(bytes),
            Err(why) if why == "enoent" => {}
            Err(why) => return Err(BaseError::Read { path, why }),
        }
    }
    Err(BaseError::Read {
        path: now,
        why: "there is no such file: it was not started from a release".to_owned(),
    })
}

/// Does jobs, and those that come of them.
async fn all(looker: &Looker<'_>, mut jobs: Vec<Job>, to: &Path, moved: &Moved) -> Result<(), BaseError> {
    let limits = Limits::default();
    let mut entries = 0;
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(job) = jobs.pop()
        {
            running.push(one(looker, job));
        }
        let Some(done) = running.next().await else {
            return Ok(());
        };
        match done? {
            None => {}
            Some(Brought::File {
                to: place,
                bytes,
                executable,
            }) => {
                put(to, &place, &bytes, executable)?;
                let bytes = moved.now().0 + bytes.len() as u64;
                limits.admit_total(bytes)?;
                // How much there will be is not known.
                moved.set(bytes, bytes);
            }
            Some(Brought::Names {
                names,
                wanted,
                from,
                to: place,
            }) => {
                // One of links to itself has no end.
                entries += 1 + names.len() as u64;
                limits.admit_entries(entries)?;
                if wanted == Wanted::All && names.is_empty() {
                    empty(to, &place)?;
                }
                for name in names {
                    if let Wanted::Ending(endings) = wanted
                        && !endings.iter().any(|ending| name.ends_with(ending))
                    {
                        continue;
                    }
                    if name.contains('/') {
                        return Err(BaseError::Name(name));
                    }
                    jobs.push(Job {
                        from: format!("{from}/{name}"),
                        to: format!("{place}/{name}"),
                        what: What::Entry,
                    });
                }
            }
        }
    }
}

/// Asks for one of them; nothing where there is none.
async fn one(looker: &Looker<'_>, job: Job) -> Result<Option<Brought>, BaseError> {
    let Job { from, to, what } = job;
    if let What::Directory(wanted) = what {
        let names = listed(looker, &from).await?;
        return Ok(names.map(|names| Brought::Names {
            names,
            wanted,
            from,
            to,
        }));
    }
    let answer = looker
        .ask("file", "read_file_info", vec![binary(from.as_bytes())])
        .await?;
    let info = said(&answer).map_err(|why| BaseError::Read {
        path: from.clone(),
        why,
    })?;
    // Source: OTP, kernel/include/file.hrl: size, type and, behind four more, the mode.
    let fields = as_tuple(info).unwrap_or_default();
    let number = |at: usize| fields.get(at).and_then(as_u64).unwrap_or_default();
    match fields.get(2).and_then(as_atom) {
        Some("regular") => {}
        Some("directory") => {
            let names = listed(looker, &from).await?.unwrap_or_default();
            let wanted = Wanted::All;
            return Ok(Some(Brought::Names {
                names,
                wanted,
                from,
                to,
            }));
        }
        // Whoever reads a pipe waits for its writer.
        _ => return Err(BaseError::Kind(from)),
    }
    if number(1) > LONGEST {
        let bytes = number(1);
        return Err(BaseError::Long { path: from, bytes });
    }
    let executable = number(7) & 0o111 != 0;
    let bytes = content(looker, &from)
        .await?
        .map_err(|why| BaseError::Read { path: from, why })?;
    Ok(Some(Brought::File {
        to,
        bytes,
        executable,
    }))
}

/// A file, or why it is none.
async fn content(looker: &Looker<'_>, path: &str) -> Result<Result<Vec<u8>, String>, LookError> {
    let path = vec![binary(path.as_bytes())];
    let answer = looker
        .session
        .call("file", "read_file", path, BRING)
        .await
        .map_err(|source| LookError::Call {
            what: "file:read_file/1".to_owned(),
            source,
        })?;
    Ok(said(&answer).map(|bytes| as_bytes(bytes).unwrap_or_default().to_vec()))
}

/// The names in a directory; nothing where there is none.
async fn listed(looker: &Looker<'_>, directory: &str) -> Result<Option<Vec<String>>, BaseError> {
    let answer = looker
        .ask("file", "list_dir", vec![binary(directory.as_bytes())])
        .await?;
    let names = match said(&answer) {
        Err(why) if why == "enoent" => return Ok(None),
        Ok(names) => as_list(names)
            .unwrap_or_default()
            .iter()
            .map(|name| as_charlist(name).ok_or_else(|| "it holds a name that is not plain text".to_owned()))
            .collect::<Result<_, _>>(),
        Err(why) => Err(why),
    };
    names.map(Some).map_err(|why| BaseError::Read {
        path: directory.to_owned(),
        why,
    })
}

/// What `file` answered: a value, or why there is none.
fn said(answer: &Term) -> Result<&Term, String> {
    match as_tuple(answer) {
        Some([ok, value]) if as_atom(ok) == Some("ok") => Ok(value),
        Some([_, why]) => Err(as_atom(why)
            .unwrap_or("an answer that is not understood")
            .to_owned()),
        _ => Err("an answer that is not understood".to_owned()),
    }
}

fn empty(root: &Path, place: &str) -> Result<(), BaseError> {
    let place = ReleasePath::new(place).map_err(|_| BaseError::Name(place.to_owned()))?;
    let path = root.join(place.as_str());
    fs::create_dir_all(&path).map_err(|source| BaseError::Write { path, source })
}

fn put(root: &Path, place: &str, bytes: &[u8], executable: bool) -> Result<(), BaseError> {
    let place = ReleasePath::new(place).map_err(|_| BaseError::Name(place.to_owned()))?;
    let path = root.join(place.as_str());
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
        fs::write(&path, bytes)?;
        if executable {
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        Ok(())
    });
    written.map_err(|source| BaseError::Write { path, source })
}
