//! `flyhot pack`, `verify`, `unpack`, `keygen` and `sign`: an artifact on this machine's disk.
//!
//! What an artifact is and whether it is trusted is decided in [`flyhot_artifact`]; files are written here, each under a
//! temporary name until it is whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use flyhot_artifact::{Contents, Examined, Limits, Manifest, PrivateKey, Release, Signature, Trust, Trusted};
use flyhot_events::{ArtifactFacts, ArtifactTrust, Event, ExitCode, Step, Unit};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::cli::ArtifactArgs;
use crate::cli::pack::PackArgs;
use crate::cli::sign::SignArgs;
use crate::cli::unpack::UnpackArgs;
use crate::drive::NodeError;
use crate::errors;
use crate::local;
use crate::options::{self, Environment};
use crate::report::Reporter;

/// The longest signature that is read, bytes; one has 300.
const SIGNATURE: u64 = 4096;

/// Packs a release.
pub(crate) fn pack(args: &PackArgs, reporter: &mut Reporter) -> ExitCode {
    let (directory, out) = (args.release.clone(), args.out.clone());
    let contents = if args.full { Contents::Full } else { Contents::Hot };
    local::command("pack", Some(&args.release), reporter, move |talk| {
        let release = talk.step(Step::Read, |_| {
            let release = Release::read(&directory).map_err(|error| errors::release(&directory, &error))?;
            let modules = release.modules.len() as u64;
            Ok((release, modules, Unit::Modules))
        })?;
        let root = fs::canonicalize(&directory).map_err(|error| errors::unread(&directory, &error))?;
        if fs::canonicalize(parent(&out)).is_ok_and(|place| place.starts_with(&root)) {
            return Err(errors::inside(&out, &directory));
        }
        // A whole release has the cookie in it.
        let mode = if contents == Contents::Full { 0o600 } else { 0o666 };
        let (packed, file) = talk.step(Step::Pack, |told| {
            let file = beside(&out, mode)?;
            let (packed, mut file) =
                flyhot_artifact::pack(&release, contents, &Limits::default(), file, told)
                    .map_err(|error| errors::pack(&directory, &out, &error))?;
            file.flush().map_err(|error| errors::unwritten(&out, &error))?;
            let size = packed.size;
            Ok(((packed, file), size, Unit::Bytes))
        })?;
        appear(file, &out)?;
        talk.event(Event::Artifact {
            artifact: ArtifactFacts {
                digest: packed.digest.to_string(),
                size: packed.size,
                manifest_digest: packed.manifest_digest.to_string(),
                trust: ArtifactTrust::NotAsked,
                ..said_by(&packed.manifest, &out)
            },
            directory: None,
            signature: None,
        });
        Ok(())
    })
}

/// Checks an artifact.
pub(crate) fn verify(args: &ArtifactArgs, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    let (args, environment) = (args.clone(), environment.clone());
    local::command("verify", None, reporter, move |talk| {
        let (trust, signature) = asked(&args, &environment)?;
        let examined = talk.step(Step::Verify, |told| {
            let file = open(&args.artifact)?;
            flyhot_artifact::verify(file, &trust, signature.as_ref(), &Limits::default(), told)
                .map(counted)
                .map_err(|error| errors::artifact(&args.artifact, &error))
        })?;
        talk.event(told(&args.artifact, &examined, None, None));
        Ok(())
    })
}

/// Checks an artifact and unpacks it.
pub(crate) fn unpack(args: &UnpackArgs, environment: &Environment, reporter: &mut Reporter) -> ExitCode {
    let (directory, args, environment) = (args.directory.clone(), args.file.clone(), environment.clone());
    local::command("unpack", None, reporter, move |talk| {
        let (trust, signature) = asked(&args, &environment)?;
        let examined = talk.step(Step::Unpack, |told| {
            let file = open(&args.artifact)?;
            flyhot_artifact::unpack(
                file,
                &directory,
                &trust,
                signature.as_ref(),
                &Limits::default(),
                told,
            )
            .map(counted)
            .map_err(|error| errors::artifact(&args.artifact, &error))
        })?;
        talk.event(told(&args.artifact, &examined, Some(&directory), None));
        Ok(())
    })
}

/// Makes a pair of keys.
pub(crate) fn keygen(out: &Path, reporter: &mut Reporter) -> ExitCode {
    let out = out.to_owned();
    local::command("keygen", None, reporter, move |talk| {
        let mut seed = [0; 32];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| errors::runtime(&io::Error::other("the system gives no random bytes")))?;
        let key = PrivateKey::of_seed(seed);
        let public = key.public().map_err(|error| errors::runtime(&error))?;
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&out);
        let mut file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => errors::key_is_there(&out),
            _ => errors::unwritten(&out, &error),
        })?;
        let written = file
            .write_all(format!("{}\n", key.expose()).as_bytes())
            .and_then(|()| file.sync_all());
        if let Err(error) = written {
            // What of a key was written is none.
            let _ = fs::remove_file(&out);
            return Err(errors::unwritten(&out, &error));
        }
        talk.event(Event::Key {
            file: out.display().to_string(),
            public: public.to_string(),
        });
        Ok(())
    })
}

/// Signs an artifact.
pub(crate) fn sign(args: &SignArgs, reporter: &mut Reporter) -> ExitCode {
    let (artifact, key_file) = (args.artifact.clone(), args.key_file.clone());
    local::command("sign", None, reporter, move |talk| {
        let key = options::private_key(&key_file).map_err(|error| errors::options(&error))?;
        let examined = talk.step(Step::Verify, |told| {
            flyhot_artifact::verify(
                open(&artifact)?,
                &Trust::default(),
                None,
                &Limits::default(),
                told,
            )
            .map(counted)
            .map_err(|error| errors::artifact(&artifact, &error))
        })?;
        let signature = key
            .sign(examined.manifest_digest)
            .map_err(|error| errors::runtime(&error))?;
        let place = signature_of(&artifact);
        let text = serde_json::to_vec(&signature).map_err(|error| errors::runtime(&error))?;
        let mut file = beside(&place, 0o666)?;
        file.write_all(&text)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(|error| errors::unwritten(&place, &error))?;
        appear(file, &place)?;
        let examined = Examined {
            trusted: Trusted::By(signature.key),
            ..examined
        };
        talk.event(told(&artifact, &examined, None, Some(&place)));
        Ok(())
    })
}

fn counted(examined: Examined) -> (Examined, u64, Unit) {
    let files = examined.manifest.files.len() as u64;
    (examined, files, Unit::Files)
}

/// What this machine asks of an artifact, and the signature that lies by it.
fn asked(args: &ArtifactArgs, environment: &Environment) -> Result<(Trust, Option<Signature>), NodeError> {
    let trust = options::trust(environment).map_err(|error| errors::options(&error))?;
    if trust.keys() == 0 {
        // Nobody asks for one.
        return Ok((trust, None));
    }
    let (place, must) = match &args.signature {
        Some(place) => (place.clone(), true),
        None => (signature_of(&args.artifact), false),
    };
    let mut bytes = Vec::new();
    let read = fs::metadata(&place).and_then(|about| {
        // A pipe would be waited for.
        if !about.is_file() || about.len() > SIGNATURE {
            return Err(io::Error::other("it is not a file of a signature"));
        }
        File::open(&place)?.take(SIGNATURE).read_to_end(&mut bytes)
    });
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must => return Ok((trust, None)),
        Err(error) => return Err(errors::signature(&place, &error)),
        Ok(_) => {}
    }
    let signature = serde_json::from_slice(&bytes).map_err(|error| errors::signature(&place, &error))?;
    Ok((trust, Some(signature)))
}

fn signature_of(artifact: &Path) -> PathBuf {
    let mut name = OsString::from(artifact);
    name.push(".sig");
    name.into()
}

fn open(artifact: &Path) -> Result<File, NodeError> {
    File::open(artifact).map_err(|error| errors::unread(artifact, &error))
}

/// A file that will be `out`; it goes with its handle until then.
pub(crate) fn beside(out: &Path, mode: u32) -> Result<tempfile::NamedTempFile, NodeError> {
    // A device or a link would be replaced by the file.
    if fs::symlink_metadata(out).is_ok_and(|about| !about.is_file()) {
        let error = io::Error::other("it is there, and is not a file");
        return Err(errors::unwritten(out, &error));
    }
    tempfile::Builder::new()
        .prefix(".flyhot-")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(parent(out))
        .map_err(|error| errors::unwritten(out, &error))
}

/// The directory that a file is in.
fn parent(out: &Path) -> &Path {
    match out.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

pub(crate) fn appear(file: tempfile::NamedTempFile, out: &Path) -> Result<(), NodeError> {
    file.as_file()
        .sync_all()
        .map_err(|error| errors::unwritten(out, &error))?;
    file.persist(out)
        .map(drop)
        .map_err(|error| errors::unwritten(out, &error.error))
}

/// What a manifest says of its artifact.
fn said_by(manifest: &Manifest, file: &Path) -> ArtifactFacts {
    ArtifactFacts {
        file: file.display().to_string(),
        digest: String::new(),
        size: 0,
        release: manifest.name.clone(),
        version: manifest.version.clone(),
        contents: match manifest.contents {
            Contents::Hot => "hot",
            Contents::Full => "full",
        }
        .to_owned(),
        files: manifest.files.len() as u64,
        files_size: manifest.files.values().map(|file| file.size).sum(),
        code_id: manifest.code_id.to_string(),
        manifest_digest: String::new(),
        trust: ArtifactTrust::NotAsked,
        signed_by: None,
    }
}

/// What is said of an artifact that was looked at.
pub(crate) fn told(
    file: &Path,
    examined: &Examined,
    directory: Option<&Path>,
    signature: Option<&Path>,
) -> Event {
    let (trust, signed_by) = match examined.trusted {
        Trusted::By(key) => (ArtifactTrust::Signed, Some(key.to_string())),
        Trusted::Anyway => (ArtifactTrust::AnyTaken, None),
    };
    let text = |path: &Path| path.display().to_string();
    Event::Artifact {
        artifact: ArtifactFacts {
            digest: examined.digest.to_string(),
            size: examined.size,
            manifest_digest: examined.manifest_digest.to_string(),
            trust,
            signed_by,
            ..said_by(&examined.manifest, file)
        },
        directory: directory.map(text),
        signature: signature.map(text),
    }
}
