//! `FlyDeploy.Native`: what a node can know of beams and artifacts without starting a program.
//!
//! Pure functions only, no resource, no thread, nothing kept: rustler gives a library no upgrade callback, so that it stays the one
//! that was loaded first, however often the modules around it change. Files are read and written only at paths handed in, on
//! dirty schedulers. A panic becomes an exception of the caller.

use std::{collections::BTreeMap, fs::File, ops::ControlFlow, path::Path};

use flyhot_artifact::{
    ArchiveError, Examined, Limits, Manifest, ModuleFacts, Origin, Signature, Trust, Trusted, beam::Beam,
    chain, code_id,
};
use rustler::{Binary, Env, NewBinary, NifMap};

/// What a beam file says of its module.
#[derive(NifMap)]
struct Facts<'a> {
    /// Its name, `"Elixir.Shop.Cart"`.
    module: String,
    /// `code:module_md5/1`, 16 bytes.
    md5: Binary<'a>,
    /// `name/arity`, sorted.
    exports: Vec<String>,
    /// `-vsn` as Erlang writes it, or the md5 as a number.
    vsn: String,
    /// Whether a function runs when it is loaded.
    on_load: bool,
    /// Whether it loads a NIF.
    loads_nif: bool,
}

/// What differs between a manifest and what is loaded, of modules that the release adds to OTP and Elixir.
#[derive(NifMap)]
struct Difference {
    /// Loaded with another md5, by name.
    changed: Vec<String>,
    /// Not loaded, by name.
    added: Vec<String>,
    /// How many are the same.
    unchanged: u64,
}

/// An artifact that was checked.
#[derive(NifMap)]
struct Artifact {
    digest: String,
    size: u64,
    manifest_digest: String,
    code_id: String,
    release: String,
    version: String,
    files: u64,
    /// The public key that signed it; `nil`: none was asked for.
    signed_by: Option<String>,
}

/// `{:ok, facts}` of the bytes of a beam file, or `{:error, sentence}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn beam_facts<'a>(env: Env<'a>, bytes: Binary<'a>) -> Result<Facts<'a>, String> {
    let beam = Beam::parse(&bytes).map_err(|error| chain(&error))?;
    let facts = ModuleFacts::of(&beam, Origin::Own).map_err(|error| chain(&error))?;
    let mut md5 = NewBinary::new(env, facts.md5.len());
    md5.as_mut_slice().copy_from_slice(&facts.md5);
    Ok(Facts {
        module: beam.module().to_owned(),
        md5: md5.into(),
        exports: facts.exports.iter().map(ToString::to_string).collect(),
        vsn: facts.vsn_or_md5(),
        on_load: facts.on_load,
        loads_nif: facts.loads_nif,
    })
}

/// Modules by name, each with an md5 of 16 bytes.
fn modules(loaded: Vec<(String, Binary<'_>)>) -> Result<BTreeMap<String, [u8; 16]>, String> {
    loaded
        .into_iter()
        .map(|(name, md5)| match md5.as_slice().try_into() {
            Ok(md5) => Ok((name, md5)),
            Err(_) => Err(format!("the md5 of {name} has {} bytes, not 16", md5.len())),
        })
        .collect()
}

/// `{:ok, code_id}` of modules with their md5s, or `{:error, sentence}`.
#[rustler::nif(name = "code_id", schedule = "DirtyCpu")]
fn code_id_of(loaded: Vec<(String, Binary<'_>)>) -> Result<String, String> {
    Ok(code_id(modules(loaded)?).to_string())
}

/// `{:ok, difference}` between a manifest and modules that are loaded, or `{:error, sentence}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn diff(manifest: Binary<'_>, loaded: Vec<(String, Binary<'_>)>) -> Result<Difference, String> {
    let manifest = Manifest::from_bytes(&manifest).map_err(|error| chain(&error))?;
    let loaded = modules(loaded)?;
    let mut difference = Difference {
        changed: Vec::new(),
        added: Vec::new(),
        unchanged: 0,
    };
    let own = manifest
        .modules
        .iter()
        .filter(|(_, module)| module.origin == Origin::Own);
    for (name, module) in own {
        match loaded.get(name.as_str()) {
            None => difference.added.push(name.to_string()),
            Some(md5) if *md5 == module.facts.md5 => difference.unchanged += 1,
            Some(_) => difference.changed.push(name.to_string()),
        }
    }
    Ok(difference)
}

/// `{:ok, artifact}` if every byte of the file is what its manifest says and one of the keys signed it, or `{:error, sentence}`.
/// `keys` is a text of public keys, `nil`: none is asked for; `signature` is the text of a signature, or `nil`.
#[rustler::nif(schedule = "DirtyIo")]
fn verify(file: String, keys: Option<String>, signature: Option<String>) -> Result<Artifact, String> {
    take(&file, keys, signature, |artifact, trust, signature| {
        flyhot_artifact::verify(artifact, trust, signature, &Limits::default(), &mut go_on)
    })
}

/// The same, and the artifact is unpacked to a directory that is absent or empty: whole, or not at all.
#[rustler::nif(schedule = "DirtyIo")]
fn unpack(
    file: String,
    directory: String,
    keys: Option<String>,
    signature: Option<String>,
) -> Result<Artifact, String> {
    take(&file, keys, signature, |artifact, trust, signature| {
        let directory = Path::new(&directory);
        flyhot_artifact::unpack(
            artifact,
            directory,
            trust,
            signature,
            &Limits::default(),
            &mut go_on,
        )
    })
}

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn take(
    file: &str,
    keys: Option<String>,
    signature: Option<String>,
    work: impl FnOnce(File, &Trust, Option<&Signature>) -> Result<Examined, ArchiveError>,
) -> Result<Artifact, String> {
    let trust = match keys {
        Some(keys) => Trust::parse(&keys).map_err(|error| chain(&error))?,
        None => Trust::default(),
    };
    let signature = signature
        .map(|text| serde_json::from_str::<Signature>(&text))
        .transpose()
        .map_err(|error| format!("it is not a signature: {}", chain(&error)))?;
    let artifact = File::open(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let examined =
        work(artifact, &trust, signature.as_ref()).map_err(|error| format!("{file}: {}", chain(&error)))?;
    Ok(Artifact {
        digest: examined.digest.to_string(),
        size: examined.size,
        manifest_digest: examined.manifest_digest.to_string(),
        code_id: examined.manifest.code_id.to_string(),
        release: examined.manifest.name,
        version: examined.manifest.version,
        files: examined.manifest.files.len() as u64,
        signed_by: match examined.trusted {
            Trusted::By(key) => Some(key.to_string()),
            Trusted::Anyway => None,
        },
    })
}

#[cfg(feature = "faults")]
#[allow(clippy::panic, reason = "what they are for")]
mod faults {
    use rustler::{Decoder, Encoder, Env, NifResult, Term};

    struct Torn;

    impl<'a> Decoder<'a> for Torn {
        fn decode(_: Term<'a>) -> NifResult<Self> {
            panic!("torn while decoding")
        }
    }

    impl Encoder for Torn {
        fn encode<'a>(&self, _: Env<'a>) -> Term<'a> {
            panic!("torn while encoding")
        }
    }

    #[rustler::nif]
    fn torn_body() -> bool {
        panic!("torn in the body")
    }

    #[rustler::nif]
    fn torn_decoding(_torn: Torn) -> bool {
        true
    }

    #[rustler::nif]
    fn torn_encoding() -> Torn {
        Torn
    }
}

rustler::init!("Elixir.FlyDeploy.Native");
