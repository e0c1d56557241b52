//! Functions outside the change set that a rehearsal may run: they compute, and leave nothing behind.
//!
//! A rehearsal runs them twice more than the upgrade does, on the live state, and throws the result away. Logging is
//! let through (docs/upgrade.md). What is not here rules a kind's rehearsal out and is named. So does a call of what is
//! here that would run a fun of the data: [`super::funs`] says which arguments that can be.

/// Modules all of whose functions compute only.
const MODULES: &[&str] = &[
    "array",
    "base64",
    "binary",
    "calendar",
    "dict",
    "erl_anno",
    "gb_sets",
    "gb_trees",
    "lists",
    "maps",
    "math",
    "orddict",
    "ordsets",
    "proplists",
    "queue",
    "sets",
    "sofs",
    "string",
    "unicode",
    "uri_string",
    "Elixir.Access",
    "Elixir.Atom",
    "Elixir.Base",
    "Elixir.Bitwise",
    "Elixir.Calendar",
    "Elixir.Calendar.ISO",
    "Elixir.Date",
    "Elixir.Date.Range",
    "Elixir.DateTime",
    "Elixir.Enum",
    "Elixir.Exception",
    "Elixir.Float",
    "Elixir.Function",
    "Elixir.Inspect.Algebra",
    "Elixir.Integer",
    "Elixir.Keyword",
    "Elixir.List",
    "Elixir.Map",
    "Elixir.MapSet",
    "Elixir.NaiveDateTime",
    "Elixir.Range",
    "Elixir.Regex",
    "Elixir.String",
    "Elixir.String.Chars",
    "Elixir.Time",
    "Elixir.Tuple",
    "Elixir.URI",
    "Elixir.Version",
];

/// Functions of modules that do other things as well.
const FUNCTIONS: &[(&str, &[&str])] = &[
    (
        "erlang",
        &[
            "*",
            "+",
            "++",
            "-",
            "--",
            "/",
            "/=",
            "<",
            "=/=",
            "=:=",
            "=<",
            "==",
            ">",
            ">=",
            "abs",
            "adler32",
            "and",
            "append_element",
            "atom_to_binary",
            "atom_to_list",
            "band",
            "binary_part",
            "binary_to_atom",
            "binary_to_existing_atom",
            "binary_to_float",
            "binary_to_integer",
            "binary_to_list",
            "binary_to_term",
            "bit_size",
            "bitstring_to_list",
            "bnot",
            "bor",
            "bsl",
            "bsr",
            "bxor",
            "byte_size",
            "ceil",
            "convert_time_unit",
            "crc32",
            "date",
            "delete_element",
            "div",
            "element",
            "error",
            "exit",
            "external_size",
            "float",
            "float_to_binary",
            "float_to_list",
            "floor",
            "fun_info",
            "function_exported",
            "get_module_info",
            "hd",
            "insert_element",
            "integer_to_binary",
            "integer_to_list",
            "iolist_size",
            "iolist_to_binary",
            "is_atom",
            "is_binary",
            "is_bitstring",
            "is_boolean",
            "is_float",
            "is_function",
            "is_integer",
            "is_list",
            "is_map",
            "is_map_key",
            "is_number",
            "is_pid",
            "is_port",
            "is_record",
            "is_reference",
            "is_tuple",
            "length",
            "list_to_atom",
            "list_to_binary",
            "list_to_bitstring",
            "list_to_existing_atom",
            "list_to_float",
            "list_to_integer",
            "list_to_tuple",
            "localtime",
            "make_ref",
            "make_tuple",
            "map_get",
            "map_size",
            "max",
            "md5",
            "min",
            "monotonic_time",
            "node",
            "not",
            "now",
            "nif_error",
            "or",
            "phash2",
            "pid_to_list",
            "ref_to_list",
            "raise",
            "rem",
            "round",
            "self",
            "setelement",
            "size",
            "split_binary",
            "system_time",
            "term_to_binary",
            "throw",
            "time",
            "time_offset",
            "timestamp",
            "tl",
            "trunc",
            "tuple_size",
            "tuple_to_list",
            "unique_integer",
            "universaltime",
            "xor",
            "get_stacktrace",
        ],
    ),
    // Logging itself; levels, handlers, filters and the metadata of the process stay as they are.
    (
        "logger",
        &[
            "alert",
            "allow",
            "compare_levels",
            "critical",
            "debug",
            "emergency",
            "error",
            "info",
            "log",
            "macro_log",
            "notice",
            "warning",
        ],
    ),
    (
        "Elixir.Logger",
        &[
            "__do_log__",
            "__should_log__",
            "bare_log",
            "compare_levels",
            "enabled?",
            "level",
        ],
    ),
    ("io_lib", &["format", "fwrite", "write", "print", "chars_length"]),
    ("os", &["system_time", "timestamp"]),
    // What `value.field` is compiled to since Elixir 1.15, for a value that is no map.
    ("elixir_erl_pass", &["no_parens_remote"]),
    ("re", &["run", "replace", "split", "compile", "import"]),
    ("rand", &["uniform_s", "seed_s", "normal_s"]),
    (
        "Elixir.Kernel",
        &[
            "inspect",
            "get_in",
            "put_in",
            "update_in",
            "pop_in",
            "max",
            "min",
            "to_string",
            "is_struct",
            "elem",
            "put_elem",
        ],
    ),
    ("Elixir.Kernel.Utils", &["raise", "announce_struct", "defstruct"]),
    (
        "Elixir.System",
        &[
            "monotonic_time",
            "system_time",
            "os_time",
            "unique_integer",
            "convert_time_unit",
        ],
    ),
];

/// Functions of the same name or module as allowed ones that do more: a signal to another process, a seed in the
/// process dictionary, a value kept by the node.
const EXCEPT: &[(&str, &str, u32)] = &[
    ("erlang", "exit", 2),
    ("erlang", "exit", 3),
    ("Elixir.Calendar", "put_time_zone_database", 1),
    ("Elixir.Enum", "random", 1),
    ("Elixir.Enum", "shuffle", 1),
    ("Elixir.Enum", "take_random", 2),
    ("Elixir.URI", "default_port", 2),
];

/// Whether a call may be run by a rehearsal.
pub(super) fn is_allowed(module: &str, function: &str, arity: u32) -> bool {
    if EXCEPT.contains(&(module, function, arity)) {
        return false;
    }
    // Structs and exceptions of unchanged modules are made by generated functions.
    if matches!(
        (function, arity),
        ("__struct__", 0 | 1) | ("exception", 1) | ("message", 1)
    ) {
        return true;
    }
    MODULES.contains(&module)
        || FUNCTIONS
            .iter()
            .any(|(name, functions)| *name == module && functions.contains(&function))
}

/// Modules whose functions answer text and numbers, and never a fun that they were given.
const ANSWER_TEXT: &[&str] = &[
    "Elixir.Atom",
    "Elixir.Base",
    "Elixir.Float",
    "Elixir.Integer",
    "Elixir.String.Chars",
    "io_lib",
    "unicode",
];

/// Functions of other modules that answer text, or a fun whose doing is their own.
const ANSWER_SEEN: &[(&str, &[&str])] = &[
    (
        "Elixir.Access",
        &[
            "all", "at", "at!", "elem", "filter", "find", "key", "key!", "slice", "values",
        ],
    ),
    ("Elixir.Enum", &["join", "map_join"]),
    ("Elixir.Exception", &["format", "format_banner", "message"]),
    ("Elixir.Kernel", &["inspect", "to_string"]),
    (
        "Elixir.String",
        &["capitalize", "downcase", "replace", "slice", "trim", "upcase"],
    ),
    (
        "erlang",
        &[
            "atom_to_binary",
            "atom_to_list",
            "float_to_binary",
            "integer_to_binary",
            "integer_to_list",
            "iolist_to_binary",
            "list_to_binary",
        ],
    ),
];

/// Whether what a function answers holds no fun that it was given.
pub(super) fn answers_seen((module, function, _): (&str, &str, u32)) -> bool {
    ANSWER_TEXT.contains(&module)
        || ANSWER_SEEN
            .iter()
            .any(|(name, functions)| *name == module && functions.contains(&function))
}
