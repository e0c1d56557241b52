//! What a policy file may say, and what each sin in one is answered with.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn function(module: &str, function: &str) -> NodeFunction {
    NodeFunction {
        module: module.into(),
        function: function.into(),
    }
}

fn parse(text: &str) -> PolicyFile {
    PolicyFile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

#[test]
fn everything_that_can_be_said_is_read() {
    let policy = parse(
        r##"
        [hosts]
        shop_prequeue = "shop_queue"
        Shop.Prequeue = ["Shop.Queue", "shop_backing", "Elixir.Shop.Other"]
        "Shop.Quoted" = "Shop.Cart"

        [accept]
        cover_compiled = """staging measures
        coverage"""
        memory = " swap is there "

        [hooks]
        before = ["Shop.Upgrade.before", "shop_intake:pause"]
        after = ["Shop.Upgrade.resume!", "Shop.Upgrade._done"]
        timeout = "500ms"

        [gate]
        call = "Shop.Health.ready?"
        within = "2m"
        every = "3s"
        watch = "20s"
        errors = 1_000
        memory = 300
        "##,
    );
    let modules = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        policy,
        PolicyFile {
            hosts: [
                ("shop_prequeue".to_owned(), modules(&["shop_queue"])),
                (
                    "Elixir.Shop.Prequeue".to_owned(),
                    modules(&["Elixir.Shop.Queue", "shop_backing", "Elixir.Shop.Other"])
                ),
                ("Elixir.Shop.Quoted".to_owned(), modules(&["Elixir.Shop.Cart"])),
            ]
            .into(),
            accept: [
                (ReasonCode::CoverCompiled, "staging measures coverage".to_owned()),
                (ReasonCode::Memory, "swap is there".to_owned()),
            ]
            .into(),
            hooks: Hooks {
                before: vec![
                    function("Elixir.Shop.Upgrade", "before"),
                    function("shop_intake", "pause")
                ],
                after: vec![
                    function("Elixir.Shop.Upgrade", "resume!"),
                    function("Elixir.Shop.Upgrade", "_done")
                ],
                timeout: Duration::from_millis(500),
            },
            gate: Some(Gate {
                call: function("Elixir.Shop.Health", "ready?"),
                within: Duration::from_secs(120),
                every: Duration::from_secs(3),
            }),
            watch: Watch {
                span: Duration::from_secs(20),
                allowed: Allowed {
                    errors: 1_000,
                    memory: 300_000_000,
                    ..Allowed::DEFAULT
                },
            },
        }
    );
}

#[test]
fn what_is_left_out_is_as_documented() {
    assert_eq!(parse(""), PolicyFile::default());
    assert_eq!(parse("[hosts]\n[accept]\n[hooks]\n"), PolicyFile::default());
    let policy = parse("[hooks]\nbefore = []\n[gate]\ncall = \"shop:ready\"");
    assert_eq!(policy.hooks.timeout, HOOK_TIMEOUT);
    assert_eq!(policy.watch, Watch::default());
    assert_eq!(parse("[gate]\nwatch = \"6s\""), PolicyFile::default());
    let gate = policy.gate.unwrap();
    assert_eq!((gate.within, gate.every), (GATE_WITHIN, GATE_EVERY));
}

/// File, place, what is said, and a part of the next step.
const SINS: &[(&str, (usize, usize), &str, &str)] = &[
    (
        "accepted_by_true",
        (2, 10),
        "memory must be text, found true",
        "cover_compiled = ",
    ),
    (
        "accepted_without_a_word",
        (2, 10),
        "memory does not say why it is accepted",
        "whoever reads the outcome",
    ),
    (
        "code_that_nothing_overrides",
        (2, 1),
        "nif_changed: no option overrides this reason",
        "codes can be accepted: ",
    ),
    (
        "code_that_refuses_nothing",
        (2, 1),
        "drift: this reason refuses no upgrade, so there is nothing to accept",
        "codes can be accepted: ",
    ),
    (
        "control_characters",
        (2, 1),
        "\u{1b}[2J: [hooks] has no such key",
        "has these keys: before, after, timeout",
    ),
    (
        "date_for_a_module",
        (2, 17),
        "shop_prequeue must be a module or a list of modules, found the date 2026-01-01",
        "shop_prequeue",
    ),
    (
        "erlang_function_with_a_dot",
        (2, 8),
        "\"shop_health.ready\" is not the name of a function",
        "for one of Erlang; it is called without arguments",
    ),
    (
        "expression_for_a_function",
        (2, 8),
        "\"os:cmd(\\\"true\\\")\" is not the name of a function",
        "for one of Erlang; it is called without arguments",
    ),
    (
        "function_with_arguments",
        (2, 11),
        "\"Shop.Upgrade.before()\" is not the name of a function",
        "for one of Erlang; it is called without arguments",
    ),
    (
        "function_with_arity",
        (2, 8),
        "\"Shop.Health.ready?/0\" is not the name of a function",
        "for one of Erlang; it is called without arguments",
    ),
    (
        "gate_that_asks_nobody",
        (1, 2),
        "[gate] lacks the key call",
        "Name the function",
    ),
    (
        "key_above_its_table",
        (1, 1),
        "timeout: a policy file has no such table",
        "write it below that line",
    ),
    ("key_twice", (3, 1), "duplicate key: timeout", "Write it as TOML"),
    (
        "list_for_a_table",
        (1, 1),
        "hooks must be a table, found a list",
        "Write [",
    ),
    (
        "mistake_behind_wide_letters",
        (1, 31),
        "écoute: no reason has this code",
        "codes can be accepted: ",
    ),
    (
        "mistyped_code",
        (2, 1),
        "memroy: no reason has this code",
        "Did you mean memory?",
    ),
    (
        "mistyped_key",
        (2, 1),
        "befor: [hooks] has no such key",
        "Did you mean before?",
    ),
    (
        "mistyped_table",
        (1, 2),
        "host: a policy file has no such table",
        "Did you mean [hosts]?",
    ),
    (
        "module_for_a_function",
        (2, 8),
        "\"Shop\" is not the name of a function",
        "for one of Erlang; it is called without arguments",
    ),
    (
        "module_in_elixirs_quotes",
        (2, 1),
        "\":shop_queue\" is not the name of a module",
        "Write Shop.Cart for",
    ),
    (
        "module_longer_than_an_atom",
        (2, 17),
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…\" is not the name of a module",
        "Write Shop.Cart for",
    ),
    (
        "module_with_a_blank",
        (2, 17),
        "\"Shop Queue\" is not the name of a module",
        "Write Shop.Cart for",
    ),
    (
        "nested_without_end",
        (2, 85),
        "cannot recurse further; max recursion depth met: [",
        "Write it as TOML",
    ),
    (
        "no_module_at_all",
        (2, 17),
        "shop_prequeue is an empty list",
        "take the line out",
    ),
    (
        "no_text",
        (2, 11),
        "not text: the byte 0xff is no UTF-8",
        "UTF-8 text",
    ),
    (
        "no_toml",
        (2, 16),
        "string values must be quoted, expected literal string",
        "Write it as TOML",
    ),
    (
        "number_for_a_module",
        (2, 18),
        "shop_prequeue must be a module or a list of modules, found the number 1.5",
        "shop_prequeue",
    ),
    (
        "number_for_a_time",
        (2, 11),
        "timeout must be a time, found the number 30",
        "30s",
    ),
    (
        "number_in_a_list",
        (2, 24),
        "after must be a list of functions, found the number 1",
        "before = ",
    ),
    (
        "one_module_two_rules",
        (3, 1),
        "Elixir.Shop.Prequeue stands in [hosts] twice",
        "Write one line for it",
    ),
    (
        "number_below_nothing",
        (2, 10),
        "errors must be a whole number, found the number -1",
        "errors = 50",
    ),
    (
        "pause_longer_than_all",
        (4, 9),
        "every is 2s, longer than within, 1s",
        "Raise within",
    ),
    ("table_twice", (3, 2), "duplicate key: gate", "Write it as TOML"),
    (
        "text_for_a_list",
        (2, 10),
        "before must be a list of functions, found the text \"Shop.Upgrade.before\"",
        "before = ",
    ),
    (
        "text_for_a_table",
        (1, 9),
        "hosts must be a table, found the text \"shop_queue\"",
        "Write [",
    ),
    (
        "time_longer_than_a_day",
        (3, 10),
        "within is \"25h\": longer than a day",
        "30s",
    ),
    ("time_of_nothing", (3, 10), "within must be above 0", "30s"),
    (
        "time_without_unit",
        (2, 11),
        "timeout is \"30\": \"\" is not a unit; write 30ms, 30s, 30m or 30h",
        "30s",
    ),
    (
        "unknown_code",
        (2, 1),
        "everything: no reason has this code",
        "codes can be accepted: ",
    ),
    (
        "unknown_key",
        (3, 1),
        "url: [gate] has no such key",
        "has these keys: call, within, every, watch, errors",
    ),
    (
        "unknown_table",
        (2, 2),
        "rollout: a policy file has no such table",
        "tables are known",
    ),
];

#[test]
fn every_sin_is_answered_at_its_place_with_what_was_found_and_the_next_step() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/policy");
    let mut files: BTreeMap<String, Vec<u8>> = fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    for (name, place, said, next) in SINS {
        let file = files.remove(*name).unwrap_or_else(|| panic!("no file {name}"));
        let error = PolicyFile::parse(&file).unwrap_err();
        let found = (error.line, error.column);
        assert_eq!((found, &*error.to_string()), (*place, *said), "{name}");
        let hint = error.fault.hint();
        assert!(hint.contains(next), "{name}: {hint}");
        assert!(hint.ends_with(['.', '?']), "{name}: {hint}");
    }
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        [] as [&String; 0],
        "nobody looks at these"
    );
}

/// Words of a policy file in any order: most of it is nearly one.
fn nearly() -> impl Strategy<Value = String> {
    let words = [
        "[",
        "]",
        "[[",
        "]]",
        "=",
        ".",
        ",",
        "\n",
        "\"",
        "'",
        "#",
        "{",
        "}",
        " ",
        "hosts",
        "accept",
        "hooks",
        "gate",
        "before",
        "after",
        "timeout",
        "call",
        "within",
        "every",
        "memory",
        "drift",
        "\"30s\"",
        "\"Shop.Health.ready?\"",
        "\"shop:ready\"",
        "30",
        "1e9",
        "true",
        "2026-01-01",
        "\"\"\"",
        "\\u001b",
        "ü",
        "\u{0}",
        "\r",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40)
        .prop_map(|words| words.concat())
}

fn name(first: &'static str) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("{first}[a-zA-Z0-9_]{{0,8}}")).unwrap()
}

fn any_module() -> impl Strategy<Value = String> {
    let elixir = proptest::collection::vec(name("[A-Z]"), 1..4).prop_map(|parts| parts.join("."));
    prop_oneof![elixir, name("[a-z]")]
}

fn checked(bytes: &[u8]) {
    if let Err(error) = PolicyFile::parse(bytes) {
        assert!(error.line > 0 && error.column > 0);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        assert!(error.line <= lines, "{error:?}");
        let told = format!("{error}{}", error.fault.hint());
        assert!(told.chars().count() < 1_000, "{told}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        checked(&bytes);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        checked(text.as_bytes());
    }

    #[test]
    fn no_file_that_is_nearly_one_panics(text in nearly()) {
        checked(text.as_bytes());
    }

    #[test]
    fn what_is_written_is_what_is_read(
        hosts in proptest::collection::btree_map(any_module(), proptest::collection::vec(any_module(), 1..4), 0..5),
        hook in (any_module(), "[a-z_][a-zA-Z0-9_]{0,8}[?!]?"),
        milliseconds in 1u64..86_400_000,
    ) {
        let (of, function) = hook;
        let elixir = of.starts_with(|first: char| first.is_ascii_uppercase());
        let hook = format!("{of}{}{function}", if elixir { '.' } else { ':' });
        let mut text = "[hosts]\n".to_owned();
        for (shows, run) in &hosts {
            text += &format!("\"{shows}\" = {run:?}\n");
        }
        text += &format!("[hooks]\nafter = [\"{hook}\"]\ntimeout = \"{milliseconds}ms\"\n");
        let policy = parse(&text);
        let atom = |name: &String| match name.starts_with(|first: char| first.is_ascii_uppercase()) {
            true => format!("Elixir.{name}"),
            false => name.clone(),
        };
        let expected: Hosts = hosts.iter().map(|(shows, run)| (atom(shows), run.iter().map(atom).collect())).collect();
        prop_assert_eq!(policy.hosts, expected);
        prop_assert_eq!(policy.hooks.timeout, Duration::from_millis(milliseconds));
        prop_assert_eq!(policy.hooks.after[0].to_string(), format!("{hook}/0"));
    }
}
