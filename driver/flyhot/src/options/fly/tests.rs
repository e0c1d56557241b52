//! What a fly.toml may say, and what each sin in one is answered with.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn parse(text: &str, format: Format) -> FlyFile {
    FlyFile::parse(text.as_bytes(), format).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn fixtures(directory: &str) -> BTreeMap<String, Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(directory);
    let entries = fs::read_dir(path).unwrap().flatten();
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

const WHOLE: [(&str, Format); 3] = [
    (
        r#"
        app = "shop"
        primary_region = "ams"
        kill_timeout = 5
        [env]
        PORT = 8080
        RATE = 1000000.0
        QUOTED = "it's [ fine ]"
        lower_case = true
        [build]
        dockerfile = "Dockerfile.prod"
        build-target = "release"
        [build.args]
        OTP = 27
        [processes]
        web = "bin/web"
        worker = "bin/worker"
        [http_service]
        internal_port = 8080
        processes = ["web"]
        [[services]]
        internal_port = "9000"
        [checks.alive]
        type = "tcp"
        processes = ["worker"]
        [[vm]]
        size = "shared-cpu-1x"
        [[vm]]
        memory = 2048
        processes = ["worker"]
        [[mounts]]
        source = "data"
        "#,
        Format::Toml,
    ),
    (
        r#"{"app": "shop", "primary_region": "ams", "env": {"PORT": 8080, "RATE": 1000000, "QUOTED": "it's [ fine ]",
            "lower_case": true}, "build": {"dockerfile": "Dockerfile.prod", "build_target": "release", "args": {"OTP": 27}},
            "processes": {"web": "bin/web", "worker": "bin/worker"}, "http_service": {"internal_port": 8080, "processes":
            ["web"]}, "services": [{"internal_port": "9000"}], "checks": [{"name": "alive", "processes": ["worker"]}],
            "compute": [{"size": "shared-cpu-1x"}, {"memory": 2048, "processes": ["worker"]}], "mounts": {"source": "data"}}"#,
        Format::Json,
    ),
    (
        "app: shop\nprimary_region: ams\nenv:\n  PORT: 8080\n  RATE: 1e6\n  QUOTED: it's [ fine ]\n  lower_case: true\n\
         build: {dockerfile: Dockerfile.prod, build-target: release, args: {OTP: 27}}\n\
         processes: {web: bin/web, worker: bin/worker}\n\
         http_service: {internal_port: 8080, processes: [web]}\nservices: {internal_port: '9000'}\n\
         checks: {alive: {processes: [worker]}}\n\
         vm: [{size: shared-cpu-1x}, {memory: 2048, processes: [worker]}]\n",
        Format::Yaml,
    ),
];

#[test]
fn all_three_languages_say_the_same() {
    for (text, format) in WHOLE {
        let file = parse(text, format);
        assert_eq!(file.app.as_deref(), Some("shop"));
        assert_eq!(file.primary_region.as_deref(), Some("ams"));
        let env: Vec<_> = file
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.text()))
            .collect();
        let should = [
            ("PORT", "8080"),
            ("QUOTED", "it's [ fine ]"),
            ("RATE", "1e+06"),
            ("lower_case", "true"),
        ];
        assert_eq!(
            env,
            should.map(|(name, value)| (name, value.to_owned())),
            "{format}"
        );
        assert_eq!(file.build.dockerfile.as_deref(), Some("Dockerfile.prod"));
        assert_eq!(file.build.target.as_deref(), Some("release"));
        assert_eq!(file.build.args["OTP"].text(), "27");
        let group = |name, command, port, checks: &[&'static str], size| Group {
            name,
            command: Some(command),
            ports: port,
            checks: checks.to_vec(),
            size: Some(size),
        };
        assert_eq!(
            file.groups(),
            [
                // The first by name, since none is `app`: what names no group is its.
                group("web", "bin/web", vec![8080, 9000], &[], "shared-cpu-1x"),
                group("worker", "bin/worker", vec![], &["alive"], "2048"),
            ],
            "{format}"
        );
    }
}

#[test]
fn whatever_names_no_group_is_the_default_groups() {
    let table = [
        ("", vec![("app", vec![1, 2], Some("all"))]),
        (
            "processes = {app = '', z = 'z'}",
            vec![("app", vec![1, 2], Some("all")), ("z", vec![3], Some("z2"))],
        ),
        (
            "processes = {b = 'b', z = 'z'}",
            vec![("b", vec![1, 2], Some("all")), ("z", vec![3], Some("z2"))],
        ),
        ("processes = {z = 'z'}", vec![("z", vec![1, 2, 3], Some("z2"))]),
        // As files of years ago have it.
        (
            "processes = [{name = 'z', command = 'z'}]",
            vec![("z", vec![1, 2, 3], Some("z2"))],
        ),
        ("processes = []", vec![("app", vec![1, 2], Some("all"))]),
    ];
    let rest = "\n[http_service]\ninternal_port = 1\n[[services]]\ninternal_port = 2\nprocesses = []\n\
                [[services]]\ninternal_port = 3\nprocesses = ['z', 'nobody']\n[[services]]\n\
                [[vm]]\nsize = 'all'\n[[vm]]\nsize = 'z1'\nprocesses = ['z']\n[[vm]]\nsize = 'z2'\nprocesses = ['y', 'z']\n";
    for (processes, should) in table {
        let file = parse(&format!("{processes}{rest}"), Format::Toml);
        let groups: Vec<_> = file
            .groups()
            .into_iter()
            .map(|group| (group.name, group.ports, group.size))
            .collect();
        assert_eq!(groups, should, "{processes}");
    }
}

#[test]
fn env_may_be_a_list_of_tables_and_what_flyctl_passes_over_is_passed_over() {
    let file = parse(
        "[[env]]\nA = 1\nB = 1\n[[env]]\nB = false\n[unknown]\nx = 1\n[deploy]\nstrategy = 1\n",
        Format::Toml,
    );
    assert_eq!(
        (file.variable("A"), file.variable("B")),
        (Some("1".into()), Some("false".into()))
    );
    let empty = parse("app = ''\n[env]\nBUCKET_NAME = ''\n", Format::Toml);
    assert_eq!(
        (empty.app.as_deref(), empty.variable("BUCKET_NAME")),
        (None, None)
    );
    for (text, format) in [
        ("", Format::Toml),
        ("{}", Format::Json),
        ("# nothing\n", Format::Yaml),
    ] {
        let file = parse(text, format);
        assert!(file.app.is_none() && file.env.is_empty());
        assert_eq!(file.groups().len(), 1);
    }
    assert!(!format!("{file:?}").contains("false"), "{file:?}");
}

/// What each file under `tests/fixtures/fly`, named for its sin, is answered with.
const SINS: [(&str, &str); 44] = [
    ("alias_of_nothing.yaml", "line 1 is no YAML, or has a key twice"),
    ("app_is_a_list.json", "app must be text, found a list"),
    ("app_is_a_number.toml", "app must be text, found a whole number"),
    ("billion_laughs.yaml", "line 4 is no YAML, or has a key twice"),
    (
        "build_argument_is_a_list.toml",
        "build.args.TOKEN must be text, a number, true or false, found a list",
    ),
    ("build_is_text.toml", "build must be a table, found text"),
    ("check_is_text.toml", "checks.alive must be a table, found text"),
    (
        "check_without_a_name.json",
        "checks[0].name must be text, found nothing",
    ),
    (
        "checks_are_true.toml",
        "checks must be a table, found true or false",
    ),
    (
        "command_is_a_list.toml",
        "processes.web must be text, found a list",
    ),
    ("empty.json", "line 1 is no JSON, or has a key twice"),
    ("env_is_a_list_of_text.json", "env[0] must be a table, found text"),
    (
        "env_is_text.toml",
        "env must be a table or a list of tables, found text",
    ),
    (
        "groups_are_numbers.yaml",
        "services[0].processes must be a list of text, found a list",
    ),
    (
        "groups_are_text.toml",
        "http_service.processes must be a list of text, found text",
    ),
    ("image_is_a_table.toml", "build.image must be text, found a table"),
    ("key_twice.json", "line 2 is no JSON, or has a key twice"),
    ("key_twice.toml", "line 2 is no TOML, or has a key twice"),
    ("key_twice.yaml", "line 2 is no YAML, or has a key twice"),
    ("list_for_the_file.json", "the file must be a table, found a list"),
    (
        "memory_is_a_list.toml",
        "vm[0].memory must be text or a number, found a list",
    ),
    ("nested_without_end.json", "line 1 is no JSON, or has a key twice"),
    ("nested_without_end.toml", "line 1 is no TOML, or has a key twice"),
    ("nested_without_end.yaml", "line 1 is no YAML, or has a key twice"),
    ("no_json.json", "line 2 is no JSON, or has a key twice"),
    (
        "no_text.toml",
        "line 2 is not text: it has a byte that is no UTF-8",
    ),
    ("no_toml.toml", "line 3 is no TOML, or has a key twice"),
    ("no_yaml.yaml", "line 3 is no YAML, or has a key twice"),
    ("number_beyond_all.json", "line 1 is no JSON, or has a key twice"),
    (
        "port_is_nothing_of_a_port.json",
        "http_service.internal_port must be a port, 1 to 65535, found a number that is not whole",
    ),
    (
        "port_is_text.toml",
        "http_service.internal_port must be a port, 1 to 65535, found text",
    ),
    (
        "port_is_too_large.toml",
        "services[1].internal_port must be a port, 1 to 65535, found 65536",
    ),
    ("processes_are_text.toml", "processes must be a table, found text"),
    (
        "region_is_true.toml",
        "primary_region must be text, found true or false",
    ),
    (
        "service_in_a_list_is_text.toml",
        "services[0] must be a table, found text",
    ),
    (
        "service_is_a_number.toml",
        "services must be a table or a list of tables, found a whole number",
    ),
    (
        "size_is_text.toml",
        "vm must be a table or a list of tables, found text",
    ),
    ("text_for_the_file.yaml", "the file must be a table, found text"),
    ("two_documents.yaml", "line 3 is no YAML, or has a key twice"),
    (
        "variable_is_a_date.toml",
        "env.SINCE must be text, a number, true or false, found a date",
    ),
    (
        "variable_is_a_list.toml",
        "env.KEYS must be text, a number, true or false, found a list",
    ),
    (
        "variable_is_a_table.toml",
        "env.DATABASE must be text, a number, true or false, found a table",
    ),
    (
        "variable_is_nothing.yaml",
        "env.TOKEN must be text, a number, true or false, found nothing",
    ),
    (
        "variable_with_control_characters.json",
        "env.A?[31m?B must be text, a number, true or false, found a list",
    ),
];

#[test]
fn every_sin_is_answered_with_the_place_and_no_value() {
    let files = fixtures("fly");
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, SINS.map(|(name, _)| name));
    for (name, answer) in SINS {
        let error = FlyFile::parse(&files[name], Format::of(Path::new(name))).unwrap_err();
        assert_eq!(error.to_string(), answer, "{name}");
        assert!(!format!("{error:?}").contains("hidden"), "{name}: {error:?}");
    }
}

proptest! {
    /// Whatever stands in a file, it is read or refused, and the refusal has none of its values.
    #[test]
    fn a_damaged_file_is_read_or_refused(whole in 0..3_usize, cut in 0..1200_usize, byte: u8, json in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (text, format) = WHOLE[whole];
        let mut bytes = text.replace("8080", "tsec_hidden").into_bytes();
        let at = cut % bytes.len();
        bytes[at] = byte;
        for bytes in [&bytes[..], &bytes[..at], &json] {
            for format in [format, Format::Toml, Format::Json, Format::Yaml] {
                match FlyFile::parse(bytes, format) {
                    Ok(file) => prop_assert!(!file.groups().is_empty()),
                    Err(error) => prop_assert!(!error.to_string().contains("hidden"), "{}", error),
                }
            }
        }
    }
}
