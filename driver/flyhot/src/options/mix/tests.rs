//! What a mix task may hand over, and what each sin in it is answered with.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn config(text: &str) -> MixConfig {
    let text = format!(r#"{{"v": 1, "config": {text}}}"#);
    Mix::parse(text.as_bytes())
        .unwrap_or_else(|error| panic!("{error}"))
        .config
}

#[test]
fn every_key_is_read() {
    let mix = Mix::parse(
        br#"{"v": 1, "app": "shop", "version": "1.2.3", "later": [1], "config": {"bucket": "b", "aws_access_key_id": "tid",
            "aws_secret_access_key": "tsec", "aws_endpoint_url_s3": "http://e", "aws_region": "r", "env": {"A": "x", "B": 1,
            "C": true, "D": null, "E": 9007199254740993, "F": 18446744073709551615, "G": -9223372036854775808}, "fly_config": "f",
            "otp_app": "o", "binary_name": "n", "flyhot": "/x", "max_concurrency": 3, "timeout": 1500, "suspend_timeout": 2000}}"#,
    )
    .unwrap();
    assert_eq!(
        (mix.app.as_deref(), mix.version.as_deref()),
        (Some("shop"), Some("1.2.3"))
    );
    let config = mix.config;
    let texts = [
        (&config.bucket, "b"),
        (&config.endpoint, "http://e"),
        (&config.region, "r"),
        (&config.fly_config, "f"),
        (&config.otp_app, "o"),
        (&config.binary_name, "n"),
        (&config.flyhot, "/x"),
    ];
    for (value, should) in texts {
        assert_eq!(value.as_deref(), Some(should));
    }
    let secrets = [
        (&config.access_key_id, "tid"),
        (&config.secret_access_key, "tsec"),
    ];
    for (secret, should) in secrets {
        assert_eq!(secret.as_ref().unwrap().text(), should);
    }
    let env: Vec<_> = config
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.text()))
        .collect();
    let should = [
        ("A", "x"),
        ("B", "1"),
        ("C", "true"),
        ("E", "9007199254740993"),
        ("F", "18446744073709551615"),
        ("G", "-9223372036854775808"),
    ];
    assert_eq!(env, should.map(|(name, value)| (name, value.to_owned())));
    assert_eq!(config.max_concurrency.unwrap().get(), 3);
    assert_eq!(config.timeout, Some(Duration::from_millis(1500)));
    assert_eq!(config.suspend_timeout, Some(Duration::from_secs(2)));
    assert!(!format!("{config:?}").contains("tsec"), "{config:?}");
}

#[test]
fn what_is_nil_or_empty_is_not_set() {
    for text in [r#"{"bucket": null}"#, r#"{"bucket": ""}"#, "{}", "[]", "null"] {
        assert!(config(text).bucket.is_none(), "{text}");
    }
    assert!(config(r#"{"env": []}"#).env.is_empty());
    assert!(Mix::parse(br#"{"v": 1}"#).unwrap().app.is_none());
}

const FORM: &str = "FLYHOT_MIX is not what a mix task of fly_deploy sets";

/// What each file under `tests/fixtures/mix`, named for its sin, is answered with.
const SINS: [(&str, &str); 27] = [
    (
        "another_form.json",
        "FLYHOT_MIX has the form 2, and this flyhot knows 1",
    ),
    ("app_is_a_number.json", FORM),
    (
        "bucket_is_a_number.json",
        "config :fly_deploy, bucket: must be text or an atom, found a whole number",
    ),
    (
        "bucket_is_true.json",
        "config :fly_deploy, bucket: must be text or an atom, found true or false",
    ),
    (
        "concurrency_is_negative.json",
        "config :fly_deploy, max_concurrency: must be a whole number above 0, found -1",
    ),
    (
        "concurrency_is_not_whole.json",
        "config :fly_deploy, max_concurrency: must be a whole number above 0, found a number that is not whole",
    ),
    (
        "concurrency_is_nothing.json",
        "config :fly_deploy, max_concurrency: must be a whole number above 0, found 0",
    ),
    (
        "concurrency_is_text.json",
        "config :fly_deploy, max_concurrency: must be a whole number above 0, found text",
    ),
    (
        "concurrency_is_too_large.json",
        "config :fly_deploy, max_concurrency: must be a whole number above 0, found 4294967296",
    ),
    ("config_is_a_list.json", FORM),
    ("config_is_text.json", FORM),
    (
        "env_is_a_list.json",
        "config :fly_deploy, env: must be a map or keyword list of text, whole numbers, true or false, found a list",
    ),
    (
        "env_is_text.json",
        "config :fly_deploy, env: must be a map or keyword list of text, whole numbers, true or false, found text",
    ),
    ("form_is_text.json", FORM),
    ("key_of_nobody.json", "config :fly_deploy has no key zzz"),
    (
        "key_with_control_characters.json",
        "config :fly_deploy has no key ?[31m",
    ),
    ("list_for_all.json", FORM),
    ("mistyped_key.json", "config :fly_deploy has no key bucke"),
    (
        "mistyped_long_key.json",
        "config :fly_deploy has no key aws_acces_key_id",
    ),
    ("no_form.json", FORM),
    ("no_json.json", FORM),
    (
        "secret_is_a_list.json",
        "config :fly_deploy, aws_secret_access_key: must be text or an atom, found a list",
    ),
    (
        "secret_is_a_number.json",
        "config :fly_deploy, aws_secret_access_key: must be text or an atom, found a whole number",
    ),
    (
        "suspend_timeout_is_nothing.json",
        "config :fly_deploy, suspend_timeout: must be a whole number of milliseconds above 0, found 0",
    ),
    (
        "timeout_is_an_atom.json",
        "config :fly_deploy, timeout: must be a whole number of milliseconds above 0, found text",
    ),
    (
        "variable_is_a_list.json",
        "config :fly_deploy, env: TOKEN: must be a map or keyword list of text, whole numbers, true or false, found a list",
    ),
    (
        "variable_is_not_whole.json",
        "config :fly_deploy, env: RATE: must be a map or keyword list of text, whole numbers, true or false, found a number \
         that is not whole",
    ),
];

#[test]
fn every_sin_is_answered_with_its_key_and_no_value() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mix");
    let mut names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, SINS.map(|(name, _)| name));
    for (name, answer) in SINS {
        let error = Mix::parse(&fs::read(directory.join(name)).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), answer, "{name}");
        let said = format!("{error:?} {}", error.hint());
        assert!(
            !said.contains("hidden") && !said.contains("80085"),
            "{name}: {said}"
        );
    }
}

#[test]
fn a_mistyped_key_is_told_which_one_was_meant() {
    for (key, _) in KEYS {
        for mistyped in [
            format!("{key}s"),
            key[..key.len() - 1].to_owned(),
            key.replace('_', ""),
        ] {
            if KEYS.iter().any(|(known, _)| **known == mistyped) {
                continue;
            }
            let error =
                Mix::parse(format!(r#"{{"v": 1, "config": {{"{mistyped}": 1}}}}"#).as_bytes()).unwrap_err();
            assert_eq!(error.hint(), format!("Did you mean {key}?"), "{mistyped}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_handed_over_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), key in 0..KEYS.len(), value in "[0-9\\[\\]{}\",:a-z]{0,12}") {
        let config = format!(r#"{{"v": 1, "config": {{"{}": {value}}}}}"#, KEYS[key].0);
        for bytes in [&bytes[..], config.as_bytes()] {
            if let Err(error) = Mix::parse(bytes) {
                prop_assert!(!error.to_string().is_empty() && error.hint().ends_with(['.', '?']));
            }
        }
    }
}
