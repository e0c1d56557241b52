//! Artifacts by the command: packed, checked, signed and unpacked, judged by GNU tar, sha256sum, diff and OTP's crypto.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use flyhot_tests::{Flyhot, Node, Otp, Random, Release, Run, Scratch, ShopBuild, rounds, workspace};
use serde_json::Value;

/// Long beyond any step of an artifact of these sizes.
const SOON: Duration = Duration::from_secs(60);

fn release() -> Release {
    ShopBuild::new(Otp::under_test(), "v1").build()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn pack(release: &Path, how: &str, out: &Path) -> Flyhot {
    let args = ["pack", "--release", text(release), how, "--out", text(out)];
    Flyhot::new(args).args(["--output", "json"])
}

fn verify(artifact: &Path) -> Flyhot {
    Flyhot::new(["verify", text(artifact), "--output", "json"])
}

fn unpack(artifact: &Path, to: &Path) -> Flyhot {
    Flyhot::new(["unpack", text(artifact), text(to), "--output", "json"])
}

/// What the command says of its artifact.
fn artifact(run: &Run) -> &Value {
    run.expect("done", 0);
    let event = run.events_named("artifact").next();
    &event.unwrap_or_else(|| panic!("no artifact: {run}")).json
}

/// What the command says went wrong.
fn error(run: &Run) -> &Value {
    let event = run.events_named("error").next();
    &event.unwrap_or_else(|| panic!("no error: {run}")).json
}

fn output(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .output()
        .unwrap()
}

fn said(program: &str, args: &[&str]) -> String {
    let output = output(program, args);
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names in a directory, those that begin with a dot too.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_whole_release_goes_through_an_artifact_and_runs() {
    let scratch = Scratch::new("artifact");
    let at = |name: &str| scratch.path().join(name);
    let release = release();
    let packed = pack(release.directory(), "--full", &at("shop.tar.gz")).run();
    let facts = &artifact(&packed)["artifact"];
    let sum = said("sha256sum", &[text(&at("shop.tar.gz"))]);
    assert_eq!(
        sum.split_whitespace().next(),
        facts["digest"].as_str(),
        "{packed}"
    );
    assert_eq!(facts["size"], fs::metadata(at("shop.tar.gz")).unwrap().len());
    assert_eq!(
        (&facts["release"], &facts["contents"]),
        (&"shop".into(), &"full".into())
    );

    // By GNU tar it holds the release, and its manifest has the digest that is signed.
    fs::create_dir(at("tar")).unwrap();
    said("tar", &["-xzf", text(&at("shop.tar.gz")), "-C", text(&at("tar"))]);
    let manifest = at("tar").join("flyhot.manifest.json");
    let sum = said("sha256sum", &[text(&manifest)]);
    assert_eq!(sum.split_whitespace().next(), facts["manifest_digest"].as_str());
    let only = |of: &str| format!("Only in {}: flyhot.manifest.json\n", text(&at(of)));
    let differ = |of: &str| {
        let output = output("diff", &["-r", text(release.directory()), text(&at(of))]);
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(differ("tar"), only("tar"));
    // Times and owners say nothing of who packed it.
    let list = said(
        "tar",
        &["--numeric-owner", "--utc", "-tvzf", text(&at("shop.tar.gz"))],
    );
    for line in list.lines() {
        assert!(
            line.contains(" 0/0 ") && line.contains(" 1970-01-01 00:00 "),
            "{line}"
        );
        assert!(
            matches!(&line[..10], "-rw-r--r--" | "-rwxr-xr-x" | "drwxr-xr-x"),
            "{line}"
        );
    }

    let unpacked = unpack(&at("shop.tar.gz"), &at("release")).run();
    assert_eq!(artifact(&unpacked)["artifact"]["digest"], facts["digest"]);
    assert_eq!(differ("release"), only("release"));
    assert_eq!(names(scratch.path()), ["release", "shop.tar.gz", "tar"]);
    let runs = |release: &Release| Node::release(release).start().probe().md5s();
    assert_eq!(runs(&Release::at(release.otp(), at("release"))), runs(&release));

    // What is not asked for is said.
    let line = "this machine takes whatever is whole; set FLYHOT_PUBLIC_KEYS to change it";
    let shown = Flyhot::new(["verify", text(&at("shop.tar.gz"))]).run();
    assert!(shown.stdout.contains(line), "{shown}");
}

#[test]
fn the_same_files_make_the_same_artifact() {
    let scratch = Scratch::new("artifact");
    let at = |name: &str| scratch.path().join(name);
    let release = release();
    let other = release.copied(&at("elsewhere"));
    said(
        "find",
        &[
            text(other.directory()),
            "-exec",
            "touch",
            "-d",
            "@86400",
            "{}",
            "+",
        ],
    );
    said(
        "find",
        &[
            text(other.directory()),
            "-type",
            "f",
            "-exec",
            "chmod",
            "go-rwx",
            "{}",
            "+",
        ],
    );
    for how in ["--hot", "--full"] {
        let (one, two) = (at("one"), at("two"));
        pack(release.directory(), how, &one).run().expect("done", 0);
        pack(other.directory(), how, &two).run().expect("done", 0);
        said("cmp", &[text(&one), text(&two)]);
    }
    // What is hot is what the release adds, and names the code as an upgrade does.
    let hot = pack(release.directory(), "--hot", &at("hot")).run();
    let list = said("tar", &["-tzf", text(&at("hot"))]);
    assert!(
        list.contains("/ebin/Elixir.Shop.Cart.beam\n")
            && list.contains("/consolidated/Elixir.Enumerable.beam\n")
    );
    assert!(
        !list.contains("lib/stdlib-") && !list.contains("COOKIE") && !list.contains("sys.config"),
        "{list}"
    );
    let node = Node::release(&release).start();
    let status = Flyhot::ask("status", &node).run();
    let status = &status.events_named("status").next().unwrap().json["status"];
    assert_eq!(artifact(&hot)["artifact"]["code_id"], status["code_id"]);
}

#[test]
fn what_nobody_packed_is_refused_with_its_own_sentence() {
    let scratch = Scratch::new("artifact");
    let to = scratch.path().join("release");
    let folders = workspace().join("driver/artifact/tests/hostile");
    let sins = names(&folders);
    assert!(sins.len() > 40, "{sins:?}");
    for sin in sins {
        let file = folders.join(&sin).join("artifact.tar.gz");
        let sentence = fs::read_to_string(folders.join(&sin).join("said")).unwrap();
        for run in [verify(&file).run(), unpack(&file, &to).run()] {
            run.expect("refused", 2);
            let error = error(&run);
            assert_eq!(
                error["message"],
                format!("{}: {}", text(&file), sentence.trim_end()),
                "{sin}: {run}"
            );
            assert_ne!(error["hint"], "", "{sin}");
        }
        assert_eq!(names(scratch.path()), [""; 0], "{sin}");
    }
}

/// `crypto:verify/5` of the message that docs/security.md names.
fn crypto_verifies(manifest: &str, signature: &str, public: &str) -> bool {
    let key = public.strip_prefix("flyhot_public_").unwrap();
    let program = format!(
        "io:put_chars(atom_to_list(crypto:verify(eddsa, none, <<\"flyhot manifest 1 {manifest}\">>, \
         binary:decode_hex(<<\"{signature}\">>), [binary:decode_hex(<<\"{key}\">>), ed25519]))), halt()."
    );
    let scratch = Scratch::new("crypto");
    let mut erl = Otp::under_test().command("erl", scratch.path());
    let output = erl.args(["-noinput", "-eval", &program]).output().unwrap();
    String::from_utf8_lossy(&output.stdout) == "true"
}

#[test]
fn a_machine_with_keys_takes_what_they_signed_and_nothing_else() {
    let scratch = Scratch::new("artifact");
    let at = |name: &str| scratch.path().join(name);
    let file = at("shop.tar.gz");
    let packed = pack(release().directory(), "--hot", &file).run();
    let manifest = artifact(&packed)["artifact"]["manifest_digest"]
        .as_str()
        .unwrap()
        .to_owned();

    let keygen = |name: &str| Flyhot::new(["keygen", "--out", text(&at(name)), "--output", "json"]).run();
    let public = |run: &Run| {
        run.expect("done", 0);
        let event = run.events_named("key").next().unwrap();
        event.json["public"].as_str().unwrap().to_owned()
    };
    let (old, new) = (public(&keygen("old")), public(&keygen("new")));
    assert_ne!(old, new);
    assert_eq!(
        fs::metadata(at("old")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let private = fs::read_to_string(at("old")).unwrap();
    let again = keygen("old");
    again.expect("refused", 2);
    assert_eq!(fs::read_to_string(at("old")).unwrap(), private, "{again}");

    let sign = |key: &str| {
        let run = Flyhot::new([
            "sign",
            text(&file),
            "--key-file",
            text(&at(key)),
            "--output",
            "json",
        ])
        .run();
        for secret in [&private[..], private.trim_end(), &private[15..40]] {
            assert!(
                !run.stdout.contains(secret) && !run.stderr.contains(secret),
                "{run}"
            );
        }
        run
    };
    let checked = |keys: &str| {
        let verified = verify(&file).env("FLYHOT_PUBLIC_KEYS", keys).run();
        let to = at("release");
        let unpacked = unpack(&file, &to).env("FLYHOT_PUBLIC_KEYS", keys).run();
        assert_eq!(verified.exit_code, unpacked.exit_code, "{verified}{unpacked}");
        assert_eq!(to.exists(), unpacked.exit_code == Some(0), "{unpacked}");
        let _ = fs::remove_dir_all(to);
        verified
    };
    let not_trusted = |run: &Run, why: &str| {
        run.expect("refused", 25);
        let error = error(run);
        assert_eq!(error["kind"], "not_trusted", "{run}");
        assert!(error["message"].as_str().unwrap().contains(why), "{why}: {run}");
    };
    not_trusted(&checked(&old), "it is not signed");
    artifact(&sign("old"));
    let signature = fs::read_to_string(at("shop.tar.gz.sig")).unwrap();
    let json: Value = serde_json::from_str(&signature).unwrap();
    let bytes = json["signature"].as_str().unwrap();
    assert!(crypto_verifies(&manifest, bytes, &old), "{signature}");
    assert!(!crypto_verifies(&manifest, bytes, &new), "{signature}");
    let taken = checked(&old);
    assert_eq!(artifact(&taken)["artifact"]["signed_by"], *old);

    // A new key is added, signed with, and the old one taken away.
    not_trusted(&checked(&new), "none of this machine's public keys");
    artifact(&checked(&format!("{old},{new}")));
    artifact(&sign("new"));
    artifact(&checked(&format!("{old} {new}")));
    artifact(&checked(&new));
    not_trusted(&checked(&old), "none of this machine's public keys");

    // Signatures that lie.
    fs::write(at("shop.tar.gz.sig"), signature.replace(&old, &new)).unwrap();
    not_trusted(&checked(&new), "its signature is not one of");
    fs::write(
        at("shop.tar.gz.sig"),
        signature.replace(&manifest, &"0".repeat(64)),
    )
    .unwrap();
    not_trusted(&checked(&old), "its signature is of the manifest 0000");
    fs::write(at("shop.tar.gz.sig"), "{}").unwrap();
    checked(&old).expect("refused", 25);
    // A machine that asks for none does not look at it.
    verify(&file).run().expect("done", 0);

    // Policy that cannot be read is not no policy, and a key in the wrong place is not shown.
    fs::write(at("shop.tar.gz.sig"), &signature).unwrap();
    for keys in ["", " ", "flyhot_public_12", &private] {
        let run = checked(keys);
        run.expect("refused", 2);
        assert!(!run.stdout.contains(&private[15..40]), "{run}");
    }
    fs::set_permissions(at("old"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = sign("old");
    open.expect("refused", 2);
    assert!(
        error(&open)["message"]
            .as_str()
            .unwrap()
            .contains("can be read by others"),
        "{open}"
    );
}

/// A release with one file of so many bytes that nothing makes smaller.
fn large(scratch: &Scratch, mib: usize) -> PathBuf {
    let release = release().copied(&scratch.path().join("large"));
    let mut random = Random::new("large");
    let mut bytes = vec![0; mib << 20];
    for eight in bytes.chunks_exact_mut(8) {
        eight.copy_from_slice(&random.below(u64::MAX).to_le_bytes());
    }
    let private = release.ebin("shop").with_file_name("priv");
    fs::create_dir_all(&private).unwrap();
    fs::write(private.join("large"), bytes).unwrap();
    release.directory().to_owned()
}

#[test]
fn a_command_that_is_stopped_leaves_nothing_and_one_that_is_killed_no_artifact() {
    let scratch = Scratch::new("artifact");
    let release = large(&scratch, 24);
    let whole = scratch.path().join("whole");
    pack(&release, "--hot", &whole).run().expect("done", 0);
    for round in 0..rounds(2, 20) {
        let place = scratch.path().join(format!("place-{round}"));
        fs::create_dir(&place).unwrap();
        let out = place.join("out");
        let commands = [pack(&release, "--hot", &out), unpack(&whole, &out)];
        for (command, again) in commands
            .into_iter()
            .zip([pack(&release, "--hot", &out), unpack(&whole, &out)])
        {
            let mut running = command.spawn();
            running.wait_for("progress", SOON, |event| event["event"] == "progress");
            if round % 2 == 0 {
                running.interrupt();
                let run = running.wait();
                if run.exit_code != Some(0) {
                    run.expect("failed", 130);
                    assert_eq!(names(&place), [""; 0], "{run}");
                }
            } else {
                let run = running.kill();
                let left = names(&place);
                let named = |name: &String| name.starts_with(".flyhot-");
                assert!(
                    run.exit_code == Some(0) || left.iter().all(named),
                    "{left:?}: {run}"
                );
            }
            if out.is_dir() {
                fs::remove_dir_all(&out).unwrap();
            }
            again.run().expect("done", 0);
            if out.is_dir() {
                fs::remove_dir_all(&out).unwrap();
            } else {
                said("cmp", &[text(&whole), text(&out)]);
                fs::remove_file(&out).unwrap();
            }
        }
    }
}

#[test]
fn memory_does_not_grow_with_the_files() {
    let scratch = Scratch::new("artifact");
    let at = |name: &str| scratch.path().join(name);
    let release = large(&scratch, 192);
    // What such a command asks for with nothing to do, code and threads, is half of it. Each arena of malloc takes 64 MiB of
    // addresses without using them: one is enough.
    let within = |command: Flyhot| {
        let run = command.memory(160 << 20).env("MALLOC_ARENA_MAX", "1").run();
        run.expect("done", 0);
    };
    within(pack(&release, "--hot", &at("large.tar.gz")));
    assert!(fs::metadata(at("large.tar.gz")).unwrap().len() > 192 << 20);
    within(verify(&at("large.tar.gz")));
    within(unpack(&at("large.tar.gz"), &at("release")));
}

#[test]
fn a_disk_that_is_full_is_named_and_left_as_it_was() {
    let scratch = Scratch::new("artifact");
    let small = scratch.path().join("small");
    fs::create_dir(&small).unwrap();
    let release = large(&scratch, 8);
    let whole = scratch.path().join("whole");
    pack(&release, "--hot", &whole).run().expect("done", 0);
    let commands = [
        vec!["pack", "--release", text(&release), "--out", "out"],
        vec!["unpack", text(&whole), "out"],
    ];
    for command in commands {
        // A file system of its own, of 4 MiB, seen by this command alone.
        let script = "mount -t tmpfs -o size=4m none . && cd \"$PWD\" && \"$@\"; code=$?; ls -A; exit $code";
        let output = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(Flyhot::binary())
            .args(&command)
            .current_dir(&small)
            .output()
            .unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(output.status.code(), Some(2), "{out}{err}");
        assert!(err.contains("No space left on device"), "{out}{err}");
        let listed = out.lines().last().unwrap_or_default();
        assert!(listed.contains("exit code 2"), "something was left: {out}{err}");
    }
}
